use super::*;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::HashMap;
use std::process::Command;

type Event = ProcessEvent<()>;

/// Forks and exits by process.
fn tally(events: &[Event]) -> HashMap<i32, (u32, u32)> {
    let mut tally: HashMap<i32, (u32, u32)> = HashMap::new();
    for event in events {
        match event {
            Event::Fork { pid, .. } => tally.entry(*pid).or_default().0 += 1,
            Event::Exit { pid, .. } => tally.entry(*pid).or_default().1 += 1,
            other => panic!("{other:?}"),
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
    let mut events: Vec<Event> = Vec::new();
    forks.read(&mut events);
    assert!(tally(&events).values().all(|(forks, _)| *forks == 1), "{events:?}");
    assert!(tally(&events).len() >= 4, "{events:?}");
    let me = std::process::id().cast_signed();
    let parent_of = |child: i32| {
        events.iter().find_map(|event| match event {
            Event::Fork { pid, parent, .. } if *pid == child => Some(*parent),
            _ => None,
        })
    };
    assert_eq!(parent_of(parent_of(last).unwrap()), Some(me));
    let time = |event: &Event| match event {
        Event::Fork { time, .. } | Event::Exit { time, .. } => *time,
        other => panic!("{other:?}"),
    };
    assert!(events.is_sorted_by_key(time));
    let mut more: Vec<Event> = Vec::new();
    forks.read(&mut more);
    assert!(more.iter().all(|event| matches!(event, Event::Exit { .. })), "{more:?}");
}

#[test]
fn a_full_ring_is_told() {
    let mut forks = Forks(Rings::with_pages(Scope::Descendants, TASK, 1).unwrap());
    let run = |count| {
        let script = format!("i=0; while [ $i -lt {count} ]; do (:); i=$((i+1)); done");
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    };
    run(500);
    let mut full = [PollFd::new(forks.as_fd(), PollFlags::POLLIN)];
    assert!(poll(&mut full, PollTimeout::ZERO).unwrap() > 0);
    let mut events: Vec<Event> = Vec::new();
    forks.read(&mut events);
    // The word of the loss is written with what comes after it.
    run(50);
    forks.read(&mut events);
    assert!(events.contains(&Event::Lost));
}
