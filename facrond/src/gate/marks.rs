//! From a rule to the inodes that the gate marks for it. The daemon looks: its opens
//! are always allowed, and the gate must not wait for a disk.

use super::client::{Client, Failed};
use super::message::{Order, Rule};
use crate::config::places;
use crate::config::rule::RuleSpec;
use crate::kernel::object::{Kind, Object};
use facron_proto::{RuleId, Text};
use nix::errno::Errno;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

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
    #[error("permission events cannot be asked for: {}", reason(*.0))]
    System(Errno),
    /// The gate does not answer.
    #[error(transparent)]
    Gate(#[from] Failed),
}

fn reason(errno: Errno) -> String {
    match errno {
        Errno::EINVAL | Errno::EOPNOTSUPP => "the file system or the kernel does not have them".to_owned(),
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

/// A rule's tree, and the line on which it is told of.
struct Walk<'a> {
    client: &'a mut Client,
    id: RuleId,
    spec: &'a RuleSpec,
    own: &'a [PathBuf],
    action: Action,
}

/// Puts a rule in force; its marks are in the kernel when this returns.
pub fn place(client: &mut Client, id: RuleId, spec: &RuleSpec, own: &[PathBuf]) -> Result<(), NotPlaced> {
    let (path, object) = top(spec, own)?;
    client.order(&Order::Rule(Box::new(rule(id, spec, &path, &object, own))), None)?;
    // Where it was before, if anywhere, does not count any more.
    client.order(&Order::Gone { rule: id, below: Text::default() }, None)?;
    Walk { client, id, spec, own, action: Action::Mark }.walk(&object, &path, b"")?;
    refused(client.sync()?, id)
}

/// Puts a part of a rule's tree in force: the directory at `below` its PATH, and all below that.
pub fn place_below(
    client: &mut Client,
    id: RuleId,
    spec: &RuleSpec,
    below: &Path,
    own: &[PathBuf],
) -> Result<(), NotPlaced> {
    let path = top(spec, own)?.0.join(below);
    let Ok(object) = Object::open(&path) else { return Ok(()) };
    if object.kind() != Kind::Directory
        || places::is_left_out(&path, own)
        || is_excluded(spec, below.as_os_str().as_bytes())
    {
        return Ok(());
    }
    Walk { client, id, spec, own, action: Action::Mark }.walk(
        &object,
        &path,
        below.as_os_str().as_bytes(),
    )?;
    refused(client.sync()?, id)
}

/// Takes a rule out of force.
pub fn remove(client: &mut Client, id: RuleId, spec: &RuleSpec, own: &[PathBuf]) -> Result<(), NotPlaced> {
    if let Ok((path, object)) = top(spec, own) {
        Walk { client, id, spec, own, action: Action::Unmark }.walk(&object, &path, b"")?;
    }
    client.order(&Order::Forget(id), None)?;
    client.sync()?;
    Ok(())
}

fn refused(refused: Vec<(RuleId, i32)>, id: RuleId) -> Result<(), NotPlaced> {
    let first = refused.into_iter().find(|(rule, _)| *rule == id);
    first.map_or(Ok(()), |(_, errno)| Err(NotPlaced::System(Errno::from_raw(errno))))
}

/// Where a rule's path leads, and what is there.
fn top(spec: &RuleSpec, own: &[PathBuf]) -> Result<(PathBuf, Object), NotPlaced> {
    let missing = |_| NotPlaced::Missing(spec.path.clone());
    let path = fs::canonicalize(&spec.path).map_err(missing)?;
    let refuse = |why: String| Err(NotPlaced::Refused { path: Text::from(path.as_os_str().as_bytes()), why });
    if let Some(why) = places::refusal(&path, own) {
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
        culprit: spec.options.culprit.clone(),
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
    /// is told by the watch.
    fn walk(&mut self, object: &Object, path: &Path, below: &[u8]) -> Result<(), Failed> {
        let order = match self.action {
            Action::Mark => Order::Mark { rule: self.id, below: Text::from(below) },
            Action::Unmark => Order::Unmark(self.id),
        };
        self.client.order(&order, Some(object.as_fd()))?;
        if object.kind() != Kind::Directory || !self.spec.options.recursive {
            return Ok(());
        }
        let Ok(entries) = object.entries() else { return Ok(()) };
        for (name, kind) in entries {
            if kind.is_some_and(|kind| kind != Kind::Directory) {
                continue;
            }
            let path = path.join(OsStr::from_bytes(&name));
            let below = if below.is_empty() { name.to_vec() } else { [below, b"/", &name].concat() };
            if places::is_left_out(&path, self.own) || is_excluded(self.spec, &below) {
                continue;
            }
            let Ok(child) = object.entry(&name) else { continue };
            let is_other_fs = child.inode().device != object.inode().device;
            if child.kind() == Kind::Directory && !(is_other_fs && child.is_of_kernel()) {
                self.walk(&child, &path, &below)?;
            }
        }
        Ok(())
    }
}
