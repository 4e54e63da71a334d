//! `uid=` and `exe=`: the processes whose events count.
//!
//! The process that caused an event is not always known. It may be gone before `/proc`
//! was read, or the daemon may have found the change by looking. For an unknown process a
//! condition does not hold, and its negation does.

use super::diagnostic::show;
use super::filter::{build, check_pattern};
use globset::GlobMatcher;
use nix::unistd::User;
use serde::{Deserialize, Serialize};

/// The conditions on the process that caused an event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessFilter {
    pub uid: Option<Condition<u32>>,
    pub exe: Option<Condition<Program>>,
}

/// A condition and its opposite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition<T> {
    Is(T),
    IsNot(T),
}

/// A pattern for the path of an executable. Without a `/` it is matched on the file name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Program(GlobMatcher);

impl From<Program> for String {
    fn from(program: Program) -> Self {
        program.0.glob().glob().to_owned()
    }
}

impl TryFrom<String> for Program {
    type Error = globset::Error;

    fn try_from(glob: String) -> Result<Self, globset::Error> {
        build(&glob).map(|glob| Self(glob.compile_matcher()))
    }
}

impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        self.0.glob() == other.0.glob()
    }
}

/// The result of a [`ProcessFilter`] for a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    Counts,
    DoesNot,
    /// The event does not count, because the process is not known well enough.
    Unknown,
}

impl ProcessFilter {
    /// Whether there is any condition on the process.
    pub fn matters(&self) -> bool {
        self.uid.is_some() || self.exe.is_some()
    }

    /// Whether events of unknown processes never count.
    pub fn must_be_known(&self) -> bool {
        matches!(self.uid, Some(Condition::Is(_))) || matches!(self.exe, Some(Condition::Is(_)))
    }

    /// Whether an event of this process counts.
    pub fn judge(&self, uid: Option<u32>, exe: Option<&[u8]>) -> Judgement {
        let by_uid = judge(self.uid.as_ref(), uid, |wanted, uid| *wanted == uid);
        let by_exe = judge(self.exe.as_ref(), exe, Program::is);
        match (by_uid, by_exe) {
            (Judgement::DoesNot, _) | (_, Judgement::DoesNot) => Judgement::DoesNot,
            (Judgement::Unknown, _) | (_, Judgement::Unknown) => Judgement::Unknown,
            (Judgement::Counts, Judgement::Counts) => Judgement::Counts,
        }
    }
}

fn judge<T, F>(
    condition: Option<&Condition<T>>,
    fact: Option<F>,
    holds: impl Fn(&T, F) -> bool,
) -> Judgement {
    let counts = match (condition, fact) {
        (None, _) | (Some(Condition::IsNot(_)), None) => true,
        (Some(Condition::Is(_)), None) => return Judgement::Unknown,
        (Some(Condition::Is(wanted)), Some(fact)) => holds(wanted, fact),
        (Some(Condition::IsNot(wanted)), Some(fact)) => !holds(wanted, fact),
    };
    if counts { Judgement::Counts } else { Judgement::DoesNot }
}

impl Program {
    fn new(pattern: &str) -> Result<Self, String> {
        let help = "write the path of programs like `/usr/bin/*`, or a file name like `rsync`";
        check_pattern(pattern).map_err(|why| format!("{help}: {why}"))?;
        if pattern.ends_with('/') {
            return Err(format!("{help}: a program is no directory"));
        }
        let pattern = match pattern.strip_prefix('/') {
            Some(anchored) => anchored.to_owned(),
            None if !pattern.contains('/') => format!("**/{pattern}"),
            None if pattern.starts_with("**/") => pattern.to_owned(),
            None => return Err(format!("{help}; the path of a program begins with `/` or `**/`")),
        };
        build(&pattern).map(|glob| Self(glob.compile_matcher())).map_err(|error| error.kind().to_string())
    }

    fn is(&self, path: &[u8]) -> bool {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        self.0.is_match_candidate(&globset::Candidate::from_bytes(path))
    }
}

/// The value of `uid=`: a name or a number.
pub(super) fn uid(value: &[u8]) -> Result<Condition<u32>, String> {
    let (is_negated, name) = negation(value);
    let help = "write the name or the number of a user, like `uid=backup` or `uid=!0`";
    user_number(name, help).map(|uid| condition(is_negated, uid))
}

/// The number of a user who is named by that or by name.
pub fn user_number(name: &[u8], help: &str) -> Result<u32, String> {
    let name = str::from_utf8(name).ok().filter(|name| !name.is_empty()).ok_or(help)?;
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        // The largest number stands for no user: chown(2).
        return Ok(name.parse().ok().filter(|uid| *uid != u32::MAX).ok_or(help)?);
    }
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(format!("there is no user `{}`", show(name.as_bytes()))),
        Err(errno) => Err(format!("the users cannot be looked up: {}", errno.desc())),
    }
}

/// The value of `exe=`: a glob.
pub fn exe(value: &[u8]) -> Result<Condition<Program>, String> {
    let (is_negated, pattern) = negation(value);
    let pattern = str::from_utf8(pattern)
        .map_err(|_| "a glob must be UTF-8; write `?` for a byte that is not".to_owned())?;
    Ok(condition(is_negated, Program::new(pattern)?))
}

fn negation(value: &[u8]) -> (bool, &[u8]) {
    value.strip_prefix(b"!").map_or((false, value), |rest| (true, rest))
}

fn condition<T>(is_negated: bool, value: T) -> Condition<T> {
    if is_negated { Condition::IsNot(value) } else { Condition::Is(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(uid_value: &str, exe_value: &str) -> ProcessFilter {
        ProcessFilter {
            uid: (!uid_value.is_empty()).then(|| uid(uid_value.as_bytes()).unwrap()),
            exe: (!exe_value.is_empty()).then(|| exe(exe_value.as_bytes()).unwrap()),
        }
    }

    #[test]
    fn users_by_name_and_number() {
        assert_eq!(uid(b"root"), Ok(Condition::Is(0)));
        assert_eq!(uid(b"!root"), Ok(Condition::IsNot(0)));
        assert_eq!(uid(b"4000000000"), Ok(Condition::Is(4_000_000_000)));
        for bad in [&b""[..], b"!", b"\xff", b"no-such-user-here", b"-1", b"4294967295", b"99999999999"] {
            assert!(uid(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn programs_by_path_or_file_name() {
        // pattern, matched, not matched
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("rsync", &["/usr/bin/rsync", "/rsync"], &["/usr/bin/rsync2", "/rsync/x"]),
            ("python3*", &["/usr/bin/python3.13"], &["/usr/bin/python2"]),
            ("/usr/bin/*", &["/usr/bin/vim"], &["/usr/bin/x/vim", "/bin/vim", "/x/usr/bin/vim"]),
            ("**/bin/*", &["/usr/bin/vim", "/bin/vim"], &["/usr/sbin/vim"]),
            ("/opt/**", &["/opt/a/b/c"], &["/usr/opt/a"]),
        ];
        for (pattern, good, bad) in cases {
            let Ok(Condition::Is(program)) = exe(pattern.as_bytes()) else { panic!("{pattern}") };
            for path in *good {
                assert!(program.is(path.as_bytes()), "{pattern} {path}");
            }
            for path in *bad {
                assert!(!program.is(path.as_bytes()), "{pattern} {path}");
            }
        }
        for bad in [&b""[..], b"!", b"bin/vim", b"/usr/bin/", b"[", b"\xff"] {
            assert!(exe(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn unknown_is_nobody() {
        use Judgement::{Counts, DoesNot, Unknown};
        let vim = Some(&b"/usr/bin/vim"[..]);
        for (uid, exe, known, unknown) in [
            ("", "", Counts, Counts),
            ("root", "", Counts, Unknown),
            ("!root", "", DoesNot, Counts),
            ("1", "vim", DoesNot, Unknown),
            ("root", "vim", Counts, Unknown),
            ("!1", "!vim", DoesNot, Counts),
        ] {
            let filter = filter(uid, exe);
            assert_eq!(filter.judge(Some(0), vim), known, "{uid} {exe}");
            assert_eq!(filter.judge(None, None), unknown, "{uid} {exe}");
            assert_eq!(filter.must_be_known(), unknown == Unknown, "{uid} {exe}");
        }
        assert_eq!(filter("1", "vim").judge(Some(0), None), DoesNot);
    }

    #[test]
    fn equal_if_the_same_is_asked() {
        assert_eq!(filter("root", "vim"), filter("0", "vim"));
        assert_ne!(filter("", "vim"), filter("", "!vim"));
        assert_ne!(filter("", "vim"), filter("", "vi"));
    }
}
