//! A prover that knows no small integers and checks nothing: for cheats, and as a second opinion on the fast one.

use curve25519_dalek::scalar::Scalar;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::*;
use crate::argument::{self, LastRow, Opening, Rows, inverses};
use crate::field::{inner_product, powers, signed};
use crate::projection::{MASK_BITS, ROWS};
use crate::proof::{RangesProof, main_shape, mask_rows, range_shape};
use crate::prover::{Bits, mask, prove_bounds, weighted_rows};
use crate::relation::{Relation, projection_of};
use crate::small::ARITY;
use crate::transcript::{Label, Transcript};
use crate::verifier::Check;

/// What is committed and claimed, each as the cheat likes.
pub(super) struct Forger<'a> {
    pub case: &'a Case,
    /// All rows, less the centre: the model's, the weight's, the values', the masks'.
    pub rows: Rows,
    pub blindings: Vec<Scalar>,
    pub slacks: Vec<Scalar>,
    /// What the range proof is made of, where it is not the slacks.
    pub proven_slacks: Option<Vec<Scalar>>,
    /// In the order of the range layout.
    pub bits: Vec<Scalar>,
    /// Instead of the true ones.
    pub projections: Option<[i128; ROWS]>,
    pub lie: Option<Check>,
}

impl<'a> Forger<'a> {
    /// Rows of a vector that has no centre, with the slacks that it truly has, below 0 where it is beyond its bound.
    pub(super) fn of(case: &'a Case, vector: &[Scalar], rng: &mut impl CryptoRng) -> Self {
        let layout = case.claim.layout();
        let all = claim_rows(&case.claim);
        let blindings = (0..layout.rows()).map(|_| Scalar::random(rng)).collect::<Vec<_>>();
        let masks: Vec<_> = (0..ROWS).map(|_| mask(rng)).collect();
        let mask_blindings =
            (all - layout.rows()..all - layout.rows() + mask_rows(&case.claim)).map(|_| Scalar::random(rng));
        let blindings = blindings.into_iter().chain(mask_blindings.collect::<Vec<_>>()).collect();
        let mut data = vec![Scalar::ZERO; all * layout.row_len];
        for (at, &integer) in vector.iter().enumerate() {
            let (row, column) = layout.place(at);
            data[row * layout.row_len + column] = integer;
        }
        for (entry, &mask) in data[layout.rows() * layout.row_len..].iter_mut().zip(&masks) {
            *entry = signed(mask);
        }
        let rows = Rows { row_len: layout.row_len, data };
        let mut forger = Self {
            case,
            rows,
            blindings,
            slacks: Vec::new(),
            proven_slacks: None,
            bits: Vec::new(),
            projections: None,
            lie: None,
        };
        forger.slacks = forger.true_slacks();
        forger
    }

    /// With the bits of these integers, which are in their ranges.
    pub(super) fn with_bits(mut self, vector: &[i64]) -> Self {
        let bits = self.case.claim.ranged().flat_map(|(at, interval)| interval.decompose(vector[at]));
        self.bits = bits.map(|bit| Scalar::from(u64::from(bit))).collect();
        self
    }

    /// What the rows as they are leave to each bound.
    pub(super) fn true_slacks(&self) -> Vec<Scalar> {
        let layout = self.case.claim.layout();
        let weight =
            if layout.weight_rows > 0 { self.rows.data[layout.model_rows * layout.row_len] } else { Scalar::ZERO };
        let segments = self.case.claim.segments().iter().zip(&layout.segments);
        let slack = |(segment, &(first, len)): (&Segment, &(usize, usize))| {
            // With what stands behind its entries: the argument is about whole rows.
            let entries = &self.rows.data[first * layout.row_len..][..len.next_multiple_of(layout.row_len)];
            let NormBound { scale_bits, per_square, per_weight, constant } = segment.bound;
            Scalar::from(per_square) * weight * weight + Scalar::from(per_weight) * weight + Scalar::from(constant)
                - Scalar::from(1u64 << scale_bits) * inner_product(entries, entries)
        };
        segments.map(slack).collect()
    }

    fn projected(&self, projection: &crate::projection::Projection) -> [i128; ROWS] {
        let layout = self.case.claim.layout();
        let model = &self.rows.data[..layout.model_rows * layout.row_len];
        std::array::from_fn(|row| {
            let entries =
                projection.row(row, model.len()).into_iter().map(|entry| signed(entry.into())).collect::<Vec<_>>();
            let mask = self.rows.data[layout.rows() * layout.row_len + row];
            small(inner_product(&entries, model) + mask)
        })
    }

    pub(super) fn forge(&self, context: &Context<'_>, rng: &mut impl CryptoRng) -> (Commitments, Proof) {
        let Case { claim, generators } = self.case;
        let layout = claim.layout();
        let row_len = layout.row_len;
        let all_rows = self.rows.data.chunks_exact(row_len);
        let mut points: Vec<_> = all_rows
            .clone()
            .zip(&self.blindings)
            .map(|(row, blinding)| generators.commit_row(row, blinding).compress())
            .collect();
        let masks = points.split_off(layout.rows());
        let commitments = Commitments { rows: points, masks };

        let mut transcript = Transcript::new(context, claim);
        let projection = projection_of(&mut transcript, &commitments.rows, &commitments.masks);
        let projections = self.projections.unwrap_or_else(|| self.projected(&projection));
        let slacks: Vec<_> =
            self.slacks.iter().map(|&value| Opening { value, blinding: Scalar::random(rng) }).collect();
        let slack_commitments: Vec<_> =
            slacks.iter().map(|slack| generators.commit(&slack.value, &slack.blinding).compress()).collect();
        let bits = self.commit_bits(rng);
        let relation =
            Relation::new(claim, &mut transcript, projection, &projections, &slack_commitments, &bits.commitments);
        let share = bits.share(&relation, rng);
        let share_commitment =
            (!bits.commitments.is_empty()).then(|| generators.commit(&share.value, &share.blinding).compress());
        if let Some(share) = &share_commitment {
            transcript.point(Label::RangeShare, share);
        }
        let mut claimed = Opening { value: relation.known(&projections) + share.value, blinding: share.blinding };
        for (slack, beta) in slacks.iter().zip(relation.bound_weights()) {
            claimed.value += beta * slack.value;
            claimed.blinding += beta * slack.blinding;
        }

        let shape = main_shape(claim);
        let quadratic = relation.quadratic();
        let mut small_lambda = vec![0; shape.small * row_len];
        relation.linear_model().fill(0, &mut small_lambda);
        let mut lambda: Vec<_> = small_lambda.into_iter().map(signed).collect();
        lambda.extend(relation.linear_others());
        let y: Vec<Scalar> = self
            .rows
            .data
            .iter()
            .zip(&lambda)
            .enumerate()
            .map(|(at, (x, lambda))| quadratic[at / row_len] * x + lambda)
            .collect();

        transcript.bytes(Label::Argument, b"main");
        let mut prover = argument::Prover { generators, transcript: &mut transcript, rng, threads: ONE, lie: self.lie };
        let groups = shape.small.div_ceil(ARITY);
        let x_row = |row: usize| &self.rows.data[row * row_len..][..row_len];
        let y_row = |row: usize| &y[row * row_len..][..row_len];
        let mut terms = vec![Scalar::ZERO; 2 * (ARITY - 1)];
        for row_x in 0..shape.small {
            for row_y in (row_x % groups..shape.small).step_by(groups).filter(|&row_y| row_y != row_x) {
                let (i, j) = (row_x / groups, row_y / groups);
                let at = if i > j { i - j - 1 } else { ARITY - 1 + (j - i - 1) };
                terms[at] += inner_product(x_row(row_x), y_row(row_y));
            }
        }
        let (first_points, first) = prover.cross(&terms, &mut claimed);
        let folded = |rows: &[Scalar], base: Scalar| {
            let powers = powers(base, ARITY);
            let mut folded = vec![Scalar::ZERO; groups * row_len];
            for (at, entry) in rows[..shape.small * row_len].iter().enumerate() {
                let row = at / row_len;
                folded[row % groups * row_len + at % row_len] += powers[row / groups] * entry;
            }
            folded.extend(&rows[shape.small * row_len..]);
            Rows { row_len, data: folded }
        };
        let (x, y) = (folded(&self.rows.data, first), folded(&y, first.invert()));
        let (folds, challenges, x, y) = prover.fold(x, y, None, &mut claimed);
        let up = shape.weights(Some(&first), &challenges);
        let down = shape.weights(Some(&first.invert()), &inverses(&challenges));
        let down: Vec<_> = down.iter().zip(&quadratic).map(|(weight, q)| weight * q).collect();
        let row = LastRow {
            x: x.data.clone(),
            x_down: weighted_rows(&self.rows, &down),
            y: y.data.clone(),
            x_blinding: inner_product(&up, &self.blindings),
            x_down_blinding: inner_product(&down, &self.blindings),
        };
        let main = prover.finish(&row, &claimed, None, first_points, folds, claim.setting() == Setting::Small);
        prover.lie = None;
        let ranges = share_commitment.map(|point| RangesProof {
            argument: bits.prove(&mut prover, claim, &relation, share),
            rows: bits.commitments,
            share: point,
        });
        let proven = self.proven_slacks.as_ref().unwrap_or(&self.slacks);
        let proven: Vec<_> =
            proven.iter().zip(&slacks).map(|(&value, slack)| Opening { value, blinding: slack.blinding }).collect();
        let bounds = prove_bounds(generators, transcript, &proven, rng).expect("these are in range");
        (commitments, Proof { projections: projections.to_vec(), slacks: slack_commitments, main, ranges, bounds })
    }

    fn commit_bits(&self, rng: &mut impl CryptoRng) -> Bits {
        let Case { claim, generators } = self.case;
        let shape = range_shape(claim);
        if shape.others == 0 {
            return Bits { rows: None, blindings: Zeroizing::default(), commitments: Vec::new() };
        }
        let mut data = self.bits.clone();
        data.resize(shape.others * shape.row_len, Scalar::ZERO);
        let blindings: Vec<_> = (0..shape.others).map(|_| Scalar::random(rng)).collect();
        let commitments = data
            .chunks_exact(shape.row_len)
            .zip(&blindings)
            .map(|(row, blinding)| generators.commit_row(row, blinding).compress())
            .collect();
        Bits { rows: Some(Rows { row_len: shape.row_len, data }), blindings: Zeroizing::new(blindings), commitments }
    }
}

fn claim_rows(claim: &Claim) -> usize {
    claim.rows() + mask_rows(claim)
}

/// In centred form, where it has less than 127 bits; else the largest that could pass.
fn small(scalar: Scalar) -> i128 {
    let magnitude = |scalar: Scalar| {
        let (low, high) = scalar.as_bytes().split_at(16);
        let low = u128::from_le_bytes(low.try_into().expect("half of 32 bytes"));
        (high == [0; 16]).then(|| i128::try_from(low).ok()).flatten()
    };
    magnitude(scalar).or_else(|| magnitude(-scalar).map(|value| -value)).unwrap_or(1 << MASK_BITS)
}

/// The same randomness makes the same bytes: what is computed lazily, in words and by tables is what is written down above.
#[test]
fn the_fast_prover_makes_the_proof_of_the_plain_one() {
    for setting in [Setting::Fast, Setting::Small] {
        let (case, vector) = rich(setting);
        let scalars: Vec<_> = vector.iter().map(|&integer| signed(integer.into())).collect();
        let mut rng = rng(11);
        let plain = Forger::of(&case, &scalars, &mut rng).with_bits(&vector).forge(&CONTEXT, &mut rng);
        assert_eq!(case.prove(&vector, &CONTEXT, 11), plain);
    }
    let vector = entries(&mut rng(1), 5000, 20);
    let case = Case::new(plain(5000, squared(&vector) + 7));
    let scalars: Vec<_> = vector.iter().map(|&integer| signed(integer.into())).collect();
    let mut rng = rng(12);
    let plain = Forger::of(&case, &scalars, &mut rng).forge(&CONTEXT, &mut rng);
    assert_eq!(case.prove(&vector, &CONTEXT, 12), plain);
}
