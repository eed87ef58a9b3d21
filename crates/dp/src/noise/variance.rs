//! Rational parameters of samplers.

use super::error::{NoiseError, positive};

/// A positive rational number, numerator and denominator at most [`MAX_TERM`]: what a sampler can be exact about. As a
/// variance it allows standard deviations up to 2^24 grid units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratio {
    numerator: u64,
    denominator: u64,
}

impl Ratio {
    /// `numerator / denominator`.
    ///
    /// # Errors
    /// [`NoiseError::Count`] where one of them is 0 or above [`MAX_TERM`].
    pub fn new(numerator: u64, denominator: u64) -> Result<Self, NoiseError> {
        for (name, got) in [("the numerator", numerator), ("the denominator", denominator)] {
            if got == 0 || got > MAX_TERM {
                return Err(NoiseError::Count { name, got, want: "1 to 2^48" });
            }
        }
        Ok(Self { numerator, denominator })
    }

    /// The least dyadic rational within reach that is not below `value`: noise is rounded up, by a part in 2^47 or less
    /// for values of at least 1.
    ///
    /// # Errors
    /// [`NoiseError::Parameter`] unless `2^-48 <= value <= 2^48`.
    pub fn at_least(value: f64) -> Result<Self, NoiseError> {
        let name = "a variance or scale";
        let value = positive(name, value)?;
        let max = MAX_TERM as f64;
        if value > max || value < 1.0 / max {
            return Err(NoiseError::Parameter { name, got: value, want: "2^-48 to 2^48" });
        }
        let mut denominator = MAX_TERM;
        // Products with powers of two are exact.
        while (value * denominator as f64).ceil() > max {
            denominator /= 2;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an integer from 1 to 2^48")]
        let numerator = (value * denominator as f64).ceil() as u64;
        let shared = numerator.trailing_zeros().min(denominator.trailing_zeros());
        Self::new(numerator >> shared, denominator >> shared)
    }

    /// The numerator.
    #[must_use]
    pub fn numerator(self) -> u64 {
        self.numerator
    }

    /// The denominator.
    #[must_use]
    pub fn denominator(self) -> u64 {
        self.denominator
    }

    /// The nearest f64, to two roundings.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }
}

/// Largest numerator and denominator: products of four of them with what rejection adds stay within 128 bits.
pub const MAX_TERM: u64 = 1 << 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_round_up_and_stay_close() {
        for value in [1.0, 2.0, 0.1, 1.0 / 3.0, 5.714285714285714, 1e12, 2.0_f64.powi(40), 2.0_f64.powi(48), 1e-6] {
            let ratio = Ratio::at_least(value).unwrap();
            assert!(ratio.to_f64() >= value, "{value}");
            assert!(ratio.to_f64() <= value * (1.0 + 1e-8), "{value}");
        }
        assert_eq!(Ratio::at_least(6.25).unwrap(), Ratio::new(25, 4).unwrap());
    }

    #[test]
    fn what_has_no_sampler_is_refused() {
        for bad in [f64::NAN, f64::INFINITY, 0.0, -1.0, 1e300, f64::MIN_POSITIVE, 2.0_f64.powi(49)] {
            assert!(matches!(Ratio::at_least(bad), Err(NoiseError::Parameter { .. })), "{bad}");
        }
        for (numerator, denominator) in [(0, 1), (1, 0), (MAX_TERM + 1, 1), (1, u64::MAX)] {
            assert!(matches!(Ratio::new(numerator, denominator), Err(NoiseError::Count { .. })));
        }
    }
}
