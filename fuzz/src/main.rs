//! One target of `sordino-fuzz` under libFuzzer: the one that the variable `SORDINO_FUZZ_TARGET` names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<&'static sordino_fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("SORDINO_FUZZ_TARGET").expect("SORDINO_FUZZ_TARGET names a target");
    sordino_fuzz::target(&name).expect("a target of that name")
});

fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
