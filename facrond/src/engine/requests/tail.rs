//! `tail`.

use crate::control::{Access, Caller, Serve};
use crate::engine::Engine;
use crate::engine::job_log::Wanted;
use facron_proto::method::{Tail, TailParams, TailReply};
use facron_proto::rpc::Error;

/// The bytes of the records that a client gets that may only read. For others the history is
/// bounded.
const READERS: usize = 1 << 20;

impl Serve<Tail> for Engine {
    fn serve(&mut self, params: TailParams, caller: &Caller) -> Result<TailReply, Error> {
        let rule = params.rule.map(|rule| self.find(&rule).map(|entry| entry.id)).transpose()?;
        let wanted = Wanted { rule, failed: params.failed };
        let most = if caller.access == Access::Full { usize::MAX } else { READERS };
        let (records, truncated) = self.log.last(params.limit, most, &wanted);
        let mut subscription = None;
        if params.follow {
            let follower = caller.subscribe()?;
            subscription = Some(follower.id());
            self.log.follow(follower, wanted);
        }
        Ok(TailReply { records, truncated, subscription })
    }
}
