//! The pure rooms against a model of the kernel: random storms on a file system in
//! memory, whose records are merged as fanotify merges them, and a daemon that reads and
//! looks in steps, between any two of which the file system may change.
//!
//! When all is at rest, the last firing for each file is later than its last change, and
//! what is known is what is there. `FACRON_MODEL_STORMS` says how many storms are
//! made, and `FACRON_MODEL_SEED` is the seed of the first one (1 if it is not set, so that
//! each run makes the same storms; another number makes others).

mod daemon;
mod storm;
mod world;

use super::*;
use crate::config::rule::{Command, Options};
use crate::watch::tree::{NodeId, ROOT};
use daemon::{Daemon, HandleOf, ino_of};
use std::collections::{BTreeSet, HashMap};
use storm::{Kinds, Random, Step, shrink, storm};
use world::{Dentry, Ino, Kind, Name, WRITERS, World};

/// PATH, EVENTS and whether it is recursive.
const RULES: [(&str, Events, bool); 8] = [
    ("/w/x/y/z/f", Events::CLOSE_WRITE, false),
    ("/w/x/y/z/f", Events::ARRIVED, false),
    ("/w/x", Events::CLOSE_WRITE, false),
    ("/w/x/y", Events::ARRIVED, false),
    ("/w", Events::CLOSE_WRITE, true),
    ("/w", Events::ARRIVED, true),
    ("/w/x", Events::ARRIVED, true),
    ("/w/l/f", Events::CLOSE_WRITE, false),
];

/// More steps of the daemon than a storm can need.
const ENDLESS: usize = 2_000;

/// How a storm ran, for who checks it.
struct Run {
    world: World,
    daemon: Daemon,
    kinds: Kinds,
    /// What looks have found since each rule was asked for.
    found: BTreeSet<(usize, String)>,
    /// When each rule was asked for.
    asked: [u64; RULES.len()],
    /// Since when each rule is attached.
    attached: [Option<u64>; RULES.len()],
    attaching: Vec<usize>,
    /// When each rule last fired for a path, and how often.
    fired: HashMap<(usize, String), (u64, u32)>,
}

impl Run {
    fn new(setup: Setup) -> Self {
        Self {
            world: World::new(setup.moves),
            daemon: Daemon::new(setup.moves, setup.bury),
            kinds: setup.kinds,
            asked: [0; RULES.len()],
            found: BTreeSet::new(),
            attached: [None; RULES.len()],
            attaching: Vec::new(),
            fired: HashMap::new(),
        }
    }

    fn run(&mut self, steps: &[Step]) -> Result<(), String> {
        for step in steps {
            if self.daemon.is_traced {
                eprintln!("{step:?}");
            }
            match *step {
                Step::Daemon(count) => {
                    for _ in 0..count {
                        if self.advance()? {
                            break;
                        }
                    }
                }
                Step::Stop => self.daemon.stop(),
                Step::Attach(rule) => self.attach(rule)?,
                Step::Detach(rule) => self.detach(rule)?,
                step => step.change(&mut self.world),
            }
        }
        for slot in 0..WRITERS {
            self.world.close(slot);
        }
        self.rest()?;
        self.check_firings()?;
        self.check_places()?;
        for rule in 0..RULES.len() as u64 {
            self.detach(rule)?;
        }
        self.rest()?;
        self.check_places()?;
        let marked = self.world.inodes.iter().filter(|inode| inode.mark != 0).count();
        if marked > 0 || self.daemon.mirror.tree.len().0 != 1 {
            return Err(format!("{marked} marks without a rule: {:?}", self.daemon.mirror.tree));
        }
        Ok(())
    }

    /// A step of the daemon; whether it has nothing to do.
    fn advance(&mut self) -> Result<bool, String> {
        let is_idle = self.daemon.step(&mut self.world);
        if !self.daemon.is_taking_in() {
            for rule in self.attaching.drain(..) {
                self.attached[rule] = Some(self.world.now);
            }
        }
        for fired in std::mem::take(&mut self.daemon.fired) {
            let rule = usize::try_from(fired.rule.0).expect("rules of the model are few");
            let path = String::from_utf8_lossy(&fired.event.path).into_owned();
            if !RULES[rule].0.ends_with("/l/f") && !self.world.may_be_told(&path) {
                return Err(format!("rule {rule} fired for {path}, which never was"));
            }
            self.world.now += 1;
            if fired.event.synthetic {
                self.found.insert((rule, path.clone()));
            }
            if self.daemon.is_traced {
                eprintln!("  fired {rule} {path}");
            }
            let (last, count) = self.fired.entry((rule, path)).or_default();
            (*last, *count) = (self.world.now, *count + 1);
        }
        Ok(is_idle)
    }

    /// Lets the daemon end its turn.
    fn end_turn(&mut self) -> Result<(), String> {
        for _ in 0..ENDLESS {
            if self.daemon.is_between() {
                return Ok(());
            }
            self.daemon.stop();
            self.advance()?;
        }
        Err("a turn never ends".to_owned())
    }

    fn attach(&mut self, rule: u64) -> Result<(), String> {
        self.end_turn()?;
        let id = RuleId(rule);
        if self.daemon.mirror.rules.slot(id).is_none() {
            let index = usize::try_from(rule).expect("rules of the model are few");
            self.attaching.push(index);
            // What has not been read or looked at yet may be told.
            let is_at_rest = self.world.queue.is_empty() && self.daemon.mirror.recheck.is_empty();
            self.asked[index] = if is_at_rest { self.world.now } else { 0 };
            self.found.retain(|(other, _)| *other != index);
            self.daemon.attach(id, spec(index));
        }
        Ok(())
    }

    fn detach(&mut self, rule: u64) -> Result<(), String> {
        self.end_turn()?;
        let index = usize::try_from(rule).expect("rules of the model are few");
        self.attaching.retain(|other| *other != index);
        self.attached[index] = None;
        self.daemon.detach(RuleId(rule));
        Ok(())
    }

    /// Reads, looks and waits until nothing is left to be done.
    fn rest(&mut self) -> Result<(), String> {
        self.world.clock += Duration::from_secs(1);
        self.world.count_never_opened();
        for _ in 0..ENDLESS {
            if self.advance()? && !self.daemon.await_next(&mut self.world) {
                return if self.daemon.mirror.recheck.is_empty() {
                    Ok(())
                } else {
                    Err(format!("at rest, but there is more to look at: {:?}", self.daemon.mirror.recheck))
                };
            }
        }
        Err("never at rest".to_owned())
    }

    /// For each file, the last firing is later than the last change.
    fn check_firings(&self) -> Result<(), String> {
        for (rule, since) in self.attached.iter().enumerate() {
            let Some(since) = since else { continue };
            for (place, dentry) in self.files_of(rule) {
                let changed = if RULES[rule].1.contains(Events::ARRIVED) {
                    dentry.closed.max(dentry.named)
                } else {
                    dentry.closed
                };
                let path = self.world.path(place).unwrap_or_default();
                let own = [RULES[rule].0.to_owned()];
                let is_path = RULES[rule].0.ends_with("/f");
                let paths = if is_path { &own[..] } else { &dentry.paths };
                let last = paths.iter().filter_map(|path| self.fired.get(&(rule, path.clone()))).max();
                let last = last.map_or(0, |(last, _)| *last);
                let is_old = dentry.closed.max(dentry.named) <= self.asked[rule];
                let was_found = paths.iter().any(|path| self.found.contains(&(rule, path.clone())));
                if !self.kinds.moves && !self.kinds.links && is_old && was_found {
                    return Err(format!("rule {rule} was told of {path}, which was there before"));
                }
                if changed > *since && last < changed {
                    return Err(format!(
                        "rule {rule}, attached at {since}, missed {path}, changed at {changed}: last at {last}"
                    ));
                }
            }
        }
        if self.kinds.moves || self.kinds.links {
            return Ok(());
        }
        for ((rule, path), (_, count)) in &self.fired {
            let most = self.world.changes.get(path).copied().unwrap_or_default();
            if *count > most {
                return Err(format!("rule {rule} fired {count} times for {path}, changed {most} times"));
            }
        }
        Ok(())
    }

    fn files_of(&self, rule: usize) -> Vec<((Ino, Name), &Dentry)> {
        let (path, _, recursive) = RULES[rule];
        let is_file = |ino: Ino| self.world.inodes[ino].kind == Kind::File;
        let Some(place) = self.world.resolve(path) else { return Vec::new() };
        let dentry = &self.world.dentries[&place];
        let mut files = Vec::new();
        let mut todo = vec![(place, dentry)];
        let mut depth = 0;
        while let Some((place, dentry)) = todo.pop() {
            if is_file(dentry.ino) {
                files.push((place, dentry));
            } else if depth == 0 || recursive {
                let entries = self.world.entries(dentry.ino).into_iter();
                todo.extend(
                    entries.map(|(name, _)| ((dentry.ino, name), &self.world.dentries[&(dentry.ino, name)])),
                );
            }
            depth += 1;
        }
        files
    }

    /// The tree is that of the file system, and the marks are those that are needed.
    fn check_places(&self) -> Result<(), String> {
        let Mirror { tree, rules, .. } = &self.daemon.mirror;
        let mut todo = vec![ROOT];
        let mut nodes: Vec<NodeId> = Vec::new();
        while let Some(node) = todo.pop() {
            todo.extend(tree.children(node));
            nodes.push(node);
        }
        let mut known = BTreeSet::new();
        for node in &nodes {
            let path = String::from_utf8_lossy(&tree.path(*node)).into_owned();
            let ino = tree.handle(*node).map(ino_of);
            let there = self.world.find(&path);
            if ino.is_some() && ino != there {
                return Err(format!("{path} is {there:?}, and known as {ino:?}"));
            }
            known.extend(ino);
            let Some(inode) = tree.inode_at(*node) else { continue };
            let (mark, wanted) = (self.world.inodes[ino_of(inode.handle())].mark, rules.wanted(tree, *node));
            if inode.marked != mark || mark != wanted {
                return Err(format!(
                    "{path} has the mark {mark:#x}, {:#x} is known and {wanted:#x} wanted",
                    inode.marked
                ));
            }
        }
        if tree.len() != (nodes.len(), known.len()) {
            return Err(format!("{} nodes and {known:?} inodes in {tree:?}", nodes.len()));
        }
        let unknown = |(ino, inode): &(Ino, &world::Inode)| inode.mark != 0 && !known.contains(ino);
        if let Some((ino, _)) = self.world.inodes.iter().enumerate().find(unknown) {
            return Err(format!("inode {ino} has a mark that is not known"));
        }
        self.check_recursive()
    }

    /// Each directory that a recursive rule sees has a node and a mark.
    fn check_recursive(&self) -> Result<(), String> {
        let Mirror { tree, rules, .. } = &self.daemon.mirror;
        for (slot, rule) in rules.iter().filter(|(_, rule)| rule.spec.options.recursive) {
            if !rule.ghosts.is_empty() {
                return Err(format!("ghosts of {rule:?}"));
            }
            let top = rule.spec.path.to_str().unwrap_or_default();
            let below = |(place, _): &(&(Ino, Name), &Dentry)| {
                let path = self.world.path(**place).unwrap_or_default();
                path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/')).then_some(path)
            };
            let directories =
                self.world.dentries.iter().filter(|(_, dentry)| self.world.is_directory(dentry.ino));
            for (path, ino) in directories.filter_map(|entry| Some((below(&entry)?, entry.1.ino))) {
                let node = tree.find(path.as_bytes());
                let handle = HandleOf::new(ino);
                let node = node.filter(|node| tree.handle(*node) == Some(handle.get()));
                let is_seen = node.is_some_and(|node| rules.set(tree[node].set).contains(&slot));
                if !is_seen || self.world.inodes[ino].mark & rule.masks.below != rule.masks.below {
                    return Err(format!("{path} is not watched by {top}"));
                }
            }
        }
        Ok(())
    }
}

fn spec(index: usize) -> Rc<RuleSpec> {
    let (path, events, recursive) = RULES[index];
    Rc::new(RuleSpec {
        path: path.into(),
        events,
        options: Options { recursive, ..Options::default() }.into(),
        options_text: Vec::new(),
        command: Command::Record,
    })
}

/// What does not change during a storm.
#[derive(Clone, Copy, Debug)]
struct Setup {
    moves: Moves,
    bury: usize,
    kinds: Kinds,
}

fn run(setup: Setup, steps: &[Step]) -> Result<(), String> {
    let run = || Run::new(setup).run(steps);
    std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.unwrap_or_else(|| "it panicked".to_owned()))
    })
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn storms_leave_nothing_untold() {
    let (first, storms) =
        (setting("FACRON_MODEL_SEED").unwrap_or(1), setting("FACRON_MODEL_STORMS").unwrap_or(15_000));
    for seed in first..first + storms {
        let mut random = Random::new(seed);
        let setup = Setup {
            moves: if random.below(4) == 0 { Moves::FromTo } else { Moves::Rename },
            bury: if random.below(4) == 0 { 1 } else { 2048 },
            kinds: Kinds {
                moves: random.below(3) > 0,
                links: random.below(2) > 0,
                rules: RULES.len() as u64,
            },
        };
        let steps = storm(&mut random, setup.kinds);
        if run(setup, &steps).is_err() {
            let steps = shrink(steps, |steps| run(setup, steps).is_err());
            let why = run(setup, &steps).unwrap_err();
            let mut again = Run::new(setup);
            again.daemon.is_traced = true;
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| again.run(&steps)));
            panic!("{why}\nafter {} storms, FACRON_MODEL_SEED={seed}, {setup:?}:\n{steps:#?}", seed - first);
        }
    }
    println!("{storms} storms, the first with FACRON_MODEL_SEED={first}");
}
