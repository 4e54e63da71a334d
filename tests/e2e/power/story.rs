//! What happens before the power fails: files come, rules come and go, and the daemon starts twice.

use super::{RUNS, trace};
use crate::harness::{Daemon, Place, wait_until};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;

const RUN: &str = "echo $FACRON_NAME $FACRON_SEQ >> runs";

/// Files that have a run, whatever happens in this part of the trace.
struct Files {
    from: usize,
    to: usize,
    names: Vec<String>,
}

/// What was asked for, and promised.
struct Promise {
    asked: usize,
    replied: usize,
    rule: String,
    state: &'static str,
}

pub struct Story<'p> {
    place: &'p Place,
    pub trace: String,
    pub conf: String,
    /// When the first daemon was ready.
    pub ready: usize,
    files: Vec<Files>,
    promises: Vec<Promise>,
    /// Numbers of rules, and when they were told.
    ids: Vec<(usize, u64)>,
    made: usize,
}

impl Place {
    /// Adds a rule; its number.
    pub(super) fn add(&self, args: &[&str]) -> u64 {
        let added = self.ctl_ok(&[&["add"], args].concat());
        added.trim().rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub(super) fn state_of(&self, rule: &str) -> String {
        let found = self.rpc().call("show", &json!({ "rule": rule }));
        found.map_or("removed".to_owned(), |rule| rule["state"].as_str().unwrap().to_owned())
    }
}

impl<'p> Story<'p> {
    /// Lets it happen.
    pub fn record(place: &'p Place) -> Self {
        let (coming, going) = (place.mkdir("in"), place.mkdir("gone"));
        place.mkdir("aside");
        let conf = format!(
            "{coming} ARRIVED [name=in] sh -c '{RUN}'\n{going} DELETE [name=gone settle=300ms] sh -c '{RUN}'\n"
        );
        place.conf(&conf);
        let trace = place.path("trace");
        let (files, promises, ids) = (Vec::new(), Vec::new(), Vec::new());
        let mut story = Self { place, trace, conf, ready: 0, files, promises, ids, made: 0 };
        story.run(0).stop();
        story.ready = story.files.iter().map(|files| files.from).min().unwrap();
        // While no daemon runs.
        let (made, missed) = (story.now(), story.make("in"));
        story.promise_runs(made, missed);
        let daemon = story.run(1);
        let (made, last) = (story.now(), story.make("in"));
        story.promise_runs(made, last);
        daemon.kill();
        story
    }

    /// One life of the daemon.
    fn run(&mut self, life: usize) -> Daemon<'p> {
        let daemon = self.start();
        let (begun, mut coming) = (self.now(), self.make_and_wait("in"));
        let [lasting, short, brief] = ["lasting", "short", "brief"].map(|name| format!("{name}-{life}"));
        let deleted = self.delete();
        self.add(&lasting);
        self.promise_runs(self.now(), vec![deleted]);
        let added = self.now();
        let of_rule = self.make_and_wait(&lasting);
        self.add(&short);
        coming.extend(self.make("in"));
        self.files.push(Files { from: added, to: self.now(), names: of_rule });
        self.switch("pause", &lasting, "paused");
        self.make(&lasting);
        self.switch("remove", &short, "removed");
        self.switch("resume", &lasting, "active");
        let resumed = self.now();
        let of_rule = self.make_and_wait(&lasting);
        self.promise_runs(resumed, of_rule);
        self.note_id(&["-o", &format!("name={brief}"), &self.place.mkdir("aside"), "DELETE", "-"]);
        coming.extend(self.make_and_wait("in"));
        self.promise_runs(begun, coming);
        daemon
    }

    fn start(&self) -> Daemon<'p> {
        let state = |name: &str| self.place.path(&format!("state{name}"));
        let files = ["", "/facron.db", "/facron.db-wal", "/facron.db-journal"].map(state);
        let files = [&files[..], &[self.place.path(RUNS)]].concat();
        let mut traced = trace::traced(&self.trace, &files, &self.place.facrond());
        traced.current_dir(self.place.path(""));
        self.place.start_as(traced)
    }

    /// Each call that has ended by now is in the trace.
    fn now(&self) -> usize {
        usize::try_from(fs::metadata(&self.trace).unwrap().len()).unwrap()
    }

    /// Makes some files that arrive in a directory.
    fn make(&mut self, dir: &str) -> Vec<String> {
        let names = (self.made..self.made + 5).map(|number| format!("{dir}.{number}"));
        let names: Vec<_> = names.collect();
        for (number, name) in names.iter().enumerate() {
            let (path, aside) = (format!("{dir}/{name}"), format!("aside/{name}"));
            if number == 0 {
                self.place.write(&path);
                continue;
            }
            let (from, to) = (self.place.write(&aside), self.place.play(&path));
            if number % 2 == 1 { fs::rename(from, to) } else { fs::hard_link(from, to) }.unwrap();
        }
        self.made += names.len();
        names
    }

    fn make_and_wait(&mut self, dir: &str) -> Vec<String> {
        let names = self.make(dir);
        let runs = || fs::read_to_string(self.place.path(RUNS)).unwrap_or_default();
        wait_until("the files to run", || names.iter().all(|name| runs().contains(&format!("{name} "))));
        names
    }

    /// Removes a file, which leaves no trace but in the daemon.
    fn delete(&mut self) -> String {
        let name = format!("gone.{}", self.made);
        self.made += 1;
        let before = self.place.fired("gone");
        fs::remove_file(self.place.write(&format!("gone/{name}"))).unwrap();
        wait_until("the deletion to be told", || self.place.fired("gone") > before);
        name
    }

    fn promise_runs(&mut self, from: usize, names: Vec<String>) {
        self.files.push(Files { from, to: usize::MAX, names });
    }

    fn note_id(&mut self, args: &[&str]) {
        let id = self.place.add(args);
        self.ids.push((self.now(), id));
    }

    fn add(&mut self, rule: &str) {
        let (asked, dir) = (self.now(), self.place.mkdir(rule));
        self.note_id(&["--persist", "-o", &format!("name={rule}"), &dir, "ARRIVED", "sh", "-c", RUN]);
        self.promise(asked, rule, "active");
    }

    fn switch(&mut self, how: &str, rule: &str, state: &'static str) {
        let asked = self.now();
        self.place.ctl_ok(&[how, rule]);
        self.promise(asked, rule, state);
    }

    fn promise(&mut self, asked: usize, rule: &str, state: &'static str) {
        self.promises.push(Promise { asked, replied: self.now(), rule: rule.to_owned(), state });
    }

    /// The files that have a run after a power failure at this point.
    pub fn promised_runs(&self, point: usize) -> impl Iterator<Item = &str> {
        let files = self.files.iter().filter(move |files| (files.from..files.to).contains(&point));
        files.flat_map(|files| files.names.iter().map(|name| &**name))
    }

    /// The states that the rules may have then.
    pub fn promised_rules(&self, point: usize) -> BTreeMap<&str, Vec<&'static str>> {
        let mut states: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for Promise { asked, replied, rule, state } in &self.promises {
            let states = states.entry(&**rule).or_insert_with(|| vec!["removed"]);
            if *replied <= point {
                *states = vec![state];
            } else if *asked <= point {
                states.push(state);
            }
        }
        states
    }

    /// The highest number of a rule that somebody was told by then.
    pub fn last_id(&self, point: usize) -> u64 {
        let told = self.ids.iter().filter(|(told, _)| *told <= point);
        told.map(|(_, id)| *id).max().unwrap_or_default()
    }
}
