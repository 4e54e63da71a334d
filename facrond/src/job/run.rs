//! Starts jobs.

use super::Job;
use super::argv::{self, Counter};
use super::earlier::{self, Earlier};
use super::env;
use super::error::StartError;
use super::outcome::Outcome;
use super::output::{self, Capture, Leftovers, LogTo, RuleLog, Target};
use super::reaper::Children;
use super::running::Running;
use super::starting::Starting;
use super::{split, stdin};
use crate::config::account::Account;
use crate::config::rule::{Command, Options, RuleSpec, Stdin};
use crate::kernel::descriptors::is_reserved;
use crate::kernel::pidfd::Pidfd;
use crate::kernel::process;
use crate::kernel::process_group::ProcessGroup;
use crate::kernel::spawn::{Credentials, Input, Session, Spawn, Spawner, Start};
use crate::process::descendants::Descendants;
use facron_proto::RuleId;
use nix::errno::Errno;
use nix::unistd::{getegid, geteuid};
use rustc_hash::FxHashMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::Instant;

/// A batch whose files are to be looked at and moved is split after so many: users choose the number.
const MOST_FILES: usize = 1000;

/// Starts commands and knows those that run. Belongs to one thread.
#[derive(Debug)]
pub struct Runner {
    spawner: Spawner,
    base: env::Base,
    counter: Counter,
    children: Children,
    descendants: Rc<Descendants>,
    null: OwnedFd,
    log_to: LogTo,
    logs: FxHashMap<RuleId, Rc<RuleLog>>,
    leftovers: Rc<Leftovers>,
    /// When all that runs must be over; set by [`Runner::stop`].
    end: watch::Sender<Option<Instant>>,
}

impl Runner {
    /// Finds out what all commands have in common.
    pub fn new(log_to: LogTo) -> io::Result<Self> {
        Ok(Self {
            spawner: Spawner::default(),
            base: env::Base::of_this_user(),
            counter: Counter::default(),
            children: Children::default(),
            descendants: Rc::new(Descendants::follow()),
            null: File::options().read(true).write(true).open("/dev/null")?.into(),
            log_to,
            logs: FxHashMap::default(),
            leftovers: Rc::default(),
            end: watch::Sender::new(None),
        })
    }

    /// Starts a job's command; else says what became of it instead. Whether the command
    /// reaches its program is known later: that is part of its outcome.
    ///
    /// Within a tokio `LocalSet`, on the thread that calls [`Children::reap`].
    pub fn start(&mut self, job: &Job) -> Result<Running, Outcome> {
        self.start_with(job, None, None)
    }

    /// Starts a command for which a process waits, for as long as `left`; see
    /// [`Runner::start`]. `file` is the file that the process opens.
    ///
    /// It and all that it starts is stopped then; what it leaves behind, when it ends.
    pub fn start_decision(
        &mut self,
        job: &Job,
        file: Option<&OwnedFd>,
        left: Duration,
    ) -> Result<Running, Outcome> {
        let deadline = SystemTime::now() + left;
        let mut running = self.start_with(job, Some(deadline), file)?;
        running.timeout = Some(running.timeout.map_or(left, |timeout| timeout.min(left)));
        running.ends_as_a_whole = true;
        running.group.hold();
        Ok(running)
    }

    /// The command of a job that an earlier daemon has started, if it is still this process.
    /// Within a tokio `LocalSet`.
    pub fn find_again(&self, job: &Job, earlier: &Earlier) -> Option<Running> {
        let process = Pidfd::open(earlier.pid).ok()?;
        // Looked at after it was opened: so it is about the process that was opened.
        process::identity(earlier.pid).filter(|identity| *identity == earlier.identity)?;
        let since = SystemTime::now().duration_since(earlier.began).unwrap_or_default();
        let options = &job.spec.options;
        Some(Running {
            exit: earlier::wait(Pidfd::open(earlier.pid).ok()?).ok()?,
            capture: None,
            group: ProcessGroup::of(process),
            starting: None,
            descendants: Rc::clone(&self.descendants),
            started: Instant::now().checked_sub(since).unwrap_or_else(Instant::now),
            timeout: options.timeout,
            kill_after: options.kill_after,
            ends_as_a_whole: false,
            stopper: Rc::default(),
            end: self.end.subscribe(),
            leftovers: Rc::clone(&self.leftovers),
        })
    }

    fn start_with(
        &mut self,
        job: &Job,
        deadline: Option<SystemTime>,
        file: Option<&OwnedFd>,
    ) -> Result<Running, Outcome> {
        if job.spec.command == Command::Record {
            return Err(Outcome::Recorded);
        }
        Ok(self.start_command(job, deadline, file)?)
    }

    /// Starts the daemon's own program as a process of another kind, with a socket on
    /// its standard input and neither output nor environment. It is a group of its own.
    ///
    /// With a rule it runs as the commands of the rule do: nobody trusts it more than those.
    pub fn start_helper(
        &mut self,
        arguments: &[CString],
        socket: BorrowedFd<'_>,
        rule: Option<&RuleSpec>,
    ) -> Result<ProcessGroup, Errno> {
        let null = self.null.as_fd();
        let mut spawn = Spawn::of_self(arguments, [socket, null, null]);
        if let Some(RuleSpec { options, .. }) = rule {
            let credentials = Self::credentials(options);
            spawn = Spawn {
                credentials,
                umask: options.umask,
                nice: options.nice,
                session: Session::Own,
                ..spawn
            };
        }
        let (mut group, _) = self.spawner.spawn(&spawn).map_err(|error| error.errno)?;
        group.hold();
        // Whoever has the other end of the socket sees it end, or not begin.
        drop(self.children.insert(group.pid()));
        Ok(group)
    }

    /// Leaves a batch as many of its paths as fit into one command line, and of those whose files
    /// are to be moved some; the rest, if there is one, is another job.
    pub fn split(&self, job: &mut Job) -> Option<Job> {
        let spec = Rc::clone(&job.spec);
        if job.events().len() < 2 {
            return None;
        }
        let most = if spec.has_fate() { MOST_FILES } else { usize::MAX };
        let Command::Exec { program, args } = &spec.command else { return split::split(job, 0, 0, most) };
        let times = args.iter().filter(|argument| argv::is_path(argument)).count();
        if times == 0 {
            return split::split(job, 0, 0, most);
        }
        let fixed = argv::build(program, args, &job.event, &[], &mut self.counter()).ok()?;
        let env = self.base.of(job).ok()?;
        let fixed = fixed.iter().map(CString::as_c_str).chain(env.iter().map(AsRef::as_ref));
        split::split(job, times, split::space().saturating_sub(split::cost(fixed)), most)
    }

    /// The processes that descend from the commands.
    pub fn descendants(&self) -> Rc<Descendants> {
        Rc::clone(&self.descendants)
    }

    /// Reaps the commands that have ended; see [`Children::reap`].
    pub fn reap(&mut self) -> Vec<i32> {
        self.children.reap()
    }

    /// The counter of `$+`, `$-` and `$=` as it stands.
    pub fn counter(&self) -> Counter {
        self.counter
    }

    /// Ends all that runs: SIGTERM now, and SIGKILL after each rule's
    /// `kill-after=`, but after `grace` at the latest.
    pub fn stop(&self, grace: Duration) {
        self.end.send_replace(Some(Instant::now() + grace));
    }

    /// Forgets what is kept for a rule.
    pub fn forget(&mut self, rule: RuleId) {
        self.logs.remove(&rule);
    }

    fn start_command(
        &mut self,
        job: &Job,
        deadline: Option<SystemTime>,
        file: Option<&OwnedFd>,
    ) -> Result<Running, StartError> {
        let options = &job.spec.options;
        let mut argv = argv::of(&job.spec.command, &job.event, job.events(), &mut self.counter)?;
        let (target, pipe) = output::open(&options.output, self.log_to)?;
        // What is kept for others is for those for which somebody waits, too.
        if deadline.is_none() && pipe.as_ref().is_some_and(|pipe| is_reserved(pipe.as_fd())) {
            return Err(StartError::Pipe(Errno::EMFILE));
        }
        let started = Instant::now();
        let (group, start) = self.spawn(job, &argv, &target, deadline, file)?;
        let pid = group.pid();
        Ok(Running {
            exit: self.children.insert(pid),
            capture: pipe.map(|pipe| Capture::new(pipe, pid, self.log_of(job), started)),
            group,
            starting: Some(Starting::new(start, argv.swap_remove(0), Rc::clone(&job.spec))),
            descendants: Rc::clone(&self.descendants),
            started,
            timeout: options.timeout,
            kill_after: options.kill_after,
            ends_as_a_whole: false,
            stopper: Rc::default(),
            end: self.end.subscribe(),
            leftovers: Rc::clone(&self.leftovers),
        })
    }

    fn spawn(
        &mut self,
        job: &Job,
        argv: &[CString],
        target: &Target,
        deadline: Option<SystemTime>,
        file: Option<&OwnedFd>,
    ) -> Result<(ProcessGroup, Start), StartError> {
        let program = &argv[0];
        let options = &job.spec.options;
        let directory = options.cwd.as_deref();
        let c_path = |path: &Path| CString::new(path.as_os_str().as_bytes());
        let cwd = directory.map(c_path).transpose()?;
        let output = options.output.file().map(c_path).transpose()?;
        let mut env = self.base.of(job)?;
        if let Some(deadline) = deadline {
            env::set_deadline(&mut env, deadline)?;
        }
        if job.repeated {
            env::set_repeated(&mut env);
        }
        let null = self.null.as_fd();
        let source = job.spec.stdin();
        let json =
            if source == Stdin::Json { Some(stdin::json(job).map_err(StartError::Input)?) } else { None };
        let opened = file.filter(|_| source == Stdin::File);
        let input = match opened {
            Some(_) => Input::Reopened,
            None if source == Stdin::File && !job.spec.asks_permission() => stdin::file(job)?,
            None => Input::AsItIs,
        };
        if !matches!(input, Input::AsItIs) {
            env::set_file(&mut env);
        }
        let descriptor = json.as_ref().or(opened).map_or(null, AsFd::as_fd);
        let [stdout, stderr] = target.for_child(null);
        let spawn = Spawn {
            programs: &env::candidates(program, &env),
            argv,
            env: &env,
            cwd: cwd.as_deref(),
            stdio: [descriptor, stdout, stderr],
            input,
            output: output.as_deref(),
            credentials: Self::credentials(options),
            umask: options.umask,
            nice: options.nice,
            session: if deadline.is_some() { Session::Daemon } else { Session::Own },
        };
        self.spawner.spawn(&spawn).map_err(|error| StartError::from_spawn(error, program, options))
    }

    fn credentials(options: &Options) -> Option<Credentials<&[u32]>> {
        let account = options.account.as_ref().filter(|account| !Self::is_own(account))?;
        Some(Credentials { uid: account.uid, gid: account.gid, groups: &account.groups[..] })
    }

    /// Whether an account is that of a daemon that cannot change its own.
    fn is_own(account: &Account) -> bool {
        let (uid, gid) = (geteuid(), getegid());
        !uid.is_root() && account.uid == uid.as_raw() && account.gid == gid.as_raw()
    }

    fn log_of(&mut self, job: &Job) -> Rc<RuleLog> {
        let log = self.logs.entry(job.rule);
        Rc::clone(log.or_insert_with(|| RuleLog::new(job.rule, job.spec.options.name.clone())))
    }
}

/// The files that a start has to reach: its program, its directory, its output and its input.
pub fn places(job: &Job) -> impl Iterator<Item = &Path> {
    let spec = &*job.spec;
    let is_input = spec.stdin() == Stdin::File && !spec.asks_permission();
    let input = is_input.then(|| Path::new(OsStr::from_bytes(&job.event.path)));
    let program = match &spec.command {
        Command::Exec { program, .. } => Some(Path::new(program)),
        Command::Shell(_) | Command::Record => None,
    };
    [program, spec.options.cwd.as_deref(), spec.options.output.file(), input].into_iter().flatten()
}

#[cfg(test)]
mod tests;
