//! The records that were in the queues of groups when they were taken back: what has happened
//! while no daemon ran.
//!
//! They tell of places that may be gone by now, so that no scan can find them. So they are read
//! to their end first, and the directories that they say to have left are put back into the tree
//! (`Mirror::recall`). Then they are matched in their order.

use super::mirror::{Departure, Mirror};
use crate::kernel::record::{FsId, Records};
use std::collections::VecDeque;

/// So much is read before it is matched. Where there is more, a directory may leave in a later
/// part, and what has happened in it before is not told.
const MOST: usize = if cfg!(test) { 1 << 20 } else { 64 << 20 };

/// The records of one read.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) fs: FsId,
    pub(super) bytes: Box<[u8]>,
    /// Whether the earlier process had read them, and may have handled some.
    pub(super) is_repeated: bool,
}

#[derive(Debug, Default)]
pub(super) struct Backlog {
    reads: VecDeque<Part>,
    size: usize,
    departures: Vec<Departure>,
    /// Whether this part is being matched.
    is_matched: bool,
    /// Whether there may be another part.
    is_more: bool,
}

impl Backlog {
    /// Whether records are still to be read, before these are matched.
    pub(super) fn is_reading(&self) -> bool {
        !self.is_matched
    }

    /// Adds what was read from one group.
    pub(super) fn add(&mut self, (fs, bytes): (FsId, &[u8]), is_repeated: bool, mirror: &Mirror) {
        for record in Records::new(bytes, fs).flatten() {
            mirror.departures(&record, &mut self.departures);
        }
        self.size += bytes.len();
        self.reads.push_back(Part { fs, bytes: bytes.into(), is_repeated });
    }

    /// Whether that is enough for one part.
    pub(super) fn is_full(&self) -> bool {
        self.size >= MOST
    }

    /// Goes over to matching. Returns the directories that have left.
    pub(super) fn end_reading(&mut self) -> Vec<Departure> {
        (self.is_matched, self.is_more) = (true, self.is_full());
        std::mem::take(&mut self.departures)
    }

    /// The next records to match.
    pub(super) fn next(&mut self) -> Option<Part> {
        self.reads.pop_front()
    }

    /// All of this part was matched. Returns whether another part is to be read.
    pub(super) fn end_part(&mut self) -> bool {
        let is_more = self.is_more;
        *self = Self::default();
        is_more
    }
}
