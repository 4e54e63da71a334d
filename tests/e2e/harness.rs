//! What the tests share: a place of their own, a daemon in it, ways to talk to it.

mod actor;
mod daemon;
mod follower;
mod machine;
mod mount;
mod names;
mod neighbour;
mod place;
mod process;
mod records;
mod rpc;
mod server;
mod user;
mod volume;
mod wait;
mod watchdog;

pub use actor::{ACTOR, Actor};
pub use daemon::Daemon;
pub use machine::Machine;
pub use mount::{Cgroup, Mount, run, wait_for_state};
pub use names::awkward_names;
pub use neighbour::Neighbour;
pub use place::{FACRONCTL, FACROND, Place, code, err, out};
pub use process::{Load, children, cpu_time, descriptors, is_alive, kill, memory, sh, wait_until_idle};
pub use records::{Records, responder};
pub use rpc::Rpc;
pub use server::{Server, Stopped};
pub use user::{MEMBER_GROUP, QueueLimit, STRANGER, as_member, as_stranger, give, with_facron_group};
pub use volume::{Volume, on_each_kind};
pub use wait::{PATIENCE, comes_true, report, wait_for, wait_until};
pub use watchdog::{Watchdog, gate_of, walker_of};
