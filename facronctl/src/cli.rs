//! The command line.

#![expect(clippy::doc_markdown, reason = "these comments are what --help shows")]

use crate::style::When;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use std::ffi::OsString;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  facronctl list
  facronctl add --persist /srv/drop ARRIVED /usr/local/bin/take-in '$$'
  facronctl tail -f --failed

Rules are named by their number or their `name=`.
Exit status: 0 success, 1 refused or failed, 2 usage, 69 no daemon, 77 not permitted.";

const ADD_EXAMPLES: &str = "\
Examples:
  facronctl add /srv/drop ARRIVED /usr/local/bin/take-in '$$'
  facronctl add -o name=nginx -o timeout=30s /etc/nginx ARRIVED nginx -s reload
  facronctl add --persist /etc/shadow OPEN -

Put tokens such as $$ (the path) and $% (the events) in single quotes, or the shell takes them.
facron.conf(5) has all events, options and tokens.";

/// Shows and changes what facrond does.
#[derive(Debug, Parser)]
#[command(name = "facronctl", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// The daemon's socket [env: FACRON_SOCKET] [default: /run/facron/control.sock; for a user
    /// $XDG_RUNTIME_DIR/facron/control.sock]
    #[arg(short, long, global = true)]
    #[arg(value_hint = ValueHint::FilePath)]
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
    #[command(visible_alias = "rm")]
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
    /// Show events and what became of them
    Tail(Tail),
    /// Show the daemon's state and counters
    Status,
    /// Show which rules an event would fire and what they would run; runs nothing
    Explain(Explain),
    /// Look for mistakes in configuration files, without a daemon
    Check(Check),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Write the manual pages of both programs
    #[command(hide = true)]
    Man(Man),
}

#[derive(Debug, Args)]
#[command(after_help = ADD_EXAMPLES)]
pub(crate) struct Add {
    /// Options as in a rule of the configuration, without the brackets; repeatable
    #[arg(short, long = "options", alias = "option", value_name = "OPTIONS")]
    pub(crate) options: Vec<OsString>,
    /// Keep the rule for good, and not only until the next boot
    #[arg(long)]
    pub(crate) persist: bool,
    /// The file or directory to watch, relative to the current directory; it need not exist yet
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) path: PathBuf,
    /// Events of fanotify(7) or ARRIVED, joined by | or a comma
    pub(crate) events: String,
    /// The command and its arguments; a lone - only records the events
    #[arg(required = true, trailing_var_arg = true, value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Rules {
    /// Numbers or names of rules
    #[arg(required = true, value_name = "RULE")]
    pub(crate) rules: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Rule {
    /// The number or name of a rule
    pub(crate) rule: String,
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// How many of the last events to show
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = facron_proto::method::DEFAULT_LIMIT)]
    pub(crate) limit: u64,
    /// Go on, and show each event when it is known what became of it
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only events of this rule
    #[arg(long)]
    pub(crate) rule: Option<String>,
    /// Only what went wrong
    #[arg(long)]
    pub(crate) failed: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Where it would happen, relative to the current directory
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) path: PathBuf,
    /// What would happen: events joined by | or a comma
    pub(crate) events: String,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Files to check in place of the configuration
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: Shell,
    /// What to complete
    #[arg(value_enum, default_value = "facronctl")]
    pub(crate) program: Program,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Program {
    Facronctl,
    Facrond,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// A folder that man(1) looks into, such as /usr/local/share/man
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
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
