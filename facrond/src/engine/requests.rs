//! What answers the methods of the protocol: one file a group of methods.

mod add;
mod explain;
mod look;
mod reload;
mod switch;
mod tail;

use super::Engine;
use super::rule_book::Entry;
use facron_proto::RuleRef;
use facron_proto::rpc::{Code, Error};

impl Engine {
    /// The rule that a client means.
    fn find(&self, rule: &RuleRef) -> Result<&Entry, Error> {
        self.rules.find(rule).ok_or_else(|| {
            Error::new(
                Code::NO_SUCH_RULE,
                format!("there is no rule {rule}; `facronctl list` shows those there are"),
            )
        })
    }

    /// The rules that a client means; all of them or none.
    fn find_all(&self, rules: &[RuleRef]) -> Result<Vec<Entry>, Error> {
        rules.iter().map(|rule| self.find(rule).cloned()).collect()
    }
}
