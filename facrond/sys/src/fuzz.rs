//! The fuzz targets for data from the kernel: fanotify records, perf records, and messages
//! of the proc connector. Each takes any bytes, and panics if they are read wrongly.

use crate::perf::{self, MISC_COMM_EXEC, RECORD_COMM, RECORD_EXIT, RECORD_FORK, RECORD_LOST, RECORD_MMAP};
use crate::process_events::{ProcessEvent, forks, programs, users};
use crate::record::{FsId, Records};
use rustc_hash::FxHashSet;

/// Parses the records that one read of a notification group returns.
///
/// # Panics
/// If a record is out of place.
pub fn records(bytes: &[u8]) {
    let mut records = Records::new(bytes, FsId(1));
    for record in records.by_ref() {
        let Ok(record) = record else { break };
        let entries = [record.entry, record.old, record.new].into_iter().flatten();
        for name in entries.map(|entry| entry.name) {
            assert!(!name.contains(&0), "a name ends before its NUL");
        }
    }
    assert!(records.next().is_none(), "an error is the last record");
}

/// Seeds: a write with its file, and a rename.
pub fn record_seeds() -> Vec<Vec<u8>> {
    let info = |kind: u8, handle: &[u8], name: &[u8]| {
        let mut info = [kind, 0, 0, 0].to_vec();
        info.extend(*b"fsidfsid");
        info.extend(
            [u32::try_from(handle.len()).unwrap_or_default(), 1].iter().flat_map(|n| n.to_ne_bytes()),
        );
        info.extend([handle, name].concat());
        info.resize(info.len().next_multiple_of(4), 0);
        info[2] = u8::try_from(info.len()).unwrap_or_default();
        info
    };
    let record = |mask: u64, infos: &[Vec<u8>]| {
        let infos = infos.concat();
        let mut record = [24 + u8::try_from(infos.len()).unwrap_or_default(), 0, 0, 0, 3, 0, 24, 0].to_vec();
        record.extend(mask.to_ne_bytes());
        record.extend([0xff, 0xff, 0xff, 0xff, 42, 0, 0, 0]);
        record.extend(infos);
        record
    };
    let write = record(8, &[info(2, b"dirhandl", b"name\0"), info(1, b"file", b"")]);
    let rename = record(0x1000_0000, &[info(10, b"d1", b"x\0"), info(12, b"d2", b"y\0")]);
    vec![[write.clone(), rename].concat(), write]
}

/// Parses the content of perf's rings.
///
/// # Panics
/// If a record is out of place.
pub fn perf(bytes: &[u8]) {
    let mut loading = FxHashSet::default();
    let (mut read, mut executed) = (0, 0);
    for record in perf::records(bytes) {
        read += record.body.len();
        let _ = forks::event::<()>(&record);
        executed += usize::from(record.kind == RECORD_COMM);
        if let Some(ProcessEvent::Fact { fact, .. }) = programs::event(&record, &mut loading) {
            assert!(!fact.contains(&0) && fact.len() <= record.body.len(), "a path of the record");
        }
        assert!(loading.len() <= executed, "a process that loads a program has executed it");
    }
    assert!(read <= bytes.len(), "no byte is read twice");
}

/// Seeds: a fork, an execution with its mapping, an exit, and lost records.
pub fn perf_seeds() -> Vec<Vec<u8>> {
    let record = |kind: u32, misc: u16, body: &[u8]| {
        let mut record = kind.to_ne_bytes().to_vec();
        record.extend(misc.to_ne_bytes());
        record.extend(u16::try_from(body.len() + 16).unwrap_or_default().to_ne_bytes());
        record.extend([body, &7u64.to_ne_bytes()].concat());
        record
    };
    let pids = |pids: &[i32]| pids.iter().flat_map(|pid| pid.to_ne_bytes()).collect::<Vec<_>>();
    let exec = record(RECORD_COMM, MISC_COMM_EXEC, &[pids(&[9, 9]), b"cat\0".to_vec()].concat());
    let mapping = [pids(&[9, 9]), vec![0; 24], b"/bin/cat\0".to_vec()].concat();
    let fork = record(RECORD_FORK, 0, &pids(&[9, 8, 9, 8, 0, 0]));
    let exit = record(RECORD_EXIT, 0, &pids(&[9, 8, 9, 8, 0, 0]));
    vec![[fork, exec, record(RECORD_MMAP, 0, &mapping), exit].concat(), record(RECORD_LOST, 0, &[0; 16])]
}

/// Parses a message of the proc connector.
///
/// # Panics
/// Never, but for a defect of the parser.
pub fn connector(bytes: &[u8]) {
    if let Some(event) = users::parse(bytes) {
        assert!(bytes.len() > 36, "longer than its headers: {event:?}");
    }
}

/// Seeds: a fork, a change of user and an exit.
pub fn connector_seeds() -> Vec<Vec<u8>> {
    let message = |kind: u32, data: [u32; 4]| {
        let mut message = vec![0; 36];
        message.extend([kind, 0, 7, 0].into_iter().chain(data).flat_map(u32::to_ne_bytes));
        message
    };
    vec![message(1, [8, 8, 9, 9]), message(4, [9, 9, 0, 65534]), message(0x8000_0000, [9, 9, 0, 0])]
}
