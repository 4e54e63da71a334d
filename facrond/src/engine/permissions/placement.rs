//! Permission rules on their way into force: the walker finds the inodes of a rule, the
//! gate marks them, and then the rule is active.
//!
//! A walk of a whole tree replaces what was marked for the rule before. A walk of a part
//! adds to it. What leaves a tree while a walk is under way is forgotten at once, and what
//! the walk still finds below it is left aside.

mod walks;

use super::Failed;
use crate::config::rule::RuleSpec;
use crate::events::Events;
use crate::gate::message::{Extent, Order, Rule};
use crate::gate::walker::{Finding, Refusal, Task, Work};
use crate::helper::{Failure, Helper};
use crate::job::run::Runner;
use crate::watch::PathState;
use facron_proto::{RuleId, Text};
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::{discriminant, take};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;
use walks::{Walk, Walks};

/// Findings that are received in one turn.
const FINDINGS_PER_TURN: usize = 64;

/// Directories that may leave a tree during one walk. After more, the walk begins anew.
const GONE: usize = 64;

const NOT_YET: &str = "its marks are not in the kernel yet";

/// A permission rule, and how far it is in force.
#[derive(Debug)]
struct Placed {
    spec: Rc<RuleSpec>,
    state: PathState,
    /// What the watch said of its PATH last.
    watched: PathState,
    /// Whether the state is about to become another one.
    is_pending: bool,
}

#[derive(Debug, Default)]
pub(in crate::engine) struct Placement {
    rules: BTreeMap<RuleId, Placed>,
    /// How many of them are pending.
    pending: usize,
    /// Rules whose whole tree has to be walked.
    todo: BTreeSet<RuleId>,
    walks: Walks,
    next: u64,
    /// Rules that have failed since [`Self::take_failed`].
    failed: Vec<RuleId>,
}

impl Placement {
    /// Files that are facron's own are always left alone.
    pub fn protect(&mut self, files: &[PathBuf]) {
        self.walks.protect(files);
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub fn ids(&self) -> Vec<RuleId> {
        self.rules.keys().copied().collect()
    }

    pub fn spec(&self, id: RuleId) -> Option<&Rc<RuleSpec>> {
        self.rules.get(&id).map(|rule| &rule.spec)
    }

    /// Whether a rule is in force; `None` if it is no permission rule.
    pub fn state(&self, id: RuleId) -> Option<&PathState> {
        self.rules.get(&id).map(|rule| &rule.state)
    }

    /// Whether the state of a rule is final for now.
    pub fn is_settled(&self, id: RuleId) -> bool {
        self.rules.get(&id).is_none_or(|rule| !rule.is_pending)
    }

    pub fn are_all_settled(&self) -> bool {
        self.pending == 0
    }

    pub fn take_failed(&mut self) -> Vec<RuleId> {
        take(&mut self.failed)
    }

    pub fn needs_gate(&self) -> bool {
        !self.todo.is_empty()
    }

    /// A number for a request to the gate or to the walker.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Takes a rule in, or in another form. `watched` tells where its PATH leads.
    pub fn insert(&mut self, id: RuleId, spec: Rc<RuleSpec>, watched: &PathState) {
        let before = self.rules.remove(&id);
        let is_pending = before.as_ref().is_some_and(|before| before.is_pending);
        // Its old form counts until the new one does.
        let state = before.map_or_else(|| PathState::Waiting(NOT_YET.to_owned()), |before| before.state);
        let rule = Placed { spec, state, watched: watched.clone(), is_pending };
        self.rules.insert(id, rule);
        self.on_watched(id, watched);
    }

    /// Lets a rule go. The inodes that it has marked are unmarked later: until then they
    /// only cost time.
    pub fn remove(&mut self, id: RuleId, gate: Option<&mut Helper>) -> Result<(), Failure> {
        self.cancel(id);
        let Some(rule) = self.rules.remove(&id) else { return Ok(()) };
        self.pending -= usize::from(rule.is_pending);
        let Some(gate) = gate else { return Ok(()) };
        gate.send(&Order::Forget(id), None)?;
        if !self.start_walk(Rule::new(id, &rule.spec), None, Work::Unmark) {
            tracing::debug!(rule = %id, "its marks stay until the gate ends");
        }
        Ok(())
    }

    /// Forgets the walks of a rule.
    fn cancel(&mut self, id: RuleId) {
        self.todo.remove(&id);
        self.walks.cancel(id);
    }

    /// The watch says where the path of a rule leads now.
    fn on_watched(&mut self, id: RuleId, watched: &PathState) {
        self.cancel(id);
        if let Some(rule) = self.rules.get_mut(&id) {
            rule.watched = watched.clone();
        }
        if *watched == PathState::Active {
            self.want(id);
        } else {
            self.settle(id, watched.clone());
        }
    }

    /// The whole tree of a rule has to be walked.
    fn want(&mut self, id: RuleId) {
        let Some(rule) = self.rules.get_mut(&id) else { return };
        if self.walks.hangs_at(id) {
            let why = silence(&rule.spec);
            return self.settle(id, PathState::Waiting(why));
        }
        self.todo.insert(id);
        self.pending += usize::from(!rule.is_pending);
        rule.is_pending = true;
        if rule.state != PathState::Active {
            rule.state = PathState::Waiting(NOT_YET.to_owned());
        }
    }

    fn settle(&mut self, id: RuleId, state: PathState) {
        let Some(rule) = self.rules.get_mut(&id) else { return };
        self.pending -= usize::from(take(&mut rule.is_pending));
        if matches!(state, PathState::Failed(_)) {
            self.failed.push(id);
        }
        rule.state = state;
    }

    /// Whether the watch has something new to say of the path of a rule.
    pub fn differs(&self, id: RuleId, watched: &PathState) -> bool {
        self.rules.get(&id).is_some_and(|rule| discriminant(&rule.watched) != discriminant(watched))
    }

    /// Something has changed at the path of a rule, or about it.
    pub fn follow(
        &mut self,
        id: RuleId,
        watched: &PathState,
        gate: Option<&mut Helper>,
    ) -> Result<(), Failure> {
        self.on_watched(id, watched);
        match (gate, watched) {
            (Some(gate), PathState::Waiting(_) | PathState::Failed(_)) => {
                gate.send(&Order::Gone { rule: id, below: Text::default() }, None)
            }
            _ => Ok(()),
        }
    }

    /// A directory below the path of a rule has come.
    pub fn on_directory(&mut self, id: RuleId, below: Text) {
        let Some(rule) = self.rules.get(&id).filter(|rule| rule.watched == PathState::Active) else { return };
        // A walk that has not begun finds it.
        if self.todo.contains(&id) {
            return;
        }
        let task = Rule::new(id, &rule.spec);
        if !self.walks.has_room() || !self.start_walk(task, Some(id), Work::PlaceBelow(below)) {
            self.want(id);
        }
    }

    /// A directory below the path of a rule has gone.
    pub fn on_directory_gone(&mut self, id: RuleId, below: Text, gate: &mut Helper) -> Result<(), Failure> {
        if self.walks.leave(id, &below) > GONE {
            self.cancel(id);
            self.want(id);
        }
        gate.send(&Order::Gone { rule: id, below }, None)
    }

    /// Sends a task to the walker; `false` where it cannot be sent.
    fn start_walk(&mut self, task: Rule, rule: Option<RuleId>, work: Work) -> bool {
        let number = self.number();
        self.walks.start(number, task, rule, work)
    }

    /// Starts the walks that are due.
    pub fn advance(&mut self, runner: &mut Runner) {
        if self.todo.is_empty() || !self.has_walker(runner) {
            return;
        }
        let todo: Vec<_> = self.todo.iter().copied().filter(|id| !self.walks.is_whole(*id)).collect();
        for id in todo {
            if !self.walks.has_room() {
                return;
            }
            self.todo.remove(&id);
            let Some(rule) = self.rules.get(&id) else { continue };
            let task = Rule::new(id, &rule.spec);
            if !self.start_walk(task, Some(id), Work::Place) {
                self.fail_too_long(id);
            }
        }
    }

    fn fail_too_long(&mut self, id: RuleId) {
        self.cancel(id);
        self.settle(id, PathState::Failed(Failed::TooLong.to_string()));
    }

    fn has_walker(&mut self, runner: &mut Runner) -> bool {
        self.walks.has_walker(runner).unwrap_or_else(|failed| {
            tracing::error!("{failed}");
            self.hold(&failed.to_string());
            false
        })
    }

    /// The rules that are pending have to wait for something else first.
    pub fn hold(&mut self, why: &str) {
        if self.pending == 0 {
            return;
        }
        for id in self.ids() {
            if !self.is_settled(id) {
                self.settle(id, PathState::Waiting(why.to_owned()));
            }
        }
    }

    /// No gate can be had: the rules that need one have failed.
    pub fn fail(&mut self, why: &str) {
        for id in take(&mut self.todo) {
            self.settle(id, PathState::Failed(why.to_owned()));
        }
        self.on_gate_end(why);
        self.todo.clear();
    }

    /// The gate has ended, and its marks with it: the next one needs all of them.
    pub fn on_gate_end(&mut self, why: &str) {
        self.walks.on_gate_end();
        for id in self.ids() {
            let Some(rule) = self.rules.get_mut(&id) else { continue };
            if rule.watched == PathState::Active {
                self.todo.insert(id);
            }
            if rule.is_pending || rule.state == PathState::Active {
                self.settle(id, PathState::Waiting(why.to_owned()));
            }
        }
    }

    /// Receives what the walker has found, and passes it on to the gate as long as that
    /// has room.
    pub fn receive(&mut self, mut gate: Option<&mut Helper>) -> Result<(), Failure> {
        let is_active = |placed: &Placed| placed.watched == PathState::Active;
        for id in self.walks.take_late() {
            if self.rules.get(&id).is_some_and(is_active) {
                self.want(id);
            }
        }
        for _ in 0..FINDINGS_PER_TURN {
            if gate.as_ref().is_some_and(|gate| !gate.has_room()) {
                return Ok(());
            }
            match self.walks.receive() {
                Ok(Some((finding, fd))) => {
                    self.on_finding(finding, fd.as_ref().map(AsFd::as_fd), gate.as_deref_mut())?;
                }
                Ok(None) => return Ok(()),
                Err(rules) => rules.into_iter().for_each(|id| self.want(id)),
            }
        }
        Ok(())
    }

    fn on_finding(
        &mut self,
        finding: Finding,
        fd: Option<BorrowedFd<'_>>,
        gate: Option<&mut Helper>,
    ) -> Result<(), Failure> {
        match (finding, gate) {
            (Finding::LeftOut { path, why }, _) => {
                tracing::warn!(%path, "no permission is asked for in this directory: {why}");
            }
            (Finding::Order { walk, order }, Some(gate)) => {
                let walk = walk.map(|number| self.walks.get(number));
                let is_wanted = match (walk, &order) {
                    (Some(Some(walk)), Order::Mark { below, .. }) => !walk.has_left(below),
                    (Some(walk), _) => walk.is_some(),
                    (None, _) => true,
                };
                let rule = walk.flatten().and_then(|walk| walk.rule);
                match if is_wanted { gate.send(&order, fd) } else { Ok(()) } {
                    Err(Failure::TooLong) => rule.into_iter().for_each(|id| self.fail_too_long(id)),
                    sent => return sent,
                }
            }
            (Finding::End { number, refusal }, gate) => match (self.walks.get(number), refusal, gate) {
                (Some(Walk { rule: Some(rule), extent, .. }), None, Some(gate)) => {
                    let order = Order::Placed { rule: *rule, extent: *extent, number };
                    return gate.request(number, &order, None);
                }
                (_, refusal, _) => self.on_refusal(number, refusal),
            },
            (Finding::Alive, _) | (_, None) => {}
        }
        Ok(())
    }

    fn on_refusal(&mut self, number: u64, refusal: Option<Refusal>) {
        // A part that cannot be reached is on its way out of the tree.
        let Some((id, Extent::Whole)) = self.end_walk(number) else { return };
        let Some(refusal) = refusal else { return };
        let why = refusal.to_string();
        match refusal {
            Refusal::Missing(_) => {
                // If the watch knows of something there, another walk finds it.
                if let Some(rule) = self.rules.get_mut(&id) {
                    rule.watched = PathState::Waiting(why.clone());
                }
                self.settle(id, PathState::Waiting(why));
            }
            Refusal::Refused { .. } => self.settle(id, PathState::Failed(why)),
        }
    }

    /// The gate has marked what a walk has found.
    pub fn on_placed(&mut self, number: u64, refused: Option<i32>) {
        let Some((id, extent)) = self.end_walk(number) else { return };
        let Some(rule) = self.rules.get(&id) else { return };
        if let Some(errno) = refused.map(Errno::from_raw) {
            let why = reason(errno, rule.spec.events);
            let why = format!("permission events cannot be asked for at {}: {why}", text(&rule.spec.path));
            self.settle(id, PathState::Failed(why));
        } else if extent == Extent::Whole && !self.todo.contains(&id) {
            self.settle(id, PathState::Active);
        }
    }

    fn end_walk(&mut self, number: u64) -> Option<(RuleId, Extent)> {
        let walk = self.walks.end(number)?;
        walk.rule.filter(|id| self.rules.contains_key(id)).map(|id| (id, walk.extent))
    }

    /// Asks the walker where a file is.
    pub fn find(&mut self, task: &Task) {
        self.walks.find(task);
    }

    /// Gives a walker up that has been silent for too long.
    pub fn on_due(&mut self, now: Instant, gate: Option<&Helper>) {
        if gate.is_some_and(|gate| !gate.has_room()) {
            return self.walks.excuse();
        }
        let Some((hanging, rules)) = self.walks.on_due(now) else { return };
        if let Some(id) = hanging
            && let Some(why) = self.spec(id).map(|spec| silence(spec))
        {
            tracing::warn!(rule = %id, "{why}");
            self.todo.remove(&id);
            self.settle(id, PathState::Waiting(why));
        }
        rules.into_iter().filter(|id| hanging != Some(*id)).for_each(|id| self.want(id));
    }

    /// When [`Self::on_due`] has something to do, or a walker may be started.
    pub fn next_due(&self) -> Option<Instant> {
        self.walks.next_due(!self.todo.is_empty())
    }

    /// Ready when [`Self::receive`] has something to do.
    pub fn poll_ready(&mut self, context: &mut Context<'_>, may_receive: bool) -> Poll<()> {
        self.walks.poll_ready(context, may_receive)
    }
}

fn silence(spec: &RuleSpec) -> String {
    format!("{} does not answer", text(&spec.path))
}

fn reason(errno: Errno, events: Events) -> String {
    match errno {
        Errno::EINVAL | Errno::EOPNOTSUPP if events.contains(Events::PRE_ACCESS) => {
            "FAN_PRE_ACCESS needs Linux 6.14, and ext4, xfs or btrfs; FAN_ACCESS_PERM does not".to_owned()
        }
        Errno::EINVAL | Errno::EOPNOTSUPP => "the file system or the kernel does not have them".to_owned(),
        Errno::EEXIST => {
            "the kernel cannot ask for FAN_PRE_ACCESS, and for anything of directories (FAN_ONDIR), at \
                          one place, and another rule is there"
                .to_owned()
        }
        Errno::ENOSPC => "there are too many marks".to_owned(),
        errno => errno.desc().to_lowercase(),
    }
}

fn text(path: &Path) -> Text {
    Text::from(path.as_os_str().as_bytes())
}
