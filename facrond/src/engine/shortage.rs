//! What starts of commands lack for the moment: descriptors, processes or memory.
//!
//! That is no failure of a job. The job waits, and so do all others, since they would lack
//! the same.

use std::time::{Duration, Instant};

/// Before the next try; it doubles as long as nothing can be started.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How often it is logged.
const LOGGED: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Shortage {
    why: Option<String>,
    pause: Duration,
    until: Option<Instant>,
    logged: Option<Instant>,
}

impl Shortage {
    /// A command could not be started; when to try again.
    pub fn begin(&mut self, why: &str, now: Instant) -> Instant {
        if self.logged.is_none_or(|logged| now - logged >= LOGGED) {
            tracing::error!("{why}; commands wait, and are tried again");
            self.logged = Some(now);
        }
        self.why = Some(why.to_owned());
        self.pause = (2 * self.pause).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        *self.until.insert(now + self.pause)
    }

    /// A command was started.
    pub fn end(&mut self) {
        (self.why, self.pause, self.until) = (None, Duration::ZERO, None);
    }

    /// Whether nothing is to be started now.
    pub fn holds(&self, now: Instant) -> bool {
        self.until(now).is_some()
    }

    /// Until when nothing is to be started.
    pub fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }

    /// What is lacking, if commands wait for it.
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_something_can_be_started() {
        let (mut shortage, now) = (Shortage::default(), Instant::now());
        let pauses: Vec<_> = (0..9).map(|_| (shortage.begin("why", now) - now).as_millis()).collect();
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1280, 2000, 2000]);
        assert!(shortage.holds(now) && !shortage.holds(now + LONGEST_PAUSE));
        assert_eq!(shortage.why(), Some("why"));
        shortage.end();
        assert!(!shortage.holds(now) && shortage.why().is_none());
        assert_eq!(shortage.begin("why", now), now + FIRST_PAUSE);
    }
}
