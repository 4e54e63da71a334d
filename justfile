# What there is to do here: `just --list`.

# form, lints, documentation, the shipped configuration
check:
    .ci/run check

# the unit tests that need no root
test:
    cargo test --locked --workspace --exclude facron-tests

# all tests, as root: they watch the real kernel, mount and change users
test-root:
    tests/run

# the benchmarks; BENCH is a part of a name
bench BENCH="":
    cargo bench --locked --workspace --benches -- {{BENCH}}

# each fuzz target for so many seconds, or only TARGET
fuzz SECONDS="10" TARGET="":
    cargo run --locked -p facron-fuzz -- --seconds {{SECONDS}} {{TARGET}}
