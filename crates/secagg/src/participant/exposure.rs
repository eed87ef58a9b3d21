//! What a participant's own memory does against differencing: two sums over one model, whose cohorts differ in one
//! participant, tell that one's input by their difference. No single attempt shows it. So each participant counts the
//! sums over one model that it has helped to open, whatever task, round or attempt they were said to be, and stops.
//!
//! It bounds how often inputs over the same bytes of a model can be compared. It prevents nothing: a model that was changed
//! by a hair counts as another one, as the next round's does, and no site can tell. What hides a difference is noise.

use super::Refusal;
use crate::context::ContextDigest;
use std::collections::BTreeSet;

/// The attempts over one model in which this participant has revealed shares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exposure(BTreeSet<[u8; 32]>);

impl Exposure {
    /// From what was stored of it: [`ContextDigest::as_bytes`] of each attempt.
    pub fn new(attempts: impl IntoIterator<Item = [u8; 32]>) -> Self {
        Self(attempts.into_iter().collect())
    }

    /// Digests of the attempts, to be stored.
    pub fn attempts(&self) -> impl ExactSizeIterator<Item = &[u8; 32]> {
        self.0.iter()
    }

    /// Whether this participant takes part in an attempt, if it helps to open at most `max` sums over one model. One that
    /// it has revealed shares in goes on: it says the same again.
    ///
    /// # Errors
    /// [`Refusal::TooManySums`].
    pub fn check(&self, attempt: &ContextDigest, max: u32) -> Result<(), Refusal> {
        let sums = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        if sums < max || self.0.contains(attempt.as_bytes()) { Ok(()) } else { Err(Refusal::TooManySums { sums, max }) }
    }

    /// Notes that shares are revealed in an attempt: to be stored before they are sent.
    pub fn note(&mut self, attempt: &ContextDigest) {
        self.0.insert(*attempt.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_one_model_are_counted_once_each() {
        let attempts = [1, 2, 3].map(|fill| ContextDigest([fill; 32]));
        let mut exposure = Exposure::default();
        assert_eq!(exposure.check(&attempts[0], 0), Err(Refusal::TooManySums { sums: 0, max: 0 }));
        for attempt in &attempts[..2] {
            assert_eq!(exposure.check(attempt, 2), Ok(()));
            exposure.note(attempt);
            exposure.note(attempt);
        }
        let exposure = Exposure::new(exposure.attempts().copied());
        assert_eq!(exposure.check(&attempts[2], 2), Err(Refusal::TooManySums { sums: 2, max: 2 }));
        // After a restart it goes on with what it has begun.
        assert_eq!(exposure.check(&attempts[1], 2), Ok(()));
        assert_eq!(exposure.check(&attempts[2], 3), Ok(()));
    }
}
