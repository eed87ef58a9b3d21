//! libFuzzer over every decoder, on a stable compiler: coverage counters without a sanitizer need no unstable flag.

use std::path::PathBuf;

use clap::Args;

use crate::cargo;
use crate::report::Failure;

/// What to fuzz, and how long.
#[derive(Args)]
pub(crate) struct Fuzz {
    /// One target of `crates/fuzz`; all of them where none is named
    #[arg(long)]
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

pub(crate) fn run(fuzz: &Fuzz) -> Result<(), Failure> {
    let manifest = cargo::root().join("fuzz/Cargo.toml");
    let folder = cargo::root().join("target/fuzz");
    let mut build = cargo::cargo(["build", "--release", "--locked", "--manifest-path"]);
    // A target triple keeps the flags away from build scripts.
    build.arg(&manifest).arg("--target-dir").arg(&folder).args(["--target", &cargo::host()?]);
    let mut flags = FLAGS.join(" ");
    if cfg!(target_arch = "x86_64") {
        // As in `.cargo/config.toml`, which the variable replaces.
        flags.push_str(" --cfg=curve25519_dalek_backend=\"avx512\"");
    }
    cargo::run(build.env("RUSTFLAGS", flags))?;

    let program = folder.join(cargo::host()?).join("release/sordino-fuzz-driver");
    for target in targets(fuzz)? {
        // What is found new goes to a folder of its own; what is worth keeping is moved to the corpus by hand.
        let found = folder.join("found").join(&target);
        let make = |path: &PathBuf| std::fs::create_dir_all(path);
        make(&found).map_err(|source| Failure::Read { path: found.clone(), source })?;
        let mut command = std::process::Command::new(&program);
        command.current_dir(&folder).env("SORDINO_FUZZ_TARGET", &target);
        command.arg(&found).arg(corpus().join(&target));
        command.arg(format!("-max_total_time={}", fuzz.seconds)).args(["-rss_limit_mb=2048", "-print_final_stats=1"]);
        cargo::run(&mut command)?;
    }
    Ok(())
}

fn targets(fuzz: &Fuzz) -> Result<Vec<String>, Failure> {
    if let Some(target) = &fuzz.target {
        return Ok(vec![target.clone()]);
    }
    let file = |source| Failure::Read { path: corpus(), source };
    let mut targets = Vec::new();
    for entry in std::fs::read_dir(corpus()).map_err(file)? {
        targets.push(entry.map_err(file)?.file_name().to_string_lossy().into_owned());
    }
    targets.sort();
    Ok(targets)
}

fn corpus() -> PathBuf {
    cargo::root().join("fuzz/corpus")
}

/// What `cargo fuzz --sanitizer none` gives the compiler.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
    "-Ccodegen-units=1",
];
