//! facrond: watches paths with Linux fanotify and runs a command when something happens to them.
//!
//! ```text
//! kernel group -> record -> Event -> matching rules -> policy -> Job -> child -> outcome -> history
//!     sys          sys      watch        watch          job      job     job      engine
//! ```
//!
//! The crate `facron-config` makes rules of text, `facron-sys` has the system calls.
//! `engine` owns all state, `control` answers clients.

#[doc(hidden)]
pub mod bench;
mod control;
mod daemon;
mod engine;
mod event;
mod fate;
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod helper;
mod job;
mod log;
mod matcher;
mod own_dir;
mod process;
mod service_manager;
mod store;
mod watch;
mod watch_command;
mod wire;

pub(crate) use facron_config as config;
pub(crate) use facron_config::{cli, events};
pub(crate) use facron_sys as kernel;

use clap::Parser;
use cli::{Cli, Command};
use std::io::IsTerminal;
use std::process::ExitCode;

/// Exit statuses, of `<sysexits.h>` where it has one.
mod exit {
    pub const FAILED: u8 = 1;
    /// The command line makes no sense.
    pub const USAGE: u8 = 2;
    /// `EX_NOPERM`
    pub const NOT_PERMITTED: u8 = 77;
    /// `EX_CONFIG`
    pub const CONFIGURATION: u8 = 78;
}

/// Runs the daemon with the process's own arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(errno) = kernel::signals::ignore_lease_breaks() {
        eprintln!("facrond: cannot ignore SIGIO, by which any writer could end it: {}", errno.desc());
        return exit::FAILED.into();
    }
    if matches!(cli.command, None | Some(Command::Watch(_))) {
        // With the limit as it is, fewer commands run at a time.
        let _ = kernel::descriptors::raise_limit();
    }
    match cli.command {
        None => daemon::run(cli.daemon),
        Some(Command::Gate(gate)) => gate::process::run(gate.daemon),
        Some(Command::Walker) => gate::walker::run(),
        Some(Command::Mover(_)) => fate::run(),
        Some(Command::Worker(_)) => watch::workers::run(),
        Some(Command::Watch(watch)) => watch_command::run(&watch),
        Some(Command::Check(check)) => {
            let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let (text, is_good) = config::check(&check.conf.conf, &check.conf.conf_dir, &check.files, color);
            print!("{text}");
            if is_good { ExitCode::SUCCESS } else { exit::FAILED.into() }
        }
    }
}
