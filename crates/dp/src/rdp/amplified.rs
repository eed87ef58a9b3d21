//! What sampling takes off a curve: Poisson samples of any mechanism, samples of fixed size with Gaussian noise.

use std::f64::consts::{LN_2, PI};

use super::check_order;
use super::closed::gaussian_at;
use super::sampled_gaussian::interpolated;
use crate::error::{DpError, count_in_range, in_range};
use crate::event::{SCALE_MAX, SCALE_MIN};
use crate::numeric::{LnSum, ln_exp_m1, ln_one_plus_exp};

/// Divergence at the integer order `alpha` of a mechanism with curve `rdp(k)` on a Poisson sample of rate `q`:
/// `ln((1-q)^(a-1) (1 + (a-1) q) + sum_{k=2}^a C(a,k) (1-q)^(a-k) q^k e^{(k-1) rdp(k)}) / (a-1)` (Zhu, Wang 2019; Steinke
/// 2022, arXiv:2210.00597, without the factor 3). `rdp` is asked at the integers 2 to `alpha` and must bound the
/// divergence in both directions.
///
/// # Errors
/// [`DpError::OutOfRange`], [`DpError::CountOutOfRange`] for a bad parameter.
pub fn poisson_amplified(q: f64, alpha: u64, rdp: impl Fn(u64) -> f64) -> Result<f64, DpError> {
    in_range("q", q, f64::MIN_POSITIVE, 1.0)?;
    count_in_range("order", alpha, 2, INTEGER_MAX)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "k is an integer up to alpha")]
    let cost = |k: f64| (k - 1.0) * rdp(k as u64);
    Ok(ln_one_plus_exp(ln_amplified_m1(q, alpha, cost)) / (alpha as f64 - 1.0))
}

/// Divergence at `alpha` of Gaussian noise of multiplier `sigma` (relative to the replace-one sensitivity) on exactly
/// `sample` of `population` units (Wang, Balle, Kasiviswanathan 2019, arXiv:1808.00087, Theorem 27). Between integers,
/// `(alpha - 1) rdp` is taken on the chord, which lies above; above order 256 only the simpler term is used.
///
/// # Errors
/// [`DpError::OutOfRange`], [`DpError::CountOutOfRange`] for a bad parameter.
pub fn wor_gaussian(sample: u64, population: u64, sigma: f64, alpha: f64) -> Result<f64, DpError> {
    count_in_range("population", population, 1, 1 << 40)?;
    count_in_range("sample", sample, 1, population)?;
    in_range("sigma", sigma, SCALE_MIN, SCALE_MAX)?;
    in_range("order", alpha, super::ORDER_MIN, INTEGER_MAX as f64)?;
    let wor = Wor::new(sample as f64 / population as f64, sigma, check_order(alpha)?);
    Ok(interpolated(alpha, |a| wor.ln_a(a)))
}

/// Poisson amplification at all `orders`. `q < 1`.
pub(crate) fn poisson_curve(q: f64, plain: impl Fn(f64) -> f64, orders: &[f64]) -> Vec<f64> {
    let ln_a = |a: u64| ln_one_plus_exp(ln_amplified_m1(q, a, |k| (k - 1.0) * plain(k)));
    curve_of(orders, &plain, ln_a)
}

/// Samples of fixed size at all `orders`; never more than without sampling.
pub(crate) fn wor_curve(sample: u64, population: u64, sigma: f64, orders: &[f64]) -> Vec<f64> {
    let top = orders.iter().copied().filter(|&alpha| alpha <= CURVE_MAX).fold(2.0, f64::max);
    let wor = Wor::new(sample as f64 / population as f64, sigma, top);
    curve_of(orders, |alpha| gaussian_at(sigma, alpha), |a| wor.ln_a(a))
}

/// A curve from `ln(A)` at integers; neighbouring orders share the integers between them.
fn curve_of(orders: &[f64], plain: impl Fn(f64) -> f64, ln_a: impl Fn(u64) -> f64) -> Vec<f64> {
    let mut memory: Vec<(u64, f64)> = Vec::new();
    let mut at_integer = |a: u64| match memory.iter().rev().find(|known| known.0 == a) {
        Some(known) => known.1,
        None => {
            let value = ln_a(a);
            memory.push((a, value));
            value
        }
    };
    let mut values = Vec::with_capacity(orders.len());
    for &alpha in orders {
        let unsampled = plain(alpha);
        if alpha > CURVE_MAX {
            values.push(unsampled);
            continue;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most CURVE_MAX")]
        let below = alpha.floor() as u64;
        let low = if below <= 1 { 0.0 } else { at_integer(below) };
        let high = if alpha.fract() == 0.0 { low } else { at_integer(below + 1) };
        values.push(interpolated(alpha, |a| if a == below { low } else { high }).min(unsampled));
    }
    values
}

/// `ln(A - 1)` with `A - 1 = sum_{k>=2} C(a,k) (1-q)^(a-k) q^k (e^{cost(k)} - 1)`: what is left when the sum of all
/// binomial weights, which is 1, is taken off; every term is positive.
pub(crate) fn ln_amplified_m1(q: f64, a: u64, cost: impl Fn(f64) -> f64) -> f64 {
    if q == 1.0 {
        return ln_exp_m1(cost(a as f64));
    }
    let (a_real, ln_odds) = (a as f64, q.ln() - (-q).ln_1p());
    let mut ln_binomial = a_real * (-q).ln_1p();
    let mut sum = LnSum::new();
    let mut k = 0.0;
    while k < a_real {
        ln_binomial += ((a_real - k) / (k + 1.0)).ln() + ln_odds;
        k += 1.0;
        if k >= 2.0 {
            sum.add(ln_binomial + ln_exp_m1(cost(k)));
        }
    }
    sum.ln()
}

/// The parts of Theorem 27 that orders share.
struct Wor {
    q: f64,
    half_precision: f64,
    /// `ln B(2i)` at index `i`, from `i = 1`; index 0 is not used.
    ln_b: Vec<f64>,
}

impl Wor {
    fn new(q: f64, sigma: f64, alpha_max: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most B_MAX")]
        let top = (alpha_max.min(B_MAX as f64).ceil() as usize).div_ceil(2);
        let moment = |half: usize| match half {
            0 => 0.0,
            // Little noise takes many nodes, and is not what the alternating term is for: the other one stands.
            _ if sigma < SIGMA_B_MIN => f64::INFINITY,
            _ => ln_moment(sigma, 2.0 * half as f64),
        };
        let ln_b = (0..=top).map(moment).collect();
        Self { q, half_precision: 0.5 / (sigma * sigma), ln_b }
    }

    /// `(a - 1) rdp` at an integer order from 2.
    fn ln_a(&self, a: u64) -> f64 {
        let a_real = a as f64;
        let ln_q = self.q.ln();
        let mut ln_binomial = a_real.ln();
        let mut sum = LnSum::new();
        for j in 2..=a {
            let real = j as f64;
            ln_binomial += ((a_real - real + 1.0) / real).ln();
            let e = real * self.half_precision;
            let simple = LN_2 + (real - 1.0) * e;
            let term = if j == 2 {
                (2.0 * LN_2 + ln_exp_m1(e)).min(simple)
            } else if a <= B_MAX {
                #[expect(clippy::cast_possible_truncation, reason = "at most B_MAX")]
                let (low, high) = ((j / 2) as usize, j.div_ceil(2) as usize);
                (2.0 * LN_2 + 0.5 * (self.ln_b[low] + self.ln_b[high])).min(simple)
            } else {
                simple
            };
            sum.add(real * ln_q + ln_binomial + term);
        }
        ln_one_plus_exp(sum.ln())
    }
}

/// `ln E_{z ~ N(0, sigma^2)}[w^l]` for even `l`, with `w = e^{(2z - 1)/(2 sigma^2)} - 1`: the alternating sum of the paper
/// as an integral of something that is never negative.
fn ln_moment(sigma: f64, l: f64) -> f64 {
    // As for the sampled Gaussian; w^l is an entire function, with no branch point to fear.
    let step = (sigma / 2.5).min(0.35 * sigma * sigma);
    let precision = 1.0 / (sigma * sigma);
    let ln_norm = (step / (sigma * (2.0 * PI).sqrt())).ln();
    let mut sum = LnSum::new();
    let mut z = -REACH * sigma;
    while z < l + REACH * sigma {
        let t = (z - 0.5) * precision;
        let ln_w = if t > 40.0 { t } else { t.exp_m1().abs().ln() };
        sum.add(l * ln_w - 0.5 * z * z * precision);
        z += step;
    }
    ln_norm + sum.ln()
}

/// Largest order of a single question.
const INTEGER_MAX: u64 = 1 << 20;
/// Largest order of a curve at which sampling is priced; above it, the cost without sampling stands.
const CURVE_MAX: f64 = 1024.0;
/// Noise from which the alternating term is evaluated.
const SIGMA_B_MIN: f64 = 0.1;
/// Orders up to which the alternating term is evaluated.
const B_MAX: u64 = 256;
/// Standard deviations of the quadrature to either side.
const REACH: f64 = 9.5;
