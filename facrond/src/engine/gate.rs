//! Permission rules in the engine: the gate's life, the commands that decide, and the
//! records of what was answered.

mod answers;
mod follow;

use super::Engine;
use crate::config::rule::{Options, RuleSpec};
use crate::events::Events;
use crate::gate;
use crate::gate::client::{Client, Failed};
use crate::gate::marks::{self, NotPlaced};
use crate::gate::message::{Lost, Notice, Order, Totals};
use crate::kernel::permission::Class;
use crate::kernel::{packet, wait};
use crate::watch::PathState;
use answers::{Asked, Decided, QuestionId};
use facron_proto::RuleId;
use nix::errno::Errno;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A gate that dies sooner than this after its start is not started again at once.
const SOUND: Duration = Duration::from_millis(50);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause after a gate that was ready: until its end nobody is asked.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// The pause after a gate that could not be started.
const NEXT_TRY: Duration = Duration::from_secs(1);

/// What the engine has to do about permission rules.
#[derive(Debug)]
pub enum Wake {
    /// The gate has said something.
    Gate,
    /// It is time to start another.
    Start,
    /// A command has decided.
    Decided(Decided),
}

/// A rule, and whether it is in force.
#[derive(Debug)]
struct Guarded {
    spec: Rc<RuleSpec>,
    state: PathState,
}

/// All that belongs to permission rules.
#[derive(Debug)]
pub struct Permissions {
    client: Option<Client>,
    /// How many gates there were.
    generation: u64,
    started: Instant,
    pause: Duration,
    start_at: Option<tokio::time::Instant>,
    /// What the rules need, and what the gate has.
    class: (Class, Class),
    rules: BTreeMap<RuleId, Guarded>,
    /// Files of facron's that are always left alone.
    own: Vec<PathBuf>,
    asked: FxHashMap<QuestionId, Asked>,
    waiting: VecDeque<QuestionId>,
    running: BTreeMap<RuleId, u32>,
    finished: mpsc::UnboundedSender<Decided>,
    ended: mpsc::UnboundedReceiver<Decided>,
    /// Of the gates before this one, and of this one.
    totals: (Totals, Totals),
    longest: Duration,
    /// Changes of trees that were told while others were looked at.
    changes: Vec<(RuleId, PathBuf, Events)>,
}

impl Permissions {
    /// Without rules there is no gate.
    pub fn new(own: Vec<PathBuf>) -> Self {
        let (finished, ended) = mpsc::unbounded_channel();
        Self {
            client: None,
            generation: 0,
            started: Instant::now(),
            pause: Duration::ZERO,
            start_at: None,
            class: (Class::Content, Class::Content),
            rules: BTreeMap::new(),
            own,
            asked: FxHashMap::default(),
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            finished,
            ended,
            totals: (Totals::default(), Totals::default()),
            longest: Duration::ZERO,
            changes: Vec::new(),
        }
    }

    /// Files that are facron's own, too.
    pub fn protect(&mut self, files: &[PathBuf]) {
        self.own.extend(files.iter().filter(|file| !self.own.contains(file)).cloned().collect::<Vec<_>>());
    }

    /// Waits until there is something to do.
    pub async fn wake(&mut self) -> Wake {
        let Self { client, start_at, ended, .. } = self;
        tokio::select! {
            () = async { match client { Some(client) => client.readable().await, None => std::future::pending().await } } => Wake::Gate,
            () = async { match start_at { Some(at) => tokio::time::sleep_until(*at).await, None => std::future::pending().await } } => Wake::Start,
            Some(decided) = ended.recv() => Wake::Decided(decided),
        }
    }

    /// Commands that decide at present.
    pub fn running(&self) -> u32 {
        self.running.values().sum()
    }

    /// Whether a rule is in force; `None` if it is no permission rule.
    pub fn state(&self, id: RuleId) -> Option<&PathState> {
        self.rules.get(&id).map(|guarded| &guarded.state)
    }

    /// As clients see it.
    pub fn status(&self) -> Option<facron_proto::Gate> {
        if self.rules.is_empty() && self.generation == 0 {
            return None;
        }
        let totals = self.totals.0.plus(self.totals.1);
        let oldest = self.asked.values().map(|asked| asked.job.event.time).min();
        let waits = oldest.and_then(|time| time.elapsed().ok()).unwrap_or_default();
        Some(facron_proto::Gate {
            pid: self.client.as_ref().map(|client| client.pid().cast_unsigned()),
            starts: self.generation,
            open: u64::try_from(self.asked.len()).unwrap_or(u64::MAX),
            longest_wait_ms: self.longest.max(waits).as_secs_f64() * 1000.0,
            allowed: totals.allowed,
            denied: totals.denied,
            failures: totals.failures,
            own: totals.own,
            lost: totals.lost,
            untold: totals.untold,
        })
    }

    /// Whether a path that led nowhere leads somewhere now, or the other way round.
    fn differs(&self, id: RuleId, watched: Option<&PathState>) -> bool {
        let is = |state: Option<&PathState>| matches!(state, Some(PathState::Waiting(_)));
        self.client.is_some() && is(watched) != is(self.state(id))
    }

    fn start_in(&mut self, pause: Duration) {
        self.start_at = Some(tokio::time::Instant::now() + pause);
    }

    fn set_state(&mut self, id: RuleId, state: PathState) {
        if let Some(guarded) = self.rules.get_mut(&id) {
            guarded.state = state;
        }
    }
}

/// What the watch looks for on behalf of a permission rule: whatever changes what its
/// path leads to, and its directories.
fn follower(spec: &RuleSpec) -> RuleSpec {
    let entries = Events::CREATE.with(Events::DELETE).with(Events::MOVE);
    let mut follower = spec.clone();
    follower.events = entries.with(Events::SELF).with(Events::ONDIR).with(Events::EVENT_ON_CHILD);
    follower.options = Options { recursive: spec.options.recursive, ..Options::default() };
    follower
}

impl Engine {
    /// Watches a rule, or puts it before the gate; whether that worked.
    pub(super) fn put_in_force(&mut self, id: RuleId, spec: Rc<RuleSpec>) -> PathState {
        if !spec.asks_permission() {
            self.leave_gate(id);
            return self.watch.attach(id, spec).clone();
        }
        let state = self.watch.attach(id, Rc::new(follower(&spec))).clone();
        // At the same path new marks take the place of the old ones.
        if self.permissions.rules.get(&id).is_some_and(|guarded| guarded.spec.path != spec.path) {
            self.leave_gate(id);
        }
        if spec.events.contains(Events::PRE_ACCESS) {
            self.permissions.class.0 = Class::PreContent;
        }
        self.permissions.rules.insert(id, Guarded { spec, state: state.clone() });
        if state == PathState::Active {
            self.place(id);
        }
        self.permissions.state(id).cloned().unwrap_or(state)
    }

    /// Takes a rule out of force.
    pub(super) fn take_out_of_force(&mut self, id: RuleId) {
        self.watch.detach(id);
        self.leave_gate(id);
    }

    /// Where a rule's PATH leads, and whether that is watched.
    pub fn path_state(&self, id: RuleId) -> Option<&PathState> {
        self.permissions.state(id).or_else(|| self.watch.state(id))
    }

    fn leave_gate(&mut self, id: RuleId) {
        let Some(guarded) = self.permissions.rules.remove(&id) else { return };
        let Permissions { client: Some(client), own, .. } = &mut self.permissions else { return };
        if let Err(NotPlaced::Gate(failed)) = marks::remove(client, id, &guarded.spec, own)
            && failed != Failed::TooLong
        {
            self.on_gate_end(failed);
        }
    }

    /// Has a rule's inodes marked, now that there is something at its path.
    fn place(&mut self, id: RuleId) {
        if let Err(why) = self.start_gate() {
            return self.permissions.set_state(id, why);
        }
        let Permissions { client: Some(client), rules, own, .. } = &mut self.permissions else { return };
        let Some(guarded) = rules.get(&id) else { return };
        let placed = marks::place(client, id, &guarded.spec, own);
        self.on_placed(id, placed);
    }

    fn on_placed(&mut self, id: RuleId, placed: Result<(), NotPlaced>) {
        let state = match placed {
            Ok(()) => PathState::Active,
            Err(NotPlaced::Gate(failed @ Failed::TooLong)) => PathState::Failed(failed.to_string()),
            Err(NotPlaced::Gate(failed)) => return self.on_gate_end(failed),
            Err(missing @ NotPlaced::Missing(_)) => PathState::Waiting(missing.to_string()),
            Err(refused) => PathState::Failed(refused.to_string()),
        };
        self.permissions.set_state(id, state);
    }

    /// Starts the gate if there is none; else why it cannot be.
    fn start_gate(&mut self) -> Result<(), PathState> {
        let (needed, is) = self.permissions.class;
        if self.permissions.client.is_some() && needed == is {
            return Ok(());
        }
        if self.permissions.start_at.is_some() {
            return Err(PathState::Waiting("the gate is about to be started again".to_owned()));
        }
        match self.spawn_gate() {
            Ok(client) => {
                tracing::info!(pid = client.pid(), "the gate answers permission events");
                // It stays until the other has its marks.
                let before = self.close_gate();
                let permissions = &mut self.permissions;
                permissions.client = Some(client);
                permissions.class.1 = permissions.class.0;
                permissions.generation += 1;
                permissions.started = Instant::now();
                if before.is_some() {
                    self.place_all();
                }
                Ok(())
            }
            Err(failed @ Failed::Unfit(_)) => Err(PathState::Failed(failed.to_string())),
            Err(failed) => {
                tracing::error!("{failed}");
                self.permissions.start_in(NEXT_TRY);
                Err(PathState::Waiting(failed.to_string()))
            }
        }
    }

    fn spawn_gate(&mut self) -> Result<Client, Failed> {
        let errno = |error: std::io::Error| {
            Failed::NotStarted(Errno::from_raw(error.raw_os_error().unwrap_or_default()))
        };
        let (ours, theirs) = packet::pair().map_err(Failed::NotStarted)?;
        let class = match self.permissions.class.0 {
            Class::Content => c"content",
            Class::PreContent => c"pre-content",
        };
        let pid = CString::new(self.pid.to_string()).unwrap_or_default();
        let arguments = [c"facrond".into(), c"gate".into(), class.into(), pid];
        let pid = self.runner.start_helper(&arguments, theirs.as_fd()).map_err(Failed::NotStarted)?;
        drop(theirs);
        Client::new(pid, ours).map_err(errno)?
    }

    /// Puts all rules before the gate that there is.
    fn place_all(&mut self) {
        let ids: Vec<_> = self.permissions.rules.keys().copied().collect();
        for id in ids {
            if self.watch.state(id) == Some(&PathState::Active) {
                self.place(id);
            }
        }
    }

    /// Lets the gate go: when it is dropped, it answers all that waits, and ends.
    pub(super) fn close_gate(&mut self) -> Option<Client> {
        let client = self.permissions.client.take()?;
        let Permissions { totals: (before, now), .. } = &mut self.permissions;
        *before = before.plus(std::mem::take(now));
        self.forget_questions();
        Some(client)
    }

    /// A child has changed its state: a gate that was stopped would hold up everybody.
    pub(super) fn end_a_stopped_gate(&self) {
        if let Some(client) = &self.permissions.client
            && wait::has_stopped(client.pid())
        {
            tracing::warn!("somebody has stopped the gate, which answers permission events: it is ended");
            client.end();
        }
    }

    /// The gate has ended, and the kernel has let go of all that waited.
    fn on_gate_end(&mut self, failed: Failed) {
        if self.permissions.client.is_none() {
            return;
        }
        tracing::error!("{failed}");
        self.close_gate();
        let permissions = &mut self.permissions;
        permissions.pause = match permissions.started.elapsed() {
            age if age >= SOUND => Duration::ZERO,
            _ => (permissions.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE),
        };
        permissions.start_in(permissions.pause);
        for guarded in permissions.rules.values_mut().filter(|guarded| guarded.state == PathState::Active) {
            guarded.state = PathState::Waiting(failed.to_string());
        }
    }

    /// Does what is to be done.
    pub(super) fn on_wake(&mut self, wake: Wake) {
        match wake {
            Wake::Gate => self.read_gate(),
            Wake::Start => {
                self.permissions.start_at = None;
                self.place_all();
            }
            Wake::Decided(decided) => self.on_decided(decided),
        }
        self.start_decisions();
    }

    fn read_gate(&mut self) {
        while let Some(client) = &mut self.permissions.client {
            match client.next_notice() {
                Ok(Some(notice)) => self.on_notice(notice),
                Ok(None) => return,
                Err(failed) => return self.on_gate_end(failed),
            }
        }
    }

    fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Question(question) => self.on_question(question),
            Notice::Answered(answered, totals) => self.on_answered(&answered, totals),
            Notice::Find(lost) => self.find_lost(&lost),
            // They are awaited where they are asked for.
            Notice::Ready | Notice::Unfit(_) | Notice::Done { .. } => {}
        }
    }

    fn find_lost(&mut self, lost: &Lost) {
        // Without an answer the gate starts anew, and so remembers nothing.
        if let Ok(found) = gate::find(lost) {
            self.tell_gate(&Order::Found(lost.number), found.as_ref().map(AsFd::as_fd));
        }
    }

    /// Asks the gate for its numbers: it tells of itself only what there are records of.
    pub(super) fn count_answers(&mut self) {
        match self.permissions.client.as_mut().map(Client::sync) {
            Some(Ok((_, totals))) => self.permissions.totals.1 = totals,
            Some(Err(failed)) => self.on_gate_end(failed),
            None => {}
        }
    }

    fn tell_gate(&mut self, order: &Order, object: Option<BorrowedFd<'_>>) {
        let Some(client) = &mut self.permissions.client else { return };
        match client.order(order, object) {
            Ok(()) => {}
            // What it cannot be told of was never put before it.
            Err(Failed::TooLong) => tracing::debug!("an order is too long for the gate"),
            Err(failed) => self.on_gate_end(failed),
        }
    }
}
