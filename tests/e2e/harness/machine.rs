//! A machine of a test's own, with a real systemd.

use super::{FACRONCTL, FACROND, Place, code, out, wait_for, wait_until};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// Boots it; see there.
const BOOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/machine/boot");
const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd/facrond.service");

/// A systemd in namespaces, on an overlay of "/", with facron installed. It ends when this
/// is dropped.
pub struct Machine {
    boot: Child,
    /// Process 1, as seen from here.
    init: String,
}

impl Machine {
    /// Boots it with this configuration.
    #[track_caller]
    pub fn boot(place: &Place, conf: &str) -> Self {
        let (files, work) = (place.path("machine"), place.path("machine.work"));
        fs::create_dir(&work).unwrap();
        let put = |name: &str| {
            let path = format!("{files}/{name}");
            fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
            path
        };
        fs::copy(FACROND, put("usr/bin/facrond")).unwrap();
        fs::copy(FACRONCTL, put("usr/bin/facronctl")).unwrap();
        fs::copy(UNIT, put("etc/systemd/system/facrond.service")).unwrap();
        fs::write(put("etc/facron.conf"), conf).unwrap();
        let mut boot = Command::new(BOOT);
        let mut boot =
            boot.args([&files, &work]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut init = String::new();
        BufReader::new(boot.stdout.take().unwrap()).read_line(&mut init).unwrap();
        let machine = Self { boot, init: init.trim().to_owned() };
        assert!(!machine.init.is_empty(), "the machine does not boot");
        machine
    }

    /// Runs a command in it.
    pub fn run(&self, command: &[&str]) -> Output {
        let mut enter = Command::new("nsenter");
        enter.args([
            "--target",
            &self.init,
            "--all",
            "--root",
            "--wd=/",
            "env",
            "-i",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        ]);
        enter.args(command).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command in it, which must succeed; what it prints.
    #[track_caller]
    pub fn ok(&self, command: &[&str]) -> String {
        let output = self.run(command);
        assert!(output.status.success(), "{command:?}: {output:?}\n{}", self.journal());
        out(&output)
    }

    /// Runs a script in it, which must succeed; what it prints.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.ok(&["sh", "-ec", script])
    }

    /// The exit status of a command in it.
    pub fn status(&self, command: &[&str]) -> i32 {
        code(&self.run(command))
    }

    /// What facrond has logged, each line with its priority.
    pub fn journal(&self) -> String {
        let filter = ["journalctl", "--unit=facrond", "--output=json", "--output-fields=PRIORITY,MESSAGE"];
        let lines = out(&self.run(&filter));
        let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let word = |value: &serde_json::Value| value.as_str().unwrap_or("(bytes)").to_owned();
        let one = |entry: serde_json::Value| {
            format!("<{}> {}\n", word(&entry["PRIORITY"]), word(&entry["MESSAGE"]))
        };
        lines.lines().map(parse).map(one).collect()
    }

    /// Waits until the journal has this.
    #[track_caller]
    pub fn wait_for_journal(&self, text: &str) {
        wait_until(&format!("{text:?} in the journal"), || self.journal().contains(text));
    }

    /// A property of the service.
    #[track_caller]
    pub fn property(&self, name: &str) -> String {
        self.ok(&["systemctl", "show", "--value", "--property", name, "facrond"]).trim().to_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.boot.stdin.take());
        // It takes everything down, also its control groups.
        wait_for("the machine to end", || self.boot.try_wait().unwrap());
    }
}
