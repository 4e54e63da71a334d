//! `retry=`: whether a command that failed is started again, and when.

use super::Job;
use super::outcome::{Ended, Ending, Outcome};
use std::time::Duration;

/// Before the second try; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long to wait before a job is tried again; `None` where this outcome is final.
///
/// A command is tried again that exited with another status than 0, was ended by a
/// signal or could not be started, and in any case one whose start lacked something. One that took too long would take long again,
/// and one that was stopped has failed at nothing.
pub fn pause(job: &Job, outcome: &Outcome) -> Option<Duration> {
    let is_tried_again = match outcome {
        Outcome::Short { .. } => true,
        Outcome::Ended(Ended { ending: Ending::TimedOut, .. }) => false,
        _ => outcome.is_failure() && job.tries <= job.spec.options.retry,
    };
    if !is_tried_again {
        return None;
    }
    let doublings = job.tries.saturating_sub(1);
    Some(FIRST_PAUSE.saturating_mul(2u32.saturating_pow(doublings)).min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::running::Stop;
    use crate::job::testing::{job, spec};
    use crate::kernel::wait::Exit;
    use std::rc::Rc;

    fn ended(exit: Exit, ending: Ending) -> Outcome {
        Outcome::Ended(Ended { pid: 9, exit, ending, duration: Duration::ZERO, output: None })
    }

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
        let failed = ended(Exit::Code(1), Ending::ByItself);
        assert_eq!(pauses(0, &failed), [0; 0]);
        assert_eq!(pauses(9, &failed), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pauses(100, &failed).len(), 100);
        assert_eq!(pauses(1, &ended(Exit::Signal(9), Ending::ByItself)), [1]);
        assert_eq!(pauses(1, &Outcome::NotStarted { why: String::new() }), [1]);
        let short = pause(&Job { tries: 3, ..job(1, 1, "/a") }, &Outcome::Short { why: String::new() });
        assert_eq!(short, Some(Duration::from_secs(4)), "even without retry=");
    }

    #[test]
    fn what_has_not_failed_is_not_tried_again() {
        for outcome in [
            ended(Exit::Code(0), Ending::ByItself),
            ended(Exit::Code(1), Ending::TimedOut),
            ended(Exit::Signal(15), Ending::Stopped(Stop::ForLaterEvent)),
        ] {
            assert_eq!(pauses(9, &outcome), [0; 0], "{outcome:?}");
        }
    }
}
