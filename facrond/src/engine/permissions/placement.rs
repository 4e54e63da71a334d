//! Permission rules on their way into force: the walker finds the inodes of a rule, the
//! gate marks them, and then the rule is active.
//!
//! A walk of a whole tree replaces what was marked for the rule before. A walk of a part
//! adds to it. What leaves a tree while a walk is under way is forgotten at once, and what
//! the walk still finds below it is left aside.

use super::Failed;
use crate::config::places;
use crate::config::rule::RuleSpec;
use crate::events::Events;
use crate::gate::message::{Extent, Order, Rule};
use crate::gate::walker::{Finding, Refusal, Task, Tree};
use crate::helper::{Failure, Helper, Restart};
use crate::job::run::Runner;
use crate::matcher;
use crate::watch::PathState;
use facron_proto::{RuleId, Text};
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A walker that is silent for so long hangs at a file system that does not answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Findings that are received in one turn.
const FINDINGS_PER_TURN: usize = 64;

/// Walks of parts that a rule has at most; then its whole tree is walked again.
const PARTS: usize = 64;

/// Files named in one packet for the walker.
const FILES_PER_TASK: usize = 16;

const NOT_YET: &str = "its marks are not in the kernel yet";

/// A permission rule, and how far it is in force.
#[derive(Debug)]
struct Placed {
    spec: Rc<RuleSpec>,
    state: PathState,
    /// Where its PATH led when the watch was asked last.
    leads: Leads,
    /// Whether the state is about to become another one.
    is_pending: bool,
    /// Whether the whole tree is being walked.
    is_walked: bool,
    /// How many parts are being walked.
    parts: usize,
}

/// Where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leads {
    /// To an object.
    Somewhere,
    /// To a file system that does not answer.
    Astray,
    Nowhere,
}

impl Leads {
    fn of(watched: &PathState) -> Self {
        match watched {
            PathState::Active => Self::Somewhere,
            PathState::Silent(_) => Self::Astray,
            PathState::Waiting(_) | PathState::Failed(_) => Self::Nowhere,
        }
    }
}

/// What the walker and the gate are busy with on behalf of a rule.
#[derive(Debug)]
enum Walk {
    Place {
        rule: RuleId,
        extent: Extent,
        /// Paths of the tree at which nothing is any more what the walk may find.
        gone: Vec<Text>,
    },
    /// A rule that is gone, which had asked for these events.
    Unmark(Events),
}

#[derive(Debug)]
pub(super) struct Placement {
    rules: BTreeMap<RuleId, Placed>,
    /// How many of them are pending.
    pending: usize,
    /// Rules whose whole tree has to be walked.
    todo: BTreeSet<RuleId>,
    walks: BTreeMap<u64, Walk>,
    next: u64,
    walker: Option<Helper>,
    restart: Restart,
    /// Walkers that hang, each with the rule that led them there.
    hanging: Vec<(Helper, Option<RuleId>)>,
    /// Files of facron's own, and how many of them the walker knows.
    own: Vec<PathBuf>,
    known: usize,
    /// Rules that have failed, and nobody was told of yet.
    failed: Vec<RuleId>,
}

impl Placement {
    pub fn new(own: Vec<PathBuf>) -> Self {
        Self {
            rules: BTreeMap::new(),
            pending: 0,
            todo: BTreeSet::new(),
            walks: BTreeMap::new(),
            next: 0,
            walker: None,
            restart: Restart::default(),
            hanging: Vec::new(),
            own,
            known: 0,
            failed: Vec::new(),
        }
    }

    /// Files that are facron's own, too.
    pub fn protect(&mut self, files: &[PathBuf]) {
        let new: Vec<_> = files.iter().filter(|file| !self.own.contains(file)).cloned().collect();
        self.own.extend(new);
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

    /// Rules that have failed since the last call.
    pub fn take_failed(&mut self) -> Vec<RuleId> {
        std::mem::take(&mut self.failed)
    }

    /// Whether a gate is needed now.
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
        self.cancel(id);
        let before = self.rules.remove(&id);
        let is_pending = before.as_ref().is_some_and(|before| before.is_pending);
        // Its old form counts until the new one does.
        let state = before.map_or_else(|| PathState::Waiting(NOT_YET.to_owned()), |before| before.state);
        let leads = Leads::of(watched);
        self.rules.insert(id, Placed { spec, state, leads, is_pending, is_walked: false, parts: 0 });
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
        let walk = Walk::Unmark(rule.spec.events.with(Events::EVENT_ON_CHILD));
        if !self.start_walk(tree(&rule.spec, None), walk) {
            tracing::debug!(rule = %id, "its marks stay until the gate ends");
        }
        Ok(())
    }

    /// Forgets the walks of a rule. What they still find is left aside.
    fn cancel(&mut self, id: RuleId) {
        self.todo.remove(&id);
        self.walks.retain(|_, walk| !matches!(walk, Walk::Place { rule, .. } if *rule == id));
        if let Some(rule) = self.rules.get_mut(&id) {
            (rule.is_walked, rule.parts) = (false, 0);
        }
    }

    /// What the watch says of the path of a rule has changed.
    fn on_watched(&mut self, id: RuleId, watched: &PathState) {
        self.cancel(id);
        if let Some(rule) = self.rules.get_mut(&id) {
            rule.leads = Leads::of(watched);
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
        if self.hanging.iter().any(|(_, hanging)| *hanging == Some(id)) {
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
        self.pending -= usize::from(rule.is_pending);
        rule.is_pending = false;
        if matches!(state, PathState::Failed(_)) {
            self.failed.push(id);
        }
        rule.state = state;
    }

    /// Whether the watch has something new to say of the path of a rule.
    pub fn differs(&self, id: RuleId, watched: &PathState) -> bool {
        self.rules.get(&id).is_some_and(|rule| rule.leads != Leads::of(watched))
    }

    /// Something has changed at the path of a rule, or about it.
    pub fn follow(
        &mut self,
        id: RuleId,
        watched: &PathState,
        gate: Option<&mut Helper>,
    ) -> Result<(), Failure> {
        self.on_watched(id, watched);
        match gate {
            Some(gate) if Leads::of(watched) == Leads::Nowhere => {
                gate.send(&Order::Gone { rule: id, below: Text::default() }, None)
            }
            _ => Ok(()),
        }
    }

    /// A directory below the path of a rule has come.
    pub fn on_directory(&mut self, id: RuleId, below: &Path) {
        let Some(rule) = self.rules.get(&id).filter(|rule| rule.leads == Leads::Somewhere) else { return };
        // The walk that is still to come finds it.
        if self.todo.contains(&id) {
            return;
        }
        let walk = Walk::Place { rule: id, extent: Extent::Part, gone: Vec::new() };
        let tree = tree(&rule.spec, Some(below));
        let has_room = rule.parts < PARTS && self.walker.as_ref().is_some_and(Helper::has_room);
        if has_room && self.start_walk(tree, walk) {
            if let Some(rule) = self.rules.get_mut(&id) {
                rule.parts += 1;
            }
        } else {
            self.want(id);
        }
    }

    /// A directory below the path of a rule has gone.
    pub fn on_directory_gone(&mut self, id: RuleId, below: &Path, gate: &mut Helper) -> Result<(), Failure> {
        let below = text(below);
        for walk in self.walks.values_mut() {
            if let Walk::Place { rule, gone, .. } = walk
                && *rule == id
            {
                gone.push(below.clone());
            }
        }
        let is_much =
            |walk: &Walk| matches!(walk, Walk::Place { rule, gone, .. } if *rule == id && gone.len() > PARTS);
        if self.walks.values().any(is_much) {
            self.cancel(id);
            self.want(id);
        }
        gate.send(&Order::Gone { rule: id, below }, None)
    }

    /// Sends a task to the walker; `false` where it cannot be sent.
    fn start_walk(&mut self, tree: Tree, walk: Walk) -> bool {
        let number = self.number();
        let Some(walker) = &mut self.walker else { return false };
        match walker.request(number, &Task::Walk { number, tree }, None) {
            Ok(()) => {
                self.walks.insert(number, walk);
                true
            }
            Err(_) => false,
        }
    }

    /// Starts the walks that are due.
    pub fn advance(&mut self, runner: &mut Runner) {
        if self.todo.is_empty() || !self.start_walker(runner) {
            return;
        }
        self.send_own_files();
        let todo: Vec<_> =
            self.todo.iter().copied().filter(|id| !self.rules.get(id).is_some_and(|r| r.is_walked)).collect();
        for id in todo {
            if !self.walker.as_ref().is_some_and(Helper::has_room) {
                return;
            }
            self.todo.remove(&id);
            let Some(rule) = self.rules.get_mut(&id) else { continue };
            rule.is_walked = true;
            let walk = Walk::Place { rule: id, extent: Extent::Whole, gone: Vec::new() };
            let tree = tree(&rule.spec, None);
            if !self.start_walk(tree, walk) {
                self.settle(id, PathState::Failed(Failed::TooLong.to_string()));
            }
        }
    }

    fn start_walker(&mut self, runner: &mut Runner) -> bool {
        let now = Instant::now();
        if self.walker.is_some() || !self.restart.may_start(now) {
            return self.walker.is_some();
        }
        match Helper::start(runner, &[c"facrond".into(), c"walker".into()], TIMEOUT) {
            Ok(walker) => {
                self.restart.on_start(now);
                (self.walker, self.known) = (Some(walker), 0);
            }
            Err(errno) => {
                let failed = Failed::NotStarted(errno);
                tracing::error!("{failed}");
                self.restart.on_failure(now);
                self.hold(&failed.to_string());
            }
        }
        self.walker.is_some()
    }

    fn send_own_files(&mut self) {
        let Some(walker) = &mut self.walker else { return };
        for files in self.own[self.known..].chunks(FILES_PER_TASK) {
            // If the walker has ended, the next one is told of all files.
            let _ = walker.send(&Task::Protect(files.iter().map(|file| text(file)).collect()), None);
        }
        self.known = self.own.len();
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
        for id in std::mem::take(&mut self.todo) {
            self.settle(id, PathState::Failed(why.to_owned()));
        }
        self.on_gate_end(why);
        self.todo.clear();
    }

    /// The gate has ended, and its marks with it: the next one needs all of them.
    pub fn on_gate_end(&mut self, why: &str) {
        // A walker that is at work for it would only keep the next walks waiting.
        if !self.walks.is_empty()
            && let Some(walker) = self.walker.take()
        {
            walker.kill();
        }
        self.walks.clear();
        for id in self.ids() {
            let Some(rule) = self.rules.get_mut(&id) else { continue };
            (rule.is_walked, rule.parts) = (false, 0);
            if rule.leads == Leads::Somewhere {
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
        self.receive_late();
        for _ in 0..FINDINGS_PER_TURN {
            if gate.as_ref().is_some_and(|gate| !gate.has_room()) {
                return Ok(());
            }
            let Some(walker) = &mut self.walker else { return Ok(()) };
            match walker.receive() {
                Ok(Some((finding, fd))) => {
                    let fd = fd.as_ref().map(AsFd::as_fd);
                    self.on_finding(finding, fd, gate.as_deref_mut())?;
                }
                Ok(None) => return Ok(()),
                Err(_) => {
                    self.restart.on_end(Instant::now());
                    self.on_walker_end(None);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// A walker that did not answer has found something, or has ended: whoever it waited
    /// for answers again.
    fn receive_late(&mut self) {
        let is_silent = |helper: &mut Helper| matches!(helper.receive::<Finding>(), Ok(None));
        let late: Vec<_> = self.hanging.extract_if(.., |(helper, _)| !is_silent(helper)).collect();
        for (_, rule) in late {
            if let Some(id) = rule
                && self.rules.get(&id).is_some_and(|rule| rule.leads == Leads::Somewhere)
            {
                self.want(id);
            }
        }
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
            (Finding::Top { number, path, is_directory }, Some(gate)) => {
                return self.on_top(number, path, is_directory, gate);
            }
            (Finding::Inode { number, below }, Some(gate)) => {
                let order = match self.walks.get(&number) {
                    Some(Walk::Place { rule, gone, .. }) if !is_in(&below, gone) => {
                        Order::Mark { rule: *rule, below }
                    }
                    Some(Walk::Unmark(events)) => Order::Unmark { mask: events.mask() },
                    _ => return Ok(()),
                };
                return gate.send(&order, fd);
            }
            (Finding::End { number, refusal }, gate) => {
                if let Some(walker) = &mut self.walker {
                    walker.settle(number);
                }
                match (self.walks.get(&number), refusal, gate) {
                    (Some(Walk::Place { .. }), Some(refusal), _) => self.on_refusal(number, &refusal),
                    (Some(Walk::Place { rule, extent, .. }), None, Some(gate)) => {
                        let order = Order::Placed { rule: *rule, extent: *extent, number };
                        return gate.request(number, &order, None);
                    }
                    _ => drop(self.walks.remove(&number)),
                }
            }
            (Finding::Found(number), Some(gate)) => {
                return gate.send(&Order::Found(number), fd);
            }
            (Finding::Alive, _) | (_, None) => {}
        }
        Ok(())
    }

    fn on_top(
        &mut self,
        number: u64,
        path: Text,
        is_directory: bool,
        gate: &mut Helper,
    ) -> Result<(), Failure> {
        let Some(Walk::Place { rule: id, .. }) = self.walks.get(&number) else { return Ok(()) };
        let (id, Some(rule)) = (*id, self.rules.get(id)) else { return Ok(()) };
        let spared = places::left_out(Path::new(std::ffi::OsStr::from_bytes(path.as_bytes())), &self.own);
        let order = Order::Rule(Box::new(order_of(id, &rule.spec, path, is_directory, &spared)));
        match gate.send(&order, None) {
            Err(Failure::TooLong) => {
                self.cancel(id);
                self.settle(id, PathState::Failed(Failed::TooLong.to_string()));
                Ok(())
            }
            sent => sent,
        }
    }

    fn on_refusal(&mut self, number: u64, refusal: &Refusal) {
        let Some((id, extent)) = self.end_walk(number) else { return };
        // A part that cannot be reached is on its way out of the tree.
        if extent == Extent::Part {
            return;
        }
        match refusal {
            Refusal::Missing(_) => {
                self.settle(id, PathState::Waiting(refusal.to_string()));
                // If the watch knows of something there, another walk finds it.
                if let Some(rule) = self.rules.get_mut(&id) {
                    rule.leads = Leads::Nowhere;
                }
            }
            Refusal::Refused { .. } => self.settle(id, PathState::Failed(refusal.to_string())),
        }
    }

    /// The gate has marked what a walk has found.
    pub fn on_placed(&mut self, number: u64, refused: Option<i32>) {
        let Some((id, extent)) = self.end_walk(number) else { return };
        let Some(rule) = self.rules.get(&id) else { return };
        let is_done = extent == Extent::Whole && !self.todo.contains(&id);
        if let Some(errno) = refused.map(Errno::from_raw) {
            let why = reason(errno, rule.spec.events);
            let why = format!("permission events cannot be asked for at {}: {why}", text(&rule.spec.path));
            self.settle(id, PathState::Failed(why));
        } else if is_done {
            self.settle(id, PathState::Active);
        }
    }

    fn end_walk(&mut self, number: u64) -> Option<(RuleId, Extent)> {
        let Some(Walk::Place { rule: id, extent, .. }) = self.walks.remove(&number) else { return None };
        let rule = self.rules.get_mut(&id)?;
        match extent {
            Extent::Whole => rule.is_walked = false,
            Extent::Part => rule.parts -= 1,
        }
        Some((id, extent))
    }

    /// Asks the walker where a file is.
    pub fn find(&mut self, task: &Task) {
        if let Some(walker) = &mut self.walker
            && walker.send(task, None).is_err()
        {
            tracing::debug!("a file is not looked for: the gate starts anew");
        }
    }

    /// The walker has ended, or hangs at the tree of a rule.
    fn on_walker_end(&mut self, hanging: Option<RuleId>) {
        self.walker = None;
        for walk in std::mem::take(&mut self.walks).into_values() {
            if let Walk::Place { rule: id, .. } = walk
                && let Some(rule) = self.rules.get_mut(&id)
            {
                (rule.is_walked, rule.parts) = (false, 0);
                if hanging != Some(id) {
                    self.want(id);
                }
            }
        }
    }

    /// Gives a walker up that has been silent for too long.
    pub fn on_due(&mut self, now: Instant, gate: Option<&Helper>) {
        let Some(walker) = &mut self.walker else { return };
        if gate.is_some_and(|gate| !gate.has_room()) {
            return walker.excuse();
        }
        if !walker.is_overdue(now) {
            return;
        }
        let rule = match walker.oldest().and_then(|number| self.walks.get(&number)) {
            Some(Walk::Place { rule, .. }) => Some(*rule),
            _ => None,
        };
        walker.kill();
        if let Some(id) = rule
            && let Some(spec) = self.spec(id)
        {
            let why = silence(spec);
            tracing::warn!(rule = %id, "{why}");
            self.todo.remove(&id);
            self.settle(id, PathState::Waiting(why));
        }
        let walker = self.walker.take();
        self.hanging.extend(walker.map(|walker| (walker, rule)));
        self.on_walker_end(rule);
    }

    /// When [`Self::on_due`] has something to do, or a walker may be started.
    pub fn next_due(&self) -> Option<Instant> {
        let start = self.restart.due().filter(|_| self.walker.is_none() && !self.todo.is_empty());
        [start, self.walker.as_ref().and_then(Helper::deadline)].into_iter().flatten().min()
    }

    /// Ready when [`Self::receive`] has something to do.
    pub fn poll_ready(&mut self, context: &mut Context<'_>, may_receive: bool) -> Poll<()> {
        let walker = self.walker.as_mut().filter(|_| may_receive);
        let mut helpers = self.hanging.iter_mut().map(|(helper, _)| helper).chain(walker);
        if helpers.any(|helper| helper.poll_ready(context).is_ready()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

fn silence(spec: &RuleSpec) -> String {
    format!("{} does not answer", text(&spec.path))
}

fn tree(spec: &RuleSpec, below: Option<&Path>) -> Tree {
    Tree {
        path: text(&spec.path),
        below: below.map(text),
        is_recursive: spec.options.recursive,
        patterns: spec.options.filter.patterns(),
    }
}

/// A rule as the gate needs it.
fn order_of(id: RuleId, spec: &RuleSpec, path: Text, is_directory: bool, spared: &[PathBuf]) -> Rule {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let permission = &spec.options.permission;
    Rule {
        id,
        path,
        is_directory,
        events: spec.events.mask(),
        recursive: spec.options.recursive,
        patterns: spec.options.filter.patterns(),
        process_filter: spec.options.process_filter.clone(),
        decision: permission.decision(),
        deadline_ms: milliseconds(permission.deadline()),
        on_failure: permission.on_failure(),
        cache_ms: permission.cache.map(milliseconds),
        spared: spared.iter().map(|path| text(path)).collect(),
    }
}

fn is_in(path: &Text, trees: &[Text]) -> bool {
    trees.iter().any(|tree| matcher::below(path.as_bytes(), tree.as_bytes()).is_some())
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
