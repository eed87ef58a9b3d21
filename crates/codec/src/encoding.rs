//! A participant's input as one vector of integers: its fields, their bounds, and where the ring size is decided.
//!
//! The fields, in order: `model_len` values `round(w * u_j / step)` of the clipped update `u` and its weight `w`; the
//! weight `w` itself; one integer per metric. Sums of such vectors give the weighted mean `sum(w u) / sum(w)` without
//! any weight or metric travelling beside the vector, where it would be seen.
//!
//! # Overflow
//! In one honest input a model entry is at most `floor(sqrt(B^2))` in magnitude, where `B` is the [norm
//! bound](Encoding::norm_bound) at the largest weight; the weight is at most `max_weight`, and metric `k` at most
//! `ceil(max_k / resolution_k)` in magnitude, since no minimum is further from 0 than its maximum. With `M` the largest of
//! these, a sum over at most `cohort_max` inputs lies in `[-cohort_max * M, cohort_max * M]`, and `b` is the smallest ring
//! with `cohort_max * M < 2^(b-1)`: a sum cannot wrap around. The norm bound, not the (sometimes smaller) largest rounded
//! entry, stands in it because it is what a norm proof shows of an input that somebody else made.
//!
//! Where participants add noise for privacy, what it may reach is added to that: see [`Encoding::with_noise`].
//!
//! Behind the metrics a vector may carry further ring elements, which are summed and mean nothing here: see
//! [`Encoding::with_elements`].
//!
//! Sums are also at most [`SUM_MAX`], so that decoding to f64 is exact; no encoding needs more than 55 bits.

mod error;
mod rounding;

use std::fmt;

use rand_core::CryptoRng;

use crate::ring::{LanesMut, RingBits, RingVector};
pub use error::{DecodeError, EncodeError, EncodingError};

/// What an encoding is made from; every participant of a round uses the same numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodingSpec {
    /// Values of the model, `d`.
    pub model_len: usize,
    /// Participants whose inputs are summed at most.
    pub cohort_max: u32,
    /// L2 norm that updates are clipped to, before weighting.
    pub clip_norm: f64,
    /// Largest weight (number of examples) of one participant; larger ones are capped.
    pub max_weight: u32,
    /// Bits of resolution: an update of full norm and weight is about `2^precision_bits` grid steps long.
    pub precision_bits: u32,
    /// Numbers beside the model that are summed over the cohort.
    pub metrics: Vec<MetricSpec>,
}

/// A number that each participant reports and that is released as a sum, such as a loss sum or a count.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSpec {
    /// Unique in its encoding.
    pub name: String,
    /// One participant's value is clamped into `[min, max]`. 0 for what cannot be negative; `-max` for what carries noise
    /// already, which would be biased upwards by a cut at 0.
    pub min: f64,
    /// Positive, and no nearer to 0 than `min`.
    pub max: f64,
    /// Distance of neighbouring values on the grid; 1 for a count.
    pub resolution: f64,
}

/// Turns updates into ring vectors and sums of them into means.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoding {
    spec: EncodingSpec,
    bits: RingBits,
    /// Grid step, a power of two.
    step: f64,
    /// Largest integer of each metric.
    metric_bounds: Vec<u64>,
    /// Magnitude of the most negative one, at most that.
    metric_floors: Vec<u64>,
    /// Noise that a sum carries.
    noise: SumNoise,
    /// Ring elements behind the metrics.
    elements: usize,
}

/// Noise that a whole cohort adds to a sum, as standard deviations in grid steps. None: all zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SumNoise {
    /// On each model entry.
    pub model: f64,
    /// On each metric, in steps of its resolution, in their order; none counts as zero for all.
    pub metrics: Vec<f64>,
}

impl SumNoise {
    /// Noise of this standard deviation on one value stays within that, but for a chance below 2^-103: that of 12
    /// standard deviations of a sub-Gaussian variable, for sums of discrete Gaussians.
    fn reach(sigma: f64) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and saturating")]
        let reach = (DEVIATIONS * sigma).ceil() as u64;
        reach
    }

    fn metric(&self, k: usize) -> u64 {
        Self::reach(self.metrics.get(k).copied().unwrap_or(0.0))
    }
}

/// A sum that was checked, as integers. It may lack the noise that it is to be released with: it is wiped when dropped,
/// and `Debug` prints its size only.
#[derive(Clone, PartialEq, Eq, zeroize::ZeroizeOnDrop)]
pub struct Sums {
    /// Sum of the model entries, `[model_len]`, in grid steps.
    pub model: Vec<i64>,
    /// Sum of the weights.
    pub weight: u64,
    /// Sums of the metrics, in steps of their resolutions.
    pub metrics: Vec<i64>,
    /// Inputs in the sum.
    pub contributors: u32,
}

impl Sums {
    /// All of it in the order of the encoding's fields.
    pub fn integers(&self) -> impl Iterator<Item = i64> + '_ {
        let weight = i64::try_from(self.weight).unwrap_or(i64::MAX);
        self.model.iter().copied().chain([weight]).chain(self.metrics.iter().copied())
    }

    /// Adds a sum of other inputs in the same encoding.
    pub fn add(&mut self, other: &Self) {
        let add = |sum: &mut [i64], more: &[i64]| sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        add(&mut self.model, &other.model);
        add(&mut self.metrics, &other.metrics);
        self.weight += other.weight;
        self.contributors += other.contributors;
    }
}

impl fmt::Debug for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sums").field("len", &self.model.len()).finish_non_exhaustive()
    }
}

/// What a sum of updates is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divisor {
    /// The sum of the weights.
    Weight,
    /// This many inputs of weight 1, whoever is in the sum: a number that was fixed before anybody answered.
    Fixed(std::num::NonZeroU32),
}

/// One participant's input, ready to be masked. The vector is wiped when dropped; `Debug` prints its size only.
pub struct EncodedInput {
    /// Model entries, weight and metrics.
    pub vector: RingVector,
    /// The weight used.
    pub weight: u32,
    /// Whether the weight given was above the largest one.
    pub weight_capped: bool,
    /// L2 norm of the update before clipping.
    pub norm: f64,
    /// Whether the update was scaled down to the clip norm.
    pub clipped: bool,
    /// Whether a metric was outside its range.
    pub metrics_clamped: bool,
}

/// What the sum of a cohort's inputs says.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// Weighted mean update, `sum(w u)` over the divisor, `[model_len]`.
    pub mean: Vec<f32>,
    /// Sum of the weights.
    pub weight_sum: u64,
    /// Sum of each metric, in the order of the encoding.
    pub metrics: Vec<f64>,
    /// Inputs in the sum.
    pub contributors: u32,
}

/// Largest L2 norm, in grid steps, of the model entries of one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NormBound {
    squared: u128,
}

impl NormBound {
    /// The square of the bound: a sum of squared integers must not be greater.
    pub fn squared(self) -> u128 {
        self.squared
    }

    /// Largest magnitude of a single entry under the bound.
    pub fn entry_max(self) -> u64 {
        u64::try_from(self.squared.isqrt()).unwrap_or(u64::MAX)
    }
}

impl Encoding {
    /// Derives grid step, bounds and ring size.
    ///
    /// # Errors
    /// [`EncodingError`]: these numbers cannot work together; the message says which one to change.
    pub fn new(spec: EncodingSpec) -> Result<Self, EncodingError> {
        check_spec(&spec)?;
        let metric_bounds =
            spec.metrics.iter().map(|metric| metric_bound(metric, &spec)).collect::<Result<Vec<_>, _>>()?;
        let metric_floors = spec.metrics.iter().map(metric_floor).collect::<Result<_, _>>()?;

        let (cohort_max, max_weight) = (spec.cohort_max, spec.max_weight);
        if !sum_fits(u64::from(max_weight), cohort_max) {
            return Err(EncodingError::WeightSum { max_weight, cohort_max });
        }
        let step = grid_step(&spec, spec.precision_bits);
        let entry_max = norm_bound(&spec, step, max_weight).entry_max();
        if !sum_fits(entry_max, cohort_max) {
            return Err(too_precise(&spec));
        }

        let largest = metric_bounds.iter().copied().fold(entry_max.max(u64::from(max_weight)), u64::max);
        let bits = ring_bits(largest, cohort_max);
        Ok(Self { spec, bits, step, metric_bounds, metric_floors, noise: SumNoise::default(), elements: 0 })
    }

    /// The same with room for noise that participants add to their inputs: the ring holds a sum with 12 standard deviations
    /// of it on every value. A value beyond wraps around, which costs accuracy and no privacy.
    ///
    /// # Errors
    /// [`EncodingError::Noise`]: sums with that noise fit no ring.
    pub fn with_noise(self, noise: SumNoise) -> Result<Self, EncodingError> {
        let cohort = u64::from(self.spec.cohort_max);
        let entry_max = self.norm_bound(self.spec.max_weight).entry_max();
        let mut largest = cohort * entry_max.max(u64::from(self.spec.max_weight));
        largest = largest.max((cohort * entry_max).saturating_add(SumNoise::reach(noise.model)));
        for (k, bound) in self.metric_bounds.iter().enumerate() {
            largest = largest.max((cohort * bound).saturating_add(noise.metric(k)));
        }
        let finite = noise.metrics.iter().chain([&noise.model]).all(|sigma| sigma.is_finite() && *sigma >= 0.0);
        if !finite || largest > SUM_MAX {
            return Err(EncodingError::Noise { sigma: noise.metrics.iter().copied().fold(noise.model, f64::max) });
        }
        Ok(Self { bits: ring_bits(largest, 1), noise, ..self })
    }

    /// The same with so many ring elements behind the metrics. [`Self::encode`] leaves them 0 for the caller to set, sums of
    /// them are read by [`Self::elements_of`]; that these do not wrap around is the caller's affair.
    #[must_use]
    pub fn with_elements(self, elements: usize) -> Self {
        Self { elements, ..self }
    }

    /// What it was made from.
    pub fn spec(&self) -> &EncodingSpec {
        &self.spec
    }

    /// The ring: the smallest that holds every sum of honest inputs.
    pub fn bits(&self) -> RingBits {
        self.bits
    }

    /// Elements of a vector: model entries, the weight, metrics, and what is carried behind them.
    #[expect(clippy::len_without_is_empty, reason = "it always holds a model and a weight")]
    pub fn len(&self) -> usize {
        self.integers() + self.elements
    }

    /// Elements of a vector that are integers of this encoding: model entries, the weight, metrics.
    pub fn integers(&self) -> usize {
        self.spec.model_len + 1 + self.spec.metrics.len()
    }

    /// Sets the elements behind the metrics.
    ///
    /// # Errors
    /// [`EncodeError::Elements`]: another number of them, one beyond the ring, or the vector of another encoding.
    pub fn set_elements(&self, vector: &mut RingVector, elements: &[u64]) -> Result<(), EncodeError> {
        let largest = u64::MAX >> (RingBits::MAX.get() - self.bits.get());
        let fits = elements.iter().all(|&element| element <= largest);
        if elements.len() != self.elements || !fits || vector.len() != self.len() || vector.bits() != self.bits {
            return Err(EncodeError::Elements { expected: self.elements, got: elements.len() });
        }
        for (at, element) in (self.integers()..).zip(elements) {
            vector.set(at, *element);
        }
        Ok(())
    }

    /// The elements behind the metrics, each from 0 to `2^b - 1`; empty for the vector of another encoding.
    pub fn elements_of(&self, vector: &RingVector) -> Vec<u64> {
        (self.integers()..self.len()).map_while(|at| vector.get(at)).collect()
    }

    /// Grid step of the weighted update, a power of two.
    pub fn step(&self) -> f64 {
        self.step
    }

    /// Norm bound of an input with this weight, in grid steps.
    ///
    /// With `c = weight * clip_norm / step` and `d = model_len`:
    /// `B^2 = floor(c^2 + d/4 + sqrt(2 ln(1/beta)) * (c + sqrt(d)/2))` with `beta = e^(-1/2)`, where the square root is 1.
    /// This is the bound for conditional randomised rounding of [KLS21], section 4, and stochastic rounding of a vector
    /// of norm `c` is within it with probability at least `1 - beta`: the expected squared norm is at most `c^2 + d/4`,
    /// since an entry varies by at most 1/4; the square of an entry between `f` and `f + 1` takes two values that are
    /// `2f + 1` apart, so that by Hoeffding the deviation is subgaussian with parameter `|f + 1/2| <= c + sqrt(d)/2`.
    /// (Their other bound, `(c + sqrt(d))^2`, is never the smaller one at this `beta`.) Computed with f64 operations
    /// that IEEE 754 rounds correctly, hence alike everywhere.
    ///
    /// [KLS21]: https://arxiv.org/abs/2102.06387
    pub fn norm_bound(&self, weight: u32) -> NormBound {
        norm_bound(&self.spec, self.step, weight)
    }

    /// Clips, weights and rounds an update, and puts weight and metrics behind it.
    ///
    /// Rounding is stochastic, hence unbiased: `y` becomes `floor(y) + 1` with probability `y - floor(y)` (to 2^-64).
    /// Since that can lengthen a vector, the whole vector is rounded anew until its exact integer norm is within the
    /// bound of its weight; only vectors close to the full norm ever are, and only for them the condition leaves a bias.
    /// Takes 8 bytes of randomness per value and try, and per metric.
    ///
    /// - `update`: `[model_len]`, finite.
    /// - `weight`: at least 1; capped at `max_weight`.
    /// - `metrics`: in the order of the encoding, finite; clamped into their ranges.
    ///
    /// # Errors
    /// [`EncodeError`] says which number is not acceptable. [`EncodeError::Rounding`] has a probability below 2^-80 with a
    /// sound source of randomness.
    pub fn encode(
        &self,
        update: &[f32],
        weight: u32,
        metrics: &[f64],
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<EncodedInput, EncodeError> {
        self.check_input(update, weight, metrics)?;
        let norm = rounding::l2_norm(update).map_err(|index| EncodeError::NotFinite { index, value: update[index] })?;
        let used = weight.min(self.spec.max_weight);
        let clipped = norm > self.spec.clip_norm;
        let factor = if clipped { self.spec.clip_norm / norm } else { 1.0 };
        // Exact unless clipped: a weight over a power of two.
        let scale = factor * (f64::from(used) / self.step);

        let mut vector = RingVector::zeros(self.len(), self.bits);
        self.round_model(&mut vector, update, scale, self.norm_bound(used), rng)?;
        vector.set(self.spec.model_len, u64::from(used));
        let mut metrics_clamped = false;
        for (k, (&value, metric)) in metrics.iter().zip(&self.spec.metrics).enumerate() {
            let clamped = value.clamp(metric.min, metric.max);
            metrics_clamped |= clamped != value;
            // Between the floor and the bound, which are the roundings of minimum and maximum away from 0.
            let rounded = rounding::stochastic_round(clamped / metric.resolution, rng.next_u64());
            vector.set(self.spec.model_len + 1 + k, rounded.cast_unsigned());
        }
        Ok(EncodedInput { vector, weight: used, weight_capped: used < weight, norm, clipped, metrics_clamped })
    }

    /// Reads the weighted mean, the weight and the metrics out of the sum of `contributors` inputs.
    ///
    /// # Errors
    /// As [`Encoding::open`].
    pub fn decode(&self, sum: &RingVector, contributors: u32) -> Result<Aggregate, DecodeError> {
        Ok(self.aggregate(&self.open(sum, contributors)?, Divisor::Weight))
    }

    /// Lifts the sum of `contributors` inputs to integers, and checks that it can be one.
    ///
    /// # Errors
    /// [`DecodeError`] when the vector has another shape, or when no `contributors` honest inputs can have this sum:
    /// masks that did not cancel, or an input that broke its bound.
    pub fn open(&self, sum: &RingVector, contributors: u32) -> Result<Sums, DecodeError> {
        let sums = self.lift(sum, contributors)?;
        self.check(&sums, &self.noise)?;
        Ok(sums)
    }

    /// Lifts the sum of `contributors` inputs to integers, and asks nothing of them but a weight: for a sum that gets its
    /// noise before anybody may learn anything of it, be it only whether it can be one. [`Self::check`] it then.
    ///
    /// # Errors
    /// [`DecodeError`]: another shape, or a weight that so many honest inputs cannot have.
    pub fn lift(&self, sum: &RingVector, contributors: u32) -> Result<Sums, DecodeError> {
        if sum.len() != self.len() || sum.bits() != self.bits {
            let (len, bits) = (self.len(), self.bits);
            return Err(DecodeError::Shape { len, bits, got_len: sum.len(), got_bits: sum.bits() });
        }
        if contributors == 0 || contributors > self.spec.cohort_max {
            return Err(DecodeError::Contributors { contributors, cohort_max: self.spec.cohort_max });
        }
        let mut model: Vec<i64> = sum.iter_centered().collect();
        let mut tail = model.split_off(self.spec.model_len);
        let count = u64::from(contributors);

        let max = count * u64::from(self.spec.max_weight);
        let weight = u64::try_from(tail[0])
            .ok()
            .filter(|sum| (count..=max).contains(sum))
            .ok_or(DecodeError::Weight { min: count, max })?;
        let mut metrics = tail.split_off(1);
        metrics.truncate(self.spec.metrics.len());
        Ok(Sums { model, weight, metrics, contributors })
    }

    /// Checks that sums with this noise can be those of honest inputs.
    ///
    /// # Errors
    /// [`DecodeError`]: masks that did not cancel, or an input that broke its bound. It holds no value of the sum.
    pub fn check(&self, sums: &Sums, noise: &SumNoise) -> Result<(), DecodeError> {
        let count = u64::from(sums.contributors);
        self.check_model_sum(&sums.model, count, noise.model)?;
        for (k, (&integer, metric)) in sums.metrics.iter().zip(&self.spec.metrics).enumerate() {
            let (below, max) = (count * self.metric_floors[k], count * self.metric_bounds[k]);
            let most = if integer < 0 { below } else { max }.saturating_add(noise.metric(k));
            if integer.unsigned_abs() > most {
                let min = -i64::try_from(below).unwrap_or(i64::MAX);
                return Err(DecodeError::Metric { name: metric.name.clone(), min, max });
            }
        }
        Ok(())
    }

    /// What sums say, in the units of updates and metrics.
    pub fn aggregate(&self, sums: &Sums, divisor: Divisor) -> Aggregate {
        let divisor = match divisor {
            Divisor::Weight => sums.weight as f64,
            Divisor::Fixed(count) => f64::from(count.get()),
        };
        // The step is a power of two and the sum exact in f64: one rounding in the division, one to f32.
        let mean = sums.model.iter().map(|&integer| to_f32(exact(integer) * self.step / divisor)).collect();
        let metrics = sums.metrics.iter().zip(&self.spec.metrics);
        let metrics = metrics.map(|(&integer, metric)| exact(integer) * metric.resolution).collect();
        Aggregate { mean, weight_sum: sums.weight, metrics, contributors: sums.contributors }
    }

    /// The sum of no inputs.
    #[must_use]
    pub fn zero_sums(&self) -> Sums {
        let metrics = vec![0; self.metric_bounds.len()];
        Sums { model: vec![0; self.spec.model_len], weight: 0, metrics, contributors: 0 }
    }

    /// Largest magnitude of each metric's integer in one input, in their order.
    pub fn metric_bounds(&self) -> &[u64] {
        &self.metric_bounds
    }

    fn check_input(&self, update: &[f32], weight: u32, metrics: &[f64]) -> Result<(), EncodeError> {
        if update.len() != self.spec.model_len {
            return Err(EncodeError::UpdateLen { expected: self.spec.model_len, got: update.len() });
        }
        if weight == 0 {
            return Err(EncodeError::WeightZero);
        }
        if metrics.len() != self.spec.metrics.len() {
            return Err(EncodeError::MetricCount { expected: self.spec.metrics.len(), got: metrics.len() });
        }
        match metrics.iter().zip(&self.spec.metrics).find(|(value, _)| !value.is_finite()) {
            Some((&value, metric)) => Err(EncodeError::Metric { name: metric.name.clone(), value }),
            None => Ok(()),
        }
    }

    fn round_model(
        &self,
        vector: &mut RingVector,
        update: &[f32],
        scale: f64,
        bound: NormBound,
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<(), EncodeError> {
        let bits = self.bits;
        for _ in 0..TRIES_MAX {
            let squared = match vector.lanes_mut() {
                LanesMut::Narrow(lanes) => rounding::round_scaled(&mut lanes[..update.len()], update, scale, bits, rng),
                LanesMut::Wide(lanes) => rounding::round_scaled(&mut lanes[..update.len()], update, scale, bits, rng),
            };
            if squared <= bound.squared {
                return Ok(());
            }
        }
        Err(EncodeError::Rounding { tries: TRIES_MAX })
    }

    /// Entries and norm of a sum are at most `count` times those of one input (triangle inequality), and what its noise
    /// reaches: noise of d values and standard deviation s is longer than `s (sqrt(d) + 12)` with a chance below 2^-103.
    fn check_model_sum(&self, integers: &[i64], count: u64, sigma: f64) -> Result<(), DecodeError> {
        let bound = self.norm_bound(self.spec.max_weight);
        let max = (count * bound.entry_max()).saturating_add(SumNoise::reach(sigma));
        let mut squared = 0u128;
        for integer in integers {
            let magnitude = integer.unsigned_abs();
            if magnitude > max {
                return Err(DecodeError::Entry { max });
            }
            squared = squared.saturating_add(u128::from(magnitude) * u128::from(magnitude));
        }
        let limit = bound.squared.saturating_mul(u128::from(count) * u128::from(count));
        if squared <= limit {
            return Ok(());
        }
        let noise = sigma * ((integers.len() as f64).sqrt() + DEVIATIONS);
        let longest = ((limit as f64).sqrt() + noise).powi(2);
        if noise > 0.0 && squared as f64 <= longest { Ok(()) } else { Err(DecodeError::Norm) }
    }
}

impl fmt::Debug for EncodedInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncodedInput").field("vector", &self.vector).finish_non_exhaustive()
    }
}

fn check_spec(spec: &EncodingSpec) -> Result<(), EncodingError> {
    if spec.model_len == 0 || spec.model_len > MODEL_LEN_MAX {
        return Err(EncodingError::ModelLen { got: spec.model_len });
    }
    if spec.cohort_max < COHORT_MIN {
        return Err(EncodingError::Cohort { got: spec.cohort_max });
    }
    if !(CLIP_NORM_MIN..=CLIP_NORM_MAX).contains(&spec.clip_norm) {
        return Err(EncodingError::ClipNorm { got: spec.clip_norm });
    }
    if spec.max_weight == 0 {
        return Err(EncodingError::MaxWeight);
    }
    if !(1..=PRECISION_BITS_MAX).contains(&spec.precision_bits) {
        return Err(EncodingError::Precision { got: spec.precision_bits });
    }
    if spec.metrics.len() > METRICS_MAX {
        return Err(EncodingError::TooManyMetrics { got: spec.metrics.len() });
    }
    for (k, metric) in spec.metrics.iter().enumerate() {
        let repeated = spec.metrics[..k].iter().any(|other| other.name == metric.name);
        if metric.name.is_empty() || repeated {
            return Err(EncodingError::MetricName { index: k, name: metric.name.clone() });
        }
    }
    Ok(())
}

/// `ceil(max / resolution)`, where that is a number whose sums fit.
fn metric_bound(metric: &MetricSpec, spec: &EncodingSpec) -> Result<u64, EncodingError> {
    let MetricSpec { name, min: _, max, resolution } = metric;
    let (max, resolution) = (*max, *resolution);
    // NaN fails each comparison; a subnormal resolution would lose its precision in the division.
    if !(max.is_finite() && resolution.is_normal() && resolution > 0.0 && max >= resolution) {
        return Err(EncodingError::MetricRange { name: name.clone(), max, resolution });
    }
    let steps = (max / resolution).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 1 and at most 2^53")]
    let bound = (steps <= SUM_MAX as f64).then_some(steps as u64);
    match bound.filter(|&bound| sum_fits(bound, spec.cohort_max)) {
        Some(bound) => Ok(bound),
        None => {
            let least = max * f64::from(spec.cohort_max) / SUM_MAX as f64;
            Err(EncodingError::MetricSum { name: name.clone(), max, resolution, least })
        }
    }
}

/// `ceil(-min / resolution)`, for a metric whose bound is known.
fn metric_floor(metric: &MetricSpec) -> Result<u64, EncodingError> {
    let MetricSpec { ref name, min, max, resolution } = *metric;
    // NaN fails it, too.
    if !(-max..=0.0).contains(&min) {
        return Err(EncodingError::MetricMin { name: name.clone(), min, max });
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 0 and at most the bound")]
    let floor = (-min / resolution).ceil() as u64;
    Ok(floor)
}

/// Step of the grid on which an update of full norm and weight is `2^(p-1)` to `2^p` steps long; a power of two.
fn grid_step(spec: &EncodingSpec, precision_bits: u32) -> f64 {
    let longest = spec.clip_norm * f64::from(spec.max_weight);
    // ceil(log2(longest)) from the bits: a positive normal number within the limits of its factors.
    let exponent = (longest.to_bits() >> F64_FRACTION_BITS) + u64::from(longest.to_bits() & F64_FRACTION != 0);
    f64::from_bits((exponent - u64::from(precision_bits)) << F64_FRACTION_BITS)
}

fn norm_bound(spec: &EncodingSpec, step: f64, weight: u32) -> NormBound {
    let c = f64::from(weight) * spec.clip_norm / step;
    // At most MODEL_LEN_MAX, exact.
    let d = spec.model_len as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive; the cast is the floor")]
    let squared = (c * c + d / 4.0 + (c + d.sqrt() / 2.0)) as u128;
    NormBound { squared }
}

/// Whether sums of `cohort_max` values of magnitude `bound` are exact.
fn sum_fits(bound: u64, cohort_max: u32) -> bool {
    u128::from(bound) * u128::from(cohort_max) <= u128::from(SUM_MAX)
}

/// The smallest `b` with `cohort_max * bound < 2^(b-1)`.
fn ring_bits(bound: u64, cohort_max: u32) -> RingBits {
    let largest = bound * u64::from(cohort_max);
    let b = u8::try_from(largest.ilog2() + 2).expect("sums that fit take at most 55 bits");
    RingBits::new(b).expect("sums that fit take at most 55 bits")
}

/// The error for model sums that are too large, with the precision that would do.
fn too_precise(spec: &EncodingSpec) -> EncodingError {
    let (precision_bits, cohort_max) = (spec.precision_bits, spec.cohort_max);
    let fits = |&p: &u32| sum_fits(norm_bound(spec, grid_step(spec, p), spec.max_weight).entry_max(), cohort_max);
    // One bit always fits: the largest model then has entries below 2^15, and there are less than 2^32 of them.
    let most = (1..precision_bits).rev().find(fits).unwrap_or(1);
    EncodingError::ModelSum { precision_bits, cohort_max, most }
}

/// An integer of magnitude at most [`SUM_MAX`] as f64, exactly.
fn exact(integer: i64) -> f64 {
    integer as f64
}

/// Rounds to f32; means are at most the clip norm long, far inside its range.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what it is for")]
fn to_f32(value: f64) -> f32 {
    value as f32
}

/// Values of a model at most.
pub const MODEL_LEN_MAX: usize = 2_000_000_000;
/// Smallest clip norm.
pub const CLIP_NORM_MIN: f64 = 1e-20;
/// Largest clip norm.
pub const CLIP_NORM_MAX: f64 = 1e20;
/// Most bits of resolution; an f32 has 24.
pub const PRECISION_BITS_MAX: u32 = 40;
/// Metrics of an encoding at most.
pub const METRICS_MAX: usize = 64;
/// Largest magnitude of a sum, 2^53: every integer up to it is an f64.
pub const SUM_MAX: u64 = 1 << 53;
/// A sum of one input would be that input.
const COHORT_MIN: u32 = 2;
/// Tries of conditional rounding: each fails with probability at most e^(-1/2) = 0.61, all with less than 2^-92.
const TRIES_MAX: u32 = 128;
/// Standard deviations of noise that a sum has room for.
const DEVIATIONS: f64 = 12.0;
/// Bits of an f64 below its exponent.
const F64_FRACTION_BITS: u32 = 52;
/// Those bits.
const F64_FRACTION: u64 = (1 << F64_FRACTION_BITS) - 1;
