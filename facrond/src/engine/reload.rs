//! The difference between the rules of the files and those that run.

use super::Engine;
use super::table::{Entry, Origin};
use crate::config::rule::RuleSpec;
use crate::config::{Diagnostic, Loaded, Located, has_errors};
use crate::job::Job;
use crate::job::running::Stop;
use crate::watch::PathState;
use facron_proto::method::ReloadReply;
use facron_proto::{Outcome, OutcomeState, RuleId, Source};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::rc::Rc;

/// What a reload has to do.
#[derive(Debug, Default)]
struct Difference {
    kept: Vec<(RuleId, Located)>,
    changed: Vec<(RuleId, Located)>,
    added: Vec<Located>,
    removed: Vec<RuleId>,
}

/// What makes two different rules the same one, changed.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Identity<'a> {
    Name(&'a str),
    /// A path is written in one way only.
    Path(&'a OsStr),
}

impl<'a> Identity<'a> {
    fn of(spec: &'a RuleSpec) -> Self {
        match &spec.options.name {
            Some(name) => Self::Name(name),
            None => Self::Path(spec.path.as_os_str()),
        }
    }
}

impl Engine {
    /// Applies the files' rules, if there is no error in them; the new ones are
    /// marked before the old ones go.
    pub(super) fn apply(&mut self, loaded: Loaded) -> Result<ReloadReply, Vec<Diagnostic>> {
        if has_errors(&loaded.diagnostics) {
            return Err(loaded.diagnostics);
        }
        self.permissions.protect(&loaded.files);
        let difference = self.difference(loaded.rules);
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let reply = ReloadReply {
            added: count(difference.added.len()),
            removed: count(difference.removed.len()),
            changed: count(difference.changed.len()),
            kept: count(difference.kept.len()),
        };
        for (id, located) in difference.kept {
            if let Some(entry) = self.rules.get_mut(id) {
                entry.origin = Origin::File { file: located.file, line: located.line };
            }
        }
        for located in difference.added {
            self.insert(located);
        }
        for (id, located) in difference.changed {
            self.replace(id, located);
        }
        for id in difference.removed {
            self.take_out(id, "its rule was removed");
        }
        self.save_ids();
        Ok(reply)
    }

    /// Takes a rule of a file in.
    pub(super) fn insert(&mut self, located: Located) {
        let Located { spec, file, line } = located;
        let id = self.rules.insert(Rc::clone(&spec), Origin::File { file, line });
        self.attach(id, spec);
    }

    fn replace(&mut self, id: RuleId, located: Located) {
        let Located { spec, file, line } = located;
        self.rules.remove(id);
        self.rules.insert_as(id, Rc::clone(&spec), Origin::File { file, line });
        self.queue.flush(id);
        self.attach(id, spec);
    }

    /// Removes a rule; what runs goes on to its end.
    pub(super) fn take_out(&mut self, id: RuleId, why: &str) {
        self.take_out_of_force(id);
        let Some(entry) = self.rules.remove(id) else { return };
        self.release_echoes(Some(id));
        for job in self.queue.remove_rule(id) {
            self.skip(&job, why);
        }
        self.unguard(id);
        let rule = entry.name().map_or_else(|| id.to_string(), str::to_owned);
        match self.stoppers.values().filter(|(of, _)| *of == id).count() {
            0 => tracing::info!(%rule, "rule removed"),
            running => {
                tracing::info!(%rule, running, "rule removed; its commands that run go on to their end");
            }
        }
    }

    /// Removes a rule, and ends what runs of it.
    pub(super) fn take_out_and_stop(&mut self, id: RuleId, why: &str) {
        self.look_after_all();
        for (_, stopper) in self.stoppers.values().filter(|(of, _)| *of == id) {
            stopper.stop(Stop::RuleRemoved);
        }
        self.stoppers.retain(|_, (of, _)| *of != id);
        self.take_out(id, why);
    }

    pub(super) fn skip(&mut self, job: &Job, why: &str) {
        self.counts.jobs.skipped += 1;
        let outcome = Outcome { error: Some(why.to_owned()), ..OutcomeState::Skipped.into() };
        self.conclude(job, outcome, super::fire::Known::AsPending);
    }

    /// Equal rules are kept, in whatever order they stand. Of the rest, a rule with
    /// the name of an old one is that one, changed; of rules without a name, one with
    /// the same path.
    fn difference(&self, new: Vec<Located>) -> Difference {
        let mut out = Difference::default();
        let specs: Vec<_> = new.iter().map(|located| Rc::clone(&located.spec)).collect();
        let mut old: HashMap<Identity<'_>, Vec<(RuleId, &RuleSpec)>> = HashMap::new();
        for entry in self.rules.iter().filter(|entry| entry.origin.source() == Source::File) {
            let same = old.entry(Identity::of(&entry.spec)).or_default();
            same.push((entry.id, &entry.spec));
        }
        let mut rest = Vec::new();
        for (located, spec) in new.into_iter().zip(&specs) {
            let same = old.get_mut(&Identity::of(spec));
            match same.and_then(|rules| take_first(rules, |(_, old)| *old == &**spec)) {
                Some((id, _)) => out.kept.push((id, located)),
                None => rest.push((located, spec)),
            }
        }
        for (located, spec) in rest {
            let same = old.get_mut(&Identity::of(spec));
            match same.and_then(|rules| take_first(rules, |_| true)) {
                Some((id, _)) => out.changed.push((id, located)),
                None => out.added.push(located),
            }
        }
        out.removed = old.into_values().flatten().map(|(id, _)| id).collect();
        out.removed.sort_unstable();
        out
    }

    /// Watches a rule that is switched on.
    pub(super) fn attach(&mut self, id: RuleId, spec: Rc<RuleSpec>) {
        if !self.rules.get(id).is_some_and(Entry::is_on) {
            return;
        }
        self.follow_culprits(&spec);
        if let PathState::Failed(why) = self.put_in_force(id, spec) {
            tracing::warn!(rule = %id, "cannot be watched: {why}");
        }
    }

    /// A rule with `uid=` or `exe=` needs to know of all processes.
    pub(super) fn follow_culprits(&mut self, spec: &RuleSpec) {
        if spec.options.culprit.matters() {
            self.culprits.follow(&spec.options.culprit, &self.sources);
        }
    }
}

fn take_first<T>(list: &mut Vec<T>, is_it: impl Fn(&T) -> bool) -> Option<T> {
    list.iter().position(is_it).map(|index| list.remove(index))
}
