//! Looking: all that is opened, read and asked of file systems, one place at a time.
//!
//! A [`Probe`] says what is to be looked at and which mark goes with it; an [`Answer`]
//! says what was there. Both are plain data: no descriptor outlives the look but that of
//! the last directory, until [`Scanner::rest`].
//!
//! A directory is marked before it is read, and a file before it is asked whether it is
//! complete: what happens before the mark is seen by the look, what happens after it by a
//! record.

use super::marks::MarkTable;
use super::mount_table::Mount;
use super::recheck::Facts;
use super::rules::{Need, join};
use super::tree::{Content, NodeId};
use super::unresponsive::{SILENT, Unresponsive};
use crate::kernel::object::{DetachedMount, DirEntry, HandleBuffer, Kind, Object, open_by_handle};
use crate::kernel::record::{FsId, Handle};
use nix::errno::Errno;
use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

/// A handle that is kept.
pub(super) type InodeKey = (FsId, Box<[u8]>);

/// When a directory is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Never,
    /// If it is another one than is known, or gets a mark.
    IfNew,
    Always,
}

/// What is to be looked at.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    /// The directory's node, and its path; the root has none.
    pub(super) dir: NodeId,
    pub(super) path: Vec<u8>,
    /// The inode that must be at that path; none for the root itself.
    pub(super) dir_inode: Option<InodeKey>,
    /// The name in it; empty for the root itself.
    pub(super) name: Rc<[u8]>,
    /// What is known to be there, and the mask of its mark.
    pub(super) known: Option<InodeKey>,
    pub(super) marked: u64,
    /// The mask that is needed, if it is what is known, and else.
    pub(super) need: Need,
    /// What other places of the known inode need.
    pub(super) others: u64,
    pub(super) read: Read,
    /// Whether the mark may be gone.
    pub(super) doubt: bool,
    /// Whether it matters if a file is complete.
    pub(super) is_arrival: bool,
}

/// What was there.
#[derive(Debug)]
pub(super) enum Answer {
    /// The directory is not where it was.
    DirectoryGone,
    /// Nothing.
    Absent,
    /// Its server does not answer.
    Unresponsive,
    /// It could not be looked at.
    Failed(Errno),
    Found(Box<Found>),
}

/// An object, and what became of its mark.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) facts: Facts,
    /// Where a symbolic link leads.
    pub(super) link: Box<[u8]>,
    /// The mask of its mark.
    pub(super) marked: Result<u64, Errno>,
    /// Whether its mark was gone, and others on its file system with it.
    pub(super) was_lost: bool,
    /// What is in the directory, if it was read.
    pub(super) entries: Option<Result<Vec<DirEntry>, Errno>>,
}

impl Found {
    /// Its handle.
    pub(super) fn handle(&self) -> Handle<'_> {
        Handle { fs: self.facts.object.0, bytes: &self.facts.object.1 }
    }

    /// What it is, in terms of the tree.
    pub(super) fn content(&self) -> Content {
        match self.facts.kind {
            Kind::Directory => Content::Directory,
            Kind::Link => Content::Link,
            Kind::File | Kind::Other => Content::File,
        }
    }
}

/// Who looks.
#[derive(Debug)]
pub(super) struct Scanner {
    pub(super) unresponsive: Unresponsive,
    /// The directory of the last look.
    held: Option<(NodeId, Object)>,
    /// Where something is mounted.
    mount_points: HashSet<Vec<u8>>,
    /// Copies of mounts, for as long as there is something to look at.
    mounts: RefCell<Vec<DetachedMount>>,
}

impl Scanner {
    /// One that leaves what others serve to their workers.
    pub(super) fn new(unresponsive: Unresponsive) -> Self {
        Self { unresponsive, held: None, mount_points: HashSet::new(), mounts: RefCell::default() }
    }

    /// Mounts have changed.
    pub(super) fn set_mounts<'m>(&mut self, mounts: impl Iterator<Item = &'m Mount> + Clone) {
        self.rest();
        self.unresponsive.update(mounts.clone());
        self.mount_points = mounts.map(|mount| mount.point.clone()).filter(|point| point != b"/").collect();
    }

    /// Lets go of what the last look held: a descriptor that is kept on a mount makes its
    /// unmounting fail.
    pub(super) fn rest(&mut self) {
        self.held = None;
        self.mounts.get_mut().clear();
    }

    /// Looks at a place, and marks what is there.
    pub(super) fn look(&mut self, marks: &mut MarkTable, probe: &Probe) -> Answer {
        let object = match self.open_place(probe) {
            Ok(Some(object)) => object,
            Ok(None) => return Answer::DirectoryGone,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Answer::Absent,
            Err(SILENT) => return Answer::Unresponsive,
            Err(errno) => return Answer::Failed(errno),
        };
        let mut room = HandleBuffer::default();
        match object.handle(&mut room) {
            Ok(handle) => look_at(marks, probe, &object, handle),
            Err(SILENT) => Answer::Unresponsive,
            // A FUSE server does not answer for a file that is gone by now.
            Err(Errno::ENOENT | Errno::ESTALE) => Answer::Absent,
            Err(errno) => Answer::Failed(errno),
        }
    }

    /// Takes a mark down to what is needed, wherever its inode is by now. `places` are the
    /// paths where it may be, `beside` directories on its file system.
    pub(super) fn reduce(
        &self,
        marks: &mut MarkTable,
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

    /// An inode at a path, or on the file system of what is there.
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

    /// The path of a directory that is named by its handle; `beside` is the path of one on
    /// its file system.
    pub(super) fn path_of(handle: Handle<'_>, beside: &[u8]) -> Option<(Object, Vec<u8>)> {
        // Through a copy of the mount the path would begin there.
        let beside = Object::open(Path::new(OsStr::from_bytes(beside))).ok()?;
        let object = open_by_handle(&beside, handle).ok()?;
        let path = object.path().filter(|_| object.kind() == Kind::Directory)?;
        Some((object, path))
    }

    /// Opens what is at a path, whose directories are no symbolic links.
    pub(super) fn open(&self, path: &[u8]) -> Result<Object, Errno> {
        if let Some(worker) = self.unresponsive.worker_at(path)? {
            return worker.open(Path::new(OsStr::from_bytes(path)));
        }
        match self.mount_point_of(path) {
            Some(point) => self.open_through(point, path),
            None => Object::open(Path::new(OsStr::from_bytes(path))),
        }
    }

    /// Where the innermost mount is that a path is on; nothing for the one at the root.
    fn mount_point_of<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        if self.mount_points.is_empty() {
            return None;
        }
        let ends = (0..path.len()).rev().filter(|end| *end > 0 && path[*end] == b'/');
        std::iter::once(path.len())
            .chain(ends)
            .map(|end| &path[..end])
            .find(|top| self.mount_points.contains(*top))
    }

    /// Opens a path so that its mount can be unmounted meanwhile.
    fn open_through(&self, point: &[u8], path: &[u8]) -> Result<Object, Errno> {
        let mut mounts = self.mounts.borrow_mut();
        let index = match mounts.iter().position(|mount| mount.point() == point) {
            Some(index) => index,
            None => match DetachedMount::of(point) {
                Ok(mount) => {
                    mounts.push(mount);
                    mounts.len() - 1
                }
                // An ordinary user may not.
                Err(_) => return Object::open(Path::new(OsStr::from_bytes(path))),
            },
        };
        mounts[index].open(path)
    }

    /// Opens a place; nothing if the directory is not at its path any more.
    fn open_place(&mut self, probe: &Probe) -> Result<Option<Object>, Errno> {
        let Some(expected) = &probe.dir_inode else { return self.open(b"/").map(Some) };
        if self.held.as_ref().is_none_or(|(node, _)| *node != probe.dir) {
            self.held = None;
            let dir = match self.open(&probe.path) {
                Err(SILENT) => return Err(SILENT),
                Err(_) => return Ok(None),
                Ok(dir) => dir,
            };
            let mut room = HandleBuffer::default();
            match dir.handle(&mut room) {
                Ok(handle) if handle.fs == expected.0 && *handle.bytes == *expected.1 => {}
                Err(SILENT) => return Err(SILENT),
                _ => return Ok(None),
            }
            self.held = Some((probe.dir, dir));
        }
        let Some((_, dir)) = &self.held else { return Ok(None) };
        self.entry(&probe.path, dir, &probe.name).map(Some)
    }

    /// Opens an entry of a directory. It may be where something is mounted that somebody
    /// else has to look at.
    fn entry(&self, path: &[u8], dir: &Object, name: &[u8]) -> Result<Object, Errno> {
        if self.unresponsive.is_empty() && self.mount_points.is_empty() {
            return dir.entry(name);
        }
        let path = join(path, name);
        if self.mount_points.contains(&path) {
            return self.open(&path);
        }
        match self.unresponsive.worker_at(&path)? {
            Some(worker) if !dir.is_seen_by(&worker) => worker.open(Path::new(OsStr::from_bytes(&path))),
            _ => dir.entry(name),
        }
    }
}

fn look_at(marks: &mut MarkTable, probe: &Probe, object: &Object, handle: Handle<'_>) -> Answer {
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
    if marked == Err(SILENT) {
        return Answer::Unresponsive;
    }
    let is_read = match probe.read {
        Read::Never => false,
        Read::IfNew => !is_known || was_lost || need & !before != 0,
        Read::Always => true,
    };
    let entries = (is_read && kind == Kind::Directory).then(|| object.entries());
    let link = if kind == Kind::Link { object.target() } else { Ok(Vec::new()) };
    if matches!(entries, Some(Err(SILENT))) || link == Err(SILENT) {
        return Answer::Unresponsive;
    }
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
