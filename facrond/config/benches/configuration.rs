//! Reading a configuration of 100 000 lines.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use facron_config::load_files;
use std::fmt::Write;

const LINES: u64 = 100_000;

fn configuration(criterion: &mut Criterion) {
    let mut text = String::new();
    for number in 0..LINES {
        let options = if number % 10 == 0 { "[name=n" } else { "[settle=2s" };
        let name = if number % 10 == 0 { number.to_string() } else { String::new() };
        let _ =
            writeln!(text, "/srv/tree/{number} CLOSE_WRITE|MOVED_TO {options}{name}] /bin/true '$$' \"$%\"");
    }
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let file = dir.path().join("facron.conf");
    std::fs::write(&file, text).expect("a new file can be written");
    let files = [file];
    let mut group = criterion.benchmark_group("configuration");
    group.sample_size(10).throughput(Throughput::Elements(LINES));
    group.bench_function("100 000 lines", |bencher| {
        bencher.iter(|| {
            let loaded = load_files(&files);
            assert_eq!(loaded.rules.len() as u64, LINES);
        });
    });
}

criterion_group!(benches, configuration);
criterion_main!(benches);
