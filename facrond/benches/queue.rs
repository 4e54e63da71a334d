//! The queue of jobs: many paths of one rule, and many rules.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use facrond::bench::Jobs;

const JOBS: u64 = 10_000;

fn queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    group.throughput(Throughput::Elements(JOBS));
    for (name, rules) in [("one rule", 1), ("1000 rules", 1000)] {
        let mut jobs = Jobs::new(JOBS, rules);
        group.bench_function(name, |bencher| bencher.iter(|| assert_eq!(jobs.run(), JOBS)));
    }
}

criterion_group!(benches, queue);
criterion_main!(benches);
