//! Why an encoding, an input or a sum is refused.

use super::{
    CLIP_NORM_MAX, CLIP_NORM_MIN, COHORT_MIN, METRICS_MAX, MODEL_LEN_MAX, PRECISION_BITS_MAX, RingBits, SUM_MAX,
};

/// Why numbers cannot make an encoding; each message says which one to change.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodingError {
    /// No values, or too many.
    #[error("a model of {got} values cannot be encoded: model_len must be 1 to {MODEL_LEN_MAX}")]
    ModelLen {
        /// Values of the model.
        got: usize,
    },
    /// The sum of one input is that input.
    #[error("a cohort of {got} would reveal its inputs: cohort_max must be at least {COHORT_MIN}")]
    Cohort {
        /// Largest cohort.
        got: u32,
    },
    /// NaN, infinite, not positive, or out of any sensible range.
    #[error("clip_norm is {got:?}: it must be a number from {CLIP_NORM_MIN:e} to {CLIP_NORM_MAX:e}")]
    ClipNorm {
        /// The clip norm.
        got: f64,
    },
    /// No weight would be allowed.
    #[error("max_weight is 0: it must be at least 1")]
    MaxWeight,
    /// Too coarse or too fine.
    #[error("precision_bits is {got}: it must be 1 to {PRECISION_BITS_MAX}")]
    Precision {
        /// Bits of resolution.
        got: u32,
    },
    /// Over the limit.
    #[error("{got} metrics are asked for: at most {METRICS_MAX} are supported")]
    TooManyMetrics {
        /// Metrics.
        got: usize,
    },
    /// No name, or the name of another metric.
    #[error("metric {index} is named `{name}`: give each metric a name of its own")]
    MetricName {
        /// Position among the metrics.
        index: usize,
        /// Its name.
        name: String,
    },
    /// A range or grid that is none.
    #[error(
        "metric `{name}` has max {max:?} and resolution {resolution:?}: both must be positive and max not the smaller"
    )]
    MetricRange {
        /// The metric.
        name: String,
        /// Its largest value.
        max: f64,
        /// Its grid.
        resolution: f64,
    },
    /// A minimum above 0 or further from it than the maximum.
    #[error("metric `{name}` has min {min:?} and max {max:?}: min must be at most 0 and at least -max")]
    MetricMin {
        /// The metric.
        name: String,
        /// Its smallest value.
        min: f64,
        /// Its largest value.
        max: f64,
    },
    /// Sums of this metric would not be exact.
    #[error(
        "sums of metric `{name}`, up to {max:?} in steps of {resolution:?}, exceed {SUM_MAX} steps: raise its resolution above {least:e} or lower its max"
    )]
    MetricSum {
        /// The metric.
        name: String,
        /// Its largest value.
        max: f64,
        /// Its grid.
        resolution: f64,
        /// About the finest grid that fits.
        least: f64,
    },
    /// Sums of weights would not be exact.
    #[error("{cohort_max} weights of up to {max_weight} sum to more than {SUM_MAX}: lower max_weight or cohort_max")]
    WeightSum {
        /// Largest weight.
        max_weight: u32,
        /// Largest cohort.
        cohort_max: u32,
    },
    /// Sums of model entries would not be exact.
    #[error(
        "sums of {cohort_max} updates at precision_bits {precision_bits} exceed {SUM_MAX}: lower precision_bits to {most} or lower cohort_max"
    )]
    ModelSum {
        /// Bits of resolution.
        precision_bits: u32,
        /// Largest cohort.
        cohort_max: u32,
        /// Most bits that fit.
        most: u32,
    },
    /// Sums with noise on them would not be exact, or the noise is no number.
    #[error("noise of standard deviation {sigma} grid steps on a sum exceeds {SUM_MAX}: lower precision_bits")]
    Noise {
        /// The largest standard deviation, in grid steps.
        sigma: f64,
    },
}

/// Why an input is not encoded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The update of another model.
    #[error("the update has {got} values, the model has {expected}")]
    UpdateLen {
        /// Values of the model.
        expected: usize,
        /// Values of the update.
        got: usize,
    },
    /// NaN or an infinity.
    #[error("value {index} of the update is {value}: training has diverged, lower the learning rate")]
    NotFinite {
        /// Position in the flat vector.
        index: usize,
        /// The value.
        value: f32,
    },
    /// Nothing was trained on.
    #[error("the weight is 0: a participant without examples stays out of the round")]
    WeightZero,
    /// More or fewer metrics than agreed.
    #[error("{got} metrics were given, the encoding has {expected}")]
    MetricCount {
        /// Metrics of the encoding.
        expected: usize,
        /// Metrics given.
        got: usize,
    },
    /// NaN or an infinity.
    #[error("metric `{name}` is {value}: it must be a finite number")]
    Metric {
        /// The metric.
        name: String,
        /// Its value.
        value: f64,
    },
    /// Elements behind the metrics that are not those of this encoding.
    #[error(
        "{got} ring elements were given for behind the metrics, the encoding has {expected}, or they do not fit the ring"
    )]
    Elements {
        /// Elements of the encoding.
        expected: usize,
        /// Elements given.
        got: usize,
    },
    /// The source of randomness is broken.
    #[error("rounding exceeded the norm bound {tries} times in a row: the source of randomness is broken")]
    Rounding {
        /// Tries.
        tries: u32,
    },
}

/// Why a vector is not the sum of that many honest inputs.
///
/// It is shown to those who may not see the sum: nothing in it depends on the sum's values but the answer itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The vector of another encoding.
    #[error("the sum has {got_len} values of {got_bits} bits, the encoding {len} of {bits}")]
    Shape {
        /// Elements of the encoding.
        len: usize,
        /// Ring of the encoding.
        bits: RingBits,
        /// Elements of the sum.
        got_len: usize,
        /// Ring of the sum.
        got_bits: RingBits,
    },
    /// None, or more than the ring was made for.
    #[error("a sum of {contributors} inputs cannot be decoded: the encoding is for 1 to {cohort_max}")]
    Contributors {
        /// Inputs in the sum.
        contributors: u32,
        /// Largest cohort.
        cohort_max: u32,
    },
    /// Too little or too much weight.
    #[error("the sum of weights is not one of {min} to {max}, which honest inputs give: discard the sum")]
    Weight {
        /// The least it can be.
        min: u64,
        /// The most it can be.
        max: u64,
    },
    /// A model entry is too large.
    #[error("an entry of the sum exceeds {max} steps, which honest inputs cannot: discard the sum")]
    Entry {
        /// The largest magnitude.
        max: u64,
    },
    /// The model part is too long.
    #[error("the norm of the sum exceeds what honest inputs can have: discard the sum")]
    Norm,
    /// A metric is too small or too large.
    #[error("the sum of metric `{name}` is not one of {min} to {max} steps, which honest inputs give: discard the sum")]
    Metric {
        /// The metric.
        name: String,
        /// The least it can be, without noise that the sum carries.
        min: i64,
        /// The most it can be, without that.
        max: u64,
    },
}
