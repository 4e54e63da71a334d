//! The executables of all processes: perf's records of forks, executions and
//! executable mappings, `perf_event_open(2)`. The first mapping after an execution
//! is that of the executable.

use super::{ProcessEvent, ProcessEventSource};
use crate::perf::{
    COMM, COMM_EXEC, MISC_COMM_EXEC, MMAP, RECORD_COMM, RECORD_EXIT, RECORD_FORK, RECORD_LOST, RECORD_MMAP,
    Record, Rings, Scope, TASK,
};
use crate::process;
use nix::errno::Errno;
use rustc_hash::FxHashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

/// The rings of all processes, and the processes that have executed a program and not
/// mapped it yet.
#[derive(Debug)]
pub struct Programs {
    rings: Rings,
    loading: FxHashSet<i32>,
}

/// Where in the body of a `RECORD_MMAP` the path begins.
const MMAP_PATH: usize = 32;

impl ProcessEventSource for Programs {
    type Fact = Rc<[u8]>;

    /// # Errors
    /// `EACCES` without `CAP_PERFMON`, `ENOSYS` or `ENOENT` if the kernel has no perf.
    fn follow() -> Result<Self, Errno> {
        Ok(Self {
            rings: Rings::open(Scope::Everyone, MMAP | COMM | TASK | COMM_EXEC)?,
            loading: FxHashSet::default(),
        })
    }

    fn read(&mut self, events: &mut Vec<ProcessEvent<Rc<[u8]>>>) -> Result<(), Errno> {
        for record in self.rings.read() {
            events.extend(event(&record, &mut self.loading));
        }
        Ok(())
    }

    fn look_up(pid: i32) -> Option<Rc<[u8]>> {
        process::exe(pid).map(Rc::from)
    }
}

/// The event of a record. `loading` are the processes that have executed a program and not
/// mapped it yet.
pub(crate) fn event(record: &Record<'_>, loading: &mut FxHashSet<i32>) -> Option<ProcessEvent<Rc<[u8]>>> {
    if record.kind == RECORD_LOST {
        loading.clear();
        return Some(ProcessEvent::Lost);
    }
    let (pid, second, time) = (record.number(0)?, record.number(4)?, record.time);
    match record.kind {
        RECORD_FORK if second != pid => Some(ProcessEvent::Fork { pid, parent: second, time }),
        RECORD_EXIT if record.number(8)? == pid => {
            loading.remove(&pid);
            Some(ProcessEvent::Exit { pid, time })
        }
        RECORD_COMM if record.misc & MISC_COMM_EXEC != 0 => {
            loading.insert(pid);
            None
        }
        RECORD_MMAP if loading.remove(&pid) => {
            let path = record.body.get(MMAP_PATH..)?.split(|byte| *byte == 0).next()?;
            Some(ProcessEvent::Fact { pid, fact: path.into(), time })
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
    use crate::process_events::tests::of;
    use std::process::Command;

    #[test]
    #[cfg_attr(not(feature = "root-tests"), ignore = "needs root")]
    fn the_programs_of_a_child_are_told_in_order() {
        let mut programs = Programs::follow().unwrap();
        let mut child = Command::new("sh").args(["-c", "exec env true"]).spawn().unwrap();
        let pid = child.id().cast_signed();
        child.wait().unwrap();
        let mut events = Vec::new();
        programs.read(&mut events).unwrap();
        let real =
            |path: &str| Rc::from(std::fs::canonicalize(path).unwrap().into_os_string().as_encoded_bytes());
        let seen = of(&mut events, pid);
        let expected = [
            ProcessEvent::Fork { pid, parent: std::process::id().cast_signed(), time: 0 },
            ProcessEvent::Fact { pid, fact: real("/bin/sh"), time: 0 },
            ProcessEvent::Fact { pid, fact: real("/usr/bin/env"), time: 0 },
            ProcessEvent::Fact { pid, fact: real("/usr/bin/true"), time: 0 },
            ProcessEvent::Exit { pid, time: 0 },
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    #[cfg_attr(not(feature = "root-tests"), ignore = "needs root")]
    fn a_ring_may_be_read_many_times_over() {
        let mut programs = Programs::follow().unwrap();
        for _ in 0..20 {
            let mut ended = 0;
            for _ in 0..40 {
                Command::new("true").status().unwrap();
                let mut events = Vec::new();
                programs.read(&mut events).unwrap();
                assert!(!events.contains(&ProcessEvent::Lost));
                ended += events.iter().filter(|event| matches!(event, ProcessEvent::Exit { .. })).count();
            }
            assert!(ended >= 40);
        }
    }
}
