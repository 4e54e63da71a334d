//! Whether changes at a rule's PATH can go by the kernel: those that are made
//! behind a network file system, a FUSE mount or an overlay.
//!
//! The rule works for all that is done at PATH itself, so this is only ever a
//! warning.

use super::diagnostic::{Diagnostic, show_path};
use super::rule::RuleSpec;
use crate::events::Events;
use crate::mountinfo::{is_served, unescape};
use facron_proto::Severity;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// File systems whose files other machines, or the host, change.
const NETWORK: &[&str] = &[
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "gfs2",
    "glusterfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "orangefs",
    "smb3",
    "smbfs",
    "virtiofs",
    "vboxsf",
    "fuse.ceph",
    "fuse.ceph-fuse",
    "fuse.curlftpfs",
    "fuse.davfs",
    "fuse.glusterfs",
    "fuse.juicefs",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.sshfs",
    "fuse.vmhgfs-fuse",
];

/// How many symbolic links a path may have, as in `path_resolution(7)`.
const MAX_LINKS: usize = 40;

/// What can be told of any place.
const EVERYWHERE: Events =
    Events::MNT_ATTACH.with(Events::MNT_DETACH).with(Events::FS_ERROR).with(Events::Q_OVERFLOW);

/// The mounts as this process sees them, in the order of mounting.
#[derive(Debug)]
pub(super) struct Mounts(Vec<Mount>);

#[derive(Debug)]
struct Mount {
    point: PathBuf,
    kind: String,
    is_served: bool,
    upper: Option<PathBuf>,
}

impl Mounts {
    /// As they are now; none where that is not to be had.
    pub(super) fn read() -> Self {
        Self::parse(&fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    fn parse(text: &[u8]) -> Self {
        Self(text.split(|byte| *byte == b'\n').filter_map(Mount::parse).collect())
    }

    /// What goes by a rule and what would be right.
    pub(super) fn blind_spot(&self, spec: &RuleSpec) -> Option<(String, String)> {
        if spec.events.without(Events::FLAGS).without(EVERYWHERE).is_empty() {
            return None;
        }
        if !self.0.iter().any(|mount| mount.behind().is_some()) {
            return None;
        }
        let path = &spec.path;
        self.blind_at(path, path).or_else(|| self.blind_at(&self.real(path), path))
    }

    /// Whether somebody has to answer when a path is looked at, who may not.
    pub(super) fn is_served(&self, path: &Path) -> bool {
        self.0.iter().any(|mount| mount.is_served) && self.holds(&self.real(path))
    }

    /// Whether a path without links is on a served mount, or below one.
    fn holds(&self, real: &Path) -> bool {
        self.0.iter().any(|mount| mount.is_served && mount.has(real))
    }

    /// Where a path leads, as far as it exists. Of what is served it is taken as it is
    /// written: a server that does not answer is not waited for.
    fn real(&self, path: &Path) -> PathBuf {
        let (mut real, mut links) = (PathBuf::from("/"), 0);
        let mut todo: Vec<OsString> = names(path).rev().collect();
        while let Some(name) = todo.pop() {
            if name == ".." {
                real.pop();
                continue;
            }
            real.push(name);
            if self.holds(&real) {
                real.extend(todo.drain(..).rev());
            } else if links < MAX_LINKS
                && let Ok(target) = fs::read_link(&real)
            {
                links += 1;
                real.pop();
                // An absolute one replaces what there is.
                real.push(if target.is_absolute() { "/" } else { "" });
                todo.extend(names(&target).rev());
            }
        }
        real
    }

    fn blind_at(&self, real: &Path, path: &Path) -> Option<(String, String)> {
        let mount = self.0.iter().filter(|mount| mount.has(real));
        let mount = mount.max_by_key(|mount| mount.point.as_os_str().len())?;
        let (behind, kind) = (mount.behind()?, &mount.kind);
        let path = show_path(path);
        let (message, help) = match behind {
            Behind::Network => (
                format!(
                    "`{path}` is on a network file system ({kind}): changes made by other machines are not seen"
                ),
                "watch it on the machine where they are made",
            ),
            Behind::Fuse => (
                format!("`{path}` is on a FUSE file system ({kind}): changes made behind it are not seen"),
                "watch the directory that it shows, if there is one, for those",
            ),
            Behind::Overlay(upper) => {
                // One that cannot be reached from here, such as a container's, is left alone.
                let upper = show_path(Some(upper).filter(|upper| upper.exists())?);
                let message = format!(
                    "`{path}` is on an overlay: changes made in its upper directory `{upper}` are not seen"
                );
                (message, "make them at PATH")
            }
        };
        Some((message, help.to_owned()))
    }
}

/// Who can change what is on a mount without the kernel's telling.
enum Behind<'a> {
    Network,
    Fuse,
    /// Whoever writes to the upper directory.
    Overlay(&'a Path),
}

impl Mount {
    /// A line of `proc_pid_mountinfo(5)`.
    fn parse(line: &[u8]) -> Option<Self> {
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let dash = words.iter().position(|word| *word == b"-")?;
        let options = words.get(dash + 3).copied().unwrap_or_default();
        let upper = options.split(|byte| *byte == b',').find_map(|option| option.strip_prefix(b"upperdir="));
        let (point, kind) = (path(words.get(4)?), String::from_utf8_lossy(words.get(dash + 1)?).into_owned());
        // Without the one at `/`, nothing works anyway.
        let is_served = is_served(&kind, words.get(2)?) && point != Path::new("/");
        Some(Self { point, kind, is_served, upper: upper.map(path) })
    }

    fn behind(&self) -> Option<Behind<'_>> {
        match self.kind.as_str() {
            kind if NETWORK.contains(&kind) => Some(Behind::Network),
            kind if kind == "fuse" || kind.starts_with("fuse.") => Some(Behind::Fuse),
            "overlay" => self.upper.as_deref().map(Behind::Overlay),
            _ => None,
        }
    }

    /// Whether a path without anything superfluous is below the mount point.
    fn has(&self, path: &Path) -> bool {
        let point = self.point.as_os_str().as_bytes();
        let rest = path.as_os_str().as_bytes().strip_prefix(point);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || point == b"/")
    }
}

fn path(escaped: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(escaped)))
}

/// The names in a path, `..` too.
fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
}

/// A warning about a rule that comes from no file, if changes can go by it.
pub fn blind_spot(spec: &RuleSpec) -> Option<Diagnostic> {
    let (message, help) = Mounts::read().blind_spot(spec)?;
    Some(Diagnostic::of_words(Severity::Warning, message).help(help))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::Command;
    use std::rc::Rc;

    fn spec(path: &str, events: Events) -> RuleSpec {
        let (options, options_text) = (Rc::default(), Vec::new());
        RuleSpec { path: path.into(), events, options, options_text, command: Command::Record }
    }

    fn told(mounts: &Mounts, path: &str) -> Option<String> {
        mounts.blind_spot(&spec(path, Events::MODIFY)).map(|(message, _)| message)
    }

    #[test]
    fn by_the_mount_that_a_path_is_on() {
        let mounts = Mounts::parse(
            b"21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
              22 21 0:20 / /no-such\\040place/nfs rw - nfs4 server:/x rw,vers=4.2\n\
              23 22 8:1 / /no-such\\040place/nfs/disk rw - ext4 /dev/sdb1 rw\n\
              24 21 0:21 / /no-such-fuse rw shared:3 master:1 - fuse.bindfs /x rw\n\
              25 21 0:22 / /no-such-ntfs rw - fuseblk /dev/sdc rw\n\
              26 21 0:23 / /no-such-overlay rw - overlay o rw,lowerdir=/a,upperdir=/usr,workdir=/c\n\
              27 21 0:24 / /no-such-container rw - overlay o rw,upperdir=/no/such/upper,workdir=/c\n\
              half a line\n",
        );
        let nfs = "is on a network file system (nfs4): changes made by other machines are not seen";
        assert_eq!(told(&mounts, "/no-such place/nfs/a"), Some(format!("`/no-such place/nfs/a` {nfs}")));
        assert_eq!(told(&mounts, "/no-such place/nfs"), Some(format!("`/no-such place/nfs` {nfs}")));
        for fine in
            ["/no-such place/nfs/disk/a", "/no-such place/nfsx", "/", "/no-such-ntfs/a", "/no-such-container"]
        {
            assert_eq!(told(&mounts, fine), None, "{fine}");
        }
        let fuse =
            "`/no-such-fuse/a` is on a FUSE file system (fuse.bindfs): changes made behind it are not seen";
        assert_eq!(told(&mounts, "/no-such-fuse/a").as_deref(), Some(fuse));
        let overlay =
            "`/no-such-overlay/a` is on an overlay: changes made in its upper directory `/usr` are not seen";
        assert_eq!(told(&mounts, "/no-such-overlay/a").as_deref(), Some(overlay));
    }

    #[test]
    fn the_last_mount_at_a_place_counts() {
        let mounts = Mounts::parse(
            b"1 0 8:1 / / rw - ext4 a rw\n2 1 0:1 / /no-such rw - nfs a rw\n3 2 0:2 / /no-such rw - tmpfs b rw\n",
        );
        assert_eq!(told(&mounts, "/no-such/a"), None);
    }

    #[test]
    fn links_are_followed_as_far_as_there_is_something() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let mounts =
            Mounts(vec![Mount { point: target, kind: "ceph".to_owned(), is_served: true, upper: None }]);
        let path = link.join("a/b");
        assert!(told(&mounts, path.to_str().unwrap()).is_some());
        assert!(mounts.is_served(&path) && mounts.is_served(&link) && !mounts.is_served(dir.path()));
        assert_eq!(told(&mounts, dir.path().to_str().unwrap()), None);
        let of_mounts = spec(path.to_str().unwrap(), Events::MNT_ATTACH);
        assert_eq!(mounts.blind_spot(&of_mounts), None, "mounts are seen everywhere");
    }
}
