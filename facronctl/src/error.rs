//! The errors of the client, with their messages and exit statuses.

use crate::format::{path_text, safe_block};
use crate::terminal::Terminal;
use facron_proto::rpc::{self, Code};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// No daemon (`EX_UNAVAILABLE` of sysexits(3)).
const UNAVAILABLE: u8 = 69;
/// Not permitted (`EX_NOPERM` of sysexits(3)).
const NOT_PERMITTED: u8 = 77;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot reach the daemon at {}: {}", path_text(.socket), way_out(.socket, .source))]
    Unreachable { socket: PathBuf, source: io::Error },
    #[error("the daemon at {} has closed the connection (did it stop? see its log)", path_text(.socket))]
    Closed { socket: PathBuf },
    #[error("lost the connection to the daemon at {}: {source}", path_text(.socket))]
    Lost { socket: PathBuf, source: io::Error },
    #[error("{0}")]
    Refused(rpc::Error),
    #[error("what the daemon says makes no sense: {0} (are facrond and facronctl of the same version?)")]
    Protocol(serde_json::Error),
    #[error("cannot tell the current directory: {0} (give an absolute path)")]
    CurrentDirectory(io::Error),
    #[error("cannot write {}: {source}", path_text(.path))]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

fn way_out(socket: &Path, error: &io::Error) -> String {
    let start =
        if socket.starts_with("/run/facron") { "systemctl start facrond" } else { "facrond starts it" };
    match error.kind() {
        ErrorKind::NotFound => format!("no such file (is facrond running? {start})"),
        ErrorKind::ConnectionRefused => format!("nobody listens on it (has facrond died? {start})"),
        ErrorKind::PermissionDenied => {
            "permission denied (become root; members of the group facron may read)".to_owned()
        }
        _ => error.to_string(),
    }
}

impl Error {
    /// Prints the error on standard error. A closed pipe at standard output is not reported.
    pub(crate) fn report(&self, terminal: &mut Terminal<'_>) {
        let diagnostics = match self {
            Self::Output(error) if error.kind() == ErrorKind::BrokenPipe => return,
            Self::Refused(error) => error.diagnostics(),
            _ => Vec::new(),
        };
        // if standard error is closed, there is no place left for a report
        let _ = diagnostics.iter().try_for_each(|diagnostic| terminal.diagnostic(diagnostic));
        let _ = writeln!(terminal.err, "facronctl: {}", safe_block(&self.to_string()));
    }

    fn status(&self) -> u8 {
        match self {
            Self::Unreachable { source, .. } if source.kind() == ErrorKind::PermissionDenied => NOT_PERMITTED,
            Self::Unreachable { .. } | Self::Closed { .. } | Self::Lost { .. } => UNAVAILABLE,
            Self::Refused(error) if error.code == Code::NOT_PERMITTED => NOT_PERMITTED,
            Self::Output(error) if error.kind() == ErrorKind::BrokenPipe => 0,
            Self::Refused(_)
            | Self::Protocol(_)
            | Self::CurrentDirectory(_)
            | Self::Write { .. }
            | Self::Output(_) => 1,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        self.status().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreachable_names_the_socket_and_the_way_out() {
        let error = Error::Unreachable {
            socket: "/run/facron/control.sock".into(),
            source: ErrorKind::NotFound.into(),
        };
        assert_eq!(
            error.to_string(),
            "cannot reach the daemon at /run/facron/control.sock: no such file (is facrond running? systemctl start facrond)"
        );
    }

    #[test]
    fn each_kind_has_its_exit_status() {
        let unreachable = |kind: ErrorKind| Error::Unreachable { socket: "/s".into(), source: kind.into() };
        let refused = |code| Error::Refused(rpc::Error::new(code, ""));
        for (error, status) in [
            (unreachable(ErrorKind::NotFound), 69),
            (unreachable(ErrorKind::ConnectionRefused), 69),
            (unreachable(ErrorKind::PermissionDenied), 77),
            (Error::Closed { socket: "/s".into() }, 69),
            (refused(Code::NOT_PERMITTED), 77),
            (refused(Code::NO_SUCH_RULE), 1),
            (Error::Output(ErrorKind::BrokenPipe.into()), 0),
            (Error::Output(ErrorKind::StorageFull.into()), 1),
        ] {
            assert_eq!(error.status(), status, "{error:?}");
        }
    }
}
