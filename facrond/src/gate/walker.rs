//! The walker: a process that opens the inodes which the gate is to mark, and sends them to
//! the daemon. The daemon passes them on to the gate.
//!
//! The gate must not wait for a disk, nor the engine for a file system that does not
//! answer, and both could be held up for ever by one look. The walker may. It descends from
//! the daemon, so the gate always lets it open what it needs.

use super::message::{Lost, Order, Rule};
use crate::config::filter::Filter;
use crate::config::mountinfo::Mounts;
use crate::config::places;
use crate::config::rule::DEEPEST;
use crate::events::Events;
use crate::helper::Channel;
use crate::kernel::confine;
use crate::kernel::object::{Inode, Kind, Object, PATH_MAX};
use facron_proto::Text;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A large directory takes longer to read than the daemon waits for a sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// How often a walk is interrupted for what the gate waits for.
const INTERRUPTION: Duration = Duration::from_millis(100);

/// Descriptors for one walk: one for each level of a tree, and some more.
const FILES: u64 = 4 * DEEPEST as u64;

/// From the daemon. Walks are carried out one after the other, and files are found meanwhile.
#[derive(Debug, Serialize, Deserialize)]
pub enum Task {
    /// Further files of facron's own, which are always left out.
    Protect(Vec<Text>),
    /// Opens the inodes of a rule: PATH and, if it is `recursive`, all directories below.
    Walk { number: u64, rule: Box<Rule>, work: Work },
    /// Looks for a file.
    Find(Lost),
}

/// What is to become of the inodes of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    Place,
    /// Only the tree at this path below PATH.
    PlaceBelow(Text),
    Unmark,
}

/// From the walker.
#[derive(Debug, Serialize, Deserialize)]
pub enum Finding {
    /// Still at work.
    Alive,
    /// For the gate, with the descriptor that comes with it.
    Order { walk: Option<u64>, order: Order },
    /// A directory that is left out, for a reason that the administrator should know.
    LeftOut { path: Text, why: String },
    /// The end of a walk.
    End { number: u64, refusal: Option<Refusal> },
}

/// Why nothing may be marked for a rule.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    #[error("{0} does not exist")]
    Missing(Text),
    /// Permission events there could hold the machine.
    #[error("permission events cannot be asked for at {path}: {why}")]
    Refused { path: Text, why: String },
}

/// `facrond walker`
pub fn run() -> ExitCode {
    let Ok(channel) = Channel::of_helper() else { return ExitCode::FAILURE };
    // With fewer descriptors it only gets less far.
    let _ = confine::raise_file_limit(FILES);
    match Walker::new(channel).serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

struct Walker {
    channel: Channel,
    /// Files of facron's own that the daemon has named.
    own: Vec<PathBuf>,
    /// Tasks that have come during a walk.
    later: VecDeque<Task>,
    last_sign_of_life: Instant,
    next_interruption: Instant,
}

impl Walker {
    fn new(channel: Channel) -> Self {
        let now = Instant::now();
        Self {
            channel,
            own: Vec::new(),
            later: VecDeque::new(),
            last_sign_of_life: now,
            next_interruption: now,
        }
    }

    /// Until the daemon is gone.
    fn serve(&mut self) -> Result<(), Errno> {
        while let Some(task) = self.next_task()? {
            match task {
                Task::Protect(own) => self.own.extend(own.iter().map(path_of)),
                Task::Walk { number, rule, work } => {
                    let filter = Filter::new(rule.patterns.clone()).unwrap_or_default();
                    let mounts = Mounts::read();
                    let refusal = Walk { walker: self, number, rule: *rule, work, filter, mounts }.run()?;
                    self.send(&Finding::End { number, refusal }, None)?;
                }
                Task::Find(lost) => self.find(&lost)?,
            }
        }
        Ok(())
    }

    fn next_task(&mut self) -> Result<Option<Task>, Errno> {
        match self.later.pop_front() {
            Some(task) => Ok(Some(task)),
            None => Ok(self.channel.receive_blocking()?.map(|(task, _)| task)),
        }
    }

    /// Without an answer the gate starts anew, and so remembers nothing.
    fn find(&mut self, lost: &Lost) -> Result<(), Errno> {
        let Ok(found) = find(lost) else { return Ok(()) };
        let order = Order::Found(lost.number);
        self.send(&Finding::Order { walk: None, order }, found.as_ref().map(AsFd::as_fd))
    }

    /// Finds the files that are asked for meanwhile: the gate does not wait for a whole walk.
    fn interrupt(&mut self) -> Result<(), Errno> {
        self.next_interruption = Instant::now() + INTERRUPTION;
        loop {
            match self.channel.receive() {
                Ok(Some((Task::Find(lost), _))) => self.find(&lost)?,
                Ok(Some((task, _))) => self.later.push_back(task),
                Ok(None) => return Err(Errno::EPIPE),
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
    }

    fn send(&mut self, finding: &Finding, fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        self.last_sign_of_life = Instant::now();
        match self.channel.send_blocking(finding, fd) {
            // Nothing so long was ever put before the gate.
            Err(Errno::EMSGSIZE) => Ok(()),
            sent => sent,
        }
    }

    /// During a walk.
    fn pause(&mut self) -> Result<(), Errno> {
        if self.next_interruption <= Instant::now() {
            self.interrupt()?;
        }
        if self.last_sign_of_life.elapsed() < SIGN_OF_LIFE {
            return Ok(());
        }
        self.send(&Finding::Alive, None)
    }
}

/// A directory whose directories are still to be looked at.
struct Level {
    object: Object,
    path: PathBuf,
    below: Vec<u8>,
    directories: std::vec::IntoIter<Box<[u8]>>,
}

struct Walk<'a> {
    walker: &'a mut Walker,
    number: u64,
    rule: Rule,
    work: Work,
    filter: Filter,
    mounts: Mounts,
}

impl Walk<'_> {
    /// Errors are those of the line to the daemon.
    fn run(&mut self) -> Result<Option<Refusal>, Errno> {
        let (path, object) = match self.top() {
            Ok(top) => top,
            Err(refusal) => return Ok(Some(refusal)),
        };
        if self.work == Work::Place {
            let spared = places::left_out(&path, &self.walker.own);
            let rule = Rule {
                path: text(&path),
                is_directory: object.kind() == Kind::Directory,
                spared: spared.iter().map(|path| text(path)).collect(),
                ..self.rule.clone()
            };
            self.order(Order::Rule(Box::new(rule)), None)?;
        }
        match self.work.clone() {
            Work::PlaceBelow(below) => self.walk_part(&path, below.as_bytes())?,
            Work::Place | Work::Unmark => self.walk(object, path, Vec::new())?,
        }
        Ok(None)
    }

    fn walk_part(&mut self, top: &Path, below: &[u8]) -> Result<(), Errno> {
        let path = top.join(OsStr::from_bytes(below));
        if self.is_left_out(&path, below)? {
            return Ok(());
        }
        match Object::open(&path) {
            Ok(object) if object.kind() == Kind::Directory => self.walk(object, path, below.to_vec()),
            // There is, or will be, an event of its end.
            Ok(_) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => self.leave_out(&path, errno.desc()),
        }
    }

    fn order(&mut self, order: Order, fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        self.walker.send(&Finding::Order { walk: Some(self.number), order }, fd)
    }

    /// Where the rule's path leads, and what is there.
    fn top(&self) -> Result<(PathBuf, Object), Refusal> {
        let missing = || Refusal::Missing(self.rule.path.clone());
        let path = fs::canonicalize(path_of(&self.rule.path)).map_err(|_| missing())?;
        let refuse = |why: String| Err(Refusal::Refused { path: text(&path), why });
        let mut names = self.mounts.aliases(&path).into_iter();
        if let Some(why) = names.find_map(|name| places::refusal(&name, &self.walker.own)) {
            return refuse(why);
        }
        let object = Object::open(&path).map_err(|_| missing())?;
        if object.is_of_kernel() {
            return refuse("its files are the kernel's".to_owned());
        }
        if !matches!(object.kind(), Kind::File | Kind::Directory) {
            return refuse("it is neither a file nor a directory".to_owned());
        }
        Ok((path, object))
    }

    /// Sends a directory first and looks into it second: the watch tells what is made in
    /// it meanwhile. There is no recursion, since others choose how deep a tree is.
    fn walk(&mut self, object: Object, path: PathBuf, below: Vec<u8>) -> Result<(), Errno> {
        let mut levels = vec![self.enter(object, path, below)?];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.directories.next() else {
                levels.pop();
                continue;
            };
            let Some((object, path, below)) = self.step(level, &name)? else { continue };
            if levels.len() == DEEPEST || path.as_os_str().len() >= PATH_MAX {
                self.leave_out(&path, "too deep, what is below asks for no permission")?;
                continue;
            }
            let level = self.enter(object, path, below)?;
            levels.push(level);
        }
        Ok(())
    }

    fn enter(&mut self, object: Object, path: PathBuf, below: Vec<u8>) -> Result<Level, Errno> {
        let order = match self.work {
            Work::Unmark => Order::Unmark { mask: self.rule.events | Events::EVENT_ON_CHILD.mask() },
            _ => Order::Mark { rule: self.rule.id, below: Text::from(&below[..]) },
        };
        self.order(order, Some(object.as_fd()))?;
        let mut directories = Vec::new();
        if object.kind() == Kind::Directory && self.rule.recursive {
            let mut is_heard = Ok(());
            let read = object.each_entry(|name, kind| {
                if kind.is_none_or(|kind| kind == Kind::Directory) {
                    directories.push(name.into());
                }
                is_heard = is_heard.and_then(|()| self.walker.pause());
            });
            is_heard?;
            if let Err(errno) = read {
                self.leave_out(&path, errno.desc())?;
            }
        }
        Ok(Level { object, path, below, directories: directories.into_iter() })
    }

    /// A directory to go on in, unless it is to be left alone.
    fn step(&mut self, from: &Level, name: &[u8]) -> Result<Option<(Object, PathBuf, Vec<u8>)>, Errno> {
        let path = from.path.join(OsStr::from_bytes(name));
        let below =
            if from.below.is_empty() { name.to_vec() } else { [&from.below, &b"/"[..], name].concat() };
        self.walker.pause()?;
        // An excluded directory may be where nobody answers.
        if self.is_left_out(&path, &below)? {
            return Ok(None);
        }
        let object = match from.object.entry(name) {
            Ok(object) => object,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return self.leave_out(&path, errno.desc()).map(|()| None),
        };
        let is_other_fs = object.inode().device != from.object.inode().device;
        let is_to_mark = object.kind() == Kind::Directory && !(is_other_fs && object.is_of_kernel());
        Ok(is_to_mark.then_some((object, path, below)))
    }

    /// Whether a directory is to be left alone, under this path or under another one.
    fn is_left_out(&mut self, path: &Path, below: &[u8]) -> Result<bool, Errno> {
        let own = &self.walker.own;
        if self.filter.excludes_tree(below) || places::is_left_out(path, own) {
            return Ok(true);
        }
        // What is below a mount is what it was before.
        let names = if self.mounts.is_point(path) { self.mounts.aliases(path) } else { Vec::new() };
        let mut others = names.iter().filter(|name| *name != path);
        match others.find_map(|name| Some((name, places::refusal(name, own)?))) {
            Some((name, why)) => {
                self.leave_out(path, &format!("it is `{}`: {why}", text(name))).map(|()| true)
            }
            None => Ok(false),
        }
    }

    fn leave_out(&mut self, path: &Path, why: &str) -> Result<(), Errno> {
        self.walker.send(&Finding::LeftOut { path: text(path), why: why.to_owned() }, None)
    }
}

/// Where a file is that is not where it was: nothing if it was deleted, an error where that
/// cannot be told.
fn find(lost: &Lost) -> Result<Option<Object>, Errno> {
    let inode = Inode { device: lost.device, number: lost.inode };
    let path = path_of(&lost.path);
    if let Some(object) = Object::open(&path).ok().filter(|object| object.inode() == inode) {
        return Ok(Some(object));
    }
    let directory = path.ancestors().skip(1).find_map(|path| Object::open(path).ok());
    let directory =
        directory.filter(|directory| directory.inode().device == inode.device).ok_or(Errno::ENOENT)?;
    match directory.open_beside(lost.handle.as_bytes()) {
        Ok(object) => Ok(Some(object)),
        Err(Errno::ESTALE) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn path_of(text: &Text) -> PathBuf {
    OsStr::from_bytes(text.as_bytes()).into()
}

fn text(path: &Path) -> Text {
    Text::from(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::packet;

    #[test]
    fn a_file_is_found_during_a_walk() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let inode = Object::open(dir.path()).unwrap().inode();
        let lost = Lost {
            number: 7,
            path: text(dir.path()),
            device: inode.device,
            inode: inode.number,
            handle: Text::from(&b""[..]),
        };
        let (daemon, walker) = packet::pair().unwrap();
        let mut daemon = Channel::new(daemon);
        let walk = Task::Walk {
            number: 1,
            rule: Box::new(Rule::denying(dir.path(), Events::OPEN_PERM)),
            work: Work::Place,
        };
        for task in [walk, Task::Find(lost)] {
            daemon.send(&task, None).unwrap();
        }
        let thread = std::thread::spawn(move || Walker::new(Channel::new(walker)).serve());
        let mut found = false;
        loop {
            match daemon.receive_blocking().unwrap().unwrap().0 {
                Finding::Order { order: Order::Found(7), .. } => found = true,
                Finding::End { refusal, .. } => break assert!(found && refusal.is_none(), "{refusal:?}"),
                _ => {}
            }
        }
        drop(daemon);
        thread.join().unwrap().unwrap();
    }
}
