//! Runs the binary.
#![allow(dead_code, reason = "each test file is a program of its own and uses a part")]

#[cfg(target_os = "linux")]
pub(crate) mod search;
#[cfg(unix)]
pub(crate) mod service;

use std::{
    path::Path,
    process::{Command, Output},
};

/// A command that has ended.
pub(crate) struct Ran {
    arguments: String,
    code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Fails unless it ended with this code.
    #[track_caller]
    pub(crate) fn ended(&self, code: i32) {
        let Self { arguments, stdout, stderr, .. } = self;
        assert_eq!(self.code, Some(code), "sordino {arguments}\nstdout: {stdout}\nstderr: {stderr}");
    }
}

/// The binary, with nothing of the environment that it would read.
pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sordino"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SORDINO_")) {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(folder);
    command
}

/// Runs it in a folder.
pub(crate) fn sordino_in(folder: &Path, arguments: &[&str]) -> Ran {
    let output = command(folder, arguments).output().expect("the binary was built");
    ran(arguments, output)
}

/// Runs it where there is nothing.
pub(crate) fn sordino(arguments: &[&str]) -> Ran {
    let folder = tempfile::tempdir().expect("a temporary folder");
    sordino_in(folder.path(), arguments)
}

pub(crate) fn ran(arguments: &[&str], Output { status, stdout, stderr }: Output) -> Ran {
    Ran {
        arguments: arguments.join(" "),
        code: status.code(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}
