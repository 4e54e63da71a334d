//! Commands that a server could hold up. Who starts one stands still until its
//! program runs, so it is asked first whether there is an answer.

use super::Engine;
use crate::config::rule::{Command, Output, RuleSpec};
use facron_proto::{Outcome, OutcomeState};
use std::path::Path;

impl Engine {
    /// Why a command cannot be started now, if whoever serves its directory, its
    /// program or the file for its output does not answer.
    pub(super) fn silence_around(&mut self, spec: &RuleSpec) -> Option<Outcome> {
        let program = match &spec.command {
            Command::Exec { program, .. } => Some(Path::new(program)),
            Command::Shell(_) | Command::Record => None,
        };
        let output = match &spec.options.output {
            Output::File(file) => Some(&**file),
            Output::Log | Output::Null => None,
        };
        let mut places = [program, spec.options.cwd.as_deref(), output].into_iter().flatten();
        let why = places.find_map(|place| self.watch.ask(place))?;
        Some(Outcome { error: Some(why), ..OutcomeState::SpawnFailed.into() })
    }
}
