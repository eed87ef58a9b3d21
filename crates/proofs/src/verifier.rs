//! The other side: one proof, or many at once with the bad ones named.

use std::num::NonZeroUsize;

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};
use sha2::{Digest, Sha512};
use tari_bulletproofs_plus::range_proof::{RangeProof, VerifyAction};
use tari_bulletproofs_plus::range_statement::RangeStatement;

use crate::argument::{self, Challenges, Shape, cross_powers, inverses, spread_all};
use crate::claim::Claim;
use crate::context::Context;
use crate::field::inner_product;
use crate::generators::Generators;
use crate::msm;
use crate::parallel;
use crate::projection::MASKED_MAX;
use crate::proof::{ArgumentProof, Commitments, Finish, Malformed, Proof, main_shape, range_shape};
use crate::relation::{Relation, projection_of};
use crate::small::{LinearFold, SmallRows};
use crate::transcript::{Label, Transcript};

/// Verifies proofs of one claim.
pub struct Verifier<'a> {
    claim: &'a Claim,
    generators: &'a Generators,
    /// Commitments of the centre's rows, which come off those of participants.
    centre: Vec<RistrettoPoint>,
    #[cfg(test)]
    pub(crate) without: Option<Check>,
}

/// One participant's commitments and proof, and what they are for.
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    /// Where the proof belongs.
    pub context: Context<'a>,
    /// What it speaks about.
    pub commitments: &'a Commitments,
    /// That they are within the claim.
    pub proof: &'a Proof,
}

/// Commitments whose proof verified: no other code makes one.
#[derive(Clone, Debug)]
pub struct Verified {
    rows: Vec<RistrettoPoint>,
}

impl Verified {
    /// The commitments of the rows, `[claim.rows()]`.
    pub(crate) fn rows(&self) -> &[RistrettoPoint] {
        &self.rows
    }
}

/// Why a proof is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// Bytes that are no point.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Made for another claim: it has other parts.
    #[error("the proof has not the parts that this claim has")]
    Shape,
    /// A projection is so large that the committed integers may wrap around.
    #[error("projection {row} is out of range")]
    Projection {
        /// Which one.
        row: usize,
    },
    /// The committed integers do not satisfy what was claimed, or the proof is for another participant, round or policy.
    #[error("the committed integers are not proven to be within the bounds")]
    Argument,
    /// A bound is exceeded.
    #[error("the norm is not proven to be within its bound")]
    Bound,
}

/// What a verifier checks, by name: a test leaves out each in turn and shows the forgery that then passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// `|z_t| <= T`.
    Projection,
    /// The last row is the fold of the commitments.
    Row,
    /// Its second fold is the other fold of the commitments.
    SecondRow,
    /// The value of the last row is the claim.
    Value,
    /// The inner-product argument's last product.
    Product,
    /// The slacks are in range.
    Bound,
}

/// Terms of `0 = <entries, G> + blinding H + value U + <scalars, points>`.
struct Equation {
    entries: Vec<Scalar>,
    blinding: Scalar,
    value: Scalar,
    scalars: Vec<Scalar>,
    points: Vec<RistrettoPoint>,
}

/// A submission whose transcript was replayed.
struct Replayed<'a> {
    relation: Relation<'a>,
    main: Challenges,
    ranges: Option<Challenges>,
    /// Goes on with the range proof.
    transcript: Transcript,
    points: Points,
}

/// Points of a submission that are no part of the range proof.
struct Points {
    rows: Vec<RistrettoPoint>,
    masks: Vec<RistrettoPoint>,
    slacks: Vec<RistrettoPoint>,
    main: ArgumentPoints,
    ranges: Option<RangePoints>,
}

struct RangePoints {
    rows: Vec<RistrettoPoint>,
    share: RistrettoPoint,
    argument: ArgumentPoints,
}

struct ArgumentPoints {
    cross: Vec<RistrettoPoint>,
    last_masks: Vec<RistrettoPoint>,
    /// Of each step: those of `x`, then those of `x_down`.
    steps: Vec<RistrettoPoint>,
}

impl<'a> Verifier<'a> {
    /// Commits to the claim's centre, if it has one.
    ///
    /// # Panics
    /// If the generators were made for a smaller claim.
    #[must_use]
    pub fn new(claim: &'a Claim, generators: &'a Generators, threads: NonZeroUsize) -> Self {
        generators.check(claim);
        let layout = claim.layout();
        let centre = claim.spec().centre.as_ref().map_or(Vec::new(), |centre| {
            let entries = layout.model(centre);
            let rows = SmallRows { row_len: layout.row_len, entries: &entries };
            parallel::map(threads, rows.rows(), |row| msm::small(generators.entries(), rows.row(row)))
        });
        Self {
            claim,
            generators,
            centre,
            #[cfg(test)]
            without: None,
        }
    }

    #[cfg(test)]
    fn checks(&self, check: Check) -> bool {
        self.without != Some(check)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "a test leaves out one of them")]
    const fn checks(&self, _: Check) -> bool {
        true
    }

    /// Verifies one.
    ///
    /// Work: folding the projections (linear in the model's length), a multi-scalar multiplication of rows + row length.
    /// Memory: a few rows, whatever the model's length.
    ///
    /// # Errors
    /// [`Rejection`].
    pub fn verify(&self, submission: &Submission<'_>, threads: NonZeroUsize) -> Result<Verified, Rejection> {
        let replayed = self.replay(submission)?;
        let seed = batch_seed(std::iter::once(&replayed));
        let equation = self.equation(submission.proof, &replayed, &Weights { seed, at: 0 }, threads)?;
        if !self.holds(&[equation], threads) {
            return Err(Rejection::Argument);
        }
        self.bounds(&[(submission.proof, &replayed)])?;
        Ok(Verified { rows: replayed.points.rows })
    }

    /// Verifies many at once, in less time than one by one; where that fails, finds out which are bad.
    ///
    /// Results are in the order of the submissions.
    pub fn verify_batch(
        &self,
        submissions: &[Submission<'_>],
        threads: NonZeroUsize,
    ) -> Vec<Result<Verified, Rejection>> {
        let replayed = parallel::map(threads, submissions.len(), |at| self.replay(&submissions[at]));
        let seed = batch_seed(replayed.iter().filter_map(|replayed| replayed.as_ref().ok()));
        let equations = parallel::map(threads, submissions.len(), |at| match &replayed[at] {
            Err(rejection) => Err(*rejection),
            Ok(replayed) => self.equation(submissions[at].proof, replayed, &Weights { seed, at }, NonZeroUsize::MIN),
        });
        let good: Vec<_> = (0..submissions.len()).filter(|&at| equations[at].is_ok()).collect();
        let (equations, mut results): (Vec<_>, Vec<_>) = equations
            .into_iter()
            .map(|equation| match equation {
                Ok(equation) => (Some(equation), Ok(())),
                Err(rejection) => (None, Err(rejection)),
            })
            .unzip();
        let all: Vec<_> = equations.into_iter().flatten().collect();
        if !self.holds(&all, threads) {
            for (equation, &at) in all.chunks(1).zip(&good) {
                if !self.holds(equation, threads) {
                    results[at] = Err(Rejection::Argument);
                }
            }
        }
        let parts: Vec<_> = replayed.iter().map(|replayed| replayed.as_ref().ok()).collect();
        let part = |at: usize| (submissions[at].proof, parts[at].expect("its equation was made from it"));
        let good: Vec<_> = good.into_iter().filter(|&at| results[at].is_ok()).collect();
        if self.bounds(&good.iter().map(|&at| part(at)).collect::<Vec<_>>()).is_err() {
            for &at in &good {
                results[at] = self.bounds(&[part(at)]);
            }
        }
        let verified = |(result, replayed): (Result<(), Rejection>, Result<Replayed<'_>, Rejection>)| {
            result.and_then(|()| replayed.map(|replayed| Verified { rows: replayed.points.rows }))
        };
        results.into_iter().zip(replayed).map(verified).collect()
    }

    /// Reads the proof as the prover wrote it, and draws the same challenges.
    fn replay(&self, submission: &Submission<'_>) -> Result<Replayed<'a>, Rejection> {
        let Submission { context, commitments, proof } = submission;
        self.check_parts(commitments, proof)?;
        if self.checks(Check::Projection)
            && let Some(row) = proof.projections.iter().position(|z| z.unsigned_abs() > MASKED_MAX.unsigned_abs())
        {
            return Err(Rejection::Projection { row });
        }
        let points = Points::of(commitments, proof)?;
        let mut transcript = Transcript::new(context, self.claim);
        let projection = projection_of(&mut transcript, &commitments.rows, &commitments.masks);
        let range_rows = proof.ranges.as_ref().map_or(&[][..], |ranges| &ranges.rows);
        let relation =
            Relation::new(self.claim, &mut transcript, projection, &proof.projections, &proof.slacks, range_rows);
        if let Some(ranges) = &proof.ranges {
            transcript.point(Label::RangeShare, &ranges.share);
        }
        transcript.bytes(Label::Argument, b"main");
        let main = argument::read(&proof.main, &mut transcript);
        let ranges = proof.ranges.as_ref().map(|ranges| {
            transcript.bytes(Label::Argument, b"ranges");
            argument::read(&ranges.argument, &mut transcript)
        });
        Ok(Replayed { relation, main, ranges, transcript, points })
    }

    /// All challenges in the order in which they are drawn.
    #[cfg(test)]
    pub(crate) fn challenges(&self, submission: &Submission<'_>) -> Result<Vec<Scalar>, Rejection> {
        let Replayed { relation, main, ranges, mut transcript, .. } = self.replay(submission)?;
        let mut all = relation.challenges();
        for challenges in std::iter::once(main).chain(ranges) {
            all.extend(challenges.first);
            all.extend(challenges.folds);
            all.push(challenges.last);
            all.extend(challenges.steps);
        }
        all.push(transcript.challenge(Label::End));
        Ok(all)
    }

    /// A proof that was read for another claim may have other parts than this one's.
    fn check_parts(&self, commitments: &Commitments, proof: &Proof) -> Result<(), Rejection> {
        let fits = commitments.fits(self.claim) && proof.fits(self.claim);
        if fits { Ok(()) } else { Err(Rejection::Shape) }
    }

    /// All of the arguments' equations, each under a weight of its own.
    fn equation(
        &self,
        proof: &Proof,
        replayed: &Replayed<'_>,
        weights: &Weights,
        threads: NonZeroUsize,
    ) -> Result<Equation, Rejection> {
        let Replayed { relation, main, ranges, points, .. } = replayed;
        let mut equation = Equation::new(self.generators.entries().len());

        let slacks = relation.bound_weights().iter().copied().zip(points.slacks.iter().copied());
        let mut claimed: Vec<_> = slacks.collect();
        claimed.extend(points.ranges.iter().map(|ranges| (Scalar::ONE, ranges.share)));
        let mut rows: Vec<_> = points.rows.iter().chain(&points.masks).copied().collect();
        for (row, centre) in rows.iter_mut().zip(&self.centre) {
            *row -= centre;
        }
        let shape = main_shape(self.claim);
        let down = shape.weights(main.first.map(|first| first.invert()).as_ref(), &inverses(&main.folds));
        let view = View {
            proof: &proof.main,
            points: &points.main,
            challenges: main,
            shape,
            rows,
            quadratic: relation.quadratic(),
            lambda: self.fold_lambda(relation, &down, threads),
            columns: None,
            claimed,
            known: relation.known(&proof.projections),
        };
        self.add(&mut equation, &view, &down, weights, 0)?;

        if let (Some(proof), Some(points), Some(challenges)) = (&proof.ranges, &points.ranges, ranges) {
            let shape = range_shape(self.claim);
            let down = shape.weights(None, &inverses(&challenges.folds));
            let linear = relation.linear_bits();
            let mut lambda = vec![Scalar::ZERO; shape.row_len];
            for (row, weight) in linear.chunks_exact(shape.row_len).zip(&down) {
                for (sum, entry) in lambda.iter_mut().zip(row) {
                    *sum += weight * entry;
                }
            }
            let view = View {
                proof: &proof.argument,
                points: &points.argument,
                challenges,
                shape,
                rows: points.rows.clone(),
                quadratic: relation.bit_rows(),
                lambda,
                columns: Some(relation.bit_columns()),
                claimed: vec![(Scalar::ONE, points.share)],
                known: Scalar::ZERO,
            };
            self.add(&mut equation, &view, &down, weights, 3)?;
        }
        Ok(equation)
    }

    /// `sum_r down[r] lambda_r`: the one step whose work is linear in the model's length.
    fn fold_lambda(&self, relation: &Relation<'_>, down: &[Scalar], threads: NonZeroUsize) -> Vec<Scalar> {
        let layout = self.claim.layout();
        let (of_model, of_others) = down.split_at(layout.model_rows);
        let linear = relation.linear_model();
        let parts = parallel::ranges(threads, layout.model_rows, |range| {
            let mut fold = LinearFold::new(layout.row_len);
            let mut lambda = vec![0; layout.row_len];
            for row in range {
                linear.fill(row, &mut lambda);
                fold.add(&of_model[row], &lambda);
            }
            fold.finish().collect::<Vec<_>>()
        });
        let mut sum = vec![Scalar::ZERO; layout.row_len];
        for part in parts {
            for (sum, part) in sum.iter_mut().zip(part) {
                *sum += part;
            }
        }
        for (row, weight) in relation.linear_others().chunks_exact(layout.row_len).zip(of_others) {
            for (sum, entry) in sum.iter_mut().zip(row).filter(|(_, entry)| **entry != Scalar::ZERO) {
                *sum += weight * entry;
            }
        }
        sum
    }

    /// Adds an argument's three equations.
    fn add(
        &self,
        equation: &mut Equation,
        view: &View<'_>,
        down: &[Scalar],
        weights: &Weights,
        first: u8,
    ) -> Result<(), Rejection> {
        let View { proof, points, challenges, .. } = view;
        let weigh = |check: Check, at: u8| if self.checks(check) { weights.of(first + at) } else { Scalar::ZERO };
        let (of_row, of_second, of_value) = (weigh(Check::Row, 0), weigh(Check::SecondRow, 1), weigh(Check::Value, 2));
        let last = challenges.last;

        let up = view.shape.weights(challenges.first.as_ref(), &challenges.folds);
        for (at, row) in view.rows.iter().enumerate() {
            equation.push(-last * (of_row * up[at] + of_second * view.quadratic[at] * down[at]), *row);
        }
        let mask_weights = [of_row, of_second, last * of_value, of_value];
        for (weight, point) in mask_weights.iter().zip(&points.last_masks) {
            equation.push(-weight, *point);
        }
        let answers =
            [of_row, of_second, of_value].into_iter().zip(&proof.blindings).map(|(weight, answer)| weight * answer);
        equation.blinding += answers.sum::<Scalar>();

        let of_claim = -last * last * of_value;
        for (weight, point) in &view.claimed {
            equation.push(of_claim * weight, *point);
        }
        let mut cross = points.cross.iter();
        let folds = challenges.first.iter().map(|first| (first, view.shape.first_terms()));
        for (challenge, terms) in folds.chain(challenges.folds.iter().map(|fold| (fold, 2))) {
            for (power, point) in cross_powers(challenge, terms).iter().zip(&mut cross) {
                equation.push(of_claim * power, *point);
            }
        }
        let product = self.add_finish(equation, view, of_row, of_second)?;
        equation.value += of_value * product + of_claim * view.known;
        Ok(())
    }

    /// Adds the last rows, and returns the product that they make.
    fn add_finish(
        &self,
        equation: &mut Equation,
        view: &View<'_>,
        of_row: Scalar,
        of_second: Scalar,
    ) -> Result<Scalar, Rejection> {
        let last = view.challenges.last;
        match &view.proof.finish {
            Finish::Rows { x, x_down } => {
                for (sum, (x, down)) in equation.entries.iter_mut().zip(x.iter().zip(x_down)) {
                    *sum += of_row * x + of_second * down;
                }
                let mut y: Vec<_> =
                    x_down.iter().zip(&view.lambda).map(|(down, lambda)| down + last * lambda).collect();
                for (y, column) in y.iter_mut().zip(view.columns.iter().flatten()) {
                    *y *= column;
                }
                Ok(inner_product(x, &y))
            }
            Finish::InnerProduct { product, steps, x, x_down } => {
                let challenges = &view.challenges.steps;
                let inverses = inverses(challenges);
                let (down, up) = (spread_all(&inverses), spread_all(challenges));
                for (sum, (down, up)) in equation.entries.iter_mut().zip(down.iter().zip(&up)) {
                    *sum += of_row * x * down + of_second * x_down * up;
                }
                let mut folded = *product;
                for ((step, (challenge, inverse)), points) in
                    steps.iter().zip(challenges.iter().zip(&inverses)).zip(view.points.steps.chunks_exact(4))
                {
                    let weights = [of_row * challenge, of_row * inverse, of_second * inverse, of_second * challenge];
                    for (weight, point) in weights.iter().zip(points) {
                        equation.push(-weight, *point);
                    }
                    folded += challenge * step.product[0] + inverse * step.product[1];
                }
                let y = x_down + last * inner_product(&down, &view.lambda);
                if self.checks(Check::Product) && folded != x * y {
                    return Err(Rejection::Argument);
                }
                Ok(*product)
            }
        }
    }

    /// Whether all of them hold.
    fn holds(&self, equations: &[Equation], threads: NonZeroUsize) -> bool {
        let Some(first) = equations.first() else { return true };
        let mut scalars = vec![Scalar::ZERO; first.entries.len() + 2];
        for equation in equations {
            for (sum, entry) in scalars.iter_mut().zip(&equation.entries) {
                *sum += entry;
            }
            scalars[first.entries.len()] += equation.blinding;
            scalars[first.entries.len() + 1] += equation.value;
        }
        let own = [*self.generators.blinding(), *self.generators.value()];
        let mut points: Vec<_> = self.generators.entries().iter().chain(&own).copied().collect();
        for equation in equations {
            scalars.extend(&equation.scalars);
            points.extend(&equation.points);
        }
        let parts = parallel::ranges(threads, scalars.len(), |range| {
            RistrettoPoint::vartime_multiscalar_mul(&scalars[range.clone()], &points[range])
        });
        parts.iter().sum::<RistrettoPoint>().is_identity()
    }

    /// Verifies the range proofs of these.
    fn bounds(&self, submissions: &[(&Proof, &Replayed<'_>)]) -> Result<(), Rejection> {
        if submissions.is_empty() || !self.checks(Check::Bound) {
            return Ok(());
        }
        let (mut statements, mut proofs, mut transcripts) = (Vec::new(), Vec::new(), Vec::new());
        for (proof, replayed) in submissions {
            let mut points = replayed.points.slacks.clone();
            points.resize(points.len().next_power_of_two(), *self.generators.blinding());
            let promises = vec![None; points.len()];
            let statement = RangeStatement::init(self.generators.range().clone(), points, promises, None);
            statements.push(statement.map_err(|_| Rejection::Bound)?);
            proofs.push(RangeProof::from_bytes(&proof.bounds).map_err(|_| Rejection::Bound)?);
            transcripts.push(replayed.transcript.clone().into_merlin());
        }
        let verified = RangeProof::verify_batch(&mut transcripts, &statements, &proofs, VerifyAction::VerifyOnly);
        verified.map(|_| ()).map_err(|_| Rejection::Bound)
    }
}

impl std::fmt::Debug for Verifier<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("claim", &self.claim).finish_non_exhaustive()
    }
}

/// One argument, as its equations need it.
struct View<'a> {
    proof: &'a ArgumentProof,
    points: &'a ArgumentPoints,
    challenges: &'a Challenges,
    shape: Shape,
    rows: Vec<RistrettoPoint>,
    quadratic: Vec<Scalar>,
    /// The public row, folded.
    lambda: Vec<Scalar>,
    columns: Option<Vec<Scalar>>,
    /// Commitments whose sum is the claim, beside what is known of it.
    claimed: Vec<(Scalar, RistrettoPoint)>,
    known: Scalar,
}

impl Equation {
    fn new(len: usize) -> Self {
        Self {
            entries: vec![Scalar::ZERO; len],
            blinding: Scalar::ZERO,
            value: Scalar::ZERO,
            scalars: Vec::new(),
            points: Vec::new(),
        }
    }

    fn push(&mut self, scalar: Scalar, point: RistrettoPoint) {
        self.scalars.push(scalar);
        self.points.push(point);
    }
}

impl Points {
    fn of(commitments: &Commitments, proof: &Proof) -> Result<Self, Malformed> {
        let argument = |argument: &ArgumentProof| {
            let steps = match &argument.finish {
                Finish::Rows { .. } => Vec::new(),
                Finish::InnerProduct { steps, .. } => {
                    steps.iter().flat_map(|step| step.x.iter().chain(&step.x_down)).copied().collect()
                }
            };
            let cross: Vec<_> = argument.first.iter().chain(argument.folds.as_flattened()).copied().collect();
            Ok::<_, Malformed>(ArgumentPoints {
                cross: decompress(&cross, "a cross term")?,
                last_masks: decompress(&argument.last_masks, "a last mask")?,
                steps: decompress(&steps, "a half")?,
            })
        };
        let ranges = proof.ranges.as_ref().map(|ranges| {
            let share = decompress(&[ranges.share], "the ranges' share")?;
            Ok::<_, Malformed>(RangePoints {
                rows: decompress(&ranges.rows, "a range row commitment")?,
                share: share[0],
                argument: argument(&ranges.argument)?,
            })
        });
        Ok(Self {
            rows: decompress(&commitments.rows, "a row commitment")?,
            masks: decompress(&commitments.masks, "a mask commitment")?,
            slacks: decompress(&proof.slacks, "a slack commitment")?,
            main: argument(&proof.main)?,
            ranges: ranges.transpose()?,
        })
    }
}

pub(crate) fn decompress(
    points: &[CompressedRistretto],
    field: &'static str,
) -> Result<Vec<RistrettoPoint>, Malformed> {
    points.iter().map(|point| point.decompress().ok_or(Malformed::Point { field })).collect()
}

/// The weights of one submission's equations. They depend on every submission of the batch: were one's weights its own
/// affair, many bad ones could be made to cancel (Wagner 2002).
struct Weights {
    seed: [u8; 64],
    at: usize,
}

impl Weights {
    fn of(&self, equation: u8) -> Scalar {
        let mut hash = Sha512::new();
        hash.update(self.seed);
        hash.update((self.at as u64).to_le_bytes());
        hash.update([equation]);
        Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
    }
}

fn batch_seed<'r, 'a: 'r>(replayed: impl Iterator<Item = &'r Replayed<'a>>) -> [u8; 64] {
    let mut hash = Sha512::new();
    hash.update(b"sordino/proofs/v1/batch");
    for replayed in replayed {
        hash.update(replayed.transcript.clone().seed(Label::End));
    }
    hash.finalize().into()
}
