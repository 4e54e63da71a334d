//! The life of the daemon: start, serve, end.

use crate::cli::Daemon;
use crate::control::{BindError, Socket, channel};
use crate::engine::{self, Engine, Setup, StateFiles};
use crate::job::output::LogTo;
use crate::job::queue::Limits;
use crate::kernel::detach::{Ready, Side, detach};
use crate::kernel::fanotify::Privilege;
use crate::own_dir::OwnError;
use crate::service_manager::{self, DescriptorStore};
use crate::store::{self, Kept, Store};
use crate::{config, exit, log, watch};
use nix::errno::Errno;
use sd_notify::NotifyState;
use std::convert::Infallible;
use std::error::Error as _;
use std::io;
use std::process::ExitCode;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// What ends a daemon before its time.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Engine(#[from] engine::Error),
    #[error(transparent)]
    Socket(#[from] BindError),
    #[error(transparent)]
    Own(#[from] OwnError),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("the configuration has errors and not one usable rule")]
    Configuration,
    #[error("cannot {0}: {1}")]
    Io(&'static str, #[source] io::Error),
}

impl Error {
    fn exit(&self) -> ExitCode {
        let code = match self {
            Self::Configuration => exit::CONFIGURATION,
            Self::Engine(engine::Error::Watch(watch::Error::Open(Errno::EPERM))) => exit::NOT_PERMITTED,
            Self::Own(error)
            | Self::Socket(BindError::Own(error))
            | Self::Store(store::Error::Own(error)) => match error {
                OwnError::Untrusted { .. } => exit::CONFIGURATION,
                OwnError::Io { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
                    exit::NOT_PERMITTED
                }
                OwnError::Io { .. } => exit::FAILED,
            },
            _ => exit::FAILED,
        };
        code.into()
    }
}

pub fn run(mut options: Daemon) -> ExitCode {
    make_absolute(&mut options);
    let ready = if options.daemon {
        match detach() {
            Ok(Side::Daemon(ready)) => Some(ready),
            Ok(Side::Parent(code)) => return code,
            Err(errno) => {
                eprintln!("facrond: cannot detach: {}", errno.desc());
                return exit::FAILED.into();
            }
        }
    } else {
        None
    };
    log::start(&options.log, false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime
        .map_err(|error| Error::Io("start", error))
        .and_then(|runtime| LocalSet::new().block_on(&runtime, serve(options, ready)));
    log::end();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            tracing::error!("{error}{cause}");
            error.exit()
        }
    }
}

/// In the background the working directory is another one.
fn make_absolute(options: &mut Daemon) {
    let Daemon { files, socket, state_dir, runtime_dir, .. } = options;
    for path in [&mut files.conf, &mut files.conf_dir, socket, state_dir, runtime_dir] {
        // An empty one stays so, and is complained about where it is used.
        if let Ok(absolute) = std::path::absolute(&*path) {
            *path = absolute;
        }
    }
}

async fn serve(options: Daemon, ready: Option<Ready>) -> Result<(), Error> {
    let socket = Socket::bind(&options.socket)?;
    let (state, runtime) = (options.state_dir, options.runtime_dir);
    let kept = Kept { records: options.history.history, age: options.history.history_age };
    let (store, saved) = Store::open(&state, &store::boot_of(&runtime)?, kept)?;
    let files = StateFiles::new(state, runtime);
    let mut engine = Engine::new(Setup {
        conf: options.files.conf,
        conf_dir: options.files.conf_dir,
        files: Some(files),
        store,
        saved,
        kept,
        limits: Limits { pending: options.limits.max_pending, running: options.limits.max_jobs },
        descriptors: DescriptorStore::open(),
        log_to: LogTo::Log,
    })?;
    let diagnostics = engine.load();
    log::diagnostics(&diagnostics);
    let rules = engine.rule_count();
    if config::has_errors(&diagnostics) {
        if rules == 0 {
            return Err(Error::Configuration);
        }
        tracing::error!("the lines with errors are left out; `facrond check` shows them");
    }
    if engine.watch().privilege() == Privilege::User {
        tracing::warn!(
            "running as an ordinary user: no pids of other processes, and limited marks and queue \
             (/proc/sys/fs/fanotify)"
        );
    }
    let socket_path =
        facron_proto::Text::from(std::os::unix::ffi::OsStrExt::as_bytes(options.socket.as_os_str()));
    let (announce, announced) = oneshot::channel();
    let announce = move |_: &mut Engine| {
        tracing::info!(rules, socket = %socket_path, "facrond {} is ready", env!("CARGO_PKG_VERSION"));
        service_manager::notify(&[NotifyState::Ready]);
        // The receiver is gone when the daemon ends already.
        let _ = announce.send(());
    };
    let (handle, calls) = channel();
    let served = async {
        // Clients that come earlier wait in the socket's queue.
        if announced.await.is_ok()
            && let Some(ready) = ready
        {
            ready.tell().map_err(|error| Error::Io("detach", error))?;
        }
        Ok::<Infallible, Error>(socket.serve(handle).await)
    };
    tokio::select! {
        result = engine.run(calls, announce) => result?,
        result = served => match result? {},
    }
    tracing::info!("facrond ends");
    Ok(())
}
