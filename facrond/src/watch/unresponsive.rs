//! File systems that are served by somebody else than this kernel, and whether they
//! answer.
//!
//! A server that hangs holds up whoever looks, and must not hold up the daemon: at
//! and below such mounts an [`Envoy`] looks, one a mount, and the look is given up
//! when it takes long. The rules then wait, with what they have; the kernel goes on
//! queueing events. When an answer comes after all, rules look at their paths as after
//! a mount, and at all that they know there, since a look may have been given up that
//! an event had led to.
//!
//! What is not covered: a mount that was made since the table of mounts was read, and
//! the one at `/`, without which nothing works anyway.

use super::mount_table::Mount;
pub(super) use crate::kernel::envoy::SILENT;
use crate::kernel::envoy::{Envoy, FIRST_PATIENCE};
use crate::kernel::sources::Sources;
use facron_proto::Text;
use nix::errno::Errno;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// The served mounts.
#[derive(Debug)]
pub(super) struct Unresponsive {
    servers: RefCell<Vec<Server>>,
    /// Where the engine waits for late answers.
    sources: Rc<Sources>,
}

#[derive(Debug)]
struct Server {
    mount: Mount,
    /// Started by the first look.
    envoy: Option<Rc<Envoy>>,
    patience: Duration,
    /// Its silence, once the rules were told of it.
    told: Option<Silence>,
}

/// A time without an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    pub(super) began: SystemTime,
    /// When all that had happened before was known.
    pub(super) settled: SystemTime,
}

impl Unresponsive {
    /// Without any mounts; late answers make `sources` readable.
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

    /// Whether nobody has to be asked: the common case.
    pub(super) fn is_empty(&self) -> bool {
        self.servers.borrow().is_empty()
    }

    /// Who has to look at a path in place of this process; the innermost mount counts.
    pub(super) fn worker_at(&self, path: &[u8]) -> Result<Option<Rc<Envoy>>, Errno> {
        let mut servers = self.servers.borrow_mut();
        let on_way = servers.iter_mut().filter(|server| server.is_on_way(path));
        let Some(server) = on_way.max_by_key(|server| server.mount.point.len()) else { return Ok(None) };
        if server.envoy.is_none() {
            server.envoy = Some(Rc::new(Envoy::start(&server.mount.point, server.patience)?));
        }
        Ok(server.envoy.clone())
    }

    /// Which mount on the way to a path is silent, for people.
    pub(super) fn why(&self, path: &[u8]) -> Option<String> {
        let servers = self.servers.borrow();
        let mut silent = servers.iter().filter(|server| server.silent_since().is_some());
        silent
            .find(|server| server.is_on_way(path))
            .map(|server| format!("{} does not answer", server.name()))
    }

    /// All that are silent, for people.
    pub(super) fn names(&self) -> Vec<String> {
        let servers = self.servers.borrow();
        servers.iter().filter(|server| server.silent_since().is_some()).map(Server::name).collect()
    }

    /// Where silence has begun since the last call.
    pub(super) fn take_fallen(&mut self, settled: SystemTime) -> Vec<Vec<u8>> {
        let Self { servers, sources } = self;
        let fallen = servers.get_mut().iter_mut().filter_map(|server| {
            let began = server.silent_since().filter(|_| server.told.is_none())?;
            tracing::warn!("{} does not answer: what is there waits", server.name());
            if let Err(errno) = sources.add(&**server.envoy.as_ref()?) {
                tracing::error!(error = errno.desc(), "cannot wait for its answer");
            }
            server.told = Some(Silence { began, settled });
            Some(server.mount.point.clone())
        });
        fallen.collect()
    }

    /// Where silence has ended.
    pub(super) fn take_answered(&mut self) -> Vec<(Vec<u8>, Silence)> {
        let answered = self.servers.get_mut().iter_mut().filter_map(|server| {
            server.patience = server.envoy.as_ref().filter(|_| server.told.is_some())?.has_awoken()?;
            server.envoy = None;
            tracing::info!("{} answers again", server.name());
            Some((server.mount.point.clone(), server.told.take()?))
        });
        answered.collect()
    }
}

impl Server {
    fn new(mount: Mount) -> Self {
        Self { mount, envoy: None, patience: FIRST_PATIENCE, told: None }
    }

    fn is_on_way(&self, path: &[u8]) -> bool {
        path.strip_prefix(&*self.mount.point)
            .is_some_and(|rest| rest.first().is_none_or(|first| *first == b'/'))
    }

    fn silent_since(&self) -> Option<SystemTime> {
        self.envoy.as_ref().and_then(|envoy| envoy.silent_since())
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
