//! What each option does.

/// The name of each option, and what it does.
pub(super) const OPTIONS: &[(&str, &str)] = &[
    ("name", "A name for `facronctl` and the log. No two rules have the same; letters, digits and `_.@:-`."),
    ("recursive", "The whole tree below PATH, also directories that are made or moved in later."),
    (
        "include",
        "Only events whose path matches one of these globs. A glob without a `/` is matched on the file name, one with a `/` on the path below PATH. May be given several times.",
    ),
    (
        "exclude",
        "No event whose path matches this glob, and none in a directory that matches it. It wins over `include`. May be given several times.",
    ),
    (
        "type",
        "Only events of files, or with `type=dir` only events of directories; `type=dir` implies `FAN_ONDIR`. Anything but a directory counts as a file.",
    ),
    (
        "self",
        "Also events that facron's own commands, and their descendants, cause. Without it they are ignored, so that no rule fires itself.",
    ),
    (
        "uid",
        "Only events that processes of this user cause, or with `!` before it only the others. The effective user counts. Write its name or number. If the process is not known, the condition does not match, and its negation matches.",
    ),
    (
        "exe",
        "Only events of programs whose path matches this glob, or with `!` before it only the others. A glob without a `/` is matched on the file name, one with a `/` on the whole path, links resolved. If the process is not known, the condition does not match, and its negation matches.",
    ),
    (
        "once",
        "The rule fires once and is then removed. A rule of a configuration file is `done` until its line changes.",
    ),
    (
        "catch-up",
        "What the rule is told of the time before it is watched. `missed`: what was made, changed or moved in since it was last watched, because the daemon was down (default). `all`: the same, and everything that is there when the rule is watched for the first time. `no`: nothing. Such events are `synthetic`, and nobody knows which process caused them. They come when all rules are in force, as far as the rule has room for them. What was deleted or read meanwhile leaves no trace, and what was renamed cannot be told from what was written. A rule whose line was changed, or that was removed and added again, is a new one. After a crash, an event may be told twice; the second one is `repeated`.",
    ),
    (
        "user",
        "Run the command as this user (name or number), with the groups and environment of the user, and without capabilities. Default: the daemon's user.",
    ),
    ("group", "Run the command with this primary group in place of the primary group of the user."),
    ("umask", "The command's umask, in octal. Default: 022."),
    ("nice", "The command's nice value, from -20 to 19. Default: the nice value of the daemon."),
    (
        "shell",
        "The rest of the line is a script for `/bin/sh -c`, unchanged: no quotes are removed and no token is replaced. The event is in the environment (`\"$FACRON_PATH\"`).",
    ),
    (
        "stdin",
        "What the command reads from standard input. `json`: the event, as one JSON object on one line. It has the members of a record of `facronctl --json tail`, and `mask`. `file`: the file of the event itself, opened for reading without following links, and `FACRON_FD=0` is set; if the file is gone or was replaced, the command does not run. Not with `batch`. `null`: nothing. Default: `file` for a command that decides, else `null`.",
    ),
    (
        "cwd",
        "The command's working directory, an absolute path. Default: the working directory of the daemon, `/` under systemd.",
    ),
    (
        "env",
        "A variable in the command's environment. The `FACRON_*` variables of the event cannot be changed. May be given several times.",
    ),
    (
        "output",
        "Where standard output and error go: `log`, the daemon's log (default); `null`, nowhere; or the absolute path of a file to append to. The user of the command opens the file, and makes it if it does not exist. It must be a regular file without further names, and no part of its path may be a symbolic link.",
    ),
    (
        "timeout",
        "How long the command may run. After that time, it and all its descendants get SIGTERM. Default: no limit.",
    ),
    ("kill-after", "How long after SIGTERM the remaining processes get SIGKILL. Default: 5s."),
    (
        "jobs",
        "At most this many commands of this rule run at the same time. Default: half of what other rules leave of `--max-jobs`.",
    ),
    (
        "settle",
        "For each path, wait until it has been quiet for this long. Then the command runs once for all events since the last run. `$%` and `$&` contain all these events; the other tokens and variables are those of the last event.",
    ),
    (
        "batch",
        "Wait until the rule has had no event for this long, then run once for all paths. A `$$` that is a whole argument becomes one argument for each path, in the order of their first events. All other tokens, the environment and the record are those of the last event. If the arguments are too long for the kernel, there are several runs, one after the other. The batches of a rule never run at the same time: while one runs, the next one grows. With `settle` as well, the longer of the two counts.",
    ),
    (
        "max-wait",
        "With `settle` or `batch`, how long an event waits at most. Default: ten times their duration.",
    ),
    (
        "rate",
        "At most this many runs start within this time. Further runs wait. Tries of `retry` and the parts of a batch count, too.",
    ),
    (
        "busy",
        "What an event does while the rule's command runs on that path, or, with `batch`, runs at all. `queue`: it waits for a run of its own (default). `skip`: it is dropped. `restart`: it stops the command as a timeout does, and the command starts again. `rerun`: the command runs once more afterwards, for all events meanwhile. With `batch`, `queue` is the same as `rerun`, and the paths of a stopped batch go to the next batch. Except with `queue`, an event joins a run that has not started yet.",
    ),
    (
        "retry",
        "Run the command again, up to this many times, if its exit status is not 0, if a signal ends it, or if it cannot be started; not after a timeout. The pauses are 1s, 2s, 4s and so on up to 60s. Other paths do not wait. The record shows the outcome of the last try and the number of tries; only the last try counts as failed.",
    ),
    (
        "done",
        "What becomes of the file when its command has succeeded. An absolute path: the file is moved to this directory, which is made if it does not exist. `delete`: it is removed. Only a file that is still the same and has not changed since the command began is moved: else it stays, and the command runs for it once more. A name that is taken gets `.1`, `.2` and so on. The rule's user moves the file, and follows no links. On another file system it is copied first, with its times and, as far as that user may, its owner, mode and extended attributes. If it cannot be moved, the record is `not_moved`, which counts as failed. Directories stay. A command for whose path there is no file any more does not run. With `batch` no run has more than 1000 files. The rule does not watch this directory, and what it moves does not fire it; other rules are told, but not if their own `done` or `failed` leads back to this rule.",
    ),
    (
        "failed",
        "The directory to which the file is moved, in the same way, when the last try has failed. Beside the file, `NAME.facron` has, as JSON, the rule, the time, the outcome, the number of tries and the end of the output.",
    ),
    (
        "verdict",
        "For permission events. `command` (default): COMMAND decides, exit status 0 allows, any other exit status denies. `allow` or `deny`: the answer is given at once, and COMMAND runs afterwards.",
    ),
    (
        "deadline",
        "For permission events: how long a process waits for its answer at most. Then `on-failure` applies and the command is stopped. The command finds the time in `FACRON_DEADLINE`. Default: 5s.",
    ),
    (
        "on-failure",
        "For permission events: `allow` (default) or `deny`, the answer if there is no verdict: the deadline has passed, the command cannot be started or was ended by a signal, or too many processes wait already.",
    ),
    (
        "cache",
        "For permission events: the verdict about the file is remembered for this long, or until the file is modified. The kernel remembers verdicts that allow, but not on file systems without lasting file handles, such as overlayfs.",
    ),
];
