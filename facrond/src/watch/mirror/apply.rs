//! From a place to a probe, and from the answer to changes of the tree.

use super::Mirror;
use super::resolve::describe;
use crate::kernel::object::DirEntry;
use crate::kernel::record::Handle;
use crate::watch::recheck::{Change, MAX_TRIES, News, Place, Task};
use crate::watch::rules::{Need, PathState, RuleIndex, Slot};
use crate::watch::scanner::{Answer, Found, InodeKey, Probe, Read};
use crate::watch::tree::{Content, Ghost, NodeId, ROOT};
use facron_proto::Text;
use nix::errno::Errno;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

/// A tree with more directories is watched by a mark on its file system.
const LARGE: usize = if cfg!(test) { 64 } else { 4096 };

/// The entries of a directory, or why it could not be read.
type Entries = Result<Rc<[DirEntry]>, Errno>;

impl Mirror {
    /// The node at a place.
    fn at(&self, dir: NodeId, name: &[u8]) -> Option<NodeId> {
        if name.is_empty() { Some(ROOT) } else { self.tree.child(dir, name) }
    }

    /// The probe for a look at a place.
    pub(in crate::watch) fn probe(&self, task: &Task) -> Probe {
        let (dir, name) = (task.place.dir, &task.place.name);
        let node = self.at(dir, name);
        let inode = node.and_then(|node| self.tree.inode_at(node));
        let fs = inode.map(|inode| inode.handle().fs).or_else(|| self.tree.handle(dir).map(|dir| dir.fs));
        let seen = if name.is_empty() || self.is_too_deep(dir) {
            Vec::new()
        } else {
            self.rules.seen_by(&self.tree, dir, name)
        };
        let by_path = node.map_or(Need::default(), |node| self.rules.need(&self.tree, node, fs));
        let by_sets = Need { directory: self.rules.need_of_set(&seen, fs), file: 0 };
        let change = task.change.as_ref();
        // A look that brings nothing up to date leaves the mark as it is known.
        let wanted = |node| if change.is_some() { self.rules.wanted(&self.tree, node) } else { u64::MAX };
        let others = node.map_or(0, wanted);
        let is_read = change.is_some_and(|change| change.read || change.sweep || !change.missed.is_empty());
        let is_end =
            |node: NodeId| self.tree[node].references.as_ref().is_some_and(|references| references.is_end);
        let is_seen = !seen.is_empty() || node.is_some_and(is_end);
        let key = |handle: Handle<'_>| -> InodeKey { (handle.fs, handle.bytes.into()) };
        Probe {
            path: self.tree.path(dir),
            dir_inode: if name.is_empty() { None } else { self.tree.handle(dir).map(key) },
            name: Rc::clone(name),
            known: inode.map(|inode| key(inode.handle())),
            marked: inode.map_or(0, |inode| inode.marked),
            need: if change.is_some() { by_path.with(by_sets) } else { Need::default() },
            others,
            read: match (is_seen && change.is_some(), is_read) {
                (false, _) => Read::Never,
                (true, true) => Read::Always,
                (true, false) => Read::IfNew,
            },
            doubt: change.is_some_and(|change| change.doubt),
            is_arrival: task.is_arrival,
        }
    }

    fn is_too_deep(&self, dir: NodeId) -> bool {
        RuleIndex::is_too_deep(&self.tree, dir)
    }

    /// Takes over the answer of a look.
    pub(in crate::watch) fn apply(&mut self, task: Task, answer: Answer, now: (Instant, SystemTime)) {
        let (dir, name) = (task.place.dir, task.place.name.clone());
        if !self.tree.has(dir) {
            return self.recheck.done(&task.place, None, now);
        }
        match answer {
            Answer::DirectoryGone => self.on_directory_gone(task, now),
            Answer::Found(mut found) => {
                let entries = found.entries.take().map(|entries| entries.map(Rc::from));
                self.on_found(task, &found, entries.as_ref(), now);
            }
            Answer::Absent => {
                if let Some(node) = self.at(dir, &name) {
                    self.on_absent(node, task.change.as_ref());
                }
                self.recheck.done(&task.place, None, now);
            }
            Answer::Failed(errno) => {
                match self.at(dir, &name) {
                    Some(node) if self.tree[node].references.is_some() => {
                        self.references(node).error = Some(errno);
                        self.tree[node].content = Content::Unknown;
                        self.resolve_users(node, task.change.as_ref());
                    }
                    _ if task.change.is_some() => self.complain(dir, &name, errno.desc()),
                    _ => {}
                }
                self.recheck.done(&task.place, None, now);
            }
        }
    }

    /// The directory of the place is not at its path, so the directory is looked at. A record
    /// of its move may still be in the queue.
    fn on_directory_gone(&mut self, task: Task, now: (Instant, SystemTime)) {
        let dir = task.place.dir;
        match self.tree.ghost(dir) {
            // The record of its move may bring it back.
            Some(Ghost::Gone) => return self.recheck.retry(task, now.0),
            Some(Ghost::Left | Ghost::Dead) => return self.recheck.done(&task.place, None, now),
            None => {}
        }
        // Whatever comes there was not there before.
        for slot in self.users_at(&task.place) {
            let rule = &mut self.rules[slot];
            rule.is_new &= rule.missed.is_some();
        }
        if task.tries >= MAX_TRIES {
            if task.change.is_some() {
                let name = task.place.name.clone();
                self.complain(dir, &name, "it is renamed faster than it can be looked at");
            }
            return self.recheck.done(&task.place, None, now);
        }
        if dir != ROOT {
            let (parent, name): (_, Box<[u8]>) = (self.tree.parent(dir), self.tree[dir].name().into());
            // No news: what else is wanted there has its own time since which changes count.
            self.recheck.change(parent, &name, Change::default());
        }
        self.recheck.retry(task, now.0);
    }

    /// A place waits for a file-system worker, which has not been heard of yet.
    pub(in crate::watch) fn park(&mut self, task: Task, why: &str) -> bool {
        for slot in self.users_at(&task.place) {
            let rule = &mut self.rules[slot];
            if rule.is_new && rule.target.is_none() {
                rule.state = PathState::Waiting(why.to_owned());
            }
        }
        self.recheck.park(task)
    }

    /// The worker is free for a place.
    pub(in crate::watch) fn take_parked(&mut self, place: Place) -> Option<Task> {
        self.recheck.take_parked(&self.tree, place)
    }

    /// The server of a place does not answer: the rules that lead there wait.
    pub(in crate::watch) fn suspend_place(&mut self, place: &Place, why: &str) {
        for slot in self.users_at(place) {
            let state = &mut self.rules[slot].state;
            *state = match state {
                PathState::Active | PathState::Unresponsive(_) => PathState::Unresponsive(why.to_owned()),
                PathState::Waiting(_) | PathState::Failed(_) => PathState::Waiting(why.to_owned()),
            };
        }
    }

    fn users_at(&self, place: &Place) -> Vec<Slot> {
        let node = self.tree.has(place.dir).then(|| self.at(place.dir, &place.name)).flatten();
        node.map_or_else(Vec::new, |node| self.users(node))
    }

    /// Whether the answer to a probe still counts: it would be the same one now, and nobody
    /// has wanted another look.
    pub(in crate::watch) fn is_current(&self, task: &Task, probe: &Probe) -> bool {
        self.recheck.is_current(task) && self.tree.has(task.place.dir) && self.probe(task) == *probe
    }

    /// What was found is a directory that was not known, or not marked for all that it is
    /// now, and records of it were read before the answer: it is read again. What was told
    /// since the question is not told again.
    pub(in crate::watch) fn read_again(&mut self, place: &Place, change: Change, asked: SystemTime) {
        if !self.tree.has(place.dir) {
            return;
        }
        let news = change.news.map(|news| News { told: news.told.or(Some(asked)), ..news });
        let is_meant = |news: &News| match (&news.only, self.at(place.dir, &place.name)) {
            (Some(only), _) => Rc::clone(only),
            (None, Some(node)) => self.rules.reach(&self.tree, node).collect(),
            (None, None) => Rc::default(),
        };
        let readers = news.as_ref().map_or(change.readers, is_meant);
        self.recheck.change(place.dir, &place.name, Change { news, read: true, readers, ..change });
    }

    /// A look whose answer does not count has added to the mark of an inode, or `set` it.
    /// Returns the masks before and after. `None` if the inode is not known.
    pub(in crate::watch) fn note_mark(
        &mut self,
        handle: Handle<'_>,
        set: Option<u64>,
        added: u64,
    ) -> Option<(u64, u64)> {
        let inode = self.tree.find_inode(handle)?;
        let known = self.tree.inode_mut(inode);
        let had = known.marked;
        known.marked = set.unwrap_or(had | added);
        Some((had, known.marked))
    }

    /// The mask of the mark that an inode has, as far as it is known.
    pub(in crate::watch) fn marked(&self, handle: Handle<'_>) -> u64 {
        self.tree.find_inode(handle).map_or(0, |inode| self.tree.inode(inode).marked)
    }

    fn on_absent(&mut self, node: NodeId, change: Option<&Change>) {
        let users = if self.tree[node].inode().is_some() {
            self.depart(node, Ghost::Gone)
        } else if self.tree[node].content == Content::Absent {
            return;
        } else {
            self.tree[node].content = Content::Absent;
            self.users(node)
        };
        let is_there = self.tree.has(node) && self.tree.ghost(node).is_none();
        if is_there && let Some(references) = &mut self.tree[node].references {
            references.error = None;
        }
        let news = change.and_then(|change| change.news.clone()).unwrap_or_default();
        self.resolve_all(&users, &News { only: None, ..news });
        if is_there {
            self.tidy(node);
        }
    }

    fn on_found(
        &mut self,
        mut task: Task,
        found: &Found,
        entries: Option<&Entries>,
        now: (Instant, SystemTime),
    ) {
        let (dir, name) = (task.place.dir, task.place.name.clone());
        if let Some(change) = &task.change
            && let Some(other) = self.other_place(dir, &name, found)
        {
            if self.tree[other].ghost == Some(Ghost::Gone) && self.fits(other, dir) {
                // It was moved here. The record of the move is still in the queue.
                let news = change.news.clone().unwrap_or_default();
                self.relocate(other, dir, &name, &news);
            } else if task.tries == 1 {
                let (parent, at): (_, Box<[u8]>) = (self.tree.parent(other), self.tree[other].name().into());
                self.recheck.change_first(parent, &at, Change::default());
                return self.recheck.again_first(task);
            }
        }
        let facts = &found.facts;
        if let Some(mut change) = task.change.take() {
            change.sweep |= found.was_lost;
            self.take_over(dir, &name, found, entries, &change);
        }
        self.recheck.done(&task.place, Some(facts), now);
    }

    /// Another place of the same directory: it was moved, or is mounted twice.
    fn other_place(&self, dir: NodeId, name: &[u8], found: &Found) -> Option<NodeId> {
        let here = self.at(dir, name);
        if found.content() != Content::Directory
            || here.is_some_and(|node| self.tree.handle(node) == Some(found.handle()))
        {
            return None;
        }
        let gone = self.tree.gone(found.handle());
        gone.or_else(|| self.tree.places(found.handle()).find(|node| self.tree.ghost(*node).is_none()))
            .filter(|other| *other != ROOT && !self.tree.is_above(*other, dir))
    }

    /// Updates a place by the object that was found there.
    fn take_over(
        &mut self,
        dir: NodeId,
        name: &[u8],
        found: &Found,
        entries: Option<&Entries>,
        change: &Change,
    ) {
        let is_directory = found.content() == Content::Directory;
        let is_root = name.is_empty();
        let is_known_for_tree = is_directory && !is_root && self.rules.knows_children(&self.tree, dir);
        let mut users = Vec::new();
        if let Some(node) = self.at(dir, name)
            && self.tree.handle(node).is_some_and(|handle| handle != found.handle())
            && !is_root
        {
            users = self.depart(node, Ghost::Gone);
        }
        let has_node = self.at(dir, name).is_some();
        if !has_node && !is_known_for_tree {
            return;
        }
        if !has_node && self.is_too_deep(dir) {
            return self.complain(dir, name, "too deep, what is below is not watched");
        }
        let node = if is_root { ROOT } else { self.tree.child_or_new(dir, name) };
        if !users.is_empty() {
            self.references(node);
        }
        let before = self.state_at(node);
        let is_same = self.tree.handle(node) == Some(found.handle());
        let inode = self.tree.bind(node, found.handle(), found.content());
        let known = self.tree.inode_mut(inode);
        known.has_links |= !is_directory && found.facts.links > 1;
        if let Ok(marked) = found.marked {
            known.marked |= marked;
            if is_same {
                known.marked = marked;
            }
        }
        if let Some(references) = &mut self.tree[node].references {
            references.link.clone_from(&found.link);
        }
        let had = self.rules.share_set(self.tree[node].set);
        let rules = if is_known_for_tree { self.rules.seen_by(&self.tree, dir, name) } else { Vec::new() };
        let has_changed = self.rules.assign(&mut self.tree, node, &rules);
        self.on_mark(node, found.marked.err());
        let is_new = !is_same || found.was_lost;
        let newcomers: Vec<_> = rules.iter().copied().filter(|slot| is_new || !had.contains(slot)).collect();
        if is_directory {
            // Whoever catches up has a directory read that nothing else needs again.
            let is_for_missed =
                change.is_for_missed() && newcomers.is_empty() && before == self.state_at(node);
            let is_read_again =
                self.take_entries(node, entries.filter(|_| !is_for_missed), change, &newcomers);
            self.take_missed(node, entries, change, &newcomers);
            if (has_changed || change.pass_down) && !is_read_again {
                self.pass_down(node);
            }
            self.count_found(&newcomers, change);
        }
        users.extend(self.users(node));
        users.sort_unstable();
        users.dedup();
        if before != self.state_at(node) || is_new || change.doubt {
            let news = change.news.clone().unwrap_or_default();
            self.resolve_all(&users, &News { only: None, ..news });
            self.read_at_once(node, entries);
        }
        if self.tree.has(node) {
            self.tidy(node);
        }
    }

    /// A rule now leads to a directory that this look has read. Its entries are used at once,
    /// so that the directory need not be read again.
    fn read_at_once(&mut self, node: NodeId, entries: Option<&Entries>) {
        if let Some(Ok(entries)) = entries
            && self.tree.has(node)
            && self.tree.ghost(node).is_none()
        {
            let (parent, name): (_, Box<[u8]>) = (self.tree.parent(node), self.tree[node].name().into());
            if let Some(change) = self.recheck.take_back(parent, &name) {
                let news = self.news_in(node, &change, &[]);
                self.spread(node, entries, &change, news);
                if self.lacks(node, self.rules.wanted(&self.tree, node)) {
                    self.recheck.change(parent, &name, Change::default());
                }
            }
        }
    }

    /// The state of a node. If it changes, the rules that lead to the node are resolved again.
    fn state_at(&self, node: NodeId) -> (Content, u64, Option<Errno>, u64) {
        let inode = self.tree.inode_at(node);
        let error = self.tree[node].references.as_ref().and_then(|references| references.error);
        let content = self.tree[node].content;
        (
            content,
            inode.map_or(0, |inode| inode.marked),
            error,
            inode.map_or(0, crate::watch::tree::Inode::since),
        )
    }

    /// A mark was added, or has failed.
    fn on_mark(&mut self, node: NodeId, error: Option<Errno>) {
        if let Some(references) = &mut self.tree[node].references {
            // The object is gone by now. The record of that is still in the queue.
            references.error = error.filter(|errno| !matches!(errno, Errno::ENOENT | Errno::ESTALE));
        }
        if self.rules.set(self.tree[node].set).is_empty() {
            return;
        }
        match error {
            None | Some(Errno::ENOENT | Errno::ESTALE) => {}
            // A place such as /proc in a tree, which has no events.
            Some(Errno::ENODEV | Errno::EOPNOTSUPP) => {
                tracing::debug!(path = %Text(self.tree.path(node)), "this file system cannot be watched");
            }
            Some(Errno::ENOSPC) => self.run_out_of_marks(node),
            Some(errno) => {
                let name: Box<[u8]> = self.tree[node].name().into();
                self.complain(self.tree.parent(node), &name, errno.desc());
            }
        }
    }

    /// The limit of marks is reached. The rules that see this directory have failed, although
    /// their other marks go on.
    fn run_out_of_marks(&mut self, node: NodeId) {
        let why = describe(&self.tree.path(node), Errno::ENOSPC);
        for slot in self.rules.share_set(self.tree[node].set).iter() {
            let rule = &mut self.rules[*slot];
            if rule.state == PathState::Active {
                let path = Text::from(rule.spec.path.as_os_str().as_bytes());
                tracing::error!(%path, "cannot watch the whole tree: {why}");
                rule.state = PathState::Failed(why.clone());
            }
        }
    }

    /// Continues with the entries of a directory, if it was read. They are news for rules that
    /// see the directory for the first time. Returns whether it must be read first; what is to
    /// be passed down then is with that: entries must not be seen before it is known whether
    /// they are news.
    fn take_entries(
        &mut self,
        node: NodeId,
        entries: Option<&Entries>,
        change: &Change,
        newcomers: &[Slot],
    ) -> bool {
        let news = self.news_in(node, change, newcomers);
        match entries {
            Some(Ok(entries)) => self.spread(node, entries, change, news),
            Some(Err(errno)) => self.complain(node, b"", errno.desc()),
            None if change.sweep => self.sweep_children(node, change),
            None if newcomers.is_empty() => {}
            None => {
                let (parent, name): (_, Box<[u8]>) = (self.tree.parent(node), self.tree[node].name().into());
                let (quiet, pass_down) = (Rc::clone(&change.quiet), true);
                let readers = news.as_ref().and_then(|news| news.only.clone()).unwrap_or_default();
                let change = Change { news, quiet, read: true, readers, pass_down, ..Change::default() };
                self.recheck.change(parent, &name, change);
                return true;
            }
        }
        false
    }

    /// Rules that catch up go on with the entries of a directory. One that sees it for the first
    /// time gets them as news.
    fn take_missed(&mut self, node: NodeId, entries: Option<&Entries>, change: &Change, newcomers: &[Slot]) {
        let Some(Ok(entries)) = entries else { return };
        for slot in change.missed.iter().filter(|slot| !newcomers.contains(slot)) {
            self.catch_up.on_read(*slot, node, entries);
        }
    }

    /// The news about the entries of a directory, with the rules that want it.
    fn news_in(&self, node: NodeId, change: &Change, newcomers: &[Slot]) -> Option<News> {
        let news = change.news.as_ref();
        let is_asked =
            |slot: &Slot| news.is_some_and(|news| news.only.as_ref().is_none_or(|only| only.contains(slot)));
        let is_meant = |slot: &Slot| {
            let is_first = newcomers.contains(slot);
            let is_told = change.sweep || change.readers.contains(slot) || is_first;
            (is_asked(slot) && is_told) || (is_first && !change.quiet.contains(slot))
        };
        let only: Rc<[Slot]> = self.rules.reach(&self.tree, node).filter(is_meant).collect();
        let is_news = news.is_some() || !only.is_empty();
        is_news.then(|| News { only: Some(only), ..news.cloned().unwrap_or_default() })
    }

    /// Counts the directories below new rules, to discover large trees.
    fn count_found(&mut self, newcomers: &[Slot], change: &Change) {
        if change.news.is_some() {
            return;
        }
        for slot in newcomers {
            let rule = &mut self.rules[*slot];
            rule.found = rule.found.saturating_add(1);
            if rule.found == LARGE {
                self.large.push(*slot);
            }
        }
    }

    /// Resolves the rules that lead to a node again.
    fn resolve_users(&mut self, node: NodeId, change: Option<&Change>) {
        let users = self.users(node);
        let news = change.and_then(|change| change.news.clone()).unwrap_or_default();
        self.resolve_all(&users, &News { only: None, ..news });
    }
}
