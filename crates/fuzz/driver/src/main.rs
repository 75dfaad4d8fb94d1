//! libFuzzer over one target of `inferring-fuzz`: the one that `INFERRING_FUZZ_TARGET` names.

#![no_main]

use std::sync::LazyLock;

use inferring_fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("INFERRING_FUZZ_TARGET").unwrap_or_default();
    Target::named(&name).unwrap_or_else(|| {
        let names: Vec<_> = inferring_fuzz::TARGETS.iter().map(|target| target.name).collect();
        eprintln!("INFERRING_FUZZ_TARGET=`{name}`: expected one of {}", names.join(", "));
        std::process::exit(2)
    })
});

fuzz_target!(|data: &[u8]| (TARGET.run)(data));
