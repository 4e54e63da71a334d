//! Records out of the store's history, in the order of their numbers.
//!
//! Blocks overlap. A record is in its place when no block is left that could have one before it.

use super::row::{Row, rows};
use super::wanted::Wanted;
use crate::store::{Blocks, SPAN};
use facron_proto::Record;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// A record that is wanted, and its memory in bytes.
pub struct Found {
    pub record: Record,
    pub size: usize,
}

fn found(row: &Row<'_>) -> Found {
    Found { record: row.record(), size: row.size() }
}

/// Gives `take` the records that are wanted below a number, the latest first, until it refuses
/// one. No more than `most` records are looked at.
pub fn backwards(
    blocks: &Blocks<'_>,
    below: u64,
    most: u64,
    wanted: &Wanted,
    mut take: impl FnMut(Found) -> bool,
) {
    let (mut waiting, mut left) = (BTreeMap::new(), most);
    let read = blocks.backwards(below, |first, data| {
        while let Some(last) = waiting.last_entry().filter(|last| *last.key() >= first + SPAN) {
            if !take(last.remove()) {
                waiting.clear();
                return ControlFlow::Break(());
            }
        }
        for row in rows(data).filter(|row| row.seq < below) {
            if left == 0 {
                return ControlFlow::Break(());
            }
            left -= 1;
            if wanted.covers(&row.facts()) {
                waiting.insert(row.seq, found(&row));
            }
        }
        ControlFlow::Continue(())
    });
    let _ = waiting.into_values().rev().all(take);
    warn(read);
}

/// Gives `take` the records that are wanted from a number to another, in their order, until it
/// refuses one. The number from which on there may be more.
pub fn forwards(
    blocks: &Blocks<'_>,
    (from, end): (u64, u64),
    wanted: &Wanted,
    mut take: impl FnMut(Found) -> bool,
) -> u64 {
    let (mut waiting, mut refused) = (BTreeMap::new(), None);
    let mut take = |found: Found| {
        let seq = found.record.seq;
        let is_taken = take(found);
        refused = refused.or((!is_taken).then_some(seq));
        is_taken
    };
    let read = blocks.forwards(from, |first, data| {
        while let Some(next) = waiting.first_entry().filter(|next| *next.key() < first) {
            if !take(next.remove()) {
                waiting.clear();
                return ControlFlow::Break(());
            }
        }
        if first >= end {
            return ControlFlow::Break(());
        }
        let in_range = rows(data).filter(|row| (from..end).contains(&row.seq));
        waiting.extend(in_range.filter(|row| wanted.covers(&row.facts())).map(|row| (row.seq, found(&row))));
        ControlFlow::Continue(())
    });
    let _ = waiting.into_values().all(take);
    warn(read);
    refused.unwrap_or(end)
}

fn warn(read: rusqlite::Result<()>) {
    if let Err(error) = read {
        tracing::warn!(%error, "the history cannot be read to its end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::job_log::outgoing::Outgoing;
    use crate::job::outcome::Outcome;
    use crate::job::testing::job;
    use crate::store::{Kept, Store};
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::sync::mpsc::channel;
    use std::time::{Duration, SystemTime};

    fn open(dir: &Path, records: u64, age: Duration) -> Store {
        Store::open(dir, "boot", Kept { records, age }).unwrap().0
    }

    /// Reads in the store's thread, after all that was written.
    fn read<T: Send + 'static>(store: &Store, work: impl FnOnce(&Blocks<'_>) -> T + Send + 'static) -> T {
        let (done, is_done) = channel();
        store.read(move |blocks| done.send(work(blocks.unwrap())).unwrap());
        is_done.recv().unwrap()
    }

    fn after(store: &Store, from: u64, end: u64, limit: usize) -> (Vec<u64>, u64) {
        read(store, move |blocks| {
            let mut seqs = Vec::new();
            let next = forwards(blocks, (from, end), &Wanted::default(), |found| {
                let is_taken = seqs.len() < limit;
                seqs.extend(is_taken.then_some(found.record.seq));
                is_taken
            });
            (seqs, next)
        })
    }

    fn last(store: &Store, below: u64, most: u64, limit: usize) -> Vec<u64> {
        read(store, move |blocks| {
            let mut seqs = Vec::new();
            backwards(blocks, below, most, &Wanted::default(), |found| {
                seqs.push(found.record.seq);
                seqs.len() < limit
            });
            seqs
        })
    }

    /// Closes records in an order in which long ones end late.
    fn fill(store: &Store, seqs: impl Iterator<Item = u64>) -> Vec<u64> {
        let (mut outgoing, mut late, mut all) = (Outgoing::default(), Vec::new(), Vec::new());
        for seq in seqs {
            all.push(seq);
            if seq % 7 == 0 {
                late.push(seq);
                continue;
            }
            outgoing.push(&job(seq, 1, "/a"), &Outcome::Recorded);
            if seq % 1900 == 0 {
                late.drain(..).for_each(|seq| outgoing.push(&job(seq, 1, "/late"), &Outcome::Recorded));
            }
            if seq % 13 == 0 {
                outgoing.give(store);
            }
        }
        late.drain(..).for_each(|seq| outgoing.push(&job(seq, 1, "/late"), &Outcome::Recorded));
        outgoing.give(store);
        all
    }

    #[test]
    fn records_come_in_order_however_they_ended() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), 1 << 20, Duration::from_secs(3600));
        let all = fill(&store, (1..6000).chain(100_000..101_000));
        assert_eq!(after(&store, 0, u64::MAX >> 1, usize::MAX), (all.clone(), u64::MAX >> 1));
        let mut backwards = last(&store, u64::MAX >> 1, u64::MAX, usize::MAX);
        backwards.reverse();
        assert_eq!(backwards, all);
        // a page after the other
        let (mut paged, mut next) = (Vec::new(), 1);
        while next < 200_000 {
            let (seqs, then) = after(&store, next, 200_000, 97);
            assert!(then > next);
            (next, paged) = (then, [paged, seqs].concat());
        }
        assert_eq!(paged, all);
        assert_eq!(after(&store, 1234, 1236, 9), (vec![1234, 1235], 1236));
        assert_eq!(last(&store, 5000, u64::MAX, 3), [4999, 4998, 4997]);
        assert_eq!(last(&store, 5000, 40, usize::MAX).len(), 40);
    }

    #[test]
    fn a_record_that_comes_again_is_there_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), 1 << 20, Duration::from_secs(3600));
        for _ in 0..2 {
            fill(&store, 1..20);
            // written, so that the next ones are rows of their own
            last(&store, 100, 0, 1);
        }
        assert_eq!(after(&store, 0, 100, 100).0, (1..20).collect::<Vec<_>>());
    }

    #[test]
    fn the_oldest_go_by_number_and_by_age() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), 500, Duration::from_secs(3600));
        for start in (1..5000).step_by(100) {
            fill(&store, start..start + 100);
            last(&store, 1, 0, 1);
        }
        let left: BTreeSet<_> = last(&store, 9999, u64::MAX, usize::MAX).into_iter().collect();
        let oldest = store.oldest().unwrap();
        assert!((500..800).contains(&left.len()), "{}", left.len());
        assert!(
            (4200..=4501).contains(&oldest) && (oldest..=5000).all(|seq| left.contains(&seq)),
            "{oldest}"
        );
    }

    #[test]
    fn what_is_too_old_goes_with_the_next_record() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), 500, Duration::from_secs(3600));
        let mut outgoing = Outgoing::default();
        for (seq, age) in [(1, 3700), (2000, 3599), (4000, 0)] {
            let mut job = job(seq, 1, "/a");
            job.event.time = SystemTime::now() - Duration::from_secs(age);
            outgoing.push(&job, &Outcome::Recorded);
            outgoing.give(&store);
            last(&store, 1, 0, 1);
        }
        assert_eq!(last(&store, 9999, u64::MAX, 9), [4000, 2000]);
        assert_eq!(store.oldest(), Some(2));
    }
}
