//! Members of the group that may read the socket, and use it up; and what everybody can
//! make the daemon log and tell.

use crate::harness::{
    Actor, Daemon, Neighbour, Place, as_stranger, give, report, wait_until, with_facron_group,
};
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};

/// How long each attack goes on.
const ATTACK: Duration = Duration::from_millis(700);

/// A place with a rule on a directory where everybody may write, and a neighbour.
fn place(rule: &str) -> (Place, String) {
    let place = Place::new();
    let dir = place.mkdir_for_all("drop");
    place.conf(&format!("{dir} {rule}\n{}", Neighbour::line(&place)));
    (place, dir)
}

fn start(place: &Place) -> Daemon<'_> {
    place.start_as(with_facron_group(place, &place.facrond()))
}

#[test]
fn members_who_use_up_the_socket_leave_it_to_root() {
    let (place, dir) = place("FAN_CLOSE_WRITE [name=his] -");
    let daemon = start(&place);
    let neighbour = Neighbour::start(&place);
    for kind in ["idle", "endless-lines", "batches", "followers", "tails", "returners", "searches", "flood"] {
        let mut members = Actor::start_as_member(&place, &["clients", &place.path("control.sock"), kind]);
        assert_eq!(members.hear(), "ready");
        let (started, mut number) = (Instant::now(), 0);
        while started.elapsed() < ATTACK {
            place.call("version", &json!({}));
            for _ in 0..20 {
                fs::write(format!("{dir}/{}{number}", "n".repeat(240)), "").unwrap();
                number += 1;
            }
        }
        members.finish();
    }
    wait_until("the members to be gone", || place.rpc().call("tail", &json!({"follow": true})).is_ok());
    report(&neighbour.finish(&daemon));
}

#[test]
fn deep_trees_make_no_large_log_and_no_large_replies() {
    let (place, dir) = place("FAN_CREATE|FAN_MOVED_TO|FAN_ONDIR [name=his recursive] false");
    let outside = place.mkdir("outside");
    give(&outside);
    let daemon = start(&place);
    let script = "cd \"$1\"; p=top; for level in $(seq 500); do p=$p/dddddd; done; mkdir -p $p
        seq 1200 | sed \"s|^|$p/|\" | xargs mkdir; mv top \"$2\"";
    let made = as_stranger("sh").args(["-euc", script, "sh", &outside, &dir]).status().unwrap();
    assert!(made.success());
    wait_until("the directories to be told", || place.fired("his") >= 1700);
    place.settle();
    assert!(daemon.log().contains("command failed"), "some are logged");
    let reply = place.call("tail", &json!({"limit": u64::MAX})).to_string();
    assert!(reply.len() < 16 << 20, "{} bytes", reply.len());
    let (memory, log) = (daemon.peak_memory() >> 20, place.path("log"));
    daemon.stop();
    let log = fs::read_to_string(log).unwrap();
    report(&format!("{memory} MB; log {} bytes; reply {} bytes", log.len(), reply.len()));
    assert!(memory < 128 && log.len() < 1 << 20);
    assert!(log.contains("more messages of this kind were left out: command failed"), "{log}");
}
