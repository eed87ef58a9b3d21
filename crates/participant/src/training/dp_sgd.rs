//! Stochastic gradient descent that hides single records (Abadi et al. 2016, "Deep Learning with Differential Privacy",
//! Algorithm 1), and metrics that do.
//!
//! Neighbours are data sets that differ by one record more or less. Every step draws each record by itself with the same
//! chance (a true Poisson sample), clips its gradient, and adds exact noise to the sum. Whatever follows is computed from
//! that sum and from public numbers: the divisor is the policy's batch size and not the number of rows drawn.
//!
//! Which records are drawn has to stay as secret as the noise: the accounting counts on it. Both come from the operating
//! system, anew for each round, from generators that are wiped after it, and never from one that a caller could seed.
//!
//! # Failures
//! An error makes the site drop out, which is seen. So no error of a step depends on what one record holds, or on whether
//! it is there or drawn: a gradient that is not finite adds nothing, sums of any batch are as exact as is charged for
//! ([`GradientSum`]), and divergence is looked for in the weights, which carry noise. What does depend on the records is
//! refused before anything is trained: values that are not finite and labels beyond the model's classes, when the files
//! are read and at the first round.

use std::collections::BTreeMap;

use chacha20::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sordino_dp::noise::{NoiseError, NoiseRng, SumGrid, Unseeded};
use zeroize::Zeroizing;

use super::dataset::Dataset;
use super::model::{Architecture, Batch, Network};
use super::sgd::{Diverged, Hyperparameters, Proximal};
use super::trainer::{EVALUATION_BATCH, METRIC_CORRECT, METRIC_LOSS_SUM, TrainError};

/// How a round's training hides single records. All numbers are public and the same at every site.
///
/// A step is `g = (sum of clipped gradients + noise) / batch_size`, followed by momentum and learning rate as without
/// privacy; `local_epochs` is not used. What a step costs is [`SumGrid::mechanism`] of
/// `SumGrid::new(example_clip, parameters, noise_multiplier)`, sampled by Poisson with `sampling_rate`.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordPrivacy {
    /// L2 norm that the gradient of one record's loss is clipped to, above 0.
    pub example_clip: f64,
    /// Noise standard deviation of a step over its sensitivity, above 0.
    pub noise_multiplier: f64,
    /// Chance with which each record enters a step, above 0 and at most 1.
    pub sampling_rate: f64,
    /// Steps of the round, at least 1.
    pub steps: u32,
    /// What one record may add to a metric, at most, by the metric's name; above 0. For a metric that is not named it is
    /// 1, and [`noise_metrics`] removes it.
    pub record_max: BTreeMap<String, f64>,
}

impl RecordPrivacy {
    /// Checks the ranges that the fields state.
    ///
    /// # Errors
    /// [`NoiseError::Parameter`] or [`NoiseError::Count`] names the field.
    pub fn validate(&self) -> Result<(), NoiseError> {
        let Self { example_clip, noise_multiplier, sampling_rate, steps, ref record_max } = *self;
        let above_zero = |name, got: f64| match got > 0.0 && got.is_finite() {
            true => Ok(()),
            false => Err(NoiseError::Parameter { name, got, want: "above 0 and finite" }),
        };
        above_zero("example_clip", example_clip)?;
        above_zero("noise_multiplier", noise_multiplier)?;
        if !(sampling_rate > 0.0 && sampling_rate <= 1.0) {
            let want = "above 0 and at most 1";
            return Err(NoiseError::Parameter { name: "sampling_rate", got: sampling_rate, want });
        }
        if steps == 0 {
            return Err(NoiseError::Count { name: "steps", got: 0, want: "at least 1" });
        }
        record_max.values().try_for_each(|&max| above_zero("a metric's record_max", max))
    }
}

/// What chance decides in a round. Both generators are wiped when dropped.
pub(super) struct Randomness {
    /// Boxed, so that moves leave no copies.
    draws: Box<ChaCha20Rng>,
    noise: NoiseRng,
}

impl Randomness {
    /// New, from the operating system.
    pub(super) fn fresh() -> Result<Self, Unseeded<getrandom::Error>> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(Unseeded::Source)?;
        if *seed == [0; 32] {
            return Err(Unseeded::Empty);
        }
        Ok(Self { draws: Box::new(ChaCha20Rng::from_seed(*seed)), noise: NoiseRng::from_os(getrandom::fill)? })
    }
}

/// Trains in place. A row whose gradient is not finite adds nothing, and the sum's rounding is within what
/// [`SumGrid`] charges for, so that no single row decides whether this fails. With `proximal_mu`, [`Proximal`] is added behind
/// the noise.
///
/// The caller has checked that architecture, weights and data belong together, the hyperparameters, and the privacy.
#[expect(clippy::cast_possible_truncation, reason = "rates are at most f32::MAX, a gradient beyond it diverges")]
pub(super) fn train(
    architecture: Architecture,
    weights: &mut [f32],
    data: &Dataset,
    (hyperparameters, proximal_mu): (&Hyperparameters, f64),
    privacy: &RecordPrivacy,
    randomness: &mut Randomness,
) -> Result<(), TrainError> {
    let proximal = Proximal::new(proximal_mu, weights);
    let (rate, momentum) = (hyperparameters.learning_rate as f32, hyperparameters.momentum as f32);
    let divisor = f64::from(hyperparameters.batch_size);
    let grid = SumGrid::new(privacy.example_clip, weights.len() as u64, privacy.noise_multiplier)?;
    let mut network = Network::new(architecture);
    let (mut gradients, mut velocity) = (GradientSum::new(weights.len()), vec![0.0f32; weights.len()]);
    let mut noised = vec![0.0f32; weights.len()];
    let mut rows = Vec::new();
    for step in 1..=privacy.steps {
        draw(data.rows(), privacy.sampling_rate, &mut *randomness.draws, &mut rows);
        let sum = gradients.of_rows(&mut network, weights, data, &rows, privacy.example_clip);
        grid.noise(sum, &mut randomness.noise)?;
        noised.iter_mut().zip(sum).for_each(|(noised, sum)| *noised = (*sum / divisor) as f32);
        // Behind the noise: it knows nothing of records.
        if let Some(proximal) = &proximal {
            proximal.add_to(&mut noised, weights);
        }
        for ((weight, velocity), gradient) in weights.iter_mut().zip(&mut velocity).zip(&noised) {
            *velocity = momentum * *velocity + gradient;
            *weight -= rate * *velocity;
        }
        // Of the weights and not of a loss: they may be seen, it may not.
        if !weights.iter().all(|weight| weight.is_finite()) {
            return Err(Diverged { epoch: 1, batch: step as usize }.into());
        }
    }
    Ok(())
}

/// Draws each of `0..rows` by itself with chance `rate`, rounded down to a multiple of 2^-64; overwrites `drawn`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the floor of a number below 2^64")]
fn draw(rows: usize, rate: f64, rng: &mut impl Rng, drawn: &mut Vec<usize>) {
    drawn.clear();
    if rate >= 1.0 {
        drawn.extend(0..rows);
    } else {
        // Exact but for the floor: a power of two scales.
        let threshold = (rate * TWO_64) as u64;
        drawn.extend((0..rows).filter(|_| rng.next_u64() < threshold));
    }
}

/// The sum of a batch's clipped gradients, off by less than 2^-22 clip norms for as many rows as a data set has, whichever
/// they are: whether there is one more must not decide whether a batch is too large to be summed.
///
/// With u = 2^-53 and n rows: within a block of b rows the k-th partial sum is at most k clip norms long and rounded to u
/// of that, which makes `u n (b + 1) / 2` in all; between blocks the sum is Kahan's, off by less than `3 u n`. For n of
/// 10^7 and b of 256 that is below 2^-22.6 clip norms. Norms and products of d values are off by `d u` of themselves, below
/// 2^-27 for the largest model.
struct GradientSum {
    sum: Vec<f64>,
    /// What the last addition to `sum` lost.
    correction: Vec<f64>,
    block: Vec<f64>,
}

impl GradientSum {
    fn new(len: usize) -> Self {
        Self { sum: vec![0.0; len], correction: vec![0.0; len], block: vec![0.0; len] }
    }

    /// The sum over these rows; overwrites that of the last batch.
    fn of_rows(
        &mut self,
        network: &mut Network,
        weights: &[f32],
        data: &Dataset,
        rows: &[usize],
        example_clip: f64,
    ) -> &mut [f64] {
        self.sum.fill(0.0);
        self.correction.fill(0.0);
        let (mut features, mut labels) = (Vec::new(), Vec::new());
        for rows in rows.chunks(EVALUATION_BATCH) {
            features.clear();
            labels.clear();
            for &row in rows {
                features.extend_from_slice(data.row(row));
                labels.push(data.labels()[row]);
            }
            self.block.fill(0.0);
            let batch = Batch { features: &features, labels: &labels };
            add_clipped(network, weights, batch, example_clip, &mut self.block);
            for ((sum, correction), &value) in self.sum.iter_mut().zip(&mut self.correction).zip(&self.block) {
                add_compensated(sum, correction, value);
            }
        }
        &mut self.sum
    }
}

/// Adds each row's gradient, scaled down to an L2 norm of at most `example_clip`, to `sum`. Errors and activations are
/// f32 and taken as they are; norm, factor, products and sums are f64, as [`SumGrid::new`] expects.
fn add_clipped(network: &mut Network, weights: &[f32], batch: Batch<'_>, example_clip: f64, sum: &mut [f64]) {
    for gradient in network.example_gradients(weights, batch) {
        let norm = gradient.squared_norm().sqrt();
        if norm.is_finite() && norm > 0.0 {
            gradient.add_to(sum, (example_clip / norm).min(1.0));
        }
    }
}

/// Loss and hits of the model, summed over the rows; each row adds at least 0 and at most `record_max`, or 1 where that
/// does not name the metric. A loss that is no finite number counts as the most: one odd row fails nothing.
pub(super) fn metrics(
    architecture: Architecture,
    weights: &[f32],
    data: &Dataset,
    record_max: &BTreeMap<String, f64>,
) -> BTreeMap<String, f64> {
    let max = |name| record_max.get(name).copied().unwrap_or(1.0);
    let (loss_max, correct_max) = (max(METRIC_LOSS_SUM), max(METRIC_CORRECT));
    let (mut loss_sum, mut correct_sum) = (CompensatedSum::default(), CompensatedSum::default());
    let mut network = Network::new(architecture);
    let features = data.features().chunks(EVALUATION_BATCH * data.columns());
    for (features, labels) in features.zip(data.labels().chunks(EVALUATION_BATCH)) {
        network.evaluate_each(weights, Batch { features, labels }, |loss, correct| {
            let loss = if loss.is_finite() { loss.max(0.0).min(loss_max) } else { loss_max };
            loss_sum.add(loss);
            correct_sum.add(f64::from(u8::from(correct)).min(correct_max));
        });
    }
    [(METRIC_LOSS_SUM, loss_sum.sum), (METRIC_CORRECT, correct_sum.sum)]
        .map(|(name, sum)| (name.to_owned(), sum))
        .into()
}

/// Adds a value to a sum, and to the value what the last addition lost (Kahan): the sum is off by less than `3 u` of the sum
/// of magnitudes (Higham 2002, "Accuracy and Stability of Numerical Algorithms", eq. 4.8).
fn add_compensated(sum: &mut f64, correction: &mut f64, value: f64) {
    let value = value + *correction;
    let more = *sum + value;
    *correction = (*sum - more) + value;
    *sum = more;
}

/// A sum of values of one sign: a plain one over ten million rows could be off by more than [`SumGrid`] charges for.
#[derive(Default)]
struct CompensatedSum {
    sum: f64,
    correction: f64,
}

impl CompensatedSum {
    fn add(&mut self, value: f64) {
        add_compensated(&mut self.sum, &mut self.correction, value);
    }
}

/// Adds noise to the metrics of a private round: to each that `record_max` names, discrete Gaussian noise of
/// `multiplier` times what one record may add; what that costs is [`SumGrid::mechanism`] of
/// `SumGrid::new(max, 1, multiplier)`. A metric that is not named is removed. No record may have added more than its
/// maximum: trainers see to it.
///
/// # Errors
/// [`TrainError::Noise`] and [`TrainError::Unseeded`]; the metrics are then gone.
pub fn noise_metrics(
    metrics: &mut BTreeMap<String, f64>,
    record_max: &BTreeMap<String, f64>,
    multiplier: f64,
) -> Result<(), TrainError> {
    let bare = std::mem::take(metrics);
    *metrics = noised(bare, record_max, multiplier, &mut NoiseRng::from_os(getrandom::fill)?)?;
    Ok(())
}

fn noised(
    bare: BTreeMap<String, f64>,
    record_max: &BTreeMap<String, f64>,
    multiplier: f64,
    rng: &mut NoiseRng,
) -> Result<BTreeMap<String, f64>, NoiseError> {
    let mut noised = BTreeMap::new();
    for (name, value) in bare {
        if let Some(&max) = record_max.get(&name) {
            let mut sum = [value];
            SumGrid::new(max, 1, multiplier)?.noise(&mut sum, rng)?;
            noised.insert(name, sum[0]);
        }
    }
    Ok(noised)
}

const TWO_64: f64 = 18_446_744_073_709_551_616.0;

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking and cast what they chose"
)]
mod tests;
