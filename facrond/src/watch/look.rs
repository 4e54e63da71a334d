//! Looking at files: whether they are complete, and what their state tells of what
//! must have happened to them.

use super::arrival::{Arrival, Origin};
use super::fire::{Cause, Firing};
use super::tree::NodeId;
use super::unsettled::MAX_TRIES;
use super::{Hit, Watch};
use crate::config::rule::RuleSpec;
use crate::events::Events;
use crate::kernel::envoy::SILENT;
use crate::kernel::object::{Kind, Object};
use crate::matcher::{Position, matched};
use nix::errno::Errno;
use std::time::SystemTime;

impl Watch {
    /// Looks at files that may be complete. What is read after this is either newer,
    /// or was in the queue when the look took place.
    pub(super) fn look_at_arrivals(&mut self) {
        let mut arrivals = std::mem::take(&mut self.arrivals);
        for ((dir, name), arrival) in arrivals.unlooked() {
            let found = self.open_bound(*dir).map(|object| self.entry(*dir, &object, name));
            arrival.tries += 1;
            arrival.looked = match found {
                Err(SILENT) | Ok(Err(SILENT)) => {
                    arrival.is_postponed = true;
                    None
                }
                Ok(found) => Some(look(found, arrival.origin)),
                // It is being renamed; the record of that is still to be read.
                Err(_) if arrival.tries < MAX_TRIES => None,
                Err(errno) => Some(look(Err(errno), arrival.origin)),
            };
        }
        self.arrivals = arrivals;
    }

    /// Fires for files that are complete and that no event has told of.
    pub(super) fn fire_arrivals(&mut self, hits: &mut Vec<Hit>) {
        for ((dir, name), arrival) in self.arrivals.take_looked() {
            let news = arrival.news();
            self.rescan.note(dir, &name, news);
            if !news.without(Events::ONDIR).is_empty() {
                self.fire_arrival(dir, &name, &arrival, news, hits);
            }
        }
    }

    fn fire_arrival(&self, dir: NodeId, name: &[u8], arrival: &Arrival, news: Events, hits: &mut Vec<Hit>) {
        let (pid, synthetic) = match arrival.origin {
            Origin::Made { pid } => (pid, false),
            Origin::Found { .. } => (0, true),
        };
        let cause = Cause { time: SystemTime::now(), events: news, pid, own: arrival.own, synthetic };
        for slot in &arrival.slots {
            let is_path =
                self.tree.child(dir, name).is_some_and(|node| self.rules[*slot].target == Some(node));
            let place = (!is_path).then_some((dir, name));
            let position = if is_path { Position::Path } else { Position::Below };
            let matched = arrived(&self.rules[*slot].spec, arrival.origin, position, news);
            if !matched.is_empty() && self.accepts(*slot, place, news) {
                let place = place.map(|(dir, name)| (dir, name.into()));
                hits.push(self.hit(&Firing { slot: *slot, matched, place }, &cause, None));
            }
        }
    }
}

/// `ARRIVED` was decided by the look, not by the events.
fn arrived(spec: &RuleSpec, origin: Origin, position: Position, news: Events) -> Events {
    let arrived = news.and(spec.events).and(Events::ARRIVED);
    if matches!(origin, Origin::Made { .. }) {
        return arrived;
    }
    let by_events = matched(spec.events, position, news.without(Events::ARRIVED)).without(Events::ARRIVED);
    by_events.with(arrived)
}

/// What a file's state tells of what must have happened to it.
fn look(found: Result<Object, Errno>, origin: Origin) -> Events {
    match (found, origin) {
        (Ok(object), Origin::Made { .. }) if object.is_complete() == Some(true) => {
            Events::ARRIVED.with(Events::CREATE)
        }
        (Ok(object), Origin::Found { since: None }) => look_at_new(&object),
        (Ok(object), Origin::Found { since: Some(since) }) => look_at_changed(&object, since),
        // It was there, and its end has a record of its own.
        (Err(_), Origin::Found { since: None }) => Events::CREATE,
        (_, Origin::Made { .. }) | (Err(_), Origin::Found { since: Some(_) }) => Events::NONE,
    }
}

/// Of something in a directory that is new itself.
fn look_at_new(object: &Object) -> Events {
    let modified = if object.stat().size() > 0 { Events::MODIFY } else { Events::NONE };
    match object.kind() {
        Kind::Directory => Events::CREATE.with(Events::ONDIR),
        Kind::File => Events::CREATE.with(modified).with(closed(object)),
        Kind::Link | Kind::Other => Events::CREATE,
    }
}

/// Of something that may have been there before, by its times.
fn look_at_changed(object: &Object, since: SystemTime) -> Events {
    if object.stat().changed() < since {
        return Events::NONE;
    }
    let is_new = object.stat().born().is_some_and(|born| born >= since);
    let created = if is_new { Events::CREATE } else { Events::NONE };
    match object.kind() {
        Kind::Directory => created.with(Events::ATTRIB).with(Events::ONDIR),
        Kind::File if is_new || object.stat().modified() >= since => {
            created.with(Events::MODIFY).with(closed(object))
        }
        // Its name or its metadata: which, the times do not tell.
        Kind::File => Events::ATTRIB.with(Events::MOVED_TO).with(closed(object).and(Events::ARRIVED)),
        Kind::Link | Kind::Other => created.with(Events::MOVED_TO),
    }
}

/// What is true of a file that no writer has open.
fn closed(object: &Object) -> Events {
    if object.is_complete() == Some(false) { Events::NONE } else { Events::CLOSE_WRITE.with(Events::ARRIVED) }
}
