//! Reading the records of file events, as many as one read gives.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use facron_sys::fanotify::READ_SIZE;
use facron_sys::fuzz::record_seeds;
use facron_sys::record::{FsId, Records};
use std::hint::black_box;

fn records(criterion: &mut Criterion) {
    let two = &record_seeds()[0];
    let times = READ_SIZE / two.len();
    let bytes = two.repeat(times);
    let mut group = criterion.benchmark_group("records");
    group.throughput(Throughput::Elements(2 * times as u64));
    group.bench_function("parse", |bencher| {
        bencher.iter(|| Records::new(black_box(&bytes), FsId(1)).flatten().count());
    });
}

criterion_group!(benches, records);
criterion_main!(benches);
