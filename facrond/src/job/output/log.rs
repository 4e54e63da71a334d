//! A rule's commands in the daemon's log: every line marked with the rule, and
//! no more of them than anybody could read.

use super::lines::Line;
use facron_proto::{RuleId, Text};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

/// So many lines and bytes of one rule are logged within a [`WINDOW`].
const MAX_LINES: u32 = 200;
const MAX_BYTES: usize = 64 << 10;
const WINDOW: Duration = Duration::from_secs(1);

/// The log of one rule, shared by its commands.
#[derive(Debug)]
pub(in crate::job) struct RuleLog {
    rule: RuleId,
    name: Option<String>,
    window_end: Cell<Instant>,
    /// Logged in this window.
    lines: Cell<u32>,
    bytes: Cell<usize>,
    left_out: Cell<u64>,
}

impl RuleLog {
    /// The log of a rule and its `name=`.
    pub(in crate::job) fn new(rule: RuleId, name: Option<String>) -> Rc<Self> {
        let window_end = Cell::new(Instant::now());
        let (lines, bytes, left_out) = (Cell::new(0), Cell::new(0), Cell::new(0));
        Rc::new(Self { rule, name, window_end, lines, bytes, left_out })
    }

    /// Whether lines are only counted until the window ends.
    pub(super) fn is_full(&self) -> bool {
        self.lines.get() >= MAX_LINES || self.bytes.get() >= MAX_BYTES
    }

    /// Counts lines that were not logged.
    pub(super) fn leave_out(&self, lines: usize) {
        self.left_out.set(self.left_out.get() + lines as u64);
    }

    /// Logs a line that a command wrote, or counts it where there were too many.
    pub(super) fn line(self: &Rc<Self>, pid: i32, line: Line<'_>) {
        if self.is_full() {
            return self.leave_out(1);
        }
        let text = Text::from(line.bytes);
        let more = if line.is_cut { "…" } else { "" };
        info!(target: "output", rule = self.rule.0, name = self.name, pid, "{text}{more}");
        let now = Instant::now();
        if now >= self.window_end.get() {
            self.window_end.set(now + WINDOW);
            self.lines.set(0);
            self.bytes.set(0);
        }
        self.lines.set(self.lines.get() + 1);
        self.bytes.set(self.bytes.get() + line.bytes.len());
        if self.is_full() {
            tokio::task::spawn_local(Rc::clone(self).reopen());
        }
    }

    /// Ends a full window: says what it left out.
    async fn reopen(self: Rc<Self>) {
        sleep_until(self.window_end.get()).await;
        self.lines.set(0);
        self.bytes.set(0);
        let left_out = self.left_out.take();
        if left_out > 0 {
            warn!(target: "output", rule = self.rule.0, name = self.name, "{left_out} lines left out");
        }
    }
}
