//! Rules that are not about single files: mounts at or below PATH, and errors of the file
//! system of PATH. They have groups of their own, which are opened for the first rule that
//! needs them.

use super::mirror::{Fired, Mirror};
use super::mounting::{Change, MOUNTING, Mounting};
use super::rules::{PathState, Slot, join};
use super::scanner::Scanner;
use super::tree::{Inode, NodeId};
use super::workers::Workers;
use crate::config::filter::ObjectKind;
use crate::event::Event;
use crate::events::Events;
use crate::kernel::fanotify::{Group, Privilege};
use crate::kernel::object::{HandleBuffer, Object};
use crate::kernel::record::{FsId, Record, Records};
use crate::kernel::sources::Sources;
use facron_proto::Text;
use nix::errno::Errno;
use rustc_hash::FxHashMap;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::SystemTime;

/// The present place of a rule about file system errors.
#[derive(Debug, Default)]
struct About {
    /// The node of its PATH, and since when it was watched without a gap.
    seat: Option<(NodeId, Option<u64>)>,
    /// The file system of PATH, or why it cannot be watched.
    marked: Option<Result<FsId, PathState>>,
}

/// The groups of these rules.
#[derive(Debug)]
pub(super) struct Special {
    sources: Rc<Sources>,
    mounting: Option<Mounting>,
    errors: Option<Group>,
    /// The rules about mount events.
    mount_rules: Vec<Slot>,
    error_rules: FxHashMap<Slot, About>,
    /// Rules that cannot be watched, wherever their path leads.
    refused: FxHashMap<Slot, PathState>,
}

impl Special {
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self {
            sources: Rc::new(Sources::new()?),
            mounting: None,
            errors: None,
            mount_rules: Vec::new(),
            error_rules: FxHashMap::default(),
            refused: FxHashMap::default(),
        })
    }

    /// Other descriptors that wake the watch.
    pub(super) fn sources(&self) -> &Rc<Sources> {
        &self.sources
    }

    /// The state of a rule that was refused, which replaces the state of its path.
    pub(super) fn refusal(&self, slot: Slot) -> Option<&PathState> {
        let by_place = || self.error_rules.get(&slot)?.marked.as_ref()?.as_ref().err();
        self.refused.get(&slot).or_else(by_place)
    }

    fn open_mounting(&mut self) -> Result<(), Errno> {
        if self.mounting.is_none() {
            let mounting = Mounting::open()?;
            self.sources.add(&mounting.group)?;
            self.mounting = Some(mounting);
        }
        Ok(())
    }

    fn open_errors(&mut self) -> Result<&Group, Errno> {
        if self.errors.is_none() {
            let group = Group::for_file_systems()?;
            self.sources.add(&group)?;
            self.errors = Some(group);
        }
        self.errors.as_ref().ok_or(Errno::EBADF)
    }

    /// Adds a new rule, before its path is looked at.
    pub(super) fn attach(&mut self, slot: Slot, mirror: &Mirror, privilege: Privilege) {
        let spec = &mirror.rules[slot].spec;
        if spec.events.intersects(Events::FS_ERROR) {
            self.error_rules.insert(slot, About::default());
        }
        if spec.events.intersects(MOUNTING) {
            match self.open_mounting() {
                Ok(()) => self.mount_rules.push(slot),
                Err(errno) => self.refuse(slot, no_mounting(errno)),
            }
        }
        if privilege == Privilege::User && spec.options.process_filter.must_be_known() {
            let why = "an ordinary user is not told who causes events, so `uid=` and `exe=` never hold";
            self.refuse(slot, why.to_owned());
        }
    }

    fn refuse(&mut self, slot: Slot, why: String) {
        self.refused.insert(slot, PathState::Failed(why));
    }

    /// Removes a rule from the groups.
    pub(super) fn detach(&mut self, slot: Slot) {
        self.refused.remove(&slot);
        self.mount_rules.retain(|other| *other != slot);
        if self.mount_rules.is_empty() {
            self.mounting = None;
        }
        self.error_rules.remove(&slot);
        if self.error_rules.is_empty() {
            self.errors = None;
        }
    }

    /// Paths were looked at, and may lead to other file systems now. The mark of a file system
    /// is gone after an unmount. To add a mark that exists changes nothing.
    pub(super) fn follow_paths(&mut self, mirror: &Mirror, scanner: &Scanner, workers: &Workers) {
        let slots: Vec<_> = self.error_rules.keys().copied().collect();
        for slot in slots {
            let Some(target) = mirror.rules[slot].target else { continue };
            let seat = (target, mirror.tree.inode_at(target).map(Inode::since));
            if self.error_rules.get(&slot).is_some_and(|about| about.seat == Some(seat)) {
                continue;
            }
            let path = mirror.tree.path(target);
            let marked = if workers.is_served(&path) {
                Err(Errno::EOPNOTSUPP)
            } else {
                let Ok(object) = scanner.open(&path) else { continue };
                self.mark_for_errors(&object)
            };
            let marked =
                marked.map_err(|errno| PathState::Failed(format!("{}: {}", Text(path), no_errors(errno))));
            self.error_rules.insert(slot, About { seat: Some(seat), marked: Some(marked) });
        }
    }

    fn mark_for_errors(&mut self, object: &Object) -> Result<FsId, Errno> {
        self.open_errors()?.add_fs_mark(object, Events::FS_ERROR.mask())?;
        let mut room = HandleBuffer::default();
        Ok(object.handle(&mut room)?.fs)
    }

    /// Reads once from each group. Returns the number of records.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        mirror: &Mirror,
        fired: &mut Vec<Fired>,
    ) -> Result<u64, Errno> {
        let mut count = 0;
        if let Some(mounting) = &mut self.mounting
            && let Some(bytes) = mounting.group.read(buffer)?
        {
            for record in Records::new(bytes, FsId::default()).flatten() {
                count += 1;
                let Some(mount) = record.mount else { continue };
                let Some(change) = mounting.on_record(Events::from_mask(record.mask), mount) else {
                    tracing::warn!("a mount came and went before its place could be looked at");
                    continue;
                };
                for slot in &self.mount_rules {
                    let event = mount_event(mirror, *slot, &change, record.pid);
                    let rule = mirror.rules[*slot].id;
                    fired.extend(event.map(|event| Fired { rule, event, own: None }));
                }
            }
        }
        if let Some(errors) = &self.errors
            && let Some(bytes) = errors.read(buffer)?
        {
            for record in Records::new(bytes, FsId::default()).flatten() {
                count += 1;
                self.on_error(&record, mirror, fired);
            }
        }
        Ok(count)
    }

    fn on_error(&self, record: &Record<'_>, mirror: &Mirror, fired: &mut Vec<Fired>) {
        let Some(fs) = record.object.map(|object| object.fs) else { return };
        for (slot, about) in &self.error_rules {
            if !matches!(&about.marked, Some(Ok(about)) if *about == fs) {
                continue;
            }
            let rule = &mirror.rules[*slot];
            let path = rule.spec.path.as_os_str().as_bytes();
            if let Some(error) = record.error {
                let why = Errno::from_raw(error.number).desc();
                tracing::warn!(path = %Text::from(path), count = error.count, "the file system reports an error: {why}");
            }
            let event = special_event(Events::FS_ERROR, path.into(), None, record.pid);
            fired.push(Fired { rule: rule.id, event, own: None });
        }
    }
}

/// The event of a mount change for a rule. A move is one event, at the new mount point.
fn mount_event(mirror: &Mirror, slot: Slot, change: &Change, pid: i32) -> Option<Event> {
    let wanted = mirror.rules[slot].spec.events;
    let place = |point: &Option<_>| point.as_deref().and_then(|point| place_of_mount(mirror, slot, point));
    let from = place(&change.from).filter(|_| wanted.contains(Events::MNT_DETACH));
    let to = place(&change.to).filter(|_| wanted.contains(Events::MNT_ATTACH));
    let events = [(&from, Events::MNT_DETACH), (&to, Events::MNT_ATTACH)]
        .into_iter()
        .filter(|(path, _)| path.is_some())
        .fold(Events::NONE, |all, (_, event)| all.with(event));
    let (path, old_path) = match (from, to) {
        (from, Some(to)) => (to, from),
        (Some(from), None) => (from, None),
        (None, None) => return None,
    };
    Some(special_event(events, path, old_path, pid))
}

/// The path of a mount point at or below PATH, beginning with PATH as it is written.
fn place_of_mount(mirror: &Mirror, slot: Slot, point: &[u8]) -> Option<Rc<[u8]>> {
    let rule = &mirror.rules[slot];
    let path = rule.spec.path.as_os_str().as_bytes();
    let real = rule.target.map_or_else(|| path.to_vec(), |target| mirror.tree.path(target));
    let below = match real.as_slice() {
        b"/" => point.strip_prefix(b"/")?,
        real if real == point => b"",
        real => point.strip_prefix(real)?.strip_prefix(b"/")?,
    };
    let name = point.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let is_accepted = rule.spec.options.filter.accepts(below, name, ObjectKind::Directory);
    is_accepted.then(|| join(path, below).into())
}

fn special_event(events: Events, path: Rc<[u8]>, old_path: Option<Rc<[u8]>>, pid: i32) -> Event {
    let (time, mask) = (SystemTime::now(), events.mask());
    Event { time, events, mask, path, old_path, pid, exe: None, uid: None, synthetic: false, object: None }
}

fn no_mounting(errno: Errno) -> String {
    let why = match errno {
        Errno::EINVAL | Errno::ENOSYS => "this kernel does not tell of mounts; Linux 6.14 and later do",
        Errno::EPERM => "an ordinary user is not told of mounts",
        other => other.desc(),
    };
    format!("FAN_MNT_ATTACH and FAN_MNT_DETACH cannot be had: {why}")
}

fn no_errors(errno: Errno) -> String {
    let why = match errno {
        Errno::EINVAL | Errno::ENOSYS => "this kernel does not tell of them; Linux 5.16 and later do",
        Errno::EPERM => "an ordinary user is not told of them",
        Errno::EOPNOTSUPP | Errno::ENODEV => "its file system does not tell of them",
        Errno::EXDEV => "it is on a subvolume of btrfs; write the top of the file system",
        other => other.desc(),
    };
    format!("FAN_FS_ERROR cannot be had: {why}")
}

#[cfg(test)]
mod tests;
