//! Rules about what is not one file: mounts at or below PATH, and errors of the
//! file system that PATH is on. They have groups of their own, opened for the
//! first rule that needs them.

use super::grow::join;
use super::mounting::{Change, MOUNTING, Mounting};
use super::rules::{PathState, Slot};
use super::{Hit, Watch, Whose};
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

/// The groups of such rules.
#[derive(Debug)]
pub struct Special {
    sources: Rc<Sources>,
    mounting: Option<Mounting>,
    errors: Option<Group>,
    /// The rules about mounts.
    mount_rules: Vec<Slot>,
    /// The rules about errors, with the file system that each is about now, or why
    /// that cannot be.
    error_rules: FxHashMap<Slot, Option<Result<FsId, PathState>>>,
    /// Rules that cannot have what they ask for, wherever their path leads.
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

    /// What wakes the watch besides its own group.
    pub(super) fn sources(&self) -> &Rc<Sources> {
        &self.sources
    }

    /// What such a rule was refused, in place of the state of its path.
    pub(super) fn refusal(&self, slot: Slot) -> Option<&PathState> {
        let by_place = || self.error_rules.get(&slot)?.as_ref()?.as_ref().err();
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
}

impl Watch {
    /// What wakes the watch besides its own group.
    pub fn sources(&self) -> &Sources {
        &self.special.sources
    }

    /// Takes a new rule in, before its path is looked at.
    pub(super) fn attach_special(&mut self, slot: Slot) {
        let events = self.rules[slot].spec.events;
        if events.intersects(Events::FS_ERROR) {
            self.special.error_rules.insert(slot, None);
        }
        if events.intersects(MOUNTING) {
            match self.special.open_mounting() {
                Ok(()) => self.special.mount_rules.push(slot),
                Err(errno) => self.refuse(slot, no_mounting(errno)),
            }
        }
        if self.privilege() == Privilege::User && self.rules[slot].spec.options.process_filter.must_be_known()
        {
            let why = "an ordinary user is not told who causes events, so `uid=` and `exe=` never hold";
            self.refuse(slot, why.to_owned());
        }
    }

    fn refuse(&mut self, slot: Slot, why: String) {
        self.special.refused.insert(slot, PathState::Failed(why));
    }

    /// Lets a rule go.
    pub(super) fn detach_special(&mut self, slot: Slot) {
        self.special.refused.remove(&slot);
        self.special.mount_rules.retain(|other| *other != slot);
        if self.special.mount_rules.is_empty() {
            self.special.mounting = None;
        }
        self.special.error_rules.remove(&slot);
        if self.special.error_rules.is_empty() {
            self.special.errors = None;
        }
    }

    /// A rule's path was looked at: it may lead to another file system now.
    pub(super) fn follow_file_system(&mut self, slot: Slot) {
        if !self.special.error_rules.contains_key(&slot) {
            return;
        }
        let Some(target) = self.rules[slot].target else { return };
        let Ok(object) = self.open(target) else { return };
        let marked = self.mark_for_errors(&object).map_err(|errno| {
            let path = Text(self.tree.path(target));
            PathState::Failed(format!("{path}: {}", no_errors(errno)))
        });
        self.special.error_rules.insert(slot, Some(marked));
    }

    /// The mark of a file system is gone when that is unmounted; adding it again
    /// where it is there changes nothing.
    fn mark_for_errors(&mut self, object: &Object) -> Result<FsId, Errno> {
        self.special.open_errors()?.add_fs_mark(object, Events::FS_ERROR.mask())?;
        let mut room = HandleBuffer::default();
        Ok(object.handle(&mut room)?.fs)
    }

    /// Reads once from each group of such rules; whether there was something.
    pub(super) fn read_special(
        &mut self,
        buffer: &mut [u8],
        whose: &mut dyn Whose,
        hits: &mut Vec<Hit>,
    ) -> Result<bool, Errno> {
        let mut some = false;
        if let Some(mounting) = &self.special.mounting
            && let Some(bytes) = mounting.group.read(buffer)?
        {
            whose.on_read();
            for record in Records::new(bytes, FsId::default()).flatten() {
                self.on_mount_record(&record, whose, hits);
            }
            some = true;
        }
        if let Some(errors) = &self.special.errors
            && let Some(bytes) = errors.read(buffer)?
        {
            whose.on_read();
            for record in Records::new(bytes, FsId::default()).flatten() {
                self.on_error_record(&record, whose, hits);
            }
            some = true;
        }
        Ok(some)
    }

    fn on_mount_record(&mut self, record: &Record<'_>, whose: &mut dyn Whose, hits: &mut Vec<Hit>) {
        self.counters.read += 1;
        let (Some(mounting), Some(mount)) = (&mut self.special.mounting, record.mount) else { return };
        let Some(change) = mounting.on_record(Events::from_mask(record.mask), mount) else {
            return tracing::warn!("a mount came and went before its place could be looked at");
        };
        for slot in &self.special.mount_rules {
            if let Some(event) = self.mount_event(*slot, &change, record.pid) {
                hits.push(Hit { rule: self.rules[*slot].id, event, own: whose.is_own(record.pid) });
            }
        }
    }

    /// What a rule makes of it: one firing, under the new place where it has both.
    fn mount_event(&self, slot: Slot, change: &Change, pid: i32) -> Option<Event> {
        let wanted = self.rules[slot].spec.events;
        let place = |point: &Option<_>| point.as_deref().and_then(|point| self.place_of_mount(slot, point));
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

    /// A mount point at or below a rule's PATH, as the rule says it.
    fn place_of_mount(&self, slot: Slot, point: &[u8]) -> Option<Rc<[u8]>> {
        let rule = &self.rules[slot];
        let path = rule.spec.path.as_os_str().as_bytes();
        let real = rule.target.map_or_else(|| path.to_vec(), |target| self.tree.path(target));
        let below = match real.as_slice() {
            b"/" => point.strip_prefix(b"/")?,
            real if real == point => b"",
            real => point.strip_prefix(real)?.strip_prefix(b"/")?,
        };
        let name = point.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let is_accepted = rule.spec.options.filter.accepts(below, name, ObjectKind::Directory);
        is_accepted.then(|| join(path, below).into())
    }

    fn on_error_record(&mut self, record: &Record<'_>, whose: &mut dyn Whose, hits: &mut Vec<Hit>) {
        self.counters.read += 1;
        let Some(fs) = record.object.map(|object| object.fs) else { return };
        for (slot, about) in &self.special.error_rules {
            if !matches!(about, Some(Ok(about)) if *about == fs) {
                continue;
            }
            let rule = &self.rules[*slot];
            let path = rule.spec.path.as_os_str().as_bytes();
            if let Some(error) = record.error {
                let why = Errno::from_raw(error.number).desc();
                tracing::warn!(path = %Text::from(path), count = error.count, "the file system reports an error: {why}");
            }
            let event = special_event(Events::FS_ERROR, path.into(), None, record.pid);
            hits.push(Hit { rule: rule.id, event, own: whose.is_own(record.pid) });
        }
    }
}

fn special_event(events: Events, path: Rc<[u8]>, old_path: Option<Rc<[u8]>>, pid: i32) -> Event {
    let (time, mask) = (SystemTime::now(), events.mask());
    Event { time, events, mask, path, old_path, pid, exe: None, uid: None, synthetic: false }
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
