//! `user=` and `group=`. The names are looked up when the rule is read. So an unknown name
//! is an error of its line, and the start of a command needs no look-up.

use nix::unistd::{Gid, Group, Uid, User, geteuid, getgrouplist};
use std::ffi::CString;
use std::path::PathBuf;

/// The user and groups of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub user: Login,
    pub uid: u32,
    pub gid: u32,
    /// The supplementary groups that the user has after a login.
    pub groups: Vec<u32>,
}

/// A user's entry in passwd(5), as far as the environment needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub name: String,
    pub home: PathBuf,
    pub shell: PathBuf,
}

impl Login {
    /// The entry of a user. A user without an entry has its number as name, and no home.
    pub fn of(uid: u32) -> Self {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        user.as_ref().map_or_else(|| Self::new(uid.to_string(), "/".into(), PathBuf::new()), Self::of_user)
    }

    fn of_user(user: &User) -> Self {
        Self::new(user.name.clone(), user.dir.clone(), user.shell.clone())
    }

    fn new(name: String, home: PathBuf, shell: PathBuf) -> Self {
        let shell = if shell.as_os_str().is_empty() { "/bin/sh".into() } else { shell };
        Self { name, home, shell }
    }
}

/// The user with this name, or else with this number.
pub(super) fn user(value: &[u8]) -> Result<User, String> {
    let found = text(value).and_then(|name| {
        let by_name = User::from_name(name).ok().flatten();
        by_name.or_else(|| User::from_uid(Uid::from_raw(name.parse().ok()?)).ok().flatten())
    });
    found.ok_or_else(|| "there is no such user; `getent passwd` shows those that there are".into())
}

/// The group with this name, or else with this number.
pub(super) fn group(value: &[u8]) -> Result<Gid, String> {
    let found = text(value).and_then(|name| {
        let by_name = Group::from_name(name).ok().flatten();
        by_name.or_else(|| Group::from_gid(Gid::from_raw(name.parse().ok()?)).ok().flatten())
    });
    found
        .map(|group| group.gid)
        .ok_or_else(|| "there is no such group; `getent group` shows those that there are".into())
}

fn text(value: &[u8]) -> Option<&str> {
    str::from_utf8(value).ok().filter(|name| !name.is_empty())
}

impl Account {
    /// The account for `user=` and `group=`; `None` without both. With `group=` alone the
    /// user is the daemon's own.
    pub(super) fn new(user: Option<User>, group: Option<Gid>) -> Option<Self> {
        if user.is_none() && group.is_none() {
            return None;
        }
        let user = user.or_else(|| User::from_uid(geteuid()).ok().flatten());
        let uid = user.as_ref().map_or(geteuid(), |user| user.uid);
        let gid = group.or(user.as_ref().map(|user| user.gid))?;
        let name = user.as_ref().and_then(|user| CString::new(user.name.as_str()).ok());
        let groups = name.and_then(|name| getgrouplist(&name, gid).ok()).unwrap_or_else(|| vec![gid]);
        Some(Self {
            user: user.as_ref().map_or_else(|| Login::of(uid.as_raw()), Login::of_user),
            uid: uid.as_raw(),
            gid: gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
        })
    }
}
