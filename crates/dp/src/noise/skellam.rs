//! The Skellam distribution: the difference of two Poisson variables.

use super::error::{NoiseError, positive};
use super::laplace::add_each;
use super::poisson::Poisson;
use super::rng::NoiseRng;
use super::variance::Ratio;

/// The difference of two Poisson variables of mean `mu/2` each: variance mu, and a sum of Skellam variables is one of them,
/// exactly (Agarwal, Kairouz, Liu 2021, [arXiv:2110.04995]).
///
/// Holds a table of some `44 sqrt(mu)` entries; make one sampler and use it for whole vectors.
///
/// [arXiv:2110.04995]: https://arxiv.org/abs/2110.04995
#[derive(Debug, Clone)]
pub struct Skellam {
    mu: Ratio,
    half: Poisson,
}

impl Skellam {
    /// With variance mu in squared grid units, a multiple of 2^-15 or another ratio of a denominator up to 2^15.
    ///
    /// # Errors
    /// [`NoiseError::Count`] for mu above 2^24 or another denominator.
    pub fn new(mu: Ratio) -> Result<Self, NoiseError> {
        if mu.denominator() > DENOMINATOR_MAX {
            return Err(NoiseError::Count { name: "the denominator", got: mu.denominator(), want: "at most 2^15" });
        }
        if mu.numerator() > MU_MAX * mu.denominator() {
            let got = mu.numerator() / mu.denominator();
            return Err(NoiseError::Count { name: "the variance", got, want: "at most 2^24" });
        }
        Ok(Self { mu, half: Poisson::new(mu.numerator(), 2 * mu.denominator()) })
    }

    /// With the least multiple of 2^-15 that is not below a variance.
    ///
    /// # Errors
    /// [`NoiseError::Parameter`] for what is not positive or above 2^24.
    pub fn at_least(mu: f64) -> Result<Self, NoiseError> {
        let name = "the variance";
        let mu = positive(name, mu)?;
        if mu > MU_MAX as f64 {
            return Err(NoiseError::Parameter { name, got: mu, want: "at most 2^24" });
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to 2^39")]
        let numerator = (mu * DENOMINATOR_MAX as f64).ceil() as u64;
        Self::new(Ratio::new(numerator, DENOMINATOR_MAX)?)
    }

    /// The variance in squared grid units.
    #[must_use]
    pub fn mu(&self) -> Ratio {
        self.mu
    }

    /// Adds fresh noise to every element.
    ///
    /// # Errors
    /// [`NoiseError::Overflow`]: the vector is partly noised and must be thrown away.
    pub fn add_to(&self, values: &mut [i64], rng: &mut NoiseRng) -> Result<(), NoiseError> {
        add_each(values, || self.draw(rng))
    }

    /// Adds fresh noise to every element modulo 2^64, as [`super::DiscreteGaussian::add_to_lanes`] does.
    pub fn add_to_lanes(&self, lanes: &mut [u64], rng: &mut NoiseRng) {
        for lane in lanes {
            *lane = lane.wrapping_add_signed(self.draw(rng));
        }
    }

    /// Both are below 2^62.
    #[inline]
    fn draw(&self, rng: &mut NoiseRng) -> i64 {
        self.half.draw(rng) - self.half.draw(rng)
    }
}

/// Largest variance: the table grows with its root.
const MU_MAX: u64 = 1 << 24;
const DENOMINATOR_MAX: u64 = 1 << 15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::goodness::{chi_square, chi_square_statistic, pmf_of, quantile_bins};
    use crate::noise::vectors;

    /// `e^-mu I_k(mu)`, by the series of the Bessel function in logarithms.
    fn skellam_pmf(mu: f64) -> impl Fn(i64) -> f64 {
        let reach = (mu * 4.0) as u64 + 200;
        let log_factorials: Vec<f64> = std::iter::once(0.0)
            .chain((1..=2 * reach).scan(0.0, |sum, k| {
                *sum += (k as f64).ln();
                Some(*sum)
            }))
            .collect();
        move |k| {
            let k = k.unsigned_abs();
            let term = |m: u64| {
                (2 * m + k) as f64 * (mu / 2.0).ln()
                    - log_factorials[m as usize]
                    - log_factorials[(m + k) as usize]
                    - mu
            };
            (0..reach).map(|m| term(m).exp()).sum()
        }
    }

    /// All `pmf` cases: the series agrees with the vectors, the sampler with the series.
    #[test]
    fn skellam_vectors() {
        let file = vectors::load("skellam.json");
        let mut seen = 0;
        for case in file.cases("pmf") {
            let mu = case.f64("mu");
            vectors::close(mu, case.f64("variance"), "variance");
            let pmf = skellam_pmf(mu);
            for (k, want) in case.list("pmf").into_iter().enumerate() {
                vectors::close(pmf(k as i64), want, "pmf");
            }
            let skellam = Skellam::at_least(mu).unwrap();
            chi_square(51, &pmf_of(pmf, 150), |values, rng| skellam.add_to(values, rng));
            seen += 1;
        }
        assert!(seen > 0);
    }

    #[test]
    fn fractions() {
        for (numerator, denominator) in [(16, 3), (1, 9), (40, 7), (1001, 10)] {
            let skellam = Skellam::new(Ratio::new(numerator, denominator).unwrap()).unwrap();
            let pmf = pmf_of(skellam_pmf(numerator as f64 / denominator as f64), 90);
            chi_square(52, &pmf, |values, rng| skellam.add_to(values, rng));
        }
    }

    /// Wide ones are normal up to a skewness of 0 and an excess kurtosis of 1/mu, below what a million draws can show.
    #[test]
    fn wide_skellams() {
        for sigma in [500.0, 4096.0] {
            let skellam = Skellam::at_least(sigma * sigma).unwrap();
            chi_square(53, &quantile_bins(sigma), |values, rng| skellam.add_to(values, rng));
        }
    }

    #[test]
    fn the_test_notices_a_wrong_variance() {
        let skellam = Skellam::at_least(3.92).unwrap();
        let found = chi_square_statistic(54, &pmf_of(skellam_pmf(4.0), 60), |values, rng| skellam.add_to(values, rng));
        assert!(found.statistic > found.limit, "{found:?}");
    }

    #[test]
    fn what_has_no_table_is_refused() {
        for bad in [f64::NAN, 0.0, -1.0, f64::INFINITY, 16_777_217.0] {
            assert!(Skellam::at_least(bad).is_err(), "{bad}");
        }
        assert!(Skellam::new(Ratio::new(1, 32_769).unwrap()).is_err());
        assert!(Skellam::new(Ratio::new((1 << 24) + 1, 1).unwrap()).is_err());
        assert!(Skellam::at_least(1e-300).unwrap().mu().to_f64() > 0.0);
    }

    #[test]
    fn overflow_is_an_error() {
        let skellam = Skellam::at_least(400.0).unwrap();
        let got = skellam.add_to(&mut [i64::MAX; 64], &mut NoiseRng::predictable(4));
        assert!(matches!(got, Err(NoiseError::Overflow { .. })));
    }
}
