//! The looks at places that may have changed, here or by a worker, and the marks that come and go
//! with them.

use super::mirror::Mirror;
use super::recheck::{Lanes, Task};
use super::rules::join;
use super::scanner::{Answer, Scanner};
use super::workers::{Answered, Leftover, Workers};
use super::{Slot, TURN, Watch, before};
use crate::kernel::fanotify::Privilege;
use crate::kernel::object::Object;
use crate::kernel::record::{FsId, Handle};
use facron_proto::Text;
use nix::errno::Errno;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant, SystemTime};

/// The number of places that are gone and are forgotten before the clock is asked again.
const BURIED_AT_ONCE: usize = 64;

impl Watch {
    pub(super) fn look_for(&mut self, time: Duration, lanes: Lanes) -> bool {
        let started = Instant::now();
        let mut has_looked = false;
        while started.elapsed() < time && self.look_at_next(lanes) {
            has_looked = true;
        }
        has_looked
    }

    /// Does all looks on the path of a rule which comes or goes. The places of others wait for
    /// their turn.
    pub(super) fn look_at_all(&mut self) {
        let others = self.mirror.passing();
        while self.mirror.pass_some(others) || self.look_among(Lanes::Fresh) {}
        self.special.follow_paths(&self.mirror, &self.scanner, &self.workers);
        self.give_back_memory();
    }

    /// Closes what looks have left open. To be called after the last of a series of calls: an
    /// open descriptor on a mount makes its unmount fail.
    pub fn rest(&mut self) {
        self.scanner.rest();
    }

    pub(super) fn give_back_memory(&mut self) {
        if self.mirror.recheck.take_shrunk() {
            crate::kernel::memory::give_back();
        }
    }

    /// Looks at one place. Returns whether there was one.
    pub(super) fn look_at_next(&mut self, lanes: Lanes) -> bool {
        self.mirror.pass_some(0) || self.look_among(lanes)
    }

    pub(super) fn look_among(&mut self, lanes: Lanes) -> bool {
        let Some(task) = self.mirror.take_task(Instant::now(), lanes) else { return false };
        self.look(task);
        true
    }

    pub(super) fn look(&mut self, task: Task) {
        let probe = self.mirror.probe(&task);
        if !self.workers.is_empty() {
            let path = join(&probe.path, &probe.name);
            if self.workers.is_served(&path) {
                let place = task.place.clone();
                if self.mirror.park(task, &self.workers.wait_at(&path)) {
                    self.workers.park(&path, place);
                    self.ask_workers();
                }
                return;
            }
        }
        let answer = self.scanner.look(&mut self.marks, &probe);
        self.apply(task, answer, SystemTime::now());
    }

    fn apply(&mut self, task: Task, answer: Answer, looked: SystemTime) {
        if let Answer::Found(found) = &answer
            && found.was_lost
        {
            self.lose_marks(found.facts.object.0);
        }
        self.mirror.apply(task, answer, (Instant::now(), looked));
        self.follow_file_systems();
    }

    /// The marks of a file system are gone: it was mounted again.
    pub(super) fn lose_marks(&mut self, fs: FsId) {
        let lost = self.mirror.lose_marks(fs);
        self.marks.lose(fs, lost);
        if self.marks.has_file_system(fs)
            && let Some(object) = open_on(fs, &self.mirror, &self.scanner, &self.workers)
        {
            self.marks.mark_file_system_again(fs, &object);
        }
    }

    /// Sends to the workers what they are free for.
    pub(super) fn ask_workers(&mut self) {
        for answered in self.workers.ask(&mut self.mirror, &mut self.marks, &self.scanner) {
            self.apply(answered.task, answered.answer, answered.asked);
        }
    }

    /// A worker has looked. What was found counts if the same would be asked now.
    fn on_answered(&mut self, answered: Answered) {
        let Answered { mut task, probe, group, asked, epoch, answer, was_seen } = answered;
        let is_current = epoch == self.workers.epoch() && self.mirror.is_current(&task, &probe);
        let mut again = None;
        if let Answer::Found(found) = &answer {
            let object = &found.facts.object;
            let is_known = probe.known.as_ref() == Some(object);
            let before = if is_known && !found.was_lost { probe.marked } else { 0 };
            let marked = found.marked.unwrap_or(before);
            if is_current {
                self.marks.count_change(group, object.0, before, marked);
                let is_more = !is_known || found.was_lost || marked & !probe.marked != 0;
                if was_seen && is_more && found.entries.is_some() {
                    again.clone_from(&task.change);
                }
            } else {
                if found.was_lost {
                    // The next look finds the mark that this one has made.
                    self.lose_marks(object.0);
                    if let Some(change) = &mut task.change {
                        change.sweep = true;
                    }
                }
                // The mark was changed all the same.
                let known = is_known.then_some(marked);
                if let Some((had, has)) = self.mirror.note_mark(found.handle(), known, marked) {
                    self.marks.count_change(group, object.0, had, has);
                } else {
                    // If no worker takes it, the mark is gone with its file system.
                    let path = join(&probe.path, &probe.name);
                    let (key, mask) = (object.clone(), marked);
                    self.workers.take_leftover(Leftover::Unknown { key, mask, path });
                }
            }
        }
        let place = task.place.clone();
        if is_current {
            self.apply(task, answer, asked);
        } else {
            self.mirror.recheck.on_stale(task);
        }
        if let Some(change) = again {
            self.mirror.read_again(&place, change, asked);
        }
    }

    /// Takes over what workers have answered, and makes up for the time without an answer.
    pub(super) fn on_answers(&mut self) {
        if self.workers.is_empty() {
            return;
        }
        let received = self.workers.receive();
        if !received.answered.is_empty() && self.mounts.has_changed() {
            // It may have been another file system that was looked at.
            self.refresh_mounts();
        }
        for answered in received.answered {
            self.on_answered(answered);
        }
        for look in received.lost {
            if let Some((fs, bytes)) = &look.probe.known
                && let Some((had, has)) = self.mirror.note_mark(Handle { fs: *fs, bytes }, Some(0), 0)
            {
                // It may have been changed, or not.
                self.marks.count_change(look.group, *fs, had, has);
            }
            self.mirror.recheck.again(look.task);
        }
        for point in received.alive {
            self.mirror.resume_rules(&point);
        }
        for (point, silence) in received.awake {
            self.mirror.doubt(&point, before(silence.settled.min(silence.began)), true);
        }
        for (points, places) in self.workers.take_fallen(self.settled) {
            for point in points {
                if let Some(why) = self.workers.why(&point) {
                    self.mirror.suspend_rules(&point, &why);
                    for place in &places {
                        self.mirror.suspend_place(place, &why);
                    }
                }
            }
        }
        self.ask_workers();
    }

    /// Applies the decisions for and against marks on file systems.
    fn follow_file_systems(&mut self) {
        for slot in self.mirror.take_unmarked() {
            self.leave_file_systems(slot);
        }
        for slot in self.mirror.take_large() {
            self.go_large(slot);
        }
    }

    pub(super) fn leave_file_systems(&mut self, slot: Slot) {
        let Self { marks, mirror, scanner, workers, .. } = self;
        marks.leave_file_systems(slot, |fs| open_on(fs, mirror, scanner, workers));
    }

    /// Marks the whole file system of a large tree. The rest of the tree is read in the
    /// background.
    fn go_large(&mut self, slot: Slot) {
        let rule = &self.mirror.rules[slot];
        let target = rule.target.filter(|_| self.privilege() == Privilege::Full);
        let Some((fs, path)) = target
            .and_then(|target| Some((self.mirror.tree.handle(target)?.fs, self.mirror.tree.path(target))))
        else {
            return;
        };
        let mask = rule.masks.below | rule.masks.directory;
        let opened =
            if self.workers.is_served(&path) { Err(Errno::EOPNOTSUPP) } else { self.scanner.open(&path) };
        let marked = opened.and_then(|object| self.marks.mark_file_system(fs, &object, mask, slot));
        match marked {
            Ok(()) => {
                let path = Text::from(rule.spec.path.as_os_str().as_bytes());
                tracing::info!(%path, "a large tree: its whole file system is marked");
                self.mirror.serve_by(slot, fs);
            }
            Err(errno) => {
                tracing::debug!(error = errno.desc(), "this file system cannot be marked as a whole");
            }
        }
    }

    /// Forgets some places that are gone, and removes their marks. Returns whether there were
    /// any.
    pub(super) fn forget_some(&mut self) -> bool {
        let started = Instant::now();
        let mut has_forgotten = false;
        while started.elapsed() < TURN && self.forget_few() {
            has_forgotten = true;
        }
        self.ask_workers();
        has_forgotten
    }

    fn forget_few(&mut self) -> bool {
        let mut is_more = self.mirror.bury_some(BURIED_AT_ONCE);
        while let Some(orphan) = self.mirror.take_orphan() {
            self.take_away(Leftover::Orphan(orphan));
            is_more = true;
        }
        is_more
    }

    /// Takes a mark away that nothing needs, or has a worker do it.
    pub(super) fn take_away(&mut self, leftover: Leftover) {
        if let Some(Leftover::Orphan(orphan)) = self.workers.take_leftover(leftover)
            && self.mirror.is_orphan(&orphan)
        {
            self.scanner.reduce(&mut self.marks, &orphan.key, orphan.marked, 0, orphan.beside.as_slice());
            self.mirror.forget_orphan(&orphan);
        }
    }

    /// Compares some marks of the earlier process with those that are needed. Returns whether
    /// there are more.
    pub(super) fn compare_old_marks(&mut self) -> bool {
        let Self { old_marks: Some(old), marks, mirror, scanner, mounts, .. } = self else { return false };
        let started = Instant::now();
        while started.elapsed() < TURN {
            if !old.compare_next(marks, mirror, (scanner, mounts)) {
                self.old_marks = None;
                return false;
            }
        }
        true
    }
}

/// Opens some directory on a file system that no server has to answer for.
fn open_on(fs: FsId, mirror: &Mirror, scanner: &Scanner, workers: &Workers) -> Option<Object> {
    let mut paths = mirror.paths_on(fs).filter(|path| !workers.is_served(path));
    paths.find_map(|path| scanner.open(&path).ok())
}
