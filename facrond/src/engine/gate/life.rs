//! The gate's life: its start, its end, and the next one.

use super::Permissions;
use crate::engine::Engine;
use crate::gate::client::{Client, Failed};
use crate::kernel::permission::Class;
use crate::kernel::{packet, wait};
use crate::watch::PathState;
use nix::errno::Errno;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// A gate that dies sooner than this after its start is not started again at once.
const SOUND: Duration = Duration::from_millis(50);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause after a gate that was ready: until its end nobody is asked.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// The pause after a gate that could not be started.
const NEXT_TRY: Duration = Duration::from_secs(1);

impl Permissions {
    fn start_in(&mut self, pause: Duration) {
        self.start_at = Some(tokio::time::Instant::now() + pause);
    }
}

impl Engine {
    /// Starts the gate if there is none; else why it cannot be.
    pub(super) fn start_gate(&mut self) -> Result<(), PathState> {
        let (needed, is) = self.permissions.class;
        if self.permissions.client.is_some() && needed == is {
            return Ok(());
        }
        if self.permissions.start_at.is_some() {
            return Err(PathState::Waiting("the gate is about to be started again".to_owned()));
        }
        match self.spawn_gate() {
            Ok(client) => {
                tracing::info!(pid = client.pid(), "the gate answers permission events");
                // It stays until the other has its marks.
                let before = self.close_gate();
                let permissions = &mut self.permissions;
                permissions.client = Some(client);
                permissions.class.1 = permissions.class.0;
                permissions.generation += 1;
                permissions.started = Instant::now();
                if before.is_some() {
                    self.place_all();
                }
                Ok(())
            }
            Err(failed @ Failed::Unfit(_)) => Err(PathState::Failed(failed.to_string())),
            Err(failed) => {
                tracing::error!("{failed}");
                self.permissions.start_in(NEXT_TRY);
                Err(PathState::Waiting(failed.to_string()))
            }
        }
    }

    fn spawn_gate(&mut self) -> Result<Client, Failed> {
        let errno = |error: std::io::Error| {
            Failed::NotStarted(Errno::from_raw(error.raw_os_error().unwrap_or_default()))
        };
        let (ours, theirs) = packet::pair().map_err(Failed::NotStarted)?;
        let class = match self.permissions.class.0 {
            Class::Content => c"content",
            Class::PreContent => c"pre-content",
        };
        let pid = CString::new(self.pid.to_string()).unwrap_or_default();
        let arguments = [c"facrond".into(), c"gate".into(), class.into(), pid];
        let pid = self.runner.start_helper(&arguments, theirs.as_fd()).map_err(Failed::NotStarted)?;
        drop(theirs);
        Client::new(pid, ours).map_err(errno)?
    }

    /// Lets the gate go: when it is dropped, it answers all that waits, and ends.
    pub(in crate::engine) fn close_gate(&mut self) -> Option<Client> {
        let client = self.permissions.client.take()?;
        let Permissions { totals: (before, now), .. } = &mut self.permissions;
        *before = before.plus(std::mem::take(now));
        self.forget_questions();
        Some(client)
    }

    /// A child has changed its state: a gate that was stopped would hold up everybody.
    pub(in crate::engine) fn end_a_stopped_gate(&self) {
        if let Some(client) = &self.permissions.client
            && wait::has_stopped(client.pid())
        {
            tracing::warn!("somebody has stopped the gate, which answers permission events: it is ended");
            client.end();
        }
    }

    /// The gate has ended, and the kernel has let go of all that waited.
    pub(super) fn on_gate_end(&mut self, failed: Failed) {
        if self.permissions.client.is_none() {
            return;
        }
        tracing::error!("{failed}");
        self.close_gate();
        let permissions = &mut self.permissions;
        permissions.pause = match permissions.started.elapsed() {
            age if age >= SOUND => Duration::ZERO,
            _ => (permissions.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE),
        };
        permissions.start_in(permissions.pause);
        for guarded in permissions.rules.values_mut().filter(|guarded| guarded.state == PathState::Active) {
            guarded.state = PathState::Waiting(failed.to_string());
        }
    }
}
