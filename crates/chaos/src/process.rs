//! Processes of the binary under test: commands that end, and services that are killed and started again.

use crate::{
    failure::{Failure, file},
    journal::{Entry, Journal},
};
use std::{
    ffi::OsString,
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};
use tokio::process::{Child, Command};

/// The binary, in a folder of its own.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) folder: PathBuf,
}

/// A process that keeps running, with its log.
pub(crate) struct Process {
    pub(crate) name: String,
    program: Program,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, String)>,
    log: PathBuf,
    journal: Journal,
    state: State,
    /// When it was started last.
    pub(crate) started: Instant,
}

enum State {
    Running(Child),
    /// Killed by us; it is to be started again.
    Away(Instant),
    /// It has ended of itself, or was stopped for good.
    Ended,
}

impl Program {
    fn command(&self, arguments: &[OsString]) -> Command {
        let mut command = Command::new(&self.path);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SORDINO_")) {
            command.env_remove(name);
        }
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command to its end and returns what it printed on standard output.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<String, Failure> {
        let list: Vec<OsString> = arguments.iter().map(Into::into).collect();
        let output = self.command(&list).output().await;
        let output = output.map_err(|source| Failure::Start { program: self.path.clone(), source })?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Failure::Command { arguments: arguments.join(" "), status: output.status, stderr });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Process {
    /// Starts it; what it says on standard error is appended to `log`.
    pub(crate) fn start(
        program: &Program,
        name: &str,
        arguments: Vec<OsString>,
        environment: Vec<(&'static str, String)>,
        log: &Path,
    ) -> Result<Self, Failure> {
        let mut process = Self {
            name: name.to_owned(),
            program: program.clone(),
            arguments,
            environment,
            log: log.to_owned(),
            journal: Journal::of(log),
            state: State::Ended,
            started: Instant::now(),
        };
        process.spawn()?;
        Ok(process)
    }

    fn spawn(&mut self) -> Result<(), Failure> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log).map_err(file(&self.log))?;
        let mut command = self.program.command(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).stdout(Stdio::null()).stderr(log);
        let child = command.spawn();
        let child = child.map_err(|source| Failure::Start { program: self.program.path.clone(), source })?;
        self.state = State::Running(child);
        self.started = Instant::now();
        Ok(())
    }

    /// What every later start finds in its environment beside what it has.
    pub(crate) fn set(&mut self, name: &'static str, value: String) {
        self.environment.push((name, value));
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    /// Whether it has ended of itself.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// SIGKILL, in the middle of whatever it does. False: there was nothing to kill.
    pub(crate) async fn kill(&mut self, away: Duration) -> Result<bool, Failure> {
        let State::Running(child) = &mut self.state else { return Ok(false) };
        // It may have ended of itself a moment ago: that is for `look` to see.
        if child.try_wait().map_err(cannot(&self.name))?.is_some() {
            return Ok(false);
        }
        child.kill().await.map_err(cannot(&self.name))?;
        self.state = State::Away(Instant::now() + away);
        Ok(true)
    }

    /// Starts it again if it is time; says if it has ended of itself.
    pub(crate) fn look(&mut self) -> Result<Option<ExitStatus>, Failure> {
        match &mut self.state {
            State::Running(child) => {
                let ended = child.try_wait().map_err(cannot(&self.name))?;
                if ended.is_some() {
                    self.state = State::Ended;
                }
                return Ok(ended);
            }
            State::Away(until) if *until <= Instant::now() => self.spawn()?,
            State::Away(_) | State::Ended => {}
        }
        Ok(None)
    }

    /// What it has logged since this was asked last.
    pub(crate) fn entries(&mut self) -> Result<Vec<Entry>, Failure> {
        self.journal.read().map_err(file(&self.log))
    }

    /// Ends it for good.
    pub(crate) async fn stop(&mut self) -> Result<(), Failure> {
        if let State::Running(child) = &mut self.state {
            child.kill().await.map_err(cannot(&self.name))?;
        }
        self.state = State::Ended;
        Ok(())
    }
}

fn cannot(name: &str) -> impl FnOnce(std::io::Error) -> Failure {
    let name = name.to_owned();
    move |source| Failure::Process { name, source }
}
