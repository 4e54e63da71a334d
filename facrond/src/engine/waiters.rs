//! What has to wait for something else to become real: replies, mostly.
//!
//! The engine never waits itself. It keeps the rest of a piece of work here, with the
//! condition under which that goes on. Clients have one call each under way, so there are
//! no more waiters than connections, and one for the start.

use super::Engine;
use std::fmt;
use std::time::Instant;

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
