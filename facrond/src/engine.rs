//! The one task that owns all state. Others reach it by calls that carry their way
//! back; a reply is sent after the effect is real, never before.
//!
//! ```text
//! watch::drain -> Hit -> on_hit -> admit -> queue -> start -> supervisor -> on_finished
//! run ------------------------->          jobs ------------------------------------->
//! ```
//!
//! The engine only coordinates: `impl Engine` stands in this file (its parts, which rules
//! are in force, which jobs are admitted), in `run` (the loop), `jobs` (from the start of a job
//! to its conclusion), `earlier` (jobs of an earlier daemon), `waiters` and `requests`. Each
//! part has methods of its own and knows nothing of the others.

mod catch_up;
mod earlier;
mod fates;
mod job_log;
mod job_store;
mod jobs;
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
use crate::config::{self, Diagnostic, Loaded, Located};
use crate::job::Job;
use crate::job::outcome::Outcome;
use crate::job::queue::{Admission, Queue};
use crate::job::run::Runner;
use crate::job::supervisor::Supervisor;
use crate::kernel::sources::Sources;
use crate::process::Processes;
use crate::service_manager::Watchdog;
use crate::store::{Change, Saved, Store};
use crate::watch::{self, PathState, Watch};
use crate::wire;
use catch_up::CatchUp;
use facron_proto::RuleId;
use fates::Fates;
pub(crate) use job_log::JobLog;
use job_store::EarlierJob;
use loop_guard::LoopGuard;
use nix::unistd::Pid;
use permissions::Permissions;
use rule_book::{Entry, Origin, RuleBook};
use shortage::Shortage;
use std::io;
use std::rc::Rc;
use std::time::Instant;
use waiters::Waiters;

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
}
