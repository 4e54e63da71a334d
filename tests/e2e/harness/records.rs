//! What the recorder wrote down.

use super::{PATIENCE, wait_until};
use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const RECORDER: &str = env!("CARGO_BIN_EXE_e2e-recorder");

/// A file of records.
pub struct Records {
    file: String,
}

/// A program that allows all openings of a file and does nothing else.
pub fn responder(file: &str) -> Command {
    let mut command = Command::new(RECORDER);
    command.args(["allow", file]);
    command
}

/// One run of the recorder.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// When it started.
    pub time: SystemTime,
    /// Its arguments.
    pub args: Vec<Vec<u8>>,
}

impl Records {
    pub(super) fn new(file: String) -> Self {
        Self { file }
    }

    /// A command for a rule: writes these arguments down.
    pub fn command(&self, args: &str) -> String {
        format!("{RECORDER} argv {} {args}", self.file)
    }

    /// A command for a rule: writes down what it has inherited.
    pub fn state_command(&self) -> String {
        format!("{RECORDER} state {}", self.file)
    }

    /// All records so far.
    pub fn all(&self) -> Vec<Record> {
        let Ok(bytes) = fs::read(&self.file) else { return Vec::new() };
        let mut words = bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec);
        let mut records = Vec::new();
        while let Some(count) = words.next().filter(|count| !count.is_empty()) {
            let number = |word: Vec<u8>| String::from_utf8(word).unwrap().parse::<u64>().unwrap();
            let count = usize::try_from(number(count)).unwrap();
            let time = UNIX_EPOCH + Duration::from_nanos(number(words.next().unwrap()));
            records.push(Record { time, args: words.by_ref().take(count).collect() });
        }
        records
    }

    /// All records so far, their arguments as text.
    pub fn texts(&self) -> Vec<Vec<String>> {
        let text = |word: Vec<u8>| String::from_utf8(word).unwrap();
        self.all().into_iter().map(|record| record.args.into_iter().map(text).collect()).collect()
    }

    /// The first arguments of all records so far, sorted.
    pub fn firsts(&self) -> Vec<String> {
        let mut firsts: Vec<_> = self.texts().into_iter().map(|mut args| args.swap_remove(0)).collect();
        firsts.sort();
        firsts
    }

    /// Waits for so many records, and returns all.
    #[track_caller]
    pub fn wait(&self, count: usize) -> Vec<Record> {
        wait_until(&format!("{count} records within {PATIENCE:?}"), || self.all().len() >= count);
        self.all()
    }
}
