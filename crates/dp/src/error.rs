//! What can be wrong with a question about privacy.

/// Why a question about privacy has no answer here.
///
/// No variant is ever replaced by a guess: a caller that cannot fix its input must not release anything.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DpError {
    /// A real parameter is not a number, or lies outside of the range in which the formulas are evaluated safely.
    #[error("{what} is {value}, it must lie in [{least:e}, {most:e}]")]
    OutOfRange {
        /// The parameter's name.
        what: &'static str,
        /// What was given.
        value: f64,
        /// The least value that is accepted.
        least: f64,
        /// The largest value that is accepted.
        most: f64,
    },
    /// A count is zero or too large.
    #[error("{what} is {value}, it must lie in {least} to {most}")]
    CountOutOfRange {
        /// The parameter's name.
        what: &'static str,
        /// What was given.
        value: u64,
        /// The least value that is accepted.
        least: u64,
        /// The largest value that is accepted.
        most: u64,
    },
    /// No theorem covers this combination of mechanism, sampling, relation and unit.
    #[error("no theorem: {0}")]
    NoTheorem(&'static str),
    /// A list of orders is empty, unsorted, or has an order that is not a finite number above 1.
    #[error("orders must be finite, above 1 and rise: order {order} at place {at}")]
    BadOrders {
        /// Index of the first bad order.
        at: usize,
        /// The order itself; NaN for an empty list.
        order: f64,
    },
    /// Bytes that are not the canonical form of an event.
    #[error("not an event: {0}")]
    NotAnEvent(&'static str),
    /// The mechanism has no privacy loss distribution here, only a Renyi curve.
    #[error("no privacy loss distribution: {0}; account it by Renyi orders")]
    NoLossDistribution(&'static str),
    /// No noise (or no number of rounds) within the accepted range meets the target.
    #[error("{what}: no value from {least:e} to {most:e} meets epsilon {epsilon} at delta {delta:e}")]
    Unreachable {
        /// What was to be calibrated.
        what: &'static str,
        /// Least value that was tried.
        least: f64,
        /// Largest value that was tried.
        most: f64,
        /// The target.
        epsilon: f64,
        /// The target.
        delta: f64,
    },
    /// A numeric method cannot promise its error bound for these parameters. Use another accountant.
    #[error("{method} cannot bound its own error here: {why}")]
    NotConverging {
        /// The method.
        method: &'static str,
        /// What went wrong.
        why: &'static str,
    },
    /// The pessimistic figure lies below the independent one: a defect of this crate. Nothing may be released.
    #[error("accountants disagree: pessimistic epsilon {pessimistic} lies below the second opinion {opinion}")]
    Disagreement {
        /// From the privacy loss distribution.
        pessimistic: f64,
        /// From the transform inversion.
        opinion: f64,
    },
}

/// Checks that a real parameter lies in `[least, most]`; NaN does not.
pub(crate) fn in_range(what: &'static str, value: f64, least: f64, most: f64) -> Result<f64, DpError> {
    if value >= least && value <= most { Ok(value) } else { Err(DpError::OutOfRange { what, value, least, most }) }
}

/// Checks that a count lies in `least..=most`.
pub(crate) fn count_in_range(what: &'static str, value: u64, least: u64, most: u64) -> Result<u64, DpError> {
    if (least..=most).contains(&value) { Ok(value) } else { Err(DpError::CountOutOfRange { what, value, least, most }) }
}

/// Checks a delta: from `1e-300` to just below 1.
pub(crate) fn check_delta(delta: f64) -> Result<f64, DpError> {
    in_range("delta", delta, DELTA_MIN, DELTA_MAX)
}

/// Below this, logarithms of tails leave the doubles.
const DELTA_MIN: f64 = 1e-300;
/// A delta of 1 promises nothing.
const DELTA_MAX: f64 = 1.0 - f64::EPSILON;
