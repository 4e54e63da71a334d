//! facron's protocol: how a program talks to the daemon.
//!
//! This page is the specification; the types below are one implementation of it,
//! without any I/O.
//!
//! # Transport
//!
//! The daemon listens on a Unix stream socket (`/run/facron/control.sock`, or
//! `$XDG_RUNTIME_DIR/facron/control.sock` of a user's own daemon). Both sides send
//! [JSON-RPC 2.0](https://www.jsonrpc.org/specification), **one JSON text a line**:
//! UTF-8, no newline within, `\n` behind it.
//!
//! A line sent to the daemon has at most [`frame::MAX_LINE`] bytes (1 MiB). A longer
//! one is answered with `-32600` and id `null`, skipped, and the connection goes on.
//! Replies may be longer. A line without its newline is not a request yet; when the
//! client closes its sending side, requests that are complete are still answered,
//! then the connection ends, and its subscriptions with it.
//!
//! ```text
//! -> {"jsonrpc": "2.0", "id": 1, "method": "version"}
//! <- {"jsonrpc":"2.0","id":1,"result":{"facrond":"0.1.0","protocol":1}}
//! ```
//!
//! Requests may be sent without waiting for replies, and in batches. The requests
//! of one connection are done one after the other and answered in that order; those
//! of different connections are independent. A client that does not read its
//! replies is not read from either. Notifications (requests without an `id`) are
//! done and not answered. An `id` is a string, a number or `null`.
//!
//! # Values
//!
//! - Paths, file names and arguments are bytes. They travel as a string where they
//!   are UTF-8, else as `{"base64": "..."}` (RFC 4648, section 4), in both directions
//!   ([`Text`]).
//! - Times are RFC 3339 in UTC, durations are numbers of milliseconds.
//! - A rule is named by its `id`, a number, or by its name, a string ([`RuleRef`]).
//! - Members are only ever added. Ignore those you don't know; the daemon does too.
//!
//! # Methods
//!
//! Parameters are passed by name, in an object. Where none are needed, `params` may
//! be absent.
//!
//! | method | params | result |
//! |---|---|---|
//! | `version` | | `{"facrond": "x.y.z", "protocol": 1}` |
//! | `list` | | an array of [`Rule`] |
//! | `show` | `rule` | [`Rule`] |
//! | `add` | `path`, `events`, `command`, and optionally `options` (`""`), `persist` (`false`): [`method::AddParams`] | the [`Rule`], with `warnings` ([`Diagnostic`]s) if there are any; sent when its marks are in the kernel |
//! | `remove`, `pause`, `resume` | `rules`, an array | `{"rules": [7, 9]}`, numbers in the order of the request; all or none are done |
//! | `reload` | | `{"added": 1, "removed": 0, "changed": 0, "kept": 12}`, numbers of rules |
//! | `tail` | optionally `limit` (`10`), `rule`, `failed` (`false`), `follow` (`false`): [`method::TailParams`] | `{"records": [...]}`, [`Record`]s, the oldest first; with `follow` also `subscription` |
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
//! (in one line each)
//!
//! # Following
//!
//! `tail` with `"follow": true` replies with a `subscription`, a number of use on this
//! connection only. From then on the daemon sends notifications between replies:
//!
//! ```text
//! <- {"jsonrpc":"2.0","method":"record","params":{"subscription":1,"record":{...}}}
//! <- {"jsonrpc":"2.0","method":"lagged","params":{"subscription":1,"missed":40}}
//! ```
//!
//! A record is sent once, when its `outcome` is final; one that the reply shows as
//! pending or running follows then, with the same `seq`, and none is missing between the
//! reply and the first notification. A client that does not read fast enough misses records and is told how many by `lagged`,
//! at the place where they are missing. After the reply of `unsubscribe`, nothing
//! more comes. A connection may have 16 subscriptions.
//!
//! # Errors
//!
//! `error` has a `code`, a `message` of one sentence for people, and sometimes `data`.
//!
//! | code | |
//! |---|---|
//! | `-32700` | not JSON; id `null` |
//! | `-32600` | not a request, an empty batch, or a line that is too long; id `null` |
//! | `-32601` | no such method |
//! | `-32602` | parameters that the method cannot take |
//! | `-32603` | a bug of the daemon |
//! | `-32000` | it was tried and failed |
//! | `-32001` | no such rule |
//! | `-32002` | the rule was refused; `data` is an array of [`Diagnostic`] |
//! | `-32003` | not permitted |
//! | `-32004` | the reload was refused and nothing changed; `data` is an array of [`Diagnostic`] |
//! | `-32005` | too many connections, or subscriptions of this connection |
//!
//! A connection over the limit of 256 is answered with `-32005` and id `null`, and closed.
//!
//! # Access
//!
//! The daemon knows its peer by `SO_PEERCRED`. uid 0 and the daemon's own uid may do
//! everything. Members of the group `facron` may call `version`, `list`, `show`, `tail`,
//! `unsubscribe`, `status` and `explain`; all else is answered with `-32003`.

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
pub use status::{Events, Gate, Jobs, OwnEvents, Queue, Status};
pub use text::Text;

/// The version of the protocol. Members, methods and codes may be added without
/// a new number; a new number means that an old client would misunderstand.
pub const PROTOCOL: u32 = 1;
