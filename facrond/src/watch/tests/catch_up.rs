//! Changes from before a rule was watched.

use super::*;
use crate::watch::recheck::LONGEST_WRITING;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

const EVENTS: Events = Events::ARRIVED;

fn recursive() -> Options {
    Options { recursive: true, ..Options::default() }
}

fn since(time: SystemTime) -> Missed {
    Missed { since: Some(time), ..Missed::default() }
}

fn all() -> Missed {
    Missed::default()
}

impl Fixture {
    /// Catches up wholly, and returns what fired on the way.
    pub(super) fn caught_up(&mut self) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut paths = self.paths();
        while self.watch.progress().rules > 0 {
            assert!(Instant::now() < deadline, "it never ends: {:?}", self.watch);
            self.drain_work();
            paths.extend(self.paths());
        }
        paths.sort();
        paths
    }

    /// The time, when everything that has happened is so old that nobody takes it for new.
    fn later(&self) -> SystemTime {
        let file = self.path("clock");
        let long_ago = LONGEST_WRITING + CLOCK_SLACK * 3;
        fs::write(&file, "").unwrap();
        let start = fs::metadata(&file).unwrap().modified().unwrap();
        fs::remove_file(&file).unwrap();
        while SystemTime::now() < start + long_ago {
            std::thread::sleep(Duration::from_millis(5));
        }
        SystemTime::now() - CLOCK_SLACK
    }
}

#[test]
fn what_was_made_changed_replaced_or_moved_in_is_told_once() {
    let mut f = Fixture::new();
    f.mkdir("t/a/b");
    f.mkdir("out/old");
    for name in ["t/same", "t/a/same", "t/a/changed", "t/a/b/replaced", "out/in", "t/gone", "t/mode"] {
        f.write(name);
    }
    let time = f.later();
    f.write("t/made");
    f.write("t/a/changed");
    f.write("out/new");
    f.rename("out/new", "t/a/b/replaced");
    f.rename("out/in", "t/a/in");
    f.mkdir("t/new/dir");
    f.write("t/new/dir/made");
    fs::hard_link(f.path("t/made"), f.path("t/new/linked")).unwrap();
    fs::remove_file(f.path("t/gone")).unwrap();
    f.rule_that_missed("t", EVENTS, recursive(), since(time));
    let expected = ["t/a/b/replaced", "t/a/changed", "t/a/in", "t/made", "t/new/dir/made", "t/new/linked"];
    assert_eq!(f.caught_up(), expected);
    assert_eq!(f.watch.take_caught_up(), [RuleId(1)]);
    f.write("t/a/b/c");
    assert_eq!(f.paths(), ["t/a/b/c"]);
    // Whoever sets the time of the content back changes nothing but the time of the file.
    let time = f.later();
    let old = fs::File::options().write(true).open(f.path("t/same")).unwrap();
    old.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    drop(old);
    f.rule_that_missed("t", Events::CLOSE_WRITE, recursive(), since(time));
    f.watch.detach(RuleId(1));
    assert_eq!(f.caught_up(), ["t/same"]);
}

#[test]
fn everything_that_is_there_is_told_when_it_is_wanted() {
    let mut f = Fixture::new();
    f.mkdir("t/a/b");
    for name in ["t/1", "t/2", "t/3", "t/4", "t/a/5", "t/a/b/6"] {
        f.write(name);
    }
    f.later();
    f.rule_that_missed("t", EVENTS, recursive(), all());
    f.rule_that_missed("t/a", Events::MOVED_TO, Options::default(), all());
    f.rule_that_missed("t/1", Events::CLOSE_WRITE, Options::default(), all());
    f.rule("t/2", Events::CLOSE_WRITE);
    let expected = ["t/1", "t/1", "t/2", "t/3", "t/4", "t/a/5", "t/a/5", "t/a/b/6"];
    assert_eq!(f.caught_up(), expected);
}

#[test]
fn what_records_tell_meanwhile_is_not_told_again() {
    let mut f = Fixture::new();
    f.mkdir("t/a");
    f.write("t/a/1");
    f.rule_that_missed("t", EVENTS, recursive(), all());
    f.write("t/a/1");
    f.write("t/a/2");
    let told = f.paths();
    assert_eq!(told, ["t/a/1", "t/a/2"]);
    // What changes a file after that, and is no event, does not make it new.
    fs::set_permissions(f.path("t/a/1"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(f.caught_up(), [""; 0]);
}

#[test]
fn what_an_earlier_daemon_has_told_after_the_last_change_is_not_told_again() {
    let mut f = Fixture::new();
    f.mkdir("t");
    for name in ["t/told", "t/changed", "t/made"] {
        f.write(name);
    }
    let changed = |name: &str| {
        let meta = fs::metadata(f.path(name)).unwrap();
        let nanos = u32::try_from(meta.ctime_nsec()).unwrap();
        SystemTime::UNIX_EPOCH + Duration::new(meta.ctime().unsigned_abs(), nanos)
    };
    let path = |name: &str| Rc::from(f.path(name).as_os_str().as_bytes());
    let told = [
        (path("t/told"), (changed("t/told"), EVENTS)),
        (path("t/changed"), (changed("t/changed") - Duration::from_nanos(1), EVENTS)),
        (path("t/made"), (changed("t/made"), Events::CREATE)),
    ];
    let missed = Missed { since: Some(SystemTime::UNIX_EPOCH), told: told.into(), ..Missed::default() };
    f.rule_that_missed("t", EVENTS.with(Events::CREATE), Options::default(), missed);
    assert_eq!(f.caught_up(), ["t/changed", "t/made"]);
}

#[test]
fn a_directory_that_was_moved_in_brings_its_files_along() {
    let mut f = Fixture::new();
    f.mkdir("t/a/b");
    f.mkdir("out/x/deep");
    for name in ["t/a/1", "t/a/b/2", "out/x/3", "out/x/deep/4"] {
        f.write(name);
    }
    let before = f.recursive("t", EVENTS);
    f.fired();
    let directories = Some(Rc::new(f.watch.directories_of(before)));
    f.watch.detach(before);
    let time = f.later();
    f.rename("out/x", "t/a/b/x");
    f.rename("t/a", "t/A");
    fs::set_permissions(f.path("t/A/b"), fs::Permissions::from_mode(0o700)).unwrap();
    let missed = Missed { since: Some(time), directories, ..Missed::default() };
    f.rule_that_missed("t", EVENTS, recursive(), missed);
    assert_eq!(f.caught_up(), ["t/A/b/x/3", "t/A/b/x/deep/4"]);
}

#[test]
fn the_end_of_a_writer_is_not_missed_who_wrote_just_before() {
    let mut f = Fixture::new();
    f.mkdir("t");
    f.write("t/old");
    f.later();
    f.write("t/closed");
    f.write("t/told");
    fs::set_permissions(f.path("t/old"), fs::Permissions::from_mode(0o600)).unwrap();
    let time = SystemTime::now() + CLOCK_SLACK * 3;
    let told = [(Rc::from(f.path("t/told").as_os_str().as_bytes()), (SystemTime::now(), EVENTS))];
    let missed = Missed { since: Some(time), told: told.into(), ..Missed::default() };
    f.rule_that_missed("t", EVENTS, Options::default(), missed.clone());
    assert_eq!(f.caught_up(), ["t/closed"]);
    // A rule that was not watched yet when it wrote knows nothing of it.
    let missed = Missed { begun: Some(SystemTime::now()), ..missed };
    f.rule_that_missed("t", EVENTS, Options::default(), missed);
    assert_eq!(f.caught_up(), [""; 0]);
}

#[test]
fn a_rule_without_room_waits() {
    let mut f = Fixture::new();
    f.mkdir("t");
    f.mkdir("u");
    (0..20).for_each(|n| f.write(&format!("t/{n}")));
    f.write("u/1");
    let full = f.rule_that_missed("t", EVENTS, Options::default(), all());
    f.rule_that_missed("u", EVENTS, Options::default(), all());
    let room = |id: RuleId| usize::from(id != full);
    let mut paths = f.paths();
    while f.watch.has_work(&room) {
        f.watch.work(&room);
        paths.extend(f.paths());
    }
    assert_eq!(paths, ["u/1"]);
    assert_eq!(f.caught_up().len(), 20);
}

#[test]
fn a_path_that_comes_later_catches_up_then() {
    let mut f = Fixture::new();
    f.mkdir("t");
    f.write("t/1");
    f.rename("t", "u");
    f.rule_that_missed("t", EVENTS, Options::default(), all());
    assert_eq!(f.caught_up(), [""; 0]);
    f.rename("u", "t");
    assert_eq!(f.paths(), ["t/1"]);
    assert_eq!(f.caught_up(), [""; 0]);
}
