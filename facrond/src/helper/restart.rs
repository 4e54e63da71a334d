//! When the next process may be started in place of one that has ended.

use std::time::{Duration, Instant};

/// A process that lives this long is sound: the next one is started at once.
const SOUND: Duration = Duration::from_millis(50);

const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause after a process that did work.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// The pause after a process that could not be started.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The pauses, which grow while processes end too soon after their start.
#[derive(Debug, Default)]
pub(crate) struct Restart {
    started: Option<Instant>,
    pause: Duration,
    due: Option<Instant>,
}

impl Restart {
    /// When a process may be started; `None` when it may be at once.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    pub fn may_start(&mut self, now: Instant) -> bool {
        self.due = self.due.filter(|due| *due > now);
        self.due.is_none()
    }

    /// A process was started.
    pub fn on_start(&mut self, now: Instant) {
        self.started = Some(now);
    }

    /// A process that did work has ended.
    pub fn on_end(&mut self, now: Instant) {
        self.pause = match self.started {
            Some(started) if now.saturating_duration_since(started) < SOUND => {
                (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
            }
            _ => Duration::ZERO,
        };
        self.due = Some(now + self.pause);
    }

    /// A process could not be started, or ended before it did any work.
    pub fn on_failure(&mut self, now: Instant) {
        self.due = Some(now + AFTER_FAILURE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_processes_end_early() {
        let start = Instant::now();
        let mut restart = Restart::default();
        assert!(restart.may_start(start));
        let mut pauses = Vec::new();
        for _ in 0..5 {
            restart.on_start(start);
            restart.on_end(start);
            pauses.push((restart.due().unwrap() - start).as_millis());
            assert!(!restart.may_start(start));
        }
        assert_eq!(pauses, [10, 20, 40, 80, 100]);
        restart.on_start(start);
        restart.on_end(start + SOUND);
        assert!(restart.may_start(start + SOUND), "it lived long enough");
        restart.on_failure(start);
        assert!(!restart.may_start(start) && restart.may_start(start + AFTER_FAILURE));
    }
}
