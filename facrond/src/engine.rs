//! The one task that owns all state. Others reach it by calls that carry their way
//! back; a reply is sent after the effect is real, never before.
//!
//! ```text
//! watch::drain -> Hit -> on_hit -> admit -> queue -> start -> supervisor -> on_finished
//! ```
//!
//! The engine only coordinates: `impl Engine` stands in this file (its parts, which rules
//! are in force, which jobs are admitted), in `run` (the loop, and the line above) and in
//! `requests`. Both call this file, and it calls neither. Each part has methods of its own
//! and knows nothing of the others.

mod catch_up;
mod fates;
mod job_log;
mod job_store;
mod loop_guard;
mod permissions;
mod requests;
mod rule_book;
mod run;
mod setup;
mod shortage;
mod state_files;
mod waiters;
mod wakeups;

pub use setup::{Error, Setup};
pub use state_files::StateFiles;

use crate::config::rule::{Command, RuleSpec};
use crate::config::when::Gather;
use crate::config::{self, Diagnostic, Loaded, Located};
use crate::event::Event;
use crate::job::Job;
use crate::job::earlier::Earlier;
use crate::job::outcome::Outcome;
use crate::job::queue::{Admission, Queue};
use crate::job::run::Runner;
use crate::job::supervisor::Supervisor;
use crate::kernel::sources::Sources;
use crate::process::Processes;
use crate::service_manager::Watchdog;
use crate::store::{Change, Promise, Saved, Store};
use crate::watch::{self, PathState, Watch};
use crate::wire;
use catch_up::CatchUp;
use facron_proto::{RuleId, Text};
use fates::{End, Fates};
pub(crate) use job_log::JobLog;
use job_store::EarlierJob;
use loop_guard::LoopGuard;
use nix::unistd::Pid;
use permissions::Permissions;
use rule_book::{Entry, Origin, RuleBook};
use shortage::Shortage;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};
use waiters::Waiters;

/// How long a `status` waits for the gate's numbers.
const COUNT: Duration = Duration::from_millis(500);

/// How long a request waits for servers of file systems to answer.
const LOOK: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct Engine {
    setup: Setup,
    store: Store,
    catch_up: CatchUp,
    /// Those of the store, until the rules are known.
    earlier_jobs: Vec<EarlierJob>,
    started: Instant,
    /// Problems of the start that still exist.
    start_problems: Vec<String>,
    is_stopping: bool,
    /// Readable when the kernel has events or process events for us.
    sources: Sources,
    watch: Watch,
    hits: Vec<watch::Hit>,
    processes: Processes,
    rules: RuleBook,
    permissions: Permissions,
    waiters: Waiters,
    loop_guard: LoopGuard,
    queue: Queue,
    runner: Runner,
    /// Jobs that start when the servers of their file systems have answered these requests.
    checking: Vec<(Job, Vec<u64>)>,
    supervisor: Supervisor,
    fates: Fates,
    shortage: Shortage,
    log: JobLog,
    watchdog: Watchdog,
    /// Events that facron's own commands caused.
    ignored_own: u64,
    /// Events that a rule let pass because nobody knows who caused them.
    unknown_processes: u64,
}

impl Engine {
    pub fn new(mut setup: Setup) -> Result<Self, Error> {
        let io = |what| move |source| Error::Io { what, source };
        // Orphans of commands become ours: they are reaped, and known as our own.
        nix::sys::prctl::set_child_subreaper(true)
            .map_err(io::Error::from)
            .map_err(io("become a subreaper"))?;
        let watch = Watch::new(std::mem::take(&mut setup.descriptors))?;
        let sources = Sources::new().map_err(io::Error::from).map_err(io("prepare to wait"))?;
        let runner = Runner::new(setup.log_to).map_err(io("prepare to run commands"))?;
        let processes = sources
            .add(watch.as_fd())
            .and_then(|()| sources.add(watch.sources()))
            .and_then(|()| Processes::new(runner.descendants(), &sources))
            .map_err(io::Error::from)
            .map_err(io("prepare to wait"))?;
        Ok(Self {
            started: Instant::now(),
            start_problems: Vec::new(),
            is_stopping: false,
            sources,
            hits: Vec::new(),
            processes,
            rules: RuleBook::default(),
            permissions: Permissions::new(Pid::this().as_raw(), &setup.own_places()),
            waiters: Waiters::default(),
            loop_guard: LoopGuard::new(watch.privilege()),
            watch,
            queue: Queue::new(setup.limits),
            runner,
            checking: Vec::new(),
            supervisor: Supervisor::default(),
            fates: Fates::default(),
            shortage: Shortage::default(),
            log: JobLog::new(setup.kept, &setup.saved, setup.store.sender(), setup.log_to),
            watchdog: Watchdog::new(),
            ignored_own: 0,
            unknown_processes: 0,
            catch_up: CatchUp::new(&setup.saved.known, &setup.store),
            earlier_jobs: Vec::new(),
            store: std::mem::replace(&mut setup.store, Store::absent()),
            setup,
        })
    }

    /// The group's privilege, the rules and how many of them are watched.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Reads all layers of rules. Lines with errors are left out and returned: the
    /// good ones run.
    pub fn load(&mut self) -> Vec<Diagnostic> {
        self.take_saved_rules();
        let saved: Vec<_> = self.rules.iter().map(|entry| (entry.id, Rc::clone(&entry.spec))).collect();
        for (id, spec) in saved {
            self.attach(id, spec);
        }
        let Loaded { rules, diagnostics, files } = config::load(&self.setup.conf, &self.setup.conf_dir);
        self.permissions.rules_mut().protect(&files);
        for located in rules {
            self.insert(located);
        }
        self.store.write(self.rules.numbers());
        self.take_saved_jobs();
        if config::has_errors(&diagnostics) {
            self.start_problems.push("the configuration has errors; `facrond check` shows them".to_owned());
        }
        if self.start_problems.is_empty() {
            let specs = self.rules.iter().map(|entry| &*entry.spec);
            self.catch_up.forget_others(specs, &self.store);
        }
        diagnostics
    }

    /// Takes in the rules that were added at runtime, also those of an earlier version.
    fn take_saved_rules(&mut self) {
        let mut saved = std::mem::take(&mut self.setup.saved);
        let jobs = job_store::earlier(&mut saved);
        let known = saved.rules.len();
        let files = self.setup.files.as_ref();
        let found = files.map(|files| files.add_rules(&mut saved)).unwrap_or_default();
        let mut new: Vec<_> = saved.rules[known..].iter().cloned().map(Change::Rule).collect();
        let Saved { rules, next_rule, problems, .. } = saved;
        let refused = self.rules.take_saved(rules, next_rule);
        new.extend((!found.is_empty()).then(|| self.rules.numbers()));
        problems.into_iter().chain(refused).for_each(|problem| self.note_problem(problem));
        self.once_kept(new, move |_, kept| match kept {
            Ok(()) => state_files::remove_rules(&found),
            Err(why) => tracing::error!("{why}; the rules of an earlier version stay where they are"),
        });
        self.earlier_jobs = jobs;
    }

    fn note_problem(&mut self, problem: String) {
        tracing::warn!("{problem}");
        self.start_problems.push(problem);
    }

    /// Goes on with what an earlier daemon has not concluded.
    fn take_saved_jobs(&mut self) {
        let jobs = std::mem::take(&mut self.earlier_jobs);
        let waited = jobs.len();
        let found = jobs.into_iter().map(|job| usize::from(self.take_saved_job(job))).sum::<usize>();
        if waited > 0 {
            tracing::info!(
                waited,
                found,
                "jobs of an earlier daemon go on; the commands of those found run still"
            );
        }
        let in_file = match job_store::in_file(self.setup.files.as_ref()) {
            Ok(Some(jobs)) => jobs,
            Ok(None) => return,
            Err(error) => return self.note_problem(error.to_string()),
        };
        for job in in_file {
            self.take_saved_job(job);
        }
        // Written after the jobs, so they are on the disk as well.
        let numbers = vec![self.rules.numbers()];
        self.once_kept(numbers, |engine, kept| match (kept, &engine.setup.files) {
            (Ok(()), Some(files)) => job_store::remove_file(files),
            (Err(why), _) => tracing::error!("{why}; the jobs of an earlier version stay where they are"),
            (Ok(()), None) => {}
        });
    }

    /// Whether its command was found again.
    fn take_saved_job(&mut self, earlier: EarlierJob) -> bool {
        let EarlierJob { seq, rule, spec, mut events, merged, tries, due, process, files } = earlier;
        let Some(event) = events.first().cloned() else {
            self.log.forget(seq);
            return false;
        };
        let spec = match spec {
            Ok(spec) => spec,
            Err(why) => {
                let path = Text::from(&*event.path);
                tracing::error!(%rule, %path, "an event that was kept waits for the next start: {why}");
                return false;
            }
        };
        let (id, is_there) = match self.rules.find_same(rule, &spec) {
            Some(entry) => (entry.id, true),
            // One that fires once is gone when it has fired; its command is still due.
            None => (rule, spec.options.once),
        };
        let is_batch = matches!(spec.options.gather(), Some(Gather::ByRule(_)));
        let mut job = Job { seq, merged, tries, repeated: true, ..Job::new(id, spec, event) };
        if is_there {
            // What still runs knows nothing of what has changed since.
            let known = |event: &Event| if process.is_some() { event.time } else { SystemTime::now() };
            for event in &events {
                self.watch.note_told(id, &event.path, known(event));
                // The earlier daemon may not have written that it has told this.
                self.catch_up.note(id, event);
            }
        }
        if let Some(files) = files {
            let mut found = Job { tries: tries + 1, repeated: false, ..job.clone() };
            found.batch = is_batch.then(|| events.clone().into());
            files.give(&mut found);
            if let Some(end) = files.into_end() {
                self.settle_earlier(Job { tries, ..found }, end);
                return false;
            }
            if let Some(process) = &process
                && self.find_again(found, process)
            {
                return true;
            }
        } else if let Some(process) = process {
            let mut found = Job { tries: tries + 1, repeated: false, ..job.clone() };
            found.batch = is_batch.then(|| events.clone().into());
            if self.find_again(found, &process) {
                return true;
            }
        }
        if !is_there {
            self.log.forget(seq);
            let outcome = Outcome::skipped("its rule was removed while the daemon did not run");
            self.log.record(&mut job, outcome);
        } else if let Some(due) = due {
            job.batch = is_batch.then(|| events.into());
            let pause = due.duration_since(SystemTime::now()).unwrap_or_default();
            self.log.reopen(&job, Outcome::Pending);
            self.queue.push_paused(job, Instant::now() + pause);
        } else if seq == 0 {
            self.admit(job);
        } else {
            self.readmit(job, events.drain(1..).collect());
        }
        false
    }

    /// Waits for the end of a command that an earlier daemon has started.
    fn find_again(&mut self, job: Job, process: &Earlier) -> bool {
        let Some(running) = self.runner.find_again(&job, process) else { return false };
        self.queue.adopt(&job);
        self.log.reopen(&job, Outcome::Running { pid: running.pid() });
        self.loop_guard.on_start(&job);
        self.supervisor.add(job, running);
        true
    }

    /// Gives the files of a job their places whose command has ended under an earlier daemon.
    fn settle_earlier(&mut self, job: Job, end: End) {
        self.queue.adopt(&job);
        self.log.reopen(&job, Outcome::Pending);
        // It is in the store already.
        self.fates.settle(job, end, 0);
    }

    /// Queues a job that has its number already, with further events of a batch.
    fn readmit(&mut self, job: Job, more: Vec<Event>) {
        let (seq, now) = (job.seq, Instant::now());
        let (mut known, mut is_first) = (job.clone(), true);
        let count = more.len() as u64;
        let first = Job { merged: job.merged.saturating_sub(count), ..job };
        let others = more.into_iter().map(|event| Job { event, merged: 0, ..known.clone() });
        let jobs: Vec<_> = std::iter::once(first).chain(others).collect();
        for job in jobs {
            let event = job.without_batch();
            match self.queue.push(job, now) {
                Admission::Queued if is_first => self.log.reopen(&known, Outcome::Pending),
                Admission::Queued => {}
                Admission::Merged { into } => {
                    if is_first {
                        self.log.forget(seq);
                    }
                    self.log.merge(into, &event);
                }
                Admission::Skipped | Admission::Dropped if !is_first => {}
                Admission::Skipped => {
                    self.log.forget(seq);
                    let outcome = Outcome::skipped("the command was running (busy=skip)");
                    self.log.record(&mut known, outcome);
                }
                Admission::Dropped => {
                    self.log.forget(seq);
                    self.drop_job(&mut known);
                }
            }
            is_first = false;
        }
    }

    /// Adds a rule that lives as long as the engine.
    pub fn add_rule(&mut self, spec: RuleSpec) -> RuleId {
        let spec = Rc::new(spec);
        let id = self.rules.insert(Rc::clone(&spec), Origin::Runtime);
        self.attach(id, spec);
        id
    }

    pub(crate) fn rule_count(&self) -> usize {
        self.rules.iter().count()
    }

    /// Takes a rule of a file in.
    fn insert(&mut self, Located { spec, file, line }: Located) {
        let id = self.rules.insert(Rc::clone(&spec), Origin::File { file, line });
        self.attach(id, spec);
    }

    /// Watches a rule that is switched on.
    fn attach(&mut self, id: RuleId, spec: Rc<RuleSpec>) {
        if !self.rules.get(id).is_some_and(Entry::is_on) {
            return;
        }
        self.follow_processes(&spec);
        self.put_in_force(id, spec);
        if self.watch.is_over(&self.watch.pending()) {
            self.warn_of_failure(id);
        } else {
            self.once_looked(move |engine| engine.warn_of_failure(id));
        }
    }

    fn warn_of_failure(&self, id: RuleId) {
        if let Some(PathState::Failed(why)) = self.watch.state(id)
            && self.permissions.rules().state(id).is_none()
        {
            tracing::warn!(rule = %id, "cannot be watched: {why}");
        }
    }

    /// A rule with `uid=` or `exe=` needs to know of all processes. The gate asks for itself.
    fn follow_processes(&mut self, spec: &RuleSpec) {
        if spec.asks_permission() {
            return;
        }
        let filter = &spec.options.process_filter;
        if filter.uid.is_some() {
            self.processes.attribution.follow_users(&self.sources);
        }
        if filter.exe.is_some() {
            self.processes.attribution.follow_programs(&self.sources);
        }
    }

    /// `once`: the rule has fired and is over.
    fn retire(&mut self, id: RuleId) {
        self.take_out_of_force(id);
        if self.rules.retire(id) {
            self.catch_up.forget(id, &self.store);
            self.store.write(Change::RemoveRule { id: id.0 });
        }
    }

    /// Removes a rule and its waiting jobs. Its running commands go on to their end.
    fn take_out(&mut self, id: RuleId) {
        self.take_out_of_force(id);
        let Some(entry) = self.rules.remove(id) else { return };
        self.catch_up.forget(id, &self.store);
        self.release_echoes(Some(id));
        for job in self.queue.remove_rule(id) {
            self.log.close(&job, Outcome::skipped("its rule was removed"));
        }
        self.loop_guard.forget(id);
        let rule = entry.label();
        match self.supervisor.running_of(id) {
            0 => tracing::info!(%rule, "rule removed"),
            running => {
                tracing::info!(%rule, running, "rule removed; its commands that run go on to their end");
            }
        }
    }

    /// Queues a job and opens its record, or records why it is not queued.
    fn admit(&mut self, mut job: Job) {
        if job.event.has_long_path() {
            return self.refuse_long_path(&mut job);
        }
        if matches!(job.spec.command, Command::Record) && !job.spec.options.waits() {
            return self.log.record(&mut job, Outcome::Recorded);
        }
        job.seq = self.log.next_seq();
        // The queue takes the job; its record is made of this.
        let mut known = job.without_batch();
        match self.queue.push(job, Instant::now()) {
            Admission::Queued => self.log.open_kept(&mut known),
            Admission::Merged { into } => self.log.merge(into, &known),
            Admission::Skipped => {
                self.log.record(&mut known, Outcome::skipped("the command was running (busy=skip)"));
            }
            Admission::Dropped => self.drop_job(&mut known),
        }
    }

    /// No program could open it, and many such would take much memory.
    fn refuse_long_path(&mut self, job: &mut Job) {
        job.event.shorten();
        let outcome = Outcome::NotStarted { why: "path too long".to_owned() };
        self.rules.count_failure(job.rule, Some(wire::failure(job, &outcome)));
        self.log.record(job, outcome);
    }

    fn drop_job(&mut self, job: &mut Job) {
        let pending = self.queue.pending_of(job.rule);
        let why = format!("{pending} events of its rule were waiting already (--max-pending)");
        self.log.record(job, Outcome::Dropped { why });
        let dropped = self.rules.count_drop(job.rule);
        if dropped.is_power_of_two() {
            let rule = job.rule_label();
            tracing::error!(%rule, dropped, "{pending} events of this rule wait (--max-pending): more are dropped");
        }
    }

    /// Lets suspected echoes wait no longer, of one rule or of all.
    fn release_echoes(&mut self, rule: Option<RuleId>) {
        for job in self.loop_guard.take_all(rule) {
            self.admit_late(job);
        }
    }

    fn admit_late(&mut self, job: Job) {
        self.log.count_merged(job.merged);
        self.admit(job);
    }

    /// Watches a rule, or puts it before the gate. The state of a permission rule is
    /// final when it is settled.
    fn put_in_force(&mut self, id: RuleId, spec: Rc<RuleSpec>) {
        if spec.asks_permission() {
            self.permissions.insert(id, spec, &mut self.watch, &mut self.log);
        } else {
            self.permissions.remove(id, &mut self.log);
            let missed = self.catch_up.begin(id, &spec, &self.store);
            self.watch.attach(id, spec, missed);
        }
    }

    /// Takes a rule out of force.
    fn take_out_of_force(&mut self, id: RuleId) {
        self.watch.detach(id);
        self.permissions.remove(id, &mut self.log);
    }

    /// Where a rule's PATH leads, and whether that is watched.
    pub fn path_state(&self, id: RuleId) -> Option<&PathState> {
        self.permissions.rules().state(id).or_else(|| self.watch.state(id))
    }

    /// Goes on when a rule is in force, or it is known why not.
    fn once_in_force(&mut self, id: RuleId, work: impl FnOnce(&mut Self) + 'static) {
        let work = |engine: &mut Self| engine.once_looked(work);
        self.waiters.push(None, move |engine| engine.permissions.rules().is_settled(id), work);
    }

    /// Goes on when the rules that were let go hold nobody any more.
    fn once_out_of_force(&mut self, work: impl FnOnce(&mut Self) + 'static) {
        let number = self.permissions.acknowledgement(&mut self.log).unwrap_or_default();
        self.waiters.push(None, move |engine| engine.permissions.is_acknowledged(number), work);
    }

    /// Goes on when that is so, and all others are in force, or it is known why not. Their numbers,
    /// and since when they are in force, are on the disk then: whatever ends the daemon, the next one
    /// catches up. The health tells where that cannot be.
    fn once_all_in_force(&mut self, work: impl FnOnce(&mut Self) + 'static) {
        let work = |engine: &mut Self| {
            engine.once_looked(|engine| {
                engine.once_kept(vec![engine.rules.numbers()], |engine, _| work(engine));
            });
        };
        let in_force = |engine: &mut Self| {
            engine.waiters.push(None, |engine| engine.permissions.rules().are_all_settled(), work);
        };
        self.once_out_of_force(in_force);
    }

    /// Goes on when all is looked at that rules lead to by now, or a server of it takes long.
    fn once_looked(&mut self, work: impl FnOnce(&mut Self) + 'static) {
        let work = |engine: &mut Self| {
            let (deadline, pending) = (Some(Instant::now() + LOOK), engine.watch.pending());
            engine.waiters.push(deadline, move |engine| engine.watch.is_over(&pending), work);
        };
        self.waiters.push(None, |engine| !engine.watch.is_taking_in(), work);
    }

    /// Goes on when changes are on the disk, or it is known why not.
    fn once_kept(
        &mut self,
        changes: Vec<Change>,
        work: impl FnOnce(&mut Self, Result<(), String>) + 'static,
    ) {
        let promise: Promise = self.store.promise(changes);
        let condition = move |engine: &Self| engine.store.is_decided(promise);
        self.waiters.push(None, condition, move |engine| {
            let outcome = engine.store.outcome(promise);
            work(engine, outcome);
        });
    }

    /// Goes on when the gate has told its numbers, or has not for a while.
    fn once_counted(&mut self, work: impl FnOnce(&mut Self) + 'static) {
        let number = self.permissions.count(&mut self.log).unwrap_or_default();
        let deadline = Some(Instant::now() + COUNT);
        self.waiters.push(deadline, move |engine| engine.permissions.is_acknowledged(number), work);
    }
}
