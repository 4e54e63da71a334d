//! What each user may take of the daemon: places for connections and subscriptions, the
//! bytes of records that wait for clients, and turns in which requests are carried out.
//!
//! Root and the daemon's own user share with nobody. All others together have a share of
//! everything, and each of them a share of that. So the daemon's memory is bounded, and its
//! thread is free for others, whatever they send, and whether they read or not.

use super::Access;
use facron_proto::frame::MAX_LINE;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::sleep;

/// Connections at the same time: of root and the daemon's own user, and of all others.
pub const MAX_CONNECTIONS: usize = 256;

/// Something that there is a limited amount of.
#[derive(Debug)]
struct Stock {
    limit: usize,
    taken: AtomicUsize,
}

impl Stock {
    fn new(limit: usize) -> Self {
        Self { limit, taken: AtomicUsize::new(0) }
    }

    fn take(&self, amount: usize) -> bool {
        let more = |taken: usize| taken.checked_add(amount).filter(|sum| *sum <= self.limit);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, amount: usize) {
        self.taken.fetch_sub(amount, Ordering::Relaxed);
    }
}

/// What one user may take, or many together.
#[derive(Debug)]
struct Stocks {
    connections: Stock,
    subscriptions: Stock,
    /// Bytes that wait for followers.
    queued: Stock,
    /// Requests that are carried out at the same time.
    turns: Semaphore,
}

/// Root and the daemon's own user, alone and together.
fn of_owners() -> Stocks {
    Stocks::new(MAX_CONNECTIONS, usize::MAX, 16 << 20, Semaphore::MAX_PERMITS)
}

fn of_all_others() -> Stocks {
    Stocks::new(MAX_CONNECTIONS, 128, 8 << 20, 3)
}

fn of_another() -> Stocks {
    Stocks::new(32, 16, 2 << 20, 1)
}

/// What one connection may do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest line.
    pub(super) line: usize,
    /// How long the client may take to fetch a reply, once the socket is full.
    pub(super) stall: Duration,
    /// The longest pause after a turn.
    pause: Duration,
    /// The bytes of the records in a reply.
    pub records: usize,
}

impl Limits {
    fn of(access: Access) -> Self {
        match access {
            Access::Full => {
                Self { line: MAX_LINE, stall: Duration::MAX, pause: Duration::ZERO, records: 32 << 20 }
            }
            Access::Read | Access::Denied => Self {
                line: 32 << 10,
                stall: Duration::from_secs(3),
                pause: Duration::from_millis(100),
                records: 1 << 20,
            },
        }
    }
}

impl Stocks {
    fn new(connections: usize, subscriptions: usize, queued: usize, turns: usize) -> Self {
        Self {
            connections: Stock::new(connections),
            subscriptions: Stock::new(subscriptions),
            queued: Stock::new(queued),
            turns: Semaphore::new(turns),
        }
    }
}

/// The shares of the users who are connected.
#[derive(Debug)]
pub(super) struct Shares {
    owners: Arc<Stocks>,
    others: Arc<Stocks>,
    users: HashMap<u32, Weak<Share>>,
}

impl Default for Shares {
    fn default() -> Self {
        let (owners, others) = (Arc::new(of_owners()), Arc::new(of_all_others()));
        Self { owners, others, users: HashMap::new() }
    }
}

impl Shares {
    /// A place for a connection of this user; the reason if there is none.
    pub(super) fn connect(&mut self, uid: u32, access: Access) -> Result<Place, String> {
        let share = self.users.get(&uid).and_then(Weak::upgrade).unwrap_or_else(|| self.add(uid, access));
        let limit = share.take(|stocks| &stocks.connections, 1);
        limit.map_err(|limit| format!("{limit} connections are open already"))?;
        Ok(Place(share))
    }

    fn add(&mut self, uid: u32, access: Access) -> Arc<Share> {
        let (own, all) = match access {
            Access::Full => (of_owners(), &self.owners),
            Access::Read | Access::Denied => (of_another(), &self.others),
        };
        let share = Arc::new(Share { own, all: Arc::clone(all), limits: Limits::of(access) });
        self.users.retain(|_, share| share.strong_count() > 0);
        self.users.insert(uid, Arc::downgrade(&share));
        share
    }
}

/// The share of one user.
#[derive(Debug)]
struct Share {
    own: Stocks,
    /// Those that he has in common with others.
    all: Arc<Stocks>,
    limits: Limits,
}

impl Share {
    /// Takes something, or says what the limit is.
    fn take(&self, stock: fn(&Stocks) -> &Stock, amount: usize) -> Result<(), usize> {
        let (own, all) = (stock(&self.own), stock(&self.all));
        if !own.take(amount) {
            return Err(own.limit);
        }
        if !all.take(amount) {
            own.give_back(amount);
            return Err(all.limit);
        }
        Ok(())
    }

    fn give_back(&self, stock: fn(&Stocks) -> &Stock, amount: usize) {
        stock(&self.own).give_back(amount);
        stock(&self.all).give_back(amount);
    }
}

/// The turn of one user. It also ends when it is dropped.
pub(super) struct Turn<'a> {
    own: Option<SemaphorePermit<'a>>,
    all: Option<SemaphorePermit<'a>>,
    since: Instant,
    longest_pause: Duration,
}

impl Turn<'_> {
    /// Ends it. The next one of the same user comes after a pause of the same length, so that
    /// he has at most half of the thread's time.
    pub(super) async fn end(self) {
        let pause = self.since.elapsed().min(self.longest_pause);
        drop(self.all);
        if !pause.is_zero() {
            sleep(pause).await;
        }
        drop(self.own);
    }
}

/// The place of one connection, which has a part in its user's share.
#[derive(Debug)]
pub struct Place(Arc<Share>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.give_back(|stocks| &stocks.connections, 1);
    }
}

impl Place {
    pub(super) fn limits(&self) -> Limits {
        self.0.limits
    }

    /// Waits for the turn to read or carry out a request. Users take turns, and so do their
    /// connections.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let Share { own, all, limits } = &*self.0;
        // They are never closed.
        let (own, all) = (own.turns.acquire().await.ok(), all.turns.acquire().await.ok());
        Turn { own, all, since: Instant::now(), longest_pause: limits.pause }
    }

    /// Takes a subscription; the limit if there are too many.
    pub(super) fn subscribe(&self) -> Result<(), usize> {
        self.0.take(|stocks| &stocks.subscriptions, 1)
    }

    pub(super) fn unsubscribe(&self, count: usize) {
        self.0.give_back(|stocks| &stocks.subscriptions, count);
    }

    /// Takes room for bytes that wait for a client, if there is some.
    pub(super) fn queue(&self, bytes: usize) -> bool {
        self.0.take(|stocks| &stocks.queued, bytes).is_ok()
    }

    /// Whether there is room for so many bytes at present.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let is_room = self.queue(bytes);
        self.unqueue(if is_room { bytes } else { 0 });
        is_room
    }

    pub(super) fn unqueue(&self, bytes: usize) {
        self.0.give_back(|stocks| &stocks.queued, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(shares: &mut Shares, uid: u32, access: Access, count: usize) -> Vec<Place> {
        (0..count).map_while(|_| shares.connect(uid, access).ok()).collect()
    }

    #[test]
    fn others_have_their_shares_and_owners_always_a_place() {
        let mut shares = Shares::default();
        let mut places: Vec<_> = (1..=20).map(|uid| connect(&mut shares, uid, Access::Read, 99)).collect();
        let counts: Vec<_> = places.iter().map(Vec::len).collect();
        assert_eq!(counts, [[32; 8].as_slice(), &[0; 12]].concat());
        let refused = shares.connect(1, Access::Read).unwrap_err();
        assert_eq!(refused, "32 connections are open already");
        assert_eq!(shares.connect(99, Access::Denied).unwrap_err(), "256 connections are open already");
        assert_eq!(connect(&mut shares, 0, Access::Full, 999).len(), MAX_CONNECTIONS);
        places[0].pop();
        assert_eq!(connect(&mut shares, 99, Access::Read, 2).len(), 1);
    }

    #[test]
    fn what_is_taken_in_vain_is_given_back() {
        let mut shares = Shares::default();
        let places: Vec<_> = (1..=5).map(|uid| shares.connect(uid, Access::Read).unwrap()).collect();
        let mebibytes = |place: &Place| (0..99).take_while(|_| place.queue(1 << 20)).count();
        assert_eq!(places.iter().map(mebibytes).collect::<Vec<_>>(), [2, 2, 2, 2, 0]);
        places[0].unqueue(1 << 20);
        assert!(!places[1].queue(1) && places[4].queue(1 << 20));
    }

    #[tokio::test]
    async fn a_user_has_one_turn_at_a_time() {
        let mut shares = Shares::default();
        let (a, b) = (shares.connect(1, Access::Read).unwrap(), shares.connect(1, Access::Read).unwrap());
        let turn = a.turn().await;
        tokio::select! { biased; _ = b.turn() => panic!("two turns"), () = async {} => {} }
        turn.end().await;
        b.turn().await;
    }
}
