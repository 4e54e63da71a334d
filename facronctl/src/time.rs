//! Times as journalctl takes them (systemd.time(7)).

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

const HELP: &str = "write `now`, `today`, `yesterday` or `tomorrow`, a distance like `-2h` or `3 days ago`, a time like \
    `2026-11-24`, `2026-11-24 10:00` or `10:00`, or the seconds since 1970 like `@1790000000`";

/// Units and their seconds. Longer names come first.
const UNITS: [(&[&str], f64); 9] = [
    (&["microseconds", "microsecond", "usec", "us", "µs"], 1e-6),
    (&["milliseconds", "millisecond", "msec", "ms"], 1e-3),
    (&["seconds", "second", "sec", "s", ""], 1.0),
    (&["minutes", "minute", "min", "m"], 60.0),
    (&["hours", "hour", "hr", "h"], 3600.0),
    (&["days", "day", "d"], 86_400.0),
    (&["weeks", "week", "w"], 604_800.0),
    (&["months", "month", "M"], 2_629_800.0),
    (&["years", "year", "y"], 31_557_600.0),
];

/// The value of a TIME option, for the local time zone.
pub(crate) fn parse(text: &str) -> Result<Timestamp, String> {
    at(text, &Zoned::now())
}

/// The same at some time.
fn at(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let text = text.trim();
    let day = |date: Result<Date, jiff::Error>| date.ok()?.to_zoned(now.time_zone().clone()).ok();
    let found = match text {
        "now" => Some(now.timestamp()),
        "today" => day(Ok(now.date())).map(|day| day.timestamp()),
        "yesterday" => day(now.date().yesterday()).map(|day| day.timestamp()),
        "tomorrow" => day(now.date().tomorrow()).map(|day| day.timestamp()),
        _ => since_1970(text).or_else(|| distance(text, now)).or_else(|| moment(text, now)),
    };
    found.ok_or_else(|| HELP.to_owned())
}

fn since_1970(text: &str) -> Option<Timestamp> {
    let seconds = text.strip_prefix('@')?.parse().ok()?;
    Timestamp::from_duration(SignedDuration::try_from_secs_f64(seconds).ok()?).ok()
}

/// `-2h`, `+5min 20s`, `2h ago`, `5min left`.
fn distance(text: &str, now: &Zoned) -> Option<Timestamp> {
    let before = |rest| span(rest).map(|span| -span);
    let distance = match text.split_at_checked(1)? {
        ("-", rest) => before(rest),
        ("+", rest) => span(rest),
        _ => match text.rsplit_once(' ')? {
            (rest, "ago") => before(rest),
            (rest, "left") => span(rest),
            _ => None,
        },
    }?;
    now.timestamp().checked_add(SignedDuration::try_from_secs_f64(distance).ok()?).ok()
}

/// Numbers with their units: `2h`, `1h30min`, `3 days 4 hours`. Without a unit, seconds.
fn span(mut text: &str) -> Option<f64> {
    let mut sum = None;
    loop {
        text = text.trim_start();
        if text.is_empty() {
            return sum;
        }
        let number: f64 = split(&mut text, |c| c.is_ascii_digit() || c == '.').parse().ok()?;
        text = text.trim_start();
        let name = split(&mut text, char::is_alphabetic);
        let (_, unit) = UNITS.iter().find(|(names, _)| names.contains(&name))?;
        sum = Some(sum.unwrap_or_default() + number * unit);
    }
}

/// Takes the first characters of a kind.
fn split<'t>(text: &mut &'t str, is_taken: impl Fn(char) -> bool) -> &'t str {
    let (taken, rest) = text.split_at(text.find(|c| !is_taken(c)).unwrap_or(text.len()));
    *text = rest;
    taken
}

/// A date, a time of the day or both, and perhaps `UTC` or an offset.
fn moment(text: &str, now: &Zoned) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let (text, zone) = match text.strip_suffix("UTC") {
        Some(text) => (text.trim_end(), TimeZone::UTC),
        None => (text, now.time_zone().clone()),
    };
    let today = now.with_time_zone(zone.clone()).date();
    let moment: DateTime = match text.split_once([' ', 'T']) {
        Some((date, time)) => date.parse::<Date>().ok()?.to_datetime(time_of_day(time)?),
        None => match text.parse::<Date>() {
            Ok(date) => date.to_datetime(Time::midnight()),
            Err(_) => today.to_datetime(time_of_day(text)?),
        },
    };
    moment.to_zoned(zone).ok().map(|zoned| zoned.timestamp())
}

fn time_of_day(text: &str) -> Option<Time> {
    let text = text.trim();
    let has_colon = text.contains(':');
    has_colon.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_journalctl_takes_them() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let now = "2026-11-24T10:30:15.5Z".parse::<Timestamp>().unwrap().to_zoned(zone);
        for (text, expected) in [
            ("now", "2026-11-24T10:30:15.5Z"),
            ("today", "2026-11-23T22:00:00Z"),
            ("yesterday", "2026-11-22T22:00:00Z"),
            ("tomorrow", "2026-11-24T22:00:00Z"),
            ("-2h", "2026-11-24T08:30:15.5Z"),
            ("+5min", "2026-11-24T10:35:15.5Z"),
            ("-1h30min", "2026-11-24T09:00:15.5Z"),
            ("- 1 day 1.5 hours", "2026-11-23T09:00:15.5Z"),
            ("-90", "2026-11-24T10:28:45.5Z"),
            ("3 days ago", "2026-11-21T10:30:15.5Z"),
            ("2w ago", "2026-11-10T10:30:15.5Z"),
            ("5s left", "2026-11-24T10:30:20.5Z"),
            ("-500ms", "2026-11-24T10:30:15Z"),
            ("-1M", "2026-10-25T00:00:15.5Z"),
            ("2026-11-20", "2026-11-19T22:00:00Z"),
            ("2026-11-20 10:00", "2026-11-20T08:00:00Z"),
            ("2026-11-20 10:00:07", "2026-11-20T08:00:07Z"),
            ("2026-11-20T10:00:07.25", "2026-11-20T08:00:07.25Z"),
            ("2026-11-20 10:00 UTC", "2026-11-20T10:00:00Z"),
            ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00Z"),
            ("2026-11-20T10:00:00+01:00", "2026-11-20T09:00:00Z"),
            ("10:00", "2026-11-24T08:00:00Z"),
            ("10:00:30", "2026-11-24T08:00:30Z"),
            ("@1790000000", "2026-09-21T14:13:20Z"),
            ("@0.5", "1970-01-01T00:00:00.5Z"),
        ] {
            assert_eq!(at(text, &now).map(|time| time.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for text in [
            "",
            "-",
            "2h",
            "-2x",
            "-h",
            "ago",
            "@",
            "@x",
            "@1e30",
            "-1e3h",
            "10",
            "25:00",
            "2026-13-01",
            "2026-11-24 10",
            "noon",
            "-99999999y",
        ] {
            assert!(at(text, &now).is_err_and(|why| why.contains("yesterday")), "{text}");
        }
    }

    #[test]
    fn hours_that_do_not_exist_are_no_error() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let now = "2026-03-29T10:00:00Z".parse::<Timestamp>().unwrap().to_zoned(zone);
        assert_eq!(at("2026-03-29 02:30", &now).unwrap().to_string(), "2026-03-29T01:30:00Z");
        assert_eq!(at("today", &now).unwrap().to_string(), "2026-03-28T23:00:00Z");
    }
}
