//! Divergences in closed form, without sampling.

use std::f64::consts::{LN_2, PI};

use super::check_order;
use crate::error::{DpError, count_in_range, in_range};
use crate::event::{COUNT_MAX, SCALE_MAX, SCALE_MIN};
use crate::numeric::{exp_m1_m_x, ln_add};

/// Gaussian noise of multiplier `sigma`: `alpha / (2 sigma^2)` (Mironov 2017, Prop. 7).
///
/// # Errors
/// [`DpError::OutOfRange`] for a bad parameter.
pub fn gaussian(sigma: f64, alpha: f64) -> Result<f64, DpError> {
    in_range("sigma", sigma, SCALE_MIN, SCALE_MAX)?;
    Ok(gaussian_at(sigma, check_order(alpha)?))
}

/// Laplace noise of scale `scale` on a query of L1 sensitivity 1 (Mironov 2017, Prop. 6).
///
/// # Errors
/// [`DpError::OutOfRange`] for a bad parameter.
pub fn laplace(scale: f64, alpha: f64) -> Result<f64, DpError> {
    in_range("scale", scale, SCALE_MIN, SCALE_MAX)?;
    Ok(laplace_at(scale, check_order(alpha)?))
}

/// The most that any `epsilon`-DP mechanism costs (Bun, Steinke 2016, arXiv:1605.02065, Prop. 3.3): that of randomised
/// response.
///
/// # Errors
/// [`DpError::OutOfRange`] for a bad parameter.
pub fn pure(epsilon: f64, alpha: f64) -> Result<f64, DpError> {
    in_range("epsilon of the mechanism", epsilon, 1.0 / SCALE_MAX, 1.0 / SCALE_MIN)?;
    Ok(pure_at(epsilon, check_order(alpha)?))
}

/// The sum of `parties` discrete Gaussians of parameter `sigma2`: the least of three bounds of Kairouz, Liu, Steinke 2021
/// (arXiv:2102.06387, Corollary 13).
///
/// # Errors
/// [`DpError::OutOfRange`], [`DpError::CountOutOfRange`] for a bad parameter.
pub fn discrete_gaussian_sum(
    parties: u64,
    sigma2: f64,
    l1: f64,
    l2: f64,
    dim: u64,
    alpha: f64,
) -> Result<f64, DpError> {
    count_in_range("parties", parties, 1, 1 << 20)?;
    count_in_range("dim", dim, 1, COUNT_MAX)?;
    in_range("sigma2", sigma2, SCALE_MIN, SCALE_MAX * SCALE_MAX)?;
    in_range("L2 sensitivity", l2, 0.0, SCALE_MAX)?;
    in_range("L1 sensitivity", l1, 0.0, SCALE_MAX * SCALE_MAX)?;
    Ok(discrete_gaussian_sum_at(parties, sigma2, l1, l2, dim, check_order(alpha)?))
}

/// Skellam noise of variance `mu` on integer vectors (Agarwal, Kairouz, Liu 2021, arXiv:2110.04995, Theorem 3.5).
///
/// # Errors
/// [`DpError::OutOfRange`] for a bad parameter.
pub fn skellam(mu: f64, l1: f64, l2: f64, alpha: f64) -> Result<f64, DpError> {
    in_range("mu", mu, SCALE_MIN, SCALE_MAX * SCALE_MAX)?;
    in_range("L2 sensitivity", l2, 0.0, SCALE_MAX)?;
    in_range("L1 sensitivity", l1, 0.0, SCALE_MAX * SCALE_MAX)?;
    Ok(skellam_at(mu, l1, l2, check_order(alpha)?))
}

/// How far a sum of `parties` discrete Gaussians of parameter `sigma2` is from one:
/// `10 sum_{k=1}^{n-1} exp(-2 pi^2 sigma2 k / (k + 1))`. Below about `1e-15` for shares of at least 2 grid units.
///
/// # Errors
/// [`DpError::OutOfRange`], [`DpError::CountOutOfRange`] for a bad parameter.
pub fn discrete_gaussian_tau(parties: u64, sigma2: f64) -> Result<f64, DpError> {
    count_in_range("parties", parties, 1, 1 << 20)?;
    in_range("sigma2", sigma2, SCALE_MIN, SCALE_MAX * SCALE_MAX)?;
    Ok(tau(parties, sigma2))
}

pub(crate) fn gaussian_at(sigma: f64, alpha: f64) -> f64 {
    alpha / (2.0 * sigma * sigma)
}

pub(crate) fn laplace_at(scale: f64, alpha: f64) -> f64 {
    let (up, down) = ((alpha - 1.0) / scale, alpha / scale);
    let total = 2.0 * alpha - 1.0;
    if up > 1.0 {
        return ln_add((alpha / total).ln() + up, ((alpha - 1.0) / total).ln() - down) / (alpha - 1.0);
    }
    // The terms of first order cancel exactly; what is left is a sum of positive numbers.
    let above_one = (alpha * exp_m1_m_x(up) + (alpha - 1.0) * exp_m1_m_x(-down)) / total;
    above_one.ln_1p() / (alpha - 1.0)
}

pub(crate) fn pure_at(epsilon: f64, alpha: f64) -> f64 {
    // ln(cosh((alpha - 1/2) epsilon) / cosh(epsilon / 2)) / (alpha - 1)
    let (wide, narrow) = ((alpha - 0.5) * epsilon, 0.5 * epsilon);
    if wide > 20.0 {
        let ln_cosh = |x: f64| x + (-2.0 * x).exp().ln_1p() - LN_2;
        return ((ln_cosh(wide) - ln_cosh(narrow)) / (alpha - 1.0)).min(epsilon);
    }
    let above_one = 2.0 * (0.5 * alpha * epsilon).sinh() * (0.5 * (alpha - 1.0) * epsilon).sinh() / narrow.cosh();
    above_one.ln_1p() / (alpha - 1.0)
}

pub(crate) fn discrete_gaussian_sum_at(parties: u64, sigma2: f64, l1: f64, l2: f64, dim: u64, alpha: f64) -> f64 {
    let tau = tau(parties, sigma2);
    let variance = parties as f64 * sigma2;
    let (std, dim) = (variance.sqrt(), dim as f64);
    let first = alpha * l2 * l2 / (2.0 * variance) + tau * dim;
    let second = 0.5 * alpha * (l2 * l2 / variance + 2.0 * l1 * tau / std + tau * tau * dim);
    let third = 0.5 * alpha * (l2 / std + dim.sqrt() * tau).powi(2);
    first.min(second).min(third)
}

fn tau(parties: u64, sigma2: f64) -> f64 {
    let exponent = -2.0 * PI * PI * sigma2;
    let near = parties.min(TAU_TERMS);
    let terms: f64 = (1..near).map(|k| k as f64).map(|k| (exponent * k / (k + 1.0)).exp()).sum();
    // Terms fall with k: the last one bounds all that follow.
    let last = (exponent * near as f64 / (near as f64 + 1.0)).exp();
    10.0 * (terms + (parties - near) as f64 * last)
}

pub(crate) fn skellam_at(mu: f64, l1: f64, l2: f64, alpha: f64) -> f64 {
    let far = ((2.0 * alpha - 1.0) * l2 * l2 + 6.0 * l1) / (4.0 * mu * mu);
    alpha * l2 * l2 / (2.0 * mu) + far.min(1.5 * l1 / mu)
}

/// Terms of tau that are added one by one.
const TAU_TERMS: u64 = 4096;
