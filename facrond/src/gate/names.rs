//! The other names of a place: what is bind-mounted somewhere is the same as what it
//! was mounted from, and must not be gated under either name if not under both.

use crate::kernel::mounts::unescape;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A line of `/proc/self/mountinfo`, see proc(5).
#[derive(Debug)]
struct Mount {
    device: Vec<u8>,
    /// Where in its file system it begins.
    root: PathBuf,
    point: PathBuf,
}

/// The mounts, in the order of mounting.
#[derive(Debug)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// As they are now; none where that is not to be had.
    pub fn read() -> Self {
        Self::parse(&fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    fn parse(text: &[u8]) -> Self {
        Self(text.split(|byte| *byte == b'\n').filter_map(Mount::parse).collect())
    }

    /// Whether something is mounted at this path.
    pub fn is_point(&self, path: &Path) -> bool {
        self.0.iter().any(|mount| mount.point == path)
    }

    /// All names of what is at a path without symbolic links, itself among them.
    pub fn names(&self, path: &Path) -> Vec<PathBuf> {
        let mut names = vec![path.to_owned()];
        // Of two mounts at one place the later one hides the other.
        let over = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        let Some(mount) = over.max_by_key(|mount| mount.point.as_os_str().len()) else { return names };
        let Ok(below) = path.strip_prefix(&mount.point) else { return names };
        let inside = mount.root.join(below);
        for other in self.0.iter().filter(|other| other.device == mount.device) {
            let Ok(below) = inside.strip_prefix(&other.root) else { continue };
            let name = other.point.join(below);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

impl Mount {
    /// `36 35 98:0 /root /mount/point ...`
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ').skip(2);
        let device = fields.next()?.to_vec();
        let [root, point] = [fields.next()?, fields.next()?];
        let path = |field| PathBuf::from(OsString::from_vec(unescape(field)));
        Some(Self { device, root: path(root), point: path(point) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_mount_has_the_names_of_both() {
        let mounts = Mounts::parse(
            b"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /run rw - tmpfs t rw\n\
              3 1 0:5 /facron /jail/r\\040t rw - tmpfs t rw\n4 1 8:1 /usr /jail/usr rw - ext4 /dev/a rw\n",
        );
        let names = |path: &str| -> Vec<String> {
            let mut names: Vec<_> =
                mounts.names(Path::new(path)).iter().map(|name| name.display().to_string()).collect();
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
