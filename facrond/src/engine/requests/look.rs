//! `version`, `list`, `show`, `status`: nothing changes.

use crate::control::{Caller, ReplyHandle, Serve, ServeLater};
use crate::engine::Engine;
use crate::engine::rule_book::{Entry, Origin, Switch};
use crate::kernel::fanotify::Privilege;
use crate::watch::{PathState, Progress};
use crate::wire::timestamp;
use facron_proto::method::{Empty, GetStatus, List, Show, ShowParams, Version, VersionReply};
use facron_proto::rpc::Error;
use facron_proto::{CatchUp, OwnEvents, PROTOCOL, Queue, Rule, State, Status, Text};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

/// How long a rule may wait for its own commands before that is a problem.
const STUCK: Duration = Duration::from_secs(10);

/// How many file systems the health names. Users can mount as many as they like.
const SHOWN: usize = 8;

impl Serve<Version> for Engine {
    fn serve(&mut self, _: Empty, _: &Caller) -> Result<VersionReply, Error> {
        Ok(VersionReply { facrond: env!("CARGO_PKG_VERSION").to_owned(), protocol: PROTOCOL })
    }
}

impl Serve<List> for Engine {
    fn serve(&mut self, _: Empty, _: &Caller) -> Result<Vec<Rule>, Error> {
        Ok(self.rules.iter().map(|entry| self.rule(entry)).collect())
    }
}

impl Serve<Show> for Engine {
    fn serve(&mut self, params: ShowParams, _: &Caller) -> Result<Rule, Error> {
        self.find(&params.rule).map(|entry| self.rule(entry))
    }
}

impl ServeLater<GetStatus> for Engine {
    fn serve_later(&mut self, _: Empty, _: &Caller, reply: ReplyHandle<GetStatus>) {
        self.once_counted(|engine| reply.send(Ok(engine.status())));
    }
}

impl Engine {
    pub(super) fn rule(&self, entry: &Entry) -> Rule {
        let (state, reason) = self.state_of(entry);
        let spec = &entry.spec;
        let (file, line) = match &entry.origin {
            Origin::File { file, line } => (Some(Text::from(file.as_os_str().as_bytes())), Some(*line)),
            Origin::Runtime | Origin::Persisted => (None, None),
        };
        Rule {
            id: entry.id,
            name: spec.options.name.clone(),
            source: entry.origin.source(),
            file,
            line,
            state,
            reason,
            strategy: self.watch.strategy(entry.id).map(str::to_owned),
            path: Text::from(spec.path.as_os_str().as_bytes()),
            events: spec.events.names().map(str::to_owned).collect(),
            options: Text(spec.options_text.clone()),
            command: spec.command.words().into_iter().map(Text).collect(),
            added: timestamp(entry.added),
            fired: entry.fired,
            failed: entry.failed,
            last_failure: entry.last_failure.as_deref().cloned(),
            last: entry.last.map(timestamp),
        }
    }

    fn state_of(&self, entry: &Entry) -> (State, Option<String>) {
        if let Some(why) = &entry.refused {
            return (State::Failed, Some(why.clone()));
        }
        match (entry.switch, self.path_state(entry.id)) {
            (Switch::Paused, _) => (State::Paused, None),
            (Switch::Done, _) => (State::Done, Some("it was to fire once, and has".to_owned())),
            (Switch::On, Some(PathState::Active)) => (State::Active, self.loop_guard.remark(entry.id)),
            (Switch::On, Some(PathState::Waiting(why) | PathState::Unresponsive(why))) => {
                (State::Waiting, Some(why.clone()))
            }
            (Switch::On, Some(PathState::Failed(why))) => (State::Failed, Some(why.clone())),
            (Switch::On, None) => (State::Failed, Some("it is not watched".to_owned())),
        }
    }

    fn catch_up_status(&self) -> Option<CatchUp> {
        let Progress { rules, compared, changed } = self.watch.progress();
        let rules = u64::try_from(rules).unwrap_or(u64::MAX);
        (rules + compared > 0).then_some(CatchUp { rules, compared, changed })
    }

    pub(super) fn status(&self) -> Status {
        let watched = self.watch.counters();
        let mut rules = BTreeMap::new();
        for entry in self.rules.iter() {
            let name = self.state_of(entry).0.name();
            *rules.entry(name.to_owned()).or_default() += 1;
        }
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            health: self.health(&rules),
            rules,
            marks: BTreeMap::from([
                ("inode".to_owned(), self.watch.marks()),
                ("filesystem".to_owned(), count(self.watch.fs_marks())),
            ]),
            queue: Queue {
                pending: count(self.queue.pending()),
                running: count(self.queue.running()),
                limit: count(self.queue.limits().pending),
            },
            events: facron_proto::Events {
                read: watched.read,
                matched: self.rules.matched(),
                ignored_own: self.ignored_own,
                overflows: watched.overflows,
            },
            own_events: self.own_events(),
            jobs: self.log.counts().clone(),
            gate: self.permissions.status(),
            catch_up: self.catch_up_status(),
        }
    }

    fn own_events(&self) -> OwnEvents {
        match self.watch.privilege() {
            Privilege::User => OwnEvents::Behaviour,
            Privilege::Full if self.processes.are_tracked() => OwnEvents::Perf,
            Privilege::Full => OwnEvents::Parents,
        }
    }

    /// A rule whose commands take all that it may run, and do not end.
    fn stuck(&self) -> Option<String> {
        let then = Instant::now().checked_sub(STUCK)?;
        let (rule, running) = self.queue.stuck_since(then).next()?;
        let (label, seconds) = (self.rules.get(rule)?.label(), STUCK.as_secs());
        Some(format!(
            "rule {label}: {running} commands run, its share of --max-jobs, and none has ended for {seconds} s"
        ))
    }

    /// One line: `ok`, or the worst that is wrong.
    fn health(&self, rules: &BTreeMap<String, u64>) -> String {
        let failed = rules.get("failed").copied().unwrap_or_default();
        let overflows = self.watch.counters().overflows;
        let dropped = self.log.counts().dropped;
        let unresponsive = self.watch.unresponsive_mounts();
        if dropped > 0 {
            let most = self.rules.iter().max_by_key(|entry| entry.dropped);
            let rule = most
                .filter(|entry| entry.dropped > 0)
                .map(|entry| format!(", most of rule {}", entry.label()));
            format!(
                "{dropped} events were dropped, because too many were waiting{}",
                rule.unwrap_or_default()
            )
        } else if overflows > 0 {
            format!("the kernel's event queue overflowed {overflows} times; events were lost")
        } else if !unresponsive.is_empty() {
            let (count, some) = (unresponsive.len(), &unresponsive[..unresponsive.len().min(SHOWN)]);
            let more = if count > SHOWN { ", …" } else { "" };
            format!("file systems that do not answer, {count}: {}{more}", some.join(", "))
        } else if let Some(problem) = self.store.problem() {
            problem
        } else if let Some(why) = self.shortage.why() {
            format!("commands wait, and are tried again: {why}")
        } else if let Some(stuck) = self.stuck() {
            stuck
        } else if failed > 0 {
            format!("{failed} rules cannot be watched; `facronctl list` shows them")
        } else if !self.start_problems.is_empty() {
            self.start_problems.join("; ")
        } else if self.watch.privilege() == Privilege::User {
            "ok, as an ordinary user: no pids, limited marks and queue".to_owned()
        } else {
            "ok".to_owned()
        }
    }
}
