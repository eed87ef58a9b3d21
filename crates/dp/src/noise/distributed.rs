//! Noise added by participants inside a secure sum.
//!
//! Every participant adds a share of the noise to its own vector before masking, so that nobody, the coordinator
//! included, ever holds a sum without noise. Some fall silent, some collude and know their share: the others' must
//! suffice. The secure sum opens for no fewer survivors than its threshold allows, and the shares are sized for those.

use super::error::{NoiseError, at_least_one, positive, up};
use super::gaussian::DiscreteGaussian;
use super::grid::RoundedBound;
use super::skellam::Skellam;
use super::variance::Ratio;
use crate::event::Mechanism;

/// Least standard deviation of one share in grid units: then a sum of shares is as good as a discrete Gaussian, with
/// [`crate::rdp::discrete_gaussian_tau`] below 1e-15.
pub const SHARE_SIGMA_MIN: f64 = 2.0;

/// Who takes part in a sum, and how many of them can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cohort {
    /// Invited, and at most that many add noise.
    pub participants: u32,
    /// Fewest whose sum opens: the threshold of the secure sum. The others may be silent.
    pub min_survivors: u32,
    /// Survivors that may know their own noise.
    pub max_corrupt: u32,
}

/// How much noise each participant adds: `target / (min_survivors - max_corrupt)`, so that the honest among any survivors
/// that the threshold allows carry the target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoiseShare {
    cohort: Cohort,
    target: f64,
    sigma2: Ratio,
}

impl NoiseShare {
    /// Each participant's share of a target variance, both in squared grid units.
    ///
    /// # Errors
    /// [`NoiseError::NobodyCarries`] where corrupt participants may be all survivors, [`NoiseError::ShareTooSmall`] below
    /// [`SHARE_SIGMA_MIN`]; [`NoiseError::Parameter`] and [`NoiseError::Count`] for what is out of range.
    pub fn new(cohort: Cohort, target: f64) -> Result<Self, NoiseError> {
        let target = positive("the target variance", target)?;
        let Cohort { participants, min_survivors, max_corrupt } = cohort;
        at_least_one("the threshold", min_survivors.into())?;
        if min_survivors > participants {
            let want = "at most the number of participants";
            return Err(NoiseError::Count { name: "the threshold", got: min_survivors.into(), want });
        }
        let honest = min_survivors
            .checked_sub(max_corrupt)
            .filter(|honest| *honest > 0)
            .ok_or(NoiseError::NobodyCarries { min_survivors, max_corrupt })?;
        let share = target / f64::from(honest);
        if share < SHARE_SIGMA_MIN * SHARE_SIGMA_MIN {
            return Err(NoiseError::ShareTooSmall { sigma: share.sqrt(), min: SHARE_SIGMA_MIN });
        }
        let sigma2 = Ratio::at_least(share.next_up())?;
        Ok(Self { cohort, target, sigma2 })
    }

    /// What each participant draws from.
    #[must_use]
    pub fn sampler(&self) -> DiscreteGaussian {
        DiscreteGaussian::new(self.sigma2)
    }

    /// Parameter sigma^2 of one share, squared grid units.
    #[must_use]
    pub fn sigma2(&self) -> Ratio {
        self.sigma2
    }

    /// The cohort that the share is sized for.
    #[must_use]
    pub fn cohort(&self) -> Cohort {
        self.cohort
    }

    /// The variance that a sum carries at least, honest shares only; squared grid units.
    #[must_use]
    pub fn target(&self) -> f64 {
        self.target
    }

    /// Variance of the noise that so many survivors added: what a release of theirs shows. At least the target.
    ///
    /// # Errors
    /// [`NoiseError::Count`] for fewer than the threshold or more than were invited: this sum must not be opened.
    pub fn sum_variance(&self, survivors: u32) -> Result<f64, NoiseError> {
        if !(self.cohort.min_survivors..=self.cohort.participants).contains(&survivors) {
            let want = "from the threshold to the number of participants";
            return Err(NoiseError::Count { name: "the number of survivors", got: survivors.into(), want });
        }
        Ok(f64::from(survivors) * self.sigma2.to_f64())
    }

    /// What to charge: the noise of the fewest honest survivors that there can be.
    #[must_use]
    pub fn mechanism(&self, bound: RoundedBound) -> Mechanism {
        Mechanism::DiscreteGaussianSum {
            parties: self.honest().into(),
            sigma2: self.sigma2.to_f64().next_down(),
            l1: bound.l1(),
            l2: bound.l2(),
            dim: bound.dim(),
        }
    }

    /// The same share as Skellam noise, whose sums are Skellam again, and what to charge for it.
    ///
    /// # Errors
    /// Where the share's variance is beyond the sampler: see [`Skellam::at_least`].
    pub fn skellam(&self, bound: RoundedBound) -> Result<(Skellam, Mechanism), NoiseError> {
        let sampler = Skellam::at_least(self.sigma2.to_f64())?;
        let mu = (f64::from(self.honest()) * sampler.mu().to_f64()).next_down();
        Ok((sampler, Mechanism::Skellam { mu, l1: bound.l1(), l2: bound.l2() }))
    }

    /// Fewest honest survivors of a sum that opens.
    fn honest(&self) -> u32 {
        self.cohort.min_survivors - self.cohort.max_corrupt
    }
}

/// Norm that an update and its noise share stay within, but for a chance of `failure`: what a norm proof has to admit.
///
/// `|x + N|^2 = |x|^2 + 2 <x, N> + |N|^2` with N sub-Gaussian of parameter sigma in `dim` dimensions: with
/// `t = ln(2/failure)`, `<x, N> <= |x| sigma sqrt(2t)` and `|N|^2 <= sigma^2 (d + 2 sqrt(d t) + 2t)` (Hsu, Kakade, Zhang
/// 2012, theorem 1; discrete Gaussians are sub-Gaussian, Canonne, Kamath, Steinke 2020, corollary 17). Unit of `clip` and
/// `sigma`.
///
/// # Errors
/// [`NoiseError::Parameter`] or [`NoiseError::Count`] for what is out of range.
pub fn effective_bound(clip: f64, sigma: f64, dim: u64, failure: f64) -> Result<f64, NoiseError> {
    let (clip, sigma) = (positive("the clip norm", clip)?, positive("the share's sigma", sigma)?);
    let d = at_least_one("the number of elements", dim)? as f64;
    if !(failure > 0.0 && failure < 1.0) {
        return Err(NoiseError::Parameter { name: "the failure probability", got: failure, want: "in (0, 1)" });
    }
    let t = (2.0 / failure).ln();
    let noise = sigma * sigma * (d + 2.0 * (d * t).sqrt() + 2.0 * t);
    Ok(up((clip * clip + 2.0 * clip * sigma * (2.0 * t).sqrt() + noise).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::vectors;
    use crate::noise::{Grid, NoiseRng};
    use crate::rdp;
    use proptest::prelude::*;

    /// All `noise_share` cases.
    #[test]
    fn noise_share_vectors() {
        let file = vectors::load("distributed.json");
        assert!(!file.all().is_empty());
        for case in file.all() {
            match case.kind() {
                "noise_share" => {
                    let participants: u32 = case.count("clients");
                    let min_survivors = participants - case.count::<u32>("max_dropouts");
                    let max_corrupt = case.count("max_corrupt");
                    let target = case.f64("target_variance");
                    let share = NoiseShare::new(Cohort { participants, min_survivors, max_corrupt }, target).unwrap();
                    vectors::close(share.sigma2().to_f64(), case.f64("per_client_variance"), "share");
                    let full = share.sum_variance(participants).unwrap();
                    vectors::close(full, case.f64("aggregate_variance_no_dropout"), "all survive");
                    let honest = f64::from(min_survivors - max_corrupt) * share.sigma2().to_f64();
                    vectors::close(honest, case.f64("honest_variance_worst_case"), "worst case");
                    assert!(honest >= target);
                    let bound = Grid::new(1.0, 64.0, 100, 0.5).unwrap().bound();
                    let Mechanism::DiscreteGaussianSum { parties, sigma2, l2, .. } = share.mechanism(bound) else {
                        panic!("another mechanism");
                    };
                    assert_eq!((parties, l2), (u64::from(min_survivors - max_corrupt), bound.l2()));
                    assert!(sigma2 <= share.sigma2().to_f64() && sigma2 >= share.sigma2().to_f64() * (1.0 - 1e-15));
                }
                // The accountant's and the grid's.
                "ddgauss_rdp" | "rounded_norm" => {}
                other => panic!("unknown kind {other}"),
            }
        }
    }

    proptest! {
        /// Whoever survives and whoever is corrupt: the honest shares make up the target.
        #[test]
        fn every_allowed_survivor_set_carries_the_noise(
            participants in 1_u32..5000, silent in 0.0..1.0_f64, corrupt in 0.0..1.0_f64, target in 1.0..1e9_f64,
            more in 0.0..1.0_f64,
        ) {
            let part = |of: u32, fraction: f64| (f64::from(of) * fraction) as u32;
            let min_survivors = participants - part(participants, silent);
            let max_corrupt = part(min_survivors, corrupt);
            let cohort = Cohort { participants, min_survivors, max_corrupt };
            match NoiseShare::new(cohort, target) {
                Ok(share) => {
                    let survivors = min_survivors + part(participants - min_survivors, more);
                    let honest = survivors - max_corrupt;
                    // In exact integers: honest a >= target b, to one rounding of the product on the right.
                    let (a, b) = (share.sigma2().numerator(), share.sigma2().denominator());
                    prop_assert!(u128::from(honest) * u128::from(a) >= (target * b as f64) as u128);
                    prop_assert!(share.sum_variance(survivors).unwrap() >= target);
                    prop_assert!(share.sigma2().to_f64() >= 4.0);
                    let tau = rdp::discrete_gaussian_tau(honest.into(), share.sigma2().to_f64()).unwrap();
                    prop_assert!(tau < 1e-15, "{tau}");
                }
                Err(NoiseError::ShareTooSmall { sigma, .. }) => prop_assert!(sigma < 2.0),
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }

    #[test]
    fn no_survivor_set_without_noise() {
        let cohort = |participants, min_survivors, max_corrupt| Cohort { participants, min_survivors, max_corrupt };
        let refused = NoiseShare::new(cohort(10, 5, 5), 400.0);
        assert_eq!(refused, Err(NoiseError::NobodyCarries { min_survivors: 5, max_corrupt: 5 }));
        assert!(matches!(NoiseShare::new(cohort(10, 5, 9), 400.0), Err(NoiseError::NobodyCarries { .. })));
        assert!(matches!(NoiseShare::new(cohort(10, 11, 0), 400.0), Err(NoiseError::Count { .. })));
        assert!(matches!(NoiseShare::new(cohort(10, 0, 0), 400.0), Err(NoiseError::Count { .. })));
        assert!(matches!(NoiseShare::new(cohort(100, 100, 0), 399.0), Err(NoiseError::ShareTooSmall { .. })));
        for bad in [f64::NAN, 0.0, -4.0, f64::INFINITY, 1e300] {
            assert!(NoiseShare::new(cohort(10, 8, 1), bad).is_err());
        }
    }

    #[test]
    fn too_few_or_too_many_survivors_have_no_variance() {
        let share = NoiseShare::new(Cohort { participants: 10, min_survivors: 7, max_corrupt: 1 }, 600.0).unwrap();
        assert!(share.sum_variance(6).is_err());
        assert!(share.sum_variance(11).is_err());
        assert!(share.sum_variance(7).unwrap() >= 700.0);
    }

    /// 7 of 10 answer, one is corrupt: what the honest six add has the target's variance. Chi-square of 200,000 degrees
    /// of freedom, its standard deviation 0.32 %; five of them fail with a chance of 6e-7, at a fixed seed.
    #[test]
    fn measured_variance_of_the_worst_case() {
        let share = NoiseShare::new(Cohort { participants: 10, min_survivors: 7, max_corrupt: 1 }, 600.0).unwrap();
        let mut sum = vec![0_i64; 200_000];
        for honest in 0..6 {
            share.sampler().add_to(&mut sum, &mut NoiseRng::predictable(honest)).unwrap();
        }
        let measured = sum.iter().map(|&x| (x * x) as f64).sum::<f64>() / 200_000.0;
        assert!((measured / 600.0 - 1.0).abs() < 0.016, "{measured}");
    }

    #[test]
    fn an_update_with_its_noise_stays_within_the_effective_bound() {
        let (clip, sigma, dim) = (1000.0_f64, 110.0, 650);
        let bound = effective_bound(clip, sigma, dim, 1e-6).unwrap();
        assert!(bound / clip > 3.0 && bound / clip < 4.0, "{bound}");
        let sampler = DiscreteGaussian::new(Ratio::at_least(sigma * sigma).unwrap());
        for seed in 0..500 {
            let mut update = vec![0_i64; 650];
            update[0] = 1000;
            sampler.add_to(&mut update, &mut NoiseRng::predictable(seed)).unwrap();
            let norm = update.iter().map(|&x| (x * x) as f64).sum::<f64>().sqrt();
            assert!(norm <= bound && norm > bound * 0.75, "{norm} of {bound}");
        }
        assert!(effective_bound(f64::NAN, 1.0, 1, 0.1).is_err());
        assert!(effective_bound(1.0, 1.0, 1, 0.0).is_err());
    }
}
