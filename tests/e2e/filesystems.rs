//! Every file system, and what can be told there: a table.
//!
//! A cell is what one rule has recorded of one operation. Where the kernel does
//! not let the operation happen, the cell has its reason.

mod cases;
mod rows;

use crate::harness::{Cgroup, Mount, Place, report, sh, wait_until};
use cases::{CASES, Case};
use nix::errno::Errno;
use rows::Row;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// How long records may take until a cell counts as wrong.
const LATE: Duration = Duration::from_secs(10);

const WRONG: &str = "WRONG";

/// Why cases are impossible.
type Reasons = BTreeMap<&'static str, Errno>;

/// What became of an operation.
#[derive(Clone, Copy, Debug)]
enum Done {
    Yes,
    Refused(Errno),
}

#[test]
fn every_operation_is_told_on_every_file_system() {
    let place = Place::new();
    let (rows, _mounts) = rows::mount_all(&place);
    let cells: Vec<(&Row, &Case)> =
        rows.iter().flat_map(|row| CASES.iter().map(move |case| (row, case))).collect();
    place.conf(&cells.iter().map(|(row, case)| case.rule(row)).collect::<String>());
    let _daemon = place.start_with(&["--history", "10000"]);
    let done: Vec<_> = cells.iter().map(|(row, case)| case.act(row)).collect();
    let expected: Vec<_> =
        cells.iter().zip(&done).map(|((row, case), done)| case.expected(row, *done)).collect();
    let told = || told(&place, &cells);
    let started = Instant::now();
    wait_until("the records", || told() == expected || started.elapsed() > LATE);
    place.settle();
    let table = table(&rows, &done, &told(), &expected);
    report(&table);
    assert!(!table.contains(WRONG), "{table}");
    check_reasons(&cells, &done);
    rows.iter().filter(|row| !refuses(row.name)).for_each(|row| race(&place, row));
}

/// Files in directories just made, by two writers, each fire once.
fn race(place: &Place, row: &Row) {
    const ROUNDS: usize = 100;
    let (top, rule) = (row.base.join("race").display().to_string(), format!("{}-race", row.name));
    fs::create_dir(&top).unwrap();
    place.ctl_ok(&["add", "-o", &format!("recursive name={rule}"), &top, "CLOSE_WRITE", "-"]);
    let paths = |writer: usize| {
        let top = &top;
        (0..ROUNDS).map(move |round| format!("{top}/{writer}-{round}/b/c/f"))
    };
    thread::scope(|scope| {
        for writer in 0..2 {
            let paths = &paths;
            scope.spawn(move || {
                for path in paths(writer) {
                    fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
                    fs::write(path, "x").unwrap();
                }
            });
        }
    });
    let mut expected: Vec<_> = (0..2).flat_map(paths).collect();
    expected.sort();
    place.settle_fired(&rule, expected.len() as u64);
    assert_eq!(place.paths_of(&rule), expected, "{rule}");
}

/// Whether some operations are impossible on a file system.
fn refuses(name: &str) -> bool {
    matches!(name, "squashfs" | "erofs" | "squashfuse" | "proc" | "sysfs" | "cgroup2")
}

/// What the rule of each cell has recorded, sorted.
fn told(place: &Place, cells: &[(&Row, &Case)]) -> Vec<Vec<String>> {
    let mut told: HashMap<String, Vec<Value>> = HashMap::new();
    let mut tail = place.call("tail", &json!({ "limit": u64::MAX }));
    for record in tail["records"].as_array_mut().unwrap() {
        let rule = record["rule_name"].as_str().unwrap_or_default().to_owned();
        told.entry(rule).or_default().push(record.take());
    }
    let mut told_of = |(row, case): &(&Row, &Case)| {
        let records = told.remove(&case.name(row)).unwrap_or_default();
        // What is in a new control group, the kernel has made.
        let counts = |record: &&Value| row.given.is_none() || record["synthetic"] == false;
        let mut lines: Vec<_> = records.iter().filter(counts).map(shown).collect();
        lines.sort();
        if row.given.is_some() {
            // All cases have the same file.
            lines.dedup();
        }
        lines
    };
    cells.iter().map(&mut told_of).collect()
}

/// Events and path of a record, and the old path if it has one.
fn shown(record: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let events: Vec<_> = record["events"].as_array().unwrap().iter().map(text).collect();
    let old = record["old_path"].as_str().map(|old| format!(" < {old}")).unwrap_or_default();
    format!("{} {}{old}", events.join("|"), text(&record["path"]))
}

/// The table, and below it what is wrong.
fn table(rows: &[Row], done: &[Done], told: &[Vec<String>], expected: &[Vec<String>]) -> String {
    let mut table = format!("{:>15}", "");
    let mut wrong = String::new();
    for case in CASES {
        write!(table, " {:>9}", case.name).unwrap();
    }
    for (cell, done) in done.iter().enumerate() {
        let (row, case) = (&rows[cell / CASES.len()], &CASES[cell % CASES.len()]);
        if cell % CASES.len() == 0 {
            write!(table, "\n{:>15}", row.name).unwrap();
        }
        let is_right = told[cell] == expected[cell];
        let shown = match done {
            _ if !is_right => WRONG.to_owned(),
            Done::Yes => "told".to_owned(),
            Done::Refused(errno) => format!("{errno:?}"),
        };
        write!(table, " {shown:>9}").unwrap();
        if !is_right {
            let name = case.name(row);
            write!(wrong, "\n{name}: {done:?}, told {:?} in place of {:?}", told[cell], expected[cell])
                .unwrap();
        }
    }
    table + &wrong
}

/// What can be done is done: only these file systems may refuse anything.
fn check_reasons(cells: &[(&Row, &Case)], done: &[Done]) {
    for ((row, case), done) in cells.iter().zip(done) {
        let Done::Refused(errno) = done else { continue };
        let may = match row.name {
            "squashfs" | "erofs" => *errno == Errno::EROFS,
            "squashfuse" => matches!(errno, Errno::EROFS | Errno::ENOSYS),
            "proc" => *errno == Errno::ENOENT,
            "sysfs" | "cgroup2" => matches!(errno, Errno::EPERM | Errno::EACCES),
            _ => false,
        };
        let is_read = matches!(case.name, "open" | "access" | "close");
        assert!(may && !is_read, "{} is refused: {errno}", case.name(row));
    }
}

/// A FUSE server does not answer for files that are gone, even to those who hold them.
#[test]
fn a_file_on_fuse_saved_a_hundred_times_fires_a_hundred_times() {
    let place = Place::new();
    let (source, at) = (place.mkdir("source"), place.play("bound"));
    fs::write(format!("{source}/f"), "x").unwrap();
    let mount = Mount::by(&["bindfs", &source, &at], &at);
    place.conf(&format!("{at}/f ARRIVED [name=saved] -\n"));
    let _daemon = place.start();
    sh(&format!("cd {at}; for n in $(seq 100); do echo x > tmp; mv tmp f; done"));
    wait_until("a hundred firings", || place.fired("saved") >= 100);
    place.settle();
    assert_eq!(place.fired("saved"), 100);
    mount.unmount();
}

/// What happens in a control group is the kernel's doing as well.
#[test]
fn a_control_group_tells_of_new_groups_and_of_its_last_process() {
    let place = Place::new();
    let mount = Mount::of_type("cgroup2", "rw", &place.path("cgroup2"));
    let top = Cgroup::new(format!("{}/{}", mount.at(), place.name()));
    place.conf(&format!(
        "{top}/a/cgroup.events MODIFY [name=populated] -\n{top} CREATE|ONDIR [recursive type=dir name=made] -\n"
    ));
    let _daemon = place.start();
    fs::create_dir_all(format!("{top}/a/b/c")).unwrap();
    place.settle();
    let mut made: Vec<_> = place.tail_of("made").iter().map(shown).collect();
    made.sort();
    let expected = ["a", "a/b", "a/b/c"].map(|group| format!("FAN_CREATE|FAN_ONDIR {top}/{group}"));
    assert_eq!(made, expected);
    let mut process = Command::new("sleep").arg("3600").spawn().unwrap();
    fs::write(format!("{top}/a/cgroup.procs"), process.id().to_string()).unwrap();
    wait_until("the group to be populated", || place.fired("populated") == 1);
    process.kill().unwrap();
    process.wait().unwrap();
    wait_until("the group to be empty", || place.fired("populated") == 2);
}
