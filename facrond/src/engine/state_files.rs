//! The directories of the daemon's state, and the files that earlier versions had there.
//!
//! Those kept rules in `rules.json`, of the state directory and of the runtime directory. Such
//! files are read once; they go when the store has what was in them.

use super::rule_book::SavedRule;
use crate::own_dir::{OwnDir, OwnError};
use crate::store::{self, Layer, RuleRow, Saved};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const RULES: &str = "rules.json";

/// The rules of one layer.
#[derive(Debug, Default, Deserialize)]
struct EarlierRules {
    /// Numbers from here on are free.
    #[serde(default)]
    next_id: u64,
    #[serde(default)]
    rules: Vec<EarlierRule>,
}

#[derive(Debug, Deserialize)]
struct EarlierRule {
    id: u64,
    #[serde(default)]
    paused: bool,
    #[serde(flatten)]
    words: SavedRule,
}

#[derive(Clone, Debug)]
pub struct StateFiles {
    pub state: PathBuf,
    pub runtime: PathBuf,
    /// How the paths of the store's files begin.
    store: Vec<PathBuf>,
}

impl StateFiles {
    pub fn new(state: PathBuf, runtime: PathBuf) -> Self {
        let mut store = vec![state.join(store::FILE)];
        store.extend(state.canonicalize().map(|state| state.join(store::FILE)));
        Self { state, runtime, store }
    }

    /// Whether it is a file of the store. Rules must not see those change: what they do about
    /// it would change them again.
    pub fn is_of_store(&self, path: &[u8]) -> bool {
        self.store.iter().any(|file| path.starts_with(file.as_os_str().as_bytes()))
    }

    pub fn directories(&self) -> [&Path; 2] {
        [&self.state, &self.runtime]
    }

    /// Adds the rules of earlier versions to those of the store; the directories that had some.
    pub(super) fn add_rules(&self, saved: &mut Saved) -> Vec<PathBuf> {
        let layers = [Layer::ForEver, Layer::UntilBoot];
        let mut found = Vec::new();
        for (dir, layer) in self.directories().into_iter().zip(layers) {
            match read::<EarlierRules>(dir, RULES) {
                Ok(Some(earlier)) => {
                    earlier.add_to(saved, layer);
                    found.push(dir.to_owned());
                }
                Ok(None) => {}
                Err(error) => saved.problems.push(error.to_string()),
            }
        }
        found
    }

    /// Writes a file of the state directory.
    pub(super) fn write_state(&self, name: &str, value: &impl Serialize) -> Result<(), OwnError> {
        let error = |error| OwnError::io("write", &self.state.join(name), error);
        let bytes = serde_json::to_vec(value).map_err(error)?;
        OwnDir::make(&self.state)?.replace(name.as_ref(), &bytes)
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

impl EarlierRules {
    fn add_to(self, saved: &mut Saved, layer: Layer) {
        for EarlierRule { id, paused, words } in self.rules {
            saved.next_rule = saved.next_rule.max(id + 1);
            if !saved.rules.iter().any(|row| row.id == id) {
                saved.rules.push(RuleRow { id, layer, paused, data: words.to_bytes() });
            }
        }
        saved.next_rule = saved.next_rule.max(self.next_id);
    }
}

/// Removes the rules of earlier versions from directories.
pub(super) fn remove_rules(found: &[PathBuf]) {
    for dir in found {
        let removed = OwnDir::find(dir).and_then(|dir| dir.map_or(Ok(()), |dir| dir.remove(RULES.as_ref())));
        removed.unwrap_or_else(|error| tracing::error!("{error}"));
    }
}

fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>, OwnError> {
    let Some(dir) = OwnDir::find(dir)? else { return Ok(None) };
    let Some(bytes) = dir.read(name.as_ref())? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        // Kept for a person to look at.
        let _ = dir.rename(name.as_ref(), format!("{name}.unreadable").as_ref());
        OwnError::io("understand", &dir.path_of(name.as_ref()), error)
    })
}
