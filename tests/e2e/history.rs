//! The history: conditions on its records, and clients that go on where they were.

use crate::harness::{Daemon, Place, STRANGER, as_stranger, code, err, report, wait_until, wait_until_idle};
use facron_tests::{Random, number_from};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// How long a client waits for a next record before it goes away.
const A_WHILE: Duration = Duration::from_millis(20);

/// A client that goes away and comes back.
#[derive(Default)]
struct Client {
    /// The paths of its records by their numbers.
    seen: BTreeMap<u64, String>,
}

impl Client {
    fn last(&self) -> u64 {
        self.seen.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    fn see(&mut self, record: &Value) {
        let (seq, path) = (record["seq"].as_u64().unwrap(), record["path"].as_str().unwrap().to_owned());
        assert!(seq > self.last(), "{seq} comes after {}: {record}", self.last());
        let state = record["outcome"]["state"].as_str().unwrap();
        assert!(!["pending", "running"].contains(&state), "{record}");
        self.seen.insert(seq, path);
    }

    /// Connects, goes on after the last record that it has seen, and leaves after some.
    fn visit(&mut self, place: &Place, limit: u64, notices: u64) {
        let mut rpc = place.rpc();
        let reply = rpc.call("tail", &json!({"after": self.last(), "limit": limit, "follow": true})).unwrap();
        assert!(reply.get("too_old").is_none(), "{reply}");
        reply["records"].as_array().unwrap().iter().for_each(|record| self.see(record));
        for _ in 0..notices {
            if !rpc.has_more(A_WHILE) {
                break;
            }
            let notice = rpc.receive().unwrap();
            assert_eq!(notice["method"], "record", "{notice}");
            self.see(&notice["params"]["record"]);
        }
    }

    /// How often it has seen a path.
    fn count(&self, path: &str) -> usize {
        self.seen.values().filter(|seen| *seen == path).count()
    }
}

#[test]
fn a_client_that_goes_away_and_comes_back_sees_each_record_once() {
    let place = Place::new();
    let dir = place.play("");
    // what ends late is before what ends at once
    place.conf(&format!(
        "{dir} CLOSE_WRITE [name=slow jobs=8] sleep 0.05\n\
         {dir} CLOSE_WRITE [name=quick] -\n"
    ));
    let _daemon = place.start();
    let seed = Random::seed();
    report(&format!("FACRON_TEST_SEED={seed}"));
    let (mut random, mut client) = (Random::of(seed), Client::default());
    let (rounds, mut paths) = (number_from("FACRON_TEST_ROUNDS", 30), Vec::new());
    for round in 0..rounds {
        for number in 0..12 {
            paths.push(place.write(&format!("{round}.{number}")));
        }
        client.visit(&place, random.below(20), random.below(40));
    }
    wait_until("all records", || {
        client.visit(&place, random.below(20), 100);
        let next = place.call("tail", &json!({"after": client.last(), "limit": 1}));
        next["records"] == json!([]) && client.seen.len() >= 2 * paths.len()
    });
    for path in &paths {
        assert_eq!(client.count(path), 2, "{path}");
    }
    let numbers: Vec<_> = client.seen.keys().copied().collect();
    assert_eq!(numbers, (1..=client.last()).collect::<Vec<_>>(), "a number is missing");
}

#[test]
fn a_record_waits_for_those_before_it_of_its_rule_only() {
    let place = Place::new();
    let (dir, gate) = (place.play(""), place.path("gate"));
    place.conf(&format!(
        "{dir} CLOSE_WRITE [name=slow] sh -c 'until [ -e {gate} ]; do sleep 0.01; done'\n\
         {dir} CLOSE_WRITE [name=quick] -\n"
    ));
    let _daemon = place.start();
    let path = place.write("file");
    wait_until("the record", || place.tail_of("quick").len() == 1);
    let after = |more: Value| {
        let mut params = json!({"after": 0});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let reply = place.call("tail", &params);
        let rule = |record: &Value| record["rule_name"].as_str().unwrap().to_owned();
        reply["records"].as_array().unwrap().iter().map(rule).collect::<Vec<_>>()
    };
    assert_eq!(after(json!({"rule": "quick"})), ["quick"]);
    assert_eq!(after(json!({"rule": "slow"})), [""; 0]);
    let is_first = place.tail_of("slow")[0]["seq"] == 1;
    assert_eq!(after(json!({})), if is_first { vec![] } else { vec!["quick"] });
    let mut rpc = place.rpc();
    rpc.call("tail", &json!({"after": 0, "limit": 0, "follow": true, "rule": "slow"})).unwrap();
    assert!(!rpc.has_more(A_WHILE));
    fs::write(&gate, "").unwrap();
    let notice = rpc.receive().unwrap();
    assert_eq!(notice["params"]["record"]["path"], path);
    assert_eq!(notice["params"]["record"]["outcome"]["state"], "exited");
    assert_eq!(after(json!({})).len(), 2);
    assert_eq!(after(json!({"limit": 1})).len(), 1);
}

/// All records that the daemon has, a page after the other.
fn all_records(place: &Place) -> BTreeMap<u64, String> {
    let mut reader = Client::default();
    loop {
        let before = reader.last();
        reader.visit(place, 0, 0);
        let reply = place.call("tail", &json!({"after": before, "limit": 300}));
        reply["records"].as_array().unwrap().iter().for_each(|record| reader.see(record));
        if reader.last() == before {
            return reader.seen;
        }
    }
}

/// Makes files and lets a client come and go, the daemon too, as it is told.
fn over_restarts(end: impl Fn(Daemon<'_>)) {
    let place = Place::new();
    let dir = place.play("");
    place.conf(&format!("{dir} CLOSE_WRITE [name=a] -\n{dir} CLOSE_WRITE [name=b] -\n"));
    let mut daemon = place.start();
    let seed = Random::seed();
    report(&format!("FACRON_TEST_SEED={seed}"));
    let (mut random, mut client) = (Random::of(seed), Client::default());
    let mut count = 0;
    for round in 0..number_from("FACRON_TEST_ROUNDS", 30) {
        for number in 0..50 {
            place.write(&format!("{round}.{number}"));
        }
        client.visit(&place, 0, random.below(80));
        if round % 4 == 3 {
            // It ends while the client is told of what has just happened.
            client.visit(&place, 0, u64::MAX);
            for number in 0..50 {
                place.write(&format!("{round}.last.{number}"));
            }
            client.visit(&place, 0, 100);
            end(daemon);
            daemon = place.start();
            count += 1;
        }
    }
    place.settle();
    let mut all = BTreeMap::new();
    wait_until("all records", || {
        client.visit(&place, 0, 5000);
        all = all_records(&place);
        all.last_key_value().map(|(seq, _)| *seq) == Some(client.last())
    });
    assert!(all.len() > 2000, "{}", all.len());
    let (missing, doubled): (Vec<_>, Vec<_>) = (
        all.iter().filter(|(seq, path)| client.seen.get(seq) != Some(path)).collect(),
        client.seen.iter().filter(|(seq, _)| !all.contains_key(seq)).collect(),
    );
    assert!(missing.is_empty() && doubled.is_empty(), "missing {missing:?}; not in the history {doubled:?}");
    report(&format!("{} records, {count} restarts", all.len()));
    drop(daemon);
}

#[test]
fn a_client_sees_each_record_once_over_stops_of_the_daemon() {
    over_restarts(|daemon| assert!(daemon.stop().success()));
}

#[test]
fn a_client_sees_each_record_once_over_kills_of_the_daemon() {
    over_restarts(|daemon: Daemon<'_>| daemon.kill());
}

#[test]
fn a_client_learns_that_the_history_does_not_reach_back() {
    let place = Place::new();
    place.conf(&format!("{} CLOSE_WRITE [name=rule] -\n", place.play("")));
    let options = ["--history", "100"];
    let daemon = place.start_with(&options);
    for number in 0..1500 {
        place.write(&number.to_string());
    }
    wait_until("all records", || place.fired("rule") == 1500);
    let ask = |after: u64| place.call("tail", &json!({"after": after, "limit": 2}));
    let check = |daemon: &Daemon<'_>| {
        // The oldest ones are removed beside other work.
        wait_until_idle(daemon.pid());
        let oldest = ask(0)["oldest"].as_u64().unwrap();
        assert!((2..=1401).contains(&oldest), "{oldest}");
        assert_eq!(ask(0)["too_old"], true);
        assert_eq!(ask(0)["records"][0]["seq"], oldest);
        assert!(ask(oldest - 1).get("too_old").is_none());
        assert_eq!(ask(oldest)["records"][0]["seq"], oldest + 1);
        assert_eq!(ask(1499)["records"].as_array().unwrap().len(), 1);
        assert_eq!(place.ctl_ok(&["tail", "-n", "9999"]).lines().count(), 100);
        // of another machine's history
        assert_eq!(ask(1_000_000_000)["too_old"], true);
    };
    check(&daemon);
    daemon.stop();
    let daemon = place.start_with(&options);
    check(&daemon);
    assert!(ask(1500).get("too_old").is_none(), "nothing has come since");
}

#[test]
fn conditions_choose_records() {
    let place = Place::new();
    let dir = place.mkdir_for_all("dir");
    // with `exe=` also programs are known that have ended long ago
    place.conf(&format!(
        "{dir} CLOSE_WRITE|RENAME [name=root uid=root exe=!x] -\n\
         {dir} CLOSE_WRITE [name=stranger uid={STRANGER} exe=!x] -\n"
    ));
    let daemon = place.start();
    let file = place.write("dir/a.txt");
    fs::rename(&file, place.play("dir/b.md")).unwrap();
    let script = format!("echo > {dir}/stranger.txt");
    assert!(as_stranger("sh").args(["-c", &script]).status().unwrap().success());
    wait_until("all records", || place.fired("root") == 2 && place.fired("stranger") == 1);
    let time = |record: &Value| record["time"].as_str().unwrap().to_owned();
    let times = place.tail_of("root").iter().map(time).collect::<Vec<_>>();
    let count = |args: &[&str]| place.ctl_ok(&[&["tail"], args].concat()).lines().count();
    let user = STRANGER.to_string();
    let cases: &[(&[&str], usize)] = &[
        (&["--path", "*.txt"], 3),
        (&["--path", "b.*"], 1),
        (&["--path", &format!("{dir}/*.txt")], 3),
        (&["--path", "/srv/**"], 0),
        (&["--uid", "root"], 2),
        (&["--uid", &user], 1),
        (&["--uid", &user, "--path", "b.*"], 0),
        (&["--exe", "sh"], usize::from(fs::canonicalize("/bin/sh").unwrap().ends_with("sh"))),
        (&["--exe", "!/usr/**"], 2),
        (&["--since", "-1h"], 3),
        (&["--since", "tomorrow"], 0),
        (&["--until", "-1h"], 0),
        (&["--since", &times[1]], 2),
        (&["--until", &times[0]], 1),
        (&["--since", &times[0], "--until", &times[1], "-n", "1"], 1),
    ];
    let check = || cases.iter().for_each(|(args, expected)| assert_eq!(count(args), *expected, "{args:?}"));
    check();
    // from the disk
    let before = place.ctl_ok(&["tail", "--json"]);
    daemon.stop();
    let _daemon = place.start();
    check();
    assert_eq!(place.ctl_ok(&["tail", "--json"]), before);
    for (args, status, part) in [
        (["--since", "noon"], 2, "yesterday"),
        (["--uid", "no-such-user"], 2, "no-such-user"),
        (["--path", "["], 1, "path"),
        (["--exe", "bin/sh"], 1, "exe"),
    ] {
        let output = place.ctl(&[&["tail"], &args[..]].concat());
        assert_eq!(code(&output), status, "{args:?}");
        assert!(err(&output).contains(part), "{output:?}");
    }
}
