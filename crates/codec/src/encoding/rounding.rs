//! Norms and stochastic rounding: the loops over a whole update.

use rand_core::CryptoRng;
use sordino_kernel::Lane;
use zeroize::Zeroize;

use crate::RingBits;

/// L2 norm of `values`, or the index of the first that is not finite.
///
/// In f64 the square of an f32 is exact, and no sum of such squares that fits a machine overflows or loses a tiny one.
pub(super) fn l2_norm(values: &[f32]) -> Result<f64, usize> {
    let (groups, rest) = values.as_chunks::<LANES>();
    // Independent partial sums: faster, and more exact, than one chain of additions.
    let mut sums = [0f64; LANES];
    for group in groups {
        for (sum, &value) in sums.iter_mut().zip(group) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    let rest: f64 = rest.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    let squared = sums.iter().sum::<f64>() + rest;
    if squared.is_finite() {
        return Ok(squared.sqrt());
    }
    Err(values.iter().position(|value| !value.is_finite()).unwrap_or(0))
}

/// Rounds `values[j] * scale` stochastically into `lanes[j]` mod 2^b and returns the exact sum of the squared integers.
///
/// - `values`: as many as lanes, each below 2^62 in magnitude after scaling.
pub(super) fn round_scaled<L: Lane>(
    lanes: &mut [L],
    values: &[f32],
    scale: f64,
    bits: RingBits,
    rng: &mut (impl CryptoRng + ?Sized),
) -> u128 {
    let mask = L::mask(bits.into());
    let mut random = [0; VALUES_PER_DRAW * COIN_BYTES];
    let mut squared = 0u128;
    for (lanes, values) in lanes.chunks_mut(VALUES_PER_DRAW).zip(values.chunks(VALUES_PER_DRAW)) {
        let random = &mut random[..values.len() * COIN_BYTES];
        rng.fill_bytes(random);
        let (coins, _) = random.as_chunks::<COIN_BYTES>();
        for ((lane, &value), &coin) in lanes.iter_mut().zip(values).zip(coins) {
            let integer = stochastic_round(f64::from(value) * scale, u64::from_le_bytes(coin));
            let magnitude = u128::from(integer.unsigned_abs());
            squared += magnitude * magnitude;
            *lane = L::from_u64_truncated(integer.cast_unsigned()).masked(mask);
        }
    }
    // The coins say which way each secret value was rounded.
    random.zeroize();
    squared
}

/// `floor(y) + 1` with probability `y - floor(y)`, else `floor(y)`, for a uniform `coin`; `|y|` is below 2^62.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "floors of numbers in range")]
pub(super) fn stochastic_round(y: f64, coin: u64) -> i64 {
    let truncated = y as i64;
    let floor = truncated - i64::from(y < truncated as f64);
    // In [0, 1]: a tiny negative y gives 1, whose threshold saturates and rounds up to 0 but for one coin in 2^64.
    let fraction = y - floor as f64;
    let threshold = (fraction * COINS) as u64;
    floor + i64::from(coin < threshold)
}

/// Partial sums of a norm.
const LANES: usize = 8;
/// Values rounded per call of the random source.
const VALUES_PER_DRAW: usize = 512;
/// Bytes of randomness per value.
const COIN_BYTES: usize = 8;
/// Number of different coins, 2^64.
const COINS: f64 = 18_446_744_073_709_551_616.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_goes_to_the_two_neighbours() {
        for (y, low) in [(0.25, 0), (1.75, 1), (-0.25, -1), (-3.5, -4), (1e12 + 0.5, 1_000_000_000_000)] {
            assert_eq!(stochastic_round(y, 0), low + 1, "{y}");
            assert_eq!(stochastic_round(y, u64::MAX), low, "{y}");
        }
        for whole in [0.0, -0.0, 1.0, -1.0, 4_503_599_627_370_496.0, -4_503_599_627_370_496.0] {
            assert_eq!(stochastic_round(whole, 0) as f64, whole);
            assert_eq!(stochastic_round(whole, u64::MAX) as f64, whole);
        }
        // Too close to 0 for 1 - y to be an f64.
        assert_eq!(stochastic_round(-1e-30, 12345), 0);
    }

    #[test]
    fn the_threshold_is_the_fraction() {
        let quarter = 1u64 << 62;
        assert_eq!((stochastic_round(5.25, quarter - 1), stochastic_round(5.25, quarter)), (6, 5));
        assert_eq!((stochastic_round(-5.75, quarter - 1), stochastic_round(-5.75, quarter)), (-5, -6));
    }

    #[test]
    fn norms_neither_overflow_nor_vanish() {
        assert_eq!(l2_norm(&[3.0, 4.0]), Ok(5.0));
        assert_eq!(l2_norm(&[]), Ok(0.0));
        let max = f64::from(f32::MAX);
        assert_eq!(l2_norm(&[f32::MAX; 16]), Ok(max * 4.0));
        let tiny = f32::from_bits(1);
        assert_eq!(l2_norm(&[tiny; 4]), Ok(f64::from(tiny) * 2.0));
    }

    #[test]
    fn the_first_value_that_is_not_finite_is_found() {
        let mut values = [1.0; 100];
        values[98] = f32::INFINITY;
        assert_eq!(l2_norm(&values), Err(98));
        values[7] = f32::NAN;
        assert_eq!(l2_norm(&values), Err(7));
        values[3] = f32::NEG_INFINITY;
        assert_eq!(l2_norm(&values), Err(3));
    }
}
