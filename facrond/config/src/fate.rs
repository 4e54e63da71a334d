//! `done=` and `failed=`: what becomes of a file when its command has ended.

use super::diagnostic::{Line, Problems, show_path};
use super::filter::ObjectKind;
use super::options::given;
use super::permission::Place;
use super::rule::{Command, RuleSpec};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const HELP: &str = "write the absolute path of a directory, without `..`";

/// The value of `done=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// The file is removed.
    Delete,
    /// It is moved to this directory.
    Move(PathBuf),
}

pub(super) fn done(value: &[u8]) -> Result<Done, String> {
    if value == b"delete" {
        return Ok(Done::Delete);
    }
    directory(value).map(Done::Move).map_err(|help| format!("{help}, or `delete`"))
}

/// A path without a trailing slash, `//` and `.`, which change nothing.
pub(super) fn directory(value: &[u8]) -> Result<PathBuf, String> {
    let components = value.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    let components: Vec<_> = components.collect();
    if !value.starts_with(b"/") || components.contains(&b"..".as_slice()) {
        return Err(HELP.to_owned());
    }
    Ok(PathBuf::from(OsString::from_vec([b"/", &*components.join(&b'/')].concat())))
}

impl RuleSpec {
    /// Whether something becomes of its files.
    pub fn has_fate(&self) -> bool {
        self.options.done.is_some() || self.options.failed.is_some()
    }

    /// The directories of `done=` and `failed=`.
    pub fn fate_directories(&self) -> [Option<&Path>; 2] {
        let done = match &self.options.done {
            Some(Done::Move(dir)) => Some(&**dir),
            Some(Done::Delete) | None => None,
        };
        [done, self.options.failed.as_deref()]
    }

    /// Whether the rule is about what is in a directory.
    pub fn sees_entries_of(&self, dir: &Path) -> bool {
        if self.options.recursive { dir.starts_with(&self.path) } else { dir == self.path }
    }

    /// The same relative to PATH, as far as they are below it.
    fn set_aside(&self) -> impl Iterator<Item = &[u8]> {
        let all = self.fate_directories().into_iter().flatten();
        let below = all.filter_map(|dir| dir.strip_prefix(&self.path).ok());
        below.map(|below| below.as_os_str().as_bytes())
    }

    /// Whether the rule is about some paths below PATH only.
    pub fn depends_on_paths(&self) -> bool {
        self.options.filter.has_globs() || self.set_aside().next().is_some()
    }

    /// Whether the rule is about an object; the arguments are those of [`Filter::accepts`].
    ///
    /// [`Filter::accepts`]: super::filter::Filter::accepts
    pub fn accepts(&self, relative: &[u8], name: &[u8], kind: ObjectKind) -> bool {
        self.options.filter.accepts(relative, name, kind) && !self.is_set_aside(relative)
    }

    /// Whether the rule leaves out a directory below PATH with everything in it.
    pub fn excludes_tree(&self, relative: &[u8]) -> bool {
        self.options.filter.excludes_tree(relative) || self.is_set_aside(relative)
    }

    /// Whether a path, relative to PATH, is one of these directories or in one.
    fn is_set_aside(&self, path: &[u8]) -> bool {
        self.set_aside().any(|dir| {
            path.strip_prefix(dir).is_some_and(|rest| rest.first().is_none_or(|first| *first == b'/'))
        })
    }
}

/// Refuses what has no file or no outcome, and warns of what the rule will not see.
pub(super) fn check(line: &Line<'_>, spec: &RuleSpec, place: &Place<'_>, problems: &mut Problems) {
    let Some(word) = given(place.options, &[b"done", b"failed"]) else { return };
    let refusal = if spec.asks_permission() {
        Some(("a file that is being opened stays where it is", "leave it out of rules for permission events"))
    } else if spec.command == Command::Record {
        Some(("a rule that runs nothing can neither succeed nor fail", "name a command, if only `true`"))
    } else {
        None
    };
    if let Some((message, help)) = refusal {
        problems.push(line.error(word.span.clone(), message).help(help));
        return;
    }
    for (name, dir) in [b"done".as_slice(), b"failed"].into_iter().zip(spec.fate_directories()) {
        let Some((dir, word)) = dir.zip(given(place.options, &[name])) else { continue };
        if dir == spec.path {
            let message = "this is PATH itself: the files would stay where they are";
            problems.push(line.error(word.span.clone(), message).help("name another directory"));
        } else if spec.options.recursive && dir.starts_with(&spec.path) {
            let dir = show_path(dir);
            let message = format!("`{dir}` is in the tree that the rule watches, and the rule leaves it out");
            let help = "name a directory elsewhere, if the rule is to see all of the tree";
            problems.push(line.warning(word.span.clone(), message).help(help));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_words;
    use crate::words::Words;

    fn parse(
        path: &str,
        events: &str,
        options: &str,
        command: &str,
    ) -> Result<(RuleSpec, Vec<String>), String> {
        let words = Words {
            path: path.as_bytes(),
            events: events.as_bytes(),
            options: options.as_bytes(),
            command: vec![command.as_bytes()],
        };
        let texts = |all: Vec<crate::Diagnostic>| all.into_iter().map(|one| one.message).collect::<Vec<_>>();
        parse_words(&words).map(|(spec, all)| (spec, texts(all))).map_err(|all| texts(all).join("; "))
    }

    #[test]
    fn directories_are_clean_and_their_place_is_looked_at() {
        let (spec, warnings) =
            parse("/in", "ARRIVED", "recursive done=/in//done/. failed=/bad", "true").unwrap();
        assert_eq!(spec.options.done, Some(Done::Move("/in/done".into())));
        assert_eq!(spec.options.failed.as_deref(), Some(Path::new("/bad")));
        assert_eq!(warnings, ["`/in/done` is in the tree that the rule watches, and the rule leaves it out"]);
        for (path, is_aside) in [("done", true), ("done/a/b", true), ("done2", false), ("a/done", false)] {
            assert_eq!(spec.is_set_aside(path.as_bytes()), is_aside, "{path}");
        }
        let (spec, warnings) = parse("/in", "ARRIVED", "done=/in/done", "true").unwrap();
        assert!(
            spec.depends_on_paths() && warnings.is_empty(),
            "a rule that is not recursive sees nothing there"
        );
        let (spec, _) = parse("/in", "ARRIVED", "done=delete", "true").unwrap();
        assert!(spec.has_fate() && !spec.depends_on_paths());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (events, options, command, why) in [
            ("ARRIVED", "done=here", "true", "bad value `here` of the option `done`"),
            ("ARRIVED", "failed=delete", "true", "bad value `delete` of the option `failed`"),
            ("ARRIVED", "failed=/a/../b", "true", "bad value `/a/../b` of the option `failed`"),
            ("ARRIVED", "done=/in/", "true", "this is PATH itself: the files would stay where they are"),
            ("ARRIVED", "done=/a", "-", "a rule that runs nothing can neither succeed nor fail"),
            ("OPEN_PERM", "verdict=allow done=/a", "true", "a file that is being opened stays where it is"),
        ] {
            assert_eq!(parse("/in", events, options, command).unwrap_err(), why);
        }
    }
}
