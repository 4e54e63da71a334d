//! Which rules an event is for: by the inode that is marked, or by the directory
//! that the object is in.
//!
//! In fd mode the kernel does not say which mark an event came from. A path that leads to
//! the object from here tells, or else the inode of the directory that it is in
//! ([`Whereabouts`]). If neither is known, each rule on a directory of that file system is
//! taken to be meant, whatever names it includes: better to ask once more than to be gone
//! around.
//!
//! An overlay gives a file the numbers of the layer that it is in: other ones after it
//! was copied up, and another device than its directory's. So the path counts for a
//! file, too, and file systems are told apart by their own id.

use super::message::{By, Rule};
use super::place::Whereabouts;
use crate::config::filter::{Filter, ObjectKind};
use crate::config::permission::{Decision, Verdict};
use crate::events::Events;
use crate::kernel::object::{Inode, Kind, Object};
use crate::kernel::record::FsId;
use crate::matcher::{self, Position, file_name, is_on_child, matched};
use facron_proto::RuleId;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, HashMap};

/// A rule and what it has marked.
#[derive(Debug)]
pub struct Known {
    pub rule: Rule,
    events: Events,
    filter: Filter,
    /// Which form of the rule this is.
    version: u64,
}

/// A rule that an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    pub rule: RuleId,
    /// Its events that are in it.
    pub events: Events,
    /// Where its verdict comes from, as soon as it has one.
    pub by: By,
}

/// Where in a rule's tree an inode is marked.
#[derive(Debug)]
struct Place {
    rule: RuleId,
    /// The form of the rule that it was marked for.
    version: u64,
    below: Box<[u8]>,
}

/// The rules, and what is marked for them.
#[derive(Debug, Default)]
pub struct RuleIndex {
    rules: BTreeMap<RuleId, Known>,
    /// Users choose inodes and paths by making files, so these hashes have a key.
    places: HashMap<Inode, Vec<Place>>,
    paths: HashMap<Box<[u8]>, Vec<RuleId>>,
    /// The rules on directories of each file system.
    directories: FxHashMap<FsId, Vec<RuleId>>,
}

impl Known {
    /// What of it an inode's mark asks for.
    pub fn mask(&self) -> u64 {
        let is_on_child = self.rule.is_directory && is_on_child(self.events);
        let on_child = if is_on_child { Events::EVENT_ON_CHILD } else { Events::NONE };
        self.events.without(Events::EVENT_ON_CHILD).with(on_child).mask()
    }

    /// The events of it that this is, for an object at `below` its PATH.
    fn matched(&self, below: &[u8], events: Events) -> Option<Match> {
        let name = file_name(if below.is_empty() { self.rule.path.as_bytes() } else { below });
        self.found(Position::of(below), events).filter(|_| self.filter.accepts(below, name, kind(events)))
    }

    /// The same for an entry with a name that nobody knows. So no name can exclude it.
    fn matched_without_name(&self, events: Events) -> Option<Match> {
        let is_kind = self.filter.kind().is_none_or(|wanted| wanted == kind(events));
        self.found(Position::Below, events).filter(|_| is_kind && !self.always_allows())
    }

    fn found(&self, position: Position, events: Events) -> Option<Match> {
        let events = matched(self.events, position, events).and(Events::PERMISSION);
        (!events.is_empty()).then_some(Match { rule: self.rule.id, events, by: By::Rule })
    }

    /// Whether it never denies and asks nobody.
    pub fn always_allows(&self) -> bool {
        self.rule.decision == Decision::Always(Verdict::Allow)
    }

    fn spares(&self, path: &[u8]) -> bool {
        self.rule.spared.iter().any(|spared| matcher::below(path, spared.as_bytes()).is_some())
    }
}

fn kind(events: Events) -> ObjectKind {
    if events.contains(Events::ONDIR) { ObjectKind::Directory } else { ObjectKind::File }
}

impl RuleIndex {
    /// Takes a rule in, or in another form. What is marked for it counts until it is
    /// [settled](Self::settle): nobody comes through in between.
    pub fn insert(&mut self, rule: Rule) {
        let events = Events::from_mask(rule.events);
        // The daemon has compiled the same patterns before.
        let filter = Filter::new(rule.patterns.clone()).unwrap_or_default();
        let version = self.rules.get(&rule.id).map_or(0, |before| before.version + 1);
        self.forget_path(rule.id);
        self.paths.entry(rule.path.as_bytes().into()).or_default().push(rule.id);
        self.rules.insert(rule.id, Known { rule, events, filter, version });
    }

    fn forget_path(&mut self, id: RuleId) {
        let Some(known) = self.rules.get(&id) else { return };
        let path = known.rule.path.as_bytes();
        if let Some(rules) = self.paths.get_mut(path) {
            rules.retain(|other| *other != id);
            if rules.is_empty() {
                self.paths.remove(path);
            }
        }
    }

    /// All that a rule needs is marked: what was marked for its other forms counts no more.
    pub fn settle(&mut self, rule: RuleId) {
        let Some(version) = self.rules.get(&rule).map(|known| known.version) else { return };
        self.retain_places(|place| place.rule != rule || place.version == version);
    }

    pub fn remove(&mut self, rule: RuleId) {
        self.forget_path(rule);
        self.directories.retain(|_, rules| {
            rules.retain(|other| *other != rule);
            !rules.is_empty()
        });
        self.rules.remove(&rule);
        self.forget_below(rule, b"");
    }

    pub fn get(&self, rule: RuleId) -> Option<&Known> {
        self.rules.get(&rule)
    }

    /// Notes that an inode is marked for a rule; what its mark is to ask for.
    pub fn add_place(&mut self, object: &Object, rule: RuleId, below: &[u8]) -> Option<u64> {
        let known = self.rules.get(&rule)?;
        if known.rule.is_directory {
            let rules = self.directories.entry(object.fs()).or_default();
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        let (mask, version) = (known.mask(), known.version);
        let places = self.places.entry(object.inode()).or_default();
        places.retain(|place| place.rule != rule);
        places.push(Place { rule, version, below: below.into() });
        Some(mask)
    }

    /// Notes that an inode is not marked for a rule after all.
    pub fn remove_place(&mut self, inode: Inode, rule: RuleId) {
        if let Some(places) = self.places.get_mut(&inode) {
            places.retain(|place| place.rule != rule);
            if places.is_empty() {
                self.places.remove(&inode);
            }
        }
    }

    /// What the rules need of an inode's mark.
    pub fn needed(&self, inode: Inode) -> u64 {
        let places = self.places.get(&inode).into_iter().flatten();
        places.filter_map(|place| self.rules.get(&place.rule)).fold(0, |mask, known| mask | known.mask())
    }

    /// Forgets what was marked at and below a path of a rule.
    pub fn forget_below(&mut self, rule: RuleId, below: &[u8]) {
        self.retain_places(|place| {
            place.rule != rule || !(below.is_empty() || matcher::below(&place.below, below).is_some())
        });
    }

    fn retain_places(&mut self, is_kept: impl Fn(&Place) -> bool) {
        self.places.retain(|_, places| {
            places.retain(&is_kept);
            !places.is_empty()
        });
    }

    /// The path of an object that is only marked for itself: that of its rules.
    pub fn path_of(&self, object: &Object) -> Option<&[u8]> {
        let place = self.places.get(&object.inode())?.first()?;
        let known = self.rules.get(&place.rule)?;
        (!self.has_directories_on(object)).then(|| known.rule.path.as_bytes())
    }

    /// The path of an object in a marked directory, as the rule of the mark has it.
    pub fn path_in(&self, place: &Whereabouts) -> Option<Vec<u8>> {
        let marked = self.places.get(&place.directory?)?.first()?;
        let top = self.rules.get(&marked.rule)?.rule.path.as_bytes();
        let parts = [top, &marked.below, file_name(&place.path)];
        Some(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(&b'/'))
    }

    /// The rules that an event is for, each once.
    pub fn matches(&self, object: &Object, place: &Whereabouts, events: Events) -> Vec<Match> {
        let events = if object.kind() == Kind::Directory {
            events.with(Events::ONDIR)
        } else {
            events.without(Events::ONDIR)
        };
        let own = self.places.get(&object.inode()).into_iter().flatten();
        let mut found: Vec<_> =
            own.filter_map(|own| self.rules.get(&own.rule)?.matched(&own.below, events)).collect();
        if place.is_here {
            found.extend(self.at(&place.path).filter_map(|known| known.matched(b"", events)));
        }
        if self.has_directories_on(object) {
            found.extend(self.as_entry(object, place, events));
        }
        let mut matches = Vec::with_capacity(found.len());
        for found in found {
            let is_spared =
                || place.is_here && self.get(found.rule).is_some_and(|known| known.spares(&place.path));
            if !matches.iter().any(|known: &Match| known.rule == found.rule) && !is_spared() {
                matches.push(found);
            }
        }
        matches
    }

    fn has_directories_on(&self, object: &Object) -> bool {
        !self.directories.is_empty() && self.directories.contains_key(&object.fs())
    }

    fn at(&self, path: &[u8]) -> impl Iterator<Item = &Known> {
        self.paths.get(path).into_iter().flatten().filter_map(|id| self.rules.get(id))
    }

    /// The rules on the directory that the object is in.
    fn as_entry(&self, object: &Object, place: &Whereabouts, events: Events) -> Vec<Match> {
        let path = if place.is_here { &place.path[..] } else { b"" };
        let mut below = self.below_rules(path).peekable();
        if below.peek().is_some() {
            return below.filter_map(|(known, below)| known.matched(below, events)).collect();
        }
        match place.directory {
            Some(directory) => self.in_directory(directory, file_name(&place.path), events),
            // A directory with a mark of its own has a place, and may be what is mounted.
            None if object.kind() == Kind::Directory && self.places.contains_key(&object.inode()) => {
                Vec::new()
            }
            None => self.on_file_system(object, events),
        }
    }

    fn below_rules<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = (&'a Known, &'a [u8])> {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        slashes.flat_map(move |(slash, _)| {
            let below = &path[slash + 1..];
            let is_child = !below.contains(&b'/');
            let rules = self.at(&path[..slash]).filter(move |known| known.rule.recursive || is_child);
            rules.filter(|known| known.rule.is_directory).map(move |known| (known, below))
        })
    }

    fn in_directory(&self, directory: Inode, name: &[u8], events: Events) -> Vec<Match> {
        let places = self.places.get(&directory).into_iter().flatten();
        let matched = |place: &Place| {
            let below =
                if place.below.is_empty() { name.to_vec() } else { [&place.below, &b"/"[..], name].concat() };
            self.rules.get(&place.rule)?.matched(&below, events)
        };
        places.filter_map(matched).collect()
    }

    fn on_file_system(&self, object: &Object, events: Events) -> Vec<Match> {
        let rules = self.directories.get(&object.fs()).into_iter().flatten();
        let rules = rules.filter_map(|id| self.rules.get(id)).filter(|known| known.rule.is_directory);
        rules.filter_map(|known| known.matched_without_name(events)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use facron_proto::Text;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    fn rule(id: u64, path: &Path, events: Events) -> Rule {
        Rule { id: RuleId(id), ..Rule::denying(path, events) }
    }

    fn ids(index: &RuleIndex, path: &Path, told: &[u8], events: Events) -> Vec<u64> {
        let object = Object::open(path).unwrap();
        let place = Whereabouts::of(&object, told.to_vec(), std::process::id().cast_signed());
        index.matches(&object, &place, events).iter().map(|found| found.rule.0).collect()
    }

    fn bytes(path: &Path) -> &[u8] {
        path.as_os_str().as_bytes()
    }

    #[test]
    fn by_path_by_inode_and_by_parent() {
        let dir = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(dir.path()).unwrap();
        let (sub, file, other) = (top.join("sub"), top.join("sub/file"), top.join("other"));
        fs::create_dir(&sub).unwrap();
        fs::write(&file, "").unwrap();
        fs::hard_link(&file, &other).unwrap();
        let mut index = RuleIndex::default();
        index.insert(rule(1, &sub, Events::OPEN_PERM));
        index.insert(rule(2, &file, Events::OPEN_PERM));
        index.add_place(&Object::open(&sub).unwrap(), RuleId(1), b"");
        index.add_place(&Object::open(&file).unwrap(), RuleId(2), b"");
        assert_eq!(ids(&index, &file, bytes(&file), Events::OPEN_PERM), [2, 1]);
        assert_eq!(ids(&index, &file, bytes(&file), Events::ACCESS_PERM), [] as [u64; 0]);
        // Another name of the file is no entry of the directory.
        assert_eq!(ids(&index, &other, bytes(&other), Events::OPEN_PERM), [2]);
        // A path of another namespace: whoever looks for such a name.
        assert_eq!(ids(&index, &file, b"/nowhere/file", Events::OPEN_PERM), [2, 1]);
        // The directory itself only with ONDIR.
        assert_eq!(ids(&index, &sub, bytes(&sub), Events::OPEN_PERM.with(Events::ONDIR)), [] as [u64; 0]);
        index.remove(RuleId(2));
        assert_eq!(ids(&index, &file, bytes(&file), Events::OPEN_PERM), [1]);
    }

    #[test]
    fn what_is_spared_and_what_is_filtered() {
        let dir = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(dir.path()).unwrap();
        for name in ["a.txt", "b.log", "own"] {
            fs::write(top.join(name), "").unwrap();
        }
        let mut one = rule(1, &top, Events::OPEN_PERM);
        one.patterns.exclude = vec!["*.log".to_owned()];
        one.spared = vec![Text::from(top.join("own").as_os_str().as_bytes())];
        let mut index = RuleIndex::default();
        index.insert(one);
        index.add_place(&Object::open(&top).unwrap(), RuleId(1), b"");
        for (name, expected) in [("a.txt", &[1][..]), ("b.log", &[]), ("own", &[])] {
            let path = top.join(name);
            assert_eq!(ids(&index, &path, bytes(&path), Events::OPEN_PERM), expected, "{name}");
        }
    }

    #[test]
    fn a_mark_asks_for_what_its_rules_need() {
        let dir = tempfile::tempdir().unwrap();
        let object = Object::open(&fs::canonicalize(dir.path()).unwrap()).unwrap();
        let inode = object.inode();
        let mut index = RuleIndex::default();
        index.insert(rule(1, dir.path(), Events::OPEN_PERM));
        index.insert(rule(2, dir.path(), Events::OPEN_PERM.with(Events::ACCESS_PERM)));
        let child = Events::EVENT_ON_CHILD;
        assert_eq!(index.add_place(&object, RuleId(1), b""), Some(Events::OPEN_PERM.with(child).mask()));
        index.add_place(&object, RuleId(2), b"");
        let both = Events::OPEN_PERM.with(Events::ACCESS_PERM).with(child);
        assert_eq!(index.needed(inode), both.mask());
        index.remove(RuleId(2));
        assert_eq!(index.needed(inode), Events::OPEN_PERM.with(child).mask());
        index.remove_place(inode, RuleId(1));
        assert_eq!(index.needed(inode), 0);
    }

    #[test]
    fn the_old_form_of_a_rule_counts_until_the_new_one_does() {
        let dir = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(dir.path()).unwrap();
        let (file, link) = (top.join("file"), top.join("link"));
        fs::write(&file, "").unwrap();
        fs::hard_link(&file, &link).unwrap();
        let found = |index: &RuleIndex| ids(index, &file, bytes(&file), Events::OPEN_PERM);
        for path in [&top, &file] {
            let mut index = RuleIndex::default();
            index.insert(rule(1, path, Events::OPEN_PERM));
            index.add_place(&Object::open(path).unwrap(), RuleId(1), b"");
            index.insert(rule(1, path, Events::OPEN_PERM));
            assert_eq!(found(&index), [1]);
        }
        let mut index = RuleIndex::default();
        index.insert(rule(1, &link, Events::OPEN_PERM));
        index.add_place(&Object::open(&link).unwrap(), RuleId(1), b"");
        index.insert(rule(1, &top.join("elsewhere"), Events::OPEN_PERM));
        index.settle(RuleId(1));
        assert_eq!(found(&index), [] as [u64; 0]);
    }
}
