//! Stochastic gradient descent whose steps hide each record: DP-SGD (Abadi et al. 2016, "Deep Learning with
//! Differential Privacy", Algorithm 1).
//!
//! The noised sums are all that the weights depend on; momentum, learning rate and the number of the step at which
//! weights stop being finite are computed from them. So an error that a step returns says no more of the records than
//! the weights do, but for [`PrivacyError::BatchTooLarge`]. That matters although errors stay at the site: one that
//! fails falls silent, and that it does is seen by others.
//!
//! What is not hidden: time. A step takes longer the more rows were drawn.

use chacha20::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use sordino_dp::noise::{NoiseRng, SumGrid, TERMS_MAX};
use zeroize::Zeroizing;

use super::dataset::Dataset;
use super::model::{Architecture, Batch, Network};
use super::privacy::{PrivacyError, RecordPrivacy};
use super::sgd::{Diverged, Hyperparameters};
use super::trainer::TrainError;

/// Rows that pass through the model at once.
const CHUNK: usize = 256;

/// Trains in place, with batches and noise from the operating system: whoever knew either would see through them.
///
/// The caller has checked that architecture, weights and data belong together, the hyperparameters and `privacy`.
pub(super) fn train(
    architecture: Architecture,
    weights: &mut [f32],
    data: &Dataset,
    hyperparameters: &Hyperparameters,
    privacy: &RecordPrivacy,
) -> Result<(), TrainError> {
    let mut draws = draws_from_os()?;
    let mut noise = NoiseRng::from_os(getrandom::fill).map_err(PrivacyError::from)?;
    train_with(architecture, weights, data, hyperparameters, privacy, &mut *draws, &mut noise)
}

/// A generator for the batches of one round. Boxed, so that moving it leaves no copy; wiped when dropped.
fn draws_from_os() -> Result<Box<ChaCha20Rng>, PrivacyError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed)?;
    Ok(Box::new(ChaCha20Rng::from_seed(*seed)))
}

/// Step: `v = momentum * v + g`, `w = w - learning_rate * v`, as without privacy, where `g` is the noised sum of clipped
/// gradients over the public batch size.
#[expect(
    clippy::cast_possible_truncation,
    reason = "rates are at most f32::MAX; too large a gradient shows as diverged"
)]
fn train_with(
    architecture: Architecture,
    weights: &mut [f32],
    data: &Dataset,
    hyperparameters: &Hyperparameters,
    privacy: &RecordPrivacy,
    draws: &mut impl Rng,
    noise: &mut NoiseRng,
) -> Result<(), TrainError> {
    let (rate, momentum) = (hyperparameters.learning_rate as f32, hyperparameters.momentum as f32);
    let divisor = f64::from(hyperparameters.batch_size);
    let grid = SumGrid::new(privacy.example_clip, weights.len() as u64, privacy.noise_multiplier)
        .map_err(PrivacyError::from)?;
    let chance = Chance::new(privacy.sampling_rate);
    let mut sums = ClippedSums::new(architecture, data, privacy.example_clip);
    let (mut sum, mut velocity) = (vec![0.0f64; weights.len()], vec![0.0f32; weights.len()]);
    for step in 1..=privacy.steps {
        sums.of(weights, &chance.batch(data.rows(), draws)?, &mut sum);
        grid.noise(&mut sum, noise).map_err(PrivacyError::from)?;
        for ((weight, velocity), sum) in weights.iter_mut().zip(&mut velocity).zip(&sum) {
            *velocity = momentum * *velocity + (sum / divisor) as f32;
            *weight -= rate * *velocity;
        }
        // The loss would show it earlier, and is not ours to act on.
        if !weights.iter().all(|weight| weight.is_finite()) {
            return Err(Diverged { epoch: 1, batch: step as usize }.into());
        }
    }
    Ok(())
}

/// A chance of coming up, of which no more than the asked one is granted: of 2^64 equally likely numbers, those below
/// this one.
#[derive(Clone, Copy)]
struct Chance(u128);

impl Chance {
    /// `floor(rate 2^64)` of them; `rate` is at most 1. The product with a power of two is exact.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 2^64")]
    fn new(rate: f64) -> Self {
        const NUMBERS: f64 = (1u128 << 64) as f64;
        Self((rate * NUMBERS) as u128)
    }

    /// Each of `rows` rows with this chance, independently: a Poisson batch, which may be empty.
    fn batch(self, rows: usize, draws: &mut impl Rng) -> Result<Vec<usize>, PrivacyError> {
        let mut batch = Vec::new();
        for row in 0..rows {
            if u128::from(draws.next_u64()) < self.0 {
                batch.push(row);
                if batch.len() > TERMS_MAX {
                    return Err(PrivacyError::BatchTooLarge { rows: batch.len(), max: TERMS_MAX });
                }
            }
        }
        Ok(batch)
    }
}

/// Sums of clipped gradients over batches of a data set.
struct ClippedSums<'a> {
    data: &'a Dataset,
    clip: f64,
    network: Network,
    features: Vec<f32>,
    labels: Vec<u32>,
}

impl<'a> ClippedSums<'a> {
    fn new(architecture: Architecture, data: &'a Dataset, clip: f64) -> Self {
        Self { data, clip, network: Network::new(architecture), features: Vec::new(), labels: Vec::new() }
    }

    /// Overwrites `sum` with the sum over the rows of `batch`.
    fn of(&mut self, weights: &[f32], batch: &[usize], sum: &mut [f64]) {
        sum.fill(0.0);
        for rows in batch.chunks(CHUNK) {
            self.features.clear();
            self.labels.clear();
            for &row in rows {
                self.features.extend_from_slice(self.data.row(row));
                self.labels.push(self.data.labels()[row]);
            }
            let batch = Batch { features: &self.features, labels: &self.labels };
            self.network.add_clipped(weights, batch, self.clip, sum);
        }
    }
}
