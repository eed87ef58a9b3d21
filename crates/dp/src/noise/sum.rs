//! A sum of real vectors that is put on the grid once, and its noise.
//!
//! Where one program holds all vectors, as a site does the gradients of a batch, rounding each of them would cost a draw
//! per element and vector. The sum is taken in f64 instead and rounded to the nearest integers; what that can add to the
//! sensitivity is part of it.

use super::error::{NoiseError, at_least_one, positive, up};
use super::gaussian::DiscreteGaussian;
use super::rng::NoiseRng;
use super::variance::Ratio;
use crate::event::Mechanism;

/// Clip, grid and noise of a sum of vectors that are each at most `clip` long.
///
/// With S and S' the sums of neighbours, as computed, `|S - S'| <= clip (1 + 2^-20)`: see [`SumGrid::new`]. Rounded to
/// the nearest integers, each moves by at most `sqrt(d) / 2`. So the sensitivity of the integers is
/// `clip (1 + 2^-20) units + sqrt(d)`, and the noise is `multiplier` times that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SumGrid {
    units: f64,
    l2: f64,
    dim: u64,
    sigma2: Ratio,
}

impl SumGrid {
    /// - `clip`: L2 norm of each vector, at most. The caller computes norms, products and sums in f64 and sees to it that all
    ///   of that is off by less than 2^-21 clip; twice that covers both neighbours. With u = 2^-53, a norm of d squares is off
    ///   by less than d u of itself, and a plain sum of n vectors by `u (1 + 2 + ... + n) clip`: about 2^-22 clip for n of
    ///   2^16. Beyond that a sum has to be compensated.
    /// - `dim`: elements.
    /// - `multiplier`: noise standard deviation over sensitivity.
    ///
    /// # Errors
    /// [`NoiseError::Parameter`] or [`NoiseError::Count`] for what is out of range.
    pub fn new(clip: f64, dim: u64, multiplier: f64) -> Result<Self, NoiseError> {
        let clip = positive("the clip norm", clip)?;
        let multiplier = positive("the noise multiplier", multiplier)?;
        let root = (at_least_one("the number of elements", dim)? as f64).sqrt();
        // As fine as the sampler reaches, so that rounding adds little: an exact power of two.
        let finest = (SIGMA_MAX / multiplier - root).min(CLIP_UNITS_MAX);
        if finest.is_nan() || finest < 1.0 {
            return Err(NoiseError::Parameter { name: "the noise multiplier", got: multiplier, want: TOO_NOISY });
        }
        let units = 2.0_f64.powf((finest / clip).log2().floor());
        positive("grid units per 1.0", units)?;
        let l2 = up(up(clip * (1.0 + SUM_SLACK) * units) + root);
        let sigma = up(multiplier * l2);
        let sigma2 = Ratio::at_least(up(sigma * sigma))?;
        Ok(Self { units, l2, dim, sigma2 })
    }

    /// What to charge for one noised sum.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        Mechanism::DiscreteGaussian { sigma2: self.sigma2.to_f64().next_down(), l2: self.l2, dim: self.dim }
    }

    /// Grid units per 1.0, a power of two.
    #[must_use]
    pub fn units(&self) -> f64 {
        self.units
    }

    /// Puts a sum on the grid, adds fresh noise, and takes it back: `sum` is overwritten with what may be seen.
    ///
    /// # Errors
    /// [`NoiseError::Length`], [`NoiseError::NotFinite`]; [`NoiseError::Overflow`] for a sum that no 2^32 vectors have.
    /// `sum` is then void.
    pub fn noise(&self, sum: &mut [f64], rng: &mut NoiseRng) -> Result<(), NoiseError> {
        let dim = usize::try_from(self.dim).unwrap_or(usize::MAX);
        if sum.len() != dim {
            return Err(NoiseError::Length { name: "the sum", got: sum.len(), want: dim });
        }
        let sampler = DiscreteGaussian::new(self.sigma2);
        let mut block = [0_i64; BLOCK];
        for (at, values) in sum.chunks_mut(BLOCK).enumerate() {
            let block = &mut block[..values.len()];
            for (place, (integer, value)) in block.iter_mut().zip(&*values).enumerate() {
                let scaled = value * self.units;
                if !scaled.is_finite() {
                    return Err(NoiseError::NotFinite { at: at * BLOCK + place });
                }
                if scaled.abs() > SUM_UNITS_MAX {
                    return Err(NoiseError::Overflow { at: at * BLOCK + place });
                }
                #[expect(clippy::cast_possible_truncation, reason = "within 2^52")]
                {
                    *integer = scaled.round() as i64;
                }
            }
            sampler.add_to(block, rng)?;
            for (value, integer) in values.iter_mut().zip(&*block) {
                // Within 2^53, exact; division by a power of two as well.
                *value = *integer as f64 / self.units;
            }
        }
        Ok(())
    }
}

/// What rounding in f64 adds to the sensitivity, relative.
const SUM_SLACK: f64 = 1.0 / (1 << 20) as f64;
/// Largest clip norm on the grid: finer brings nothing.
const CLIP_UNITS_MAX: f64 = (1_u64 << 20) as f64;
/// Largest standard deviation that is asked of the sampler, whose variance reaches 2^48.
const SIGMA_MAX: f64 = (1_u64 << 23) as f64;
/// `2^32` vectors of `2^20` units.
const SUM_UNITS_MAX: f64 = (1_u64 << 52) as f64;
const BLOCK: usize = 512;
const TOO_NOISY: &str = "small enough for the sampler: multiplier times (1 + square root of the elements) below 2^23";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Relation, Sampling, Unit};
    use crate::rdp;

    #[test]
    fn the_charge_is_that_of_the_multiplier() {
        for (clip, dim, multiplier) in [(1.0, 650, 1.1), (0.3, 2410, 0.7), (3.0, 1, 5.0), (1e-3, 1_000_000, 1.0)] {
            let grid = SumGrid::new(clip, dim, multiplier).unwrap();
            let Mechanism::DiscreteGaussian { sigma2, l2, .. } = grid.mechanism() else { panic!("another mechanism") };
            assert!(sigma2.sqrt() >= multiplier * l2 * (1.0 - 1e-12), "{clip} {dim}");
            assert!(sigma2.sqrt() <= multiplier * l2 * (1.0 + 1e-6), "{clip} {dim}");
            assert!(l2 >= clip * grid.units() + (dim as f64).sqrt());
            let event = Event::new(Unit::Record, Relation::AddRemove, Sampling::None, grid.mechanism(), 1).unwrap();
            let cost = rdp::divergence(&event, 2.0).unwrap();
            assert!((cost * multiplier * multiplier - 1.0).abs() < 1e-6, "{cost}");
        }
    }

    /// Neighbours that differ by one vector at the clip differ by no more than the sensitivity once rounded.
    #[test]
    fn rounding_is_within_the_sensitivity() {
        let (dim, clip) = (400, 0.7);
        let grid = SumGrid::new(clip, dim as u64, 1.0).unwrap();
        let element = clip / (dim as f64).sqrt();
        let base: Vec<f64> = (0..dim).map(|i| f64::from(i) * 0.013).collect();
        let round = |sum: &[f64]| sum.iter().map(|value| (value * grid.units()).round()).collect::<Vec<_>>();
        let more: Vec<f64> = base.iter().map(|value| value + element).collect();
        let moved = round(&base).iter().zip(round(&more)).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
        let Mechanism::DiscreteGaussian { l2, .. } = grid.mechanism() else { panic!("another mechanism") };
        assert!(moved <= l2, "{moved} {l2}");
    }

    #[test]
    fn noise_has_the_variance_it_says() {
        let grid = SumGrid::new(2.0, 40_000, 1.5).unwrap();
        let mut sum = vec![0.25; 40_000];
        grid.noise(&mut sum, &mut NoiseRng::predictable(3)).unwrap();
        let variance = sum.iter().map(|value| (value - 0.25).powi(2)).sum::<f64>() / 40_000.0;
        // The sensitivity is a little above 2, for the 200 units that rounding may add to 2^20.
        assert!((variance / 9.0 - 1.0).abs() < 6.0 * (2.0_f64 / 40_000.0).sqrt() + 4e-4, "{variance}");
    }

    #[test]
    fn bad_input_is_refused() {
        for (clip, dim, multiplier) in
            [(f64::NAN, 1, 1.0), (0.0, 1, 1.0), (1.0, 0, 1.0), (1.0, 1, f64::INFINITY), (1.0, 1, 0.0), (1.0, 1, 1e9)]
        {
            assert!(SumGrid::new(clip, dim, multiplier).is_err(), "{clip} {dim} {multiplier}");
        }
        let grid = SumGrid::new(1.0, 2, 1.0).unwrap();
        let rng = &mut NoiseRng::predictable(3);
        assert!(matches!(grid.noise(&mut [0.0], rng), Err(NoiseError::Length { .. })));
        assert!(matches!(grid.noise(&mut [0.0, f64::NAN], rng), Err(NoiseError::NotFinite { at: 1 })));
        assert!(matches!(grid.noise(&mut [1e300, 0.0], rng), Err(NoiseError::Overflow { at: 0 })));
    }
}
