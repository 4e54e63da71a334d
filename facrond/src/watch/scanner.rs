//! Looks at file systems: everything that is opened, read and asked, one place at a time.
//!
//! A [`Probe`] names the place and the mask of its mark. An [`Answer`] says what was there.
//! Both are plain data. Only the descriptor of the last directory stays open after a look,
//! until [`Scanner::rest`].
//!
//! A directory is marked before it is read, and a file before it is tested for being
//! complete. So the look sees changes before the mark, and records report changes after it.

mod mount_points;

use super::marks::Marker;
use super::recheck::Facts;
use super::rules::{Need, join};
use super::tree::Content;
use crate::kernel::object::{DetachedMount, DirEntry, HandleBuffer, Kind, Object, open_by_handle};
use crate::kernel::record::{FsId, Handle};
use mount_points::MountPoints;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::time::SystemTime;

/// A file system and a handle, which identify an inode.
pub(super) type InodeKey = (FsId, Box<[u8]>);

/// When a directory is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Read {
    Never,
    /// If it is a new one, or its mark gets more events.
    IfNew,
    Always,
}

/// The question of a look: the place, and the knowledge about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Probe {
    /// The directory's path; the root has none.
    #[serde(with = "super::workers::bytes")]
    pub(super) path: Vec<u8>,
    /// The inode that must be at that path. None for the root itself.
    #[serde(with = "super::workers::key")]
    pub(super) dir_inode: Option<InodeKey>,
    /// The name in the directory. Empty for the root itself.
    #[serde(with = "super::workers::bytes")]
    pub(super) name: Rc<[u8]>,
    /// The inode that is known to be there, and the mask of its mark.
    #[serde(with = "super::workers::key")]
    pub(super) known: Option<InodeKey>,
    pub(super) marked: u64,
    /// The mask that this place needs.
    pub(super) need: Need,
    /// The mask that all places of the known inode need.
    pub(super) others: u64,
    pub(super) read: Read,
    /// Whether the mark may be gone.
    pub(super) doubt: bool,
    /// Whether a file must be tested for being complete.
    pub(super) is_arrival: bool,
}

/// The answer of a look.
#[derive(Debug)]
pub(super) enum Answer {
    /// The directory is not at its path any more.
    DirectoryGone,
    /// The name does not exist.
    Absent,
    /// The look has failed.
    Failed(Errno),
    Found(Box<Found>),
}

/// The object that was found, and its mark.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) facts: Facts,
    /// The target, if it is a symbolic link.
    pub(super) link: Box<[u8]>,
    /// The new mask of its mark, or why it could not be marked.
    pub(super) marked: Result<u64, Errno>,
    /// Whether its mark was lost, and with it all marks on its file system.
    pub(super) was_lost: bool,
    /// The entries, if it is a directory that was read.
    pub(super) entries: Option<Result<Vec<DirEntry>, Errno>>,
}

impl Found {
    /// The handle of the object.
    pub(super) fn handle(&self) -> Handle<'_> {
        Handle { fs: self.facts.object.0, bytes: &self.facts.object.1 }
    }

    /// The kind of the object, in the tree's terms.
    pub(super) fn content(&self) -> Content {
        match self.facts.kind {
            Kind::Directory => Content::Directory,
            Kind::Link => Content::Link,
            Kind::File | Kind::Other => Content::File,
        }
    }
}

/// Whether an entry may have changed since a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Times {
    Same,
    Changed {
        /// When it was made, if that is known.
        born: Option<SystemTime>,
    },
}

/// Looks at places, directly or by a file-system worker.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// The directory of the last look, with its path and its inode.
    held: Option<(Vec<u8>, InodeKey, Object)>,
    /// The mount points, without the root.
    mount_points: MountPoints,
    /// Detached copies of mounts, kept as long as there are looks to do.
    mounts: RefCell<Vec<DetachedMount>>,
}

impl Scanner {
    /// Where something is mounted by now, or on the way to what is looked at next.
    pub(super) fn set_mount_points<'p>(&mut self, points: impl Iterator<Item = &'p [u8]>) {
        self.mount_points = MountPoints::of(points);
    }

    /// Closes all descriptors that looks have left open. An open descriptor on a mount makes
    /// its unmount fail.
    pub(super) fn rest(&mut self) {
        self.held = None;
        self.mounts.get_mut().clear();
    }

    /// Looks at a place, and marks what is there.
    pub(super) fn look(&mut self, marks: &mut impl Marker, probe: &Probe) -> Answer {
        let object = match self.open_place(probe) {
            Ok(Some(object)) => object,
            Ok(None) => return Answer::DirectoryGone,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Answer::Absent,
            Err(errno) => return Answer::Failed(errno),
        };
        let mut room = HandleBuffer::default();
        match object.handle(&mut room) {
            Ok(handle) => look_at(marks, probe, &object, handle),
            // A FUSE server returns this for a file that is gone by now.
            Err(Errno::ENOENT | Errno::ESTALE) => Answer::Absent,
            Err(errno) => Answer::Failed(errno),
        }
    }

    /// Reduces a mark to `mask`, wherever its inode is by now. `paths` are places where it may
    /// be, or directories on its file system.
    pub(super) fn reduce(
        &self,
        marks: &mut impl Marker,
        inode: &InodeKey,
        before: u64,
        mask: u64,
        paths: &[Vec<u8>],
    ) -> u64 {
        let handle = Handle { fs: inode.0, bytes: &inode.1 };
        let Some(object) = paths.iter().find_map(|path| self.find(path, handle)) else {
            marks.forget(inode.0);
            return 0;
        };
        marks.reduce(inode.0, &object, before, mask)
    }

    /// Opens an inode that is at a path, or on the file system of that path.
    fn find(&self, path: &[u8], handle: Handle<'_>) -> Option<Object> {
        let object = self.open(path).ok()?;
        let mut room = HandleBuffer::default();
        let there = object.handle(&mut room).ok()?;
        if there == handle {
            return Some(object);
        }
        let is_beside = there.fs == handle.fs && object.kind() == Kind::Directory;
        if is_beside { open_by_handle(&object, handle).ok() } else { None }
    }

    /// Opens a directory by its handle, and returns its path. `beside` is the path of another
    /// directory on its file system.
    pub(super) fn path_of(handle: Handle<'_>, beside: &[u8]) -> Option<(Object, Vec<u8>)> {
        // Through a detached copy, the path would begin at the mount point.
        let beside = Object::open(Path::new(OsStr::from_bytes(beside))).ok()?;
        let object = open_by_handle(&beside, handle).ok()?;
        let path = object.path().filter(|_| object.kind() == Kind::Directory)?;
        Some((object, path))
    }

    /// Opens a path whose directories are no symbolic links.
    pub(super) fn open(&self, path: &[u8]) -> Result<Object, Errno> {
        match self.mount_point_of(path) {
            Some(point) => self.open_through(point, path),
            None => Object::open(Path::new(OsStr::from_bytes(path))),
        }
    }

    /// The mount point of the innermost mount on a path. `None` for the mount at the root.
    pub(super) fn mount_point_of<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        self.mount_points.above(path)
    }

    /// Opens a path through a detached copy of its mount, so that the mount is not busy.
    fn open_through(&self, point: &[u8], path: &[u8]) -> Result<Object, Errno> {
        let mut mounts = self.mounts.borrow_mut();
        let index = match mounts.iter().position(|mount| mount.point() == point) {
            Some(index) => index,
            None => match DetachedMount::of(point) {
                Ok(mount) => {
                    mounts.push(mount);
                    mounts.len() - 1
                }
                // An ordinary user may not copy mounts.
                Err(_) => return Object::open(Path::new(OsStr::from_bytes(path))),
            },
        };
        mounts[index].open(path)
    }

    /// Which entries of a directory may have changed since then: what cannot be asked about in
    /// passing may. `None` if the directory is not at its path any more.
    pub(super) fn may_have_changed(
        &mut self,
        path: &[u8],
        inode: &InodeKey,
        entries: &[DirEntry],
        since: SystemTime,
    ) -> Option<Vec<Times>> {
        self.hold(path, inode);
        let (_, _, dir) = self.held.as_ref()?;
        let times_of = |(name, _): &DirEntry| {
            if !self.mount_points.is_empty() && self.mount_points.contains(&join(path, name)) {
                return Times::Changed { born: None };
            }
            let Ok(stat) = dir.entry_stat(name) else { return Times::Same };
            let born = stat.born();
            let is_since = stat.changed() >= since || born.is_some_and(|born| born >= since);
            if is_since { Times::Changed { born } } else { Times::Same }
        };
        Some(entries.iter().map(times_of).collect())
    }

    /// Opens a place. `None` if the directory is not at its path any more.
    fn open_place(&mut self, probe: &Probe) -> Result<Option<Object>, Errno> {
        let Some(expected) = &probe.dir_inode else { return self.open(b"/").map(Some) };
        self.hold(&probe.path, expected);
        let Some((_, _, dir)) = &self.held else { return Ok(None) };
        self.entry(&probe.path, dir, &probe.name).map(Some)
    }

    /// Holds this directory open, or none if it is not at its path any more.
    fn hold(&mut self, path: &[u8], expected: &InodeKey) {
        let is_held = |(held, inode, _): &(Vec<u8>, InodeKey, _)| *held == path && inode == expected;
        if self.held.as_ref().is_some_and(is_held) {
            return;
        }
        self.held = None;
        let Ok(dir) = self.open(path) else { return };
        let mut room = HandleBuffer::default();
        match dir.handle(&mut room) {
            Ok(handle) if handle.fs == expected.0 && *handle.bytes == *expected.1 => {}
            _ => return,
        }
        self.held = Some((path.to_vec(), expected.clone(), dir));
    }

    /// Opens an entry of a directory. Something may be mounted there.
    fn entry(&self, path: &[u8], dir: &Object, name: &[u8]) -> Result<Object, Errno> {
        if !self.mount_points.is_empty() {
            let path = join(path, name);
            if self.mount_points.contains(&path) {
                return self.open(&path);
            }
        }
        dir.entry(name)
    }
}

fn look_at(marks: &mut impl Marker, probe: &Probe, object: &Object, handle: Handle<'_>) -> Answer {
    let is_known =
        probe.known.as_ref().is_some_and(|known| known.0 == handle.fs && *known.1 == *handle.bytes);
    let kind = object.kind();
    let mut before = if is_known { probe.marked } else { 0 };
    let was_lost = is_known && probe.doubt && before != 0 && marks.is_lost(handle.fs, object, before);
    if was_lost {
        before = 0;
    }
    let need = match kind {
        Kind::Directory => probe.need.directory,
        Kind::Link => 0,
        Kind::File | Kind::Other => probe.need.file,
    };
    if kind == Kind::Directory && probe.read != Read::Never && !is_known {
        marks.unignore(handle, object);
    }
    let marked = marks.add(handle, object, before, need).map(|marked| {
        if is_known { marks.reduce(handle.fs, object, marked, need | probe.others) } else { marked }
    });
    let is_read = match probe.read {
        Read::Never => false,
        Read::IfNew => !is_known || was_lost || need & !before != 0,
        Read::Always => true,
    };
    let entries = (is_read && kind == Kind::Directory).then(|| object.entries());
    let link = if kind == Kind::Link { object.target() } else { Ok(Vec::new()) };
    let stat = object.stat();
    let facts = Facts {
        object: (handle.fs, handle.bytes.into()),
        kind,
        size: stat.size(),
        links: stat.links(),
        changed: stat.changed(),
        modified: stat.modified(),
        born: stat.born(),
        complete: if probe.is_arrival { object.is_complete() } else { None },
    };
    let link = link.unwrap_or_default().into();
    Answer::Found(Box::new(Found { facts, link, marked, was_lost, entries }))
}
