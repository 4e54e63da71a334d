//! Permission rules: a process that may hold others, and must never hold the machine.
//!
//! ```text
//! kernel group -> gate: rule index -> answer       (verdict=allow, deny, cache, own descendants)
//!                   |  ^         ^
//!          Question v  | Decided | Mark
//!                 daemon -> command
//!                         -> walker -> inodes
//! ```
//!
//! The gate is a process of its own: facrond itself, executed as `facrond gate`. It
//! is executed before it opens its group and then forbids itself to fork and to
//! execute, so no copy of the group's descriptor can be left in a child that waits for
//! itself. Deadlines are the gate's, so a daemon that hangs holds nobody up; when the
//! daemon is gone, so is the gate; when the gate dies, the kernel allows what waits
//! and the daemon starts another. Answers come first: what is told of them goes to the
//! daemon where there is room, and is counted where there is none.
//!
//! `process` is the gate's side, `message` what it and the daemon say to each other. The
//! daemon's side is `engine::permissions`. `walker` is another process: it looks for the
//! inodes that the gate is to mark.

pub mod message;
mod notices;
mod place;
pub mod process;
mod questions;
mod rule_index;
mod verdict_cache;
pub mod walker;
