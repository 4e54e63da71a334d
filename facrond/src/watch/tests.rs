//! The watch on the real kernel: one process, one group, real files.

mod catch_up;
mod model;
mod mounts;
mod paths;
mod restarts;
mod trees;

use super::*;
use crate::config::filter::{Filter, Patterns};
use crate::config::rule::{Command, Options};
use crate::events::Events;
use crate::kernel::object::Object;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

pub(super) struct Nobody;

impl Whose for Nobody {
    fn is_own(&mut self, _: i32) -> bool {
        false
    }
}

type Kept = Rc<std::cell::RefCell<Vec<(String, OwnedFd)>>>;

struct Fixture {
    watch: Watch,
    kept: Kept,
    dir: tempfile::TempDir,
    next: u64,
}

impl Fixture {
    fn new() -> Self {
        let (watch, kept) = open(DescriptorStore::default());
        Self { watch, kept, dir: tempfile::tempdir().unwrap(), next: 1 }
    }

    /// The watch ends, and another one takes back what was kept. It has the numbers of rules to
    /// give out again.
    fn restart(&mut self, meanwhile: impl FnOnce(&mut Self)) {
        self.watch = open(DescriptorStore::default()).0;
        meanwhile(self);
        let kept =
            self.kept.borrow().iter().map(|(name, fd)| (name.clone(), fd.try_clone().unwrap())).collect();
        let store = DescriptorStore::of(kept);
        store.kept.borrow_mut().append(&mut self.kept.borrow_mut());
        (self.watch, self.kept) = open(store);
        self.next = 1;
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn rule(&mut self, name: &str, events: Events) -> RuleId {
        self.rule_with(name, events, Options::default())
    }

    fn recursive(&mut self, name: &str, events: Events) -> RuleId {
        self.rule_with(name, events, Options { recursive: true, ..Options::default() })
    }

    fn rule_with(&mut self, name: &str, events: Events, options: Options) -> RuleId {
        self.rule_that_missed(name, events, options, None::<Missed>)
    }

    fn rule_that_missed(
        &mut self,
        name: &str,
        events: Events,
        options: Options,
        missed: impl Into<Option<Missed>>,
    ) -> RuleId {
        let id = RuleId(self.next);
        self.next += 1;
        let path = self.path(name);
        let spec = RuleSpec {
            path,
            events,
            options: options.into(),
            options_text: Vec::new(),
            command: Command::Record,
        };
        self.watch.attach(id, Rc::new(spec), missed.into());
        while self.watch.look_at_next(Lanes::New) {}
        id
    }

    /// What fired: rule, path below the fixture's directory, events.
    fn fired(&mut self) -> Vec<(u64, String, String)> {
        let mut hits = Vec::new();
        while self.watch.drain(&mut Nobody, &mut hits).unwrap() == Queue::More {}
        self.watch.on_handled(0, &|_| true);
        hits.iter()
            .map(|hit| (hit.rule.0, self.shown(&hit.event.path), hit.event.events.to_string()))
            .collect()
    }

    fn paths(&mut self) -> Vec<String> {
        let mut paths: Vec<_> = self.fired().into_iter().map(|(_, path, _)| path).collect();
        paths.sort();
        paths
    }

    fn shown(&self, path: &[u8]) -> String {
        let top = self.dir.path().to_str().unwrap();
        let path = String::from_utf8_lossy(path);
        path.strip_prefix(top).map_or(path.to_string(), |rest| rest.trim_start_matches('/').to_owned())
    }

    fn write(&self, name: &str) {
        fs::write(self.path(name), "x").unwrap();
        self.await_close(name);
    }

    /// A child that another test starts has our files open until it executes its
    /// program, and their closing is told only then.
    fn await_close(&self, name: &str) {
        let is_open = || Object::open(&self.path(name)).unwrap().is_complete() == Some(false);
        while is_open() {
            std::thread::yield_now();
        }
    }

    fn mkdir(&self, name: &str) {
        fs::create_dir_all(self.path(name)).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn state(&self, id: RuleId) -> &PathState {
        self.watch.state(id).unwrap()
    }

    fn is_waiting(&self, id: RuleId) -> bool {
        matches!(self.state(id), PathState::Waiting(_))
    }

    /// Drains until so many have fired, and then until nothing more comes.
    fn fired_by(&mut self, count: usize) -> Vec<String> {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let mut paths = Vec::new();
        while paths.len() < count && std::time::Instant::now() < deadline {
            paths.extend(self.paths());
        }
        for _ in 0..10 {
            paths.extend(self.paths());
        }
        paths.sort();
        paths
    }

    fn drain_work(&mut self) {
        while self.watch.has_work(&|_| 100) {
            self.watch.work(&|_| 100);
        }
    }
}

fn open(store: DescriptorStore) -> (Watch, Kept) {
    let kept = Rc::clone(&store.kept);
    (Watch::new(store).unwrap(), kept)
}

fn one(rule: u64, path: &str, events: &str) -> Vec<(u64, String, String)> {
    vec![(rule, path.to_owned(), events.to_owned())]
}

/// A tmpfs of the test's own, unmounted whatever happens.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: PathBuf) -> Self {
        nix::mount::mount(Some("none"), &at, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>)
            .unwrap();
        Self(at)
    }

    /// Fails if somebody has something open on it.
    fn unmount(self) {
        nix::mount::umount(&self.0).unwrap();
        std::mem::forget(self);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}
