//! What was read from the groups and is not handled yet: the store has not got all that came of it.
//! Under a service manager that keeps descriptors, it is in memory that outlives this process. So
//! the next one finds what a killed one had read.

use crate::kernel::fanotify::READ_SIZE;
use crate::kernel::record::FsId;
use crate::kernel::slots::Slots;
use crate::service_manager::DescriptorStore;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// The name under which the memory is kept.
const KEPT: &str = "facron-reads";

/// How long one slot takes reads, and how much room there has to be for another one.
const SHARED: Duration = Duration::from_millis(5);
const ENOUGH: usize = 4 * 1024;

/// The slot of the next read.
#[derive(Debug)]
struct Ready {
    slot: usize,
    fs: FsId,
    len: usize,
    until: Instant,
}

impl Ready {
    fn takes(&self, fs: FsId) -> bool {
        self.fs == fs && self.len + ENOUGH <= READ_SIZE && (self.len == 0 || Instant::now() < self.until)
    }
}

/// A slot with reads that are not handled.
#[derive(Debug)]
struct Held {
    slot: usize,
    /// The time of the last one.
    read: Instant,
    /// All that they have led to is in the store with this change, once that is known.
    change: Option<u64>,
}

impl Held {
    fn new(slot: usize) -> Self {
        Self { slot, read: Instant::now(), change: None }
    }
}

#[derive(Debug, Default)]
pub(super) struct Reads {
    slots: Option<Slots>,
    /// Where there is no free slot.
    spare: Vec<u8>,
    ready: Option<Ready>,
    /// In the order of the reads.
    held: VecDeque<Held>,
}

impl Reads {
    /// Takes back the memory of an earlier process.
    pub(super) fn new(store: &mut DescriptorStore) -> Self {
        let mut reads = Self { spare: vec![0; READ_SIZE], ..Self::default() };
        for (name, fd) in store.take(KEPT) {
            reads.slots = Slots::taken_back(fd);
            if reads.slots.is_none() {
                tracing::warn!(
                    "what the last daemon had read and not handled, if anything, is in another form: it is lost"
                );
                store.discard(&name);
            }
        }
        if reads.slots.is_none() && store.is_used() {
            match Slots::new() {
                Ok(slots) => {
                    store.keep(KEPT, slots.as_fd());
                    reads.slots = Some(slots);
                }
                Err(errno) => tracing::warn!(error = errno.desc(), "what is read does not outlive a kill"),
            }
        }
        let used = reads.slots.iter().flat_map(Slots::used);
        reads.held = used.map(Held::new).collect();
        reads
    }

    /// What an earlier process had read and not handled.
    pub(super) fn earlier(&self) -> impl Iterator<Item = (FsId, &[u8])> {
        let held = self.slots.iter().flat_map(|slots| self.held.iter().map(move |held| (slots, held.slot)));
        held.map(|(slots, slot)| (slots.fs(slot), slots.records(slot)))
    }

    /// The buffer for the next read. `fs` is the file system of records without an id.
    pub(super) fn room(&mut self, fs: FsId) -> &mut [u8] {
        let Some(slots) = &mut self.slots else { return &mut self.spare };
        if let Some(empty) = self.ready.take_if(|ready| ready.len == 0 && ready.fs != fs) {
            slots.free(empty.slot);
        }
        if !self.ready.as_ref().is_some_and(|ready| ready.takes(fs)) {
            let until = Instant::now() + SHARED;
            self.ready = slots.take(fs).map(|slot| Ready { slot, fs, len: 0, until });
        }
        match &self.ready {
            Some(ready) => slots.room(ready.slot, ready.len),
            None => &mut self.spare,
        }
    }

    /// A buffer that is in no memory of that kind.
    pub(super) fn spare(&mut self) -> &mut [u8] {
        &mut self.spare
    }

    /// The last buffer has got `len` bytes of records. Those at these places were caused by
    /// ourselves.
    pub(super) fn keep(&mut self, len: usize, own: &[usize]) {
        let (Some(ready), Some(slots)) = (&mut self.ready, &mut self.slots) else { return };
        if self.held.back().is_some_and(|last| last.slot == ready.slot) {
            self.held.pop_back();
        }
        self.held.push_back(Held::new(ready.slot));
        for offset in own {
            slots.set_own(ready.slot, ready.len + offset);
        }
        ready.len += len;
    }

    pub(super) fn are_handled(&self) -> bool {
        self.held.is_empty()
    }

    /// The reads until then have led to nothing but what is in the store with this change.
    pub(super) fn on_matched(&mut self, until: Option<Instant>, change: u64) {
        let are_matched = |held: &&mut Held| held.change.is_none() && Some(held.read) <= until;
        self.held.iter_mut().filter(are_matched).for_each(|held| held.change = Some(change));
    }

    /// Frees what is in the store.
    pub(super) fn free(&mut self, is_written: &dyn Fn(u64) -> bool) {
        while let Some(Held { slot, change: Some(change), .. }) = self.held.front()
            && is_written(*change)
            && let Some(slots) = &mut self.slots
        {
            slots.free(*slot);
            self.ready.take_if(|ready| ready.slot == *slot);
            self.held.pop_front();
        }
    }

    /// All that was read is kept elsewhere.
    pub(super) fn forget(&mut self) {
        self.on_matched(Some(Instant::now()), 0);
        self.free(&|_| true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something is read; it is as long as a record of 8 bytes, and ends with this one.
    fn read(reads: &mut Reads, fs: u64, byte: u8) {
        let room = reads.room(FsId(fs));
        room[..4].copy_from_slice(&8u32.to_ne_bytes());
        room[7] = byte;
        reads.keep(8, &[]);
    }

    fn left(reads: &Reads) -> Vec<(u64, Vec<u8>)> {
        let bytes = |bytes: &[u8]| bytes.chunks(8).map(|record| record[7]).collect();
        reads.earlier().map(|(fs, records)| (fs.0, bytes(records))).collect()
    }

    #[test]
    fn what_is_in_the_store_is_freed_in_order() {
        let mut reads = Reads::new(&mut DescriptorStore::default());
        read(&mut reads, 0, 1);
        reads.on_matched(Some(Instant::now()), 1);
        reads.ready.as_mut().unwrap().until += Duration::from_secs(60);
        read(&mut reads, 0, 2);
        assert_eq!(left(&reads), [(0, vec![1, 2])], "reads of a moment share a slot");
        reads.free(&|_| true);
        assert_eq!(left(&reads), [(0, vec![1, 2])], "the second one is not matched");
        reads.room(FsId(7));
        read(&mut reads, 9, 3);
        reads.on_matched(Some(Instant::now()), 2);
        read(&mut reads, 0, 4);
        reads.free(&|change| change < 2);
        assert_eq!(left(&reads), [(0, vec![1, 2]), (9, vec![3]), (0, vec![4])]);
        reads.free(&|_| true);
        assert_eq!(left(&reads), [(0, vec![4])]);
        reads.forget();
        read(&mut reads, 0, 5);
        assert_eq!(left(&reads), [(0, vec![5])], "a slot that was freed is not gone on with");
    }

    #[test]
    fn what_finds_no_slot_is_read_all_the_same() {
        let mut reads = Reads::new(&mut DescriptorStore::default());
        for fs in 0..600 {
            read(&mut reads, fs, 1);
        }
        assert_eq!(left(&reads).len(), 512);
    }
}
