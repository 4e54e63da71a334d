//! facrond: watches paths with Linux fanotify and runs a command when something happens to them.
//!
//! ```text
//! kernel group -> record -> Event -> matching rules -> policy -> Job -> child -> outcome -> history
//!    kernel       kernel    watch        watch          job      job     job      engine
//! ```
//!
//! `config` makes rules of text, `engine` owns all state, `control` answers clients.

pub mod cli;
pub mod config;
pub mod control;
mod daemon;
pub mod engine;
pub mod event;
pub mod events;
pub mod gate;
pub mod job;
pub mod kernel;
pub mod log;
pub mod manual;
pub mod paths;
pub mod watch;
mod watch_command;

use clap::Parser;
use cli::{Cli, Command};
use std::io::IsTerminal;
use std::process::ExitCode;

/// Exit statuses, of `<sysexits.h>` where it has one.
pub mod exit {
    /// It did not work.
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
    match cli.command {
        None => daemon::run(cli.daemon),
        Some(Command::Gate(gate)) => gate::process::run(gate.class.into(), gate.daemon),
        Some(Command::Envoy(_)) => kernel::envoy::run(),
        Some(Command::Watch(watch)) => watch_command::run(&watch),
        Some(Command::Check(check)) => {
            let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let (text, is_good) = config::check(&check.conf.conf, &check.conf.conf_dir, &check.files, color);
            print!("{text}");
            if is_good { ExitCode::SUCCESS } else { exit::FAILED.into() }
        }
    }
}
