//! The command line.

#![expect(clippy::doc_markdown, reason = "these comments are what --help shows")]

use crate::style::When;
use crate::time;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use facron_config::process_filter::user_number;
use jiff::Timestamp;
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

const TAIL_EXAMPLES: &str = "\
Examples:
  facronctl tail -f --failed
  facronctl tail --since yesterday --until 10:00 --path '/srv/in/**'
  facronctl tail --since -2h --exe rsync --uid backup

TIME is as journalctl takes it: now, today, yesterday, tomorrow; -2h, +5min, 3 days ago; 2026-11-24, \
2026-11-24 10:00[:00], 10:00; @ and the seconds since 1970.
GLOB is as in include= of a rule on /: without a slash it is matched on the file name, and /srv/in/** is all below /srv/in.";

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
#[command(after_help = TAIL_EXAMPLES)]
pub(crate) struct Tail {
    /// How many of the last events to show [default: 10; with --since, all]
    #[arg(short = 'n', long = "lines", value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Go on, and show each event when it is known what became of it
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only events of this rule
    #[arg(long)]
    pub(crate) rule: Option<String>,
    /// Only what went wrong
    #[arg(long)]
    pub(crate) failed: bool,
    /// Only events of this time and later
    #[arg(long, value_name = "TIME", value_parser = time::parse, allow_hyphen_values = true)]
    pub(crate) since: Option<Timestamp>,
    /// Only events of this time and earlier
    #[arg(long, value_name = "TIME", value_parser = time::parse, allow_hyphen_values = true)]
    pub(crate) until: Option<Timestamp>,
    /// Only events with such a path; of a rename either one
    #[arg(long, value_name = "GLOB", value_hint = ValueHint::AnyPath)]
    pub(crate) path: Option<String>,
    /// Only events that such a program caused, or with a ! did not cause
    #[arg(long, value_name = "GLOB", value_hint = ValueHint::ExecutablePath)]
    pub(crate) exe: Option<String>,
    /// Only events that this user caused, by name or number
    #[arg(long, value_name = "USER", value_parser = user, value_hint = ValueHint::Username)]
    pub(crate) uid: Option<u32>,
}

fn user(value: &str) -> Result<u32, String> {
    user_number(value.as_bytes(), "write the name or the number of a user")
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
    fn a_time_may_begin_with_a_hyphen() {
        let line = ["facronctl", "tail", "--since", "-2h", "--until", "@5", "--uid", "root", "-n", "3"];
        let Command::Tail(tail) = Cli::try_parse_from(line).unwrap().command else { panic!() };
        assert_eq!((tail.until, tail.uid, tail.limit), (Timestamp::from_second(5).ok(), Some(0), Some(3)));
        assert!(tail.since < Some(Timestamp::now()));
        for bad in [["--since", "noon"], ["--uid", "no-such-user"], ["--uid", "!0"]] {
            let error = Cli::try_parse_from(["facronctl", "tail"].iter().chain(&bad)).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
        }
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
