//! The release check: the sum of what participants committed to opens to the integers that are released.
//!
//! For every row `r`: `sum_i C_(i,r) = <X_r, G> + R_r H`, with `X` the released integers and `R` the released sums of
//! blindings. All rows are checked in one equation, weighed by powers of a challenge that depends on everything in it: a
//! wrong row passes with probability at most `rows / l`. Anybody can do it who has the commitments and the release.
//!
//! # What it shows
//! Commitments bind, and proofs show that what they bind to is small: `X` is the sum of the integers that were proven, as
//! long as that sum does not wrap around in the ring, which the policy's overflow analysis sees to.

use std::num::NonZeroUsize;

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{Identity, IsIdentity, VartimeMultiscalarMul};
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use crate::claim::Claim;
use crate::field::{ByWord, power_of_two, powers, words};
use crate::generators::Generators;
use crate::parallel;
use crate::proof::{Commitments, Malformed};
use crate::verifier::{Verified, decompress};

/// The sum of several participants' row commitments.
#[derive(Clone, PartialEq, Eq)]
pub struct CommitmentSum {
    rows: Vec<RistrettoPoint>,
}

/// Why a release is not the sum of what was committed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SumError {
    /// Another number of integers than the claim's.
    #[error("{got} integers where the claim has {expected}")]
    Integers {
        /// How many there are.
        got: usize,
        /// Integers of the claim.
        expected: usize,
    },
    /// A commitment that is no point.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Another number of rows than the claim's.
    #[error("{got} rows where the claim has {expected}")]
    Rows {
        /// How many there are.
        got: usize,
        /// Rows of the claim.
        expected: usize,
    },
    /// Somebody committed to other integers than were summed, or the sum was changed.
    #[error("the commitments do not open to this sum")]
    Mismatch,
}

impl CommitmentSum {
    /// Of nobody.
    #[must_use]
    pub fn new(claim: &Claim) -> Self {
        Self { rows: vec![RistrettoPoint::identity(); claim.rows()] }
    }

    /// Adds a participant whose proof verified.
    ///
    /// # Errors
    /// [`SumError::Rows`]: the proof was for a claim of other rows.
    pub fn add(&mut self, verified: &Verified) -> Result<(), SumError> {
        self.add_rows(verified.rows())
    }

    /// Adds commitments whose proof somebody else verified.
    ///
    /// # Errors
    /// [`SumError::Malformed`], [`SumError::Rows`].
    pub fn add_unproven(&mut self, commitments: &Commitments) -> Result<(), SumError> {
        self.add_rows(&decompress(commitments.rows(), "a row commitment")?)
    }

    fn add_rows(&mut self, rows: &[RistrettoPoint]) -> Result<(), SumError> {
        if rows.len() != self.rows.len() {
            return Err(SumError::Rows { got: rows.len(), expected: self.rows.len() });
        }
        for (sum, row) in self.rows.iter_mut().zip(rows) {
            *sum += row;
        }
        Ok(())
    }

    /// Whether they open to these sums.
    ///
    /// - `integers`: `[claim.len()]`, the sums of the participants' vectors as signed integers.
    /// - `blindings`: `[claim.rows()]`, the sums of their blindings.
    ///
    /// Work: one multi-scalar multiplication of rows + row length terms, and a pass over the integers.
    ///
    /// # Errors
    /// [`SumError`].
    ///
    /// # Panics
    /// If the generators were made for a smaller claim.
    pub fn opens_to(
        &self,
        claim: &Claim,
        generators: &Generators,
        integers: &[i64],
        blindings: &[Scalar],
        threads: NonZeroUsize,
    ) -> Result<(), SumError> {
        generators.check(claim);
        if integers.len() != claim.len() {
            return Err(SumError::Integers { got: integers.len(), expected: claim.len() });
        }
        for rows in [self.rows.len(), blindings.len()] {
            if rows != claim.rows() {
                return Err(SumError::Rows { got: rows, expected: claim.rows() });
            }
        }
        let weights = powers(self.challenge(claim, integers, blindings), claim.rows());
        let mut scalars = combined(claim, integers, &weights, threads);
        let points = generators.entries()[..scalars.len()].iter().chain([generators.blinding()]).chain(&self.rows);
        let points: Vec<_> = points.copied().collect();
        scalars.push(weights.iter().zip(blindings).map(|(weight, blinding)| weight * blinding).sum());
        scalars.extend(weights.iter().map(|weight| -weight));
        let parts = parallel::ranges(threads, scalars.len(), |range| {
            RistrettoPoint::vartime_multiscalar_mul(&scalars[range.clone()], &points[range])
        });
        if parts.iter().sum::<RistrettoPoint>().is_identity() { Ok(()) } else { Err(SumError::Mismatch) }
    }

    fn challenge(&self, claim: &Claim, integers: &[i64], blindings: &[Scalar]) -> Scalar {
        let mut hash = Sha512::new();
        hash.update(b"sordino/proofs/v1/sum");
        hash.update(claim.digest());
        for row in &self.rows {
            hash.update(row.compress().as_bytes());
        }
        for blinding in blindings {
            hash.update(blinding.as_bytes());
        }
        for integers in integers.chunks(1024) {
            hash.update(integers.iter().flat_map(|integer| integer.to_le_bytes()).collect::<Vec<_>>());
        }
        Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
    }
}

impl std::fmt::Debug for CommitmentSum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommitmentSum").field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

/// `sum_r weights[r] X_r`, one scalar for each column.
fn combined(claim: &Claim, integers: &[i64], weights: &[Scalar], threads: NonZeroUsize) -> Vec<Scalar> {
    let layout = claim.layout();
    let weights: Vec<_> = weights.iter().map(words).collect();
    let (model, tail) = integers.split_at(layout.model_len);
    // An integer moved to where none is negative; what that adds comes off at the end.
    let moved = |integer: i64| integer.cast_unsigned() ^ (1 << 63);
    let parts = parallel::ranges(threads, layout.model_rows, |range| {
        let mut sums = vec![ByWord::ZERO; layout.row_len];
        let mut offsets = vec![ByWord::ZERO; layout.row_len];
        for row in range {
            let (start, len) = layout.entries_of(row);
            for ((sum, offset), &integer) in sums.iter_mut().zip(&mut offsets).zip(&model[start..start + len]) {
                sum.add_word(&weights[row], moved(integer));
                offset.add_word(&weights[row], 1);
            }
        }
        let offset = power_of_two(63);
        sums.iter().zip(&offsets).map(|(sum, weights)| sum.reduce() - offset * weights.reduce()).collect::<Vec<_>>()
    });
    let mut sums = vec![Scalar::ZERO; layout.row_len];
    for part in parts {
        for (sum, part) in sums.iter_mut().zip(part) {
            *sum += part;
        }
    }
    for (at, &integer) in (layout.model_len..).zip(tail) {
        let (row, column) = layout.place(at);
        let mut sum = ByWord::ZERO;
        sum.add_word(&weights[row], integer.unsigned_abs());
        let term = sum.reduce();
        sums[column] += if integer < 0 { -term } else { term };
    }
    sums
}

/// How blindings travel in a ring of `2^bits`: cut into limbs whose sums over all participants do not wrap around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlindingLimbs {
    bits: u32,
    per_scalar: usize,
}

/// Bits of a scalar.
const SCALAR_BITS: u32 = 253;

impl BlindingLimbs {
    /// None where no bit of the ring is left: as many participants as the ring has elements.
    ///
    /// - `ring_bits`: at most 64.
    /// - `participants`: whose blindings are summed, at most.
    #[must_use]
    pub fn new(ring_bits: u32, participants: usize) -> Option<Self> {
        // (2^bits - 1) * participants < 2^ring_bits.
        let bits = ring_bits.min(64).checked_sub(participants.max(1).next_power_of_two().trailing_zeros())?;
        (bits > 0).then(|| Self { bits, per_scalar: SCALAR_BITS.div_ceil(bits) as usize })
    }

    /// Ring elements of one scalar.
    #[must_use]
    pub const fn per_scalar(&self) -> usize {
        self.per_scalar
    }

    /// The limbs of scalars, lowest first, `[scalars * per_scalar]`.
    #[must_use]
    pub fn split(&self, scalars: &[Scalar]) -> Zeroizing<Vec<u64>> {
        let mut limbs = Zeroizing::new(Vec::with_capacity(scalars.len() * self.per_scalar));
        for scalar in scalars {
            let words = Zeroizing::new(words(scalar));
            limbs.extend((0..self.per_scalar).map(|at| {
                let first = at * self.bits as usize;
                let (word, shift) = (first / 64, first % 64);
                let low = words[word] >> shift;
                let high = words.get(word + 1).map_or(0, |next| if shift == 0 { 0 } else { next << (64 - shift) });
                (low | high) & (u64::MAX >> (64 - self.bits))
            }));
        }
        limbs
    }

    /// The scalars whose limbs, or sums of limbs, these are; none where they are no whole number of scalars.
    #[must_use]
    pub fn join(&self, limbs: &[u64]) -> Option<Vec<Scalar>> {
        let base = power_of_two(self.bits);
        let join = |limbs: &[u64]| limbs.iter().rev().fold(Scalar::ZERO, |sum, &limb| sum * base + Scalar::from(limb));
        limbs.len().is_multiple_of(self.per_scalar).then(|| limbs.chunks_exact(self.per_scalar).map(join).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sums_of_limbs_are_limbs_of_sums(ring_bits in 8u32..=64, scalars in prop::collection::vec(any::<[u8; 64]>(), 1..40)) {
            let scalars: Vec<_> = scalars.iter().map(Scalar::from_bytes_mod_order_wide).collect();
            let limbs = BlindingLimbs::new(ring_bits, scalars.len()).expect("a ring larger than that");
            let mut sums = vec![0u128; limbs.per_scalar()];
            for scalar in &scalars {
                for (sum, limb) in sums.iter_mut().zip(limbs.split(&[*scalar]).iter()) {
                    *sum += u128::from(*limb);
                }
            }
            prop_assert!(sums.iter().all(|&sum| sum < 1 << ring_bits));
            let sums: Vec<_> = sums.into_iter().map(|sum| u64::try_from(sum).expect("below 2^64")).collect();
            prop_assert_eq!(limbs.join(&sums), Some(vec![scalars.iter().sum::<Scalar>()]));
        }
    }

    #[test]
    fn the_largest_limbs_of_all_participants_fit_and_one_more_participant_would_not_fit_a_bit_more() {
        for ring_bits in [16, 20, 32, 48, 64] {
            for participants in [1, 2, 3, 4, 100, 127, 128, 129, 1000] {
                let limbs = BlindingLimbs::new(ring_bits, participants).expect("small enough");
                assert!(
                    ((1u128 << limbs.bits) - 1) * (participants as u128) < 1 << ring_bits,
                    "{ring_bits} {participants}"
                );
                let all = limbs.split(&[-Scalar::ONE]);
                assert_eq!(limbs.join(&all), Some(vec![-Scalar::ONE]));
                assert_eq!(limbs.join(&all[1..]), None);
            }
        }
        assert_eq!(BlindingLimbs::new(16, 1 << 16), None);
        assert_eq!(BlindingLimbs::new(16, usize::MAX / 4), None);
    }
}
