//! Zero-knowledge bounds on the integers that are summed, and the check that a release is their sum.
//!
//! A participant of secure aggregation sends integers that nobody sees. [`Committed`] commits to them in rows and proves
//! that they are within a [`Claim`]: the sum of squares of each segment of the model is at most a bound, which may grow with
//! a weight in the vector; the weight, the values and, where asked for, all entries are within ranges. [`Verifier`] verifies
//! many such proofs at once and names the bad ones. After the masks are off, [`CommitmentSum`] shows to anybody that the
//! released integers are the sum of those that were proven.
//!
//! No setup, no trapdoor; ristretto255 (RFC 9496), Fiat and Shamir over STROBE. `docs/proofs.md` says what is assumed, what
//! a proof shows and to whom, and what a malicious participant can still do. **Not independently audited.**
//!
//! # The protocol: commit, project, prove
//! 1. *Commit* (`prover.rs`): each row `x_r` of `L` integers as `<x_r, G> + rho_r H`, perfectly hiding; with them 128 masks.
//! 2. *Project* (`projection.rs`): 128 random ternary projections, masked, in the clear. They show that no sum below wraps
//!    around modulo the group order.
//! 3. *Prove* (`relation.rs`, `argument.rs`): all that is claimed is one equation `sum_r <x_r, q_r x_r + lambda_r> = v` with
//!    public `q`, `lambda`; rows fold until one is left. What is left to a bound is in `[0, 2^64)` by a range proof.
//! 4. *Sum* (`sum.rs`): commitments add up; their sum opens to the released integers.
//!
//! What a proof costs to make is dominated by step 1, whose integers are small (`msm.rs`); step 3 works on whole rows before it
//! works on group elements (`small.rs`, `field.rs`). A verifier's one step that is linear in the model is folding `lambda`,
//! row by row, without holding it.
//!
//! ```
//! # use std::num::NonZeroUsize;
//! # use sordino_proofs::{Claim, ClaimSpec, Committed, Context, Generators, NormBound, Segment, Setting, Submission, Verifier};
//! # use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
//! # let mut rng = ChaCha20Rng::seed_from_u64(1);
//! let one = NonZeroUsize::MIN;
//! let claim = Claim::new(ClaimSpec {
//!     segments: vec![Segment { len: 3, bound: NormBound::constant(25) }],
//!     weight: None,
//!     values: vec![],
//!     entries: None,
//!     centre: None,
//!     setting: Setting::Fast,
//! })?;
//! let generators = Generators::of(&claim);
//! let context = Context {
//!     federation: "clinics",
//!     task: "heart",
//!     round: 1,
//!     attempt: 1,
//!     participant: b"site-1",
//!     policy: [0; 32],
//!     session: [0; 32],
//! };
//! let committed = Committed::new(&claim, &generators, &[3, 0, -4], &mut rng, one)?;
//! let commitments = committed.commitments().clone();
//! let proof = committed.prove(&context, &mut rng, one)?;
//!
//! let submission = Submission { context, commitments: &commitments, proof: &proof };
//! Verifier::new(&claim, &generators, one).verify(&submission, one)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod argument;
mod claim;
mod context;
mod field;
mod generators;
mod msm;
mod parallel;
mod projection;
mod proof;
mod prover;
mod relation;
mod small;
mod sum;
#[cfg(test)]
mod tests;
mod transcript;
mod verifier;

pub use claim::*;
pub use context::Context;
pub use generators::Generators;
pub use proof::{Commitments, Malformed, Proof};
pub use prover::{Committed, ProveError};
pub use sum::{BlindingLimbs, CommitmentSum, SumError};
pub use transcript::VERSION;
pub use verifier::{Rejection, Submission, Verified, Verifier};
