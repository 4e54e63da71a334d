//! `facronctl tail`

use crate::cli;
use crate::client::{Answer, Client};
use crate::error::Error;
use crate::format::{Precision, local_time, outcome, quoted};
use crate::style::Tone;
use crate::terminal::Terminal;
use facron_proto::method::{DEFAULT_LIMIT, Lagged, LaggedParams, NewRecord, Notice, Tail, TailParams};
use facron_proto::rpc::Incoming;
use facron_proto::{Outcome, OutcomeState, Record, RuleRef, Text};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The last second of the daemon's calendar.
const LAST: Timestamp = Timestamp::constant(253_402_207_200, 0);

pub(super) fn run(args: &cli::Tail, client: &mut Client, terminal: &mut Terminal<'_>) -> Result<(), Error> {
    /// The reply, with its records as raw JSON.
    #[derive(Deserialize)]
    struct Records<'a> {
        #[serde(borrow)]
        records: Vec<&'a RawValue>,
        #[serde(default)]
        truncated: bool,
    }
    let answer: Answer<Tail> = client.call(&params(args))?;
    let Records { records, truncated } = answer.parse()?;
    if truncated {
        writeln!(
            terminal.err,
            "facronctl: older records are left out, because there are too many; --until shows them"
        )?;
    }
    for record in records {
        print(record, Show::Always, terminal)?;
    }
    terminal.out.flush()?;
    if args.follow {
        loop {
            show_notice(client, terminal)?;
        }
    }
    Ok(())
}

fn params(args: &cli::Tail) -> TailParams {
    // What the daemon's calendar does not have is no time of an event either.
    let time = |time: Timestamp| time.clamp(Timestamp::UNIX_EPOCH, LAST).to_string();
    let default = if args.since.is_some() { u64::MAX } else { DEFAULT_LIMIT };
    TailParams {
        limit: args.limit.unwrap_or(default),
        rule: args.rule.as_deref().map(RuleRef::from),
        failed: args.failed,
        since: args.since.map(time),
        until: args.until.map(time),
        path: args.path.clone(),
        exe: args.exe.clone(),
        uid: args.uid,
        after: None,
        follow: args.follow,
    }
}

/// Waits for one notification and shows it.
fn show_notice(client: &mut Client, terminal: &mut Terminal<'_>) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct Told<'a> {
        #[serde(borrow)]
        record: &'a RawValue,
    }
    let Incoming::Notice { method, params } = client.receive()? else { return Ok(()) };
    match &*method {
        NewRecord::NAME => {
            let told: Told = serde_json::from_str(params.get()).map_err(Error::Protocol)?;
            print(told.record, Show::Final, terminal)?;
            terminal.out.flush()?;
        }
        Lagged::NAME => {
            let LaggedParams { missed, .. } = serde_json::from_str(params.get()).map_err(Error::Protocol)?;
            writeln!(terminal.err, "facronctl: {missed} records were not read in time and are left out")?;
        }
        _ => {}
    }
    Ok(())
}

/// The records that get a line.
#[derive(Clone, Copy, PartialEq)]
enum Show {
    Always,
    /// Records with a final outcome, so that each is shown once.
    Final,
}

fn print(raw: &RawValue, show: Show, terminal: &mut Terminal<'_>) -> Result<(), Error> {
    if terminal.json {
        return Ok(terminal.json(raw.get())?);
    }
    let record: Record = serde_json::from_str(raw.get()).map_err(Error::Protocol)?;
    if show == Show::Always || record.outcome.is_final() {
        let line = line(&record, terminal);
        writeln!(terminal.out, "{line}")?;
    }
    Ok(())
}

/// Time, rule, events, path, process and outcome.
fn line(record: &Record, terminal: &Terminal<'_>) -> String {
    let rule = record
        .rule_name
        .as_deref()
        .map_or_else(|| record.rule.to_string(), |name| Text::from(name).to_string());
    let path = match &record.old_path {
        Some(old) => format!("{} -> {}", quoted(old), quoted(&record.path)),
        None => quoted(&record.path),
    };
    let mut became = vec![outcome(&record.outcome)];
    if record.synthetic {
        became.push("found by a scan".to_owned());
    }
    if record.repeated {
        became.push("run again after a restart".to_owned());
    }
    if let Some(tries) = record.outcome.tries {
        became.push(format!("{tries} tries"));
    }
    if record.merged > 0 {
        became.push(format!("{} more merged", record.merged));
    }
    [
        local_time(&record.time, &terminal.time_zone, Precision::Milliseconds),
        rule,
        record.events.join("|"),
        path,
        who(record),
        terminal.style.paint(tone(&record.outcome), &became.join(", ")),
    ]
    .join("  ")
}

/// The process that caused it, as far as it is known.
fn who(record: &Record) -> String {
    match (record.pid, &record.exe) {
        (0, None) => "-".to_owned(),
        (0, Some(exe)) => quoted(exe),
        (pid, None) => pid.to_string(),
        (pid, Some(exe)) => format!("{pid} {}", quoted(exe)),
    }
}

fn tone(outcome: &Outcome) -> Tone {
    match outcome.state {
        _ if outcome.is_failure() => Tone::Bad,
        OutcomeState::Exited | OutcomeState::Allowed => Tone::Good,
        OutcomeState::Recorded => Tone::Faint,
        OutcomeState::Denied => Tone::Bad,
        _ => Tone::Unsettled,
    }
}
