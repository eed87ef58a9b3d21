//! How the records of a site are protected while it trains: what a policy asks for, and noise on metrics.

use std::collections::BTreeMap;

use sordino_dp::noise::{NoiseError, NoiseRng, SumGrid, Unseeded};

use super::dataset::Dataset;
use super::model::{Architecture, Batch, Network};
use super::sgd::InvalidHyperparameters;
use super::trainer::{METRIC_CORRECT, METRIC_LOSS_SUM};

/// How records are protected while a site trains (DP-SGD, Abadi et al. 2016).
///
/// All numbers are public constants of the policy. What one record may change, by being there or not, is the sum of a
/// step's gradients, by at most `example_clip`, and each metric, by at most its `record_max`. The sum is noised here; the
/// metrics by [`noise_metrics`], at a multiplier of their own. The divisor of a step is the public
/// `hyperparameters.batch_size`, whatever the number of rows drawn; `hyperparameters.local_epochs` is not used.
///
/// Not protected is what comes before: features that were scaled by statistics of the site's rows
/// ([`Scaling::ZScore`](super::Scaling)) let one record change all others.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordPrivacy {
    /// L2 norm that the gradient of one record is clipped to.
    pub example_clip: f64,
    /// Noise standard deviation over the sensitivity of one step's sum.
    pub noise_multiplier: f64,
    /// Chance with which each record enters a step, independently; a public constant of the policy.
    pub sampling_rate: f64,
    /// Steps of a round; public.
    pub steps: u32,
    /// For each metric: what one record adds to it at most (from 0). 1 for a metric that is not named.
    pub record_max: BTreeMap<String, f64>,
}

impl RecordPrivacy {
    /// Checks the ranges: rates in (0, 1], all else above 0.
    ///
    /// # Errors
    /// [`InvalidHyperparameters`] names the field.
    pub fn validate(&self) -> Result<(), InvalidHyperparameters> {
        let Self { example_clip, noise_multiplier, sampling_rate, steps, ref record_max } = *self;
        let fits = |fits: bool, field, value: String, range| match fits {
            true => Ok(()),
            false => Err(InvalidHyperparameters { field, value, range }),
        };
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let clip = example_clip.to_string();
        fits(positive(example_clip), "privacy.example_clip", clip, "above 0 and finite")?;
        let multiplier = noise_multiplier.to_string();
        fits(positive(noise_multiplier), "privacy.noise_multiplier", multiplier, "above 0 and finite")?;
        let rate_fits = sampling_rate > 0.0 && sampling_rate <= 1.0;
        fits(rate_fits, "privacy.sampling_rate", sampling_rate.to_string(), "above 0 and at most 1")?;
        fits(steps > 0, "privacy.steps", steps.to_string(), "at least 1")?;
        record_max.values().try_for_each(|max| {
            fits(RECORD_MAX_RANGE.contains(max), "privacy.record_max", max.to_string(), "from 1e-9 to 1e9")
        })
    }
}

/// Why nothing can be released: the caller's numbers have no noise, or there is no entropy to draw it from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivacyError {
    /// The policy's numbers are outside of what noise can be drawn for: tell its operator.
    #[error("no noise can be drawn for the task's privacy settings")]
    Noise(#[from] NoiseError),
    /// The operating system gave no entropy for noise.
    #[error(transparent)]
    Unseeded(#[from] Unseeded<getrandom::Error>),
    /// The operating system gave no entropy for the draw of batches.
    #[error("the operating system gave no entropy to draw batches from, nothing may be released")]
    Entropy(#[from] getrandom::Error),
    /// More rows were drawn for a step than rounding errors are accounted for. This alone depends on the records: whoever
    /// sees a site fall silent learns that it has too many rows for the rate.
    #[error("a step drew {rows} rows, {max} is the most: lower the task's sampling rate")]
    BatchTooLarge {
        /// Rows drawn, until it was one too many.
        rows: usize,
        /// Most rows.
        max: usize,
    },
}

/// Puts noise on every metric, fresh from the operating system: a discrete Gaussian of `multiplier` times what one record
/// can change. Each is one release of [`SumGrid::new`]`(record_max, 1, multiplier)`, for all records: no sampling.
///
/// - `metrics`: sums over records, of which each adds from 0 to its `record_max` (1 where none is named). They may come
///   out negative.
///
/// # Errors
/// [`PrivacyError`]; the metrics are then void.
pub fn noise_metrics(
    metrics: &mut BTreeMap<String, f64>,
    record_max: &BTreeMap<String, f64>,
    multiplier: f64,
) -> Result<(), PrivacyError> {
    noise_metrics_with(metrics, record_max, multiplier, &mut NoiseRng::from_os(getrandom::fill)?)
}

fn noise_metrics_with(
    metrics: &mut BTreeMap<String, f64>,
    record_max: &BTreeMap<String, f64>,
    multiplier: f64,
    noise: &mut NoiseRng,
) -> Result<(), PrivacyError> {
    for (name, value) in metrics {
        let grid = SumGrid::new(max_of(record_max, name), 1, multiplier)?;
        grid.noise(std::slice::from_mut(value), noise)?;
    }
    Ok(())
}

/// The metrics of a built-in model, each record's part held within `[0, record_max]`: without noise.
pub(super) fn measure(
    architecture: Architecture,
    weights: &[f32],
    data: &Dataset,
    record_max: &BTreeMap<String, f64>,
) -> BTreeMap<String, f64> {
    let mut network = Network::new(architecture);
    let [mut loss, mut correct] =
        [METRIC_LOSS_SUM, METRIC_CORRECT].map(|name| BoundedSum::new(max_of(record_max, name)));
    for (features, label) in data.features().chunks_exact(data.columns()).zip(data.labels()) {
        let record = network.evaluate(weights, Batch { features, labels: std::slice::from_ref(label) });
        loss.add(record.loss_sum);
        correct.add(record.correct as f64);
    }
    [(METRIC_LOSS_SUM, loss), (METRIC_CORRECT, correct)].map(|(name, sum)| (name.to_owned(), sum.sum)).into()
}

fn max_of(record_max: &BTreeMap<String, f64>, name: &str) -> f64 {
    record_max.get(name).copied().unwrap_or(1.0)
}

/// A sum of numbers from 0 to `max` that is exact, however many rows there are: what is added is rounded down to a
/// multiple of a power of two, `2^-29` of the maximum, so that `2^24` of them, more than rows, stay within the 53 bits of
/// an f64. Without this, rounding of a long sum could add to what one record changes.
struct BoundedSum {
    max: f64,
    quantum: f64,
    sum: f64,
}

impl BoundedSum {
    fn new(max: f64) -> Self {
        Self { max, quantum: 2.0_f64.powf(max.log2().ceil() - QUANTA_LOG2), sum: 0.0 }
    }

    /// What is not finite counts as the maximum.
    fn add(&mut self, value: f64) {
        let bounded = if value.is_finite() { value.clamp(0.0, self.max) } else { self.max };
        self.sum += (bounded / self.quantum).floor() * self.quantum;
    }
}

/// See [`BoundedSum`].
const QUANTA_LOG2: f64 = 29.0;
/// Far from where powers of two end.
const RECORD_MAX_RANGE: std::ops::RangeInclusive<f64> = 1e-9..=1e9;
