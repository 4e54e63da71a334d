//! Rules that outlive the daemon, and the numbers that are used up.
//!
//! Two files of the same form: persisted rules in the state directory, runtime
//! rules in the runtime directory, which a boot empties. Each is written anew and
//! renamed into place, so that a crash leaves the old or the new one.

use super::rule_book::{Entry, Switch};
use crate::config::rule::RuleSpec;
use crate::config::{Words, parse_words};
use crate::own_dir::{OwnDir, OwnError};
use facron_proto::{RuleId, Source, Text};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::os::unix::ffi::OsStrExt;
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

#[derive(Clone, Debug)]
pub struct Store {
    state: PathBuf,
    runtime: PathBuf,
}

impl Store {
    pub fn new(state: PathBuf, runtime: PathBuf) -> Self {
        Self { state, runtime }
    }

    /// Refuses directories that others could change: who can write there decides what is run.
    pub fn check(&self) -> Result<(), OwnError> {
        let found = self.directories().map(OwnDir::find);
        let refused = found.into_iter().filter_map(Result::err);
        refused.filter(|error| matches!(error, OwnError::Untrusted { .. })).map(Err).next().unwrap_or(Ok(()))
    }

    pub fn directories(&self) -> [&Path; 2] {
        [&self.state, &self.runtime]
    }

    /// The saved rules of one layer; none where there is no such file.
    pub(super) fn load(&self, source: Source) -> Result<SavedRules, OwnError> {
        match self.directory_of(source) {
            Some(dir) => Ok(read(dir, FILE)?.unwrap_or_default()),
            None => Ok(SavedRules::default()),
        }
    }

    /// Saves the rules of one layer, and which numbers are used up.
    pub(super) fn save<'a>(
        &self,
        source: Source,
        next_id: u64,
        rules: impl Iterator<Item = &'a Entry>,
    ) -> Result<(), OwnError> {
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
    pub(super) fn write_state(&self, name: &str, value: &impl Serialize) -> Result<(), OwnError> {
        write(&self.state, name, value)
    }

    /// Reads a file of the state directory and removes it; a missing one is empty.
    pub(super) fn take_state<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, OwnError> {
        let value = read(&self.state, name)?;
        if let Some(dir) = OwnDir::find(&self.state)? {
            dir.remove(name.as_ref())?;
        }
        Ok(value.unwrap_or_default())
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

fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>, OwnError> {
    let Some(dir) = OwnDir::find(dir)? else { return Ok(None) };
    let Some(bytes) = dir.read(name.as_ref())? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        // Kept for a person to look at; the next save replaces the file itself.
        let _ = dir.rename(name.as_ref(), format!("{name}.unreadable").as_ref());
        OwnError::io("understand", &dir.path_of(name.as_ref()), error)
    })
}

fn write(dir: &Path, name: &str, saved: &impl Serialize) -> Result<(), OwnError> {
    let bytes = serde_json::to_vec(saved).map_err(|error| OwnError::io("write", &dir.join(name), error))?;
    OwnDir::make(dir)?.replace(name.as_ref(), &bytes)
}
