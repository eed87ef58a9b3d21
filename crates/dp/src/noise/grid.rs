//! From clipped floats to integers of a proven norm.
//!
//! Rounding can lengthen a vector, so the sensitivity is the bound *after* rounding, and the clip is not it. Vectors are
//! rounded stochastically, again and again until the result lies within the bound (Kairouz, Liu, Steinke 2021,
//! [arXiv:2102.06387], section 4.2 and proposition 26); whether it does is decided on integers.
//!
//! [arXiv:2102.06387]: https://arxiv.org/abs/2102.06387

use super::error::{NoiseError, at_least_one, positive, up};
use super::rng::NoiseRng;

/// Largest norm on the grid: integers up to here and one rounding step are exact in f64.
const NORM_MAX: f64 = (1_u64 << 51) as f64;
/// Trials of conditional rounding. Each fails with a chance of at most beta for a vector at the bound; with the usual
/// beta of e^-1/2 all fail once in 10^14 vectors, and then rounding is towards zero, which only shortens.
const TRIALS: u32 = 64;

/// Clips, scales and rounds updates of one length, and knows the sensitivity of what comes out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    clip: f64,
    units: f64,
    bound: RoundedBound,
}

/// Norm of every vector that a [`Grid`] lets through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoundedBound {
    dim: u64,
    /// Largest squared L2 norm; integers have integer ones.
    squared: u128,
}

impl Grid {
    /// - `clip`: L2 norm that updates are clipped to.
    /// - `units`: grid units per 1.0 of an update.
    /// - `dim`: elements of an update.
    /// - `beta`: chance, in `[0, 1)`, with which a rounded vector may miss the bound and is rounded again; 0 for the
    ///   bound that never fails, which is far larger in high dimension. `e^-1/2` is usual.
    ///
    /// # Errors
    /// [`NoiseError::Parameter`] or [`NoiseError::Count`] for what is out of range: `clip * units` reaches 2^51 at most.
    pub fn new(clip: f64, units: f64, dim: u64, beta: f64) -> Result<Self, NoiseError> {
        let (clip, units) = (positive("the clip norm", clip)?, positive("grid units per 1.0", units)?);
        let bound = rounded_l2_bound(clip * units, dim, beta)?;
        if bound > NORM_MAX {
            return Err(NoiseError::Parameter { name: "the clip norm on the grid", got: bound, want: "at most 2^51" });
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 2^102")]
        let squared = (bound * bound).floor() as u128;
        Ok(Self { clip, units, bound: RoundedBound { dim, squared } })
    }

    /// Bound of everything that [`Self::round`] lets through: the sensitivity for adding, removing or zeroing one.
    #[must_use]
    pub fn bound(&self) -> RoundedBound {
        self.bound
    }

    /// Clips an update to the clip norm and rounds it to `out`, within [`Self::bound`].
    ///
    /// # Errors
    /// [`NoiseError::Length`], or [`NoiseError::NotFinite`] for an update that must be left out. `out` is then void.
    pub fn round<T: Copy + Into<f64>>(
        &self,
        update: &[T],
        out: &mut [i64],
        rng: &mut NoiseRng,
    ) -> Result<(), NoiseError> {
        let dim = usize::try_from(self.bound.dim).unwrap_or(usize::MAX);
        for (name, got) in [("the update", update.len()), ("the output", out.len())] {
            if got != dim {
                return Err(NoiseError::Length { name, got, want: dim });
            }
        }
        let scale = self.scale(update)?;
        for _ in 0..TRIALS {
            for (rounded, &value) in out.iter_mut().zip(update) {
                *rounded = stochastically(scale.of(value.into()), rng);
            }
            if self.bound.admits(out) {
                return Ok(());
            }
        }
        for (rounded, &value) in out.iter_mut().zip(update) {
            *rounded = integer(scale.of(value.into()).trunc());
        }
        if self.bound.admits(out) {
            return Ok(());
        }
        Err(NoiseError::NoTheorem { why: "the update stays beyond its bound even when rounded towards zero" })
    }

    /// What takes an element of this update to its place on the grid.
    fn scale<T: Copy + Into<f64>>(&self, update: &[T]) -> Result<Scale, NoiseError> {
        let mut largest = 0.0_f64;
        for (at, &value) in update.iter().enumerate() {
            let value = value.into();
            // `max` would skip a NaN.
            if !value.is_finite() {
                return Err(NoiseError::NotFinite { at });
            }
            largest = largest.max(value.abs());
        }
        if largest == 0.0 {
            return Ok(Scale { divisor: 1.0, factor: 0.0 });
        }
        // Divided by the largest element first, squares neither overflow nor vanish.
        let root = update.iter().map(|&value| (value.into() / largest).powi(2)).sum::<f64>().sqrt();
        if root * largest <= self.clip {
            return Ok(Scale { divisor: 1.0, factor: self.units });
        }
        Ok(Scale { divisor: largest, factor: self.clip * self.units / root })
    }
}

impl RoundedBound {
    /// The bound of integer vectors of `dim` elements whose squared L2 norm is at most `squared`: somebody else's rounding
    /// keeps it, and decides so on integers.
    ///
    /// # Errors
    /// [`NoiseError::Count`] for no elements; [`NoiseError::Parameter`] unless the norm is from 1 to 2^51.
    pub fn new(squared: u128, dim: u64) -> Result<Self, NoiseError> {
        at_least_one("the number of elements", dim)?;
        let norm = (squared as f64).sqrt();
        if !(1.0..=NORM_MAX).contains(&norm) {
            return Err(NoiseError::Parameter { name: "the norm on the grid", got: norm, want: "1 to 2^51" });
        }
        Ok(Self { dim, squared })
    }

    /// L2 norm, rounded up; grid units.
    #[must_use]
    pub fn l2(&self) -> f64 {
        up((self.squared as f64).sqrt())
    }

    /// L1 norm, rounded up; grid units.
    #[must_use]
    pub fn l1(&self) -> f64 {
        rounded_l1_bound(self.l2(), self.dim)
    }

    /// Elements.
    #[must_use]
    pub fn dim(&self) -> u64 {
        self.dim
    }

    /// Whether an integer vector lies within, without rounding and without overflow.
    #[must_use]
    pub fn admits(&self, vector: &[i64]) -> bool {
        let mut squared = 0_u128;
        for value in vector {
            let magnitude = u128::from(value.unsigned_abs());
            // Both terms stay below 2^127.
            squared += magnitude * magnitude;
            if squared > self.squared {
                return false;
            }
        }
        vector.len() as u64 == self.dim
    }
}

/// L2 norm that a vector of norm `scaled` and `dim` elements does not exceed after rounding to integers, rounded up:
/// `min(c + sqrt d, sqrt(c^2 + d/4 + sqrt(2 ln(1/beta)) (c + sqrt(d)/2)))`, the first alone for beta = 0.
///
/// # Errors
/// [`NoiseError::Parameter`] unless `scaled` is positive and finite and `0 <= beta < 1`; [`NoiseError::Count`] for no
/// elements.
pub fn rounded_l2_bound(scaled: f64, dim: u64, beta: f64) -> Result<f64, NoiseError> {
    let c = positive("the clip norm on the grid", scaled)?;
    let d = at_least_one("the number of elements", dim)? as f64;
    if !(0.0..1.0).contains(&beta) {
        return Err(NoiseError::Parameter { name: "beta", got: beta, want: "in [0, 1)" });
    }
    let always = c + d.sqrt();
    if beta == 0.0 {
        return Ok(up(always));
    }
    let likely = (c * c + d / 4.0 + (-2.0 * beta.ln()).sqrt() * (c + d.sqrt() / 2.0)).sqrt();
    Ok(up(always.min(likely)))
}

/// L1 norm of an integer vector of L2 norm `l2` and `dim` elements: `l2 min(sqrt d, l2)`, rounded up; the second because
/// integers do not exceed their squares.
#[must_use]
pub fn rounded_l1_bound(l2: f64, dim: u64) -> f64 {
    up(l2 * (dim as f64).sqrt().min(l2))
}

/// Takes elements to the grid.
#[derive(Debug, Clone, Copy)]
struct Scale {
    divisor: f64,
    factor: f64,
}

impl Scale {
    fn of(self, value: f64) -> f64 {
        value / self.divisor * self.factor
    }
}

/// Up or down with the odds of its fraction, which is exact below 2^52; odds to 53 bits.
fn stochastically(scaled: f64, rng: &mut NoiseRng) -> i64 {
    let floor = scaled.floor();
    let uniform = (rng.next() >> 11) as f64 * (0.5_f64).powi(53);
    integer(floor) + i64::from(uniform < scaled - floor)
}

/// An integer within 2^52.
#[expect(clippy::cast_possible_truncation, reason = "elements do not exceed the norm")]
fn integer(value: f64) -> i64 {
    value as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::goodness::within;
    use crate::noise::vectors;

    const BETA: f64 = 0.6065306597126334;

    fn rng() -> NoiseRng {
        NoiseRng::predictable(21)
    }

    /// All `rounded_norm` cases.
    #[test]
    fn rounded_norm_vectors() {
        let file = vectors::load("distributed.json");
        let mut seen = 0;
        for case in file.cases("rounded_norm") {
            let dim = case.count("dim");
            let l2 = rounded_l2_bound(case.f64("l2_scaled"), dim, case.f64("beta")).unwrap();
            vectors::close(l2, case.f64("l2_rounded_bound"), "l2");
            assert!(l2 >= case.f64("l2_rounded_bound"), "bounds are rounded up");
            vectors::close(rounded_l1_bound(l2, dim), case.f64("l1_rounded_bound"), "l1");
            seen += 1;
        }
        assert!(seen > 0);
    }

    #[test]
    fn rounded_updates_lie_within_the_bound_and_are_right_on_average() {
        let grid = Grid::new(1.0, 64.0, 1000, BETA).unwrap();
        let update: Vec<f32> = (0..1000_u16).map(|at| (f32::from(at) * 0.37).sin()).collect();
        let norm = update.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let (mut out, mut sums, mut rng) = (vec![0; 1000], vec![0_i64; 1000], rng());
        for _ in 0..400 {
            grid.round(&update, &mut out, &mut rng).unwrap();
            assert!(grid.bound().admits(&out));
            sums.iter_mut().zip(&out).for_each(|(sum, value)| *sum += value);
        }
        let error: f64 =
            sums.iter().zip(&update).map(|(&sum, &x)| sum as f64 / 400.0 - f64::from(x) / norm * 64.0).sum();
        // 1000 means of 400 roundings, of variance 1/4 at most each: five deviations.
        assert!(error.abs() < 5.0 * (1000.0 * 0.25 / 400.0_f64).sqrt(), "{error}");
        assert!(grid.bound().l2() < 1.2 * rounded_l2_bound(64.0, 1000, BETA).unwrap());
    }

    #[test]
    fn what_lies_within_the_clip_is_not_scaled() {
        let grid = Grid::new(10.0, 8.0, 3, 0.0).unwrap();
        let mut out = [0; 3];
        grid.round(&[1.0, -2.5, 0.0], &mut out, &mut rng()).unwrap();
        assert_eq!(out, [8, -20, 0]);
    }

    #[test]
    fn a_zero_update_stays_zero() {
        let grid = Grid::new(1.0, 1024.0, 4, BETA).unwrap();
        let mut out = [7; 4];
        grid.round(&[0.0_f32, -0.0, 0.0, 0.0], &mut out, &mut rng()).unwrap();
        assert_eq!(out, [0; 4]);
    }

    #[test]
    fn what_is_not_a_number_is_refused_wherever_it_stands() {
        let grid = Grid::new(1.0, 1024.0, 4, BETA).unwrap();
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for at in 0..4 {
                let mut update = [0.5; 4];
                update[at] = bad;
                let got = grid.round(&update, &mut [0; 4], &mut rng());
                assert_eq!(got, Err(NoiseError::NotFinite { at }));
            }
        }
    }

    /// Values at the ends of f64 neither overflow the norm nor escape the clip.
    #[test]
    fn huge_and_tiny_values() {
        let grid = Grid::new(1.0, 1024.0, 2, 0.0).unwrap();
        for huge in [f64::MAX, 1e200, -1e300] {
            let mut out = [0; 2];
            grid.round(&[huge, huge], &mut out, &mut rng()).unwrap();
            assert!(out.iter().all(|value| (723..=725).contains(&value.abs())), "{out:?}");
        }
        let mut out = [9; 2];
        grid.round(&[f64::MIN_POSITIVE / 4.0, 0.0], &mut out, &mut rng()).unwrap();
        assert_eq!(out, [0; 2]);
    }

    #[test]
    fn the_exact_check_has_no_slack_and_cannot_overflow() {
        let bound = RoundedBound { dim: 2, squared: 25 };
        assert!(bound.admits(&[3, -4]));
        assert!(!bound.admits(&[3, 5]));
        assert!(!bound.admits(&[5]), "another length");
        assert!(!bound.admits(&[i64::MIN, i64::MIN]));
        let widest = Grid::new(1.0, NORM_MAX / 2.0, 2, BETA).unwrap().bound();
        assert!(!widest.admits(&[i64::MIN, i64::MAX]));
    }

    #[test]
    fn rounding_keeps_its_odds() {
        let mut rng = rng();
        let ups = (0..400_000).filter(|_| stochastically(-2.3, &mut rng) == -2).count();
        within(ups as f64 / 400_000.0, 0.7, 400_000);
    }

    #[test]
    fn bad_parameters_are_refused() {
        for bad in [f64::NAN, 0.0, -1.0, f64::INFINITY, 1e300] {
            assert!(Grid::new(bad, 1.0, 10, BETA).is_err());
            assert!(Grid::new(1.0, bad, 10, BETA).is_err());
        }
        for beta in [f64::NAN, -0.1, 1.0, 2.0] {
            assert!(Grid::new(1.0, 64.0, 10, beta).is_err());
        }
        assert!(Grid::new(1.0, 64.0, 0, BETA).is_err());
        let grid = Grid::new(1.0, 64.0, 3, BETA).unwrap();
        let short = grid.round(&[0.0, 0.0], &mut [0; 3], &mut rng());
        assert!(matches!(short, Err(NoiseError::Length { got: 2, want: 3, .. })));
    }
}
