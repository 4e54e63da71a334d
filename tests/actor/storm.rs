//! One of several processes that do anything to a tree, all at the same time.
//!
//! Files of two classes have names of their own: those whose names begin with `w` are
//! written in place and replaced, those with `l` are linked and never written again. So
//! the events of a file always name the path that has changed. No name is ever in two
//! directories, and the content of a file is a word that no other write has used.

use facron_tests::Random;
use nix::errno::Errno;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Names of directories at each level.
const DIRECTORIES: u64 = 4;
const DEPTH: u64 = 3;

const PAUSE: Duration = Duration::from_micros(600);

/// Reads for how many milliseconds it is to go on, does, and says how much it has done.
pub fn run(dir: &Path, seed: u64, name: &str) -> io::Result<()> {
    let mut storm = Storm { dir: dir.to_owned(), name: name.to_owned(), random: Random::of(seed), words: 0 };
    let mut line = String::new();
    while io::stdin().read_line(&mut line)? > 0 {
        let end = Instant::now() + Duration::from_millis(super::number(line.trim())?);
        line.clear();
        let mut done = 0;
        while Instant::now() < end {
            match storm.act() {
                Ok(()) => done += 1,
                Err(error) if is_usual(&error) => {}
                Err(error) => return Err(error),
            }
            storm.random.pause(PAUSE);
        }
        println!("{done}");
    }
    Ok(())
}

/// What happens where others move and remove things at the same time.
fn is_usual(error: &io::Error) -> bool {
    let usual = [
        Errno::ENOENT,
        Errno::EEXIST,
        Errno::ENOTDIR,
        Errno::EISDIR,
        Errno::ENOTEMPTY,
        Errno::EINVAL,
        Errno::ESTALE,
        Errno::EBUSY,
    ];
    error.raw_os_error().is_some_and(|errno| usual.contains(&Errno::from_raw(errno)))
}

struct Storm {
    dir: PathBuf,
    name: String,
    random: Random,
    words: u64,
}

impl Storm {
    fn act(&mut self) -> io::Result<()> {
        let tree = self.dir.join("tree");
        match self.random.below(100) {
            0..12 => {
                let path = self.new_file('w', &tree);
                self.write(File::create_new(path)?)
            }
            12..30 => self.write_in_place(&tree),
            30..36 => {
                let path = self.new_file('l', &tree);
                self.replace(&path)
            }
            36..50 => {
                let class = self.class();
                let path = self.file(class, &tree)?;
                self.replace(&path)
            }
            50..57 => fs::hard_link(self.file('l', &tree)?, self.new_file('l', &tree)),
            57..62 => {
                let class = self.class();
                fs::rename(self.file(class, &tree)?, self.new_file(class, &tree))
            }
            62..67 => {
                let class = self.class();
                fs::rename(self.file(class, &tree)?, self.file(class, &tree)?)
            }
            67..78 => {
                let class = self.class();
                fs::remove_file(self.file(class, &tree)?)
            }
            78..88 => fs::create_dir(self.directory(&tree)),
            88..91 => fs::rename(self.directory(&tree), self.directory(&tree)),
            91..94 => fs::rename(self.directory(&tree), self.outside()),
            94..97 => fs::rename(self.outside(), self.directory(&tree)),
            97..99 => {
                let outside = self.outside();
                self.write_in_place(&outside)
            }
            _ => fs::remove_dir_all(self.directory(&tree)),
        }
    }

    fn class(&mut self) -> char {
        if self.random.below(2) == 0 { 'w' } else { 'l' }
    }

    /// Somewhere in a directory, itself included.
    fn somewhere(&mut self, top: &Path, depth: u64) -> PathBuf {
        let depth = self.random.below(depth + 1);
        (0..depth).fold(top.to_owned(), |dir, _| dir.join(format!("d{}", self.random.below(DIRECTORIES))))
    }

    fn directory(&mut self, top: &Path) -> PathBuf {
        let parent = self.somewhere(top, DEPTH - 1);
        parent.join(format!("d{}", self.random.below(DIRECTORIES)))
    }

    fn outside(&mut self) -> PathBuf {
        self.dir.join(format!("outside/o{}", self.random.below(DIRECTORIES)))
    }

    /// A name that no file has had.
    fn new_name(&mut self, class: char) -> String {
        self.words += 1;
        format!("{class}{}-{}", self.name, self.words)
    }

    fn new_file(&mut self, class: char, top: &Path) -> PathBuf {
        let dir = self.somewhere(top, DEPTH);
        dir.join(self.new_name(class))
    }

    /// A file that is there.
    fn file(&mut self, class: char, top: &Path) -> io::Result<PathBuf> {
        let dir = self.somewhere(top, DEPTH);
        let mut files = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_name().as_bytes()[0] == class as u8 {
                files.push(entry.path());
            }
        }
        let which = self.random.index(files.len().max(1));
        files.into_iter().nth(which).ok_or_else(|| Errno::ENOENT.into())
    }

    /// Writes a new word to a file, and takes its time.
    fn write(&mut self, mut file: File) -> io::Result<()> {
        self.random.pause(PAUSE);
        self.words += 1;
        file.write_all(format!("{}-{:09}", self.name, self.words).as_bytes())?;
        self.random.pause(PAUSE);
        Ok(())
    }

    fn write_in_place(&mut self, top: &Path) -> io::Result<()> {
        let path = self.file('w', top)?;
        self.write(File::options().write(true).truncate(true).open(path)?)
    }

    /// As editors do: writes a new file, and puts it in the place of another.
    fn replace(&mut self, path: &Path) -> io::Result<()> {
        let new = path.with_file_name(self.new_name('n'));
        self.write(File::create_new(&new)?)?;
        fs::rename(&new, path)
    }
}
