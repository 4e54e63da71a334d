use super::*;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::HashMap;
use std::process::Command;

/// Forks and exits by process.
fn tally(changes: &[Told]) -> HashMap<i32, (u32, u32)> {
    let mut tally: HashMap<i32, (u32, u32)> = HashMap::new();
    for (_, change) in changes {
        match change {
            Change::Fork { pid, .. } => tally.entry(*pid).or_default().0 += 1,
            Change::Exit { pid } => tally.entry(*pid).or_default().1 += 1,
            Change::Lost => panic!("lost"),
        }
    }
    tally
}

#[test]
fn each_descendant_is_told_with_its_parent() {
    let mut forks = Forks::follow().unwrap();
    // Two processes and a grandchild that outlives its parent.
    let script = "true & wait; (/bin/true & ) ; sh -c 'echo $$'";
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    let last: i32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    let mut changes = Vec::new();
    forks.read(&mut changes);
    assert!(tally(&changes).values().all(|(forks, _)| *forks == 1), "{changes:?}");
    assert!(tally(&changes).len() >= 4, "{changes:?}");
    let me = std::process::id().cast_signed();
    let parent_of = |child: i32| {
        changes.iter().find_map(|(_, change)| match change {
            Change::Fork { pid, parent } if *pid == child => Some(*parent),
            _ => None,
        })
    };
    assert_eq!(parent_of(parent_of(last).unwrap()), Some(me));
    assert!(changes.is_sorted_by_key(|(time, _)| *time));
    let mut more = Vec::new();
    forks.read(&mut more);
    assert!(more.iter().all(|(_, change)| matches!(change, Change::Exit { .. })), "{more:?}");
}

#[test]
fn a_full_ring_is_told() {
    let mut forks = Forks(Rings::with_pages(Whom::Descendants, TASK, 1).unwrap());
    let run = |count| {
        let script = format!("i=0; while [ $i -lt {count} ]; do (:); i=$((i+1)); done");
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    };
    run(500);
    let mut full = [PollFd::new(forks.as_fd(), PollFlags::POLLIN)];
    assert!(poll(&mut full, PollTimeout::ZERO).unwrap() > 0);
    let mut changes = Vec::new();
    forks.read(&mut changes);
    // The word of the loss is written with what comes after it.
    run(50);
    forks.read(&mut changes);
    assert!(changes.iter().any(|(_, change)| *change == Change::Lost));
}
