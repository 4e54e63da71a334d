//! The one task that owns all state. Others reach it by calls that carry their way
//! back; a reply is sent after the effect is real, never before.
//!
//! ```text
//! watch::drain -> Hit -> on_hit -> queue -> start_jobs -> child -> on_finished -> history, followers
//! ```

mod culprit;
mod echo;
mod fire;
mod fresh;
mod gate;
mod guard;
mod history;
mod kept;
mod ownership;
mod pace;
mod reload;
mod report;
mod requests;
mod run;
mod setup;
mod silence;
mod store;
mod table;
mod tell;
mod wakeups;

pub use setup::{Error, Setup};
pub use store::Store;
pub use tell::{log_diagnostics, sd_notify_quietly};

use crate::config::rule::RuleSpec;
use crate::config::{self, Diagnostic, Loaded};
use crate::control::{Follower, encode};
use crate::job::Job;
use crate::job::output::LogTo;
use crate::job::queue::Queue;
use crate::job::run::Runner;
use crate::job::running::Stopper;
use crate::kernel::fanotify::Privilege;
use crate::kernel::sources::Sources;
use crate::watch::{self, Watch};
use culprit::Culprits;
use echo::Echoes;
use facron_proto::{Jobs, Outcome, OutcomeState, RuleId, Source, Text};
use fire::Finished;
use fresh::Fresh;
use gate::Permissions;
use history::{History, record_of};
use nix::unistd::Pid;
use pace::Pace;
use rustc_hash::FxHashMap;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::Instant;
use table::{Origin, Table};
use tokio::sync::mpsc;

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
    fresh: Fresh,
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
    /// What there is to be drained.
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
        let runner = Runner::new(setup.log_to).map_err(io("prepare to run commands"))?;
        sources
            .add(watch.as_fd())
            .and_then(|()| sources.add(watch.sources()))
            .and_then(|()| runner.descendants().add_to(&sources))
            .map_err(io::Error::from)
            .map_err(io("prepare to wait"))?;
        let (finished, ended) = mpsc::unbounded_channel();
        Ok(Self {
            watch,
            rules: Table::default(),
            queue: Queue::new(setup.limits),
            runner,
            history: History::new(setup.history),
            followers: Vec::new(),
            counts: Counts::default(),
            next_seq: 1,
            started: Instant::now(),
            stoppers: FxHashMap::default(),
            fresh: Fresh::default(),
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

    /// Tells followers what became of a job.
    fn publish(&mut self, job: &Job, outcome: &Outcome) {
        if self.setup.log_to == LogTo::Stdout && outcome.state == OutcomeState::Recorded {
            // Who has stopped reading does not want to know.
            let _ = writeln!(io::stdout(), "{} {}", job.event.events, Text::from(&*job.event.path));
        }
        self.followers.retain(|subscription| !subscription.follower.is_closed());
        if self.followers.is_empty() {
            return;
        }
        let line = encode(&record_of(job, outcome.clone()));
        let Ok(line) = line.inspect_err(|error| tracing::error!(%error, "cannot encode a record")) else {
            return;
        };
        for subscription in &self.followers {
            let wants = subscription.rule.is_none_or(|rule| rule == job.rule);
            if wants && (outcome.is_failure() || !subscription.failed) {
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
