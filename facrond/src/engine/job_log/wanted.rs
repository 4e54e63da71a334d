//! Which records a client asks for.

use crate::config::filter::{Filter, ObjectKind, Patterns};
use crate::config::process_filter::{Condition, Judgement, ProcessFilter, Program, exe};
use crate::job::Job;
use crate::job::outcome::Outcome;
use facron_proto::RuleId;
use facron_proto::method::TailParams;
use facron_proto::rpc::{Code, Error};
use std::time::SystemTime;

/// The longest glob in bytes. Users choose them, and to compile one takes time.
const LONGEST_GLOB: usize = 1024;

/// The conditions on a record, all of which must hold.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub rule: Option<RuleId>,
    pub failed: bool,
    pub since: Option<SystemTime>,
    pub until: Option<SystemTime>,
    pub path: Filter,
    pub process: ProcessFilter,
}

/// What the conditions look at.
#[derive(Debug)]
pub struct Facts<'a> {
    pub rule: RuleId,
    pub is_failure: bool,
    pub time: SystemTime,
    pub path: &'a [u8],
    pub old_path: Option<&'a [u8]>,
    pub exe: Option<&'a [u8]>,
    pub uid: Option<u32>,
}

impl<'a> Facts<'a> {
    pub fn of(job: &'a Job, outcome: &Outcome) -> Self {
        let event = &job.event;
        Self {
            rule: job.rule,
            is_failure: outcome.is_failure(),
            time: event.time,
            path: &event.path,
            old_path: event.old_path.as_deref(),
            exe: event.exe.as_deref(),
            uid: event.uid,
        }
    }
}

impl Wanted {
    /// What a request asks for; `rule` is the rule that it names.
    pub fn new(params: &TailParams, rule: Option<RuleId>) -> Result<Self, Error> {
        Ok(Self {
            rule,
            failed: params.failed,
            since: params.since.as_deref().map(|text| time("since", text)).transpose()?,
            until: params.until.as_deref().map(|text| time("until", text)).transpose()?,
            path: params.path.as_deref().map(path).transpose()?.unwrap_or_default(),
            process: ProcessFilter {
                uid: params.uid.map(Condition::Is),
                exe: params.exe.as_deref().map(program).transpose()?,
            },
        })
    }

    /// The same without what happened before a time.
    pub fn not_before(&self, time: SystemTime) -> Self {
        Self { since: self.since.max(Some(time)), ..self.clone() }
    }

    pub fn covers(&self, facts: &Facts<'_>) -> bool {
        self.rule.is_none_or(|rule| rule == facts.rule)
            && (!self.failed || facts.is_failure)
            && self.since.is_none_or(|since| since <= facts.time)
            && self.until.is_none_or(|until| facts.time <= until)
            && [Some(facts.path), facts.old_path].into_iter().flatten().any(|path| self.covers_path(path))
            && self.process.judge(facts.uid, facts.exe) == Judgement::Counts
    }

    fn covers_path(&self, path: &[u8]) -> bool {
        self.path.accepts(path.strip_prefix(b"/").unwrap_or(path), b"", ObjectKind::File)
    }
}

fn invalid(name: &str, why: impl std::fmt::Display) -> Error {
    Error::new(Code::INVALID_PARAMS, format!("invalid `{name}`: {why}"))
}

fn time(name: &str, text: &str) -> Result<SystemTime, Error> {
    let help = "write a time as `2026-11-24T10:00:00Z`";
    humantime::parse_rfc3339(text).map_err(|error| invalid(name, format!("{error}; {help}")))
}

fn glob<'t>(name: &str, text: &'t str) -> Result<&'t str, Error> {
    let is_short = text.len() <= LONGEST_GLOB;
    is_short.then_some(text).ok_or_else(|| invalid(name, format!("it is longer than {LONGEST_GLOB} bytes")))
}

fn path(text: &str) -> Result<Filter, Error> {
    let include = vec![glob("path", text)?.to_owned()];
    Filter::new(Patterns { include, ..Patterns::default() }).map_err(|error| invalid("path", error.kind()))
}

fn program(text: &str) -> Result<Condition<Program>, Error> {
    exe(glob("exe", text)?.as_bytes()).map_err(|why| invalid("exe", why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::testing::job;
    use serde_json::{Value, from_value, json};
    use std::time::{Duration, UNIX_EPOCH};

    fn wanted(params: &Value) -> Result<Wanted, Error> {
        Wanted::new(&from_value(params.clone()).unwrap(), None)
    }

    #[test]
    fn all_conditions_have_to_hold() {
        let mut job = job(1, 7, "/srv/new/b.txt");
        job.event.time = UNIX_EPOCH + Duration::from_millis(1_000_500);
        job.event.old_path = Some(b"/srv/old/a\xff".as_slice().into());
        (job.event.exe, job.event.uid) = (Some(b"/usr/bin/mv".as_slice().into()), Some(5));
        for (params, expected) in [
            (json!({}), true),
            (json!({"since": "1970-01-01T00:16:40.5Z", "until": "1970-01-01T00:16:40.5Z"}), true),
            (json!({"since": "1970-01-01T00:16:40.500000001Z"}), false),
            (json!({"until": "1970-01-01T00:16:40.499Z"}), false),
            (json!({"path": "*.txt"}), true),
            (json!({"path": "/srv/*/b.txt", "uid": 5, "exe": "mv"}), true),
            (json!({"path": "/srv/*"}), false),
            (json!({"path": "/srv/old/**"}), true),
            (json!({"path": "b.tx"}), false),
            (json!({"uid": 6}), false),
            (json!({"exe": "/usr/bin/*"}), true),
            (json!({"exe": "!/usr/bin/*"}), false),
            (json!({"exe": "cp", "uid": 5}), false),
            (json!({"failed": true}), false),
        ] {
            let covers = wanted(&params).unwrap().covers(&Facts::of(&job, &Outcome::Recorded));
            assert_eq!(covers, expected, "{params}");
        }
        (job.event.exe, job.event.uid) = (None, None);
        for (params, expected) in [(json!({"uid": 5}), false), (json!({"exe": "!mv"}), true)] {
            let covers = wanted(&params).unwrap().covers(&Facts::of(&job, &Outcome::Recorded));
            assert_eq!(covers, expected, "of nobody: {params}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_way_out() {
        for (params, part) in [
            (json!({"since": "yesterday"}), "since"),
            (json!({"until": "2026-11-24 10:00"}), "2026-11-24T10:00:00Z"),
            (json!({"path": "["}), "path"),
            (json!({"path": "x".repeat(1025)}), "1024 bytes"),
            (json!({"exe": "bin/x"}), "exe"),
            (json!({"exe": "{".repeat(1025)}), "1024 bytes"),
        ] {
            let error = wanted(&params).unwrap_err();
            assert_eq!(error.code, Code::INVALID_PARAMS);
            assert!(error.message.contains(part), "{}", error.message);
        }
    }
}
