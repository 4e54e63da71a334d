//! Paths whose directories are removed and made again at once, on a busy machine: each
//! version of a file is told, and told once.

use crate::harness::{Load, Place};
use facron_tests::{Random, number_from};
use std::fs;
use std::time::Duration;

/// More than any record takes, however busy the machine is.
const LATE: Duration = Duration::from_secs(10);

/// Between two steps.
const PAUSE: Duration = Duration::from_micros(500);

/// So many failures show enough.
const ENOUGH: usize = 5;

/// Writes version after version of a file, each as soon as the one before has been told:
/// two in a directory that is removed and made again at once.
#[track_caller]
fn every_version_is_told_once(path: &str, events: &str, options: &str) {
    let versions = number_from("FACRON_TEST_ROUNDS", 600);
    let place = Place::new();
    let top = place.mkdir("w");
    let dirs = ["x", "x/y", "x/y/z"].map(|dir| format!("{top}/{dir}"));
    let file = format!("{}/f", dirs[2]);
    place.conf(&format!("{} {events} [{options}name=told] true\n", place.play(path)));
    let _daemon = place.start();
    let mut told = place.follow("told");
    let seed = Random::seed();
    let mut random = Random::of(seed);
    let mut wrong = Vec::new();
    let load = Load::start();
    for version in 1..=versions {
        if version % 2 == 1 {
            for dir in &dirs {
                fs::create_dir(dir).unwrap();
                random.pause(PAUSE);
            }
        } else {
            fs::remove_file(&file).unwrap();
        }
        while let Some(record) = told.next(Duration::ZERO) {
            wrong.push(format!("{} doubled: {record}", version - 1));
        }
        fs::write(&file, version.to_string()).unwrap();
        if told.next(LATE).is_none() {
            wrong.push(format!("{version} missed: {}", place.rule("told")));
        }
        if wrong.len() >= ENOUGH {
            break;
        }
        if version % 2 == 0 {
            fs::remove_file(&file).unwrap();
            for dir in dirs.iter().rev() {
                random.pause(PAUSE);
                fs::remove_dir(dir).unwrap();
            }
        }
    }
    drop(load);
    place.settle();
    while let Some(record) = told.next(Duration::ZERO) {
        wrong.push(format!("the last doubled: {record}"));
    }
    assert!(wrong.is_empty(), "{versions} versions, seed {seed}:\n{}", wrong.join("\n"));
}

#[test]
fn every_version_is_told_once_by_its_close() {
    every_version_is_told_once("w/x/y/z/f", "CLOSE_WRITE", "");
}

#[test]
fn every_version_is_told_once_by_its_arrival() {
    every_version_is_told_once("w/x/y/z/f", "ARRIVED", "");
}

#[test]
fn every_version_in_a_tree_is_told_once_by_its_close() {
    every_version_is_told_once("w", "CLOSE_WRITE", "recursive ");
}

#[test]
fn every_version_in_a_tree_is_told_once_by_its_arrival() {
    every_version_is_told_once("w", "ARRIVED", "recursive ");
}
