//! A watch that goes on where an earlier one has ended: with its groups, and with what has
//! happened in between.

use super::*;

const FILES: Events = Events::CLOSE_WRITE.with(Events::DELETE).with(Events::MOVED_TO);

fn told(rule: u64, paths: &[(&str, &str)]) -> Vec<(u64, String, String)> {
    paths.iter().map(|(path, events)| (rule, (*path).to_owned(), (*events).to_owned())).collect()
}

#[test]
fn what_happens_in_between_is_told_once_and_in_order() {
    let mut f = Fixture::new();
    f.mkdir("t/sub");
    f.write("t/before");
    f.recursive("t", FILES);
    f.write("t/first");
    assert_eq!(f.paths(), ["t/first"]);
    for _ in 0..3 {
        f.restart(|f| {
            f.write("t/sub/made");
            f.rename("t/sub/made", "t/moved");
            fs::remove_file(f.path("t/moved")).unwrap();
            f.write("t/before");
        });
        f.recursive("t", FILES);
        f.write("t/sub/later");
        let expected = [
            ("t/sub/made", "FAN_CLOSE_WRITE"),
            ("t/moved", "FAN_MOVED_TO"),
            ("t/moved", "FAN_DELETE"),
            ("t/before", "FAN_CLOSE_WRITE"),
            ("t/sub/later", "FAN_CLOSE_WRITE"),
        ];
        assert_eq!(f.fired(), told(1, &expected));
        assert_eq!(f.fired(), []);
    }
}

#[test]
fn a_directory_that_is_gone_by_then_has_its_events() {
    let mut f = Fixture::new();
    f.mkdir("t/a/b/c");
    f.mkdir("t/out");
    f.mkdir("elsewhere");
    f.write("t/a/b/c/old");
    f.recursive("t", FILES);
    f.restart(|f| {
        f.write("t/a/b/c/new");
        fs::remove_dir_all(f.path("t/a")).unwrap();
        f.mkdir("t/a/b");
        f.write("t/out/new");
        f.rename("t/out", "elsewhere/out");
    });
    f.recursive("t", FILES);
    let mut fired = f.fired();
    fired.sort();
    let expected = [
        // The kernel has merged them.
        ("t/a/b/c/new", "FAN_CLOSE_WRITE|FAN_DELETE"),
        ("t/a/b/c/old", "FAN_DELETE"),
        ("t/out/new", "FAN_CLOSE_WRITE"),
    ];
    assert_eq!(fired, told(1, &expected));
    f.write("t/a/b/again");
    assert_eq!(f.paths(), ["t/a/b/again"]);
}

#[test]
fn a_directory_that_came_is_told_with_its_content_once() {
    let mut f = Fixture::new();
    f.mkdir("t/known");
    f.mkdir("elsewhere/moved/in");
    f.write("elsewhere/moved/in/file");
    f.write("t/known/old");
    f.recursive("t", FILES);
    f.restart(|f| {
        // Another one had this name before.
        f.mkdir("t/new");
        f.write("t/new/5");
        fs::remove_dir_all(f.path("t/new")).unwrap();
        f.mkdir("t/new/below");
        f.write("t/new/below/one");
        for n in 0..700 {
            f.write(&format!("t/new/{n}"));
        }
        f.rename("elsewhere/moved", "t/moved");
        f.rename("t/known", "t/renamed");
    });
    f.recursive("t", FILES);
    f.write("t/new/below/two");
    f.write("t/new/5");
    f.write("t/moved/in/other");
    let mut expected: Vec<_> = (0..700).map(|n| format!("t/new/{n}")).collect();
    let others = ["t/new/below/one", "t/new/below/two", "t/moved/in/file", "t/moved/in/other"];
    expected.extend(others.map(str::to_owned));
    expected.sort();
    assert_eq!(f.paths(), expected);
    assert_eq!(f.fired(), []);
}

#[test]
fn rules_that_changed_in_between() {
    let mut f = Fixture::new();
    for name in ["kept/sub", "gone/sub", "new/sub"] {
        f.mkdir(name);
        f.write(&format!("{name}/old"));
    }
    f.recursive("kept", FILES.with(Events::ATTRIB));
    f.recursive("gone", FILES);
    f.restart(|f| {
        for name in ["kept", "gone", "new"] {
            f.write(&format!("{name}/sub/file"));
        }
    });
    f.recursive("kept", FILES);
    f.recursive("new", FILES);
    assert_eq!(f.fired(), one(1, "kept/sub/file", "FAN_CLOSE_WRITE"));
    let group = f.watch.marks.groups().old().next().unwrap();
    let marks: Vec<_> = group.marks().unwrap().collect();
    assert_eq!(marks.len() as u64, f.watch.marks(), "marks that no rule needs are left: {marks:?}");
    let attrib = Events::ATTRIB.mask();
    assert!(marks.iter().all(|mark| mark.mask & attrib == 0), "{marks:?}");
    f.write("new/sub/file");
    assert_eq!(f.paths(), ["new/sub/file"]);
}

#[test]
fn the_end_of_what_was_at_a_path() {
    let mut f = Fixture::new();
    f.mkdir("t/dir");
    f.write("t/file");
    let rules = |f: &mut Fixture| {
        f.rule("t/file", Events::DELETE_SELF);
        f.rule("t/dir", Events::DELETE_SELF.with(Events::DELETE).with(Events::ONDIR));
    };
    f.write("t/dir/x");
    rules(&mut f);
    f.restart(|f| {
        fs::remove_file(f.path("t/file")).unwrap();
        f.write("t/file");
        fs::remove_dir_all(f.path("t/dir")).unwrap();
        f.mkdir("t/dir");
    });
    rules(&mut f);
    let mut fired = f.fired();
    fired.sort();
    let mut expected = one(1, "t/file", "FAN_DELETE_SELF");
    expected.extend(told(2, &[("t/dir", "FAN_DELETE_SELF|FAN_ONDIR")]));
    fired.retain(|(_, path, _)| path != "t/dir/x");
    assert_eq!(fired, expected);
}

#[test]
#[cfg_attr(not(feature = "root-tests"), ignore = "needs root")]
fn a_group_of_another_kind_is_not_taken_back() {
    use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags};
    let flags = InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_NONBLOCK;
    let group = Fanotify::init(flags, EventFFlags::O_RDONLY).unwrap();
    let fd = group.as_fd().try_clone_to_owned().unwrap();
    for (name, fd) in [
        ("facron-group-1-0", fd),
        ("facron-group-9-0", open(DescriptorStore::default()).1.borrow_mut().remove(0).1),
        ("facron-other", fs::File::open("/dev/null").unwrap().into()),
    ] {
        let store = DescriptorStore::of(vec![(name.to_owned(), fd)]);
        store.kept.borrow_mut().push((name.to_owned(), fs::File::open("/dev/null").unwrap().into()));
        let (watch, kept) = open(store);
        assert!(!watch.has_backlog(), "{name}");
        let names: Vec<_> = kept.borrow().iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names, ["facron-reads", "facron-group-1-0"]);
    }
}

/// The inode of a file has other names, and what happens to these changes its time, too.
#[test]
fn what_records_would_have_told_is_not_told_by_times() {
    let pending = |paths: &[PathBuf]| {
        let bytes = |path: &PathBuf| Rc::from(path.as_os_str().as_bytes());
        Some(Rc::new(paths.iter().map(bytes).collect()))
    };
    let mut f = Fixture::new();
    f.mkdir("t/sub");
    f.mkdir("stage");
    f.recursive("t", Events::ARRIVED);
    f.write("stage/0");
    fs::hard_link(f.path("stage/0"), f.path("t/sub/linked")).unwrap();
    assert_eq!(f.paths(), ["t/sub/linked"]);
    let of = [f.path("t/other"), f.path("t/sub")];
    let cases = [(pending(&[]), false), (pending(&of[..1]), false), (pending(&of), true), (None, true)];
    for (number, (pending, is_told)) in cases.into_iter().enumerate() {
        let since = Some(SystemTime::now() - CLOCK_SLACK);
        f.restart(|f| f.rename(&format!("stage/{number}"), &format!("stage/{}", number + 1)));
        let options = Options { recursive: true, ..Options::default() };
        f.rule_that_missed("t", Events::ARRIVED, options, Missed { since, pending, ..Missed::default() });
        let expected: &[&str] = if is_told { &["t/sub/linked"] } else { &[] };
        assert_eq!(f.caught_up(), expected, "case {number}");
    }
}

/// What an ended watch has read is told again as long as nobody has said that it is handled.
#[test]
fn what_was_read_and_not_handled_is_told_again() {
    let mut f = Fixture::new();
    f.mkdir("t");
    f.recursive("t", FILES);
    let drain = |f: &mut Fixture| -> Vec<_> {
        let mut hits = Vec::new();
        while f.watch.drain(&mut Nobody, &mut hits).unwrap() == Queue::More {}
        hits.iter().map(|hit| (f.shown(&hit.event.path), hit.repeated)).collect()
    };
    let list = |paths: &[(&str, bool)]| -> Vec<_> {
        paths.iter().map(|(path, is_repeated)| (format!("t/{path}"), *is_repeated)).collect()
    };
    f.write("handled");
    assert_eq!(f.paths(), [] as [&str; 0]);
    f.write("t/handled");
    assert_eq!(drain(&mut f), list(&[("handled", false)]));
    f.watch.on_handled(1, &|change| change <= 1);
    f.write("t/waits");
    assert_eq!(drain(&mut f), list(&[("waits", false)]));
    f.watch.on_handled(2, &|change| change <= 1);
    for _ in 0..2 {
        f.restart(|f| f.write("t/later"));
        f.recursive("t", FILES);
        let told = drain(&mut f);
        assert_eq!(told[..1], list(&[("waits", true)]));
        assert_eq!(told.last(), list(&[("later", false)]).last());
    }
    f.watch.on_handled(3, &|_| true);
    f.restart(|_| {});
    f.recursive("t", FILES);
    assert_eq!(drain(&mut f), []);
}

struct Everybody;

impl Whose for Everybody {
    fn is_own(&mut self, _: i32) -> bool {
        true
    }
}

#[test]
fn what_commands_of_the_earlier_process_caused_is_known_as_its_own() {
    let mut f = Fixture::new();
    f.mkdir("t");
    f.recursive("t", FILES);
    f.write("t/own");
    let mut hits = Vec::new();
    while f.watch.drain(&mut Everybody, &mut hits).unwrap() == Queue::More {}
    f.restart(|_| {});
    f.recursive("t", FILES);
    while f.watch.drain(&mut Nobody, &mut hits).unwrap() == Queue::More {}
    assert_eq!(hits.iter().map(|hit| hit.own).collect::<Vec<_>>(), [true, true]);
}
