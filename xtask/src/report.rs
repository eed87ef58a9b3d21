//! How a check ends: with the list of what it found, or unable to look.

use std::fmt;
use std::path::PathBuf;

/// One thing that is not as it must be: names the crate, what is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation(String);

impl Violation {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a chore did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The program could not be started at all.
    #[error("cannot start `{command}`; is it installed and on the PATH?")]
    Start { command: String, source: std::io::Error },
    /// The program ran and said no; its own output stands above.
    #[error("`{command}` failed ({status})")]
    Command { command: String, status: std::process::ExitStatus },
    /// A check ran and found something.
    #[error("{check}: {} found\n{}", count(violations), list(violations))]
    Violations { check: &'static str, violations: Vec<Violation> },
    /// A step of `ci` did not succeed.
    #[error("step `{step}` failed; run `cargo xtask {step}` alone to see it again")]
    Step { step: &'static str, source: Box<Failure> },
    /// The demo ran and did not show what it is for.
    #[error("the demo: {0}")]
    Demo(String),
    /// Cargo built a package's tests and did not say where they are.
    #[error("cargo named no test binary of {package}; has it unit tests?")]
    NoTests { package: &'static str },
    /// Cargo built the binary and did not say where it is.
    #[error("cargo named no executable {binary}; is it still called so?")]
    NoBinary { binary: &'static str },
    /// Cargo could not describe the workspace.
    #[error(
        "cannot read the dependency graph of {manifest}; if the Cargo.lock beside it is out of date, run `cargo metadata --format-version 1 --offline --manifest-path {manifest}` and commit the change"
    )]
    Metadata { manifest: &'static str, source: cargo_metadata::Error },
    /// The graph has no `resolve` part, without which nothing can be checked.
    #[error("cargo described the packages but not how they depend on each other")]
    NoGraph,
    /// `rustc -vV` did not name the host.
    #[error("rustc did not say which platform this is; `rustc -vV` must print a line `host: ...`")]
    NoHost,
    /// A file of ours is missing or unreadable.
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// A file of a copy cannot be written.
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    /// `deny.toml` is not what this program understands.
    #[error("{} is not understood; this program knows a part of cargo-deny's format only", path.display())]
    Config { path: PathBuf, source: toml::de::Error },
    /// The advisories are not in the expected shape.
    #[error("{} is not a list of advisories", path.display())]
    Advisories { path: PathBuf, source: serde_json::Error },
}

impl Failure {
    /// Success where nothing was found.
    pub(crate) fn if_any(check: &'static str, mut violations: Vec<Violation>) -> Result<(), Self> {
        violations.sort();
        violations.dedup();
        if violations.is_empty() { Ok(()) } else { Err(Self::Violations { check, violations }) }
    }
}

fn count(violations: &[Violation]) -> String {
    match violations.len() {
        1 => "1 violation".to_owned(),
        n => format!("{n} violations"),
    }
}

fn list(violations: &[Violation]) -> String {
    violations.iter().map(|one| format!("  - {one}")).collect::<Vec<_>>().join("\n")
}
