//! Records of a rule as they come, without asking again and again.

use super::{Place, Rpc};
use serde_json::{Value, json};
use std::time::Duration;

/// A connection that follows a rule.
pub struct Follower(Rpc);

impl Place {
    /// Follows a rule from now on.
    #[track_caller]
    pub fn follow(&self, rule: &str) -> Follower {
        let mut rpc = self.rpc();
        rpc.call("tail", &json!({ "limit": 0, "rule": rule, "follow": true })).unwrap();
        Follower(rpc)
    }
}

impl Follower {
    /// The next record, if it comes within this time.
    #[track_caller]
    pub fn next(&mut self, within: Duration) -> Option<Value> {
        self.0.has_more(within).then(|| {
            let mut told = self.0.receive().unwrap();
            assert_eq!(told["method"], "record", "{told}");
            told["params"]["record"].take()
        })
    }
}
