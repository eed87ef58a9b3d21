//! Signals of the operating system.

use crate::failure::Failure;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What asks a process to end.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

/// Which signal it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// SIGINT: a person pressed Ctrl-C.
    Interrupt,
    /// SIGTERM: the service manager.
    Terminate,
}

impl Stop {
    /// Takes both signals over from their default, which ends the process at once.
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(Failure::Signals)?,
            terminate: signal(SignalKind::terminate()).map_err(Failure::Signals)?,
        })
    }

    /// Waits for the next of the two.
    pub(crate) async fn wait(&mut self) -> Stopped {
        tokio::select! {
            _ = self.interrupt.recv() => Stopped::Interrupt,
            _ = self.terminate.recv() => Stopped::Terminate,
        }
    }
}

/// SIGHUP: read the certificate again.
pub(crate) fn hangup() -> Result<Signal, Failure> {
    signal(SignalKind::hangup()).map_err(Failure::Signals)
}
