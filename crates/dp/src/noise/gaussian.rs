//! The discrete Gaussian distribution.

use super::error::NoiseError;
use super::exact::exp_minus_wide;
use super::grid::RoundedBound;
use super::laplace::{add_each, signed_geometric, with_sign};
use super::rng::NoiseRng;
use super::variance::Ratio;
use crate::event::Mechanism;

/// `P(k) ~ e^(-k^2/(2 sigma^2))` on the integers, for a rational sigma^2 (Canonne, Kamath, Steinke 2020,
/// [arXiv:2004.00010], algorithm 3). Added to an integer query of L2 sensitivity D it has the Rényi divergence
/// `alpha D^2/(2 sigma^2)` of the continuous Gaussian, or less (theorem 14).
///
/// `sigma^2` is the parameter; the variance is a little less for sigma below 1 and the same beyond any digit from 3 on.
///
/// Draws come by rejection from discrete Laplace noise of scale `floor(sigma) + 1`. Those beyond 2^10 scales are drawn
/// again: a chance below 2^-1477 per proposal, less than any delta, of a draw that would be refused with a chance of
/// `1 - e^-500000`.
///
/// [arXiv:2004.00010]: https://arxiv.org/abs/2004.00010
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiscreteGaussian {
    sigma2: Ratio,
    /// Scale of the proposals, t.
    scale: u64,
    /// Denominator of algorithm 3's exponent: with sigma^2 = a/b, `(|y| t b - a)^2 / (2 a b t^2)`.
    denominator: u128,
}

impl DiscreteGaussian {
    /// With parameter sigma^2 in squared grid units.
    #[must_use]
    pub fn new(sigma2: Ratio) -> Self {
        let (a, b) = (sigma2.numerator(), sigma2.denominator());
        let scale = (a / b).isqrt() + 1;
        // a, b <= 2^48 and t <= sigma + 1: t^2 b <= 4 max(a, b), so this is below 2^100.
        let denominator = 2 * u128::from(a) * u128::from(b) * u128::from(scale) * u128::from(scale);
        Self { sigma2, scale, denominator }
    }

    /// The parameter sigma^2 in squared grid units.
    #[must_use]
    pub fn sigma2(&self) -> Ratio {
        self.sigma2
    }

    /// What to charge for this noise on a sum of vectors that a grid let through, one of them changing by as much as the
    /// bound: added, removed or zeroed.
    #[must_use]
    pub fn mechanism(&self, bound: RoundedBound) -> Mechanism {
        Mechanism::DiscreteGaussian { sigma2: self.sigma2.to_f64().next_down(), l2: bound.l2(), dim: bound.dim() }
    }

    /// Adds fresh noise to every element.
    ///
    /// # Errors
    /// [`NoiseError::Overflow`]: the vector is partly noised and must be thrown away.
    pub fn add_to(&self, values: &mut [i64], rng: &mut NoiseRng) -> Result<(), NoiseError> {
        add_each(values, || self.draw(rng))
    }

    /// Adds fresh noise to every element modulo 2^64, for lanes of a ring of which fewer bits are read: the sum of
    /// participants' lanes wraps anyway.
    pub fn add_to_lanes(&self, lanes: &mut [u64], rng: &mut NoiseRng) {
        for lane in lanes {
            *lane = lane.wrapping_add_signed(self.draw(rng));
        }
    }

    #[inline]
    pub(super) fn draw(&self, rng: &mut NoiseRng) -> i64 {
        let (a, b) = (u128::from(self.sigma2.numerator()), u128::from(self.sigma2.denominator()));
        loop {
            let (negative, magnitude) = signed_geometric(rng, self.scale);
            if negative && magnitude == 0 {
                continue;
            }
            // magnitude < 2^10 t and t^2 b < 2^50: below 2^60, its square below 2^120.
            let distance = (u128::from(magnitude) * u128::from(self.scale) * b).abs_diff(a);
            if exp_minus_wide(rng, distance * distance, self.denominator) {
                return with_sign(negative, magnitude);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Grid;
    use crate::noise::goodness::{chi_square, chi_square_statistic, gaussian_pmf, pmf_of, quantile_bins};
    use crate::noise::vectors;
    use crate::rdp;
    use crate::{Event, Relation, Sampling, Unit};

    /// All `pmf` cases: the closed form agrees with the vectors, the sampler with the closed form.
    #[test]
    fn discrete_gaussian_vectors() {
        let file = vectors::load("discrete_gaussian.json");
        let mut seen = 0;
        for case in file.cases("pmf") {
            let sigma2 = case.f64("sigma2");
            let pmf = gaussian_pmf(sigma2);
            for (k, want) in case.list("pmf").into_iter().enumerate() {
                vectors::close(pmf(k as i64), want, "pmf");
            }
            let variance = 2.0 * (1..400).map(|k: i64| (k * k) as f64 * pmf(k)).sum::<f64>();
            vectors::close(variance, case.f64("variance"), "variance");
            let gaussian = DiscreteGaussian::new(Ratio::at_least(sigma2).unwrap());
            chi_square(11, &pmf_of(pmf, 200), |values, rng| gaussian.add_to(values, rng));
            seen += 1;
        }
        assert!(seen > 0);
    }

    #[test]
    fn fractions_and_extremes() {
        for (numerator, denominator) in [(16, 3), (22, 7), (1, 9), (1 << 48, (1 << 48) - 1), (49, 4)] {
            let gaussian = DiscreteGaussian::new(Ratio::new(numerator, denominator).unwrap());
            let pmf = pmf_of(gaussian_pmf(numerator as f64 / denominator as f64), 60);
            chi_square(12, &pmf, |values, rng| gaussian.add_to(values, rng));
        }
        // The least variance there is: never anything but zero.
        let least = DiscreteGaussian::new(Ratio::new(1, 1 << 48).unwrap());
        let mut values = [0; 100];
        least.add_to(&mut values, &mut NoiseRng::predictable(2)).unwrap();
        assert_eq!(values, [0; 100]);
    }

    /// Wide ones in bins of equal probability.
    #[test]
    fn wide_gaussians() {
        for sigma in [100.0, 1000.5, 1_048_576.0, 16_777_216.0] {
            let gaussian = DiscreteGaussian::new(Ratio::at_least(sigma * sigma).unwrap());
            let bins = quantile_bins(sigma);
            chi_square(13, &bins, |values, rng| gaussian.add_to(values, rng));
        }
    }

    /// The test above would notice 2 % too little variance.
    #[test]
    fn the_test_notices_a_wrong_sigma() {
        let gaussian = DiscreteGaussian::new(Ratio::new(392, 100).unwrap());
        let found =
            chi_square_statistic(14, &pmf_of(gaussian_pmf(4.0), 60), |values, rng| gaussian.add_to(values, rng));
        assert!(found.statistic > found.limit, "{found:?}");
    }

    #[test]
    fn lanes_and_integers_get_the_same_noise() {
        let gaussian = DiscreteGaussian::new(Ratio::new(900, 1).unwrap());
        let (mut integers, mut lanes) = ([5_i64; 64], [5_u64; 64]);
        gaussian.add_to(&mut integers, &mut NoiseRng::predictable(4)).unwrap();
        gaussian.add_to_lanes(&mut lanes, &mut NoiseRng::predictable(4));
        assert!(integers.iter().zip(lanes).all(|(integer, lane)| integer.cast_unsigned() == lane));
    }

    /// Clip, grid, noise and charge belong together: the charge is that of the noise over the bound after rounding, and
    /// more than that of the noise over the clip.
    #[test]
    fn the_charge_is_for_the_bound_after_rounding() {
        let bound = Grid::new(1.0, 256.0, 1000, 0.5).unwrap().bound();
        let gaussian = DiscreteGaussian::new(Ratio::at_least(300.0 * 300.0).unwrap());
        let event =
            Event::new(Unit::Participant, Relation::ZeroOut, Sampling::None, gaussian.mechanism(bound), 1).unwrap();
        let charged = rdp::divergence(&event, 8.0).unwrap();
        let after = 8.0 * (bound.l2() / 300.0).powi(2) / 2.0;
        assert!(charged >= after && charged <= after * (1.0 + 1e-9));
        assert!(charged > 8.0 * (256.0_f64 / 300.0).powi(2) / 2.0);
    }

    #[test]
    fn overflow_is_an_error() {
        let gaussian = DiscreteGaussian::new(Ratio::new(900, 1).unwrap());
        let got = gaussian.add_to(&mut [i64::MAX; 64], &mut NoiseRng::predictable(4));
        assert!(matches!(got, Err(NoiseError::Overflow { .. })));
    }
}
