//! `remove`, `pause` and `resume`: of all the rules named, or of none.

use crate::config::rule::RuleSpec;
use crate::control::{Caller, ReplyHandle, ServeLater};
use crate::engine::Engine;
use crate::engine::rule_book::{Entry, Origin, Switch};
use crate::store::Change;
use facron_proto::method::{Pause, Remove, Resume, Rules};
use facron_proto::rpc::{Code, Error};
use facron_proto::{RuleId, RuleRef, Text};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

impl ServeLater<Remove> for Engine {
    fn serve_later(&mut self, params: Rules<RuleRef>, _: &Caller, reply: ReplyHandle<Remove>) {
        let entries = match self.find_removable(&params.rules) {
            Ok(entries) => entries,
            Err(error) => return reply.send(Err(error)),
        };
        let changes = entries.iter().map(|entry| Change::RemoveRule { id: entry.id.0 }).collect();
        self.once_kept(changes, move |engine, kept| {
            for entry in entries.iter().filter(|_| kept.is_ok()) {
                engine.remove(entry.id);
            }
            engine.once_out_of_force(move |_| reply.send(done(&entries, kept)));
        });
    }
}

impl Engine {
    fn find_removable(&self, rules: &[RuleRef]) -> Result<Vec<Entry>, Error> {
        let entries = self.find_all(rules)?;
        let of_file = entries.iter().find_map(|entry| match &entry.origin {
            Origin::File { file, line } => Some((entry.id, file, line)),
            Origin::Runtime | Origin::Persisted => None,
        });
        let Some((id, file, line)) = of_file else { return Ok(entries) };
        let file = Text::from(file.as_os_str().as_bytes());
        let message = format!(
            "rule {id} stands in {file}, line {line}: remove it there and reload, or `facronctl pause {id}`"
        );
        Err(Error::new(Code::FAILED, message))
    }

    fn remove(&mut self, id: RuleId) {
        self.supervisor.stop_rule(id);
        self.take_out(id);
    }

    /// What has to be kept where rules are paused or resumed.
    fn switched(entries: &[Entry], paused: bool) -> Vec<Change> {
        let kept = entries.iter().filter(|entry| entry.is_kept());
        kept.map(|entry| Change::PauseRule { id: entry.id.0, paused }).collect()
    }

    /// Switches a rule that is still as it was.
    fn switch(&mut self, id: RuleId, from: Switch, to: Switch) -> Option<Rc<RuleSpec>> {
        let spec = self.rules.get(id).filter(|entry| entry.switch == from)?.spec.clone();
        self.rules.turn(id, to);
        Some(spec)
    }
}

impl ServeLater<Pause> for Engine {
    fn serve_later(&mut self, params: Rules<RuleRef>, _: &Caller, reply: ReplyHandle<Pause>) {
        let entries = match self.find_all(&params.rules) {
            Ok(entries) => entries,
            Err(error) => return reply.send(Err(error)),
        };
        self.once_kept(Self::switched(&entries, true), move |engine, kept| {
            for id in entries.iter().map(|entry| entry.id).filter(|_| kept.is_ok()) {
                if engine.switch(id, Switch::On, Switch::Paused).is_some() {
                    engine.take_out_of_force(id);
                }
            }
            engine.once_out_of_force(move |_| reply.send(done(&entries, kept)));
        });
    }
}

impl ServeLater<Resume> for Engine {
    fn serve_later(&mut self, params: Rules<RuleRef>, _: &Caller, reply: ReplyHandle<Resume>) {
        let entries = match self.find_all(&params.rules) {
            Ok(entries) => entries,
            Err(error) => return reply.send(Err(error)),
        };
        self.once_kept(Self::switched(&entries, false), move |engine, kept| {
            for id in entries.iter().map(|entry| entry.id).filter(|_| kept.is_ok()) {
                if let Some(spec) = engine.switch(id, Switch::Paused, Switch::On) {
                    engine.catch_up.skip(&spec, &engine.store);
                    engine.attach(id, spec);
                }
            }
            engine.once_all_in_force(move |_| reply.send(done(&entries, kept)));
        });
    }
}

fn done(entries: &[Entry], kept: Result<(), String>) -> Result<Rules<RuleId>, Error> {
    kept.map(|()| ids(entries)).map_err(|why| Error::new(Code::FAILED, format!("{why}; nothing was changed")))
}

fn ids(entries: &[Entry]) -> Rules<RuleId> {
    Rules { rules: entries.iter().map(|entry| entry.id).collect() }
}
