//! The table of mounts, `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`). It tells where file
//! systems are mounted, which names a place has, and which places depend on a server.

use crate::route::{Route, Start};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    /// Its number. The kernel uses the number of a mount that is gone again.
    pub id: u32,
    /// The mount that this one is on.
    pub parent: u32,
    /// `major:minor`, where the major number is 0 for a file system without a device.
    pub device: String,
    /// The directory of its file system that is mounted.
    pub root: PathBuf,
    pub point: PathBuf,
    /// The type of the file system.
    pub kind: String,
    /// The options of the file system, joined by commas, with the escapes of the table.
    pub options: Vec<u8>,
}

impl Mount {
    /// `36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 /dev/root rw,errors=continue`
    pub fn parse(line: &[u8]) -> Option<Self> {
        let text = |field| String::from_utf8_lossy(field).into_owned();
        let mut fields = line.split(|byte| *byte == b' ');
        let mut next = || fields.next();
        let (id, parent) = (number(next()?)?, number(next()?)?);
        let (device, root, point) = (text(next()?), path(next()?), path(next()?));
        let mut system = fields.skip_while(|field| *field != b"-").skip(1);
        let kind = text(system.next()?);
        let options = system.nth(1).unwrap_or_default().to_vec();
        Some(Self { id, parent, device, root, point, kind, options })
    }

    /// Whether a look at the mount waits for a server, which may not answer. The mount at `/`
    /// does not count, because nothing works without it.
    pub fn needs_server(&self) -> bool {
        needs_server(&self.kind, &self.device) && self.point != Path::new("/")
    }
}

/// The mounts as this process sees them, in the order of mounting.
#[derive(Debug, Default)]
pub struct Mounts {
    pub table: Vec<Mount>,
    /// The targets of links that lead to many paths; none for other directories.
    links: RefCell<HashMap<PathBuf, Option<OsString>>>,
}

impl Mounts {
    /// The present mounts; none if the table cannot be read.
    pub fn read() -> Self {
        Self::parse(&fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    pub fn parse(table: &[u8]) -> Self {
        let lines = table.split(|byte| *byte == b'\n');
        Self { table: lines.filter_map(Mount::parse).collect(), links: RefCell::default() }
    }

    /// The mount of a path without symbolic links. If two are at one place, the later one
    /// hides the other.
    pub fn over(&self, path: &Path) -> Option<&Mount> {
        let over = self.table.iter().filter(|mount| path.starts_with(&mount.point));
        over.max_by_key(|mount| mount.point.as_os_str().len())
    }

    /// Whether this path is a mount point.
    pub fn is_point(&self, path: &Path) -> bool {
        self.table.iter().any(|mount| mount.point == path)
    }

    /// All names of a path without symbolic links, the path itself included. A bind mount
    /// and its source are names of the same place.
    pub fn aliases(&self, path: &Path) -> Vec<PathBuf> {
        let mut names = vec![path.to_owned()];
        let Some(mount) = self.over(path) else { return names };
        let Ok(below) = path.strip_prefix(&mount.point) else { return names };
        let inside = mount.root.join(below);
        for other in self.table.iter().filter(|other| other.device == mount.device) {
            let Ok(below) = inside.strip_prefix(&other.root) else { continue };
            // By components: an empty `below` must not add a slash at the end.
            let name: PathBuf = other.point.components().chain(below.components()).collect();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Whether a look at a path waits for a server, which may not answer.
    pub fn needs_server(&self, path: &Path) -> bool {
        self.table.iter().any(Mount::needs_server) && self.is_below_server(&self.real(path))
    }

    /// The same for a path without symbolic links.
    fn is_below_server(&self, real: &Path) -> bool {
        self.table.iter().any(|mount| mount.needs_server() && real.starts_with(&mount.point))
    }

    /// The path with its symbolic links resolved, as far as it exists. A part that depends on
    /// a server stays unchanged, so that nobody waits for a server.
    pub fn real(&self, path: &Path) -> PathBuf {
        let mut real = PathBuf::from("/");
        let mut route = Route::new(path.as_os_str().as_bytes());
        while let Some(name) = route.next() {
            if *name == *b".." {
                real.pop();
                continue;
            }
            real.push(OsString::from_vec(name.into()));
            if self.is_below_server(&real) {
                real.extend(route.by_ref().map(|name| OsString::from_vec(name.into())));
            } else if let Some(target) = self.target(&real, route.is_done())
                && let Some(start) = route.follow(target.as_bytes())
            {
                real.pop();
                if start == Start::Root {
                    real = PathBuf::from("/");
                }
            }
        }
        real
    }

    /// The target of a symbolic link.
    fn target(&self, link: &Path, is_last: bool) -> Option<OsString> {
        let read = || fs::read_link(link).ok().map(PathBuf::into_os_string);
        if is_last {
            return read();
        }
        let mut links = self.links.borrow_mut();
        if let Some(known) = links.get(link) {
            return known.clone();
        }
        links.entry(link.to_owned()).or_insert_with(read).clone()
    }
}

/// File systems without a device that depend on this kernel alone. A file-system worker looks
/// at all others, which only takes longer.
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

/// File systems on a device that other machines also write to.
const SHARED: &[&str] = &["gfs2", "ocfs2"];

pub fn needs_server(kind: &str, device: &str) -> bool {
    if device.starts_with("0:") {
        !OF_KERNEL.contains(&kind)
    } else {
        kind == "fuseblk" || SHARED.contains(&kind)
    }
}

fn number(field: &[u8]) -> Option<u32> {
    str::from_utf8(field).ok()?.parse().ok()
}

pub(crate) fn path(escaped: &[u8]) -> PathBuf {
    OsString::from_vec(unescape(escaped)).into()
}

/// Decodes a path in a table of `/proc`, where blanks and backslashes are written as `\040`.
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
    fn one_line() {
        let line = br"36 35 98:0 /a /mnt/a\040b\134c rw,noatime shared:1 - ext4 /dev/x rw,x=y";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.id, mount.parent, &*mount.device, &*mount.kind), (36, 35, "98:0", "ext4"));
        assert_eq!((&*mount.root, &*mount.point), (Path::new("/a"), Path::new(r"/mnt/a b\c")));
        assert_eq!(mount.options, b"rw,x=y");
        assert_eq!(Mount::parse(b""), None);
        assert_eq!(Mount::parse(b"36 35 98:0 / /mnt rw"), None);
    }

    #[test]
    fn file_systems_that_need_a_server() {
        for (kind, device) in [("ext4", "8:1"), ("tmpfs", "0:40"), ("btrfs", "0:41"), ("fusectl", "0:42")] {
            assert!(!needs_server(kind, device), "{kind}");
        }
        for (kind, device) in
            [("fuse", "0:40"), ("fuseblk", "8:1"), ("fuse.sshfs", "0:41"), ("nfs4", "0:42"), ("gfs2", "8:1")]
        {
            assert!(needs_server(kind, device), "{kind}");
        }
        assert!(needs_server("made-tomorrow", "0:43"));
    }

    #[test]
    fn a_bind_mount_has_the_names_of_both() {
        let mounts = Mounts::parse(
            b"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /run rw - tmpfs t rw\n\
              3 1 0:5 /facron /jail/r\\040t rw - tmpfs t rw\n4 1 8:1 /usr /jail/usr rw - ext4 /dev/a rw\n",
        );
        let names = |path: &str| -> Vec<String> {
            let mut names: Vec<_> =
                mounts.aliases(Path::new(path)).iter().map(|name| name.display().to_string()).collect();
            names.sort();
            names
        };
        assert_eq!(names("/jail/r t/rules"), ["/jail/r t/rules", "/run/facron/rules"]);
        assert_eq!(names("/run/facron"), ["/jail/r t", "/run/facron"]);
        assert_eq!(names("/jail/usr/lib"), ["/jail/usr/lib", "/usr/lib"]);
        assert_eq!(names("/home"), ["/home"]);
        assert!(mounts.is_point(Path::new("/jail/usr")) && !mounts.is_point(Path::new("/jail")));
    }
}
