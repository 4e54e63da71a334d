//! The one task that owns all state. Others reach it by calls that carry their way
//! back; a reply is sent after the effect is real, never before.
//!
//! ```text
//! watch::drain -> Hit -> on_hit -> queue -> start_jobs -> child -> on_finished -> history, followers
//! ```

mod culprit;
mod echo;
mod fire;
mod gate;
mod guard;
mod history;
mod kept;
mod ownership;
mod pace;
mod reload;
mod report;
mod requests;
mod store;
mod table;
mod tell;
mod wakeups;

pub use store::Store;
pub use tell::{log_diagnostics, sd_notify_quietly};

use crate::config::rule::RuleSpec;
use crate::config::{self, Diagnostic, Loaded};
use crate::control::{Calls, Follower, encode};
use crate::job::output::LogTo;
use crate::job::queue::{Limits, Queue};
use crate::job::run::Runner;
use crate::job::running::Stopper;
use crate::kernel::fanotify::Privilege;
use crate::kernel::readiness;
use crate::kernel::sources::Sources;
use crate::watch::{self, Watch};
use culprit::Culprits;
use echo::Echoes;
use facron_proto::{Jobs, OutcomeState, Record, RuleId, Source};
use fire::Finished;
use gate::Permissions;
use history::History;
use nix::unistd::Pid;
use ownership::OwnProcesses;
use pace::Pace;
use rustc_hash::FxHashMap;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};
use table::{Origin, Table};
use tell::monotonic_now;
use tokio::io::Interest;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use wakeups::{Signals, forks_are_many, reached, take};

/// What running commands get between the order to stop and the end of the daemon.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// What the engine is made with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `--conf`
    pub conf: PathBuf,
    /// `--conf-dir`
    pub conf_dir: PathBuf,
    /// Where rules outlive the daemon; `watch` has no such place.
    pub store: Option<Store>,
    /// `--history`
    pub history: usize,
    /// `--max-jobs` and `--max-pending`
    pub limits: Limits,
    /// What becomes of the commands' output.
    pub log_to: LogTo,
}

impl Setup {
    /// Files and directories of the daemon's own, as far as they are known at its start.
    fn own_places(&self) -> Vec<PathBuf> {
        let mut own = vec![self.conf.clone(), self.conf_dir.clone()];
        own.extend(self.store.iter().flat_map(Store::directories).map(Path::to_owned));
        let resolved: Vec<_> = own.iter().filter_map(|path| std::fs::canonicalize(path).ok()).collect();
        own.extend(resolved);
        // `facrond watch` has none, and says so by empty paths.
        own.retain(|path| path.is_absolute());
        own
    }
}

/// What ends the daemon.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's side.
    #[error(transparent)]
    Watch(#[from] watch::Error),
    /// The rest of it.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was to be done.
        what: &'static str,
        /// Why it could not.
        source: io::Error,
    },
}

#[derive(Debug, Default)]
struct Counts {
    matched: u64,
    ignored_own: u64,
    /// Events that a rule let pass because nobody knows who caused them.
    unknown_culprits: u64,
    jobs: Jobs,
}

/// All state of the daemon.
#[derive(Debug)]
pub struct Engine {
    setup: Setup,
    watch: Watch,
    rules: Table,
    queue: Queue,
    runner: Runner,
    history: History,
    followers: Vec<Subscription>,
    counts: Counts,
    next_seq: u64,
    started: Instant,
    /// What stops the running jobs of rules with `busy=restart`, by their numbers.
    stoppers: FxHashMap<u64, (RuleId, Rc<Stopper>)>,
    is_stopping: bool,
    /// What went wrong at the start and is still so.
    start_problems: Vec<String>,
    finished: mpsc::UnboundedSender<Finished>,
    ended: mpsc::UnboundedReceiver<Finished>,
    /// Where the kernel does not tell whose events are.
    echoes: Option<Echoes>,
    paces: FxHashMap<RuleId, Pace>,
    /// Probable loops.
    loops: FxHashMap<RuleId, String>,
    hits: Vec<watch::Hit>,
    culprits: Culprits,
    /// What wakes the engine besides the watch's own group.
    sources: Sources,
    pid: i32,
    permissions: Permissions,
}

/// One `tail` that goes on.
#[derive(Debug)]
struct Subscription {
    follower: Follower,
    rule: Option<RuleId>,
    failed: bool,
}

impl Engine {
    /// An engine without rules.
    pub fn new(setup: Setup) -> Result<Self, Error> {
        let io = |what| move |source| Error::Io { what, source };
        // Orphans of commands become ours: they are reaped, and known as our own.
        nix::sys::prctl::set_child_subreaper(true)
            .map_err(io::Error::from)
            .map_err(io("become a subreaper"))?;
        let watch = Watch::new()?;
        let echoes = (watch.privilege() == Privilege::User).then(Echoes::default);
        let sources = Sources::new().map_err(io::Error::from).map_err(io("prepare to wait"))?;
        sources.add(watch.sources()).map_err(io::Error::from).map_err(io("prepare to wait"))?;
        let (finished, ended) = mpsc::unbounded_channel();
        Ok(Self {
            watch,
            rules: Table::default(),
            queue: Queue::new(setup.limits),
            runner: Runner::new(setup.log_to).map_err(io("prepare to run commands"))?,
            history: History::new(setup.history),
            followers: Vec::new(),
            counts: Counts::default(),
            next_seq: 1,
            started: Instant::now(),
            stoppers: FxHashMap::default(),
            is_stopping: false,
            start_problems: Vec::new(),
            finished,
            ended,
            echoes,
            paces: FxHashMap::default(),
            loops: FxHashMap::default(),
            hits: Vec::new(),
            culprits: Culprits::default(),
            sources,
            pid: Pid::this().as_raw(),
            permissions: Permissions::new(setup.own_places()),
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
        if let Some(store) = &self.setup.store {
            for problem in store.load(&mut self.rules) {
                tracing::warn!("{problem}");
                self.start_problems.push(problem);
            }
        }
        let saved: Vec<_> = self.rules.iter().map(|entry| (entry.id, Rc::clone(&entry.spec))).collect();
        for (id, spec) in saved {
            self.attach(id, spec);
        }
        let Loaded { rules, diagnostics, files } = config::load(&self.setup.conf, &self.setup.conf_dir);
        self.permissions.protect(&files);
        for located in rules {
            self.insert(located);
        }
        self.save_ids();
        self.take_kept_jobs();
        if config::has_errors(&diagnostics) {
            self.start_problems.push("the configuration has errors; `facrond check` shows them".to_owned());
        }
        diagnostics
    }

    /// Adds a rule that lives as long as the engine.
    pub fn add_rule(&mut self, spec: RuleSpec) -> RuleId {
        let spec = Rc::new(spec);
        let id = self.rules.insert(Rc::clone(&spec), Origin::Runtime);
        self.attach(id, spec);
        id
    }

    /// The number of rules.
    pub fn rule_count(&self) -> usize {
        self.rules.iter().count()
    }

    /// Runs until SIGTERM or SIGINT. To be called within a `LocalSet`.
    pub async fn run(mut self, mut calls: Calls<Self>) -> Result<(), Error> {
        let io = |what| move |source| Error::Io { what, source };
        let mut signals = Signals::new().map_err(io("catch signals"))?;
        let group = self.watch.as_fd().try_clone_to_owned().map_err(io("watch the group"))?;
        let group = readiness(group, Interest::READABLE).map_err(io("watch the group"))?;
        let mounts = self.watch.mounts_fd().try_clone_to_owned().map_err(io("watch mounts"))?;
        let mounts = readiness(mounts, Interest::PRIORITY).map_err(io("watch mounts"))?;
        let forks = self.runner.descendants().fullness().transpose().map_err(io("follow forks"))?;
        let forks = forks.map(|forks| readiness(forks, Interest::READABLE));
        let forks = forks.transpose().map_err(io("follow forks"))?;
        let sources = self.sources.as_fd().try_clone_to_owned().map_err(io("watch the sources"))?;
        let sources = readiness(sources, Interest::READABLE).map_err(io("watch the sources"))?;
        self.start_jobs();
        loop {
            let [reload, reload_too] = &mut signals.reload;
            let [stop, stop_too] = &mut signals.stop;
            tokio::select! {
                ready = group.readable() => {
                    let mut ready = ready.map_err(io("watch the group"))?;
                    match self.drain()? {
                        watch::Queue::Drained => ready.clear_ready(),
                        watch::Queue::More => yield_now().await,
                    }
                }
                ready = sources.readable() => {
                    let mut ready = ready.map_err(io("watch the sources"))?;
                    if self.drain()? == watch::Queue::Drained {
                        ready.clear_ready();
                    }
                }
                () = std::future::ready(()), if self.watch.has_work() => {
                    self.watch.work();
                    yield_now().await;
                }
                Ok(mut full) = forks_are_many(forks.as_ref()) => {
                    full.clear_ready();
                    self.drain()?;
                }
                changed = mounts.ready(Interest::PRIORITY) => {
                    changed.map_err(io("watch mounts"))?.clear_ready();
                    self.watch.on_mounts().map_err(io("read the table of mounts"))?;
                    self.drain_all().await?;
                }
                ended = signals.child.readable() => {
                    take(ended).map_err(io("wait for children"))?;
                    self.on_children().await?;
                }
                wake = self.permissions.wake() => self.on_wake(wake),
                Some(finished) = self.ended.recv() => {
                    self.on_finished(finished);
                    self.start_jobs();
                }
                Some(call) = calls.recv() => {
                    call(&mut self);
                    self.start_jobs();
                }
                // Reads first what happened before: it may be what a job waits for.
                () = reached(self.queue.next_deadline()) => { self.drain()?; }
                () = reached(self.echoes.as_ref().and_then(Echoes::next_due)) => self.on_echoes_due(),
                Some(()) = reload.recv() => self.reload_by_signal(),
                Some(()) = reload_too.recv() => self.reload_by_signal(),
                Some(()) = stop.recv() => break,
                Some(()) = stop_too.recv() => break,
            }
        }
        self.stop(&mut signals).await
    }

    /// Reads the kernel's queue, and starts what that leads to.
    fn drain(&mut self) -> Result<watch::Queue, Error> {
        let mut hits = std::mem::take(&mut self.hits);
        if !self.watch.asks_for_culprits() {
            self.culprits.unfollow();
        }
        self.culprits.begin();
        let mut own = OwnProcesses::new(self.pid, &self.runner);
        let queue = self.watch.drain(&mut own, &mut hits)?;
        for hit in hits.drain(..) {
            self.on_hit(hit);
        }
        self.hits = hits;
        self.follow_changes();
        self.culprits.end(queue);
        self.start_jobs();
        Ok(queue)
    }

    /// Reads the kernel's queue to its end, leaving room for clients and followers.
    async fn drain_all(&mut self) -> Result<(), Error> {
        while self.drain()? == watch::Queue::More {
            yield_now().await;
        }
        Ok(())
    }

    /// Reaps children, but reads first what they caused: until then their pids are
    /// not used again.
    async fn on_children(&mut self) -> Result<(), Error> {
        self.end_a_stopped_gate();
        self.drain_all().await?;
        self.runner.reap();
        Ok(())
    }

    fn reload_by_signal(&mut self) {
        sd_notify_quietly(&[sd_notify::NotifyState::Reloading, monotonic_now()]);
        match self.reload() {
            Ok(reply) => tracing::info!(
                added = reply.added,
                removed = reply.removed,
                changed = reply.changed,
                kept = reply.kept,
                "configuration reloaded"
            ),
            Err(diagnostics) => {
                log_diagnostics(&diagnostics);
                tracing::error!("the configuration has errors: nothing was changed");
            }
        }
        sd_notify_quietly(&[sd_notify::NotifyState::Ready]);
    }

    fn reload(&mut self) -> Result<facron_proto::method::ReloadReply, Vec<Diagnostic>> {
        self.apply(config::load(&self.setup.conf, &self.setup.conf_dir))
    }

    /// Starts nothing more, waits for what runs, and keeps the rest.
    async fn stop(&mut self, signals: &mut Signals) -> Result<(), Error> {
        let io = |what| move |source| Error::Io { what, source };
        self.is_stopping = true;
        sd_notify_quietly(&[sd_notify::NotifyState::Stopping]);
        // It answers those that wait; nobody waits for the commands.
        self.close_gate();
        self.runner.stop(STOP_GRACE);
        while self.queue.running() > 0 || self.permissions.running() > 0 {
            tokio::select! {
                ended = signals.child.readable() => {
                    take(ended).map_err(io("wait for children"))?;
                    self.on_children().await?;
                }
                wake = self.permissions.wake() => self.on_wake(wake),
                Some(finished) = self.ended.recv() => self.on_finished(finished),
            }
        }
        // What has happened by now would be known to nobody later.
        self.drain_all().await?;
        self.keep_jobs();
        Ok(())
    }

    /// Tells followers what became of a record.
    fn publish(&mut self, record: &Record) {
        if self.setup.log_to == LogTo::Stdout && record.outcome.state == OutcomeState::Recorded {
            println!("{} {}", record.events.join("|"), record.path);
        }
        if self.followers.is_empty() {
            return;
        }
        self.followers.retain(|subscription| !subscription.follower.is_closed());
        let Ok(line) = encode(record).inspect_err(|error| tracing::error!(%error, "cannot encode a record"))
        else {
            return;
        };
        let is_failure = record.outcome.is_failure();
        for subscription in &self.followers {
            let wants = subscription.rule.is_none_or(|rule| rule == record.rule);
            if wants && (is_failure || !subscription.failed) {
                subscription.follower.send(&line);
            }
        }
    }

    /// Saves the rules that were added at runtime.
    fn save(&self) {
        for source in [Source::Runtime, Source::Persisted] {
            self.save_layer(source).unwrap_or_else(|error| tracing::error!("{error}"));
        }
    }

    fn save_layer(&self, source: Source) -> Result<(), store::StoreError> {
        self.setup.store.as_ref().map_or(Ok(()), |store| store.save(&self.rules, source))
    }

    /// Numbers that were given out are not given out again, whatever happens.
    fn save_ids(&self) {
        self.save_layer(Source::Persisted).unwrap_or_else(|error| {
            tracing::warn!("{error}; rules may get numbers that others had before the next start");
        });
    }
}
