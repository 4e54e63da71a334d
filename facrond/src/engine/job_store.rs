//! The job store: jobs that wait when the daemon stops, for its next start.

use super::store::{SavedRule, Store};
use crate::job::Job;
use crate::own_dir::OwnError;
use crate::wire::EventForm;
use serde::{Deserialize, Serialize};

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
    pub(super) event: EventForm,
    #[serde(default)]
    pub(super) merged: u64,
}

/// The jobs that a job is saved as: one an event.
fn save(job: &Job) -> impl Iterator<Item = SavedJob> {
    let events = job.events();
    let merged = (job.merged + 1).saturating_sub(events.len() as u64);
    events.iter().enumerate().map(move |(n, event)| SavedJob {
        rule: SavedRule::new(job.rule, &job.spec),
        event: EventForm::from(event),
        merged: if n == 0 { merged } else { 0 },
    })
}

/// Saves jobs for the next start. Without a store they are lost, and the log says so.
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

/// Reads the saved jobs, and empties the store.
pub(super) fn take(store: Option<&Store>) -> Result<Vec<SavedJob>, OwnError> {
    store.map_or_else(|| Ok(Vec::new()), |store| Ok(store.take_state::<Saved>(FILE)?.jobs))
}
