//! The events of fanotify(7) as a set, and facron's own `ARRIVED`.
//!
//! The bits are the kernel's, so that a record's mask needs no translation;
//! `ARRIVED` uses a bit that the kernel has no event for.

use nix::libc;
use std::fmt;

/// A set of events and of the flags `FAN_ONDIR` and `FAN_EVENT_ON_CHILD`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Events(u64);

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)*) => {
        impl Events {
            $($(#[$doc])* pub const $name: Self = Self($value);)*
        }
    };
}

events! {
    ACCESS = libc::FAN_ACCESS;
    MODIFY = libc::FAN_MODIFY;
    ATTRIB = libc::FAN_ATTRIB;
    /// A file that was open for writing was closed.
    CLOSE_WRITE = libc::FAN_CLOSE_WRITE;
    /// A file or directory that was not open for writing was closed.
    CLOSE_NOWRITE = libc::FAN_CLOSE_NOWRITE;
    /// A file or directory was opened.
    OPEN = libc::FAN_OPEN;
    /// A file was opened to be executed.
    OPEN_EXEC = libc::FAN_OPEN_EXEC;
    /// An entry was moved out of a directory.
    MOVED_FROM = libc::FAN_MOVED_FROM;
    /// An entry was moved into a directory.
    MOVED_TO = libc::FAN_MOVED_TO;
    CREATE = libc::FAN_CREATE;
    DELETE = libc::FAN_DELETE;
    /// The watched file or directory itself was deleted.
    DELETE_SELF = libc::FAN_DELETE_SELF;
    /// The watched file or directory itself was moved.
    MOVE_SELF = libc::FAN_MOVE_SELF;
    /// An entry was renamed. The record has both names.
    RENAME = libc::FAN_RENAME;
    Q_OVERFLOW = libc::FAN_Q_OVERFLOW;
    /// A file system reported an error.
    FS_ERROR = libc::FAN_FS_ERROR;
    MNT_ATTACH = 0x0100_0000;
    MNT_DETACH = 0x0200_0000;
    OPEN_PERM = libc::FAN_OPEN_PERM;
    ACCESS_PERM = libc::FAN_ACCESS_PERM;
    /// Permission to open for execution.
    OPEN_EXEC_PERM = libc::FAN_OPEN_EXEC_PERM;
    /// Permission before content is accessed.
    PRE_ACCESS = 0x0010_0000;
    /// Flag: also events whose object is a directory.
    ONDIR = libc::FAN_ONDIR;
    /// Flag: also events of the entries of a directory.
    EVENT_ON_CHILD = libc::FAN_EVENT_ON_CHILD;
    /// facron's own: a file became complete under its name.
    ARRIVED = 1 << 62;
    NONE = 0;
    CLOSE = libc::FAN_CLOSE_WRITE | libc::FAN_CLOSE_NOWRITE;
    MOVE = libc::FAN_MOVED_FROM | libc::FAN_MOVED_TO;
    ALL_EVENTS = Self::CLOSE.0 | libc::FAN_ACCESS | libc::FAN_MODIFY | libc::FAN_OPEN;
    ALL_PERM_EVENTS = libc::FAN_OPEN_PERM | libc::FAN_ACCESS_PERM;
    ALL_OUTGOING_EVENTS = Self::ALL_EVENTS.0 | Self::ALL_PERM_EVENTS.0 | libc::FAN_Q_OVERFLOW;
    /// Events that make the process that causes them wait for an answer.
    PERMISSION = Self::ALL_PERM_EVENTS.0 | libc::FAN_OPEN_EXEC_PERM | Self::PRE_ACCESS.0;
    /// Events of the entries of a directory, reported by the directory's mark.
    ENTRY = Self::MOVE.0 | libc::FAN_CREATE | libc::FAN_DELETE | libc::FAN_RENAME;
    /// Events of the watched file or directory itself.
    SELF = libc::FAN_DELETE_SELF | libc::FAN_MOVE_SELF;
    /// Events of an object's content or metadata.
    OBJECT = Self::ALL_EVENTS.0 | libc::FAN_ATTRIB | libc::FAN_OPEN_EXEC;
    /// Flags that modify events and are no events.
    FLAGS = libc::FAN_ONDIR | libc::FAN_EVENT_ON_CHILD;
}

/// The names in the order of display, and their meanings.
const NAMES: &[(&str, Events, &str)] = &[
    ("FAN_ACCESS", Events::ACCESS, "A file was read."),
    ("FAN_MODIFY", Events::MODIFY, "A file was written."),
    (
        "FAN_ATTRIB",
        Events::ATTRIB,
        "Metadata changed: mode, owner, times, extended attributes, number of links.",
    ),
    ("FAN_CLOSE_WRITE", Events::CLOSE_WRITE, "A file that was open for writing was closed."),
    ("FAN_CLOSE_NOWRITE", Events::CLOSE_NOWRITE, "A file that was open for reading only was closed."),
    ("FAN_OPEN", Events::OPEN, "A file was opened."),
    ("FAN_OPEN_EXEC", Events::OPEN_EXEC, "A file was opened to be executed."),
    (
        "FAN_MOVED_FROM",
        Events::MOVED_FROM,
        "An entry of a directory was renamed or moved away; the path is the old one.",
    ),
    (
        "FAN_MOVED_TO",
        Events::MOVED_TO,
        "An entry of a directory got its name by renaming or moving; the path is the new one.",
    ),
    ("FAN_CREATE", Events::CREATE, "An entry of a directory was made."),
    ("FAN_DELETE", Events::DELETE, "An entry of a directory was removed."),
    ("FAN_DELETE_SELF", Events::DELETE_SELF, "What is at PATH was deleted."),
    ("FAN_MOVE_SELF", Events::MOVE_SELF, "What is at PATH was moved."),
    ("FAN_RENAME", Events::RENAME, "An entry was renamed; `$<` is the old path and `$$` the new one."),
    (
        "FAN_Q_OVERFLOW",
        Events::Q_OVERFLOW,
        "The kernel's queue overflowed and events were lost. The rule fires once for each overflow; `$$` is PATH.",
    ),
    (
        "FAN_FS_ERROR",
        Events::FS_ERROR,
        "The file system that PATH is on found an error in itself; `$$` is PATH. Linux 5.16, for root, on file systems that tell.",
    ),
    (
        "FAN_MNT_ATTACH",
        Events::MNT_ATTACH,
        "Something was mounted at or anywhere below PATH; `$$` is the mount point. A mount that is moved is both attached and detached, and `$<` the mount point before. Linux 6.14, for root.",
    ),
    (
        "FAN_MNT_DETACH",
        Events::MNT_DETACH,
        "Something was unmounted at or anywhere below PATH; `$$` is the mount point. Linux 6.14, for root.",
    ),
    ("FAN_OPEN_PERM", Events::OPEN_PERM, "Permission to open."),
    ("FAN_ACCESS_PERM", Events::ACCESS_PERM, "Permission to read."),
    ("FAN_OPEN_EXEC_PERM", Events::OPEN_EXEC_PERM, "Permission to open for execution."),
    ("FAN_PRE_ACCESS", Events::PRE_ACCESS, "Permission before content is accessed."),
    (
        "FAN_EVENT_ON_CHILD",
        Events::EVENT_ON_CHILD,
        "Flag: also what happens to the entries of a directory. Implied for a directory unless the line has `FAN_ONDIR`.",
    ),
    ("FAN_ONDIR", Events::ONDIR, "Flag: also events of directories."),
    (
        "ARRIVED",
        Events::ARRIVED,
        "facron's own: a file became complete under its name: closed after writing, moved in, or linked in.",
    ),
];

/// Names of several events together.
const UNIONS: &[(&str, Events, &str)] = &[
    ("FAN_CLOSE", Events::CLOSE, "`FAN_CLOSE_WRITE` and `FAN_CLOSE_NOWRITE`."),
    ("FAN_MOVE", Events::MOVE, "`FAN_MOVED_FROM` and `FAN_MOVED_TO`."),
    (
        "FAN_ALL_EVENTS",
        Events::ALL_EVENTS,
        "`FAN_ACCESS`, `FAN_MODIFY`, `FAN_CLOSE` and `FAN_OPEN`, as in `<linux/fanotify.h>`.",
    ),
    ("FAN_ALL_PERM_EVENTS", Events::ALL_PERM_EVENTS, "`FAN_OPEN_PERM` and `FAN_ACCESS_PERM`."),
    (
        "FAN_ALL_OUTGOING_EVENTS",
        Events::ALL_OUTGOING_EVENTS,
        "`FAN_ALL_EVENTS`, `FAN_ALL_PERM_EVENTS` and `FAN_Q_OVERFLOW`.",
    ),
];

impl Events {
    /// The set with these bits of a kernel mask.
    pub const fn from_mask(mask: u64) -> Self {
        Self(mask)
    }

    /// All bits, for [`Events::from_mask`].
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The bits for the kernel, without facron's own.
    pub const fn mask(self) -> u64 {
        self.0 & !Self::ARRIVED.0
    }

    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the sets have a member in common.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether all members of the other set are in this one.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set has no members.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The events with this name, in upper or lower case, with or without `FAN_`.
    pub fn named(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("FAN_").unwrap_or(&upper);
        NAMES.iter().chain(UNIONS).find_map(|(known, events, _)| {
            let is_it = known.strip_prefix("FAN_").map_or(upper == *known, |known| known == bare);
            is_it.then_some(*events)
        })
    }

    /// Each name that [`Events::named`] knows, and its meaning, for suggestions and the manual.
    pub(crate) fn reference() -> impl Iterator<Item = (&'static str, &'static str)> {
        NAMES.iter().chain(UNIONS).map(|(name, _, help)| (*name, *help))
    }

    /// The name of each member.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().filter(move |(_, events, _)| self.intersects(*events)).map(|(name, ..)| *name)
    }
}

impl fmt::Display for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.names().enumerate() {
            if i > 0 {
                f.write_str("|")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_case_with_or_without_prefix() {
        for name in ["FAN_CLOSE_WRITE", "fan_close_write", "close_write", "Close_Write"] {
            assert_eq!(Events::named(name), Some(Events::CLOSE_WRITE), "{name}");
        }
        assert_eq!(Events::named("arrived"), Some(Events::ARRIVED));
        assert_eq!(Events::named("FAN_ARRIVED"), None);
        assert_eq!(Events::named("FAN_FAN_OPEN"), None);
        assert_eq!(Events::named("FAN_MODIFI"), None);
    }

    #[test]
    fn unions_are_those_of_the_header() {
        assert_eq!(Events::named("FAN_ALL_EVENTS").map(Events::mask), Some(0x3b));
        assert_eq!(Events::named("FAN_ALL_OUTGOING_EVENTS").map(Events::mask), Some(0x3403b));
    }

    #[test]
    fn shown_as_written() {
        let set = Events::MODIFY.with(Events::EVENT_ON_CHILD).with(Events::ARRIVED);
        assert_eq!(set.to_string(), "FAN_MODIFY|FAN_EVENT_ON_CHILD|ARRIVED");
        assert_eq!(set.mask(), 0x0800_0002);
    }
}
