//! From a rule's event to the end of its command.
//!
//! ```text
//! Job -> Queue -> argv and environment -> child -> output, exit -> Outcome
//!          ^                                                 |
//!          +------------------- retry -----------------------+
//! ```
//!
//! [`Queue`](queue::Queue) decides what may start when and is pure. [`Runner`](run::Runner)
//! starts it, and [`Supervisor`](supervisor::Supervisor) sees the
//! [`Running`](running::Running) command to its outcome. [`Children`](reaper::Children) is
//! told by the engine when to reap.

pub mod argv;
pub mod earlier;
pub mod env;
mod error;
pub mod outcome;
pub mod output;
pub mod queue;
pub mod reaper;
pub mod retry;
pub mod run;
pub mod running;
mod split;
mod starting;
mod stdin;
pub(crate) mod supervisor;

pub(crate) use error::file_reason;

use crate::config::rule::RuleSpec;
use crate::event::Event;
use crate::fate::Noted;
use facron_proto::RuleId;
use std::rc::Rc;

/// A command to run for an event, or for several. Many may be waiting: kept small.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The number of its record, 0 before it has one. Jobs of a rule start in this order.
    pub seq: u64,
    pub rule: RuleId,
    /// That rule as it was then.
    pub spec: Rc<RuleSpec>,
    /// What happened; of several events, the last.
    pub event: Event,
    /// How many further events it stands for.
    pub merged: u64,
    /// Under `batch=`, what happened to each path, in the order of their first
    /// events; `event` is among them.
    pub batch: Option<Box<[Event]>>,
    /// How often its command was started.
    pub tries: u32,
    /// An earlier daemon did not run it, or not to its end.
    pub repeated: bool,
    /// It runs because its file has changed while the command ran before.
    pub again: bool,
    /// With `done=` or `failed=`, what was at the paths of its events when its command started.
    pub files: Option<Rc<Vec<Noted>>>,
}

impl Job {
    /// A job for one event, which has no record yet.
    pub fn new(rule: RuleId, spec: Rc<RuleSpec>, event: Event) -> Self {
        Self {
            seq: 0,
            rule,
            spec,
            event,
            merged: 0,
            batch: None,
            tries: 0,
            repeated: false,
            again: false,
            files: None,
        }
    }

    /// The rule's `name=`, else its number.
    pub fn rule_label(&self) -> String {
        self.spec.options.name.clone().unwrap_or_else(|| self.rule.to_string())
    }

    /// What happened, one event a path.
    pub fn events(&self) -> &[Event] {
        self.batch.as_deref().unwrap_or(std::slice::from_ref(&self.event))
    }

    /// The room that its events take while it waits.
    fn room(&self) -> usize {
        self.events().iter().map(Event::room).sum()
    }

    /// The same of the last event alone: all that others have to know of it.
    #[must_use]
    pub fn without_batch(&self) -> Self {
        Self { spec: Rc::clone(&self.spec), event: self.event.clone(), batch: None, files: None, ..*self }
    }

    /// Makes it stand for a later job of the same path, too.
    pub fn absorb(&mut self, later: Self) {
        self.merged += 1 + later.merged;
        self.again &= later.again;
        self.event.absorb(later.event);
    }

    /// Jobs of a rule that have the same key never run at the same time: those of
    /// one path, and all batches.
    fn key(&self) -> &[u8] {
        if self.batch.is_some() { b"" } else { &self.event.path }
    }

    fn shared_key(&self) -> Rc<[u8]> {
        if self.batch.is_some() { Rc::default() } else { Rc::clone(&self.event.path) }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Jobs for tests.

    use super::Job;
    use crate::config::rule::{Argument, Command, Part, RuleSpec};
    use crate::event::Event;
    use crate::events::Events;
    use facron_proto::RuleId;
    use std::rc::Rc;
    use std::time::SystemTime;

    pub(crate) fn event(path: &str) -> Event {
        Event {
            time: SystemTime::now(),
            events: Events::CLOSE_WRITE,
            mask: Events::CLOSE_WRITE.mask(),
            path: path.as_bytes().into(),
            old_path: None,
            pid: 4242,
            exe: None,
            uid: None,
            synthetic: false,
            object: None,
        }
    }

    pub(crate) fn spec(argv: &[&str]) -> RuleSpec {
        let literal = |text: &&str| Argument {
            parts: vec![Part::Literal(text.as_bytes().to_vec())],
            text: text.as_bytes().to_vec(),
        };
        RuleSpec {
            path: "/srv".into(),
            events: Events::CLOSE_WRITE,
            options: Rc::default(),
            options_text: Vec::new(),
            command: Command::Exec { program: argv[0].into(), args: argv[1..].iter().map(literal).collect() },
        }
    }

    pub(crate) fn job(seq: u64, rule: u64, path: &str) -> Job {
        Job { seq, ..Job::new(RuleId(rule), Rc::new(spec(&["true"])), event(path)) }
    }
}
