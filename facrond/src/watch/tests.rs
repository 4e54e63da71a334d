//! The watch on the real kernel: one process, one group, real files.

use super::*;
use crate::config::filter::{Filter, Patterns};
use crate::config::rule::{Command, Options};
use crate::kernel::object::Object;
use std::fs;
use std::path::{Path, PathBuf};

pub(super) struct Nobody;

impl Whose for Nobody {
    fn is_own(&mut self, _: i32) -> bool {
        false
    }
}

struct Fixture {
    watch: Watch,
    dir: tempfile::TempDir,
    next: u64,
}

impl Fixture {
    fn new() -> Self {
        Self { watch: Watch::new().unwrap(), dir: tempfile::tempdir().unwrap(), next: 1 }
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
        self.watch.attach(id, Rc::new(spec));
        id
    }

    /// What fired: rule, path below the fixture's directory, events.
    fn fired(&mut self) -> Vec<(u64, String, String)> {
        let mut hits = Vec::new();
        while self.watch.drain(&mut Nobody, &mut hits).unwrap() == Queue::More {}
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
}

fn one(rule: u64, path: &str, events: &str) -> Vec<(u64, String, String)> {
    vec![(rule, path.to_owned(), events.to_owned())]
}

#[test]
fn a_file_in_a_directory() {
    let mut f = Fixture::new();
    f.rule("", Events::CLOSE_WRITE);
    f.write("a");
    assert_eq!(f.fired(), one(1, "a", "FAN_CLOSE_WRITE"));
    f.mkdir("d");
    f.write("d/b");
    assert_eq!(f.fired(), []);
}

#[test]
fn a_file_is_followed_by_its_path() {
    let mut f = Fixture::new();
    f.write("conf");
    let id = f.rule("conf", Events::ARRIVED);
    for round in 0..20 {
        f.write("tmp");
        f.rename("tmp", "conf");
        assert_eq!(f.fired(), one(1, "conf", "ARRIVED"), "{round}");
        f.write("conf");
        assert_eq!(f.fired(), one(1, "conf", "ARRIVED"), "{round}");
    }
    fs::remove_file(f.path("conf")).unwrap();
    assert_eq!(f.fired(), []);
    assert!(f.is_waiting(id));
    f.write("conf");
    assert_eq!(f.fired(), one(1, "conf", "ARRIVED"));
    assert_eq!(f.state(id), &PathState::Active);
}

#[test]
fn saves_that_are_read_late_are_each_told() {
    let mut f = Fixture::new();
    f.write("conf");
    f.rule("conf", Events::MOVED_TO);
    f.rule("conf", Events::ARRIVED);
    for _ in 0..100 {
        f.write("tmp");
        f.rename("tmp", "conf");
    }
    let fired = f.fired();
    assert_eq!(fired.iter().filter(|(rule, ..)| *rule == 1).count(), 100);
    assert_eq!(fired.iter().filter(|(rule, ..)| *rule == 2).count(), 100);
}

#[test]
fn linked_in_files_arrive_once() {
    let mut f = Fixture::new();
    f.mkdir("in");
    f.write("made");
    f.rule("in", Events::ARRIVED);
    fs::hard_link(f.path("made"), f.path("in/linked")).unwrap();
    assert_eq!(f.fired(), one(1, "in/linked", "ARRIVED"));
    fs::hard_link(f.path("made"), f.path("in/published")).unwrap();
    fs::remove_file(f.path("made")).unwrap();
    fs::remove_file(f.path("in/linked")).unwrap();
    assert_eq!(f.paths(), ["in/published"]);
}

#[test]
fn a_file_still_being_written_arrives_when_it_is_closed() {
    let mut f = Fixture::new();
    f.rule("", Events::ARRIVED);
    let file = fs::File::create(f.path("slow")).unwrap();
    assert_eq!(f.fired(), []);
    drop(file);
    f.await_close("slow");
    assert_eq!(f.fired(), one(1, "slow", "ARRIVED"));
}

#[test]
fn a_missing_path_is_waited_for() {
    let mut f = Fixture::new();
    let id = f.rule("a/b/c/f", Events::CLOSE_WRITE);
    assert!(f.is_waiting(id));
    for _ in 0..5 {
        f.mkdir("a/b/c");
        f.write("a/b/c/f");
        assert_eq!(f.fired(), one(1, "a/b/c/f", "FAN_CLOSE_WRITE"));
        f.write("a/b/c/f");
        assert_eq!(f.fired(), one(1, "a/b/c/f", "FAN_CLOSE_WRITE"));
        fs::remove_dir_all(f.path("a")).unwrap();
        assert_eq!(f.fired(), []);
        assert!(f.is_waiting(id));
    }
    f.mkdir("a");
    assert_eq!(f.fired(), []);
    f.mkdir("a/b/c");
    f.write("a/b/c/f");
    assert_eq!(f.fired(), one(1, "a/b/c/f", "FAN_CLOSE_WRITE"));
}

#[test]
fn a_directory_made_again_is_watched_with_what_is_in_it() {
    let mut f = Fixture::new();
    f.mkdir("drop");
    f.rule("drop", Events::CLOSE_WRITE);
    for _ in 0..5 {
        fs::remove_dir_all(f.path("drop")).unwrap();
        f.mkdir("drop");
        f.write("drop/a");
        assert_eq!(f.paths(), ["drop/a"]);
        f.write("drop/b");
        assert_eq!(f.paths(), ["drop/b"]);
    }
}

#[test]
fn an_ancestor_renamed_takes_the_path_away_and_brings_it_back() {
    let mut f = Fixture::new();
    f.mkdir("a/b");
    f.write("a/b/f");
    let id = f.rule("a/b/f", Events::CLOSE_WRITE);
    f.rename("a", "A");
    f.write("A/b/f");
    assert_eq!(f.fired(), []);
    assert!(f.is_waiting(id));
    f.write("A/b/f");
    assert_eq!(f.fired(), []);
    f.rename("A", "a");
    assert_eq!(f.paths(), ["a/b/f"]);
    f.write("a/b/f");
    assert_eq!(f.fired(), one(1, "a/b/f", "FAN_CLOSE_WRITE"));
}

#[test]
fn a_write_through_another_hard_link_counts() {
    let mut f = Fixture::new();
    f.mkdir("other");
    f.write("conf");
    fs::hard_link(f.path("conf"), f.path("other/link")).unwrap();
    f.rule("conf", Events::CLOSE_WRITE);
    f.write("other/link");
    assert_eq!(f.fired(), one(1, "conf", "FAN_CLOSE_WRITE"));
    f.write("conf");
    assert_eq!(f.fired(), one(1, "conf", "FAN_CLOSE_WRITE"));
}

#[test]
fn the_end_of_a_replaced_file_is_told() {
    let mut f = Fixture::new();
    f.write("conf");
    f.rule("conf", Events::DELETE_SELF);
    f.rule("conf", Events::MOVE_SELF);
    f.write("tmp");
    f.rename("tmp", "conf");
    assert_eq!(f.fired(), one(1, "conf", "FAN_DELETE_SELF"));
    f.rename("conf", "away");
    assert_eq!(f.fired(), one(2, "conf", "FAN_MOVE_SELF"));
    f.mkdir("conf");
    assert_eq!(f.fired(), []);
    fs::remove_dir(f.path("conf")).unwrap();
    assert_eq!(f.fired(), one(1, "conf", "FAN_DELETE_SELF"));
}

#[test]
fn a_rename_is_one_firing_with_both_names() {
    let mut f = Fixture::new();
    f.mkdir("out");
    f.write("a");
    f.rule("", Events::MOVE);
    f.rule("", Events::RENAME);
    f.rule("", Events::MOVED_FROM);
    f.rename("a", "b");
    let mut hits = Vec::new();
    f.watch.drain(&mut Nobody, &mut hits).unwrap();
    let shown: Vec<_> = hits
        .iter()
        .map(|hit| (hit.rule.0, f.shown(&hit.event.path), f.shown(hit.event.old_path.as_ref().unwrap())))
        .collect();
    let expected = [(1, "b"), (2, "b"), (3, "a")].map(|(id, path)| (id, path.to_owned(), "a".to_owned()));
    assert_eq!(shown, expected);
    f.rename("b", "out/b");
    let fired = f.fired();
    assert_eq!(fired.len(), 3, "{fired:?}");
    assert!(fired.iter().all(|(_, path, _)| path == "b"), "{fired:?}");
}

#[test]
fn directories_in_a_directory_are_known_where_a_rule_asks_for_them() {
    let mut f = Fixture::new();
    f.mkdir("old");
    f.rule("", Events::ATTRIB.with(Events::ONDIR).with(Events::EVENT_ON_CHILD));
    f.mkdir("new");
    assert_eq!(f.fired(), []);
    for name in ["old", "new"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(f.path(name), mode).unwrap();
        assert_eq!(f.fired(), one(1, name, "FAN_ATTRIB|FAN_ONDIR"));
    }
}

#[test]
fn links_on_the_way_are_followed_and_repointed() {
    let mut f = Fixture::new();
    f.mkdir("releases/1");
    f.mkdir("releases/2");
    f.write("releases/1/conf");
    f.write("releases/2/conf");
    std::os::unix::fs::symlink("releases/1", f.path("current")).unwrap();
    f.rule("current/conf", Events::CLOSE_WRITE);
    f.write("releases/1/conf");
    assert_eq!(f.fired(), one(1, "current/conf", "FAN_CLOSE_WRITE"));
    for round in 0..20 {
        let (new, old) = if round % 2 == 0 { (2, 1) } else { (1, 2) };
        std::os::unix::fs::symlink(format!("releases/{new}"), f.path("tmp")).unwrap();
        f.rename("tmp", "current");
        assert_eq!(f.paths(), ["current/conf"], "the file under the path is another one");
        f.write(&format!("releases/{old}/conf"));
        assert_eq!(f.fired(), []);
        f.write(&format!("releases/{new}/conf"));
        assert_eq!(f.fired(), one(1, "current/conf", "FAN_CLOSE_WRITE"));
    }
}

#[test]
fn recursion_follows_new_moved_and_removed_directories() {
    let mut f = Fixture::new();
    f.mkdir("t/old/deep");
    f.mkdir("elsewhere/x");
    f.write("elsewhere/x/f");
    f.recursive("t", Events::CLOSE_WRITE);
    f.write("t/old/deep/f");
    assert_eq!(f.paths(), ["t/old/deep/f"]);
    f.mkdir("t/a/b/c");
    f.write("t/a/b/c/f");
    assert_eq!(f.paths(), ["t/a/b/c/f"]);
    f.rename("t/a", "t/A");
    f.write("t/A/b/c/f");
    assert_eq!(f.paths(), ["t/A/b/c/f"]);
    f.rename("elsewhere/x", "t/x");
    assert_eq!(f.paths(), ["t/x/f"]);
    f.rename("t/A", "elsewhere/A");
    assert_eq!(f.fired(), []);
    f.write("elsewhere/A/b/c/f");
    assert_eq!(f.fired(), []);
    let marks = f.watch.marks();
    for _ in 0..10 {
        f.mkdir("t/y/1/2/3");
        f.mkdir("t/y/4/5/6");
        assert_eq!(f.fired(), []);
        fs::remove_dir_all(f.path("t/y")).unwrap();
        assert_eq!(f.fired(), []);
        assert_eq!(f.watch.marks(), marks);
    }
}

#[test]
fn renames_that_the_kernel_merges_are_followed() {
    let mut f = Fixture::new();
    f.mkdir("t/a/deep");
    f.mkdir("out/x/deep");
    f.recursive("t", Events::CLOSE_WRITE);
    for (from, to) in [("t/a", "t/b"), ("t/b", "t/a"), ("t/a", "t/b")] {
        f.rename(from, to);
    }
    f.fired();
    f.write("t/b/deep/f");
    assert_eq!(f.paths(), ["t/b/deep/f"]);
    f.write("out/x/deep/g");
    for (from, to) in [("out/x", "t/x"), ("t/x", "out/x"), ("out/x", "t/x")] {
        f.rename(from, to);
    }
    assert_eq!(f.paths(), ["t/x/deep/g"]);
    f.write("t/x/deep/g");
    assert_eq!(f.paths(), ["t/x/deep/g"]);
    let marks = f.watch.marks();
    for (from, to) in [("t/x", "out/x"), ("out/x", "t/x"), ("t/x", "out/x")] {
        f.rename(from, to);
    }
    assert_eq!((f.paths(), f.watch.marks()), (vec![], marks - 2));
}

#[test]
fn a_rule_that_goes_takes_its_marks_along() {
    let mut f = Fixture::new();
    f.mkdir("t/a/b");
    f.write("t/f");
    let before = f.watch.marks();
    let ids =
        [f.recursive("t", Events::OPEN), f.rule("t/f", Events::ALL_EVENTS), f.rule("t/a/x/y", Events::OPEN)];
    assert!(f.watch.marks() > before);
    f.watch.detach(ids[0]);
    fs::read(f.path("t/f")).unwrap();
    assert_eq!(f.fired().len(), 1, "one merged record");
    f.watch.detach(ids[1]);
    f.watch.detach(ids[2]);
    assert_eq!(f.watch.marks(), before);
    assert!(!Path::new("/proc/self/fdinfo").join("x").exists());
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

#[test]
fn mounts_on_and_below_a_path_are_taken_in_and_let_go() {
    let mut f = Fixture::new();
    f.mkdir("m/inner");
    f.mkdir("t/below/deep");
    f.rule("m/inner", Events::CLOSE_WRITE);
    f.recursive("t", Events::CLOSE_WRITE);
    for _ in 0..3 {
        let on = Mounted::new(f.path("m"));
        let below = Mounted::new(f.path("t/below"));
        f.write("t/below/there already");
        f.watch.on_mounts().unwrap();
        f.fired();
        assert!(f.is_waiting(RuleId(1)), "the mounted file system has no such directory");
        f.mkdir("m/inner");
        f.write("m/inner/a");
        f.mkdir("t/below/new");
        f.write("t/below/new/b");
        assert_eq!(f.paths(), ["m/inner/a", "t/below/new/b"]);
        on.unmount();
        below.unmount();
        f.watch.on_mounts().unwrap();
        assert_eq!(f.fired(), []);
        f.write("m/inner/c");
        f.write("t/below/deep/d");
        assert_eq!(f.paths(), ["m/inner/c", "t/below/deep/d"]);
        fs::remove_file(f.path("m/inner/c")).unwrap();
        fs::remove_file(f.path("t/below/deep/d")).unwrap();
        f.fired();
    }
}

impl Fixture {
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
}

#[test]
fn files_in_directories_just_made_are_told_once() {
    const WRITERS: usize = 2;
    const ROUNDS: usize = 500;
    let mut f = Fixture::new();
    f.mkdir("t");
    f.recursive("t", Events::CLOSE_WRITE);
    f.recursive("t", Events::ARRIVED);
    let top = f.path("t");
    let expected: Vec<_> = std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let top = &top;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let dir = top.join(format!("{writer}-{round}/b/c"));
                    fs::create_dir_all(&dir).unwrap();
                    fs::write(dir.join("f"), "x").unwrap();
                }
            });
        }
        let expected = (0..WRITERS).flat_map(|w| (0..ROUNDS).map(move |r| format!("t/{w}-{r}/b/c/f")));
        let mut twice: Vec<_> = expected.clone().chain(expected).collect();
        twice.sort();
        assert_eq!(f.fired_by(twice.len()), twice);
        twice
    });
    let marks = f.watch.marks();
    fs::remove_dir_all(f.path("t")).unwrap();
    f.mkdir("t");
    f.fired();
    assert!(f.watch.marks() < marks / 100, "{} of {marks} for {}", f.watch.marks(), expected.len());
}

#[test]
fn a_tree_moved_in_is_told_once_and_while_it_is_renamed() {
    let mut f = Fixture::new();
    f.mkdir("t");
    f.mkdir("out");
    f.recursive("t", Events::ARRIVED);
    for dir in 0..50 {
        f.mkdir(&format!("out/new/{dir}/x"));
        for file in 0..10 {
            f.write(&format!("out/new/{dir}/x/{file}"));
        }
    }
    f.rename("out/new", "t/new");
    assert_eq!(f.paths().len(), 500);
    let top = f.path("t");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..200 {
                let dir = top.join(format!("part-{round}"));
                fs::create_dir_all(dir.join("x")).unwrap();
                fs::write(dir.join("x/f"), "x").unwrap();
                fs::rename(&dir, top.join(format!("done-{round}"))).unwrap();
                fs::write(top.join(format!("done-{round}/x/g")), "x").unwrap();
            }
        });
        let mut names: Vec<_> =
            f.fired_by(400).into_iter().map(|path| path.replace("part-", "").replace("done-", "")).collect();
        names.sort();
        let mut expected: Vec<_> =
            (0..200).flat_map(|round| ["f", "g"].map(|name| format!("t/{round}/x/{name}"))).collect();
        expected.sort();
        assert_eq!(names, expected);
    });
}

impl Fixture {
    fn drain_work(&mut self) {
        while self.watch.has_work() {
            self.watch.work();
        }
    }
}

#[test]
fn a_large_tree_is_watched_by_its_file_system() {
    let mut f = Fixture::new();
    f.mkdir("m");
    let mount = Mounted::new(f.path("m"));
    for dir in 0..300 {
        f.mkdir(&format!("m/t/{}/{dir}", dir % 10));
    }
    f.mkdir("m/elsewhere/x");
    f.write("m/elsewhere/x/f");
    let id = f.recursive("m/t", Events::CLOSE_WRITE.with(Events::MOVED_TO));
    assert_eq!(f.watch.strategy(id), Some("one mark on the file system"));
    assert!(f.watch.has_work() && f.watch.marks() < 100);
    f.write("m/t/9/299/before it was read");
    f.write("m/elsewhere/x/f");
    assert_eq!(f.paths(), ["m/t/9/299/before it was read"]);
    f.drain_work();
    f.write("m/t/7/7/f");
    f.mkdir("m/t/new/a/b");
    f.write("m/t/new/a/b/f");
    f.rename("m/t/new", "m/t/renamed");
    f.write("m/t/renamed/a/b/g");
    assert_eq!(f.paths(), ["m/t/7/7/f", "m/t/new/a/b/f", "m/t/renamed/a/b/g"]);
    fs::remove_dir_all(f.path("m/t/renamed")).unwrap();
    for _ in 0..100 {
        f.write("m/elsewhere/x/f");
        assert_eq!(f.fired(), []);
    }
    f.rename("m/elsewhere/x", "m/t/x");
    assert_eq!(f.paths(), ["m/t/x/f"], "what is in a directory that was ignored");
    f.write("m/t/x/f");
    assert_eq!(f.paths(), ["m/t/x/f"]);
    f.rename("m/t/x", "m/elsewhere/x");
    f.write("m/elsewhere/x/f");
    assert_eq!(f.fired(), []);
    f.watch.detach(id);
    assert_eq!(f.watch.fs_marks(), 0);
    // What others did in directories above the mount.
    f.fired();
    let read = f.watch.counters().read;
    f.write("m/t/7/7/f");
    assert_eq!((f.fired(), f.watch.counters().read), (vec![], read));
    mount.unmount();
}

#[test]
fn an_excluded_tree_is_neither_marked_nor_read() {
    let mut f = Fixture::new();
    f.mkdir("t/node_modules/a/b");
    f.mkdir("t/src/.git/x");
    let patterns = Patterns { exclude: vec!["node_modules".into(), ".git".into()], ..Patterns::default() };
    let filter = Filter::new(patterns).unwrap();
    let before = f.watch.marks();
    f.rule_with("t", Events::CLOSE_WRITE, Options { recursive: true, filter, ..Options::default() });
    f.write("t/node_modules/a/f");
    f.write("t/src/.git/f");
    f.mkdir("t/src/node_modules/c");
    f.write("t/src/node_modules/c/f");
    f.write("t/src/f");
    assert_eq!(f.paths(), ["t/src/f"]);
    let way = f.dir.path().ancestors().count() as u64;
    assert_eq!(f.watch.marks() - before, way + 2, "the way to it, t and t/src");
}

#[test]
fn the_same_races_in_a_large_tree() {
    let mut f = Fixture::new();
    for dir in 0..100 {
        f.mkdir(&format!("t/{dir}"));
    }
    let id = f.recursive("t", Events::CLOSE_WRITE);
    assert_eq!(f.watch.strategy(id), Some("one mark on the file system"));
    f.drain_work();
    let top = f.path("t");
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let top = &top;
            scope.spawn(move || {
                for round in 0..500 {
                    let dir = top.join(format!("w{writer}-{round}/b/c"));
                    fs::create_dir_all(&dir).unwrap();
                    fs::write(dir.join("f"), "x").unwrap();
                }
            });
        }
        let mut expected: Vec<_> =
            (0..2).flat_map(|w| (0..500).map(move |r| format!("t/w{w}-{r}/b/c/f"))).collect();
        expected.sort();
        assert_eq!(f.fired_by(1000), expected);
    });
}
