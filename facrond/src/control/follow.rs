//! Subscriptions: records on their way to clients that may not read them.
//!
//! A connection has one queue for all its subscriptions, in the order of the
//! records, with at most [`MAX_QUEUED`] of each, and no more bytes than the user's
//! [share](super::shares). When a subscription has no room, the place is marked, and everything
//! is counted instead until the client has read up to the mark. Sending never waits.

use super::shares::Place;
use facron_proto::Record;
use facron_proto::method::{Lagged, LaggedParams, SubscriptionId};
use facron_proto::rpc::{self, Code, Error};
use serde_json::value::{RawValue, to_raw_value};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::Notify;

/// Records that wait in one subscription.
pub const MAX_QUEUED: usize = 8192;

/// Records that wait in a subscription whose other records wait in the history.
const MAX_FETCHED: usize = MAX_QUEUED / 2;

/// The bytes of many records.
const MUCH: usize = 128 << 10;

/// Subscriptions of one connection.
pub const MAX_SUBSCRIPTIONS: usize = 16;

/// What a record takes in a queue besides its text.
const OVERHEAD: usize = 64;

/// A record as it travels, made once for all who follow.
pub fn encode(record: &Record) -> Option<Arc<RawValue>> {
    let line = to_raw_value(record).inspect_err(|error| tracing::error!(%error, "cannot encode a record"));
    line.ok().map(Arc::from)
}

/// The engine's end of a subscription. Dropping it ends nothing: the client just gets no more.
#[derive(Debug)]
pub struct Follower {
    id: SubscriptionId,
    connection: Weak<Connection>,
}

impl Follower {
    /// What the client knows it by.
    pub fn id(&self) -> SubscriptionId {
        self.id
    }

    /// Whether the client has unsubscribed or is gone, so that it can be dropped.
    pub fn is_closed(&self) -> bool {
        self.connection.upgrade().is_none_or(|connection| !connection.has(self.id))
    }

    /// Queues a record, or counts it as missed; never waits.
    pub fn send(&self, record: &Arc<RawValue>) {
        if let Some(connection) = self.connection.upgrade() {
            connection.push(self.id, record);
        }
    }

    /// Whether it is worth while to look for many records for the client.
    pub fn has_room(&self) -> bool {
        self.connection.upgrade().is_none_or(|connection| connection.has_room(self.id))
    }

    /// Queues a record; false if the client has to fetch others first.
    pub fn try_send(&self, record: &Arc<RawValue>) -> bool {
        self.connection.upgrade().is_none_or(|connection| connection.try_push(self.id, record))
    }

    /// Counts records as missed.
    pub fn lag(&self, missed: u64) {
        if let Some(connection) = self.connection.upgrade() {
            connection.lag(self.id, missed);
        }
    }
}

/// One connection: its place, and what waits for its client.
#[derive(Debug)]
pub(super) struct Connection {
    place: Place,
    queue: Mutex<Queue>,
    ready: Notify,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let queue = std::mem::take(&mut *self.lock());
        self.place.unsubscribe(queue.open.len());
        self.place.unqueue(size(&queue.notices));
    }
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

impl Counts {
    /// Marks the place where records are missing, if that is not done.
    fn miss(&mut self, id: SubscriptionId, count: u64, notices: &mut VecDeque<(SubscriptionId, Notice)>) {
        if self.missed == 0 {
            notices.push_back((id, Notice::Lagged));
        }
        self.missed += count;
    }
}

#[derive(Debug)]
enum Notice {
    Record(Arc<RawValue>),
    /// Records are missing here; how many is known when it is taken.
    Lagged,
}

impl Notice {
    /// The part of the user's share that it takes.
    fn size(&self) -> usize {
        match self {
            Self::Record(record) => record.get().len() + OVERHEAD,
            Self::Lagged => 0,
        }
    }
}

fn size(notices: &VecDeque<(SubscriptionId, Notice)>) -> usize {
    notices.iter().map(|(_, notice)| notice.size()).sum()
}

impl Connection {
    pub(super) fn new(place: Place) -> Self {
        Self { place, queue: Mutex::default(), ready: Notify::new() }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Begins a subscription.
    pub(super) fn subscribe(this: &Arc<Self>) -> Result<Follower, Error> {
        let mut queue = this.lock();
        let too_many = |limit, whose| {
            Error::new(Code::TOO_MANY, format!("{limit} subscriptions of {whose} are open already"))
        };
        if queue.open.len() >= MAX_SUBSCRIPTIONS {
            return Err(too_many(MAX_SUBSCRIPTIONS, "this connection"));
        }
        this.place.subscribe().map_err(|limit| too_many(limit, "users who may only read"))?;
        queue.last_id += 1;
        let id = SubscriptionId(queue.last_id);
        queue.open.insert(id, Counts::default());
        Ok(Follower { id, connection: Arc::downgrade(this) })
    }

    /// Ends a subscription and forgets what waits in it; false if there was none.
    pub(super) fn unsubscribe(&self, id: SubscriptionId) -> bool {
        let mut queue = self.lock();
        let is_open = queue.open.remove(&id).is_some();
        self.place.unsubscribe(usize::from(is_open));
        let notices = std::mem::take(&mut queue.notices).into_iter();
        let (gone, kept): (VecDeque<_>, _) = notices.partition(|(other, _)| *other == id);
        self.place.unqueue(size(&gone));
        queue.notices = kept;
        is_open
    }

    fn has(&self, id: SubscriptionId) -> bool {
        self.lock().open.contains_key(&id)
    }

    fn push(&self, id: SubscriptionId, record: &Arc<RawValue>) {
        let mut queue = self.lock();
        let Queue { open, notices, .. } = &mut *queue;
        let Some(counts) = open.get_mut(&id) else { return };
        let notice = Notice::Record(record.clone());
        if counts.missed > 0 || counts.queued == MAX_QUEUED || !self.place.queue(notice.size()) {
            counts.miss(id, 1, notices);
        } else {
            counts.queued += 1;
            notices.push_back((id, notice));
        }
        self.ready.notify_one();
    }

    fn has_room(&self, id: SubscriptionId) -> bool {
        let queue = self.lock();
        let is_room = |counts: &Counts| counts.missed == 0 && counts.queued <= MAX_FETCHED / 2;
        queue.open.get(&id).is_none_or(is_room) && self.place.has_room(MUCH)
    }

    fn try_push(&self, id: SubscriptionId, record: &Arc<RawValue>) -> bool {
        let mut queue = self.lock();
        let Queue { open, notices, .. } = &mut *queue;
        let Some(counts) = open.get_mut(&id) else { return true };
        let notice = Notice::Record(record.clone());
        if counts.missed > 0 || counts.queued >= MAX_FETCHED || !self.place.queue(notice.size()) {
            return false;
        }
        counts.queued += 1;
        notices.push_back((id, notice));
        self.ready.notify_one();
        true
    }

    fn lag(&self, id: SubscriptionId, missed: u64) {
        let mut queue = self.lock();
        let Queue { open, notices, .. } = &mut *queue;
        if let Some(counts) = open.get_mut(&id) {
            counts.miss(id, missed, notices);
            self.ready.notify_one();
        }
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
        self.place.unqueue(notice.size());
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
    use crate::control::Access;
    use crate::control::shares::Shares;

    fn connection() -> Arc<Connection> {
        let place = Shares::default().connect(0, Access::Full).unwrap();
        Arc::new(Connection::new(place))
    }

    fn raw(number: usize) -> Arc<RawValue> {
        Arc::from(to_raw_value(&number).unwrap())
    }

    fn taken(connection: &Connection) -> Vec<String> {
        std::iter::from_fn(|| connection.take())
            .map(|line| {
                let line = String::from_utf8(line.unwrap()).unwrap();
                line.split_once("params\":").unwrap().1.strip_suffix("}\n").unwrap().to_owned()
            })
            .collect()
    }

    #[test]
    fn what_has_no_room_is_counted_at_its_place() {
        let connection = connection();
        let slow = Connection::subscribe(&connection).unwrap();
        let other = Connection::subscribe(&connection).unwrap();
        for number in 0..MAX_QUEUED + 5 {
            slow.send(&raw(number));
        }
        other.send(&raw(0));
        let lines = taken(&connection);
        assert_eq!(lines.len(), MAX_QUEUED + 2);
        assert_eq!(lines[0], r#"{"subscription":1,"record":0}"#);
        assert_eq!(lines[MAX_QUEUED], r#"{"subscription":1,"missed":5}"#);
        assert_eq!(lines[MAX_QUEUED + 1], r#"{"subscription":2,"record":0}"#);
        slow.send(&raw(9));
        assert_eq!(taken(&connection), [r#"{"subscription":1,"record":9}"#]);
    }

    #[test]
    fn who_is_sent_what_he_can_take_misses_nothing_that_others_do_not_drop() {
        let connection = connection();
        let follower = Connection::subscribe(&connection).unwrap();
        let sent = (0..MAX_QUEUED).take_while(|number| follower.try_send(&raw(*number))).count();
        assert_eq!(sent, MAX_FETCHED);
        assert!(!follower.has_room());
        connection.take().unwrap().unwrap();
        assert!(follower.try_send(&raw(sent)) && !follower.try_send(&raw(sent + 1)));
        follower.lag(7);
        follower.lag(2);
        let lines = taken(&connection);
        assert_eq!(lines.len(), MAX_FETCHED + 1);
        assert_eq!(lines[MAX_FETCHED], r#"{"subscription":1,"missed":9}"#);
        assert!(follower.has_room() && follower.try_send(&raw(0)));
    }

    #[test]
    fn a_follower_ends_with_unsubscribing_and_with_the_connection() {
        let connection = connection();
        let first = Connection::subscribe(&connection).unwrap();
        let second = Connection::subscribe(&connection).unwrap();
        first.send(&raw(1));
        assert!(connection.unsubscribe(first.id()));
        assert!(!connection.unsubscribe(first.id()));
        first.send(&raw(2));
        assert_eq!(taken(&connection), [""; 0]);
        assert!(first.is_closed() && !second.is_closed());
        drop(connection);
        second.send(&raw(3));
        assert!(second.is_closed());
    }

    #[test]
    fn subscriptions_are_limited_and_numbers_not_used_twice() {
        let connection = connection();
        for _ in 0..MAX_SUBSCRIPTIONS {
            Connection::subscribe(&connection).unwrap();
        }
        assert_eq!(Connection::subscribe(&connection).unwrap_err().code, Code::TOO_MANY);
        connection.unsubscribe(SubscriptionId(16));
        assert_eq!(Connection::subscribe(&connection).unwrap().id(), SubscriptionId(17));
    }
}
