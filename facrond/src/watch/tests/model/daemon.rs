//! The side of the daemon: what `Watch` does, one small step at a time, so that the file
//! system can change between any two of them.

use super::world::{Ino, Inode, Kind, Name, TOP, World};
use crate::config::rule::RuleSpec;
use crate::kernel::fanotify::Privilege;
use crate::kernel::object;
use crate::kernel::record::{Entry, FsId, Handle, Record};
use crate::watch::mirror::{Fired, Mirror};
use crate::watch::recheck::{Facts, Lanes, Task};
use crate::watch::rules::Moves;
use crate::watch::scanner::{Answer, Found, InodeKey, Probe, Read};
use facron_proto::RuleId;
use nix::errno::Errno;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

pub(super) const FS: FsId = FsId(7);

/// A `file_handle` with the number of an inode.
#[derive(Clone, Copy)]
pub(super) struct HandleOf([u8; 16]);

impl HandleOf {
    pub(super) fn new(ino: Ino) -> Self {
        let mut bytes = [0; 16];
        bytes[0] = 8;
        bytes[8..].copy_from_slice(&(ino as u64).to_ne_bytes());
        Self(bytes)
    }

    pub(super) fn get(&self) -> Handle<'_> {
        Handle { fs: FS, bytes: &self.0 }
    }

    fn key(self) -> InodeKey {
        (FS, self.0.into())
    }
}

pub(super) fn ino_of(handle: Handle<'_>) -> Ino {
    let bytes = handle.bytes[8..].try_into().expect("it is one of the model's");
    usize::try_from(u64::from_ne_bytes(bytes)).expect("numbers are small")
}

/// Where the daemon is.
#[derive(Debug)]
enum Phase {
    Read,
    Drained,
    Look,
    /// With a place in hand.
    Looking(Box<Looking>),
    Forget,
}

/// A look that is under way.
#[derive(Debug)]
struct Looking {
    task: Task,
    probe: Probe,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Open,
    Mark(Seen),
    Enter(Seen, u64, bool),
    Ask(Seen, u64, Option<Result<Vec<object::DirEntry>, Errno>>),
}

/// What was seen when it was opened.
#[derive(Clone, Debug)]
struct Seen {
    ino: Ino,
    inode: Inode,
}

#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) mirror: Mirror,
    phase: Phase,
    /// The directory of the last look.
    held: Option<(Vec<u8>, Ino)>,
    /// Whether it looks at all that new rules need, and reads nothing before that is done.
    all: bool,
    has_looked: bool,
    /// How many places are buried in one step.
    bury: usize,
    start: (Instant, SystemTime),
    pub(super) fired: Vec<Fired>,
    /// Whether all that it sees is printed.
    pub(super) is_traced: bool,
}

impl Daemon {
    pub(super) fn new(moves: Moves, bury: usize) -> Self {
        Self {
            mirror: Mirror::new(moves, Privilege::Full),
            phase: Phase::Read,
            held: None,
            all: false,
            has_looked: false,
            bury,
            start: (Instant::now(), SystemTime::now()),
            fired: Vec::new(),
            is_traced: false,
        }
    }

    fn trace(&self, what: std::fmt::Arguments<'_>) {
        if self.is_traced {
            eprintln!("  {what}");
        }
    }

    fn now(&self, world: &World) -> (Instant, SystemTime) {
        (self.start.0 + world.clock, self.start.1 + world.clock)
    }

    /// Between two calls of [`crate::watch::Watch::drain`].
    pub(super) fn is_between(&self) -> bool {
        matches!(self.phase, Phase::Read) && !self.all
    }

    /// Whether rules are being taken in or let go.
    pub(super) fn is_taking_in(&self) -> bool {
        self.all || self.mirror.is_taking_in() || matches!(self.phase, Phase::Looking(_))
    }

    pub(super) fn attach(&mut self, id: RuleId, spec: Rc<RuleSpec>) {
        self.mirror.attach(id, spec, None);
        (self.all, self.phase) = (true, Phase::Look);
    }

    pub(super) fn detach(&mut self, id: RuleId) {
        if let Some(slot) = self.mirror.rules.slot(id) {
            self.mirror.detach(slot);
            (self.all, self.phase) = (true, Phase::Look);
        }
    }

    /// The time of a turn is over.
    pub(super) fn stop(&mut self) {
        if matches!(self.phase, Phase::Look) && !self.all {
            self.phase = Phase::Forget;
            self.held = None;
        }
    }

    /// One step; whether there is nothing to do.
    pub(super) fn step(&mut self, world: &mut World) -> bool {
        match std::mem::replace(&mut self.phase, Phase::Read) {
            Phase::Read => self.read(world),
            Phase::Drained => {
                self.mirror.on_drained(&mut self.fired);
                (self.phase, self.has_looked) = (Phase::Look, false);
            }
            Phase::Look if self.mirror.pass_some(0) => (self.phase, self.has_looked) = (Phase::Look, true),
            Phase::Look => match self.mirror.take_task(self.now(world).0, self.lanes()) {
                Some(task) => {
                    let probe = self.mirror.probe(&task);
                    self.has_looked = true;
                    self.phase = Phase::Looking(Box::new(Looking { task, probe, stage: Stage::Open }));
                }
                None => self.phase = Phase::Forget,
            },
            Phase::Looking(looking) => self.look(*looking, world),
            Phase::Forget => return self.forget(world),
        }
        false
    }

    fn lanes(&self) -> Lanes {
        if self.all { Lanes::Fresh } else { Lanes::Background }
    }

    fn read(&mut self, world: &mut World) {
        let Some(queued) = world.queue.pop_front() else {
            self.phase = Phase::Drained;
            return;
        };
        let handles: Vec<_> = [queued.entry, queued.old, queued.new]
            .map(|place| place.map(|(dir, name)| (HandleOf::new(dir), name)))
            .into();
        let entry = |index: usize| {
            handles[index]
                .as_ref()
                .map(|(dir, name): &(HandleOf, Name)| Entry { dir: dir.get(), name: name.as_bytes() })
        };
        let object = HandleOf::new(queued.object);
        let record = Record {
            mask: queued.mask,
            pid: queued.pid,
            entry: entry(0),
            old: entry(1),
            new: entry(2),
            object: Some(object.get()),
            ..Record::default()
        };
        self.trace(format_args!("record {} {queued:?}", crate::events::Events::from_mask(queued.mask)));
        self.mirror.on_record(&record, &mut || false, &mut self.fired);
    }

    fn look(&mut self, looking: Looking, world: &mut World) {
        let Looking { task, probe, stage } = looking;
        let stage = match stage {
            Stage::Open => match self.open(&probe, world) {
                Ok(seen) => Stage::Mark(seen),
                Err(answer) => return self.apply(task, answer, world),
            },
            Stage::Mark(seen) => {
                let (marked, is_read) = mark(&probe, &seen, world);
                Stage::Enter(seen, marked, is_read)
            }
            Stage::Enter(seen, marked, is_read) => {
                let is_read = is_read && seen.inode.kind == Kind::Directory;
                let entries = is_read.then(|| entries(world, seen.ino));
                Stage::Ask(seen, marked, entries)
            }
            Stage::Ask(seen, marked, entries) => {
                let answer = self.found(&probe, &seen, marked, entries, world);
                return self.apply(task, answer, world);
            }
        };
        self.phase = Phase::Looking(Box::new(Looking { task, probe, stage }));
    }

    fn apply(&mut self, task: Task, answer: Answer, world: &World) {
        self.trace(format_args!(
            "{} {task:?} {answer:?}",
            String::from_utf8_lossy(&self.mirror.tree.path(task.place.dir))
        ));
        self.mirror.apply(task, answer, self.now(world));
        self.mirror.take_unmarked();
        self.mirror.take_large();
        self.phase = Phase::Look;
    }

    fn open(&mut self, probe: &Probe, world: &World) -> Result<Seen, Answer> {
        let ino = match &probe.dir_inode {
            None => TOP,
            Some(expected) => {
                let is_held = |(path, ino): &(Vec<u8>, Ino)| {
                    *path == probe.path && HandleOf::new(*ino).key() == *expected
                };
                if !self.held.as_ref().is_some_and(is_held) {
                    let there = world.find(&String::from_utf8_lossy(&probe.path));
                    let dir = there.filter(|dir| HandleOf::new(*dir).key() == *expected);
                    self.held = dir.map(|dir| (probe.path.clone(), dir));
                }
                let dir = self.held.as_ref().ok_or(Answer::DirectoryGone)?.1;
                let name = str::from_utf8(&probe.name).expect("names of the model are text");
                world.child(dir, name).ok_or(Answer::Absent)?
            }
        };
        Ok(Seen { ino, inode: world.inodes[ino].clone() })
    }

    fn found(
        &self,
        probe: &Probe,
        seen: &Seen,
        marked: u64,
        entries: Option<Result<Vec<object::DirEntry>, Errno>>,
        world: &World,
    ) -> Answer {
        let inode = &seen.inode;
        let changed = self.start.1 + inode.changed;
        let (kind, link) = match inode.kind {
            Kind::Directory => (object::Kind::Directory, ""),
            Kind::File => (object::Kind::File, ""),
            Kind::Link(target) => (object::Kind::Link, target),
        };
        let is_complete = inode.links > 1 || !world.is_written(seen.ino);
        let facts = Facts {
            object: HandleOf::new(seen.ino).key(),
            kind,
            size: inode.size,
            links: inode.links,
            changed,
            modified: changed,
            born: None,
            complete: (probe.is_arrival && inode.kind == Kind::File).then_some(is_complete),
        };
        let link = link.as_bytes().into();
        Answer::Found(Box::new(Found { facts, link, marked: Ok(marked), was_lost: false, entries }))
    }

    /// The end of a turn; whether there is nothing to do.
    fn forget(&mut self, world: &mut World) -> bool {
        let mut is_more = self.mirror.bury_some(self.bury);
        while let Some(orphan) = self.mirror.take_orphan() {
            let is_on = |path: &Vec<u8>| world.find(&String::from_utf8_lossy(path));
            let handle = Handle { fs: orphan.key.0, bytes: &orphan.key.1 };
            if orphan.beside.iter().any(|path| is_on(path).is_some()) {
                world.inodes[ino_of(handle)].mark &= !orphan.marked;
            }
            self.mirror.forget_orphan(&orphan);
            is_more = true;
        }
        if self.all {
            self.all = is_more;
            self.phase = if is_more { Phase::Look } else { Phase::Read };
            self.held = self.held.take().filter(|_| is_more);
            return false;
        }
        let is_idle = !self.has_looked && !is_more && !self.mirror.is_due();
        if is_idle {
            self.mirror.on_settled(self.now(world).1);
            self.held = None;
        }
        is_idle && world.queue.is_empty()
    }

    /// Lets time pass until the next look is due; whether there is one.
    pub(super) fn await_next(&self, world: &mut World) -> bool {
        let due = self.mirror.next_due();
        if let Some(due) = due {
            world.clock = world.clock.max(due.duration_since(self.start.0) + Duration::from_millis(1));
        }
        due.is_some()
    }
}

/// As the scanner and the table of marks do it.
fn mark(probe: &Probe, seen: &Seen, world: &mut World) -> (u64, bool) {
    let is_known = probe.known == Some(HandleOf::new(seen.ino).key());
    let before = if is_known { probe.marked } else { 0 };
    let need = match seen.inode.kind {
        Kind::Directory => probe.need.directory,
        Kind::Link(_) => 0,
        Kind::File => probe.need.file,
    };
    let is_alive = world.is_alive(seen.ino);
    let mark = &mut world.inodes[seen.ino].mark;
    let mut marked = before | need;
    if marked != before && is_alive {
        *mark |= need;
    }
    if is_known {
        let excess = marked & !(need | probe.others);
        *mark &= !excess;
        marked &= !excess;
    }
    let is_read = match probe.read {
        Read::Never => false,
        Read::IfNew => !is_known || need & !before != 0,
        Read::Always => true,
    };
    (marked, is_read)
}

fn entries(world: &World, dir: Ino) -> Result<Vec<object::DirEntry>, Errno> {
    if !world.is_alive(dir) {
        return Err(Errno::ENOENT);
    }
    let kind = |ino: Ino| match world.inodes[ino].kind {
        Kind::Directory => object::Kind::Directory,
        Kind::File => object::Kind::File,
        Kind::Link(_) => object::Kind::Link,
    };
    Ok(world.entries(dir).into_iter().map(|(name, ino)| (name.as_bytes().into(), Some(kind(ino)))).collect())
}
