//! Gaussian noise on a Poisson sample, exact at every real order.
//!
//! With `w(z) = exp((2z - 1) / (2 sigma^2)) - 1` and `z ~ N(0, sigma^2)`, the divergence is `ln(A) / (alpha - 1)` with
//! `A - 1 = E[(1 + q w)^alpha - 1 - alpha q w]` (Mironov, Talwar, Zhang 2019, arXiv:1908.10530; the linear term is put in
//! because `E[w] = 0`). By Bernoulli's inequality nothing in it is negative, so nothing cancels. The integrand is analytic
//! in a strip of half-width `pi sigma^2` and falls like a Gaussian: the trapezoid rule converges geometrically.

use std::f64::consts::PI;

use super::amplified::ln_amplified_m1;
use super::check_order;
use crate::error::{DpError, in_range};
use crate::event::{SCALE_MAX, SCALE_MIN};
use crate::numeric::{LnSum, ln_one_plus_exp};

/// Divergence at `alpha` of one step: each unit is drawn with probability `q`, noise multiplier `sigma`; the larger one
/// of adding and removing a unit, which is removing.
///
/// # Errors
/// [`DpError::OutOfRange`] for a bad parameter.
pub fn sampled_gaussian(q: f64, sigma: f64, alpha: f64) -> Result<f64, DpError> {
    in_range("q", q, f64::MIN_POSITIVE, 1.0)?;
    in_range("sigma", sigma, SCALE_MIN, SCALE_MAX)?;
    let alpha = check_order(alpha)?;
    Ok(if q == 1.0 { super::closed::gaussian_at(sigma, alpha) } else { curve(q, sigma, &[alpha])[0] })
}

/// All orders at once: they share the nodes of the quadrature. `q < 1`.
pub(crate) fn curve(q: f64, sigma: f64, orders: &[f64]) -> Vec<f64> {
    let gauss = |alpha: f64| super::closed::gaussian_at(sigma, alpha);
    let far = orders.iter().copied().filter(|&alpha| Method::of(alpha, sigma) == Method::Quadrature);
    let grid = Grid::new(q, sigma, far.fold(0.0, f64::max));
    let at_integer = |a: u64| integer(q, sigma, a);
    orders
        .iter()
        .map(|&alpha| match Method::of(alpha, sigma) {
            // Sampling never costs more than taking everybody (joint quasi-convexity).
            Method::Quadrature => (ln_one_plus_exp(grid.ln_a_m1(alpha)) / (alpha - 1.0)).min(gauss(alpha)),
            Method::Sum => interpolated(alpha, at_integer).min(gauss(alpha)),
            Method::Unsampled => gauss(alpha),
        })
        .collect()
}

/// How an order is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Quadrature,
    /// The binomial sum at integer orders; between them a chord of `(alpha - 1) rdp`, which is convex: an upper bound.
    Sum,
    /// Not worth its time: the cost without sampling is an upper bound.
    Unsampled,
}

impl Method {
    fn of(alpha: f64, sigma: f64) -> Self {
        let nodes = (alpha + 2.0 * REACH * sigma) / step(sigma);
        let integer = alpha.fract() == 0.0;
        if nodes < NODES_MAX && !(integer && alpha < 1.5 * nodes) {
            Self::Quadrature
        } else if alpha <= SUM_MAX {
            Self::Sum
        } else {
            Self::Unsampled
        }
    }
}

/// `ln(A)` at an integer order.
fn integer(q: f64, sigma: f64, a: u64) -> f64 {
    let half_precision = 0.5 / (sigma * sigma);
    ln_one_plus_exp(ln_amplified_m1(q, a, |k| k * (k - 1.0) * half_precision))
}

/// `(alpha - 1) rdp` on the chord between the integers around `alpha`, over `alpha - 1`.
pub(crate) fn interpolated(alpha: f64, ln_a: impl Fn(u64) -> f64) -> f64 {
    let below = alpha.floor();
    let share = alpha - below;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "orders are at most 10^9")]
    let low = below as u64;
    let at_low = if low <= 1 { 0.0 } else { ln_a(low) };
    let value = if share == 0.0 { at_low } else { at_low * (1.0 - share) + ln_a(low + 1) * share };
    value / (alpha - 1.0)
}

/// The nodes of the quadrature, and all of the integrand that does not depend on the order.
struct Grid {
    step: f64,
    sigma: f64,
    nodes: Vec<Node>,
}

#[derive(Clone, Copy)]
struct Node {
    /// `q w`.
    x: f64,
    /// `ln(1 + q w)`.
    ln: f64,
    /// Logarithm of the weight: of the density, and of the step.
    ln_weight: f64,
    /// The weight, 0 where it underflows.
    weight: f64,
}

impl Grid {
    fn new(q: f64, sigma: f64, alpha_max: f64) -> Self {
        let step = step(sigma);
        let precision = 1.0 / (sigma * sigma);
        let ln_norm = (step / (sigma * (2.0 * PI).sqrt())).ln();
        let nodes = (0..Self::len(alpha_max, sigma))
            .map(|at| {
                let z = at as f64 * step - REACH * sigma;
                let t = (z - 0.5) * precision;
                let x = q * t.exp_m1();
                // Beyond the doubles only the logarithm is used.
                let ln = if t > 600.0 { q.ln() + t } else { x.ln_1p() };
                let ln_weight = ln_norm - 0.5 * z * z * precision;
                Node { x, ln, ln_weight, weight: ln_weight.exp() }
            })
            .collect();
        Self { step, sigma, nodes }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by NODES_MAX")]
    fn len(alpha: f64, sigma: f64) -> usize {
        ((alpha + 2.0 * REACH * sigma) / step(sigma)).ceil() as usize + 1
    }

    /// `ln(A - 1)`.
    fn ln_a_m1(&self, alpha: f64) -> f64 {
        debug_assert!((self.step - step(self.sigma)).abs() < f64::EPSILON * self.step);
        let (mut small, mut large) = (0.0, LnSum::new());
        for node in &self.nodes[..Self::len(alpha, self.sigma).min(self.nodes.len())] {
            let exponent = alpha * node.ln;
            if exponent < DIRECT_MAX {
                small += node.weight * bernoulli(alpha, node);
            } else {
                // (1 + x)^alpha (1 - (1 + alpha x) / (1 + x)^alpha), where x is so large that the quotient is this.
                let taken_off = alpha * (-(alpha - 1.0) * node.ln).exp();
                large.add(exponent + node.ln_weight + (-taken_off.min(1.0)).ln_1p());
            }
        }
        let small = if small > 0.0 { small.ln() } else { f64::NEG_INFINITY };
        crate::numeric::ln_add(small, large.ln())
    }
}

/// `(1 + x)^alpha - 1 - alpha x >= 0`.
fn bernoulli(alpha: f64, node: &Node) -> f64 {
    let x = node.x;
    let b = alpha - 1.0;
    if (alpha + 1.0) * x.abs() < 0.1 {
        // Binomial series from its second term; the ratio of terms stays below 0.1.
        let mut term = 0.5 * alpha * b * x * x;
        let mut sum = term;
        let mut k = 2.0;
        while term.abs() > sum * 1e-17 && k < 40.0 {
            term *= (alpha - k) / (k + 1.0) * x;
            sum += term;
            k += 1.0;
        }
        return sum;
    }
    // (1 + x) ((1 + x)^b - 1) - b x: exact in the limit of b to 0.
    (1.0 + x) * (b * node.ln).exp_m1() - b * x
}

/// Step of the trapezoid rule: the error falls like `exp(-2 pi^2 sigma^2 / step^2)` for the Gaussian and like
/// `exp(-2 pi pi sigma^2 / step)` for the nearest branch point, both below `e^-56`.
fn step(sigma: f64) -> f64 {
    (sigma / 2.5).min(0.35 * sigma * sigma)
}

/// Standard deviations to either side: what is left out is `e^-45` of what is in.
const REACH: f64 = 9.5;
/// Exponents up to here are taken out of the logarithm.
const DIRECT_MAX: f64 = 600.0;
/// Nodes that one order may take.
const NODES_MAX: f64 = 8000.0;
/// Terms that one order may take.
const SUM_MAX: f64 = 2048.0;
