//! File systems whose server does not answer: only the rules there wait.

use crate::harness::{Actor, Load, Mount, Place, Server, Stopped, wait_for_state, wait_until};
use facron_tests::{Random, number_from};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How long the daemon may take for anything while a server hangs.
const PROMPT: Duration = Duration::from_secs(5);

/// Does something that a hanging daemon would not let happen.
#[track_caller]
fn promptly<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let done = act();
    let took = started.elapsed();
    assert!(took < PROMPT, "{what} took {took:?}");
    done
}

/// A shell that does something where the server may hang; ended when dropped.
struct Shell(Child);

impl Shell {
    fn start(script: &str) -> Self {
        Self(Command::new("sh").args(["-c", script]).spawn().unwrap())
    }

    /// Whether it has done it.
    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server, and two rules: at what it shows, and at a directory that is nobody's but
/// the kernel's.
struct Scene {
    place: Place,
    at: String,
    source: String,
}

impl Scene {
    fn new() -> (Self, Server) {
        let place = Place::new();
        let (source, at) = (place.mkdir("source"), place.play("served"));
        let near = place.mkdir("near");
        fs::create_dir(format!("{source}/drop")).unwrap();
        let link = place.play("link");
        symlink(&at, &link).unwrap();
        place.conf(&format!(
            "{at}/drop CLOSE_WRITE|DELETE|CREATE [recursive name=there] -\n{near} CLOSE_WRITE [name=near] -\n\
             {link}/drop/linked ARRIVED [name=linked] -\n{near}/never OPEN {link}/program\n"
        ));
        let server = Server::of(&source, &at);
        (Self { place, at, source }, server)
    }

    /// All but what needs the server goes on.
    #[track_caller]
    fn goes_on(&self) {
        let before = self.place.fired("near");
        promptly("an event elsewhere", || {
            self.place.write("near/file");
            wait_until("an event elsewhere", || self.place.fired("near") > before);
        });
        promptly("list", || self.place.ctl_ok(&["list"]));
        promptly("status", || self.place.ctl_ok(&["status"]));
    }

    /// The rule waits for the server before long, and everybody can see it.
    #[track_caller]
    fn is_told(&self, rule: &str) {
        let why = format!("{} (fuse) does not answer", self.at);
        wait_until(&format!("rule {rule} to wait, since {why}"), || {
            let rule = self.place.rule(rule);
            (&rule["state"], &rule["reason"]) == (&json!("waiting"), &Value::from(&*why))
        });
        let health = self.place.status()["health"].as_str().unwrap().to_owned();
        assert!(health.contains("do not answer") && health.contains(&self.at), "{health}");
    }

    /// The server goes on, and so does the rule.
    #[track_caller]
    fn resume(&self, stopped: Stopped, rule: &str) {
        drop(stopped);
        wait_for_state(&self.place, rule, "active");
        assert_eq!(self.place.status()["health"], "ok");
    }

    /// What a rule has been told of, by events and paths below the server's, each once.
    fn told(&self, rule: &str) -> BTreeSet<String> {
        let prefix = format!("{}/drop/", self.at);
        let shown = |record: &Value| {
            let path = record["path"].as_str().unwrap().strip_prefix(&prefix).unwrap();
            let events = record["events"].as_array().unwrap().iter();
            events.map(|event| format!("{} {path}", event.as_str().unwrap())).collect::<Vec<_>>()
        };
        self.place.tail_of(rule).iter().flat_map(shown).collect()
    }
}

#[test]
fn a_server_that_is_silent_at_the_start_holds_up_only_its_own_rules() {
    let (scene, server) = Scene::new();
    fs::write(format!("{}/drop/old", scene.source), "x").unwrap();
    let stopped = server.stop();
    let _daemon = promptly("the start", || scene.place.start());
    scene.is_told("there");
    scene.is_told("linked");
    scene.goes_on();
    scene.resume(stopped, "there");
    fs::write(format!("{}/drop/file", scene.at), "x").unwrap();
    wait_until("the event", || scene.told("there").contains("FAN_CLOSE_WRITE file"));
    assert_eq!(scene.told("there").len(), 2, "what was there before is no event: {:?}", scene.told("there"));
}

#[test]
fn a_server_that_falls_silent_later_holds_up_nobody_else() {
    let (scene, server) = Scene::new();
    let Scene { place, at, .. } = &scene;
    let tree = place.mkdir("tree");
    let _daemon = place.start();
    for file in ["gone", "kept"] {
        fs::write(format!("{at}/drop/{file}"), "x").unwrap();
    }
    place.settle_fired("there", 2);
    let stopped = server.stop();
    let conf = fs::read_to_string(place.path("facron.conf")).unwrap();
    place.conf(&format!(
        "{conf}{at}/drop CLOSE_WRITE [name=new] -\n{tree} CLOSE_WRITE [recursive name=tree] -\n"
    ));
    promptly("reload", || place.ctl_ok(&["reload"]));
    let added = format!("{}/drop/file", place.play("link"));
    promptly("add", || place.ctl_ok(&["add", "-o", "name=added", &added, "ARRIVED", "-"]));
    for rule in ["there", "new", "added"] {
        scene.is_told(rule);
    }
    let mount = Mount::of_type("tmpfs", "size=1m", &format!("{tree}/tmpfs"));
    promptly("a mount elsewhere", || {
        wait_until("the mount to be watched", || {
            fs::write(format!("{}/file", mount.at()), "x").unwrap();
            place.fired("tree") > 0
        });
    });
    mount.unmount();
    promptly("remove", || place.ctl_ok(&["remove", "added"]));
    scene.goes_on();
    // what waits for the server itself is told exactly, when it has happened
    let mut shell = Shell::start(&format!("cd {at}/drop; echo x > made; rm gone"));
    scene.resume(stopped, "there");
    wait_until("the shell to end", || shell.has_ended());
    wait_until("all that has happened", || {
        let told = scene.told("there");
        ["FAN_CLOSE_WRITE made", "FAN_DELETE gone"].iter().all(|event| told.contains(*event))
    });
    wait_until("the new rule", || scene.told("new").contains("FAN_CLOSE_WRITE made"));
}

#[test]
fn what_is_found_while_a_server_falls_silent_is_not_lost() {
    const DIRECTORIES: usize = 300;
    let (scene, server) = Scene::new();
    let Scene { place, at, source } = &scene;
    let _daemon = place.start_with(&["--history", "10000"]);
    for round in 1..=3 {
        for d in 1..=DIRECTORIES {
            let sub = format!("{source}/old/{d}/sub");
            fs::create_dir_all(&sub).unwrap();
            fs::write(format!("{sub}/file"), "x").unwrap();
        }
        // they are old by then, and one event leads to all of them
        place.settle();
        fs::rename(format!("{at}/old"), format!("{at}/drop/{round}")).unwrap();
        let stopped = server.stop();
        // were it done with them by now
        place.ctl_ok(&["add", &format!("{at}/drop/{round}"), "OPEN", "-"]);
        scene.is_told("there");
        scene.goes_on();
        scene.resume(stopped, "there");
        let files: Vec<_> =
            (1..=DIRECTORIES).map(|d| format!("FAN_CLOSE_WRITE {round}/{d}/sub/file")).collect();
        wait_until("all files", || {
            let told = scene.told("there");
            files.iter().all(|file| told.contains(file))
        });
    }
}

#[test]
fn a_command_that_needs_a_silent_server_fails_and_holds_up_nobody() {
    let (scene, server) = Scene::new();
    let Scene { place, at, .. } = &scene;
    let _daemon = place.start();
    let stopped = server.stop();
    let commands =
        [("cwd", format!("cwd={at}/drop"), "true"), ("output", format!("output={at}/out"), "true")];
    let program = format!("{at}/program");
    for (name, option, command) in commands.iter().chain([&("program", "nice=1".to_owned(), &*program)]) {
        let options = format!("name={name} {option}");
        place.ctl_ok(&["add", "-o", &options, &place.play("near"), "CLOSE_WRITE", command]);
        place.write("near/file");
        wait_until("the command to fail", || {
            place.tail_of(name).iter().any(|record| {
                let why = record["outcome"]["error"].as_str().unwrap_or_default();
                record["outcome"]["state"] == "spawn_failed" && why.contains("does not answer")
            })
        });
        scene.goes_on();
    }
    drop(stopped);
}

/// Whoever waits for a server that has read the request and waits itself, here for
/// another one, cannot be killed.
#[test]
fn a_daemon_ends_while_a_server_is_silent() {
    let (scene, server) = Scene::new();
    let outer = scene.place.play("outer");
    let _outer = Server::of(&scene.at, &outer);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let mut daemon = scene.place.start();
        let stopped = server.stop();
        let rule = scene.place.ctl_json(&["add", &format!("{outer}/drop"), "CLOSE_WRITE", "-"]);
        let why = format!("{outer} (fuse) has not answered yet");
        assert_eq!((&rule["state"], &rule["reason"]), (&json!("waiting"), &Value::from(why)));
        scene.goes_on();
        daemon.signal(signal);
        let status = promptly("the end", || daemon.wait());
        assert_eq!(status.success(), signal == Signal::SIGTERM, "{status}");
        drop(stopped);
    }
}

/// A busy machine is no server that does not answer.
#[test]
fn servers_that_answer_are_never_said_not_to() {
    const MOUNTS: u64 = 2;
    let duration = Duration::from_secs(number_from("FACRON_TEST_SECONDS", 20));
    let place = Place::new();
    let tops: Vec<_> = (0..MOUNTS).map(|number| place.play(&format!("served-{number}"))).collect();
    let _servers: Vec<_> = tops
        .iter()
        .enumerate()
        .map(|(number, top)| Server::of(&place.mkdir(&format!("source-{number}")), top))
        .collect();
    let rule = |top: &String| format!("{top} ARRIVED [recursive] -\n{top}/tree CLOSE_WRITE [recursive] -\n");
    place.conf(&tops.iter().map(rule).collect::<String>());
    for top in &tops {
        fs::create_dir(format!("{top}/tree")).unwrap();
        fs::create_dir(format!("{top}/outside")).unwrap();
    }
    let daemon = place.start();
    let (seed, _load) = (Random::seed(), Load::start());
    let storm = |top: &String| Actor::start(&["storm", top, &seed.to_string(), "0"]);
    let mut storms: Vec<_> = tops.iter().map(storm).collect();
    let started = Instant::now();
    while started.elapsed() < duration {
        for storm in &mut storms {
            storm.say("500");
        }
        for storm in &mut storms {
            assert_ne!(storm.hear(), "0", "nothing has been done");
        }
        assert_eq!(place.status()["health"], "ok", "seed {seed}");
    }
    drop(storms);
    let log = daemon.log();
    assert!(!log.contains("does not answer"), "seed {seed}");
}
