//! `ARRIVED` beside writers who do not wait for it.

use crate::harness::{Place, Server, is_alive};
use nix::sys::stat::{Mode, SFlag, mknod};
use std::fs::File;
use std::path::Path;

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
