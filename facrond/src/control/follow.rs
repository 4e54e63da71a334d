//! Subscriptions: records on their way to clients that may not read them.
//!
//! A connection has one queue for all its subscriptions, in the order of the
//! records, with at most [`MAX_QUEUED`] of each. When a subscription has no room,
//! the place is marked, and everything is counted instead until the client has
//! read up to the mark. Sending never waits.

use facron_proto::Record;
use facron_proto::method::{Lagged, LaggedParams, SubscriptionId};
use facron_proto::rpc::{self, Code, Error};
use serde_json::value::{RawValue, to_raw_value};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::Notify;

/// Records that wait in one subscription.
pub const MAX_QUEUED: usize = 8192;

/// Subscriptions of one connection.
pub const MAX_SUBSCRIPTIONS: usize = 16;

/// A record as it travels, made once for all who follow.
pub fn encode(record: &Record) -> serde_json::Result<Arc<RawValue>> {
    to_raw_value(record).map(Arc::from)
}

/// The engine's end of a subscription. Dropping it ends nothing: the client just gets no more.
#[derive(Debug)]
pub struct Follower {
    id: SubscriptionId,
    connection: Weak<Subscriptions>,
}

impl Follower {
    /// What the client knows it by.
    pub fn id(&self) -> SubscriptionId {
        self.id
    }

    /// Whether the client has unsubscribed or is gone, so that it can be dropped.
    pub fn is_closed(&self) -> bool {
        self.connection.upgrade().is_none_or(|subscriptions| !subscriptions.has(self.id))
    }

    /// Queues a record, or counts it as missed; never waits.
    pub fn send(&self, record: &Arc<RawValue>) {
        if let Some(subscriptions) = self.connection.upgrade() {
            subscriptions.push(self.id, record);
        }
    }
}

/// The subscriptions of one connection.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    queue: Mutex<Queue>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    last_id: u64,
    /// How many notices of each subscription wait, and how many it has missed.
    open: BTreeMap<SubscriptionId, Counts>,
    notices: VecDeque<(SubscriptionId, Notice)>,
}

#[derive(Debug, Default)]
struct Counts {
    queued: usize,
    missed: u64,
}

#[derive(Debug)]
enum Notice {
    Record(Arc<RawValue>),
    /// Records are missing here; how many is known when it is taken.
    Lagged,
}

impl Subscriptions {
    pub(super) fn add(this: &Arc<Self>) -> Result<Follower, Error> {
        let mut queue = this.lock();
        if queue.open.len() >= MAX_SUBSCRIPTIONS {
            let message = format!("this connection has {MAX_SUBSCRIPTIONS} subscriptions already");
            return Err(Error::new(Code::TOO_MANY, message));
        }
        queue.last_id += 1;
        let id = SubscriptionId(queue.last_id);
        queue.open.insert(id, Counts::default());
        Ok(Follower { id, connection: Arc::downgrade(this) })
    }

    /// Ends a subscription and forgets what waits in it; false if there was none.
    pub(super) fn remove(&self, id: SubscriptionId) -> bool {
        let mut queue = self.lock();
        queue.notices.retain(|(other, _)| *other != id);
        queue.open.remove(&id).is_some()
    }

    fn has(&self, id: SubscriptionId) -> bool {
        self.lock().open.contains_key(&id)
    }

    fn push(&self, id: SubscriptionId, record: &Arc<RawValue>) {
        let mut queue = self.lock();
        let Queue { open, notices, .. } = &mut *queue;
        let Some(counts) = open.get_mut(&id) else { return };
        if counts.missed > 0 {
            counts.missed += 1;
        } else if counts.queued == MAX_QUEUED {
            counts.missed = 1;
            notices.push_back((id, Notice::Lagged));
        } else {
            counts.queued += 1;
            notices.push_back((id, Notice::Record(record.clone())));
        }
        self.ready.notify_one();
    }

    /// Waits until there may be something to take.
    pub(super) async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Makes the next [`Subscriptions::ready`] return at once.
    pub(super) fn wake(&self) {
        self.ready.notify_one();
    }

    /// The next notification as a line.
    pub(super) fn take(&self) -> Option<serde_json::Result<Vec<u8>>> {
        let mut queue = self.lock();
        let (subscription, notice) = queue.notices.pop_front()?;
        let counts = queue.open.get_mut(&subscription)?;
        match notice {
            Notice::Record(record) => {
                counts.queued -= 1;
                drop(queue);
                Some(rpc::record_line(subscription, &record))
            }
            Notice::Lagged => {
                let missed = std::mem::take(&mut counts.missed);
                Some(rpc::notice_line::<Lagged>(&LaggedParams { subscription, missed }))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(number: usize) -> Arc<RawValue> {
        Arc::from(to_raw_value(&number).unwrap())
    }

    fn taken(subscriptions: &Subscriptions) -> Vec<String> {
        std::iter::from_fn(|| subscriptions.take())
            .map(|line| {
                let line = String::from_utf8(line.unwrap()).unwrap();
                line.split_once("params\":").unwrap().1.strip_suffix("}\n").unwrap().to_owned()
            })
            .collect()
    }

    #[test]
    fn what_has_no_room_is_counted_at_its_place() {
        let subscriptions = Arc::default();
        let slow = Subscriptions::add(&subscriptions).unwrap();
        let other = Subscriptions::add(&subscriptions).unwrap();
        for number in 0..MAX_QUEUED + 5 {
            slow.send(&raw(number));
        }
        other.send(&raw(0));
        let lines = taken(&subscriptions);
        assert_eq!(lines.len(), MAX_QUEUED + 2);
        assert_eq!(lines[0], r#"{"subscription":1,"record":0}"#);
        assert_eq!(lines[MAX_QUEUED], r#"{"subscription":1,"missed":5}"#);
        assert_eq!(lines[MAX_QUEUED + 1], r#"{"subscription":2,"record":0}"#);
        slow.send(&raw(9));
        assert_eq!(taken(&subscriptions), [r#"{"subscription":1,"record":9}"#]);
    }

    #[test]
    fn a_follower_ends_with_unsubscribing_and_with_the_connection() {
        let subscriptions = Arc::default();
        let first = Subscriptions::add(&subscriptions).unwrap();
        let second = Subscriptions::add(&subscriptions).unwrap();
        first.send(&raw(1));
        assert!(subscriptions.remove(first.id()));
        assert!(!subscriptions.remove(first.id()));
        first.send(&raw(2));
        assert_eq!(taken(&subscriptions), [""; 0]);
        assert!(first.is_closed() && !second.is_closed());
        drop(subscriptions);
        second.send(&raw(3));
        assert!(second.is_closed());
    }

    #[test]
    fn subscriptions_are_limited_and_numbers_not_used_twice() {
        let subscriptions = Arc::default();
        for _ in 0..MAX_SUBSCRIPTIONS {
            Subscriptions::add(&subscriptions).unwrap();
        }
        assert_eq!(Subscriptions::add(&subscriptions).unwrap_err().code, Code::TOO_MANY);
        subscriptions.remove(SubscriptionId(16));
        assert_eq!(Subscriptions::add(&subscriptions).unwrap().id(), SubscriptionId(17));
    }
}
