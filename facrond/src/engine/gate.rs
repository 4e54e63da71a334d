//! Permission rules in the engine: what it knows of them, and what it and the gate say
//! to each other.

mod answers;
mod follow;
mod life;
mod rules;

use super::Engine;
use crate::config::rule::RuleSpec;
use crate::events::Events;
use crate::gate;
use crate::gate::client::{Client, Failed};
use crate::gate::message::{Lost, Notice, Order, Totals};
use crate::kernel::permission::Class;
use crate::watch::PathState;
use answers::{Asked, Decided, QuestionId};
use facron_proto::RuleId;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

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

    fn set_state(&mut self, id: RuleId, state: PathState) {
        if let Some(guarded) = self.rules.get_mut(&id) {
            guarded.state = state;
        }
    }
}

impl Engine {
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
