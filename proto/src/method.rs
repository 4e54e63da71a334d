//! The methods: each a type that ties its name, parameters and result together.

use crate::{Diagnostic, Record, Rule, RuleId, RuleRef, Status, Text};
use serde::de::{self, DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a client can ask for.
pub trait Method {
    /// As it stands in `"method"`.
    const NAME: &'static str;
    /// What stands in `"params"`; always an object.
    type Params: Serialize + DeserializeOwned;
    /// What `"result"` of a reply has in it.
    type Reply: Serialize + DeserializeOwned;
}

/// What the daemon tells without being asked.
pub trait Notice {
    /// As it stands in `"method"`.
    const NAME: &'static str;
    /// What `"params"` of a notification has in it.
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
    /// Everything about one rule, by number or name.
    Show = "show": ShowParams => Rule;
    /// Adds a rule; the reply comes when its marks are in the kernel.
    Add = "add": AddParams => AddReply;
    /// Removes runtime and persisted rules; all or none.
    Remove = "remove": Rules<RuleRef> => Rules<RuleId>;
    /// Stops rules from firing; all or none.
    Pause = "pause": Rules<RuleRef> => Rules<RuleId>;
    /// Undoes `pause`; all or none.
    Resume = "resume": Rules<RuleRef> => Rules<RuleId>;
    /// Reads the configuration files again; an error in them changes nothing.
    Reload = "reload": Empty => ReloadReply;
    /// The last records and, with `follow`, those to come.
    Tail = "tail": TailParams => TailReply;
    /// Ends a subscription of this connection.
    Unsubscribe = "unsubscribe": UnsubscribeParams => Empty;
    /// The state and the counters of the daemon.
    GetStatus = "status": Empty => Status;
    /// Which rules an event would fire, and what they would run.
    Explain = "explain": ExplainParams => Vec<Explained>;
}

/// A record of a subscription; sent once, when nothing more will become of it.
#[derive(Clone, Copy, Debug)]
pub enum NewRecord {}

impl Notice for NewRecord {
    const NAME: &'static str = "record";
    type Params = RecordParams;
}

/// Records of a subscription were left out, because the client did not read.
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
    /// The version of the protocol that it speaks, [`crate::PROTOCOL`].
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
    /// PATH, which has to be absolute.
    pub path: Text,
    /// EVENTS, at least one that can happen.
    pub events: EventNames,
    /// COMMAND and its arguments, with tokens.
    pub command: Vec<Text>,
    /// OPTIONS as in a file, without the brackets.
    #[serde(default)]
    pub options: Text,
    /// Whether it outlives a boot.
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

/// The result of `add`: the rule, and what its author may not have meant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddReply {
    /// The rule as it is now.
    #[serde(flatten)]
    pub rule: Rule,
    /// Diagnostics, all of them warnings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Diagnostic>,
}

/// Several rules: named in parameters, by number in results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules<T> {
    /// The rules; in a result in the order of the request.
    pub rules: Vec<T>,
}

/// The result of `reload`: numbers of rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReply {
    /// In the files, and not before.
    pub added: u64,
    /// No longer in the files.
    pub removed: u64,
    /// Rules of the same place that are different from before.
    pub changed: u64,
    /// As before, and not touched.
    pub kept: u64,
}

/// How many records `tail` has where the request does not say.
pub const DEFAULT_LIMIT: u64 = 10;

fn default_limit() -> u64 {
    DEFAULT_LIMIT
}

/// The parameters of the method `tail`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailParams {
    /// At most this many records of the past.
    #[serde(default = "default_limit")]
    pub limit: u64,
    /// Only those of this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleRef>,
    /// Only those that went wrong.
    #[serde(default)]
    pub failed: bool,
    /// Go on with `record` notifications.
    #[serde(default)]
    pub follow: bool,
}

/// The result of the method `tail`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TailReply {
    /// The last records that were asked for, the oldest first.
    pub records: Vec<Record>,
    /// With `follow`: what the notifications to come are marked with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<SubscriptionId>,
}

/// The number of a subscription; of use on its own connection only.
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
    /// Which subscription it belongs to.
    pub subscription: SubscriptionId,
    /// The record, its outcome final.
    pub record: Record,
}

/// The parameters of the notification `lagged`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaggedParams {
    /// Which subscription it belongs to.
    pub subscription: SubscriptionId,
    /// How many records were left out.
    pub missed: u64,
}

/// The parameters of the method `explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainParams {
    /// The path of the imagined event.
    pub path: Text,
    /// The events that would happen at once.
    pub events: EventNames,
}

/// A rule that would fire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// The rule that would fire, by its number.
    pub rule: RuleId,
    /// What it would run, tokens replaced; empty where COMMAND is `-`.
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
        assert_eq!(tail, TailParams { limit: 10, rule: None, failed: false, follow: false });
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
