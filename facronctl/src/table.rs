//! Tables that fit the width of the terminal.

use tabled::builder::Builder;
use tabled::grid::util::string::get_string_width;
use tabled::settings::object::{Cell, Columns};
use tabled::settings::{Color, Modify, Padding, Style, Width};

/// The blanks between two columns.
const GAP: usize = 2;

/// The smallest width of an elastic column.
const NARROW: usize = 8;

/// One column: its heading, and whether it is elastic, so that it can be narrowed.
pub(crate) struct Column {
    pub(crate) heading: &'static str,
    pub(crate) elastic: bool,
}

/// One row: a line of text for each column.
pub(crate) struct Row {
    pub(crate) cells: Vec<String>,
    /// The column with a colour, and the colour.
    pub(crate) painted: (usize, Color),
}

/// Draws rows, not wider than `width` if the elastic columns can be narrowed that far.
pub(crate) fn draw(columns: &[Column], rows: Vec<Row>, width: Option<usize>) -> String {
    let mut builder = Builder::new();
    builder.push_record(columns.iter().map(|column| column.heading));
    let mut widths: Vec<usize> = columns.iter().map(|column| get_string_width(column.heading)).collect();
    let mut colors = Vec::new();
    for (index, Row { cells, painted: (column, color) }) in rows.into_iter().enumerate() {
        for (width, cell) in widths.iter_mut().zip(&cells) {
            *width = get_string_width(cell).max(*width);
        }
        builder.push_record(cells);
        // below the heading
        colors.push((Cell::new(index + 1, column), color));
    }
    if let Some(width) = width {
        narrow(columns, &mut widths, width);
    }
    let mut table = builder.build();
    table.with(Style::empty()).with(Padding::new(0, GAP, 0, 0));
    for (index, width) in widths.into_iter().enumerate() {
        table.with(Modify::new(Columns::one(index)).with(Width::truncate(width).suffix("…")));
    }
    for (cell, color) in colors {
        table.with(Modify::new(cell).with(color));
    }
    table.to_string().lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Narrows the widest elastic column, again and again, until the table fits.
fn narrow(columns: &[Column], widths: &mut [usize], limit: usize) {
    let gaps = GAP * columns.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > limit {
        let elastic = widths.iter_mut().zip(columns).filter(|(_, column)| column.elastic);
        match elastic.map(|(width, _)| width).max() {
            Some(widest) if *widest > NARROW => *widest -= 1,
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column { heading: "ID", elastic: false },
        Column { heading: "PATH", elastic: true },
        Column { heading: "LAST", elastic: false },
    ];

    fn rows() -> Vec<Row> {
        let row =
            |cells: [&str; 3]| Row { cells: cells.map(str::to_owned).to_vec(), painted: (0, Color::empty()) };
        vec![row(["1", "/a", "now"]), row(["22", "/a/long/path/über/everything", ""])]
    }

    #[test]
    fn as_wide_as_it_is_where_nothing_limits_it() {
        assert_eq!(
            draw(&COLUMNS, rows(), None),
            "ID  PATH                          LAST\n1   /a                            now\n22  /a/long/path/über/everything\n"
        );
    }

    #[test]
    fn elastic_columns_give_way_and_say_so() {
        assert_eq!(
            draw(&COLUMNS, rows(), Some(25)),
            "ID  PATH             LAST\n1   /a               now\n22  /a/long/path/ü…\n"
        );
        let least = draw(&COLUMNS, rows(), Some(1));
        assert_eq!(least, "ID  PATH      LAST\n1   /a        now\n22  /a/long…\n");
    }

    #[test]
    fn colours_take_no_room() {
        let painted =
            rows().into_iter().map(|row| Row { painted: (1, Color::new("\x1b[32m", "\x1b[0m")), ..row });
        let table = draw(&COLUMNS, painted.collect(), Some(25));
        assert!(table.contains("1   \x1b[32m/a\x1b[0m               now\n"), "{table:?}");
        assert!(table.contains("22  \x1b[32m/a/long/path/ü…\x1b[0m\n"), "{table:?}");
    }

    #[test]
    fn no_rows_are_a_heading() {
        assert_eq!(draw(&COLUMNS, Vec::new(), Some(80)), "ID  PATH  LAST\n");
    }
}
