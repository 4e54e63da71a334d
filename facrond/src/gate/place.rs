//! Where an object is, as far as that can be known without waiting.
//!
//! The descriptor of an event has the opener's name of the object. The opener can have mounts
//! of its own, by which any object gets any name. So a name counts only if it leads to the
//! object from here, or if the directory that it leads to, as the opener sees it, contains the
//! object itself and not a mount.

use crate::config::mountinfo::Mounts;
use crate::kernel::object::{Inode, Object};
use nix::errno::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

#[derive(Debug, Default)]
pub struct Whereabouts {
    /// Its path here, or else the opener's.
    pub path: Vec<u8>,
    /// Whether the path leads to the object from here.
    pub is_here: bool,
    /// The directory that it is in.
    pub directory: Option<Inode>,
}

impl Whereabouts {
    /// Of an object that process `pid` knows by this path.
    pub fn of(object: &Object, path: Vec<u8>, pid: i32) -> Self {
        let (above, name) = split(&path);
        if let Some(directory) = containing(object, Object::open_cached(above), name) {
            return Self { path, is_here: true, directory: Some(directory) };
        }
        let directory = containing(object, Object::open_cached_as(pid, above), name);
        let is_here = leads_to(&path, object);
        Self { path, is_here, directory }
    }
}

/// The number of a directory, if the object has this name in it.
fn containing(object: &Object, directory: Result<Object, Errno>, name: &[u8]) -> Option<Inode> {
    let directory = directory.ok()?;
    let entry = directory.entry_cached(name).ok()?;
    (entry.inode() == object.inode()).then(|| directory.inode())
}

/// Whether a path leads to an object from here. Where the answer is not in the cache, a path
/// that was read through a mount of ours is as good.
pub fn leads_to(path: &[u8], object: &Object) -> bool {
    match Object::open_cached(Path::new(OsStr::from_bytes(path))) {
        Ok(found) => found.inode() == object.inode(),
        Err(Errno::EAGAIN) => is_through_own_mount(object),
        Err(_) => false,
    }
}

fn is_through_own_mount(object: &Object) -> bool {
    let is_it = |id: u64| Mounts::read().table.iter().any(|mount| u64::from(mount.id) == id);
    object.stat().mount().is_some_and(is_it)
}

fn split(path: &[u8]) -> (&Path, &[u8]) {
    let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
    let name = path.get(slash + 1..).unwrap_or_default();
    (Path::new(OsStr::from_bytes(&path[..slash.max(1).min(path.len())])), name)
}
