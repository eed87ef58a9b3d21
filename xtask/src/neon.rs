//! The kernels' tests for aarch64, where this machine is something else: compiled across and run by qemu, which has NEON
//! and the AES instructions.
//!
//! No step of CI: it needs a standard library for another machine, which not every toolchain has beside it, and compiles
//! the judge of the kernels, aws-lc, for that machine too.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use crate::cargo;
use crate::report::Failure;

/// What compiles.
#[derive(Args)]
pub(crate) struct Neon {
    /// A rustc that has the standard library of aarch64-unknown-linux-gnu; cargo's own where it is left out
    #[arg(long, value_name = "PATH")]
    rustc: Option<PathBuf>,
}

/// Builds and runs them; where something for that is not installed, says so and succeeds.
pub(crate) fn run(neon: &Neon) -> Result<(), Failure> {
    let rustc = neon.rustc.clone().or_else(|| std::env::var_os("RUSTC").map(PathBuf::from));
    if let Some(missing) = missing(rustc.as_deref().unwrap_or(Path::new("rustc"))) {
        eprintln!("skipped: {missing}");
        return Ok(());
    }
    let mut test = cargo::cargo(["test", "--locked", "--package", "sordino-kernel", "--lib", "--target", TARGET]);
    // A folder of its own: another compiler would have the workspace's built anew.
    test.args(["--target-dir", "target/neon"]);
    test.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER);
    test.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", format!("{EMULATOR} -L /usr/aarch64-linux-gnu -cpu max"));
    if let Some(rustc) = &neon.rustc {
        test.env("RUSTC", rustc);
    }
    cargo::run(&mut test)
}

/// The first thing that is not there, and how to get it.
fn missing(rustc: &Path) -> Option<String> {
    let libraries = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output();
    let libraries = libraries.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    if !libraries.is_ok_and(|folder| has_core(&folder)) {
        let how = "rustup target add aarch64-unknown-linux-gnu, or --rustc with one that has it, such as that of Debian's \
                   rustc-web and libstd-rust-web-dev:arm64";
        return Some(format!("{} has no standard library for {TARGET} ({how})", rustc.display()));
    }
    [(LINKER, "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"), (EMULATOR, "qemu-user")].into_iter().find_map(
        |(program, packages)| {
            let command = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            let is_there = command.is_ok_and(|status| status.success());
            (!is_there).then(|| format!("{program} is not installed (Debian: apt-get install {packages})"))
        },
    )
}

fn has_core(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let missing = missing(Path::new("no-such-rustc-anywhere")).expect("there is no such program");
        assert!(missing.contains("no-such-rustc-anywhere") && missing.contains("rustup target add"), "{missing}");
        assert!(!has_core(Path::new("/nowhere")));
    }
}
