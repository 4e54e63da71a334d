//! From the kernel's queues to firings: reads, the records from before this process, and what is
//! done when the queues are empty.

use super::backlog::Part;
use super::marks::Noise;
use super::matcher::{Cause, Firing, Matcher};
use super::mirror::Fired;
use super::mirror::Mirror;
use super::old_marks::OldMarks;
use super::reads::Reads;
use super::recheck::{Change, Lanes, Place, Task};
use super::scanner::Scanner;
use super::tree::{Content, ROOT};
use super::{Error, Hit, LONGEST_LOOK, Queue, TURN, Watch, Whose, before};
use crate::events::Events;
use crate::kernel::record::{FsId, Handle, OWN_PID, Record, Records};
use nix::errno::Errno;
use std::time::{Duration, Instant, SystemTime};

/// The greatest number of reads in one turn. Then other tasks get their turn, even if the
/// kernel's queue is not empty.
const READS_PER_TURN: usize = 16;

impl Watch {
    /// Reads the kernel's queues, and adds the firings to `hits` in order.
    pub fn drain(&mut self, whose: &mut dyn Whose, hits: &mut Vec<Hit>) -> Result<Queue, Error> {
        self.on_answers();
        whose.on_read();
        let started = Instant::now();
        let mut buffer = std::mem::take(&mut self.reads);
        let mut result = Ok(Queue::More);
        for reads in 0..READS_PER_TURN {
            if reads > 0 && started.elapsed() > TURN {
                break;
            }
            match self.read_all(&mut buffer, whose, hits) {
                Ok(true) => {}
                Ok(false) => {
                    whose.on_drained();
                    if !self.settle(whose, hits) {
                        result = Ok(Queue::Drained);
                        break;
                    }
                }
                Err(errno) => {
                    result = Err(Error::Read(errno));
                    break;
                }
            }
        }
        self.scanner.rest();
        self.reads = buffer;
        result
    }

    /// Reads once from each group. Returns whether there were records.
    fn read_all(
        &mut self,
        reads: &mut Reads,
        whose: &mut dyn Whose,
        hits: &mut Vec<Hit>,
    ) -> Result<bool, Errno> {
        if self.marks.is_taken_back() {
            // The records of that time are about directories that have to be known by then.
            let is_busy = self.is_taking_in() && self.look_for(TURN, Lanes::New);
            if is_busy || self.read_backlog(reads, whose, hits)? {
                return Ok(true);
            }
        }
        let mut fired = Vec::new();
        let special = self.special.read(reads.spare(), &self.mirror, &mut fired)?;
        self.counters.read += special;
        hits.extend(fired.into_iter().map(|fired| hit(fired, whose, false)));
        let mut some = special > 0;
        for index in 0..self.marks.groups().len() {
            let room = reads.room(self.marks.groups().fs(index));
            match self.marks.groups().read(index, room) {
                Ok(Some((fs, bytes))) => {
                    whose.on_read();
                    let (len, own) = (bytes.len(), self.on_bytes(bytes, fs, whose, hits));
                    reads.keep(len, &own);
                    some = true;
                }
                Ok(None) => {}
                Err(Errno::EINTR) => some = true,
                Err(errno) => return Err(errno),
            }
        }
        Ok(some)
    }

    /// Whether records of the time before this process are still to be matched.
    pub fn has_backlog(&self) -> bool {
        self.marks.is_taken_back()
    }

    /// Reads from each group that was taken back, until their queues are empty, and then
    /// matches what was read. Returns whether there was something to do.
    fn read_backlog(
        &mut self,
        reads: &mut Reads,
        whose: &mut dyn Whose,
        hits: &mut Vec<Hit>,
    ) -> Result<bool, Errno> {
        if self.backlog.is_reading() {
            let mut some = false;
            if !std::mem::replace(&mut self.has_replayed, true) {
                for read in reads.earlier() {
                    self.backlog.add(read, true, &self.mirror);
                }
            }
            for index in 0..self.marks.groups().len() {
                let room = reads.room(self.marks.groups().fs(index));
                match self.marks.groups().read(index, room) {
                    Ok(Some(read)) => {
                        whose.on_read();
                        let len = read.1.len();
                        self.backlog.add(read, false, &self.mirror);
                        reads.keep(len, &[]);
                        some = true;
                    }
                    Ok(None) => {}
                    Err(Errno::EINTR) => some = true,
                    Err(errno) => return Err(errno),
                }
            }
            if !some || self.backlog.is_full() {
                let departures = self.backlog.end_reading();
                self.mirror.recall(&departures);
            }
            return Ok(true);
        }
        if let Some(Part { fs, bytes, is_repeated }) = self.backlog.next() {
            let first = hits.len();
            self.on_bytes(&bytes, fs, whose, hits);
            for hit in &mut hits[first..] {
                hit.repeated = is_repeated;
            }
            self.repeats |= is_repeated;
            return Ok(true);
        }
        let is_more = self.backlog.end_part();
        if !is_more {
            tracing::info!(records = self.counters.read, "told what happened while the daemon did not run");
            if self.marks.forget_newcomers() && self.counters.overflows == 0 {
                self.mirror.catch_up.trust_records();
            }
            self.mirror.set_late(false);
            self.old_marks = Some(OldMarks::of(&self.marks));
        }
        Ok(is_more)
    }

    /// A directory came while nobody watched: it had no mark, so no records tell of what came
    /// into it.
    fn read_newcomer(&mut self, record: &Record<'_>) {
        let events = Events::from_mask(record.mask);
        let comes = record.new.is_some() || events.intersects(Events::CREATE.with(Events::MOVED_TO));
        if comes
            && events.contains(Events::ONDIR)
            && let Some(object) = record.object
            && self.marks.take_newcomer(object)
        {
            self.mirror.read_as_news(object);
        }
    }

    /// Returns where the records are that we have caused ourselves.
    fn on_bytes(&mut self, bytes: &[u8], fs: FsId, whose: &mut dyn Whose, hits: &mut Vec<Hit>) -> Vec<usize> {
        let (mut fired, mut ours) = (Vec::new(), Vec::new());
        let mut records = Records::new(bytes, fs);
        loop {
            let (at, first) = (bytes.len() - records.rest(), hits.len());
            let Some(record) = records.next() else { return ours };
            self.counters.read += 1;
            match record {
                Ok(record) if record.mask & Events::Q_OVERFLOW.mask() != 0 => self.on_overflow(hits),
                Ok(mut record) => {
                    let was_own = record.pid == OWN_PID;
                    record.pid = record.pid.max(0);
                    self.workers.note(&record);
                    self.learn_directories(&record);
                    let mut is_own = None;
                    let mut own = || *is_own.get_or_insert_with(|| was_own || whose.is_own(record.pid));
                    self.mirror.on_record(&record, &mut own, &mut fired);
                    hits.extend(fired.drain(..).map(|fired| hit(fired, whose, was_own)));
                    if is_own == Some(true) || hits[first..].iter().any(|hit| hit.own) {
                        ours.push(at);
                    }
                    if self.marks.is_taken_back() {
                        self.read_newcomer(&record);
                    }
                }
                Err(malformed) => tracing::error!("{malformed}"),
            }
        }
    }

    /// Examines the directories of a record that are on a marked file system and not known. They
    /// may be in a tree.
    fn learn_directories(&mut self, record: &Record<'_>) {
        for entry in [record.old, record.new, record.entry].into_iter().flatten() {
            if self.marks.has_file_system(entry.dir.fs) && self.mirror.tree.places(entry.dir).next().is_none()
            {
                self.learn(entry.dir);
            }
        }
    }

    fn learn(&mut self, dir: Handle<'_>) {
        let noise = self.marks.count_foreign(dir);
        if noise == Noise::Foreign {
            return;
        }
        let mut beside = self.mirror.paths_on(dir.fs).filter(|path| !self.workers.is_served(path));
        let found = beside.find_map(|beside| Scanner::path_of(dir, &beside));
        drop(beside);
        // There are no more events of a directory that is gone.
        let Some((object, path)) = found else { return };
        if noise == Noise::Busy {
            return self.marks.ignore(dir.fs, &object);
        }
        self.take_in(&path);
        if self.mirror.tree.places(dir).next().is_none() {
            self.marks.remember_foreign(dir);
        }
    }

    /// Adds a directory, and the directories above it, if it is in a tree.
    fn take_in(&mut self, path: &[u8]) {
        let mut at = ROOT;
        for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
            let known = |mirror: &Mirror| {
                mirror.tree.child(at, name).filter(|node| mirror.tree[*node].content == Content::Directory)
            };
            if known(&self.mirror).is_none() && self.mirror.rules.knows_children(&self.mirror.tree, at) {
                let place = Place { dir: at, name: name.into() };
                let change = Some(Change::default());
                self.look(Task { look: 0, place, change, is_arrival: false, tries: 1 });
            }
            match known(&self.mirror) {
                Some(node) => at = node,
                None => return,
            }
        }
    }

    /// The kernel has dropped records. Rules with `FAN_Q_OVERFLOW` fire, and everything that
    /// rules see is looked at.
    fn on_overflow(&mut self, hits: &mut Vec<Hit>) {
        self.counters.overflows += 1;
        tracing::error!(
            "the kernel's event queue overflowed: looking for what was missed \
             (/proc/sys/fs/fanotify/max_queued_events)"
        );
        let events = Events::Q_OVERFLOW;
        let cause = Cause { time: SystemTime::now(), events, pid: 0, synthetic: false, object: None };
        let Mirror { tree, rules, .. } = &self.mirror;
        let matcher = Matcher { tree, rules, former: None };
        for (slot, rule) in rules.iter().filter(|(_, rule)| rule.spec.events.contains(events)) {
            let event = matcher.event(&Firing { slot, matched: events, place: None }, &cause, None);
            hits.push(Hit { rule: rule.id, event, own: false, repeated: false });
        }
        self.mirror.sweep(before(self.settled));
    }

    /// The kernel's queue is empty. Fires the finds of earlier looks, and looks at places that
    /// are due. Returns whether the queue must be read again.
    fn settle(&mut self, whose: &mut dyn Whose, hits: &mut Vec<Hit>) -> bool {
        let now = SystemTime::now();
        let mut fired = Vec::new();
        self.mirror.on_drained(&mut fired);
        let found = fired.into_iter().map(|fired| hit(fired, whose, false));
        hits.extend(found.map(|hit| Hit { repeated: self.repeats, ..hit }));
        let has_looked = self.look_for(TURN, Lanes::Due);
        self.forget_some();
        if has_looked || self.mirror.is_due() {
            return true;
        }
        if self.mounts.has_changed() {
            // Marks may have been lost: the turn is not settled.
            self.refresh_mounts();
            return true;
        }
        self.special.follow_paths(&self.mirror, &self.scanner, &self.workers);
        self.workers.note_rest();
        let is_idle = self.mirror.recheck.is_empty();
        self.known_until = if is_idle { now } else { self.known_until.max(now - LONGEST_LOOK) };
        if !self.workers.are_looking() {
            self.marks.collect();
        }
        if !self.workers.are_busy() {
            if self.compare_old_marks() {
                return true;
            }
            self.mirror.on_settled(now);
            self.repeats = false;
            self.give_back_memory();
            self.settled = now;
        }
        false
    }

    /// Fires what looks have found, and does those that are due, although there may be more
    /// records: nobody will read them before this process ends.
    pub fn settle_unread(&mut self, whose: &mut dyn Whose, hits: &mut Vec<Hit>, time: Duration) {
        let (started, known_until) = (Instant::now(), self.known_until);
        while self.settle(whose, hits) && started.elapsed() < time {}
        self.known_until = known_until;
        self.scanner.rest();
    }

    /// Whether something that was read has to outlive this process.
    pub fn has_unhandled(&self) -> bool {
        !self.reads.are_handled()
    }

    /// All events so far have led to changes of the store up to this one. What was read before
    /// need not outlive this process when that is written.
    pub fn on_handled(&mut self, change: u64, is_written: &dyn Fn(u64) -> bool) {
        let now = Instant::now();
        let matched_until = match self.mirror.recheck.is_empty() {
            _ if self.marks.is_taken_back() => None,
            true => Some(now),
            false => now.checked_sub(LONGEST_LOOK),
        };
        self.reads.on_matched(matched_until, change);
        self.reads.free(is_written);
    }

    /// All that was read is kept elsewhere.
    pub fn forget_reads(&mut self) {
        self.reads.forget();
    }
}

fn hit(fired: Fired, whose: &mut dyn Whose, was_own: bool) -> Hit {
    let Fired { rule, event, own } = fired;
    let own = own.unwrap_or_else(|| was_own || whose.is_own(event.pid));
    Hit { rule, event, own, repeated: false }
}
