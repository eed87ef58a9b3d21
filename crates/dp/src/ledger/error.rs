//! Why the ledger says no.

use super::bytes::Malformed;
use super::names::{Name, ReservationId, Scope};

/// An argument that no ledger takes.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// A name that is empty, too long, or has control characters.
    #[error("a name of {len} bytes: it has to have 1 to 128 and no control characters")]
    Name {
        /// Its length.
        len: usize,
    },
    /// A budget that is none.
    #[error("a budget of epsilon {epsilon} at delta {delta}: epsilons have to be finite and > 0, delta in (0, 1)")]
    Terms {
        /// The total.
        epsilon: f64,
        /// The delta.
        delta: f64,
    },
    /// A key of zeros.
    #[error("the ledger's key is all zeros: make one from 32 random bytes")]
    Key,
    /// A list of participants that is too long or names somebody twice.
    #[error("{count} participants: at most {max}, each once")]
    Participants {
        /// How many.
        count: usize,
        /// The most.
        max: usize,
    },
    /// An event whose bytes are too many.
    #[error("an event of {len} bytes: at most {max}")]
    Event {
        /// Its length.
        len: usize,
        /// The most.
        max: usize,
    },
}

/// Why the ledger did nothing, or refuses to work at all. Nothing may be released on it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// An entry is not what was written. Restore the newest intact copy; without one, count the budget of every scope as
    /// spent and go on under a new data version only if the data are new.
    #[error(
        "privacy ledger damaged at entry {at}: no task may go on; restore the newest intact copy, and if there is none \
         treat every budget in it as spent"
    )]
    Damaged {
        /// Number of the entry, from 0.
        at: u64,
        /// What is wrong with it.
        #[source]
        damage: Damage,
    },
    /// Entries that were acknowledged are missing: an older copy was restored.
    #[error(
        "the privacy ledger has {entries} entries and the counter says {counter}: an older copy was restored; restore \
         the newest one, and if it is lost treat every budget in it as spent"
    )]
    RolledBack {
        /// Entries found.
        entries: u64,
        /// Entries acknowledged.
        counter: u64,
    },
    /// As many entries as the counter says, but others.
    #[error(
        "entry {at} of the privacy ledger is not the one that the counter names: two histories were mixed up, or two \
         programs wrote; find the ledger that belongs to this counter"
    )]
    Forked {
        /// Number of the entry, from 0.
        at: u64,
    },
    /// Entries that verify and contradict each other: a mistake of this program. Nothing can be done without a new version.
    #[error("entry {at} of the privacy ledger contradicts earlier ones: {what}")]
    Inconsistent {
        /// Number of the entry, from 0.
        at: u64,
        /// The contradiction.
        what: &'static str,
    },
    /// The accountant failed. The ledger has to be opened again.
    #[error("privacy cannot be accounted for")]
    Account(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An earlier call failed halfway; open the ledger again from what is stored.
    #[error("the privacy ledger failed earlier: open it again from what is stored")]
    Broken,
    /// Entries are acknowledged in the order in which they were staged.
    #[error("entries up to {durable} are acknowledged, these begin at {staged}: acknowledge in order")]
    Order {
        /// Acknowledged so far.
        durable: u64,
        /// Where the staged ones begin.
        staged: u64,
    },
    /// No budget was opened for this scope.
    #[error("no budget was opened for {0}")]
    UnknownScope(Scope),
    /// The scope has a budget, and another one. Only a reset changes it.
    #[error("{0} has a budget already, with other terms: only an authorised reset changes them")]
    OtherTerms(Scope),
    /// Nothing was reserved under this id.
    #[error("nothing was reserved for {0}")]
    UnknownReservation(ReservationId),
    /// What was committed stays spent.
    #[error(
        "{0} was committed: what a release cost is not given back, and another release needs a reservation of its own"
    )]
    Committed(ReservationId),
    /// What was given back cannot be released.
    #[error("{0} was aborted: nothing of this attempt may be released; reserve a new attempt")]
    Aborted(ReservationId),
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// Its bytes are no entry.
    #[error("it is not an entry")]
    Malformed(#[from] Malformed),
    /// Its authentication code does not fit: it was changed, or the key is another one.
    #[error("its authentication code does not fit: it was changed, or this is not the ledger's key")]
    Code,
    /// It stands in the wrong place.
    #[error("it was written as entry {got}")]
    Place {
        /// The number in it.
        got: u64,
    },
    /// It follows another entry than the one before it.
    #[error("it does not follow the entry before it")]
    Chain,
}

/// Why one reservation was not granted. Nothing was charged; nobody may be contacted for it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The budget does not cover it.
    #[error(transparent)]
    Exhausted(#[from] PrivacyBudgetExhausted),
    /// The budgets of some participants do not cover it. Ask again without them.
    #[error("the privacy budget of {} participants does not cover this round, {} among them", names.len(), names[0])]
    Participants {
        /// Who; at least one.
        names: Vec<Name>,
    },
    /// No budget was opened for this scope.
    #[error("no budget was opened for {0}")]
    UnknownScope(Scope),
    /// The same id was reserved with another event, scope or cohort.
    #[error("{0} was reserved for something else: a new charge needs a new attempt")]
    Conflict(ReservationId),
    /// The same id was given back.
    #[error("{0} was aborted: reserve a new attempt")]
    Aborted(ReservationId),
    /// An argument that no ledger takes.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The accountant does not take this event.
    #[error("this release cannot be accounted for")]
    Event(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The next release would cost more than is left.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "privacy budget exhausted for {scope}: {spent:.4} of epsilon {total} spent at delta {delta:e}, {asked:.4} with this \
     round; nothing was charged and nobody was contacted"
)]
pub struct PrivacyBudgetExhausted {
    /// Whose budget.
    pub scope: Scope,
    /// Epsilon so far, rounded up.
    pub spent: f64,
    /// Epsilon if this were released too; may be infinite.
    pub asked: f64,
    /// The budget.
    pub total: f64,
    /// At this delta.
    pub delta: f64,
}
