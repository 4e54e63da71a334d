//! The control socket: who may ask for what, and how a question reaches the engine.
//!
//! [`Socket::bind`] takes the socket for this daemon, [`Socket::serve`] answers
//! on it, one task a connection, the requests of a connection in order. A method is
//! answered by the engine's [`Serve`], or by its [`ServeLater`] where the effect takes
//! time; this module knows nothing of rules. The engine is reached through an
//! [`EngineHandle`], a bounded queue of calls, each with the way back for its reply.
//!
//! Nothing a client does costs more than its user's share (see [`shares`]): its lines are
//! bounded, it is not read from while it does not read, and records that it
//! does not fetch in time are counted in place of kept (see [`Follower`]).

mod access;
mod connection;
mod dispatch;
mod engine;
mod follow;
mod shares;
mod socket;
#[cfg(test)]
mod tests;

pub use access::{Access, Caller};
pub use engine::{Api, Calls, EngineHandle, ReplyHandle, Serve, ServeLater, channel};
pub use follow::{Follower, encode};
pub use socket::{BindError, Socket};
