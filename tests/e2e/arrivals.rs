//! `ARRIVED` beside writers who do not wait for it.

use crate::harness::{Actor, FACROND, Place, Server, Volume, comes_true, is_alive, on_each_kind};
use facron_tests::Random;
use nix::sys::stat::{Mode, SFlag, mknod};
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{self, Command};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// More than any record takes, however busy the machine is.
const LATE: Duration = Duration::from_secs(10);

const FILES: u64 = 4000;

/// Makes files that nobody has open, which the daemon therefore looks at, and opens each
/// for writing again and again: during a look that makes the kernel send SIGIO.
fn break_leases(dir: &str) {
    for number in 0..FILES {
        let path = format!("{dir}/{number}");
        mknod(Path::new(&path), SFlag::S_IFREG, Mode::S_IRUSR, 0).unwrap();
        (0..10).for_each(|_| drop(File::options().write(true).open(&path).unwrap()));
    }
}

#[test]
fn writers_that_break_leases_end_no_daemon() {
    let place = Place::new();
    let (near, served) = (place.mkdir("near"), place.play("served"));
    let _server = Server::of(&place.mkdir("source"), &served);
    place.conf(&format!("{near} ARRIVED [name=near] -\n{served} ARRIVED [name=served] -\n"));
    let daemon = place.start();
    for (rule, dir) in [("near", &near), ("served", &served)] {
        break_leases(dir);
        assert!(is_alive(daemon.pid()), "the daemon has ended");
        place.settle();
        assert!(place.fired(rule) >= FILES);
    }
    assert!(!daemon.log().contains("does not answer"), "a worker has ended");
}

/// A file system with a directory, and rules for what happens there.
fn conf(place: &Place, volume: &Volume) -> String {
    let top = volume.path("top");
    fs::create_dir_all(&top).unwrap();
    place.conf(&format!(
        "{top} ARRIVED [recursive name=arrived] -\n{top} CLOSE_WRITE [recursive name=written] -\n"
    ));
    top
}

/// Files without a name are made, written, and given a name; some are closed later.
#[test]
fn files_that_get_their_names_late_arrive_once_under_them() {
    const FILES: usize = 50;
    on_each_kind(|place, volume| {
        let mount = volume.mount();
        let top = conf(place, volume);
        let daemon = place.start();
        let mut actor = Actor::start(&["tmpfiles", &top, &FILES.to_string()]);
        if actor.hear() == "unsupported" {
            return if volume.kind() == "bindfs" { Vec::new() } else { vec!["unsupported".to_owned()] };
        }
        // All are looked at while they are open.
        place.settle();
        actor.say("go on");
        assert_eq!(actor.finish(), ["closed"]);
        let names = ["at-once", "later"];
        let mut expected: Vec<_> = names
            .iter()
            .flat_map(|name| (0..FILES).map(move |index| format!("{name}-{index}")))
            .map(|name| format!("{top}/{name}"))
            .collect();
        expected.sort();
        comes_true(LATE, || place.paths_of("arrived") == expected);
        place.settle();
        let told = place.paths_of("arrived");
        let never = |path: &&String| path.contains("/#");
        let mut wrong: Vec<_> = expected
            .iter()
            .map(|path| (path, told.iter().filter(|told| *told == path).count()))
            .filter(|(_, times)| *times != 1)
            .map(|(path, times)| format!("{path} arrived {times} times"))
            .collect();
        for rule in ["arrived", "written"] {
            let paths = place.paths_of(rule);
            wrong.extend(paths.iter().filter(never).map(|path| format!("{rule}: there never was {path}")));
        }
        drop(daemon);
        drop(mount);
        wrong
    });
}

/// Writers who take their time: their files arrive once, and not before they are closed.
fn write_slowly(place: &Place, volume: &Volume, how: &str) -> Vec<String> {
    const WRITERS: usize = 3;
    const FILES: usize = 150;
    let top = conf(place, volume);
    // It looks at a file while the writer, on another processor, is still about to open it.
    let mut quick = Command::new("chrt");
    quick.args(["--rr", "1", "taskset", "--cpu-list", "1", FACROND]).args(place.options());
    let _daemon = place.start_as(quick);
    let mut told = place.follow("arrived");
    let seed = Random::seed();
    let mut random = Random::of(seed);
    let mut start =
        |_| Actor::start_on("0", &[how, &top, &random.below(u64::MAX).to_string(), &FILES.to_string()]);
    let writers: Vec<_> = (0..WRITERS).map(&mut start).collect();
    let mut arrived: HashMap<String, Vec<SystemTime>> = HashMap::new();
    let count = FILES * WRITERS;
    while arrived.len() < count
        && let Some(record) = told.next(LATE)
    {
        let path = record["path"].as_str().unwrap().to_owned();
        arrived.entry(path).or_default().push(SystemTime::now());
    }
    let closed: Vec<_> = writers.into_iter().flat_map(Actor::finish).collect();
    assert_eq!(closed.len(), count);
    place.settle();
    while let Some(record) = told.next(Duration::ZERO) {
        arrived.entry(record["path"].as_str().unwrap().to_owned()).or_default().push(SystemTime::now());
    }
    let mut wrong = Vec::new();
    for line in closed {
        let (time, path) = line.split_once(' ').unwrap();
        let closed = UNIX_EPOCH + Duration::from_nanos(time.parse().unwrap());
        let times = arrived.remove(path).unwrap_or_default();
        if times.len() != 1 {
            wrong.push(format!("{path} arrived {} times", times.len()));
        }
        if let Some(early) = times.first().and_then(|first| closed.duration_since(*first).ok()) {
            wrong.push(format!("{path} arrived {early:?} before it was closed"));
        }
    }
    if !wrong.is_empty() {
        wrong.insert(0, format!("seed {seed}"));
    }
    wrong.extend(arrived.into_keys().map(|path| format!("{path} arrived and was not written")));
    wrong
}

#[test]
fn files_still_being_written_in_new_directories_arrive_when_they_are_closed() {
    on_each_kind(|place, volume| {
        let _mount = volume.mount();
        write_slowly(place, volume, "slow-new")
    });
}

/// Each watch takes its time between the making of a name and the right to write.
#[test]
fn files_still_being_written_beside_hundreds_of_watches_arrive_when_they_are_closed() {
    const USERS: u32 = 4;
    const WATCHES: &str = "120";
    on_each_kind(|place, volume| {
        let _mount = volume.mount();
        let top = volume.path("top");
        fs::create_dir(&top).unwrap();
        let first = process::id() * USERS + 100_000;
        let watch = |user| Actor::start_as_user(place, first + user, &["watch", &top, WATCHES]);
        let mut watchers: Vec<_> = (0..USERS).map(watch).collect();
        for watcher in &mut watchers {
            assert_eq!(watcher.hear(), "watching");
        }
        write_slowly(place, volume, "slow")
    });
}
