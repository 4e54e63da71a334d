//! The history on the disk: the time of the processor for each record, of the engine's thread and
//! of the store's.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use facrond::bench::{History, Jobs};

const RECORDS: u64 = 100_000;

fn history(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("there is room");
    let mut history = History::open(dir.path(), RECORDS);
    let mut jobs = Jobs::new(RECORDS, 10);
    let mut group = criterion.benchmark_group("history");
    group.throughput(Throughput::Elements(RECORDS)).sample_size(10);
    for in_turn in [1, 100] {
        group.bench_function(format!("{in_turn} in a turn"), |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| history.record(&mut jobs, in_turn)).sum());
        });
    }
}

criterion_group!(benches, history);
criterion_main!(benches);
