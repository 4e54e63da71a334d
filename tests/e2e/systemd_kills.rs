//! SIGKILLs of the service, under a real systemd, which keeps the groups and what was read of them.
//! `FACRON_KILLS` and `FACRON_KILL_FILES` ask for more of them than CI has time for.

use crate::harness::{Machine, Place, report, wait_until};
use facron_tests::{Random, number_from};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::thread::{self, ScopedJoinHandle};

const CONF: &str = "/srv ARRIVED|DELETE [recursive name=all] \
                    sh -c 'echo \"$FACRON_PATH $FACRON_EVENTS $FACRON_REPEATED\" >> /run/seen'\n";

/// Makes three files a turn, each in another way, and removes some.
fn write(machine: &Machine, writer: usize, turns: u64) {
    let (srv, stage) = (format!("/srv/{writer}"), format!("/stage/{writer}"));
    machine.sh(&format!(
        "for n in $(seq {turns}); do \
           echo x > {srv}/written-$n; \
           echo x > {stage}-$n; ln {stage}-$n {srv}/linked-$n; mv {stage}-$n {srv}/moved-$n; \
           [ $((n % 3)) != 0 ] || rm {srv}/written-$n; \
         done"
    ));
}

/// The paths that writers make, and whether they remove them.
fn paths(turns: u64) -> impl Iterator<Item = (String, bool)> {
    let names = (1..=turns).flat_map(|n| ["written", "linked", "moved"].map(|name| (name, n)));
    let of =
        move |writer| move |(name, n)| (format!("/srv/{writer}/{name}-{n}"), name == "written" && n % 3 == 0);
    [1, 2].into_iter().flat_map(move |writer| names.clone().map(of(writer)))
}

/// The commands that have run for each path: their events, and whether they are marked.
fn runs(machine: &Machine) -> BTreeMap<String, Vec<(String, bool)>> {
    let mut runs: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in machine.sh("cat /run/seen").lines() {
        let [path, events, repeated] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        runs.entry(path.to_owned()).or_default().push((events.to_owned(), repeated == "1"));
    }
    runs
}

/// The events and paths of which `tail` knows a run without a failure.
fn concluded(machine: &Machine) -> BTreeSet<(String, String)> {
    let record = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        (record["outcome"]["exit"] == 0).then(|| (word(&record["path"]), word(&record["events"][0])))
    };
    let of = |writer: usize| {
        let glob = format!("/srv/{writer}/*");
        let output = machine.run(&["facronctl", "--json", "tail", "-n", "1000000", "--path", &glob]);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    [1, 2].map(of).iter().flat_map(|text| text.lines()).filter_map(record).collect()
}

/// Whether each of these events has a run without a mark at most, these are in their order, and the
/// last one comes last.
fn is_in_order(runs: &[(String, bool)], events: &[&str]) -> bool {
    let mut unmarked = runs.iter().filter(|(_, is_marked)| !is_marked).map(|(event, _)| event.as_str());
    let mut rest = events.iter();
    let has_all = events.iter().all(|event| runs.iter().any(|(other, _)| other == event));
    let last = runs.last().map(|(event, _)| event.as_str());
    has_all && unmarked.all(|event| rest.any(|other| *other == event)) && last == events.last().copied()
}

/// What a killed daemon had read, and the commands that ended with it, are not lost, and what
/// leaves no trace neither. What runs twice is marked.
#[test]
fn kills_at_any_moment_lose_nothing() {
    let (rounds, files) = (number_from("FACRON_KILLS", 15), number_from("FACRON_KILL_FILES", 1800));
    let place = Place::new();
    let machine = Machine::boot(&place, CONF);
    machine.sh("mkdir -p /srv/1 /srv/2 /stage /etc/systemd/system/facrond.service.d; touch /run/seen; \
                printf '[Unit]\\nStartLimitIntervalSec=0\\n[Service]\\nRestartSec=100ms\\n' \
                > /etc/systemd/system/facrond.service.d/soon.conf; \
                systemctl daemon-reload; systemctl start facrond");
    let turns = files / 6;
    let seen = || machine.sh("wc -l < /run/seen").trim().parse::<u64>().unwrap();
    let mut random = Random::of(Random::seed());
    let mut kills = 0;
    thread::scope(|scope| {
        let writers = [1, 2].map(|writer| {
            scope.spawn({
                let machine = &machine;
                move || write(machine, writer, turns)
            })
        });
        let are_over = || writers.iter().all(ScopedJoinHandle::is_finished);
        while kills < rounds || !are_over() {
            let enough = seen() + random.below(2 * files / rounds);
            wait_until("some events", || seen() >= enough || are_over());
            machine.sh("systemctl kill --kill-whom=main --signal=KILL facrond");
            wait_until("another daemon", || machine.status(&["facronctl", "status"]) == 0);
            kills += 1;
        }
    });
    wait_until("rest", || {
        machine.ok(&["facronctl", "--json", "status"]).contains(r#""pending":0,"running":0"#)
    });
    let (runs, concluded) = (runs(&machine), concluded(&machine));
    let mut wrong = Vec::new();
    for (path, is_removed) in paths(turns) {
        let events: &[&str] = if is_removed { &["ARRIVED", "FAN_DELETE"] } else { &["ARRIVED"] };
        let of = runs.get(&path).map(Vec::as_slice).unwrap_or_default();
        let are_concluded =
            events.iter().all(|event| concluded.contains(&(path.clone(), (*event).to_owned())));
        if !are_concluded || !is_in_order(of, events) {
            wrong.push((path, of, are_concluded));
        }
    }
    let some = &wrong[..wrong.len().min(50)];
    assert!(wrong.is_empty(), "{} of {kills} kills: {some:?}\n{}", wrong.len(), machine.journal());
    let (all, marked) = runs
        .values()
        .flatten()
        .fold((0, 0), |(all, marked), (_, is_marked)| (all + 1, marked + usize::from(*is_marked)));
    report(&format!("{kills} kills, {} files, {all} runs, {marked} of them marked as repeated", 6 * turns));
}
