//! `include=`, `exclude=` and `type=`: the objects below PATH that a rule is about.
//!
//! Globs are matched on the path relative to PATH, as bytes; `*` and `?` do not
//! match a `/`. A pattern without a `/` matches the file name at any depth; one
//! with a leading `/` is anchored at PATH. `exclude=` also excludes everything below
//! a directory, and wins over `include=`.

use globset::{Candidate, Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The kind of an event's object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    File,
    Directory,
}

/// The condition on an event's object.
///
/// Two filters are equal if their patterns are equal as text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    kind: Option<ObjectKind>,
    globs: Option<Arc<Globs>>,
}

#[derive(Debug)]
struct Globs {
    patterns: Patterns,
    include: GlobSet,
    exclude: GlobSet,
}

impl PartialEq for Globs {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

/// The text of a [`Filter`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Patterns {
    /// If there are any, at least one of them must match.
    pub include: Vec<String>,
    /// None of them may match the object, or a directory above it.
    pub exclude: Vec<String>,
    /// The kind that the object must have, if any.
    pub kind: Option<ObjectKind>,
}

impl Filter {
    /// Compiles the patterns. Fails if one is malformed, or if they are too large together.
    pub fn new(patterns: Patterns) -> Result<Self, globset::Error> {
        let kind = patterns.kind;
        if patterns.include.is_empty() && patterns.exclude.is_empty() {
            return Ok(Self { kind, globs: None });
        }
        let include = set(patterns.include.iter().map(|pattern| anchor(pattern)))?;
        let below = |pattern: &String| {
            let pattern = anchor(pattern);
            let below = format!("{pattern}/**");
            [pattern, below]
        };
        let exclude = set(patterns.exclude.iter().flat_map(below))?;
        Ok(Self { kind, globs: Some(Arc::new(Globs { patterns, include, exclude })) })
    }

    /// The patterns that it was built from.
    pub fn patterns(&self) -> Patterns {
        let globs = self.globs.as_ref().map(|globs| globs.patterns.clone());
        globs.unwrap_or_else(|| Patterns { kind: self.kind, ..Patterns::default() })
    }

    /// The `type=` of the rule.
    pub fn kind(&self) -> Option<ObjectKind> {
        self.kind
    }

    /// Whether the filter accepts an object.
    ///
    /// `relative` is its path below PATH, without a leading slash. For PATH itself it is
    /// empty, and the file name `name` is matched.
    pub fn accepts(&self, relative: &[u8], name: &[u8], kind: ObjectKind) -> bool {
        if self.kind.is_some_and(|wanted| wanted != kind) {
            return false;
        }
        let Some(globs) = &self.globs else { return true };
        let path = Candidate::from_bytes(if relative.is_empty() { name } else { relative });
        (globs.include.is_empty() || globs.include.is_match_candidate(&path))
            && !globs.exclude.is_match_candidate(&path)
    }

    /// Whether the filter depends on names, and not only on the kind.
    pub fn has_globs(&self) -> bool {
        self.globs.is_some()
    }

    /// Whether a directory is excluded with everything below it.
    ///
    /// `relative` is its path below PATH. PATH itself, with an empty one, is never excluded.
    pub fn excludes_tree(&self, relative: &[u8]) -> bool {
        let Some(globs) = &self.globs else { return false };
        !relative.is_empty() && globs.exclude.is_match_candidate(&Candidate::from_bytes(relative))
    }
}

/// Checks one pattern. The error is the problem with it.
pub(super) fn check_pattern(pattern: &str) -> Result<(), String> {
    if pattern.trim_matches('/').is_empty() {
        return Err("it is empty".to_owned());
    }
    build(&anchor(pattern)).map(drop).map_err(|error| error.kind().to_string())
}

/// Turns a pattern into a glob for the whole relative path.
fn anchor(pattern: &str) -> String {
    let pattern = pattern.trim_end_matches('/');
    match pattern.strip_prefix('/') {
        Some(anchored) => anchored.to_owned(),
        None if pattern.contains('/') => pattern.to_owned(),
        None => format!("**/{pattern}"),
    }
}

fn set(patterns: impl Iterator<Item = String>) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(build(&pattern)?);
    }
    set.build()
}

/// Compiles a glob in which `*` and `?` do not match a `/`.
pub(super) fn build(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str], kind: Option<ObjectKind>) -> Filter {
        let strings = |patterns: &[&str]| patterns.iter().map(ToString::to_string).collect();
        Filter::new(Patterns { include: strings(include), exclude: strings(exclude), kind }).unwrap()
    }

    fn accepts(filter: &Filter, relative: &str) -> bool {
        let name = relative.rsplit('/').next().unwrap();
        filter.accepts(relative.as_bytes(), name.as_bytes(), ObjectKind::File)
    }

    #[test]
    fn globs() {
        // include, exclude, accepted, not accepted
        type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str], &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            (&[], &[], &["a", "a/b"], &[]),
            (&["*.conf"], &[], &["a.conf", "d/e/a.conf", ".conf"], &["a.con", "a.conf/b"]),
            (&["d/*.conf"], &[], &["d/a.conf"], &["a.conf", "d/e/a.conf", "x/d/a.conf"]),
            (&["d/**/*.c"], &[], &["d/a.c", "d/e/f/a.c"], &["a.c"]),
            (&["/*.c"], &[], &["a.c"], &["d/a.c"]),
            (&["a?c"], &[], &["abc", "a\nc"], &["ac", "abbc", "a/c"]),
            (&["[a-c]"], &[], &["b", "x/b"], &["d"]),
            (&["{a,b}.c"], &[], &["a.c", "b.c"], &["c.c"]),
            (&["*.c", "*.h"], &[], &["a.c", "a.h"], &["a.o"]),
            (&[], &["*.swp"], &["a"], &["a.swp", "d/a.swp"]),
            (&["*.c"], &["a.*"], &["b.c"], &["a.c", "b.h"]),
            (&[], &[".git"], &["a/b", ".gitignore"], &[".git", ".git/x", "a/.git/b/c"]),
            (&[], &["build/"], &["a"], &["build/x", "a/build/x"]),
            (&[], &["/build"], &["a/build/x"], &["build", "build/x"]),
            (&["*.c"], &["a/b"], &["a/x.c"], &["a/b/x.c"]),
        ];
        for (include, exclude, good, bad) in cases {
            let filter = filter(include, exclude, None);
            for path in *good {
                assert!(accepts(&filter, path), "{include:?} {exclude:?} {path:?}");
            }
            for path in *bad {
                assert!(!accepts(&filter, path), "{include:?} {exclude:?} {path:?}");
            }
        }
    }

    #[test]
    fn names_are_bytes() {
        let filter = filter(&["*.c"], &["a?"], None);
        assert!(filter.accepts(b"\xff.c", b"\xff.c", ObjectKind::File));
        assert!(!filter.accepts(b"a\xff", b"a\xff", ObjectKind::File));
    }

    #[test]
    fn path_itself_is_matched_by_its_name() {
        let filter = filter(&["*.conf"], &[], None);
        assert!(filter.accepts(b"", b"a.conf", ObjectKind::File));
        assert!(!filter.accepts(b"", b"a.txt", ObjectKind::File));
    }

    #[test]
    fn an_excluded_directory_is_excluded_with_its_tree() {
        let filter = filter(&["*.c"], &["target", "a/*/tmp"], None);
        for tree in ["target", "x/target", "target/debug", "a/b/tmp", "a/b/tmp/c"] {
            assert!(filter.excludes_tree(tree.as_bytes()), "{tree}");
        }
        for tree in ["", "src", "a", "a/b", "a/tmp"] {
            assert!(!filter.excludes_tree(tree.as_bytes()), "{tree}");
        }
    }

    #[test]
    fn kinds() {
        for (wanted, file, directory) in [
            (None, true, true),
            (Some(ObjectKind::File), true, false),
            (Some(ObjectKind::Directory), false, true),
        ] {
            let filter = filter(&[], &[], wanted);
            assert_eq!(filter.accepts(b"a", b"a", ObjectKind::File), file);
            assert_eq!(filter.accepts(b"a", b"a", ObjectKind::Directory), directory);
        }
    }

    #[test]
    fn equal_if_written_alike() {
        assert_eq!(filter(&["*.c"], &[], None), filter(&["*.c"], &[], None));
        assert_ne!(filter(&["*.c"], &[], None), filter(&[], &["*.c"], None));
        assert_ne!(filter(&[], &[], None), filter(&[], &[], Some(ObjectKind::File)));
    }
}
