//! From the gate's account of an answer to what clients see of it.

use super::decisions::{Asked, event};
use crate::config::rule::RuleSpec;
use crate::gate::message::{Answered, By, Part};
use crate::job::Job;
use crate::job::outcome::{Answer, Ended, Outcome};
use crate::kernel::wait::Exit;
use std::rc::Rc;
use std::time::Duration;

/// A process can have mounts of its own.
const ELSEWHERE: &str = "the process used this name, which leads to another file from here";

/// What a rule had to do with an answer that was given.
#[derive(Debug)]
pub(in crate::engine) struct Decided {
    pub job: Job,
    pub outcome: Outcome,
    /// Whether the job has a record already, since its command was to decide.
    pub is_open: bool,
    /// Whether `on-failure=` decided.
    pub is_failure: bool,
    /// Whether the event is an event of facron's own commands.
    pub is_own: bool,
    /// How many times the same happened.
    pub times: u64,
}

impl Decided {
    pub(super) fn new(part: &Part, answered: &Answered, asked: Option<Asked>, spec: &Rc<RuleSpec>) -> Self {
        let held = Duration::from_micros(answered.held_us);
        let is_open = asked.is_some();
        let (job, ran) = asked.map_or_else(
            || {
                let event = event(answered.occasion.clone(), part.events);
                let job = Job::new(part.rule, Rc::clone(spec), event);
                (Job { merged: answered.merged, ..job }, Outcome::Pending)
            },
            |asked| (asked.job, asked.outcome),
        );
        Self {
            job,
            outcome: outcome(part.by, answered, held, ran),
            is_open,
            is_failure: matches!(part.by, By::Deadline | By::Failure | By::Full),
            is_own: answered.occasion.is_own,
            times: 1 + answered.merged,
        }
    }
}

/// What an answer is to clients; `ran` is what became of the command.
fn outcome(by: By, answered: &Answered, held: Duration, ran: Outcome) -> Outcome {
    let (by, mut why) = match by {
        By::Rule => (facron_proto::By::Rule, None),
        By::Command => (facron_proto::By::Command, None),
        By::Cache => (facron_proto::By::Cache, None),
        By::Deadline => {
            (facron_proto::By::Deadline, Some("the deadline passed without a verdict".to_owned()))
        }
        By::Failure => (facron_proto::By::Failure, Some(failure(&ran))),
        By::Full => (facron_proto::By::Failure, Some("too many processes were waiting already".to_owned())),
        By::Other(rule) => (facron_proto::By::Rule, Some(format!("rule {rule} decided"))),
    };
    if !answered.occasion.is_here {
        why.get_or_insert_with(|| ELSEWHERE.to_owned());
    }
    let verdict = answered.verdict;
    Outcome::Answered(Box::new(Answer { verdict, by, why, held: Some(held), command: ran }))
}

/// Why a command gave no verdict.
fn failure(ran: &Outcome) -> String {
    match (ran.why(), ran) {
        (Some(why), _) => why.to_owned(),
        (None, Outcome::Ended(Ended { exit: Exit::Signal(signal), .. })) => {
            format!("the command was ended by signal {signal}")
        }
        (None, _) => "the command gave no verdict".to_owned(),
    }
}
