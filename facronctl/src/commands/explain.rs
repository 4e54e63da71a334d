//! `facronctl explain`

use super::{absolute, call};
use crate::cli;
use crate::client::Client;
use crate::error::Error;
use crate::format::command_line;
use crate::terminal::Terminal;
use facron_proto::method::{EventNames, Explain, ExplainParams};

pub(super) fn run(
    args: &cli::Explain,
    client: &mut Client,
    terminal: &mut Terminal<'_>,
) -> Result<(), Error> {
    let params = ExplainParams { path: absolute(&args.path)?, events: EventNames(args.events.clone()) };
    call::<Explain>(client, &params, terminal, |fired, terminal| {
        if fired.is_empty() {
            writeln!(terminal.out, "no rule would fire")?;
        }
        for explained in fired {
            if explained.argv.is_empty() {
                writeln!(terminal.out, "rule {} would record it", explained.rule)?;
            } else {
                let command = command_line(&explained.argv);
                writeln!(terminal.out, "rule {} would run {command}", explained.rule)?;
            }
        }
        Ok(())
    })
}
