//! Events of mounts and of whole file systems; what neither of them tells.

use crate::harness::{FACROND, Mount, Place, as_stranger, code, err, out, run, wait_for_state};
use std::fs;
use std::path::Path;

#[test]
fn mounts_at_and_below_a_path() {
    let place = Place::new();
    let dir = place.mkdir("dir");
    let records = place.records("records");
    place.conf(&format!("{dir} MNT_ATTACH|MNT_DETACH [name=mounts] {}\n", records.command("$% $$")));
    let _daemon = place.start();
    let outer = Mount::of_type("tmpfs", "size=1m", &dir);
    records.wait(1);
    let inner = Mount::of_type("tmpfs", "size=1m", &format!("{dir}/a/b"));
    records.wait(2);
    inner.unmount();
    records.wait(3);
    outer.unmount();
    let (attached, detached) = ("FAN_MNT_ATTACH".to_owned(), "FAN_MNT_DETACH".to_owned());
    let expected = [
        [attached.clone(), dir.clone()],
        [attached, format!("{dir}/a/b")],
        [detached.clone(), format!("{dir}/a/b")],
        [detached, dir.clone()],
    ];
    let args = records.wait(4).into_iter().map(|record| record.args);
    let texts: Vec<Vec<_>> =
        args.map(|args| args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()).collect();
    assert_eq!(texts, expected);
}

#[test]
fn a_file_system_with_an_error() {
    let place = Place::new();
    let (image, dir) = (place.image("image", 16, &["mkfs.ext4", "-q"]), place.mkdir("dir"));
    let records = place.records("records");
    place.conf(&format!("{dir}/below FS_ERROR [name=error] {}\n", records.command("$% $$")));
    let _daemon = place.start();
    for round in 1..=2 {
        let mounted = Mount::of_image(&image, "errors=continue", &dir);
        fs::create_dir_all(format!("{dir}/below")).unwrap();
        wait_for_state(&place, "error", "active");
        // What was found where the path was before is settled by then.
        place.settle();
        let device = run(&["findmnt", "-no", "SOURCE", &dir]).trim().replace("/dev/", "");
        let trigger = Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error");
        fs::write(trigger, "a test").unwrap();
        records.wait(round);
        mounted.unmount();
        wait_for_state(&place, "error", "waiting");
    }
    assert_eq!(records.texts(), vec![["FAN_FS_ERROR".to_owned(), format!("{dir}/below")]; 2]);
}

#[test]
fn what_the_kernel_does_not_tell_is_refused_with_the_reason() {
    let place = Place::new();
    place.conf("/proc FS_ERROR [name=proc] -\n");
    let _daemon = place.start();
    let rule = place.rule("proc");
    let reason = "/proc: FAN_FS_ERROR cannot be had: its file system does not tell of them";
    assert_eq!((&rule["state"], &rule["reason"]), (&"failed".into(), &reason.into()));
    let refused = place.ctl(&["add", "/proc", "FS_ERROR", "-"]);
    assert_eq!(code(&refused), 1);
    assert!(err(&refused).contains(reason), "{}", err(&refused));
}

#[test]
fn a_user_is_refused_what_only_root_is_told() {
    let place = Place::new();
    let dir = place.mkdir_for_all("dir");
    let facrond = place.for_all(FACROND);
    for (events, options, reason) in [
        ("MNT_ATTACH", "name=x", "an ordinary user is not told of mounts"),
        ("FS_ERROR", "name=x", "an ordinary user is not told of them"),
        ("CREATE", "uid=0", "an ordinary user is not told who causes events"),
    ] {
        let mut watch = as_stranger(&facrond);
        let watched = watch.args(["watch", &dir, events, "-o", options, "--", "-"]).output().unwrap();
        assert_eq!(code(&watched), 1);
        assert!(err(&watched).contains(reason), "{}", err(&watched));
    }
}

#[test]
fn where_changes_can_go_by_check_and_add_warn() {
    let place = Place::new();
    let dirs = ["lower", "upper", "overlay", "behind", "fuse"].map(|name| place.mkdir(name));
    let [lower, upper, overlay, behind, fuse] = &dirs;
    let mounts = [Mount::overlay(lower, upper, overlay), Mount::by(&["bindfs", behind, fuse], fuse)];
    place
        .conf(&format!("{overlay} CREATE -\n{fuse}/not/yet CREATE -\n{upper} CREATE -\n{behind} CREATE -\n"));
    let told = [
        format!("`{overlay}` is on an overlay: changes made in its upper directory `{upper}` are not seen"),
        format!("`{fuse}/not/yet` is on a FUSE file system (fuse"),
    ];
    let checked = place.facrond_check();
    let text = out(&checked);
    assert_eq!(code(&checked), 0);
    assert!(text.contains("2 warnings") && told.iter().all(|told| text.contains(told)), "{text}");
    let daemon = place.start();
    for told in &told {
        daemon.wait_for_log(told);
    }
    let added = place.ctl(&["add", overlay, "CREATE", "-"]);
    assert_eq!(code(&added), 0);
    assert!(err(&added).contains(&told[0]), "{}", err(&added));
    drop(daemon);
    drop(mounts);
}
