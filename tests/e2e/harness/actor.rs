//! Processes that work on files.
//!
//! The test process is not good enough where it matters when a file is closed: a child
//! that another test is about to start has its open files, too.

use super::{Place, as_member};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

/// The program.
pub const ACTOR: &str = env!("CARGO_BIN_EXE_e2e-actor");

/// A running actor; ended when dropped.
pub struct Actor {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Actor {
    /// Starts one; see its own text for what it can do.
    #[track_caller]
    pub fn start(args: &[&str]) -> Self {
        Self::start_as(Command::new(ACTOR).args(args))
    }

    /// The same on one processor.
    #[track_caller]
    pub fn start_on(processor: &str, args: &[&str]) -> Self {
        Self::start_as(Command::new("taskset").args(["--cpu-list", processor, ACTOR]).args(args))
    }

    /// The same as a user of its own, whose limits no other test uses up.
    #[track_caller]
    pub fn start_as_user(place: &Place, user: u32, args: &[&str]) -> Self {
        let mut actor = Command::new("setpriv");
        actor.args(["--reuid", &user.to_string(), "--clear-groups", &place.for_all(ACTOR)]);
        Self::start_as(actor.args(args))
    }

    /// The same as a member of the group `facron`.
    #[track_caller]
    pub fn start_as_member(place: &Place, args: &[&str]) -> Self {
        Self::start_as(as_member(place.for_all(ACTOR)).args(args))
    }

    fn start_as(actor: &mut Command) -> Self {
        let mut process = actor.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        Self { process, said }
    }

    /// Lets it go on.
    #[track_caller]
    pub fn say(&mut self, line: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next line that it says.
    #[track_caller]
    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the actor has ended");
        line.trim_end().to_owned()
    }

    /// All that it says to its end.
    #[track_caller]
    pub fn finish(mut self) -> Vec<String> {
        drop(self.process.stdin.take());
        let lines = self.said.by_ref().lines().map(Result::unwrap).collect();
        assert!(self.process.wait().unwrap().success());
        lines
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
