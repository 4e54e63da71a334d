//! Other users than root.

use super::Place;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A user without any rights.
pub const STRANGER: u32 = 65_534;

/// The number of the group `facron` where [`with_facron_group`] is used.
pub const MEMBER_GROUP: u32 = 61_234;

/// A command run by a user without rights and in no other group than its own.
pub fn as_stranger(program: impl AsRef<OsStr>) -> Command {
    as_user(&["--clear-groups"], program)
}

/// A command run by a member of the group `facron`, and else without rights.
pub fn as_member(program: impl AsRef<OsStr>) -> Command {
    as_user(&["--groups", &MEMBER_GROUP.to_string()], program)
}

fn as_user(groups: &[&str], program: impl AsRef<OsStr>) -> Command {
    let id = STRANGER.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &id, "--regid", &id]).args(groups).arg("--").arg(program);
    command.stdin(Stdio::null());
    command
}

/// A command that sees a group `facron` in `/etc/group`, whether the system has one or not.
pub fn with_facron_group(place: &Place, command: &Command) -> Command {
    let groups = fs::read_to_string("/etc/group").unwrap();
    let mut groups: Vec<_> = groups.lines().filter(|line| !line.starts_with("facron:")).collect();
    let line = format!("facron:x:{MEMBER_GROUP}:");
    groups.push(&line);
    fs::write(place.path("group"), groups.join("\n") + "\n").unwrap();
    let mut wrapped = Command::new("unshare");
    wrapped
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            "mount --bind \"$0\" /etc/group && exec \"$@\"",
        ])
        .arg(place.path("group"))
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null());
    wrapped
}

const QUEUE_LIMIT: &str = "/proc/sys/fs/fanotify/max_queued_events";
static QUEUE: Mutex<()> = Mutex::new(());

/// The limit of users' queues, for as long as no other test may change it. A group
/// keeps the limit that it was opened with.
pub struct QueueLimit {
    before: String,
    _alone: MutexGuard<'static, ()>,
}

impl QueueLimit {
    /// As it is.
    pub fn keep() -> Self {
        let alone = QUEUE.lock().unwrap_or_else(PoisonError::into_inner);
        Self { before: fs::read_to_string(QUEUE_LIMIT).unwrap(), _alone: alone }
    }

    /// Another one, until it is dropped.
    pub fn lower_to(events: usize) -> Self {
        let limit = Self::keep();
        fs::write(QUEUE_LIMIT, events.to_string()).unwrap();
        limit
    }

    /// The number of events.
    pub fn events(&self) -> usize {
        self.before.trim().parse().unwrap()
    }
}

impl Drop for QueueLimit {
    fn drop(&mut self) {
        fs::write(QUEUE_LIMIT, &self.before).unwrap();
    }
}

impl Place {
    /// A program where every user may run it.
    pub fn for_all(&self, program: &str) -> String {
        let path = self.path(program.rsplit('/').next().unwrap());
        match fs::hard_link(program, &path) {
            Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                fs::copy(program, &path).unwrap();
            }
            // it is there already
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            linked => linked.unwrap(),
        }
        path
    }

    /// Makes a directory to play in where every user may write; returns its path.
    pub fn mkdir_for_all(&self, name: &str) -> String {
        let dir = self.mkdir(name);
        fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
        dir
    }
}

/// Gives a file or directory to the [`STRANGER`].
pub fn give(path: &str) {
    chown(path, Some(STRANGER), Some(STRANGER)).unwrap();
}
