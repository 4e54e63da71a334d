//! facron's protocol, by which programs talk to the daemon.
//!
//! This page is the specification. The types below implement it, without any I/O.
//!
//! # Transport
//!
//! The daemon listens on a Unix stream socket (`/run/facron/control.sock`, or
//! `$XDG_RUNTIME_DIR/facron/control.sock` of a user's own daemon). Both sides send
//! [JSON-RPC 2.0](https://www.jsonrpc.org/specification), **one JSON text a line**:
//! UTF-8, without a newline inside, and with `\n` at its end.
//!
//! A line sent to the daemon has at most [`frame::MAX_LINE`] bytes (1 MiB), or 32 KiB if
//! the client may only read, and a batch has at most [`rpc::MAX_BATCH`] requests. A longer
//! line is skipped and answered with `-32600` and id `null`; the connection stays open.
//! Replies may be longer. A line without its newline is not a request yet. When the
//! client closes its sending side, complete requests are still answered. Then the
//! connection ends, with its subscriptions.
//!
//! ```text
//! -> {"jsonrpc": "2.0", "id": 1, "method": "version"}
//! <- {"jsonrpc":"2.0","id":1,"result":{"facrond":"0.1.0","protocol":1}}
//! ```
//!
//! A client may send requests without waiting for replies, and in batches. The requests
//! of one connection are carried out one after the other and answered in that order.
//! Requests of different connections are independent. While a client does not read its
//! replies, the daemon does not read its requests. Notifications (requests without an
//! `id`) are carried out and not answered. An `id` is a string, a number or `null`.
//!
//! # Values
//!
//! - Paths, file names and arguments are bytes. They are sent as a string if they
//!   are UTF-8, and otherwise as `{"base64": "..."}` (RFC 4648, section 4), in both
//!   directions ([`Text`]).
//! - Times are RFC 3339 in UTC, durations are numbers of milliseconds.
//! - A path in a record that is too long for any program (4096 bytes) is shortened.
//! - A rule is named by its `id`, a number, or by its name, a string ([`RuleRef`]).
//! - Members may be added, and are never removed. Ignore unknown members, as the daemon does.
//!
//! # Methods
//!
//! Parameters are passed by name, in an object. If a method needs none, `params` may be
//! absent.
//!
//! | method | params | result |
//! |---|---|---|
//! | `version` | | `{"facrond": "x.y.z", "protocol": 1}` |
//! | `list` | | an array of [`Rule`] |
//! | `show` | `rule` | [`Rule`] |
//! | `add` | `path`, `events`, `command`, and optionally `options` (`""`), `persist` (`false`): [`method::AddParams`] | the [`Rule`], with `warnings` ([`Diagnostic`]s) if there are any; sent when its marks are in the kernel |
//! | `remove`, `pause`, `resume` | `rules`, an array | `{"rules": [7, 9]}`, numbers in the order of the request; all or none are done |
//! | `reload` | | `{"added": 1, "removed": 0, "changed": 0, "kept": 12}`, numbers of rules |
//! | `tail` | optionally `limit` (`10`), `rule`, `failed` (`false`), `since`, `until`, `path`, `exe`, `uid`, `after`, `follow` (`false`): [`method::TailParams`] | `{"records": [...]}`, [`Record`]s, the oldest first; with `follow` also `subscription`; `truncated` if older ones are left out because the reply would be too large; `too_old` and `oldest` if records after `after` are kept no more |
//! | `unsubscribe` | `subscription` | `{}` |
//! | `status` | | [`Status`] |
//! | `explain` | `path`, `events` | `[{"rule": 7, "argv": [...]}]`, the commands that would run; nothing is run |
//!
//! `events` is a string, names joined by `|` or `,`, or an array of names.
//!
//! ```text
//! -> {"jsonrpc": "2.0", "id": 2, "method": "add", "params": {"path": "/srv/in", "events": "ARRIVED",
//!     "command": ["/usr/local/bin/import", "$$"], "options": "recursive timeout=30s"}}
//! <- {"jsonrpc":"2.0","id":2,"result":{"id":7,"state":"active",...}}
//! ```
//! (each in one line)
//!
//! # Following
//!
//! The reply to `tail` with `"follow": true` has a `subscription`, a number that is valid on
//! this connection only. From then on the daemon sends notifications between replies:
//!
//! ```text
//! <- {"jsonrpc":"2.0","method":"record","params":{"subscription":1,"record":{...}}}
//! <- {"jsonrpc":"2.0","method":"lagged","params":{"subscription":1,"missed":40}}
//! ```
//!
//! A record is sent once, when its `outcome` is final. A record that is pending or running
//! in the reply is sent again then, with the same `seq`. No record is missing between the
//! reply and the first notification. A client that does not read fast enough misses
//! records; `lagged` has their number, at the place where they are missing. After the reply
//! to `unsubscribe` there are no more notifications. A connection may have 16
//! subscriptions, and so may all connections together of a user who may only read.
//!
//! A client that goes away and comes back sends `after`, the `seq` of the last record that it
//! has dealt with, or 0. It gets each later record once and in the order of `seq`: the first
//! `limit` of them in the reply; with `follow`, all in notifications and none in the reply. Only
//! records with a final outcome are sent, so one that is still pending or running holds back all
//! with a greater `seq`; with `rule`, only those of this rule are waited for. A record is sent
//! when it is on the disk, so that a crash takes back none that a client has seen. While the
//! client does not read, records wait in the history and not for it, so there is no `lagged`
//! unless the history does not reach back any more. If it does not at the beginning, the reply
//! says `too_old`, and `oldest`, the `seq` from which on all records are kept. The same if
//! `after` is greater than any `seq` that was given: it is from the history of another machine,
//! or the state of the daemon was removed.
//!
//! ```text
//! -> {"jsonrpc": "2.0", "id": 3, "method": "tail", "params": {"after": 1234, "limit": 0, "follow": true}}
//! ```
//!
//! # Errors
//!
//! `error` has a `code`, a `message` of one sentence for people, and sometimes `data`.
//!
//! | code | |
//! |---|---|
//! | `-32700` | not JSON; id `null` |
//! | `-32600` | not a request, an empty or too large batch, or a line that is too long; id `null` |
//! | `-32601` | no such method |
//! | `-32602` | the method cannot take these parameters |
//! | `-32603` | a defect of the daemon |
//! | `-32000` | the request was tried and has failed |
//! | `-32001` | no such rule |
//! | `-32002` | the rule was refused; `data` is an array of [`Diagnostic`] |
//! | `-32003` | not permitted |
//! | `-32004` | the reload was refused and nothing changed; `data` is an array of [`Diagnostic`] |
//! | `-32005` | too many connections or subscriptions |
//!
//! A connection over a limit is answered with `-32005` and id `null`, and closed. Root and
//! the daemon's own user have 256 connections, all others together as many, and each of them
//! 32. The requests of one of those, of all its connections, are carried out one after the
//! other, in at most half of the daemon's time. If such a client does not read a reply for 3
//! seconds, its connection is closed.
//!
//! # Access
//!
//! The daemon identifies clients by `SO_PEERCRED`. uid 0 and the daemon's own uid may do
//! everything. Members of the group `facron` may call `version`, `list`, `show`, `tail`,
//! `unsubscribe`, `status` and `explain`. All other requests are answered with `-32003`.

mod diagnostic;
pub mod frame;
pub mod method;
mod record;
pub mod rpc;
mod rule;
mod status;
mod text;

pub use diagnostic::{Diagnostic, Severity};
pub use method::{Method, Notice};
pub use record::{By, Outcome, OutcomeState, Record};
pub use rule::{Failure, Rule, RuleId, RuleRef, Source, State};
pub use status::{CatchUp, Events, Gate, Jobs, OwnEvents, Queue, Status};
pub use text::{SafeJson, Text, is_unsafe};

/// The version of the protocol. Members, methods and codes may be added without a new
/// number. A new number means that old clients do not understand the protocol any more.
pub const PROTOCOL: u32 = 1;
