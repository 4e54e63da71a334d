//! A command on its way to its program.
//!
//! Nobody waits for that. A command that cannot be executed ends at once, and is found to
//! have failed when it is reaped; one that takes too long is ended.

use super::error::StartError;
use crate::config::rule::{RuleSpec, Stdin};
use crate::kernel::spawn::Start;
use crate::kernel::wait;
use std::ffi::CString;
use std::rc::Rc;
use std::time::Duration;

/// What a command gets to reach its program. Its user can keep it from that: by a signal, or
/// by a lease on the program.
const LIMIT: Duration = Duration::from_secs(1);

/// The same where it opens a file first. A permission rule may have to decide about that.
const LIMIT_WITH_FILE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Starting {
    start: Start,
    program: CString,
    spec: Rc<RuleSpec>,
    /// Why it was ended.
    late: Option<&'static str>,
}

impl Starting {
    pub(super) fn new(start: Start, program: CString, spec: Rc<RuleSpec>) -> Self {
        Self { start, program, spec, late: None }
    }

    /// Whether the program runs, or did.
    pub(super) fn has_started(&self) -> bool {
        self.start.has_succeeded()
    }

    /// The same, or the process has failed and ended.
    pub(super) fn is_over(&self) -> bool {
        self.start.is_over()
    }

    pub(super) fn limit(&self) -> Duration {
        if self.spec.stdin() == Stdin::File { LIMIT_WITH_FILE } else { LIMIT }
    }

    /// Its time is over. The process is ended now.
    pub(super) fn on_late(&mut self, pid: i32) {
        let is_stopped = wait::has_stopped(pid);
        self.late = Some(match self.spec.stdin() {
            _ if is_stopped => "a signal had stopped it",
            Stdin::File => "its file or its program could not be opened",
            Stdin::Null | Stdin::Json => "its program could not be opened",
        });
    }

    /// Why the process, which was reaped, did not reach its program, if it did not.
    pub(super) fn failure(self) -> Option<StartError> {
        let limit = self.limit().as_secs();
        let failure = self.start.failure();
        if let Some(why) = self.late {
            return Some(StartError::Late { limit, program: self.program.to_bytes().into(), why });
        }
        Some(StartError::from_spawn(failure?, &self.program, &self.spec.options))
    }
}
