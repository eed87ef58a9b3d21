//! The discrete Laplace distribution.

use super::error::NoiseError;
use super::exact::{below, exp_minus, exp_minus_one};
use super::rng::NoiseRng;
use super::variance::Ratio;

/// `P(k) = (e^(1/b) - 1)/(e^(1/b) + 1) e^(-|k|/b)` on the integers, for a rational scale b (Canonne, Kamath, Steinke 2020,
/// [arXiv:2004.00010], algorithm 2). Added to an integer query of L1 sensitivity D it is D/b-differentially private.
///
/// Draws beyond 2^10 times the numerator of b are drawn again: a chance below 2^-1477 per draw, less than any delta.
///
/// [arXiv:2004.00010]: https://arxiv.org/abs/2004.00010
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiscreteLaplace {
    scale: Ratio,
}

impl DiscreteLaplace {
    /// With scale b in grid units.
    #[must_use]
    pub fn new(scale: Ratio) -> Self {
        Self { scale }
    }

    /// The scale b in grid units.
    #[must_use]
    pub fn scale(&self) -> Ratio {
        self.scale
    }

    /// Adds fresh noise to every element.
    ///
    /// # Errors
    /// [`NoiseError::Overflow`]: the vector is partly noised and must be thrown away.
    pub fn add_to(&self, values: &mut [i64], rng: &mut NoiseRng) -> Result<(), NoiseError> {
        add_each(values, || self.draw(rng))
    }

    #[inline]
    fn draw(&self, rng: &mut NoiseRng) -> i64 {
        loop {
            let (negative, magnitude) = signed_geometric(rng, self.scale.numerator());
            let magnitude = magnitude / self.scale.denominator();
            // Zero has one sign, or it would come twice as often.
            if !(negative && magnitude == 0) {
                return with_sign(negative, magnitude);
            }
        }
    }
}

/// A sign and a number with `P(m) ~ e^(-m/t)`; `0 < t <= 2^48`. The number is below 2^59.
#[inline]
pub(super) fn signed_geometric(rng: &mut NoiseRng, t: u64) -> (bool, u64) {
    loop {
        // One word for the sign and for the part below t.
        let word = below(rng, 2 * t);
        let (negative, part) = (word % 2 == 1, word / 2);
        if !exp_minus(rng, part, t) {
            continue;
        }
        let mut whole = 0;
        while whole < WHOLE_MAX && exp_minus_one(rng) {
            whole += 1;
        }
        if whole < WHOLE_MAX {
            return (negative, part + t * whole);
        }
    }
}

#[inline]
pub(super) fn with_sign(negative: bool, magnitude: u64) -> i64 {
    let magnitude = i64::try_from(magnitude).expect("draws are below 2^59");
    if negative { -magnitude } else { magnitude }
}

/// Adds one draw to each element.
pub(super) fn add_each(values: &mut [i64], mut draw: impl FnMut() -> i64) -> Result<(), NoiseError> {
    for (at, value) in values.iter_mut().enumerate() {
        *value = value.checked_add(draw()).ok_or(NoiseError::Overflow { at })?;
    }
    Ok(())
}

/// Scales that a draw may reach.
const WHOLE_MAX: u64 = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::goodness::{chi_square, pmf_of};
    use crate::noise::vectors;

    /// All `discrete_pmf` cases: the closed form agrees with the vectors, the sampler with the closed form.
    #[test]
    fn laplace_vectors() {
        let file = vectors::load("laplace.json");
        let mut seen = 0;
        for case in file.cases("discrete_pmf") {
            let b = case.f64("b");
            let odds = (-1.0 / b).exp();
            let pmf = |k: i64| (1.0 - odds) / (1.0 + odds) * odds.powi(i32::try_from(k.abs()).unwrap());
            for (k, want) in case.list("pmf").into_iter().enumerate() {
                vectors::close(pmf(k as i64), want, "pmf");
            }
            let laplace = DiscreteLaplace::new(Ratio::at_least(b).unwrap());
            chi_square(7, &pmf_of(pmf, 200), |values, rng| laplace.add_to(values, rng));
            seen += 1;
        }
        assert!(seen > 0);
    }

    #[test]
    fn scales_below_one_and_fractions() {
        for (numerator, denominator) in [(1, 2), (7, 3), (1, 5)] {
            let b = f64::from(numerator) / f64::from(denominator);
            let odds = (-1.0 / b).exp();
            let pmf = |k: i64| (1.0 - odds) / (1.0 + odds) * odds.powi(i32::try_from(k.abs()).unwrap());
            let laplace = DiscreteLaplace::new(Ratio::new(numerator as u64, denominator as u64).unwrap());
            chi_square(8, &pmf_of(pmf, 100), |values, rng| laplace.add_to(values, rng));
        }
    }

    #[test]
    fn the_widest_scale_works_and_overflow_is_an_error() {
        let laplace = DiscreteLaplace::new(Ratio::new(1 << 48, 1).unwrap());
        let mut rng = NoiseRng::predictable(1);
        let mut values = vec![0; 1000];
        laplace.add_to(&mut values, &mut rng).unwrap();
        assert!(values.iter().any(|value| value.abs() > 1 << 46));
        let mut full = vec![i64::MAX; 64];
        assert!(matches!(laplace.add_to(&mut full, &mut rng), Err(NoiseError::Overflow { .. })));
    }
}
