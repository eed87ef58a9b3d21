//! The kernels' tests under valgrind, which watches every load and store of the one module with unsafe code.
//!
//! Valgrind does not know VAES and AVX-512 and hides them from the program, so what runs is the portable code, AES-NI
//! and AVX2; the wider vectors are held to the same bits by the differential tests outside of valgrind.

use std::process::{Command, Stdio};

use crate::cargo;
use crate::report::Failure;

/// Builds the kernels' unit tests and runs them under valgrind; where it is not installed, says so and succeeds.
pub(crate) fn run() -> Result<(), Failure> {
    if !is_installed("valgrind") {
        eprintln!("skipped: valgrind is not installed (Debian: apt-get install valgrind)");
        return Ok(());
    }
    let build = ["test", "--package", PACKAGE, "--lib", "--no-run", "--locked", "--message-format=json"];
    let messages = cargo::output(cargo::cargo(build).stderr(Stdio::inherit()))?;
    let tests =
        cargo::executable(&messages, |artifact| artifact.profile.test).ok_or(Failure::NoTests { package: PACKAGE })?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--error-exitcode=1"]).arg(tests);
    // One thread: valgrind runs only one at a time, and its reports then belong to the test that is named above them.
    cargo::run(valgrind.args(["--test-threads=1", "--skip", PANICKING]))
}

fn is_installed(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

const PACKAGE: &str = "sordino-kernel";
/// Tests that panic on purpose: unwinding and printing a backtrace takes valgrind longer than all others together.
const PANICKING: &str = "bug_of_the_caller";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_not_installed() {
        assert!(!is_installed("no-such-program-anywhere"));
    }
}
