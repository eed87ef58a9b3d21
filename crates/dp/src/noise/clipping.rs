//! A clip norm that follows the updates (Andrew, Thakkar, McMahan, Ramaswamy 2021, [arXiv:1905.03871]).
//!
//! Beside its clipped update each participant sends one bit: whether its norm was within the clip. The noised number of
//! such bits moves the clip towards a quantile of the norms. The bits are a release and are charged: update and bits
//! together cost one Gaussian event of multiplier z, for which the update's own noise grows a little.
//!
//! [arXiv:1905.03871]: https://arxiv.org/abs/1905.03871

use super::error::{NoiseError, at_least_one, positive, up};
use super::gaussian::DiscreteGaussian;
use super::variance::Ratio;

/// Noise of an update's sum and of the count that travels with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClipCount {
    multiplier: f64,
    count_sigma: f64,
}

impl ClipCount {
    /// - `multiplier`: z of the one Gaussian event that update and count are charged as.
    /// - `count_sigma`: standard deviation of the noise on the number of bits. Their sensitivity is 1/2, since they are
    ///   centred, so the count alone has multiplier `2 count_sigma`.
    ///
    /// # Errors
    /// [`NoiseError::Parameter`] for what is not positive, or where the count alone would cost as much as both may.
    pub fn new(multiplier: f64, count_sigma: f64) -> Result<Self, NoiseError> {
        let multiplier = positive("the noise multiplier", multiplier)?;
        let count_sigma = positive("the count's sigma", count_sigma)?;
        if count_sigma * 2.0 <= multiplier {
            let want = "more than half the noise multiplier";
            return Err(NoiseError::Parameter { name: "the count's sigma", got: count_sigma, want });
        }
        let joint = Self { multiplier, count_sigma };
        positive("the update's noise multiplier", joint.update_multiplier())?;
        Ok(joint)
    }

    /// Multiplier of the event to charge, for update and count together.
    #[must_use]
    pub fn charged_multiplier(&self) -> f64 {
        self.multiplier
    }

    /// Multiplier of the noise on the update, `(z^-2 - (2 sigma_b)^-2)^-1/2`, rounded up.
    #[must_use]
    pub fn update_multiplier(&self) -> f64 {
        // z / sqrt(1 - (z/(2 sigma_b))^2), the difference as a product: nothing cancels, nothing overflows.
        let share = self.multiplier / (2.0 * self.count_sigma);
        up(self.multiplier / ((1.0 - share) * (1.0 + share)).sqrt())
    }

    /// Noise on the sum of [`sign`](Self::sign)s, which are twice the centred bits.
    ///
    /// # Errors
    /// [`NoiseError::Parameter`] where sigma is beyond the samplers.
    pub fn noise(&self) -> Result<DiscreteGaussian, NoiseError> {
        Ok(DiscreteGaussian::new(Ratio::at_least(up(4.0 * self.count_sigma * self.count_sigma))?))
    }

    /// What a participant sends: 1 for a norm within the clip, -1 beyond, half a unit of it being the centred bit.
    ///
    /// # Errors
    /// [`NoiseError::Parameter`] for a norm that is negative or not a number.
    pub fn sign(norm: f64, clip: f64) -> Result<i64, NoiseError> {
        if norm.is_nan() || norm < 0.0 {
            return Err(NoiseError::Parameter { name: "the norm of the update", got: norm, want: ">= 0" });
        }
        Ok(if norm <= positive("the clip norm", clip)? { 1 } else { -1 })
    }

    /// Noised fraction of norms within the clip, by the *planned* number of participants: the actual one is data under
    /// add/remove. May lie outside `[0, 1]`.
    ///
    /// # Errors
    /// [`NoiseError::Count`] for no participants.
    pub fn fraction_below(noised_signs: i64, participants: u32) -> Result<f64, NoiseError> {
        at_least_one("the number of participants", participants.into())?;
        Ok(0.5 + noised_signs as f64 / (2.0 * f64::from(participants)))
    }
}

/// How a clip norm moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClipPlan {
    /// Fraction of norms that should lie within the clip, in `[0, 1]`.
    pub target_quantile: f64,
    /// Size of a step, of the logarithm.
    pub learning_rate: f64,
    /// Least clip norm.
    pub min: f64,
    /// Largest clip norm.
    pub max: f64,
}

/// A clip norm on its way. It follows noised counts only, so it is public.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveClip {
    plan: ClipPlan,
    clip: f64,
}

impl AdaptiveClip {
    /// Starts at `clip`.
    ///
    /// # Errors
    /// [`NoiseError::Parameter`] unless `0 < min <= clip <= max`, the quantile is in `[0, 1]` and the rate positive.
    pub fn new(clip: f64, plan: ClipPlan) -> Result<Self, NoiseError> {
        positive("the least clip norm", plan.min)?;
        positive("the largest clip norm", plan.max)?;
        positive("the learning rate", plan.learning_rate)?;
        if !(0.0..=1.0).contains(&plan.target_quantile) {
            let want = "in [0, 1]";
            return Err(NoiseError::Parameter { name: "the target quantile", got: plan.target_quantile, want });
        }
        if !(plan.min..=plan.max).contains(&positive("the clip norm", clip)?) {
            let want = "from the least to the largest clip norm";
            return Err(NoiseError::Parameter { name: "the clip norm", got: clip, want });
        }
        Ok(Self { plan, clip })
    }

    /// The clip norm of the coming round.
    #[must_use]
    pub fn clip(&self) -> f64 {
        self.clip
    }

    /// The clip norm after a round: `C e^(-rate (fraction - quantile))`, within its bounds.
    ///
    /// # Errors
    /// [`NoiseError::Parameter`] for a fraction that is not finite.
    pub fn step(&self, noised_fraction_below: f64) -> Result<Self, NoiseError> {
        if !noised_fraction_below.is_finite() {
            let name = "the noised fraction";
            return Err(NoiseError::Parameter { name, got: noised_fraction_below, want: "finite" });
        }
        let ClipPlan { target_quantile, learning_rate, min, max } = self.plan;
        let moved = self.clip * (-learning_rate * (noised_fraction_below - target_quantile)).exp();
        Ok(Self { plan: self.plan, clip: moved.clamp(min, max) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::NoiseRng;
    use crate::noise::vectors;

    fn plan(target_quantile: f64, learning_rate: f64) -> ClipPlan {
        ClipPlan { target_quantile, learning_rate, min: 1e-6, max: 1e6 }
    }

    /// All `adaptive_clip_*` cases.
    #[test]
    fn clipping_vectors() {
        let file = vectors::load("correlated_noise.json");
        let mut seen = [0; 2];
        for case in file.cases("adaptive_clip_noise") {
            let joint = ClipCount::new(case.f64("z"), case.f64("sigma_b")).unwrap();
            vectors::close(joint.update_multiplier(), case.f64("z_delta"), "z_delta");
            assert!(joint.update_multiplier() >= case.f64("z_delta"), "rounded up");
            seen[0] += 1;
        }
        for case in file.cases("adaptive_clip_step") {
            let plan = plan(case.f64("target_quantile"), case.f64("learning_rate"));
            let clip = AdaptiveClip::new(case.f64("clip"), plan).unwrap();
            let next = clip.step(case.f64("noised_fraction_below")).unwrap();
            vectors::close(next.clip(), case.f64("clip_next"), "clip_next");
            seen[1] += 1;
        }
        assert!(seen.into_iter().all(|seen| seen > 0));
    }

    /// Norms spread evenly over 0 to 10: the clip finds their median through the noise.
    #[test]
    fn the_clip_finds_the_quantile() {
        let joint = ClipCount::new(1.0, 5.0).unwrap();
        let mut clip = AdaptiveClip::new(0.1, plan(0.5, 0.2)).unwrap();
        let mut late = Vec::new();
        for round in 0..150 {
            let mut signs = [(1..=100).map(|at| ClipCount::sign(f64::from(at) / 10.0, clip.clip()).unwrap()).sum()];
            joint.noise().unwrap().add_to(&mut signs, &mut NoiseRng::predictable(round)).unwrap();
            clip = clip.step(ClipCount::fraction_below(signs[0], 100).unwrap()).unwrap();
            if round >= 100 {
                late.push(clip.clip());
            }
        }
        let mean = late.iter().sum::<f64>() / late.len() as f64;
        assert!((4.5..5.5).contains(&mean), "{mean}");
    }

    #[test]
    fn the_clip_stays_within_its_bounds() {
        let plan = ClipPlan { target_quantile: 0.5, learning_rate: 1000.0, min: 0.1, max: 10.0 };
        let clip = AdaptiveClip::new(1.0, plan).unwrap();
        assert_eq!(clip.step(-1e9).unwrap().clip(), 10.0);
        assert_eq!(clip.step(1e9).unwrap().clip(), 0.1);
    }

    #[test]
    fn bad_input_is_refused() {
        for (z, sigma_b) in [(0.0, 1.0), (1.0, 0.0), (f64::NAN, 1.0), (1.0, f64::NAN), (2.0, 1.0), (3.0, 1.0)] {
            assert!(ClipCount::new(z, sigma_b).is_err(), "{z} {sigma_b}");
        }
        assert!(ClipCount::sign(f64::NAN, 1.0).is_err());
        assert!(ClipCount::sign(-1.0, 1.0).is_err());
        assert!(ClipCount::sign(1.0, 0.0).is_err());
        assert_eq!(ClipCount::sign(f64::INFINITY, 1.0), Ok(-1));
        assert!(ClipCount::fraction_below(1, 0).is_err());
        assert!(AdaptiveClip::new(f64::NAN, plan(0.5, 0.2)).is_err());
        assert!(AdaptiveClip::new(1.0, plan(1.5, 0.2)).is_err());
        assert!(AdaptiveClip::new(1.0, plan(0.5, f64::NAN)).is_err());
        assert!(AdaptiveClip::new(1e9, plan(0.5, 0.2)).is_err());
        assert!(AdaptiveClip::new(1.0, plan(0.5, 0.2)).unwrap().step(f64::NAN).is_err());
    }
}
