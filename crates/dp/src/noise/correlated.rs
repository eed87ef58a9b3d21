//! Noise correlated over rounds, for runs that may not claim amplification by sampling.
//!
//! The sums of all rounds up to now are released, and noise of one round takes back part of the noise of earlier ones.
//! [`TreePlan`] and [`TreeNoise`]: tree aggregation (Kairouz et al. 2021, arXiv:2103.00039). [`Toeplitz`],
//! [`BandedFactor`] and [`BandedNoise`]: matrix factorisation with a banded Toeplitz factor (Choquette-Choo et al. 2023,
//! arXiv:2306.08153).
//!
//! The state of a run is secret and cannot be made again: a shell seals and stores it before the step's release leaves,
//! and who loses it starts a new run at a new cost. The steps of one run cost one event, so a step that was released must
//! not be taken again from an older state: its noise would be another, for the same values. That is the ledger's to
//! prevent, step by step.

mod banded;
mod state;
mod toeplitz;
mod tree;

pub use banded::{BandedFactor, BandedNoise};
pub use toeplitz::Toeplitz;
pub use tree::{TreeNoise, TreePlan};
