//! An engine that only pretends.

use crate::control::engine::ReplyHandle;
use crate::control::{Caller, Follower, Serve, ServeLater, encode};
use facron_proto::method::{
    Add, AddParams, AddReply, Empty, Explain, ExplainParams, Explained, GetStatus, List, Method, Pause,
    Reload, ReloadReply, Remove, Resume, Rules, Show, ShowParams, Tail, TailParams, TailReply, Version,
    VersionReply,
};
use facron_proto::rpc::{Code, Error};
use facron_proto::{
    Outcome, OutcomeState, PROTOCOL, Record, Rule, RuleId, RuleRef, Source, State, Status, Text,
};

/// Keeps the rules it is given and makes a record for each `add`.
#[derive(Default)]
pub(super) struct Fake {
    rules: Vec<Rule>,
    followers: Vec<Follower>,
    removal: Option<ReplyHandle<Remove>>,
}

/// Answered at the next `resume`.
impl ServeLater<Remove> for Fake {
    fn serve_later(&mut self, _: Rules<RuleRef>, _: &Caller, reply: ReplyHandle<Remove>) {
        self.removal = Some(reply);
    }
}

macro_rules! serve {
    ($($method:ty: |$engine:ident, $params:ident: $type:ty, $caller:ident| $body:expr;)*) => {
        $(impl Serve<$method> for Fake {
            fn serve(
                &mut self,
                $params: $type,
                $caller: &Caller,
            ) -> Result<<$method as Method>::Reply, Error> {
                let $engine = self;
                $body
            }
        })*
    };
}

serve! {
    Version: |_engine, _params: Empty, _caller| Ok(VersionReply { facrond: "0".into(), protocol: PROTOCOL });
    List: |engine, _params: Empty, _caller| Ok(engine.rules.clone());
    Show: |engine, params: ShowParams, _caller| engine
        .rules
        .iter()
        .find(|rule| RuleRef::Id(rule.id) == params.rule)
        .cloned()
        .ok_or_else(|| Error::new(Code::NO_SUCH_RULE, "no such rule"));
    Add: |engine, params: AddParams, _caller| {
        let rule = rule(engine.rules.len() as u64 + 1, params);
        let record = encode(&record(rule.id)).unwrap();
        engine.followers.retain(|follower| !follower.is_closed());
        engine.followers.iter().for_each(|follower| follower.send(&record));
        engine.rules.push(rule.clone());
        Ok(AddReply { rule, warnings: Vec::new() })
    };
    Reload: |_engine, _params: Empty, _caller| Ok(ReloadReply::default());
    Resume: |engine, _params: Rules<RuleRef>, _caller| {
        engine.removal.take().into_iter().for_each(|reply| reply.send(Ok(Rules { rules: vec![] })));
        Ok(Rules { rules: vec![] })
    };
    Pause: |_engine, _params: Rules<RuleRef>, _caller| Ok(Rules { rules: vec![] });
    Tail: |engine, params: TailParams, caller| {
        let follower = if params.follow { Some(caller.subscribe()?) } else { None };
        let subscription = follower.as_ref().map(Follower::id);
        engine.followers.extend(follower);
        Ok(TailReply { subscription, ..TailReply::default() })
    };
    GetStatus: |engine, _params: Empty, _caller| Ok(Status {
        version: String::new(),
        pid: 0,
        uptime_ms: 0,
        rules: [("active".to_owned(), engine.rules.len() as u64)].into(),
        marks: [("followers".to_owned(), engine.followers.len() as u64)].into(),
        queue: facron_proto::Queue::default(),
        events: facron_proto::Events::default(),
        own_events: facron_proto::OwnEvents::default(),
        jobs: facron_proto::Jobs::default(),
        gate: None,
        catch_up: None,
        health: "ok".into(),
    });
    Explain: |_engine, params: ExplainParams, _caller| Ok(vec![Explained {
        rule: RuleId(1),
        argv: vec![params.path],
    }]);
}

fn rule(id: u64, params: AddParams) -> Rule {
    Rule {
        id: RuleId(id),
        name: None,
        source: Source::Runtime,
        file: None,
        line: None,
        state: State::Active,
        reason: None,
        strategy: None,
        path: params.path,
        events: vec![params.events.0],
        options: params.options,
        command: params.command,
        added: String::new(),
        fired: 0,
        failed: 0,
        last_failure: None,
        last: None,
    }
}

fn record(rule: RuleId) -> Record {
    Record {
        seq: rule.0,
        time: String::new(),
        rule,
        rule_name: None,
        events: vec![],
        path: Text::from("x".repeat(1000)),
        old_path: None,
        pid: 0,
        exe: None,
        uid: None,
        synthetic: false,
        repeated: false,
        merged: 0,
        outcome: Outcome::from(OutcomeState::Recorded),
    }
}
