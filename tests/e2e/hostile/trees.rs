//! Trees of names, numbers and depths that the user chooses.

use crate::harness::{Actor, Daemon, Mount, Neighbour, Place, STRANGER, report, wait_until, wait_until_idle};
use crate::storms::Storm;
use std::thread;
use std::time::Duration;

/// How long an attack goes on, in milliseconds.
const ATTACK: &str = "3000";

/// A place with directories on a file system of its own, where every user may write.
struct Field<'a> {
    place: &'a Place,
    _mount: Mount,
    /// The directory of the rule.
    inside: String,
    outside: String,
}

impl<'a> Field<'a> {
    /// The rule is on `inside`, and has the name of its event.
    fn new(place: &'a Place, event: &str) -> Self {
        let mount = Mount::of_type("tmpfs", "size=512m,nr_inodes=1m,mode=777", &place.path("field"));
        let [inside, outside] = ["in", "out"].map(|name| format!("{}/{name}", mount.at()));
        for dir in [&inside, &outside] {
            std::fs::create_dir(dir).unwrap();
            crate::harness::give(dir);
        }
        let field = Self { place, _mount: mount, inside, outside };
        place.conf(&(field.rule(event) + &Neighbour::line(place)));
        field
    }

    fn rule(&self, event: &str) -> String {
        format!("{} {event} [recursive name={event}] -\n", self.inside)
    }

    /// Does this in a process of a user, beside the neighbour, until the daemon is at rest again.
    #[track_caller]
    fn attack(&self, daemon: &Daemon<'_>, args: &[&str]) -> Vec<String> {
        let neighbour = Neighbour::start(self.place);
        let args = [&["trees"], args].concat();
        let said = Actor::start_as_user(self.place, STRANGER, &args).finish();
        wait_until_idle(daemon.pid());
        report(&format!("{args:?} {said:?}: {}", neighbour.finish(daemon)));
        said
    }
}

#[test]
fn directories_moved_below_each_other_hold_nobody_up() {
    for order in ["below", "above"] {
        let place = Place::new();
        let field = Field::new(&place, "CLOSE_WRITE");
        let daemon = place.start();
        field.attack(&daemon, &[order, &field.inside, &field.outside, "40000"]);
        let marks = || place.status()["marks"]["inode"].as_u64().unwrap();
        wait_until("the marks to be gone", || marks() < 100);
    }
}

#[test]
fn a_large_tree_moved_in_and_out_holds_nobody_up() {
    let place = Place::new();
    let field = Field::new(&place, "ARRIVED");
    let daemon = place.start();
    field.attack(&daemon, &["moves", &field.inside, &field.outside, "20000", ATTACK]);
}

#[test]
fn a_wide_directory_moved_in_and_out_holds_nobody_up() {
    let place = Place::new();
    let field = Field::new(&place, "ARRIVED");
    let daemon = place.start();
    field.attack(&daemon, &["wide", &field.inside, &field.outside, "20000", ATTACK]);
}

#[test]
fn renames_above_new_directories_hold_nobody_up() {
    let place = Place::new();
    let field = Field::new(&place, "ARRIVED");
    let daemon = place.start();
    field.attack(&daemon, &["rename", &field.inside, "100", "500"]);
}

#[test]
fn names_that_have_one_hash_hold_nobody_up() {
    let place = Place::new();
    let field = Field::new(&place, "ARRIVED");
    let daemon = place.start();
    field.attack(&daemon, &["nodes", &field.inside, "5000"]);
    assert_eq!(place.fired("ARRIVED"), 5_000);
}

#[test]
fn paths_that_are_too_long_fail_and_need_little_memory() {
    const LEVELS: usize = 980;
    let place = Place::new();
    let field = Field::new(&place, "CLOSE_WRITE");
    let daemon = place.start_with(&["--history", "5000"]);
    field.attack(&daemon, &["long", &field.inside, &LEVELS.to_string(), "980"]);
    let records = place.tail_of("CLOSE_WRITE");
    let is_too_long = |record: &&serde_json::Value| record["outcome"]["error"] == "path too long";
    let too_long = records.iter().filter(is_too_long).count();
    let recorded = records.iter().filter(|record| record["outcome"]["state"] == "recorded").count();
    assert!(recorded >= 14 && recorded + too_long >= 500, "{recorded} recorded, {too_long} too long");
    assert!(records.iter().all(|record| record["path"].as_str().unwrap().len() < 4200));
}

/// Whatever a user does, others miss nothing, not even in a storm.
#[test]
fn storms_of_others_are_told_during_attacks() {
    let attacks: [&[&str]; 5] = [
        &["below", "10000"],
        &["moves", "20000", ATTACK],
        &["wide", "20000", ATTACK],
        &["rename", "100", "500"],
        &["nodes", "5000"],
    ];
    for attack in attacks {
        let place = Place::new();
        let field = Field::new(&place, "ARRIVED");
        let storm = Storm::new(&place.mkdir("storm"));
        place.conf(&(field.rule("ARRIVED") + &storm.rules()));
        let daemon = place.start();
        let takes_outside = !matches!(attack[0], "rename" | "nodes");
        let outside: &[&str] = if takes_outside { &[&field.outside] } else { &[] };
        let args = [&["trees", attack[0], &field.inside], outside, &attack[1..]].concat();
        thread::scope(|scope| {
            scope.spawn(|| Actor::start_as_user(&place, STRANGER, &args).finish());
            storm.run(&place, Duration::from_secs(4));
        });
        daemon.stop();
    }
}
