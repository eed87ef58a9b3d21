//! The Gaussian mechanism without sampling, exactly.
//!
//! `count` releases of multiplier sigma are one of `mu = sqrt(count) / sigma`, and
//! `delta(eps) = Q(eps/mu - mu/2) - e^eps Q(eps/mu + mu/2)` (Balle, Wang 2018, arXiv:1805.06530, Theorem 8). The textbook's
//! `sigma = sqrt(2 ln(1.25/delta)) / eps` wastes noise below epsilon 1 and is wrong above it; it is not here.

use crate::error::{DpError, check_delta, count_in_range, in_range};
use crate::event::{COUNT_MAX, SCALE_MAX, SCALE_MIN};
use crate::numeric::{ln_normal_tail, mills, normal_tail, round_up};

/// Exact delta at `epsilon`, rounded up.
///
/// # Errors
/// [`DpError::OutOfRange`], [`DpError::CountOutOfRange`] for a bad parameter.
pub fn delta(sigma: f64, count: u64, epsilon: f64) -> Result<f64, DpError> {
    in_range("epsilon", epsilon, 0.0, f64::MAX)?;
    Ok(round_up(ln_delta(mu(sigma, count)?, epsilon).exp()).min(1.0))
}

/// Exact epsilon at `delta`, rounded up; 0 where delta alone pays for everything.
///
/// # Errors
/// [`DpError::OutOfRange`], [`DpError::CountOutOfRange`] for a bad parameter.
pub fn epsilon(sigma: f64, count: u64, delta: f64) -> Result<f64, DpError> {
    Ok(epsilon_of_mu(mu(sigma, count)?, check_delta(delta)?))
}

/// The least noise multiplier with which `count` releases together cost at most `epsilon` at `delta`, rounded up.
///
/// # Errors
/// [`DpError::OutOfRange`], [`DpError::CountOutOfRange`] for a bad parameter; [`DpError::Unreachable`] where no accepted
/// multiplier does.
pub fn sigma(epsilon: f64, delta: f64, count: u64) -> Result<f64, DpError> {
    in_range("epsilon", epsilon, 0.0, f64::MAX)?;
    check_delta(delta)?;
    count_in_range("count", count, 1, COUNT_MAX)?;
    let (mut low, mut high) = (SCALE_MIN.ln(), SCALE_MAX.ln());
    let root = (count as f64).sqrt();
    let target = delta.ln();
    let meets = |sigma: f64| ln_delta(root / sigma, epsilon) <= target;
    if !meets(SCALE_MAX) {
        let (least, most) = (SCALE_MIN, SCALE_MAX);
        return Err(DpError::Unreachable { what: "sigma", least, most, epsilon, delta });
    }
    if meets(SCALE_MIN) {
        return Ok(SCALE_MIN);
    }
    for _ in 0..BISECTIONS {
        let middle = 0.5 * (low + high);
        if meets(middle.exp()) { high = middle } else { low = middle }
    }
    let mut sigma = round_up(high.exp());
    // Forward, by the function that a reader of the result would call.
    while self::epsilon(sigma, count, delta)? > epsilon {
        sigma *= 1.0 + 1e-11;
    }
    Ok(sigma)
}

fn mu(sigma: f64, count: u64) -> Result<f64, DpError> {
    in_range("sigma", sigma, SCALE_MIN, SCALE_MAX)?;
    count_in_range("count", count, 1, COUNT_MAX)?;
    Ok((count as f64).sqrt() / sigma)
}

fn epsilon_of_mu(mu: f64, delta: f64) -> f64 {
    let target = delta.ln();
    if ln_delta(mu, 0.0) <= target {
        return 0.0;
    }
    // delta(eps) <= Q(eps/mu - mu/2) <= exp(-(eps/mu - mu/2)^2 / 2)
    let (mut low, mut high) = (0.0, mu * (0.5 * mu + (-2.0 * target).sqrt() + 1.0));
    for _ in 0..BISECTIONS {
        let middle = 0.5 * (low + high);
        if ln_delta(mu, middle) <= target { high = middle } else { low = middle }
    }
    round_up(high)
}

/// `ln delta(eps)` of `mu`, to a relative error of about `1e-13` in delta.
pub(crate) fn ln_delta(mu: f64, epsilon: f64) -> f64 {
    let (x, y) = (epsilon / mu - 0.5 * mu, epsilon / mu + 0.5 * mu);
    if x < -5.0 {
        // Nearly 1. e^eps Q(y) is density(x) times Mills' ratio of y.
        let taken_off = (epsilon + ln_normal_tail(y)).exp();
        return (-(normal_tail(-x) + taken_off)).ln_1p();
    }
    // density(x) (M(x) - M(y)), since e^eps density(y) = density(x).
    let difference = if mu < 1.0 { mills_drop(x, mu) } else { mills(x) - mills(y) };
    difference.ln() - 0.5 * x * x - 0.5 * (2.0 * std::f64::consts::PI).ln()
}

/// `M(x) - M(x + width)` as the integral of `-M' = 1 - t M(t) > 0`, for `width <= 1`.
fn mills_drop(x: f64, width: f64) -> f64 {
    let half = 0.5 * width;
    let at = |t: f64| if t > FAR { slope_far(t) } else { 1.0 - t * mills(t) };
    GAUSS_LEGENDRE
        .iter()
        .map(|&(node, weight)| weight * half * (at(x + half * (1.0 - node)) + at(x + half * (1.0 + node))))
        .sum()
}

/// `1 - t M(t)` for large `t`, where the difference would cancel: `t M(t) = t / (t + c)` with `c = 1/(t + 2/(t + ...))`.
fn slope_far(t: f64) -> f64 {
    let mut c = 0.0;
    for k in (1..=60).rev() {
        c = f64::from(k) / (t + c);
    }
    c / (t + c)
}

/// From here on the continued fraction is exact.
const FAR: f64 = 8.0;
/// Halvings: more than doubles have bits.
const BISECTIONS: u32 = 100;
/// Non-negative nodes and weights of the rule with 12 points.
const GAUSS_LEGENDRE: [(f64, f64); 6] = [
    (0.125_233_408_511_468_9, 0.249_147_045_813_402_8),
    (0.367_831_498_998_180_2, 0.233_492_536_538_354_8),
    (0.587_317_954_286_617_4, 0.203_167_426_723_065_92),
    (0.769_902_674_194_304_7, 0.160_078_328_543_346_23),
    (0.904_117_256_370_474_9, 0.106_939_325_995_318_43),
    (0.981_560_634_246_719_3, 0.047_175_336_386_511_83),
];
