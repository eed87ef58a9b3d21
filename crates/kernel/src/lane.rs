//! Machine words that hold ring elements, so that kernels are written once for both widths.

use std::fmt;

use zeroize::Zeroize;

/// `b` of a ring Z_2^b: 2 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bits(u8);

impl Bits {
    /// Accepts 2 to 64, and `None` for anything else.
    #[must_use]
    pub const fn new(bits: u8) -> Option<Self> {
        if bits >= 2 && bits <= 64 { Some(Self(bits)) } else { None }
    }

    /// `b`.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// `b`, as a number of bytes: what eight packed values take.
    pub(crate) fn block_bytes(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A machine word that holds one element of Z_2^b: `u32` for `b <= 32`, `u64` above.
///
/// Arithmetic in the word wraps modulo 2^32 or 2^64; since 2^b divides that, reducing with [`Lane::mask`] once at the
/// end of any chain of additions and subtractions is exact. Nothing but `u32` and `u64` is a lane.
pub trait Lane: sealed::Sealed + Copy + Default + Eq + fmt::Debug + Zeroize + Send + Sync + 'static {
    /// Bytes of the word.
    const BYTES: usize = size_of::<Self>();

    /// The word with the low `bits` bits set: `x & mask` is `x mod 2^b`. All ones where `bits` exceeds the word.
    fn mask(bits: Bits) -> Self;

    /// The low bits of `value`; what does not fit is dropped.
    fn from_u64_truncated(value: u64) -> Self;

    /// The word as u64.
    fn to_u64(self) -> u64;

    /// The word in the first [`Self::BYTES`] bytes, little-endian.
    ///
    /// # Panics
    /// When `bytes` is shorter than that.
    fn from_le_slice(bytes: &[u8]) -> Self;

    /// `self + other` modulo the word.
    #[must_use]
    fn wrapping_add(self, other: Self) -> Self;

    /// `self - other` modulo the word.
    #[must_use]
    fn wrapping_sub(self, other: Self) -> Self;

    /// `self & mask`.
    #[must_use]
    fn masked(self, mask: Self) -> Self;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
}

macro_rules! lane {
    ($word:ty) => {
        impl Lane for $word {
            #[inline(always)]
            fn mask(bits: Bits) -> Self {
                // b is never 0, so the shift is less than the width of the word.
                <$word>::MAX >> (<$word>::BITS.saturating_sub(u32::from(bits.get())))
            }

            #[inline(always)]
            #[allow(clippy::cast_possible_truncation, reason = "dropping high bits is what it is for; u64 has none")]
            fn from_u64_truncated(value: u64) -> Self {
                value as $word
            }

            #[inline(always)]
            fn to_u64(self) -> u64 {
                u64::from(self)
            }

            #[inline(always)]
            fn from_le_slice(bytes: &[u8]) -> Self {
                let mut word = [0; size_of::<$word>()];
                word.copy_from_slice(&bytes[..size_of::<$word>()]);
                <$word>::from_le_bytes(word)
            }

            #[inline(always)]
            fn wrapping_add(self, other: Self) -> Self {
                <$word>::wrapping_add(self, other)
            }

            #[inline(always)]
            fn wrapping_sub(self, other: Self) -> Self {
                <$word>::wrapping_sub(self, other)
            }

            #[inline(always)]
            fn masked(self, mask: Self) -> Self {
                self & mask
            }
        }
    };
}

lane!(u32);
lane!(u64);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn only_two_to_sixty_four_bits_are_rings() {
        for bits in 0..=u8::MAX {
            assert_eq!(Bits::new(bits).is_some(), (2..=64).contains(&bits), "{bits}");
        }
    }

    #[test]
    fn a_mask_has_the_low_bits_of_its_word() {
        for b in 2..=64 {
            let bits = Bits::new(b).unwrap();
            assert_eq!(u32::mask(bits).count_ones(), u32::from(b.min(32)));
            assert_eq!(u64::mask(bits).trailing_ones(), u32::from(b));
            assert_eq!(u64::mask(bits).count_ones(), u32::from(b));
        }
    }
}
