//! The commands. Each has its own module.

mod add;
mod check;
mod completions;
mod explain;
mod list;
mod man;
mod pause;
mod reload;
mod remove;
mod show;
mod status;
mod tail;
#[cfg(test)]
mod tests;

use crate::cli::{Cli, Command};
use crate::client::{Answer, Client};
use crate::error::Error;
use crate::terminal::Terminal;
use facron_config::paths::Paths;
use facron_proto::method::{Method, Rules};
use facron_proto::{RuleRef, Text};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

/// Runs the command of the command line.
pub(crate) fn run(cli: &Cli, terminal: &mut Terminal<'_>) -> Result<ExitCode, Error> {
    let socket = cli.socket.clone().unwrap_or_else(|| Paths::default().socket);
    let client = || Client::connect(&socket);
    match &cli.command {
        Command::Add(args) => add::run(args, &mut client()?, terminal),
        Command::Remove(args) => remove::run(args, &mut client()?, terminal),
        Command::List => list::run(&mut client()?, terminal),
        Command::Show(args) => show::run(args, &mut client()?, terminal),
        Command::Pause(args) => pause::pause(args, &mut client()?, terminal),
        Command::Resume(args) => pause::resume(args, &mut client()?, terminal),
        Command::Reload => reload::run(&mut client()?, terminal),
        Command::Tail(args) => tail::run(args, &mut client()?, terminal),
        Command::Status => status::run(&mut client()?, terminal),
        Command::Explain(args) => explain::run(args, &mut client()?, terminal),
        Command::Check(args) => return check::run(args, terminal),
        Command::Completions(args) => completions::run(args, terminal),
        Command::Man(args) => man::run(args),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Calls a method and shows its result, as JSON or by `show`.
fn call<M: Method>(
    client: &mut Client,
    params: &M::Params,
    terminal: &mut Terminal<'_>,
    show: impl FnOnce(M::Reply, &mut Terminal<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let answer: Answer<M> = client.call(params)?;
    if terminal.json { Ok(terminal.json(answer.json())?) } else { show(answer.value()?, terminal) }
}

fn rule_refs(names: &[String]) -> Rules<RuleRef> {
    Rules { rules: names.iter().map(|name| RuleRef::from(name.as_str())).collect() }
}

/// An absolute path for the daemon, which has another working directory. The path need not
/// exist, so the file system is not asked.
fn absolute(path: &Path) -> Result<Text, Error> {
    if path.is_absolute() {
        return Ok(Text(path.to_owned().into_os_string().into_vec()));
    }
    let directory = std::env::current_dir().map_err(Error::CurrentDirectory)?;
    Ok(Text(join(directory, path).into_os_string().into_vec()))
}

fn join(mut directory: PathBuf, path: &Path) -> PathBuf {
    for component in path.components() {
        match component {
            Component::Normal(name) => directory.push(name),
            Component::ParentDir => _ = directory.pop(),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    directory
}
