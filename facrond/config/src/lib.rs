//! Text to rules and diagnostics. Pure, but for reading the files.
//!
//! ```text
//! files -> read, lines: logical lines -> lex: words -> parse: RuleSpec
//!                                                      (events, options, command)
//! ```
//!
//! A line with an error is no rule; all others are, and every problem is told:
//! what to do about it (run the good rules, refuse a reload) is for the caller.
//!
//! facrond's command line and manual page are here too: facronctl prints both
//! without being linked with the daemon.

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
pub mod when;
mod words;

pub use blind::blind_spot;
pub use check::check;
pub use diagnostic::{Diagnostic, has_errors};
pub(crate) use options::samples as option_samples;
pub use words::{Words, parse_words};

use crate::paths::Paths;
use read::{Because, Reader};
use rule::RuleSpec;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What some files have in them.
#[derive(Debug)]
pub struct Loaded {
    /// The rules of all lines without errors, in the order of reading.
    pub rules: Vec<Located>,
    /// The files that were read, included ones too.
    pub files: Vec<PathBuf>,
    /// All problems, in the order of reading.
    pub diagnostics: Vec<Diagnostic>,
}

/// A rule and the place that says so.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    pub spec: Rc<RuleSpec>,
    /// The file that has it.
    pub file: Rc<Path>,
    /// The first line of it, from 1.
    pub line: u32,
}

/// Reads `conf`, then `*.conf` of `dir` in byte order of their names. Only where somebody
/// has named another file than the default one must it be there.
pub fn load(conf: &Path, dir: &Path) -> Loaded {
    let mut reader = Reader::default();
    let is_default = conf == Paths::default().conf;
    reader.read(conf, if is_default { Because::Default } else { Because::Named });
    reader.read_dir(dir);
    reader.finish()
}

/// Reads these files, each of which must be there.
pub fn load_files(files: &[PathBuf]) -> Loaded {
    let mut reader = Reader::default();
    for file in files {
        reader.read(file, Because::Named);
    }
    reader.finish()
}
