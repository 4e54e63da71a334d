//! `facronctl show`

use super::call;
use crate::cli;
use crate::client::Client;
use crate::error::Error;
use crate::format::{Precision, command_line, local_time, outcome, quoted};
use crate::style::Tone;
use crate::terminal::Terminal;
use facron_proto::method::{Show, ShowParams};
use facron_proto::{Rule, RuleRef, Text};

pub(super) fn run(args: &cli::Rule, client: &mut Client, terminal: &mut Terminal<'_>) -> Result<(), Error> {
    let params = ShowParams { rule: RuleRef::from(args.rule.as_str()) };
    call::<Show>(client, &params, terminal, |rule, terminal| {
        for (key, value) in lines(&rule, terminal) {
            writeln!(terminal.out, "{key:<8} {value}")?;
        }
        Ok(())
    })
}

fn lines(rule: &Rule, terminal: &Terminal<'_>) -> Vec<(&'static str, String)> {
    let text = |text: &str| Text::from(text).to_string();
    let time = |time: &str| local_time(time, &terminal.time_zone, Precision::Milliseconds);
    let state = terminal.style.paint(Tone::of_state(rule.state), rule.state.name());
    let mut lines = vec![("rule", rule.id.to_string())];
    lines.extend(rule.name.as_deref().map(|name| ("name", text(name))));
    lines.push((
        "source",
        match (&rule.file, rule.line) {
            (Some(file), Some(line)) => format!("{} {file}:{line}", rule.source.name()),
            _ => rule.source.name().to_owned(),
        },
    ));
    lines.push((
        "state",
        match &rule.reason {
            Some(reason) => format!("{state}: {}", text(reason)),
            None => state,
        },
    ));
    lines.extend(rule.strategy.as_deref().map(|strategy| ("tree", text(strategy))));
    lines.push(("path", rule.path.to_string()));
    lines.push(("events", rule.events.join("|")));
    if !rule.options.as_bytes().is_empty() {
        lines.push(("options", rule.options.to_string()));
    }
    lines.push(("command", command_line(&rule.command)));
    lines.push(("added", time(&rule.added)));
    lines.push(("fired", rule.fired.to_string()));
    lines.push(("failed", rule.failed.to_string()));
    if let Some(failure) = &rule.last_failure {
        let (when, how) = (time(&failure.time), outcome(&failure.outcome));
        lines.push(("failure", format!("{when}  {}  {how}", quoted(&failure.path))));
        let output =
            failure.outcome.output.iter().flat_map(|output| output.as_bytes().split(|b| *b == b'\n'));
        lines.extend(output.map(|line| ("", Text::from(line).to_string())));
    }
    lines.push(("last", rule.last.as_deref().map_or_else(|| "never".to_owned(), time)));
    lines
}
