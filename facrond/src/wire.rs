//! The forms in which events, jobs and outcomes leave the daemon, each made here and
//! nowhere else: records for clients, JSON on a command's standard input, and events in the
//! job store. The environment of commands has the values of [`EventForm`].

use crate::config::permission::Verdict;
use crate::event::Event;
use crate::events::Events;
use crate::job::Job;
use crate::job::outcome::{Ended, Ending, Left, Outcome};
use crate::kernel::wait::Exit;
use facron_proto::{self as proto, Failure, OutcomeState, Record, Text};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// RFC 3339, UTC, nanoseconds. It knows the years from 1970 to 9999.
pub fn timestamp(time: SystemTime) -> String {
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_nanos(time.clamp(UNIX_EPOCH, UNIX_EPOCH + LAST)).to_string()
}

/// An event as it travels.
#[derive(Debug, Serialize, Deserialize)]
pub struct EventForm {
    pub time: String,
    /// Joined by `|`.
    pub events: String,
    pub mask: u64,
    pub path: Text,
    pub old_path: Option<Text>,
    pub pid: i32,
    exe: Option<Text>,
    uid: Option<u32>,
    synthetic: bool,
}

impl From<&Event> for EventForm {
    fn from(event: &Event) -> Self {
        Self {
            time: timestamp(event.time),
            events: event.events.to_string(),
            mask: event.mask,
            path: Text::from(&*event.path),
            old_path: event.old_path.as_deref().map(Text::from),
            pid: event.pid,
            exe: event.exe.as_deref().map(Text::from),
            uid: event.uid,
            synthetic: event.synthetic,
        }
    }
}

/// The event is of an earlier daemon: what this one does not understand of it is left out.
impl From<EventForm> for Event {
    fn from(form: EventForm) -> Self {
        Self {
            time: humantime::parse_rfc3339(&form.time).unwrap_or_else(|_| SystemTime::now()),
            events: form.names().filter_map(Events::named).fold(Events::NONE, Events::with),
            mask: form.mask,
            path: form.path.0.into(),
            old_path: form.old_path.map(|path| path.0.into()),
            pid: form.pid,
            exe: form.exe.map(|exe| exe.0.into()),
            uid: form.uid,
            synthetic: form.synthetic,
            object: None,
        }
    }
}

impl EventForm {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.events.split('|').filter(|name| !name.is_empty())
    }
}

/// One event of a job as a command reads it; the members are those of a record.
pub struct Input<'a>(pub &'a Job, pub &'a Event);

impl Serialize for Input<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (job, event) = (self.0, EventForm::from(self.1));
        let mut object = serializer.serialize_struct("Input", 12)?;
        object.serialize_field("seq", &job.seq)?;
        object.serialize_field("time", &event.time)?;
        object.serialize_field("rule", &job.rule)?;
        object.serialize_field("rule_name", &job.spec.options.name)?;
        object.serialize_field("events", &event.names().collect::<Vec<_>>())?;
        object.serialize_field("mask", &event.mask)?;
        object.serialize_field("path", &event.path)?;
        object.serialize_field("old_path", &event.old_path)?;
        object.serialize_field("pid", &event.pid)?;
        object.serialize_field("exe", &event.exe)?;
        object.serialize_field("uid", &event.uid)?;
        object.serialize_field("synthetic", &event.synthetic)?;
        object.end()
    }
}

/// A job as clients see it.
pub fn record(job: &Job, outcome: &Outcome) -> Record {
    let event = EventForm::from(&job.event);
    Record {
        seq: job.seq,
        rule: job.rule,
        rule_name: job.spec.options.name.clone(),
        events: event.names().map(str::to_owned).collect(),
        time: event.time,
        path: event.path,
        old_path: event.old_path,
        pid: event.pid,
        exe: event.exe,
        uid: event.uid,
        synthetic: event.synthetic,
        repeated: job.repeated,
        merged: job.merged,
        outcome: self::outcome(job, outcome),
    }
}

/// A command that has failed just now, as clients see it.
pub fn failure(job: &Job, outcome: &Outcome) -> Failure {
    let (time, path) = (timestamp(SystemTime::now()), Text::from(&*job.event.path));
    Failure { seq: job.seq, time, path, outcome: self::outcome(job, outcome) }
}

/// An outcome as clients see it.
pub fn outcome(job: &Job, outcome: &Outcome) -> proto::Outcome {
    let tries = Some(job.tries).filter(|tries| *tries > 1);
    let (state, pid, tries) = match outcome {
        Outcome::Pending | Outcome::Short { .. } => (OutcomeState::Pending, None, tries),
        Outcome::Running { pid } => (OutcomeState::Running, Some(*pid), tries),
        Outcome::Ended(ended) => return proto::Outcome { tries, ..flat_end(ended, outcome) },
        Outcome::Left(left) => return flat_left(job, left),
        Outcome::NotStarted { .. } => (OutcomeState::SpawnFailed, None, tries),
        Outcome::Skipped { .. } => (OutcomeState::Skipped, None, None),
        Outcome::Dropped { .. } => (OutcomeState::Dropped, None, None),
        Outcome::Recorded => (OutcomeState::Recorded, None, None),
        Outcome::Answered(answer) => {
            let state = match answer.verdict {
                Verdict::Allow => OutcomeState::Allowed,
                Verdict::Deny => OutcomeState::Denied,
            };
            let (by, error) = (Some(answer.by), answer.why.clone());
            let duration_ms = answer.held.map(milliseconds);
            return proto::Outcome { state, by, error, duration_ms, ..self::outcome(job, &answer.command) };
        }
    };
    proto::Outcome { pid, error: outcome.why().map(str::to_owned), tries, ..state.into() }
}

fn flat_left(job: &Job, left: &Left) -> proto::Outcome {
    let flat = outcome(job, &left.command);
    let state = if left.is_failure { OutcomeState::NotMoved } else { flat.state };
    let error = flat.error.map_or_else(|| left.why.clone(), |error| format!("{error}; {}", left.why));
    proto::Outcome { state, error: Some(error), ..flat }
}

fn flat_end(ended: &Ended, outcome: &Outcome) -> proto::Outcome {
    let (state, exit, signal) = match ended.exit {
        Exit::Code(code) => (OutcomeState::Exited, Some(code), None),
        Exit::Signal(signal) => (OutcomeState::Signaled, None, Some(signal)),
        Exit::Unknown => (OutcomeState::Exited, None, None),
    };
    let state = if ended.ending == Ending::TimedOut { OutcomeState::Timeout } else { state };
    proto::Outcome {
        pid: Some(ended.pid),
        exit,
        signal,
        duration_ms: Some(milliseconds(ended.duration)),
        error: outcome.why().map(str::to_owned),
        restarted: outcome.is_restart(),
        output: ended.output.clone(),
        ..state.into()
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::outcome::Answer;
    use crate::job::running::Stop;
    use crate::job::testing::job;
    use serde_json::{Value, json, to_value};

    fn outcome_of(tries: u32, outcome: &Outcome) -> Value {
        let job = Job { tries, ..job(1, 1, "/f") };
        to_value(record(&job, outcome).outcome).unwrap()
    }

    fn ended(exit: Exit, ending: Ending) -> Outcome {
        let (duration, output) = (Duration::from_millis(5), Some(Text::from("out")));
        Outcome::Ended(Ended { pid: 9, exit, ending, duration, output })
    }

    #[test]
    fn outcomes_have_the_members_that_apply() {
        let ran = |state: &str| json!({"state": state, "pid": 9, "duration_ms": 5.0, "output": "out"});
        let with = |mut base: Value, more: Value| {
            base.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            base
        };
        assert_eq!(outcome_of(2, &Outcome::Pending), json!({"state": "pending", "tries": 2}));
        assert_eq!(outcome_of(1, &Outcome::Running { pid: 9 }), json!({"state": "running", "pid": 9}));
        let exited = ended(Exit::Code(3), Ending::ByItself);
        assert_eq!(outcome_of(3, &exited), with(ran("exited"), json!({"exit": 3, "tries": 3})));
        let timeout = ended(Exit::Code(0), Ending::TimedOut);
        assert_eq!(outcome_of(1, &timeout), with(ran("timeout"), json!({"exit": 0})));
        let restarted = ended(Exit::Signal(15), Ending::Stopped(Stop::ForLaterEvent));
        let members =
            json!({"signal": 15, "restarted": true, "error": "stopped to start anew for a later event"});
        assert_eq!(outcome_of(1, &restarted), with(ran("signaled"), members));
        let why = || "why".to_owned();
        let refused = |state: &str| json!({"state": state, "error": "why"});
        assert_eq!(outcome_of(1, &Outcome::NotStarted { why: why() }), refused("spawn_failed"));
        assert_eq!(outcome_of(2, &Outcome::Skipped { why: why() }), refused("skipped"));
        assert_eq!(outcome_of(2, &Outcome::Dropped { why: why() }), refused("dropped"));
        assert_eq!(outcome_of(1, &Outcome::Recorded), json!({"state": "recorded"}));
        let (held, command) = (Some(Duration::from_millis(7)), ended(Exit::Code(0), Ending::ByItself));
        let answer = Answer { verdict: Verdict::Allow, by: proto::By::Command, why: None, held, command };
        let members = json!({"exit": 0, "by": "command", "duration_ms": 7.0});
        assert_eq!(outcome_of(1, &Outcome::Answered(Box::new(answer))), with(ran("allowed"), members));
    }

    #[test]
    fn an_event_comes_back_from_the_store_as_it_was() {
        let mut event = job(1, 1, "/a\u{fffd}").event;
        event.path = b"/\xff".as_slice().into();
        event.events = Events::CLOSE_WRITE.with(Events::ONDIR);
        (event.old_path, event.exe, event.uid) =
            (Some(event.path.clone()), Some(event.path.clone()), Some(7));
        let stored = serde_json::to_vec(&EventForm::from(&event)).unwrap();
        assert_eq!(Event::from(serde_json::from_slice::<EventForm>(&stored).unwrap()), event);
    }

    #[test]
    fn the_clock_may_say_anything() {
        let century = Duration::from_secs(100 * 365 * 86400);
        assert_eq!(timestamp(UNIX_EPOCH - century), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(timestamp(UNIX_EPOCH + 100 * century), "9999-12-31T23:59:59.000000000Z");
    }
}
