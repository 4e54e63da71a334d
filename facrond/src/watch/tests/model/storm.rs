//! Storms: lists of steps, made at random and cut down to what fails.

use super::world::{Name, WRITERS, World};

const DIRECTORIES: [Name; 8] = ["/w", "/w/x", "/w/x/y", "/w/x/y/z", "/w/a", "/w/x/b", "/o/x", "/o/w"];

/// Files that the rules are about more often than others.
const FILES: [Name; 12] = [
    "/w/x/y/z/f",
    "/w/x/y/z/f",
    "/w/x/y/z/g",
    "/w/x/y/f",
    "/w/x/y/g",
    "/w/x/f",
    "/w/f",
    "/w/a/f",
    "/w/a/y/z/f",
    "/w/x/b/f",
    "/o/f",
    "/o/x/f",
];

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Mkdir(Name),
    Remove(Name),
    RemoveTree(Name),
    /// Removed with all that is above, made again and written, at once.
    Remake(Name),
    Rename(Name, Name),
    Link(Name, Name),
    Symlink(Name),
    Open(usize, Name),
    Write(usize),
    Close(usize),
    Save(Name),
    /// Written under another name in the same directory and renamed.
    Replace(Name),
    Attach(u64),
    Detach(u64),
    /// So many steps of the daemon.
    Daemon(u32),
    /// The daemon's turn ends.
    Stop,
}

impl Step {
    /// What happens to the file system.
    pub(super) fn change(self, world: &mut World) {
        world.clock += std::time::Duration::from_millis(1);
        match self {
            Self::Mkdir(path) => world.mkdir(path),
            Self::Remove(path) => world.remove(path),
            Self::RemoveTree(path) => world.remove_tree(path),
            Self::Remake(path) => {
                world.remove_tree("/w/x");
                if let Some((dir, _)) = path.rsplit_once('/') {
                    world.mkdir(dir);
                }
                save(world, path);
            }
            Self::Rename(from, to) => world.rename(from, to),
            Self::Link(from, to) => world.link(from, to),
            Self::Symlink(target) => world.symlink("/w/l", target),
            Self::Open(slot, path) => world.open(slot, path),
            Self::Write(slot) => world.write(slot),
            Self::Close(slot) => world.close(slot),
            Self::Save(path) => save(world, path),
            Self::Replace(path) => {
                let aside = aside(path);
                save(world, aside);
                world.rename(aside, path);
            }
            Self::Attach(_) | Self::Detach(_) | Self::Daemon(_) | Self::Stop => {}
        }
    }

    /// The same with less in it, where that makes sense.
    fn smaller(self) -> Option<Self> {
        match self {
            Self::Daemon(count) if count > 1 => Some(Self::Daemon(count - 1)),
            Self::Replace(path) | Self::Remake(path) => Some(Self::Save(path)),
            _ => None,
        }
    }
}

fn save(world: &mut World, path: Name) {
    let slot = WRITERS - 1;
    world.open(slot, path);
    world.write(slot);
    world.close(slot);
}

fn aside(path: Name) -> Name {
    match path {
        "/w/x/y/z/f" | "/w/x/y/z/g" => "/w/x/y/z/t",
        "/w/x/y/f" | "/w/x/y/g" => "/w/x/y/t",
        "/w/x/f" => "/w/x/t",
        "/w/a/f" => "/w/a/t",
        "/w/x/b/f" => "/w/x/b/t",
        _ => "/w/t",
    }
}

/// Random numbers, the same again for the same seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// As `SplitMix64` does.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below another one.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        let index = usize::try_from(self.below(all.len() as u64)).unwrap_or_default();
        all[index]
    }
}

/// What a storm is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kinds {
    /// Whether directories are renamed.
    pub(super) moves: bool,
    /// Whether files get other names.
    pub(super) links: bool,
    pub(super) rules: u64,
}

/// A storm of 10 to 40 steps.
pub(super) fn storm(random: &mut Random, kinds: Kinds) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..=random.below(3) {
        steps.push(Step::Attach(random.below(kinds.rules)));
        if random.below(2) == 0 {
            steps.push(Step::Mkdir(random.of(&DIRECTORIES)));
        }
    }
    if random.below(3) > 0 {
        steps.push(Step::Daemon(200));
    }
    for _ in 0..10 + random.below(30) {
        steps.push(step(random, kinds));
        match random.below(8) {
            0..3 => {}
            7 => steps.push(Step::Daemon(100)),
            _ => steps.push(Step::Daemon(1 + u32::try_from(random.below(8)).unwrap_or_default())),
        }
        if random.below(8) == 0 {
            steps.push(Step::Stop);
        }
    }
    steps
}

fn step(random: &mut Random, kinds: Kinds) -> Step {
    let writer = usize::try_from(random.below(WRITERS as u64 - 1)).unwrap_or_default();
    match random.below(32) {
        0..4 => Step::Mkdir(random.of(&DIRECTORIES)),
        4..6 => Step::Remove(random.of(&DIRECTORIES)),
        6..8 => Step::RemoveTree(random.of(&DIRECTORIES)),
        8..11 => Step::Remake(random.of(&FILES[..6])),
        11..16 if kinds.moves => Step::Rename(random.of(&DIRECTORIES), random.of(&DIRECTORIES)),
        16 if kinds.links => Step::Link(random.of(&FILES), random.of(&FILES)),
        17 if kinds.links => Step::Rename(random.of(&FILES), random.of(&FILES)),
        18 if kinds.links => Step::Symlink(random.of(&["x/y/z", "/w/a", "x"])),
        19 => Step::Open(writer, random.of(&FILES)),
        20 => Step::Write(writer),
        21 => Step::Close(writer),
        22..24 => Step::Remove(random.of(&FILES)),
        24..26 => Step::Replace(random.of(&FILES)),
        26 => Step::Attach(random.below(kinds.rules)),
        27 if random.below(3) == 0 => Step::Detach(random.below(kinds.rules)),
        _ => Step::Save(random.of(&FILES)),
    }
}

/// The shortest storm found that still fails.
pub(super) fn shrink(mut steps: Vec<Step>, fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    loop {
        let before = steps.len();
        let mut size = steps.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < steps.len() {
                let mut fewer = steps.clone();
                fewer.drain(at..(at + size).min(steps.len()));
                if fails(&fewer) {
                    steps = fewer;
                } else {
                    at += size;
                }
            }
            size /= 2;
        }
        let mut is_smaller = false;
        for at in 0..steps.len() {
            while let Some(smaller) = steps[at].smaller() {
                let mut less = steps.clone();
                less[at] = smaller;
                if !fails(&less) {
                    break;
                }
                (steps, is_smaller) = (less, true);
            }
        }
        if steps.len() == before && !is_smaller {
            return steps;
        }
    }
}
