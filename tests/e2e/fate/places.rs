//! Directories for files that are elsewhere, full, read-only, gone, or another user's.

use super::{drop_folder, files, names, write};
use crate::harness::{Mount, Place, STRANGER, Server, as_stranger, give, run, wait_until};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, Instant};

/// The state of the only job, which is to have failed for this reason, and the file as it was.
#[track_caller]
fn stays(place: &Place, file: &str, text: &str, why: &str) {
    place.settle();
    let records = place.tail_of("drop");
    let outcome = &records.last().unwrap()["outcome"];
    let error = outcome["error"].as_str().unwrap_or_default();
    assert!(outcome["state"] == "not_moved" && error.contains(why), "{outcome}");
    assert_eq!(fs::read_to_string(file).unwrap(), text);
}

#[test]
fn a_directory_that_cannot_take_files_leaves_them_where_they_are() {
    let place = Place::new();
    let [within, done, failed] = drop_folder(&place, "");
    let _daemon = place.start();
    let path = format!("{within}/good");
    symlink(&within, &done).unwrap();
    write(&path, "1");
    stays(&place, &path, "1", "links are not followed");
    fs::remove_file(&done).unwrap();
    write(&done, "a file");
    write(&path, "2");
    stays(&place, &path, "2", "not a directory");
    fs::remove_file(&done).unwrap();
    let tmpfs = Mount::of_type("tmpfs", "ro", &done);
    write(&path, "3");
    stays(&place, &path, "3", "read-only");
    tmpfs.unmount_when_idle();
    assert_eq!(place.rule("drop")["failed"], 3);
    let failures = place.ctl_ok(&["tail", "--failed", "--rule", "drop"]);
    assert_eq!(failures.matches("file not moved").count(), 3, "{failures}");
    // A failed command, and a reason that has no place.
    let tmpfs = Mount::of_type("tmpfs", "ro", &failed);
    write(&format!("{within}/bad"), "4");
    stays(&place, &format!("{within}/bad"), "4", "read-only");
    tmpfs.unmount_when_idle();
    fs::remove_dir(&done).unwrap();
    write(&path, "5");
    place.settle();
    assert_eq!(files(&done).remove("good").as_deref(), Some("5"), "it is made again");
}

#[test]
fn a_file_goes_to_another_file_system_with_all_that_it_has() {
    let place = Place::new();
    let [within, done, failed] = drop_folder(&place, "");
    let mounts = [Mount::of_type("tmpfs", "", &done), Mount::of_type("tmpfs", "size=1m", &failed)];
    let _daemon = place.start();
    let source = place.play("source");
    let text = "content ".repeat(1 << 17);
    write(&source, &text);
    fs::set_permissions(&source, Permissions::from_mode(0o4750)).unwrap();
    give(&source);
    fs::set_permissions(&source, Permissions::from_mode(0o4750)).unwrap();
    run(&["touch", "-d", "2001-02-03T04:05:06.789", &source]);
    run(&["python3", "-c", "import os, sys; os.setxattr(sys.argv[1], 'user.facron', b'value')", &source]);
    let facts = |path: &str| {
        let stat = fs::symlink_metadata(path).unwrap();
        let xattr =
            run(&["python3", "-c", "import os, sys; print(os.getxattr(sys.argv[1], 'user.facron'))", path]);
        (stat.mode(), stat.uid(), stat.gid(), stat.mtime(), stat.mtime_nsec(), stat.size(), xattr)
    };
    let before = facts(&source);
    fs::rename(&source, format!("{within}/good")).unwrap();
    symlink("nowhere", place.play("link")).unwrap();
    fs::rename(place.play("link"), format!("{within}/link")).unwrap();
    place.settle();
    assert_eq!(facts(&format!("{done}/good")), before);
    assert_eq!(fs::read_to_string(format!("{done}/good")).unwrap(), text);
    assert_eq!(fs::read_link(format!("{done}/link")).unwrap().to_str(), Some("nowhere"));
    assert_eq!((fs::read_dir(&within).unwrap().count(), fs::read_dir(&done).unwrap().count()), (0, 2));
    // There is no room for the whole of it.
    let big = "big ".repeat(1 << 19);
    write(&format!("{within}/bad"), &big);
    stays(&place, &format!("{within}/bad"), &big, "no space left on device");
    assert_eq!(fs::read_dir(&failed).unwrap().count(), 0, "nothing is left of it");
    // Where nobody can replace anything, nothing is lost.
    run(&["rm", &format!("{within}/bad")]);
    write(&format!("{within}/bad"), "small");
    place.settle();
    assert_eq!(names(&failed), ["bad", "bad.facron"]);
    mounts.into_iter().for_each(Mount::unmount_when_idle);
}

/// The user of the rule may do less than the daemon: so does who moves its files.
#[test]
fn files_are_moved_as_the_user_of_the_rule() {
    let place = Place::new();
    let [within, done, _] = drop_folder(&place, "user=nobody umask=027");
    let _daemon = place.start();
    fs::create_dir(&done).unwrap();
    let path = format!("{within}/good");
    write(&path, "1");
    stays(&place, &path, "1", "may not write there");
    for dir in [&within, &done] {
        give(dir);
    }
    write(&path, "2");
    place.settle();
    assert_eq!(files(&done).remove("good").as_deref(), Some("2"));
    fs::remove_dir_all(&done).unwrap();
    give(&place.play(""));
    write(&path, "3");
    place.settle();
    let stat = fs::metadata(&done).unwrap();
    assert_eq!((stat.uid(), stat.mode() & 0o777, names(&done).len()), (STRANGER, 0o750, 1));
    assert_eq!(fs::metadata(format!("{done}/good")).unwrap().uid(), 0, "it is whose it was");
}

/// The server of DIR does not answer: others go on, and so does the rule, when it is known.
#[test]
fn a_directory_that_does_not_answer_holds_up_its_own_rule_only() {
    let place = Place::new();
    let (shown, at) = (place.mkdir("shown"), place.play("served"));
    let (slow, quick, done) = (place.mkdir("slow"), place.mkdir("quick"), place.play("done"));
    place.conf(&format!(
        "{slow} ARRIVED [name=drop done={at}/done] true\n{quick} ARRIVED [name=quick done={done}] true\n"
    ));
    let server = Server::of(&shown, &at);
    let _daemon = place.start();
    write(&format!("{slow}/before"), "");
    place.settle();
    assert_eq!(names(&format!("{shown}/done")), ["before"]);
    let stopped = server.stop();
    let began = Instant::now();
    for name in ["a", "b"] {
        write(&format!("{slow}/{name}"), name);
    }
    let mut longest = Duration::ZERO;
    while began.elapsed() < Duration::from_secs(3) {
        let start = Instant::now();
        write(&format!("{quick}/file"), "");
        wait_until("the other rule", || names(&quick).is_empty());
        longest = longest.max(start.elapsed());
    }
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    wait_until("the end of patience", || place.rule("drop")["failed"] == 2);
    let records = place.tail_of("drop");
    assert!(records[2]["outcome"]["error"].as_str().unwrap().contains("does not answer"), "{records:?}");
    assert_eq!(names(&slow), ["a", "b"]);
    drop(stopped);
    wait_until("the server to answer", || {
        write(&format!("{slow}/later"), "");
        place.settle();
        names(&slow) == ["a", "b"]
    });
    assert!(names(&format!("{shown}/done")).contains(&"later".to_owned()));
}

/// A user exchanges directories for links all the time: no file of his gets anywhere else.
#[test]
fn links_in_the_way_lead_nowhere() {
    let place = Place::new();
    let home = place.mkdir_for_all("home");
    let (within, done, secret) = (format!("{home}/in"), format!("{home}/done"), place.mkdir("secret"));
    assert!(as_stranger("mkdir").args([&within, &done]).status().unwrap().success());
    place.conf(&format!("{within} ARRIVED [name=drop done={done}] true\n"));
    let _daemon = place.start();
    let script = format!(
        "cd {home}; i=0; while [ $i -lt 150 ]; do i=$((i+1)); echo $i > in/file-$i; \
         mv done done-$i; ln -s {secret} done; rm done; mv done-$i done; ln in/file-$i in/link-$i 2>/dev/null; \
         mv in moved; ln -s {secret} in; rm in; mv moved in; done; true"
    );
    assert!(as_stranger("sh").args(["-c", &script]).status().unwrap().success());
    place.settle();
    assert_eq!(names(&secret), [""; 0]);
    // Where a directory was missing it was made anew, and the user has moved his own into it.
    let found = run(&["find", &home, "-name", "file-*", "-type", "f"]);
    let text = |path: &str| fs::read_to_string(path).unwrap();
    let texts: Vec<_> =
        found.lines().map(|path| (path.rsplit('/').next().unwrap().to_owned(), text(path))).collect();
    assert_eq!(texts.len(), 150, "each file is somewhere once: {texts:?}");
    let is_right = |(name, text): &(String, String)| name == &format!("file-{}", text.trim());
    assert!(texts.iter().all(is_right), "{texts:?}");
}
