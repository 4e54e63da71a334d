//! `@include FILE-OR-GLOB`: the directive, and the files that match a glob.

use super::diagnostic::{Line, Problems, show};
use super::lex::{Inside, Lexer, Word};
use globset::{Candidate, GlobBuilder, GlobMatcher};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A glob that matches more files is a mistake.
const MOST: usize = 10_000;

/// The directive on a line, if it is not a rule.
pub(super) enum Directive {
    /// No directive: the line is a rule, or blank.
    None,
    Include(Word),
    /// `@include` with an error, which was added to the problems.
    Wrong,
}

/// Reads the directive on a line.
pub(super) fn operand(line: &Line<'_>, problems: &mut Problems) -> Directive {
    let mut lexer = Lexer::new(*line, 0..line.text.len());
    if lexer.peek() != Some(b'@') {
        return Directive::None;
    }
    let errors = problems.errors();
    let Some(directive) = lexer.word(Inside::Line, problems) else { return Directive::None };
    if directive.bytes != b"@include" {
        let message = format!("unknown directive `{}`", show(&directive.bytes));
        problems
            .push(line.error(directive.span, message).help("the only directive is `@include FILE-OR-GLOB`"));
        return Directive::Wrong;
    }
    let file = lexer.word(Inside::Line, problems);
    let extra = lexer.word(Inside::Line, problems);
    let (place, message) = match (file, extra) {
        _ if problems.errors() > errors => return Directive::Wrong,
        (Some(file), None) if !file.bytes.is_empty() => return Directive::Include(file),
        (Some(file), None) => (file.span, "the name of the file is empty"),
        (_, Some(extra)) => (extra.span, "`@include` takes one file or glob"),
        (None, None) => (directive.span, "`@include` needs a file or a glob"),
    };
    problems.push(line.error(place, message).help("write `@include FILE-OR-GLOB`; quote blanks in its name"));
    Directive::Wrong
}

/// Whether an operand is a glob.
pub(super) fn is_glob(operand: &[u8]) -> bool {
    operand.iter().any(|byte| b"*?[{".contains(byte))
}

/// The files that match a glob, in byte order. No match is no error.
///
/// As in a shell, a wildcard matches neither a `/` nor the dot at the start of a
/// name, and directories that cannot be read count as empty.
pub(super) fn expand(dir: &Path, glob: &[u8]) -> Result<Vec<PathBuf>, String> {
    let glob = str::from_utf8(glob).map_err(|_| "must be UTF-8 where it is a glob".to_owned())?;
    let mut found = vec![if glob.starts_with('/') { PathBuf::from("/") } else { dir.to_owned() }];
    for component in glob.split('/').filter(|component| !component.is_empty()) {
        if !is_glob(component.as_bytes()) {
            for path in &mut found {
                path.push(component);
            }
            continue;
        }
        let matcher = GlobBuilder::new(component)
            .literal_separator(true)
            .build()
            .map_err(|error| format!("is no glob: {}", error.kind()))?
            .compile_matcher();
        let hidden = component.starts_with('.');
        found = found.iter().flat_map(|dir| matches(dir, &matcher, hidden)).take(MOST + 1).collect();
        if found.len() > MOST {
            return Err(format!("means more than {MOST} files"));
        }
    }
    found.retain(|path| path.symlink_metadata().is_ok());
    Ok(found)
}

fn matches(dir: &Path, matcher: &GlobMatcher, hidden: bool) -> Vec<PathBuf> {
    let is_match = |name: &OsString| {
        (hidden || !name.as_bytes().starts_with(b"."))
            && matcher.is_match_candidate(&Candidate::from_bytes(name.as_bytes()))
    };
    // An empty path means the present directory.
    let place = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let Ok(entries) = fs::read_dir(place) else { return Vec::new() };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).filter(is_match).collect();
    names.sort();
    names.into_iter().map(|name| dir.join(name)).collect()
}
