//! What a record changes: directories that come, go and move, and places that
//! rules lead through.

use super::Watch;
use super::cover::CoverId;
use super::fire::{Ownership, Side};
use super::resolve::{News, Occasion};
use super::rules::Inode;
use super::tree::NodeId;
use crate::events::Events;
use crate::kernel::envoy::SILENT;
use crate::kernel::record::{Handle, Record};

impl Watch {
    /// Follows what a record says about names: directories that come and go, and
    /// places that rules lead through.
    pub(super) fn follow(
        &mut self,
        record: &Record<'_>,
        sides: &[Option<Side<'_>>],
        ownership: &mut Ownership<'_>,
    ) {
        let mut touched = Vec::new();
        for Side { entry, events } in sides.iter().flatten() {
            let dirs: Vec<_> = self.tree.by_handle(entry.dir).collect();
            for dir in dirs {
                if let Some(node) = self.tree.child(dir, entry.name)
                    && self.tree[node].anchor.is_some()
                {
                    touched.push(node);
                }
                if events.contains(Events::ONDIR) {
                    self.follow_directory(record, dir, entry.name, *events, ownership);
                }
            }
        }
        for node in touched {
            self.touch(node, News { own: ownership.is_own(), since: None });
        }
    }

    fn follow_directory(
        &mut self,
        record: &Record<'_>,
        dir: NodeId,
        name: &[u8],
        events: Events,
        ownership: &mut Ownership<'_>,
    ) {
        let known = self.tree.child(dir, name);
        if events.intersects(Events::DELETE.with(Events::MOVED_FROM))
            && let Some(node) = known
            && (record.object.is_none() || self.tree[node].handle() == record.object)
        {
            if events.contains(Events::MOVED_FROM) {
                self.note_left(dir, name, ownership.is_own());
            }
            match record.new.and_then(|new| Some((self.tree.by_handle(new.dir).next()?, new.name))) {
                Some((to, new_name)) if events.contains(Events::MOVED_FROM) => {
                    self.transplant(node, to, new_name);
                    self.recover(to, new_name, ownership.is_own());
                }
                _ if self.tree[node].anchor.is_none() => self.vacate(node),
                _ => {}
            }
        }
        if events.intersects(Events::CREATE.with(Events::MOVED_TO)) {
            let made = record.object.filter(|_| events.contains(Events::CREATE));
            if !self.take_at_word(dir, name, made) {
                let news = News { own: ownership.is_own(), since: None };
                self.take_in(dir, name, news);
            }
        }
    }

    /// Moves what is at a node to another place, with all that is below. Places that
    /// rules lead through stay; what is in them moves.
    pub(super) fn transplant(&mut self, node: NodeId, dir: NodeId, name: &[u8]) {
        if self.tree.is_above(node, dir) {
            return;
        }
        if let Some(taken) = self.tree.child(dir, name) {
            self.vacate(taken);
        }
        if self.tree[node].anchor.is_none() && self.tree.child(dir, name).is_none() {
            return self.tree.rename(node, dir, name);
        }
        let new = self.tree.child_or_new(dir, name);
        for child in self.tree.children(node) {
            let name: Box<[u8]> = self.tree[child].name().into();
            self.transplant(child, new, &name);
        }
        let inode: Option<Inode> = self.tree[node].handle().map(|handle| (handle.fs, handle.bytes.into()));
        let (content, marked, cover) =
            (self.tree[node].content, self.tree[node].marked, self.tree[node].cover);
        let is_read = std::mem::take(&mut self.tree[node].is_read);
        self.tree.unbind(node);
        self.tree[node].cover = CoverId::NONE;
        if let Some(handle) = inode.as_ref().and_then(|(fs, bytes)| Handle::from_prefix(*fs, bytes)) {
            self.tree.bind(new, handle, content);
            self.tree[new].marked = marked;
            self.tree[new].cover = cover;
            self.tree[new].is_read = is_read;
        }
    }

    /// A directory has been moved within what is known: whoever sees it now has seen
    /// it before, or is told of what is in it.
    pub(super) fn recover(&mut self, dir: NodeId, name: &[u8], own: bool) {
        let Some(node) = self.tree.child(dir, name) else { return };
        let cover = self.cover_of(dir, name);
        let before = self.tree[node].cover;
        if cover == before {
            return;
        }
        let had = self.covers[before].rules.clone();
        let news: Vec<_> =
            self.covers[cover].rules.iter().copied().filter(|slot| !had.contains(slot)).collect();
        let lost: Vec<_> =
            had.iter().copied().filter(|slot| !self.covers[cover].rules.contains(slot)).collect();
        for slot in lost {
            self.uncover(vec![node], slot);
        }
        if !news.is_empty()
            && let Ok(object) = self.open_bound(node)
        {
            self.tree[node].cover = cover;
            if self.mark(node, &object, self.cover_mask(node)).is_ok() {
                self.grow(node, object, &news, Some(News { own, since: None }));
            }
        }
    }

    /// Something changed at a place that rules lead through: they look again.
    pub(super) fn touch(&mut self, node: NodeId, news: News) {
        let Some(anchor) = &self.tree[node].anchor else { return };
        let users = anchor.users();
        // What was found by name may be something else now; the look will tell.
        if self.open_bound(node).is_err_and(|errno| errno != SILENT) {
            self.vacate(node);
        }
        for slot in users {
            self.resolve(slot, Occasion::Change(news));
        }
    }
}
