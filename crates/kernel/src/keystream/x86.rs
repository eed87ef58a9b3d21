//! Counter mode with the AES instructions of x86-64, in three widths.

use core::arch::x86_64::{__m128i, _mm_set_epi8, _mm_set_epi64x};

use super::Counter;
use super::counter_mode::{counter_mode, operations};

/// Four blocks in a vector.
pub(crate) mod vaes512 {
    use core::arch::x86_64::*;

    use super::{counter_mode, operations};
    use crate::backend::{load512 as load, store512 as store};
    use crate::keystream::Counter;

    type Vector = __m512i;

    operations! { "avx512f,avx512bw,vaes",
        xor(a: Vector, b: Vector) = _mm512_xor_si512(a, b);
        round(state: Vector, key: Vector) = _mm512_aesenc_epi128(state, key);
        last_round(state: Vector, key: Vector) = _mm512_aesenclast_epi128(state, key);
        add32(a: Vector, b: Vector) = _mm512_add_epi32(a, b);
        sub32(a: Vector, b: Vector) = _mm512_sub_epi32(a, b);
        add64(a: Vector, b: Vector) = _mm512_add_epi64(a, b);
        sub64(a: Vector, b: Vector) = _mm512_sub_epi64(a, b);
        splat(block: &[u8; 16]) = _mm512_broadcast_i32x4(super::block(block));
        blocks(counters: Vector) = _mm512_shuffle_epi8(counters, _mm512_broadcast_i32x4(super::swap_halves()));
        advance(counters: Vector) = _mm512_add_epi64(counters, _mm512_set_epi64(4, 0, 4, 0, 4, 0, 4, 0));
        first(counter: Counter) = {
            let counters = _mm512_broadcast_i32x4(super::halves(counter));
            _mm512_add_epi64(counters, _mm512_set_epi64(3, 0, 2, 0, 1, 0, 0, 0))
        };
    }
    counter_mode!("avx512f,avx512bw,vaes", 64, 8);
}

/// Two blocks in a vector.
pub(crate) mod vaes256 {
    use core::arch::x86_64::*;

    use super::{counter_mode, operations};
    use crate::backend::{load256 as load, store256 as store};
    use crate::keystream::Counter;

    type Vector = __m256i;

    operations! { "avx2,vaes",
        xor(a: Vector, b: Vector) = _mm256_xor_si256(a, b);
        round(state: Vector, key: Vector) = _mm256_aesenc_epi128(state, key);
        last_round(state: Vector, key: Vector) = _mm256_aesenclast_epi128(state, key);
        add32(a: Vector, b: Vector) = _mm256_add_epi32(a, b);
        sub32(a: Vector, b: Vector) = _mm256_sub_epi32(a, b);
        add64(a: Vector, b: Vector) = _mm256_add_epi64(a, b);
        sub64(a: Vector, b: Vector) = _mm256_sub_epi64(a, b);
        splat(block: &[u8; 16]) = _mm256_broadcastsi128_si256(super::block(block));
        blocks(counters: Vector) = _mm256_shuffle_epi8(counters, _mm256_broadcastsi128_si256(super::swap_halves()));
        advance(counters: Vector) = _mm256_add_epi64(counters, _mm256_set_epi64x(2, 0, 2, 0));
        first(counter: Counter) = {
            let counters = _mm256_broadcastsi128_si256(super::halves(counter));
            _mm256_add_epi64(counters, _mm256_set_epi64x(1, 0, 0, 0))
        };
    }
    counter_mode!("avx2,vaes", 32, 8);
}

/// One block in a vector.
pub(crate) mod aesni {
    use core::arch::x86_64::*;

    use super::{counter_mode, operations};
    use crate::backend::{load128 as load, store128 as store};
    use crate::keystream::Counter;

    type Vector = __m128i;

    operations! { "aes,ssse3",
        xor(a: Vector, b: Vector) = _mm_xor_si128(a, b);
        round(state: Vector, key: Vector) = _mm_aesenc_si128(state, key);
        last_round(state: Vector, key: Vector) = _mm_aesenclast_si128(state, key);
        add32(a: Vector, b: Vector) = _mm_add_epi32(a, b);
        sub32(a: Vector, b: Vector) = _mm_sub_epi32(a, b);
        add64(a: Vector, b: Vector) = _mm_add_epi64(a, b);
        sub64(a: Vector, b: Vector) = _mm_sub_epi64(a, b);
        splat(block: &[u8; 16]) = super::block(block);
        blocks(counters: Vector) = _mm_shuffle_epi8(counters, super::swap_halves());
        advance(counters: Vector) = _mm_add_epi64(counters, _mm_set_epi64x(1, 0));
        first(counter: Counter) = super::halves(counter);
    }
    counter_mode!("aes,ssse3", 16, 8);

    /// FIPS 197's `SubWord` by the last round's S-box: with all columns equal, its ShiftRows changes nothing.
    #[target_feature(enable = "aes,ssse3")]
    pub(crate) fn sub_word(word: u32) -> u32 {
        let state = _mm_set1_epi32(word.cast_signed());
        _mm_cvtsi128_si32(_mm_aesenclast_si128(state, _mm_setzero_si128())).cast_unsigned()
    }
}

#[target_feature(enable = "sse2")]
#[inline]
fn block(block: &[u8; 16]) -> __m128i {
    crate::backend::load128(block)
}

/// A counter as its high and its low half.
#[target_feature(enable = "sse2")]
#[inline]
fn halves(counter: Counter) -> __m128i {
    _mm_set_epi64x(counter.low.cast_signed(), counter.high.cast_signed())
}

/// The shuffle that turns the bytes of each half, so that the counter is big-endian.
#[target_feature(enable = "sse2")]
#[inline]
fn swap_halves() -> __m128i {
    _mm_set_epi8(8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
}
