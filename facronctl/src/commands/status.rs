//! `facronctl status`

use super::call;
use crate::client::Client;
use crate::error::Error;
use crate::format::uptime;
use crate::style::Tone;
use crate::terminal::Terminal;
use facron_proto::method::{Empty, GetStatus};
use facron_proto::{CatchUp, Gate, OwnEvents, Status, Text};
use std::collections::BTreeMap;

pub(super) fn run(client: &mut Client, terminal: &mut Terminal<'_>) -> Result<(), Error> {
    call::<GetStatus>(client, &Empty {}, terminal, |status, terminal| {
        let tone = if status.health == "ok" { Tone::Good } else { Tone::Bad };
        let health = terminal.style.paint(tone, &Text::from(status.health.as_str()).to_string());
        writeln!(terminal.out, "health   {health}")?;
        for (key, value) in lines(&status) {
            writeln!(terminal.out, "{key:<8} {value}")?;
        }
        Ok(())
    })
}

fn lines(status: &Status) -> Vec<(&'static str, String)> {
    let Status { version, pid, uptime_ms, rules, marks, queue, events, own_events, jobs, gate, .. } = status;
    let version = Text::from(version.as_str());
    let mut lines = vec![
        ("facrond", format!("{version}, pid {pid}, up {}", uptime(*uptime_ms))),
        ("rules", counts(rules)),
        ("marks", counts(marks)),
        ("queue", format!("{} pending (at most {}), {} running", queue.pending, queue.limit, queue.running)),
        (
            "events",
            format!(
                "{} read, {} matched, {} of facron's own ignored, {} overflows",
                events.read, events.matched, events.ignored_own, events.overflows
            ),
        ),
        (
            "own",
            match own_events {
                OwnEvents::Perf => "known completely, by the forks of commands (perf)",
                OwnEvents::Parents => "known while the process or its parents live (/proc)",
                OwnEvents::Behaviour => {
                    "guessed by behaviour: the kernel hides processes from ordinary users"
                }
            }
            .to_owned(),
        ),
        (
            "jobs",
            format!(
                "{} run, {} failed, {} timed out, {} merged, {} skipped, {} dropped",
                jobs.run, jobs.failed, jobs.timeout, jobs.merged, jobs.skipped, jobs.dropped
            ),
        ),
    ];
    lines.extend(status.catch_up.as_ref().map(|known| ("catch-up", describe_catch_up(known))));
    lines.extend(gate.as_ref().map(|gate| ("gate", describe(gate))));
    lines
}

fn describe_catch_up(known: &CatchUp) -> String {
    let CatchUp { rules, compared, changed } = known;
    let state = if *rules == 0 { "done".to_owned() } else { format!("{rules} rules not through yet") };
    format!("{state}, {compared} entries compared, {changed} may have changed")
}

fn describe(gate: &Gate) -> String {
    let process = gate.pid.map_or_else(|| "does not run".to_owned(), |pid| format!("pid {pid}"));
    format!(
        "{process}, {} waiting, {:.1} ms at most, {} allowed, {} denied, {} by failure",
        gate.open, gate.longest_wait_ms, gate.allowed, gate.denied, gate.failures
    )
}

fn counts(counts: &BTreeMap<String, u64>) -> String {
    let counts: Vec<String> =
        counts.iter().map(|(key, count)| format!("{count} {}", Text::from(key.as_str()))).collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}
