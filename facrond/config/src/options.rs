//! OPTIONS: the table of all options, and how their values are read.
//!
//! Each option is one entry of [`TABLE`]. There is no other list.

use super::account::{self, Account};
use super::diagnostic::{Line, Problems, show};
use super::fate;
use super::filter::{Filter, ObjectKind, Patterns, check_pattern};
use super::lex::Word;
use super::permission::{Decision, Verdict};
use super::process_filter;
use super::rule::{Options, Output, Stdin};
use super::suggest::nearest;
use super::when;
use nix::unistd::{Gid, User};
use std::ffi::OsString;
use std::num::NonZeroU32;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

/// The greatest number of options. No useful rule has more.
const MOST: usize = 1000;

/// The longest duration. It keeps sums of times within range.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

const NO_WAITING: &str = "it must be more than nothing; without the option nothing is waited for";
const NO_TIME: &str = "it must be more than nothing";
const ANY_TIME: &str = "it must be more than nothing; without the option a command may take any time";

/// Takes over a value, which is empty for a flag. The error is a correction.
type Apply = fn(&mut Draft, &[u8]) -> Result<(), String>;

struct Known {
    /// The option as it may be written. Without a `=` it has no value.
    sample: &'static str,
    times: Times,
    apply: Apply,
}

#[derive(PartialEq)]
enum Times {
    Once,
    Many,
}

const fn once(sample: &'static str, apply: Apply) -> Known {
    Known { sample, times: Times::Once, apply }
}

const fn many(sample: &'static str, apply: Apply) -> Known {
    Known { sample, times: Times::Many, apply }
}

impl Known {
    fn name(&self) -> &'static str {
        self.sample.split_once('=').map_or(self.sample, |(name, _)| name)
    }
}

const TABLE: &[Known] = &[
    once("name=backup", |draft, value| give(&mut draft.options.name, rule_name(value))),
    once("recursive", |draft, _| put(&mut draft.options.recursive, Ok(true))),
    many("include=*.conf", |draft, value| push(&mut draft.patterns.include, glob(value))),
    many("exclude=*.swp", |draft, value| push(&mut draft.patterns.exclude, glob(value))),
    once("type=file", |draft, value| give(&mut draft.patterns.kind, object_kind(value))),
    once("self", |draft, _| put(&mut draft.options.include_own, Ok(true))),
    once("uid=backup", |draft, value| {
        give(&mut draft.options.process_filter.uid, process_filter::uid(value))
    }),
    once("exe=/usr/bin/rsync", |draft, value| {
        give(&mut draft.options.process_filter.exe, process_filter::exe(value))
    }),
    once("once", |draft, _| put(&mut draft.options.once, Ok(true))),
    once("catch-up=all", |draft, value| put(&mut draft.options.catch_up, when::catch_up(value))),
    once("user=nobody", |draft, value| give(&mut draft.user, account::user(value))),
    once("group=adm", |draft, value| give(&mut draft.group, account::group(value))),
    once("umask=077", |draft, value| put(&mut draft.options.umask, umask(value))),
    once("nice=10", |draft, value| give(&mut draft.options.nice, nice(value))),
    // COMMAND itself shows whether it is a script.
    once("shell", |_, _| Ok(())),
    once("stdin=json", |draft, value| give(&mut draft.options.stdin, stdin(value))),
    once("cwd=/var/tmp", |draft, value| {
        give(&mut draft.options.cwd, absolute(value).ok_or("it must be an absolute path".into()))
    }),
    many("env=LANG=C", |draft, value| push(&mut draft.options.env, variable(value))),
    once("output=null", |draft, value| put(&mut draft.options.output, output(value))),
    once("timeout=30s", |draft, value| give(&mut draft.options.timeout, positive(value, ANY_TIME))),
    once("kill-after=5s", |draft, value| put(&mut draft.options.kill_after, duration(value))),
    once("jobs=1", |draft, value| give(&mut draft.options.jobs, count(value))),
    once("settle=300ms", |draft, value| give(&mut draft.options.settle, positive(value, NO_WAITING))),
    once("batch=500ms", |draft, value| give(&mut draft.options.batch, positive(value, NO_WAITING))),
    once("max-wait=10s", |draft, value| give(&mut draft.options.max_wait, positive(value, NO_WAITING))),
    once("rate=10/1m", |draft, value| give(&mut draft.options.rate, when::rate(value))),
    once("busy=rerun", |draft, value| put(&mut draft.options.busy, when::busy(value))),
    once("retry=3", |draft, value| put(&mut draft.options.retry, count(value).map(NonZeroU32::get))),
    once("done=/srv/done", |draft, value| give(&mut draft.options.done, fate::done(value))),
    once("failed=/srv/failed", |draft, value| give(&mut draft.options.failed, fate::directory(value))),
    once("verdict=deny", |draft, value| give(&mut draft.options.permission.verdict, decision(value))),
    once("deadline=5s", |draft, value| {
        give(&mut draft.options.permission.deadline, positive(value, NO_TIME))
    }),
    once("on-failure=deny", |draft, value| give(&mut draft.options.permission.on_failure, verdict(value))),
    once("cache=1m", |draft, value| give(&mut draft.options.permission.cache, positive(value, NO_TIME))),
];

fn put<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    value.map(|value| *place = value)
}

fn give<T>(place: &mut Option<T>, value: Result<T, String>) -> Result<(), String> {
    put(place, value.map(Some))
}

fn push<T>(place: &mut Vec<T>, value: Result<T, String>) -> Result<(), String> {
    value.map(|value| place.push(value))
}

/// Each option as it may be written, for the manual.
pub(crate) fn samples() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|known| known.sample)
}

/// The options of one rule, as far as they were read.
#[derive(Default)]
struct Draft {
    options: Options,
    patterns: Patterns,
    user: Option<User>,
    group: Option<Gid>,
}

/// The options of a rule, and the place of the value of `name=`.
pub(super) struct Parsed {
    pub(super) options: Options,
    pub(super) name: Option<Range<usize>>,
}

/// Reads the words of OPTIONS; `None` if they have errors.
pub(super) fn options(line: &Line<'_>, words: &[Word], problems: &mut Problems) -> Option<Parsed> {
    let errors = problems.errors();
    let mut draft = Draft::default();
    let mut name = None;
    let mut seen: Vec<&str> = Vec::new();
    for word in words.iter().take(MOST) {
        let (key, value) = key_and_value(word);
        let Some(known) = TABLE.iter().find(|known| known.name().as_bytes() == &word.bytes[key.clone()])
        else {
            let message = format!("unknown option `{}`", show(&word.bytes[key.clone()]));
            problems.push(line.error(word.place(key.clone()), message).help(help_for(&word.bytes[key])));
            continue;
        };
        if known.times == Times::Once && seen.contains(&known.name()) {
            let message = format!("the option `{}` is given twice", known.name());
            problems.push(line.error(word.span.clone(), message).help("leave one of them out"));
            continue;
        }
        seen.push(known.name());
        match set(known, word, value.clone(), &mut draft) {
            Ok(()) if known.name() == "name" => name = value.map(|value| word.place(value)),
            Ok(()) => {}
            Err(Wrong { place, message, help }) => problems.push(line.error(place, message).help(help)),
        }
    }
    if words.len() > MOST {
        let message = format!("a rule has at most {MOST} options");
        problems.push(line.error(words[MOST].span.clone(), message));
    }
    draft.options.account = Account::new(draft.user, draft.group);
    if let Some((message, help)) = draft.options.max_wait_error()
        && let Some(word) = given(words, &[b"max-wait"])
    {
        problems.push(line.error(word.span.clone(), message).help(help));
    }
    match (Filter::new(draft.patterns), words.first()) {
        (Ok(filter), _) => draft.options.filter = filter,
        (Err(error), word) => {
            let place = word.map_or(0..0, |word| word.span.clone());
            problems.push(line.error(place, format!("the globs cannot be compiled: {}", error.kind())));
        }
    }
    (problems.errors() == errors).then_some(Parsed { options: draft.options, name })
}

struct Wrong {
    place: Range<usize>,
    message: String,
    help: String,
}

fn set(known: &Known, word: &Word, value: Option<Range<usize>>, draft: &mut Draft) -> Result<(), Wrong> {
    let (name, Known { sample, apply, .. }) = (known.name(), known);
    let (value, place) = match (value, sample.contains('=')) {
        (None, true) => {
            let message = format!("the option `{name}` needs a value");
            return Err(Wrong {
                place: word.span.clone(),
                message,
                help: format!("write it like `{sample}`"),
            });
        }
        (Some(value), false) => {
            let message = format!("the option `{name}` takes no value");
            return Err(Wrong { place: word.place(value), message, help: format!("write `{sample}` alone") });
        }
        (None, false) => (b"".as_slice(), word.span.clone()),
        (Some(value), true) => (&word.bytes[value.clone()], word.place(value)),
    };
    apply(draft, value).map_err(|help| {
        let message = format!("bad value `{}` of the option `{name}`", show(value));
        Wrong { place, message, help }
    })
}

/// The first option with one of these names.
pub(super) fn given<'a>(words: &'a [Word], names: &[&[u8]]) -> Option<&'a Word> {
    words.iter().find(|word| names.contains(&&word.bytes[key_and_value(word).0]))
}

/// The places of the key and, after the first `=`, of the value in a word's bytes.
fn key_and_value(word: &Word) -> (Range<usize>, Option<Range<usize>>) {
    let len = word.bytes.len();
    match word.bytes.iter().position(|byte| *byte == b'=') {
        Some(equals) => (0..equals, Some(equals + 1..len)),
        None => (0..len, None),
    }
}

fn help_for(key: &[u8]) -> String {
    let key = String::from_utf8_lossy(key).to_ascii_lowercase();
    let near = nearest(&key, TABLE.iter().map(|known| (known.name(), known.sample)));
    near.map_or_else(
        || {
            let names: Vec<_> = TABLE.iter().map(Known::name).collect();
            format!("the options are {}", names.join(", "))
        },
        |sample| format!("did you mean `{sample}`?"),
    )
}

fn rule_name(value: &[u8]) -> Result<String, String> {
    let is_word_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.@:-".contains(byte);
    if value.is_empty() || !value.iter().all(is_word_byte) {
        return Err("a name is made of letters, digits and `_.@:-`".into());
    }
    if value.iter().all(u8::is_ascii_digit) {
        return Err("a name of digits only would be taken for the number of a rule".into());
    }
    Ok(String::from_utf8_lossy(value).into_owned())
}

fn glob(value: &[u8]) -> Result<String, String> {
    let Ok(pattern) = str::from_utf8(value) else {
        return Err("a glob must be UTF-8; write `?` for a byte that is not".into());
    };
    check_pattern(pattern).map_err(|why| format!("write a glob like `*.conf`: {why}"))?;
    Ok(pattern.to_owned())
}

/// The meaning of a value that is one of these words. The error is `help`.
pub(super) fn choice<T: Copy>(value: &[u8], words: &[(&str, T)], help: &str) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| word.as_bytes() == value);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| help.to_owned())
}

fn object_kind(value: &[u8]) -> Result<ObjectKind, String> {
    let words = [("file", ObjectKind::File), ("dir", ObjectKind::Directory)];
    choice(value, &words, "write `type=file` or `type=dir`")
}

fn absolute(value: &[u8]) -> Option<PathBuf> {
    value.starts_with(b"/").then(|| PathBuf::from(OsString::from_vec(value.to_vec())))
}

fn variable(value: &[u8]) -> Result<(OsString, OsString), String> {
    match value.iter().position(|byte| *byte == b'=') {
        None | Some(0) => Err("write a name and a value: `env=LANG=C`".into()),
        Some(equals) => {
            let string = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
            Ok((string(&value[..equals]), string(&value[equals + 1..])))
        }
    }
}

fn output(value: &[u8]) -> Result<Output, String> {
    match value {
        b"log" => Ok(Output::Log),
        b"null" => Ok(Output::Null),
        file => absolute(file)
            .map(Output::File)
            .ok_or_else(|| "write `log`, `null` or the absolute path of a file".into()),
    }
}

fn umask(value: &[u8]) -> Result<u32, String> {
    let octal =
        str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| matches!(byte, b'0'..=b'7')));
    let mask = octal.and_then(|octal| u32::from_str_radix(octal, 8).ok());
    mask.filter(|mask| *mask <= 0o777).ok_or_else(|| "write it in octal, like `022` or `077`".into())
}

fn nice(value: &[u8]) -> Result<i32, String> {
    let number = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.filter(|nice| (-20..20).contains(nice)).ok_or_else(|| {
        "write a number from -20 (gets the most of the processor) to 19 (gets what nobody else wants)".into()
    })
}

fn stdin(value: &[u8]) -> Result<Stdin, String> {
    let words = [("null", Stdin::Null), ("json", Stdin::Json), ("file", Stdin::File)];
    choice(value, &words, "write `stdin=json`, `stdin=file` or `stdin=null`")
}

const VERDICTS: [(&str, Verdict); 2] = [("allow", Verdict::Allow), ("deny", Verdict::Deny)];

fn decision(value: &[u8]) -> Result<Decision, String> {
    let [allow, deny] = VERDICTS.map(|(word, verdict)| (word, Decision::Always(verdict)));
    choice(value, &[("command", Decision::Command), allow, deny], "write `command`, `allow` or `deny`")
}

fn verdict(value: &[u8]) -> Result<Verdict, String> {
    choice(value, &VERDICTS, "write `allow` or `deny`")
}

pub(super) fn count(value: &[u8]) -> Result<NonZeroU32, String> {
    let digits = str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| "write a whole number from 1 on".into())
}

/// A duration that is longer than zero.
pub(super) fn positive(value: &[u8], zero: &str) -> Result<Duration, String> {
    duration(value).and_then(|time| if time.is_zero() { Err(zero.into()) } else { Ok(time) })
}

/// A duration: a whole number and a unit.
pub(crate) fn duration(value: &[u8]) -> Result<Duration, String> {
    let help = "write a whole number and a unit: `250ms`, `30s`, `5m` or `2h`";
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, unit) = value.split_at(digits);
    let milliseconds: u64 = match unit {
        b"ms" => 1,
        b"s" => 1000,
        b"m" => 60 * 1000,
        b"h" => 60 * 60 * 1000,
        _ => return Err(help.into()),
    };
    if number.is_empty() {
        return Err(help.into());
    }
    str::from_utf8(number)
        .ok()
        .and_then(|number| number.parse::<u64>().ok())
        .and_then(|number| number.checked_mul(milliseconds))
        .map(Duration::from_millis)
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| "it must not be more than a hundred years".into())
}
