//! Rules that outlive the daemon, and the numbers that are used up.
//!
//! Two files of the same form: persisted rules in the state directory, runtime
//! rules in the runtime directory, which a boot empties. Each is written anew and
//! renamed into place, so that a crash leaves the old or the new one.

use super::rule_book::{Entry, Switch};
use crate::config::rule::RuleSpec;
use crate::config::{Words, parse_words};
use facron_proto::{RuleId, Source, Text};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const FILE: &str = "rules.json";

/// The form of the files; a later daemon reads earlier forms.
const VERSION: u32 = 1;

/// The rules of one layer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct SavedRules {
    version: u32,
    /// Numbers from here on are free.
    #[serde(default)]
    pub(super) next_id: u64,
    #[serde(default)]
    pub(super) rules: Vec<SavedRule>,
}

/// A rule in words, as its author gave it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedRule {
    pub(super) id: RuleId,
    pub(super) path: Text,
    events: String,
    #[serde(default)]
    options: Text,
    command: Vec<Text>,
    #[serde(default)]
    pub(super) paused: bool,
}

/// What went wrong with a file of ours.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {source}", Text::from(.path.as_os_str().as_bytes()))]
pub struct StoreError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

#[derive(Clone, Debug)]
pub struct Store {
    state: PathBuf,
    runtime: PathBuf,
}

impl Store {
    pub fn new(state: PathBuf, runtime: PathBuf) -> Self {
        Self { state, runtime }
    }

    pub fn directories(&self) -> [&Path; 2] {
        [&self.state, &self.runtime]
    }

    /// The saved rules of one layer; none where there is no such file.
    pub(super) fn load(&self, source: Source) -> Result<SavedRules, StoreError> {
        self.directory_of(source).map_or_else(|| Ok(SavedRules::default()), |dir| read(&dir.join(FILE)))
    }

    /// Saves the rules of one layer, and which numbers are used up.
    pub(super) fn save<'a>(
        &self,
        source: Source,
        next_id: u64,
        rules: impl Iterator<Item = &'a Entry>,
    ) -> Result<(), StoreError> {
        let Some(dir) = self.directory_of(source) else { return Ok(()) };
        let rules = rules.map(save_rule).collect();
        write(dir, FILE, &SavedRules { version: VERSION, next_id, rules })
    }

    /// Rules of configuration files are saved nowhere.
    fn directory_of(&self, source: Source) -> Option<&Path> {
        match source {
            Source::File => None,
            Source::Runtime => Some(&self.runtime),
            Source::Persisted => Some(&self.state),
        }
    }

    /// Writes a file of the state directory.
    pub(super) fn write_state(&self, name: &str, value: &impl Serialize) -> Result<(), StoreError> {
        write(&self.state, name, value)
    }

    /// Reads a file of the state directory and removes it; a missing one is empty.
    pub(super) fn take_state<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, StoreError> {
        let path = self.state.join(name);
        let value = read(&path)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError { what: "remove", path, source: error })
            }
            _ => Ok(value),
        }
    }
}

impl SavedRule {
    pub(super) fn new(id: RuleId, spec: &RuleSpec) -> Self {
        Self {
            id,
            path: Text::from(spec.path.as_os_str().as_bytes()),
            events: spec.events.to_string(),
            options: Text(spec.options_text.clone()),
            command: spec.command.words().into_iter().map(Text).collect(),
            paused: false,
        }
    }

    /// The rule, or what is wrong with it by now.
    pub(super) fn spec(&self) -> Result<RuleSpec, String> {
        let words = Words {
            path: self.path.as_bytes(),
            events: self.events.as_bytes(),
            options: self.options.as_bytes(),
            command: self.command.iter().map(Text::as_bytes).collect(),
        };
        parse_words(&words).map(|(spec, _)| spec).map_err(|diagnostics| {
            diagnostics.first().map_or_else(String::new, |first| first.message.clone())
        })
    }
}

fn save_rule(entry: &Entry) -> SavedRule {
    SavedRule { paused: entry.switch == Switch::Paused, ..SavedRule::new(entry.id, &entry.spec) }
}

fn read<T: DeserializeOwned + Default>(path: &Path) -> Result<T, StoreError> {
    let failed = |what| move |source| StoreError { what, path: path.to_owned(), source };
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            let aside = path.with_extension("json.unreadable");
            // Kept for a person to look at; the next save replaces the file itself.
            let _ = fs::rename(path, aside);
            failed("understand")(error.into())
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        Err(error) => Err(failed("read")(error)),
    }
}

fn write(dir: &Path, name: &str, saved: &impl Serialize) -> Result<(), StoreError> {
    let path = dir.join(name);
    let new = path.with_extension("json.new");
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
