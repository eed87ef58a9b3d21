//! What does not fit in a published round.

use crate::api::ReleaseConvergence;
use crate::evidence::EvidenceError;
use crate::{Digest, PolicyError, RoundId};
use sordino_codec::ModelFileError;
use sordino_strategy::{StateError, StepError};
use std::fmt;

/// A file of a Release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// The sum.
    Sum,
    /// That of a group.
    GroupSum(u32),
    /// The evidence for that.
    Evidence(u32),
    /// The model that the round began with.
    ModelBefore,
    /// The model that came of it.
    ModelAfter,
    /// What the optimiser remembered before the round.
    StateBefore,
    /// What it remembered after it.
    StateAfter,
}

/// What does not fit in a published round, and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// Nothing was released.
    #[error("round {round} has no Release")]
    NoRelease {
        /// The round.
        round: RoundId,
    },
    /// A policy with another digest.
    #[error("the policy is {found}, and not {stated}, which the round is said to follow")]
    Policy {
        /// What was said.
        stated: Digest,
        /// What its text comes to.
        found: Digest,
    },
    /// Terms that the policy does not allow, or a model that it cannot bound.
    #[error("the policy allows no such round")]
    Terms(#[from] PolicyError),
    /// A Release without proofs where the policy asks for them, or with proofs where it does not.
    #[error("the policy asks for {} and the Release has {}", proofs(*.asked), proofs(!*.asked))]
    Proof {
        /// Whether the policy asks for proofs.
        asked: bool,
    },
    /// Something else than what follows from the policy.
    #[error("the Release says {what} {stated}, and {found} follows from policy and sum")]
    Stated {
        /// What.
        what: String,
        /// In the Release.
        stated: String,
        /// Computed.
        found: String,
    },
    /// Lists of names that contradict each other.
    #[error("the Release's lists of names contradict each other: {0}")]
    Names(&'static str),
    /// A file that is not the one the Release names.
    #[error("{file} is {found}, and the Release names {stated}")]
    Digest {
        /// Which file.
        file: File,
        /// In the Release.
        stated: Digest,
        /// SHA-256 of the file.
        found: Digest,
    },
    /// A file of another length.
    #[error("{file} has {found} bytes, and {expected} belong there")]
    Length {
        /// Which file.
        file: File,
        /// What follows from policy and model.
        expected: usize,
        /// What there is.
        found: usize,
    },
    /// Files of more groups than there are, or of fewer.
    #[error("there are files of {found} groups, and the Release has {expected}")]
    GroupCount {
        /// In the Release.
        expected: usize,
        /// What there is.
        found: usize,
    },
    /// A group's sum that is not shown to be that of proven inputs.
    #[error("group {group}")]
    Evidence {
        /// The group.
        group: u32,
        /// Why it is not.
        source: EvidenceError,
    },
    /// A sum that its groups' sums do not add up to.
    #[error("the sum is not that of the groups' sums, from value {at} on")]
    Total {
        /// Where.
        at: usize,
    },
    /// A sum that cannot be one of weights.
    #[error("the sum of the weights is {found}")]
    Weight {
        /// What stands there.
        found: i64,
    },
    /// The model before is no model.
    #[error("the model before the round cannot be read")]
    Model(#[from] ModelFileError),
    /// The state before is none of this policy's strategy.
    #[error("the optimiser's state before the round cannot be read")]
    State(#[from] StateError),
    /// A Release that names states where the strategy has none, or none where it has.
    #[error("the policy's strategy {}, and the Release {}", remembers(*.asked), names_states(!*.asked))]
    Optimizer {
        /// Whether the strategy remembers anything.
        asked: bool,
    },
    /// A first round that does not begin with the first state.
    #[error("the first round begins with the optimiser's state {stated}, and that of the policy's strategy is {found}")]
    FirstState {
        /// In the Release.
        stated: Digest,
        /// Computed.
        found: Digest,
    },
    /// What is said of the metric that the policy watches cannot be.
    #[error(
        "how the watched metric stands is said to be {stated:?}, which does not follow from the policy, the round and the \
         metric's value, {found:?}"
    )]
    Convergence {
        /// In the Release.
        stated: Option<ReleaseConvergence>,
        /// The metric over the weights, computed; none where the policy watches none.
        found: Option<f64>,
    },
    /// The sum is not one over the model before.
    #[error("the sum does not move the model before the round")]
    Move(#[from] StepError),
    /// The state after is another one.
    #[error(
        "the optimiser's state after the round is said to be {stated}, and the state before moved by the sum is {found}"
    )]
    NextState {
        /// In the Release.
        stated: Digest,
        /// Computed.
        found: Digest,
    },
    /// The model after is another one.
    #[error("the model after the round is said to be {stated}, and the model before moved by the sum is {found}")]
    NextModel {
        /// In the Release.
        stated: Digest,
        /// Computed.
        found: Digest,
    },
}

impl fmt::Display for File {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sum => out.write_str("the sum"),
            Self::GroupSum(group) => write!(out, "the sum of group {group}"),
            Self::Evidence(group) => write!(out, "the evidence of group {group}"),
            Self::ModelBefore => out.write_str("the model before the round"),
            Self::ModelAfter => out.write_str("the model after the round"),
            Self::StateBefore => out.write_str("the optimiser's state before the round"),
            Self::StateAfter => out.write_str("the optimiser's state after the round"),
        }
    }
}

fn remembers(asked: bool) -> &'static str {
    if asked { "remembers a state between rounds" } else { "remembers nothing between rounds" }
}

fn names_states(names: bool) -> &'static str {
    if names { "names states" } else { "names none" }
}

fn proofs(asked: bool) -> &'static str {
    if asked { "norm proofs" } else { "none" }
}
