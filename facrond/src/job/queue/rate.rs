//! `rate=`: the starts that still count.

use crate::config::when::Rate;
use std::collections::VecDeque;
use std::time::Instant;

/// The last starts of a rule: as many as may be in one span of time.
#[derive(Debug, Default)]
pub(super) struct Window {
    starts: VecDeque<Instant>,
    /// When the next start may be, once there were as many as may be.
    full_until: Option<Instant>,
}

impl Window {
    pub(super) fn note(&mut self, rate: Rate, now: Instant) {
        let runs = rate.runs as usize;
        self.starts.push_back(now);
        let surplus = self.starts.len().saturating_sub(runs);
        self.starts.drain(..surplus);
        let oldest = self.starts.front().filter(|_| self.starts.len() == runs);
        self.full_until = oldest.map(|oldest| *oldest + rate.per);
    }

    pub(super) fn advance(&mut self, now: Instant) {
        self.full_until.take_if(|until| *until <= now);
    }

    /// Until when there must not be another start, as far as time was let pass.
    pub(super) fn full_until(&self) -> Option<Instant> {
        self.full_until
    }

    pub(super) fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
