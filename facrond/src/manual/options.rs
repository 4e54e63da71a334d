//! What each option does.

/// The name of each option, and what it does.
pub(super) const OPTIONS: &[(&str, &str)] = &[
    ("name", "A name for `facronctl` and the log. No two rules have the same; letters, digits and `_.@:-`."),
    ("recursive", "The whole tree below PATH, also directories that are made or moved in later."),
    (
        "include",
        "Only what matches one of these globs. A glob without a `/` is matched on the file name, one with a `/` on the path below PATH. May be given several times.",
    ),
    (
        "exclude",
        "Nothing that matches this glob, and nothing in a directory that matches it. It wins over `include`. May be given several times.",
    ),
    (
        "type",
        "Only events of files, or with `type=dir` only those of directories; `type=dir` implies `FAN_ONDIR`. Anything but a directory counts as a file.",
    ),
    ("once", "The rule fires once. Then it is removed; a rule of a file is `done` until its line changes."),
    (
        "user",
        "Run the command as this user, by name or number: with its groups and environment, and without any capability. Default: the daemon's user.",
    ),
    ("group", "Run the command with this primary group in place of the user's own."),
    ("umask", "The command's umask, in octal. Default: 022."),
    ("nice", "The command's nice value, from -20 to 19. Default: that of the daemon."),
    (
        "shell",
        "The rest of the line is a script for `/bin/sh -c`, taken as it stands: no quotes are removed and no token is replaced. The event is in the environment (`\"$FACRON_PATH\"`).",
    ),
    (
        "stdin",
        "With `stdin=json` the command reads the event from standard input, as a JSON object on a line; its members are those of a record of `facronctl --json tail`, and `mask`. Default: `/dev/null`.",
    ),
    (
        "cwd",
        "The command's working directory, an absolute path. Default: that of the daemon, `/` under systemd.",
    ),
    (
        "env",
        "A variable in the command's environment. `FACRON_*` variables that tell of the event cannot be changed. May be given several times.",
    ),
    (
        "output",
        "Where standard output and error go: `log`, the daemon's log (default); `null`, nowhere; or the absolute path of a file to append to, which is made if it is missing and must not be a symbolic link.",
    ),
    (
        "timeout",
        "The longest that the command may run. Then its process group gets SIGTERM. Default: no limit.",
    ),
    ("kill-after", "How long after SIGTERM what is left of the process group gets SIGKILL. Default: 5s."),
    (
        "jobs",
        "At most so many commands of this rule run at the same time. Default: no limit but `--max-jobs`.",
    ),
];
