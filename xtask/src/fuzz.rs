//! libFuzzer over every decoder, on a stable compiler: coverage counters without a sanitizer need no unstable flag.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::cargo;
use crate::report::Failure;

/// What to fuzz, and how long.
#[derive(Args)]
pub(crate) struct Fuzz {
    /// One target of `crates/fuzz`; all of them where none is named
    #[arg(long)]
    target: Option<String>,
    /// Seconds for each target; with 0, nothing is fuzzed
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Afterwards, add to the corpus a few short inputs among what was found that reach what the corpus does not
    #[arg(long)]
    keep: bool,
    /// Only see whether the program compiles, without instrumentation
    #[arg(long, conflicts_with_all = ["target", "seconds", "keep"])]
    check: bool,
}

/// That the fuzzing program compiles, with its `Cargo.lock` as it is.
pub(crate) fn check() -> Result<(), Failure> {
    let mut check = cargo::cargo(["check", "--locked", "--manifest-path", "fuzz/Cargo.toml"]);
    // Beside the workspace's own: most of what it needs has been compiled there, with the same profile.
    cargo::run(check.args(["--target-dir", "target"]))
}

pub(crate) fn run(fuzz: &Fuzz) -> Result<(), Failure> {
    if fuzz.check {
        return check();
    }
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
        // What is found new goes to a folder of its own.
        let found = folder.join("found").join(&target);
        fs::create_dir_all(&found).map_err(|source| Failure::Read { path: found.clone(), source })?;
        let libfuzzer = || {
            let mut command = Command::new(&program);
            command.current_dir(&folder).env("SORDINO_FUZZ_TARGET", &target).arg("-rss_limit_mb=2048");
            command
        };
        if fuzz.seconds > 0 {
            let seconds = format!("-max_total_time={}", fuzz.seconds);
            let folders = [&found, &corpus().join(&target)];
            cargo::run(libfuzzer().args([&seconds, "-print_final_stats=1"]).args(folders))?;
        }
        if fuzz.keep {
            keep(&target, &found, &folder.join("kept").join(&target), libfuzzer())?;
        }
    }
    Ok(())
}

/// Adds to the corpus what of `found` reaches code that the corpus does not: short inputs, few of them, the most telling.
fn keep(target: &str, found: &Path, scratch: &Path, mut libfuzzer: Command) -> Result<(), Failure> {
    let corpus = corpus().join(target);
    if scratch.exists() {
        fs::remove_dir_all(scratch).map_err(write(scratch))?;
    }
    fs::create_dir_all(scratch).map_err(write(scratch))?;
    for (name, path) in files(&corpus)? {
        fs::copy(&path, scratch.join(name)).map_err(write(&path))?;
    }
    // Edges only: how often one is passed is worth a place in a fuzzer's memory, not in a repository.
    let longest = format!("-max_len={KEPT_BYTES}");
    cargo::run(libfuzzer.args(["-set_cover_merge=1", "-use_counters=0", &longest]).args([scratch, found]))?;
    let mut new = Vec::new();
    for (name, path) in files(scratch)? {
        if !corpus.join(&name).exists() {
            let written = fs::metadata(&path).and_then(|about| about.modified());
            new.push((written.map_err(|source| Failure::Read { path: path.clone(), source })?, name, path));
        }
    }
    // It writes first what reaches most that nothing before it does.
    new.sort();
    let (all, new) = (new.len(), new.into_iter().take(KEPT_FILES));
    println!("{target}: {} of {all} inputs that reach more are kept", new.len());
    for (_, name, path) in new {
        fs::copy(&path, corpus.join(name)).map_err(write(&path))?;
    }
    Ok(())
}

fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    let path = path.to_owned();
    |source| Failure::Write { path, source }
}

/// The files of a folder, by name.
fn files(folder: &Path) -> Result<Vec<(OsString, PathBuf)>, Failure> {
    let file = |source| Failure::Read { path: folder.to_owned(), source };
    let entries = fs::read_dir(folder).map_err(file)?;
    entries.map(|entry| entry.map(|entry| (entry.file_name(), entry.path())).map_err(file)).collect()
}

fn targets(fuzz: &Fuzz) -> Result<Vec<String>, Failure> {
    if let Some(target) = &fuzz.target {
        return Ok(vec![target.clone()]);
    }
    let mut targets: Vec<String> =
        files(&corpus())?.into_iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
    targets.sort();
    Ok(targets)
}

fn corpus() -> PathBuf {
    cargo::root().join("fuzz/corpus")
}

/// Bytes of an input that is kept, and how many are for each target, at most: the corpus is in the repository, and every
/// test run goes over it.
const KEPT_BYTES: u32 = 4_096;
const KEPT_FILES: usize = 24;
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
