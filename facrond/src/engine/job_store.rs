//! Jobs as the store has them, so that each runs at least once.
//!
//! A job is in the store from its admission to its end. Nobody waits for the disk: what a crash
//! takes from the last milliseconds, the next daemon finds out by looking at the files.

use super::fates::{End, SavedFiles};
use super::rule_book::SavedRule;
use super::state_files::StateFiles;
use crate::config::rule::RuleSpec;
use crate::config::when::Gather;
use crate::event::{Event, ObjectId};
use crate::job::Job;
use crate::job::earlier::Earlier;
use crate::own_dir::OwnError;
use crate::store::{Change, JobChange, JobRow, Phase, Saved, Sender, Store};
use crate::wire::EventForm;
use facron_proto::RuleId;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where versions without a store kept the jobs that waited at the end.
const FILE: &str = "jobs.json";

/// Below so many rules nobody looks which of them no job has any more.
const FEW: usize = 64;

/// Writes what happens to jobs.
#[derive(Debug)]
pub(super) struct JobStore {
    sender: Sender,
    /// The rules of jobs, and their numbers in the store.
    specs: FxHashMap<*const RuleSpec, (Rc<RuleSpec>, u64)>,
    next_spec: u64,
    next_event: u64,
    /// How many rules there may be before they are looked through.
    many: usize,
}

#[derive(Serialize, Deserialize)]
struct SavedEvent {
    event: EventForm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    object: Option<ObjectId>,
}

impl From<&Event> for SavedEvent {
    fn from(event: &Event) -> Self {
        Self { event: EventForm::from(event), object: event.object.as_deref().cloned() }
    }
}

impl From<SavedEvent> for Event {
    fn from(SavedEvent { event, object }: SavedEvent) -> Self {
        Self { object: object.map(Rc::new), ..event.into() }
    }
}

fn bytes(event: &Event) -> Vec<u8> {
    serde_json::to_vec(&SavedEvent::from(event)).unwrap_or_default()
}

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn time(milliseconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default())
}

impl JobStore {
    pub(super) fn new(sender: Sender, saved: &Saved) -> Self {
        let next_spec = saved.specs.keys().max().map_or(1, |last| last + 1);
        // Later than all that an earlier daemon has given out.
        let next_event = milliseconds(SystemTime::now()).unsigned_abs() << 16;
        Self { sender, specs: FxHashMap::default(), next_spec, next_event, many: FEW }
    }

    /// A job waits from now on.
    pub(super) fn opened(&mut self, job: &Job) {
        let spec = self.spec(&job.spec);
        let mut events = job.events().iter();
        let Some(first) = events.next() else { return };
        let more: Vec<_> = events.map(|event| (self.event_number(), bytes(event))).collect();
        let row = || JobRow {
            seq: job.seq,
            rule: job.rule.0,
            spec,
            data: bytes(first),
            merged: job.merged,
            events: more,
            tries: job.tries,
            phase: Phase::Waits,
        };
        self.write(job.seq, || JobChange::Opened(Box::new(row())));
    }

    /// A job stands for more events; under `batch=` each of them counts.
    pub(super) fn merged(&mut self, into: u64, count: u64, job: &Job, event: &Event) {
        let is_batch = matches!(job.spec.options.gather(), Some(Gather::ByRule(_)));
        let event = is_batch.then(|| (self.event_number(), bytes(event)));
        self.write(into, || JobChange::Merged { count, event });
    }

    /// The command of a job was started.
    pub(super) fn started(&self, job: &Job, pid: i32) {
        let began = milliseconds(SystemTime::now());
        let phase = Phase::Runs { pid, identity: None, began, files: SavedFiles::of(job, None) };
        // This try is not over.
        self.write(job.seq, || JobChange::Went { tries: job.tries.saturating_sub(1), phase });
    }

    /// A job waits for another try.
    pub(super) fn paused(&self, job: &Job, pause: Duration) {
        let until = milliseconds(SystemTime::now() + pause);
        self.write(job.seq, || JobChange::Went { tries: job.tries, phase: Phase::WaitsUntil(until) });
    }

    /// The command of a job has ended, and its files are to get their places.
    pub(super) fn settles(job: &Job, end: &End, store: &Store) -> u64 {
        let phase = Phase::Settles { files: SavedFiles::of(job, Some(end)) };
        store.write(Change::Job { seq: job.seq, change: JobChange::Went { tries: job.tries, phase } })
    }

    pub(super) fn ended(&self, seq: u64) {
        self.write(seq, || JobChange::Ended);
    }

    fn write(&self, seq: u64, change: impl FnOnce() -> JobChange) {
        self.sender.write(|| Change::Job { seq, change: change() });
    }

    fn event_number(&mut self) -> u64 {
        self.next_event += 1;
        self.next_event
    }

    /// The number of a rule, which is written with its first job.
    fn spec(&mut self, spec: &Rc<RuleSpec>) -> u64 {
        if let Some((_, number)) = self.specs.get(&Rc::as_ptr(spec)) {
            return *number;
        }
        if self.specs.len() >= self.many {
            for (_, (_, id)) in self.specs.extract_if(|_, (spec, _)| Rc::strong_count(spec) == 1) {
                self.sender.write(|| Change::RemoveSpec { id });
            }
            self.many = FEW.max(2 * self.specs.len());
        }
        let id = self.next_spec;
        self.next_spec += 1;
        self.sender.write(|| Change::Spec { id, data: SavedRule::new(spec).to_bytes() });
        self.specs.insert(Rc::as_ptr(spec), (Rc::clone(spec), id));
        id
    }
}

/// A job of an earlier daemon.
#[derive(Debug)]
pub(super) struct EarlierJob {
    /// 0 if it had no record.
    pub(super) seq: u64,
    pub(super) rule: RuleId,
    /// The rule as it was, or what is wrong with it by now.
    pub(super) spec: Result<Rc<RuleSpec>, String>,
    pub(super) events: Vec<Event>,
    pub(super) merged: u64,
    pub(super) tries: u32,
    pub(super) due: Option<SystemTime>,
    pub(super) process: Option<Earlier>,
    pub(super) files: Option<SavedFiles>,
}

/// What the store has of earlier jobs, in the order of their numbers.
pub(super) fn earlier(saved: &mut Saved) -> Vec<EarlierJob> {
    let parse = |data: Vec<u8>| {
        let words = serde_json::from_slice::<SavedRule>(&data).map_err(|error| error.to_string());
        words.and_then(|words| words.spec()).map(Rc::new)
    };
    let specs: FxHashMap<_, _> = saved.specs.drain().map(|(id, data)| (id, parse(data))).collect();
    let unknown = || Err("its rule is not in the store".to_owned());
    let jobs = saved.jobs.drain(..).map(|row| {
        let data = std::iter::once(row.data).chain(row.events.into_iter().map(|(_, data)| data));
        let events = data.filter_map(|data| serde_json::from_slice::<SavedEvent>(&data).ok());
        let mut files = None;
        let (due, process) = match row.phase {
            Phase::Waits => (None, None),
            Phase::WaitsUntil(due) => (Some(time(due)), None),
            Phase::Runs { pid, identity, began, files: known } => {
                files = (!known.is_empty()).then(|| SavedFiles::read(&known));
                (None, identity.map(|identity| Earlier { pid, identity, began: time(began) }))
            }
            Phase::Settles { files: known } => {
                files = Some(SavedFiles::read(&known));
                (None, None)
            }
        };
        EarlierJob {
            seq: row.seq,
            rule: RuleId(row.rule),
            spec: specs.get(&row.spec).cloned().unwrap_or_else(unknown),
            events: events.map(Event::from).collect(),
            merged: row.merged,
            tries: row.tries,
            due,
            process,
            files,
        }
    });
    jobs.collect()
}

#[derive(Default, Deserialize)]
struct File {
    /// The rules of the jobs, as they were.
    #[serde(default)]
    rules: Vec<FileRule>,
    #[serde(default)]
    jobs: Vec<FileJob>,
}

#[derive(Deserialize)]
struct FileJob {
    rule: RuleForm,
    #[serde(flatten)]
    event: SavedEvent,
    #[serde(default)]
    merged: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RuleForm {
    /// The place among the rules.
    Place(usize),
    /// As in the first version of the file.
    Whole(FileRule),
}

#[derive(Deserialize)]
struct FileRule {
    id: RuleId,
    #[serde(flatten)]
    words: SavedRule,
}

impl File {
    fn into_jobs(self) -> Vec<EarlierJob> {
        let parse = |rule: &FileRule| (rule.id, rule.words.spec().map(Rc::new));
        let rules: Vec<_> = self.rules.iter().map(parse).collect();
        let unknown = || (RuleId(0), Err("its rule is not in the file".to_owned()));
        let jobs = self.jobs.into_iter().map(|FileJob { rule, event, merged }| {
            let (rule, spec) = match rule {
                RuleForm::Place(place) => rules.get(place).cloned().unwrap_or_else(unknown),
                RuleForm::Whole(rule) => parse(&rule),
            };
            let events = vec![event.into()];
            EarlierJob { seq: 0, rule, spec, events, merged, tries: 0, due: None, process: None, files: None }
        });
        jobs.collect()
    }
}

/// The jobs in the file of an earlier version, if there is one.
pub(super) fn in_file(files: Option<&StateFiles>) -> Result<Option<Vec<EarlierJob>>, OwnError> {
    files.map_or(Ok(None), |files| Ok(files.read_state::<File>(FILE)?.map(File::into_jobs)))
}

pub(super) fn remove_file(files: &StateFiles) {
    files.remove_state(FILE).unwrap_or_else(|error| tracing::error!("{error}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(json: &str) -> Vec<(u64, String, u64)> {
        let jobs = serde_json::from_str::<File>(json).unwrap().into_jobs().into_iter();
        jobs.map(|job| {
            assert!(job.spec.is_ok(), "{job:?}");
            (job.rule.0, String::from_utf8(job.events[0].path.to_vec()).unwrap(), job.merged)
        })
        .collect()
    }

    #[test]
    fn files_of_both_earlier_forms_are_understood() {
        let rule = r#"{"id":7,"path":"/a","events":"FAN_OPEN","command":["-"]}"#;
        let event = r#""event":{"time":"2024-01-01T00:00:00Z","events":"FAN_OPEN","mask":32,"path":"/a","old_path":null,
            "pid":1,"exe":null,"uid":null,"synthetic":false},"merged":2"#;
        let expected = [(7, "/a".to_owned(), 2)];
        assert_eq!(jobs(&format!(r#"{{"version":1,"jobs":[{{"rule":{rule},{event}}}]}}"#)), expected);
        let second = format!(r#"{{"version":2,"rules":[{rule}],"jobs":[{{"rule":0,{event}}}]}}"#);
        assert_eq!(jobs(&second), expected);
    }
}
