//! `add`.

use crate::config::{Diagnostic, Words, parse_words, path_warnings};
use crate::control::{Caller, ReplyHandle, ServeLater};
use crate::engine::Engine;
use crate::engine::rule_book::Origin;
use crate::watch::PathState;
use facron_proto::method::{Add, AddParams, AddReply};
use facron_proto::rpc::{Code, Error};
use facron_proto::{RuleId, RuleRef, Text};
use std::rc::Rc;

/// A rule that was asked for, and may not be in force yet.
struct Asked {
    id: RuleId,
    uid: u32,
    warnings: Vec<Diagnostic>,
}

impl ServeLater<Add> for Engine {
    /// The rule is in the kernel and on the disk when the reply is sent, or nowhere.
    fn serve_later(&mut self, params: AddParams, caller: &Caller, reply: ReplyHandle<Add>) {
        match self.begin_add(&params, caller) {
            Ok(asked) => self.once_in_force(asked.id, move |engine| engine.keep_added(asked, reply)),
            Err(error) => reply.send(Err(error)),
        }
    }
}

impl Engine {
    fn begin_add(&mut self, params: &AddParams, caller: &Caller) -> Result<Asked, Error> {
        let words = Words {
            path: params.path.as_bytes(),
            events: params.events.0.as_bytes(),
            options: params.options.as_bytes(),
            command: params.command.iter().map(Text::as_bytes).collect(),
        };
        let (spec, mut warnings) = parse_words(&words).map_err(|diagnostics| refuse(&diagnostics))?;
        warnings.extend(path_warnings(&spec));
        if let Some(name) = &spec.options.name
            && let Some(other) = self.rules.find(&RuleRef::Name(name.clone()))
        {
            let message = format!("rule {} has the name {name} already; choose another", other.id);
            return Err(Error::new(Code::RULE_REFUSED, message));
        }
        let origin = if params.persist { Origin::Persisted } else { Origin::Runtime };
        let spec = Rc::new(spec);
        let id = self.rules.insert(Rc::clone(&spec), origin);
        self.follow_processes(&spec);
        self.put_in_force(id, spec);
        Ok(Asked { id, uid: caller.uid, warnings })
    }

    fn keep_added(&mut self, asked: Asked, reply: ReplyHandle<Add>) {
        if let Some(PathState::Failed(why)) = self.path_state(asked.id) {
            let error = Error::new(Code::RULE_REFUSED, format!("this cannot be watched: {why}"));
            self.forget(asked.id);
            return reply.send(Err(error));
        }
        let changes = self.rules.to_keep(asked.id);
        self.once_kept(changes, move |engine, kept| reply.send(engine.end_add(&asked, kept)));
    }

    fn end_add(&mut self, asked: &Asked, kept: Result<(), String>) -> Result<AddReply, Error> {
        let id = asked.id;
        if let Err(why) = kept {
            self.forget(id);
            return Err(Error::new(Code::FAILED, format!("{why}; the rule was not added")));
        }
        let rule = self.find(&RuleRef::Id(id)).map(|entry| self.rule(entry))?;
        tracing::info!(rule = %id, path = %rule.path, uid = asked.uid, "rule added");
        Ok(AddReply { rule, warnings: asked.warnings.iter().map(Diagnostic::to_proto).collect() })
    }

    fn forget(&mut self, id: RuleId) {
        self.take_out_of_force(id);
        self.catch_up.forget(id, &self.store);
        self.rules.remove(id);
    }
}

fn refuse(diagnostics: &[Diagnostic]) -> Error {
    let diagnostics: Vec<_> = diagnostics.iter().map(Diagnostic::to_proto).collect();
    let message = diagnostics.first().map_or("the rule has errors", |first| &first.message).to_owned();
    Error::refused(Code::RULE_REFUSED, message, &diagnostics)
}
