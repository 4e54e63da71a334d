//! Whole trees: whatever comes into them is told once, and nothing stays behind.

use crate::harness::{
    FACROND, Load, Mount, Place, STRANGER, as_stranger, descriptors, give, memory, run, sh, wait_until,
};
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

/// More directories than inode marks are taken for.
const LARGE: usize = 4200;

fn in_memory(place: &Place, name: &str) -> Mount {
    Mount::of_type("tmpfs", "size=512m", &place.path(name))
}

/// A tree with a mark a directory, on a file system of its own.
fn small_tree(place: &Place) -> (Mount, String) {
    let mount = in_memory(place, "small");
    let top = format!("{}/tree", mount.at());
    fs::create_dir(&top).unwrap();
    (mount, top)
}

/// A tree with one file system mark, on a file system of its own.
fn large_tree(place: &Place) -> (Mount, String) {
    let mount = in_memory(place, "large");
    let top = format!("{}/tree", mount.at());
    for number in 0..LARGE {
        fs::create_dir_all(format!("{top}/old/{}/{number}", number % 100)).unwrap();
    }
    (mount, top)
}

#[track_caller]
fn assert_filesystem_marks(place: &Place, expected: u64) {
    let status = place.status();
    assert_eq!(status["marks"]["filesystem"], expected, "{status}");
}

fn race(place: &Place, top: &str) {
    const ROUNDS: usize = 500;
    let script = format!(
        "for round in $(seq {ROUNDS}); do mkdir -p {top}/$0-$round/b/c && echo x > {top}/$0-$round/b/c/f; done"
    );
    let load = Load::start();
    let writers = ["one", "two"].map(|name| Command::new("sh").args(["-c", &script, name]).spawn().unwrap());
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    drop(load);
    let mut expected: Vec<_> = ["one", "two"]
        .iter()
        .flat_map(|name| (1..=ROUNDS).map(move |round| format!("{top}/{name}-{round}/b/c/f")))
        .collect();
    expected.sort();
    for rule in ["written", "arrived"] {
        place.settle_fired(rule, expected.len() as u64);
        assert_eq!(place.paths_of(rule), expected, "{rule}");
    }
}

fn rules_on(top: &str) -> String {
    format!("{top} CLOSE_WRITE [recursive name=written] -\n{top} ARRIVED [recursive name=arrived] -\n")
}

#[test]
fn files_in_directories_just_made_fire_once_with_a_mark_a_directory() {
    let place = Place::new();
    let top = place.mkdir("tree");
    place.conf(&rules_on(&top));
    let _daemon = place.start_with(&["--history", "10000"]);
    assert_filesystem_marks(&place, 0);
    race(&place, &top);
}

#[test]
fn files_in_directories_just_made_fire_once_with_a_mark_on_the_file_system() {
    let place = Place::new();
    let (_mount, top) = large_tree(&place);
    place.conf(&rules_on(&top));
    let _daemon = place.start_with(&["--history", "10000"]);
    assert_filesystem_marks(&place, 1);
    let shown = place.ctl_ok(&["show", "written"]);
    assert!(shown.contains("one mark on the file system"), "{shown}");
    race(&place, &top);
}

/// Directories, files in each, and an archive of them.
struct Archive {
    files: usize,
    tree: String,
    tar: String,
}

impl Archive {
    fn new(at: &str, directories: usize, files: usize) -> Self {
        let tree = format!("{at}/packed");
        for number in 0..directories {
            let dir = format!("{tree}/{}/{number}", number % 50);
            fs::create_dir_all(&dir).unwrap();
            (0..files).for_each(|file| fs::write(format!("{dir}/{file}"), "x").unwrap());
        }
        let tar = format!("{at}/packed.tar");
        run(&["tar", "-C", at, "-cf", &tar, "packed"]);
        Self { files: directories * files, tree, tar }
    }

    fn unpack(&self, at: &str) {
        run(&["tar", "-C", at, "-xf", &self.tar]);
    }
}

#[track_caller]
fn assert_each_once(place: &Place, archive: &Archive, at: &str) {
    for rule in ["written", "arrived"] {
        place.settle_fired(rule, archive.files as u64);
        let paths = place.paths_of(rule);
        let different: HashSet<_> = paths.iter().collect();
        assert_eq!((paths.len(), different.len()), (archive.files, archive.files), "{rule}");
        assert!(paths.iter().all(|path| path.starts_with(at)), "{rule}: {paths:?}");
        place.ctl_ok(&["remove", rule]);
    }
}

fn add_rules(place: &Place, top: &str) {
    for (name, events) in [("written", "CLOSE_WRITE"), ("arrived", "ARRIVED")] {
        place.ctl_ok(&["add", "-o", &format!("recursive name={name}"), top, events, "-"]);
    }
}

fn unpack_and_move(place: &Place, top: &str) {
    let _daemon = place.start_with(&["--history", "50000"]);
    let scratch = in_memory(place, "scratch");
    let archive = Archive::new(scratch.at(), 2_000, 10);
    add_rules(place, top);
    archive.unpack(top);
    assert_each_once(place, &archive, &format!("{top}/packed/"));
    fs::rename(format!("{top}/packed"), format!("{top}.outside")).unwrap();
    add_rules(place, top);
    run(&["mv", &format!("{top}.outside"), &format!("{top}/moved")]);
    assert_each_once(place, &archive, &format!("{top}/moved/"));
    // from another file system, which is a copy
    add_rules(place, top);
    run(&["mv", &archive.tree, &format!("{top}/copied")]);
    assert_each_once(place, &archive, &format!("{top}/copied/"));
}

#[test]
fn unpacked_and_moved_trees_fire_once_a_file_with_a_mark_a_directory() {
    let place = Place::new();
    let (_mount, top) = small_tree(&place);
    unpack_and_move(&place, &top);
}

#[test]
fn unpacked_and_moved_trees_fire_once_a_file_with_a_mark_on_the_file_system() {
    let place = Place::new();
    let (_mount, top) = large_tree(&place);
    unpack_and_move(&place, &top);
}

fn unpack_and_remove(place: &Place, top: &str) {
    const SLACK: u64 = 1 << 20;
    let scratch = in_memory(place, "scratch");
    let archive = Archive::new(scratch.at(), 2_000, 1);
    place.conf(&rules_on(top));
    let daemon = place.start();
    let (mut rounds, mut least, mut least_marks) = (Vec::new(), None, u64::MAX);
    for round in 1..=10 {
        archive.unpack(top);
        place.settle_fired("written", archive.files as u64 * round);
        run(&["rm", "-r", "--one-file-system", &format!("{top}/packed")]);
        place.settle();
        // connections that are closed take a moment to go
        let open = || descriptors(daemon.pid());
        let least = *least.get_or_insert_with(open);
        wait_until("descriptors to be closed", || open() <= least);
        // those of directories that are gone are forgotten in steps
        let marks = || place.status()["marks"]["inode"].as_u64().unwrap();
        wait_until("marks to be forgotten", || marks() <= least_marks);
        least_marks = least_marks.min(marks());
        rounds.push((least_marks, memory(daemon.pid())));
    }
    // the history and the cache of the store fill in the first
    let (fifth, tenth) = (rounds[4].1, rounds[9].1);
    assert!(tenth < fifth + SLACK, "{rounds:?}");
    assert_eq!(place.fired("arrived"), 10 * archive.files as u64);
}

#[test]
fn nothing_grows_when_a_tree_is_made_and_removed_ten_times() {
    let place = Place::new();
    let (_mount, top) = small_tree(&place);
    unpack_and_remove(&place, &top);
    let place = Place::new();
    let (_mount, top) = large_tree(&place);
    unpack_and_remove(&place, &top);
}

#[test]
fn links_in_a_tree_are_not_followed() {
    let place = Place::new();
    let (top, outside) = (place.mkdir("tree"), place.mkdir("outside/deep"));
    symlink(&outside, format!("{top}/before")).unwrap();
    symlink(&top, format!("{top}/round")).unwrap();
    place.conf(&format!("{top} CREATE|CLOSE_WRITE|ONDIR|EVENT_ON_CHILD [recursive name=all] -\n"));
    let _daemon = place.start();
    let marks = place.status()["marks"].clone();
    symlink(&outside, format!("{top}/after")).unwrap();
    for link in ["before", "after"] {
        fs::write(format!("{top}/{link}/f"), "x").unwrap();
    }
    place.settle();
    assert_eq!(place.paths_of("all"), [format!("{top}/after")]);
    assert_eq!(place.status()["marks"], marks);
}

#[test]
fn an_excluded_tree_is_neither_marked_nor_told() {
    let place = Place::new();
    let top = place.mkdir("tree");
    for number in 0..200 {
        place.mkdir(&format!("tree/node_modules/{number}"));
        place.mkdir(&format!("tree/src/.git/objects/{number}"));
    }
    let exclude = "exclude=node_modules exclude=.git";
    place.conf(&format!("{top} CREATE [recursive {exclude} type=file name=made] -\n"));
    let _daemon = place.start();
    let marks = || place.status()["marks"]["inode"].as_u64().unwrap();
    let before = marks();
    assert!(before < 50, "{before} marks");
    for number in 0..50 {
        place.mkdir(&format!("tree/new/node_modules/{number}"));
        place.write(&format!("tree/new/node_modules/{number}/f"));
        place.write(&format!("tree/src/.git/objects/{number}/f"));
    }
    place.write("tree/src/f");
    place.settle();
    assert_eq!(place.paths_of("made"), [format!("{top}/src/f")]);
    assert_eq!(marks(), before + 1, "of the new directory");
}

/// An ordinary user's daemon, with this limit of its own: that of the user namespace
/// around it.
fn as_user_with_marks(place: &Place, limit: usize) -> Command {
    give(&place.path(""));
    give(&place.play(""));
    let set_limit = format!("echo {limit} > /proc/sys/user/max_fanotify_marks && exec \"$@\"");
    let mut command = as_stranger("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", &set_limit, "sh"]);
    command.args(["unshare", "--user", &format!("--map-user={STRANGER}"), &place.for_all(FACROND)]);
    command.args(place.options());
    command
}

#[test]
fn an_ordinary_user_watches_trees_until_the_limit_of_marks() {
    let place = Place::new();
    let top = place.mkdir("tree");
    let daemon = place.start_as(as_user_with_marks(&place, 100));
    give(&top);
    let write = |range: &str| {
        let script =
            format!("for n in $(seq {range}); do mkdir -p {top}/$n/a && echo x > {top}/$n/a/f; done");
        assert!(as_stranger("sh").args(["-c", &script]).status().unwrap().success());
    };
    place.ctl_ok(&["add", "-o", "recursive name=tree", &top, "CLOSE_WRITE", "-"]);
    write("1 40");
    assert_eq!(place.settle_fired("tree", 40), 40);
    assert_eq!(place.rule("tree")["state"], "active");
    assert_filesystem_marks(&place, 0);
    write("41 60");
    daemon.wait_for_log("max_user_marks");
    let rule = place.rule("tree");
    assert!(
        rule["state"] == "failed" && rule["reason"].as_str().unwrap().contains("max_user_marks"),
        "{rule}"
    );
    assert_eq!(daemon.log().matches("cannot watch").count(), 1, "once, not for each directory");
    // what has a mark goes on
    let before = place.fired("tree");
    write("1 40");
    wait_until("what has a mark to fire", || place.fired("tree") >= before + 40);
    // and there is room again for who asks again
    sh(&format!("rm -r {top}/*"));
    wait_until("the marks to be gone", || place.status()["marks"]["inode"].as_u64().unwrap() < 20);
    place.ctl_ok(&["remove", "tree"]);
    place.ctl_ok(&["add", "-o", "recursive name=tree", &top, "CLOSE_WRITE", "-"]);
    assert_eq!(place.rule("tree")["state"], "active");
}
