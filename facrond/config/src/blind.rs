//! Changes at a rule's PATH that this kernel does not see: they are made behind a network
//! file system, a FUSE mount or an overlay.
//!
//! The rule works for everything that is done at PATH itself. So this is only a warning.

use super::diagnostic::show_path;
use super::rule::RuleSpec;
use crate::events::Events;
use crate::mountinfo::{Mount, Mounts, path};
use std::path::{Path, PathBuf};

/// File systems whose files can be changed by other machines, or by the host.
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

/// Events that the kernel reports at any place.
const EVERYWHERE: Events =
    Events::MNT_ATTACH.with(Events::MNT_DETACH).with(Events::FS_ERROR).with(Events::Q_OVERFLOW);

/// The changes that a rule misses, and what to do about it.
pub(super) fn blind_spot_of(spec: &RuleSpec, mounts: &Mounts) -> Option<(String, String)> {
    let seen_everywhere = spec.events.without(Events::FLAGS).without(EVERYWHERE).is_empty();
    if seen_everywhere || !mounts.table.iter().any(|mount| behind(mount).is_some()) {
        return None;
    }
    let path = &spec.path;
    blind_at(mounts, path, path).or_else(|| blind_at(mounts, &mounts.real(path), path))
}

fn blind_at(mounts: &Mounts, real: &Path, path: &Path) -> Option<(String, String)> {
    let mount = mounts.over(real)?;
    let (behind, kind) = (behind(mount)?, &mount.kind);
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
            // An upper directory that does not exist here, such as a container's, is ignored.
            let upper = show_path(Some(&upper).filter(|upper| upper.exists())?);
            let message = format!(
                "`{path}` is on an overlay: changes made in its upper directory `{upper}` are not seen"
            );
            (message, "make them at PATH")
        }
    };
    Some((message, help.to_owned()))
}

/// The place where the content of a mount can be changed without events at the mount.
enum Behind {
    Network,
    Fuse,
    /// The upper directory of an overlay.
    Overlay(PathBuf),
}

fn behind(mount: &Mount) -> Option<Behind> {
    match mount.kind.as_str() {
        kind if NETWORK.contains(&kind) => Some(Behind::Network),
        kind if kind == "fuse" || kind.starts_with("fuse.") => Some(Behind::Fuse),
        "overlay" => {
            let mut options = mount.options.split(|byte| *byte == b',');
            Some(Behind::Overlay(path(options.find_map(|option| option.strip_prefix(b"upperdir="))?)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::Command;
    use std::fs;
    use std::rc::Rc;

    fn spec(path: &str, events: Events) -> RuleSpec {
        let (options, options_text) = (Rc::default(), Vec::new());
        RuleSpec { path: path.into(), events, options, options_text, command: Command::Record }
    }

    fn told(mounts: &Mounts, path: &str) -> Option<String> {
        blind_spot_of(&spec(path, Events::MODIFY), mounts).map(|(message, _)| message)
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
        let mounts = Mounts::parse(format!("1 0 0:9 / {} rw - ceph x rw", target.display()).as_bytes());
        let path = link.join("a/b");
        assert!(told(&mounts, path.to_str().unwrap()).is_some());
        assert!(mounts.needs_server(&path) && mounts.needs_server(&link) && !mounts.needs_server(dir.path()));
        assert_eq!(told(&mounts, dir.path().to_str().unwrap()), None);
        let of_mounts = spec(path.to_str().unwrap(), Events::MNT_ATTACH);
        assert_eq!(blind_spot_of(&of_mounts, &mounts), None, "mounts are seen everywhere");
    }
}
