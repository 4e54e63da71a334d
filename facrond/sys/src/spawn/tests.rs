use super::*;
use crate::wait::{Exit, Reaped, reap, reap_any};
use nix::fcntl::OFlag;
use nix::sys::prctl::get_dumpable;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::pipe2;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// What most tests have no need to set.
fn plain(cwd: Option<&CStr>) -> Spawn<'_> {
    let stdio = [0, 1, 2].map(|fd| {
        // SAFETY: the test's own standard descriptors stay open.
        unsafe { BorrowedFd::borrow_raw(fd) }
    });
    Spawn {
        programs: &[],
        argv: &[],
        env: &[],
        cwd,
        stdio,
        input: Input::AsItIs,
        output: None,
        credentials: None,
        umask: 0o022,
        nice: None,
        session: Session::Own,
    }
}

/// Runs a command to its end; its output.
fn run(programs: &[&CStr], argv: &[&CStr], cwd: Option<&CStr>) -> Result<(String, ProcessGroup), SpawnError> {
    run_in(programs, argv, &plain(cwd))
}

fn run_in(
    programs: &[&CStr],
    argv: &[&CStr],
    spawn: &Spawn<'_>,
) -> Result<(String, ProcessGroup), SpawnError> {
    let null = File::open("/dev/null").unwrap();
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let owned = |strings: &[&CStr]| strings.iter().map(|string| (*string).to_owned()).collect::<Vec<_>>();
    let (group, start) = Spawner::default().spawn(&Spawn {
        programs: &owned(programs),
        argv: &owned(argv),
        env: &[Cow::Borrowed(c"A=1"), Cow::Borrowed(c"PATH=/bin:/usr/bin")],
        stdio: [null.as_fd(), writer.as_fd(), writer.as_fd()],
        input: spawn.input.clone(),
        ..*spawn
    })?;
    drop(writer);
    let mut output = String::new();
    File::from(reader).read_to_string(&mut output).unwrap();
    let exit = reap(group.pid());
    if let Some(failure) = start.failure() {
        return Err(failure);
    }
    assert_eq!(exit, Some(Exit::Code(0)), "{output}");
    Ok((output, group))
}

fn output_of(argv: &[&CStr]) -> String {
    run(&argv[..1], argv, None).unwrap().0
}

fn error_of(program: &CStr) -> SpawnError {
    run(&[program], &[program], None).map(|(output, _)| output).unwrap_err()
}

#[test]
fn failures_name_the_step_and_leave_no_zombie() {
    let dir = tempfile::tempdir().unwrap();
    // Copied by another process: a descriptor open for writing in this one could
    // be inherited by a test beside it for a moment, and the program be busy.
    let text = dir.path().join("text");
    assert!(Command::new("cp").arg("/etc/passwd").arg(&text).status().unwrap().success());
    let exec = |errno| SpawnError { step: Step::Exec, errno };
    assert_eq!(error_of(c"/nonexistent"), exec(Errno::ENOENT));
    assert_eq!(error_of(&c_path(dir.path())), exec(Errno::EACCES));
    assert_eq!(error_of(&c_path(&text)), exec(Errno::EACCES));
    fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(error_of(&c_path(&text)), exec(Errno::ENOEXEC));
    let error = run(&[c"/bin/true"], &[c"true"], Some(c"/nonexistent")).map(|(output, _)| output);
    assert_eq!(error, Err(SpawnError { step: Step::Directory, errno: Errno::ENOENT }));
    let long = CString::new(vec![b'x'; 4 << 20]).unwrap();
    let error = run(&[c"/bin/true"], &[c"true", &long], None).map(|(output, _)| output);
    assert_eq!(error, Err(exec(Errno::E2BIG)));
    assert_eq!(reap_any(), Reaped::NoChildren);
}

#[test]
fn candidates_are_tried_in_order() {
    let programs = [c"/nonexistent/echo", c"/etc/passwd/echo", c"/bin/echo", c"/bin/false"];
    assert_eq!(run(&programs, &[c"echo", c"here"], None).unwrap().0, "here\n");
    let denied = run(&[c"/etc", c"/nonexistent"], &[c"x"], None).map(|(output, _)| output);
    assert_eq!(denied, Err(SpawnError { step: Step::Exec, errno: Errno::EACCES }));
    assert_eq!(run(&[], &[c"x"], None).map(drop).unwrap_err().errno, Errno::ENOENT);
}

#[test]
fn no_descriptor_is_inherited() {
    let _inheritable = nix::unistd::dup(File::open("/dev/null").unwrap()).unwrap();
    // 3 is the directory that ls reads.
    assert_eq!(output_of(&[c"/bin/ls", c"/proc/self/fd"]), "0\n1\n2\n3\n");
}

#[test]
fn signals_are_default_and_unblocked() {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGUSR2);
    mask.thread_block().unwrap();
    let ours = fs::read_to_string("/proc/thread-self/status").unwrap();
    let field = |status: &str, name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    // Rust ignores SIGPIPE.
    assert_ne!(field(&ours, "SigIgn:"), 0);
    let status = output_of(&[c"/bin/cat", c"/proc/self/status"]);
    assert_eq!((field(&status, "SigIgn:"), field(&status, "SigBlk:"), field(&status, "SigCgt:")), (0, 0, 0));
    let after = fs::read_to_string("/proc/thread-self/status").unwrap();
    assert_eq!(field(&after, "SigBlk:"), field(&ours, "SigBlk:"), "our own mask is as before");
}

#[test]
fn leads_a_session_of_its_own() {
    let (stat, group) = run(&[c"/bin/cat"], &[c"cat", c"/proc/self/stat"], None).unwrap();
    let fields: Vec<&str> = stat.split(' ').collect();
    let pid = group.pid().to_string();
    assert_eq!((fields[0], fields[4], fields[5]), (pid.as_str(), pid.as_str(), pid.as_str()));
}

#[test]
fn surroundings_are_those_asked_for() {
    let (output, _) = run(&[c"/bin/sh"], &[c"sh", c"-c", c"pwd; umask; env"], Some(c"/usr")).unwrap();
    let mut lines: Vec<&str> = output.lines().collect();
    lines[2..].sort_unstable();
    // The shell itself adds PWD.
    assert_eq!(lines, ["/usr", "0022", "A=1", "PATH=/bin:/usr/bin", "PWD=/usr"]);
}

#[test]
fn a_group_outlives_its_leader() {
    let script = c"sleep 60 >/dev/null 2>&1 & echo $!";
    let (sleeper, group) = run(&[c"/bin/sh"], &[c"sh", c"-c", script], None).unwrap();
    assert!(group.exists(), "the leader is reaped, {sleeper} is there");
    group.signal(Signal::SIGKILL).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while group.exists() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    group.signal(Signal::SIGKILL).unwrap();
}

/// A start as another user makes the process not dumpable, for good.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
#[cfg_attr(not(feature = "root-tests"), ignore = "needs root")]
fn another_user_has_nothing_of_ours() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let credentials = Credentials { uid: 65534, gid: 65534, groups: &[65534, 4, 20][..] };
    let spawn = Spawn { credentials: Some(credentials), umask: 0o077, nice: Some(7), ..plain(None) };
    let before = fs::read_to_string("/proc/self/status").unwrap();
    let (status, _) = run_in(&[c"/bin/cat"], &[c"cat", c"/proc/self/status"], &spawn).unwrap();
    let field = |status: &str, name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(field(&status, "Uid:"), "65534 65534 65534 65534");
    assert_eq!(field(&status, "Gid:"), "65534 65534 65534 65534");
    assert_eq!(field(&status, "Groups:"), "4 20 65534");
    assert_eq!(field(&status, "Umask:"), "0077");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(&status, set), "0000000000000000", "{set}");
    }
    assert_eq!(field(&status, "NoNewPrivs:"), "0");
    assert_eq!(run_in(&[c"/usr/bin/nice"], &[c"nice"], &spawn).unwrap().0, "7\n");
    // Ours are as before, in all threads.
    let after = fs::read_to_string("/proc/self/status").unwrap();
    for name in ["Uid:", "Gid:", "Groups:", "CapEff:", "Umask:"] {
        assert_eq!(field(&after, name), field(&before, name), "{name}");
    }
    // The user could have a hand in our memory through such a child.
    assert!(!get_dumpable().unwrap());
}

#[test]
#[cfg_attr(not(feature = "root-tests"), ignore = "needs root")]
fn what_the_user_may_not_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let private = c_path(dir.path());
    let credentials = Credentials { uid: 65534, gid: 65534, groups: &[65534][..] };
    let spawn = Spawn { credentials: Some(credentials), ..plain(Some(&private)) };
    let error = run_in(&[c"/bin/true"], &[c"true"], &spawn).map(|(output, _)| output);
    assert_eq!(error, Err(SpawnError { step: Step::Directory, errno: Errno::EACCES }));
}

#[test]
fn nobody_waits_for_a_child_that_is_kept_from_its_program() {
    let dir = tempfile::tempdir().unwrap();
    let (program, [null]) = (c_path(&dir.path().join("program")), [File::open("/dev/null").unwrap()]);
    assert!(Command::new("cp").arg("/bin/true").arg(dir.path().join("program")).status().unwrap().success());
    let leased = File::options().read(true).write(true).open(dir.path().join("program")).unwrap();
    // SAFETY: takes an int and touches no memory of ours.
    let lease = unsafe { libc::fcntl(leased.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
    assert_eq!(lease, 0);
    crate::signals::ignore_lease_breaks().unwrap();
    let programs = [program];
    let fd = null.as_fd();
    let spawn = Spawn { programs: &programs, argv: &programs, stdio: [fd; 3], ..plain(None) };
    let started = Instant::now();
    let (mut group, start) = Spawner::default().spawn(&spawn).unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "nobody waits for the lease");
    group.hold();
    let others = output_of(&[c"/bin/echo", c"others"]);
    assert_eq!((others.as_str(), start.is_over()), ("others\n", false));
    group.signal(Signal::SIGKILL).unwrap();
    assert_eq!(reap(group.pid()), Some(Exit::Signal(9)));
    assert!(start.is_over() && start.has_succeeded(), "by a signal, and not by a failure");
    assert_eq!(start.failure(), None);
}

/// What a start alone takes at best, of some: the machine may be busy.
fn best_start(spawner: &Spawner, spawn: &Spawn<'_>) -> Duration {
    let true_ = [c"/bin/true".to_owned()];
    let start = || {
        let started = Instant::now();
        let (group, start) =
            spawner.spawn(&Spawn { programs: &true_, argv: &true_, input: Input::AsItIs, ..*spawn }).unwrap();
        let took = started.elapsed();
        reap(group.pid());
        assert_eq!(start.failure(), None);
        took
    };
    std::iter::repeat_with(start).take(50).min().unwrap()
}

#[test]
#[cfg_attr(not(feature = "root-tests"), ignore = "needs root")]
fn a_start_costs_the_same_with_options_and_a_large_daemon() {
    const LARGE: usize = 500 << 20;
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let spawner = Spawner::default();
    let credentials = Credentials { uid: 65534, gid: 65534, groups: &[65534][..] };
    let with_options = Spawn { credentials: Some(credentials), nice: Some(1), ..plain(None) };
    let small = (0..5).map(|_| best_start(&spawner, &plain(None))).min().unwrap();
    let memory = vec![1u8; LARGE];
    let mut large = Duration::MAX;
    for _ in 0..20 {
        large = large.min(best_start(&spawner, &with_options));
        if large * 2 < small * 3 {
            break;
        }
    }
    assert!(memory.iter().step_by(4096).all(|byte| *byte == 1), "it is resident");
    assert!(large * 2 < small * 3, "{large:?} in place of {small:?}");
}

/// The error of a command whose output is this file.
fn output_error(path: &Path) -> Option<SpawnError> {
    let (path, argv) = (c_path(path), [c"/bin/echo", c"text"]);
    run_in(&argv[..1], &argv, &Spawn { output: Some(&path), ..plain(None) }).map(drop).err()
}

#[test]
fn output_is_appended_to_a_file_that_is_what_it_seems() {
    crate::signals::ignore_lease_breaks().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let file = path("file");
    assert_eq!((output_error(&file), output_error(&file)), (None, None));
    assert_eq!(fs::read_to_string(&file).unwrap(), "text\ntext\n");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);

    std::os::unix::fs::symlink("file", path("link")).unwrap();
    std::os::unix::fs::symlink(".", path("dir")).unwrap();
    nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let failed = |errno| Some(SpawnError { step: Step::Output, errno });
    assert_eq!(output_error(&path("link")), failed(Errno::ELOOP));
    assert_eq!(output_error(&path("dir/file")), failed(Errno::ELOOP));
    assert_eq!(output_error(&path("fifo")), failed(Errno::ESPIPE));
    let _reader = File::options().read(true).write(true).open(path("fifo")).unwrap();
    assert_eq!(output_error(&path("fifo")), failed(Errno::ESPIPE));
    assert_eq!(output_error(Path::new("/dev/null")), failed(Errno::ESPIPE));

    let leased = File::open(&file).unwrap();
    // SAFETY: takes an int and touches no memory of ours.
    let set_lease = |kind: i32| unsafe { libc::fcntl(leased.as_raw_fd(), libc::F_SETLEASE, kind) };
    assert_eq!((set_lease(libc::F_RDLCK), output_error(&file)), (0, failed(Errno::EBUSY)));
    // A child of another test may have the descriptor for a moment, and with it the lease.
    assert_eq!(set_lease(libc::F_UNLCK), 0);
    fs::hard_link(&file, path("hard")).unwrap();
    assert_eq!(output_error(&path("hard")), failed(Errno::EMLINK));
    assert_eq!(fs::read_to_string(&file).unwrap(), "text\ntext\n");
}
