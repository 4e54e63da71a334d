//! One served file system: what waits for its worker, and what that answers.

use super::message::{Reply, Request, unpack};
use super::{Answered, Leftover, MAX_SEEN, Received, Silence};
use crate::helper::Channel;
use crate::kernel::object::DirEntry;
use crate::kernel::packet;
use crate::kernel::record::FsId;
use crate::kernel::sources::Sources;
use crate::kernel::spawn::{Spawn, Spawner};
use crate::watch::marks::GroupOf;
use crate::watch::recheck::{Place, Task};
use crate::watch::scanner::{Answer, InodeKey, Probe};
use facron_proto::Text;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

/// A server that was asked so long ago does not answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How many looks are asked for before the first is answered. All their packets have room in
/// the socket.
const MOST_LOOKS: usize = 8;

/// How often a worker is started anew for one request.
const MAX_DEATHS: u32 = 3;

/// One file system, at one mount or several.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) device: FsId,
    pub(super) kind: String,
    pub(super) points: Vec<Vec<u8>>,
    /// The line to the worker, which the first request starts.
    pub(super) channel: Option<Channel>,
    /// What the worker was asked, in the order of the answers.
    pub(super) doing: VecDeque<Doing>,
    /// When the worker was asked, or heard of since.
    pub(super) heard: Instant,
    deaths: u32,
    pub(super) checks: VecDeque<(u64, Vec<u8>)>,
    pub(super) leftovers: VecDeque<Leftover>,
    pub(super) places: VecDeque<Place>,
    /// Since when it does not answer, as far as the rules were told.
    pub(super) told: Option<Silence>,
    /// How often all was done.
    pub(super) rounds: u64,
}

/// What a worker does.
#[derive(Debug)]
pub(super) enum Doing {
    Look(Box<Look>),
    Reduce,
    Check(u64, Vec<u8>),
}

/// A look that is under way.
#[derive(Debug)]
pub(in crate::watch) struct Look {
    pub(in crate::watch) task: Task,
    pub(in crate::watch) probe: Probe,
    pub(in crate::watch) group: GroupOf,
    pub(super) asked: SystemTime,
    pub(super) epoch: u64,
    pub(super) entries: Vec<DirEntry>,
    /// The directories of records that were read since.
    pub(super) seen: HashSet<InodeKey>,
}

impl Server {
    pub(super) fn new(device: FsId, kind: String) -> Self {
        Self {
            device,
            kind,
            points: Vec::new(),
            channel: None,
            doing: VecDeque::new(),
            heard: Instant::now(),
            deaths: 0,
            checks: VecDeque::new(),
            leftovers: VecDeque::new(),
            places: VecDeque::new(),
            told: None,
            rounds: 0,
        }
    }

    /// The innermost mount that is on the way to a path.
    pub(super) fn way_to(&self, path: &[u8]) -> Option<&[u8]> {
        let is_on_way = |point: &&Vec<u8>| {
            path.strip_prefix(&***point).is_some_and(|rest| rest.first().is_none_or(|first| *first == b'/'))
        };
        self.points.iter().filter(is_on_way).max_by_key(|point| point.len()).map(|point| &**point)
    }

    pub(super) fn name_on(&self, path: &[u8]) -> String {
        format!("{} ({})", Text(self.way_to(path).unwrap_or_default().to_vec()), self.kind)
    }

    pub(super) fn has_work(&self) -> bool {
        let is_asked_for = !(self.checks.is_empty() && self.leftovers.is_empty() && self.places.is_empty());
        is_asked_for || !self.doing.is_empty()
    }

    /// Whether another look can be asked for: nothing else is to be done first.
    pub(super) fn takes_look(&self) -> bool {
        self.doing.len() < MOST_LOOKS
            && self.looks().count() == self.doing.len()
            && self.checks.is_empty()
            && self.leftovers.is_empty()
    }

    /// The looks that are under way.
    pub(super) fn looks(&self) -> impl Iterator<Item = &Look> {
        self.doing.iter().filter_map(|doing| match doing {
            Doing::Look(look) => Some(&**look),
            _ => None,
        })
    }

    pub(super) fn is_busy(&self) -> bool {
        self.told.is_none() && self.has_work()
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        (!self.doing.is_empty() && self.told.is_none()).then(|| self.heard + TIMEOUT)
    }

    /// Sends a request; starts the worker for the first one.
    pub(super) fn send(
        &mut self,
        request: &Request,
        fd: Option<BorrowedFd<'_>>,
        sources: &Sources,
    ) -> Result<(), Errno> {
        let channel = match &mut self.channel {
            Some(channel) => channel,
            none => none.insert(start(self.points.first().map_or(b"/", |point| &**point), sources)?),
        };
        if self.doing.is_empty() {
            self.heard = Instant::now();
        }
        let sent = channel.send(request, fd);
        // What is under way is given up when the end of the line is read.
        if sent.is_err() && self.doing.is_empty() {
            self.channel = None;
        }
        sent
    }

    pub(super) fn on_reply(&mut self, reply: Reply, tickets: &mut BTreeSet<u64>, received: &mut Received) {
        (self.heard, self.deaths) = (Instant::now(), 0);
        if let (Some(Doing::Look(look)), Reply::Entries(packed)) = (self.doing.front_mut(), &reply) {
            look.entries.extend(unpack(packed));
            return;
        }
        let look = match (self.doing.pop_front(), reply) {
            (Some(Doing::Look(look)), reply) => Some((look, reply)),
            (Some(Doing::Check(ticket, _)), _) => {
                tickets.remove(&ticket);
                received.alive.extend(self.points.iter().cloned());
                None
            }
            (Some(Doing::Reduce) | None, _) => None,
        };
        received.answered.extend(look.and_then(|(look, reply)| look.answered(reply)));
        if let Some(silence) = self.told.take() {
            for point in &self.points {
                tracing::info!("{} answers again", self.name_on(point));
                received.awake.push((point.clone(), silence));
            }
        }
    }

    /// The worker has ended: what it did is to be done by another one, unless many have.
    pub(super) fn on_death(&mut self, tickets: &mut BTreeSet<u64>, received: &mut Received) {
        self.channel = None;
        self.deaths += 1;
        let is_hopeless = self.deaths > MAX_DEATHS;
        for doing in std::mem::take(&mut self.doing) {
            match doing {
                Doing::Look(look) if is_hopeless => {
                    received.answered.extend(look.answered(Reply::Failed(Errno::ECONNRESET as i32)));
                }
                Doing::Look(look) => received.lost.push(*look),
                Doing::Check(ticket, _) if is_hopeless => {
                    tickets.remove(&ticket);
                    received.alive.extend(self.points.iter().cloned());
                }
                Doing::Check(ticket, path) => self.checks.push_front((ticket, path)),
                Doing::Reduce => {}
            }
        }
    }
}

impl Look {
    pub(super) fn answered(self, reply: Reply) -> Option<Answered> {
        let answer = match reply {
            Reply::Found(report) => Answer::Found(Box::new(report.found(self.entries))),
            Reply::Absent => Answer::Absent,
            Reply::DirectoryGone => Answer::DirectoryGone,
            Reply::Failed(errno) => Answer::Failed(Errno::from_raw(errno)),
            Reply::Entries(_) | Reply::Done => return None,
        };
        let was_seen = match &answer {
            Answer::Found(found) => self.seen.len() >= MAX_SEEN || self.seen.contains(&found.facts.object),
            _ => false,
        };
        let Self { task, probe, group, asked, epoch, .. } = self;
        Some(Answered { task, probe, group, asked, epoch, answer, was_seen })
    }
}

fn start(point: &[u8], sources: &Sources) -> Result<Channel, Errno> {
    let (ours, theirs) = packet::pair()?;
    let null = nix::fcntl::open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    let point = CString::new(point).map_err(|_| Errno::EINVAL)?;
    let arguments = [c"facrond".into(), c"worker".into(), point];
    let spawn = Spawn::of_self(&arguments, [theirs.as_fd(), null.as_fd(), null.as_fd()]);
    Spawner::default().spawn(&spawn).map_err(|error| error.errno)?;
    sources.add(&ours)?;
    Ok(Channel::new(ours))
}
