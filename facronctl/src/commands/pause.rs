//! `facronctl pause` and `facronctl resume`

use super::{call, rule_refs};
use crate::cli;
use crate::client::Client;
use crate::error::Error;
use crate::terminal::Terminal;
use facron_proto::method::{Pause, Resume};

pub(super) fn pause(
    args: &cli::Rules,
    client: &mut Client,
    terminal: &mut Terminal<'_>,
) -> Result<(), Error> {
    call::<Pause>(client, &rule_refs(&args.rules), terminal, |reply, terminal| {
        for id in reply.rules {
            writeln!(terminal.out, "paused rule {id}")?;
        }
        Ok(())
    })
}

pub(super) fn resume(
    args: &cli::Rules,
    client: &mut Client,
    terminal: &mut Terminal<'_>,
) -> Result<(), Error> {
    call::<Resume>(client, &rule_refs(&args.rules), terminal, |reply, terminal| {
        for id in reply.rules {
            writeln!(terminal.out, "resumed rule {id}")?;
        }
        Ok(())
    })
}
