//! Starting, ready, stopping: what `/readyz` says, and what long polls listen for.

use tokio::sync::watch;

/// Where the service stands. It only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// State is being recovered; requests are answered, but nobody should be sent here yet.
    Starting,
    /// All is there.
    Ready,
    /// No new connections; what is under way is finished.
    Stopping,
}

/// The phase, shared by everything that waits.
#[derive(Debug)]
pub struct Lifecycle(watch::Sender<Phase>);

impl Lifecycle {
    /// Starting.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(Phase::Starting))
    }

    /// Where it stands now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Moves forward to `phase`; a phase that is behind changes nothing.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|current| {
            let forward = phase > *current;
            if forward {
                *current = phase;
            }
            forward
        });
    }

    /// Returns when the service stops. What waits for anything else waits for this too.
    pub async fn stopping(&self) {
        let mut phase = self.0.subscribe();
        // The sender is ours, so it cannot be gone while we are borrowed.
        let _ = phase.wait_for(|phase| *phase == Phase::Stopping).await;
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_only_moves_forward() {
        let lifecycle = Lifecycle::new();
        lifecycle.advance(Phase::Stopping);
        lifecycle.advance(Phase::Ready);
        assert_eq!(lifecycle.phase(), Phase::Stopping);
        lifecycle.stopping().await;
    }
}
