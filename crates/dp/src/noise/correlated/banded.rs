//! Noise of a banded factor, on integers.
//!
//! The mechanism releases `C x + z` and everything else is computed from it, so its privacy is that of z. Here C has
//! coefficients in multiples of `2^-k` and z is a discrete Gaussian on the same finer grid, so `2^k (C x + z)` are integers
//! with exact discrete Gaussian noise. What a round adds to its sum is
//! `n_t = round(z_t - sum_(j>=1) c_j n_(t-j))`. Since x is integer, `x_t + n_t` is the rounding of
//! `(C x + z)_t - sum_(j>=1) c_j (x + n)_(t-j)`: a function of what the mechanism releases and of earlier outputs. Rounding
//! is post-processing and no error reaches the guarantee.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::state::{StateReader, StateWriter};
use super::toeplitz::{Toeplitz, sum_of_columns};
use crate::noise::error::{NoiseError, positive, up};
use crate::noise::gaussian::DiscreteGaussian;
use crate::noise::rng::NoiseRng;
use crate::noise::variance::Ratio;

/// "sdp band", the format's name.
const TAG: u64 = u64::from_le_bytes(*b"sdp band");
/// Most binary places of coefficients.
const PLACES_MAX: u32 = 24;

/// A banded factor with coefficients in multiples of `2^-places`, the first of them 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BandedFactor {
    coefficients: Vec<u64>,
    places: u32,
    n: usize,
}

impl BandedFactor {
    /// Scales a factor to leading coefficient 1 and rounds the others to so many binary places.
    ///
    /// # Errors
    /// [`NoiseError::Count`] for more than 24 places.
    pub fn new(factor: &Toeplitz, places: u32) -> Result<Self, NoiseError> {
        if places > PLACES_MAX {
            return Err(NoiseError::Count { name: "binary places", got: places.into(), want: "at most 24" });
        }
        let leading = factor.coefficients()[0];
        // Rounding keeps the order, and what rounds to 0 ends the band.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 2^24")]
        let rounded = factor.coefficients().iter().map(|c| (c / leading * f64::from(1 << places)).round() as u64);
        Ok(Self { coefficients: rounded.take_while(|c| *c > 0).collect(), places, n: factor.rounds() })
    }

    /// L2 sensitivity of `C x` for these rounded coefficients, rounded up: see [`Toeplitz::sensitivity`].
    ///
    /// # Errors
    /// [`NoiseError::Count`] where one of them is 0.
    pub fn sensitivity(&self, participations: usize, min_separation: usize) -> Result<f64, NoiseError> {
        let column = sum_of_columns(&self.coefficients, self.n, participations, min_separation)?;
        let squared: f64 = column.iter().map(|&c| (c as f64).powi(2)).sum();
        Ok(up(squared.sqrt() * (1.0 + column.len() as f64 * f64::EPSILON)) / f64::from(1 << self.places))
    }

    /// Rounds that one participation shows in.
    #[must_use]
    pub fn bands(&self) -> usize {
        self.coefficients.len()
    }
}

/// The noise of a run, round by round. Holds the noise of the last `bands - 1` rounds: `[bands - 1][dim]` integers.
pub struct BandedNoise {
    factor: BandedFactor,
    sampler: DiscreteGaussian,
    step: usize,
    dim: usize,
    /// Of earlier rounds, the latest first.
    earlier: VecDeque<Zeroizing<Vec<i64>>>,
}

impl BandedNoise {
    /// - `sigma2`: parameter of z in squared grid units of the sums: the run costs one Gaussian event of multiplier
    ///   `sigma / (sensitivity(C) * sensitivity of one sum)`.
    /// - `dim`: elements of a sum.
    ///
    /// # Errors
    /// [`NoiseError::Parameter`] where `sigma2` times `4^places` is beyond the samplers.
    pub fn new(factor: BandedFactor, sigma2: f64, dim: usize) -> Result<Self, NoiseError> {
        let sigma2 = positive("the variance of z", sigma2)?;
        // A power of two: exact.
        let fine = Ratio::at_least(sigma2 * 4.0_f64.powi(factor.places.cast_signed()))?;
        Ok(Self { factor, sampler: DiscreteGaussian::new(fine), step: 0, dim, earlier: VecDeque::new() })
    }

    /// Adds a round's noise to its sum.
    ///
    /// # Errors
    /// [`NoiseError::Finished`], [`NoiseError::Length`]: nothing was changed. [`NoiseError::Overflow`]: the vector must be
    /// thrown away; the step was not taken.
    pub fn add_to(&mut self, values: &mut [i64], rng: &mut NoiseRng) -> Result<(), NoiseError> {
        if self.step == self.factor.n {
            return Err(NoiseError::Finished { steps: u32::try_from(self.factor.n).unwrap_or(u32::MAX) });
        }
        if values.len() != self.dim {
            return Err(NoiseError::Length { name: "the sum", got: values.len(), want: self.dim });
        }
        let mut noise = Zeroizing::new(vec![0_i64; self.dim]);
        for (at, out) in noise.iter_mut().enumerate() {
            let fine = i128::from(self.sampler.draw(rng)) - self.carried(at);
            *out = i64::try_from(self.rounded(fine)).map_err(|_| NoiseError::Overflow { at })?;
        }
        for (at, (value, noise)) in values.iter_mut().zip(noise.iter()).enumerate() {
            *value = value.checked_add(*noise).ok_or(NoiseError::Overflow { at })?;
        }
        self.earlier.push_front(noise);
        self.earlier.truncate(self.factor.bands() - 1);
        self.step += 1;
        Ok(())
    }

    /// Steps taken.
    #[must_use]
    pub fn step(&self) -> usize {
        self.step
    }

    /// The state, to be sealed: who has it can take the noise off every release of the run. `(bands - 1) * dim` words
    /// and a few more.
    #[must_use]
    pub fn secret_state(&self) -> Zeroizing<Vec<u8>> {
        let (factor, sigma2) = (&self.factor, self.sampler.sigma2());
        let mut out = StateWriter::with_words(8 + factor.bands() + self.earlier.len() * self.dim);
        out.word(TAG).word(factor.n as u64).word(factor.places.into()).word(factor.bands() as u64);
        factor.coefficients.iter().for_each(|&coefficient| {
            out.word(coefficient);
        });
        out.word(sigma2.numerator()).word(sigma2.denominator()).word(self.step as u64).word(self.dim as u64);
        for noise in &self.earlier {
            noise.iter().for_each(|value| {
                out.word(value.cast_unsigned());
            });
        }
        out.finish()
    }

    /// The run of a state.
    ///
    /// # Errors
    /// [`NoiseError::BadState`], and what the constructors say of parameters out of range.
    pub fn restore(state: &[u8]) -> Result<Self, NoiseError> {
        let mut reader = StateReader::new(state, TAG)?;
        let (n, places, bands) = (reader.count()?, reader.count::<u32>()?, reader.count()?);
        let coefficients: Vec<u64> = reader.words(bands)?.collect();
        let falling = coefficients.windows(2).all(|pair| pair[0] >= pair[1]);
        let leading = places <= PLACES_MAX && coefficients.first() == Some(&(1 << places));
        if !leading || !falling || coefficients.last() == Some(&0) || bands > n {
            return Err(NoiseError::BadState);
        }
        let sampler = DiscreteGaussian::new(Ratio::new(reader.word()?, reader.word()?)?);
        let (step, dim): (usize, usize) = (reader.count()?, reader.count()?);
        if step > n {
            return Err(NoiseError::BadState);
        }
        let mut earlier = VecDeque::new();
        for _ in 0..step.min(bands - 1) {
            earlier.push_back(Zeroizing::new(reader.words(dim)?.map(u64::cast_signed).collect()));
        }
        reader.finish()?;
        Ok(Self { factor: BandedFactor { coefficients, places, n }, sampler, step, dim, earlier })
    }

    /// `2^places sum_(j>=1) c_j n_(t-j)`. Coefficients are at most 2^24 and rounds fit memory: far below 2^127.
    fn carried(&self, at: usize) -> i128 {
        let bands = self.factor.coefficients[1..].iter().zip(&self.earlier);
        bands.map(|(&c, noise)| i128::from(c) * i128::from(noise[at])).sum()
    }

    /// To the grid of the sums, halves up.
    fn rounded(&self, fine: i128) -> i128 {
        let half = (1_i128 << self.factor.places) >> 1;
        (fine + half) >> self.factor.places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `C n` is z to half a unit of rounding, so it has z's variance and is independent between rounds; the prefix sums
    /// have the row norms' variances. 100,000 elements: standard deviation 0.45 %, six of them allowed.
    #[test]
    fn the_factor_takes_the_noise_back_to_white() {
        let (n, dim, sigma2) = (10, 100_000, 400.0);
        let exact = Toeplitz::sqrt(n, 4).unwrap();
        let factor = BandedFactor::new(&exact, 10).unwrap();
        assert_eq!(factor.coefficients, [1024, 512, 384, 320]);
        let mut run = BandedNoise::new(factor, sigma2, dim).unwrap();
        let mut rng = NoiseRng::predictable(41);
        let mut rounds = Vec::new();
        for _ in 0..n {
            let mut sum = vec![0_i64; dim];
            run.add_to(&mut sum, &mut rng).unwrap();
            rounds.push(sum);
        }
        assert_eq!(run.add_to(&mut vec![0; dim], &mut rng), Err(NoiseError::Finished { steps: 10 }));
        let white: Vec<Vec<f64>> = (0..n)
            .map(|t| {
                let bands = exact.coefficients().iter().take(t + 1).enumerate();
                let terms: Vec<_> = bands.map(|(j, c)| (c, &rounds[t - j])).collect();
                (0..dim).map(|at| terms.iter().map(|(c, round)| **c * round[at] as f64).sum()).collect()
            })
            .collect();
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / dim as f64;
        for t in 0..n {
            // Rounding adds a variance of 1/12.
            assert!((product(&white[t], &white[t]) / (sigma2 + 1.0 / 12.0) - 1.0).abs() < 0.027);
            for s in 0..t {
                assert!((product(&white[t], &white[s]) / sigma2).abs() < 6.0 / (dim as f64).sqrt());
            }
        }
        let mut prefix = vec![0.0; dim];
        for (round, row) in rounds.iter().zip(exact.row_norms()) {
            prefix.iter_mut().zip(round).for_each(|(sum, x)| *sum += *x as f64);
            let want = sigma2 * row * row;
            assert!((product(&prefix, &prefix) / want - 1.0).abs() < 0.03, "{row}");
        }
    }

    #[test]
    fn rounded_coefficients_have_a_sensitivity_of_their_own() {
        let exact = Toeplitz::sqrt(64, 16).unwrap();
        for places in [0, 1, 4, 10, 24] {
            let factor = BandedFactor::new(&exact, places).unwrap();
            let rounded: Vec<f64> = factor.coefficients.iter().map(|&c| c as f64 / f64::from(1 << places)).collect();
            let want = Toeplitz::new(rounded, 64).unwrap().sensitivity(4, 16).unwrap();
            let got = factor.sensitivity(4, 16).unwrap();
            assert!((got / want - 1.0).abs() < 1e-12, "{places}: {got} {want}");
        }
        assert!(BandedFactor::new(&exact, 25).is_err());
    }

    /// Stored after each step, restored, and none the wiser.
    #[test]
    fn a_restored_run_goes_on_as_it_would_have() {
        let factor = BandedFactor::new(&Toeplitz::sqrt(9, 4).unwrap(), 8).unwrap();
        let mut kept = BandedNoise::new(factor.clone(), 49.5, 20).unwrap();
        let mut stored = BandedNoise::new(factor, 49.5, 20).unwrap();
        for step in 0..9 {
            let state = stored.secret_state();
            for len in 0..state.len() {
                assert!(BandedNoise::restore(&state[..len]).is_err(), "{len}");
            }
            assert!(BandedNoise::restore(&[&state[..], &[0]].concat()).is_err());
            stored = BandedNoise::restore(&state).unwrap();
            let (mut a, mut b) = ([7_i64; 20], [7_i64; 20]);
            kept.add_to(&mut a, &mut NoiseRng::predictable(step)).unwrap();
            stored.add_to(&mut b, &mut NoiseRng::predictable(step)).unwrap();
            assert_eq!(a, b, "step {step}");
        }
        assert_eq!(stored.step(), 9);
        // Any word changed: refused or another run, never a panic.
        let state = stored.secret_state();
        for at in 0..state.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = state.to_vec();
                changed[at] = value;
                if let Ok(mut run) = BandedNoise::restore(&changed) {
                    let dim = run.dim;
                    let _ = run.add_to(&mut vec![0; dim], &mut NoiseRng::predictable(1));
                }
            }
        }
    }

    #[test]
    fn one_band_is_plain_noise() {
        let factor = BandedFactor::new(&Toeplitz::sqrt(3, 1).unwrap(), 0).unwrap();
        assert_eq!(factor.bands(), 1);
        let mut run = BandedNoise::new(factor, 49.0, 100).unwrap();
        let (mut sum, mut plain) = ([0; 100], [0; 100]);
        run.add_to(&mut sum, &mut NoiseRng::predictable(5)).unwrap();
        DiscreteGaussian::new(Ratio::new(49, 1).unwrap()).add_to(&mut plain, &mut NoiseRng::predictable(5)).unwrap();
        assert_eq!(sum, plain);
    }

    #[test]
    fn a_step_that_overflows_is_not_taken() {
        let factor = BandedFactor::new(&Toeplitz::sqrt(3, 2).unwrap(), 4).unwrap();
        let mut run = BandedNoise::new(factor.clone(), 49.0, 50).unwrap();
        let mut rng = NoiseRng::predictable(6);
        assert!(matches!(run.add_to(&mut [i64::MAX; 50], &mut rng), Err(NoiseError::Overflow { .. })));
        assert!(matches!(run.add_to(&mut [0; 49], &mut rng), Err(NoiseError::Length { .. })));
        assert_eq!((run.step, run.earlier.len()), (0, 0));
        for bad in [f64::NAN, 0.0, -1.0, 1e300] {
            assert!(BandedNoise::new(factor.clone(), bad, 50).is_err());
        }
    }
}
