//! What the store keeps, whatever happens to its file.

use super::*;
use rusqlite::Connection;
use std::fs;
use std::ops::Range;
use tempfile::TempDir;

const BOOT: &str = "this boot";

const KEPT: Kept = Kept { records: 1000, age: Duration::from_secs(3600) };

/// Enough for some pages.
const RULES: Range<u64> = 1..60;
const JOBS: Range<u64> = 1..6;

fn row(id: u64) -> RuleRow {
    let layer = if id.is_multiple_of(2) { Layer::ForEver } else { Layer::UntilBoot };
    RuleRow { id, layer, paused: id.is_multiple_of(3), data: format!("rule {id} ").repeat(20).into_bytes() }
}

fn open(dir: &Path, boot: &str) -> (Store, Saved) {
    Store::open(dir, boot, KEPT).unwrap()
}

/// Closes a store as the end of the daemon does.
fn close(mut store: Store, next_seq: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(store.close(next_seq));
}

fn keep(store: &Store, changes: Vec<Change>) {
    assert_eq!(store.settle(store.promise(changes)), Ok(()));
}

/// A state directory whose store has [`RULES`] and [`JOBS`].
fn filled() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (store, saved) = open(dir.path(), BOOT);
    assert_eq!((saved.rules.len(), saved.next_rule, saved.next_seq, saved.problems), (0, 1, 1, vec![]));
    let number = Change::Number { name: Number::NextRule, value: 100 };
    for seq in JOBS {
        store.write(Change::Job { seq, change: JobChange::Opened(Box::new(job(seq))) });
    }
    let spec = Change::Spec { id: 5, data: b"spec".to_vec() };
    keep(&store, RULES.map(|id| Change::Rule(row(id))).chain([number, spec]).collect());
    close(store, 7);
    dir
}

/// The files that were set aside.
fn set_aside(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("facron.db.newer-")).collect()
}

#[test]
fn what_was_kept_comes_back() {
    let dir = filled();
    let (store, saved) = open(dir.path(), BOOT);
    assert_eq!((saved.next_rule, saved.next_seq, &saved.problems), (100, 7, &vec![]));
    assert_eq!(saved.rules, RULES.map(row).collect::<Vec<_>>());
    keep(&store, vec![Change::RemoveRule { id: 2 }, Change::PauseRule { id: 4, paused: true }]);
    // not closed, as after a crash
    drop(store);
    let (store, saved) = reopen(dir.path(), "another boot");
    let expected = RULES.map(row).filter(|row| row.layer == Layer::ForEver && row.id != 2);
    let paused = |row: RuleRow| RuleRow { paused: row.paused || row.id == 4, ..row };
    assert_eq!(saved.rules, expected.map(paused).collect::<Vec<_>>());
    assert!(saved.next_seq >= RESERVED, "numbers of records are used up in advance");
    close(store, 9);
    assert_eq!(
        open(dir.path(), BOOT).1.rules.len(),
        saved.rules.len(),
        "rules of another boot do not return"
    );
}

#[test]
fn numbers_are_used_up_on_the_disk_before_the_first_is_given() {
    let (dir, later) = (filled(), tempfile::tempdir().unwrap());
    let (_store, saved) = open(dir.path(), BOOT);
    fs::copy(dir.path().join(FILE), later.path().join(FILE)).unwrap();
    assert_eq!((saved.next_seq, open(later.path(), BOOT).1.next_seq), (7, 7 + RESERVED));
}

#[test]
fn a_database_that_has_more_than_was_read_is_left_alone() {
    let dir = filled();
    let own = Arc::new(OwnDir::make(dir.path()).unwrap());
    let (state, boot) = (dir.path().to_owned(), BOOT.to_owned());
    let opening =
        |next| Opening { dir: own.clone(), state: state.clone(), boot: boot.clone(), kept: KEPT, next };
    assert!(matches!(opening([99, 7]).open_later(), Err(Error::Unread { .. })));
    assert!(opening([100, 7]).open_later().is_ok());
}

/// Opens a store that another thread may not have left yet.
fn reopen(dir: &Path, boot: &str) -> (Store, Saved) {
    loop {
        match Store::open(dir, boot, KEPT) {
            Ok((Store(State::Open(open)), saved)) => return (Store(State::Open(open)), saved),
            other => assert!(matches!(other, Err(Error::InUse { .. })), "{other:?}"),
        }
    }
}

#[test]
fn a_second_one_is_refused_and_told_who_is_first() {
    let dir = filled();
    let first = open(dir.path(), BOOT);
    let error = Store::open(dir.path(), BOOT, KEPT).unwrap_err().to_string();
    let pid = std::process::id();
    let (dir, expected) = (dir.path().display(), format!("in use by the facrond with pid {pid};"));
    assert!(error.starts_with(&format!("the state directory {dir} is {expected}")), "{error}");
    drop(first);
}

#[test]
fn a_later_version_is_set_aside_and_an_earlier_one_is_taken_over() {
    let dir = filled();
    let file = dir.path().join(FILE);
    let set = |version: i64| {
        let connection = Connection::open(&file).unwrap();
        connection.pragma_update(None, "user_version", version).unwrap();
    };
    set(schema::VERSION + 1);
    let (store, saved) = open(dir.path(), BOOT);
    let problem = format!("is of a later version of facron ({})", schema::VERSION + 1);
    assert!(saved.rules.is_empty() && saved.problems[0].contains(&problem), "{saved:?}");
    close(store, 1);
    let [aside] = &set_aside(dir.path())[..] else { panic!() };
    fs::rename(dir.path().join(aside), &file).unwrap();
    set(schema::VERSION);
    let saved = open(dir.path(), BOOT).1;
    assert_eq!(saved.rules.len(), RULES.count(), "nothing in it was changed: {saved:?}");
}

#[test]
fn each_earlier_version_becomes_this_one() {
    for version in 0..=schema::VERSION {
        let dir = tempfile::tempdir().unwrap();
        let connection = Connection::open(dir.path().join(FILE)).unwrap();
        schema::steps(usize::try_from(version).unwrap())
            .for_each(|step| connection.execute_batch(step).unwrap());
        connection.pragma_update(None, "user_version", version).unwrap();
        drop(connection);
        let (store, saved) = open(dir.path(), BOOT);
        assert_eq!(saved.problems, [""; 0], "{version}");
        keep(&store, vec![Change::Rule(row(1))]);
        close(store, 1);
        assert_eq!(open(dir.path(), BOOT).1.rules, [row(1)]);
    }
}

/// Opens what is left of a store: nothing that comes back is wrong, whatever is missing is
/// complained about, and the store works.
fn survives(dir: &Path, what: &str) -> usize {
    let (store, saved) = open(dir, BOOT);
    let right: Vec<_> = RULES.map(row).collect();
    assert!(saved.rules.iter().all(|found| right.contains(found)), "{what}");
    let of = |job: &JobRow| (job.seq, job.spec, job.data.clone());
    let jobs: Vec<_> = JOBS.map(job).map(|job| of(&job)).collect();
    assert!(saved.jobs.iter().all(|job| jobs.contains(&of(job))), "{what}: {:?}", saved.jobs);
    let is_whole = (saved.rules.len(), saved.jobs.len()) == (right.len(), jobs.len());
    assert!(is_whole || !saved.problems.is_empty(), "{what}: nobody is told");
    keep(&store, vec![Change::Rule(row(1000))]);
    close(store, 8);
    let again = open(dir, BOOT).1;
    assert!(
        again.rules.len() == saved.rules.len() + 1,
        "{what}: {} and {}",
        saved.rules.len(),
        again.rules.len()
    );
    saved.rules.len()
}

#[test]
fn a_file_that_was_cut_or_changed_does_no_harm() {
    let whole = fs::read(filled().path().join(FILE)).unwrap();
    let damage = |bytes: &[u8], what: &str| {
        // In memory, where nothing waits for a disk.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::write(dir.path().join(FILE), bytes).unwrap();
        survives(dir.path(), what)
    };
    let mut best = 0;
    for step in 0..200 {
        let length = whole.len() * step / 200;
        best = best.max(damage(&whole[..length], &format!("cut to {length}")));
    }
    assert!(best > 10, "what can be read is kept: {best}");
    let (mut kept, mut random) = (0, fastrand());
    let count = if std::env::var_os("FACRON_LONG").is_some() { 2000 } else { 300 };
    for _ in 0..count {
        let mut bytes = whole.clone();
        let (at, flip) = (random() % whole.len(), u8::try_from(1 + random() % 255).unwrap());
        bytes[at] ^= flip;
        kept += damage(&bytes, &format!("byte {at} xor {flip}"));
    }
    assert!(kept > count * RULES.count() / 2, "what can be read is kept: {kept}");
}

/// Numbers without a pattern, the same in each run.
fn fastrand() -> impl FnMut() -> usize {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 16).unwrap()
    }
}

#[test]
fn links_and_files_of_others_are_not_used() {
    let dir = filled();
    let precious = dir.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    for suffix in ["", "-wal", "-journal", "-shm"] {
        let theirs = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(&precious, theirs.path().join(format!("{FILE}{suffix}"))).unwrap();
        let (store, saved) = open(theirs.path(), BOOT);
        assert_eq!(saved.problems.len(), 1, "{suffix}: {saved:?}");
        let kept = store.settle(store.promise(vec![Change::Rule(row(1))]));
        assert!(kept.is_err_and(|why| why.contains(&format!("{FILE}{suffix}"))), "{suffix}");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    }
}

fn job(seq: u64) -> JobRow {
    let data = format!("job {seq} ").repeat(10).into_bytes();
    let (events, phase) = (vec![(seq + 1, b"more".to_vec())], Phase::Waits);
    JobRow { seq, rule: 1, spec: 5, data, merged: 1, events, tries: 0, phase }
}

fn changes_of(seq: u64, changes: Vec<JobChange>) -> Vec<Change> {
    changes.into_iter().map(|change| Change::Job { seq, change }).collect()
}

#[test]
fn jobs_are_kept_from_their_admission_to_their_end() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), BOOT);
    let write = |changes: Vec<Change>| {
        for change in changes {
            store.write(change);
        }
        // What is promised is written after all that came before it.
        keep(&store, vec![Change::Spec { id: 5, data: b"spec".to_vec() }]);
    };
    let opened = |seq: u64| JobChange::Opened(Box::new(job(seq)));
    write((10..16).flat_map(|seq| changes_of(seq, vec![opened(seq)])).collect());
    let pid = std::process::id().cast_signed();
    let files = || b"files".to_vec();
    let runs = |identity| Phase::Runs { pid, identity, began: 77, files: files() };
    let event = |number| Some((number, b"later".to_vec()));
    write(changes_of(11, vec![JobChange::Merged { count: 4, event: event(90) }]));
    write(changes_of(12, vec![JobChange::Went { tries: 2, phase: Phase::WaitsUntil(99) }]));
    write(changes_of(13, vec![JobChange::Went { tries: 1, phase: runs(None) }]));
    write(changes_of(14, vec![JobChange::Ended]));
    write(changes_of(15, vec![JobChange::Went { tries: 1, phase: runs(None) }]));
    let settles = || Phase::Settles { files: b"settled".to_vec() };
    write(changes_of(15, vec![JobChange::Went { tries: 3, phase: settles() }]));
    // In one group.
    write(changes_of(
        20,
        vec![opened(20), JobChange::Went { tries: 0, phase: runs(None) }, JobChange::Ended],
    ));
    write(changes_of(21, vec![opened(21), JobChange::Merged { count: 1, event: event(91) }]));
    write(changes_of(99, vec![JobChange::Merged { count: 1, event: event(92) }, JobChange::Ended]));
    close(store, 22);
    let (store, saved) = open(dir.path(), BOOT);
    let mut expected: Vec<_> = [10, 11, 12, 13, 15, 21].map(job).into();
    expected[1].merged += 4;
    expected[1].events.push((90, b"later".to_vec()));
    (expected[2].tries, expected[2].phase) = (2, Phase::WaitsUntil(99));
    (expected[3].tries, expected[3].phase) = (1, runs(crate::kernel::process::identity(pid)));
    (expected[4].tries, expected[4].phase) = (3, settles());
    expected[5].merged += 1;
    expected[5].events.push((91, b"later".to_vec()));
    assert_eq!((saved.jobs, saved.specs.len()), (expected, 1));
    for seq in 10..22 {
        store.write(Change::Job { seq, change: JobChange::Ended });
    }
    close(store, 22);
    close(open(dir.path(), BOOT).0, 22);
    let saved = open(dir.path(), BOOT).1;
    assert_eq!((saved.jobs.len(), saved.specs.len()), (0, 0), "specs without jobs go");
    let connection = Connection::open(dir.path().join(FILE)).unwrap();
    let events: i64 = connection.query_row("SELECT count(*) FROM event", (), |row| row.get(0)).unwrap();
    assert_eq!(events, 0);
}

#[test]
fn what_there_is_no_room_for_is_counted() {
    let inbox = Inbox::default();
    for id in 0..40 {
        inbox.push(Change::Spec { id, data: vec![0; 1 << 20] });
    }
    assert_eq!(inbox.waiting(), 31);
    assert_eq!(inbox.problem().unwrap(), "9 changes of the state are lost");
}

#[test]
fn what_was_told_does_not_fill_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), BOOT);
    for until in 1..=128 {
        // Each in a group of its own: the room for what waits is less than all of them.
        let number = Change::Number { name: Number::NextRule, value: until };
        store.write(Change::Known { until, told: vec![7; 512 << 10], forget: 0 });
        keep(&store, vec![number]);
    }
    close(store, 1);
    let connection = Connection::open(dir.path().join(FILE)).unwrap();
    let size: i64 =
        connection.query_row("SELECT sum(length(batch)) FROM told", (), |row| row.get(0)).unwrap();
    assert!((15 << 20..=16 << 20).contains(&size), "{size} bytes");
}
