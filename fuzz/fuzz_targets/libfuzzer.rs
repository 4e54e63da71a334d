//! The targets under libFuzzer: `FACRON_FUZZ_TARGET=records cargo +nightly fuzz run libfuzzer`.

#![no_main]

use facron_fuzz::Target;
use std::sync::LazyLock;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FACRON_FUZZ_TARGET").unwrap_or_default();
    Target::named(&name).expect("FACRON_FUZZ_TARGET names a target")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
