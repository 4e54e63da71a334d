//! `facronctl add`

use super::{absolute, call};
use crate::cli;
use crate::client::Client;
use crate::error::Error;
use crate::terminal::Terminal;
use facron_proto::method::{Add, AddParams, EventNames};
use facron_proto::{State, Text};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

pub(super) fn run(args: &cli::Add, client: &mut Client, terminal: &mut Terminal<'_>) -> Result<(), Error> {
    let options: Vec<&[u8]> = args.options.iter().map(|option| option.as_bytes()).collect();
    let params = AddParams {
        path: absolute(&args.path)?,
        events: EventNames(args.events.clone()),
        command: args.command.iter().map(|word| Text(word.clone().into_vec())).collect(),
        options: Text(options.join(&b' ')),
        persist: args.persist,
    };
    call::<Add>(client, &params, terminal, |reply, terminal| {
        for warning in &reply.warnings {
            terminal.diagnostic(warning)?;
        }
        let rule = reply.rule;
        writeln!(terminal.out, "added rule {}", rule.id)?;
        if let (State::Waiting | State::Failed, Some(reason)) = (rule.state, &rule.reason) {
            let (state, reason) = (rule.state.name(), Text::from(reason.as_str()));
            writeln!(terminal.err, "facronctl: rule {} is {state}: {reason}", rule.id)?;
        }
        Ok(())
    })
}
