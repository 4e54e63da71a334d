//! The executables of all processes: perf's records of forks, executions and
//! executable mappings, `perf_event_open(2)`. The first mapping after an execution
//! is that of the executable.

use super::{Deed, Teller, Told};
use crate::perf::{
    COMM, COMM_EXEC, MISC_COMM_EXEC, MMAP, RECORD_COMM, RECORD_EXIT, RECORD_FORK, RECORD_LOST, RECORD_MMAP,
    Record, Rings, TASK, Whom,
};
use crate::process;
use nix::errno::Errno;
use rustc_hash::FxHashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

/// The rings, and who executed something and has not mapped it yet.
#[derive(Debug)]
pub struct Programs {
    rings: Rings,
    loading: FxHashSet<i32>,
}

/// Where in the body of a `RECORD_MMAP` the path begins.
const MMAP_PATH: usize = 32;

impl Teller for Programs {
    type Fact = Rc<[u8]>;

    /// # Errors
    /// `EACCES` without `CAP_PERFMON`, `ENOSYS` or `ENOENT` where the kernel has no perf.
    fn follow() -> Result<Self, Errno> {
        Ok(Self {
            rings: Rings::open(Whom::Everyone, MMAP | COMM | TASK | COMM_EXEC)?,
            loading: FxHashSet::default(),
        })
    }

    fn read(&mut self, told: &mut Vec<Told<Rc<[u8]>>>) -> Result<(), Errno> {
        for record in self.rings.read() {
            told.extend(tell(&record, &mut self.loading));
        }
        Ok(())
    }

    fn look_up(pid: i32) -> Option<Rc<[u8]>> {
        process::exe(pid).map(Rc::from)
    }
}

/// What a record tells, where `loading` are those that have executed something and not
/// mapped it yet.
fn tell(record: &Record<'_>, loading: &mut FxHashSet<i32>) -> Option<Told<Rc<[u8]>>> {
    if record.kind == RECORD_LOST {
        loading.clear();
        return Some(Told::Lost);
    }
    let (pid, second) = (record.number(0)?, record.number(4)?);
    match record.kind {
        RECORD_FORK if second != pid => Some(Told::Deed(pid, Deed::Forked { parent: second })),
        RECORD_EXIT if record.number(8)? == pid => {
            loading.remove(&pid);
            Some(Told::Deed(pid, Deed::Ended))
        }
        RECORD_COMM if record.misc & MISC_COMM_EXEC != 0 => {
            loading.insert(pid);
            None
        }
        RECORD_MMAP if loading.remove(&pid) => {
            let path = record.body.get(MMAP_PATH..)?.split(|byte| *byte == 0).next()?;
            Some(Told::Deed(pid, Deed::Became(path.into())))
        }
        _ => None,
    }
}

impl AsFd for Programs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.rings.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    #[test]
    fn the_programs_of_a_child_are_told_in_order() {
        let mut programs = Programs::follow().unwrap();
        let mut child = Command::new("sh").args(["-c", "exec env true"]).spawn().unwrap();
        let pid = child.id().cast_signed();
        child.wait().unwrap();
        let mut told = Vec::new();
        programs.read(&mut told).unwrap();
        let real = |path: &str| {
            let path = std::fs::canonicalize(path).unwrap();
            Deed::Became(Rc::from(path.as_os_str().as_bytes()))
        };
        let parent = std::process::id().cast_signed();
        let deeds: Vec<_> = told
            .into_iter()
            .filter_map(|told| match told {
                Told::Deed(whose, deed) if whose == pid => Some(deed),
                _ => None,
            })
            .collect();
        let expected = [
            Deed::Forked { parent },
            real("/bin/sh"),
            real("/usr/bin/env"),
            real("/usr/bin/true"),
            Deed::Ended,
        ];
        assert_eq!(deeds, expected);
    }

    #[test]
    fn a_ring_may_be_read_many_times_over() {
        let mut programs = Programs::follow().unwrap();
        for _ in 0..20 {
            let mut ended = 0;
            for _ in 0..40 {
                Command::new("true").status().unwrap();
                let mut told = Vec::new();
                programs.read(&mut told).unwrap();
                assert!(!told.contains(&Told::Lost));
                ended += told.iter().filter(|told| matches!(told, Told::Deed(_, Deed::Ended))).count();
            }
            assert!(ended >= 40);
        }
    }
}
