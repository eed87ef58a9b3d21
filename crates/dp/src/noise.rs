//! Noise on integers, drawn exactly, and how much of it each participant adds.
//!
//! Everything works in units of a grid: values are clipped in f64, scaled, rounded to i64 ([`Grid`]), and from there on
//! only integers are added. Floating-point noise leaks through the gaps between floats (Mironov 2012); integers have no
//! gaps. No sampler here uses a float: a draw is a sequence of comparisons of uniform integers with rationals.
//!
//! # Threat model
//! - Whoever sees a release may know everything but the noise: the generator is seeded for that release from the
//!   operating system, and wiped when dropped ([`NoiseRng`]).
//! - Rejection samplers take a time that depends on what they draw (Jin et al. 2022). The public functions therefore
//!   draw whole vectors, so that only the sum of many times shows. Hiding that sum is best effort.
//! - Modular wrap-around of the ring is post-processing: it costs accuracy, never privacy. Overflow of i64 is an error.

#![cfg_attr(
    test,
    expect(
        clippy::unwrap_used,
        clippy::panic,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "tests fail by panicking and cast what they chose"
    )
)]

mod clipping;
mod correlated;
mod distributed;
mod error;
mod exact;
mod gaussian;
mod grid;
mod laplace;
mod poisson;
mod rng;
mod skellam;
mod sum;
mod variance;

#[cfg(test)]
mod goodness;
#[cfg(test)]
pub(crate) mod vectors;

pub use clipping::{AdaptiveClip, ClipCount, ClipPlan};
pub use correlated::{BandedFactor, BandedNoise, Toeplitz, TreeNoise, TreePlan};
pub use distributed::{Cohort, NoiseShare, SHARE_SIGMA_MIN, effective_bound};
pub use error::NoiseError;
pub use gaussian::DiscreteGaussian;
pub use grid::{Grid, RoundedBound, rounded_l1_bound, rounded_l2_bound};
pub use laplace::DiscreteLaplace;
#[cfg(any(test, feature = "test-util"))]
pub use rng::PREDICTABLE_NOISE;
pub use rng::{NoiseRng, Unseeded};
pub use skellam::Skellam;
pub use sum::SumGrid;
pub use variance::{MAX_TERM, Ratio};
