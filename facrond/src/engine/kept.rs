//! Jobs that outlive the daemon: what waits when it stops runs after its next start.

use super::Engine;
use super::store::{SavedRule, StoreError};
use super::table::Entry;
use crate::config::rule::RuleSpec;
use crate::event::Event;
use crate::events::Events;
use crate::job::Job;
use facron_proto::{Outcome, OutcomeState, RuleId, Text};
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::time::SystemTime;

const FILE: &str = "jobs.json";

/// The form of the file; a later daemon reads earlier forms.
const VERSION: u32 = 1;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved {
    version: u32,
    #[serde(default)]
    jobs: Vec<SavedJob>,
}

/// A rule as it was and one of its events.
#[derive(Debug, Serialize, Deserialize)]
struct SavedJob {
    rule: SavedRule,
    event: SavedEvent,
    #[serde(default)]
    merged: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedEvent {
    time: String,
    events: String,
    mask: u64,
    path: Text,
    old_path: Option<Text>,
    pid: i32,
    exe: Option<Text>,
    uid: Option<u32>,
    synthetic: bool,
}

impl SavedEvent {
    fn new(event: &Event) -> Self {
        Self {
            time: super::report::timestamp(event.time),
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

    fn event(self) -> Event {
        let names = self.events.split('|').filter_map(Events::named);
        Event {
            time: humantime::parse_rfc3339(&self.time).unwrap_or_else(|_| SystemTime::now()),
            events: names.fold(Events::NONE, Events::with),
            mask: self.mask,
            path: self.path.0.into(),
            old_path: self.old_path.map(|path| path.0.into()),
            pid: self.pid,
            exe: self.exe.map(|exe| exe.0.into()),
            uid: self.uid,
            synthetic: self.synthetic,
        }
    }
}

/// The jobs that a job is kept as: one an event.
fn save(job: &Job) -> impl Iterator<Item = SavedJob> {
    let events = job.events();
    let merged = (job.merged + 1).saturating_sub(events.len() as u64);
    events.iter().enumerate().map(move |(n, event)| SavedJob {
        rule: SavedRule::new(job.rule, &job.spec),
        event: SavedEvent::new(event),
        merged: if n == 0 { merged } else { 0 },
    })
}

impl Engine {
    /// Keeps what waits for the next start.
    pub(super) fn keep_jobs(&mut self) {
        self.release_echoes(None);
        let jobs = self.queue.drain();
        let pending = jobs.len();
        let Some(store) = &self.setup.store else {
            if pending > 0 {
                tracing::warn!(pending, "stopping: these events did not get their command");
            }
            return;
        };
        let saved = Saved { version: VERSION, jobs: jobs.iter().flat_map(save).collect() };
        match store.write_state(FILE, &saved) {
            Ok(()) if pending > 0 => tracing::info!(pending, "kept for the next start"),
            Ok(()) => {}
            Err(error) => tracing::error!(pending, "{error}; these events will not get their command"),
        }
    }

    /// Takes in what was kept.
    pub(super) fn take_kept_jobs(&mut self) {
        let Some(store) = &self.setup.store else { return };
        let saved = match store.take_state::<Saved>(FILE) {
            Ok(saved) => saved,
            Err(error) => return self.note_problem(&error),
        };
        let count = saved.jobs.len();
        for job in saved.jobs {
            self.take_kept_job(job);
        }
        if count > 0 {
            tracing::info!(jobs = count, "what waited at the last stop runs now");
        }
    }

    fn take_kept_job(&mut self, saved: SavedJob) {
        let SavedJob { rule, event, merged } = saved;
        let spec = match rule.spec() {
            Ok(spec) => Rc::new(spec),
            Err(why) => return tracing::error!(path = %event.path, "an event that was kept is lost: {why}"),
        };
        let (id, is_there) = match self.same_rule(rule.id, &spec) {
            Some(entry) => (entry.id, true),
            // One that fires once is gone when it has fired; its command is still due.
            None => (rule.id, spec.options.once),
        };
        let job = Job { merged, repeated: true, ..Job::new(self.next_seq, id, spec, event.event()) };
        if is_there {
            return self.admit(job);
        }
        self.next_seq += 1;
        self.counts.jobs.skipped += 1;
        let why = "its rule was removed while the daemon did not run";
        let outcome = Outcome { error: Some(why.to_owned()), ..OutcomeState::Skipped.into() };
        self.conclude(&job, outcome, super::fire::Known::Not);
    }

    /// The rule that a rule of an earlier daemon is now: those of files get new numbers.
    fn same_rule(&self, id: RuleId, spec: &RuleSpec) -> Option<&Entry> {
        let is_same = |entry: &&Entry| *entry.spec == *spec;
        self.rules.get(id).filter(is_same).or_else(|| self.rules.iter().find(is_same))
    }

    fn note_problem(&mut self, error: &StoreError) {
        tracing::warn!("{error}");
        self.start_problems.push(error.to_string());
    }
}
