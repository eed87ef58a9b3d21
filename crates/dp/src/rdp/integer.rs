//! Exact divergences of integer noise from its shift, in one dimension: what the bounds for vectors are judged by.

use super::check_order;
use crate::error::{DpError, in_range};
use crate::numeric::LnSum;

/// Divergence between a discrete Gaussian of parameter `sigma2` and its shift by the integer `shift`.
///
/// Completing the square leaves `alpha s^2 / (2 sigma2) + ln(theta((1 - alpha) s) / theta(0)) / (alpha - 1)`, where
/// `theta(m) = sum_k exp(-(k - m)^2 / (2 sigma2))` is largest at 0 (Canonne, Kamath, Steinke 2020, Prop. 5): so the first
/// term alone is a bound.
///
/// # Errors
/// [`DpError::OutOfRange`] for a bad parameter or a shift that is not an integer.
pub fn discrete_gaussian_exact(sigma2: f64, shift: f64, alpha: f64) -> Result<f64, DpError> {
    in_range("sigma2", sigma2, 1e-3, VARIANCE_MAX)?;
    check_shift(shift)?;
    let alpha = check_order(alpha)?;
    let theta = |middle: f64| {
        let middle = middle - middle.round();
        let far = (9.5 * sigma2.sqrt()).ceil() + 40.0;
        let (mut sum, mut k) = (0.0, -far);
        while k <= far {
            sum += (-0.5 * (k - middle).powi(2) / sigma2).exp();
            k += 1.0;
        }
        sum
    };
    let ratio = theta((1.0 - alpha) * shift) / theta(0.0);
    Ok(alpha * shift * shift / (2.0 * sigma2) + ratio.min(1.0).ln() / (alpha - 1.0))
}

/// Divergence between Skellam noise of variance `mu` and its shift by the integer `shift`.
///
/// # Errors
/// [`DpError::OutOfRange`] for a bad parameter or a shift that is not an integer.
pub fn skellam_exact(mu: f64, shift: f64, alpha: f64) -> Result<f64, DpError> {
    in_range("mu", mu, 1e-3, VARIANCE_MAX)?;
    check_shift(shift)?;
    in_range("order", alpha, super::ORDER_MIN, EXACT_ORDER_MAX)?;
    // The terms move out by up to alpha shifts.
    let far = (38.0 * mu.sqrt()).ceil() + 60.0 + (alpha * shift).ceil();
    let ln_p = ln_skellam(mu, far + shift);
    let mut sum = LnSum::new();
    let mut k = -far;
    while k <= far {
        sum.add(alpha * at_integer(&ln_p, k) - (alpha - 1.0) * at_integer(&ln_p, k - shift));
        k += 1.0;
    }
    Ok(sum.ln().max(0.0) / (alpha - 1.0))
}

fn check_shift(shift: f64) -> Result<(), DpError> {
    in_range("shift", shift, 0.0, 1e6)?;
    if shift.fract() == 0.0 {
        Ok(())
    } else {
        Err(DpError::OutOfRange { what: "shift", value: shift, least: shift.floor(), most: shift.floor() })
    }
}

/// `ln(e^-mu I_k(mu))` for `k` in `0..=far`: backward recurrence of the ratios `I_{k+1} / I_k` (Miller), which sum to 1.
pub(crate) fn ln_skellam(mu: f64, far: f64) -> Vec<f64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the callers")]
    let (last, start) = (far as usize, (far + mu.sqrt() * 8.0) as usize + 60);
    let mut ratio = 0.0;
    let mut ratios = vec![0.0; last + 1];
    for k in (0..start).rev() {
        // I_k = I_{k+2} + 2 (k + 1) / mu I_{k+1}
        ratio = 1.0 / (2.0 * (k as f64 + 1.0) / mu + ratio);
        if k <= last {
            ratios[k] = ratio;
        }
    }
    let mut ln_p = vec![0.0; last + 1];
    for k in 0..last {
        ln_p[k + 1] = ln_p[k] + ratios[k].ln();
    }
    let total = 1.0 + 2.0 * ln_p[1..].iter().map(|ln| ln.exp()).sum::<f64>();
    ln_p.iter_mut().for_each(|ln| *ln -= total.ln());
    ln_p
}

/// The entry for an integer of either sign; the caller's list reaches as far.
pub(crate) fn at_integer(ln_p: &[f64], k: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an integer, without its sign")]
    ln_p.get(k.abs() as usize).copied().unwrap_or(f64::NEG_INFINITY)
}

/// Sums over all integers that count stay short.
const VARIANCE_MAX: f64 = 1e6;
const EXACT_ORDER_MAX: f64 = 1e5;
