//! What reservations and budgets are named by.

use std::fmt;

use super::error::Invalid;

/// A name: 1 to 128 bytes of UTF-8 without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Checks a name.
    ///
    /// # Errors
    /// [`Invalid::Name`].
    pub fn new(name: impl Into<String>) -> Result<Self, Invalid> {
        let name = name.into();
        if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
            return Err(Invalid::Name { len: name.len() });
        }
        Ok(Self(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// What shares one budget: the same people's data, whatever the task. Tasks come and go, the budget stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// Whose data.
    pub population: Name,
    /// What one unit of privacy is: `record`, `participant`.
    pub unit: Name,
    /// Which state of the data. New data of new people is a new version; new rows of the same people are not.
    pub data_version: Name,
}

impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}/{}", self.population, self.unit, self.data_version)
    }
}

/// Names one charge. Asking again for the same is one charge; trying a round again is a new attempt and a new one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReservationId {
    /// The task.
    pub task: Name,
    /// Its round.
    pub round: u64,
    /// The attempt at that round.
    pub attempt: u32,
}

impl fmt::Display for ReservationId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.task, self.round, self.attempt)
    }
}

/// The budget of a scope.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    epsilon: f64,
    delta: f64,
    participant_epsilon: Option<f64>,
}

impl Terms {
    /// - `epsilon`: what all releases together may come to.
    /// - `delta`: of all releases together, fixed until a reset.
    /// - `participant_epsilon`: what the releases that one participant took part in may come to, if that is less.
    ///
    /// # Errors
    /// [`Invalid::Terms`] unless epsilons are positive and finite and `0 < delta < 1`.
    pub fn new(epsilon: f64, delta: f64, participant_epsilon: Option<f64>) -> Result<Self, Invalid> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if !positive(epsilon) || !positive(delta) || delta >= 1.0 || !participant_epsilon.is_none_or(positive) {
            return Err(Invalid::Terms { epsilon, delta });
        }
        Ok(Self { epsilon, delta, participant_epsilon })
    }

    /// What all releases together may come to.
    #[must_use]
    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// Of all releases together.
    #[must_use]
    pub fn delta(&self) -> f64 {
        self.delta
    }

    /// What the releases that one participant took part in may come to.
    #[must_use]
    pub fn participant_epsilon(&self) -> Option<f64> {
        self.participant_epsilon
    }
}

/// Why a reservation may be given back. The ledger keeps it and cannot judge it: whoever makes one must have checked that
/// no sum and no input of this attempt was ever opened, nor ever will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// What was checked.
    pub finding: Finding,
    /// Digest of the record that shows it: the attempt's transcript or journal.
    pub digest: [u8; 32],
}

/// What an [`Evidence`] shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// No participant was sent anything.
    NothingSent,
    /// No participant sent an input.
    NothingReceived,
    /// Masked inputs came, and the secrets that open them were never asked for; the participants' own rules keep them
    /// from revealing them later.
    NeverUnmasked,
}

/// Who ordered a reset, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorisation {
    /// The principal.
    pub by: Name,
    /// In a sentence, for those who read the history.
    pub reason: Name,
    /// Digest of the signed order.
    pub digest: [u8; 32],
}

/// Longest name, in bytes.
pub const NAME_MAX: usize = 128;
