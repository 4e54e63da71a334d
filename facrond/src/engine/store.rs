//! Rules that outlive the daemon, and the numbers that are used up.
//!
//! Two files of the same form: persisted rules in the state directory, runtime
//! rules in the runtime directory, which a boot empties. Each is written anew and
//! renamed into place, so that a crash leaves the old or the new one.

use super::table::{Entry, Origin, Switch, Table};
use crate::config::{Words, parse_words};
use facron_proto::{RuleId, Source, Text};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

const FILE: &str = "rules.json";

/// The form of the files; a later daemon reads earlier forms.
const VERSION: u32 = 1;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved {
    version: u32,
    /// Numbers from here on are free.
    #[serde(default)]
    next_id: u64,
    #[serde(default)]
    rules: Vec<SavedRule>,
}

/// A rule in words, as its author gave it.
#[derive(Debug, Serialize, Deserialize)]
struct SavedRule {
    id: RuleId,
    path: Text,
    events: String,
    #[serde(default)]
    options: Text,
    command: Vec<Text>,
    #[serde(default)]
    paused: bool,
}

/// What went wrong with a file of ours.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {source}", Text::from(.path.as_os_str().as_bytes()))]
pub struct StoreError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The two directories.
#[derive(Clone, Debug)]
pub struct Store {
    state: PathBuf,
    runtime: PathBuf,
}

impl Store {
    /// With `--state-dir` and `--runtime-dir`.
    pub fn new(state: PathBuf, runtime: PathBuf) -> Self {
        Self { state, runtime }
    }

    /// The two.
    pub fn directories(&self) -> [&Path; 2] {
        [&self.state, &self.runtime]
    }

    /// Takes the saved rules into an empty table. What cannot be read is told and
    /// left out; a file that makes no sense is kept aside.
    pub fn load(&self, table: &mut Table) -> Vec<String> {
        let mut problems = Vec::new();
        for (dir, origin) in [(&self.state, Origin::Persisted), (&self.runtime, Origin::Runtime)] {
            match read(&dir.join(FILE)) {
                Ok(saved) => {
                    table.next_id = table.next_id.max(saved.next_id);
                    for rule in saved.rules {
                        take(table, &rule, &origin, &mut problems);
                    }
                }
                Err(error) => problems.push(error.to_string()),
            }
        }
        problems
    }

    /// Saves the rules of one layer, and for the persisted ones which numbers are used up.
    pub fn save(&self, table: &Table, source: Source) -> Result<(), StoreError> {
        let dir = match source {
            Source::File => return Ok(()),
            Source::Runtime => &self.runtime,
            Source::Persisted => &self.state,
        };
        let rules = table.iter().filter(|entry| entry.origin.source() == source).map(save_rule).collect();
        let saved = Saved { version: VERSION, next_id: table.next_id, rules };
        write(dir, &saved)
    }
}

fn take(table: &mut Table, rule: &SavedRule, origin: &Origin, problems: &mut Vec<String>) {
    let words = Words {
        path: rule.path.as_bytes(),
        events: rule.events.as_bytes(),
        options: rule.options.as_bytes(),
        command: rule.command.iter().map(Text::as_bytes).collect(),
    };
    match parse_words(&words) {
        Ok((spec, _)) => {
            table.insert_as(rule.id, Rc::new(spec), origin.clone());
            if rule.paused
                && let Some(entry) = table.get_mut(rule.id)
            {
                entry.switch = Switch::Paused;
            }
        }
        Err(diagnostics) => {
            let first = diagnostics.first().map_or_else(String::new, |first| first.message.clone());
            problems.push(format!("the saved rule {} on {} is left out: {first}", rule.id, rule.path));
        }
    }
}

fn save_rule(entry: &Entry) -> SavedRule {
    SavedRule {
        id: entry.id,
        path: Text::from(entry.spec.path.as_os_str().as_bytes()),
        events: entry.spec.events.to_string(),
        options: Text(entry.spec.options_text.clone()),
        command: super::report::words(&entry.spec.command),
        paused: entry.switch == Switch::Paused,
    }
}

fn read(path: &Path) -> Result<Saved, StoreError> {
    let failed = |what| move |source| StoreError { what, path: path.to_owned(), source };
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            let aside = path.with_extension("json.unreadable");
            // Kept for a person to look at; the next save replaces the file itself.
            let _ = fs::rename(path, aside);
            failed("understand")(error.into())
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Saved::default()),
        Err(error) => Err(failed("read")(error)),
    }
}

fn write(dir: &Path, saved: &Saved) -> Result<(), StoreError> {
    let path = dir.join(FILE);
    let new = dir.join("rules.json.new");
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| StoreError { what, path, source }
    };
    fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(failed("make", dir))?;
    let bytes = serde_json::to_vec(saved).map_err(io::Error::from).map_err(failed("write", &new))?;
    File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
        .map_err(failed("write", &new))?;
    fs::rename(&new, &path).map_err(failed("write", &path))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("write", dir))
}
