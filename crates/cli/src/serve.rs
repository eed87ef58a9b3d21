//! `sordino serve`

use crate::{
    failure::Failure,
    files,
    logs::{self, LogForm},
    output::note,
    signals::{self, Stop},
};
use sordino_coordinator::rounds::RoundsError;
use sordino_coordinator::{App, Routes, Server, ServerConfig, clock::SystemClock, rounds, server};
use std::{path::PathBuf, sync::Arc};
use tokio::sync::Notify;

/// Run the coordinator until SIGTERM or SIGINT; SIGHUP reads the certificate again.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  sordino serve --config fed/sordino.toml --log json

A stop lets requests under way finish and parks the open round; the next start goes on with it.
SORDINO__SECTION__KEY=value in the environment overrides a key of the configuration, SORDINO_LOG=debug logs more.")]
pub(crate) struct Serve {
    /// The configuration, as `sordino init` made it.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Form of the log on standard error.
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    log: LogForm,
    /// Allow what weakens protection, on loopback only.
    #[arg(long)]
    insecure_dev: bool,
    /// Write the address to this file, in one step, when connections are taken.
    #[arg(long, value_name = "PATH", hide = true)]
    ready_file: Option<PathBuf>,
}

impl Serve {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut config = ServerConfig::load(&self.config)?;
        if self.insecure_dev {
            config.allow_insecure_dev()?;
        }
        logs::start(self.log);
        // Taken over before there is anything to stop, so that no signal falls between.
        let (mut stop, hangup) = (Stop::new()?, signals::hangup()?);
        let app = App::open(config, SystemClock).await.map_err(Box::new)?;
        let server = Server::bind(app.clone(), Routes::new()).await?;
        let address = server.local_addr();
        note(&format!("listening on {address}, reached at {}", app.url()));
        if let Some(path) = &self.ready_file {
            files::publish(path, &format!("{address}\n"))?;
        }
        let reloads = tokio::spawn(reload_on(hangup, app.clone()));
        let ended = Arc::new(Notify::new());
        let rounds = tokio::spawn(run_rounds(app.clone(), ended.clone()));
        let stopped = server.run(async move {
            tokio::select! {
                signal = stop.wait() => tracing::info!(?signal, "stopping; requests under way are finished"),
                // Without rounds there is nothing to serve: the service manager starts us again.
                () = ended.notified() => tracing::error!("stopping; the rounds cannot be run"),
            }
            // A second signal does not wait for anybody.
            tokio::spawn(async move {
                stop.wait().await;
                std::process::exit(crate::failure::Exit::Interrupted as i32);
            });
        });
        let outcome = stopped.await;
        reloads.abort();
        let parked = rounds.await;
        match outcome {
            server::Stopped::Drained => tracing::info!("stopped"),
            server::Stopped::Cut(connections) => tracing::warn!(connections, "stopped; connections were cut"),
        }
        match parked {
            Ok(done) => done.map_err(Failure::Rounds),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

/// Runs the rounds, and says when they are over.
async fn run_rounds(app: Arc<App>, ended: Arc<Notify>) -> Result<(), RoundsError> {
    let result = rounds::run(app).await;
    ended.notify_one();
    result
}

async fn reload_on(mut hangup: tokio::signal::unix::Signal, app: Arc<App>) {
    while hangup.recv().await.is_some() {
        match app.reload_certificate() {
            Ok(()) => tracing::info!("the server's certificate was read again"),
            Err(error) => {
                let error = crate::failure::chain(&error);
                tracing::error!(error, "the server's certificate cannot be read; the old one stays in use");
            }
        }
    }
}
