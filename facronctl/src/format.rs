//! Values as text for people. A file name can never send control characters to the terminal.

use facron_proto::{Outcome, OutcomeState, Text, is_unsafe};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix::sys::signal::Signal;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path of the client itself, for a message.
pub(crate) fn path_text(path: &Path) -> Text {
    Text::from(path.as_os_str().as_bytes())
}

/// Text of several lines. Control characters except line breaks are escaped.
pub(crate) fn safe_block(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && is_unsafe(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// One word for a shell, quoted if necessary.
pub(crate) fn quoted(word: &Text) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,^".contains(c) || !c.is_ascii();
    match std::str::from_utf8(word.as_bytes()) {
        Ok(text) if text.chars().any(is_unsafe) => ansi_quoted(word),
        Ok(text) if !text.is_empty() && text.chars().all(plain) => text.to_owned(),
        Ok(text) => format!("'{}'", text.replace('\'', r"'\''")),
        Err(_) => ansi_quoted(word),
    }
}

/// The form `$'...'`, which can contain any byte.
fn ansi_quoted(word: &Text) -> String {
    let mut quoted = "$'".to_owned();
    let escape = |quoted: &mut String, bytes: &[u8]| {
        for byte in bytes {
            // three octal digits: a hexadecimal number would include digits that follow it
            let _ = write!(quoted, "\\{byte:03o}");
        }
    };
    for chunk in word.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' | '\'' => quoted.extend(['\\', c]),
                '\n' => quoted.push_str("\\n"),
                '\t' => quoted.push_str("\\t"),
                c if is_unsafe(c) => escape(&mut quoted, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => quoted.push(c),
            }
        }
        escape(&mut quoted, chunk.invalid());
    }
    quoted + "'"
}

/// A command line that a shell would understand.
pub(crate) fn command_line(words: &[Text]) -> String {
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// The precision of [`local_time`].
#[derive(Clone, Copy)]
pub(crate) enum Precision {
    Seconds,
    Milliseconds,
}

/// An RFC 3339 time as local time. Other text stays unchanged.
pub(crate) fn local_time(time: &str, zone: &TimeZone, precision: Precision) -> String {
    let Ok(timestamp) = time.parse::<Timestamp>() else { return Text::from(time).to_string() };
    let format = match precision {
        Precision::Seconds => "%Y-%m-%d %H:%M:%S",
        Precision::Milliseconds => "%Y-%m-%d %H:%M:%S%.3f",
    };
    timestamp.to_zoned(zone.clone()).strftime(format).to_string()
}

/// A time span in its two largest units.
pub(crate) fn uptime(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// The run time of a command.
fn duration(milliseconds: f64) -> String {
    if milliseconds < 10.0 {
        format!("{milliseconds:.1} ms")
    } else if milliseconds < 1000.0 {
        format!("{milliseconds:.0} ms")
    } else {
        format!("{:.1} s", milliseconds / 1000.0)
    }
}

fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned())
}

/// The outcome of a record, in a few words.
pub(crate) fn outcome(outcome: &Outcome) -> String {
    let mut text = match (outcome.state, outcome.exit, outcome.signal) {
        (OutcomeState::Pending, ..) => "pending".to_owned(),
        (OutcomeState::Running, ..) => "running".to_owned(),
        (OutcomeState::Exited, Some(status), _) => format!("exit {status}"),
        (OutcomeState::Exited, ..) => "exited".to_owned(),
        (OutcomeState::Signaled, _, Some(signal)) => format!("killed by {}", signal_name(signal)),
        (OutcomeState::Signaled, ..) => "killed".to_owned(),
        (OutcomeState::Timeout, ..) => "timed out".to_owned(),
        (OutcomeState::SpawnFailed, ..) => "not started".to_owned(),
        (OutcomeState::Skipped, ..) => "skipped".to_owned(),
        (OutcomeState::Dropped, ..) => "dropped".to_owned(),
        (OutcomeState::Recorded, ..) => "recorded".to_owned(),
        (OutcomeState::Allowed, ..) => "allowed".to_owned(),
        (OutcomeState::Denied, ..) => "denied".to_owned(),
        (OutcomeState::NotMoved, ..) => "file not moved".to_owned(),
    };
    // writing to a string cannot fail
    if let Some(milliseconds) = outcome.duration_ms {
        let _ = write!(text, " after {}", duration(milliseconds));
    }
    if let Some(pid) = outcome.pid {
        let _ = write!(text, " (pid {pid})");
    }
    if let Some(by) = outcome.by {
        let _ = write!(text, " by {}", by.name());
    }
    if let Some(error) = &outcome.error {
        let _ = write!(text, ": {}", Text::from(error.as_str()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_where_a_shell_would_take_it_apart() {
        for (word, expected) in [
            (&b"/usr/bin/mv"[..], "/usr/bin/mv"),
            (b"--file=$$", "'--file=$$'"),
            (b"", "''"),
            (b"a b", "'a b'"),
            (b"it's", r"'it'\''s'"),
            (b"a\\b", r"'a\b'"),
            ("grün".as_bytes(), "grün"),
            (b"a\n'\x1b[1m\xff0", r"$'a\n\'\033[1m\3770'"),
            ("\u{202e}x".as_bytes(), r"$'\342\200\256x'"),
        ] {
            assert_eq!(quoted(&Text::from(word)), expected);
        }
        assert_eq!(command_line(&["sh".into(), "-c".into(), "echo $1".into()]), "sh -c 'echo $1'");
    }

    #[test]
    fn blocks_keep_their_lines_and_lose_what_drives_a_terminal() {
        assert_eq!(safe_block("a\\\n  ^ \x1b[2J\u{202e}"), "a\\\n  ^ \\u{1b}[2J\\u{202e}");
    }

    #[test]
    fn times_are_local() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let time = "2024-05-01T23:04:05.678901234Z";
        assert_eq!(local_time(time, &zone, Precision::Milliseconds), "2024-05-02 01:04:05.678");
        assert_eq!(local_time(time, &zone, Precision::Seconds), "2024-05-02 01:04:05");
        assert_eq!(local_time("\x1b", &zone, Precision::Seconds), "\\u{1b}");
    }

    #[test]
    fn spans_are_short() {
        let spans = [0, 59_999, 61_000, 3_600_000, 90_000_000].map(uptime);
        assert_eq!(spans, ["0s", "59s", "1m 1s", "1h 0m", "1d 1h"]);
        assert_eq!([1.23, 45.6, 12_345.0].map(duration), ["1.2 ms", "46 ms", "12.3 s"]);
    }

    #[test]
    fn outcomes_say_what_applies() {
        let ran = |state| Outcome { pid: Some(9), duration_ms: Some(12.0), ..Outcome::from(state) };
        let exited = Outcome { exit: Some(2), ..ran(OutcomeState::Exited) };
        assert_eq!(outcome(&exited), "exit 2 after 12 ms (pid 9)");
        let killed = Outcome { signal: Some(15), ..ran(OutcomeState::Signaled) };
        assert_eq!(outcome(&killed), "killed by SIGTERM after 12 ms (pid 9)");
        let failed =
            Outcome { error: Some("no such file".into()), ..Outcome::from(OutcomeState::SpawnFailed) };
        assert_eq!(outcome(&failed), "not started: no such file");
        assert_eq!(outcome(&OutcomeState::Recorded.into()), "recorded");
    }
}
