//! What the tests share with the programs that they start.

use std::env;
use std::process;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A sequence of random numbers that can be had again from its seed: `SplitMix64`.
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed that no other test has, or the one in `FACRON_TEST_SEED`.
    pub fn seed() -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.subsec_nanos());
        number_from("FACRON_TEST_SEED", u64::from(now) << 22 ^ u64::from(process::id()))
    }

    /// A number that is less than another.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % limit
    }

    /// An index of a list that is not empty.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// A time that is less than another.
    pub fn time(&mut self, limit: Duration) -> Duration {
        limit * u32::try_from(self.below(1000)).unwrap_or(0) / 1000
    }

    /// Lets others go on for less than a time, or not at all.
    pub fn pause(&mut self, limit: Duration) {
        if self.below(2) == 0 {
            sleep(self.time(limit));
        }
    }
}

/// A number that the environment may have another one for: tests that look for what is
/// rare can go on for longer than in CI.
pub fn number_from(variable: &str, default: u64) -> u64 {
    env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}
