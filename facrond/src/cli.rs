//! The command line.

use crate::paths::Paths;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Runs commands when files change, as cron does when time passes.
#[derive(Debug, Parser)]
#[command(name = "facrond", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub daemon: Daemon,
}

/// What else there is than the daemon.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch one path and run a command for each event, until Ctrl-C; no file, no socket
    Watch(Watch),
    /// Check configuration files and show what is wrong with them
    Check(Check),
}

/// Options of the daemon.
#[derive(Debug, Args)]
pub struct Daemon {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value_os_t = Paths::default().conf)]
    pub conf: PathBuf,
    /// Folder of further configuration files, *.conf in byte order of their names
    #[arg(short = 'C', long, value_name = "DIR", default_value_os_t = Paths::default().conf_dir)]
    pub conf_dir: PathBuf,
    /// The control socket
    #[arg(short, long, value_name = "SOCKET", env = "FACRON_SOCKET", default_value_os_t = Paths::default().socket)]
    pub socket: PathBuf,
    /// Where persisted rules are kept
    #[arg(long, value_name = "DIR", default_value_os_t = Paths::default().state_dir)]
    pub state_dir: PathBuf,
    /// Where rules added at runtime are kept until the next boot
    #[arg(long, value_name = "DIR", default_value_os_t = Paths::default().runtime_dir)]
    pub runtime_dir: PathBuf,
    /// Events kept for `facronctl tail`
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub history: usize,
    #[command(flatten)]
    pub limits: Limits,
    #[command(flatten)]
    pub log: Log,
    /// Detach from the terminal and run in the background
    #[arg(short, long, visible_alias = "background")]
    pub daemon: bool,
}

/// Limits on commands.
#[derive(Debug, Args)]
pub struct Limits {
    /// Commands that run at the same time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub max_jobs: usize,
    /// Events that wait for their command; what is over is merged or dropped, and told
    #[arg(long, value_name = "N", default_value_t = 131_072, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub max_pending: usize,
}

/// Options of the log.
#[derive(Debug, Args)]
pub struct Log {
    /// The form of the log's lines
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Say more; twice for everything
    #[arg(short, action = ArgAction::Count)]
    pub verbose: u8,
}

/// The form of the log's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people; with priorities under systemd.
    Text,
    /// One JSON object a line.
    Json,
}

/// `facrond watch`
#[derive(Debug, Args)]
pub struct Watch {
    /// What to watch; it need not exist yet
    pub path: OsString,
    /// Events of fanotify(7), joined by | or a comma, or ARRIVED
    pub events: OsString,
    /// Options as in a configuration line, without the brackets
    #[arg(short, long = "options", value_name = "OPTIONS", allow_hyphen_values = true)]
    pub options: Vec<OsString>,
    /// The command; `-` to show the events only. $$ is the path of the event
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    #[command(flatten)]
    pub limits: Limits,
    #[command(flatten)]
    pub log: Log,
}

/// `facrond check`
#[derive(Debug, Args)]
pub struct Check {
    /// Files to check in place of the configuration
    pub files: Vec<PathBuf>,
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value_os_t = Paths::default().conf)]
    pub conf: PathBuf,
    /// Folder of further configuration files
    #[arg(short = 'C', long, value_name = "DIR", default_value_os_t = Paths::default().conf_dir)]
    pub conf_dir: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_keeps_its_own_options() {
        let cli =
            Cli::try_parse_from(["facrond", "watch", "-o", "once", "/x", "OPEN", "ls", "-l", "--", "-v"])
                .unwrap();
        let Some(Command::Watch(watch)) = cli.command else { panic!("{cli:?}") };
        assert_eq!(watch.command, ["ls", "-l", "--", "-v"]);
        assert_eq!(watch.options, ["once"]);
        let cli = Cli::try_parse_from(["facrond", "watch", "/x", "OPEN", "--", "-"]).unwrap();
        let Some(Command::Watch(watch)) = cli.command else { panic!("{cli:?}") };
        assert_eq!(watch.command, ["-"]);
    }
}
