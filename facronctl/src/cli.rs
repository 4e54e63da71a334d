//! The command line.

use crate::style::When;
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

const SOCKET_HELP: &str = "The daemon's socket [default: /run/facron/control.sock as root, else $XDG_RUNTIME_DIR/facron/control.sock]";

/// Shows and changes what facrond does.
#[derive(Debug, Parser)]
#[command(name = "facronctl", version)]
pub(crate) struct Cli {
    /// The daemon's socket
    #[arg(short, long, env = "FACRON_SOCKET", hide_env_values = true, global = true, help = SOCKET_HELP)]
    pub(crate) socket: Option<PathBuf>,
    /// Print the daemon's reply as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colours
    #[arg(long, value_enum, value_name = "WHEN", default_value_t, global = true)]
    pub(crate) color: When,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add a rule; returns when it is in force
    Add(Add),
    /// Remove rules that were added
    #[command(alias = "rm")]
    Remove(Rules),
    /// List all rules
    List,
    /// Show everything about one rule
    Show(Rule),
    /// Stop rules from firing
    Pause(Rules),
    /// Let paused rules fire again
    Resume(Rules),
    /// Read the configuration files again
    Reload,
    /// Show what happened, and what became of it
    Tail(Tail),
    /// Show how the daemon is
    Status,
    /// Tell which rules an event would fire and what they would run; runs nothing
    Explain(Explain),
    /// Check configuration files, without a daemon
    Check(Check),
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Options as in a file, such as 'recursive timeout=30s'; repeatable
    #[arg(short, long = "option", value_name = "OPTIONS")]
    pub(crate) options: Vec<OsString>,
    /// Keep the rule over a boot
    #[arg(long)]
    pub(crate) persist: bool,
    /// What to watch; relative to the current directory
    pub(crate) path: PathBuf,
    /// Names of fanotify(7) or ARRIVED, joined by | or ,
    pub(crate) events: String,
    /// What to run, and its arguments; - to only record
    #[arg(required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Rules {
    /// Numbers or names
    #[arg(required = true, value_name = "RULE")]
    pub(crate) rules: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Rule {
    /// Its number or name
    pub(crate) rule: String,
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// How many of the last records
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = facron_proto::method::DEFAULT_LIMIT)]
    pub(crate) limit: u64,
    /// Go on with each record as soon as it is known what became of it
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only those of this rule
    #[arg(long)]
    pub(crate) rule: Option<String>,
    /// Only those that went wrong
    #[arg(long)]
    pub(crate) failed: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Where it would happen; relative to the current directory
    pub(crate) path: PathBuf,
    /// What would happen
    pub(crate) events: String,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// What to check [default: what the daemon would read]
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn add(line: &str) -> Add {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Add(add) => add,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_the_command_is_its_own() {
        let added = add("facronctl add -o recursive -o timeout=3s --persist /a OPEN sh -c --json -o -- x");
        assert_eq!(added.options, ["recursive", "timeout=3s"]);
        assert_eq!(added.command, ["sh", "-c", "--json", "-o", "--", "x"]);
        assert!(added.persist);
        assert_eq!(add("facronctl add a OPEN -").command, ["-"]);
        assert_eq!(add("facronctl add a OPEN -- cmd -x").command, ["cmd", "-x"]);
        assert!(Cli::try_parse_from(["facronctl", "add", "/a", "OPEN"]).is_err());
    }

    #[test]
    fn global_options_stand_on_either_side() {
        for line in ["facronctl --json -s /x rm 7 a", "facronctl rm --json -s /x 7 a"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert!(cli.json && cli.socket == Some("/x".into()), "{line}");
            assert!(matches!(cli.command, Command::Remove(Rules { rules }) if rules == ["7", "a"]), "{line}");
        }
    }
}
