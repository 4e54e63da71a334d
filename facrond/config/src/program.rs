//! A rule's program, working directory and output: whether the program exists, whether others
//! could change what is run, and whether the output can be written.
//!
//! All may change later, so these are only warnings. What is on a file system whose server may
//! not answer is not checked.

use super::blind::blind_spot_of;
use super::diagnostic::{Diagnostic, show, show_path};
use super::mountinfo::Mounts;
use super::rule::{Command, RuleSpec, SEARCH_PATH};
use super::trust::{Missing, Refusal, Trust, Writers};
use facron_proto::Severity;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A message and a correction.
pub(super) type Problem = (String, String);

/// The program's path, which is `None` if it is not checked, or the problem with it.
fn find(spec: &RuleSpec, mounts: &Mounts) -> Result<Option<PathBuf>, Problem> {
    let Command::Exec { program, .. } = &spec.command else { return Ok(None) };
    let path = Path::new(program);
    if path.is_absolute() {
        if mounts.needs_server(path) {
            return Ok(None);
        }
        let why = match fs::metadata(path) {
            Ok(metadata) if is_executable(&metadata) => return Ok(Some(path.to_owned())),
            Ok(metadata) if metadata.is_dir() => "is a directory",
            Ok(_) => "is not executable",
            Err(_) => "does not exist",
        };
        let message = format!("the program `{}` {why}", show_path(path));
        return Err((message, "the rule fails to run it until that changes".to_owned()));
    }
    let search = search_path(spec);
    for dir in search.as_bytes().split(|byte| *byte == b':') {
        let path = Path::new(OsStr::from_bytes(dir)).join(program);
        if mounts.needs_server(&path) {
            return Ok(None);
        }
        if fs::metadata(&path).is_ok_and(|metadata| is_executable(&metadata)) {
            return Ok(Some(path));
        }
    }
    let message = format!("no program `{}` is in PATH", show(program.as_bytes()));
    Err((message, format!("PATH is `{}`; install it, or write its path", show(search.as_bytes()))))
}

fn search_path(spec: &RuleSpec) -> &OsStr {
    let path = spec.options.env.iter().rfind(|(name, _)| name == "PATH");
    path.map_or(OsStr::new(SEARCH_PATH), |(_, value)| value.as_os_str())
}

fn is_executable(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
}

/// What was found out about programs and directories. Many rules have the same.
#[derive(Default)]
pub(super) struct Checked {
    /// By program and PATH.
    found: HashMap<(OsString, OsString), Result<Option<PathBuf>, Problem>>,
    /// By path and the user of the rule.
    trusted: HashMap<(PathBuf, Option<u32>), Option<Problem>>,
}

impl Checked {
    /// The present problem with the program.
    pub(super) fn program(&mut self, spec: &RuleSpec, mounts: &Mounts) -> Option<Problem> {
        let Command::Exec { program, .. } = &spec.command else { return None };
        let found = self.found.entry((program.clone(), search_path(spec).to_owned()));
        match found.or_insert_with(|| find(spec, mounts)).clone() {
            Ok(path) => self.trust(spec, &path?, |trust, path| trust.file(path, None)),
            Err(problem) => Some(problem),
        }
    }

    /// The present problem with the directory of `cwd=`.
    pub(super) fn directory(&mut self, spec: &RuleSpec, mounts: &Mounts) -> Option<Problem> {
        let path = spec.options.cwd.as_deref().filter(|path| !mounts.needs_server(path))?;
        self.trust(spec, path, |trust, path| {
            trust.directory(path, Writers::AllIfSticky, Missing::Fail).map(drop)
        })
    }

    fn trust(
        &mut self,
        spec: &RuleSpec,
        path: &Path,
        check: impl Fn(&Trust, &Path) -> Result<(), Refusal>,
    ) -> Option<Problem> {
        let user = spec.options.account.as_ref().map(|account| account.uid);
        let checked = self.trusted.entry((path.to_owned(), user));
        let problem = checked.or_insert_with(|| match check(&Trust::own().and(user), path) {
            Err(Refusal::Untrusted(untrusted)) => {
                let message = format!("others could change `{}`: {untrusted}", show_path(path));
                Some((message, untrusted.help()))
            }
            Ok(()) | Err(Refusal::Io(_)) => None,
        });
        problem.clone()
    }
}

/// The problem with a file of `output=` that only symbolic links lead to.
pub(super) fn linked_output(spec: &RuleSpec, mounts: &Mounts) -> Option<Problem> {
    let path = spec.options.output.file()?;
    let real = mounts.real(path);
    (real != path).then(|| {
        let message = format!("`output=` follows no symbolic links, as there are on `{}`", show_path(path));
        (message, format!("write `{}`", show_path(&real)))
    })
}

/// Warnings about the paths of a rule that is not in a file.
pub fn path_warnings(spec: &RuleSpec) -> impl Iterator<Item = Diagnostic> {
    let (mounts, mut checked) = (Mounts::read(), Checked::default());
    // A program that does not exist may be installed later.
    let program = find(spec, &mounts).is_ok().then(|| checked.program(spec, &mounts)).flatten();
    let directory = checked.directory(spec, &mounts);
    let problems = [program, directory, linked_output(spec, &mounts), blind_spot_of(spec, &mounts)];
    let warning = |(message, help)| Diagnostic::of_words(Severity::Warning, message).help(help);
    problems.into_iter().flatten().map(warning)
}
