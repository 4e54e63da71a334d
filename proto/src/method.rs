//! The methods. Each is a type that ties its name, parameters and result together.

use crate::record::is_false;
use crate::{Diagnostic, Record, Rule, RuleId, RuleRef, Status, Text};
use serde::de::{self, DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A request that clients can send.
pub trait Method {
    /// The value of `"method"`.
    const NAME: &'static str;
    /// The type of `"params"`, which is always an object.
    type Params: Serialize + DeserializeOwned;
    /// The type of `"result"` in the reply.
    type Reply: Serialize + DeserializeOwned;
}

/// A notification that the daemon sends to followers.
pub trait Notice {
    /// The value of `"method"`.
    const NAME: &'static str;
    /// The type of `"params"` in the notification.
    type Params: Serialize + DeserializeOwned;
}

macro_rules! methods {
    ($($(#[$doc:meta])* $method:ident = $name:literal: $params:ty => $reply:ty;)*) => {
        $($(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $method {}

        impl Method for $method {
            const NAME: &'static str = $name;
            type Params = $params;
            type Reply = $reply;
        })*
    };
}

methods! {
    /// The versions of the daemon and of this protocol.
    Version = "version": Empty => VersionReply;
    /// All rules, in the order of their numbers.
    List = "list": Empty => Vec<Rule>;
    /// Everything about one rule.
    Show = "show": ShowParams => Rule;
    /// Adds a rule. The reply comes when its marks are in the kernel.
    Add = "add": AddParams => AddReply;
    /// Removes runtime and persisted rules, all or none of them.
    Remove = "remove": Rules<RuleRef> => Rules<RuleId>;
    /// Stops rules from firing, all or none of them.
    Pause = "pause": Rules<RuleRef> => Rules<RuleId>;
    /// Lets paused rules fire again, all or none of them.
    Resume = "resume": Rules<RuleRef> => Rules<RuleId>;
    /// Reads the configuration files again. If they have an error, nothing changes.
    Reload = "reload": Empty => ReloadReply;
    /// The last records and, with `follow`, also future ones.
    Tail = "tail": TailParams => TailReply;
    /// Ends a subscription of this connection.
    Unsubscribe = "unsubscribe": UnsubscribeParams => Empty;
    /// The state and the counters of the daemon.
    GetStatus = "status": Empty => Status;
    /// The rules that an event would fire, and their command lines.
    Explain = "explain": ExplainParams => Vec<Explained>;
}

/// A record of a subscription. It is sent once, when its outcome is final.
#[derive(Clone, Copy, Debug)]
pub enum NewRecord {}

impl Notice for NewRecord {
    const NAME: &'static str = "record";
    type Params = RecordParams;
}

/// Records of a subscription were left out, because the client did not read fast enough.
#[derive(Clone, Copy, Debug)]
pub enum Lagged {}

impl Notice for Lagged {
    const NAME: &'static str = "lagged";
    type Params = LaggedParams;
}

/// Parameters or a result without members: `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// The result of the method `version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionReply {
    /// The version of the daemon, such as `1.2.3`.
    pub facrond: String,
    /// The version of its protocol, [`crate::PROTOCOL`].
    pub protocol: u32,
}

/// The parameters of the method `show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShowParams {
    /// The number or the name of the rule.
    pub rule: RuleRef,
}

/// The parameters of the method `add`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddParams {
    /// PATH, which must be absolute.
    pub path: Text,
    /// EVENTS, at least one.
    pub events: EventNames,
    /// COMMAND and its arguments, with tokens.
    pub command: Vec<Text>,
    /// OPTIONS as in a file, without the brackets.
    #[serde(default)]
    pub options: Text,
    /// Whether the rule survives a boot.
    #[serde(default)]
    pub persist: bool,
}

/// EVENTS as in a file: names joined by `|` or `,`. Also taken as an array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct EventNames(pub String);

impl<'de> Deserialize<'de> for EventNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "events are a string such as \"A|B\" or an array of names")]
        enum Either {
            Joined(String),
            Listed(Vec<String>),
        }
        match Either::deserialize(deserializer)? {
            Either::Joined(names) => Ok(Self(names)),
            Either::Listed(names) if names.is_empty() => Err(de::Error::custom("events is empty")),
            Either::Listed(names) => Ok(Self(names.join("|"))),
        }
    }
}

/// The result of the method `add`: the rule, and warnings about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddReply {
    /// The rule in its present state.
    #[serde(flatten)]
    pub rule: Rule,
    /// Diagnostics, all of them warnings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Diagnostic>,
}

/// Several rules: numbers or names in parameters, numbers in results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules<T> {
    /// The rules. A result has the order of the request.
    pub rules: Vec<T>,
}

/// The result of the method `reload`: how many rules have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReply {
    /// Rules that are new in the files.
    pub added: u64,
    /// Rules that are not in the files any more.
    pub removed: u64,
    /// Rules in the same place of a file whose text is different.
    pub changed: u64,
    /// Rules that are the same as before. They were not touched.
    pub kept: u64,
}

/// The `limit` of `tail` if the request has none.
pub const DEFAULT_LIMIT: u64 = 10;

fn default_limit() -> u64 {
    DEFAULT_LIMIT
}

/// The parameters of the method `tail`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailParams {
    /// The greatest number of past records: the last ones; with `after`, the first ones, or none
    /// if they are followed.
    #[serde(default = "default_limit")]
    pub limit: u64,
    /// Only records of this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleRef>,
    /// Only records of failures.
    #[serde(default)]
    pub failed: bool,
    /// Only events of this time and later ones (RFC 3339, UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only events of this time and earlier ones (RFC 3339, UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Only events with such a path, a glob as in `include=` of a rule on `/`: `*.conf`, `/srv/in/**`.
    /// Of a rename either path may be such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Only events of such a program, a glob as in `exe=`: `rsync`, `!/usr/bin/*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// Only events of this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Only records with a greater `seq`, in the order of `seq`, with final outcomes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Whether future records are sent as notifications.
    #[serde(default)]
    pub follow: bool,
}

/// The result of the method `tail`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TailReply {
    /// The records, the oldest first.
    pub records: Vec<Record>,
    /// Whether older records are left out because the reply would be too large. Absent if not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub truncated: bool,
    /// With `after`: whether a record with a greater `seq` is kept no more, or was never kept in
    /// this history. The reply goes on with the oldest that is. Absent if not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub too_old: bool,
    /// With `too_old`: the `seq` from which on all records are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<u64>,
    /// With `follow`: the number that the notifications will have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<SubscriptionId>,
}

/// The number of a subscription. It is valid on its own connection only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SubscriptionId(pub u64);

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The parameters of the method `unsubscribe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsubscribeParams {
    /// The subscription that is to end.
    pub subscription: SubscriptionId,
}

/// The parameters of the notification `record`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordParams {
    /// The subscription of the notification.
    pub subscription: SubscriptionId,
    /// The record, with its final outcome.
    pub record: Record,
}

/// The parameters of the notification `lagged`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaggedParams {
    /// The subscription of the notification.
    pub subscription: SubscriptionId,
    /// How many records were left out.
    pub missed: u64,
}

/// The parameters of the method `explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainParams {
    /// The path of the imagined event.
    pub path: Text,
    /// The events that would happen together.
    pub events: EventNames,
}

/// A rule that would fire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// The number of the rule that would fire.
    pub rule: RuleId,
    /// Its command line, with tokens replaced; empty if COMMAND is `-`.
    pub argv: Vec<Text>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_str, to_string};

    #[test]
    fn add_takes_the_least_and_both_forms_of_events() {
        let least: AddParams = from_str(r#"{"path":"/a","events":"OPEN|CLOSE","command":["-"]}"#).unwrap();
        assert_eq!((least.options, least.persist), (Text::default(), false));
        let listed: AddParams =
            from_str(r#"{"path":{"base64":"/w=="},"events":["OPEN","CLOSE"],"command":[]}"#).unwrap();
        assert_eq!((listed.events, listed.path), (least.events, Text(vec![0xff])));
    }

    #[test]
    fn tail_has_the_defaults_of_tail() {
        let tail: TailParams = from_str("{}").unwrap();
        assert_eq!((tail.limit, tail.failed, tail.follow), (10, false, false));
        assert_eq!(to_string(&tail).unwrap(), r#"{"limit":10,"failed":false,"follow":false}"#);
    }

    #[test]
    fn the_reply_of_add_is_a_rule() {
        let json = r#"{"id":7,"name":null,"source":"runtime","file":null,"line":null,"state":"active","reason":null,
            "path":{"base64":"/w=="},"events":["FAN_OPEN"],"options":"","command":["-"],"added":"2024-01-01T00:00:00Z",
            "fired":0,"failed":0,"last":null,"more":1}"#;
        let reply: AddReply = from_str(json).unwrap();
        assert_eq!(reply.rule, from_str::<Rule>(json).unwrap());
        assert_eq!(to_string(&reply).unwrap(), to_string(&reply.rule).unwrap());
    }
}
