//! Files and directories that are followed by their path.

use super::*;

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
fn the_end_of_a_file_that_was_moved_away_is_not_told() {
    let mut f = Fixture::new();
    f.write("conf");
    f.rule("conf", Events::DELETE_SELF);
    for is_read_between in [true, false] {
        f.rename("conf", "away");
        f.write("conf");
        if is_read_between {
            assert_eq!(f.fired(), []);
        }
        fs::remove_file(f.path("away")).unwrap();
        assert_eq!(f.fired(), []);
    }
    let both = f.rule("conf", Events::DELETE_SELF.with(Events::MOVE_SELF));
    f.rename("conf", "away");
    fs::remove_file(f.path("away")).unwrap();
    assert_eq!(f.fired(), one(both.0, "conf", "FAN_MOVE_SELF"));
    f.write("conf");
    assert_eq!(f.fired(), []);
    fs::remove_file(f.path("conf")).unwrap();
    assert_eq!(f.fired().len(), 2, "what is at PATH was deleted");
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
