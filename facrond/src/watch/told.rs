//! The latest firings. A look may find a change for which a record has already fired the
//! rule: the directory was marked before it was read, or records are missing.

use super::rules::Slot;
use crate::event::Event;
use crate::events::Events;
use crate::kernel::fanotify::Privilege;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// How long a firing is remembered.
const MEMORY: Duration = Duration::from_secs(1);

/// How many firings are remembered. An ordinary user's queue can overflow, so it needs as many
/// as that queue may lose.
const MOST: usize = 4096;
const MOST_OF_USER: usize = 1 << 17;

type Key = (Slot, Rc<[u8]>);

/// The latest firings, by rule and path.
#[derive(Debug)]
pub(super) struct Told {
    usual: usize,
    most: usize,
    /// Whether nothing is forgotten because it is old.
    is_kept: bool,
    /// For each rule and path, the time of the last firing and the events of all. Users choose
    /// paths, so the hash has a key.
    known: HashMap<Key, (SystemTime, Events)>,
    /// The firings in order, the oldest first.
    latest: VecDeque<(SystemTime, Key)>,
}

impl Told {
    /// An empty memory, for groups of this kind.
    pub(super) fn new(privilege: Privilege) -> Self {
        let most = match privilege {
            Privilege::Full => MOST,
            Privilege::User => MOST_OF_USER,
        };
        Self { usual: most, most, is_kept: false, known: HashMap::new(), latest: VecDeque::new() }
    }

    /// Remembers more firings from now on, because many records may be read before the next
    /// look; or no more than usual.
    pub(super) fn expect_many(&mut self, are_many: bool) {
        self.most = if are_many { MOST_OF_USER } else { self.usual };
    }

    /// Remembers a firing.
    pub(super) fn note(&mut self, slot: Slot, event: &Event) {
        let most = if self.is_kept { MOST_OF_USER } else { self.most };
        while self.latest.len() >= most {
            self.forget_oldest();
        }
        let key = (slot, Rc::clone(&event.path));
        self.latest.push_back((event.time, (slot, Rc::clone(&event.path))));
        let known = self.known.entry(key).or_insert((event.time, Events::NONE));
        *known = (event.time, known.1.with(event.events));
    }

    /// The events for which a rule has fired at a path, if the last firing was since then.
    pub(super) fn since(&self, slot: Slot, path: &Rc<[u8]>, then: SystemTime) -> Events {
        let told = self.known.get(&(slot, Rc::clone(path)));
        told.filter(|(at, _)| *at >= then).map_or(Events::NONE, |(_, events)| *events)
    }

    /// Whether firings are remembered as long as there is room.
    pub(super) fn keep(&mut self, is_kept: bool) {
        self.is_kept = is_kept;
    }

    /// Forgets firings that are too old. No record must be missing.
    pub(super) fn forget(&mut self, now: SystemTime) {
        let is_old = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age > MEMORY);
        while !self.is_kept && self.latest.front().is_some_and(|(at, _)| is_old(*at)) {
            self.forget_oldest();
        }
        if self.latest.is_empty() && self.latest.capacity() > 0 {
            (self.known, self.latest) = (HashMap::new(), VecDeque::new());
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((at, key)) = self.latest.pop_front()
            && self.known.get(&key).is_some_and(|(last, _)| *last == at)
        {
            self.known.remove(&key);
        }
    }
}
