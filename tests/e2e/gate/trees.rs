//! `recursive`, and paths that come and go.

use super::{Opened, open, with_rules};
use crate::harness::{Mount, Place, Watchdog, kill, run, wait_for, wait_until, walker_of};
use nix::fcntl::{OFlag, open as open_file, openat};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, mkdirat};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn directories_that_come_later_are_gated_too() {
    let rules = |place: &Place| {
        place.mkdir("tree/a/b");
        place.write("tree/a/b/old");
        format!(
            "{} OPEN_PERM [recursive verdict=deny name=all include=* exclude=spared] -\n",
            place.play("tree")
        )
    };
    with_rules(rules, |place, _| {
        assert_eq!(open(&place.play("tree/a/b/old")), Opened::Denied);
        // Made elsewhere, since a write is an opening, too.
        for name in ["moved/x/y", "moved/spared"] {
            place.mkdir(name);
            place.write(&format!("{name}/file"));
        }
        fs::rename(place.play("moved"), place.play("tree/moved")).unwrap();
        wait_until("the moved tree to be gated", || {
            open(&place.play("tree/moved/x/y/file")) == Opened::Denied
        });
        assert_eq!(open(&place.play("tree/moved/spared/file")), Opened::Yes);
        place.mkdir("tree/new/deep");
        place.write("outside");
        wait_until("the new directory to be gated", || {
            let inside = place.play("tree/new/deep/file");
            let _ = fs::hard_link(place.play("outside"), &inside);
            open(&inside) == Opened::Denied
        });
        assert_eq!(open(&place.play("outside")), Opened::Yes);
        fs::rename(place.play("tree/moved"), place.play("back")).unwrap();
        wait_until("what was moved out to be free", || open(&place.play("back/x/y/file")) == Opened::Yes);
        assert_eq!(place.rule("all")["state"], "active");
    });
}

#[test]
fn a_rule_follows_its_path() {
    let rules = |place: &Place| format!("{} OPEN_PERM [verdict=deny name=file] -\n", place.play("dir/file"));
    with_rules(rules, |place, _| {
        assert_eq!(place.rule("file")["state"], "waiting");
        let file = place.play("dir/file");
        place.mkdir("dir");
        fs::write(&file, "").unwrap();
        wait_until("the file to be gated", || open(&file) == Opened::Denied);
        assert_eq!(place.rule("file")["state"], "active");
        // Replaced, as editors do.
        fs::write(place.play("dir/other"), "").unwrap();
        fs::rename(place.play("dir/other"), &file).unwrap();
        wait_until("the new file to be gated", || open(&file) == Opened::Denied);
        // Its directory is replaced by another.
        fs::rename(place.play("dir"), place.play("away")).unwrap();
        wait_until("the rule to wait", || place.rule("file")["state"] == "waiting");
        assert_eq!(open(&place.play("away/file")), Opened::Yes);
        place.mkdir("next");
        fs::write(place.play("next/file"), "").unwrap();
        fs::rename(place.play("next"), place.play("dir")).unwrap();
        wait_until("the file in the new directory to be gated", || open(&file) == Opened::Denied);
        fs::remove_file(&file).unwrap();
        wait_until("the rule to wait", || place.rule("file")["state"] == "waiting");
    });
}

#[test]
fn another_name_of_a_mount_is_no_way_around() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let rules = |place: &Place| {
        place.mkdir("secret/deep");
        place.mkdir("door");
        place.write("secret/deep/file");
        format!("{} OPEN_PERM [recursive verdict=deny] -\n", place.play("secret"))
    };
    with_rules(rules, |place, _| {
        let (secret, door) = (place.play("secret"), place.play("door"));
        assert_eq!(open(&place.play("secret/deep/file")), Opened::Denied);
        mount(Some(secret.as_str()), door.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        let opened = open(&place.play("door/deep/file"));
        // The daemon may be looking at what was mounted.
        umount2(door.as_str(), MntFlags::MNT_DETACH).unwrap();
        assert_eq!(opened, Opened::Denied);
        // In a mount namespace of its own, at a path that leads elsewhere, or nowhere, from here.
        let script = format!("mount --bind {secret} /mnt && cat /mnt/deep/file");
        let status =
            std::process::Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap();
        let told = String::from_utf8_lossy(&status.stderr).into_owned();
        assert!(told.contains("Operation not permitted"), "{told}");
    });
}

/// An overlay of several file systems gives files other numbers than it gives directories,
/// and new ones when they are copied up.
#[test]
fn on_an_overlay() {
    let _watchdog = Watchdog::new();
    let place = Place::new();
    let lower = Mount::of_type("tmpfs", "size=1m", &place.path("lower"));
    let upper = Mount::of_type("tmpfs", "size=1m", &place.path("upper"));
    for name in ["file", "tree/file", "tree/sub/file", "other"] {
        let path = format!("{}/{name}", lower.at());
        fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let overlay = Mount::overlay(lower.at(), &format!("{}/upper", upper.at()), &place.play("overlay"));
    let path = |name: &str| format!("{}/{name}", overlay.at());
    place.conf(&format!(
        "{} OPEN_PERM [verdict=deny] -\n{} OPEN_PERM [recursive verdict=deny] -\n",
        path("file"),
        path("tree")
    ));
    let _daemon = place.start();
    let denied = |name: &str| open(&path(name)) == Opened::Denied;
    assert!(denied("file") && denied("tree/file") && denied("tree/sub/file") && !denied("other"));
    for name in ["file", "tree/file", "tree/sub/file"] {
        // Changed without being opened: copied up.
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(denied(name), "{name}");
    }
}

/// Whoever may make directories in a tree chooses how deep it is.
#[test]
fn a_tree_without_a_bottom_does_no_harm() {
    let rules = |place: &Place| {
        let mut at = open_file(place.mkdir("tree").as_str(), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..20_000 {
            mkdirat(&at, "d", Mode::from_bits_truncate(0o755)).unwrap();
            at = openat(&at, "d", OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        }
        place.write(&format!("tree/{}/file", ["d"; 100].join("/")));
        format!("{} OPEN_PERM [recursive verdict=deny name=all] -\n", place.play("tree"))
    };
    with_rules(rules, |place, daemon| {
        daemon.wait_for_log("no permission is asked for in this directory: too deep");
        assert_eq!(place.rule("all")["state"], "active");
        assert_eq!(open(&place.play(&format!("tree/{}/file", ["d"; 100].join("/")))), Opened::Denied);
        run(&["mv", &place.play("tree/d"), &place.play("out")]);
        run(&["mv", &place.play("out"), &place.play("tree/d")]);
        wait_until("the moved tree to be gated", || {
            open(&place.play(&format!("tree/{}/file", ["d"; 100].join("/")))) == Opened::Denied
        });
        // Nothing that removes by recursion could.
        run(&["rm", "-r", "--one-file-system", &place.play("tree")]);
        assert_eq!(place.status()["gate"]["starts"], 1);
    });
}

/// A look at a file system may never end. Only the rule that it is for waits.
#[test]
fn a_look_that_does_not_end_holds_up_nobody_else() {
    let rules = |place: &Place| {
        place.write("later");
        format!("{} OPEN_PERM [verdict=deny name=first] -\n", place.write("first"))
    };
    with_rules(rules, |place, daemon| {
        let later = place.play("later");
        let walker = wait_for("a walker", || walker_of(daemon.pid()));
        kill(walker, Signal::SIGSTOP);
        let options = ["add", "-o", "verdict=deny name=later", &later, "OPEN_PERM", "-"];
        let mut add = place.facronctl().args(options).stdout(Stdio::null()).spawn().unwrap();
        let state = || {
            let rules = place.ctl_json(&["list"]);
            let mut rules = rules.as_array().unwrap().iter();
            rules.find(|rule| rule["name"] == "later").map(|rule| rule["state"].clone())
        };
        wait_until("the rule to wait", || state().is_some_and(|state| state == "waiting"));
        let start = Instant::now();
        assert_eq!(open(&place.play("first")), Opened::Denied);
        place.ctl_ok(&["pause", "first"]);
        assert_eq!(open(&place.play("first")), Opened::Yes);
        place.status();
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        assert_eq!(add.try_wait().unwrap(), None, "the reply comes when the rule is in force, or cannot be");
        assert!(add.wait().unwrap().success());
        // Another walker takes over as soon as the first one has ended.
        wait_until("the rule to be in force", || open(&later) == Opened::Denied);
        daemon.wait_for_log(&format!("{later} does not answer"));
    });
}
