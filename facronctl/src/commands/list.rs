//! `facronctl list`

use super::call;
use crate::client::Client;
use crate::error::Error;
use crate::format::{Precision, command_line, local_time};
use crate::style::Tone;
use crate::table::{self, Column, Row};
use crate::terminal::Terminal;
use facron_proto::method::{Empty, List};
use facron_proto::{OutcomeState, Rule, State, Text};
use jiff::tz::TimeZone;

/// The column of the state, which has a colour.
const STATE: usize = 3;

const COLUMNS: [Column; 10] = [
    Column { heading: "ID", elastic: false },
    Column { heading: "NAME", elastic: true },
    Column { heading: "SOURCE", elastic: false },
    Column { heading: "STATE", elastic: false },
    Column { heading: "PATH", elastic: true },
    Column { heading: "EVENTS", elastic: true },
    Column { heading: "COMMAND", elastic: true },
    Column { heading: "FIRED", elastic: false },
    Column { heading: "FAILED", elastic: false },
    Column { heading: "LAST", elastic: false },
];

pub(super) fn run(client: &mut Client, terminal: &mut Terminal<'_>) -> Result<(), Error> {
    call::<List>(client, &Empty {}, terminal, |rules, terminal| {
        let rows = rules
            .iter()
            .map(|rule| Row {
                cells: cells(rule, &terminal.time_zone),
                painted: (STATE, terminal.style.color(Tone::of_state(rule.state))),
            })
            .collect();
        terminal.out.write_all(table::draw(&COLUMNS, rows, terminal.width).as_bytes())?;
        // `show` has the reason of a rule that waits or failed. Here are rules that only seem to work.
        for rule in rules.iter().filter(|rule| rule.state == State::Active) {
            if let Some(reason) = &rule.reason {
                writeln!(terminal.out, "rule {}: {}", rule.id, Text::from(reason.as_str()))?;
            }
        }
        Ok(())
    })
}

fn cells(rule: &Rule, zone: &TimeZone) -> Vec<String> {
    vec![
        rule.id.to_string(),
        rule.name.as_deref().map_or_else(|| "-".to_owned(), |name| Text::from(name).to_string()),
        rule.source.name().to_owned(),
        rule.state.name().to_owned(),
        rule.path.to_string(),
        rule.events.join("|"),
        command_line(&rule.command),
        rule.fired.to_string(),
        failed(rule),
        rule.last
            .as_deref()
            .map_or_else(|| "-".to_owned(), |last| local_time(last, zone, Precision::Seconds)),
    ]
}

/// The number of failures, and the last one.
fn failed(rule: &Rule) -> String {
    let last = rule.last_failure.as_ref().map(|failure| &failure.outcome);
    let how = last.map(|outcome| match (outcome.state, outcome.exit, outcome.signal) {
        (OutcomeState::Timeout, ..) => "timeout".to_owned(),
        (OutcomeState::NotMoved, ..) => "not moved".to_owned(),
        (_, Some(exit), _) => format!("exit {exit}"),
        (_, _, Some(signal)) => format!("signal {signal}"),
        _ => "not started".to_owned(),
    });
    how.map_or_else(|| rule.failed.to_string(), |how| format!("{} ({how})", rule.failed))
}
