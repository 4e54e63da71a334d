//! What has to wait for something else to become real: replies, mostly.
//!
//! The engine never waits itself. It keeps the rest of a piece of work here, with the
//! condition under which that goes on. Clients have one call each under way, so there are
//! no more waiters than connections, and one for the start.

use super::Engine;
use crate::store::{Change, Promise};
use facron_proto::RuleId;
use std::fmt;
use std::time::{Duration, Instant};

/// How long a `status` waits for the gate's numbers.
const COUNT: Duration = Duration::from_millis(500);

/// How long a request waits for servers of file systems to answer.
const LOOK: Duration = Duration::from_secs(3);

type Condition = Box<dyn Fn(&Engine) -> bool>;
type Work = Box<dyn FnOnce(&mut Engine)>;

pub(super) struct Waiter {
    condition: Condition,
    deadline: Option<Instant>,
    work: Work,
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// The waiters in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Waiters(Vec<Waiter>);

impl Waiters {
    /// Keeps `work` until the condition holds, or the deadline has passed.
    pub fn push(
        &mut self,
        deadline: Option<Instant>,
        condition: impl Fn(&Engine) -> bool + 'static,
        work: impl FnOnce(&mut Engine) + 'static,
    ) {
        self.0.push(Waiter { condition: Box::new(condition), deadline, work: Box::new(work) });
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.0.iter().filter_map(|waiter| waiter.deadline).min()
    }
}

impl Waiter {
    /// Goes on with the work of one waiter whose time has come; whether there was one.
    pub fn run_next(engine: &mut Engine, now: Instant) -> bool {
        let is_due = |waiter: &Waiter| {
            waiter.deadline.is_some_and(|deadline| deadline <= now) || (waiter.condition)(engine)
        };
        let Some(at) = engine.waiters.0.iter().position(is_due) else { return false };
        let waiter = engine.waiters.0.remove(at);
        (waiter.work)(engine);
        true
    }
}

impl Engine {
    /// Goes on when a rule is in force, or it is known why not.
    pub(super) fn once_in_force(&mut self, id: RuleId, work: impl FnOnce(&mut Self) + 'static) {
        let work = |engine: &mut Self| engine.once_looked(work);
        self.waiters.push(None, move |engine| engine.permissions.rules().is_settled(id), work);
    }

    /// Goes on when the rules that were let go hold nobody any more.
    pub(super) fn once_out_of_force(&mut self, work: impl FnOnce(&mut Self) + 'static) {
        let number = self.permissions.acknowledgement(&mut self.log).unwrap_or_default();
        self.waiters.push(None, move |engine| engine.permissions.is_acknowledged(number), work);
    }

    /// Goes on when that is so, and all others are in force, or it is known why not. Their numbers,
    /// and since when they are in force, are on the disk then: whatever ends the daemon, the next one
    /// catches up. The health tells where that cannot be.
    pub(super) fn once_all_in_force(&mut self, work: impl FnOnce(&mut Self) + 'static) {
        let work = |engine: &mut Self| {
            engine.once_looked(|engine| {
                engine.once_kept(vec![engine.rules.numbers()], |engine, _| work(engine));
            });
        };
        let in_force = |engine: &mut Self| {
            engine.waiters.push(None, |engine| engine.permissions.rules().are_all_settled(), work);
        };
        self.once_out_of_force(in_force);
    }

    /// Goes on when all is looked at that rules lead to by now, or a server of it takes long.
    pub(super) fn once_looked(&mut self, work: impl FnOnce(&mut Self) + 'static) {
        let work = |engine: &mut Self| {
            let (deadline, pending) = (Some(Instant::now() + LOOK), engine.watch.pending());
            engine.waiters.push(deadline, move |engine| engine.watch.is_over(&pending), work);
        };
        self.waiters.push(None, |engine| !engine.watch.is_taking_in(), work);
    }

    /// Goes on when changes are on the disk, or it is known why not.
    pub(super) fn once_kept(
        &mut self,
        changes: Vec<Change>,
        work: impl FnOnce(&mut Self, Result<(), String>) + 'static,
    ) {
        let promise: Promise = self.store.promise(changes);
        let condition = move |engine: &Self| engine.store.is_decided(promise);
        self.waiters.push(None, condition, move |engine| {
            let outcome = engine.store.outcome(promise);
            work(engine, outcome);
        });
    }

    /// Goes on when the gate has told its numbers, or has not for a while.
    pub(super) fn once_counted(&mut self, work: impl FnOnce(&mut Self) + 'static) {
        let number = self.permissions.count(&mut self.log).unwrap_or_default();
        let deadline = Some(Instant::now() + COUNT);
        self.waiters.push(deadline, move |engine| engine.permissions.is_acknowledged(number), work);
    }
}
