//! The participant's side: commit to a vector, then prove.

use std::num::NonZeroUsize;

use curve25519_dalek::scalar::Scalar;
use rand_core::CryptoRng;
use tari_bulletproofs_plus::commitment_opening::CommitmentOpening;
use tari_bulletproofs_plus::range_proof::RangeProof;
use tari_bulletproofs_plus::range_statement::RangeStatement;
use tari_bulletproofs_plus::range_witness::RangeWitness;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::argument::{self, LastRow, Opening, Rows, inverses};
use crate::claim::{Claim, NORM_BITS_MAX};
use crate::context::Context;
use crate::field::{inner_product, powers, signed};
use crate::generators::Generators;
use crate::msm;
use crate::parallel;
use crate::projection::{MASK_BITS, MASKED_MAX, PROJECTED_MAX, ROWS};
use crate::proof::{ArgumentProof, Commitments, Proof, RangesProof, main_shape, mask_rows, range_shape};
use crate::relation::{Relation, projection_of};
use crate::small::{ARITY, SmallRows};
use crate::transcript::Transcript;

/// Why no commitment or proof is made. An honest participant's vector, clipped and rounded by the policy, is never refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// A vector of another length than the claim's.
    #[error("{got} integers where the claim has {expected}")]
    Length {
        /// Integers given.
        got: usize,
        /// Integers of the claim.
        expected: usize,
    },
    /// The sum of squares of a segment is above its bound.
    #[error("the norm of segment {segment} is above its bound")]
    Norm {
        /// Which one.
        segment: usize,
    },
    /// An integer outside of its range.
    #[error("integer {at} is outside of {low} to {high}")]
    Range {
        /// Its place in the vector.
        at: usize,
        /// The smallest allowed.
        low: i64,
        /// The largest allowed.
        high: i64,
    },
    /// A projection too large to be hidden: chance below 2^-300 for a vector within its bounds. Do not try the same vector
    /// again and again.
    #[error("a projection is too large to be hidden")]
    Projection,
    /// The range proof could not be made from slacks that are in range.
    #[error("the range proof failed")]
    RangeProof(String),
}

/// A vector with the commitments to it, ready to be proven once; wiped when dropped.
///
/// One attempt, one commitment: a second proof under another context from the same masks would show the difference of two
/// projections of the vector. [`Self::prove`] takes it by value; whoever stores the randomness to survive a restart has to
/// store the attempt with it.
pub struct Committed<'a> {
    claim: &'a Claim,
    generators: &'a Generators,
    /// The model's rows, less the centre.
    model: Zeroizing<Vec<i32>>,
    secrets: Secrets,
    commitments: Commitments,
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct Secrets {
    /// The weight and the values.
    tail: Vec<i64>,
    /// Entries with a range, as given.
    entries: Vec<i64>,
    /// Of the rows of integers: what travels in the masked vector.
    blindings: Vec<Scalar>,
    masks: Vec<i128>,
    mask_blindings: Vec<Scalar>,
    slacks: Vec<u64>,
}

impl<'a> Committed<'a> {
    /// Checks the vector against the claim and commits to it.
    ///
    /// - `vector`: `[claim.len()]`, exactly the integers that will be masked.
    /// - `threads`: any number gives the same bits.
    ///
    /// # Errors
    /// [`ProveError`]: the vector is not what the claim says.
    ///
    /// # Panics
    /// If the generators were made for a smaller claim.
    pub fn new(
        claim: &'a Claim,
        generators: &'a Generators,
        vector: &[i64],
        rng: &mut impl CryptoRng,
        threads: NonZeroUsize,
    ) -> Result<Self, ProveError> {
        generators.check(claim);
        if vector.len() != claim.len() {
            return Err(ProveError::Length { got: vector.len(), expected: claim.len() });
        }
        for (at, interval) in claim.ranged() {
            if !interval.contains(vector[at]) {
                return Err(ProveError::Range { at, low: interval.low, high: interval.high });
            }
        }
        let model = centred(claim, vector)?;
        let slacks = slacks(claim, &model, vector)?;
        let layout = claim.layout();
        let (of_model, tail) = vector.split_at(claim.model_len());
        let secrets = Secrets {
            tail: tail.to_vec(),
            entries: if claim.spec().entries.is_some() { of_model.to_vec() } else { Vec::new() },
            blindings: (0..claim.rows()).map(|_| Scalar::random(rng)).collect(),
            masks: (0..ROWS).map(|_| mask(rng)).collect(),
            mask_blindings: (0..mask_rows(claim)).map(|_| Scalar::random(rng)).collect(),
            slacks,
        };
        // Commitments are to the vector itself; the centre is public and comes off on both sides.
        let committed = centre_added(claim, &model);
        let rows = SmallRows { row_len: layout.row_len, entries: &committed };
        let mut points = parallel::map(threads, rows.rows(), |row| {
            let blinded = generators.blind(&secrets.blindings[row]);
            (msm::small(generators.entries(), rows.row(row)) + blinded).compress()
        });
        let others = secrets.other_rows(claim);
        let blindings = secrets.blindings[layout.model_rows..].iter().chain(&secrets.mask_blindings);
        let others = others.data.chunks_exact(layout.row_len).zip(blindings);
        points.extend(others.map(|(row, blinding)| generators.commit_row(row, blinding).compress()));
        let masks = points.split_off(claim.rows());
        let commitments = Commitments { rows: points, masks };
        Ok(Self { claim, generators, model, secrets, commitments })
    }

    /// What is sent before the masked vector.
    #[must_use]
    pub fn commitments(&self) -> &Commitments {
        &self.commitments
    }

    /// Blindings of the rows, `[claim.rows()]`: they travel in the masked vector, so that their sums are released with it.
    #[must_use]
    pub fn blindings(&self) -> &[Scalar] {
        &self.secrets.blindings
    }

    /// Proves that the committed vector is within the claim.
    ///
    /// # Errors
    /// [`ProveError::Projection`], [`ProveError::RangeProof`]: neither happens to a vector within its bounds.
    pub fn prove(
        self,
        context: &Context<'_>,
        rng: &mut impl CryptoRng,
        threads: NonZeroUsize,
    ) -> Result<Proof, ProveError> {
        let Self { claim, generators, model, secrets, commitments } = self;
        let layout = claim.layout();
        let mut transcript = Transcript::new(context, claim);
        let projection = projection_of(&mut transcript, &commitments.rows, &commitments.masks);
        let projections = masked_projections(&Zeroizing::new(projection.project(&model, threads)), &secrets.masks)?;

        let slacks: Vec<_> = secrets
            .slacks
            .iter()
            .map(|&value| Opening { value: Scalar::from(value), blinding: Scalar::random(rng) })
            .collect();
        let slack_points: Vec<_> =
            slacks.iter().map(|slack| generators.commit(&slack.value, &slack.blinding)).collect();
        let slack_commitments: Vec<_> = slack_points.iter().map(|point| point.compress()).collect();
        let bits = Bits::commit(claim, generators, &secrets, rng);
        let relation =
            Relation::new(claim, &mut transcript, projection, &projections, &slack_commitments, &bits.commitments);

        let share = bits.share(&relation, rng);
        let share_commitment =
            (!bits.commitments.is_empty()).then(|| generators.commit(&share.value, &share.blinding).compress());
        if let Some(share) = &share_commitment {
            transcript.point(crate::transcript::Label::RangeShare, share);
        }
        let mut claimed = Opening { value: relation.known(&projections) + share.value, blinding: share.blinding };
        for (slack, beta) in slacks.iter().zip(relation.bound_weights()) {
            claimed.value += beta * slack.value;
            claimed.blinding += beta * slack.blinding;
        }

        let mut prover = argument::Prover {
            generators,
            transcript: &mut transcript,
            rng,
            threads,
            #[cfg(test)]
            lie: None,
        };
        let rows = SmallRows { row_len: layout.row_len, entries: &model };
        let blindings = Zeroizing::new([&secrets.blindings[..], &secrets.mask_blindings].concat());
        let main = prove_main(&mut prover, claim, &relation, rows, &secrets.other_rows(claim), &blindings, claimed);
        let ranges = share_commitment.map(|point| RangesProof {
            argument: bits.prove(&mut prover, claim, &relation, share),
            rows: bits.commitments,
            share: point,
        });
        let bounds = prove_bounds(generators, transcript, &slacks, rng)?;
        Ok(Proof { projections, slacks: slack_commitments, main, ranges, bounds })
    }
}

impl std::fmt::Debug for Committed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committed").finish_non_exhaustive()
    }
}

impl Secrets {
    /// The rows behind the model's: the weight's, the values', the masks'.
    fn other_rows(&self, claim: &Claim) -> Rows {
        let layout = claim.layout();
        let first = layout.model_rows * layout.row_len;
        let masks = layout.rows() * layout.row_len - first;
        let mut data = vec![Scalar::ZERO; masks + mask_rows(claim) * layout.row_len];
        for (at, &value) in (claim.model_len()..).zip(&self.tail) {
            let (row, column) = layout.place(at);
            data[row * layout.row_len + column - first] = signed(value.into());
        }
        for (entry, &mask) in data[masks..].iter_mut().zip(&self.masks) {
            *entry = signed(mask);
        }
        Rows { row_len: layout.row_len, data }
    }
}

/// Uniform in `[-2^102, 2^102)`.
pub(crate) fn mask(rng: &mut impl CryptoRng) -> i128 {
    let mut bytes = [0; 16];
    rng.fill_bytes(&mut bytes);
    let bits = u128::from_le_bytes(bytes) & ((1 << (MASK_BITS + 1)) - 1);
    bytes.zeroize();
    bits.cast_signed() - (1 << MASK_BITS)
}

/// The model's entries in rows, less the centre.
fn centred(claim: &Claim, vector: &[i64]) -> Result<Zeroizing<Vec<i32>>, ProveError> {
    let centre = claim.spec().centre.as_deref();
    let most = 1i64 << NORM_BITS_MAX;
    let mut model = Zeroizing::new(Vec::with_capacity(claim.model_len()));
    for (at, &entry) in vector[..claim.model_len()].iter().enumerate() {
        let moved = entry.checked_sub(centre.map_or(0, |centre| i64::from(centre[at])));
        let moved = moved.filter(|moved| -most <= *moved && *moved <= most);
        let moved = moved.and_then(|moved| i32::try_from(moved).ok());
        // An entry beyond the largest norm is beyond any bound.
        let segment = || claim.layout().segment_of(claim.layout().place(at).0);
        model.push(moved.ok_or_else(|| ProveError::Norm { segment: segment() })?);
    }
    Ok(Zeroizing::new(claim.layout().model(&model)))
}

fn centre_added(claim: &Claim, model: &[i32]) -> Zeroizing<Vec<i32>> {
    let mut rows = Zeroizing::new(model.to_vec());
    if let Some(centre) = &claim.spec().centre {
        for (entry, centre) in rows.iter_mut().zip(claim.layout().model(centre)) {
            *entry += centre;
        }
    }
    rows
}

/// What each segment leaves to its bound.
fn slacks(claim: &Claim, model: &[i32], vector: &[i64]) -> Result<Vec<u64>, ProveError> {
    let layout = claim.layout();
    let weight = if claim.spec().weight.is_some() { vector[claim.model_len()].unsigned_abs() } else { 0 };
    let of = |(segment, (part, &(first, len))): (usize, (&crate::claim::Segment, &(usize, usize)))| {
        let entries = &model[first * layout.row_len..][..len];
        let squares: u128 = entries.iter().map(|&entry| u128::from(entry.unsigned_abs()).pow(2)).sum();
        let bound = part.bound.scaled(weight).expect("the claim checked the bound at its largest weight");
        let slack = bound.checked_sub(squares << part.bound.scale_bits);
        slack.and_then(|slack| u64::try_from(slack).ok()).ok_or(ProveError::Norm { segment })
    };
    claim.segments().iter().zip(&layout.segments).enumerate().map(of).collect()
}

fn masked_projections(projected: &[i128; ROWS], masks: &[i128]) -> Result<Vec<i128>, ProveError> {
    let masked = projected.iter().zip(masks).map(|(&projected, &mask)| {
        let small = projected.abs() < PROJECTED_MAX;
        let masked = projected + mask;
        debug_assert!(!small || masked.abs() <= MASKED_MAX);
        small.then_some(masked).ok_or(ProveError::Projection)
    });
    masked.collect()
}

/// The bits of every integer that has a range, committed in rows.
pub(crate) struct Bits {
    pub rows: Option<Rows>,
    pub blindings: Zeroizing<Vec<Scalar>>,
    pub commitments: Vec<curve25519_dalek::ristretto::CompressedRistretto>,
}

impl Bits {
    fn commit(claim: &Claim, generators: &Generators, secrets: &Secrets, rng: &mut impl CryptoRng) -> Self {
        let layout = claim.range_layout();
        if layout.rows() == 0 {
            return Self { rows: None, blindings: Zeroizing::default(), commitments: Vec::new() };
        }
        let integer = |at: usize| match at.checked_sub(claim.model_len()) {
            Some(tail) => secrets.tail[tail],
            None => secrets.entries[at],
        };
        let mut bits = Zeroizing::new(vec![0i32; layout.rows() * layout.row_len]);
        let all = claim.ranged().flat_map(|(at, interval)| interval.decompose(integer(at)));
        for (entry, bit) in bits.iter_mut().zip(all) {
            *entry = i32::from(bit);
        }
        let blindings: Zeroizing<Vec<_>> = Zeroizing::new((0..layout.rows()).map(|_| Scalar::random(rng)).collect());
        let commitments = bits
            .chunks_exact(layout.row_len)
            .zip(blindings.iter())
            .map(|(row, blinding)| (msm::small(generators.entries(), row) + generators.blind(blinding)).compress())
            .collect();
        let data = bits.iter().map(|&bit| signed(bit.into())).collect();
        Self { rows: Some(Rows { row_len: layout.row_len, data }), blindings, commitments }
    }

    /// What the bits contribute to the ranges' equations.
    pub(crate) fn share(&self, relation: &Relation<'_>, rng: &mut impl CryptoRng) -> Opening {
        match &self.rows {
            None => Opening { value: Scalar::ZERO, blinding: Scalar::ZERO },
            Some(rows) => Opening {
                value: inner_product(&rows.data, &relation.bit_values().collect::<Vec<_>>()),
                blinding: Scalar::random(rng),
            },
        }
    }

    pub(crate) fn prove<R: CryptoRng>(
        &self,
        prover: &mut argument::Prover<'_, R>,
        claim: &Claim,
        relation: &Relation<'_>,
        mut share: Opening,
    ) -> ArgumentProof {
        let rows = self.rows.as_ref().expect("there is a share only where there are bits");
        let quadratic = relation.bit_rows();
        let columns = relation.bit_columns();
        let lambda = relation.linear_bits();
        let shape = range_shape(claim);
        prover.transcript.bytes(crate::transcript::Label::Argument, b"ranges");
        let y = rows
            .data
            .iter()
            .zip(&lambda)
            .enumerate()
            .map(|(at, (bit, lambda))| bit * quadratic[at / shape.row_len] + lambda);
        let y = Rows { row_len: shape.row_len, data: y.collect() };
        let x = Rows { row_len: shape.row_len, data: rows.data.clone() };
        let (folds, challenges, x, y) = prover.fold(x, y, Some(&columns), &mut share);
        let up = shape.weights(None, &challenges);
        let down = shape.weights(None, &inverses(&challenges));
        let down: Vec<_> = down.iter().zip(&quadratic).map(|(weight, q)| weight * q).collect();
        let row = LastRow {
            x: x.data.clone(),
            x_down: weighted_rows(rows, &down),
            y: y.data.clone(),
            x_blinding: inner_product(&up, &self.blindings),
            x_down_blinding: inner_product(&down, &self.blindings),
        };
        prover.finish(&row, &share, Some(&columns), Vec::new(), folds, false)
    }
}

fn prove_main<R: CryptoRng>(
    prover: &mut argument::Prover<'_, R>,
    claim: &Claim,
    relation: &Relation<'_>,
    model: SmallRows<'_>,
    others: &Rows,
    blindings: &[Scalar],
    mut claimed: Opening,
) -> ArgumentProof {
    let shape = main_shape(claim);
    let threads = prover.threads;
    let quadratic = relation.quadratic();
    let (of_model, of_others) = quadratic.split_at(shape.small);
    prover.transcript.bytes(crate::transcript::Label::Argument, b"main");

    let linear = relation.linear_model();
    let lambda = parallel::ranges(threads, shape.small, |range| {
        let mut lambda = vec![0; range.len() * shape.row_len];
        linear.fill(range.start, &mut lambda);
        lambda
    })
    .concat();
    let terms = Zeroizing::new(model.cross_terms(of_model, &lambda, threads));
    let (first_points, first) = prover.cross(&terms, &mut claimed);

    // The first fold, and behind it the rows that were never small.
    let groups = model.groups();
    let powers_of = |base: Scalar| {
        let powers = powers(base, ARITY);
        (0..shape.small).map(|row| powers[row / groups]).collect::<Vec<_>>()
    };
    let down = powers_of(first.invert());
    let squared: Vec<_> = down.iter().zip(of_model).map(|(weight, q)| weight * q).collect();
    let behind = |folded: Vec<Scalar>, others: &mut dyn ExactSizeIterator<Item = Scalar>| {
        let folded = Zeroizing::new(folded);
        // At once as long as it gets: what grows leaves copies behind.
        let mut data = Vec::with_capacity(folded.len() + others.len());
        data.extend_from_slice(&folded);
        data.extend(others);
        Rows { row_len: shape.row_len, data }
    };
    let x = behind(model.weighted(&powers_of(first), groups, threads), &mut others.data.iter().copied());
    let linear_others = relation.linear_others();
    let with = others.data.iter().zip(&linear_others).enumerate();
    let mut with = with.map(|(at, (x, lambda))| of_others[at / shape.row_len] * x + lambda);
    let y = behind(model.weighted_with(&squared, &lambda, &down, groups, threads), &mut with);
    drop(lambda);
    let (folds, challenges, x, y) = prover.fold(x, y, None, &mut claimed);

    let up = shape.weights(Some(&first), &challenges);
    let down = shape.weights(Some(&first.invert()), &inverses(&challenges));
    let down: Vec<_> = down.iter().zip(&quadratic).map(|(weight, q)| weight * q).collect();
    let mut x_down = model.weighted(&down[..shape.small], 1, threads);
    for (sum, other) in x_down.iter_mut().zip(Zeroizing::new(weighted_rows(others, &down[shape.small..])).iter()) {
        *sum += other;
    }
    let row = LastRow {
        x: x.data.clone(),
        x_down,
        y: y.data.clone(),
        x_blinding: inner_product(&up, blindings),
        x_down_blinding: inner_product(&down, blindings),
    };
    let small = claim.setting() == crate::claim::Setting::Small;
    prover.finish(&row, &claimed, None, first_points, folds, small)
}

/// `sum_r weights[r] rows[r]`.
pub(crate) fn weighted_rows(rows: &Rows, weights: &[Scalar]) -> Vec<Scalar> {
    let mut sum = vec![Scalar::ZERO; rows.row_len];
    for (row, weight) in rows.data.chunks_exact(rows.row_len).zip(weights) {
        for (sum, entry) in sum.iter_mut().zip(row) {
            *sum += weight * entry;
        }
    }
    sum
}

/// That every slack is in `[0, 2^64)`.
pub(crate) fn prove_bounds(
    generators: &Generators,
    transcript: Transcript,
    slacks: &[Opening],
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, ProveError> {
    let failed = |error: tari_bulletproofs_plus::errors::ProofError| ProveError::RangeProof(error.to_string());
    let mut openings = Vec::new();
    let mut points = Vec::new();
    for slack in slacks {
        let value = u64::from_le_bytes(*slack.value.as_bytes().first_chunk().expect("a scalar has 32 bytes"));
        openings.push(CommitmentOpening::new(value, vec![slack.blinding]));
        points.push(generators.commit(&slack.value, &slack.blinding));
    }
    // Filled up to a power of two by commitments to 0 that anybody can make.
    while !openings.len().is_power_of_two() {
        openings.push(CommitmentOpening::new(0, vec![Scalar::ONE]));
        points.push(*generators.blinding());
    }
    let promises = vec![None; points.len()];
    let statement = RangeStatement::init(generators.range().clone(), points, promises, None).map_err(failed)?;
    let witness = RangeWitness::init(openings).map_err(failed)?;
    let proof = RangeProof::prove_with_rng(&mut transcript.into_merlin(), &statement, &witness, rng).map_err(failed)?;
    Ok(proof.to_bytes())
}
