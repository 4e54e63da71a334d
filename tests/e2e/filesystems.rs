//! Every file system, and what can be told there: a table.
//!
//! A cell is what one rule has recorded of one operation. Where the kernel does
//! not let the operation happen, the cell has its reason.

mod cases;
mod rows;

use crate::harness::{Place, wait_until};
use cases::{CASES, Case};
use nix::errno::Errno;
use rows::Row;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// How long records may take until a cell counts as wrong.
const LATE: Duration = Duration::from_secs(10);

const WRONG: &str = "WRONG";

/// Why cases are impossible.
type Reasons = BTreeMap<&'static str, Errno>;

/// What became of an operation.
#[derive(Clone, Copy, Debug)]
enum Done {
    Yes,
    Refused(Errno),
}

#[test]
fn every_operation_is_told_on_every_file_system() {
    let place = Place::new();
    let (rows, _mounts) = rows::mount_all(&place);
    let cells: Vec<(&Row, &Case)> =
        rows.iter().flat_map(|row| CASES.iter().map(move |case| (row, case))).collect();
    place.conf(&cells.iter().map(|(row, case)| case.rule(row)).collect::<String>());
    let _daemon = place.start_with(&["--history", "10000"]);
    let done: Vec<_> = cells.iter().map(|(row, case)| case.act(row)).collect();
    let expected: Vec<_> =
        cells.iter().zip(&done).map(|((row, case), done)| case.expected(row, done)).collect();
    let told = || told(&place, &cells);
    let started = Instant::now();
    wait_until("the records", || told() == expected || started.elapsed() > LATE);
    place.settle();
    let table = table(&rows, &done, &told(), &expected);
    println!("{table}");
    assert!(!table.contains(WRONG), "{table}");
    check_reasons(&cells, &done);
}

/// What the rule of each cell has recorded, sorted.
fn told(place: &Place, cells: &[(&Row, &Case)]) -> Vec<Vec<String>> {
    let records = place.call("tail", &json!({ "limit": u64::MAX }));
    let mut told: HashMap<String, Vec<String>> = HashMap::new();
    for record in records["records"].as_array().unwrap() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let events: Vec<_> = record["events"].as_array().unwrap().iter().map(text).collect();
        let old = record["old_path"].as_str().map(|old| format!(" < {old}")).unwrap_or_default();
        let line = format!("{} {}{old}", events.join("|"), text(&record["path"]));
        told.entry(text(&record["rule_name"])).or_default().push(line);
    }
    told.values_mut().for_each(|lines| lines.sort());
    cells.iter().map(|(row, case)| told.remove(&case.name(row)).unwrap_or_default()).collect()
}

/// The table, and below it what is wrong.
fn table(rows: &[Row], done: &[Done], told: &[Vec<String>], expected: &[Vec<String>]) -> String {
    let mut table = format!("{:>15}", "");
    let mut wrong = String::new();
    CASES.iter().for_each(|case| write!(table, " {:>9}", case.name).unwrap());
    for (cell, done) in done.iter().enumerate() {
        let (row, case) = (&rows[cell / CASES.len()], &CASES[cell % CASES.len()]);
        if cell % CASES.len() == 0 {
            write!(table, "\n{:>15}", row.name).unwrap();
        }
        let is_right = told[cell] == expected[cell];
        let shown = match done {
            _ if !is_right => WRONG.to_owned(),
            Done::Yes => "told".to_owned(),
            Done::Refused(errno) => format!("{errno:?}"),
        };
        write!(table, " {shown:>9}").unwrap();
        if !is_right {
            let name = case.name(row);
            write!(wrong, "\n{name}: {done:?}, told {:?} in place of {:?}", told[cell], expected[cell])
                .unwrap();
        }
    }
    table + &wrong
}

/// What can be done is done: only these file systems may refuse anything.
fn check_reasons(cells: &[(&Row, &Case)], done: &[Done]) {
    for ((row, case), done) in cells.iter().zip(done) {
        let Done::Refused(errno) = done else { continue };
        let may = match row.name {
            "squashfs" | "erofs" => *errno == Errno::EROFS,
            "squashfuse" => matches!(errno, Errno::EROFS | Errno::ENOSYS),
            "proc" => *errno == Errno::ENOENT,
            "sysfs" | "cgroup2" => matches!(errno, Errno::EPERM | Errno::EACCES),
            _ => false,
        };
        let is_read = matches!(case.name, "open" | "access" | "close");
        assert!(may && !is_read, "{} is refused: {errno}", case.name(row));
    }
}
