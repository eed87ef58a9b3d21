//! What both sides compute from the claim and the challenges: the one equation that a proof is about.
//!
//! With `x` the model's rows (less the centre), `w` the weight, `v` the values, `y` the masks, `b` the bits, the challenges
//! `c_t, nu_k, beta_s, zeta_p` weigh these equations into one:
//! - projections: `<a_t, x> + y_t = z_t` for each row `t` of `A`;
//! - ranges: `x_k = low_k + sum_i weight_(k,i) b_(k,i)` for each integer with a range;
//! - bounds: `slack_s = per_square w^2 + per_weight w + constant - 2^scale |x_s|^2` for each segment;
//! - padding: 0 behind each segment's entries, beside the weight and behind the values;
//! - bits: `b (b - 1) = 0`, weighed by `gamma^row delta^column` in an argument of its own.
//!
//! All that is committed was committed before the challenges, so by Schwartz and Zippel the sum holds only if each does, but
//! for a probability of at most `2^-119 + 2^21 / l`: it is linear in weights of 119 bits, and of a degree below 2^21 in the rest.

use curve25519_dalek::ristretto::CompressedRistretto;
use curve25519_dalek::scalar::Scalar;
use sordino_kernel::{Backend, Bits, Cipher, Keystream, Sign, apply};

use crate::claim::Claim;
use crate::field::{power_of_two, powers, signed};
use crate::projection::{Combination, Projection, ROWS, WEIGHT_BITS};
use crate::proof::{mask_rows, range_shape};
use crate::transcript::{Label, Transcript};

/// The challenges' weights, and what the transcript had when they were drawn.
pub(crate) struct Relation<'a> {
    claim: &'a Claim,
    pub projection: Projection,
    /// `c_t`.
    projection_weights: [u128; ROWS],
    /// `nu_k`, in the order of [`Claim::ranged`].
    range_weights: Vec<u128>,
    /// `beta_s`.
    bound_weights: Vec<Scalar>,
    /// `zeta_p`: of the places behind the segments' entries, then of those beside the weight and behind the values.
    padding_weights: Vec<u128>,
    /// `gamma`.
    pub bit_row_weight: Scalar,
    /// `delta`.
    pub bit_column_weight: Scalar,
}

/// The seed of the projections: everything that it must not depend on is behind it.
pub(crate) fn projection_of(
    transcript: &mut Transcript,
    rows: &[CompressedRistretto],
    masks: &[CompressedRistretto],
) -> Projection {
    transcript.points(Label::RowCommitment, rows);
    transcript.points(Label::MaskCommitment, masks);
    Projection::new(transcript.seed(Label::ProjectionSeed))
}

impl<'a> Relation<'a> {
    /// Absorbs what the prover answered to the seed, and draws the weights.
    pub(crate) fn new(
        claim: &'a Claim,
        transcript: &mut Transcript,
        projection: Projection,
        projections: &[i128],
        slacks: &[CompressedRistretto],
        range_rows: &[CompressedRistretto],
    ) -> Self {
        for projection in projections {
            transcript.bytes(Label::Projection, &projection.to_le_bytes());
        }
        transcript.points(Label::SlackCommitment, slacks);
        transcript.points(Label::RangeRowCommitment, range_rows);
        let layout = claim.layout();
        let padding = layout.model_padding() + layout.tail_padding().count();
        let projection_weights = weights(transcript.seed(Label::ProjectionWeights), ROWS);
        Self {
            claim,
            projection,
            projection_weights: projection_weights.try_into().expect("one for each row"),
            range_weights: weights(transcript.seed(Label::RangeWeights), claim.ranged().count()),
            bound_weights: slacks.iter().map(|_| transcript.challenge(Label::BoundWeight)).collect(),
            padding_weights: weights(transcript.seed(Label::PaddingWeights), padding),
            bit_row_weight: transcript.challenge(Label::BitRowWeight),
            bit_column_weight: transcript.challenge(Label::BitColumnWeight),
        }
    }

    /// What was drawn, in its order.
    #[cfg(test)]
    pub(crate) fn challenges(&self) -> Vec<Scalar> {
        let seed = Scalar::from_bytes_mod_order(*self.projection.seed());
        let weights = [self.projection_weights[0], *self.range_weights.last().unwrap_or(&0)];
        let mut all = vec![seed];
        all.extend(weights.map(Scalar::from));
        all.extend(&self.bound_weights);
        all.push(Scalar::from(*self.padding_weights.last().unwrap_or(&0)));
        all.extend([self.bit_row_weight, self.bit_column_weight]);
        all
    }

    pub(crate) fn bound_weights(&self) -> &[Scalar] {
        &self.bound_weights
    }

    /// `q_r` of all rows: the model's, the weight's, the values', the masks'.
    pub(crate) fn quadratic(&self) -> Vec<Scalar> {
        let layout = self.claim.layout();
        let bounds = || self.claim.segments().iter().map(|segment| &segment.bound).zip(&self.bound_weights);
        let of_segment: Vec<_> = bounds().map(|(bound, beta)| -power_of_two(bound.scale_bits) * beta).collect();
        let mut quadratic: Vec<_> = (0..layout.model_rows).map(|row| of_segment[layout.segment_of(row)]).collect();
        let of_weight: Scalar = bounds().map(|(bound, beta)| Scalar::from(bound.per_square) * beta).sum();
        quadratic.extend((0..layout.weight_rows).map(|_| of_weight));
        quadratic.resize(layout.rows() + mask_rows(self.claim), Scalar::ZERO);
        quadratic
    }

    /// Makes rows of the model's part of `lambda`.
    pub(crate) fn linear_model(&self) -> LinearModel<'_> {
        let tail = self.claim.len() - self.claim.model_len();
        LinearModel {
            claim: self.claim,
            combination: Combination::new(&self.projection, &self.projection_weights),
            entries: self.range_weights.get(tail..).unwrap_or_default(),
            padding: &self.padding_weights[..self.claim.layout().model_padding()],
        }
    }

    /// `lambda` of the rows behind the model's, `[rows][row_len]`: the weight's, the values', the masks'.
    pub(crate) fn linear_others(&self) -> Vec<Scalar> {
        let layout = self.claim.layout();
        let first = layout.model_rows * layout.row_len;
        let rows = layout.rows() - layout.model_rows + mask_rows(self.claim);
        let mut lambda = vec![Scalar::ZERO; rows * layout.row_len];
        let flat = |(row, column): (usize, usize)| row * layout.row_len + column - first;
        if layout.weight_rows > 0 {
            let bounds = self.claim.segments().iter().map(|segment| segment.bound.per_weight).zip(&self.bound_weights);
            lambda[0] = bounds.map(|(per_weight, beta)| Scalar::from(per_weight) * beta).sum();
        }
        for (at, weight) in (self.claim.model_len()..self.claim.len()).zip(&self.range_weights) {
            lambda[flat(layout.place(at))] += Scalar::from(*weight);
        }
        for (place, weight) in layout.tail_padding().zip(&self.padding_weights[layout.model_padding()..]) {
            lambda[flat(place)] = Scalar::from(*weight);
        }
        let masks = layout.rows() * layout.row_len - first;
        for (entry, weight) in lambda[masks..].iter_mut().zip(self.projection_weights) {
            *entry = Scalar::from(weight);
        }
        lambda
    }

    /// What is public of the equation's right side.
    pub(crate) fn known(&self, projections: &[i128]) -> Scalar {
        let projected: Scalar = projections
            .iter()
            .zip(&self.projection_weights)
            .map(|(&z, &weight)| signed(z) * Scalar::from(weight))
            .sum();
        let centre = self.claim.spec().centre.as_deref();
        let model_len = self.claim.model_len();
        let lows: Scalar = self
            .claim
            .ranged()
            .zip(&self.range_weights)
            .map(|((at, interval), &weight)| {
                let moved = if at < model_len { centre.map_or(0, |centre| i64::from(centre[at])) } else { 0 };
                signed(i128::from(interval.low) - i128::from(moved)) * Scalar::from(weight)
            })
            .sum();
        let constants = self.claim.segments().iter().map(|segment| segment.bound.constant).zip(&self.bound_weights);
        projected + lows - constants.map(|(constant, beta)| Scalar::from(constant) * beta).sum::<Scalar>()
    }

    /// `delta^column`.
    pub(crate) fn bit_columns(&self) -> Vec<Scalar> {
        powers(self.bit_column_weight, self.claim.range_layout().row_len)
    }

    /// `gamma^row`.
    pub(crate) fn bit_rows(&self) -> Vec<Scalar> {
        powers(self.bit_row_weight, self.claim.range_layout().rows())
    }

    /// What each bit is worth in the ranges' equations, `mu`, in the order of bits.
    pub(crate) fn bit_values(&self) -> impl Iterator<Item = Scalar> + '_ {
        self.claim.ranged().zip(&self.range_weights).flat_map(|((_, interval), &weight)| {
            let weight = Scalar::from(weight);
            (0..interval.bits()).map(move |at| weight * Scalar::from(interval.bit_weight(at)))
        })
    }

    /// `lambda` of the rows of bits: `mu / delta^column - gamma^row`.
    pub(crate) fn linear_bits(&self) -> Vec<Scalar> {
        let shape = range_shape(self.claim);
        let down = powers(self.bit_column_weight.invert(), shape.row_len);
        let mut lambda: Vec<_> =
            self.bit_rows().into_iter().flat_map(|gamma| std::iter::repeat_n(-gamma, shape.row_len)).collect();
        for (at, value) in self.bit_values().enumerate() {
            lambda[at] += value * down[at % shape.row_len];
        }
        lambda
    }
}

/// The model's part of `lambda`, row by row: `c A`, and the ranges' weights where entries have one.
pub(crate) struct LinearModel<'a> {
    claim: &'a Claim,
    combination: Combination<'a>,
    /// One for each entry, or none.
    entries: &'a [u128],
    padding: &'a [u128],
}

impl LinearModel<'_> {
    /// The rows `first_row ..` that `lambda` has room for.
    pub(crate) fn fill(&self, first_row: usize, lambda: &mut [i128]) {
        let layout = self.claim.layout();
        self.combination.fill(first_row * layout.row_len, lambda);
        let add = |lambda: &mut [i128], weights: &[u128]| {
            for (entry, &weight) in lambda.iter_mut().zip(weights) {
                *entry += i128::try_from(weight).expect("a weight has 119 bits");
            }
        };
        for (row, lambda) in (first_row..).zip(lambda.chunks_exact_mut(layout.row_len)) {
            let (start, len) = layout.entries_of(row);
            let (lambda, behind) = lambda.split_at_mut(len);
            add(lambda, self.entries.get(start..start + len).unwrap_or_default());
            add(behind, &self.padding[layout.padding_of(row)]);
        }
    }
}

/// So many weights of 119 bits from a challenge.
fn weights(seed: [u8; 32], len: usize) -> Vec<u128> {
    let mut words = vec![[0u64; 2]; len];
    let stream = (Keystream::new(Cipher::Aes256, &seed, [0; 16]), Sign::Plus);
    let bits = Bits::new(64).expect("64 bits are a lane");
    apply(&[stream], words.as_flattened_mut(), bits, 0, Backend::detect());
    let mask = (1 << WEIGHT_BITS) - 1;
    words.into_iter().map(|[low, high]| (u128::from(high) << 64 | u128::from(low)) & mask).collect()
}
