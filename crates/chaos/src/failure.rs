//! Why a run could not be made. What a run finds is no failure of it: see [`crate::invariants`].

use std::{io, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the runtime cannot be started")]
    Runtime(#[source] io::Error),
    #[error("{path} exists; --keep wants a folder that does not")]
    KeepExists { path: PathBuf },
    #[error("cannot use {path}")]
    File { path: PathBuf, source: io::Error },
    #[error("no seed can be drawn; give one with --seed")]
    Seed(#[source] getrandom::Error),
    #[error("the fault proxy cannot be started")]
    Proxy(#[source] io::Error),
    #[error("the faults cannot be injected")]
    Faults(#[from] sordino_faultproxy::InvalidFaults),
    #[error("cannot start {program}; build it first, `cargo xtask chaos` does")]
    Start { program: PathBuf, source: io::Error },
    #[error("cannot kill or wait for {name}")]
    Process { name: String, source: io::Error },
    #[error("`sordino {arguments}` failed ({status}): {stderr}")]
    Command { arguments: String, status: std::process::ExitStatus, stderr: String },
    #[error("`sordino {arguments}` printed what is not expected: {stdout:?}")]
    Printed { arguments: String, stdout: String },
    #[error("the coordinator did not take connections within {seconds} s of its start; see {log}")]
    NotReady { seconds: u64, log: PathBuf },
    #[error("the administrator's folder cannot be used")]
    Credentials(#[from] sordino_participant::CredentialsError),
    #[error(transparent)]
    Client(#[from] sordino_participant::ClientError),
}

impl Failure {
    /// With its causes, on one line.
    pub(crate) fn chain(&self) -> String {
        causes(self)
    }
}

/// An error with its causes, on one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// For a path.
pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Failure {
    let path = path.into();
    move |source| Failure::File { path, source }
}
