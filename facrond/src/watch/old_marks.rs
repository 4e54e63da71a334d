//! The marks in groups that were taken back. Rules may have gone or changed since they were
//! made: what no rule needs any more is removed, step by step, when everything else is done.

use super::marks::MarkTable;
use super::mirror::Mirror;
use super::mount_table::{MountTable, device};
use super::scanner::Scanner;
use crate::config::mountinfo::Mount;
use crate::kernel::fanotify::Listed;
use crate::kernel::object::{HandleBuffer, Kind, Object, open_by_handle};
use crate::kernel::record::{FsId, Handle};
use rustc_hash::FxHashMap;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

/// The marks that are still to be compared with those that are needed.
pub(super) struct OldMarks {
    listed: Box<dyn Iterator<Item = Listed>>,
    /// A mount point of each device, with its file system; `None` where there is none that can
    /// be used.
    points: FxHashMap<u64, Option<(FsId, Vec<u8>)>>,
    removed: u64,
}

impl fmt::Debug for OldMarks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OldMarks").field("removed", &self.removed).finish_non_exhaustive()
    }
}

impl OldMarks {
    /// The marks of these groups.
    pub(super) fn of(marks: &MarkTable) -> Self {
        let lists: Vec<_> = marks.groups().old().filter_map(|group| group.marks().ok()).collect();
        Self { listed: Box::new(lists.into_iter().flatten()), points: FxHashMap::default(), removed: 0 }
    }

    /// Compares the next mark. Returns whether there was one.
    pub(super) fn compare_next(
        &mut self,
        marks: &mut MarkTable,
        mirror: &Mirror,
        (scanner, mounts): (&Scanner, &MountTable),
    ) -> bool {
        let Some(mark) = self.listed.next() else {
            if self.removed > 0 {
                tracing::info!(marks = self.removed, "removed marks of the last start that no rule needs");
            }
            return false;
        };
        let find = || find_point(mark.device, scanner, mounts);
        if let Some((fs, point)) = self.points.entry(mark.device).or_insert_with(find) {
            let needed = match &mark.handle {
                Some(bytes) => mirror.marked(Handle { fs: *fs, bytes }),
                None => marks.mask_of_file_system(*fs),
            };
            let excess = mark.mask & !needed;
            if (excess != 0 || mark.ignored != 0)
                && let Ok(beside) = scanner.open(point)
                && marks.remove_old(*fs, &beside, &mark, excess)
            {
                self.removed += 1;
            }
        }
        true
    }
}

/// A directory on a device that can be opened without asking a server.
fn find_point(number: u64, scanner: &Scanner, mounts: &MountTable) -> Option<(FsId, Vec<u8>)> {
    let wanted = FsId::of_device(number);
    let open = |mount: &Mount| {
        let point = mount.point.as_os_str().as_bytes().to_vec();
        let object = scanner.open(&point).ok().filter(|object| object.kind() == Kind::Directory)?;
        let mut room = HandleBuffer::default();
        Some((object.handle(&mut room).ok()?.fs, point))
    };
    mounts.iter().filter(|mount| device(mount) == wanted && !mount.needs_server()).find_map(open)
}

impl MarkTable {
    /// Removes the events of a mark that no rule needs. Returns whether it could be done.
    fn remove_old(&mut self, fs: FsId, beside: &Object, mark: &Listed, excess: u64) -> bool {
        let Some(bytes) = &mark.handle else {
            return self.groups().remove_fs_mark(fs, beside, excess).is_ok();
        };
        let Ok(object) = open_by_handle(beside, Handle { fs, bytes }) else { return false };
        let unignored = mark.ignored == 0 || self.groups().unignore(fs, &object, mark.ignored).is_ok();
        unignored && (excess == 0 || self.groups().remove_mark(fs, &object, excess).is_ok())
    }
}
