//! File systems that depend on a server, and whether the server answers.
//!
//! A server that hangs makes every process that looks there wait. The daemon must not wait.
//! So each such mount has a file-system worker ([`Worker`]), which does the looks there. A look
//! that takes too long is given up. Then the rules wait, and keep their marks; the kernel
//! goes on queueing events. When the server answers again, the rules look at their paths as
//! after a mount, and at all their known places there, because an event may have caused a
//! look that was given up.
//!
//! Two cases are not covered: a mount that was made after the table of mounts was read, and
//! the mount at `/`, without which nothing works.

use super::mount_table::Mount;
use crate::kernel::sources::Sources;
pub(super) use crate::kernel::worker::UNRESPONSIVE;
use crate::kernel::worker::{FIRST_TIMEOUT, Worker};
use facron_proto::Text;
use nix::errno::Errno;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// The mounts that depend on a server.
#[derive(Debug)]
pub(super) struct Unresponsive {
    servers: RefCell<Vec<Server>>,
    /// The set of descriptors on which the engine waits for late answers.
    sources: Rc<Sources>,
}

#[derive(Debug)]
struct Server {
    mount: Mount,
    /// The worker, which the first look starts.
    worker: Option<Rc<Worker>>,
    timeout: Duration,
    /// Since when it does not answer, if the rules were already suspended.
    told: Option<Outage>,
}

/// A time during which a server does not answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outage {
    pub(super) began: SystemTime,
    /// When the queue was last empty and nothing had to be looked at.
    pub(super) settled: SystemTime,
}

impl Unresponsive {
    /// A table without mounts. Late answers make `sources` readable.
    pub(super) fn new(sources: Rc<Sources>) -> Self {
        Self { servers: RefCell::default(), sources }
    }

    /// Takes over the table of mounts.
    pub(super) fn update<'a>(&mut self, mounts: impl Iterator<Item = &'a Mount>) {
        let before = self.servers.get_mut();
        let servers = mounts.filter(|mount| mount.is_served() && *mount.point != *b"/").map(|mount| {
            let known = before.iter().position(|server| server.mount == *mount);
            known.map_or_else(|| Server::new(mount.clone()), |known| before.swap_remove(known))
        });
        *before = servers.collect();
    }

    /// Whether no mount depends on a server, which is the usual case.
    pub(super) fn is_empty(&self) -> bool {
        self.servers.borrow().is_empty()
    }

    /// The worker for a path, if it depends on a server. The innermost mount counts.
    pub(super) fn worker_at(&self, path: &[u8]) -> Result<Option<Rc<Worker>>, Errno> {
        let mut servers = self.servers.borrow_mut();
        let on_way = servers.iter_mut().filter(|server| server.is_on_way(path));
        let Some(server) = on_way.max_by_key(|server| server.mount.point.len()) else { return Ok(None) };
        if server.worker.is_none() {
            server.worker = Some(Rc::new(Worker::start(&server.mount.point, server.timeout)?));
        }
        Ok(server.worker.clone())
    }

    /// The mount on a path whose server does not answer, as a sentence for people.
    pub(super) fn why(&self, path: &[u8]) -> Option<String> {
        let servers = self.servers.borrow();
        let mut unresponsive = servers.iter().filter(|server| server.unresponsive_since().is_some());
        unresponsive
            .find(|server| server.is_on_way(path))
            .map(|server| format!("{} does not answer", server.name()))
    }

    /// All mounts whose server does not answer, as text for people.
    pub(super) fn names(&self) -> Vec<String> {
        let servers = self.servers.borrow();
        servers.iter().filter(|server| server.unresponsive_since().is_some()).map(Server::name).collect()
    }

    /// The mount points whose server has stopped to answer since the last call.
    pub(super) fn take_fallen(&mut self, settled: SystemTime) -> Vec<Vec<u8>> {
        let Self { servers, sources } = self;
        let fallen = servers.get_mut().iter_mut().filter_map(|server| {
            let began = server.unresponsive_since().filter(|_| server.told.is_none())?;
            tracing::warn!("{} does not answer: what is there waits", server.name());
            if let Err(errno) = sources.add(&**server.worker.as_ref()?) {
                tracing::error!(error = errno.desc(), "cannot wait for its answer");
            }
            server.told = Some(Outage { began, settled });
            Some(server.mount.point.clone())
        });
        fallen.collect()
    }

    /// The mount points whose server answers again, since the last call.
    pub(super) fn take_answered(&mut self) -> Vec<(Vec<u8>, Outage)> {
        let answered = self.servers.get_mut().iter_mut().filter_map(|server| {
            server.timeout = server.worker.as_ref().filter(|_| server.told.is_some())?.has_awoken()?;
            server.worker = None;
            tracing::info!("{} answers again", server.name());
            Some((server.mount.point.clone(), server.told.take()?))
        });
        answered.collect()
    }
}

impl Server {
    fn new(mount: Mount) -> Self {
        Self { mount, worker: None, timeout: FIRST_TIMEOUT, told: None }
    }

    fn is_on_way(&self, path: &[u8]) -> bool {
        path.strip_prefix(&*self.mount.point)
            .is_some_and(|rest| rest.first().is_none_or(|first| *first == b'/'))
    }

    fn unresponsive_since(&self) -> Option<SystemTime> {
        self.worker.as_ref().and_then(|worker| worker.unresponsive_since())
    }

    fn name(&self) -> String {
        format!("{} ({})", Text(self.mount.point.clone()), self.mount.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_on_the_way_have_to_answer() {
        let mount = Mount::parse(b"36 35 0:40 / /mnt/a rw - fuse source rw").unwrap();
        let server = Server::new(mount);
        for (path, is_on_way) in [("/mnt/a", true), ("/mnt/a/b", true), ("/mnt", false), ("/mnt/ab", false)] {
            assert_eq!(server.is_on_way(path.as_bytes()), is_on_way, "{path}");
        }
    }
}
