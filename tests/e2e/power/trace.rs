//! What a daemon has done to the files of its state, as strace tells it.

use std::collections::HashMap;
use std::process::Command;

/// A call that has succeeded. Its times are places in the trace, which grows with each call.
pub struct Op {
    pub begun: usize,
    pub ended: usize,
    pub call: Call,
}

/// Files have their last names here.
pub enum Call {
    /// Makes it, if there is none.
    Open {
        name: String,
    },
    Write {
        name: String,
        at: usize,
        data: Vec<u8>,
    },
    Truncate {
        name: String,
        len: usize,
    },
    Sync {
        name: String,
    },
    Remove {
        name: String,
    },
    /// Adds a line to a file, which is no state.
    Append {
        line: String,
    },
}

/// All calls that change files, and some that a trace of files must not have.
const CALLS: &str = "trace=openat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,fsync,fdatasync,\
    sync_file_range,unlink,unlinkat,rename,renameat,renameat2,link,linkat,mmap,copy_file_range,sendfile";

/// A command that becomes the daemon, traced as far as these files are concerned.
pub fn traced(trace: &str, files: &[String], daemon: &Command) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-q", "-y", "-xx", "--seccomp-bpf", "-s", "8388608", "-e", "signal=none"]);
    strace.args(["-A", "-o", trace, "-e", CALLS]);
    strace.args(files.iter().flat_map(|file| ["-P", file]));
    strace.arg(daemon.get_program()).args(daemon.get_args());
    strace
}

/// The calls in a trace, in the order in which they began.
pub fn read(trace: &str) -> Vec<Op> {
    let (mut ops, mut at) = (Vec::new(), 0);
    // The first halves of calls, by thread.
    let mut halves: HashMap<&str, (usize, &str)> = HashMap::new();
    for line in trace.split_inclusive('\n') {
        at += line.len();
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim();
        if let Some(half) = call.strip_suffix(" <unfinished ...>") {
            halves.insert(thread, (at, half));
        } else if let Some((_, rest)) =
            call.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>"))
        {
            let (begun, half) = halves.remove(thread).unwrap();
            ops.extend(parse(&format!("{half}{rest}")).map(|call| Op { begun, ended: at, call }));
        } else {
            ops.extend(parse(call).map(|call| Op { begun: at, ended: at, call }));
        }
    }
    ops.sort_by_key(|op| op.begun);
    ops
}

/// A call as `name(arguments) = result`.
fn parse(line: &str) -> Option<Call> {
    let (call, result) = line.rsplit_once(" = ")?;
    if result.starts_with(['-', '?']) {
        return None;
    }
    let (call, args) = call.trim_end().strip_suffix(')')?.split_once('(')?;
    let args: Vec<_> = args.split(", ").collect();
    let name = |at: usize| last_name(args[at]);
    Some(match call {
        "openat" if args[2].contains("O_CREAT") && is_state(&name(1)) => Call::Open { name: name(1) },
        "pwrite64" => Call::Write { name: name(0), at: args[3].parse().unwrap(), data: text(args[1]) },
        "write" if !is_state(&name(0)) => Call::Append { line: String::from_utf8(text(args[1])).unwrap() },
        "ftruncate" => Call::Truncate { name: name(0), len: args[1].parse().unwrap() },
        "fsync" | "fdatasync" => Call::Sync { name: name(0) },
        "unlink" if is_state(&name(0)) => Call::Remove { name: name(0) },
        "unlinkat" if is_state(&name(1)) => Call::Remove { name: name(1) },
        "openat" | "unlink" | "unlinkat" => return None,
        _ => panic!("this is not understood: {line}"),
    })
}

/// Whether a file counts: others are made anew at each start.
fn is_state(name: &str) -> bool {
    ["facron.db", "facron.db-wal", "facron.db-journal"].contains(&name)
}

fn last_name(arg: &str) -> String {
    let path = String::from_utf8(text(arg)).unwrap();
    path.rsplit('/').next().unwrap().to_owned()
}

/// The bytes in an argument: `"\x61"`, or `7<\x61>`.
fn text(arg: &str) -> Vec<u8> {
    let digits = arg.trim_end_matches(['"', '>']).split("\\x").skip(1);
    digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
}
