//! Renames and links: the paths that are told are the present ones.

use crate::harness::{Mount, Place, run, sh, wait_until};
use std::fs;

fn rules(top: &str) -> String {
    format!("{top} CLOSE_WRITE [recursive name=written] -\n{top} ARRIVED [recursive name=arrived] -\n")
}

/// The last path that a rule has fired for, as one below the directory to play in.
#[track_caller]
fn last_path(place: &Place, rule: &str) -> String {
    place.settle();
    let path = place.tail_of(rule).last().unwrap()["path"].as_str().unwrap().to_owned();
    path.strip_prefix(&place.play("")).unwrap().trim_start_matches('/').to_owned()
}

#[test]
fn a_renamed_ancestor_within_a_tree_changes_the_paths_below() {
    let place = Place::new();
    place.mkdir("tree/a/b/c/d");
    place.conf(&rules(&place.play("tree")));
    let _daemon = place.start();
    for round in 0..20 {
        let (old, new) = if round % 2 == 0 { ("a", "A") } else { ("A", "a") };
        fs::rename(place.play(&format!("tree/{old}")), place.play(&format!("tree/{new}"))).unwrap();
        place.write(&format!("tree/{new}/b/c/d/f"));
        assert_eq!(last_path(&place, "written"), format!("tree/{new}/b/c/d/f"));
        assert_eq!(place.fired("written"), round + 1);
    }
    // and without anybody looking in between; of one name, the kernel merges what
    // is not read yet
    let tree = place.play("tree");
    sh(&format!("cd {tree}; mv a 0; for n in $(seq 0 99); do echo x > $n/b/c/d/$n; mv $n $((n + 1)); done"));
    let expected: Vec<_> = (0..100).map(|round| format!("{tree}/{round}/b/c/d/{round}")).collect();
    assert_eq!(place.settle_fired("written", 120), 120);
    let told: Vec<_> = place.tail_of("written")[20..].iter().map(|record| record["path"].clone()).collect();
    assert_eq!(told, expected);
    // merged or not, in the end it is where it is
    for round in 0..101 {
        let (old, new) = if round % 2 == 0 { ("100", "a") } else { ("a", "100") };
        fs::rename(place.play(&format!("tree/{old}")), place.play(&format!("tree/{new}"))).unwrap();
    }
    place.settle();
    place.write("tree/a/b/c/d/f");
    assert_eq!(last_path(&place, "written"), "tree/a/b/c/d/f");
    assert_eq!((place.fired("written"), place.fired("arrived")), (121, 121));
}

#[test]
fn a_renamed_ancestor_of_the_path_takes_the_rule_away_until_it_is_back() {
    let place = Place::new();
    place.mkdir("one/two/three/tree/deep");
    place.conf(&rules(&place.play("one/two/three/tree")));
    let _daemon = place.start();
    for round in 1..=10 {
        fs::rename(place.play("one"), place.play("away")).unwrap();
        place.write("away/two/three/tree/deep/f");
        place.settle();
        assert_eq!(place.rule("written")["state"], "waiting");
        let before = place.fired("written");
        fs::rename(place.play("away"), place.play("one")).unwrap();
        place.settle();
        let found = place.fired("written");
        assert!(found <= before + 1, "what is there when the tree comes back is told at most once");
        assert_eq!(place.rule("written")["state"], "active");
        place.write("one/two/three/tree/deep/f");
        assert_eq!(place.settle_fired("written", found + 1), found + 1, "{round}");
        assert_eq!(last_path(&place, "written"), "one/two/three/tree/deep/f");
    }
}

#[test]
fn what_leaves_a_tree_is_silent_and_what_comes_in_is_told_once() {
    let place = Place::new();
    let mount = Mount::of_type("tmpfs", "size=16m", &place.path("other"));
    place.mkdir("tree");
    place.conf(&rules(&place.play("tree")));
    let _daemon = place.start();
    let marks = place.status()["marks"].clone();
    let mut fired = 0;
    for round in 0..10 {
        let inside = place.mkdir(&format!("tree/{round}/a/b"));
        fs::write(format!("{inside}/f"), "x").unwrap();
        fired += 1;
        assert_eq!(place.settle_fired("written", fired), fired);
        // out, and changed there
        fs::rename(place.play(&format!("tree/{round}")), place.play("out")).unwrap();
        fs::write(place.play("out/a/b/f"), "y").unwrap();
        fs::write(place.play("out/a/b/g"), "y").unwrap();
        place.settle();
        assert_eq!(place.fired("written"), fired, "{round}");
        assert_eq!(place.status()["marks"], marks, "marks of what has left");
        // in again, with two files
        fs::rename(place.play("out"), place.play("tree/in")).unwrap();
        fired += 2;
        assert_eq!(place.settle_fired("written", fired), fired, "{round}: {:?}", place.paths_of("written"));
        // over a boundary and back, which is copying and deleting
        let there = format!("{}/there", mount.at());
        run(&["mv", &place.play("tree/in"), &there]);
        fs::write(format!("{there}/a/b/f"), "z").unwrap();
        place.settle();
        assert_eq!(place.fired("written"), fired, "{round}");
        assert_eq!(place.status()["marks"], marks, "marks of what has left");
        run(&["mv", &there, &place.play("tree/back")]);
        fired += 2;
        assert_eq!(place.settle_fired("written", fired), fired, "{round}: {:?}", place.paths_of("written"));
        run(&["rm", "-r", &place.play("tree/back")]);
    }
    assert_eq!(place.fired("arrived"), fired);
}

#[test]
fn a_link_switched_atomically_is_noticed_each_time() {
    let place = Place::new();
    let current = place.play("current");
    for number in 0..=100 {
        place.mkdir(&format!("releases/{number}"));
        place.write(&format!("releases/{number}/conf"));
    }
    std::os::unix::fs::symlink("releases/0", &current).unwrap();
    place.conf(&format!(
        "{current}/conf CLOSE_WRITE [name=file] -\n{current} CLOSE_WRITE [name=directory] -\n\
         {current} CLOSE_WRITE [recursive name=tree] -\n"
    ));
    let _daemon = place.start();
    for number in 1..=100 {
        let (target, tmp) = (format!("releases/{number}"), place.play("tmp"));
        sh(&format!("ln -s {target} {tmp}; mv -T {tmp} {current}"));
        // at once
        fs::write(format!("{current}/new"), "x").unwrap();
        // the file under the path is another one, and so is each of the directory
        for (rule, fired) in [("file", number), ("directory", 2 * number), ("tree", 2 * number)] {
            wait_until(&format!("{fired} firings of {rule}"), || place.fired(rule) >= fired);
        }
        // what was there before is watched no longer
        place.write(&format!("releases/{}/conf", number - 1));
    }
    place.settle();
    assert_eq!((place.fired("file"), place.fired("directory"), place.fired("tree")), (100, 200, 200));
    assert_eq!(last_path(&place, "tree").split('/').next(), Some("current"));
}
