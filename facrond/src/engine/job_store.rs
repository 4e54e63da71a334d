//! Jobs that outlive the daemon: those that wait when it stops run after its next start.

use super::store::{SavedRule, Store, StoreError};
use crate::event::Event;
use crate::events::Events;
use crate::job::Job;
use facron_proto::Text;
use serde::{Deserialize, Serialize};
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
pub(super) struct SavedJob {
    pub(super) rule: SavedRule,
    event: SavedEvent,
    #[serde(default)]
    pub(super) merged: u64,
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
            time: super::job_log::timestamp(event.time),
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

impl SavedJob {
    pub(super) fn event(&self) -> Event {
        let event = &self.event;
        let names = event.events.split('|').filter_map(Events::named);
        let bytes = |text: &Text| text.as_bytes().into();
        Event {
            time: humantime::parse_rfc3339(&event.time).unwrap_or_else(|_| SystemTime::now()),
            events: names.fold(Events::NONE, Events::with),
            mask: event.mask,
            path: bytes(&event.path),
            old_path: event.old_path.as_ref().map(bytes),
            pid: event.pid,
            exe: event.exe.as_ref().map(bytes),
            uid: event.uid,
            synthetic: event.synthetic,
        }
    }
}

/// The jobs that a job is saved as: one an event.
fn save(job: &Job) -> impl Iterator<Item = SavedJob> {
    let events = job.events();
    let merged = (job.merged + 1).saturating_sub(events.len() as u64);
    events.iter().enumerate().map(move |(n, event)| SavedJob {
        rule: SavedRule::new(job.rule, &job.spec),
        event: SavedEvent::new(event),
        merged: if n == 0 { merged } else { 0 },
    })
}

/// Saves what waits for the next start; without a store it is lost, and the log says so.
pub(super) fn keep(store: Option<&Store>, jobs: &[Job]) {
    let pending = jobs.len();
    let Some(store) = store else {
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

/// Takes out what was saved.
pub(super) fn take(store: Option<&Store>) -> Result<Vec<SavedJob>, StoreError> {
    store.map_or_else(|| Ok(Vec::new()), |store| Ok(store.take_state::<Saved>(FILE)?.jobs))
}
