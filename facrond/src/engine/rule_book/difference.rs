//! The difference between the rules of the files and those that run.

use super::RuleBook;
use crate::config::Located;
use crate::config::rule::RuleSpec;
use facron_proto::method::ReloadReply;
use facron_proto::{RuleId, Source};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::rc::Rc;

/// What a reload has to do.
#[derive(Debug, Default)]
pub struct Difference {
    pub kept: Vec<(RuleId, Located)>,
    pub changed: Vec<(RuleId, Located)>,
    pub added: Vec<Located>,
    pub removed: Vec<RuleId>,
}

impl Difference {
    pub fn counts(&self) -> ReloadReply {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        ReloadReply {
            added: count(self.added.len()),
            removed: count(self.removed.len()),
            changed: count(self.changed.len()),
            kept: count(self.kept.len()),
        }
    }
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

impl RuleBook {
    /// Equal rules are kept, in whatever order they stand. Of the rest, a rule with
    /// the name of an old one is that one, changed; of rules without a name, one with
    /// the same path.
    pub fn difference(&self, new: Vec<Located>) -> Difference {
        let mut out = Difference::default();
        let specs: Vec<_> = new.iter().map(|located| Rc::clone(&located.spec)).collect();
        let mut old: HashMap<Identity<'_>, Vec<(RuleId, &RuleSpec)>> = HashMap::new();
        for entry in self.iter().filter(|entry| entry.origin.source() == Source::File) {
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
}

fn take_first<T>(list: &mut Vec<T>, is_it: impl Fn(&T) -> bool) -> Option<T> {
    list.iter().position(is_it).map(|index| list.remove(index))
}
