//! Why a command was not started, in one sentence.

use super::outcome::Outcome;
use crate::config::rule::Options;
use crate::kernel::spawn::{SpawnError, Step};
use facron_proto::Text;
use nix::errno::Errno;
use std::ffi::{CStr, NulError, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use thiserror::Error;

#[derive(Debug, Error)]
pub(super) enum StartError {
    #[error("cannot pass a NUL byte to a command, be it in an argument, its environment or its directory")]
    Nul(#[from] NulError),
    #[error("cannot make a pipe for the output: {}", reason(*.0))]
    Pipe(Errno),
    #[error("cannot append the output to {path}: {}", file_reason(*.errno))]
    File { path: Text, errno: Errno },
    #[error("cannot prepare the standard input: {0}")]
    Input(io::Error),
    #[error("its file is gone, or was replaced")]
    Replaced,
    #[error("the kernel does not tell which file it was")]
    Unidentified,
    #[error("it is not a regular file")]
    Irregular,
    #[error("cannot open the file for standard input: {}", file_reason(*.0))]
    NoInput(Errno),
    #[error("cannot start a process for {program}: {}", reason(*.errno))]
    Clone { program: Text, errno: Errno },
    #[error("cannot run {program} as {user}: {}", account_reason(*.errno))]
    Account { program: Text, user: Text, errno: Errno },
    #[error("cannot run {program}: it did not start within {limit} s: {why}")]
    Late { program: Text, limit: u64, why: &'static str },
    #[error("cannot run {program}: {why}")]
    Exec { program: Text, errno: Option<Errno>, why: String },
}

impl StartError {
    /// What `error` means for this program and these options.
    pub(super) fn from_spawn(error: SpawnError, program: &CStr, options: &Options) -> Self {
        let errno = error.errno;
        let name = Text::from(program.to_bytes());
        match error.step {
            Step::Clone => Self::Clone { program: name, errno },
            Step::Directory => {
                let cwd = options.cwd.as_deref().map(|cwd| Text::from(cwd.as_os_str().as_bytes()));
                let why = format!("cannot enter {}: {}", cwd.unwrap_or_default(), reason(errno));
                Self::Exec { program: name, errno: None, why }
            }
            Step::Credentials => {
                let user = options.account.as_ref().map(|account| Text::from(account.user.name.as_str()));
                Self::Account { program: name, user: user.unwrap_or_default(), errno }
            }
            Step::Output => {
                let path = options.output.file().map(|path| Text::from(path.as_os_str().as_bytes()));
                Self::File { path: path.unwrap_or_default(), errno }
            }
            Step::Input => match errno {
                Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ESTALE => Self::Replaced,
                Errno::ESPIPE => Self::Irregular,
                errno => Self::NoInput(errno),
            },
            Step::Nice => {
                let nice = options.nice.unwrap_or_default();
                let why = format!("cannot set nice={nice}: {}", reason(errno));
                Self::Exec { program: name, errno: None, why }
            }
            Step::Session | Step::Stdio => Self::Exec { program: name, errno: None, why: reason(errno) },
            Step::Exec => Self::Exec { errno: Some(errno), why: exec_reason(errno, program), program: name },
        }
    }
}

impl StartError {
    /// Whether it lacked something that there may be more of later.
    fn is_shortage(&self) -> bool {
        let errno = match self {
            Self::Pipe(errno)
            | Self::NoInput(errno)
            | Self::File { errno, .. }
            | Self::Clone { errno, .. }
            | Self::Account { errno, .. }
            | Self::Exec { errno: Some(errno), .. } => *errno,
            Self::Input(error) => Errno::from_raw(error.raw_os_error().unwrap_or_default()),
            _ => return false,
        };
        matches!(errno, Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN | Errno::ENOMEM)
    }
}

impl From<StartError> for Outcome {
    fn from(error: StartError) -> Self {
        let why = error.to_string();
        match error {
            StartError::Replaced | StartError::Unidentified | StartError::Irregular => Self::skipped(&why),
            error if error.is_shortage() => Self::Short { why },
            _ => Self::NotStarted { why },
        }
    }
}

/// The system's words, as part of a sentence.
fn reason(errno: Errno) -> String {
    let mut text = errno.desc().to_owned();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    text
}

fn account_reason(errno: Errno) -> String {
    match errno {
        Errno::EPERM => "only a daemon that runs as root may".to_owned(),
        Errno::EAGAIN => "the user has too many processes already".to_owned(),
        errno => reason(errno),
    }
}

pub(crate) fn file_reason(errno: Errno) -> String {
    match errno {
        Errno::ELOOP => "it is a symbolic link or below one, and links are not followed".to_owned(),
        Errno::ESPIPE => "it is not a regular file".to_owned(),
        Errno::EMLINK => "the file has a further name, and could be anybody's".to_owned(),
        Errno::EBUSY | Errno::EAGAIN => "somebody has a lease on it".to_owned(),
        Errno::EACCES => "the user of the command may not write there".to_owned(),
        errno => reason(errno),
    }
}

/// ENOENT also means that a program is there and its interpreter is not.
fn exec_reason(errno: Errno, program: &CStr) -> String {
    let is_path = program.to_bytes().contains(&b'/');
    match errno {
        Errno::ENOENT if !is_path => "there is no such program in PATH".to_owned(),
        Errno::ENOENT if Path::new(OsStr::from_bytes(program.to_bytes())).exists() => {
            "its interpreter does not exist".to_owned()
        }
        Errno::EAGAIN => "its user has too many processes already".to_owned(),
        Errno::ENOEXEC => format!("{} (a script must begin with #!)", reason(errno)),
        errno => reason(errno),
    }
}
