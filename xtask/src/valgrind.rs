//! The kernels' tests under valgrind, which watches every load and store of the one module with unsafe code.
//!
//! Valgrind does not know VAES and AVX-512 and hides them from the program, so what runs is the portable code, AES-NI
//! and AVX2; the wider vectors are held to the same bits by the differential tests outside of valgrind.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use cargo_metadata::Message;

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
    let tests = executable(&messages).ok_or(Failure::NoTests { package: PACKAGE })?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--error-exitcode=1"]).arg(tests);
    // One thread: valgrind runs only one at a time, and its reports then belong to the test that is named above them.
    cargo::run(valgrind.args(["--test-threads=1", "--skip", PANICKING]))
}

/// The one test binary that cargo's messages name.
fn executable(messages: &str) -> Option<PathBuf> {
    Message::parse_stream(messages.as_bytes()).filter_map(Result::ok).find_map(|message| match message {
        Message::CompilerArtifact(artifact) if artifact.profile.test => artifact.executable.map(Into::into),
        _ => None,
    })
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
    fn the_test_binary_is_found_among_cargos_messages() {
        let artifact = |name: &str, test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"path+file:///x#{name}@0.1.0","manifest_path":"/x/Cargo.toml","target":{{"kind":["lib"],"crate_types":["lib"],"name":"{name}","src_path":"/x/src/lib.rs","edition":"2024","doc":true,"doctest":true,"test":true}},"profile":{{"opt_level":"3","debuginfo":1,"debug_assertions":true,"overflow_checks":true,"test":{test}}},"features":[],"filenames":[],"executable":{executable},"fresh":true}}"#
            )
        };
        let messages = [
            artifact("aes", false, "null"),
            artifact("sordino_kernel", true, r#""/x/target/debug/deps/sordino_kernel-1""#),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        assert_eq!(executable(&messages.join("\n")), Some("/x/target/debug/deps/sordino_kernel-1".into()));
        assert_eq!(executable(&messages[0]), None);
        assert_eq!(executable("not json"), None);
    }

    #[test]
    fn a_missing_program_is_not_installed() {
        assert!(!is_installed("no-such-program-anywhere"));
    }
}
