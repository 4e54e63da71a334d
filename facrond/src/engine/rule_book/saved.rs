//! Rules as the store has them: in words, as their authors gave them.

use super::{Entry, Origin, RuleBook, Switch};
use crate::config::rule::{Command, Options, RuleSpec};
use crate::config::{Words, parse_words};
use crate::events::Events;
use crate::store::{Change, Layer, Number, RuleRow};
use facron_proto::{RuleId, Text};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::rc::Rc;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::engine) struct SavedRule {
    path: Text,
    events: String,
    #[serde(default)]
    options: Text,
    command: Vec<Text>,
}

impl SavedRule {
    pub(in crate::engine) fn new(spec: &RuleSpec) -> Self {
        Self {
            path: Text::from(spec.path.as_os_str().as_bytes()),
            events: spec.events.to_string(),
            options: Text(spec.options_text.clone()),
            command: spec.command.words().into_iter().map(Text).collect(),
        }
    }

    pub(in crate::engine) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The rule, or what is wrong with it by now.
    pub(in crate::engine) fn spec(&self) -> Result<RuleSpec, String> {
        let words = Words {
            path: self.path.as_bytes(),
            events: self.events.as_bytes(),
            options: self.options.as_bytes(),
            command: self.command.iter().map(Text::as_bytes).collect(),
        };
        parse_words(&words).map(|(spec, _)| spec).map_err(|diagnostics| {
            diagnostics.first().map_or_else(String::new, |first| first.message.clone())
        })
    }

    /// What is shown of a rule that cannot be understood now.
    fn sketch(self) -> RuleSpec {
        let events = self.events.split('|').filter_map(Events::named).fold(Events::NONE, Events::with);
        let words: Vec<_> = self.command.iter().map(Text::as_bytes).collect();
        RuleSpec {
            path: OsString::from_vec(self.path.0).into(),
            events,
            options: Rc::new(Options::default()),
            options_text: self.options.0,
            command: Command::Shell(words.join(&b' ')),
        }
    }
}

impl RuleBook {
    /// Takes in the saved rules. One that cannot be understood now stays, with the reason: its
    /// user may be known at the next start.
    pub fn take_saved(&mut self, rules: Vec<RuleRow>, next_id: u64) -> Vec<String> {
        self.next_id = self.next_id.max(next_id);
        rules.into_iter().filter_map(|row| self.take_row(row)).collect()
    }

    /// What is wrong with it, if anything is.
    fn take_row(&mut self, RuleRow { id, layer, paused, data }: RuleRow) -> Option<String> {
        let words = serde_json::from_slice::<SavedRule>(&data).map_err(|error| error.to_string());
        let spec = words.as_ref().map_err(Clone::clone).and_then(SavedRule::spec);
        let origin = match layer {
            Layer::UntilBoot => Origin::Runtime,
            Layer::ForEver => Origin::Persisted,
        };
        let why = spec.as_ref().err().cloned();
        let spec = spec.unwrap_or_else(|_| words.unwrap_or_default().sketch());
        let entry = self.insert_as(RuleId(id), Rc::new(spec), origin);
        entry.switch = if paused { Switch::Paused } else { Switch::On };
        entry.refused.clone_from(&why);
        why.map(|why| format!("the saved rule {id} on {} is not in force: {why}", entry.spec.path.display()))
    }

    /// What has to be kept of a rule that was added at runtime.
    pub fn to_keep(&self, id: RuleId) -> Vec<Change> {
        let row = self.get(id).and_then(row_of).map(Change::Rule);
        row.into_iter().chain([self.numbers()]).collect()
    }

    /// Numbers that were given out are not given out again, whatever happens.
    pub fn numbers(&self) -> Change {
        Change::Number { name: Number::NextRule, value: self.next_id }
    }
}

fn row_of(entry: &Entry) -> Option<RuleRow> {
    let layer = match entry.origin {
        Origin::File { .. } => return None,
        Origin::Runtime => Layer::UntilBoot,
        Origin::Persisted => Layer::ForEver,
    };
    let paused = entry.switch == Switch::Paused;
    Some(RuleRow { id: entry.id.0, layer, paused, data: SavedRule::new(&entry.spec).to_bytes() })
}
