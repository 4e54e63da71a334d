//! The service, under a real systemd.

use crate::harness::{Machine, Place, wait_until};
use std::time::{Duration, Instant};

const CONF: &str = "/srv CLOSE_WRITE [name=drop] touch /run/seen/$#\n";

fn machine(place: &Place, conf: &str) -> Machine {
    let machine = Machine::boot(place, conf);
    machine.sh("mkdir -p /srv /run/seen");
    machine.ok(&["systemctl", "start", "facrond"]);
    machine
}

#[track_caller]
fn reacts(machine: &Machine, name: &str) {
    machine.sh(&format!("echo x > /srv/{name}"));
    wait_until("the command to run", || machine.status(&["test", "-e", &format!("/run/seen/{name}")]) == 0);
}

#[test]
fn a_life() {
    let place = Place::new();
    let machine = machine(&place, CONF);
    // Started means watched.
    assert_eq!(machine.property("ActiveState"), "active");
    reacts(&machine, "first");

    machine.sh("echo '/srv CREATE [name=more] -' >> /etc/facron.conf");
    machine.ok(&["systemctl", "reload", "facrond"]);
    assert!(machine.ok(&["facronctl", "list"]).contains("more"));

    machine.sh("echo '/srv FAN_CREAT [name=wrong] -' >> /etc/facron.conf");
    assert_ne!(machine.status(&["systemctl", "reload", "facrond"]), 0);
    machine.wait_for_journal("did you mean `FAN_CREATE`?");
    assert_eq!(machine.property("ActiveState"), "active");
    reacts(&machine, "second");
    machine.sh("sed -i /wrong/d /etc/facron.conf");

    machine.ok(&["facronctl", "add", "-o", "name=runtime", "/srv", "DELETE", "-"]);
    machine.ok(&["facronctl", "add", "--persist", "-o", "name=persisted", "/srv", "DELETE", "-"]);
    let first = machine.property("MainPID");
    machine.ok(&["kill", "-KILL", &first]);
    wait_until("another daemon", || {
        ![&first, "0"].contains(&machine.property("MainPID").as_str())
            && machine.property("ActiveState") == "active"
    });
    let rules = machine.ok(&["facronctl", "list"]);
    for name in ["drop", "more", "runtime", "persisted"] {
        assert!(rules.contains(name), "{name}: {rules}");
    }
    reacts(&machine, "third");

    machine.ok(&["systemctl", "stop", "facrond"]);
    assert_eq!(machine.property("Result"), "success");
    assert_eq!(machine.status(&["pgrep", "facrond"]), 1, "something of it was left");
    machine.ok(&["systemctl", "start", "facrond"]);
    assert!(machine.ok(&["facronctl", "list"]).contains("runtime"));
}

#[test]
fn an_unusable_start_is_not_tried_again() {
    let place = Place::new();
    let machine = Machine::boot(&place, CONF);
    machine.sh("mkdir -p /etc/systemd/system/facrond.service.d");
    machine.sh("printf '[Service]\\nExecStart=\\nExecStart=facrond --conf /nowhere/facron.conf\\n' \
         > /etc/systemd/system/facrond.service.d/conf.conf");
    machine.ok(&["systemctl", "daemon-reload"]);
    assert_ne!(machine.status(&["systemctl", "start", "facrond"]), 0);
    assert_eq!(
        (machine.property("ActiveState").as_str(), machine.property("NRestarts").as_str()),
        ("failed", "0")
    );
    assert_eq!(machine.property("ExecMainStatus"), "78");
}

/// A machine with a permission rule and another watchdog than that of the unit, which else is
/// as it is.
fn machine_with_watchdog(place: &Place, time: &str) -> Machine {
    let machine = Machine::boot(place, &format!("{CONF}/srv/gated OPEN_PERM [name=gated verdict=allow] -\n"));
    assert!(machine.ok(&["systemctl", "cat", "facrond"]).contains("\nWatchdogSec="));
    machine.sh(&format!(
        "mkdir -p /srv/gated /run/seen /etc/systemd/system/facrond.service.d; \
         printf '[Service]\\nWatchdogSec={time}\\nTimeoutAbortSec=1s\\n' \
         > /etc/systemd/system/facrond.service.d/watchdog.conf; \
         touch /srv/gated/file; systemctl daemon-reload; systemctl start facrond"
    ));
    machine
}

#[test]
fn a_frozen_daemon_is_ended_and_started_anew() {
    let place = Place::new();
    let machine = machine_with_watchdog(&place, "2s");
    let first = machine.property("MainPID");
    // Longer than the watchdog waits: a daemon that works, with its gate, is left alone.
    let end = Instant::now() + Duration::from_secs(5);
    let mut seen = 0;
    while Instant::now() < end {
        seen += 1;
        reacts(&machine, &format!("early-{seen}"));
    }
    assert_eq!((machine.property("MainPID"), machine.property("NRestarts")), (first.clone(), "0".into()));

    machine.ok(&["kill", "-STOP", &first]);
    wait_until("another daemon", || {
        ![&first, "0"].contains(&machine.property("MainPID").as_str())
            && machine.property("ActiveState") == "active"
    });
    assert_eq!(machine.property("NRestarts"), "1");
    reacts(&machine, "late");
}

/// Frozen while it rests, the gate does not end itself.
#[test]
fn a_frozen_gate_is_ended_and_started_anew() {
    let place = Place::new();
    let machine = machine_with_watchdog(&place, "15s");
    let gate = || {
        let status = machine.ok(&["facronctl", "--json", "status"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["gate"]["pid"].to_string()
    };
    let first = gate();
    // It rests when it was idle for a second.
    machine.sh(&format!(
        "sleep 2; mkdir /sys/fs/cgroup/frozen; echo {first} > /sys/fs/cgroup/frozen/cgroup.procs; \
         echo 1 > /sys/fs/cgroup/frozen/cgroup.freeze"
    ));
    machine.ok(&["timeout", "30", "cat", "/srv/gated/file"]);
    wait_until("another gate", || ![first.as_str(), "null"].contains(&gate().as_str()));
    assert_eq!(machine.property("NRestarts"), "0", "the daemon itself was alive");
}

#[test]
fn a_stop_ends_the_commands_in_time() {
    let place = Place::new();
    let conf = "/srv CREATE [name=deaf] sh -c 'trap \"\" TERM; setsid sleep 1000 & sleep 1000; sleep 1000'\n";
    let machine = machine(&place, conf);
    machine.sh("touch /srv/file");
    wait_until("the command", || machine.status(&["pgrep", "sleep"]) == 0);
    let started = Instant::now();
    machine.ok(&["systemctl", "stop", "facrond"]);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(machine.property("Result"), "success");
    assert_eq!(machine.status(&["pgrep", "sleep"]), 1);
}

/// What decides writes to the journal, and the journal's own files are below the rule.
#[test]
fn the_journal_and_the_gate_do_not_wait_for_each_other() {
    const LINES: usize = 500;
    let place = Place::new();
    let conf = "/var/log OPEN_PERM [recursive name=log deadline=2s] sh -c 'echo decided; exec logger decided'\n\
                /etc OPEN_PERM [recursive name=etc deadline=2s] sh -c 'echo decided'\n";
    let machine = machine(&place, conf);
    assert!(machine.ok(&["facronctl", "list"]).matches("active").count() == 2);
    let started = Instant::now();
    machine.sh(&format!(
        "touch /var/log/other; \
         for n in $(seq 20); do cat /etc/hostname /var/log/other; done > /dev/null; \
         seq {LINES} | systemd-cat --identifier=many; \
         journalctl --rotate; journalctl --sync; journalctl --flush"
    ));
    let lines =
        || machine.sh("journalctl --identifier=many --output=cat | wc -l").trim().parse::<usize>().unwrap();
    wait_until("all lines in the journal", || lines() == LINES);
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    assert!(machine.ok(&["systemctl", "is-active", "systemd-journald"]).contains("active"));
    let status: serde_json::Value =
        serde_json::from_str(&machine.ok(&["facronctl", "--json", "status"])).unwrap();
    assert!(status["gate"]["allowed"].as_u64().unwrap() > 20, "{status}");
    assert_eq!(status["gate"]["failures"], 0, "{status}");
}
