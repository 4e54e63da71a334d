//! Directories below a path: small trees, large trees, and races in both.

use super::*;

#[test]
fn directories_in_a_directory_are_known_where_a_rule_asks_for_them() {
    let mut f = Fixture::new();
    f.mkdir("old");
    f.rule("", Events::ATTRIB.with(Events::ONDIR).with(Events::EVENT_ON_CHILD));
    f.mkdir("new");
    assert_eq!(f.fired(), []);
    for name in ["old", "new"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(f.path(name), mode).unwrap();
        assert_eq!(f.fired(), one(1, name, "FAN_ATTRIB|FAN_ONDIR"));
    }
}

#[test]
fn recursion_follows_new_moved_and_removed_directories() {
    let mut f = Fixture::new();
    f.mkdir("t/old/deep");
    f.mkdir("elsewhere/x");
    f.write("elsewhere/x/f");
    f.recursive("t", Events::CLOSE_WRITE);
    f.write("t/old/deep/f");
    assert_eq!(f.paths(), ["t/old/deep/f"]);
    f.mkdir("t/a/b/c");
    f.write("t/a/b/c/f");
    assert_eq!(f.paths(), ["t/a/b/c/f"]);
    f.rename("t/a", "t/A");
    f.write("t/A/b/c/f");
    assert_eq!(f.paths(), ["t/A/b/c/f"]);
    f.rename("elsewhere/x", "t/x");
    assert_eq!(f.paths(), ["t/x/f"]);
    f.rename("t/A", "elsewhere/A");
    assert_eq!(f.fired(), []);
    f.write("elsewhere/A/b/c/f");
    assert_eq!(f.fired(), []);
    let marks = f.watch.marks();
    for _ in 0..10 {
        f.mkdir("t/y/1/2/3");
        f.mkdir("t/y/4/5/6");
        assert_eq!(f.fired(), []);
        fs::remove_dir_all(f.path("t/y")).unwrap();
        assert_eq!(f.fired(), []);
        assert_eq!(f.watch.marks(), marks);
    }
}

#[test]
fn renames_that_the_kernel_merges_are_followed() {
    let mut f = Fixture::new();
    f.mkdir("t/a/deep");
    f.mkdir("out/x/deep");
    f.recursive("t", Events::CLOSE_WRITE);
    for (from, to) in [("t/a", "t/b"), ("t/b", "t/a"), ("t/a", "t/b")] {
        f.rename(from, to);
    }
    f.fired();
    f.write("t/b/deep/f");
    assert_eq!(f.paths(), ["t/b/deep/f"]);
    f.write("out/x/deep/g");
    for (from, to) in [("out/x", "t/x"), ("t/x", "out/x"), ("out/x", "t/x")] {
        f.rename(from, to);
    }
    assert_eq!(f.paths(), ["t/x/deep/g"]);
    f.write("t/x/deep/g");
    assert_eq!(f.paths(), ["t/x/deep/g"]);
    let marks = f.watch.marks();
    for (from, to) in [("t/x", "out/x"), ("out/x", "t/x"), ("t/x", "out/x")] {
        f.rename(from, to);
    }
    assert_eq!((f.paths(), f.watch.marks()), (vec![], marks - 2));
}

#[test]
fn files_in_directories_just_made_are_told_once() {
    const WRITERS: usize = 2;
    const ROUNDS: usize = 500;
    let mut f = Fixture::new();
    f.mkdir("t");
    f.recursive("t", Events::CLOSE_WRITE);
    f.recursive("t", Events::ARRIVED);
    let top = f.path("t");
    let expected: Vec<_> = std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let top = &top;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let dir = top.join(format!("{writer}-{round}/b/c"));
                    fs::create_dir_all(&dir).unwrap();
                    fs::write(dir.join("f"), "x").unwrap();
                }
            });
        }
        let expected = (0..WRITERS).flat_map(|w| (0..ROUNDS).map(move |r| format!("t/{w}-{r}/b/c/f")));
        let mut twice: Vec<_> = expected.clone().chain(expected).collect();
        twice.sort();
        assert_eq!(f.fired_by(twice.len()), twice);
        twice
    });
    let marks = f.watch.marks();
    fs::remove_dir_all(f.path("t")).unwrap();
    f.mkdir("t");
    f.fired();
    assert!(f.watch.marks() < marks / 100, "{} of {marks} for {}", f.watch.marks(), expected.len());
}

#[test]
fn a_tree_moved_in_is_told_once_and_while_it_is_renamed() {
    let mut f = Fixture::new();
    f.mkdir("t");
    f.mkdir("out");
    f.recursive("t", Events::ARRIVED);
    for dir in 0..50 {
        f.mkdir(&format!("out/new/{dir}/x"));
        for file in 0..10 {
            f.write(&format!("out/new/{dir}/x/{file}"));
        }
    }
    f.rename("out/new", "t/new");
    assert_eq!(f.paths().len(), 500);
    let top = f.path("t");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..200 {
                let dir = top.join(format!("part-{round}"));
                fs::create_dir_all(dir.join("x")).unwrap();
                fs::write(dir.join("x/f"), "x").unwrap();
                fs::rename(&dir, top.join(format!("done-{round}"))).unwrap();
                fs::write(top.join(format!("done-{round}/x/g")), "x").unwrap();
            }
        });
        let mut names: Vec<_> =
            f.fired_by(400).into_iter().map(|path| path.replace("part-", "").replace("done-", "")).collect();
        names.sort();
        let mut expected: Vec<_> =
            (0..200).flat_map(|round| ["f", "g"].map(|name| format!("t/{round}/x/{name}"))).collect();
        expected.sort();
        assert_eq!(names, expected);
    });
}

#[test]
#[cfg_attr(not(feature = "root-tests"), ignore = "needs root")]
fn a_large_tree_is_watched_by_its_file_system() {
    let mut f = Fixture::new();
    f.mkdir("m");
    let mount = Mounted::new(f.path("m"));
    for dir in 0..300 {
        f.mkdir(&format!("m/t/{}/{dir}", dir % 10));
    }
    f.mkdir("m/elsewhere/x");
    f.write("m/elsewhere/x/f");
    let id = f.recursive("m/t", Events::CLOSE_WRITE.with(Events::MOVED_TO));
    assert_eq!(f.watch.strategy(id), Some("one mark on the file system"));
    assert!(f.watch.has_work(&|_| 100) && f.watch.marks() < 100);
    f.write("m/t/9/299/before it was read");
    f.write("m/elsewhere/x/f");
    assert_eq!(f.paths(), ["m/t/9/299/before it was read"]);
    f.drain_work();
    f.write("m/t/7/7/f");
    f.mkdir("m/t/new/a/b");
    f.write("m/t/new/a/b/f");
    f.rename("m/t/new", "m/t/renamed");
    f.write("m/t/renamed/a/b/g");
    assert_eq!(f.paths(), ["m/t/7/7/f", "m/t/new/a/b/f", "m/t/renamed/a/b/g"]);
    fs::remove_dir_all(f.path("m/t/renamed")).unwrap();
    for _ in 0..100 {
        f.write("m/elsewhere/x/f");
        assert_eq!(f.fired(), []);
    }
    f.rename("m/elsewhere/x", "m/t/x");
    assert_eq!(f.paths(), ["m/t/x/f"], "what is in a directory that was ignored");
    f.write("m/t/x/f");
    assert_eq!(f.paths(), ["m/t/x/f"]);
    f.rename("m/t/x", "m/elsewhere/x");
    f.write("m/elsewhere/x/f");
    assert_eq!(f.fired(), []);
    f.watch.detach(id);
    assert_eq!(f.watch.fs_marks(), 0);
    // What others did in directories above the mount.
    f.fired();
    let read = f.watch.counters().read;
    f.write("m/t/7/7/f");
    assert_eq!((f.fired(), f.watch.counters().read), (vec![], read));
    mount.unmount();
}

#[test]
fn trees_moved_below_each_other_are_watched_to_the_deepest_level() {
    const HALF: usize = 300;
    let below = |top: &str, levels: usize| format!("{top}{}", "/d".repeat(levels));
    let mut f = Fixture::new();
    f.recursive("t", Events::CLOSE_WRITE);
    for top in ["t/a", "t/b"] {
        f.mkdir(&below(top, HALF));
    }
    f.fired();
    let deeper = below("t/a", HALF + 1);
    for _ in 0..2 {
        f.rename("t/b", &deeper);
        f.write(&format!("{}/f", below(&deeper, HALF)));
        f.write(&format!("{}/f", below(&deeper, HALF / 2)));
        assert_eq!(f.paths(), [format!("{}/f", below(&deeper, HALF / 2))], "not the deepest level");
        f.rename(&deeper, "t/b");
        assert!(f.paths().contains(&format!("{}/f", below("t/b", HALF))), "it is less deep again");
        f.write(&format!("{}/g", below("t/b", HALF)));
        assert_eq!(f.paths(), [format!("{}/g", below("t/b", HALF))]);
    }
}

#[test]
fn an_excluded_tree_is_neither_marked_nor_read() {
    let mut f = Fixture::new();
    f.mkdir("t/node_modules/a/b");
    f.mkdir("t/src/.git/x");
    let patterns = Patterns { exclude: vec!["node_modules".into(), ".git".into()], ..Patterns::default() };
    let filter = Filter::new(patterns).unwrap();
    let before = f.watch.marks();
    f.rule_with("t", Events::CLOSE_WRITE, Options { recursive: true, filter, ..Options::default() });
    f.write("t/node_modules/a/f");
    f.write("t/src/.git/f");
    f.mkdir("t/src/node_modules/c");
    f.write("t/src/node_modules/c/f");
    f.write("t/src/f");
    assert_eq!(f.paths(), ["t/src/f"]);
    let way = f.dir.path().ancestors().count() as u64;
    assert_eq!(f.watch.marks() - before, way + 2, "the way to it, t and t/src");
}

#[test]
#[cfg_attr(not(feature = "root-tests"), ignore = "needs root")]
fn the_same_races_in_a_large_tree() {
    let mut f = Fixture::new();
    for dir in 0..100 {
        f.mkdir(&format!("t/{dir}"));
    }
    let id = f.recursive("t", Events::CLOSE_WRITE);
    assert_eq!(f.watch.strategy(id), Some("one mark on the file system"));
    f.drain_work();
    let top = f.path("t");
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let top = &top;
            scope.spawn(move || {
                for round in 0..500 {
                    let dir = top.join(format!("w{writer}-{round}/b/c"));
                    fs::create_dir_all(&dir).unwrap();
                    fs::write(dir.join("f"), "x").unwrap();
                }
            });
        }
        let mut expected: Vec<_> =
            (0..2).flat_map(|w| (0..500).map(move |r| format!("t/w{w}-{r}/b/c/f"))).collect();
        expected.sort();
        assert_eq!(f.fired_by(1000), expected);
    });
}
