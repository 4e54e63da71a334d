//! The table of mounts as `/proc` has it (`proc_pid_mountinfo(5)`): paths, and types
//! of file systems.

/// File systems without a device of which nobody but this kernel knows anything. One
/// that is missing here is looked at by an envoy, which only takes longer.
const OF_KERNEL: &[&str] = &[
    "aufs",
    "autofs",
    "bcachefs",
    "binder",
    "binfmt_misc",
    "bpf",
    "btrfs",
    "cgroup",
    "cgroup2",
    "configfs",
    "cpuset",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nfsd",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "resctrl",
    "rootfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "sysfs",
    "tmpfs",
    "tracefs",
    "zfs",
];

/// File systems with a device that others share.
const SHARED: &[&str] = &["gfs2", "ocfs2"];

/// Whether somebody else than this kernel has to answer when a file system of this
/// type, on a device of this number, is looked at.
pub fn is_served(kind: &str, device: &[u8]) -> bool {
    if device.starts_with(b"0:") {
        !OF_KERNEL.contains(&kind)
    } else {
        kind == "fuseblk" || SHARED.contains(&kind)
    }
}

/// A path in a table of `/proc`, where blanks and backslashes stand as `\040`.
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, others)) = rest.split_first() {
        let octal = others.get(..3).filter(|_| *first == b'\\').and_then(|digits| {
            let digits = str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        out.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &others[3..] } else { others };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_serves_a_file_system() {
        for (kind, device) in [("ext4", "8:1"), ("tmpfs", "0:40"), ("btrfs", "0:41"), ("fusectl", "0:42")] {
            assert!(!is_served(kind, device.as_bytes()), "{kind}");
        }
        for (kind, device) in
            [("fuse", "0:40"), ("fuseblk", "8:1"), ("fuse.sshfs", "0:41"), ("nfs4", "0:42"), ("gfs2", "8:1")]
        {
            assert!(is_served(kind, device.as_bytes()), "{kind}");
        }
        assert!(is_served("made-tomorrow", b"0:43"));
    }
}
