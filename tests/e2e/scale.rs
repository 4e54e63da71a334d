//! Large trees and busy file systems: what they cost.
//!
//! Times are the best of three: others have the processors, too. Debug builds are
//! told apart, for what they take says nothing.

use crate::harness::{Mount, Place, cpu_time, memory, report, wait_until_idle};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const DIRECTORIES: u32 = 100_000;
const OPERATIONS: u32 = 200_000;

/// How much slower code is that was not optimized.
const SLOWNESS: u32 = if cfg!(debug_assertions) { 12 } else { 1 };

/// What others on the machine may make of a time, at worst.
const NOISE: u32 = 4;

/// What is measured is measured alone, as far as these tests go.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn make_directories(top: &str) {
    for number in 0..DIRECTORIES {
        fs::create_dir_all(format!("{top}/{}/{number}", number % 1000)).unwrap();
    }
}

/// The time until a recursive rule is watched; the rule is removed again.
fn time_of_rule(place: &Place, top: &str, strategy: &str) -> Duration {
    let started = Instant::now();
    place.ctl_ok(&["add", "-o", "recursive name=large", top, "CLOSE_WRITE", "-"]);
    let time = started.elapsed();
    let shown = place.ctl_ok(&["show", "large"]);
    assert!(shown.contains(strategy), "{shown}");
    place.ctl_ok(&["remove", "large"]);
    time
}

/// The time until inotifywait watches a tree.
fn time_of_inotifywait(top: &str) -> Duration {
    let started = Instant::now();
    let mut child = Command::new("inotifywait")
        .args(["--monitor", "--recursive", "--event", "close_write", top])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let ready = lines.map(Result::unwrap).find(|line| line.contains("Watches established"));
    let time = started.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ready.is_some(), "see fs.inotify.max_user_watches");
    time
}

fn best(measure: impl FnMut(u32) -> Duration) -> Duration {
    (0..3).map(measure).min().unwrap()
}

/// Overlays take no mark on the file system.
#[test]
fn a_hundred_thousand_directories_with_a_mark_each() {
    let _alone = alone();
    let place = Place::new();
    let tmpfs = Mount::of_type("tmpfs", "size=1g", &place.path("tmpfs"));
    make_directories(&format!("{}/lower/tree", tmpfs.at()));
    let at = |name: &str| format!("{}/{name}", tmpfs.at());
    let mount = Mount::overlay(&at("lower"), &at("upper"), &place.path("overlay"));
    let top = format!("{}/tree", mount.at());
    let daemon = place.start();
    let (mut ours, mut theirs) = (Duration::MAX, Duration::MAX);
    for _ in 0..3 {
        theirs = theirs.min(time_of_inotifywait(&top));
        ours = ours.min(time_of_rule(&place, &top, "one mark a directory"));
    }
    report(&format!("{DIRECTORIES} directories: ready in {ours:?}, inotifywait in {theirs:?}"));
    assert!(ours < theirs * 13 / 10 * SLOWNESS * NOISE / 2, "{ours:?}, inotifywait {theirs:?}");
    drop(daemon);
    check_memory(&place, &top, "one mark a directory");
}

#[test]
fn a_hundred_thousand_directories_with_a_mark_on_the_file_system() {
    let _alone = alone();
    let place = Place::new();
    let tmpfs = Mount::of_type("tmpfs", "size=1g", &place.path("tmpfs"));
    let image = format!("{}/image", tmpfs.at());
    File::create(&image).unwrap().set_len(512 << 20).unwrap();
    crate::harness::run(&["mkfs.ext4", "-q", "-O", "inline_data", "-N", "120000", &image]);
    let mount = Mount::of_image(&image, "rw", &place.path("ext4"));
    let top = format!("{}/tree", mount.at());
    make_directories(&top);
    {
        let _daemon = place.start();
        let time = best(|_| time_of_rule(&place, &top, "one mark on the file system"));
        report(&format!("{DIRECTORIES} directories: ready in {time:?} with a mark on the file system"));
        assert!(time < Duration::from_millis(50) * SLOWNESS * NOISE, "{time:?}");
    }
    check_memory(&place, &top, "one mark on the file system");
    unrelated_operations(&place, mount.at(), &top);
}

fn check_memory(place: &Place, top: &str, strategy: &str) {
    let daemon = place.start();
    let before = memory(daemon.pid());
    place.ctl_ok(&["add", "-o", "recursive name=large", top, "CLOSE_WRITE", "-"]);
    wait_until_idle(daemon.pid());
    let bytes = (memory(daemon.pid()) - before) / u64::from(DIRECTORIES);
    report(&format!("{bytes} bytes a directory, {strategy}"));
    assert!(bytes <= 215, "{bytes} bytes a directory");
    place.ctl_ok(&["remove", "large"]);
}

/// Writes elsewhere on a file system with a mark cost little, and a narrow rule
/// misses nothing meanwhile.
fn unrelated_operations(place: &Place, file_system: &str, top: &str) {
    const WRITES: u32 = 200;
    let daemon = place.start();
    place.ctl_ok(&["add", "-o", "recursive include=*.narrow name=narrow", top, "CLOSE_WRITE", "-"]);
    let elsewhere: Vec<_> = (0..20).map(|number| format!("{file_system}/elsewhere/{number}")).collect();
    for dir in &elsewhere {
        fs::create_dir_all(dir).unwrap();
    }
    place.settle();
    wait_until_idle(daemon.pid());
    let (read, before) = (place.status()["events"]["read"].as_u64().unwrap(), cpu_time(daemon.pid()));
    for number in 0..OPERATIONS {
        let dir = &elsewhere[number as usize % elsewhere.len()];
        File::create(format!("{dir}/{}", number / 20 % 50)).unwrap();
        if number % (OPERATIONS / WRITES) == 0 {
            fs::write(format!("{top}/{}/{number}.narrow", number % 1000), "x").unwrap();
        }
    }
    assert_eq!(place.settle_fired("narrow", u64::from(WRITES)), u64::from(WRITES));
    let time = cpu_time(daemon.pid()).abs_diff(before);
    let read = place.status()["events"]["read"].as_u64().unwrap() - read;
    report(&format!("{OPERATIONS} unrelated writes: {read} events read in {time:?}"));
    assert!(time < Duration::from_micros(1) * OPERATIONS * SLOWNESS, "{time:?}");
}
