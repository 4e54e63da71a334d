//! `facronctl reload`

use super::call;
use crate::client::Client;
use crate::error::Error;
use crate::terminal::Terminal;
use facron_proto::method::{Empty, Reload};

pub(super) fn run(client: &mut Client, terminal: &mut Terminal<'_>) -> Result<(), Error> {
    call::<Reload>(client, &Empty {}, terminal, |reply, terminal| {
        writeln!(
            terminal.out,
            "{} added, {} removed, {} changed, {} kept",
            reply.added, reply.removed, reply.changed, reply.kept
        )?;
        Ok(())
    })
}
