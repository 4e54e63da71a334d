//! `facronctl remove`

use super::{call, rule_refs};
use crate::cli;
use crate::client::Client;
use crate::error::Error;
use crate::terminal::Terminal;
use facron_proto::method::Remove;

pub(super) fn run(args: &cli::Rules, client: &mut Client, terminal: &mut Terminal<'_>) -> Result<(), Error> {
    call::<Remove>(client, &rule_refs(&args.rules), terminal, |reply, terminal| {
        for id in reply.rules {
            writeln!(terminal.out, "removed rule {id}")?;
        }
        Ok(())
    })
}
