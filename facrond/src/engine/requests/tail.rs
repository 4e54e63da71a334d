//! `tail`.

use crate::control::{Caller, Follower, Serve};
use crate::engine::Engine;
use crate::engine::job_log::{Page, Wanted};
use facron_proto::method::{Tail, TailParams, TailReply};
use facron_proto::rpc::Error;

impl Serve<Tail> for Engine {
    fn serve(&mut self, params: TailParams, caller: &Caller) -> Result<TailReply, Error> {
        let rule = params.rule.as_ref().map(|rule| self.find(rule).map(|entry| entry.id)).transpose()?;
        let wanted = Wanted::new(&params, rule)?;
        let follower = params.follow.then(|| caller.subscribe()).transpose()?;
        let subscription = follower.as_ref().map(Follower::id);
        let mut page = Page::new(params.limit, caller.limits().records);
        let mut reply = TailReply { subscription, ..TailReply::default() };
        if let Some(after) = params.after {
            let next = self.log.after(after);
            (reply.too_old, reply.oldest) = (next.is_err(), next.err());
            let next = self.log.first(next.unwrap_or_else(|oldest| oldest), &wanted, &mut page);
            if let Some(follower) = follower {
                self.log.follow_in_order(follower, wanted, next);
            }
        } else {
            self.log.last(&wanted, &mut page);
            reply.truncated = page.is_truncated;
            if let Some(follower) = follower {
                self.log.follow(follower, wanted);
            }
        }
        reply.records = page.records;
        Ok(reply)
    }
}
