//! Sums of products modulo the group order, reduced once at the end.
//!
//! Reducing a product costs several times the multiplication. A fold or an inner product adds whole products into a few
//! words more and reduces the sum.

use curve25519_dalek::scalar::Scalar;
use zeroize::Zeroize;

/// A scalar as little-endian words, below 2^253.
pub(crate) type Words = [u64; 4];

pub(crate) fn words(scalar: &Scalar) -> Words {
    let bytes = scalar.as_bytes();
    std::array::from_fn(|at| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[8 * at..8 * at + 8]);
        u64::from_le_bytes(word)
    })
}

/// A sum of products of non-negative integers, in `N` words of 64 bits: the caller sees to it that the sum fits.
#[derive(Clone, Copy)]
pub(crate) struct Accumulator<const N: usize>([u64; N]);

impl<const N: usize> Zeroize for Accumulator<N> {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

/// For products of a scalar and 64 bits: 2^67 of them fit.
pub(crate) type ByWord = Accumulator<6>;
/// For products of a scalar and 128 bits: 2^67 of them fit.
pub(crate) type ByDouble = Accumulator<7>;
/// For products of two scalars: 2^70 of them fit.
pub(crate) type ByScalar = Accumulator<9>;

impl<const N: usize> Accumulator<N> {
    pub(crate) const ZERO: Self = Self([0; N]);

    /// Adds `a * b << (64 * at)`.
    #[inline(always)]
    fn add_product(&mut self, a: &Words, b: u64, at: usize) {
        let mut carry = 0u64;
        for (i, &word) in a.iter().enumerate() {
            let sum = u128::from(self.0[at + i]) + u128::from(word) * u128::from(b) + u128::from(carry);
            (self.0[at + i], carry) = split(sum);
        }
        for word in &mut self.0[at + 4..] {
            let (sum, over) = word.overflowing_add(carry);
            *word = sum;
            carry = u64::from(over);
        }
    }

    #[inline(always)]
    pub(crate) fn add_word(&mut self, a: &Words, b: u64) {
        self.add_product(a, b, 0);
    }

    #[inline(always)]
    pub(crate) fn add_double(&mut self, a: &Words, b: u128) {
        let (low, high) = split(b);
        self.add_product(a, low, 0);
        self.add_product(a, high, 1);
    }

    #[inline(always)]
    pub(crate) fn add_scalar(&mut self, a: &Words, b: &Words) {
        for (at, &word) in b.iter().enumerate() {
            self.add_product(a, word, at);
        }
    }

    /// The sum modulo the group order.
    pub(crate) fn reduce(&self) -> Scalar {
        let mut wide = [0; 64];
        for (bytes, word) in wide.chunks_exact_mut(8).zip(&self.0) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let low = Scalar::from_bytes_mod_order_wide(&wide);
        self.0.get(8).map_or(low, |&high| low + Scalar::from(high) * two_to_512())
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
fn split(value: u128) -> (u64, u64) {
    (value as u64, (value >> 64) as u64)
}

fn two_to_512() -> Scalar {
    // 2^512 = (2^512 - 1) + 1.
    Scalar::from_bytes_mod_order_wide(&[0xff; 64]) + Scalar::ONE
}

/// `<a, b>` of two slices of one length.
pub(crate) fn inner_product(a: &[Scalar], b: &[Scalar]) -> Scalar {
    let mut sum = ByScalar::ZERO;
    for (a, b) in a.iter().zip(b) {
        sum.add_scalar(&words(a), &words(b));
    }
    sum.reduce()
}

/// `2^bits`.
pub(crate) fn power_of_two(bits: u32) -> Scalar {
    let mut bytes = [0; 32];
    bytes[bits as usize / 8] = 1 << (bits % 8);
    Scalar::from_bytes_mod_order(bytes)
}

/// `1, base, base^2, ...`, `len` of them.
pub(crate) fn powers(base: Scalar, len: usize) -> Vec<Scalar> {
    std::iter::successors(Some(Scalar::ONE), |power| Some(power * base)).take(len).collect()
}

/// An integer as a scalar.
pub(crate) fn signed(value: i128) -> Scalar {
    let magnitude = Scalar::from(value.unsigned_abs());
    if value < 0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scalar() -> impl Strategy<Value = Scalar> {
        prop_oneof![
            any::<[u8; 32]>().prop_map(Scalar::from_bytes_mod_order),
            Just(-Scalar::ONE),
            Just(Scalar::ZERO),
            Just(Scalar::ONE)
        ]
    }

    proptest! {
        #[test]
        fn sums_of_products_are_those_of_the_field(terms in prop::collection::vec((scalar(), scalar(), any::<u64>(), any::<u128>()), 0..40)) {
            let (mut by_word, mut by_double, mut by_scalar) = (ByWord::ZERO, ByDouble::ZERO, ByScalar::ZERO);
            let mut want = [Scalar::ZERO; 3];
            for (a, b, word, double) in &terms {
                by_word.add_word(&words(a), *word);
                by_double.add_double(&words(a), *double);
                by_scalar.add_scalar(&words(a), &words(b));
                want = [want[0] + a * Scalar::from(*word), want[1] + a * Scalar::from(*double), want[2] + a * b];
            }
            prop_assert_eq!([by_word.reduce(), by_double.reduce(), by_scalar.reduce()], want);
        }

        #[test]
        fn integers_keep_their_sign(value in any::<i128>()) {
            prop_assert_eq!(signed(value) + signed(value.wrapping_neg()), if value == i128::MIN { Scalar::from(1u128 << 127) * -Scalar::from(2u8) } else { Scalar::ZERO });
        }
    }

    #[test]
    fn the_largest_products_do_not_overflow() {
        let largest = [u64::MAX, u64::MAX, u64::MAX, (1 << 61) - 1];
        let mut sum = ByScalar::ZERO;
        for _ in 0..10_000 {
            sum.add_scalar(&largest, &largest);
        }
        let value = Scalar::from_bytes_mod_order(largest.map(u64::to_le_bytes).concat().try_into().expect("32 bytes"));
        assert_eq!(sum.reduce(), value * value * Scalar::from(10_000u32));
    }

    #[test]
    fn powers_of_two() {
        assert_eq!(power_of_two(0), Scalar::ONE);
        assert_eq!(power_of_two(127), Scalar::from(1u128 << 127));
        assert_eq!(power_of_two(252), power_of_two(126) * power_of_two(126));
    }
}
