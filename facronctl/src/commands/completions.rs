//! `facronctl completions`: a script that makes a shell complete one of the programs.

use crate::cli::{Cli, Completions, Program};
use crate::error::Error;
use crate::terminal::Terminal;
use clap::CommandFactory;

pub(super) fn run(args: &Completions, terminal: &mut Terminal<'_>) -> Result<(), Error> {
    let (mut command, name) = match args.program {
        Program::Facronctl => (Cli::command(), "facronctl"),
        Program::Facrond => (facron_config::cli::Cli::command(), "facrond"),
    };
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    Ok(terminal.out.write_all(&script)?)
}
