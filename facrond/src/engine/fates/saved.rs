//! The files of a job as the store has them, what is asked about them, and what is written beside
//! those of failed commands.

use super::{End, place};
use crate::config::fate::Done;
use crate::engine::job_log::nanoseconds;
use crate::fate::{Noted, Order, Settled, Task};
use crate::job::Job;
use crate::job::outcome::{Ended, Ending, Outcome};
use crate::kernel::wait::Exit;
use crate::wire;
use facron_proto::{self as proto, OutcomeState, RuleId, Text};
use serde::{Deserialize, Serialize};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

/// What the store has of the files of a job.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::engine) struct SavedFiles {
    files: Vec<(Text, Noted)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<SavedEnd>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedEnd {
    /// Nanoseconds since 1970.
    time: u64,
    outcome: proto::Outcome,
    rule: RuleId,
}

impl SavedFiles {
    /// Nothing for a job whose files have no fate.
    pub(in crate::engine) fn of(job: &Job, end: Option<&End>) -> Vec<u8> {
        let Some(noted) = &job.files else { return Vec::new() };
        let paths = job.events().iter().map(|event| Text::from(&*event.path));
        let files = paths.zip(noted.iter().cloned()).collect();
        let end = end.map(|End { time, outcome, rule, .. }| SavedEnd {
            time: nanoseconds(*time),
            outcome: wire::outcome(job, outcome),
            rule: *rule,
        });
        serde_json::to_vec(&Self { files, end }).unwrap_or_default()
    }

    /// What cannot be read is nothing.
    pub(in crate::engine) fn read(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// Gives a job what is known of its files.
    pub(in crate::engine) fn give(&self, job: &mut Job) {
        let unknown = || Noted::Unknown("an earlier daemon has not noted its state".to_owned());
        let noted = |path: &[u8]| {
            let found = self.files.iter().find(|(of, _)| of.as_bytes() == path);
            found.map_or_else(unknown, |(_, noted)| noted.clone())
        };
        job.files = Some(Rc::new(job.events().iter().map(|event| noted(&event.path)).collect()));
    }

    pub(in crate::engine) fn into_end(self) -> Option<End> {
        let SavedEnd { time, outcome, rule } = self.end?;
        let time = UNIX_EPOCH + Duration::from_nanos(time);
        Some(End { time, outcome: back(outcome), rule, is_repeated: true })
    }
}

/// An outcome from its form for clients.
fn back(flat: proto::Outcome) -> Outcome {
    let why = flat.error.unwrap_or_default();
    if flat.state == OutcomeState::SpawnFailed {
        return Outcome::NotStarted { why };
    }
    let exit = match (flat.exit, flat.signal) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    };
    let timed_out = (flat.state == OutcomeState::Timeout).then_some(Ending::TimedOut);
    Outcome::Ended(Ended {
        pid: flat.pid.unwrap_or_default(),
        exit,
        ending: timed_out.unwrap_or_else(|| Ending::of_reason(&why)),
        duration: Duration::try_from_secs_f64(flat.duration_ms.unwrap_or_default() / 1000.0)
            .unwrap_or_default(),
        output: flat.output,
    })
}

/// What is to be asked about a file of a job, or what is known already.
pub(super) fn request(job: &Job, end: Option<&End>, index: usize) -> Result<Task, Settled> {
    let path = Text::from(&*job.events()[index].path);
    let Some(end) = end else { return Ok(Task::Note(path)) };
    let noted = job.files.as_ref().and_then(|files| files.get(index));
    let file = match noted {
        Some(Noted::File(file)) => file.clone(),
        Some(Noted::Unknown(why)) => return Err(Settled::Stays(why.clone())),
        Some(Noted::Directory | Noted::Gone) | None => return Err(Settled::Gone),
    };
    let to = match place(&job.spec, &end.outcome).ok_or(Settled::Gone)? {
        Done::Move(dir) => Some(Text::from(dir.as_os_str().as_bytes())),
        Done::Delete => None,
    };
    let time = nanoseconds(end.time);
    let order = Order {
        reason: end.outcome.is_failure().then(|| reason(job, end, &path)),
        path,
        file,
        to,
        tag: format!("{time:x}-{}-{index}", job.seq),
        is_repeated: end.is_repeated,
    };
    Ok(Task::Settle(Box::new(order)))
}

/// What stands beside a failed file.
#[derive(Serialize)]
struct Reason<'a> {
    seq: u64,
    rule: RuleId,
    rule_name: Option<&'a str>,
    /// When the last try has failed.
    time: String,
    path: &'a Text,
    tries: u32,
    outcome: proto::Outcome,
}

fn reason(job: &Job, end: &End, path: &Text) -> String {
    let reason = Reason {
        seq: job.seq,
        rule: end.rule,
        rule_name: job.spec.options.name.as_deref(),
        time: wire::timestamp(end.time),
        path,
        tries: job.tries,
        outcome: wire::outcome(job, &end.outcome),
    };
    serde_json::to_string_pretty(&reason).unwrap_or_default() + "\n"
}
