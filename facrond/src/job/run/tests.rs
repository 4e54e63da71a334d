//! Real commands on the real kernel.

use super::*;
use crate::config::rule::{Options, Output, RuleSpec};
use crate::job::testing;
use facron_proto::{Outcome, OutcomeState};
use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(20);

/// A runner whose children are reaped, and what it logs.
#[derive(Clone)]
struct Fixture {
    runner: Rc<RefCell<Runner>>,
    log: Log,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn with_runner(test: impl AsyncFnOnce(Fixture)) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let mut children_end = signal(SignalKind::child()).unwrap();
        let runner = Rc::new(RefCell::new(Runner::new(LogTo::Log).unwrap()));
        let reaped = Rc::clone(&runner);
        spawn_local(async move {
            while children_end.recv().await.is_some() {
                reaped.borrow_mut().reap();
            }
        });
        timeout(4 * SOON, test(Fixture { runner, log })).await.unwrap();
    });
}

impl Fixture {
    async fn run_spec(&self, spec: RuleSpec) -> Outcome {
        let job = Job { spec: Rc::new(spec), ..testing::job(1, 7, "/srv/file") };
        let running = self.runner.borrow_mut().start(&job);
        let outcome = match running {
            Ok(running) => running.finish().await,
            Err(outcome) => outcome,
        };
        crate::wire::record(&job, &outcome).outcome
    }

    async fn run(&self, argv: &[&str]) -> Outcome {
        self.run_spec(testing::spec(argv)).await
    }

    async fn run_with(&self, script: &str, options: Options) -> Outcome {
        self.run_spec(RuleSpec { options: options.into(), ..testing::spec(&["/bin/sh", "-c", script]) }).await
    }

    async fn script(&self, script: &str) -> Outcome {
        self.run_with(script, Options::default()).await
    }

    fn log(&self) -> String {
        String::from_utf8(self.log.0.lock().unwrap().clone()).unwrap()
    }

    async fn logged(&self, text: &str) {
        until(|| self.log().contains(text)).await;
    }
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "the condition did not come true");
        sleep(Duration::from_millis(5)).await;
    }
}

fn text(outcome: &Outcome) -> String {
    outcome.output.as_ref().map(|output| String::from_utf8(output.0.clone()).unwrap()).unwrap_or_default()
}

fn is_gone(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.map_or(true, |stat| stat.contains(") Z"))
}

/// By another process: a descriptor open for writing in this one could be
/// inherited by a test beside it for a moment, and the program be busy.
fn write_program(path: &str, text: &str) {
    let script = r#"printf '%s\n' "$1" > "$2" && chmod 755 "$2""#;
    let shell = std::process::Command::new("/bin/sh").args(["-c", script, "sh", text, path]).status();
    assert!(shell.unwrap().success());
}

#[test]
fn outcomes_of_all_kinds() {
    with_runner(async |fixture| {
        let outcome = fixture.script("echo out; echo err >&2; exit 3").await;
        assert_eq!((outcome.state, outcome.exit, outcome.signal), (OutcomeState::Exited, Some(3), None));
        assert_eq!(text(&outcome), "out\nerr");
        assert!(outcome.pid.is_some() && outcome.duration_ms.is_some() && outcome.error.is_none());
        // 34 is a real-time signal.
        for signal in [9, 34] {
            let outcome = fixture.script(&format!("kill -{signal} $$")).await;
            assert_eq!((outcome.state, outcome.signal), (OutcomeState::Signaled, Some(signal)));
        }
        let record = RuleSpec { command: Command::Record, ..testing::spec(&["-"]) };
        assert_eq!(fixture.run_spec(record).await, OutcomeState::Recorded.into());
        assert!(fixture.runner.borrow().children.is_empty());
    });
}

#[test]
fn what_cannot_start_says_why() {
    with_runner(async |fixture| {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        let script = script.to_str().unwrap();
        let error = async |argv: &[&str]| {
            let outcome = fixture.run(argv).await;
            assert_eq!((outcome.state, outcome.pid), (OutcomeState::SpawnFailed, None));
            outcome.error.unwrap()
        };
        assert_eq!(error(&["/opt/\n"]).await, r"cannot run /opt/\n: no such file or directory");
        assert_eq!(error(&["no-such"]).await, "cannot run no-such: there is no such program in PATH");
        write_program(script, "#!/nonexistent/sh");
        assert_eq!(error(&[script]).await, format!("cannot run {script}: its interpreter does not exist"));
        write_program(script, "echo");
        assert!(error(&[script]).await.ends_with("exec format error (a script must begin with #!)"));
        let long = "x".repeat(4 << 20);
        assert_eq!(error(&["true", &long]).await, "cannot run true: argument list too long");
        let cwd = Options { cwd: Some("/no/dir".into()), ..Options::default() };
        let outcome = fixture.run_with("", cwd).await;
        let expected = "cannot run /bin/sh: cannot enter /no/dir: no such file or directory";
        assert_eq!(outcome.error.unwrap(), expected);
    });
}

#[test]
fn any_bytes_reach_the_command() {
    with_runner(async |fixture| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out");
        let bytes = b" $$ '\"\\\n\x1b\xff*`id`".to_vec();
        let mut spec = testing::spec(&["printf", "%s|%s", ""]);
        Rc::make_mut(&mut spec.options).output = Output::File(file.clone());
        if let Command::Exec { args, .. } = &mut spec.command {
            args[1].parts = vec![crate::config::rule::Part::Literal(bytes.clone())];
        }
        fixture.run_spec(spec).await;
        assert_eq!(fs::read(file).unwrap(), [bytes.as_slice(), b"|"].concat());
    });
}

#[test]
fn output_to_files_is_appended_and_never_blocks() {
    with_runner(async |fixture| {
        let dir = tempfile::tempdir().unwrap();
        let to = async |path: PathBuf| {
            let options = Options { output: Output::File(path), ..Options::default() };
            fixture.run_with("echo text", options).await
        };
        let (file, fifo, link) = (dir.path().join("file"), dir.path().join("fifo"), dir.path().join("link"));
        to(file.clone()).await;
        assert_eq!(to(file.clone()).await.output, None);
        assert_eq!(fs::read_to_string(&file).unwrap(), "text\ntext\n");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = to(fifo.clone()).await.error.unwrap();
        assert_eq!(
            error,
            format!("cannot append the output to {}: it is not a regular file", fifo.display())
        );
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(to(link).await.error.unwrap().contains("symbolic link"));
        let null = Options { output: Output::Null, ..Options::default() };
        assert_eq!(fixture.run_with("echo nothing", null).await.output, None);
        assert!(!fixture.log().contains("nothing"));
    });
}

#[test]
fn lines_are_logged_escaped_and_marked() {
    with_runner(async |fixture| {
        let mut spec = testing::spec(&["printf", r"one\n\033[2Jtwo\377\nend"]);
        Rc::make_mut(&mut spec.options).name = Some("thumbs".to_owned());
        let pid = fixture.run_spec(spec).await.pid.unwrap();
        let log = fixture.log();
        for line in ["one", r"\u{1b}[2Jtwo\xff", "end"] {
            let expected = format!(r#" INFO output: {line} rule=7 name="thumbs" pid={pid}"#);
            assert!(log.contains(&expected), "{expected}\n{log}");
        }
    });
}

#[test]
fn too_many_lines_are_counted() {
    with_runner(async |fixture| {
        let started = Instant::now();
        for _ in 0..5 {
            assert!(text(&fixture.run(&["seq", "1000"]).await).ends_with("\n1000"));
        }
        fixture.logged("lines left out").await;
        if started.elapsed() < Duration::from_millis(900) {
            assert!(fixture.log().contains("4800 lines left out"), "{}", fixture.log());
        }
        let before = fixture.log().len();
        fixture.run(&["echo", "again"]).await;
        assert!(fixture.log()[before..].contains("again"));
    });
}

#[test]
fn a_flood_of_output_neither_blocks_nor_grows() {
    with_runner(async |fixture| {
        let outcome = fixture.script("yes '' | head -c 64M; head -c 1G /dev/zero; printf '\nlast'").await;
        assert_eq!((outcome.exit, text(&outcome).as_str()), (Some(0), "last"));
        assert!(fixture.log().len() < 100_000);
    });
}

#[test]
fn a_command_that_closes_its_output_still_runs() {
    with_runner(async |fixture| {
        let outcome = fixture.script("exec >&- 2>&-; sleep 0.2; exit 4").await;
        assert_eq!(outcome.exit, Some(4));
        assert!(outcome.duration_ms.unwrap() >= 200.0);
    });
}

#[test]
fn a_descendant_with_the_pipe_does_not_hold_up_the_job() {
    with_runner(async |fixture| {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let script = format!("(read go < {}; echo late) & echo early", fifo.display());
        let outcome = fixture.script(&script).await;
        assert_eq!((outcome.exit, text(&outcome).as_str()), (Some(0), "early"));
        let fifo = tokio::task::spawn_blocking(move || fs::write(fifo, "go\n"));
        fifo.await.unwrap().unwrap();
        fixture.logged(" late ").await;
    });
}

fn impatient() -> Options {
    let limit = Duration::from_millis(150);
    Options { timeout: Some(limit), kill_after: limit, ..Options::default() }
}

#[test]
fn a_timeout_ends_the_whole_group() {
    with_runner(async |fixture| {
        let obeys = fixture.run_with("sleep 60 & echo $!; wait", impatient()).await;
        assert_eq!((obeys.state, obeys.signal), (OutcomeState::Timeout, Some(15)));
        until(|| is_gone(&text(&obeys))).await;

        let stubborn = "trap '' TERM; sleep 60 & echo $!; wait; sleep 60";
        let killed = fixture.run_with(stubborn, impatient()).await;
        assert_eq!((killed.state, killed.signal), (OutcomeState::Timeout, Some(9)));
        until(|| is_gone(&text(&killed))).await;

        let stopped = fixture.run_with("kill -STOP $$; sleep 60", impatient()).await;
        assert_eq!((stopped.state, stopped.signal), (OutcomeState::Timeout, Some(15)));
    });
}

#[test]
fn what_its_leader_leaves_behind_is_killed_too() {
    with_runner(async |fixture| {
        let script = "(trap '' TERM; echo $$; sleep 60; sleep 60) & trap 'exit 5' TERM; echo $!; wait";
        let outcome = fixture.run_with(script, impatient()).await;
        assert_eq!((outcome.state, outcome.exit), (OutcomeState::Timeout, Some(5)));
        assert!(outcome.duration_ms.unwrap() >= 300.0, "it waits for the rest of the group");
        for pid in text(&outcome).lines() {
            until(|| is_gone(pid)).await;
        }
    });
}

#[test]
fn stopping_the_daemon_ends_what_runs() {
    with_runner(async |fixture| {
        let patient = Options { kill_after: SOON, ..Options::default() };
        let started = Instant::now();
        let obeys = fixture.run_with("sleep 60", patient.clone());
        let ignores = fixture.run_with("trap '' TERM; echo ready; while :; do sleep 1; done", patient);
        let stop = async {
            fixture.logged("ready").await;
            fixture.runner.borrow().stop(Duration::from_millis(200));
        };
        let (obeys, ignores, ()) = tokio::join!(obeys, ignores, stop);
        assert_eq!((obeys.state, obeys.signal), (OutcomeState::Signaled, Some(15)));
        assert_eq!((ignores.state, ignores.signal), (OutcomeState::Signaled, Some(9)));
        assert!(ignores.error.is_some() && started.elapsed() < SOON);
    });
}

/// Descriptors belong to the whole process, so this needs one of its own.
#[test]
fn a_thousand_jobs_leave_nothing_behind() {
    const ALONE: &str = "FACRON_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "job::run::tests::a_thousand_jobs_leave_nothing_behind";
        let mut test = std::process::Command::new(std::env::current_exe().unwrap());
        assert!(test.args(["--exact", name]).env(ALONE, "1").status().unwrap().success());
        return;
    }
    with_runner(async |fixture| {
        let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
        fixture.run(&["true"]).await;
        let before = descriptors();
        for _ in 0..20 {
            let jobs: Vec<_> = (0..50)
                .map(|_| {
                    let fixture = fixture.clone();
                    spawn_local(async move { fixture.run(&["true"]).await })
                })
                .collect();
            for job in jobs {
                assert_eq!(job.await.unwrap().exit, Some(0));
            }
        }
        assert!(fixture.runner.borrow().children.is_empty());
        until(|| descriptors() == before).await;
        let none = nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
        assert_eq!(none, Err(nix::errno::Errno::ECHILD));
    });
}
