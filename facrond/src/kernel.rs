//! Every unsafe line and raw system call.
#![expect(unsafe_code, reason = "this is the one place for it")]

pub mod peer;
