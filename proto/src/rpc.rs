//! The envelope of JSON-RPC 2.0: requests, replies, notifications and batches.
//!
//! This module does no I/O. [`parse`] reads one line for a server, [`Incoming`] reads one
//! for a client, and the `*_line` functions make lines. Parameters and results stay raw
//! JSON until the method is known. So unknown members cost nothing, however deep they are.

use crate::method::{NewRecord, SubscriptionId};
use crate::{Diagnostic, Method, Notice};
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_json::Number;
use serde_json::value::{RawValue, Value};
use std::borrow::Cow;
use std::fmt;

/// The most requests of a batch.
pub const MAX_BATCH: usize = 1024;

/// The id that ties a reply to its request. The client chooses it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged, expecting = "id is a string, a number or null")]
pub enum Id {
    /// `null`. In a reply: the id of the request could not be read.
    Null,
    /// A number. The reply has the same text.
    Number(Number),
    /// A string. The reply has the same one.
    String(String),
}

impl From<u64> for Id {
    fn from(number: u64) -> Self {
        Self::Number(number.into())
    }
}

/// The kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(pub i64);

impl Code {
    /// The line is not JSON.
    pub const PARSE_ERROR: Self = Self(-32700);
    /// The line is JSON, but not a request.
    pub const INVALID_REQUEST: Self = Self(-32600);
    /// The method does not exist or is not available.
    pub const METHOD_NOT_FOUND: Self = Self(-32601);
    /// The method cannot take these parameters.
    pub const INVALID_PARAMS: Self = Self(-32602);
    /// The daemon has a defect.
    pub const INTERNAL_ERROR: Self = Self(-32603);
    /// The request was tried and has failed.
    pub const FAILED: Self = Self(-32000);
    /// No rule has that number or name.
    pub const NO_SUCH_RULE: Self = Self(-32001);
    /// The rule was refused; `data` has the [`Diagnostic`]s.
    pub const RULE_REFUSED: Self = Self(-32002);
    /// The client is not permitted to do this.
    pub const NOT_PERMITTED: Self = Self(-32003);
    /// The reload has changed nothing; `data` has the [`Diagnostic`]s.
    pub const RELOAD_REFUSED: Self = Self(-32004);
    /// Too many connections or subscriptions.
    pub const TOO_MANY: Self = Self(-32005);
}

/// The reason why a request was not done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Error {
    /// The kind of the error, for programs.
    pub code: Code,
    /// The problem, in one sentence for people.
    pub message: String,
    /// More about it. The code decides the form.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data: Option<Value>,
}

impl Error {
    /// An error with a message and without data.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// An error whose data are these diagnostics.
    pub fn refused(code: Code, message: impl Into<String>, diagnostics: &[Diagnostic]) -> Self {
        Self { data: serde_json::to_value(diagnostics).ok(), ..Self::new(code, message) }
    }

    /// The diagnostics in its data; empty if there are none.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        self.data.as_ref().and_then(|data| Vec::deserialize(data).ok()).unwrap_or_default()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// The member `"jsonrpc"`, whose value is `"2.0"`.
struct V2;

impl Serialize for V2 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("2.0")
    }
}

impl<'de> Deserialize<'de> for V2 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let version = Cow::<str>::deserialize(deserializer)?;
        if version == "2.0" { Ok(Self) } else { Err(de::Error::custom("jsonrpc is not \"2.0\"")) }
    }
}

/// Distinguishes a member that is `null` from a missing one.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// One request, as a server receives it.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The id. A notification has none, and is never answered.
    pub id: Option<Id>,
    /// The name of the method.
    pub method: Cow<'a, str>,
    /// An object or an array.
    pub params: Option<&'a RawValue>,
}

impl<'a> Request<'a> {
    /// Reads one JSON value as a request.
    pub fn parse(value: &'a RawValue) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Wire<'a> {
            #[serde(rename = "jsonrpc")]
            _version: V2,
            #[serde(default, deserialize_with = "present")]
            id: Option<Id>,
            #[serde(borrow)]
            method: Cow<'a, str>,
            #[serde(borrow, default, deserialize_with = "present")]
            params: Option<&'a RawValue>,
        }
        let invalid = |why: String| Error::new(Code::INVALID_REQUEST, format!("invalid request: {why}"));
        // serde would accept an array of the members in their order
        if !value.get().starts_with('{') {
            return Err(invalid("not an object".into()));
        }
        let Wire { id, method, params, .. } =
            serde_json::from_str(value.get()).map_err(|error| invalid(sentence(&error)))?;
        if params.is_some_and(|params| !params.get().starts_with(['{', '['])) {
            return Err(invalid("params is neither an object nor an array".into()));
        }
        Ok(Self { id, method, params })
    }

    /// The parameters of the method `M`. Missing ones count as `{}`.
    pub fn params<M: Method>(&self) -> Result<M::Params, Error> {
        let invalid =
            |why: &str| Error::new(Code::INVALID_PARAMS, format!("invalid params of {}: {why}", M::NAME));
        let text = self.params.map_or("{}", RawValue::get);
        if !text.starts_with('{') {
            return Err(invalid("they are passed by name, in an object, not by position in an array"));
        }
        serde_json::from_str(text).map_err(|error| invalid(&sentence(&error)))
    }
}

/// The requests on a line.
#[derive(Clone, Debug)]
pub enum Line<'a> {
    /// One request. Its answer is one reply.
    Single(&'a RawValue),
    /// Several requests, at least one. Their answer is an array of replies.
    Batch(Vec<&'a RawValue>),
}

/// Reads one line that was sent to a server.
///
/// [`Request::parse`] reads its values. An error must be answered with [`Id::Null`].
pub fn parse(line: &[u8]) -> Result<Line<'_>, Error> {
    let not_json = |error| Error::new(Code::PARSE_ERROR, format!("parse error: {error}"));
    let value: &RawValue = serde_json::from_slice(line).map_err(not_json)?;
    if !value.get().starts_with('[') {
        return Ok(Line::Single(value));
    }
    let invalid = |why: &str| Error::new(Code::INVALID_REQUEST, format!("invalid request: {why}"));
    match serde_json::from_str(value.get()) {
        // It is JSON, so the error is ours.
        Err(error) => Err(invalid(&sentence(&error))),
        Ok(Batch(batch)) if batch.is_empty() => Err(invalid("the batch is empty")),
        Ok(Batch(batch)) => Ok(Line::Batch(batch)),
    }
}

/// The elements of an array that is not too long for a batch.
struct Batch<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Batch<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Elements).map(Self)
    }
}

struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = array.next_element()? {
            if elements.len() == MAX_BATCH {
                return Err(de::Error::custom(format_args!("a batch has at most {MAX_BATCH} requests")));
            }
            elements.push(element);
        }
        Ok(elements)
    }
}

/// A reply, ready to be serialized.
#[derive(Serialize)]
pub struct Reply<'a> {
    jsonrpc: V2,
    id: &'a Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Error>,
}

impl<'a> Reply<'a> {
    /// The reply to the request with this id.
    pub fn new(id: &'a Id, outcome: Result<&'a RawValue, &'a Error>) -> Self {
        Self { jsonrpc: V2, id, result: outcome.ok(), error: outcome.err() }
    }
}

#[derive(Serialize)]
struct Outgoing<'a, P> {
    jsonrpc: V2,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Id>,
    method: &'a str,
    params: &'a P,
}

/// The line that calls the method `M`, with its newline.
pub fn request_line<M: Method>(id: &Id, params: &M::Params) -> Result<Vec<u8>, serde_json::Error> {
    line(&Outgoing { jsonrpc: V2, id: Some(id), method: M::NAME, params })
}

/// The line of the notification `N`, with its newline.
pub fn notice_line<N: Notice>(params: &N::Params) -> Result<Vec<u8>, serde_json::Error> {
    line(&Outgoing { jsonrpc: V2, id: None, method: N::NAME, params })
}

/// The line of a `record` notification, with its newline. The record is JSON already.
pub fn record_line(subscription: SubscriptionId, record: &RawValue) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct Params<'a> {
        subscription: SubscriptionId,
        record: &'a RawValue,
    }
    line(&Outgoing {
        jsonrpc: V2,
        id: None,
        method: NewRecord::NAME,
        params: &Params { subscription, record },
    })
}

fn line(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// One line, as a client receives it.
#[derive(Clone, Debug)]
pub enum Incoming<'a> {
    /// The reply to one of its requests.
    Reply {
        /// The `id` of the request that it answers.
        id: Id,
        /// The result, or the error.
        outcome: Result<&'a RawValue, Error>,
    },
    /// A notification of a subscription.
    Notice {
        /// The method of the notification, see [`Notice`].
        method: Cow<'a, str>,
        /// Its parameters. The method decides their type.
        params: &'a RawValue,
    },
}

impl<'a> Incoming<'a> {
    /// Reads one line that was sent to a client. The client must not send batches.
    pub fn parse(line: &'a [u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Wire<'a> {
            #[serde(rename = "jsonrpc")]
            _version: V2,
            #[serde(default, deserialize_with = "present")]
            id: Option<Id>,
            #[serde(borrow, default)]
            method: Option<Cow<'a, str>>,
            #[serde(borrow, default)]
            params: Option<&'a RawValue>,
            #[serde(borrow, default)]
            result: Option<&'a RawValue>,
            #[serde(default)]
            error: Option<Error>,
        }
        match serde_json::from_slice(line)? {
            Wire { id: Some(id), error: Some(error), .. } => Ok(Self::Reply { id, outcome: Err(error) }),
            Wire { id: Some(id), result: Some(result), .. } => Ok(Self::Reply { id, outcome: Ok(result) }),
            Wire { id: None, method: Some(method), params: Some(params), .. } => {
                Ok(Self::Notice { method, params })
            }
            _ => Err(de::Error::custom("neither a reply nor a notification")),
        }
    }
}

/// The message of serde without its place, which would be the place in a part of the line.
fn sentence(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method;

    fn first(line: &str) -> Result<Request<'_>, Error> {
        match parse(line.as_bytes())? {
            Line::Single(value) => Request::parse(value),
            Line::Batch(_) => panic!("a batch"),
        }
    }

    #[test]
    fn an_id_is_absent_null_a_number_or_a_string() {
        for (id, expected) in [
            ("", None),
            (r#","id":null"#, Some(Id::Null)),
            (r#","id":7"#, Some(Id::from(7))),
            (r#","id":"x""#, Some(Id::String("x".into()))),
        ] {
            let line = format!(r#"{{"jsonrpc":"2.0","method":"version"{id}}}"#);
            assert_eq!(first(&line).unwrap().id, expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_request_is_told_from_what_is_no_json() {
        for (line, code) in [
            ("", Code::PARSE_ERROR),
            ("{", Code::PARSE_ERROR),
            ("\"\u{1}\"", Code::PARSE_ERROR),
            (r#"{"jsonrpc":"2.0","method":"foobar, "params": "bar", "baz]"#, Code::PARSE_ERROR),
            ("[]", Code::INVALID_REQUEST),
            ("1", Code::INVALID_REQUEST),
            ("{}", Code::INVALID_REQUEST),
            (r#"{"jsonrpc":"1.0","method":"version"}"#, Code::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","method":1,"params":{}}"#, Code::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","method":"version","params":"bar"}"#, Code::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","method":"version","params":null}"#, Code::INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","method":"version","id":{}}"#, Code::INVALID_REQUEST),
        ] {
            assert_eq!(first(line).unwrap_err().code, code, "{line}");
        }
        assert_eq!(parse(b"\"\xff\"").unwrap_err().code, Code::PARSE_ERROR);
    }

    #[test]
    fn a_batch_may_hold_anything() {
        let Line::Batch(batch) = parse(b" [1, {\"jsonrpc\":\"2.0\",\"method\":\"version\"}, []] ").unwrap()
        else {
            panic!("no batch")
        };
        let valid: Vec<bool> = batch.into_iter().map(|value| Request::parse(value).is_ok()).collect();
        assert_eq!(valid, [false, true, false]);
    }

    #[test]
    fn a_batch_has_a_limit() {
        let batch = |count: usize| {
            parse(format!("[{}]", vec!["1"; count].join(",")).as_bytes())
                .map(|_| ())
                .map_err(|error| error.code)
        };
        assert_eq!((batch(MAX_BATCH), batch(MAX_BATCH + 1)), (Ok(()), Err(Code::INVALID_REQUEST)));
    }

    #[test]
    fn params_come_by_name_and_unknown_ones_are_ignored() {
        let with = |params: &str| {
            let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"show"{params}}}"#);
            first(&line).unwrap().params::<method::Show>().map_err(|error| error.message)
        };
        assert_eq!(with(r#","params":{"rule":7,"new":[]}"#).unwrap().rule, "7".into());
        assert_eq!(with("").unwrap_err(), "invalid params of show: missing field `rule`");
        assert!(with(r#","params":[7]"#).unwrap_err().contains("by name"));
        assert_eq!(
            with(r#","params":{"rule":[]}"#).unwrap_err(),
            "invalid params of show: a rule is a number or a name"
        );
    }

    #[test]
    fn nesting_without_end_is_no_recursion() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"version","params":{{"x":{deep}}}}}"#);
        assert!(first(&line).unwrap().params::<method::Version>().is_ok());
        assert!(
            matches!(parse(deep.as_bytes()), Ok(Line::Batch(batch)) if Request::parse(batch[0]).is_err())
        );
        let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"show","params":{{"rule":{deep}}}}}"#);
        assert!(first(&line).unwrap().params::<method::Show>().is_err());
    }

    #[test]
    fn a_client_tells_replies_from_notices() {
        let error = Error::new(Code::FAILED, "no");
        let line = line(&Reply::new(&Id::from(1), Err(&error))).unwrap();
        assert_eq!(line, b"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32000,\"message\":\"no\"}}\n");
        assert!(
            matches!(Incoming::parse(&line).unwrap(), Incoming::Reply { id, outcome: Err(e) } if id == Id::from(1) && e == error)
        );
        let params = method::LaggedParams { subscription: method::SubscriptionId(3), missed: 9 };
        let line = notice_line::<method::Lagged>(&params).unwrap();
        assert!(
            matches!(Incoming::parse(&line).unwrap(), Incoming::Notice { method, .. } if method == "lagged")
        );
        assert!(Incoming::parse(b"{\"jsonrpc\":\"2.0\",\"id\":1}").is_err());
    }
}
