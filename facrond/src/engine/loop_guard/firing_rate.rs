//! Loops by their speed: a rule that fires more often on one path than anything
//! but a loop would make it.

use rustc_hash::FxHashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

const SPAN: Duration = Duration::from_secs(1);
const MAX_FIRINGS: u32 = 1000;

/// More paths at a time cannot all be in a loop.
const MAX_PATHS: usize = 1 << 14;

/// How often a rule fires, by path.
#[derive(Debug, Default)]
pub struct FiringRate {
    since: Option<Instant>,
    /// By the paths' hashes: two that are taken for one do no harm. Others choose the paths:
    /// keyed, so that they cannot collide at will.
    firings: FxHashMap<u64, u32>,
    hasher: RandomState,
    is_reported: bool,
}

impl FiringRate {
    /// Notes a firing; whether it makes a loop, the first time.
    pub fn is_loop(&mut self, path: &[u8], now: Instant) -> bool {
        if self.is_reported {
            return false;
        }
        let is_over = self.since.is_none_or(|since| now.saturating_duration_since(since) > SPAN);
        if is_over || self.firings.len() > MAX_PATHS {
            self.since = Some(now);
            self.firings.clear();
        }
        let firings = self.firings.entry(self.hasher.hash_one(path)).or_default();
        *firings += 1;
        self.is_reported = *firings > MAX_FIRINGS;
        self.is_reported
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_reported_once() {
        let start = Instant::now();
        let mut rate = FiringRate::default();
        let reported = (0..5000).filter(|_| rate.is_loop(b"/f", start)).count();
        assert_eq!(reported, 1);
    }

    #[test]
    fn many_paths_and_long_times_are_no_loop() {
        let start = Instant::now();
        let mut rate = FiringRate::default();
        for n in 0..100_000u32 {
            assert!(!rate.is_loop(&(n % 1000).to_ne_bytes(), start + Duration::from_micros(15) * n));
        }
    }
}
