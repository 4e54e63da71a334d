//! Permission rules: the daemon's side of the gate.
//!
//! The parts are the rules on their way into force (`placement`), the commands that decide
//! (`decisions`) and the account of what was answered (`answers`). This file owns the gate
//! itself: its start, its end and the next one, and what it and the daemon say to each
//! other. Nothing here waits for the gate: orders are sent, and their effects are known
//! when the gate acknowledges them.

mod answers;
mod decisions;
mod placement;

pub(super) use answers::Decided;

use crate::config::rule::RuleSpec;
use crate::engine::job_log::JobLog;
use crate::event::Event;
use crate::events::Events;
use crate::gate::message::{Answered, Notice, Order, Question, Totals};
use crate::gate::walker::Task;
use crate::helper::{Failure, Helper, Restart};
use crate::job::queue::Limits;
use crate::job::run::Runner;
use crate::matcher;
use crate::watch::{Hit, Watch};
use decisions::Decisions;
use facron_proto::{RuleId, Text};
use nix::errno::Errno;
use placement::Placement;
use std::ffi::CString;
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// A gate carries out orders at once. One that owes something for so long is ended.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Notices that are received in one turn.
const NOTICES_PER_TURN: usize = 64;

/// Why no gate answers permission events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Failed {
    #[error("the gate, which answers permission events, has ended; another is started")]
    Ended,
    #[error("the gate, which answers permission events, did not carry out an order and was ended")]
    Unresponsive,
    #[error("permission events need root and a kernel that has them: {}", .0.desc())]
    Unfit(Errno),
    /// What is lacking may be there the next time.
    #[error("the gate, which answers permission events, cannot be started: {}; it is tried again", .0.desc())]
    NotStarted(Errno),
    #[error("the rule's patterns are too long for permission events")]
    TooLong,
}

/// A gate that was started.
#[derive(Debug)]
struct Gate {
    helper: Helper,
    /// The number of its first reply, which it gives when it has its group.
    start: u64,
    /// Whether it has orders that no awaited reply acknowledges.
    is_ahead: bool,
    /// The last [`Order::Count`].
    last_count: u64,
}

#[derive(Debug)]
pub(super) struct Permissions {
    gate: Option<Gate>,
    restart: Restart,
    /// How many gates there were.
    generation: u64,
    daemon: i32,
    placement: Placement,
    decisions: Decisions,
    /// Of the gates before this one, and of this one.
    totals: (Totals, Totals),
    longest: Duration,
    /// The last [`Order::Count`] that was to show whether the gate is alive.
    sign_of_life: u64,
    /// Changes of trees that were told while others were looked at.
    changes: Vec<(RuleId, Event)>,
}

impl Permissions {
    /// Without rules there is no gate. `own` are files of facron's that are always left alone.
    pub fn new(daemon: i32, own: &[PathBuf]) -> Self {
        let mut placement = Placement::default();
        placement.protect(own);
        Self {
            gate: None,
            restart: Restart::default(),
            generation: 0,
            daemon,
            placement,
            decisions: Decisions::new(),
            totals: (Totals::default(), Totals::default()),
            longest: Duration::ZERO,
            sign_of_life: 0,
            changes: Vec::new(),
        }
    }

    /// The rules, and how far they are in force.
    pub fn rules(&self) -> &Placement {
        &self.placement
    }

    pub fn rules_mut(&mut self) -> &mut Placement {
        &mut self.placement
    }

    /// Ready when [`Self::read`] has something to do.
    pub async fn wake(&mut self) {
        let Self { gate, placement, decisions, .. } = self;
        poll_fn(|context| {
            let has_room = gate.as_ref().is_none_or(|gate| gate.helper.has_room());
            let is_ready = decisions.poll_ready(context).is_ready()
                | placement.poll_ready(context, has_room).is_ready()
                | gate.as_mut().is_some_and(|gate| gate.helper.poll_ready(context).is_ready());
            if is_ready { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// When [`Self::on_due`] has something to do.
    pub fn next_due(&self) -> Option<Instant> {
        let gate = match &self.gate {
            Some(gate) => gate.helper.deadline(),
            None => self.restart.due().filter(|_| self.placement.needs_gate()),
        };
        [gate, self.placement.next_due(), self.decisions.next_due()].into_iter().flatten().min()
    }

    /// Ends a gate or a walker that has not replied in time.
    pub fn on_due(&mut self, now: Instant, log: &mut JobLog) {
        if self.gate.as_ref().is_some_and(|gate| gate.helper.is_overdue(now)) {
            self.on_failure(Failure::Unresponsive, log);
        }
        self.placement.on_due(now, self.gate.as_ref().map(|gate| &gate.helper));
    }

    /// Commands that decide at present.
    pub fn running(&self) -> u32 {
        self.decisions.running()
    }

    /// As clients see it.
    pub fn status(&self) -> Option<facron_proto::Gate> {
        if self.placement.is_empty() && self.generation == 0 {
            return None;
        }
        let totals = self.totals.0.plus(self.totals.1);
        let is_ready = |gate: &&Gate| !gate.helper.awaits(gate.start);
        Some(facron_proto::Gate {
            pid: self.gate.as_ref().filter(is_ready).map(|gate| gate.helper.pid().cast_unsigned()),
            starts: self.generation,
            open: u64::try_from(self.decisions.open()).unwrap_or(u64::MAX),
            longest_wait_ms: self.longest.max(self.decisions.longest_wait()).as_secs_f64() * 1000.0,
            allowed: totals.allowed,
            denied: totals.denied,
            failures: totals.failures,
            own: totals.own,
            lost: totals.lost,
            untold: totals.untold,
        })
    }

    /// Takes a rule in. The state is final when it is [settled](Self::is_settled).
    pub fn insert(&mut self, id: RuleId, spec: Rc<RuleSpec>, watch: &mut Watch, log: &mut JobLog) {
        let watched = watch.attach(id, Rc::clone(&spec), None).clone();
        // At the same path new marks take the place of the old ones.
        if self.placement.spec(id).is_some_and(|before| before.path != spec.path) {
            self.remove(id, log);
        }
        self.placement.insert(id, spec, &watched);
    }

    /// Lets a rule go, if it is a permission rule.
    pub fn remove(&mut self, id: RuleId, log: &mut JobLog) {
        if self.placement.spec(id).is_none() {
            return;
        }
        let gate = self.gate.as_mut().map(|gate| {
            gate.is_ahead = true;
            &mut gate.helper
        });
        let sent = self.placement.remove(id, gate);
        self.check(sent, log);
    }

    /// Something has changed in the tree of a permission rule.
    pub fn on_change(&mut self, hit: Hit) {
        self.changes.push((hit.rule, hit.event));
    }

    /// Brings the marks up to date with the trees, once the watch is.
    pub fn follow_changes(&mut self, watch: &Watch, log: &mut JobLog) {
        for (id, event) in std::mem::take(&mut self.changes) {
            let sent = self.follow_change(id, &event, watch);
            self.check(sent, log);
        }
        // What changes the meaning of a path without an event at it.
        let is_changed =
            |id: &RuleId| watch.state(*id).is_some_and(|watched| self.placement.differs(*id, watched));
        for id in self.placement.ids().into_iter().filter(is_changed).collect::<Vec<_>>() {
            let sent = self.follow_path(id, watch);
            self.check(sent, log);
        }
    }

    fn follow_change(&mut self, id: RuleId, event: &Event, watch: &Watch) -> Result<(), Failure> {
        let Some(spec) = self.placement.spec(id).cloned() else { return Ok(()) };
        let below = |path: &[u8]| {
            let below = matcher::below(path, spec.path.as_os_str().as_bytes())?;
            Some(below.to_vec())
        };
        let has_come = event.events.intersects(Events::CREATE.with(Events::MOVED_TO));
        let is_directory = spec.options.recursive && event.events.contains(Events::ONDIR);
        let places = [(event.old_path.as_ref(), false), (Some(&event.path), has_come)];
        for (path, has_come) in places {
            let Some(below) = path.and_then(|path| below(path)) else { continue };
            if below.is_empty() {
                return self.follow_path(id, watch);
            }
            match &mut self.gate {
                _ if !is_directory => {}
                _ if has_come => self.placement.on_directory(id, Text(below)),
                Some(gate) => self.placement.on_directory_gone(id, Text(below), &mut gate.helper)?,
                None => {}
            }
        }
        Ok(())
    }

    fn follow_path(&mut self, id: RuleId, watch: &Watch) -> Result<(), Failure> {
        let Some(watched) = watch.state(id) else { return Ok(()) };
        self.placement.follow(id, watched, self.gate.as_mut().map(|gate| &mut gate.helper))
    }

    /// Receives what the gate and the walker have said; what was answered, and the rules'
    /// part in it.
    pub fn read(&mut self, log: &mut JobLog, limits: Limits) -> Vec<Decided> {
        let mut decided = Vec::new();
        for _ in 0..NOTICES_PER_TURN {
            let Some(gate) = &mut self.gate else { break };
            match gate.helper.receive() {
                Ok(Some((Notice::Question(question), file))) => {
                    self.on_question(question, file, log, limits);
                }
                Ok(Some((notice, _))) => self.on_notice(notice, &mut decided),
                Ok(None) => break,
                Err(failure) => self.on_failure(failure, log),
            }
        }
        let gate = self.gate.as_mut().map(|gate| &mut gate.helper);
        let received = self.placement.receive(gate);
        self.check(received, log);
        decided
    }

    fn on_question(&mut self, question: Question, file: Option<OwnedFd>, log: &mut JobLog, limits: Limits) {
        match self.placement.spec(question.rule) {
            Some(spec) => self.decisions.ask(self.generation, question, file, spec, log, limits),
            None => self.decisions.refuse(self.generation, &question),
        }
    }

    fn on_notice(&mut self, notice: Notice, decided: &mut Vec<Decided>) {
        match notice {
            Notice::Ready => {
                if let Some(gate) = &mut self.gate {
                    gate.helper.settle(gate.start);
                    tracing::info!(pid = gate.helper.pid(), "the gate answers permission events");
                }
            }
            Notice::Unfit(errno) => self.on_unfit(Errno::from_raw(errno)),
            Notice::Placed { number, refused } => {
                self.acknowledge(number);
                self.placement.on_placed(number, refused);
            }
            Notice::Counted { number, totals } => {
                self.acknowledge(number);
                self.totals.1 = totals;
            }
            Notice::Find(lost) => self.placement.find(&Task::Find(lost)),
            // It comes with a file.
            Notice::Question(_) => {}
            Notice::Answered(answered, totals) => {
                self.totals.1 = totals;
                for answered in &answered {
                    self.on_answered(answered, decided);
                }
            }
        }
    }

    fn acknowledge(&mut self, number: u64) {
        if let Some(gate) = &mut self.gate {
            gate.helper.settle(number);
        }
    }

    fn on_answered(&mut self, answered: &Answered, decided: &mut Vec<Decided>) {
        self.longest = self.longest.max(Duration::from_micros(answered.held_us));
        for part in &answered.parts {
            let id = part.question.map(|number| (self.generation, number));
            let asked = id.and_then(|id| self.decisions.take(id));
            let spec = asked.as_ref().map(|asked| &asked.job.spec).or_else(|| self.placement.spec(part.rule));
            if let Some(spec) = spec.cloned() {
                decided.push(Decided::new(part, answered, asked, &spec));
            }
        }
    }

    /// Does what is due: starts the gate, walks and commands that decide, and passes
    /// verdicts on.
    pub fn advance(&mut self, runner: &mut Runner, log: &mut JobLog, limits: Limits) {
        if self.placement.needs_gate() && self.has_gate(runner) {
            self.placement.advance(runner);
        }
        self.decisions.start(runner, log, limits);
        for ((generation, question), verdict) in self.decisions.take_answers() {
            if generation == self.generation {
                self.order(&Order::Decided { question, verdict }, log);
            }
        }
    }

    fn has_gate(&mut self, runner: &mut Runner) -> bool {
        let now = Instant::now();
        if self.gate.is_some() {
            return true;
        }
        if !self.restart.may_start(now) {
            self.placement.hold("the gate is about to be started again");
            return false;
        }
        let daemon = CString::new(self.daemon.to_string()).unwrap_or_default();
        match Helper::start(runner, &[c"facrond".into(), c"gate".into(), daemon], TIMEOUT) {
            Ok(mut helper) => {
                let start = self.placement.number();
                helper.expect(start);
                self.restart.on_start(now);
                self.generation += 1;
                self.gate = Some(Gate { helper, start, is_ahead: false, last_count: 0 });
            }
            Err(errno) => {
                let failed = Failed::NotStarted(errno);
                tracing::error!("{failed}");
                self.restart.on_failure(now);
                self.placement.hold(&failed.to_string());
            }
        }
        self.gate.is_some()
    }

    fn order(&mut self, order: &Order, log: &mut JobLog) {
        let sent = self.gate.as_mut().map_or(Ok(()), |gate| gate.helper.send(order, None));
        self.check(sent, log);
    }

    fn check(&mut self, sent: Result<(), Failure>, log: &mut JobLog) {
        match sent {
            Ok(()) => {}
            // What the gate cannot be told of was never put before it.
            Err(Failure::TooLong) => tracing::debug!("an order is too long for the gate"),
            Err(failure) => self.on_failure(failure, log),
        }
    }

    /// Asks the gate to acknowledge all orders so far; the number of the reply, if there
    /// is one to wait for.
    pub fn acknowledgement(&mut self, log: &mut JobLog) -> Option<u64> {
        match &self.gate {
            Some(gate) if gate.is_ahead => self.count(log),
            Some(gate) => Some(gate.last_count),
            None => None,
        }
    }

    /// Asks the gate for its numbers: it tells of itself only what there are records of.
    pub fn count(&mut self, log: &mut JobLog) -> Option<u64> {
        let number = self.placement.number();
        let gate = self.gate.as_mut()?;
        (gate.is_ahead, gate.last_count) = (false, number);
        let sent = gate.helper.request(number, &Order::Count(number), None);
        self.check(sent, log);
        Some(number)
    }

    /// Whether the gate has given this reply, or never will.
    pub fn is_acknowledged(&self, number: u64) -> bool {
        self.gate.as_ref().is_none_or(|gate| !gate.helper.awaits(number))
    }

    /// Whether the gate, if there is one, has replied since the last call. Does not wait for it:
    /// asks for the reply that the next call looks for.
    pub fn is_alive(&mut self, log: &mut JobLog) -> bool {
        let is_alive = self.is_acknowledged(self.sign_of_life);
        if is_alive {
            self.sign_of_life = self.count(log).unwrap_or_default();
        }
        is_alive
    }

    /// Lets the gate go: it answers all that waits, and ends. So does the walker.
    pub fn close(&mut self, log: &mut JobLog) {
        if self.gate.take().is_some() {
            let (before, now) = &mut self.totals;
            *before = before.plus(std::mem::take(now));
            self.decisions.on_gate_end(log);
        }
    }

    /// Somebody may have stopped the gate, which would hold up everybody.
    pub fn end_a_stopped_gate(&self) {
        if let Some(gate) = self.gate.as_ref().filter(|gate| gate.helper.has_stopped()) {
            tracing::warn!("somebody has stopped the gate, which answers permission events: it is ended");
            gate.helper.kill();
        }
    }

    fn on_unfit(&mut self, errno: Errno) {
        self.gate = None;
        match errno {
            Errno::EPERM | Errno::EINVAL | Errno::ENOSYS => {
                self.placement.fail(&Failed::Unfit(errno).to_string());
            }
            _ => self.on_no_gate(Failed::NotStarted(errno)),
        }
    }

    fn on_no_gate(&mut self, failed: Failed) {
        tracing::error!("{failed}");
        self.restart.on_failure(Instant::now());
        self.placement.on_gate_end(&failed.to_string());
    }

    /// The gate has ended, and the kernel has let go of all that waited.
    fn on_failure(&mut self, failure: Failure, log: &mut JobLog) {
        let Some(gate) = &self.gate else { return };
        let failed = if failure == Failure::Unresponsive { Failed::Unresponsive } else { Failed::Ended };
        gate.helper.kill();
        let did_work = !gate.helper.awaits(gate.start);
        self.close(log);
        if !did_work {
            return self.on_no_gate(failed);
        }
        tracing::error!("{failed}");
        self.restart.on_end(Instant::now());
        self.placement.on_gate_end(&failed.to_string());
    }
}
