//! `remove`, `pause` and `resume`: of all the rules named, or of none.

use crate::control::{Caller, ReplyHandle, ServeLater};
use crate::engine::Engine;
use crate::engine::rule_book::{Entry, Origin, Switch};
use facron_proto::method::{Pause, Remove, Resume, Rules};
use facron_proto::rpc::{Code, Error};
use facron_proto::{RuleId, RuleRef, Text};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

impl ServeLater<Remove> for Engine {
    fn serve_later(&mut self, params: Rules<RuleRef>, _: &Caller, reply: ReplyHandle<Remove>) {
        let result = self.remove(&params);
        self.once_out_of_force(|_| reply.send(result));
    }
}

impl Engine {
    fn remove(&mut self, params: &Rules<RuleRef>) -> Result<Rules<RuleId>, Error> {
        let entries = self.find_all(&params.rules)?;
        for entry in &entries {
            if let Origin::File { file, line } = &entry.origin {
                let file = Text::from(file.as_os_str().as_bytes());
                let id = entry.id;
                let message = format!(
                    "rule {id} stands in {file}, line {line}: remove it there and reload, or `facronctl pause {id}`"
                );
                return Err(Error::new(Code::FAILED, message));
            }
        }
        for entry in &entries {
            self.supervisor.stop_rule(entry.id);
            self.take_out(entry.id);
        }
        self.rules.save();
        Ok(ids(&entries))
    }
}

impl ServeLater<Pause> for Engine {
    fn serve_later(&mut self, params: Rules<RuleRef>, _: &Caller, reply: ReplyHandle<Pause>) {
        let result = self.pause(&params);
        self.once_out_of_force(|_| reply.send(result));
    }
}

impl Engine {
    fn pause(&mut self, params: &Rules<RuleRef>) -> Result<Rules<RuleId>, Error> {
        let entries = self.find_all(&params.rules)?;
        for entry in entries.iter().filter(|entry| entry.is_on()) {
            self.take_out_of_force(entry.id);
            self.rules.turn(entry.id, Switch::Paused);
        }
        self.rules.save();
        Ok(ids(&entries))
    }
}

impl ServeLater<Resume> for Engine {
    fn serve_later(&mut self, params: Rules<RuleRef>, _: &Caller, reply: ReplyHandle<Resume>) {
        let result = self.resume(&params);
        self.once_all_in_force(|_| reply.send(result));
    }
}

impl Engine {
    fn resume(&mut self, params: &Rules<RuleRef>) -> Result<Rules<RuleId>, Error> {
        let entries = self.find_all(&params.rules)?;
        for entry in entries.iter().filter(|entry| entry.switch == Switch::Paused) {
            self.rules.turn(entry.id, Switch::On);
            self.attach(entry.id, Rc::clone(&entry.spec));
        }
        self.rules.save();
        Ok(ids(&entries))
    }
}

fn ids(entries: &[Entry]) -> Rules<RuleId> {
    Rules { rules: entries.iter().map(|entry| entry.id).collect() }
}
