//! `add`.

use crate::config::{Diagnostic, Words, blind_spot, parse_words};
use crate::control::{Caller, Serve};
use crate::engine::Engine;
use crate::engine::rule_book::Origin;
use crate::watch::PathState;
use facron_proto::method::{Add, AddParams, AddReply};
use facron_proto::rpc::{Code, Error};
use facron_proto::{RuleId, RuleRef, Source, Text};
use std::rc::Rc;

impl Serve<Add> for Engine {
    /// The rule is in the kernel and on the disk when this returns, or nowhere.
    fn serve(&mut self, params: AddParams, caller: &Caller) -> Result<AddReply, Error> {
        let words = Words {
            path: params.path.as_bytes(),
            events: params.events.0.as_bytes(),
            options: params.options.as_bytes(),
            command: params.command.iter().map(Text::as_bytes).collect(),
        };
        let (spec, mut warnings) = parse_words(&words).map_err(|diagnostics| refuse(&diagnostics))?;
        warnings.extend(blind_spot(&spec));
        if let Some(name) = &spec.options.name
            && let Some(other) = self.rules.find(&RuleRef::Name(name.clone()))
        {
            let message = format!("rule {} has the name {name} already; choose another", other.id);
            return Err(Error::new(Code::RULE_REFUSED, message));
        }
        let origin = if params.persist { Origin::Persisted } else { Origin::Runtime };
        let source = origin.source();
        let spec = Rc::new(spec);
        let id = self.rules.insert(Rc::clone(&spec), origin);
        self.follow_processes(&spec);
        if let PathState::Failed(why) = self.put_in_force(id, spec) {
            let error = Error::new(Code::RULE_REFUSED, format!("this cannot be watched: {why}"));
            self.forget(id);
            return Err(error);
        }
        if let Err(error) = self.rules.save_layer(source) {
            self.forget(id);
            return Err(Error::new(Code::FAILED, format!("{error}; the rule was not added")));
        }
        // A number that a runtime rule has taken is used up, too.
        if source == Source::Runtime {
            self.rules.save_ids();
        }
        tracing::info!(rule = %id, path = %params.path, uid = caller.uid, "rule added");
        let rule = self.find(&RuleRef::Id(id)).map(|entry| self.rule(entry))?;
        Ok(AddReply { rule, warnings: warnings.iter().map(Diagnostic::to_proto).collect() })
    }
}

impl Engine {
    fn forget(&mut self, id: RuleId) {
        self.take_out_of_force(id);
        self.rules.remove(id);
    }
}

fn refuse(diagnostics: &[Diagnostic]) -> Error {
    let diagnostics: Vec<_> = diagnostics.iter().map(Diagnostic::to_proto).collect();
    let message = diagnostics.first().map_or("the rule has errors", |first| &first.message).to_owned();
    Error::refused(Code::RULE_REFUSED, message, &diagnostics)
}
