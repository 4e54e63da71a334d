//! A rule follows its path, whatever is there.

use crate::harness::{Place, wait_until};
use std::fs;

/// What editors do: write a new file, put it in the old one's place.
fn save(place: &Place, name: &str, number: usize) {
    let new = place.write(&format!("{name}.{number}.tmp"));
    fs::rename(new, place.play(name)).unwrap();
}

#[track_caller]
fn wait_for_state(place: &Place, rule: &str, state: &str) {
    wait_until(&format!("rule {rule} to be {state}"), || place.rule(rule)["state"] == state);
}

#[test]
fn a_file_saved_a_hundred_times_by_rename_fires_a_hundred_times() {
    let place = Place::new();
    let file = place.write("file");
    let (moved, arrived) = (place.records("moved"), place.records("arrived"));
    place.conf(&format!(
        "{file} FAN_MOVED_TO [name=moved] {}\n{file} ARRIVED [name=arrived] {}\n",
        moved.command("$$ $%"),
        arrived.command("$$ $%"),
    ));
    let _daemon = place.start();
    for number in 0..100 {
        save(&place, "file", number);
    }
    moved.wait(100);
    arrived.wait(100);
    place.settle();
    assert_eq!(moved.texts(), vec![[file.clone(), "FAN_MOVED_TO".to_owned()]; 100]);
    assert_eq!(arrived.texts(), vec![[file.clone(), "ARRIVED".to_owned()]; 100]);
    // and it is the last one that is watched now
    fs::write(&file, "in place").unwrap();
    arrived.wait(101);
    place.settle();
    assert_eq!((moved.all().len(), arrived.all().len()), (100, 101));
}

#[test]
fn saves_with_a_pause_each_fire_once_too() {
    let place = Place::new();
    let file = place.write("file");
    place.conf(&format!("{file} ARRIVED [name=arrived] -\n{file} MOVED_TO [name=moved] -\n"));
    let _daemon = place.start();
    for number in 1..=20 {
        save(&place, "file", 0);
        place.settle();
        assert_eq!((place.fired("arrived"), place.fired("moved")), (number, number));
    }
}

#[test]
fn a_file_deleted_and_made_again_is_still_watched() {
    let place = Place::new();
    let file = place.write("file");
    place.conf(&format!("{file} FAN_CLOSE_WRITE [name=written] -\n{file} DELETE [name=deleted] -\n"));
    let _daemon = place.start();
    for number in 1..=5 {
        fs::remove_file(&file).unwrap();
        wait_for_state(&place, "written", "waiting");
        let list = place.ctl_ok(&["list"]);
        assert!(list.contains("waiting"), "{list}");
        place.write("file");
        wait_for_state(&place, "written", "active");
        place.settle();
        assert_eq!((place.fired("written"), place.fired("deleted")), (number, number));
    }
    // at once, without anybody looking in between
    for _ in 0..50 {
        fs::remove_file(&file).unwrap();
        place.write("file");
        place.settle();
    }
    assert_eq!((place.fired("written"), place.fired("deleted")), (55, 55));
}

#[test]
fn a_directory_deleted_and_made_again_is_still_watched() {
    let place = Place::new();
    let dir = place.mkdir("dir");
    place.conf(&format!("{dir} CLOSE_WRITE [name=dir] -\n{dir}/file CLOSE_WRITE [name=file] -\n"));
    let _daemon = place.start();
    for number in 1..=5 {
        place.write("dir/file");
        place.settle();
        assert_eq!((place.fired("dir"), place.fired("file")), (number, number));
        fs::remove_dir_all(&dir).unwrap();
        wait_for_state(&place, "dir", "waiting");
        wait_for_state(&place, "file", "waiting");
        place.mkdir("dir");
        wait_for_state(&place, "dir", "active");
    }
}

#[test]
fn a_path_whose_last_three_components_are_made_at_once_fires() {
    let place = Place::new();
    let path = place.play("a/b/c");
    place.conf(&format!("{path} ARRIVED [name=arrived] -\n{path} CLOSE_WRITE [name=written] -\n"));
    let _daemon = place.start();
    wait_for_state(&place, "arrived", "waiting");
    let reason = place.ctl_ok(&["show", "arrived"]);
    assert!(reason.contains("waiting"), "{reason}");
    place.mkdir("a/b");
    place.write("a/b/c");
    wait_until("the file to arrive", || place.fired("arrived") == 1);
    place.settle();
    wait_for_state(&place, "written", "active");
    let before = place.fired("written");
    place.write("a/b/c");
    place.settle();
    assert_eq!((place.fired("arrived"), place.fired("written")), (2, before + 1));
    assert!(before <= 1, "doubled: {before}");
}

#[test]
fn a_directory_renamed_away_and_another_put_in_its_place() {
    let place = Place::new();
    place.mkdir("top/dir");
    let dir = place.play("top/dir");
    place.conf(&format!("{dir} CLOSE_WRITE [name=dir] -\n"));
    let _daemon = place.start();
    fs::rename(place.play("top"), place.play("old")).unwrap();
    wait_for_state(&place, "dir", "waiting");
    place.write("old/dir/file");
    place.settle();
    assert_eq!(place.fired("dir"), 0, "it is another path now");
    place.mkdir("new/dir");
    fs::rename(place.play("new"), place.play("top")).unwrap();
    wait_for_state(&place, "dir", "active");
    let path = place.write("top/dir/file");
    place.settle();
    assert_eq!(place.fired("dir"), 1);
    assert_eq!(place.tail_of("dir")[0]["path"], path);
}

#[test]
fn a_write_through_another_hard_link_is_seen() {
    let place = Place::new();
    let file = place.write("file");
    place.mkdir("elsewhere");
    fs::hard_link(&file, place.play("elsewhere/link")).unwrap();
    place.conf(&format!("{file} CLOSE_WRITE [name=file] -\n"));
    let _daemon = place.start();
    place.write("elsewhere/link");
    place.settle();
    assert_eq!(place.fired("file"), 1);
}

#[test]
fn files_that_arrive_fire_once_however_they_come() {
    let place = Place::new();
    let (dir, records) = (place.mkdir("in"), place.records("records"));
    place.conf(&format!("{dir} ARRIVED {}\n", records.command("$$")));
    let _daemon = place.start();
    place.write("in/written");
    fs::rename(place.write("outside"), place.play("in/moved")).unwrap();
    fs::hard_link(place.write("other"), place.play("in/linked")).unwrap();
    place.settle();
    let names = ["linked", "moved", "written"];
    assert_eq!(records.firsts(), names.map(|name| place.play(&format!("in/{name}"))));
}
