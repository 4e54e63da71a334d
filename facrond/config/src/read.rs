//! From files to lines: which files are read, in which order, and `@include`.
//!
//! Each file is read once, however often it is named. So neither a cycle nor a pyramid of
//! includes can grow without bounds.

use super::blind::blind_spot_of;
use super::diagnostic::{Diagnostic, Line, Problems, show, show_path};
use super::include::{self, Directive};
use super::lex::Word;
use super::lines::{Lines, is_comment};
use super::mountinfo::Mounts;
use super::program::Checked;
use super::rule::Options;
use super::trust::{Refusal, Trust, Untrusted};
use super::{Loaded, Located, parse, program};
use facron_proto::Severity;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The longest logical line, in bytes.
const LINE: usize = 1 << 20;
/// The largest file, in bytes.
const FILE: u64 = 16 << 20;
/// The largest size of all files together, in bytes.
const TOTAL: u64 = 64 << 20;
/// The greatest depth of includes.
const DEPTH: usize = 16;

/// One reading of the whole configuration.
#[derive(Default)]
pub(super) struct Reader {
    rules: Vec<Located>,
    files: Vec<PathBuf>,
    problems: Problems,
    names: HashMap<String, (Rc<Path>, u32)>,
    /// The options of the last rule.
    options: Rc<Options>,
    /// The file that is being read, after the files that include it.
    chain: Vec<(FileId, Rc<Path>)>,
    seen: HashSet<FileId>,
    total: u64,
    /// The mounts, read when the first rule needs them.
    mounts: OnceCell<Mounts>,
    checked: Checked,
}

/// The numbers of device and inode.
type FileId = (u64, u64);

/// The reason why a file is read.
#[derive(Clone, Copy)]
pub(super) enum Because<'a> {
    /// The caller has named it. It must exist.
    Named,
    /// It is a default that need not exist.
    Default,
    /// It is in the configuration directory.
    Listed,
    /// An `@include` at this place names it.
    Included(&'a Line<'a>, &'a Range<usize>),
}

impl Reader {
    pub(super) fn finish(self) -> Loaded {
        Loaded { rules: self.rules, files: self.files, diagnostics: self.problems.into_diagnostics() }
    }

    /// Reads `*.conf` in a directory in byte order of the names, without hidden files.
    pub(super) fn read_dir(&mut self, dir: &Path) {
        let names = fs::read_dir(dir).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()
        });
        let mut names = match names {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                let message = format!("`{}` cannot be read: {}", show_path(dir), describe(&error));
                return self.problems.push(Diagnostic::of_file(Severity::Error, dir, message));
            }
        };
        names.retain(|name| is_configuration(name));
        names.sort();
        for name in names {
            self.read(&dir.join(name), Because::Listed);
        }
    }

    /// Reads a file, and the files that it includes.
    pub(super) fn read(&mut self, path: &Path, because: Because<'_>) {
        let (id, text) = match self.contents(path, because) {
            Ok(read) => read,
            Err(Unread::Missing) if matches!(because, Because::Default) => return,
            Err(unread) => return self.problems.push(because.diagnostic(path, &unread)),
        };
        self.files.push(path.to_owned());
        let file: Rc<Path> = path.into();
        self.chain.push((id, Rc::clone(&file)));
        for (number, text) in Lines::new(&text) {
            self.line(&file, &Line { file: Some(&file), number, text });
        }
        self.chain.pop();
    }

    /// The content of a file, if it has to be read.
    fn contents(&mut self, path: &Path, because: Because<'_>) -> Result<(FileId, Vec<u8>), Unread> {
        let flags = if because.is_asked_for() { OFlag::empty() } else { OFlag::O_NONBLOCK };
        let file = File::options().read(true).custom_flags(flags.bits()).open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(Unread::Directory);
        }
        if !metadata.is_file() && !because.is_asked_for() {
            return Err(Unread::Special);
        }
        check_trust(path, &file)?;
        let id = (metadata.dev(), metadata.ino());
        if let Some(first) = self.chain.iter().position(|(open, _)| *open == id) {
            let chain = self.chain[first..].iter().map(|(_, file)| file.to_path_buf());
            return Err(Unread::Circle(chain.chain([path.to_owned()]).collect()));
        }
        if self.chain.len() >= DEPTH {
            return Err(Unread::Depth);
        }
        if !self.seen.insert(id) {
            return Err(Unread::Again);
        }
        let mut text = Vec::new();
        file.take(FILE + 1).read_to_end(&mut text)?;
        self.total += text.len() as u64;
        if text.len() as u64 > FILE || self.total > TOTAL {
            return Err(Unread::Large);
        }
        Ok((id, text))
    }

    fn line(&mut self, file: &Rc<Path>, line: &Line<'_>) {
        if is_comment(line.text) {
            return;
        }
        if line.text.len() > LINE {
            self.problems.push(line.error(0..0, "the line is longer than 1 MiB"));
            return;
        }
        if line.refuses_nul(&mut self.problems) {
            return;
        }
        match include::operand(line, &mut self.problems) {
            Directive::None => {
                let start = self.problems.len();
                self.rule(file, line);
                self.problems.sort_from(start);
            }
            Directive::Include(included) => self.include(file, line, &included),
            Directive::Wrong => {}
        }
    }

    fn rule(&mut self, file: &Rc<Path>, line: &Line<'_>) {
        let Some(pieces) = parse::split(*line, &mut self.problems) else { return };
        let Some(parsed) = parse::rule(line, &pieces, &mut self.problems) else { return };
        let mut spec = parsed.spec;
        let mounts = self.mounts.get_or_init(Mounts::read);
        let doubts = [
            (parsed.program, self.checked.program(&spec, mounts)),
            (parsed.cwd, self.checked.directory(&spec, mounts)),
            (parsed.output, program::linked_output(&spec, mounts)),
            (parsed.path, blind_spot_of(&spec, mounts)),
        ];
        for (place, problem) in doubts {
            if let Some((message, help)) = problem {
                self.problems.push(line.warning(place, message).help(help));
            }
        }
        if let (Some(name), Some(place)) = (&spec.options.name, parsed.name) {
            if let Some((file, number)) = self.names.get(name) {
                let help = format!("the rule at {}:{number} has it", show_path(file));
                self.problems.push(line.error(place, format!("the name `{name}` is taken")).help(help));
                return;
            }
            self.names.insert(name.clone(), (Rc::clone(file), line.number));
        }
        if spec.options == self.options {
            spec.options = Rc::clone(&self.options);
        } else {
            self.options = Rc::clone(&spec.options);
        }
        self.rules.push(Located { spec: Rc::new(spec), file: Rc::clone(file), line: line.number });
    }

    fn include(&mut self, from: &Path, line: &Line<'_>, file: &Word) {
        let because = Because::Included(line, &file.span);
        let dir = from.parent().unwrap_or(Path::new(""));
        if !include::is_glob(&file.bytes) {
            return self.read(&dir.join(OsStr::from_bytes(&file.bytes)), because);
        }
        match include::expand(dir, &file.bytes) {
            Ok(files) => files.iter().for_each(|file| self.read(file, because)),
            Err(why) => {
                let message = format!("`{}` {why}", show(&file.bytes));
                self.problems.push(line.error(file.span.clone(), message));
            }
        }
    }
}

/// The reason why a file is not read.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("does not exist")]
    Missing,
    #[error("cannot be read: {}", describe(.0))]
    Io(io::Error),
    #[error("is a directory")]
    Directory,
    /// It is no regular file, and the caller has not named it. To open a pipe would block.
    #[error("is not a regular file")]
    Special,
    #[error("includes itself: {}", .0.iter().map(|file| show_path(file)).collect::<Vec<_>>().join(" includes "))]
    Circle(Vec<PathBuf>),
    #[error("is included more than {DEPTH} files deep")]
    Depth,
    #[error("is too large: a file may have 16 MiB, all of them 64 MiB")]
    Large,
    #[error("was read before, and is not read again")]
    Again,
    #[error("is not read, because others could change it: {0}")]
    Untrusted(Untrusted),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Missing } else { Self::Io(error) }
    }
}

/// Whoever can change a configuration decides what is run as the user of the daemon.
fn check_trust(path: &Path, file: &File) -> Result<(), Unread> {
    let stat = fstat(file).map_err(io::Error::from)?;
    match Trust::own().file(path, Some(&stat)) {
        Err(Refusal::Untrusted(untrusted)) => Err(Unread::Untrusted(untrusted)),
        // An open descriptor of our own, such as a pipe, which no path leads to.
        Ok(()) | Err(Refusal::Io(Errno::ENOENT)) => Ok(()),
        Err(Refusal::Io(errno)) => Err(Unread::Io(errno.into())),
    }
}

impl Unread {
    fn severity(&self) -> Severity {
        if matches!(self, Self::Again) { Severity::Warning } else { Severity::Error }
    }

    fn help(&self) -> Option<&'static str> {
        match self {
            Self::Missing => Some("make it, or write a glob, which may match nothing"),
            Self::Directory => Some("write `DIRECTORY/*.conf` for the files in it"),
            Self::Circle(_) | Self::Again => Some("leave this `@include` out"),
            _ => None,
        }
    }
}

impl Because<'_> {
    /// Whether the user of the program has named the file.
    fn is_asked_for(self) -> bool {
        matches!(self, Self::Named | Self::Default)
    }

    fn diagnostic(self, path: &Path, unread: &Unread) -> Diagnostic {
        let message = format!("`{}` {unread}", show_path(path));
        let diagnostic = match (self, unread.severity()) {
            (Self::Included(line, place), Severity::Error) => line.error(place.clone(), message),
            (Self::Included(line, place), Severity::Warning) => line.warning(place.clone(), message),
            (_, severity) => Diagnostic::of_file(severity, path, message),
        };
        let help = match (self, unread) {
            (_, Unread::Untrusted(untrusted)) => Some(untrusted.help()),
            (Self::Included(..), _) => unread.help().map(str::to_owned),
            _ => None,
        };
        help.into_iter().fold(diagnostic, Diagnostic::help)
    }
}

fn is_configuration(name: &OsStr) -> bool {
    name.as_bytes().ends_with(b".conf") && !name.as_bytes().starts_with(b".")
}

/// The system's message for an error, without its number.
fn describe(error: &io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |errno| Errno::from_raw(errno).desc().to_lowercase())
}
