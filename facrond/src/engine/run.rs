//! The loop: what wakes the engine, and the way of an event from there to its end.

use super::fates::Fates;
use super::permissions::Decided;
use super::waiters::Waiter;
use super::wakeups::{Alarm, RELOAD, STOP, signals};
use super::{Engine, Error};
use crate::config::process_filter::Judgement;
use crate::control::Calls;
use crate::fate::is_temporary;
use crate::job::Job;
use crate::kernel::readiness;
use crate::kernel::signals::Signals;
use crate::process::Processes;
use crate::process::attribution::Facts;
use crate::watch::{self, Hit, PathState, Progress, Whose};
use crate::{log, service_manager};
use facron_proto::{RuleId, Text};
use nix::sys::signal::Signal;
use sd_notify::NotifyState;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::task::yield_now;

/// What running commands get between the order to stop and the end of the daemon.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// How long the kernel's queue is read when children have ended, before they are reaped.
const BEFORE_REAPING: Duration = Duration::from_millis(10);
const BEFORE_REAPING_UNTRACKED: Duration = Duration::from_secs(1);

/// How long the end of commands is waited for that were killed.
const AFTER_SIGKILL: Duration = Duration::from_secs(2);

/// How long events are read at the end.
const LONGEST_DRAIN: Duration = Duration::from_secs(2);

/// What the processes of commands cause is their own. What movers cause is not: rules are told of
/// it, also by looks, but for echoes.
struct Commands<'e> {
    processes: &'e mut Processes,
    fates: &'e Fates,
}

impl Whose for Commands<'_> {
    fn is_own(&mut self, pid: i32) -> bool {
        self.fates.rule_of(pid).is_none() && self.processes.is_own(pid)
    }

    fn on_read(&mut self) {
        self.processes.on_read();
    }

    fn on_drained(&mut self) {
        self.processes.on_drained();
    }
}

impl Engine {
    /// Runs until SIGTERM or SIGINT. To be called within a `LocalSet`.
    /// `announce` is called once, when all rules are in force as far as they can be.
    pub async fn run(
        mut self,
        mut calls: Calls<Self>,
        announce: impl FnOnce(&mut Self) + 'static,
    ) -> Result<(), Error> {
        let io = |what| move |source| Error::Io { what, source };
        let signals = signals().map_err(io("catch signals"))?;
        let mounts = self.watch.mounts_fd().try_clone_to_owned().map_err(io("watch mounts"))?;
        let mounts = readiness(mounts, Interest::PRIORITY).map_err(io("watch mounts"))?;
        let sources = self.sources.as_fd().try_clone_to_owned().map_err(io("watch the sources"))?;
        let sources = readiness(sources, Interest::READABLE).map_err(io("watch the sources"))?;
        let mut alarm = Alarm::new();
        self.start_jobs();
        self.advance();
        self.once_all_in_force(announce);
        loop {
            self.advance();
            // Who asks does not wait for luck among all that is ready.
            if let Ok(call) = calls.try_recv() {
                call(&mut self);
                self.start_jobs();
            }
            let deadline = self.next_deadline();
            tokio::select! {
                ready = sources.readable() => {
                    let mut ready = ready.map_err(io("watch the sources"))?;
                    match self.drain()? {
                        watch::Queue::Drained => ready.clear_ready(),
                        watch::Queue::More => yield_now().await,
                    }
                }
                () = std::future::ready(()), if self.watch.has_work(&|rule| self.queue.room(rule)) => {
                    self.watch.work(&|rule| self.queue.room(rule));
                    yield_now().await;
                }
                changed = mounts.ready(Interest::PRIORITY) => {
                    changed.map_err(io("watch mounts"))?.clear_ready();
                    self.watch.on_mounts().map_err(io("read the table of mounts"))?;
                    self.drain()?;
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
                () = self.permissions.wake() => {
                    self.on_permissions();
                    self.start_jobs();
                }
                // What waits for that goes on in the next turn.
                () = self.store.wake() => {}
                () = self.log.wake() => {}
                () = self.fates.wake() => {}
                finished = self.supervisor.next() => {
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

    /// Reads what the gate and the walker have said.
    fn on_permissions(&mut self) {
        for decided in self.permissions.read(&mut self.log, self.queue.limits()) {
            self.on_decided(decided);
        }
    }

    /// Starts what is due for permission rules, and goes on with what waited for them.
    fn advance(&mut self) {
        self.watch.rest();
        self.store.use_up(self.log.next_seq());
        self.permissions.advance(&mut self.runner, &mut self.log, self.queue.limits());
        let now = Instant::now();
        while Waiter::run_next(self, now) {}
        self.log.advance(&self.store);
        self.forget_handled();
        self.launch_checked();
        self.advance_fates();
        // A rule that was to be added is gone by now: the client was told why.
        for id in self.permissions.rules_mut().take_failed() {
            if let Some(PathState::Failed(why)) = self.permissions.rules().state(id) {
                tracing::warn!(rule = %id, "cannot be watched: {why}");
            }
        }
    }

    /// What was read need not outlive this process when the store has all that came of it.
    fn forget_handled(&mut self) {
        // Before it is asked what is written: else nobody might be woken.
        let is_awaited = self.log.has_cursors() || self.watch.has_unhandled() || self.fates.awaits_store();
        self.store.set_awaited(is_awaited);
        // Echoes that wait are in no store.
        if self.loop_guard.next_due().is_none() {
            let Self { watch, store, .. } = self;
            watch.on_handled(store.last_change(), &|change| store.is_written(change));
        }
    }

    /// A process was answered: the part of one rule in that is recorded.
    fn on_decided(&mut self, decided: Decided) {
        let Decided { mut job, outcome, is_open, is_failure, is_own, times } = decided;
        let (rule, is_last) = (job.rule, job.spec.options.once);
        self.rules.count_firings(rule, times, job.event.time);
        if is_failure {
            self.rules.count_failure(rule, None);
            let why = outcome.why().unwrap_or("no verdict");
            let path = facron_proto::Text::from(&*job.event.path);
            tracing::warn!(%rule, %path, "decided by on-failure: {why}");
        }
        if is_open {
            self.log.close(&job, outcome);
        } else {
            self.log.record(&mut job, outcome);
            // What a command does must not run it again.
            if job.spec.runs_afterwards() && (!is_own || job.spec.options.include_own) {
                self.admit(Job { merged: 0, ..job });
            }
        }
        if is_last {
            self.retire(rule);
        }
    }

    /// The next time at which a part has something to do.
    fn next_deadline(&self) -> Option<Instant> {
        let parts = [
            // What is due cannot be started before.
            self.shortage.until(Instant::now()).or_else(|| self.queue.next_deadline()),
            self.watch.next_due(),
            self.supervisor.next_due(),
            self.loop_guard.next_due(),
            self.permissions.next_due(),
            self.waiters.next_due(),
            self.watchdog.next_due(),
            self.catch_up.next_due(),
            self.log.next_due(),
            self.fates.next_due(),
        ];
        parts.into_iter().flatten().min()
    }

    fn on_deadline(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        self.show_life();
        self.supervisor.on_due(now);
        if self.permissions.next_due().is_some_and(|deadline| deadline <= now) {
            // Reads first what was said before: the time may have been the daemon's own.
            self.on_permissions();
            self.permissions.on_due(now, &mut self.log);
        }
        for job in self.loop_guard.take_due(now) {
            self.admit_late(job);
        }
        let is_job_due = self.queue.next_deadline().is_some_and(|deadline| deadline <= now);
        let is_unknown = self.catch_up.next_due().is_some_and(|due| due <= now);
        if is_job_due || is_unknown || self.watch.is_due(now) {
            // A waiting job may depend on events that happened before its time came.
            self.drain()?;
        }
        self.start_jobs();
        Ok(())
    }

    /// Tells the service manager that the loop turns, and that the gate has replied lately.
    fn show_life(&mut self) {
        if self.watchdog.is_due(Instant::now()) && self.permissions.is_alive(&mut self.log) {
            service_manager::notify(&[NotifyState::Watchdog]);
        }
    }

    /// Reads the kernel's queue, and starts what that leads to.
    fn drain(&mut self) -> Result<watch::Queue, Error> {
        let mut hits = std::mem::take(&mut self.hits);
        if !self.watch.has_process_filters() {
            self.processes.attribution.unfollow();
        }
        let drained = self.processes.begin();
        let movers = self.fates.ended();
        let queue = self
            .watch
            .drain(&mut Commands { processes: &mut self.processes, fates: &self.fates }, &mut hits)?;
        for hit in hits.drain(..) {
            self.on_hit(hit);
        }
        self.hits = hits;
        self.permissions.follow_changes(&self.watch, &mut self.log);
        if queue == watch::Queue::Drained {
            self.processes.end(drained);
            self.fates.forget(&movers);
        }
        self.start_jobs();
        let caught_up = self.watch.take_caught_up();
        if !caught_up.is_empty() {
            for id in caught_up {
                self.catch_up.end(id, &self.store);
            }
            self.log_caught_up();
        }
        self.catch_up.on_drained(self.watch.known_until(), Instant::now(), &self.store);
        // Events may come for longer than the service manager waits.
        self.show_life();
        Ok(queue)
    }

    /// Reads the kernel's queue to its end, leaving room for clients and followers. Where others
    /// fill it without an end, that must have one. Then the next daemon may find the rest.
    async fn drain_all(&mut self) -> Result<(), Error> {
        let until = Instant::now() + LONGEST_DRAIN;
        // What was read of the time before this process is nowhere else any more.
        while self.drain()? == watch::Queue::More && (Instant::now() < until || self.watch.has_backlog()) {
            yield_now().await;
        }
        if Instant::now() >= until {
            let mut hits = Vec::new();
            let mut whose = Commands { processes: &mut self.processes, fates: &self.fates };
            self.watch.settle_unread(&mut whose, &mut hits, LONGEST_DRAIN);
            for hit in hits {
                self.on_hit(hit);
            }
        }
        Ok(())
    }

    fn log_caught_up(&self) {
        let Progress { rules, compared, changed } = self.watch.progress();
        if rules == 0 {
            tracing::info!(compared, changed, "all rules have caught up with the time before");
        }
    }

    /// One firing: counted, and a job if there is something to run.
    fn on_hit(&mut self, mut hit: Hit) {
        if self.permissions.rules().state(hit.rule).is_some() {
            return self.permissions.on_change(hit);
        }
        let Some(entry) = self.rules.get(hit.rule).filter(|entry| entry.is_on()) else { return };
        self.catch_up.note(hit.rule, &hit.event);
        let spec = Rc::clone(&entry.spec);
        let is_of_store =
            || self.setup.files.as_ref().is_some_and(|files| files.is_of_store(&hit.event.path));
        let is_echo = match self.fates.rule_of(hit.event.pid) {
            Some(by) => self.is_echo_of_move(&hit, by),
            // A look may find what a mover has left that was killed.
            None => {
                hit.own && !spec.options.include_own || hit.event.synthetic && is_temporary(&hit.event.path)
            }
        };
        if is_echo || is_of_store() {
            self.ignored_own += 1;
            return;
        }
        let Facts { exe, uid } = self.processes.attribution.facts(hit.event.pid);
        (hit.event.exe, hit.event.uid) = (exe, uid);
        match spec.options.process_filter.judge(hit.event.uid, hit.event.exe.as_deref()) {
            Judgement::Counts => {}
            Judgement::DoesNot => return,
            Judgement::Unknown => return self.on_unknown_process(&hit),
        }
        self.rules.count_firings(hit.rule, 1, hit.event.time);
        // With `settle=` or `batch=` it fires when the job starts.
        let is_last = spec.options.once && spec.options.gather().is_none();
        let may_have_run = hit.event.synthetic && self.catch_up.may_have_run(hit.rule);
        let job = Job { repeated: hit.repeated || may_have_run, ..Job::new(hit.rule, spec, hit.event) };
        if let Some(job) = self.loop_guard.on_event(job, Instant::now()) {
            self.admit(job);
        }
        if is_last {
            self.retire(hit.rule);
        }
    }

    /// Whether a file that was moved for a rule is not to fire another one, or the same: on its
    /// way it has another name, and rules that move files in a circle would never rest.
    fn is_echo_of_move(&self, hit: &Hit, by: RuleId) -> bool {
        let event = &hit.event;
        is_temporary(&event.path) || self.rules.leads(hit.rule, by)
    }

    /// Nobody knows the process, and the rule has `uid=` or `exe=`.
    fn on_unknown_process(&mut self, hit: &Hit) {
        self.unknown_processes += 1;
        let (rule, path, unknown) = (hit.rule, Text::from(&*hit.event.path), self.unknown_processes);
        if unknown.is_power_of_two() {
            tracing::warn!(
                %rule, %path, unknown,
                "events did not count for `uid=` or `exe=`: it is not known who caused them"
            );
        }
    }

    /// Reaps children, but reads first what they caused: until then their pids are not used
    /// again. That must have an end while others cause events without one.
    async fn on_children(&mut self) -> Result<(), Error> {
        self.permissions.end_a_stopped_gate();
        // Where forks are told, it is known for longer which pids were ours.
        let most = if self.processes.are_tracked() { BEFORE_REAPING } else { BEFORE_REAPING_UNTRACKED };
        let until = Instant::now() + most;
        while self.drain()? == watch::Queue::More && Instant::now() < until {
            yield_now().await;
        }
        self.supervisor.on_reaped(&self.runner.reap());
        while let Some(finished) = self.supervisor.try_next() {
            self.on_finished(finished);
        }
        self.start_jobs();
        Ok(())
    }

    fn reload_by_signal(&mut self) {
        service_manager::notify_reloading();
        match self.reload() {
            Ok(reply) => tracing::info!(
                added = reply.added,
                removed = reply.removed,
                changed = reply.changed,
                kept = reply.kept,
                "configuration reloaded"
            ),
            Err(diagnostics) => {
                log::diagnostics(&diagnostics);
                tracing::error!("the configuration has errors: nothing was changed");
            }
        }
        service_manager::notify(&[NotifyState::Ready]);
        self.start_jobs();
    }

    /// Starts no more jobs, waits for running commands, and saves the jobs that wait.
    async fn stop(&mut self, signals: &Signals) -> Result<(), Error> {
        let io = |what| move |source| Error::Io { what, source };
        self.is_stopping = true;
        service_manager::notify(&[NotifyState::Stopping]);
        // The gate answers the processes that wait; nobody waits for the commands.
        self.permissions.close(&mut self.log);
        let checking = std::mem::take(&mut self.checking).into_iter().map(|(job, _)| job);
        for job in checking.chain(self.fates.take_unstarted(|_| true)) {
            self.queue.retry(job, Instant::now());
        }
        self.supervisor.supervise_all();
        self.runner.stop(STOP_GRACE);
        // Not even SIGKILL ends a process that waits for a server.
        let last = tokio::time::Instant::now() + STOP_GRACE + AFTER_SIGKILL;
        while self.queue.running() > 0 || self.permissions.running() > 0 {
            self.store.set_awaited(self.fates.awaits_store());
            self.advance_fates();
            tokio::select! {
                () = tokio::time::sleep_until(last) => break,
                come = signals.come() => {
                    if come.map_err(io("read signals"))?.contains(Signal::SIGCHLD) {
                        self.on_children().await?;
                    }
                }
                () = self.permissions.wake() => self.on_permissions(),
                () = self.store.wake() => {}
                () = self.fates.wake() => {}
                finished = self.supervisor.next() => self.on_finished(finished),
            }
        }
        // The next daemon would not learn of events that happened until now.
        self.drain_all().await?;
        // Files may have changed again before their time changes.
        tokio::time::sleep(self.catch_up.doubt()).await;
        self.drain_all().await?;
        self.release_echoes(None);
        let pending = self.queue.drain().len();
        match self.store.is_kept() {
            _ if pending == 0 => {}
            true => tracing::info!(pending, "kept for the next start"),
            false => tracing::warn!(pending, "stopping: these events did not get their command"),
        }
        self.log.give(&self.store);
        for id in self.catch_up.rules() {
            self.catch_up.note_directories(id, &self.watch.directories_of(id), &self.store);
        }
        let pending = self.watch.pending_places();
        self.catch_up.close(self.watch.known_until(), pending.as_deref(), &self.store);
        self.store.close(self.log.next_seq()).await;
        if self.store.is_written(self.store.last_change()) {
            self.watch.forget_reads();
        }
        Ok(())
    }
}
