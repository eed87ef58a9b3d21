//! Clippy, twice: everything with the workspace's lints, then the cores with what only they may not do.

use crate::arrows::table;
use crate::cargo::{self, cargo, root};
use crate::report::Failure;

/// Folder of the `clippy.toml` that holds the cores' bans.
const CORE_CONF_DIR: &str = "lints/core";
/// What turns these bans into errors.
const CORE_LEVELS: [&str; 6] = ["-D", "warnings", "-D", "clippy::disallowed_types", "-D", "clippy::disallowed_methods"];

/// Lints every crate and target, then the cores' libraries under their stricter configuration.
pub(crate) fn run() -> Result<(), Failure> {
    cargo::run(&mut cargo(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;

    // Clippy says nothing where its configuration is missing, and would find nothing either.
    let config = root().join(CORE_CONF_DIR).join("clippy.toml");
    std::fs::metadata(&config).map_err(|source| Failure::Read { path: config, source })?;
    // Libraries only: a core's tests may read vectors from files. Clippy records CLIPPY_CONF_DIR and
    // the file behind it as inputs of the crate, so cargo never answers this from the run above.
    let mut cores = cargo(["clippy", "--lib", "--locked"]);
    for core in table::cores() {
        cores.args(["-p", core]);
    }
    cores.env("CLIPPY_CONF_DIR", root().join(CORE_CONF_DIR));
    cores.arg("--").args(CORE_LEVELS);
    cargo::run(&mut cores)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    /// Lints a crate of this one text as a core; the output where clippy ran, `None` where it is not installed.
    fn lint_as_core(code: &str) -> Option<(bool, String)> {
        let mut clippy = Command::new("clippy-driver")
            .args(["--edition=2024", "--crate-type=lib", "--crate-name=probe", "--emit=metadata=-"])
            .args(CORE_LEVELS)
            .arg("-")
            .env("CLIPPY_CONF_DIR", root().join(CORE_CONF_DIR))
            .stdin(Stdio::piped())
            // What is compiled goes nowhere: rustc would rename its result over any path it is given.
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .inspect_err(|why| eprintln!("skipped: clippy-driver does not start: {why}"))
            .ok()?;
        clippy.stdin.take()?.write_all(code.as_bytes()).expect("clippy reads its input");
        let output = clippy.wait_with_output().expect("clippy ends");
        Some((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    #[test]
    fn the_bans_of_the_cores_bite() {
        for (what, expression) in [
            ("std::time::Instant", "std::time::Instant::now()"),
            ("std::time::SystemTime", "std::time::SystemTime::now()"),
            ("std::fs::read", "std::fs::read(\"x\")"),
            ("std::fs::File", "std::fs::File::open(\"x\")"),
            ("std::path::Path::exists", "std::path::Path::new(\"x\").exists()"),
            ("std::net::TcpStream", "std::net::TcpStream::connect(\"[::1]:1\")"),
            ("std::net::UdpSocket", "std::net::UdpSocket::bind(\"[::1]:1\")"),
            ("std::thread::sleep", "std::thread::sleep(std::time::Duration::ZERO)"),
            ("std::thread::spawn", "std::thread::spawn(|| ())"),
            ("std::process::Command", "std::process::Command::new(\"x\")"),
            ("std::env::var", "std::env::var(\"X\")"),
            ("std::io::stdin", "std::io::stdin()"),
            ("std::collections::HashMap", "std::collections::HashMap::<u8, u8>::new()"),
        ] {
            let code = format!("pub fn probe() {{ drop({expression}) }}");
            let Some((passed, said)) = lint_as_core(&code) else { return };
            assert!(!passed, "{what} passed");
            assert!(
                said.contains(&format!("disallowed type `{what}`"))
                    || said.contains(&format!("disallowed method `{what}`")),
                "{said}"
            );
        }
    }

    /// Silence also means that every path into std is known to this version of clippy.
    #[test]
    fn what_cores_do_is_not_banned() {
        let code = "pub fn probe(at: std::time::Duration) -> std::collections::BTreeMap<u128, u8> { [(at.as_nanos(), 1)].into() }";
        let Some((passed, said)) = lint_as_core(code) else { return };
        assert_eq!((passed, said.as_str()), (true, ""));
    }
}
