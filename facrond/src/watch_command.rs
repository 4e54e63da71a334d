//! `facrond watch`: one rule, no file, no socket, until Ctrl-C.

use crate::cli::Watch;
use crate::config::rule::RuleSpec;
use crate::config::{Words, has_errors, parse_words, path_warnings};
use crate::control::channel;
use crate::engine::{Engine, Error, Setup};
use crate::job::output::LogTo;
use crate::job::queue::Limits;
use crate::kernel::fanotify::Privilege;
use crate::service_manager::DescriptorStore;
use crate::store::{Kept, Saved, Store};
use crate::watch::{self, PathState};
use crate::{exit, log};
use facron_proto::Text;
use nix::errno::Errno;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// `facrond watch PATH EVENTS [-o OPTIONS] [--] COMMAND [ARGUMENT...]`
pub fn run(options: &Watch) -> ExitCode {
    log::start(&options.log, true);
    let Some(spec) = rule(options) else { return exit::USAGE.into() };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("facrond: cannot start: {error}");
            return exit::FAILED.into();
        }
    };
    let result = LocalSet::new().block_on(&runtime, serve(options, spec));
    log::end();
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("facrond: {error}");
            match error {
                Error::Watch(watch::Error::Open(Errno::EPERM)) => exit::NOT_PERMITTED.into(),
                _ => exit::FAILED.into(),
            }
        }
    }
}

/// The rule of the command line; what is wrong with it is printed.
fn rule(options: &Watch) -> Option<RuleSpec> {
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let path = absolute(&options.path);
    let joined = options.options.join(&OsString::from(" "));
    let words = Words {
        path: path.as_os_str().as_bytes(),
        events: options.events.as_bytes(),
        options: joined.as_bytes(),
        command: options.command.iter().map(|word| word.as_bytes()).collect(),
    };
    let (spec, diagnostics) = match parse_words(&words) {
        Ok((spec, mut warnings)) => {
            warnings.extend(path_warnings(&spec));
            (Some(spec), warnings)
        }
        Err(diagnostics) => (None, diagnostics),
    };
    for diagnostic in &diagnostics {
        eprintln!("{}", diagnostic.render(color));
    }
    debug_assert_eq!(spec.is_none(), has_errors(&diagnostics));
    spec
}

fn absolute(path: &OsString) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(OsString::from_vec(path.as_bytes().to_vec())))
}

async fn serve(options: &Watch, spec: RuleSpec) -> Result<ExitCode, Error> {
    let mut engine = Engine::new(Setup {
        conf: PathBuf::new(),
        conf_dir: PathBuf::new(),
        files: None,
        store: Store::absent(),
        saved: Saved::default(),
        kept: Kept::default(),
        limits: Limits { pending: options.limits.max_pending, running: options.limits.max_jobs },
        descriptors: DescriptorStore::default(),
        log_to: LogTo::Stdout,
    })?;
    let path = Text::from(spec.path.as_os_str().as_bytes());
    let events = spec.events;
    let id = engine.add_rule(spec);
    let (fail, failed) = oneshot::channel();
    let announce = move |engine: &mut Engine| match engine.path_state(id) {
        Some(PathState::Failed(why)) => {
            eprintln!("facrond: this cannot be watched: {why}");
            // The receiver is gone when the engine ends already.
            let _ = fail.send(());
        }
        state => {
            if let Some(PathState::Waiting(why) | PathState::Unresponsive(why)) = state {
                eprintln!("facrond: waiting for {path}: {why}");
            }
            eprintln!("facrond: watching {path} for {events}; Ctrl-C ends it");
            if engine.watch().privilege() == Privilege::User {
                eprintln!(
                    "facrond: as an ordinary user: the pids of other processes are hidden, marks and queue \
                     are limited"
                );
            }
        }
    };
    let (_calls, receiver) = channel();
    tokio::select! {
        result = engine.run(receiver, announce) => result.map(|()| ExitCode::SUCCESS),
        Ok(()) = failed => Ok(exit::FAILED.into()),
    }
}
