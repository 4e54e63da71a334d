//! File systems that come and go under rules.

use crate::harness::{Mount, Place, wait_for_state, wait_until};
use std::fs;

#[test]
fn a_mounted_file_system_is_taken_in_and_can_be_unmounted() {
    let place = Place::new();
    let (at, image) = (place.mkdir("disk"), place.image("image", 8, &["mkfs.ext4", "-q"]));
    let mount = || Mount::of_image(&image, "rw", &at);
    {
        let _mount = mount();
        fs::create_dir_all(format!("{at}/data/deep")).unwrap();
    }
    place.conf(&format!(
        "{at}/data CLOSE_WRITE [recursive name=below] -\n{at} CLOSE_WRITE [recursive name=on] -\n\
         {at}/data/file ARRIVED [name=file] -\n"
    ));
    let _daemon = place.start();
    for round in 1..=5 {
        wait_for_state(&place, "below", "waiting");
        let list = place.ctl_ok(&["list"]);
        assert!(list.contains("waiting") && list.contains("active"), "{list}");
        let mounted = mount();
        wait_for_state(&place, "below", "active");
        fs::write(format!("{at}/data/deep/f"), "x").unwrap();
        fs::write(format!("{at}/data/file"), "x").unwrap();
        assert_eq!(place.settle_fired("below", 2 * round), 2 * round);
        assert_eq!(place.fired("file"), round);
        // the daemon does not keep it busy
        mounted.unmount();
        wait_for_state(&place, "below", "waiting");
        // what is underneath is watched again
        let before = place.fired("on");
        fs::write(format!("{at}/f"), "x").unwrap();
        assert_eq!(place.settle_fired("on", before + 1), before + 1);
        fs::remove_file(format!("{at}/f")).unwrap();
    }
}

#[test]
fn file_systems_below_a_tree_are_part_of_it() {
    let place = Place::new();
    let (top, source) = (place.mkdir("tree"), place.mkdir("source"));
    place.conf(&format!("{top} CLOSE_WRITE [recursive name=written] -\n"));
    let _daemon = place.start();
    let mut fired = 0;
    for _ in 0..3 {
        let tmpfs = Mount::of_type("tmpfs", "size=1m", &place.mkdir("tree/a/tmpfs"));
        let fuse = place.mkdir("tree/b/fuse");
        let fuse = Mount::by(&["bindfs", &source, &fuse], &fuse);
        let inner = Mount::of_type("tmpfs", "size=1m", &format!("{}/inner", tmpfs.at()));
        for mount in [&tmpfs, &fuse, &inner] {
            let path = format!("{}/new/f", mount.at());
            // until the mount has been seen, nothing tells of what happens there
            wait_until("the mount to be watched", || {
                let before = place.fired("written");
                let _ = fs::remove_dir_all(format!("{}/new", mount.at()));
                fs::create_dir(format!("{}/new", mount.at())).unwrap();
                fs::write(&path, "x").unwrap();
                place.settle();
                place.fired("written") > before
            });
            fired = place.fired("written");
            fs::write(&path, "x").unwrap();
            fired += 1;
            assert_eq!(place.settle_fired("written", fired), fired);
            assert_eq!(place.tail_of("written").last().unwrap()["path"], path);
        }
        for mount in [inner, fuse, tmpfs] {
            mount.unmount();
        }
        place.settle();
        assert_eq!(place.fired("written"), fired, "unmounting is no writing");
    }
}

#[test]
fn a_bind_mount_is_told_under_the_path_that_the_rule_says() {
    let place = Place::new();
    let (real, bound) = (place.mkdir("real/deep"), place.mkdir("bound"));
    let _mount = Mount::by(&["mount", "--bind", &place.play("real"), &bound], &bound);
    place.conf(&format!("{bound} CLOSE_WRITE [recursive name=bound] -\n"));
    let _daemon = place.start();
    fs::write(format!("{real}/f"), "x").unwrap();
    fs::write(format!("{bound}/deep/g"), "x").unwrap();
    assert_eq!(place.settle_fired("bound", 2), 2);
    assert_eq!(place.paths_of("bound"), ["f", "g"].map(|name| format!("{bound}/deep/{name}")));
}

/// Another namespace has mounts of its own on the same file systems.
#[test]
fn writers_in_other_mount_namespaces_are_seen() {
    let place = Place::new();
    let (top, elsewhere) = (place.mkdir("tree/deep"), place.mkdir("elsewhere"));
    place.conf(&format!("{} CLOSE_WRITE [recursive name=written] -\n", place.play("tree")));
    let _daemon = place.start();
    let script = format!("mount --bind {} {elsewhere} && echo x > {elsewhere}/deep/f", place.play("tree"));
    crate::harness::run(&["unshare", "--mount", "--propagation", "private", "sh", "-c", &script]);
    assert_eq!(place.settle_fired("written", 1), 1);
    assert_eq!(place.paths_of("written"), [format!("{top}/f")]);
}
