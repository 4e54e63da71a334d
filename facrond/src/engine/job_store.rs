//! The job store: jobs that wait when the daemon stops, for its next start.

use super::rule_book::SavedRule;
use super::state_files::StateFiles;
use crate::config::rule::RuleSpec;
use crate::event::{Event, ObjectId};
use crate::job::Job;
use crate::own_dir::OwnError;
use crate::wire::EventForm;
use facron_proto::RuleId;
use serde::ser::{SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::rc::Rc;

const FILE: &str = "jobs.json";

/// The form of the file; a later daemon reads earlier forms. In version 1 each job has its
/// whole rule.
const VERSION: u32 = 2;

#[derive(Default, Deserialize)]
struct Saved {
    /// The rules of the jobs, as they were.
    #[serde(default)]
    rules: Vec<JobRule>,
    #[serde(default)]
    jobs: Vec<SavedJob>,
}

#[derive(Serialize, Deserialize)]
struct SavedJob {
    rule: RuleForm,
    event: EventForm,
    #[serde(default)]
    merged: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    object: Option<ObjectId>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum RuleForm {
    /// The place among the rules.
    Place(usize),
    Whole(JobRule),
}

#[derive(Serialize, Deserialize)]
struct JobRule {
    id: RuleId,
    #[serde(flatten)]
    words: SavedRule,
}

/// A job of an earlier daemon.
#[derive(Debug)]
pub(super) struct EarlierJob {
    pub(super) rule: RuleId,
    /// The rule as it was, or what is wrong with it by now.
    pub(super) spec: Result<Rc<RuleSpec>, String>,
    pub(super) event: Event,
    pub(super) merged: u64,
}

impl Saved {
    fn into_jobs(self) -> Vec<EarlierJob> {
        let parse = |rule: &JobRule| (rule.id, rule.words.spec().map(Rc::new));
        let rules: Vec<_> = self.rules.iter().map(parse).collect();
        let unknown = || (RuleId(0), Err("its rule is not in the file".to_owned()));
        let jobs = self.jobs.into_iter().map(|SavedJob { rule, event, merged, object }| {
            let (rule, spec) = match rule {
                RuleForm::Place(place) => rules.get(place).cloned().unwrap_or_else(unknown),
                RuleForm::Whole(rule) => parse(&rule),
            };
            let event = Event { object: object.map(Rc::new), ..event.into() };
            EarlierJob { rule, spec, event, merged }
        });
        jobs.collect()
    }
}

/// Jobs on their way into the file, which has each rule once: there may be many jobs, and
/// rules may be long.
struct Kept<'a> {
    jobs: &'a [Job],
    rules: Vec<&'a Job>,
    places: HashMap<*const RuleSpec, usize>,
}

impl<'a> Kept<'a> {
    fn new(jobs: &'a [Job]) -> Self {
        let (mut rules, mut places) = (Vec::new(), HashMap::new());
        for job in jobs {
            places.entry(Rc::as_ptr(&job.spec)).or_insert_with(|| {
                rules.push(job);
                rules.len() - 1
            });
        }
        Self { jobs, rules, places }
    }

    /// The jobs that a job is saved as: one an event.
    fn save(&self, job: &'a Job) -> impl Iterator<Item = SavedJob> + 'a {
        let events = job.events();
        let merged = (job.merged + 1).saturating_sub(events.len() as u64);
        let place = self.places[&Rc::as_ptr(&job.spec)];
        events.iter().enumerate().map(move |(n, event)| SavedJob {
            rule: RuleForm::Place(place),
            event: EventForm::from(event),
            merged: if n == 0 { merged } else { 0 },
            object: event.object.as_deref().cloned(),
        })
    }
}

impl Serialize for Kept<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// One at a time.
        struct Jobs<'a>(&'a Kept<'a>);
        impl Serialize for Jobs<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.0.jobs.iter().flat_map(|job| self.0.save(job)))
            }
        }
        let rules: Vec<_> =
            self.rules.iter().map(|job| JobRule { id: job.rule, words: SavedRule::new(&job.spec) }).collect();
        let mut saved = serializer.serialize_struct("Saved", 3)?;
        saved.serialize_field("version", &VERSION)?;
        saved.serialize_field("rules", &rules)?;
        saved.serialize_field("jobs", &Jobs(self))?;
        saved.end()
    }
}

/// Saves jobs for the next start. Without a store they are lost, and the log says so.
pub(super) fn keep(files: Option<&StateFiles>, jobs: &[Job]) {
    let pending = jobs.len();
    let Some(files) = files else {
        if pending > 0 {
            tracing::warn!(pending, "stopping: these events did not get their command");
        }
        return;
    };
    match files.write_state(FILE, &Kept::new(jobs)) {
        Ok(()) if pending > 0 => tracing::info!(pending, "kept for the next start"),
        Ok(()) => {}
        Err(error) => tracing::error!(pending, "{error}; these events will not get their command"),
    }
}

/// Reads the saved jobs, and empties the store.
pub(super) fn take(files: Option<&StateFiles>) -> Result<Vec<EarlierJob>, OwnError> {
    files.map_or_else(|| Ok(Vec::new()), |files| Ok(files.take_state::<Saved>(FILE)?.into_jobs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::testing::{event, job};

    fn jobs(json: &[u8]) -> Vec<(u64, String, u64)> {
        let jobs = serde_json::from_slice::<Saved>(json).unwrap().into_jobs().into_iter();
        jobs.map(|job| {
            assert!(job.spec.is_ok(), "{job:?}");
            (job.rule.0, String::from_utf8(job.event.path.to_vec()).unwrap(), job.merged)
        })
        .collect()
    }

    #[test]
    fn each_rule_is_saved_once() {
        let mut kept = vec![job(1, 1, "/a"), job(2, 1, "/b"), job(3, 2, "/c")];
        kept[1].spec = Rc::clone(&kept[0].spec);
        kept[1].batch = Some([event("/b"), event("/d")].into());
        kept[2].merged = 5;
        let json = serde_json::to_string(&Kept::new(&kept)).unwrap();
        assert_eq!(json.matches("command").count(), 2, "{json}");
        let expected = [(1, "/a", 0), (1, "/b", 0), (1, "/d", 0), (2, "/c", 5)];
        assert_eq!(
            jobs(json.as_bytes()),
            expected.map(|(rule, path, merged)| (rule, path.to_owned(), merged))
        );
    }

    #[test]
    fn jobs_of_version_1_have_their_whole_rule() {
        let old = br#"{"version":1,"jobs":[{"rule":{"id":7,"path":"/a","events":"FAN_OPEN","command":["-"]},
            "event":{"time":"2024-01-01T00:00:00Z","events":"FAN_OPEN","mask":32,"path":"/a","old_path":null,
            "pid":1,"exe":null,"uid":null,"synthetic":false},"merged":2}]}"#;
        assert_eq!(jobs(old), [(7, "/a".to_owned(), 2)]);
    }
}
