//! Logs of the commands that keep running: on standard error, text for people or JSON for collectors.

use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// `--log`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum LogForm {
    /// One line an event.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

/// Begins to log. `SORDINO_LOG` says how much, such as `debug` or `warn,sordino_coordinator=debug`; otherwise `info`.
pub(crate) fn start(form: LogForm) {
    let filter = EnvFilter::try_from_env("SORDINO_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Only a second start in one process could fail, and there is none.
    let _ = match form {
        LogForm::Text => logs.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        LogForm::Json => logs.json().flatten_event(true).try_init(),
    };
}
