//! File systems that are served by somebody else than this kernel, and whether they
//! answer.
//!
//! Who asks a server that hangs, hangs with it. Once a FUSE server has read a request, not
//! even SIGKILL frees who waits for the answer, and a daemon of which one thread waits
//! cannot end. So at and below such mounts a process of our own looks, one a file system.
//! The engine never waits for it: a request is a packet, and so is the answer. Places wait
//! here until their worker is free.
//!
//! Between a request and its answer records are read. An answer counts only if the same
//! would be asked now; else the place is looked at again, and a mark that nobody knows of
//! is taken back.
//!
//! When an answer takes long, the rules there wait, with what they have; the kernel goes on
//! queueing events. When it comes after all, rules look at their paths as after a mount, and
//! at all that they know there.
//!
//! What is not covered: a mount that was made since the table of mounts was read, and
//! the one at `/`, without which nothing works anyway.

mod message;
mod process;
mod server;

pub(super) use message::{bytes, key};
pub(crate) use process::run;
pub(super) use server::Look;

use super::marks::{GroupOf, MarkTable, Marker};
use super::mirror::{Mirror, Orphan};
use super::mount_table::device;
use super::recheck::{Place, Task};
use super::rules::join;
use super::scanner::{Answer, InodeKey, Probe, Scanner};
use crate::config::mountinfo::Mount;
use crate::kernel::record::{FsId, Handle, Record};
use crate::kernel::sources::Sources;
use facron_proto::Text;
use message::{Order, Reply, Request};
use nix::errno::Errno;
use server::{Doing, Server};
use std::collections::{BTreeSet, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

/// Directories of records that are remembered during a look; with more, each counts.
const MAX_SEEN: usize = 256;

/// The served file systems.
#[derive(Debug)]
pub(super) struct Workers {
    servers: Vec<Server>,
    /// Where the engine waits for answers.
    sources: Rc<Sources>,
    /// How often the table of mounts has changed.
    epoch: u64,
    last_ticket: u64,
    /// Checks without an answer.
    tickets: BTreeSet<u64>,
}

/// A mark that is to be taken away.
#[derive(Debug)]
pub(super) enum Leftover {
    /// With an inode that has no place any more.
    Orphan(Orphan),
    /// As far as nobody knows of it.
    Unknown { key: InodeKey, mask: u64, path: Vec<u8> },
}

/// The answer to a look.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) task: Task,
    pub(super) probe: Probe,
    pub(super) group: GroupOf,
    /// When it was asked. What was seen is at least as new.
    pub(super) asked: SystemTime,
    /// Which table of mounts it is about, see [`Workers::epoch`].
    pub(super) epoch: u64,
    pub(super) answer: Answer,
    /// Whether records of the directory that was found were read before the answer.
    pub(super) was_seen: bool,
}

/// What became of a look that a worker is to do.
enum Sent {
    /// It is under way.
    Asked,
    /// It could not be asked for.
    Answered(Box<Answered>),
    /// It waits until the worker has answered others.
    Later,
}

/// What waited for a file system that is gone.
#[derive(Debug, Default)]
pub(super) struct GivenBack {
    /// The file systems.
    pub(super) gone: Vec<FsId>,
    /// Where one was mounted or unmounted.
    pub(super) points: Vec<Vec<u8>>,
    pub(super) places: Vec<Place>,
    pub(super) tasks: Vec<Task>,
    pub(super) leftovers: Vec<Leftover>,
}

/// A time without an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    pub(super) began: SystemTime,
    /// When all that had happened before was known.
    pub(super) settled: SystemTime,
}

/// File systems where something is still to be looked at.
#[derive(Debug)]
pub struct Pending(Vec<(FsId, u64)>);

impl Workers {
    /// Without any mounts; answers make `sources` readable.
    pub(super) fn new(sources: Rc<Sources>) -> Self {
        Self { servers: Vec::new(), sources, epoch: 0, last_ticket: 0, tickets: BTreeSet::new() }
    }

    /// Takes over the table of mounts. What waited for a file system that is gone is given
    /// back.
    pub(super) fn update<'m>(&mut self, mounts: impl Iterator<Item = &'m Mount>) -> GivenBack {
        self.epoch += 1;
        let mut before = std::mem::take(&mut self.servers);
        let mut given_back = GivenBack::default();
        let points: Vec<_> = before.iter_mut().map(|server| std::mem::take(&mut server.points)).collect();
        for mount in mounts.filter(|mount| mount.needs_server()) {
            let point = mount.point.as_os_str().as_bytes();
            if !points.iter().flatten().any(|before| before == point) {
                given_back.points.push(point.to_vec());
            }
            let device = device(mount);
            let is_it = |server: &Server| server.device == device && server.kind == mount.kind;
            if !self.servers.iter().any(is_it) {
                let known = before.iter().position(is_it);
                let server = known.map(|known| before.swap_remove(known));
                self.servers.push(server.unwrap_or_else(|| Server::new(device, mount.kind.clone())));
            }
            if let Some(server) = self.servers.iter_mut().find(|server| is_it(server)) {
                server.points.push(point.to_vec());
            }
        }
        let is_kept = |point: &Vec<u8>| self.servers.iter().any(|server| server.points.contains(point));
        given_back.points.extend(points.into_iter().flatten().filter(|point| !is_kept(point)));
        for server in before {
            given_back.gone.push(server.device);
            given_back.places.extend(server.places);
            given_back.leftovers.extend(server.leftovers);
            for doing in server.doing {
                match doing {
                    Doing::Look(look) => given_back.tasks.push(look.task),
                    Doing::Check(ticket, _) => drop(self.tickets.remove(&ticket)),
                    Doing::Reduce => {}
                }
            }
            for (ticket, _) in server.checks {
                self.tickets.remove(&ticket);
            }
        }
        given_back
    }

    /// How often the table of mounts has changed.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether nobody has to be asked: the common case.
    pub(super) fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Which server a path depends on; the innermost mount counts.
    fn at(&self, path: &[u8]) -> Option<usize> {
        let ways = self.servers.iter().enumerate();
        let ways = ways.filter_map(|(index, server)| Some((server.way_to(path)?.len(), index)));
        ways.max().map(|(_, index)| index)
    }

    /// Whether looking at a path needs a server's answer.
    pub(super) fn is_served(&self, path: &[u8]) -> bool {
        self.at(path).is_some()
    }

    /// What a path waits for, for people.
    pub(super) fn wait_at(&self, path: &[u8]) -> String {
        self.why(path).unwrap_or_else(|| {
            let name = self.at(path).map(|index| self.servers[index].name_on(path)).unwrap_or_default();
            format!("{name} has not answered yet")
        })
    }

    /// Which mount on the way to a path does not answer, for people.
    pub(super) fn why(&self, path: &[u8]) -> Option<String> {
        let mut unresponsive = self.servers.iter().filter(|server| server.told.is_some());
        let server = unresponsive.find(|server| server.way_to(path).is_some())?;
        Some(format!("{} does not answer", server.name_on(path)))
    }

    /// All mounts that do not answer, for people.
    pub(super) fn names(&self) -> Vec<String> {
        let unresponsive = self.servers.iter().filter(|server| server.told.is_some());
        unresponsive.flat_map(|server| server.points.iter().map(|point| server.name_on(point))).collect()
    }

    /// A place waits for its worker.
    pub(super) fn park(&mut self, path: &[u8], place: Place) {
        if let Some(index) = self.at(path) {
            self.servers[index].places.push_back(place);
        }
    }

    /// A mark that is at one of these paths is to be taken away; gives it back if no worker
    /// has to do that.
    pub(super) fn take_leftover(&mut self, leftover: Leftover) -> Option<Leftover> {
        let index = match &leftover {
            Leftover::Orphan(orphan) => orphan.beside.as_ref().and_then(|path| self.at(path)),
            Leftover::Unknown { path, .. } => self.at(path),
        };
        let Some(index) = index else { return Some(leftover) };
        self.servers[index].leftovers.push_back(leftover);
        None
    }

    /// Asks the server of a path for a sign of life; the number of the request.
    pub(super) fn check(&mut self, path: &[u8]) -> Option<u64> {
        let index = self.at(path)?;
        self.last_ticket += 1;
        self.tickets.insert(self.last_ticket);
        self.servers[index].checks.push_back((self.last_ticket, path.to_vec()));
        Some(self.last_ticket)
    }

    /// Whether such a request has no answer yet.
    pub(super) fn is_checking(&self, ticket: u64) -> bool {
        self.tickets.contains(&ticket)
    }

    /// The file systems where something is to be looked at, unless they do not answer.
    pub(super) fn pending(&self) -> Pending {
        let busy = self.servers.iter().filter(|server| server.is_busy());
        Pending(busy.map(|server| (server.device, server.rounds)).collect())
    }

    /// Whether that has been done.
    pub(super) fn is_over(&self, pending: &Pending) -> bool {
        pending.0.iter().all(|(device, rounds)| {
            let is_it = |server: &&Server| server.device == *device;
            self.servers
                .iter()
                .find(is_it)
                .is_none_or(|server| server.told.is_some() || server.rounds != *rounds)
        })
    }

    /// All that was found was taken over, and nothing is due.
    pub(super) fn note_rest(&mut self) {
        for server in self.servers.iter_mut().filter(|server| !server.has_work()) {
            server.rounds += 1;
        }
    }

    /// Whether something is still to be looked at, but for what does not answer.
    pub(super) fn are_busy(&self) -> bool {
        self.servers.iter().any(Server::is_busy)
    }

    /// Whether a worker looks at something.
    pub(super) fn are_looking(&self) -> bool {
        self.servers.iter().any(|server| server.looks().next().is_some())
    }

    /// A record was read while workers look.
    pub(super) fn note(&mut self, record: &Record<'_>) {
        let doing = self.servers.iter_mut().flat_map(|server| &mut server.doing);
        let looks = doing.filter_map(|doing| match doing {
            Doing::Look(look) => Some(look),
            _ => None,
        });
        for look in looks.filter(|look| look.seen.len() < MAX_SEEN) {
            let entries = [record.old, record.new, record.entry].into_iter().flatten();
            look.seen.extend(entries.map(|entry| (entry.dir.fs, entry.dir.bytes.into())));
        }
    }

    /// Sends what the workers are free for. Looks that cannot be sent are answered at once.
    pub(super) fn ask(
        &mut self,
        mirror: &mut Mirror,
        marks: &mut MarkTable,
        scanner: &Scanner,
    ) -> Vec<Answered> {
        let mut answered = Vec::new();
        for index in 0..self.servers.len() {
            loop {
                let server = &mut self.servers[index];
                let is_free = server.doing.is_empty();
                if server.takes_look()
                    && let Some(place) = server.places.pop_front()
                {
                    let Some(task) = mirror.take_parked(place) else { continue };
                    match self.send_look(index, task, mirror, marks, scanner) {
                        Sent::Asked => {}
                        Sent::Answered(known) => answered.push(*known),
                        Sent::Later => break,
                    }
                } else if is_free && let Some((ticket, path)) = server.checks.pop_front() {
                    self.send_check(index, ticket, path, scanner);
                } else if is_free && let Some(leftover) = server.leftovers.pop_front() {
                    self.send_leftover(index, leftover, mirror, marks, scanner);
                } else {
                    break;
                }
            }
        }
        answered
    }

    fn send_check(&mut self, index: usize, ticket: u64, path: Vec<u8>, scanner: &Scanner) {
        let request = self.request(scanner, &[&path], Order::Check(path.clone()));
        match self.servers[index].send(&request, None, &self.sources) {
            Ok(()) => self.servers[index].doing.push_back(Doing::Check(ticket, path)),
            // Whoever needs it finds out.
            Err(_) => drop(self.tickets.remove(&ticket)),
        }
    }

    fn send_leftover(
        &mut self,
        index: usize,
        leftover: Leftover,
        mirror: &mut Mirror,
        marks: &mut MarkTable,
        scanner: &Scanner,
    ) {
        let ((fs, handle), excess, paths) = match leftover {
            Leftover::Orphan(orphan) => {
                if !mirror.is_orphan(&orphan) {
                    return;
                }
                let marked = mirror.marked(Handle { fs: orphan.key.0, bytes: &orphan.key.1 });
                mirror.forget_orphan(&orphan);
                marks.forget(orphan.key.0);
                (orphan.key, marked | orphan.marked, orphan.beside.into_iter().collect())
            }
            Leftover::Unknown { key, mask, path } => {
                let known = mirror.marked(Handle { fs: key.0, bytes: &key.1 });
                (key, mask & !known, vec![path])
            }
        };
        let group = paths.first().map_or(GroupOf::All, |path| self.group_of(scanner, path));
        let ways: Vec<&[u8]> = paths.iter().map(|path| &**path).collect();
        let order = Order::Reduce {
            fs: fs.0,
            handle,
            excess,
            paths: paths.iter().map(|path| Text::from(&**path)).collect(),
        };
        let request = self.request(scanner, &ways, order);
        if excess != 0
            && let Ok(group) = marks.group_of(group)
            && self.servers[index].send(&request, Some(group), &self.sources).is_ok()
        {
            self.servers[index].doing.push_back(Doing::Reduce);
        }
    }

    fn send_look(
        &mut self,
        index: usize,
        task: Task,
        mirror: &mut Mirror,
        marks: &mut MarkTable,
        scanner: &Scanner,
    ) -> Sent {
        let probe = mirror.probe(&task);
        let path = join(&probe.path, &probe.name);
        if self.at(&path) != Some(index) {
            // It has another path by now.
            mirror.recheck.again(task);
            return Sent::Asked;
        }
        let is_same = |look: &Look| {
            look.task.place == task.place || (probe.known.is_some() && look.probe.known == probe.known)
        };
        if self.servers[index].looks().any(is_same) {
            // Of two looks at one place or inode, each would make the answer of the other stale.
            return self.send_later(index, task, mirror);
        }
        let group = self.group_of(scanner, &path);
        let request = self.request(scanner, &[&probe.path, &path], Order::Look(probe.clone()));
        let has_mark = probe.need.directory | probe.need.file | probe.marked != 0;
        let fd = has_mark.then(|| marks.group_of(group)).transpose();
        let asked = SystemTime::now();
        let sent = fd.and_then(|fd| self.servers[index].send(&request, fd, &self.sources));
        match sent {
            Ok(()) => {
                let (entries, seen) = (Vec::new(), HashSet::new());
                let look = Look { task, probe, group, asked, epoch: self.epoch, entries, seen };
                self.servers[index].doing.push_back(Doing::Look(Box::new(look)));
                Sent::Asked
            }
            // There is no room, or the worker has ended: what is under way tells when to go on.
            Err(_) if !self.servers[index].doing.is_empty() => self.send_later(index, task, mirror),
            // There is no worker for the moment.
            Err(
                Errno::EMFILE
                | Errno::ENFILE
                | Errno::EAGAIN
                | Errno::ENOMEM
                | Errno::EPIPE
                | Errno::ECONNRESET,
            ) => {
                mirror.recheck.retry(task, Instant::now());
                Sent::Asked
            }
            Err(errno) => {
                let answer = Answer::Failed(errno);
                Sent::Answered(Box::new(Answered {
                    task,
                    probe,
                    group,
                    asked,
                    epoch: self.epoch,
                    answer,
                    was_seen: false,
                }))
            }
        }
    }

    fn send_later(&mut self, index: usize, task: Task, mirror: &mut Mirror) -> Sent {
        let place = task.place.clone();
        if mirror.recheck.park(task) {
            self.servers[index].places.push_front(place);
        }
        Sent::Later
    }

    fn request(&self, scanner: &Scanner, paths: &[&[u8]], order: Order) -> Request {
        let device = match paths.last().map(|path| self.group_of(scanner, path)) {
            Some(GroupOf::Own(device)) => Some(device.0),
            Some(GroupOf::All) | None => None,
        };
        let points: BTreeSet<&[u8]> = paths.iter().filter_map(|path| scanner.mount_point_of(path)).collect();
        let mount_points = points.into_iter().map(Text::from).collect();
        Request { epoch: self.epoch, mount_points, device, order }
    }

    /// Where the marks are of what is at a path: below a served mount there may be another.
    fn group_of(&self, scanner: &Scanner, path: &[u8]) -> GroupOf {
        let point = scanner.mount_point_of(path).unwrap_or(b"/");
        let is_on = |server: &&Server| server.points.iter().any(|other| other == point);
        self.servers.iter().find(is_on).map_or(GroupOf::All, |server| GroupOf::Own(server.device))
    }

    /// The answers that have come, the looks that ended with their worker, and the places
    /// where an end of silence has to be made up for.
    pub(super) fn receive(&mut self) -> Received {
        let mut received = Received::default();
        for server in &mut self.servers {
            while let Some(channel) = &mut server.channel {
                match channel.receive::<Reply>() {
                    Ok(Some((reply, _))) => server.on_reply(reply, &mut self.tickets, &mut received),
                    Err(Errno::EAGAIN) => break,
                    Err(Errno::EINTR) => {}
                    Ok(None) | Err(_) => server.on_death(&mut self.tickets, &mut received),
                }
            }
        }
        received
    }

    /// Where silence has begun since the last call; the places that wait there.
    pub(super) fn take_fallen(&mut self, settled: SystemTime) -> Vec<(Vec<Vec<u8>>, Vec<Place>)> {
        let mut fallen = Vec::new();
        for server in &mut self.servers {
            if server.timeout().is_none_or(|timeout| timeout > Instant::now()) {
                continue;
            }
            for point in &server.points {
                tracing::warn!("{} does not answer: what is there waits", server.name_on(point));
            }
            server.told = Some(Silence { began: SystemTime::now() - server.heard.elapsed(), settled });
            let mut places: Vec<_> = server.places.iter().cloned().collect();
            for doing in &server.doing {
                match doing {
                    Doing::Look(look) => places.push(look.task.place.clone()),
                    Doing::Check(ticket, _) => drop(self.tickets.remove(ticket)),
                    Doing::Reduce => {}
                }
            }
            for (ticket, _) in server.checks.drain(..) {
                self.tickets.remove(&ticket);
            }
            fallen.push((server.points.clone(), places));
        }
        fallen
    }

    /// When a server is said not to answer, if it does not until then.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.servers.iter().filter_map(Server::timeout).min()
    }
}

/// What the workers have sent.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) answered: Vec<Answered>,
    /// Looks that ended with their worker.
    pub(super) lost: Vec<Look>,
    /// Mount points where a check was answered.
    pub(super) alive: Vec<Vec<u8>>,
    pub(super) awake: Vec<(Vec<u8>, Silence)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_on_the_way_have_to_answer() {
        let mut workers = Workers::new(Rc::new(Sources::new().unwrap()));
        let table: Vec<_> = ["/mnt/a 0:40", "/mnt/a/in 0:41", "/mnt/twice 0:41"]
            .map(|line| line.split_once(' ').unwrap())
            .map(|(point, device)| format!("36 35 {device} / {point} rw - fuse source rw"))
            .iter()
            .filter_map(|line| Mount::parse(line.as_bytes()))
            .collect();
        workers.update(table.iter());
        assert_eq!(workers.servers.len(), 2, "one for each file system");
        let name = |path: &str| {
            let index = workers.at(path.as_bytes());
            index.map(|index| workers.servers[index].name_on(path.as_bytes()))
        };
        for (path, point) in [
            ("/mnt/a", Some("/mnt/a")),
            ("/mnt/a/b", Some("/mnt/a")),
            ("/mnt/a/in/b", Some("/mnt/a/in")),
            ("/mnt/twice", Some("/mnt/twice")),
            ("/mnt", None),
            ("/mnt/ab", None),
        ] {
            assert_eq!(name(path), point.map(|point| format!("{point} (fuse)")), "{path}");
        }
    }
}
