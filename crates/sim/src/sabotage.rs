//! Faults that the protocol does not stand, built in on purpose: each makes one invariant fail.

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// A participant that crashes has lost what it stored.
    ParticipantsForget,
    /// Participants restore an old copy of their state, and the coordinator starts over with another survivor list.
    EverybodyStartsOver,
    /// The coordinator adds one input in another participant's place as well.
    InputsCountTwice,
    /// A restarted coordinator has lost the last messages that it accepted.
    JournalLosesMessages,
    /// A restarted coordinator has lost that it closed a step.
    JournalLosesClosings,
    /// A restarted coordinator has another list of survivors.
    SurvivorsChange,
    /// The policy asks for more inputs than coordinator and participants do.
    MinimumIsNotEnforced,
    /// The coordinator never looks at the clock.
    DeadlinesAreIgnored,
    /// A message that was refused gives everybody more time.
    RefusalsExtendDeadlines,
    /// A restarted coordinator has lost that it released a sum, and begins another attempt.
    ReleasesAreForgotten,
    /// The observer takes corrupt participants for honest ones.
    CorruptPassForHonest,
    /// The authority certifies whomever the coordinator invents, as the registrar does in some scripts.
    AuthorityCertifiesAnybody,
    /// The coordinator invites both sides of a dispute again.
    DisputesAreForgotten,
    /// The coordinator takes inputs whose proofs are bad.
    ProofsAreNotChecked,
    /// A restarted coordinator has lost whose proofs it found to be bad.
    RefusalsAreForgotten,
    /// The coordinator takes every sum for that of what was committed to.
    EverySumOpens,
    /// The coordinator releases a sum that it has found to be another one.
    OtherSumsAreReleased,
    /// Participants draw the same blindings in each attempt.
    BlindingsAreUsedAgain,
    /// Participants do not count the sums that they help to open.
    SumsAreNotCounted,
}
