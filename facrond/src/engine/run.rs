//! The loop: what wakes the engine, and what it does then.

use super::echo::Echoes;
use super::fire::Finished;
use super::fresh::Started;
use super::ownership::OwnProcesses;
use super::tell::{log_diagnostics, monotonic_now, sd_notify_quietly};
use super::wakeups::{Alarm, RELOAD, STOP, signals};
use super::{Engine, Error};
use crate::config::{self, Diagnostic};
use crate::control::Calls;
use crate::kernel::readiness;
use crate::kernel::signals::Signals;
use crate::watch;
use facron_proto::method::ReloadReply;
use nix::sys::signal::Signal;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::task::yield_now;

/// What running commands get between the order to stop and the end of the daemon.
const STOP_GRACE: Duration = Duration::from_secs(10);

impl Engine {
    /// Runs until SIGTERM or SIGINT. To be called within a `LocalSet`.
    pub async fn run(mut self, mut calls: Calls<Self>) -> Result<(), Error> {
        let io = |what| move |source| Error::Io { what, source };
        let signals = signals().map_err(io("catch signals"))?;
        let mounts = self.watch.mounts_fd().try_clone_to_owned().map_err(io("watch mounts"))?;
        let mounts = readiness(mounts, Interest::PRIORITY).map_err(io("watch mounts"))?;
        let sources = self.sources.as_fd().try_clone_to_owned().map_err(io("watch the sources"))?;
        let sources = readiness(sources, Interest::READABLE).map_err(io("watch the sources"))?;
        let mut alarm = Alarm::new();
        self.start_jobs();
        loop {
            let deadline = self.next_deadline();
            tokio::select! {
                ready = sources.readable() => {
                    let mut ready = ready.map_err(io("watch the sources"))?;
                    match self.drain()? {
                        watch::Queue::Drained => ready.clear_ready(),
                        watch::Queue::More => yield_now().await,
                    }
                }
                () = std::future::ready(()), if self.watch.has_work() => {
                    self.watch.work();
                    yield_now().await;
                }
                changed = mounts.ready(Interest::PRIORITY) => {
                    changed.map_err(io("watch mounts"))?.clear_ready();
                    self.watch.on_mounts().map_err(io("read the table of mounts"))?;
                    self.drain_all().await?;
                }
                come = signals.come() => {
                    let come = come.map_err(io("read signals"))?;
                    if come.contains(Signal::SIGCHLD) {
                        self.on_children().await?;
                    }
                    if RELOAD.iter().any(|signal| come.contains(*signal)) {
                        self.reload_by_signal();
                    }
                    if STOP.iter().any(|signal| come.contains(*signal)) {
                        break;
                    }
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
                () = alarm.reached(deadline) => self.on_deadline()?,
            }
        }
        self.stop(&signals).await
    }

    /// When there is something to do, if nothing else happens.
    fn next_deadline(&self) -> Option<Instant> {
        let echoes = self.echoes.as_ref().and_then(Echoes::next_due);
        [self.queue.next_deadline(), self.fresh.next_due(), echoes].into_iter().flatten().min()
    }

    fn on_deadline(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let is_over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        while let Some(started) = self.fresh.take_old(now) {
            self.look_after(started);
        }
        if is_over(self.echoes.as_ref().and_then(Echoes::next_due)) {
            self.on_echoes_due();
        }
        if is_over(self.queue.next_deadline()) {
            // Reads first what happened before: it may be what a job waits for.
            self.drain()?;
        }
        Ok(())
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
        for (pid, exit) in self.runner.reap() {
            if let Some(Started { job, running, .. }) = self.fresh.take(pid) {
                self.on_finished(Finished { job, outcome: running.ended(exit) });
            }
        }
        self.start_jobs();
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
        self.start_jobs();
    }

    pub(super) fn reload(&mut self) -> Result<ReloadReply, Vec<Diagnostic>> {
        self.apply(config::load(&self.setup.conf, &self.setup.conf_dir))
    }

    /// Starts nothing more, waits for what runs, and keeps the rest.
    async fn stop(&mut self, signals: &Signals) -> Result<(), Error> {
        let io = |what| move |source| Error::Io { what, source };
        self.is_stopping = true;
        sd_notify_quietly(&[sd_notify::NotifyState::Stopping]);
        // It answers those that wait; nobody waits for the commands.
        self.close_gate();
        self.look_after_all();
        self.runner.stop(STOP_GRACE);
        while self.queue.running() > 0 || self.permissions.running() > 0 {
            tokio::select! {
                come = signals.come() => {
                    if come.map_err(io("read signals"))?.contains(Signal::SIGCHLD) {
                        self.on_children().await?;
                    }
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
}
