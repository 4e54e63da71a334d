//! Directories that have to be taken in and cannot be looked into yet.
//!
//! One above them was renamed meanwhile: the record of that is still to be read. Or
//! whoever serves their file system does not answer.

use super::Watch;
use super::grow::{Adopted, join};
use super::resolve::News;
use super::tree::NodeId;
use crate::kernel::envoy::SILENT;
use crate::kernel::object::Kind;
use nix::errno::Errno;

/// How often the queue is drained for what is being renamed.
pub(super) const MAX_TRIES: u32 = 100;

/// The place of such a directory, and what is found there means.
#[derive(Debug)]
struct Pending {
    parent: NodeId,
    name: Box<[u8]>,
    news: News,
    tries: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Unsettled {
    renamed: Vec<Pending>,
    silent: Vec<Pending>,
}

impl Unsettled {
    /// Whether reading more of the queue helps some.
    pub fn is_under_way(&self) -> bool {
        !self.renamed.is_empty()
    }
}

impl Watch {
    /// Takes in one directory that was made in, or moved to, a known one.
    pub(super) fn take_in(&mut self, parent: NodeId, name: &[u8], news: News) {
        if self.knows_children(parent) && !self.try_take_in(parent, name, news) {
            self.unsettled.renamed.push(Pending { parent, name: name.into(), news, tries: 0 });
        }
    }

    /// Looks once more at directories that were being renamed, now that the records
    /// of that have been read.
    pub(super) fn settle_directories(&mut self) {
        for mut entry in std::mem::take(&mut self.unsettled.renamed) {
            let is_settled =
                !self.knows_children(entry.parent) || self.try_take_in(entry.parent, &entry.name, entry.news);
            entry.tries += 1;
            if is_settled {
                continue;
            }
            if entry.tries < MAX_TRIES {
                self.unsettled.renamed.push(entry);
            } else {
                self.complain(entry.parent, &entry.name, "it is renamed faster than it can be looked at");
            }
        }
    }

    /// `false` if the directory that it is in was itself renamed meanwhile: the
    /// record of that is still to be read.
    fn try_take_in(&mut self, parent: NodeId, name: &[u8], news: News) -> bool {
        let found = match self.open_bound(parent) {
            Ok(dir) => self.entry(parent, &dir, name),
            Err(SILENT) => Err(SILENT),
            Err(_) => return false,
        };
        match found {
            Ok(object) if object.kind() == Kind::Directory => match self.adopt(parent, name, &object) {
                Adopted::New(node) => {
                    let slots = self.covers[self.tree[node].cover].rules.clone();
                    self.grow(node, object, &slots, Some(news));
                }
                Adopted::Known | Adopted::Unread(_) => self.postpone(parent, name, news),
            },
            // Gone or replaced: there is a record of that, too.
            Ok(_) | Err(Errno::ENOENT) => {}
            Err(SILENT) => self.postpone(parent, name, news),
            Err(errno) => self.complain(parent, name, errno.desc()),
        }
        true
    }

    /// A directory is taken in once more when its server answers, if that is silent.
    pub(super) fn postpone(&mut self, parent: NodeId, name: &[u8], news: News) {
        if !self.served.is_empty() && self.served.silence(&join(&self.tree.path(parent), name)).is_some() {
            self.unsettled.silent.push(Pending { parent, name: name.into(), news, tries: 0 });
        }
    }

    /// A server has answered: takes directories in once more from their top.
    pub(super) fn resume_directories(&mut self) {
        for entry in std::mem::take(&mut self.unsettled.silent) {
            let Pending { parent, name, news, .. } = &entry;
            if self.served.silence(&join(&self.tree.path(*parent), name)).is_some() {
                self.unsettled.silent.push(entry);
                continue;
            }
            if let Some(node) = self.tree.child(*parent, name) {
                self.forget_seats(node);
                self.vacate(node);
            }
            self.remount(*parent, name, *news);
        }
    }

    /// Rules whose PATH is here look at it as if they had not known it.
    fn forget_seats(&mut self, node: NodeId) {
        for slot in self.reach(node) {
            if self.rules[slot].target == Some(node) {
                self.rules[slot].seat = None;
            }
        }
    }
}
