//! File systems of a test's own.

use super::{Place, wait_until};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

/// A mounted file system; unmounted when dropped, whatever happens.
///
/// To be declared after its place: that must not be removed through it.
pub struct Mount {
    at: String,
}

impl Mount {
    /// Runs a command that mounts something at `at`, which is made if need be.
    #[track_caller]
    pub fn by(command: &[&str], at: &str) -> Self {
        if !Path::new(at).exists() {
            fs::create_dir_all(at).unwrap();
        }
        run(command);
        assert!(is_mounted(at), "{command:?} mounted nothing at {at}");
        Self { at: at.to_owned() }
    }

    /// What somebody has mounted at `at`.
    pub(super) fn found(at: &str) -> Option<Self> {
        is_mounted(at).then(|| Self { at: at.to_owned() })
    }

    /// Mounts a file system without a device.
    #[track_caller]
    pub fn of_type(kind: &str, options: &str, at: &str) -> Self {
        Self::by(&["mount", "-t", kind, "-o", options, "facron-test", at], at)
    }

    /// Mounts something by the system call alone, which is as fast as can be.
    #[track_caller]
    pub(super) fn at_once(source: &str, kind: &str, options: Option<&str>, at: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        mount(Some(source), at, Some(kind), MsFlags::empty(), options).unwrap();
        Self { at: at.to_owned() }
    }

    /// Mounts the image of a file system.
    #[track_caller]
    pub fn of_image(image: &str, options: &str, at: &str) -> Self {
        Self::by(&["mount", "-o", &format!("loop,{options}"), image, at], at)
    }

    /// Mounts an overlay; all its directories are made if need be.
    #[track_caller]
    pub fn overlay(lower: &str, upper: &str, at: &str) -> Self {
        let work = format!("{upper}.work");
        for dir in [lower, upper, &work] {
            fs::create_dir_all(dir).unwrap();
        }
        Self::of_type("overlay", &format!("lowerdir={lower},upperdir={upper},workdir={work}"), at)
    }

    /// Where it is.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// Unmounts it, which fails if anybody has something open there.
    #[track_caller]
    pub fn unmount(self) {
        umount2(&*self.at, MntFlags::empty()).unwrap();
        std::mem::forget(self);
    }

    /// Unmounts it as soon as nobody has anything open there.
    #[track_caller]
    pub fn unmount_when_idle(self) {
        wait_until("the mount to be idle", || umount2(&*self.at, MntFlags::empty()).is_ok());
        std::mem::forget(self);
    }

    /// Forgets it: somebody else has unmounted it.
    #[track_caller]
    pub fn forget(self) {
        assert!(!is_mounted(&self.at));
        std::mem::forget(self);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // What is still in use goes when it no longer is.
        let _ = Command::new("umount").args(["--no-canonicalize", "--lazy", &self.at]).status();
    }
}

impl Place {
    /// Makes an image of a file system by a command that gets its path as the last
    /// argument. The image is sparse.
    #[track_caller]
    pub fn image(&self, name: &str, megabytes: u64, mkfs: &[&str]) -> String {
        let image = self.path(name);
        File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        run(&[mkfs, &[&image]].concat());
        image
    }
}

/// A control group and those below it; removed when dropped. The tree of groups is
/// the system's own, wherever it is mounted.
pub struct Cgroup(String);

impl Cgroup {
    /// Makes it.
    #[track_caller]
    pub fn new(path: String) -> Self {
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl fmt::Display for Cgroup {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove_directories(Path::new(&self.0));
    }
}

fn remove_directories(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_directories(&entry.path());
        }
    }
    // A test that failed may have left a process there.
    let _ = fs::remove_dir(dir);
}

/// Runs a command, which must succeed.
#[track_caller]
pub fn run(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error} (see tests/run)"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn is_mounted(at: &str) -> bool {
    let field = at.replace(' ', "\\040");
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == Some(&field))
}

/// Waits until the daemon has seen that the table of mounts has changed: a rule's
/// state tells.
#[track_caller]
pub fn wait_for_state(place: &Place, rule: &str, state: &str) {
    wait_until(&format!("rule {rule} to be {state}"), || place.rule(rule)["state"] == state);
}
