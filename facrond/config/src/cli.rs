//! The command line.

#![expect(clippy::doc_markdown, reason = "these comments are what --help shows")]

use crate::options::duration;
use crate::paths::Paths;
use clap::builder::RangedU64ValueParser;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  facrond                    run the daemon with the rules of its configuration
  facrond check              look for mistakes in the configuration
  facrond watch /etc ARRIVED echo 'changed:' '$$'

Signals: USR1 and HUP read the configuration again; TERM and INT end the daemon.
Exit status: 0 success, 1 failure, 2 usage, 77 not permitted, 78 configuration unusable.
Rules and all their options are described in facron.conf(5).";

const WATCH_EXAMPLES: &str = "\
Examples:
  facrond watch /srv/drop ARRIVED echo 'new:' '$$'
  facrond watch /etc/hosts OPEN -
  facrond watch -o 'include=*.conf timeout=30s' /etc/nginx ARRIVED nginx -s reload

Put tokens such as $$ (the path) and $% (the events) in single quotes, or the shell takes them.
facron.conf(5) has all events, options and tokens.";

/// Runs commands when files change, as cron does when time passes.
#[derive(Debug, Parser)]
#[command(name = "facrond", version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do in place of being the daemon.
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
    /// Look for mistakes in configuration files
    Check(Check),
    /// What the daemon starts for permission events; of no use to anybody else
    #[command(hide = true)]
    Gate(Gate),
    /// What the daemon starts to look for the inodes of permission rules; of no use to anybody else
    #[command(hide = true)]
    Walker,
    /// What the daemon starts to move the files of a rule; of no use to anybody else
    #[command(hide = true)]
    Mover(Mover),
    /// What the daemon starts for file systems that may not answer; of no use to anybody else
    #[command(hide = true)]
    Worker(Worker),
}

#[derive(Debug, Args)]
pub struct Daemon {
    #[command(flatten)]
    pub files: Files,
    /// The control socket [env: FACRON_SOCKET] [default: /run/facron/control.sock; for a user
    /// $XDG_RUNTIME_DIR/facron/control.sock]
    #[arg(short, long, value_name = "SOCKET")]
    #[arg(default_value_os_t = Paths::default().socket, hide_default_value = true, value_hint = ValueHint::FilePath)]
    pub socket: PathBuf,
    /// Where the state is kept, for one daemon [default: /var/lib/facron; for a user $XDG_STATE_HOME/facron]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    #[arg(default_value_os_t = Paths::default().state_dir, hide_default_value = true)]
    pub state_dir: PathBuf,
    /// Runtime rules last until it is emptied, as a boot does [default: /run/facron; for a user $XDG_RUNTIME_DIR/facron]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    #[arg(default_value_os_t = Paths::default().runtime_dir, hide_default_value = true)]
    pub runtime_dir: PathBuf,
    #[command(flatten)]
    pub history: History,
    #[command(flatten)]
    pub limits: Limits,
    #[command(flatten)]
    pub log: Log,
    /// Detach from the terminal and run in the background
    #[arg(short, long, visible_alias = "background")]
    pub daemon: bool,
}

#[derive(Debug, Args)]
pub struct History {
    /// How many events are kept for `facronctl tail`
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub history: u64,
    /// How long they are kept, such as 12h or 30d
    #[arg(long, value_name = "DUR", default_value = "30d", value_parser = age)]
    pub history_age: Duration,
}

/// A duration as in options of rules, or days.
fn age(value: &str) -> Result<Duration, String> {
    let days = value.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    let in_days = days.map(|days| Ok(Duration::from_secs(86_400) * days));
    in_days.unwrap_or_else(|| duration(value.as_bytes()).map_err(|why| why + "; or days: `30d`"))
}

#[derive(Debug, Args)]
pub struct Files {
    /// The configuration file [default: /etc/facron.conf; for a user $XDG_CONFIG_HOME/facron/facron.conf]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(default_value_os_t = Paths::default().conf, hide_default_value = true)]
    pub conf: PathBuf,
    /// Folder of more such files, read in byte order of their names [default: /etc/facron.d; for a user
    /// $XDG_CONFIG_HOME/facron/conf.d]
    #[arg(short = 'C', long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    #[arg(default_value_os_t = Paths::default().conf_dir, hide_default_value = true)]
    pub conf_dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct Limits {
    /// How many commands may run at the same time; a rule has at most half of what others leave
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one())]
    pub max_jobs: usize,
    /// How many events may wait for their command; a rule has at most half of what others leave,
    /// and more are merged or dropped, and counted
    #[arg(long, value_name = "N", default_value_t = 131_072, value_parser = at_least_one())]
    pub max_pending: usize,
}

fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

#[derive(Debug, Args)]
pub struct Log {
    /// The form of the log's lines on standard error
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Log each command as well; twice for everything
    #[arg(short, action = ArgAction::Count)]
    pub verbose: u8,
}

/// The form of the log's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people; with priorities where it goes to the journal
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Args)]
#[command(after_help = WATCH_EXAMPLES)]
pub struct Watch {
    /// The file or directory to watch; it need not exist yet
    #[arg(value_hint = ValueHint::AnyPath)]
    pub path: OsString,
    /// Events of fanotify(7) or ARRIVED, joined by | or a comma
    pub events: OsString,
    /// Options as in a rule of the configuration, without the brackets; repeatable
    #[arg(short, long = "options", value_name = "OPTIONS", allow_hyphen_values = true)]
    pub options: Vec<OsString>,
    /// The command and its arguments; a lone - only prints the events
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    #[arg(value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
    #[command(flatten)]
    pub limits: Limits,
    #[command(flatten)]
    pub log: Log,
}

#[derive(Debug, Args)]
pub struct Gate {
    /// The daemon's pid
    pub daemon: i32,
}

#[derive(Debug, Args)]
pub struct Mover {
    /// The rule: shown to whoever lists processes
    pub rule: String,
}

#[derive(Debug, Args)]
pub struct Worker {
    /// Where the file system is mounted: shown to whoever lists processes
    pub point: PathBuf,
}

#[derive(Debug, Args)]
pub struct Check {
    /// Files to check in place of the configuration
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub conf: Files,
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
    fn the_age_of_the_history_may_be_days() {
        let age = |value: &str| {
            let cli = Cli::try_parse_from(["facrond", &format!("--history-age={value}")]);
            cli.map(|cli| cli.daemon.history.history_age.as_secs()).map_err(|error| error.to_string())
        };
        assert_eq!(["30d", "12h", "0s"].map(age), [Ok(30 * 86_400), Ok(43_200), Ok(0)]);
        for bad in ["d", "-1d", "30", "1.5d", "99999999999d"] {
            assert!(age(bad).is_err_and(|why| why.contains("30d")), "{bad}");
        }
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
