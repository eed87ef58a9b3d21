//! The coordinator's process: made, started, killed, started again, stopped.

use super::cannot_write;
use crate::failure::{DemoError, Failure};
use serde::Serialize;
use sordino_coordinator::{
    clock::{Clock as _, SystemClock},
    init::{InitOptions, init},
};
use sordino_identity::CoordinatorUrl;
use sordino_participant::{Client, Credentials};
use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::process::{Child, Command};

/// The coordinator's process and where it is.
pub(super) struct Coordinator {
    folder: PathBuf,
    address: String,
    url: CoordinatorUrl,
    process: Child,
    killed: Option<Killed>,
}

/// How the coordinator was killed.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Killed {
    pub(super) round: u64,
    pub(super) attempt: u32,
    pub(super) away_millis: u64,
}

impl Coordinator {
    /// Makes a federation in `folder/federation` and starts its coordinator on a free port.
    pub(super) async fn start(folder: &Path) -> Result<Self, Failure> {
        let home = folder.join("federation");
        let name = |text: &str| text.parse().map_err(|_| DemoError::Cut);
        let options = InitOptions {
            federation: "demo.sordino.example".parse().map_err(|_| DemoError::Cut)?,
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            listen: ([127, 0, 0, 1], 0).into(),
            coordinator: name("coordinator")?,
            admin: name("first-admin")?,
            auditor: name("first-auditor")?,
        };
        init(&home, &options, SystemClock.now()).await?;
        let (process, address) = spawn(folder, None).await?;
        let port = address.rsplit(':').next().unwrap_or_default();
        let url = format!("https://localhost:{port}").parse().map_err(|_| DemoError::Cut)?;
        Ok(Self { folder: folder.to_owned(), address, url, process, killed: None })
    }

    pub(super) fn url(&self) -> &str {
        self.url.as_str()
    }

    pub(super) fn process(&self) -> u32 {
        self.process.id().unwrap_or(0)
    }

    pub(super) fn killed(&self) -> Option<&Killed> {
        self.killed.as_ref()
    }

    /// A client with the administrator's certificate.
    pub(super) fn admin(&self) -> Result<Client, Failure> {
        let credentials = Credentials::load(&self.folder.join("federation/admin"), Some(&self.url))?;
        Ok(Client::new(&credentials)?.with_budget(PATIENCE))
    }

    /// SIGKILL, in the middle of whatever it does, and a new process on the same folder and port.
    pub(super) async fn kill_and_restart(&mut self, round: u64, attempt: u32) -> Result<(), Failure> {
        let began = Instant::now();
        self.process.kill().await.map_err(DemoError::Process)?;
        let (process, _) = spawn(&self.folder, Some(&self.address)).await?;
        self.process = process;
        let away_millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.killed = Some(Killed { round, attempt, away_millis });
        Ok(())
    }

    /// Resolves when the process ends, which it should not do of itself.
    pub(super) async fn ended(&mut self) -> Failure {
        match self.process.wait().await {
            Ok(_) => DemoError::Coordinator { log: log_file(&self.folder) }.into(),
            Err(error) => DemoError::Process(error).into(),
        }
    }

    /// SIGTERM: a graceful stop.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        if let Some(id) =
            self.process.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw)
        {
            // A process that is gone already has stopped.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        let status = self.process.wait().await.map_err(DemoError::Process)?;
        if status.success() { Ok(()) } else { Err(DemoError::Coordinator { log: log_file(&self.folder) }.into()) }
    }
}

/// Starts the process and waits until it takes connections.
async fn spawn(folder: &Path, address: Option<&str>) -> Result<(Child, String), Failure> {
    let ready = folder.join("coordinator.ready");
    match fs::remove_file(&ready) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(cannot_write(&ready)(error)),
        _ => {}
    }
    let path = log_file(folder);
    let log = OpenOptions::new().create(true).append(true).open(&path).map_err(cannot_write(&path))?;
    let mut command = Command::new(std::env::current_exe().map_err(DemoError::Process)?);
    command.arg("serve").arg("--config").arg(folder.join("federation/sordino.toml")).arg("--ready-file").arg(&ready);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
    if let Some(address) = address {
        command.env("SORDINO__SERVER__LISTEN", address);
    }
    let mut process = command.spawn().map_err(DemoError::Process)?;
    let began = Instant::now();
    loop {
        if let Ok(address) = fs::read_to_string(&ready) {
            return Ok((process, address.trim().to_owned()));
        }
        let gone = process.try_wait().map_err(DemoError::Process)?.is_some();
        if gone || began.elapsed() > START_TIMEOUT {
            return Err(DemoError::Coordinator { log: path }.into());
        }
        tokio::time::sleep(READY_POLL).await;
    }
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("logs/coordinator.log")
}

const START_TIMEOUT: Duration = Duration::from_secs(30);
const READY_POLL: Duration = Duration::from_millis(20);
/// Longer than a restart takes.
const PATIENCE: Duration = Duration::from_secs(60);
