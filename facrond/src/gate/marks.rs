//! From a rule to the inodes that the gate marks for it. The daemon looks: its opens
//! are always allowed, and the gate must not wait for a disk.

use super::client::{Client, Failed};
use super::message::{Order, Rule};
use crate::config::mountinfo::Mounts;
use crate::config::places;
use crate::config::rule::{DEEPEST, RuleSpec};
use crate::events::Events;
use crate::kernel::object::{Kind, Object};
use facron_proto::{RuleId, Text};
use nix::errno::Errno;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Whoever wants to open a longer path has to do so in steps.
const PATH_MAX: usize = nix::libc::PATH_MAX.cast_unsigned() as usize;

/// Why a rule is not in force.
#[derive(Debug, thiserror::Error)]
pub enum NotPlaced {
    /// There is nothing at its path.
    #[error("{} does not exist", Text::from(.0.as_os_str().as_bytes()))]
    Missing(PathBuf),
    /// It could hold the machine.
    #[error("permission events cannot be asked for at {path}: {why}")]
    Refused {
        /// Where its path leads.
        path: Text,
        /// Why.
        why: String,
    },
    /// The system says no.
    #[error("permission events cannot be asked for at {path}: {}", reason(*errno, *events))]
    System {
        /// Its path.
        path: Text,
        /// What the gate was told.
        errno: Errno,
        /// What the rule asks for.
        events: Events,
    },
    /// The gate does not answer.
    #[error(transparent)]
    Gate(#[from] Failed),
}

fn reason(errno: Errno, events: Events) -> String {
    match errno {
        Errno::EINVAL | Errno::EOPNOTSUPP if events.contains(Events::PRE_ACCESS) => {
            "FAN_PRE_ACCESS needs Linux 6.14, and ext4, xfs or btrfs; FAN_ACCESS_PERM does not".to_owned()
        }
        Errno::EINVAL | Errno::EOPNOTSUPP => "the file system or the kernel does not have them".to_owned(),
        Errno::EEXIST => {
            "the kernel cannot ask for FAN_PRE_ACCESS, and for anything of directories (FAN_ONDIR), at \
                          one place, and another rule is there"
                .to_owned()
        }
        Errno::ENOSPC => "there are too many marks".to_owned(),
        errno => errno.desc().to_lowercase(),
    }
}

/// What is to become of the inodes of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Mark,
    Unmark,
}

/// A directory whose directories are still to be looked at.
struct Level {
    object: Object,
    path: PathBuf,
    below: Vec<u8>,
    directories: std::vec::IntoIter<Box<[u8]>>,
}

/// A rule's tree, and the line on which it is told of.
struct Walk<'a> {
    client: &'a mut Client,
    id: RuleId,
    spec: &'a RuleSpec,
    own: &'a [PathBuf],
    action: Action,
    mounts: Mounts,
}

/// Puts a rule in force; its marks are in the kernel when this returns.
pub fn place(client: &mut Client, id: RuleId, spec: &RuleSpec, own: &[PathBuf]) -> Result<(), NotPlaced> {
    let mounts = Mounts::read();
    let (path, object) = top(spec, own, &mounts)?;
    client.order(&Order::Rule(Box::new(rule(id, spec, &path, &object, own))), None)?;
    Walk { client, id, spec, own, action: Action::Mark, mounts }.walk(object, path, Vec::new())?;
    // Where it was before, if anywhere, does not count any more.
    client.order(&Order::Settled(id), None)?;
    refused(client.sync()?.0, id, spec)
}

/// Puts a part of a rule's tree in force: the directory at `below` its PATH, and all below that.
pub fn place_below(
    client: &mut Client,
    id: RuleId,
    spec: &RuleSpec,
    below: &Path,
    own: &[PathBuf],
) -> Result<(), NotPlaced> {
    let mounts = Mounts::read();
    let path = top(spec, own, &mounts)?.0.join(below);
    let object = match Object::open(&path) {
        Ok(object) => object,
        // There is, or will be, a record of that.
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => {
            complain(&path, errno.desc());
            return Ok(());
        }
    };
    let below = below.as_os_str().as_bytes().to_vec();
    let mut walk = Walk { client, id, spec, own, action: Action::Mark, mounts };
    if object.kind() != Kind::Directory || walk.leaves_out(&path) || is_excluded(spec, &below) {
        return Ok(());
    }
    walk.walk(object, path, below)?;
    refused(client.sync()?.0, id, spec)
}

/// Takes a rule out of force.
pub fn remove(client: &mut Client, id: RuleId, spec: &RuleSpec, own: &[PathBuf]) -> Result<(), NotPlaced> {
    let mounts = Mounts::read();
    if let Ok((path, object)) = top(spec, own, &mounts) {
        Walk { client, id, spec, own, action: Action::Unmark, mounts }.walk(object, path, Vec::new())?;
    }
    client.order(&Order::Forget(id), None)?;
    client.sync()?;
    Ok(())
}

fn refused(refused: Vec<(RuleId, i32)>, id: RuleId, spec: &RuleSpec) -> Result<(), NotPlaced> {
    let Some((_, errno)) = refused.into_iter().find(|(rule, _)| *rule == id) else { return Ok(()) };
    let path = Text::from(spec.path.as_os_str().as_bytes());
    Err(NotPlaced::System { path, errno: Errno::from_raw(errno), events: spec.events })
}

/// Where a rule's path leads, and what is there.
fn top(spec: &RuleSpec, own: &[PathBuf], mounts: &Mounts) -> Result<(PathBuf, Object), NotPlaced> {
    let missing = |_| NotPlaced::Missing(spec.path.clone());
    let path = fs::canonicalize(&spec.path).map_err(missing)?;
    let refuse = |why: String| Err(NotPlaced::Refused { path: Text::from(path.as_os_str().as_bytes()), why });
    if let Some(why) = mounts.aliases(&path).iter().find_map(|name| places::refusal(name, own)) {
        return refuse(why);
    }
    let object = Object::open(&path).map_err(|_| NotPlaced::Missing(spec.path.clone()))?;
    if object.is_of_kernel() {
        return refuse("its files are the kernel's".to_owned());
    }
    if !matches!(object.kind(), Kind::File | Kind::Directory) {
        return refuse("it is neither a file nor a directory".to_owned());
    }
    Ok((path, object))
}

fn rule(id: RuleId, spec: &RuleSpec, path: &Path, object: &Object, own: &[PathBuf]) -> Rule {
    let text = |path: &Path| Text::from(path.as_os_str().as_bytes());
    let milliseconds = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let permission = &spec.options.permission;
    Rule {
        id,
        path: text(path),
        is_directory: object.kind() == Kind::Directory,
        events: spec.events.mask(),
        recursive: spec.options.recursive,
        patterns: spec.options.filter.patterns(),
        process_filter: spec.options.process_filter.clone(),
        decision: permission.decision(),
        deadline_ms: milliseconds(permission.deadline()),
        on_failure: permission.on_failure(),
        cache_ms: permission.cache.map(milliseconds),
        spared: places::left_out(path, own).iter().map(|path| text(path)).collect(),
    }
}

fn is_excluded(spec: &RuleSpec, below: &[u8]) -> bool {
    spec.options.filter.excludes_tree(below)
}

impl Walk<'_> {
    /// Marks a directory first and looks into it second: what is made in it meanwhile
    /// is told by the watch. Depth is not recursion: others choose how deep a tree is.
    fn walk(&mut self, object: Object, path: PathBuf, below: Vec<u8>) -> Result<(), Failed> {
        let mut levels = vec![self.enter(object, path, below)?];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.directories.next() else {
                levels.pop();
                continue;
            };
            let Some((object, path, below)) = self.step(level, &name) else { continue };
            if levels.len() == DEEPEST || path.as_os_str().len() >= PATH_MAX {
                complain(&path, "too deep, what is below asks for no permission");
                continue;
            }
            let level = self.enter(object, path, below)?;
            levels.push(level);
        }
        Ok(())
    }

    /// Whether something is to be left alone, under this name or under another one.
    fn leaves_out(&self, path: &Path) -> bool {
        if places::is_left_out(path, self.own) {
            return true;
        }
        // What is below a mount is what it was before.
        let names = if self.mounts.is_point(path) { self.mounts.aliases(path) } else { Vec::new() };
        let refused = |name: &Path| places::refusal(name, self.own).map(|why| (name.to_owned(), why));
        let refused = names.iter().filter(|name| *name != path).find_map(|name| refused(name));
        if let Some((name, why)) = &refused {
            complain(path, &format!("it is `{}`: {why}", Text::from(name.as_os_str().as_bytes())));
        }
        refused.is_some()
    }

    fn enter(&mut self, object: Object, path: PathBuf, below: Vec<u8>) -> Result<Level, Failed> {
        let order = match self.action {
            Action::Mark => Order::Mark { rule: self.id, below: Text::from(&below[..]) },
            Action::Unmark => Order::Unmark(self.id),
        };
        self.client.order(&order, Some(object.as_fd()))?;
        let mut directories = Vec::new();
        if object.kind() == Kind::Directory && self.spec.options.recursive {
            match object.entries() {
                Ok(entries) => {
                    let may_be = |kind: &Option<Kind>| kind.is_none_or(|kind| kind == Kind::Directory);
                    directories
                        .extend(entries.into_iter().filter(|(_, kind)| may_be(kind)).map(|(name, _)| name));
                }
                Err(errno) => complain(&path, errno.desc()),
            }
        }
        Ok(Level { object, path, below, directories: directories.into_iter() })
    }

    /// A directory to go on in, unless it is to be left alone.
    fn step(&self, from: &Level, name: &[u8]) -> Option<(Object, PathBuf, Vec<u8>)> {
        let path = from.path.join(OsStr::from_bytes(name));
        let below =
            if from.below.is_empty() { name.to_vec() } else { [&from.below, &b"/"[..], name].concat() };
        if self.leaves_out(&path) || is_excluded(self.spec, &below) {
            return None;
        }
        let object = match from.object.entry(name) {
            Ok(object) => object,
            Err(Errno::ENOENT) => return None,
            Err(errno) => {
                complain(&path, errno.desc());
                return None;
            }
        };
        let is_other_fs = object.inode().device != from.object.inode().device;
        let is_to_mark = object.kind() == Kind::Directory && !(is_other_fs && object.is_of_kernel());
        is_to_mark.then_some((object, path, below))
    }
}

fn complain(path: &Path, why: &str) {
    let path = Text::from(path.as_os_str().as_bytes());
    tracing::warn!(%path, "no permission is asked for in this directory: {why}");
}
