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
    (
        "self",
        "Also events that facron's own commands, and what descends from them, cause. Without it they are ignored, so that no rule fires itself.",
    ),
    (
        "uid",
        "Only events that processes of this user cause, or with `!` before it those of all others. The effective user counts, by name or number. Where it is not known who caused an event, the condition does not hold and its negation does.",
    ),
    (
        "exe",
        "Only events that programs cause whose path matches this glob, or with `!` before it those of all others. A glob without a `/` is matched on the file name, one with a `/` on the whole path, links resolved. Where it is not known who caused an event, the condition does not hold and its negation does.",
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
        "The longest that the command may run. Then it and all that descends from it get SIGTERM. Default: no limit.",
    ),
    ("kill-after", "How long after SIGTERM what is left of them gets SIGKILL. Default: 5s."),
    (
        "jobs",
        "At most so many commands of this rule run at the same time. Default: no limit but `--max-jobs`.",
    ),
    (
        "settle",
        "For each path, wait until it has been quiet for so long. The command then runs once, for all the events since the last run; `$%` and `$&` tell of all, the other tokens and variables of the last one.",
    ),
    (
        "batch",
        "Wait until there has been no event of the rule for so long, then run once for all paths. `$$` as a whole argument becomes one argument a path, each path once, in the order of their first events. All other tokens, the environment and the record tell of the last event. Where the arguments would be too long for the kernel, there are several runs, one after the other. The batches of a rule never run at the same time: while one runs, the next one grows. With `settle` as well, the longer of the two counts.",
    ),
    (
        "max-wait",
        "With `settle` or `batch`, the longest that an event waits for quiet. Default: ten times as long as the quiet has to last.",
    ),
    (
        "rate",
        "At most so many runs start within so much time; what is over waits. Tries of `retry` and the parts of a batch count, too.",
    ),
    (
        "busy",
        "What an event does while the rule's command runs on that path, or, with `batch`, runs at all. `queue`: it waits for a run of its own (default). `skip`: it is dropped. `restart`: it stops the command as a timeout would, and the command starts anew. `rerun`: the command runs once more afterwards, for all events meanwhile. With `batch`, `queue` is the same as `rerun`, and a stopped batch hands its paths on to the next. But for `queue`, an event joins what has not started yet.",
    ),
    (
        "retry",
        "Run the command again, up to so many times, when it exits with another status than 0, is ended by a signal or cannot be started; not when it runs into its timeout. The pauses between are 1s, 2s, 4s and so on up to 60s. Other paths do not wait for that. The record shows what became of the last try and how many there were; only that counts as failed.",
    ),
    (
        "verdict",
        "Of permission events: `command` (default), COMMAND decides: exit 0 allows, any other exit status denies; `allow` or `deny`, answered at once, and COMMAND runs afterwards.",
    ),
    (
        "deadline",
        "Of permission events: the longest that a process waits for its answer. Then `on-failure` applies and the command is stopped. The command has the time in `FACRON_DEADLINE`. Default: 5s.",
    ),
    (
        "on-failure",
        "Of permission events: `allow` (default) or `deny`, where there is no verdict: the deadline has passed, the command cannot be started or was ended by a signal, or too many wait already.",
    ),
    (
        "cache",
        "Of permission events: the verdict is remembered for the file until it is modified, or this long. Allowances are remembered by the kernel; not on file systems without lasting file handles, such as overlayfs.",
    ),
];
