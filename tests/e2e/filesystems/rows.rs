//! The rows of the table: file systems, each with what the cases need.

use super::Reasons;
use super::cases::{CASES, Case};
use crate::harness::{Cgroup, Mount, Place, Volume, run};
use std::path::PathBuf;

/// One file system.
pub struct Row {
    /// Its name in the table.
    pub name: &'static str,
    /// The directory of all cases.
    pub base: PathBuf,
    /// What could not be prepared there, and why.
    pub unprepared: Reasons,
    /// A file that is there by itself, and can be written.
    pub given: Option<PathBuf>,
}

/// What is mounted, and goes in this order.
pub struct Mounts {
    _cgroup: Option<Cgroup>,
    _mounted: Vec<Mount>,
    _volumes: Vec<Volume>,
}

/// Mounts all of them, and prepares the cases there.
pub fn mount_all(place: &Place) -> (Vec<Row>, Mounts) {
    let mut making =
        Making { place, rows: Vec::new(), cgroup: None, mounts: Vec::new(), volumes: Vec::new() };
    making.disks();
    making.btrfs();
    making.layers();
    making.fuse();
    making.read_only();
    making.of_the_kernel();
    // The last is unmounted first: some lie on others.
    making.mounts.reverse();
    let Making { rows, cgroup, mounts, volumes, .. } = making;
    (rows, Mounts { _cgroup: cgroup, _mounted: mounts, _volumes: volumes })
}

struct Making<'a> {
    place: &'a Place,
    rows: Vec<Row>,
    cgroup: Option<Cgroup>,
    mounts: Vec<Mount>,
    volumes: Vec<Volume>,
}

impl Making<'_> {
    fn at(&self, name: &str) -> String {
        self.place.path(&format!("mnt/{name}"))
    }

    /// A row for what is mounted; the cases are prepared there.
    fn add(&mut self, name: &'static str, mount: Mount) {
        let base = PathBuf::from(mount.at()).join("cases");
        self.mounts.push(mount);
        self.add_below(name, base);
    }

    fn add_volume(&mut self, name: &'static str, kind: &'static str) {
        let volume = self.place.volume(kind);
        self.add(name, volume.mount());
        self.volumes.push(volume);
    }

    fn add_below(&mut self, name: &'static str, base: PathBuf) {
        // It may have been done below an overlay, or before a snapshot.
        let unprepared =
            if base.join(CASES[0].name).exists() { Reasons::new() } else { Case::prepare_all(&base) };
        self.rows.push(Row { name, base, unprepared, given: None });
    }

    fn prepared(&self, name: &str) -> String {
        let dir = self.place.path(name);
        Case::prepare_all(&PathBuf::from(&dir).join("cases"));
        dir
    }

    fn disks(&mut self) {
        for kind in ["ext4", "xfs", "tmpfs"] {
            self.add_volume(kind, kind);
        }
    }

    fn btrfs(&mut self) {
        self.add_volume("btrfs", "btrfs");
        let top = self.at("btrfs");
        for (name, made_by) in [
            ("btrfs-subvolume", &["create"][..]),
            ("btrfs-snapshot", &["snapshot", &format!("{top}/btrfs-subvolume")]),
        ] {
            let at = format!("{top}/{name}");
            run(&[&["btrfs", "subvolume"], made_by, &[&at]].concat());
            self.add_below(name, PathBuf::from(at).join("cases"));
        }
    }

    fn layers(&mut self) {
        self.add_volume("overlayfs", "overlay");
        let lower = self.prepared("lower");
        let lower = Mount::overlay(&lower, &self.place.path("upper-empty"), &self.at("overlayfs-lower"));
        self.add("overlayfs-lower", lower);
    }

    fn fuse(&mut self) {
        self.add_volume("bindfs", "bindfs");
        let image = self.place.image("fuse2fs.img", 32, &["mkfs.ext4", "-q"]);
        let at = self.at("fuse2fs");
        self.add("fuse2fs", Mount::by(&["fuse2fs", "-o", "rw,fakeroot", &image, &at], &at));
    }

    fn read_only(&mut self) {
        let source = self.prepared("packed");
        let squashed = self.place.path("squashfs.img");
        run(&["mksquashfs", &source, &squashed, "-quiet", "-no-progress"]);
        self.add("squashfs", Mount::of_image(&squashed, "ro", &self.at("squashfs")));
        let at = self.at("squashfuse");
        self.add("squashfuse", Mount::by(&["squashfuse", &squashed, &at], &at));
        let image = self.place.path("erofs.img");
        run(&["mkfs.erofs", "--quiet", &image, &source]);
        self.add("erofs", Mount::of_image(&image, "ro", &self.at("erofs")));
    }

    fn of_the_kernel(&mut self) {
        for (kind, given) in [
            ("proc", format!("{}/oom_score_adj", std::process::id())),
            ("sysfs", "kernel/rcu_expedited".to_owned()),
        ] {
            let mount = Mount::of_type(kind, "rw", &self.at(kind));
            let given = PathBuf::from(mount.at()).join(given);
            self.add(kind, mount);
            self.rows.last_mut().unwrap().given = Some(given);
        }
        let mount = Mount::of_type("cgroup2", "rw", &self.at("cgroup2"));
        let base = format!("{}/{}", mount.at(), self.place.name());
        self.mounts.push(mount);
        self.cgroup = Some(Cgroup::new(base.clone()));
        let base = PathBuf::from(base);
        let given = base.join("cgroup.max.depth");
        self.add_below("cgroup2", base);
        self.rows.last_mut().unwrap().given = Some(given);
    }
}
