//! One file on its way to its place.
//!
//! Between a look at a name and what is done with it others can exchange what is there. So a
//! file is first renamed, which takes whatever is there then, and looked at afterwards; what
//! was not meant goes back.

use super::copy::copy;
use super::place::{Entry, look, make, numbered, stat, sync, temporary, with_suffix};
use super::reason::{self, Reason};
use super::{Identity, Order, Settled};
use crate::job::file_reason;
use crate::kernel::object::Object;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, RenameFlags, renameat2};
use nix::sys::stat::fstat;
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};

/// So many files of one name are enough.
const MOST: u32 = 100_000;

/// How many names are tried before it is said that it goes on.
const SOME: u32 = 1000;

/// Gives a file its place. It calls `go_on` again and again while that lasts.
pub(super) fn settle(order: &Order, go_on: &mut dyn FnMut()) -> Settled {
    attempt(order, go_on).unwrap_or_else(|early| early)
}

/// The error is an end before the last step.
fn attempt(order: &Order, go_on: &mut dyn FnMut()) -> Result<Settled, Settled> {
    let source = match Entry::of(order.path.as_bytes()) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(Settled::Gone),
        opened => opened.map_err(stays("cannot look at it"))?,
    };
    if order.is_repeated && remove_claimed(order, &source)? {
        return Ok(Settled::Moved);
    }
    match look(&source.dir, &source.name).map_err(stays("cannot look at it"))? {
        None => return Ok(Settled::Gone),
        Some(found) if found != order.file => return Ok(changed(&source)),
        Some(_) => {}
    }
    let Some(to) = &order.to else { return remove(order, &source) };
    let what = || format!("cannot move it to {to}");
    let dir =
        make(to.as_bytes()).map_err(|errno| Settled::Stays(format!("{}: {}", what(), file_reason(errno))))?;
    let target = Target { order, dir, what: what() };
    if target.is_on_other_file_system(&source)? {
        return target.take_copy(&source, go_on);
    }
    match target.publish(&source.dir, &source.name, &source.name, go_on) {
        Err(Errno::EXDEV) => target.take_copy(&source, go_on),
        Err(Errno::ENOENT) => Ok(Settled::Gone),
        Err(errno) => Err(target.fails(errno)),
        Ok(name) => target.check(&source, &name),
    }
}

fn stays(what: &str) -> impl FnOnce(Errno) -> Settled {
    move |errno| Settled::Stays(format!("{what}: {}", file_reason(errno)))
}

/// The file has changed; whether somebody goes on with that.
fn changed(source: &Entry) -> Settled {
    let object = source.hold().ok().and_then(|held| Object::of(held).ok());
    if object.and_then(|object| object.is_complete()) == Some(false) {
        Settled::Growing
    } else {
        Settled::Changed
    }
}

/// Gives a file a new name that is free.
///
/// # Errors
/// `EEXIST` where it is not, else those of `renameat2(2)`.
pub(super) fn rename(from: &OwnedFd, name: &OsStr, to: &OwnedFd, new: &OsStr) -> Result<(), Errno> {
    match renameat2(from, name, to, new, RenameFlags::RENAME_NOREPLACE) {
        // Some file systems cannot do that, but all that have links do not replace with them.
        Err(Errno::EINVAL) => {
            linkat(from, name, to, new, AtFlags::empty())?;
            unlinkat(from, name, UnlinkatFlags::NoRemoveDir)
        }
        result => result,
    }
}

/// The directory for the file.
struct Target<'o> {
    order: &'o Order,
    dir: OwnedFd,
    /// What is tried, for people.
    what: String,
}

impl Target<'_> {
    fn fails(&self, errno: Errno) -> Settled {
        let why = match errno {
            Errno::EEXIST => "there are too many files of its name".to_owned(),
            errno => file_reason(errno),
        };
        Settled::Stays(format!("{}: {why}", self.what))
    }

    fn is_on_other_file_system(&self, source: &Entry) -> Result<bool, Settled> {
        let [here, there] =
            [&source.dir, &self.dir].map(|dir| fstat(dir.as_fd()).map_err(|errno| self.fails(errno)));
        let (here, there) = (here?, there?);
        if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino) {
            return Err(Settled::Stays(format!("{}: it is in that directory", self.what)));
        }
        Ok(here.st_dev != there.st_dev)
    }

    /// Gives a file the first free name in the directory, with its reason beside it.
    fn publish(
        &self,
        from: &OwnedFd,
        name: &OsStr,
        wanted: &OsStr,
        go_on: &mut dyn FnMut(),
    ) -> Result<OsString, Errno> {
        for number in 0..MOST {
            if number % SOME == SOME - 1 {
                go_on();
            }
            let new = numbered(wanted, number);
            if look(&self.dir, &new)?.is_some() {
                continue;
            }
            let reason = match self.write_reason(&new) {
                Err(Errno::EEXIST) => continue,
                written => written?,
            };
            let renamed = rename(from, name, &self.dir, &new);
            if renamed.is_err() {
                reason.into_iter().for_each(Reason::remove);
            }
            match renamed {
                Err(Errno::EEXIST) => {}
                result => return result.map(|()| new),
            }
        }
        Err(Errno::EEXIST)
    }

    fn write_reason(&self, name: &OsStr) -> Result<Option<Reason<'_>>, Errno> {
        let text = self.order.reason.as_deref();
        text.map(|text| Reason::write(&self.dir, name, text, &self.order.tag)).transpose()
    }

    /// Whether the file that was moved is the one that was meant. Another one goes back.
    fn check(&self, source: &Entry, name: &OsStr) -> Result<Settled, Settled> {
        let found = look(&self.dir, name).map_err(|errno| self.fails(errno))?;
        if found.is_none_or(|found| found.is_same_content(&self.order.file)) {
            return Ok(Settled::Moved);
        }
        if rename(&self.dir, name, &source.dir, &source.name).is_err() {
            let name = name.to_string_lossy();
            return Err(Settled::Stays(format!(
                "{}: another file was put in its place, and is there now as {name}",
                self.what
            )));
        }
        self.remove_reason(name);
        Ok(changed(source))
    }

    fn remove_reason(&self, name: &OsStr) {
        if let Ok(Some(reason)) = self.write_reason(name) {
            reason.remove();
        }
    }

    /// Copies the file, and removes it then.
    fn take_copy(&self, source: &Entry, go_on: &mut dyn FnMut()) -> Result<Settled, Settled> {
        let name = match self.published(source).filter(|_| self.order.is_repeated) {
            Some(name) => name,
            None => self.publish_copy(source, go_on)?,
        };
        sync(&self.dir);
        match claim(self.order, source).map_err(|errno| self.fails(errno))? {
            Claimed::It => remove_temporary(self.order, source)
                .map_err(|errno| self.fails(errno))
                .map(|()| Settled::Moved),
            // The file that was handled has its place, and its name is another's.
            Claimed::Other => Ok(Settled::Moved),
            Claimed::Changed => {
                let _ = unlinkat(&self.dir, &*name, UnlinkatFlags::NoRemoveDir);
                self.remove_reason(&name);
                Ok(changed(source))
            }
        }
    }

    fn publish_copy(&self, source: &Entry, go_on: &mut dyn FnMut()) -> Result<OsString, Settled> {
        let on_its_way = temporary(&self.order.tag);
        let copied = source.hold().and_then(|held| copy(&held, &self.dir, &on_its_way, go_on));
        let is_same = || look(&source.dir, &source.name) == Ok(Some(self.order.file.clone()));
        let end = match copied {
            Ok(()) if is_same() => match self.publish(&self.dir, &on_its_way, &source.name, go_on) {
                Ok(name) => return Ok(name),
                Err(errno) => self.fails(errno),
            },
            Ok(()) => changed(source),
            Err(Errno::EINVAL) => {
                Settled::Stays(format!("{}: it is no file, and on another file system", self.what))
            }
            Err(errno) => self.fails(errno),
        };
        let _ = unlinkat(&self.dir, &*on_its_way, UnlinkatFlags::NoRemoveDir);
        Err(end)
    }

    /// The copy that an earlier attempt has made, under its name.
    fn published(&self, source: &Entry) -> Option<OsString> {
        let names = (0..MOST).map(|number| numbered(&source.name, number));
        let is_there = |name: &OsStr| stat(&self.dir, name).is_ok();
        let mut taken =
            names.take_while(|name| is_there(name) || is_there(&with_suffix(name, reason::SUFFIX)));
        taken.find(|name| {
            let found = stat(&self.dir, name).ok();
            found.is_some_and(|found| {
                let is_new = found.st_ctime >= self.order.since;
                is_new && Identity::of(&found).has_content_of(&self.order.file)
            })
        })
    }
}

/// What a name led to.
enum Claimed {
    It,
    /// It had changed, and has its name back.
    Changed,
    /// So it is with another file.
    Other,
}

/// Gives the file a name under which nobody replaces it.
fn claim(order: &Order, source: &Entry) -> Result<Claimed, Errno> {
    let claimed = temporary(&order.tag);
    match rename(&source.dir, &source.name, &source.dir, &claimed) {
        Err(Errno::ENOENT) => return Ok(Claimed::Other),
        result => result?,
    }
    let Some(found) = look(&source.dir, &claimed)? else { return Ok(Claimed::Other) };
    if found.is_same_content(&order.file) {
        return Ok(Claimed::It);
    }
    rename(&source.dir, &claimed, &source.dir, &source.name)?;
    Ok(if found.is_same_file(&order.file) { Claimed::Changed } else { Claimed::Other })
}

/// Removes a file that was claimed; where that cannot be, it gets its name back.
fn remove_temporary(order: &Order, source: &Entry) -> Result<(), Errno> {
    let claimed = temporary(&order.tag);
    unlinkat(&source.dir, &*claimed, UnlinkatFlags::NoRemoveDir).inspect_err(|_| {
        // It is not lost under the other name, either.
        let _ = rename(&source.dir, &claimed, &source.dir, &source.name);
    })
}

/// `done=delete`
fn remove(order: &Order, source: &Entry) -> Result<Settled, Settled> {
    match claim(order, source).map_err(stays("cannot remove it"))? {
        Claimed::It => {
            remove_temporary(order, source).map_err(stays("cannot remove it")).map(|()| Settled::Moved)
        }
        Claimed::Changed | Claimed::Other => Ok(changed(source)),
    }
}

/// Ends what an earlier attempt has claimed: all that was before it is done.
fn remove_claimed(order: &Order, source: &Entry) -> Result<bool, Settled> {
    let found = look(&source.dir, &temporary(&order.tag)).map_err(stays("cannot look at it"))?;
    if !found.is_some_and(|found| found.is_same_content(&order.file)) {
        return Ok(false);
    }
    unlinkat(&source.dir, &*temporary(&order.tag), UnlinkatFlags::NoRemoveDir)
        .map_err(stays("cannot remove it"))?;
    Ok(true)
}

#[cfg(test)]
mod tests;
