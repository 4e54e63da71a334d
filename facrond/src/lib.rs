//! facrond: watches paths with Linux fanotify and runs a command when something happens to them.
//!
//! ```text
//! kernel group -> record -> Event -> matching rules -> policy -> Job -> child -> outcome -> history
//! ```

pub mod config;
pub mod control;
pub mod event;
pub mod events;
pub mod job;
pub mod kernel;
pub mod watch;

use std::process::ExitCode;

/// Runs the daemon with the process's own arguments.
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}
