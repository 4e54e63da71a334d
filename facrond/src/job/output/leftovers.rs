//! Output of what a command left running behind it.

use super::Capture;
use std::cell::Cell;
use std::rc::Rc;
use tracing::warn;

/// Each takes a descriptor for as long as somebody holds the other end.
const MAX_LEFTOVERS: usize = 256;

/// Counts the pipes that outlived their commands.
#[derive(Debug, Default)]
pub(in crate::job) struct Leftovers(Cell<usize>);

impl Leftovers {
    /// Goes on to log what is written until nobody can write any more.
    pub(in crate::job) fn adopt(self: &Rc<Self>, mut capture: Capture) {
        let count = self.0.get();
        if count >= MAX_LEFTOVERS {
            warn!(
                pid = capture.pid(),
                "closed the output of what a command left running: {MAX_LEFTOVERS} such are open; \
                 use output=null or output=FILE for commands that go into the background"
            );
            return;
        }
        self.0.set(count + 1);
        let all = Rc::clone(self);
        tokio::task::spawn_local(async move {
            capture.follow().await;
            all.0.set(all.0.get() - 1);
        });
    }
}
