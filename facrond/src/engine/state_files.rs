//! The directories of the daemon's state, and the files that earlier versions had there.
//!
//! Those kept rules in `rules.json`, of the state directory and of the runtime directory, and jobs
//! in `jobs.json`. Such files are read once; they go when the store has what was in them.

use super::rule_book::SavedRule;
use crate::own_dir::{OwnDir, OwnError};
use crate::store::{self, Layer, RuleRow, Saved};
use serde::Deserialize;
use serde::de::DeserializeOwned;
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

    /// Reads a file of the state directory, if it exists.
    pub(super) fn read_state<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, OwnError> {
        read(&self.state, name)
    }

    pub(super) fn remove_state(&self, name: &str) -> Result<(), OwnError> {
        OwnDir::find(&self.state)?.map_or(Ok(()), |dir| dir.remove(name.as_ref()))
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
