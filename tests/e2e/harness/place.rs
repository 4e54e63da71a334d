//! A place of its own for each test: configuration, sockets, and files to play with.

use super::{Daemon, Records, Rpc, wait_until};
use serde_json::{Value, json};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// The daemon under test.
pub const FACROND: &str = env!("CARGO_BIN_EXE_e2e-facrond");
/// The client under test.
pub const FACRONCTL: &str = env!("CARGO_BIN_EXE_e2e-facronctl");

/// A directory with all that a daemon needs; removed in the end.
///
/// Paths are strings without blanks, so that they fit into configuration lines.
pub struct Place {
    dir: TempDir,
}

impl Place {
    /// A place with an empty configuration.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("facron-").tempdir().unwrap();
        // other users come here, too
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let place = Self { dir };
        fs::create_dir(place.play("")).unwrap();
        fs::create_dir(place.path("conf.d")).unwrap();
        fs::create_dir(place.path("settled")).unwrap();
        place.conf("");
        place
    }

    /// A word that no other place has.
    pub fn name(&self) -> &str {
        self.dir.path().file_name().unwrap().to_str().unwrap()
    }

    /// Something in it.
    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir.path().to_str().unwrap())
    }

    /// Something in the directory to play in.
    pub fn play(&self, name: &str) -> String {
        if name.is_empty() { self.path("play") } else { self.path(&format!("play/{name}")) }
    }

    /// Creates, writes and closes a file to play with; returns its path.
    pub fn write(&self, name: &str) -> String {
        let path = self.play(name);
        fs::write(&path, "x").unwrap();
        path
    }

    /// Makes a directory to play in; returns its path.
    pub fn mkdir(&self, name: &str) -> String {
        let path = self.play(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Replaces the configuration file.
    pub fn conf(&self, text: &str) {
        fs::write(self.path("facron.conf"), text).unwrap();
    }

    /// What commands of the rules write down, under a name of the test's choice.
    pub fn records(&self, name: &str) -> Records {
        Records::new(self.path(name))
    }

    /// The daemon's options for this place.
    pub fn options(&self) -> [String; 10] {
        let option = |name: &str, value| [name.to_owned(), self.path(value)];
        let [conf, conf_dir, socket, state, run] = [
            option("--conf", "facron.conf"),
            option("--conf-dir", "conf.d"),
            option("--socket", "control.sock"),
            option("--state-dir", "state"),
            option("--runtime-dir", "run"),
        ];
        [conf, conf_dir, socket, state, run].concat().try_into().unwrap()
    }

    /// The daemon as a command, to be started by hand.
    pub fn facrond(&self) -> Command {
        let mut command = Command::new(FACROND);
        command.args(self.options()).stdin(Stdio::null());
        command
    }

    /// Runs `facrond check` on the configuration.
    pub fn facrond_check(&self) -> Output {
        let mut check = Command::new(FACROND);
        check.args(["check", "--conf", &self.path("facron.conf"), "--conf-dir", &self.path("conf.d")]);
        check.stdin(Stdio::null()).output().unwrap()
    }

    /// Starts the daemon and waits until it serves.
    pub fn start(&self) -> Daemon<'_> {
        self.start_with(&[])
    }

    /// The same with further options.
    pub fn start_with(&self, options: &[&str]) -> Daemon<'_> {
        let mut command = self.facrond();
        command.args(options);
        self.start_as(command)
    }

    /// The same with a command that becomes the daemon.
    pub fn start_as(&self, command: Command) -> Daemon<'_> {
        Daemon::start(self, command)
    }

    /// A file for output, appended to.
    pub fn log_file(&self, name: &str) -> File {
        File::options().append(true).create(true).open(self.path(name)).unwrap()
    }

    /// Runs facronctl to its end.
    pub fn ctl(&self, args: &[&str]) -> Output {
        self.facronctl().args(args).output().unwrap()
    }

    /// facronctl as a command, to be started by hand.
    pub fn facronctl(&self) -> Command {
        let mut command = Command::new(FACRONCTL);
        command.args(["--socket", &self.path("control.sock")]).stdin(Stdio::null());
        command
    }

    /// Runs facronctl, which must succeed; what it prints.
    #[track_caller]
    pub fn ctl_ok(&self, args: &[&str]) -> String {
        let output = self.ctl(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        out(&output)
    }

    /// Runs `facronctl --json`, which must succeed; what it prints.
    #[track_caller]
    pub fn ctl_json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ctl_ok(&[&["--json"], args].concat())).unwrap()
    }

    /// A connection to the socket.
    pub fn rpc(&self) -> Rpc {
        Rpc::connect(&self.path("control.sock"))
    }

    /// Calls a method on a connection of its own; it must succeed.
    #[track_caller]
    pub fn call(&self, method: &str, params: &Value) -> Value {
        self.rpc().call(method, params).unwrap()
    }

    /// A rule as the daemon sees it.
    #[track_caller]
    pub fn rule(&self, name: &str) -> Value {
        self.call("show", &json!({ "rule": name }))
    }

    /// How often a rule has fired.
    #[track_caller]
    pub fn fired(&self, name: &str) -> u64 {
        self.rule(name)["fired"].as_u64().unwrap()
    }

    /// Waits until a rule has fired so often, and then for all else that happened
    /// before; how often it has fired then.
    #[track_caller]
    pub fn settle_fired(&self, name: &str, count: u64) -> u64 {
        wait_until(&format!("{count} firings of {name}"), || self.fired(name) >= count);
        self.settle();
        self.fired(name)
    }

    /// The paths that a rule has fired for, sorted.
    #[track_caller]
    pub fn paths_of(&self, name: &str) -> Vec<String> {
        let path = |record: &Value| record["path"].as_str().unwrap().to_owned();
        let mut paths: Vec<_> = self.tail_of(name).iter().map(path).collect();
        paths.sort();
        paths
    }

    /// The daemon's status.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.call("status", &json!({}))
    }

    /// All records of a rule that the daemon still has, the oldest first.
    #[track_caller]
    pub fn tail_of(&self, rule: &str) -> Vec<Value> {
        let mut reply = self.call("tail", &json!({ "limit": u64::MAX, "rule": rule }));
        serde_json::from_value(reply["records"].take()).unwrap()
    }

    /// Waits until the daemon has read all events that happened before, and all
    /// commands that they led to have ended.
    ///
    /// The kernel's queue keeps its order: a later event that has been read proves
    /// it for all earlier ones. The second round is for events that the daemon
    /// holds back until the queue is drained.
    #[track_caller]
    pub fn settle(&self) {
        let (mut rpc, file) = (self.rpc(), self.path("settled/file"));
        for _ in 0..2 {
            let once = json!({"path": file, "events": "CLOSE_WRITE", "command": ["-"], "options": "once"});
            let id = rpc.call("add", &once).unwrap()["id"].clone();
            fs::write(&file, "").unwrap();
            wait_until("the daemon to read its events", || rpc.call("show", &json!({ "rule": id })).is_err());
        }
        wait_until("the daemon's commands to end", || {
            let queue = rpc.call("status", &json!({})).unwrap()["queue"].clone();
            queue["pending"] == 0 && queue["running"] == 0
        });
    }
}

/// Standard output as text.
pub fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard error as text.
pub fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The exit status.
#[track_caller]
pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("ended by a signal: {output:?}"))
}
