//! From a rule's PATH to its node, by the known places. If a place on the path is unknown or
//! has no mark, it is looked at, and the path is followed again after the look.

use super::Mirror;
use crate::config::route::{Route, Start};
use crate::kernel::record::FsId;
use crate::matcher::Position;
use crate::watch::recheck::{Change, News, Origin, Recheck};
use crate::watch::rules::{Need, PathState, References, Seat, Slot};
use crate::watch::tree::{Content, Ghost, NodeId, ROOT};
use facron_proto::Text;
use nix::errno::Errno;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::SystemTime;

/// The state of a walk along a rule's path.
struct Walk<'n> {
    slot: Slot,
    news: Option<&'n News>,
    route: Route,
    at: NodeId,
    trail: Vec<NodeId>,
}

/// The end of a walk along a path.
enum End {
    /// A place must be looked at first.
    Pending,
    /// PATH is a directory.
    Directory(NodeId),
    /// PATH is another entry of a directory, or does not exist in it.
    Entry { parent: NodeId, node: NodeId, exists: bool },
    /// A directory on the path does not exist.
    Waiting(String),
    /// A place on the path cannot be watched.
    Failed(String),
}

impl Mirror {
    /// Follows a rule's path, and gives up the places that it does not need any more. `news`
    /// is the reason, if it is known.
    pub(super) fn resolve(&mut self, slot: Slot, news: Option<&News>) {
        let route = Route::new(self.rules[slot].spec.path.as_os_str().as_bytes());
        let mut walk = Walk { slot, news, route, at: ROOT, trail: vec![ROOT] };
        let old_target = self.rules[slot].target;
        let end = self.walk(&mut walk);
        let before = std::mem::replace(&mut self.rules[slot].trail, walk.trail);
        let aimed = self.rules[slot].target;
        match end {
            End::Pending => {
                let is_kept = aimed.is_some_and(|node| self.rules[slot].trail.contains(&node));
                if !is_kept {
                    self.rules[slot].target = None;
                }
            }
            End::Directory(node) => self.arrive_at_directory(slot, node, news),
            End::Entry { parent, node, exists } => self.arrive_at_entry(slot, parent, node, exists, news),
            End::Waiting(why) => self.stop(slot, PathState::Waiting(why)),
            End::Failed(why) => self.stop(slot, PathState::Failed(why)),
        }
        for target in [old_target, aimed].into_iter().flatten() {
            if self.rules[slot].target != Some(target) {
                self.drop_target(target, slot);
            }
        }
        self.give_up(slot, &before);
        self.give_up_returned(slot);
    }

    /// Gives up all places of a rule.
    pub(super) fn release(&mut self, slot: Slot) {
        self.leave_file_system(slot);
        if let Some(target) = self.rules[slot].target.take() {
            self.drop_target(target, slot);
        }
        let trail = std::mem::take(&mut self.rules[slot].trail);
        let ghosts = std::mem::take(&mut self.rules[slot].ghosts);
        for node in trail.into_iter().rev().chain(ghosts) {
            if self.tree.has(node) {
                self.remove_reference(slot, node);
            }
        }
    }

    fn walk(&mut self, walk: &mut Walk<'_>) -> End {
        let masks = self.rules[walk.slot].masks;
        self.refer(ROOT, walk.slot, Need::default());
        if self.tree[ROOT].content != Content::Directory {
            return self.look_first(ROOT, b"", walk);
        }
        while let Some(name) = walk.route.next() {
            if *name == *b".." {
                walk.at = self.tree.parent(walk.at);
                continue;
            }
            let is_last = walk.route.is_done();
            // In a directory that cannot be marked, renames go unseen.
            let way = Need { directory: masks.way, file: 0 };
            self.refer(walk.at, walk.slot, way);
            if self.lacks(walk.at, masks.way) {
                return self.look_again(walk.at, walk);
            }
            let node = self.tree.child_or_new(walk.at, &name);
            let need = Need { directory: masks.directory, file: masks.file };
            self.refer(node, walk.slot, if is_last { need } else { way });
            self.references(node).is_end |= is_last;
            if !walk.trail.contains(&node) {
                walk.trail.push(node);
            }
            match self.tree[node].content {
                Content::Unknown => {
                    return match self.error_at(node) {
                        Some(errno) => End::Failed(describe(&self.tree.path(node), errno)),
                        None => self.look_first(walk.at, &name, walk),
                    };
                }
                Content::Directory => walk.at = node,
                Content::Link => {
                    let link = self.tree[node].references.as_ref().map_or(&[][..], |found| &found.link);
                    match walk.route.follow(link) {
                        Some(Start::Root) => walk.at = ROOT,
                        Some(Start::Here) => {}
                        None => return End::Failed(describe(&self.tree.path(node), Errno::ELOOP)),
                    }
                }
                Content::Absent | Content::File if is_last => return self.end_at_entry(walk, node),
                Content::File => {
                    let path = Text(self.tree.path(node));
                    return End::Waiting(format!("{path} is not a directory"));
                }
                Content::Absent => return End::Waiting(self.missing(walk.at, &name)),
            }
        }
        self.refer(walk.at, walk.slot, Need { directory: masks.directory, file: 0 });
        if self.lacks(walk.at, masks.directory) {
            return self.look_again(walk.at, walk);
        }
        match self.error_at(walk.at) {
            Some(errno) => End::Failed(describe(&self.tree.path(walk.at), errno)),
            None => End::Directory(walk.at),
        }
    }

    /// The last component is no directory. Its parent directory gets the rule's mark first, and
    /// only a look after that counts.
    fn end_at_entry(&mut self, walk: &mut Walk<'_>, node: NodeId) -> End {
        let masks = self.rules[walk.slot].masks;
        self.refer(walk.at, walk.slot, Need { directory: masks.parent, file: 0 });
        // Its directory tells of the name, whatever is still to be looked at.
        self.references(node).aim(walk.slot);
        let rule = &mut self.rules[walk.slot];
        if rule.target.replace(node) != Some(node) {
            rule.aimed = SystemTime::now();
        }
        // A directory that comes here was not seen without a gap.
        rule.seat = rule.seat.filter(|seat| matches!(seat, Seat::Entry(_)));
        if self.lacks(walk.at, masks.parent) {
            self.tree[node].content = Content::Unknown;
            return self.look_again(walk.at, walk);
        }
        let exists = self.tree[node].content == Content::File;
        if exists && self.lacks(node, masks.file) {
            return self.look_again(node, walk);
        }
        let failed = [walk.at, node].into_iter().find_map(|node| Some((node, self.error_at(node)?)));
        match failed {
            Some((node, errno)) => End::Failed(describe(&self.tree.path(node), errno)),
            None => End::Entry { parent: walk.at, node, exists },
        }
    }

    fn look_again(&mut self, node: NodeId, walk: &Walk<'_>) -> End {
        let (parent, name): (_, Box<[u8]>) = (self.tree.parent(node), self.tree[node].name().into());
        self.look_first(parent, &name, walk)
    }

    fn look_first(&mut self, dir: NodeId, name: &[u8], walk: &Walk<'_>) -> End {
        let news = walk.news.filter(|_| !self.rules[walk.slot].is_new);
        let news = news.map(|news| News { only: Some([walk.slot].into()), ..news.clone() });
        self.recheck.change_first(dir, name, Change { news, ..Change::default() });
        End::Pending
    }

    /// Whether the mark of a place has too few events, and can get more.
    pub(super) fn lacks(&self, node: NodeId, mask: u64) -> bool {
        let marked = self.tree.inode_at(node).map_or(0, |inode| inode.marked);
        marked | mask != marked && self.error_at(node).is_none()
    }

    fn error_at(&self, node: NodeId) -> Option<Errno> {
        self.tree[node].references.as_ref().and_then(|references| references.error)
    }

    fn refer(&mut self, node: NodeId, slot: Slot, need: Need) {
        self.references(node).add(slot, need);
    }

    pub(super) fn references(&mut self, node: NodeId) -> &mut References {
        self.tree[node].references.get_or_insert_default()
    }

    fn missing(&self, dir: NodeId, name: &[u8]) -> String {
        format!("{} has no {} yet", Text(self.tree.path(dir)), Text(name.into()))
    }

    fn stop(&mut self, slot: Slot, state: PathState) {
        self.leave_file_system(slot);
        let rule = &mut self.rules[slot];
        (rule.state, rule.target, rule.seat, rule.is_new) = (state, None, None, false);
    }

    fn arrive_at_directory(&mut self, slot: Slot, node: NodeId, news: Option<&News>) {
        self.references(node).aim(slot);
        let seat = self.tree.inode_at(node).map(|inode| Seat::Directory(inode.since()));
        let rule = &mut self.rules[slot];
        let is_same = rule.seat == seat && rule.target == Some(node);
        let is_new = std::mem::replace(&mut rule.is_new, false);
        (rule.target, rule.seat) = (Some(node), seat);
        if let Some(missed) = rule.missed.take() {
            self.catch_up.begin(slot, missed, (node, None));
        }
        let rule = &mut self.rules[slot];
        if is_same {
            if !matches!(rule.state, PathState::Failed(_)) {
                rule.state = PathState::Active;
            }
            return;
        }
        // Failures below PATH are tried again only when the whole tree is looked at again.
        rule.state = PathState::Active;
        let knows_children = rule.masks.knows_children;
        self.leave_file_system(slot);
        let told = Some(SystemTime::now());
        let news = news.cloned().unwrap_or_default();
        let news = (!is_new).then(|| News { only: Some([slot].into()), told, ..news });
        if news.is_some() || knows_children {
            let (parent, name): (_, Box<[u8]>) = (self.tree.parent(node), self.tree[node].name().into());
            self.rules[slot].found = usize::from(news.is_some()) * usize::MAX;
            let this: Rc<[Slot]> = [slot].into();
            let (quiet, readers) = if news.is_none() { (this, Rc::default()) } else { (Rc::default(), this) };
            let change = Change { news, quiet, read: true, readers, ..Change::default() };
            self.recheck.change(parent, &name, change);
        }
    }

    fn arrive_at_entry(
        &mut self,
        slot: Slot,
        parent: NodeId,
        node: NodeId,
        exists: bool,
        news: Option<&News>,
    ) {
        let name: Box<[u8]> = self.tree[node].name().into();
        let state = if exists { PathState::Active } else { PathState::Waiting(self.missing(parent, &name)) };
        let seat = self.tree.inode_at(parent).map(|inode| Seat::Entry(inode.since()));
        let rule = &mut self.rules[slot];
        let is_same = rule.seat == seat;
        let is_new = std::mem::replace(&mut rule.is_new, false);
        (rule.target, rule.seat, rule.state) = (Some(node), seat, state);
        if let Some(missed) = rule.missed.take_if(|_| exists) {
            self.catch_up.begin(slot, missed, (parent, Some(&name)));
        }
        self.leave_file_system(slot);
        // Records that were read before may be why another rule has it looked at.
        let may_exist = exists || self.recheck.is_changing(parent, &name);
        if may_exist && !is_same && !is_new {
            let News { own, since, .. } = news.cloned().unwrap_or_default();
            // Records may have told of it before its path was followed to this end.
            let told = Some(self.rules[slot].aimed);
            let (origin, view) = (Origin::Found { since, told }, (slot, Position::Path));
            self.recheck.arrival(parent, &name, origin, own, &[view], None);
        }
    }

    /// A rule does not rely on the mark of a file system any more.
    fn leave_file_system(&mut self, slot: Slot) {
        if self.rules[slot].file_system.take().is_some() {
            self.unmarked.push(slot);
        }
    }

    fn drop_target(&mut self, node: NodeId, slot: Slot) {
        if !self.tree.has(node) || self.tree.ghost(node) == Some(Ghost::Gone) {
            return;
        }
        if let Some(references) = &mut self.tree[node].references {
            references.targets.retain(|target| *target != slot);
        }
        if self.tree.ghost(node).is_none() {
            self.pass_down(node);
        }
    }

    /// Removes a rule from the nodes of its old path. For nodes that are gone it still gets the
    /// records that were queued before.
    fn give_up(&mut self, slot: Slot, nodes: &[NodeId]) {
        for node in nodes.iter().rev().copied() {
            if !self.tree.has(node) || self.rules[slot].trail.contains(&node) {
                continue;
            }
            if self.tree.ghost(node) == Some(Ghost::Gone) {
                self.rules[slot].ghosts.push(node);
            } else {
                self.remove_reference(slot, node);
            }
        }
    }

    /// Ghosts that are somewhere again are no place of the rule's any more.
    fn give_up_returned(&mut self, slot: Slot) {
        if self.rules[slot].ghosts.is_empty() {
            return;
        }
        let is_ghost = |node: &NodeId| !self.tree.has(*node) || self.tree.ghost(*node).is_some();
        let ghosts = std::mem::take(&mut self.rules[slot].ghosts);
        let (ghosts, returned): (Vec<_>, Vec<_>) = ghosts.into_iter().partition(is_ghost);
        self.rules[slot].ghosts = ghosts;
        for node in &returned {
            if self.rules[slot].target != Some(*node) {
                self.drop_target(*node, slot);
            }
        }
        self.give_up(slot, &returned);
    }

    fn remove_reference(&mut self, slot: Slot, node: NodeId) {
        if let Some(references) = &mut self.tree[node].references {
            references.remove(slot);
            if references.is_unused() {
                self.tree[node].references = None;
            }
        }
        if self.tree.ghost(node).is_none() {
            self.tidy_by(node, Recheck::change_first);
        }
    }

    /// Whether all rules that see a directory rely on the mark of its file system.
    pub(super) fn is_served(&self, rules: &[Slot], fs: FsId) -> bool {
        !rules.is_empty() && rules.iter().all(|slot| self.rules[*slot].file_system == Some(fs))
    }
}

/// The reason why a path cannot be watched, as a sentence.
pub(super) fn describe(path: &[u8], errno: Errno) -> String {
    let why = match errno {
        Errno::ENOSPC => "the limit of marks is reached (see /proc/sys/fs/fanotify/max_user_marks)",
        Errno::EACCES => "permission denied",
        Errno::ENODEV | Errno::EOPNOTSUPP => {
            "its file system has no file handles, so fanotify cannot watch it"
        }
        Errno::EMFILE => "too many fanotify groups (see /proc/sys/fs/fanotify/max_user_groups)",
        Errno::ELOOP => "too many symbolic links",
        other => other.desc(),
    };
    format!("{}: {why}", Text(path.to_vec()))
}
