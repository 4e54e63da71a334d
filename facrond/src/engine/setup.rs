//! What the engine is made with, and what ends it.

use super::StateFiles;
use crate::job::output::LogTo;
use crate::job::queue::Limits;
use crate::service_manager::DescriptorStore;
use crate::store::{Kept, Saved, Store};
use crate::watch;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct Setup {
    pub conf: PathBuf,
    pub conf_dir: PathBuf,
    /// Where the state is; `watch` has no such place.
    pub files: Option<StateFiles>,
    pub store: Store,
    pub saved: Saved,
    /// How much of the history.
    pub kept: Kept,
    pub limits: Limits,
    /// What the service manager keeps.
    pub descriptors: DescriptorStore,
    /// What becomes of the commands' output.
    pub log_to: LogTo,
}

impl Setup {
    /// Files and directories of the daemon's own, as far as they are known at its start.
    pub(super) fn own_places(&self) -> Vec<PathBuf> {
        let mut own = vec![self.conf.clone(), self.conf_dir.clone()];
        own.extend(self.files.iter().flat_map(StateFiles::directories).map(Path::to_owned));
        let resolved: Vec<_> = own.iter().filter_map(|path| std::fs::canonicalize(path).ok()).collect();
        own.extend(resolved);
        // `facrond watch` has none, and says so by empty paths.
        own.retain(|path| path.is_absolute());
        own
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Watch(#[from] watch::Error),
    #[error("cannot {what}: {source}")]
    Io { what: &'static str, source: io::Error },
}
