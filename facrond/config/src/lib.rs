//! From text to rules and diagnostics. Its only I/O is to read files and accounts.
//!
//! ```text
//! files -> read, lines: logical lines -> lex: words -> parse: RuleSpec
//!                                                      (events, options, command)
//! ```
//!
//! A line with an error is no rule. All other lines are rules, and every problem is
//! reported. The caller decides what to do: run the correct rules, or refuse a reload.
//!
//! The command line and the manual page of facrond are here too, because facronctl prints
//! both and does not link the daemon.

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "an inner crate: a comment stands where the name does not say all")]

pub mod account;
mod blind;
mod check;
pub mod cli;
mod command;
mod diagnostic;
mod event_names;
pub mod events;
pub mod fate;
pub mod filter;
pub mod fuzz;
mod include;
mod lex;
mod lines;
pub mod manual;
pub mod mountinfo;
mod options;
mod parse;
pub mod paths;
pub mod permission;
pub mod places;
pub mod process_filter;
mod program;
mod read;
pub mod route;
pub mod rule;
mod shell;
mod suggest;
#[cfg(test)]
mod tests;
pub mod trust;
pub mod when;
mod words;

pub use check::check;
pub use diagnostic::{Diagnostic, has_errors};
pub(crate) use options::samples as option_samples;
pub use program::path_warnings;
pub use words::{Words, parse_words};

use crate::paths::Paths;
use read::{Because, Reader};
use rule::RuleSpec;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The content of configuration files.
#[derive(Debug)]
pub struct Loaded {
    /// The rules of all lines without errors, in the order of reading.
    pub rules: Vec<Located>,
    /// The files that were read, also by `@include`.
    pub files: Vec<PathBuf>,
    /// All problems, in the order of reading.
    pub diagnostics: Vec<Diagnostic>,
}

/// A rule, and its place in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    pub spec: Rc<RuleSpec>,
    /// The file of the rule.
    pub file: Rc<Path>,
    /// The first line of the rule, from 1.
    pub line: u32,
}

/// Reads `conf`, then `*.conf` in `dir` in byte order of their names. `conf` must exist unless
/// it is the default.
pub fn load(conf: &Path, dir: &Path) -> Loaded {
    let mut reader = Reader::default();
    let is_default = conf == Paths::default().conf;
    reader.read(conf, if is_default { Because::Default } else { Because::Named });
    reader.read_dir(dir);
    reader.finish()
}

/// Reads these files, all of which must exist.
pub fn load_files(files: &[PathBuf]) -> Loaded {
    let mut reader = Reader::default();
    for file in files {
        reader.read(file, Because::Named);
    }
    reader.finish()
}
