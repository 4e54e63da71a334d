//! The columns of the table: operations, the rule of each, and what it records.

use super::rows::Row;
use super::{Done, Reasons};
use crate::harness::sh;
use nix::errno::Errno;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

type Act = fn(&Path) -> io::Result<()>;

/// One operation in a directory of its own.
pub struct Case {
    /// Its name in the table.
    pub name: &'static str,
    /// The rule's path in the directory; empty for the directory itself.
    path: &'static str,
    events: &'static str,
    /// What is there before the rule is.
    prepare: Act,
    act: Act,
    /// Events and path, or path and old path, of each record.
    told: &'static [&'static str],
}

/// All of them.
pub const CASES: &[Case] = &[
    case("create", "d", "CREATE", dir, |at| make(&at.join("d/f")), &["FAN_CREATE d/f"]),
    case("modify", "d", "MODIFY", dir_with_file, |at| append(&at.join("d/f")), &["FAN_MODIFY d/f"]),
    case(
        "written",
        "d",
        "CLOSE_WRITE",
        dir_with_file,
        |at| append(&at.join("d/f")),
        &["FAN_CLOSE_WRITE d/f"],
    ),
    case(
        "rename",
        "d",
        "RENAME",
        dir_with_file,
        |at| fs::rename(at.join("d/f"), at.join("d/g")),
        &["FAN_RENAME d/g < d/f"],
    ),
    case(
        "in",
        "d",
        "MOVED_TO",
        dir_and_file,
        |at| fs::rename(at.join("f"), at.join("d/f")),
        &["FAN_MOVED_TO d/f < f"],
    ),
    case(
        "out",
        "d",
        "MOVED_FROM",
        dir_with_file,
        |at| fs::rename(at.join("d/f"), at.join("f")),
        &["FAN_MOVED_FROM d/f < d/f"],
    ),
    case("delete", "d", "DELETE", dir_with_file, |at| fs::remove_file(at.join("d/f")), &["FAN_DELETE d/f"]),
    case(
        "attrib",
        "d",
        "ATTRIB",
        dir_with_file,
        |at| fs::set_permissions(at.join("d/f"), Permissions::from_mode(0o600)),
        &["FAN_ATTRIB d/f"],
    ),
    case(
        "mkdir",
        "d",
        "CREATE|ONDIR",
        dir,
        |at| fs::create_dir(at.join("d/new")),
        &["FAN_CREATE|FAN_ONDIR d/new"],
    ),
    case("save", "d/f", "ARRIVED", dir_with_file, save_thrice, &["ARRIVED d/f < d/tmp"; 3]),
    case(
        "recursive",
        "d",
        "CLOSE_WRITE",
        dir_with_dirs,
        write_deep,
        &["FAN_CLOSE_WRITE d/a/b/c/f", "FAN_CLOSE_WRITE d/old/f"],
    ),
    case(
        "missing",
        "no/such/f",
        "ARRIVED",
        dir,
        |at| {
            fs::create_dir_all(at.join("no/such"))?;
            make(&at.join("no/such/f"))
        },
        &["ARRIVED no/such/f"],
    ),
    case("open", "d", "OPEN", dir_with_file, |at| read(&at.join("d/f")), &["FAN_OPEN d/f"]),
    case("access", "d", "ACCESS", dir_with_file, |at| read(&at.join("d/f")), &["FAN_ACCESS d/f"]),
    case(
        "close",
        "d",
        "CLOSE_NOWRITE",
        dir_with_file,
        |at| read(&at.join("d/f")),
        &["FAN_CLOSE_NOWRITE d/f"],
    ),
];

const fn case(
    name: &'static str,
    path: &'static str,
    events: &'static str,
    prepare: Act,
    act: Act,
    told: &'static [&'static str],
) -> Case {
    Case { name, path, events, prepare, act, told }
}

impl Case {
    /// Makes what has to be there, in a directory for all cases; why that failed, if
    /// it did.
    pub fn prepare_all(base: &Path) -> Reasons {
        let prepare = |case: &Case| {
            let at = base.join(case.name);
            fs::create_dir_all(&at)
                .and_then(|()| (case.prepare)(&at))
                .err()
                .map(|why| (case.name, errno(&why)))
        };
        CASES.iter().filter_map(prepare).collect()
    }

    /// The name of its rule.
    pub fn name(&self, row: &Row) -> String {
        format!("{}-{}", row.name, self.name)
    }

    /// Its rule.
    pub fn rule(&self, row: &Row) -> String {
        let path = match self.given(row) {
            Some((file, _)) => file.parent().unwrap().to_owned(),
            None => row.base.join(self.name).join(self.path),
        };
        let recursive = if self.name == "recursive" { "recursive " } else { "" };
        format!("{} {} [{recursive}name={}] -\n", path.display(), self.events, self.name(row))
    }

    /// Does it, if that is possible.
    pub fn act(&self, row: &Row) -> Done {
        let done = match (self.given(row), row.unprepared.get(self.name)) {
            (Some((file, act)), _) => act(file),
            (None, Some(why)) => return Done::Refused(*why),
            (None, None) => (self.act)(&row.base.join(self.name)),
        };
        done.map_or_else(|why| Done::Refused(errno(&why)), |()| Done::Yes)
    }

    /// What its rule has to have recorded, sorted.
    pub fn expected(&self, row: &Row, done: Done) -> Vec<String> {
        if !matches!(done, Done::Yes) {
            return Vec::new();
        }
        if let Some((file, _)) = self.given(row) {
            return vec![format!("FAN_{} {}", self.events, file.display())];
        }
        let at = row.base.join(self.name);
        let full = |line: &&str| {
            let (events, paths) = line.split_once(' ').unwrap();
            let paths: Vec<_> = paths.split(" < ").map(|path| at.join(path).display().to_string()).collect();
            format!("{events} {}", paths.join(" < "))
        };
        self.told.iter().map(full).collect()
    }

    /// On file systems of the kernel's own: the file that is there, and what is done
    /// with it.
    fn given<'r>(&self, row: &'r Row) -> Option<(&'r Path, Act)> {
        let act: Act = match self.name {
            "modify" | "written" => write_the_same,
            "open" | "access" | "close" => read,
            _ => return None,
        };
        Some((row.given.as_deref()?, act))
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap())
}

fn dir(at: &Path) -> io::Result<()> {
    fs::create_dir(at.join("d"))
}

fn dir_with_file(at: &Path) -> io::Result<()> {
    dir(at)?;
    make(&at.join("d/f"))
}

fn dir_and_file(at: &Path) -> io::Result<()> {
    dir(at)?;
    make(&at.join("f"))
}

fn dir_with_dirs(at: &Path) -> io::Result<()> {
    fs::create_dir_all(at.join("d/old"))
}

fn make(path: &Path) -> io::Result<()> {
    fs::write(path, "x")
}

fn append(path: &Path) -> io::Result<()> {
    File::options().append(true).open(path)?.write_all(b"x")
}

fn read(path: &Path) -> io::Result<()> {
    File::open(path)?.read_exact(&mut [0])
}

fn write_the_same(path: &Path) -> io::Result<()> {
    let text = fs::read(path)?;
    File::options().write(true).open(path)?.write_all(&text)
}

/// As editors do; where nothing can be changed, it is not tried.
fn save_thrice(at: &Path) -> io::Result<()> {
    fs::set_permissions(at.join("d/f"), Permissions::from_mode(0o644))?;
    sh(&format!("cd {}/d; for n in 1 2 3; do echo x > tmp; mv tmp f; done", at.display()));
    Ok(())
}

fn write_deep(at: &Path) -> io::Result<()> {
    fs::create_dir_all(at.join("d/a/b/c"))?;
    make(&at.join("d/a/b/c/f"))?;
    make(&at.join("d/old/f"))
}
