//! Machine words that hold ring elements, so that kernels are written once for both widths.

use zeroize::Zeroize;

use crate::RingBits;

/// A machine word that holds one element of Z_2^b: `u32` for `b <= 32`, `u64` above.
///
/// Arithmetic in the word wraps modulo 2^32 or 2^64; since 2^b divides that, reducing with [`Lane::mask`] once at the
/// end of any chain of additions and subtractions is exact.
pub trait Lane: sealed::Sealed + Copy + Default + Eq + Zeroize + Send + Sync + 'static {
    /// Bytes of the word.
    const BYTES: usize;

    /// The word with the low `bits` bits set: `x & mask` is `x mod 2^b`.
    fn mask(bits: RingBits) -> Self;

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
            const BYTES: usize = size_of::<$word>();

            #[inline(always)]
            fn mask(bits: RingBits) -> Self {
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

/// Adds a keystream to ring elements: lane `i` takes the `L::BYTES` bytes at `i * L::BYTES`, little-endian, mod 2^b.
///
/// Uniform bytes give uniform elements, since 2^b divides the size of the word. Each lane stays below 2^b.
///
/// # Panics
/// When `keystream` is not exactly `lanes.len() * L::BYTES` bytes long; both lengths are the caller's own.
pub fn add_keystream<L: Lane>(lanes: &mut [L], keystream: &[u8], bits: RingBits) {
    let mask = L::mask(bits);
    combine(lanes, keystream, |lane, word| lane.wrapping_add(word).masked(mask));
}

/// Subtracts what [`add_keystream`] adds, under the same rules.
///
/// # Panics
/// As [`add_keystream`] does.
pub fn sub_keystream<L: Lane>(lanes: &mut [L], keystream: &[u8], bits: RingBits) {
    let mask = L::mask(bits);
    combine(lanes, keystream, |lane, word| lane.wrapping_sub(word).masked(mask));
}

#[inline(always)]
fn combine<L: Lane>(lanes: &mut [L], keystream: &[u8], op: impl Fn(L, L) -> L) {
    assert_eq!(Some(keystream.len()), lanes.len().checked_mul(L::BYTES), "keystream bytes for {} lanes", lanes.len());
    for (lane, word) in lanes.iter_mut().zip(keystream.chunks_exact(L::BYTES)) {
        *lane = op(*lane, L::from_le_slice(word));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn keystream_added_and_subtracted_cancels_and_stays_in_the_ring() {
        for b in 2..=32 {
            let bits = RingBits::new(b).unwrap();
            let mask = u32::mask(bits);
            let before = [0, 1 & mask, mask, mask / 2];
            let mut lanes = before;
            let keystream = [0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 1, 0, 0, 0, 0xaa, 0x55, 0xaa, 0x55];
            add_keystream(&mut lanes, &keystream, bits);
            assert_eq!(lanes[0], mask, "b = {b}");
            assert_eq!(lanes[2], 0, "b = {b}");
            assert!(lanes.iter().all(|&lane| lane <= mask), "b = {b}");
            sub_keystream(&mut lanes, &keystream, bits);
            assert_eq!(lanes, before, "b = {b}");
        }
        let bits = RingBits::new(64).unwrap();
        let mut lanes = [u64::MAX];
        add_keystream(&mut lanes, &2u64.to_le_bytes(), bits);
        assert_eq!(lanes, [1]);
        sub_keystream(&mut lanes, &2u64.to_le_bytes(), bits);
        assert_eq!(lanes, [u64::MAX]);
    }
}
