//! Batches that are too long for one command line (execve(2), "Limits on size of
//! arguments and environment").

use super::Job;
use nix::unistd::{SysconfVar, sysconf};
use std::ffi::CStr;
use std::rc::Rc;

/// The kernel takes no more than three quarters of 8 MiB, whatever the stack's limit.
const MOST: usize = 6 * 1024 * 1024;

/// Without a limit known: what POSIX systems of old had, and Linux always has.
const LEAST: usize = 128 * 1024;

/// For what else the kernel puts there: the program's path, a script's interpreter,
/// and the event variables of another event of the batch.
const MARGIN: usize = 64 * 1024;

/// How much the arguments and environment of a command may take.
pub(super) fn space() -> usize {
    let limit = sysconf(SysconfVar::ARG_MAX).ok().flatten();
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(LEAST).clamp(LEAST, MOST) - MARGIN
}

/// What arguments or variables take: each has an end and a pointer.
pub(super) fn cost<'a>(strings: impl IntoIterator<Item = &'a CStr>) -> usize {
    strings.into_iter().map(|string| string.to_bytes().len()).map(cost_of).sum()
}

fn cost_of(length: usize) -> usize {
    length + 1 + size_of::<usize>()
}

/// Leaves a batch the first of its paths, as many as fit into `space` when each becomes `times`
/// arguments and no more than `most`, but one in any case. The rest of it is another job, which
/// has no record yet. The last event is that of the job that has its path, and the other one has
/// that of its last path.
pub(super) fn split(job: &mut Job, times: usize, space: usize, most: usize) -> Option<Job> {
    let batch = job.batch.take()?;
    let mut left = space;
    let fits = batch.iter().take_while(|event| {
        let rest = left.checked_sub(times * cost_of(event.path.len()));
        rest.inspect(|rest| left = *rest).is_some()
    });
    let count = fits.take(most).count().max(1);
    if count >= batch.len() {
        job.batch = Some(batch);
        return None;
    }
    let mut events = batch.into_vec();
    let others = events.split_off(count);
    let mut rest = Job::new(job.rule, Rc::clone(&job.spec), job.event.clone());
    if others.iter().any(|event| event.path == job.event.path) {
        job.event = events[count - 1].clone();
    } else {
        rest.event = others[others.len() - 1].clone();
    }
    rest.merged = others.len() as u64 - 1;
    job.merged = job.merged.saturating_sub(others.len() as u64);
    job.batch = Some(events.into());
    rest.batch = Some(others.into());
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::testing::{event, job};
    use proptest::prelude::*;
    use std::process::{Command, Stdio};

    fn batch(paths: &[String], last: usize) -> Job {
        let events: Vec<_> = paths.iter().map(|path| event(path)).collect();
        let merged = paths.len() as u64 + 6;
        Job { event: events[last].clone(), batch: Some(events.into()), merged, ..job(1, 1, "/") }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_doubled(
            lengths in prop::collection::vec(1..50usize, 1..40),
            last: prop::sample::Index,
            times in 1..3usize,
            space in 0..800usize,
            most in 1..50usize,
        ) {
            let paths: Vec<_> =
                lengths.iter().enumerate().map(|(n, len)| format!("/{n}{}", "x".repeat(*len))).collect();
            let mut rest = Some(batch(&paths, last.index(paths.len())));
            let mut pieces = Vec::new();
            while let Some(mut piece) = rest.take() {
                rest = split(&mut piece, times, space, most);
                let takes: usize = piece.events().iter().map(|event| times * cost_of(event.path.len())).sum();
                prop_assert!(takes <= space || piece.events().len() == 1);
                prop_assert!(piece.events().contains(&piece.event) && piece.events().len() <= most);
                pieces.push(piece);
            }
            let found = pieces.iter().flat_map(Job::events).map(|event| str::from_utf8(&event.path).unwrap());
            prop_assert_eq!(found.collect::<Vec<_>>(), paths.iter().collect::<Vec<_>>());
            let events: u64 = pieces.iter().map(|piece| 1 + piece.merged).sum();
            prop_assert_eq!(events, paths.len() as u64 + 7);
        }
    }

    #[test]
    fn the_kernel_takes_as_much() {
        let argument = "x".repeat(100);
        let args = vec![argument.as_str(); space() / cost_of(100)];
        let mut command = Command::new("/bin/true");
        assert!(command.args(args).env_clear().stdin(Stdio::null()).status().unwrap().success());
    }
}
