//! The difference between the rules of the files and those that run.

use super::Engine;
use super::table::{Origin, Switch};
use crate::config::rule::RuleSpec;
use crate::config::{Diagnostic, Loaded, Located, has_errors};
use crate::job::Job;
use facron_proto::method::ReloadReply;
use facron_proto::{Outcome, OutcomeState, RuleId, Source};
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

/// What a reload has to do.
#[derive(Debug, Default)]
struct Difference {
    kept: Vec<(RuleId, Located)>,
    changed: Vec<(RuleId, Located)>,
    added: Vec<Located>,
    removed: Vec<RuleId>,
}

impl Engine {
    /// Applies the files' rules, if there is no error in them; the new ones are
    /// marked before the old ones go.
    pub(super) fn apply(&mut self, loaded: Loaded) -> Result<ReloadReply, Vec<Diagnostic>> {
        if has_errors(&loaded.diagnostics) {
            return Err(loaded.diagnostics);
        }
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
                entry.origin = origin(&located.file, located.line);
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
        let spec = Rc::new(located.spec);
        let id = self.rules.insert(Rc::clone(&spec), origin(&located.file, located.line));
        self.attach(id, spec);
    }

    fn replace(&mut self, id: RuleId, located: Located) {
        let spec = Rc::new(located.spec);
        let origin = origin(&located.file, located.line);
        self.rules.remove(id);
        self.rules.insert_as(id, Rc::clone(&spec), origin);
        self.queue.flush(id);
        self.attach(id, spec);
    }

    /// Removes a rule; what runs goes on to its end.
    pub(super) fn take_out(&mut self, id: RuleId, why: &str) {
        self.watch.detach(id);
        let Some(entry) = self.rules.remove(id) else { return };
        for job in self.queue.remove_rule(id) {
            self.skip(&job, why);
        }
        tracing::info!(rule = %entry.name().map_or_else(|| id.to_string(), str::to_owned), "rule removed");
    }

    pub(super) fn skip(&mut self, job: &Job, why: &str) {
        self.counts.jobs.skipped += 1;
        let outcome = Outcome { error: Some(why.to_owned()), ..OutcomeState::Skipped.into() };
        self.conclude(job, outcome, super::fire::Known::AsPending);
    }

    /// Equal rules are kept, in whatever order they stand. Of the rest, a rule that
    /// has the name or the path of an old one is that one, changed.
    fn difference(&self, new: Vec<Located>) -> Difference {
        let mut out = Difference::default();
        let mut old: HashMap<PathBuf, Vec<(RuleId, Rc<RuleSpec>)>> = HashMap::new();
        for entry in self.rules.iter().filter(|entry| entry.origin.source() == Source::File) {
            let same_path = old.entry(entry.spec.path.clone()).or_default();
            same_path.push((entry.id, Rc::clone(&entry.spec)));
        }
        let mut rest = Vec::new();
        for located in new {
            let same_path = old.get_mut(&located.spec.path);
            match same_path.and_then(|rules| take_first(rules, |(_, spec)| **spec == located.spec)) {
                Some((id, _)) => out.kept.push((id, located)),
                None => rest.push(located),
            }
        }
        let mut named: HashMap<String, (PathBuf, RuleId)> = HashMap::new();
        for (path, id, spec) in
            old.iter().flat_map(|(path, rules)| rules.iter().map(move |(id, spec)| (path, id, spec)))
        {
            if let Some(name) = &spec.options.name {
                named.insert(name.clone(), (path.clone(), *id));
            }
        }
        for located in rest {
            let by_name = located.spec.options.name.as_ref().and_then(|name| named.remove(name));
            let (path, wanted) =
                by_name.map_or((located.spec.path.clone(), None), |(path, id)| (path, Some(id)));
            let candidates = old.get_mut(&path);
            match candidates
                .and_then(|rules| take_first(rules, |(id, _)| wanted.is_none_or(|wanted| wanted == *id)))
            {
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
        if self.rules.get(id).is_some_and(|entry| entry.switch == Switch::On)
            && let crate::watch::PathState::Failed(why) = self.watch.attach(id, spec)
        {
            tracing::warn!(rule = %id, "cannot be watched: {why}");
        }
    }
}

fn origin(file: &std::path::Path, line: u32) -> Origin {
    Origin::File { file: file.to_owned(), line }
}

fn take_first<T>(list: &mut Vec<T>, is_it: impl Fn(&T) -> bool) -> Option<T> {
    list.iter().position(is_it).map(|index| list.remove(index))
}
