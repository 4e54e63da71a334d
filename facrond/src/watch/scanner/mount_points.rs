//! The mount points, and which of them a path leads through. Users choose how long a path is,
//! so no prefix of a path is looked at twice.

use std::collections::BTreeSet;
use std::ops::Bound::{Included, Unbounded};

/// All mount points but the root, in the order of their bytes.
#[derive(Debug, Default)]
pub(super) struct MountPoints(BTreeSet<Vec<u8>>);

impl MountPoints {
    /// The table of these mount points.
    pub(super) fn of<'p>(points: impl Iterator<Item = &'p [u8]>) -> Self {
        Self(points.filter(|point| *point != b"/").map(<[u8]>::to_vec).collect())
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is a mount point.
    pub(super) fn contains(&self, path: &[u8]) -> bool {
        self.0.contains(path)
    }

    /// The innermost mount point that is a path, or above it.
    pub(super) fn above<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let mut top = path;
        while !top.is_empty() {
            // A mount point above `top` is in order before it, and the innermost is the last.
            let point = self.0.range::<[u8], _>((Unbounded, Included(top))).next_back()?;
            let common = point.iter().zip(top).take_while(|(one, other)| one == other).count();
            let is_whole = matches!(top.get(common), None | Some(b'/'));
            if common == point.len() && is_whole {
                return Some(&top[..common]);
            }
            // What is above `top` and after `point` would have more in common with `top`.
            let end =
                if is_whole { Some(common) } else { top[..common].iter().rposition(|byte| *byte == b'/') };
            top = &top[..end?];
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_counts() {
        let points = ["/", "/a", "/a/b/c", "/a/b-c", "/a/b/c d", "/ab", "/x/y/z"];
        let points = MountPoints::of(points.iter().map(|point| point.as_bytes()));
        for (path, point) in [
            ("/a", Some("/a")),
            ("/a/b", Some("/a")),
            ("/a/b/c", Some("/a/b/c")),
            ("/a/b/c/d/e", Some("/a/b/c")),
            ("/a/b/cd", Some("/a")),
            ("/a/b/c e", Some("/a")),
            ("/a/b-c/d", Some("/a/b-c")),
            ("/a/b-d", Some("/a")),
            ("/abc", None),
            ("/x/y", None),
            ("/x/y/zz", None),
            ("/", None),
        ] {
            assert_eq!(points.above(path.as_bytes()), point.map(str::as_bytes), "{path}");
        }
    }
}
