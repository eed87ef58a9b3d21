//! Zero-concentrated differential privacy: curves that are `rho alpha`.
//!
//! Bun, Steinke 2016 (arXiv:1605.02065): Gaussian noise of multiplier sigma costs `1 / (2 sigma^2)`, also when it is
//! discrete; costs add up, also when later noise is chosen from earlier releases (Whitehouse et al. 2023).

use crate::convert::Converted;
use crate::error::{DpError, check_delta, count_in_range, in_range};
use crate::event::{COUNT_MAX, SCALE_MAX, SCALE_MIN};
use crate::numeric::round_up;

/// `count / (2 sigma^2)`, rounded up: the rho of `count` Gaussian releases of noise multiplier `sigma`.
///
/// # Errors
/// [`DpError::OutOfRange`], [`DpError::CountOutOfRange`] for a bad parameter.
pub fn rho_gaussian(sigma: f64, count: u64) -> Result<f64, DpError> {
    in_range("sigma", sigma, SCALE_MIN, SCALE_MAX)?;
    count_in_range("count", count, 1, COUNT_MAX)?;
    Ok(round_up(count as f64 / (2.0 * sigma * sigma)))
}

/// The epsilon of a curve `rho alpha` at `delta`: the conversion of Canonne, Kamath, Steinke 2020, Prop. 12, with the best
/// real order.
///
/// # Errors
/// [`DpError::OutOfRange`] for a bad parameter.
pub fn epsilon(rho: f64, delta: f64) -> Result<Converted, DpError> {
    in_range("rho", rho, 0.0, 1e30)?;
    check_delta(delta)?;
    if rho == 0.0 {
        return Ok(Converted { epsilon: 0.0, order: f64::INFINITY, at_the_end: false });
    }
    let at = |ln_excess: f64| {
        let excess = ln_excess.exp();
        let alpha = 1.0 + excess;
        // ln(1 - 1/a) = ln(a - 1) - ln(a)
        rho * alpha + ln_excess - alpha.ln() - (delta.ln() + alpha.ln()) / excess
    };
    // Near the best order, excess^2 is about ln(1/delta) / rho; the bracket is generous, and the function has one valley.
    let middle = 0.5 * (-delta.ln() / rho).ln();
    let (mut low, mut high) = (middle - 12.0, middle + 12.0);
    let mut inner = [high - GOLDEN * (high - low), low + GOLDEN * (high - low)];
    let mut values = inner.map(at);
    for _ in 0..ROUNDS {
        if values[0] < values[1] {
            high = inner[1];
            inner = [high - GOLDEN * (high - low), inner[0]];
            values = [at(inner[0]), values[0]];
        } else {
            low = inner[0];
            inner = [inner[1], low + GOLDEN * (high - low)];
            values = [values[1], at(inner[1])];
        }
    }
    let best = if values[0] < values[1] { inner[0] } else { inner[1] };
    // Any order gives a valid figure.
    let epsilon = round_up(at(best).max(0.0) + rho * f64::EPSILON);
    Ok(Converted { epsilon, order: 1.0 + best.exp(), at_the_end: false })
}

/// Share of the bracket that golden-section search keeps.
const GOLDEN: f64 = 0.618_033_988_749_894_9;
/// `24 * 0.618^60` is `7e-12`, far below what moves the value at its minimum.
const ROUNDS: u32 = 60;
