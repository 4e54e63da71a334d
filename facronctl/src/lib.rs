//! facronctl, the client of facrond.
//!
//! ```text
//! arguments -> params -> call -> table or JSON
//! ```
//!
//! A command is a function of its arguments and a `Terminal`. The client is blocking,
//! because it has nothing else to do while the daemon works.

mod cli;
mod client;
mod commands;
mod error;
mod format;
mod style;
mod table;
mod terminal;
mod time;

use clap::Parser;
use cli::Cli;
use std::io;
use std::process::ExitCode;
use terminal::Terminal;

/// Runs the client with the arguments of the process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    let mut terminal = Terminal::of_process(&mut out, &mut err, cli.json, cli.color);
    match commands::run(&cli, &mut terminal) {
        Ok(status) => status,
        Err(error) => {
            error.report(&mut terminal);
            error.exit_code()
        }
    }
}
