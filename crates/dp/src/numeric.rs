//! Tails, logarithms and rounding that keep their relative accuracy.

use std::f64::consts::{PI, SQRT_2};

/// Relative error that a chain of correctly rounded operations here stays below, with room. Figures of cost are raised
/// by it, so that rounding cannot put one below the truth.
pub(crate) const SLACK: f64 = 1e-12;

/// A cost, raised by [`SLACK`].
pub(crate) fn round_up(cost: f64) -> f64 {
    cost * (1.0 + SLACK)
}

/// `a + b` of costs, rounded up.
pub(crate) fn add_up(a: f64, b: f64) -> f64 {
    let sum = a + b;
    if a == 0.0 || b == 0.0 || sum.is_infinite() { sum } else { sum.next_up() }
}

/// What `count` releases cost at one order, rounded up.
pub(crate) fn product(cost: f64, count: f64) -> f64 {
    if count == 1.0 { cost } else { round_up(cost * count) }
}

/// `Q(x)`, the upper tail of the standard normal.
pub(crate) fn normal_tail(x: f64) -> f64 {
    0.5 * libm::erfc(x / SQRT_2)
}

/// Density of the standard normal.
pub(crate) fn normal_density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
}

/// Mills' ratio `Q(x) / density(x)`, for `x >= -8`.
pub(crate) fn mills(x: f64) -> f64 {
    if x < 8.0 {
        return normal_tail(x) / normal_density(x);
    }
    // Laplace's continued fraction 1/(x + 1/(x + 2/(x + ...))), from the tail.
    let mut fraction = x;
    for k in (1..=40).rev() {
        fraction = x + f64::from(k) / fraction;
    }
    1.0 / fraction
}

/// `ln Q(x)`.
pub(crate) fn ln_normal_tail(x: f64) -> f64 {
    if x < 8.0 { normal_tail(x).ln() } else { mills(x).ln() - 0.5 * x * x - 0.5 * (2.0 * PI).ln() }
}

/// `ln(e^a + e^b)`.
pub(crate) fn ln_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// `ln(1 + e^x)`.
pub(crate) fn ln_one_plus_exp(x: f64) -> f64 {
    if x > 40.0 { x + (-x).exp() } else { x.exp().ln_1p() }
}

/// `ln(e^x - 1)` for `x > 0`.
pub(crate) fn ln_exp_m1(x: f64) -> f64 {
    if x > 40.0 { x - (-x).exp() } else { x.exp_m1().ln() }
}

/// `e^x - 1 - x`, which is never negative, without cancellation.
pub(crate) fn exp_m1_m_x(x: f64) -> f64 {
    if x.abs() > 0.25 {
        return x.exp_m1() - x;
    }
    let (mut term, mut sum) = (x, 0.0);
    for k in 2..=18 {
        term *= x / f64::from(k);
        sum += term;
    }
    sum
}

/// A sum of `e^(terms)` that neither overflows nor loses what is small beside the largest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LnSum {
    top: f64,
    sum: f64,
}

impl LnSum {
    pub(crate) const fn new() -> Self {
        Self { top: f64::NEG_INFINITY, sum: 0.0 }
    }

    pub(crate) fn add(&mut self, ln_term: f64) {
        if ln_term > self.top {
            self.sum = self.sum * (self.top - ln_term).exp() + 1.0;
            self.top = ln_term;
        } else if ln_term > self.top - NEGLIGIBLE {
            self.sum += (ln_term - self.top).exp();
        }
    }

    /// Logarithm of the sum, minus infinity for nothing.
    pub(crate) fn ln(self) -> f64 {
        self.top + self.sum.ln()
    }
}

/// Terms that are `e^-46` of the largest are below the rounding of a sum of a few thousand.
const NEGLIGIBLE: f64 = 46.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_agree_where_their_methods_meet() {
        for x in [7.99, 8.0, 8.01] {
            let direct = normal_tail(x) / normal_density(x);
            assert!((mills(x) / direct - 1.0).abs() < 1e-13, "{x}");
            assert!((ln_normal_tail(x) / normal_tail(x).ln() - 1.0).abs() < 1e-13, "{x}");
        }
        // Q(40) = 3.655893540915553e-350 (50 digits), below the doubles.
        assert!((ln_normal_tail(40.0) + 804.608_442_013_753_9).abs() < 1e-9, "{}", ln_normal_tail(40.0));
    }

    #[test]
    fn small_exponentials_keep_their_digits() {
        for x in [1e-9, -1e-9, 0.2, -0.2, 0.26, -0.26, 3.0] {
            let series: f64 = (2..60).rev().fold(0.0, |sum, k| (sum + 1.0) * x / f64::from(k)) * x;
            assert!((exp_m1_m_x(x) / series - 1.0).abs() < 1e-14, "{x}: {} {series}", exp_m1_m_x(x));
        }
    }

    #[test]
    fn sums_of_exponentials_are_those_of_the_reals() {
        let mut sum = LnSum::new();
        assert_eq!(sum.ln(), f64::NEG_INFINITY);
        for term in [-1000.0, 800.0, 800.0, -5.0] {
            sum.add(term);
        }
        assert!((sum.ln() - (800.0 + 2f64.ln())).abs() < 1e-12);
        assert!((ln_add(0.0, 0.0) - 2f64.ln()).abs() < 1e-15);
    }
}
