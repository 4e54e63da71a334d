//! What becomes of a file when its command has ended: `done=` and `failed=`.
//!
//! Files are looked at and moved by a process of our own for each rule, the *mover*. It runs as
//! the rule's user, so it can do nothing that the user may not, and whatever it waits for holds
//! up its own rule only. It is asked twice about a file: before the command starts, what is
//! there ([`Task::Note`]), and after its end, to give the file its place ([`Task::Settle`]),
//! if it is the same file and has not changed since.
//!
//! | module | owns |
//! |---|---|
//! | `process` | the mover: its requests and answers |
//! | `place` | directories by descriptor, never through links, and free names in them |
//! | `settle` | one file on its way to its place |
//! | `copy` | the same to another file system |
//! | `reason` | `NAME.facron` beside a failed file |
//!
//! A daemon can end at any time, and the mover with it. Then the next one gives the same
//! order again, with [`Order::is_repeated`]. Each step leaves behind what tells how far it came.

mod copy;
mod place;
mod process;
mod reason;
mod settle;

pub(crate) use place::is_temporary;
pub(crate) use process::run;

use facron_proto::Text;
use nix::sys::stat::FileStat;
use serde::{Deserialize, Serialize};

/// One request. They are answered in their order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Say what is at a path.
    Note(Text),
    Settle(Box<Order>),
}

/// A file that is to get its place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) path: Text,
    pub(crate) file: Identity,
    /// The directory; `None` to remove the file.
    pub(crate) to: Option<Text>,
    /// What is to be written beside it.
    pub(crate) reason: Option<String>,
    /// For the names of files on their way: no other order has it.
    pub(crate) tag: String,
    /// An earlier daemon may have got some way with it.
    pub(crate) is_repeated: bool,
}

/// What tells a file from all others, and from what it was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    size: i64,
    /// In seconds and nanoseconds.
    changed: (i64, i64),
    modified: (i64, i64),
}

/// What is at a path before its command starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Noted {
    File(Identity),
    /// Directories have no fate.
    Directory,
    Gone,
    /// Nobody knows, for this reason.
    Unknown(String),
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Settled {
    Moved,
    Gone,
    /// It is not the same any more.
    Changed,
    /// The same, and somebody still writes to it.
    Growing,
    /// It is where it was, for this reason.
    Stays(String),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It takes long, and goes on.
    Working,
    Noted(Noted),
    Settled(Settled),
}

impl Identity {
    fn of(stat: &FileStat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            changed: (stat.st_ctime, stat.st_ctime_nsec),
            modified: (stat.st_mtime, stat.st_mtime_nsec),
        }
    }

    /// Whether it is the same file with the same content. A new name changes its time.
    fn is_same_content(&self, other: &Self) -> bool {
        Self { changed: other.changed, ..self.clone() } == *other
    }

    fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}
