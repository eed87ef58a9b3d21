//! What a hostile coordinator and hostile participants do, by name.

use crate::dice::Seed;

/// One line of attack. Who is attacked, when and how in detail is drawn from the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Script {
    /// The coordinator tells victims of other survivors than there are: too few, not them, or some who never shared.
    LiesAboutSurvivors,
    /// Victims are shown a list that could be true, and the signatures of those who were shown another one.
    TwoSurvivorSets,
    /// The cohort is split: one part is to reveal the root of a participant, the other one its self-mask seed. Corrupt
    /// participants sign both lists.
    AsksForBothShares,
    /// A neighbour's keys are the coordinator's own; the registrar may be in on it.
    ReplacesKeys,
    /// Neighbours who are nobody, instead of others or beside them; the registrar may be in on it.
    InventsParticipants,
    /// The roster, or the survivors, of victims are fewer than the policy allows for.
    ShrinksTheCohort,
    /// Other neighbours than the graph has.
    ForgesTheGraph,
    /// One participant is given a model of its own.
    GivesAnotherModel,
    /// An attempt is made to fail, and what was said in it is said again in the next one, relabelled or not.
    ReplaysAnOldAttempt,
    /// Shares, signatures or whole messages for victims are held back, for a while or for good.
    WithholdsMessages,
    /// Inputs that came in time are called late, kept, and their owners declared dropped.
    DeclaresDropped,
    /// After a sum, the round begins again without one participant, and again.
    RerunsMinusOne,
    /// The same, over a model that differs in a bit each time: another digest, and the same round.
    RerunsWithAnotherModel,
    /// Corrupt participants send bytes that are no message, or damaged ones.
    SendsGarbage,
    /// Corrupt participants deal shares that do not open, or another self-mask seed than they use.
    DealsWrongShares,
    /// Corrupt participants spoil the shares of no more holders than may be corrupt, and as many honest participants fall
    /// silent in later steps as the threshold stands.
    SpoilsFewShares,
    /// Corrupt participants say of shares that open that they do not, beside the same silence.
    ComplainsFalsely,
    /// Corrupt participants reveal other shares than they were dealt.
    RevealsWrongShares,
    /// Corrupt participants deal and reveal the shares of an attempt that failed.
    RepeatsOldShares,
    /// Corrupt participants send a second, different message in a step.
    SaysTwoThings,
    /// The network holds inputs of honest participants back until their owners were declared dropped.
    InputsComeLate,
    /// Corrupt participants commit to what they do not prove, or send other proofs.
    ProvesBadly,
}

impl Script {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::LiesAboutSurvivors,
        Self::TwoSurvivorSets,
        Self::AsksForBothShares,
        Self::ReplacesKeys,
        Self::InventsParticipants,
        Self::ShrinksTheCohort,
        Self::ForgesTheGraph,
        Self::GivesAnotherModel,
        Self::ReplaysAnOldAttempt,
        Self::WithholdsMessages,
        Self::DeclaresDropped,
        Self::RerunsMinusOne,
        Self::RerunsWithAnotherModel,
        Self::SendsGarbage,
        Self::DealsWrongShares,
        Self::SpoilsFewShares,
        Self::ComplainsFalsely,
        Self::RevealsWrongShares,
        Self::RepeatsOldShares,
        Self::SaysTwoThings,
        Self::InputsComeLate,
        Self::ProvesBadly,
    ];

    /// The script of a seed: they take turns.
    #[must_use]
    pub fn of(seed: Seed) -> Self {
        let turn = seed.0 % Self::ALL.len() as u64;
        Self::ALL[usize::try_from(turn).unwrap_or(0)]
    }

    /// Whether it is the coordinator that lies. Corrupt participants then tell it everything and do as they are told
    /// by the protocol otherwise.
    #[must_use]
    pub fn is_of_coordinator(self) -> bool {
        self < Self::SendsGarbage
    }

    /// Whether corrupt participants do something, so that there has to be one.
    #[must_use]
    pub fn needs_corrupt(self) -> bool {
        !self.is_of_coordinator() && self != Self::InputsComeLate
    }

    /// Whether the first attempt has to fail, so that there is an old one.
    #[must_use]
    pub fn needs_an_old_attempt(self) -> bool {
        matches!(self, Self::ReplaysAnOldAttempt | Self::RepeatsOldShares)
    }

    /// Whether a sum is not the end of the round.
    #[must_use]
    pub fn reruns(self) -> bool {
        matches!(self, Self::RerunsMinusOne | Self::RerunsWithAnotherModel)
    }

    /// Whether its aim is that shares are too few, so that it needs others' silence, attempt after attempt.
    #[must_use]
    pub fn disputes(self) -> bool {
        matches!(self, Self::SpoilsFewShares | Self::ComplainsFalsely)
    }

    /// Attempts, at most.
    pub(crate) fn attempts_max(self) -> u32 {
        match self {
            // One more than participants help to open sums of.
            Self::RerunsMinusOne | Self::RerunsWithAnotherModel => SUMS_MAX + 1,
            // Each one that ends in dispute brings another pair, so they come to an end.
            Self::SpoilsFewShares | Self::ComplainsFalsely => 5,
            _ => 2,
        }
    }
}

/// Sums over one model, and sums of one round, that a participant helps to open: a site's default.
pub const SUMS_MAX: u32 = 3;
