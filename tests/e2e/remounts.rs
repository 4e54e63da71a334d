//! File systems that are unmounted and mounted again at once, and unmounted at once.

use crate::harness::{Actor, Daemon, Mount, Place, Volume, comes_true, on_each_kind, wait_for_state};
use nix::sys::signal::Signal;
use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

/// More than any record takes, however busy the machine is.
const LATE: Duration = Duration::from_secs(10);

const RULES: [&str; 2] = ["arrived", "written"];

/// What the daemon does while a file system is away.
#[derive(Clone, Copy, Debug, PartialEq)]
enum While {
    Running,
    Stopped,
}

fn start<'a>(place: &'a Place, top: &str) -> Daemon<'a> {
    place.conf(&format!(
        "{top} ARRIVED [recursive name=arrived] -\n{top} CLOSE_WRITE [recursive name=written] -\n"
    ));
    place.start_with(&["--history", "100000"])
}

/// What rules have told other than once, of those paths and all others.
fn not_told_once(place: &Place, paths: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for rule in RULES {
        let mut told: HashMap<String, usize> = paths.iter().map(|path| (path.clone(), 0)).collect();
        for path in place.paths_of(rule) {
            *told.entry(path).or_default() += 1;
        }
        let odd = told.into_iter().filter(|(_, times)| *times != 1);
        wrong.extend(odd.map(|(path, times)| format!("{rule}: {path} told {times} times")));
    }
    wrong.sort();
    wrong
}

/// Writes files all over a tree.
fn write_files(volume: &Volume, directories: usize, name: &str) -> Vec<String> {
    const FILES: usize = 20;
    let write = |number| {
        let dir = volume.path(&format!("data/{}", number * directories / FILES));
        fs::create_dir_all(&dir).unwrap();
        let path = format!("{dir}/{name}-{number}");
        fs::write(&path, "x").unwrap();
        path
    };
    (0..FILES).map(write).collect()
}

/// The file system is unmounted and mounted again in no time; files are written there at
/// once, and others when all that has been told.
fn mount_again(place: &Place, volume: &Volume, directories: usize, state: While) -> Vec<String> {
    const ROUNDS: usize = 5;
    let mut mount = volume.mount();
    for number in 0..directories {
        fs::create_dir_all(volume.path(&format!("data/{number}"))).unwrap();
    }
    let daemon = start(place, mount.at());
    let mut written = Vec::new();
    let mut wrong = Vec::new();
    for round in 0..ROUNDS {
        place.settle();
        if state == While::Stopped {
            daemon.signal(Signal::SIGSTOP);
        }
        mount.unmount_when_idle();
        mount = volume.mount();
        written.extend(write_files(volume, directories, &format!("{round}-at-once")));
        if state == While::Stopped {
            daemon.signal(Signal::SIGCONT);
        }
        comes_true(LATE, || not_told_once(place, &written).is_empty());
        written.extend(write_files(volume, directories, &format!("{round}-later")));
        comes_true(LATE, || not_told_once(place, &written).is_empty());
        place.settle();
        wrong = not_told_once(place, &written);
        if !wrong.is_empty() {
            wrong.insert(0, format!("round {round} of {ROUNDS}: {}", place.rule("written")));
            break;
        }
    }
    drop(daemon);
    drop(mount);
    wrong
}

#[test]
fn a_small_tree_mounted_again_at_once_is_watched() {
    on_each_kind(|place, volume| mount_again(place, volume, 20, While::Running));
}

#[test]
fn a_small_tree_mounted_again_while_the_daemon_is_stopped_is_watched() {
    on_each_kind(|place, volume| mount_again(place, volume, 20, While::Stopped));
}

#[test]
fn a_large_tree_mounted_again_at_once_is_watched() {
    on_each_kind(|place, volume| mount_again(place, volume, 4000, While::Running));
}

#[test]
fn a_large_tree_mounted_again_while_the_daemon_is_stopped_is_watched() {
    on_each_kind(|place, volume| mount_again(place, volume, 4000, While::Stopped));
}

/// Whoever fills new directories and unmounts at once never finds the daemon there.
#[test]
fn what_is_looked_at_can_be_unmounted_at_once() {
    const ROUNDS: usize = 20;
    on_each_kind(|place, volume| {
        let top = volume.path("data");
        fs::create_dir_all(volume.path("")).unwrap();
        let daemon = start(place, &top);
        let mut wrong = Vec::new();
        for round in 0..ROUNDS {
            let mount: Mount = volume.mount();
            let dir = format!("{top}/{round}");
            fs::create_dir_all(&dir).unwrap();
            wait_for_state(place, "written", "active");
            place.settle();
            let said = Actor::start(&["leave", mount.at(), &dir, "20"]).finish();
            let started = Instant::now();
            if said == ["unmounted"] {
                mount.forget();
            } else {
                mount.unmount_when_idle();
                wrong.push(format!("round {round}: {said:?}, for {:?}", started.elapsed()));
            }
            wait_for_state(place, "written", "waiting");
        }
        drop(daemon);
        wrong
    });
}
