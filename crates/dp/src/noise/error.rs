//! Why noise could not be made.

/// What is wrong with a request for noise. Nothing was drawn and nothing was changed, unless a variant says so.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NoiseError {
    /// A parameter outside its range, or not a number.
    #[error("{name} is {got}, it has to be {want}")]
    Parameter {
        /// Which parameter.
        name: &'static str,
        /// What was given.
        got: f64,
        /// What would be right.
        want: &'static str,
    },
    /// A count outside its range.
    #[error("{name} is {got}, it has to be {want}")]
    Count {
        /// Which count.
        name: &'static str,
        /// What was given.
        got: u64,
        /// What would be right.
        want: &'static str,
    },
    /// Two vectors that belong together differ in length.
    #[error("{name} has {got} elements, {want} are expected")]
    Length {
        /// Which vector.
        name: &'static str,
        /// Its length.
        got: usize,
        /// The length it should have.
        want: usize,
    },
    /// An element of an update is not finite. Leave this update out.
    #[error("element {at} of the update is not a finite number")]
    NotFinite {
        /// Its index.
        at: usize,
    },
    /// An element with its noise does not fit 64 bits. The vector is partly noised and must be thrown away.
    #[error("element {at} with its noise does not fit 64 bits: the grid is too fine for these values")]
    Overflow {
        /// Its index.
        at: usize,
    },
    /// No survivor set could carry the noise.
    #[error(
        "of {min_survivors} survivors {max_corrupt} may know their own noise: nobody is left to carry it; raise the \
         threshold or lower the assumed number of corrupt participants"
    )]
    NobodyCarries {
        /// Fewest participants of a sum that opens.
        min_survivors: u32,
        /// Assumed corrupt.
        max_corrupt: u32,
    },
    /// The share is so small on the grid that a sum of discrete Gaussians is not one.
    #[error(
        "each participant would add noise of standard deviation {sigma:.3} grid units, at least {min} are needed: choose \
         a finer grid or a smaller cohort"
    )]
    ShareTooSmall {
        /// The share's standard deviation in grid units.
        sigma: f64,
        /// The least that is accepted.
        min: f64,
    },
    /// No theorem bounds the sensitivity for these parameters.
    #[error("no bound on the sensitivity is known here: {why}")]
    NoTheorem {
        /// What is missing.
        why: &'static str,
    },
    /// Bytes that are not the state of a run.
    #[error("these bytes are not the state of a run of correlated noise: restore the stored state, or begin a new run")]
    BadState,
    /// All planned steps have been taken.
    #[error("the mechanism was planned for {steps} steps and all are taken: plan a new one, at a new cost")]
    Finished {
        /// The plan.
        steps: u32,
    },
}

/// A finite number above zero.
pub(super) fn positive(name: &'static str, got: f64) -> Result<f64, NoiseError> {
    if got.is_finite() && got > 0.0 {
        Ok(got)
    } else {
        Err(NoiseError::Parameter { name, got, want: "finite and > 0" })
    }
}

/// A count of at least one.
pub(super) fn at_least_one(name: &'static str, got: u64) -> Result<u64, NoiseError> {
    if got > 0 { Ok(got) } else { Err(NoiseError::Count { name, got, want: "at least 1" }) }
}

/// Slightly more than `x`, by more than what a few operations in f64 may have lost. For bounds that must not fall below
/// the truth.
pub(super) fn up(x: f64) -> f64 {
    (x * (1.0 + ROUNDING_SLACK)).next_up()
}

/// Relative: 32 roundings.
const ROUNDING_SLACK: f64 = 32.0 * f64::EPSILON;
