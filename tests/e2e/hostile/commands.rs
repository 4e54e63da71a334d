//! Rules that run commands as the user himself, and what he does to those; and rules that
//! he gives more to run than there is room for.

use crate::harness::{Actor, Daemon, FACROND, Neighbour, Place, Watchdog, out, report, sh, wait_until};
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long an attack goes on.
const ATTACK: Duration = Duration::from_secs(4);

/// Users that each system has (games, news), and whose processes no other test has.
const STOPPER: u32 = 5;
const LEASER: u32 = 9;

/// A place with these rules and those of the neighbour, during the attack. The daemon has
/// further options.
fn attack(rules: impl Fn(&Place) -> String, options: &[&str], attack: impl FnOnce(&Place, &Daemon<'_>)) {
    let place = Place::new();
    let _watchdog = Watchdog::new();
    place.conf(&(rules(&place) + &Neighbour::line(&place)));
    let daemon = place.start_with(options);
    let neighbour = Neighbour::start(&place);
    attack(&place, &daemon);
    report(&neighbour.finish(&daemon));
}

/// The records of a rule that say this of their end.
fn that_say(place: &Place, rule: &str, text: &str) -> usize {
    let says = |record: &&Value| record["outcome"]["error"].as_str().is_some_and(|why| why.contains(text));
    place.tail_of(rule).iter().filter(says).count()
}

/// Waits until his rule runs its command as if nothing had happened.
fn wait_until_it_works(place: &Place) {
    let last = place.write("drop/last");
    wait_until("his rule to work again", || {
        let records = place.tail_of("his");
        records.last().is_some_and(|record| record["path"] == *last && record["outcome"]["exit"] == 0)
    });
}

#[test]
fn a_user_who_stops_all_his_processes_stops_no_others() {
    let rules = |place: &Place| {
        let (dir, kept) = (place.mkdir_for_all("drop"), place.write("kept"));
        fs::set_permissions(&kept, fs::Permissions::from_mode(0o666)).unwrap();
        format!(
            "{dir} FAN_CLOSE_WRITE [name=his user={STOPPER} output=null] /bin/true\n\
             {kept} FAN_OPEN_PERM [name=denies] /bin/false\n"
        )
    };
    attack(rules, &[], |place, _| {
        let (dir, millis) = (place.play("drop"), ATTACK.as_millis().to_string());
        let attacker = Actor::start_as_user(place, STOPPER, &["stop-all", &dir, &millis]);
        let started = Instant::now();
        while started.elapsed() < ATTACK {
            let denied = File::open(place.play("kept")).unwrap_err();
            assert_eq!(denied.raw_os_error(), Some(nix::libc::EPERM), "{:?}", started.elapsed());
            sleep(Duration::from_millis(50));
        }
        attacker.finish();
        let stopped = that_say(place, "his", "did not start within 1 s: a signal had stopped it");
        report(&format!("{stopped} commands were stopped before they began"));
        wait_until_it_works(place);
    });
}

#[test]
fn a_lease_on_a_program_holds_up_the_rule_that_runs_it() {
    let program = |place: &Place| place.play("his/program");
    let rules = |place: &Place| {
        let dir = place.mkdir_for_all("drop");
        place.mkdir_for_all("his");
        let program = program(place);
        assert!(Command::new("cp").args(["/bin/true", &program]).status().unwrap().success());
        chown(&program, Some(LEASER), Some(LEASER)).unwrap();
        format!("{dir} FAN_CLOSE_WRITE [name=his user={LEASER}] {program}\n")
    };
    attack(rules, &[], |place, _| {
        let mut attacker = Actor::start_as_user(place, LEASER, &["lease", &program(place)]);
        assert_eq!(attacker.hear(), "leased");
        (0..40).for_each(|number| drop(place.write(&format!("drop/{number}"))));
        let late = || that_say(place, "his", "did not start within 1 s: its program could not be opened");
        wait_until("those that cannot start to fail", || late() == 40);
        drop(attacker);
        wait_until_it_works(place);
    });
}

#[test]
fn a_flood_of_one_rule_leaves_room_for_the_others() {
    let rules = |place: &Place| {
        let dir = place.mkdir_for_all("drop");
        format!("{dir} FAN_CREATE [name=flooded jobs=1] sleep 3600\n")
    };
    attack(rules, &["--max-pending", "200"], |place, daemon| {
        let started = Instant::now();
        for number in 0.. {
            File::create(place.play(&format!("drop/{number}"))).unwrap();
            if number > 400 {
                sleep(Duration::from_millis(1));
            }
            if started.elapsed() > ATTACK {
                break;
            }
        }
        daemon.wait_for_log("events of this rule wait (--max-pending): more are dropped");
        let status = place.status();
        let pending = status["queue"]["pending"].as_u64().unwrap();
        assert!((90..=110).contains(&pending), "half of all: {status}");
        assert!(status["health"].as_str().unwrap().ends_with("most of rule flooded"), "{status}");
        assert_eq!(that_say(place, "neighbour", "waiting"), 0);
    });
}

#[test]
fn commands_that_never_end_leave_places_for_those_of_others() {
    let rules = |place: &Place| {
        let dir = place.mkdir_for_all("drop");
        format!("{dir} FAN_CREATE [name=hangs kill-after=100ms] cat $$\n")
    };
    attack(rules, &[], |place, _| {
        for number in 0..100 {
            let fifo = place.play(&format!("drop/{number}"));
            nix::unistd::mkfifo(&*fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        wait_until("the rule to run its share", || place.status()["queue"]["running"].as_u64() >= Some(32));
        sleep(ATTACK);
        let queue = &place.status()["queue"];
        assert!(queue["pending"].as_u64() >= Some(60), "{queue}");
    });
}

#[test]
fn what_lacks_descriptors_is_tried_again_and_holds_up_no_decision() {
    let place = Place::new();
    let _watchdog = Watchdog::new();
    let (asked, lock) = (place.write("asked"), place.path("lock"));
    let held = Flock::lock(File::create(&lock).unwrap(), FlockArg::LockExclusive).unwrap();
    place.conf(&format!(
        "{} FAN_CREATE [name=many] flock {lock} true\n{asked} FAN_OPEN_PERM [name=asks on-failure=deny] /bin/true\n",
        place.mkdir("many")
    ));
    let mut limited = Command::new("prlimit");
    limited.args(["--nofile=120:120", FACROND]).args(place.options()).args(["--max-jobs", "400"]);
    let _daemon = place.start_as(limited);
    (0..150).for_each(|number| drop(place.write(&format!("many/{number}"))));
    let is_told = || place.status()["health"].as_str().unwrap().contains("tried again");
    wait_until("commands to wait for descriptors", is_told);
    let opened = (0..5).try_for_each(|_| File::open(&asked).map(drop));
    assert!(opened.is_ok(), "{:?}", place.tail_of("asks"));
    drop(held);
    place.settle();
    let status = place.status();
    assert_eq!((&status["jobs"]["run"], &status["jobs"]["failed"]), (&150.into(), &0.into()), "{status}");
    assert_eq!(status["health"], "ok");
}

/// Where nobody has lowered it, commands get the limit that the daemon had.
#[test]
fn commands_have_the_limit_of_descriptors_that_the_daemon_was_started_with() {
    let place = Place::new();
    let file = place.path("limits");
    place.conf(&format!(
        "{} FAN_CREATE [output={file}] sh -c \"ulimit -Sn; ulimit -Hn\"\n",
        place.mkdir("in")
    ));
    let mut limited = Command::new("prlimit");
    limited.args(["--nofile=200:4000", FACROND]).args(place.options());
    let daemon = place.start_as(limited);
    place.write("in/file");
    place.settle();
    assert_eq!(fs::read_to_string(file).unwrap(), "200\n4000\n");
    let pid = daemon.pid().to_string();
    let options = ["--nofile", "--noheadings", "--output=SOFT,HARD", "--pid", &pid];
    let own = out(&Command::new("prlimit").args(options).output().unwrap());
    assert_eq!(own.split_whitespace().collect::<Vec<_>>(), ["4000", "4000"]);
}

#[test]
fn a_path_that_no_program_could_open_is_not_run() {
    let place = Place::new();
    let records = place.records("records");
    let dir = place.mkdir("in");
    place.conf(&format!("{dir} FAN_CLOSE_WRITE [name=deep recursive] {}\n", records.command("$$")));
    let _daemon = place.start();
    let name = "d".repeat(250);
    let levels =
        |count: u32| format!("for i in $(seq {count}); do mkdir {name}; cd -P {name}; done; : >file");
    sh(&format!("cd {dir}; {}; {}", levels(15), levels(2)));
    let is_told = |record: &Value| record["outcome"]["error"] == "path too long";
    wait_until("the long path to be told", || place.tail_of("deep").iter().any(is_told));
    let told = place.tail_of("deep");
    let told = told.iter().find(|record| is_told(record)).unwrap();
    let path = told["path"].as_str().unwrap();
    assert!(path.starts_with(&dir) && path.ends_with("...") && path.len() < 1100, "{path}");
    assert_eq!(
        (&told["outcome"]["state"], place.rule("deep")["failed"].as_u64()),
        (&"spawn_failed".into(), Some(1))
    );
    assert_eq!(records.wait(1).len(), 1, "the path above it is run");
}
