//! Every unsafe line and raw system call: fanotify groups, their records, file
//! handles, leases, children, peers. It knows nothing of rules.

#![allow(unsafe_code, reason = "the one place for it")]

pub mod fanotify;
pub mod group;
pub mod object;
pub mod peer;
pub mod process;
pub mod record;
pub mod spawn;
pub mod wait;
