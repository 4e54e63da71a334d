//! Mounts and broken file systems on the real kernel.

use super::super::tests::Nobody;
use super::super::{PathState, Queue};
use super::*;
use crate::config::filter::{Filter, Patterns};
use crate::config::rule::{Command, Options, RuleSpec};
use crate::service_manager::DescriptorStore;
use crate::watch::{Hit, Watch};
use facron_proto::RuleId;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::rc::Rc;

struct Fixture {
    watch: Watch,
    dir: tempfile::TempDir,
    mounted: Vec<PathBuf>,
}

impl Fixture {
    fn new() -> Self {
        Self {
            watch: Watch::new(DescriptorStore::default()).unwrap(),
            dir: tempfile::tempdir().unwrap(),
            mounted: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn rule(&mut self, id: u64, path: &str, events: Events, options: Options) -> PathState {
        let path = self.path(path);
        let spec = RuleSpec {
            path,
            events,
            options: options.into(),
            options_text: Vec::new(),
            command: Command::Record,
        };
        self.watch.attach(RuleId(id), Rc::new(spec), None).clone()
    }

    fn mount_tmpfs(&mut self, name: &str) {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        mount(Some("none"), &path, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        self.mounted.push(path);
    }

    fn umount(&mut self, name: &str) {
        let path = self.path(name);
        umount2(&path, MntFlags::empty()).unwrap();
        self.mounted.retain(|mounted| *mounted != path);
    }

    /// What fired: rule, path, old path, events.
    fn fired(&mut self) -> Vec<(u64, String, Option<String>, String)> {
        let mut hits = Vec::new();
        while self.watch.drain(&mut Nobody, &mut hits).unwrap() == Queue::More {}
        let shown = |path: &[u8]| {
            let path = Path::new(std::ffi::OsStr::from_bytes(path));
            path.strip_prefix(self.dir.path()).unwrap().display().to_string()
        };
        hits.iter()
            .map(|Hit { rule, event, .. }| {
                let old_path = event.old_path.as_deref().map(shown);
                (rule.0, shown(&event.path), old_path, event.events.to_string())
            })
            .collect()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        for path in self.mounted.iter().rev() {
            let _ = umount2(path, MntFlags::MNT_DETACH);
        }
    }
}

fn fired(
    rule: u64,
    path: &str,
    old_path: Option<&str>,
    events: &str,
) -> (u64, String, Option<String>, String) {
    (rule, path.to_owned(), old_path.map(str::to_owned), events.to_owned())
}

#[test]
#[cfg_attr(not(feature = "root-tests"), ignore = "needs root")]
fn mounts_at_and_below_a_path() {
    let mut it = Fixture::new();
    fs::create_dir_all(it.path("a/b")).unwrap();
    fs::create_dir(it.path("ab")).unwrap();
    assert_eq!(it.rule(1, "a", MOUNTING, Options::default()), PathState::Active);
    let patterns = Patterns { exclude: vec!["b".to_owned()], ..Patterns::default() };
    let options = Options { filter: Filter::new(patterns).unwrap(), ..Options::default() };
    it.rule(2, "a", Events::MNT_DETACH, options);
    it.mount_tmpfs("a");
    it.mount_tmpfs("a/b/c");
    it.mount_tmpfs("ab");
    let attached = "FAN_MNT_ATTACH";
    assert_eq!(it.fired(), [fired(1, "a", None, attached), fired(1, "a/b/c", None, attached)]);
    it.umount("a/b/c");
    it.umount("a");
    it.umount("ab");
    let detached = "FAN_MNT_DETACH";
    let expected =
        [fired(1, "a/b/c", None, detached), fired(1, "a", None, detached), fired(2, "a", None, detached)];
    assert_eq!(it.fired(), expected);
    it.watch.detach(RuleId(1));
    it.watch.detach(RuleId(2));
    assert!(it.watch.special.mounting.is_none());
}

#[test]
#[cfg_attr(not(feature = "root-tests"), ignore = "needs root")]
fn what_moves_is_told_under_both_places() {
    let mut it = Fixture::new();
    fs::create_dir(it.path("a")).unwrap();
    fs::create_dir(it.path("link-target")).unwrap();
    std::os::unix::fs::symlink(it.path("a"), it.path("link")).unwrap();
    it.mount_tmpfs("link-target");
    // Only what is on a private mount can be moved.
    let private = MsFlags::MS_PRIVATE;
    mount(None::<&str>, &it.path("link-target"), None::<&str>, private, None::<&str>).unwrap();
    it.mount_tmpfs("link-target/from");
    it.mount_tmpfs("link-target/from/below");
    fs::create_dir(it.path("link-target/to")).unwrap();
    it.rule(1, "link-target", MOUNTING, Options::default());
    it.rule(2, "link-target/from", MOUNTING, Options::default());
    it.rule(3, "link", MOUNTING, Options::default());
    let (from, to) = (it.path("link-target/from"), it.path("link-target/to"));
    mount(Some(&from), &to, None::<&str>, MsFlags::MS_MOVE, None::<&str>).unwrap();
    it.mounted = vec![it.path("link-target"), to, it.path("link-target/to/below")];
    let both = "FAN_MNT_ATTACH|FAN_MNT_DETACH";
    let expected = [
        fired(1, "link-target/to", Some("link-target/from"), both),
        fired(2, "link-target/from", None, "FAN_MNT_DETACH"),
    ];
    assert_eq!(it.fired(), expected);
    it.umount("link-target/to/below");
    assert_eq!(it.fired(), [fired(1, "link-target/to/below", None, "FAN_MNT_DETACH")]);
    it.mount_tmpfs("a/x");
    assert_eq!(it.fired(), [fired(3, "link/x", None, "FAN_MNT_ATTACH")], "as the rule says it");
}

#[test]
#[cfg_attr(not(feature = "root-tests"), ignore = "needs root")]
fn with_other_events_in_one_rule() {
    let mut it = Fixture::new();
    fs::create_dir(it.path("a")).unwrap();
    it.rule(1, "a", MOUNTING.with(Events::CREATE), Options::default());
    fs::write(it.path("a/file"), "").unwrap();
    it.mount_tmpfs("a");
    let mut fired_events = it.fired();
    fired_events.sort();
    assert_eq!(fired_events, [fired(1, "a", None, "FAN_MNT_ATTACH"), fired(1, "a/file", None, "FAN_CREATE")]);
}

/// The loop device of a mounted image, by its mount point.
fn device(mount_point: &Path) -> String {
    let source = Process::new("findmnt").args(["-no", "SOURCE"]).arg(mount_point).output().unwrap();
    String::from_utf8(source.stdout).unwrap().trim().replace("/dev/", "")
}

#[test]
#[cfg_attr(not(feature = "root-tests"), ignore = "needs root")]
fn errors_of_the_file_system_that_a_path_is_on() {
    let mut it = Fixture::new();
    fs::create_dir(it.path("m")).unwrap();
    let image = it.path("image");
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    assert!(Process::new("mkfs.ext4").args(["-q"]).arg(&image).status().unwrap().success());
    let wait = it.rule(1, "m/dir", Events::FS_ERROR, Options::default());
    assert!(matches!(wait, PathState::Waiting(_)), "{wait:?}");
    it.watch.detach(RuleId(1));
    it.rule(2, ".", Events::FS_ERROR, Options::default());
    let mut mount_it = Process::new("mount");
    mount_it.args(["-o", "loop,errors=continue"]).arg(&image).arg(it.path("m"));
    assert!(mount_it.status().unwrap().success());
    it.mounted.push(it.path("m"));
    fs::create_dir(it.path("m/dir")).unwrap();
    let state = it.rule(3, "m/dir", Events::FS_ERROR, Options::default());
    assert_eq!(state, PathState::Active);
    let trigger = PathBuf::from("/sys/fs/ext4").join(device(&it.path("m"))).join("trigger_fs_error");
    fs::write(trigger, "facron's test").unwrap();
    assert_eq!(it.fired(), [fired(3, "m/dir", None, "FAN_FS_ERROR")]);
    it.umount("m");
}

#[test]
#[cfg_attr(not(feature = "root-tests"), ignore = "needs root")]
fn where_the_kernel_refuses_the_rule_says_so() {
    let mut it = Fixture::new();
    let state = it.rule(1, "/proc", Events::FS_ERROR, Options::default());
    let PathState::Failed(why) = state else { panic!("{state:?}") };
    assert_eq!(why, "/proc: FAN_FS_ERROR cannot be had: its file system does not tell of them");
    it.rule(2, ".", Events::FS_ERROR, Options::default());
    it.watch.detach(RuleId(1));
    it.watch.detach(RuleId(2));
    assert!(it.watch.special.errors.is_none() && it.watch.special.refused.is_empty());
}

#[test]
fn refusals_name_the_reason() {
    for errno in [Errno::EINVAL, Errno::EPERM, Errno::EOPNOTSUPP, Errno::EXDEV, Errno::ENOMEM] {
        assert!(no_mounting(errno).starts_with("FAN_MNT_ATTACH and FAN_MNT_DETACH cannot be had: "));
        assert!(no_errors(errno).starts_with("FAN_FS_ERROR cannot be had: "));
    }
}
