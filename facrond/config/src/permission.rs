//! Permission rules: the meaning of their options, and which rules are refused.

use super::diagnostic::{Line, Problems};
use super::lex::Word;
use super::options::given;
use super::places;
use super::rule::{Command, RuleSpec, Stdin};
use crate::events::Events;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The deadline of a rule without `deadline=`.
const DEADLINE: Duration = Duration::from_secs(5);

/// The answer to a process that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Allow,
    Deny,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// The exit status of the rule's command decides.
    #[default]
    Command,
    Always(Verdict),
}

/// The options of a permission rule, as far as they were given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Permission {
    pub verdict: Option<Decision>,
    pub deadline: Option<Duration>,
    pub on_failure: Option<Verdict>,
    pub cache: Option<Duration>,
}

impl Permission {
    pub fn decision(&self) -> Decision {
        self.verdict.unwrap_or_default()
    }

    /// How long a process waits at most.
    pub fn deadline(&self) -> Duration {
        self.deadline.unwrap_or(DEADLINE)
    }

    /// The verdict if the command has not decided.
    pub fn on_failure(&self) -> Verdict {
        self.on_failure.unwrap_or(Verdict::Allow)
    }
}

impl RuleSpec {
    /// Whether its events are permission events.
    pub fn asks_permission(&self) -> bool {
        self.events.intersects(Events::PERMISSION)
    }

    /// Whether its command decides.
    pub fn decides(&self) -> bool {
        self.asks_permission() && self.options.permission.decision() == Decision::Command
    }

    /// Whether its command runs after the answer: `verdict=allow` or `verdict=deny`.
    pub fn runs_afterwards(&self) -> bool {
        self.command != Command::Record && self.asks_permission() && !self.decides()
    }

    /// What its command has on standard input. A command that decides has the opened file.
    pub fn stdin(&self) -> Stdin {
        let default = if self.decides() { Stdin::File } else { Stdin::Null };
        self.options.stdin.unwrap_or(default)
    }
}

/// Options that delay a command. A process that waits is answered at once.
const OF_NOTIFICATIONS: &[&[u8]] = &[b"settle", b"batch", b"max-wait", b"rate", b"busy", b"retry", b"self"];

/// The words of a rule that the check refers to.
pub(super) struct Place<'a> {
    pub(super) path: &'a Word,
    pub(super) events: &'a Word,
    pub(super) options: &'a [Word],
    pub(super) command: Range<usize>,
}

/// Refuses rules with contradictory options, and rules that could stop the machine.
pub(super) fn check(line: &Line<'_>, spec: &RuleSpec, place: &Place<'_>, problems: &mut Problems) {
    let own: Vec<PathBuf> = line.file.map(Path::to_owned).into_iter().collect();
    if spec.options.stdin == Some(Stdin::File)
        && let Some(word) = given(place.options, &[b"batch"])
    {
        let message = "`stdin=file` is for one file, and a batch has several";
        problems.push(line.error(word.span.clone(), message).help("leave one of them out"));
    }
    if !spec.asks_permission() {
        if let Some(word) = given(place.options, &[b"verdict", b"deadline", b"on-failure", b"cache"]) {
            let message = "this option is for permission events, and the rule has none";
            let help = "leave it out, or watch `FAN_OPEN_PERM`, `FAN_ACCESS_PERM` or `FAN_OPEN_EXEC_PERM`";
            problems.push(line.error(word.span.clone(), message).help(help));
        }
        return;
    }
    let others = spec.events.without(Events::PERMISSION).without(Events::FLAGS);
    if !others.is_empty() {
        let permission = spec.events.and(Events::PERMISSION.with(Events::FLAGS));
        let message = "permission events and others cannot stand in one rule";
        let help = format!("make two rules of it, one for `{permission}` and one for `{others}`");
        problems.push(line.error(place.events.span.clone(), message).help(help));
    }
    if spec.events.contains(Events::PRE_ACCESS) && spec.events.contains(Events::ONDIR) {
        let message = "`FAN_PRE_ACCESS` is an event of files, and the rule asks for directories";
        problems.push(line.error(place.events.span.clone(), message).help("leave `FAN_ONDIR` out"));
    }
    if let Some(word) = given(place.options, &[b"catch-up"]) {
        let message = "permission events have answers, so there are none that were missed";
        problems.push(line.error(word.span.clone(), message).help("leave `catch-up=` out"));
    }
    if spec.options.permission.decision() == Decision::Command {
        check_command(line, spec, place, problems);
    }
    if let Some(why) = places::refusal(&spec.path, &own) {
        let message = format!("permission events cannot be asked for here: {why}");
        problems.push(line.error(place.path.span.clone(), message).help(places::HELP));
    } else if spec.options.recursive {
        for left_out in places::left_out(&spec.path, &own) {
            let shown = super::diagnostic::show_path(&left_out);
            let message = format!("the rule leaves `{shown}` out, where it could hold the machine");
            problems.push(line.warning(place.path.span.clone(), message));
        }
    }
}

fn check_command(line: &Line<'_>, spec: &RuleSpec, place: &Place<'_>, problems: &mut Problems) {
    if spec.command == Command::Record {
        let message = "the COMMAND `-` cannot decide";
        let help = "name a program whose exit status 0 allows, or write `verdict=allow` or `verdict=deny`";
        problems.push(line.error(place.command.clone(), message).help(help));
    }
    if spec.stdin() != Stdin::File
        && let Some(word) = given(place.options, &[b"cache"])
    {
        let message = "no verdict is remembered, since the command does not get the file itself";
        problems.push(line.warning(word.span.clone(), message).help("leave `stdin=` out"));
    }
    if let Some(word) = given(place.options, OF_NOTIFICATIONS) {
        let message = "this option does not go with a command that decides, for which a process waits";
        problems.push(line.error(word.span.clone(), message).help("leave it out"));
    }
}
