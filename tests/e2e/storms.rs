//! Storms: processes that do anything to a tree, on a busy machine. Whenever they rest,
//! whoever looks at a file each time that it is told has seen its final content.

use crate::harness::{Actor, Load, Place, comes_true, report};
use facron_tests::{Random, number_from};
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How long they go on until they rest, in milliseconds.
const BURST: &str = "300";

/// When they rest, more than anything takes that has not been told.
const LATE: Duration = Duration::from_secs(15);

const ACTORS: u64 = 3;
const RULES: [(&str, &str); 2] =
    [("arrived", "ARRIVED"), ("changed", "FAN_CLOSE_WRITE|FAN_MOVED_TO|FAN_CREATE|FAN_DELETE")];

/// What was found under the names of files when they were told.
#[derive(Default)]
struct Seen {
    contents: HashSet<(OsString, String)>,
    /// Names of files that were in a directory which has been moved by then.
    elsewhere: HashMap<OsString, SystemTime>,
    /// The last of each name, for who has to find out why.
    last: HashMap<OsString, (PathBuf, Option<String>)>,
}

impl Seen {
    /// Does what a command would do that is run for a path.
    fn look(&mut self, path: &Path) {
        let Some(name) = path.file_name().map(OsStr::to_owned) else { return };
        let content = fs::read_to_string(path).ok();
        self.last.insert(name.clone(), (path.to_owned(), content.clone()));
        match content {
            Some(content) => drop(self.contents.insert((name, content))),
            None => drop(self.elsewhere.insert(name, SystemTime::now())),
        }
    }

    /// Whether the present content of a file has been seen. Files in a directory that is
    /// moved within the tree do not change and are not told again.
    fn knows(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_owned();
        let (Ok(content), Ok(metadata)) = (fs::read_to_string(path), fs::metadata(path)) else {
            return false;
        };
        let changed = metadata.modified().unwrap();
        self.elsewhere.get(&name).is_some_and(|told| *told > changed)
            || self.contents.contains(&(name, content))
    }
}

fn files_in(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files_in(&entry.path(), files);
        } else {
            files.push(entry.path());
        }
    }
}

/// What has not been seen, although they rest.
fn unseen(place: &Place, tree: &Path, views: &[Mutex<Seen>]) -> Vec<String> {
    let mut files = Vec::new();
    files_in(tree, &mut files);
    let mut unseen = Vec::new();
    comes_true(LATE, || {
        unseen.clear();
        for ((rule, _), seen) in RULES.iter().zip(views) {
            let seen = seen.lock().unwrap();
            for file in files.iter().filter(|file| !seen.knows(file)) {
                let content = fs::read_to_string(file).unwrap();
                let last = seen.last.get(file.file_name().unwrap());
                unseen.push(format!("{rule}: {}: {content}, last seen: {last:?}", file.display()));
            }
        }
        unseen.is_empty()
    });
    if !unseen.is_empty() {
        unseen.extend(RULES.iter().map(|(rule, _)| place.rule(rule).to_string()));
    }
    unseen
}

/// A tree in which processes do anything, and what was seen of it.
pub struct Storm {
    root: String,
    tree: PathBuf,
    seed: u64,
}

impl Storm {
    /// In a directory of its own; the rules are [`Storm::rules`].
    pub fn new(root: &str) -> Self {
        let tree = Path::new(root).join("tree");
        fs::create_dir(&tree).unwrap();
        fs::create_dir(Path::new(root).join("outside")).unwrap();
        Self { root: root.to_owned(), tree, seed: Random::seed() }
    }

    pub fn rules(&self) -> String {
        let tree = self.tree.display();
        RULES.map(|(name, events)| format!("{tree} {events} [recursive name={name}] -\n")).concat()
    }

    /// Goes on for so long; then, or whenever they rest, all must have been told.
    #[track_caller]
    pub fn run(&self, place: &Place, duration: Duration) {
        let views = RULES.map(|_| Mutex::new(Seen::default()));
        let is_over = AtomicBool::new(false);
        let mut followers = RULES.map(|(rule, _)| place.follow(rule));
        let wrong = thread::scope(|scope| {
            for (follower, seen) in followers.iter_mut().zip(&views) {
                let is_over = &is_over;
                scope.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        let record = follower.next(Duration::from_millis(100));
                        if let Some(path) = record.as_ref().and_then(|record| record["path"].as_str()) {
                            seen.lock().unwrap().look(Path::new(path));
                        }
                    }
                });
            }
            let wrong = self.rage(place, &views, duration);
            is_over.store(true, Ordering::Relaxed);
            wrong
        });
        assert!(wrong.is_empty(), "seed {}:\n{}", self.seed, wrong.join("\n"));
    }

    fn rage(&self, place: &Place, views: &[Mutex<Seen>], duration: Duration) -> Vec<String> {
        let _load = Load::start();
        let mut random = Random::of(self.seed);
        let mut start = |number: u64| {
            let seed = random.below(u64::MAX).to_string();
            Actor::start(&["storm", &self.root, &seed, &number.to_string()])
        };
        let mut actors: Vec<_> = (0..ACTORS).map(&mut start).collect();
        let (started, mut wrong, mut rests, mut done) = (Instant::now(), Vec::new(), 0, 0);
        while wrong.is_empty() && started.elapsed() < duration {
            for actor in &mut actors {
                actor.say(BURST);
            }
            for actor in &mut actors {
                done += actor.hear().parse::<u64>().unwrap();
            }
            rests += 1;
            wrong = unseen(place, &self.tree, views);
        }
        let fired = RULES.map(|(rule, _)| place.fired(rule));
        report(&format!("{}: {done} steps, {rests} rests, fired {fired:?}", self.root));
        wrong
    }
}

#[track_caller]
fn storm(kind: &'static str) {
    let place = Place::new();
    let volume = place.volume(kind);
    let mount = volume.mount();
    let storm = Storm::new(&volume.path(""));
    place.conf(&storm.rules());
    let daemon = place.start();
    storm.run(&place, Duration::from_secs(number_from("FACRON_TEST_SECONDS", 20)));
    drop(daemon);
    drop(mount);
}

#[test]
fn after_a_storm_on_ext4_all_is_told() {
    storm("ext4");
}

#[test]
fn after_a_storm_on_tmpfs_all_is_told() {
    storm("tmpfs");
}

#[test]
fn after_a_storm_on_overlay_all_is_told() {
    storm("overlay");
}

#[test]
fn after_a_storm_on_bindfs_all_is_told() {
    storm("bindfs");
}
