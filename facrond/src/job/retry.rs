//! `retry=`: whether a command that failed is started again, and when.

use super::Job;
use facron_proto::{Outcome, OutcomeState};
use std::time::Duration;

/// Before the second try; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long to wait before a job is tried again; `None` where this outcome is final.
///
/// A command is tried again that exited with another status than 0, was ended by a
/// signal or could not be started. One that took too long would take long again,
/// and one that was stopped has failed at nothing.
pub fn pause(job: &Job, outcome: &Outcome) -> Option<Duration> {
    let has_failed = match outcome.state {
        OutcomeState::Exited => outcome.exit != Some(0),
        OutcomeState::Signaled | OutcomeState::SpawnFailed => true,
        _ => false,
    };
    let is_left = job.tries <= job.spec.options.retry;
    if !has_failed || outcome.restarted || !is_left {
        return None;
    }
    let doublings = job.tries.saturating_sub(1);
    Some(FIRST_PAUSE.saturating_mul(2u32.saturating_pow(doublings)).min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::testing::{job, spec};
    use std::rc::Rc;

    fn pauses(retry: u32, outcome: &Outcome) -> Vec<u64> {
        let mut spec = spec(&["false"]);
        Rc::make_mut(&mut spec.options).retry = retry;
        let mut job = Job { spec: Rc::new(spec), ..job(1, 1, "/a") };
        let mut pauses = Vec::new();
        loop {
            job.tries += 1;
            let Some(pause) = pause(&job, outcome) else { return pauses };
            pauses.push(pause.as_secs());
        }
    }

    #[test]
    fn pauses_grow_to_a_minute() {
        let failed = Outcome { exit: Some(1), ..OutcomeState::Exited.into() };
        assert_eq!(pauses(0, &failed), [0; 0]);
        assert_eq!(pauses(9, &failed), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pauses(100, &failed).len(), 100);
        assert_eq!(pauses(1, &OutcomeState::Signaled.into()), [1]);
        assert_eq!(pauses(1, &OutcomeState::SpawnFailed.into()), [1]);
    }

    #[test]
    fn what_has_not_failed_is_not_tried_again() {
        let succeeded = Outcome { exit: Some(0), ..OutcomeState::Exited.into() };
        assert_eq!(pauses(9, &succeeded), [0; 0]);
        assert_eq!(pauses(9, &OutcomeState::Timeout.into()), [0; 0]);
        let restarted = Outcome { restarted: true, ..OutcomeState::Signaled.into() };
        assert_eq!(pauses(9, &restarted), [0; 0]);
    }
}
