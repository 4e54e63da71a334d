//! `tail`.
//!
//! What is in memory is answered at once. For the rest the history is read in a thread of the
//! store, which sends the reply.

use crate::control::{Caller, Follower, ReplyHandle, ServeLater};
use crate::engine::Engine;
use crate::engine::job_log::{Found, Page, Wanted, backwards, forwards};
use facron_proto::method::{Tail, TailParams, TailReply};
use facron_proto::rpc::Error;

/// A request that was understood.
struct Asked {
    wanted: Wanted,
    follower: Option<Follower>,
    page: Page,
    /// What is known of the reply.
    reply: TailReply,
}

impl ServeLater<Tail> for Engine {
    fn serve_later(&mut self, params: TailParams, caller: &Caller, reply: ReplyHandle<Tail>) {
        self.log.give(&self.store);
        match (self.understand(&params, caller), params.after) {
            (Err(error), _) => reply.send(Err(error)),
            (Ok(asked), None) => self.tell_last(asked, reply),
            (Ok(asked), Some(after)) => self.tell_after(after, asked, reply),
        }
    }
}

impl Engine {
    fn understand(&self, params: &TailParams, caller: &Caller) -> Result<Asked, Error> {
        let rule = params.rule.as_ref().map(|rule| self.find(rule).map(|entry| entry.id)).transpose()?;
        let wanted = Wanted::new(params, rule)?;
        let follower = params.follow.then(|| caller.subscribe()).transpose()?;
        let subscription = follower.as_ref().map(Follower::id);
        let page = Page::new(params.limit, caller.limits().records);
        Ok(Asked { wanted, follower, page, reply: TailReply { subscription, ..TailReply::default() } })
    }

    /// The last records.
    fn tell_last(&mut self, asked: Asked, reply: ReplyHandle<Tail>) {
        let Asked { wanted, follower, mut page, reply: mut answer } = asked;
        self.log.last(&wanted, &mut page);
        if let Some(follower) = follower {
            self.log.follow(follower, wanted.clone());
        }
        let (below, kept) = (self.log.recent(), self.log.kept());
        let send = move |mut page: Page| {
            page.records.reverse();
            (answer.truncated, answer.records) = (page.is_truncated, page.records);
            reply.send(Ok(answer));
        };
        if page.is_full() || self.store.oldest().is_none_or(|oldest| oldest >= below) {
            return send(page);
        }
        let most = kept.records.saturating_sub(self.log.recent_count());
        self.store.read(move |blocks| {
            if let Some(blocks) = blocks {
                let wanted = wanted.not_before(kept.horizon());
                backwards(blocks, below, most, &wanted, |found| take(&mut page, found));
            }
            send(page);
        });
    }

    /// The records after a number, in their order.
    fn tell_after(&mut self, after: u64, asked: Asked, reply: ReplyHandle<Tail>) {
        let Asked { wanted, follower, mut page, reply: mut answer } = asked;
        let next = self.log.after(after, &self.store);
        (answer.too_old, answer.oldest) = (next.is_err(), next.err());
        let next = next.unwrap_or_else(|oldest| oldest);
        if let Some(follower) = follower {
            self.log.follow_in_order(follower, wanted, next);
            return reply.send(Ok(answer));
        }
        let (end, recent) = (self.log.end(wanted.rule), self.log.recent());
        let is_at_hand = self.store.oldest().is_none() || next >= recent && self.log.is_given(end);
        let mut in_memory = page.like();
        self.log.first(next, end, &wanted, &mut in_memory);
        if is_at_hand {
            answer.records = in_memory.records;
            return reply.send(Ok(answer));
        }
        self.store.read(move |blocks| {
            let middle = recent.min(end);
            if let Some(blocks) = blocks.filter(|_| next < middle) {
                forwards(blocks, (next, middle), &wanted, |found| take(&mut page, found));
            }
            page.append(in_memory);
            answer.records = page.records;
            reply.send(Ok(answer));
        });
    }
}

fn take(page: &mut Page, Found { record, size }: Found) -> bool {
    page.take(size, || record)
}
