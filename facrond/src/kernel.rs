//! Every unsafe line and raw system call.

pub mod group;
pub mod process;
pub mod spawn;
pub mod wait;
