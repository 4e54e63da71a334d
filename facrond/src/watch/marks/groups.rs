//! The fanotify groups. All file systems with an id share one group. File systems that
//! cannot share it (FUSE mounts, btrfs subvolumes) have a group each. Every group slows
//! writers down, so there are as few as possible.
//!
//! The service manager keeps each group for the next start. A group that is taken back has its
//! marks, and in its queue the records of the time between.

use crate::events::Events;
use crate::kernel::fanotify::{Group, Privilege};
use crate::kernel::object::Object;
use crate::kernel::record::{FsId, Handle};
use crate::service_manager::DescriptorStore;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use rustc_hash::FxHashMap;
use std::os::fd::{AsFd, BorrowedFd};

/// The names under which groups are kept begin so. The number changes with the use of groups: it
/// is not safe to go on with marks that were made for another one.
const KEPT: &str = "facron-group-";
const KEPT_NOW: &str = "facron-group-1-";

/// A group, and the number of its marks.
#[derive(Debug)]
struct Member {
    group: Group,
    /// The file system of a group that is not shared.
    fs: FsId,
    /// The id that this has by its records, if a worker told another one.
    named: FsId,
    marks: u64,
    /// Whether it was taken back.
    is_old: bool,
}

impl Member {
    /// The name under which it is kept.
    fn name(&self) -> String {
        format!("{KEPT_NOW}{:x}", self.fs.0)
    }
}

/// Which group a mark that a worker makes is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::watch) enum GroupOf {
    /// The shared one.
    All,
    /// One for this file system alone, by its device.
    Own(FsId),
}

/// All groups. They can be waited for as one descriptor.
#[derive(Debug)]
pub(in crate::watch) struct Groups {
    store: DescriptorStore,
    ready: Epoll,
    /// The first one is the shared group. The others come and go.
    members: Vec<Member>,
    /// File systems that are not in the shared group.
    alone: FxHashMap<FsId, usize>,
}

impl Groups {
    /// Takes the groups of an earlier process back. Opens the shared group if it is not among
    /// them.
    pub(in crate::watch) fn open(mut store: DescriptorStore) -> Result<Self, Errno> {
        let ready = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let kept = store.take(KEPT);
        let mut groups = Self { store, ready, members: Vec::new(), alone: FxHashMap::default() };
        let shared = Group::open()?;
        let mut taken = Vec::new();
        for (name, fd) in kept {
            let fs = name.strip_prefix(KEPT_NOW).and_then(|fs| u64::from_str_radix(fs, 16).ok());
            if let Some(member) = fs.and_then(|fs| Some((FsId(fs), Group::taken_back(fd, &shared)?))) {
                taken.push(member);
            } else {
                tracing::warn!(%name, "a group of the last start is of another kind: its events are lost");
                groups.store.discard(&name);
            }
        }
        groups.store.discard_rest();
        taken.sort_by_key(|(fs, _)| fs.0);
        if taken.first().is_none_or(|(fs, _)| *fs != FsId::default()) {
            groups.add(shared, FsId::default(), false)?;
        }
        for (fs, group) in taken {
            let index = groups.add(group, fs, true)?;
            if index > 0 {
                groups.alone.insert(fs, index);
            }
        }
        Ok(groups)
    }

    fn add(&mut self, group: Group, fs: FsId, is_old: bool) -> Result<usize, Errno> {
        self.ready.add(group.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        let member = Member { group, fs, named: fs, marks: 0, is_old };
        if !is_old {
            self.store.keep(&member.name(), member.group.as_fd());
        }
        self.members.push(member);
        Ok(self.members.len() - 1)
    }

    fn join(&mut self, fs: FsId) -> Result<usize, Errno> {
        self.add(Group::open()?, fs, false)
    }

    /// Those that were taken back.
    pub(in crate::watch) fn old(&self) -> impl Iterator<Item = &Group> {
        self.members.iter().filter(|member| member.is_old).map(|member| &member.group)
    }

    /// Whether an inode has got its first mark only now, in a group that was taken back; see
    /// [`Group::is_marked`]. `None` if that cannot be known.
    pub(in crate::watch) fn is_new(&self, fs: FsId, object: &Object, mask: u64) -> Option<bool> {
        let member = Some(&self.members[self.index(fs)]).filter(|member| member.is_old)?;
        member.group.is_marked(object, mask).map(|is_marked| !is_marked)
    }

    /// Whether a group that was taken back has a mark of the whole file system for all of this.
    pub(in crate::watch) fn has_old_fs_mark(&self, fs: FsId, object: &Object, mask: u64) -> bool {
        let member = Some(&self.members[self.index(fs)]).filter(|member| member.is_old);
        let Some(mut marks) = member.and_then(|member| member.group.marks().ok()) else { return false };
        let (device, wanted) = (object.inode().device, mask & !Events::EVENT_ON_CHILD.mask());
        marks.any(|mark| mark.handle.is_none() && mark.device == device && wanted & !mark.mask == 0)
    }

    /// Becomes readable when one of the groups does.
    pub(in crate::watch) fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.0.as_fd()
    }

    /// The kind of groups that the kernel gives to this process.
    pub(in crate::watch) fn privilege(&self) -> Privilege {
        self.members[0].group.privilege()
    }

    /// Whether the kernel knows `FAN_RENAME`.
    pub(in crate::watch) fn has_rename(&self) -> bool {
        self.members[0].group.has_rename()
    }

    /// The number of groups, for [`Groups::read`].
    pub(in crate::watch) fn len(&self) -> usize {
        self.members.len()
    }

    /// The number of marks in all groups.
    pub(in crate::watch) fn marks(&self) -> u64 {
        self.members.iter().map(|member| member.marks).sum()
    }

    /// The file system for records of a group that have no id.
    pub(in crate::watch) fn fs(&self, index: usize) -> FsId {
        self.members.get(index).map_or(FsId::default(), |member| member.fs)
    }

    /// Reads from one group. `Ok(None)` if its queue is empty. The result also has the file
    /// system for records without an id.
    pub(in crate::watch) fn read<'b>(
        &self,
        index: usize,
        buffer: &'b mut [u8],
    ) -> Result<Option<(FsId, &'b [u8])>, Errno> {
        let Some(member) = self.members.get(index) else { return Ok(None) };
        Ok(member.group.read(buffer)?.map(|bytes| (member.fs, bytes)))
    }

    /// Adds to an inode's mark, in the group of its file system.
    pub(in crate::watch) fn add_mark(
        &mut self,
        handle: Handle<'_>,
        object: &Object,
        mask: u64,
    ) -> Result<(), Errno> {
        let fs = handle.fs;
        if let Some(index) = self.alone.get(&fs) {
            return self.members[*index].group.add_mark(object, mask);
        }
        if !Object::is_on_nameless(handle) {
            match self.members[0].group.add_mark(object, mask) {
                Err(Errno::EXDEV) => {}
                other => return other,
            }
        }
        let index = self.join(fs)?;
        let added = self.members[index].group.add_mark(object, mask);
        if added.is_ok() {
            self.alone.insert(fs, index);
        } else if let Some(member) = self.members.pop() {
            self.store.discard(&member.name());
        }
        added
    }

    /// The group for what a worker marks, made if there is none.
    pub(in crate::watch) fn group_of(&mut self, of: GroupOf) -> Result<BorrowedFd<'_>, Errno> {
        let index = match of {
            GroupOf::All => 0,
            GroupOf::Own(fs) => {
                if !self.alone.contains_key(&fs) {
                    let index = self.join(fs)?;
                    self.alone.insert(fs, index);
                }
                self.index(fs)
            }
        };
        Ok(self.members[index].group.as_fd())
    }

    /// What a worker marks there is on this file system.
    pub(in crate::watch) fn learn(&mut self, of: GroupOf, fs: FsId) {
        if let GroupOf::Own(device) = of
            && let Some(index) = self.alone.get(&device).copied()
            && self.alone.insert(fs, index) != Some(index)
        {
            self.members[index].named = fs;
        }
    }

    /// Removes events from an inode's mark.
    pub(in crate::watch) fn remove_mark(&self, fs: FsId, object: &Object, mask: u64) -> Result<(), Errno> {
        self.members[self.index(fs)].group.remove_mark(object, mask)
    }

    /// Adds to the mark of a whole file system.
    pub(in crate::watch) fn add_fs_mark(&self, fs: FsId, object: &Object, mask: u64) -> Result<(), Errno> {
        self.members[self.index(fs)].group.add_fs_mark(object, mask)
    }

    /// Removes events from the mark of a whole file system.
    pub(in crate::watch) fn remove_fs_mark(&self, fs: FsId, object: &Object, mask: u64) -> Result<(), Errno> {
        self.members[self.index(fs)].group.remove_fs_mark(object, mask)
    }

    /// Ignores a directory, as long as the kernel has memory for the ignore mark.
    pub(in crate::watch) fn ignore(&self, fs: FsId, object: &Object, mask: u64) -> Result<(), Errno> {
        self.members[self.index(fs)].group.ignore(object, mask)
    }

    /// Removes the ignore mark of a directory.
    pub(in crate::watch) fn unignore(&self, fs: FsId, object: &Object, mask: u64) -> Result<(), Errno> {
        self.members[self.index(fs)].group.unignore(object, mask)
    }

    /// Whether an inode has a mark. The mark must not have the event `absent`.
    pub(in crate::watch) fn has_mark(&self, fs: FsId, object: &Object, absent: u64) -> Result<bool, Errno> {
        self.members[self.index(fs)].group.has_mark(object, absent)
    }

    /// An inode of this file system has got a mark.
    pub(in crate::watch) fn count_mark(&mut self, fs: FsId) {
        let index = self.index(fs);
        self.members[index].marks += 1;
    }

    /// An inode of this file system has lost its mark.
    pub(in crate::watch) fn discount_mark(&mut self, fs: FsId) {
        let index = self.index(fs);
        let member = &mut self.members[index];
        member.marks = member.marks.saturating_sub(1);
    }

    /// Closes groups of a single file system that have no marks. Must be called when their
    /// queues are empty.
    pub(in crate::watch) fn collect(&mut self) {
        if self.members.iter().skip(1).all(|member| member.marks > 0) {
            return;
        }
        let Self { store, members, .. } = self;
        let mut index = 0;
        members.retain(|member| {
            index += 1;
            let is_used = index == 1 || member.marks > 0;
            if !is_used {
                store.discard(&member.name());
            }
            is_used
        });
        let members = self.members.iter().enumerate().skip(1);
        self.alone =
            members.flat_map(|(index, member)| [(member.fs, index), (member.named, index)]).collect();
    }

    fn index(&self, fs: FsId) -> usize {
        self.alone.get(&fs).copied().unwrap_or_default()
    }
}
