//! From a rule's event to the end of its command.
//!
//! ```text
//! Job -> Queue -> argv and environment -> child -> output, exit -> Outcome
//! ```
//!
//! [`Queue`](queue::Queue) decides what may start and is pure. [`Runner`](run::Runner)
//! starts it, and the [`Running`](running::Running) command it returns is a future
//! of its outcome. [`Children`](reaper::Children) is told by the engine when to reap.

pub mod argv;
pub mod descendants;
pub mod env;
mod error;
mod family;
pub mod output;
pub mod queue;
pub mod reaper;
pub mod run;
pub mod running;
mod stdin;

use crate::config::rule::RuleSpec;
use crate::event::Event;
use facron_proto::RuleId;
use std::rc::Rc;

/// A command to run for an event. Many may be waiting: kept small.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The number of its record. Jobs of a rule start in this order.
    pub seq: u64,
    /// The rule that matched.
    pub rule: RuleId,
    /// That rule as it was then.
    pub spec: Rc<RuleSpec>,
    /// What happened.
    pub event: Event,
    /// How many further events it stands for.
    pub merged: u64,
}

#[cfg(test)]
mod testing {
    //! Jobs for tests.

    use super::Job;
    use crate::config::rule::{Argument, Command, Options, Part, RuleSpec};
    use crate::event::Event;
    use crate::events::Events;
    use facron_proto::RuleId;
    use std::rc::Rc;
    use std::time::SystemTime;

    pub(super) fn event(path: &str) -> Event {
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
        }
    }

    pub(super) fn spec(argv: &[&str]) -> RuleSpec {
        let literal = |text: &&str| Argument {
            parts: vec![Part::Literal(text.as_bytes().to_vec())],
            text: text.as_bytes().to_vec(),
        };
        RuleSpec {
            path: "/srv".into(),
            events: Events::CLOSE_WRITE,
            options: Options::default(),
            options_text: Vec::new(),
            command: Command::Exec { program: argv[0].into(), args: argv[1..].iter().map(literal).collect() },
        }
    }

    pub(super) fn job(seq: u64, rule: u64, path: &str) -> Job {
        Job { seq, rule: RuleId(rule), spec: Rc::new(spec(&["true"])), event: event(path), merged: 0 }
    }
}
