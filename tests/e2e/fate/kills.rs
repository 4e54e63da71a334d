//! Whatever ends the daemon, each file gets its place once.

use super::{files, reason, write};
use crate::harness::{Daemon, Place, children, report, wait_until};
use facron_tests::{Random, number_from};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// Fails for each tenth file, and crashes for each hundredth.
const SCRIPT: &str = "n=${1##*-}; [ $((n % 100)) != 7 ] || kill -SEGV $$; [ $((n % 10)) != 3 ]";

/// The ways in which files come to a drop folder.
const WAYS: [&str; 5] = ["cp", "mv", "rsync", "rename", "link"];

fn way_of(number: u64) -> &'static str {
    WAYS[usize::try_from(number).unwrap() % WAYS.len()]
}

/// Brings some files by one of the ways, by the programs that people use.
fn bring(way: &str, outbox: &str, within: &str, numbers: &[u64]) {
    let names: Vec<_> = numbers.iter().map(|number| format!("file-{number}")).collect();
    let sources: Vec<_> = names.iter().map(|name| format!("{outbox}/{name}")).collect();
    for (source, number) in sources.iter().zip(numbers) {
        write(source, &format!("content of {number}\n"));
    }
    let run = |command: &[&str]| {
        let mut command_line = Command::new(command[0]);
        assert!(command_line.args(&command[1..]).args(&sources).arg(within).status().unwrap().success());
    };
    match way {
        "cp" => run(&["cp", "-p"]),
        // It complains when a file that has come is gone before it has looked at it.
        "mv" => {
            let _ = Command::new("mv").args(&sources).arg(within).stderr(Stdio::null()).status().unwrap();
            assert!(sources.iter().all(|source| !fs::exists(source).unwrap()));
        }
        "rsync" if Command::new("rsync").arg("--version").output().is_ok() => run(&["rsync", "-a"]),
        // What sftp-server(8) does for clients that know no other rename.
        "link" => by_temporary(&sources, within, &names, |from, to| {
            fs::hard_link(from, to).unwrap();
            fs::remove_file(from).unwrap();
        }),
        _ => by_temporary(&sources, within, &names, |from, to| fs::rename(from, to).unwrap()),
    }
}

fn by_temporary(sources: &[String], within: &str, names: &[String], publish: impl Fn(&str, &str)) {
    for (source, name) in sources.iter().zip(names) {
        let temporary = format!("{within}/.{name}.part");
        fs::copy(source, &temporary).unwrap();
        publish(&temporary, &format!("{within}/{name}"));
    }
}

/// Ends the daemon and all that it has started, as nobody should.
fn kill_all(daemon: Daemon<'_>) {
    let pids = children(daemon.pid());
    daemon.kill();
    for pid in pids {
        // Some end with the daemon.
        let killed = nix::sys::signal::killpg(Pid::from_raw(pid), Signal::SIGKILL);
        assert!(matches!(killed, Ok(()) | Err(Errno::ESRCH)), "{killed:?}");
    }
}

/// What is wrong with the places of these files, or with what is beside them.
fn wrongs(within: &str, done: &str, failed: &str, count: u64) -> Vec<String> {
    let (mut wrong, mut seen) = (Vec::new(), BTreeMap::<u64, u32>::new());
    let number = |name: &str| name.trim_start_matches("file-").split('.').next()?.parse::<u64>().ok();
    wrong.extend(files(within).into_keys().map(|name| format!("{name} is left")));
    for (dir, is_failed) in [(done, false), (failed, true)] {
        for (name, text) in files(dir) {
            if let Some(of) = name.strip_suffix(".facron") {
                if !fs::exists(format!("{dir}/{of}")).unwrap() {
                    wrong.push(format!("{name} is beside nothing"));
                }
                continue;
            }
            let Some(number) = number(&name) else {
                wrong.push(format!("{name} in {dir}"));
                continue;
            };
            *seen.entry(number).or_default() += 1;
            if text != format!("content of {number}\n") {
                wrong.push(format!("{name} has {text:?}"));
            }
            let fails = number % 10 == 3 || number % 100 == 7;
            // A command that was killed has failed, too.
            if fails && !is_failed {
                wrong.push(format!("{name} is in {dir}"));
            }
            if is_failed && reason(&format!("{dir}/{name}"))["rule_name"] != "drop" {
                wrong.push(format!("{name} has no reason"));
            }
        }
    }
    let once = (0..count).filter(|number| seen.get(number) != Some(&1));
    wrong.extend(
        once.map(|number| {
            format!("file-{number} ({}) is there {:?} times", way_of(number), seen.get(&number))
        }),
    );
    wrong
}

fn storm(place: &Place, count: u64, kills: u64, seed: u64) {
    let [within, done, failed] = [place.mkdir("in"), place.play("done"), place.play("failed")];
    let outbox = place.mkdir("outbox");
    place.conf(&format!(
        "{within} ARRIVED [name=drop exclude=.* done={done} failed={failed}] sh -c '{SCRIPT}' sh $$\n"
    ));
    let (mut random, began) = (Random::of(seed), Instant::now());
    let mut daemon = place.start();
    let bringing = thread::spawn({
        let within = within.clone();
        move || {
            for first in (0..count).step_by(50) {
                for way in WAYS {
                    let numbers: Vec<_> =
                        (first..count.min(first + 50)).filter(|number| way_of(*number) == way).collect();
                    bring(way, &outbox, &within, &numbers);
                }
            }
        }
    });
    for _ in 0..kills {
        sleep(Duration::from_millis(100 + random.below(400)));
        kill_all(daemon);
        daemon = place.start();
    }
    bringing.join().unwrap();
    place.settle();
    wait_until("all to have their places", || {
        files(&within).is_empty() || place.status()["queue"]["running"] == 0
    });
    let wrong = wrongs(&within, &done, &failed, count);
    let leftovers: BTreeSet<_> = [&within, &done, &failed]
        .iter()
        .flat_map(|dir| fs::read_dir(dir).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".facron-"))
        .collect();
    report(&format!("{count} files, {kills} kills, seed {seed}: {:?}", began.elapsed()));
    assert!(wrong.is_empty() && leftovers.is_empty(), "seed {seed}: {leftovers:?} {wrong:#?}");
}

/// `FACRON_FILES=10000 FACRON_KILLS=20` for the whole of it.
#[test]
fn each_file_gets_its_place_once_whatever_is_killed() {
    let (files, kills) = (number_from("FACRON_FILES", 600), number_from("FACRON_KILLS", 5));
    storm(&Place::new(), files, kills, number_from("FACRON_SEED", 1));
}
