//! Runs fuzz targets for some seconds each on mutations of their seeds.
//!
//! ```text
//! facron-fuzz [--seconds N] [--seed N] [TARGET]...
//! ```
//!
//! The generator is seeded and the seed printed, so that a run can be had again. It knows
//! nothing of what the code does; `fuzz_targets` has the same targets for libFuzzer, which does.

use facron_fuzz::{Mutator, TARGETS, Target};
use std::cell::RefCell;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One input may take this long; they have a few hundred bytes.
const SLOW: Duration = Duration::from_secs(2);

thread_local! {
    /// What the target is at, for the report of a panic.
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct Options {
    seconds: u64,
    seed: u64,
    targets: Vec<&'static Target>,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("facron-fuzz: {why}");
            return ExitCode::from(2);
        }
    };
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        INPUT.with_borrow(|input| eprintln!("input: b\"{}\"", input.escape_ascii()));
    }));
    for target in options.targets {
        println!("{}: seed {}", target.name, options.seed);
        let runs = run(target, options.seed, Duration::from_secs(options.seconds));
        println!("{}: {runs} inputs in {} s", target.name, options.seconds);
    }
    ExitCode::SUCCESS
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut options = Options { seconds: 10, seed: now.as_secs(), targets: Vec::new() };
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|value| value.parse().ok()).ok_or(format!("{arg} N"));
        match arg.as_str() {
            "--seconds" => options.seconds = number()?,
            "--seed" => options.seed = number()?,
            name => {
                let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
                let unknown = || format!("no target `{name}`; there are {}", names.join(", "));
                options.targets.push(Target::named(name).ok_or_else(unknown)?);
            }
        }
    }
    if options.targets.is_empty() {
        options.targets = TARGETS.iter().collect();
    }
    Ok(options)
}

/// Runs a target until the time is over; how many inputs it had.
fn run(target: &Target, seed: u64, time: Duration) -> u64 {
    let mut mutator = Mutator::new(seed, (target.seeds)());
    let (start, mut runs) = (Instant::now(), 0);
    let mut before = start;
    while before < start + time {
        INPUT.with_borrow_mut(|input| mutator.next(input));
        INPUT.with_borrow(|input| (target.run)(input));
        runs += 1;
        let now = Instant::now();
        assert!(now - before < SLOW, "it took {:?}", now - before);
        before = now;
    }
    runs
}
