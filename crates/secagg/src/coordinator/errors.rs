//! What goes wrong: a message that costs its sender its place, and an attempt that ends without a sum.

use crate::canonical::Malformed;
use crate::context::ParticipantId;
use crate::disputes::Dispute;
use crate::keys::BadKeys;
use crate::message::Step;
use crate::topology::NoTopology;

use super::Millis;

/// Why a message does not count. Its sender is told; nobody else is affected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// Not a message of this step.
    #[error("the message cannot be read")]
    Malformed(#[from] Malformed),
    /// Of another federation, task, round, attempt, policy or model.
    #[error("the message belongs to another federation, task, round, attempt, policy or model")]
    WrongContext,
    /// Not invited, or out since an earlier step.
    #[error("{id} has no part in {step}")]
    NotInStep {
        /// The sender.
        id: ParticipantId,
        /// The step that is open.
        step: Step,
    },
    /// Another step is open.
    #[error("{got} is not the step that is open ({open})")]
    WrongStep {
        /// What was sent.
        got: Step,
        /// What is open.
        open: &'static str,
    },
    /// Sent in another participant's name.
    #[error("the message names another participant than its sender")]
    ForeignName,
    /// Not signed by the sender's certificate key.
    #[error("the signature is not that of the sender's certificate key")]
    BadSignature,
    /// A different message of this sender was accepted; the first one stands.
    #[error("a different message was accepted from this participant in {step}; the first one stands")]
    AlreadySubmitted {
        /// The step.
        step: Step,
    },
    /// Keys that no secret can be agreed on with. Neighbours would refuse the whole roster.
    #[error("the advertised keys are of no use")]
    BadKeys(#[from] BadKeys),
    /// Shares for others than the neighbours.
    #[error("the shares are not for exactly this participant's neighbours")]
    WrongHolders,
    /// Commitments of another length than the attempt's proofs have.
    #[error("the message has {got} bytes of commitments, {expected} belong there")]
    CommitmentsLength {
        /// In the message.
        got: usize,
        /// By the context.
        expected: usize,
    },
    /// Sealed shares without the encapsulations that belong there, or with others.
    #[error("the shares for participant {holder} do not have the encapsulations that the policy asks for")]
    WrongEncapsulations {
        /// Whom they are for.
        holder: u32,
    },
    /// Bytes that are not those of the header, or not of the right length.
    #[error("the input's header announces {announced} bytes, {expected} belong there")]
    InputLength {
        /// In the header.
        announced: u64,
        /// For this vector and ring, with the proof.
        expected: u64,
    },
    /// The upload is not what the header signed.
    #[error("the uploaded bytes are not the {announced} bytes that the signed header names")]
    InputDigest {
        /// In the header.
        announced: u64,
    },
    /// Masked with others than those of its neighbours who shared keys: the masks would cancel against nothing.
    #[error("the input is masked with others than those of this participant's neighbours who shared keys")]
    WrongDealers,
    /// A complaint about somebody who dealt the sender nothing.
    #[error("the input complains about the shares of participant {dealer}, who dealt its sender none")]
    ForeignComplaint {
        /// About whom.
        dealer: u32,
    },
    /// The proof that came with this participant's input is no good: it is a dropout for the rest of the attempt.
    #[error("the input of {id} was refused: what it proves does not hold")]
    RefusedInput {
        /// Whose it is.
        id: ParticipantId,
    },
    /// The bits behind the last value have to be zero.
    #[error("the input is not a packed vector: the bits behind its last value are not zero")]
    InputPadding,
    /// A share of somebody who is no neighbour, of the wrong secret, or twice; or one that its holder said did not open.
    #[error("the revealed share of participant {dealer} is not asked for")]
    ForeignShare {
        /// Whose share it is.
        dealer: u32,
    },
    /// No share of somebody whose shares opened, by what the holder signed with its input: silence now would frame the
    /// dealer.
    #[error("no share of participant {dealer} is revealed, whose shares had opened")]
    MissingShare {
        /// Whose share it is.
        dealer: u32,
    },
    /// A share that does not open its dealer's commitment.
    #[error("the revealed share of participant {dealer} does not open its commitment")]
    BadShare {
        /// Whose share it is.
        dealer: u32,
    },
}

/// Why an attempt ends without a sum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Abort {
    /// Nobody is to blame. Retry with a later deadline or a larger cohort.
    #[error("{answered} participants answered in {step}, {needed} are needed")]
    TooFew {
        /// The step that could not close.
        step: Step,
        /// Those who answered.
        answered: u32,
        /// The least that is needed.
        needed: u32,
    },
    /// Those who advertised allow no safe graph.
    #[error("those who advertised keys allow no safe graph")]
    NoTopology(#[from] NoTopology),
    /// Too few shares of somebody's secret: too many neighbours fell silent.
    #[error("{available} neighbours can reveal a share of participant {dealer}, {threshold} are needed")]
    TooFewShares {
        /// Whose secret it is.
        dealer: ParticipantId,
        /// Shares that were revealed.
        available: u32,
        /// The threshold.
        threshold: u32,
    },
    /// Somebody's secret could not be opened because holders say that their shares of it do not open: no more of them than
    /// may be corrupt, so that either side may lie. Retry without two in one cohort that are in dispute
    /// ([`crate::Disputes`]).
    #[error("too few shares are good, and one side lies in each of these: {}", listed(disputes))]
    Disputed {
        /// Who says so of whom, ascending; about those whose secrets could not be opened.
        disputes: Vec<Dispute>,
    },
    /// Shares that make no secret that fits what was advertised, or that too many holders could not open.
    #[error("the shares that {culprits:?} dealt do not open, or do not fit the keys they advertised")]
    BadDealers {
        /// Those who dealt them.
        culprits: Vec<ParticipantId>,
    },
    /// The attempt took too long.
    #[error("the attempt was not over after {millis} ms; it stood at {step}")]
    TimedOut {
        /// The step it stood at.
        step: Step,
        /// The limit.
        millis: Millis,
    },
    /// The sum is not opened before Unmasking is closed.
    #[error("the sum cannot be opened yet")]
    TooEarly,
    /// The running sum does not hold exactly the survivors' inputs.
    #[error("the running sum does not hold exactly the survivors' inputs")]
    SumMismatch,
}

impl Abort {
    /// Participants to leave out of the next attempt. A new variant has to say whom it blames.
    #[must_use]
    pub fn culprits(&self) -> &[ParticipantId] {
        match self {
            Self::BadDealers { culprits } => culprits,
            Self::TooFew { .. }
            | Self::NoTopology(_)
            | Self::TooFewShares { .. }
            | Self::Disputed { .. }
            | Self::TimedOut { .. }
            | Self::TooEarly
            | Self::SumMismatch => &[],
        }
    }
}

/// Both sides of each dispute, of a list that may be long.
fn listed(disputes: &[Dispute]) -> String {
    let sides =
        |Dispute { dealer, holder }: &Dispute| format!("{holder} says that what {dealer} dealt it does not open");
    let mut text = disputes.iter().take(LISTED_MAX).map(sides).collect::<Vec<_>>().join("; ");
    if let Some(more) = disputes.len().checked_sub(LISTED_MAX).filter(|more| *more > 0) {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

/// Disputes that a sentence names.
const LISTED_MAX: usize = 8;
