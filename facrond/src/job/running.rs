//! A command that runs, to its end.

use super::outcome::{Ended, Ending, Outcome};
use super::output::{Capture, Leftovers, Progress};
use super::starting::Starting;
use crate::kernel::process_group::ProcessGroup;
use crate::kernel::wait::Exit;
use crate::process::descendants::Descendants;
use facron_proto::Text;
use nix::sys::signal::Signal;
use std::cell::Cell;
use std::future::pending;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::select;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

/// How often a group whose leader has ended is asked whether others are left.
const GROUP_POLL: Duration = Duration::from_millis(20);

/// A command that was started.
#[derive(Debug)]
pub struct Running {
    pub(super) group: ProcessGroup,
    /// While it may not have reached its program.
    pub(super) starting: Option<Starting>,
    pub(super) descendants: Rc<Descendants>,
    pub(super) exit: oneshot::Receiver<Exit>,
    pub(super) capture: Option<Capture>,
    pub(super) started: Instant,
    pub(super) timeout: Option<Duration>,
    pub(super) kill_after: Duration,
    pub(super) stopper: Rc<Stopper>,
    /// Whether what it leaves behind is not to go on.
    pub(super) ends_as_a_whole: bool,
    /// When it must be over because the daemon stops.
    pub(super) end: watch::Receiver<Option<Instant>>,
    pub(super) leftovers: Rc<Leftovers>,
}

/// Why a command is stopped before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It makes room for a new run.
    ForLaterEvent,
    RuleRemoved,
}

/// Stops a command that somebody else sees to its end.
#[derive(Debug, Default)]
pub struct Stopper {
    why: Cell<Option<Stop>>,
    wake: Notify,
}

impl Stopper {
    /// Asks it to end, and makes it.
    pub fn stop(&self, why: Stop) {
        self.why.set(Some(why));
        self.wake.notify_one();
    }

    async fn stopped(&self) -> Stop {
        loop {
            self.wake.notified().await;
            if let Some(why) = self.why.get() {
                return why;
            }
        }
    }
}

impl Running {
    /// The pid, which is also that of its session and process group.
    pub fn pid(&self) -> i32 {
        self.group.pid()
    }

    pub fn stopper(&self) -> Rc<Stopper> {
        Rc::clone(&self.stopper)
    }

    /// Sees it to its end: reads its output and stops it when its time is over.
    ///
    /// Ends with the command; what descendants of it write later is still logged.
    pub async fn finish(mut self) -> Outcome {
        let mut capture = self.capture.take();
        let (exit, ending) = {
            let mut supervise = pin!(self.supervise());
            match &mut capture {
                None => supervise.await,
                Some(capture) => select! {
                    biased;
                    end = supervise.as_mut() => end,
                    () = capture.follow() => supervise.await,
                },
            }
        };
        self.outcome(exit, ending, capture)
    }

    fn outcome(mut self, exit: Exit, ending: Ending, capture: Option<Capture>) -> Outcome {
        if let Some(error) = self.starting.take().and_then(Starting::failure) {
            return error.into();
        }
        let (pid, duration) = (self.pid(), self.started.elapsed());
        let output = capture.and_then(|capture| self.rest_of(capture));
        Outcome::Ended(Ended { pid, exit, ending, duration, output })
    }

    /// The end of what was written; what others will write is still logged.
    fn rest_of(&self, mut capture: Capture) -> Option<Text> {
        let progress = capture.drain();
        let tail = capture.take_tail();
        if progress == Progress::Open {
            self.leftovers.adopt(capture);
        }
        tail
    }

    async fn supervise(&mut self) -> (Exit, Ending) {
        let deadline = self.timeout.and_then(|timeout| self.started.checked_add(timeout));
        let ending = select! {
            biased;
            exit = ended(&mut self.exit) => {
                if self.ends_as_a_whole {
                    self.signal(Signal::SIGKILL);
                }
                return (exit, Ending::ByItself);
            }
            () = reached(deadline) => Ending::TimedOut,
            why = self.stopper.stopped() => Ending::Stopped(why),
            _ = hard_end(&mut self.end) => Ending::DaemonStops,
            () = late(&mut self.starting, self.started) => return self.end_late().await,
        };
        (self.terminate().await, ending)
    }

    /// Ends a command that has not reached its program in time.
    async fn end_late(&mut self) -> (Exit, Ending) {
        if let Some(starting) = &mut self.starting {
            starting.on_late(self.group.pid());
        }
        self.group.hold();
        self.signal(Signal::SIGKILL);
        (ended(&mut self.exit).await, Ending::ByItself)
    }

    /// SIGTERM to the whole group and to what left it, and SIGKILL to what of all
    /// that is left in the end.
    async fn terminate(&mut self) -> Exit {
        self.group.hold();
        let kill_at = Instant::now().checked_add(self.kill_after);
        self.signal(Signal::SIGTERM);
        // What is stopped could not obey.
        self.signal(Signal::SIGCONT);
        let mut leader = None;
        let group_ends = async {
            leader = Some(ended(&mut self.exit).await);
            while self.group.exists() || self.descendants.any_of(self.group.pid()) {
                sleep(GROUP_POLL).await;
            }
        };
        let daemon_ends = async { reached(Some(hard_end(&mut self.end).await)).await };
        select! {
            biased;
            () = group_ends => {}
            () = reached(kill_at) => self.signal(Signal::SIGKILL),
            () = daemon_ends => self.signal(Signal::SIGKILL),
        }
        match leader {
            Some(exit) => exit,
            None => ended(&mut self.exit).await,
        }
    }

    fn signal(&self, signal: Signal) {
        self.descendants.signal_outside(self.pid(), signal);
        if let Err(errno) = self.group.signal(signal) {
            warn!(pid = self.pid(), %signal, error = errno.desc(), "cannot signal a command's process group");
        }
    }
}

async fn ended(exit: &mut oneshot::Receiver<Exit>) -> Exit {
    match exit.await {
        Ok(exit) => exit,
        // The reaper is gone, and the engine with it: nobody waits for an answer.
        Err(_) => pending().await,
    }
}

/// Waits until a command should have reached its program, and has not.
async fn late(starting: &mut Option<Starting>, since: Instant) {
    if starting.take_if(|starting| starting.has_started()).is_some() {
        pending::<()>().await;
    }
    let limit = starting.as_ref().map(Starting::limit).unwrap_or_default();
    sleep_until(since + limit).await;
    if starting.take_if(|starting| starting.has_started()).is_some()
        || starting.as_ref().is_none_or(Starting::is_over)
    {
        pending::<()>().await;
    }
}

async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

/// Waits until the daemon stops; the time at which all must be over then.
async fn hard_end(end: &mut watch::Receiver<Option<Instant>>) -> Instant {
    match end.wait_for(Option::is_some).await.map(|end| *end) {
        Ok(Some(end)) => end,
        _ => pending().await,
    }
}
