//! What is on a disk after a power failure.
//!
//! What was synced is there. Of all else, anything may be there or not: each file may have changes
//! without those before them, and writes may be torn between sectors.

use super::trace::{Call, Op};
use facron_tests::Random;
use std::collections::{BTreeMap, HashMap};

const SECTOR: usize = 512;

/// Which of the changes that were not synced are on the disk.
#[derive(Clone, Copy, Debug)]
pub enum Kept {
    All,
    None,
    Some,
    Sectors,
}

impl Kept {
    pub fn any(random: &mut Random) -> Self {
        [Self::All, Self::None, Self::Some, Self::Sectors][usize::try_from(random.below(4)).unwrap()]
    }

    fn keeps(self, random: &mut Random) -> bool {
        matches!(self, Self::All) || !matches!(self, Self::None) && random.below(2) == 0
    }
}

/// A file, whatever its name is by now.
#[derive(Default)]
struct File<'t> {
    changes: Vec<&'t Call>,
    /// So many of them are on the disk.
    synced: usize,
}

/// The directory and its files.
#[derive(Default)]
struct Disk<'t> {
    files: Vec<File<'t>>,
    /// The files by name, as the daemon sees them.
    names: HashMap<&'t str, usize>,
    /// What has happened to names, and how much of that is on the disk.
    renamed: Vec<(&'t str, Option<usize>)>,
    synced: usize,
}

impl<'t> Disk<'t> {
    fn make(&mut self, name: &'t str) {
        if !self.names.contains_key(name) {
            self.names.insert(name, self.files.len());
            self.renamed.push((name, Some(self.files.len())));
            self.files.push(File::default());
        }
    }

    fn remove(&mut self, name: &'t str) {
        self.names.remove(name).unwrap();
        self.renamed.push((name, None));
    }

    fn sync(&mut self, name: &str) {
        match self.names.get(name) {
            Some(file) => self.files[*file].synced = self.files[*file].changes.len(),
            // The directory itself.
            None => self.synced = self.renamed.len(),
        }
    }

    fn take(&mut self, op: &'t Op, point: usize) {
        match &op.call {
            Call::Open { name } => self.make(name),
            Call::Remove { name } => self.remove(name),
            Call::Sync { name } if op.ended <= point => self.sync(name),
            Call::Write { name, .. } | Call::Truncate { name, .. } => {
                self.files[self.names[&**name]].changes.push(&op.call);
            }
            Call::Sync { .. } | Call::Append { .. } => {}
        }
    }

    /// The files that are left. Of the changes of names, any number may be.
    fn fail(&self, kept: Kept, random: &mut Random) -> BTreeMap<&'t str, Vec<u8>> {
        let more = u64::try_from(self.renamed.len() - self.synced).unwrap();
        let more = match kept {
            Kept::All => more,
            Kept::None => 0,
            _ => random.below(more + 1),
        };
        let mut names = BTreeMap::new();
        for (name, file) in &self.renamed[..self.synced + usize::try_from(more).unwrap()] {
            match file {
                Some(file) => names.insert(*name, *file),
                None => names.remove(name),
            };
        }
        names.into_iter().map(|(name, file)| (name, self.files[file].content(kept, random))).collect()
    }
}

impl File<'_> {
    fn content(&self, kept: Kept, random: &mut Random) -> Vec<u8> {
        let mut content = Vec::new();
        for (number, change) in self.changes.iter().enumerate() {
            let kept = if number < self.synced { Kept::All } else { kept };
            apply(change, &mut content, kept, random);
        }
        content
    }
}

fn apply(change: &Call, content: &mut Vec<u8>, kept: Kept, random: &mut Random) {
    match change {
        Call::Truncate { len, .. } if kept.keeps(random) => content.resize(*len, 0),
        Call::Write { at, data, .. } => {
            let mut is_kept = kept.keeps(random);
            let (mut at, mut rest) = (*at, &**data);
            while !rest.is_empty() {
                let (sector, others) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
                if is_kept {
                    content.resize(content.len().max(at + sector.len()), 0);
                    content[at..at + sector.len()].copy_from_slice(sector);
                }
                if matches!(kept, Kept::Sectors) {
                    is_kept = kept.keeps(random);
                }
                (at, rest) = (at + sector.len(), others);
            }
        }
        _ => {}
    }
}

/// The files after a power failure at a point of a trace.
pub fn after<'t>(ops: &'t [Op], point: usize, kept: Kept, random: &mut Random) -> BTreeMap<&'t str, Vec<u8>> {
    let mut disk = Disk::default();
    ops.iter().take_while(|op| op.begun <= point).for_each(|op| disk.take(op, point));
    disk.fail(kept, random)
}
