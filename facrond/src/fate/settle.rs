//! One file on its way to its place.
//!
//! Between a look at a name and what is done with it others can exchange what is there. So a
//! file is first renamed, which takes whatever is there then, and looked at afterwards; what
//! was not meant goes back.
//!
//! To another file system a file goes in four steps, each of which can be the last one before
//! the same is tried again:
//!
//! ```text
//! copy -> claim the source -> give the copy its name -> remove the source
//! ```
//!
//! The copy and the source have names of their own until then, so that nothing has to be taken
//! for one of them because it looks like it.

use super::copy::copy;
use super::place::{Entry, look, make, numbered, stat, sync, temporary};
use super::reason::{self, Reason};
use super::{Order, Settled};
use crate::job::file_reason;
use crate::kernel::object::Object;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, RenameFlags, renameat2};
use nix::sys::stat::{fstat, mode_t};
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
    if order.is_repeated && is_claimed(order, &source)? {
        return go_on_with_claimed(order, &source, go_on);
    }
    if look(&source.dir, &source.name).map_err(stays("cannot look at it"))?.as_ref() != Some(&order.file) {
        discard_copy(order);
        return Ok(gone_or_changed(&source));
    }
    let Some(target) = Target::of(order)? else { return remove(order, &source) };
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

/// What became of a file that is not as it was.
fn gone_or_changed(source: &Entry) -> Settled {
    match look(&source.dir, &source.name) {
        Ok(None) => Settled::Gone,
        _ => changed(source),
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

impl<'o> Target<'o> {
    /// `None` if the file is to be removed.
    fn of(order: &'o Order) -> Result<Option<Self>, Settled> {
        let Some(to) = &order.to else { return Ok(None) };
        let what = format!("cannot move it to {to}");
        match make(to.as_bytes()) {
            Ok(dir) => Ok(Some(Self { order, dir, what })),
            Err(errno) => Err(Settled::Stays(format!("{what}: {}", file_reason(errno)))),
        }
    }

    fn fails(&self, errno: Errno) -> Settled {
        let why = match errno {
            Errno::EEXIST => "there are too many files of its name".to_owned(),
            Errno::EACCES => {
                let why = file_reason(errno);
                format!("{why}, or not take it away from where it is")
            }
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
        let mode = stat(from, name)?.st_mode;
        let wanted = if self.order.reason.is_some() { reason::with_room(wanted) } else { wanted.to_owned() };
        for number in 0..MOST {
            if number % SOME == SOME - 1 {
                go_on();
            }
            let new = numbered(&wanted, number);
            if look(&self.dir, &new)?.is_some() {
                continue;
            }
            let reason = match self.write_reason(&new, mode) {
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

    /// Whoever may read the file may read its reason.
    fn write_reason(&self, name: &OsStr, mode: mode_t) -> Result<Option<Reason<'_>>, Errno> {
        let text = self.order.reason.as_deref();
        text.map(|text| Reason::write(&self.dir, name, text, (&self.order.tag, mode))).transpose()
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
        if let Ok(Some(reason)) = self.write_reason(name, 0) {
            reason.remove();
        }
    }

    /// Copies the file, and removes it then.
    fn take_copy(&self, source: &Entry, go_on: &mut dyn FnMut()) -> Result<Settled, Settled> {
        let copied =
            source.hold().and_then(|held| copy(&held, &self.dir, &temporary(&self.order.tag), go_on));
        let claimed = match copied {
            Ok(()) => {
                sync(&self.dir);
                claim(self.order, source).map_err(|errno| self.fails(errno))
            }
            Err(Errno::EINVAL) => {
                Err(Settled::Stays(format!("{}: it is no file, and on another file system", self.what)))
            }
            Err(errno) => Err(self.fails(errno)),
        };
        if claimed == Ok(Claimed::It) {
            return self.publish_copy(source, go_on);
        }
        self.discard();
        claimed.map(|_| gone_or_changed(source))
    }

    /// The file was claimed, and its copy is whole.
    fn publish_copy(&self, source: &Entry, go_on: &mut dyn FnMut()) -> Result<Settled, Settled> {
        if let Err(errno) = self.publish(&self.dir, &temporary(&self.order.tag), &source.name, go_on) {
            self.discard();
            give_back(self.order, source).map_err(|errno| self.fails(errno))?;
            return Err(self.fails(errno));
        }
        sync(&self.dir);
        remove_claimed(self.order, source).map_err(|errno| self.fails(errno)).map(|()| Settled::Moved)
    }

    /// The copy is not needed.
    fn discard(&self) {
        let _ = unlinkat(&self.dir, &*temporary(&self.order.tag), UnlinkatFlags::NoRemoveDir);
    }
}

/// An earlier attempt may have left a part of a copy.
fn discard_copy(order: &Order) {
    if order.is_repeated
        && let Ok(Some(target)) = Target::of(order)
    {
        target.discard();
    }
}

/// What a name led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claimed {
    It,
    /// To another file, or to a change of it, or to nothing.
    Other,
}

/// Gives the file a name under which nobody replaces it. Another file gets its name back.
fn claim(order: &Order, source: &Entry) -> Result<Claimed, Errno> {
    let claimed = temporary(&order.tag);
    match rename(&source.dir, &source.name, &source.dir, &claimed) {
        Err(Errno::ENOENT) => return Ok(Claimed::Other),
        result => result?,
    }
    match look(&source.dir, &claimed)? {
        Some(found) if found.is_same_content(&order.file) => Ok(Claimed::It),
        _ => give_back(order, source).map(|()| Claimed::Other),
    }
}

/// A file that was claimed gets its name back, or one beside it if that is taken by now.
fn give_back(order: &Order, source: &Entry) -> Result<(), Errno> {
    for number in 0..MOST {
        let name = numbered(&source.name, number);
        match rename(&source.dir, &temporary(&order.tag), &source.dir, &name) {
            Err(Errno::EEXIST) => {}
            Err(Errno::ENOENT) => return Ok(()),
            result => return result,
        }
    }
    Err(Errno::EEXIST)
}

/// Removes a file that was claimed; where that cannot be, it gets its name back.
fn remove_claimed(order: &Order, source: &Entry) -> Result<(), Errno> {
    unlinkat(&source.dir, &*temporary(&order.tag), UnlinkatFlags::NoRemoveDir).inspect_err(|_| {
        // It is not lost under the other name, either.
        let _ = give_back(order, source);
    })
}

/// `done=delete`
fn remove(order: &Order, source: &Entry) -> Result<Settled, Settled> {
    match claim(order, source).map_err(stays("cannot remove it"))? {
        Claimed::It => {
            remove_claimed(order, source).map_err(stays("cannot remove it")).map(|()| Settled::Moved)
        }
        Claimed::Other => Ok(gone_or_changed(source)),
    }
}

/// Whether an earlier attempt has claimed the file. Under its own name it is not there then.
fn is_claimed(order: &Order, source: &Entry) -> Result<bool, Settled> {
    let look = |name: &OsStr| look(&source.dir, name).map_err(stays("cannot look at it"));
    let is_it = look(&temporary(&order.tag))?.is_some_and(|found| found.is_same_content(&order.file));
    Ok(is_it && !look(&source.name)?.is_some_and(|found| found.is_same_file(&order.file)))
}

/// Goes on where an earlier attempt has claimed the file: if there is a copy under its own name, it
/// is whole.
fn go_on_with_claimed(order: &Order, source: &Entry, go_on: &mut dyn FnMut()) -> Result<Settled, Settled> {
    if let Some(target) = Target::of(order)?
        && look(&target.dir, &temporary(&order.tag)).map_err(|errno| target.fails(errno))?.is_some()
    {
        return target.publish_copy(source, go_on);
    }
    remove_claimed(order, source).map_err(stays("cannot remove it")).map(|()| Settled::Moved)
}

#[cfg(test)]
mod tests;
