//! End-to-end tests of facron on the real kernel: real daemons, real files.
//!
//! They need root. Each test has a place and a daemon of its own, waits for
//! conditions and not for time, and fails where a prerequisite is missing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod arrivals;
mod burst;
mod catch_up;
mod commands;
mod control;
mod execution;
mod fate;
mod file_input;
mod filesystems;
mod follow;
mod gate;
mod harness;
mod history;
mod hostile;
mod hung;
mod mount_events;
mod mounts;
mod moves;
mod names;
mod options;
mod output;
mod overflow;
mod own_events;
mod power;
mod process_filters;
mod reload;
mod remade;
mod remounts;
mod repeats;
mod rpc;
mod scale;
mod start_and_end;
mod state;
mod stopping;
mod storms;
mod systemd;
mod systemd_kills;
mod systemd_restarts;
mod tail;
mod trees;
mod watch;
mod when;
