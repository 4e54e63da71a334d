//! A file system of each kind, to be mounted again and again.

use super::{Mount, Place, run};
use std::fmt::Write;
use std::fs;

/// How much of what is wrong is shown of each kind.
const SHOWN: usize = 4;

/// A file system that outlives its mounts, but for one in memory.
pub struct Volume {
    kind: &'static str,
    at: String,
    source: Source,
}

enum Source {
    Device(LoopDevice),
    Memory,
    Layers(String),
    Directory(String),
}

/// The device of an image; detached when dropped.
struct LoopDevice(String);

impl Drop for LoopDevice {
    fn drop(&mut self) {
        run(&["losetup", "--detach", &self.0]);
    }
}

impl Place {
    /// Makes a file system of a kind: `ext4`, `xfs`, `btrfs`, `tmpfs`, `overlay`, `bindfs`.
    #[track_caller]
    pub fn volume(&self, kind: &'static str) -> Volume {
        let source = match kind {
            "ext4" => self.disk(kind, 64, &["mkfs.ext4", "-q", "-i", "4096"]),
            "xfs" => self.disk(kind, 300, &["mkfs.xfs", "-q"]),
            "btrfs" => self.disk(kind, 128, &["mkfs.btrfs", "-q"]),
            "tmpfs" => Source::Memory,
            "overlay" => {
                let [lower, upper, work] = ["lower", "upper", "work"].map(|name| self.layer(name));
                Source::Layers(format!("lowerdir={lower},upperdir={upper},workdir={work}"))
            }
            "bindfs" => Source::Directory(self.layer("bound")),
            _ => panic!("there is no {kind}"),
        };
        Volume { kind, at: self.path(&format!("mnt/{kind}")), source }
    }

    fn disk(&self, kind: &str, megabytes: u64, mkfs: &[&str]) -> Source {
        let image = self.image(&format!("{kind}.img"), megabytes, mkfs);
        Source::Device(LoopDevice(run(&["losetup", "--find", "--show", &image]).trim().to_owned()))
    }

    fn layer(&self, name: &str) -> String {
        let path = self.path(&format!("layers/{name}"));
        fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Volume {
    /// Mounts it, always at the same place. To be dropped after its mount.
    #[track_caller]
    pub fn mount(&self) -> Mount {
        match &self.source {
            Source::Device(device) => Mount::at_once(&device.0, self.kind, None, &self.at),
            Source::Memory => Mount::at_once("facron-test", self.kind, Some("size=64m"), &self.at),
            Source::Layers(layers) => Mount::at_once("facron-test", self.kind, Some(layers), &self.at),
            Source::Directory(source) => Mount::by(&["bindfs", source, &self.at], &self.at),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Something in it, while it is mounted.
    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.at)
    }
}

/// Does the same on file systems of all kinds, each with a place of its own, and tells
/// for each kind what was wrong.
#[track_caller]
pub fn on_each_kind(test: impl Fn(&Place, &Volume) -> Vec<String>) {
    let mut table = String::new();
    let mut is_good = true;
    for kind in ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "bindfs"] {
        let place = Place::new();
        let wrong = test(&place, &place.volume(kind));
        is_good &= wrong.is_empty();
        writeln!(table, "{kind:>8}: {} wrong", wrong.len()).unwrap();
        for line in wrong.iter().take(SHOWN) {
            writeln!(table, "{:>8}  {line}", "").unwrap();
        }
    }
    assert!(is_good, "{table}");
}
