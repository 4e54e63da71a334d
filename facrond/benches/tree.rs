//! From a record to the rules that it fires, in a large tree.

use criterion::{Criterion, criterion_group, criterion_main};
use facrond::bench::Tree;
use std::hint::black_box;

const DIRECTORIES: u64 = 100_000;

fn tree(criterion: &mut Criterion) {
    let mut tree = Tree::new(DIRECTORIES);
    assert!(tree.knows(0) && tree.knows(DIRECTORIES - 1) && !tree.knows(DIRECTORIES));
    assert_eq!(tree.on_close(0, b"file"), 1);
    // Not in their order: each is far from the one before.
    let mut numbers = (0..DIRECTORIES).map(|number| number * 7919 % DIRECTORIES).cycle();
    let mut next = move || numbers.next().unwrap_or(0);
    criterion.bench_function("lookup", |bencher| bencher.iter(|| tree.knows(black_box(next()))));
    criterion.bench_function("match", |bencher| bencher.iter(|| tree.on_close(black_box(next()), b"file")));
    let outside = DIRECTORIES;
    criterion
        .bench_function("no match", |bencher| bencher.iter(|| tree.on_close(black_box(outside), b"file")));
}

criterion_group!(benches, tree);
criterion_main!(benches);
