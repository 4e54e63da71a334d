//! facronctl: talks to facrond.

use std::process::ExitCode;

/// Runs the client with the process's own arguments.
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}
