//! Restarts and crashes of the service, under a real systemd, which keeps the groups.

use crate::harness::{Machine, Place, wait_until};
use std::collections::BTreeMap;

/// What comes and what goes, each by a rule of its own.
const CONF: &str = "/srv ARRIVED [recursive name=in jobs=4 output=/run/seen/in] echo $$\n\
                    /srv DELETE [recursive name=out jobs=4 output=/run/seen/out] echo $$\n";

fn machine(place: &Place) -> Machine {
    let machine = Machine::boot(place, CONF);
    machine.sh("mkdir -p /srv/sub/deep /stage /run/seen /etc/systemd/system/facrond.service.d; \
                touch /srv/sub/deep/before /run/seen/in /run/seen/out");
    machine.ok(&["systemctl", "start", "facrond"]);
    machine
}

/// A file that is told just before a kill, and so perhaps again after it.
const FIRST: &str = "/srv/first";

/// How often each path was told.
fn seen(machine: &Machine, file: &str) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for path in machine.sh(&format!("cat /run/seen/{file}")).lines().filter(|path| *path != FIRST) {
        *seen.entry(path.to_owned()).or_default() += 1;
    }
    seen
}

/// Waits until these paths were told, each once.
#[track_caller]
fn wait_for_each_once(machine: &Machine, file: &str, expected: &[String]) {
    let expected: BTreeMap<_, _> = expected.iter().map(|path| (path.clone(), 1)).collect();
    wait_until(&format!("{} paths in {file}", expected.len()), || {
        seen(machine, file).len() >= expected.len()
    });
    // What is told twice may come last.
    machine.ok(&["systemctl", "stop", "facrond"]);
    let seen = seen(machine, file);
    let differing: Vec<_> = seen.iter().filter(|(path, count)| expected.get(*path) != Some(count)).collect();
    assert!(differing.is_empty(), "{file}: {differing:?}\n{}", machine.journal());
}

#[test]
fn what_happens_between_a_crash_and_the_next_start_is_told() {
    let place = Place::new();
    let machine = machine(&place);
    // The next daemon starts when it is told to.
    machine.sh("printf \"[Service]\\nExecStartPre=sh -c 'until [ -e /run/go ]; do sleep 0.05; done'\\n\" \
                > /etc/systemd/system/facrond.service.d/later.conf; \
                systemctl daemon-reload; echo x > /srv/first");
    wait_until("the first event", || machine.status(&["grep", "-qx", FIRST, "/run/seen/in"]) == 0);

    machine.ok(&["kill", "-KILL", &machine.property("MainPID")]);
    wait_until("the daemon to be gone", || machine.property("MainPID") == "0");
    machine.sh("for n in 1 2 3 4 5 6 7 8 9; do \
                  echo x > /srv/written-$n; \
                  echo x > /stage/$n; mv /stage/$n /srv/sub/moved-$n; \
                  echo x > /stage/$n; ln /stage/$n /srv/sub/linked-$n; \
                done; \
                rm /srv/written-1 /srv/sub/moved-1; \
                rm -r /srv/sub/deep; \
                mkdir -p /srv/new/below; echo x > /srv/new/below/file; echo x > /srv/new/file");
    assert_eq!(machine.property("MainPID"), "0", "the next daemon came too early");
    machine.sh("touch /run/go");
    wait_until("the next daemon", || machine.property("ActiveState") == "active");
    machine.sh("echo x > /srv/last; rm /srv/written-2");

    let mut arrived: Vec<_> =
        ["last", "new/below/file", "new/file"].map(|name| format!("/srv/{name}")).into();
    for n in 1..10 {
        arrived.extend(["written", "sub/moved", "sub/linked"].map(|name| format!("/srv/{name}-{n}")));
    }
    let gone = ["written-1", "written-2", "sub/moved-1", "sub/deep/before"];
    wait_until("what came", || seen(&machine, "in").len() >= arrived.len());
    wait_for_each_once(&machine, "out", &gone.map(|name| format!("/srv/{name}")));
    wait_for_each_once(&machine, "in", &arrived);
    machine.wait_for_journal("told what happened while the daemon did not run");
}

/// Restarts the service while somebody makes files in three ways, and removes some. What has not
/// run yet at a stop runs after the next start. What runs is ended, which the journal says.
fn restart_under_load(machine: &Machine, prepare: impl Fn(usize)) {
    let write = "n=0; until [ -e /run/enough ]; do \
           n=$((n + 1)); \
           echo x > /srv/written-$n; \
           echo x > /stage/$n; ln /stage/$n /srv/sub/linked-$n; mv /stage/$n /srv/sub/moved-$n; \
           [ $((n % 3)) != 0 ] || rm /srv/written-$n; \
         done; echo $n";
    let files = std::thread::scope(|scope| {
        let writer = scope.spawn(|| machine.sh(write));
        for round in 1..=3 {
            prepare(round);
            wait_until("load", || seen(machine, "in").len() > 20 * round);
            machine.sh("systemctl reset-failed facrond; systemctl restart facrond");
        }
        machine.sh("touch /run/enough");
        writer.join().unwrap().trim().parse::<usize>().unwrap()
    });
    wait_until("rest", || {
        machine.ok(&["facronctl", "--json", "status"]).contains(r#""pending":0,"running":0"#)
    });
    let journal = machine.journal();
    let mut wrong = Vec::new();
    let mut check = |file: &str, expected: &mut dyn Iterator<Item = String>| {
        let mut seen = seen(machine, file);
        for path in expected {
            let is_ended =
                || journal.lines().any(|line| line.contains("the daemon stops") && line.ends_with(&path));
            match seen.remove(&path) {
                Some(1) => {}
                None if is_ended() => {}
                times => wrong.push((path, times)),
            }
        }
        wrong.extend(seen.into_iter().map(|(path, times)| (path, Some(times))));
    };
    let arrived = |n| ["written", "sub/linked", "sub/moved"].map(|name| format!("/srv/{name}-{n}"));
    check("in", &mut (1..=files).flat_map(arrived));
    check("out", &mut (1..=files / 3).map(|n| format!("/srv/written-{}", 3 * n)));
    assert!(wrong.is_empty(), "of {files}: {wrong:?}\n{journal}");
}

#[test]
fn restarts_under_load_lose_nothing_and_tell_nothing_twice() {
    let place = Place::new();
    restart_under_load(&machine(&place), |_| {});
}

/// Puts a program in place that differs from the installed one in this.
fn install(machine: &Machine, edits: &str) {
    machine.sh(&format!(
        "cd /usr/bin; LC_ALL=C sed '{edits}' facrond > facrond.new; if cmp -s facrond facrond.new; then exit 1; fi; \
         chmod +x facrond.new; mv facrond.new facrond"
    ));
}

#[test]
fn upgrades_under_load_lose_nothing_and_tell_nothing_twice() {
    let place = Place::new();
    let machine = machine(&place);
    let version = env!("CARGO_PKG_VERSION");
    let of_round = |round: usize| format!("{}{round}", &version[..version.len() - 1]);
    restart_under_load(&machine, |round| {
        let before = if round == 1 { version.to_owned() } else { of_round(round + 4) };
        install(&machine, &format!("s/{}/{}/g", before.replace('.', r"\."), of_round(round + 5)));
    });
    for round in 1..=3 {
        assert!(machine.journal().contains(&format!("facrond {} is ready", of_round(round + 5))));
    }
    assert_eq!(machine.journal().matches("told what happened while the daemon did not run").count(), 3);
}

/// Versions that keep other things, or in another form, do without what the other one has kept.
#[test]
fn an_upgrade_that_does_not_understand_what_was_kept_says_so() {
    let place = Place::new();
    let machine = machine(&place);
    let kept = machine.property("NFileDescriptorStore");
    for (edits, remark) in [
        ("s/\\x01\\x00norcaf/\\x02\\x00norcaf/", "had read and not handled, if anything, is in another form"),
        ("s/facron-group-1-/facron-group-2-/", "a group of the last start is of another kind"),
        ("s/facron-reads/facron-raeds/", "a descriptor of the last start is of another version"),
    ] {
        install(&machine, edits);
        machine
            .sh("echo x > /srv/\"$(date +%N)\"; systemctl reset-failed facrond; systemctl restart facrond");
        machine.wait_for_journal(remark);
        assert_eq!(machine.property("NFileDescriptorStore"), kept, "{edits}");
    }
    let files = machine.sh("ls -1d /srv/[0-9]*");
    wait_for_each_once(&machine, "in", &files.lines().map(str::to_owned).collect::<Vec<_>>());
}
