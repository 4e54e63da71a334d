//! `tail`.

use crate::control::{Caller, Serve};
use crate::engine::history::Past;
use crate::engine::{Engine, Subscription};
use facron_proto::method::{Tail, TailParams, TailReply};
use facron_proto::rpc::Error;
use facron_proto::{Record, RuleId};

impl Serve<Tail> for Engine {
    fn serve(&mut self, params: TailParams, caller: &Caller) -> Result<TailReply, Error> {
        let rule = params.rule.map(|rule| self.find(&rule).map(|entry| entry.id)).transpose()?;
        let records = self.last(params.limit, rule, params.failed);
        let subscription = if params.follow {
            let follower = caller.subscribe()?;
            let id = follower.id();
            self.followers.push(Subscription { follower, rule, failed: params.failed });
            Some(id)
        } else {
            None
        };
        Ok(TailReply { records, subscription })
    }
}

impl Engine {
    /// The last records, the oldest first.
    fn last(&self, limit: u64, rule: Option<RuleId>, failed: bool) -> Vec<Record> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let is_wanted = |past: &&Past| {
            rule.is_none_or(|rule| rule == past.rule()) && (!failed || past.outcome().is_failure())
        };
        let wanted = self.history.newest_first().filter(is_wanted).take(limit);
        let mut records: Vec<_> = wanted.map(Past::record).collect();
        records.reverse();
        records
    }
}
