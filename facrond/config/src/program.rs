//! Whether a rule's program exists.
//!
//! It may be installed later, so this is only a warning. A program on a file system whose
//! server may not answer is not checked.

use super::diagnostic::{show, show_path};
use super::mountinfo::Mounts;
use super::rule::{Command, RuleSpec, SEARCH_PATH};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The present problem with the program, and a correction.
pub(super) fn missing(spec: &RuleSpec, mounts: &Mounts) -> Option<(String, String)> {
    let Command::Exec { program, .. } = &spec.command else { return None };
    if !program.as_bytes().starts_with(b"/") {
        let search = search_path(spec);
        let mut dirs = search.as_bytes().split(|byte| *byte == b':');
        let may_be_in = |dir| {
            let path = Path::new(OsStr::from_bytes(dir)).join(program);
            mounts.needs_server(&path) || fs::metadata(path).is_ok_and(|metadata| is_executable(&metadata))
        };
        if dirs.any(may_be_in) {
            return None;
        }
        let message = format!("no program `{}` is in PATH", show(program.as_bytes()));
        return Some((
            message,
            format!("PATH is `{}`; install it, or write its path", show(search.as_bytes())),
        ));
    }
    let path = Path::new(program);
    if mounts.needs_server(path) {
        return None;
    }
    let why = match fs::metadata(path) {
        Ok(metadata) if is_executable(&metadata) => return None,
        Ok(metadata) if metadata.is_dir() => "is a directory",
        Ok(_) => "is not executable",
        Err(_) => "does not exist",
    };
    let message = format!("the program `{}` {why}", show_path(path));
    Some((message, "the rule fails to run it until that changes".to_owned()))
}

fn search_path(spec: &RuleSpec) -> &OsStr {
    let path = spec.options.env.iter().rfind(|(name, _)| name == "PATH");
    path.map_or(OsStr::new(SEARCH_PATH), |(_, value)| value.as_os_str())
}

fn is_executable(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
}
