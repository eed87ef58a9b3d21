//! Multi-scalar multiplication by small signed integers.
//!
//! Pippenger's buckets with signed digits: a value of 14 bits takes two digits of 8 bits, hence two point additions, where
//! a general multiplication would look at 253 bits. A negative digit subtracts, which costs what adding does; no offset of
//! the values is needed.
//!
//! # Timing
//! Variable: which buckets are filled depends on the values. It runs in the participant's own process, on the
//! participant's own values.

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::traits::Identity;

/// `sum(values[i] * points[i])`; the shorter of the two slices counts.
pub(crate) fn small(points: &[RistrettoPoint], values: &[i32]) -> RistrettoPoint {
    let largest = values.iter().map(|value| value.unsigned_abs()).max().unwrap_or(0);
    let Some(window) = Window::best(values.len(), u32::BITS - largest.leading_zeros()) else {
        return RistrettoPoint::identity();
    };
    let mut buckets = vec![RistrettoPoint::identity(); 1 << (window.bits - 1)];
    let mut sum = RistrettoPoint::identity();
    for digit in (0..window.digits).rev() {
        for _ in 0..window.bits {
            sum += sum;
        }
        buckets.fill(RistrettoPoint::identity());
        for (point, &value) in points.iter().zip(values) {
            match window.digit(value, digit) {
                0 => {}
                positive @ 1.. => buckets[positive.unsigned_abs() as usize - 1] += point,
                negative => buckets[negative.unsigned_abs() as usize - 1] -= point,
            }
        }
        sum += weighted(&buckets);
    }
    sum
}

/// `sum((i + 1) * buckets[i])`.
fn weighted(buckets: &[RistrettoPoint]) -> RistrettoPoint {
    let (mut running, mut sum) = (RistrettoPoint::identity(), RistrettoPoint::identity());
    for bucket in buckets.iter().rev() {
        running += bucket;
        sum += running;
    }
    sum
}

/// How values are cut into signed digits.
#[derive(Clone, Copy)]
struct Window {
    bits: u32,
    digits: u32,
}

impl Window {
    /// The cheapest for so many values of so many bits; none for values that are all 0.
    fn best(len: usize, value_bits: u32) -> Option<Self> {
        let cost = |window: &Self| u64::from(window.digits) * (len as u64 + (1 << window.bits));
        // With digits from -2^(w-1) to 2^(w-1) - 1, k of them reach 2^(wk-1) - 2^(w-1)...: one bit more than the value has.
        let windows = (2..=12).map(|bits| Self { bits, digits: (value_bits + 1).div_ceil(bits) });
        (value_bits > 0 && len > 0).then(|| windows.min_by_key(cost)).flatten()
    }

    /// Digit `at` of the value, from `-2^(bits-1)` to `2^(bits-1)`: the value rounded to a multiple of `2^(bits*at)`, less
    /// what the higher digits stand for.
    #[expect(clippy::cast_possible_truncation, reason = "a digit has at most 12 bits")]
    fn digit(self, value: i32, at: u32) -> i32 {
        let rounded = |at: u32| match at {
            0 => i64::from(value),
            _ => (i64::from(value) + (1 << (self.bits * at - 1))) >> (self.bits * at),
        };
        let higher = if at + 1 == self.digits { 0 } else { rounded(at + 1) << self.bits };
        (rounded(at) - higher) as i32
    }
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::scalar::Scalar;
    use curve25519_dalek::traits::VartimeMultiscalarMul;
    use proptest::prelude::*;

    use super::*;
    use crate::field::signed;

    fn values() -> impl Strategy<Value = Vec<i32>> {
        (1u32..=27, 0usize..70).prop_flat_map(|(bits, len)| prop::collection::vec(-(1i32 << bits)..=1i32 << bits, len))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn as_the_general_multiplication(values in values()) {
            let points: Vec<_> = (0..values.len()).map(|at| RistrettoPoint::mul_base(&Scalar::from(at as u64 * 7 + 3))).collect();
            let scalars: Vec<_> = values.iter().map(|&value| signed(value.into())).collect();
            prop_assert_eq!(small(&points, &values), RistrettoPoint::vartime_multiscalar_mul(&scalars, &points));
        }

        #[test]
        fn digits_make_the_value_and_have_a_bucket(value in any::<i32>(), bits in 2u32..=12) {
            let window = Window { bits, digits: 33u32.div_ceil(bits) };
            let mut sum = 0i64;
            for at in 0..window.digits {
                let digit = window.digit(value, at);
                prop_assert!(digit.unsigned_abs() <= 1 << (bits - 1));
                sum += i64::from(digit) << (bits * at);
            }
            prop_assert_eq!(sum, i64::from(value));
        }
    }

    #[test]
    fn the_window_of_every_size_of_value_holds_it() {
        for value_bits in 1..=31 {
            for len in [1, 128, 1024, 4096] {
                let window = Window::best(len, value_bits).expect("there are values");
                for value in [(1i64 << value_bits) - 1, 1 - (1i64 << value_bits)] {
                    let value = i32::try_from(value).expect("at most 31 bits");
                    let top = window.digit(value, window.digits - 1);
                    assert!(top.unsigned_abs() <= 1 << (window.bits - 1), "{value_bits} bits, {len} values: {top}");
                }
            }
        }
    }
}
