//! From a rule's PATH to the node that it is, marking on the way.

use super::Watch;
use super::arrival::Origin;
use super::rules::{Inode, PathState, Seat, Slot};
use super::tree::NodeId;
use super::walk::{End, Stop};
use crate::kernel::object::Object;
use facron_proto::Text;
use nix::errno::Errno;
use std::time::SystemTime;

/// Why a path is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// The rule is new: what is there already is no event.
    First,
    /// Something on the way changed: what is found is news.
    Change(News),
}

/// What found things mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Whether facron's own commands caused them.
    pub own: bool,
    /// Only what has changed since counts; everything if nothing is known.
    pub since: Option<SystemTime>,
}

/// What a rule has.
struct Holding {
    trail: Vec<NodeId>,
    target: Option<NodeId>,
    seat: Option<Seat>,
    state: PathState,
}

impl Watch {
    /// Looks at a rule's path, marks what it needs, and gives up what it needed before.
    pub(super) fn resolve(&mut self, slot: Slot, occasion: Occasion) {
        let before = self.take_holding(slot);
        let mut walk = match self.start_walk(slot) {
            Ok(walk) => walk,
            Err(errno) => {
                self.rules[slot].trail = before.trail;
                return self.rules[slot].state = PathState::Failed(describe(b"/", errno));
            }
        };
        let end = self.walk(&mut walk);
        let trail = std::mem::take(&mut walk.trail);
        if let Err(Stop::Silent(why)) = &end
            && before.trail.starts_with(&trail)
        {
            return self.keep_holding(slot, before, why);
        }
        let gone: Vec<_> = before.trail.into_iter().filter(|node| !trail.contains(node)).collect();
        self.rules[slot].trail = trail;
        match end {
            Ok(End::Directory(node, object)) => {
                self.arrive_at_directory(slot, node, object, before.seat.as_ref(), occasion);
            }
            Ok(End::Entry { parent, node, exists }) => {
                self.arrive_at_entry(slot, parent, node, exists, before.seat.as_ref(), occasion);
            }
            Err(stop) => {
                self.leave_file_systems(slot);
                self.rules[slot].state = stop.into();
            }
        }
        if let Some(target) = before.target
            && self.rules[slot].target != Some(target)
        {
            self.drop_target(target, slot);
        }
        self.give_up(slot, &gone);
        self.follow_file_system(slot);
    }

    fn take_holding(&mut self, slot: Slot) -> Holding {
        let rule = &mut self.rules[slot];
        if let PathState::Silent(_) = rule.state {
            rule.state = PathState::Active;
        }
        Holding {
            trail: std::mem::take(&mut rule.trail),
            target: rule.target.take(),
            seat: rule.seat.take(),
            state: rule.state.clone(),
        }
    }

    /// The way is the same as far as somebody answers: what a rule has stays, and so
    /// does what is in the kernel's queue.
    fn keep_holding(&mut self, slot: Slot, before: Holding, why: &str) {
        let rule = &mut self.rules[slot];
        rule.state = match before.state {
            PathState::Active => PathState::Silent(why.to_owned()),
            _ => PathState::Waiting(why.to_owned()),
        };
        (rule.trail, rule.target, rule.seat) = (before.trail, before.target, before.seat);
    }

    /// Gives up all that a rule has.
    pub(super) fn release(&mut self, slot: Slot) {
        self.leave_file_systems(slot);
        if let Some(target) = self.rules[slot].target.take() {
            self.drop_target(target, slot);
        }
        let trail = std::mem::take(&mut self.rules[slot].trail);
        self.give_up(slot, &trail);
    }

    fn arrive_at_directory(
        &mut self,
        slot: Slot,
        node: NodeId,
        object: Object,
        before: Option<&Seat>,
        occasion: Occasion,
    ) {
        let needs = self.rules[slot].needs;
        if let Err(errno) = self.want(node, &object, slot, needs.directory) {
            return self.rules[slot].state = self.stop_at(node, errno).into();
        }
        self.anchor(node).aim(slot);
        let seat = self.seat_of(node).map(Seat::Directory);
        let rule = &mut self.rules[slot];
        rule.target = Some(node);
        let is_same = seat.as_ref() == before;
        rule.seat = seat;
        if !is_same {
            // What had failed below is tried again only where all is looked at again.
            rule.state = PathState::Active;
            self.leave_file_systems(slot);
        }
        match occasion {
            Occasion::Change(news) if !is_same => self.grow(node, object, &[slot], Some(news)),
            _ if needs.knows_children && !is_same => self.grow(node, object, &[slot], None),
            _ => {}
        }
    }

    fn arrive_at_entry(
        &mut self,
        slot: Slot,
        parent: NodeId,
        node: NodeId,
        exists: bool,
        before: Option<&Seat>,
        occasion: Occasion,
    ) {
        self.anchor(node).aim(slot);
        let seat = self.seat_of(parent).map(Seat::Entry);
        let missing = || {
            let (dir, name) = (Text(self.tree.path(parent)), Text(self.tree[node].name().into()));
            PathState::Waiting(format!("{dir} has no {name} yet"))
        };
        let state = if exists { PathState::Active } else { missing() };
        let rule = &mut self.rules[slot];
        rule.target = Some(node);
        rule.state = state;
        let is_same = seat.as_ref() == before;
        rule.seat = seat;
        if let Occasion::Change(News { own, since }) = occasion
            && exists
            && !is_same
        {
            let name: Box<[u8]> = self.tree[node].name().into();
            self.arrivals.add(parent, &name, Origin::Found { since }, own, &[slot]);
        }
    }

    fn seat_of(&self, node: NodeId) -> Option<Inode> {
        self.tree[node].handle().map(|handle| (handle.fs, handle.bytes.into()))
    }
}

/// A sentence about a path that cannot be watched.
pub(super) fn describe(path: &[u8], errno: Errno) -> String {
    let why = match errno {
        Errno::ENOSPC => "the limit of marks is reached (see /proc/sys/fs/fanotify/max_user_marks)",
        Errno::EACCES => "permission denied",
        Errno::ENODEV | Errno::EOPNOTSUPP => {
            "its file system has no file handles, so fanotify cannot watch it"
        }
        Errno::EMFILE => "too many fanotify groups (see /proc/sys/fs/fanotify/max_user_groups)",
        Errno::ELOOP => "too many symbolic links",
        other => other.desc(),
    };
    format!("{}: {why}", Text(path.to_vec()))
}
