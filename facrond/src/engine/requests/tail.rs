//! `tail`.

use crate::control::{Caller, Serve};
use crate::engine::Engine;
use crate::engine::job_log::Wanted;
use facron_proto::method::{Tail, TailParams, TailReply};
use facron_proto::rpc::Error;

impl Serve<Tail> for Engine {
    fn serve(&mut self, params: TailParams, caller: &Caller) -> Result<TailReply, Error> {
        let rule = params.rule.map(|rule| self.find(&rule).map(|entry| entry.id)).transpose()?;
        let wanted = Wanted { rule, failed: params.failed };
        let (records, truncated) = self.log.last(params.limit, caller.limits().records, &wanted);
        let mut subscription = None;
        if params.follow {
            let follower = caller.subscribe()?;
            subscription = Some(follower.id());
            self.log.follow(follower, wanted);
        }
        Ok(TailReply { records, truncated, subscription })
    }
}
