//! The folded argument: committed rows `x_r` and public rows `lambda_r` make the claimed value
//! `sum_r <x_r, q_r x_r + lambda_r>`.
//!
//! Two rows become one, `x' = x_lo + c x_hi` and `y' = y_lo + y_hi / c` with `y_r = q_r x_r + lambda_r`, until one row is
//! left (the matrix form of Bootle et al. 2016, section 4; folding as in Bulletproofs 2018, section 3). The cross terms are
//! single values, committed and added to the claim, so the prover does no group operation per entry: commitments of rows
//! fold by the same challenges. The last row is proven by a Sigma protocol: masked copies of `x` and of its second fold
//! `x~ = sum_r q_r w_r^-1 x_r` in the clear, or an inner-product argument on them.
//!
//! Products are `<a, b> = sum_j k_j a_j b_j` with public column weights `k`, all 1 in the main argument.
//!
//! # Soundness
//! From accepting transcripts with three distinct challenges for a halving (fifteen for the first fold of eight), openings
//! of the rows before it are computed, or a relation between generators is found: the fold is a Laurent polynomial in `c`
//! whose coefficient of `c^0` is the claim. One fold is wrong with probability at most `14 / l`, the last step `2 / l`; a
//! halving of the inner-product argument, with its two vectors, `3 / l`.

use std::num::NonZeroUsize;

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::VartimeMultiscalarMul;
use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::field::{ByScalar, inner_product, powers, words};
use crate::generators::Generators;
use crate::parallel;
use crate::proof::{ArgumentProof, Finish, Step};
use crate::small::ARITY;
use crate::transcript::{Label, Transcript};
#[cfg(test)]
use crate::verifier::Check;

/// Secret rows of one length, `[rows][row_len]`; wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Rows {
    #[zeroize(skip)]
    pub row_len: usize,
    pub data: Vec<Scalar>,
}

impl Rows {
    pub(crate) fn rows(&self) -> usize {
        self.data.len() / self.row_len
    }

    /// The first half of the rows, which is the larger one.
    fn halves(&self) -> (&[Scalar], &[Scalar]) {
        self.data.split_at(self.rows().div_ceil(2) * self.row_len)
    }
}

/// What a commitment `value * U + blinding * H` opens to.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Opening {
    pub value: Scalar,
    pub blinding: Scalar,
}

/// Weights of `rows` rows after they were folded by these challenges: the product of the challenges of the folds in which
/// the row was in the second half.
pub(crate) fn fold_weights(rows: usize, challenges: &[Scalar]) -> Vec<Scalar> {
    let mut sizes = vec![rows];
    sizes.extend(challenges.iter().scan(rows, |rows, _| {
        *rows = rows.div_ceil(2);
        Some(*rows)
    }));
    let mut weights = vec![Scalar::ONE];
    for (&size, challenge) in sizes.iter().rev().skip(1).zip(challenges.iter().rev()) {
        let half = weights.len();
        for row in 0..size - half {
            weights.push(weights[row] * challenge);
        }
    }
    weights
}

/// Halvings that leave one of so many rows.
pub(crate) fn halvings(rows: usize) -> usize {
    rows.next_power_of_two().trailing_zeros() as usize
}

/// How the rows of an argument fold: the first ones by eight where they are small integers, then all by two.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub row_len: usize,
    /// Rows of small integers.
    pub small: usize,
    /// Rows beside them.
    pub others: usize,
}

impl Shape {
    /// Rows after the first fold.
    pub(crate) fn folded(&self) -> usize {
        self.small.div_ceil(ARITY) + self.others
    }

    /// Cross terms of the first fold.
    pub(crate) fn first_terms(&self) -> usize {
        if self.small == 0 { 0 } else { 2 * (ARITY - 1) }
    }

    pub(crate) fn halvings(&self) -> usize {
        halvings(self.folded())
    }

    /// The weight of each row in the last one.
    pub(crate) fn weights(&self, first: Option<&Scalar>, challenges: &[Scalar]) -> Vec<Scalar> {
        let folded = fold_weights(self.folded(), challenges);
        let groups = self.small.div_ceil(ARITY);
        let up = first.map_or(Vec::new(), |&first| powers(first, ARITY));
        let small = (0..self.small).map(|row| up[row / groups] * folded[row % groups]);
        small.chain(folded[groups..].iter().copied()).collect()
    }
}

/// The challenges of one argument.
pub(crate) struct Challenges {
    pub first: Option<Scalar>,
    pub folds: Vec<Scalar>,
    /// Of the last row's Sigma protocol.
    pub last: Scalar,
    /// Of the inner-product argument.
    pub steps: Vec<Scalar>,
}

/// The prover's side of one argument.
pub(crate) struct Prover<'a, R> {
    pub generators: &'a Generators,
    pub transcript: &'a mut Transcript,
    pub rng: &'a mut R,
    pub threads: NonZeroUsize,
    /// Which check the last answers are bent to pass without: the product is made to be what was claimed.
    #[cfg(test)]
    pub lie: Option<Check>,
}

/// The rows' last fold, with what blinds its commitments.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct LastRow {
    /// `sum_r w_r x_r`.
    pub x: Vec<Scalar>,
    /// `sum_r q_r w_r^-1 x_r`.
    pub x_down: Vec<Scalar>,
    /// `x_down` and the public row.
    pub y: Vec<Scalar>,
    pub x_blinding: Scalar,
    pub x_down_blinding: Scalar,
}

impl<R: CryptoRng> Prover<'_, R> {
    /// Commits to cross terms and draws the challenge: the terms of positive powers, then those of negative ones.
    pub(crate) fn cross(&mut self, terms: &[Scalar], claim: &mut Opening) -> (Vec<CompressedRistretto>, Scalar) {
        let blindings: Zeroizing<Vec<_>> = Zeroizing::new(terms.iter().map(|_| Scalar::random(self.rng)).collect());
        let points: Vec<_> = terms
            .iter()
            .zip(blindings.iter())
            .map(|(term, blinding)| self.generators.commit(term, blinding).compress())
            .collect();
        self.transcript.points(Label::CrossTerm, &points);
        let challenge = self.transcript.challenge(Label::Fold);
        for (at, power) in cross_powers(&challenge, terms.len()).into_iter().enumerate() {
            claim.value += power * terms[at];
            claim.blinding += power * blindings[at];
        }
        (points, challenge)
    }

    /// Folds by two until one row of each is left.
    pub(crate) fn fold(
        &mut self,
        mut x: Rows,
        mut y: Rows,
        columns: Option<&[Scalar]>,
        claim: &mut Opening,
    ) -> (Vec<[CompressedRistretto; 2]>, Vec<Scalar>, Rows, Rows) {
        let (mut points, mut challenges) = (Vec::new(), Vec::new());
        while x.rows() > 1 {
            let ((x_low, x_high), (y_low, y_high)) = (x.halves(), y.halves());
            let products = [(x_high, y_low), (x_low, y_high)].map(|(x, y)| product(self.threads, x, y, columns));
            let terms = Zeroizing::new(products);
            let (pair, challenge) = self.cross(&*terms, claim);
            points.push([pair[0], pair[1]]);
            let inverse = challenge.invert();
            x = Rows { row_len: x.row_len, data: combine(self.threads, x_low, x_high, &challenge) };
            y = Rows { row_len: y.row_len, data: combine(self.threads, y_low, y_high, &inverse) };
            challenges.push(challenge);
        }
        (points, challenges, x, y)
    }

    /// Proves the last row: masks, challenge, answers.
    pub(crate) fn finish(
        &mut self,
        row: &LastRow,
        claim: &Opening,
        columns: Option<&[Scalar]>,
        first: Vec<CompressedRistretto>,
        folds: Vec<[CompressedRistretto; 2]>,
        small: bool,
    ) -> ArgumentProof {
        let len = row.x.len();
        let masks = LastRow {
            x: random(len, self.rng),
            x_down: random(len, self.rng),
            y: Vec::new(),
            x_blinding: Scalar::random(self.rng),
            x_down_blinding: Scalar::random(self.rng),
        };
        let linear = Opening {
            value: product(self.threads, &row.x, &masks.x_down, columns)
                + product(self.threads, &masks.x, &row.y, columns),
            blinding: Scalar::random(self.rng),
        };
        let constant = Opening {
            value: product(self.threads, &masks.x, &masks.x_down, columns),
            blinding: Scalar::random(self.rng),
        };
        let rows = [(&masks.x, &masks.x_blinding), (&masks.x_down, &masks.x_down_blinding)];
        let generators = self.generators;
        let rows = parallel::map(self.threads, 2, |at| generators.commit_row(rows[at].0, rows[at].1).compress());
        let values =
            [&linear, &constant].map(|opening| self.generators.commit(&opening.value, &opening.blinding).compress());
        let last_masks = [rows[0], rows[1], values[0], values[1]];
        self.transcript.points(Label::LastMask, &last_masks);
        let challenge = self.transcript.challenge(Label::Answer);

        let answer = |value: &Scalar, mask: &Scalar| challenge * value + mask;
        let x: Vec<_> = row.x.iter().zip(&masks.x).map(|(x, mask)| answer(x, mask)).collect();
        let x_down: Vec<_> = row.x_down.iter().zip(&masks.x_down).map(|(x, mask)| answer(x, mask)).collect();
        let blindings = [
            answer(&row.x_blinding, &masks.x_blinding),
            answer(&row.x_down_blinding, &masks.x_down_blinding),
            challenge * (challenge * claim.blinding + linear.blinding) + constant.blinding,
        ];
        self.transcript.scalars(Label::AnswerScalar, &blindings);
        // The public row is what `y` has beside `x_down`.
        let lambda = row.y.iter().zip(&row.x_down).map(|(y, x)| y - x);
        let y: Vec<_> = x_down.iter().zip(lambda).map(|(x, lambda)| x + challenge * lambda).collect();
        let product = inner_product(&x, &y);
        #[cfg(test)]
        let (product, x, x_down, y) = {
            let wanted = challenge * (challenge * claim.value + linear.value) + constant.value;
            self.bent(product, wanted, x, x_down, y)
        };
        let finish = if small {
            self.inner_product_argument(product, x, x_down, y)
        } else {
            self.transcript.scalars(Label::AnswerScalar, &x);
            self.transcript.scalars(Label::AnswerScalar, &x_down);
            Finish::Rows { x, x_down }
        };
        ArgumentProof { first, folds, last_masks, blindings, finish }
    }

    /// Answers of a cheat: their product is what the claim wants, whatever was committed.
    #[cfg(test)]
    fn bent(
        &self,
        product: Scalar,
        wanted: Scalar,
        mut x: Vec<Scalar>,
        mut x_down: Vec<Scalar>,
        mut y: Vec<Scalar>,
    ) -> (Scalar, Vec<Scalar>, Vec<Scalar>, Vec<Scalar>) {
        match self.lie {
            Some(Check::Row) => x[0] += (wanted - product) * y[0].invert(),
            Some(Check::SecondRow) => {
                let more = (wanted - product) * x[0].invert();
                x_down[0] += more;
                y[0] += more;
            }
            Some(Check::Product) => {}
            _ => return (product, x, x_down, y),
        }
        (wanted, x, x_down, y)
    }

    /// Halves the answers instead of showing them (Bulletproofs 2018, section 3; compressed as in Attema and Cramer 2020).
    ///
    /// Both are committed under the same generators: `x` folds by `c` and its generators by `1/c`, `x_down` and `y` the
    /// other way round. Nothing is hidden here, the answers are masked.
    fn inner_product_argument(
        &mut self,
        product: Scalar,
        mut x: Vec<Scalar>,
        mut x_down: Vec<Scalar>,
        mut y: Vec<Scalar>,
    ) -> Finish {
        self.transcript.scalar(Label::AnswerScalar, &product);
        let (mut up, mut down) = (vec![Scalar::ONE], vec![Scalar::ONE]);
        let mut steps = Vec::new();
        while x.len() > 1 {
            let half = x.len() / 2;
            let ((x_low, x_high), (y_low, y_high)) = (x.split_at(half), y.split_at(half));
            let (d_low, d_high) = x_down.split_at(half);
            let sides = [(x_high, &down, 0), (x_low, &down, half), (d_high, &up, 0), (d_low, &up, half)];
            let generators = self.generators;
            let points = parallel::map(self.threads, 4, |at| {
                let (entries, weights, start) = sides[at];
                under_folded(generators, entries, weights, start, x.len()).compress()
            });
            let step = Step {
                x: [points[0], points[1]],
                x_down: [points[2], points[3]],
                product: [inner_product(x_high, y_low), inner_product(x_low, y_high)],
            };
            let challenge = step.challenge(self.transcript);
            let inverse = challenge.invert();
            x = combine(self.threads, x_low, x_high, &challenge);
            y = combine(self.threads, y_low, y_high, &inverse);
            x_down = combine(self.threads, d_low, d_high, &inverse);
            up = spread(&up, &challenge);
            down = spread(&down, &inverse);
            steps.push(step);
        }
        self.transcript.scalars(Label::AnswerScalar, &[x[0], x_down[0]]);
        Finish::InnerProduct { product, steps, x: x[0], x_down: x_down[0] }
    }
}

/// Over whole rows; the shorter of the two counts.
fn product(threads: NonZeroUsize, a: &[Scalar], b: &[Scalar], columns: Option<&[Scalar]>) -> Scalar {
    let len = a.len().min(b.len());
    let parts = parallel::ranges(threads, len, |range| match columns {
        None => inner_product(&a[range.clone()], &b[range]),
        Some(columns) => weighted_product(&a[range.clone()], &b[range.clone()], columns, range.start),
    });
    parts.into_iter().sum()
}

/// `low + factor * high`, where `high` may be shorter.
fn combine(threads: NonZeroUsize, low: &[Scalar], high: &[Scalar], factor: &Scalar) -> Vec<Scalar> {
    let factor = words(factor);
    let mut combined = low.to_vec();
    parallel::fill(threads, &mut combined[..high.len()], 1, |first, combined| {
        for (entry, high) in combined.iter_mut().zip(&high[first..]) {
            let mut sum = ByScalar::ZERO;
            sum.add_scalar(&factor, &words(high));
            sum.add_word(&words(entry), 1);
            *entry = sum.reduce();
        }
    });
    combined
}

/// `<entries, G'[start..]>`, where `G'_j = sum_t weights[t] G_(t * width + j)` are the generators folded to `width`.
fn under_folded(
    generators: &Generators,
    entries: &[Scalar],
    weights: &[Scalar],
    start: usize,
    width: usize,
) -> RistrettoPoint {
    let scalars: Vec<_> = weights.iter().flat_map(|weight| entries.iter().map(move |entry| weight * entry)).collect();
    let block = |block: usize| generators.entries()[block * width + start..][..entries.len()].iter().copied();
    let points: Vec<_> = (0..weights.len()).flat_map(block).collect();
    RistrettoPoint::vartime_multiscalar_mul(&scalars, &points)
}

impl Step {
    fn challenge(&self, transcript: &mut Transcript) -> Scalar {
        transcript.points(Label::Half, &self.x);
        transcript.points(Label::Half, &self.x_down);
        transcript.scalars(Label::HalfScalar, &self.product);
        transcript.challenge(Label::Step)
    }
}

/// Weights of twice as many blocks: each block's own, and times the factor for its second half.
fn spread(weights: &[Scalar], factor: &Scalar) -> Vec<Scalar> {
    weights.iter().flat_map(|weight| [*weight, weight * factor]).collect()
}

/// Weights of the generators after the halvings of an inner-product argument.
pub(crate) fn spread_all(factors: &[Scalar]) -> Vec<Scalar> {
    factors.iter().fold(vec![Scalar::ONE], |weights, factor| spread(&weights, factor))
}

/// `c, c^2, ..` and `1/c, 1/c^2, ..`, half of the terms each.
pub(crate) fn cross_powers(challenge: &Scalar, terms: usize) -> Vec<Scalar> {
    let of = |base: Scalar| powers(base, terms / 2 + 1).into_iter().skip(1);
    of(*challenge).chain(of(challenge.invert())).collect()
}

/// `sum(columns[j] a_j b_j)`, where entry `at` is in column `(start + at) % columns`.
fn weighted_product(a: &[Scalar], b: &[Scalar], columns: &[Scalar], start: usize) -> Scalar {
    let mut sums = ByScalar::ZERO;
    for (at, (a, b)) in a.iter().zip(b).enumerate() {
        sums.add_scalar(&words(&(a * columns[(start + at) % columns.len()])), &words(b));
    }
    sums.reduce()
}

pub(crate) fn inverses(challenges: &[Scalar]) -> Vec<Scalar> {
    challenges.iter().map(Scalar::invert).collect()
}

fn random(len: usize, rng: &mut impl CryptoRng) -> Vec<Scalar> {
    (0..len).map(|_| Scalar::random(rng)).collect()
}

/// The verifier's reading of one argument: the challenges, as the prover drew them.
pub(crate) fn read(proof: &ArgumentProof, transcript: &mut Transcript) -> Challenges {
    let first = (!proof.first.is_empty()).then(|| {
        transcript.points(Label::CrossTerm, &proof.first);
        transcript.challenge(Label::Fold)
    });
    let folds = proof
        .folds
        .iter()
        .map(|pair| {
            transcript.points(Label::CrossTerm, pair);
            transcript.challenge(Label::Fold)
        })
        .collect();
    transcript.points(Label::LastMask, &proof.last_masks);
    let last = transcript.challenge(Label::Answer);
    transcript.scalars(Label::AnswerScalar, &proof.blindings);
    let steps = match &proof.finish {
        Finish::Rows { x, x_down } => {
            transcript.scalars(Label::AnswerScalar, x);
            transcript.scalars(Label::AnswerScalar, x_down);
            Vec::new()
        }
        Finish::InnerProduct { product, steps, x, x_down } => {
            transcript.scalar(Label::AnswerScalar, product);
            let challenges = steps.iter().map(|step| step.challenge(transcript)).collect();
            transcript.scalars(Label::AnswerScalar, &[*x, *x_down]);
            challenges
        }
    };
    Challenges { first, folds, last, steps }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_folding_by_hand() {
        for rows in 1..40usize {
            let challenges: Vec<_> = (0..halvings(rows) as u64).map(|at| Scalar::from(at + 2)).collect();
            let mut columns: Vec<Vec<Scalar>> =
                (0..rows).map(|row| (0..rows).map(|at| Scalar::from(u64::from(at == row))).collect()).collect();
            for challenge in &challenges {
                let high = columns.split_off(columns.len().div_ceil(2));
                for (low, high) in columns.iter_mut().zip(high) {
                    for (low, high) in low.iter_mut().zip(high) {
                        *low += challenge * high;
                    }
                }
            }
            assert_eq!(columns, [fold_weights(rows, &challenges)], "{rows} rows");
        }
    }
}
