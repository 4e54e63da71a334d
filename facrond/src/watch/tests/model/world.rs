//! A file system, the marks on its inodes, and the queue of one fanotify group.

use crate::events::Events;
use crate::watch::rules::Moves;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

pub(super) type Ino = usize;
pub(super) type Name = &'static str;

/// The inode of `/`.
pub(super) const TOP: Ino = 1;

/// How many files may be open for writing.
pub(super) const WRITERS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    Link(Name),
}

/// An inode; its number is never used twice.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) kind: Kind,
    pub(super) links: u64,
    pub(super) size: u64,
    pub(super) changed: Duration,
    /// The mask of its mark.
    pub(super) mark: u64,
    /// Where a directory is.
    at: Option<(Ino, Name)>,
    writers: u32,
    /// Whether somebody has ever opened it for writing.
    was_opened: bool,
}

/// A name in a directory, and what has happened under it.
#[derive(Clone, Debug)]
pub(super) struct Dentry {
    pub(super) ino: Ino,
    /// When it was last closed after writing under this name.
    pub(super) closed: u64,
    /// When it got this name by rename(2) or link(2).
    pub(super) named: u64,
    /// All paths that it has had: a change may be merged into the record of one before, so
    /// that it is told under the path of that time.
    pub(super) paths: Vec<String>,
}

/// A descriptor that is open for writing.
#[derive(Clone, Copy, Debug)]
struct Writer {
    dir: Ino,
    name: Name,
    ino: Ino,
}

/// A record that nobody has read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Queued {
    pub(super) mask: u64,
    pub(super) pid: i32,
    pub(super) entry: Option<(Ino, Name)>,
    pub(super) old: Option<(Ino, Name)>,
    pub(super) new: Option<(Ino, Name)>,
    pub(super) object: Ino,
}

impl Queued {
    /// As `fanotify_should_merge` of the kernel does.
    fn takes_in(&self, other: &Self) -> bool {
        let kinds = Events::ONDIR.with(Events::RENAME).mask();
        let without_mask = |record: &Self| Self { mask: record.mask & kinds, ..record.clone() };
        without_mask(self) == without_mask(other)
    }
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) inodes: Vec<Inode>,
    pub(super) dentries: BTreeMap<(Ino, Name), Dentry>,
    pub(super) queue: VecDeque<Queued>,
    /// The number of what happens next: changes and firings have one order.
    pub(super) now: u64,
    pub(super) clock: Duration,
    writers: [Option<Writer>; WRITERS],
    moves: Moves,
    /// How often a path may have fired at most, as long as no directory was renamed.
    pub(super) changes: HashMap<String, u32>,
    /// Every name that ever was: since when, and until when.
    names: BTreeMap<(Ino, Name, Ino), (u64, u64)>,
}

impl World {
    pub(super) fn new(moves: Moves) -> Self {
        let mut world = Self {
            inodes: Vec::new(),
            dentries: BTreeMap::new(),
            queue: VecDeque::new(),
            now: 1,
            clock: Duration::from_secs(1),
            writers: [None; WRITERS],
            moves,
            changes: HashMap::new(),
            names: BTreeMap::new(),
        };
        // Inode 0 is none.
        world.new_inode(Kind::File);
        world.new_inode(Kind::Directory);
        world.mkdir("/w");
        world.mkdir("/o");
        world
    }

    fn new_inode(&mut self, kind: Kind) -> Ino {
        self.inodes.push(Inode {
            kind,
            links: 0,
            size: 0,
            changed: self.clock,
            mark: 0,
            at: None,
            writers: 0,
            was_opened: false,
        });
        self.inodes.len() - 1
    }

    pub(super) fn is_alive(&self, ino: Ino) -> bool {
        ino == TOP || self.inodes[ino].links > 0 || self.inodes[ino].writers > 0
    }

    pub(super) fn is_directory(&self, ino: Ino) -> bool {
        self.inodes[ino].kind == Kind::Directory
    }

    pub(super) fn is_written(&self, ino: Ino) -> bool {
        self.inodes[ino].writers > 0
    }

    pub(super) fn child(&self, dir: Ino, name: &str) -> Option<Ino> {
        self.dentries.get(&(dir, name)).map(|dentry| dentry.ino)
    }

    pub(super) fn entries(&self, dir: Ino) -> Vec<(Name, Ino)> {
        let from = self.dentries.range((dir, "")..(dir + 1, ""));
        from.map(|((_, name), dentry)| (*name, dentry.ino)).collect()
    }

    /// What is at a path whose directories are no symbolic links.
    pub(super) fn find(&self, path: &str) -> Option<Ino> {
        names(path).try_fold(TOP, |dir, name| self.child(dir, name))
    }

    /// The directory and the name at the end of a path; symbolic links are followed.
    pub(super) fn resolve(&self, path: Name) -> Option<(Ino, Name)> {
        let mut todo: Vec<Name> = names(path).collect();
        todo.reverse();
        let mut at = TOP;
        for _ in 0..100 {
            let name = todo.pop()?;
            let ino = self.child(at, name)?;
            match self.inodes[ino].kind {
                _ if todo.is_empty() => return Some((at, name)),
                Kind::Directory => at = ino,
                Kind::Link(target) => {
                    at = if target.starts_with('/') { TOP } else { at };
                    let mut names: Vec<Name> = names(target).collect();
                    names.reverse();
                    todo.extend(names);
                }
                Kind::File => return None,
            }
        }
        None
    }

    fn place(&self, path: Name) -> Option<(Ino, Name)> {
        let (dir, name) = path.rsplit_once('/')?;
        self.find(dir).filter(|dir| self.is_directory(*dir)).map(|dir| (dir, name))
    }

    /// The path of a name; nothing if it is in a directory that is gone.
    pub(super) fn path(&self, (dir, name): (Ino, Name)) -> Option<String> {
        let above = if dir == TOP { Some(String::new()) } else { self.path(self.inodes[dir].at?) };
        Some(format!("{}/{name}", above?))
    }

    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn push(&mut self, record: Queued) {
        match self.queue.iter_mut().rev().find(|queued| queued.takes_in(&record)) {
            Some(queued) => queued.mask |= record.mask,
            None => self.queue.push_back(record),
        }
    }

    fn hears(&self, dir: Ino, event: Events) -> bool {
        let mark = Events::from_mask(self.inodes[dir].mark);
        mark.intersects(event.without(Events::ONDIR)) && mark.contains(event.and(Events::ONDIR))
    }

    /// An entry of a directory came or went.
    fn tell_entry(&mut self, event: Events, (dir, name): (Ino, Name), object: Ino) {
        let event = if self.is_directory(object) { event.with(Events::ONDIR) } else { event };
        if self.hears(dir, event) {
            let (mask, entry) = (event.mask(), Some((dir, name)));
            self.push(Queued { mask, pid: 1, entry, old: None, new: None, object });
        }
    }

    fn tell_rename(&mut self, from: (Ino, Name), to: (Ino, Name), object: Ino) {
        if self.moves == Moves::FromTo {
            self.tell_entry(Events::MOVED_FROM, from, object);
            return self.tell_entry(Events::MOVED_TO, to, object);
        }
        let flag = if self.is_directory(object) { Events::ONDIR } else { Events::NONE };
        let event = Events::RENAME.with(flag);
        let old = Some(from).filter(|(dir, _)| self.hears(*dir, event));
        let new = Some(to).filter(|(dir, _)| self.hears(*dir, event));
        if old.is_some() || new.is_some() {
            self.push(Queued { mask: event.mask(), pid: 1, entry: None, old, new, object });
        }
    }

    /// Something happened to a file, under the name by which it was opened.
    fn tell_file(&mut self, event: Events, writer: Writer, pid: i32) {
        let on_child = event.with(Events::EVENT_ON_CHILD);
        let by_parent = Events::from_mask(self.inodes[writer.dir].mark).contains(on_child);
        if by_parent || Events::from_mask(self.inodes[writer.ino].mark).contains(event) {
            let entry = Some((writer.dir, writer.name));
            self.push(Queued { mask: event.mask(), pid, entry, old: None, new: None, object: writer.ino });
        }
    }

    /// The last name or descriptor may be gone, and the mark with it.
    fn let_go(&mut self, ino: Ino) {
        if !self.is_alive(ino) {
            self.inodes[ino].mark = 0;
        }
    }

    fn add_name(&mut self, place: (Ino, Name), ino: Ino, named: u64) {
        let path = self.path(place).unwrap_or_default();
        let now = self.tick();
        self.names.entry((place.0, place.1, ino)).or_insert((now, u64::MAX)).1 = u64::MAX;
        self.dentries.insert(place, Dentry { ino, closed: 0, named, paths: vec![path] });
        self.inodes[ino].links += 1;
        self.inodes[ino].changed = self.clock;
        if self.is_directory(ino) {
            self.inodes[ino].at = Some(place);
        }
    }

    fn drop_name(&mut self, place: (Ino, Name)) -> Option<Dentry> {
        let dentry = self.dentries.remove(&place)?;
        if let Some((_, until)) = self.names.get_mut(&(place.0, place.1, dentry.ino)) {
            *until = self.now;
        }
        let inode = &mut self.inodes[dentry.ino];
        inode.links -= 1;
        inode.changed = self.clock;
        inode.at = None;
        Some(dentry)
    }

    fn count_change(&mut self, place: (Ino, Name)) {
        if let Some(path) = self.path(place) {
            *self.changes.entry(path).or_default() += 1;
        }
    }

    /// Makes a directory, and those above it.
    pub(super) fn mkdir(&mut self, path: Name) {
        let mut dir = TOP;
        for name in names(path) {
            let ino = self.child(dir, name).unwrap_or_else(|| {
                let ino = self.new_inode(Kind::Directory);
                self.add_name((dir, name), ino, 0);
                self.tell_entry(Events::CREATE, (dir, name), ino);
                ino
            });
            if !self.is_directory(ino) {
                return;
            }
            dir = ino;
        }
    }

    /// Removes a file, or an empty directory.
    pub(super) fn remove(&mut self, path: Name) {
        let Some(place) = self.place(path) else { return };
        self.remove_at(place);
    }

    fn remove_at(&mut self, place: (Ino, Name)) {
        let Some(ino) = self.child(place.0, place.1) else { return };
        if self.entries(ino).is_empty() {
            self.drop_name(place);
            self.tell_entry(Events::DELETE, place, ino);
            self.let_go(ino);
        }
    }

    /// Removes a directory with all that is in it.
    pub(super) fn remove_tree(&mut self, path: Name) {
        if let Some(place) = self.place(path) {
            self.remove_all(place);
        }
    }

    fn remove_all(&mut self, place: (Ino, Name)) {
        if let Some(ino) = self.child(place.0, place.1) {
            for (name, _) in self.entries(ino) {
                self.remove_all((ino, name));
            }
            self.remove_at(place);
        }
    }

    /// Renames a file, a link or a directory, as rename(2) does.
    pub(super) fn rename(&mut self, from: Name, to: Name) {
        let (Some(from), Some(to)) = (self.place(from), self.place(to)) else { return };
        let Some(ino) = self.child(from.0, from.1) else { return };
        let target = self.child(to.0, to.1);
        let is_directory = self.is_directory(ino);
        let is_fit = |target| self.is_directory(target) == is_directory && self.entries(target).is_empty();
        if target == Some(ino) || target.is_some_and(|target| !is_fit(target)) || self.is_above(ino, to.0) {
            return;
        }
        let Some(dentry) = self.drop_name(from) else { return };
        if let Some(replaced) = self.drop_name(to) {
            self.let_go(replaced.ino);
        }
        let now = self.tick();
        self.add_name(to, ino, if is_directory { 0 } else { now });
        for writer in self.writers.iter_mut().flatten().filter(|writer| writer.ino == dentry.ino) {
            if (writer.dir, writer.name) == from {
                (writer.dir, writer.name) = to;
            }
        }
        if is_directory {
            self.note_paths(ino);
        } else {
            self.count_change(to);
            // Found under its new name, it is closed under the old one by a record that may
            // be of another link.
            if dentry.closed > 0 {
                self.count_change(to);
            }
        }
        self.tell_rename(from, to, ino);
    }

    fn is_above(&self, top: Ino, dir: Ino) -> bool {
        top == dir || self.inodes[dir].at.is_some_and(|(parent, _)| self.is_above(top, parent))
    }

    /// All below a directory has another path.
    fn note_paths(&mut self, dir: Ino) {
        for (name, ino) in self.entries(dir) {
            let path = self.path((dir, name)).unwrap_or_default();
            if let Some(dentry) = self.dentries.get_mut(&(dir, name)) {
                dentry.paths.push(path);
            }
            self.note_paths(ino);
        }
    }

    /// Whether a file may be told under a path. A record tells of a name in a directory,
    /// which may have been found at another place by the time that it is read, but never
    /// is where it was before.
    pub(super) fn may_be_told(&self, path: &str) -> bool {
        let mut ways = vec![(TOP, u64::MAX)];
        let Some((above, last)) = path.rsplit_once('/') else { return false };
        let below = |(dir, until): (Ino, u64), name: &str| {
            let named = self.names.range((dir, "", 0)..(dir + 1, "", 0));
            let is_it = move |(key, _): &(&(Ino, Name, Ino), _)| key.1 == name;
            let next =
                |(key, (since, end)): (&(Ino, Name, Ino), &(u64, u64))| (key.2, *since, until.min(*end));
            named.filter(is_it).map(next).collect::<Vec<_>>()
        };
        for name in names(above) {
            ways =
                ways.iter().flat_map(|way| below(*way, name)).map(|(ino, _, until)| (ino, until)).collect();
        }
        ways.iter().any(|way| below(*way, last).iter().any(|(_, since, _)| *since <= way.1))
    }

    pub(super) fn link(&mut self, from: Name, to: Name) {
        let (Some(from), Some(to)) = (self.place(from), self.place(to)) else { return };
        let Some(ino) = self.child(from.0, from.1).filter(|ino| !self.is_directory(*ino)) else { return };
        if self.child(to.0, to.1).is_none() {
            let now = self.tick();
            self.add_name(to, ino, now);
            self.count_change(to);
            self.tell_entry(Events::CREATE, to, ino);
        }
    }

    /// Makes a symbolic link, or another one in its place.
    pub(super) fn symlink(&mut self, path: Name, target: Name) {
        let Some(place) = self.place(path) else { return };
        if self.child(place.0, place.1).is_some_and(|ino| self.inodes[ino].kind == Kind::Link(target)) {
            return;
        }
        self.remove(path);
        if self.child(place.0, place.1).is_none() {
            let ino = self.new_inode(Kind::Link(target));
            self.add_name(place, ino, 0);
            self.tell_entry(Events::CREATE, place, ino);
        }
    }

    /// Makes the name of a file, without anybody who has it open.
    pub(super) fn make(&mut self, path: Name) {
        let Some(place) = self.place(path) else { return };
        if self.child(place.0, place.1).is_none() {
            let ino = self.new_inode(Kind::File);
            self.add_name(place, ino, 0);
            self.tell_entry(Events::CREATE, place, ino);
        }
    }

    /// Opens a file for writing, and makes it.
    pub(super) fn open(&mut self, slot: usize, path: Name) {
        self.close(slot);
        self.make(path);
        let Some((dir, name)) = self.place(path) else { return };
        let Some(ino) = self.child(dir, name) else { return };
        let inode = &mut self.inodes[ino];
        if inode.kind == Kind::File {
            inode.writers += 1;
            inode.was_opened = true;
            self.writers[slot] = Some(Writer { dir, name, ino });
            // It will be closed, be it when its directory is gone.
            self.count_change((dir, name));
        }
    }

    pub(super) fn write(&mut self, slot: usize) {
        let Some(writer) = self.writers[slot] else { return };
        self.tick();
        let inode = &mut self.inodes[writer.ino];
        inode.size += 1;
        inode.changed = self.clock;
        self.tell_file(Events::MODIFY, writer, pid(slot));
    }

    pub(super) fn close(&mut self, slot: usize) {
        let Some(writer) = self.writers[slot].take() else { return };
        let (now, place) = (self.tick(), (writer.dir, writer.name));
        self.inodes[writer.ino].writers -= 1;
        if let Some(dentry) = self.dentries.get_mut(&place).filter(|dentry| dentry.ino == writer.ino) {
            dentry.closed = now;
        }
        self.tell_file(Events::CLOSE_WRITE, writer, pid(slot));
        self.let_go(writer.ino);
    }

    /// Nobody has been about to open these for a long time: they are complete.
    pub(super) fn count_never_opened(&mut self) {
        let of_file = |dentry: &Dentry| !self.inodes[dentry.ino].was_opened;
        let places: Vec<_> =
            self.dentries.iter().filter(|(_, dentry)| of_file(dentry)).map(|(place, _)| *place).collect();
        for place in places {
            self.count_change(place);
        }
    }
}

/// Each writer is a process of its own.
fn pid(slot: usize) -> i32 {
    i32::try_from(slot).map_or(1, |slot| slot + 2)
}

fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}
