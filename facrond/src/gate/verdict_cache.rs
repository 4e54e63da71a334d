//! `cache=`: verdicts that are remembered.
//!
//! An allowance is an ignore mark: the kernel no longer asks, and takes the mark
//! away when the file is modified. It has to be taken back when its time is over, so
//! only what can be found again is remembered. A denial cannot be the kernel's; it
//! is kept here, with what the file looked like.

use super::message::Lost;
use crate::config::permission::Verdict;
use crate::kernel::object::{Inode, Object};
use crate::kernel::permission::Group;
use facron_proto::Text;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// The daemon finds a file within this time, or the gate ends.
const SEARCH: Duration = Duration::from_secs(5);

/// Verdicts that are remembered at most, of each kind.
const MOST: usize = 65_536;

/// The kernel's clock for files may stand still this long: two changes within it look alike.
pub const TICK: Duration = Duration::from_millis(20);

/// An allowance that the kernel knows.
#[derive(Debug)]
struct Allowed {
    inode: Inode,
    mask: u64,
    path: PathBuf,
    handle: Box<[u8]>,
}

#[derive(Debug)]
struct Denied {
    looks: Looks,
    mask: u64,
    until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Looks {
    size: u64,
    changed: SystemTime,
    modified: SystemTime,
}

impl Looks {
    fn of(object: &Object) -> Self {
        Self {
            size: object.stat().size(),
            changed: object.stat().changed(),
            modified: object.stat().modified(),
        }
    }
}

/// The verdicts that are remembered.
#[derive(Debug, Default)]
pub struct VerdictCache {
    allowed: BTreeMap<(Instant, u64), Allowed>,
    next: u64,
    /// Masks of allowances that the daemon was asked to find, and until when.
    sought: FxHashMap<u64, (u64, Instant)>,
    /// Users choose inodes by making files, so the hash has a key.
    denied: HashMap<Inode, Denied>,
    denials: VecDeque<(Instant, Inode)>,
}

/// An ignore mark that cannot be taken back: only the end of the group ends it.
#[derive(Debug)]
pub struct Stuck;

impl VerdictCache {
    /// Remembers a verdict about a file until `until`. `object` is how the file was
    /// when it was asked about, and still is held by its descriptor.
    pub fn remember(
        &mut self,
        group: &Group,
        object: &Object,
        path: &[u8],
        mask: u64,
        verdict: Verdict,
        until: Instant,
    ) {
        match verdict {
            Verdict::Allow => self.allow(group, object, path, mask, until),
            Verdict::Deny => self.deny(object, mask, until),
        }
    }

    fn allow(&mut self, group: &Group, object: &Object, path: &[u8], mask: u64, until: Instant) {
        if self.allowed.len() >= MOST {
            return;
        }
        let Ok(handle) = object.lasting_handle() else { return };
        if group.ignore(object, mask).is_err() {
            return;
        }
        // What was modified before the mark was there must be asked about again.
        if !object.is_unchanged() {
            // The kernel takes it away by itself if this fails: the file was just modified.
            let _ = group.unignore(object, mask);
            return;
        }
        self.next += 1;
        let path = Path::new(OsStr::from_bytes(path)).to_owned();
        self.allowed.insert((until, self.next), Allowed { inode: object.inode(), mask, path, handle });
    }

    fn deny(&mut self, object: &Object, mask: u64, until: Instant) {
        if self.denied.len() >= MOST {
            return;
        }
        let looks = Looks::of(object);
        let denied = self.denied.entry(object.inode()).or_insert(Denied { looks, mask: 0, until });
        if denied.looks != looks {
            *denied = Denied { looks, mask: 0, until };
        }
        denied.mask |= mask;
        self.denials.push_back((denied.until, object.inode()));
    }

    /// Whether these events at this file are known to be denied.
    pub fn denies(&self, object: &Object, mask: u64, now: Instant) -> bool {
        let denied = if self.denied.is_empty() { None } else { self.denied.get(&object.inode()) };
        denied.is_some_and(|denied| {
            denied.until > now && denied.mask & mask == mask && denied.looks == Looks::of(object)
        })
    }

    /// How long until something is over.
    pub fn time_left(&self, now: Instant) -> Option<Duration> {
        let first = self.allowed.keys().next().map(|(until, _)| *until);
        let denied = self.denials.front().map(|(until, _)| *until);
        let sought = self.sought.values().map(|(_, until)| *until).min();
        [first, denied, sought].into_iter().flatten().min().map(|until| until.saturating_duration_since(now))
    }

    /// Forgets what is over; what the daemon has to find for that.
    pub fn expire(&mut self, group: &Group, now: Instant) -> Result<Vec<Lost>, Stuck> {
        while self.denials.front().is_some_and(|(until, _)| *until <= now)
            && let Some((_, inode)) = self.denials.pop_front()
        {
            if self.denied.get(&inode).is_some_and(|denied| denied.until <= now) {
                self.denied.remove(&inode);
            }
        }
        if self.sought.values().any(|(_, until)| *until <= now) {
            return Err(Stuck);
        }
        let mut lost = Vec::new();
        while self.allowed.first_key_value().is_some_and(|((until, _), _)| *until <= now)
            && let Some(((_, number), allowed)) = self.allowed.pop_first()
        {
            lost.extend(self.take_back(group, number, allowed, now));
        }
        Ok(lost)
    }

    /// Forgets all, since other rules hold now; what the daemon has to find for that.
    pub fn clear(&mut self, group: &Group, now: Instant) -> Vec<Lost> {
        self.denied.clear();
        self.denials.clear();
        let mut lost = Vec::new();
        while let Some(((_, number), allowed)) = self.allowed.pop_first() {
            lost.extend(self.take_back(group, number, allowed, now));
        }
        lost
    }

    fn take_back(&mut self, group: &Group, number: u64, allowed: Allowed, now: Instant) -> Option<Lost> {
        let object = Object::open_cached(&allowed.path).ok().filter(|object| object.inode() == allowed.inode);
        if object.is_some_and(|object| group.unignore(&object, allowed.mask).is_ok()) {
            return None;
        }
        self.sought.insert(number, (allowed.mask, now + SEARCH));
        Some(Lost {
            number,
            path: Text::from(allowed.path.as_os_str().as_bytes()),
            device: allowed.inode.device,
            inode: allowed.inode.number,
            handle: Text(allowed.handle.into_vec()),
        })
    }

    /// The daemon has found a file, or that it is no more.
    pub fn found(&mut self, group: &Group, number: u64, object: Option<&Object>) -> Result<(), Stuck> {
        let Some((mask, _)) = self.sought.remove(&number) else { return Ok(()) };
        object.map_or(Ok(()), |object| group.unignore(object, mask)).map_err(|_| Stuck)
    }
}
