//! Counter mode with the AES instructions of aarch64, one block in a vector.

use core::arch::aarch64::*;

use super::Counter;
use super::counter_mode::{counter_mode, operations};
use crate::backend::{load_neon as load, store_neon as store};

type Vector = uint8x16_t;

operations! { "neon,aes",
    xor(a: Vector, b: Vector) = veorq_u8(a, b);
    // AESE adds its key before the S-box where x86 adds it after the round. With a key of zero it is the round without
    // its key; the compiler joins the addition of one round with the next AESE.
    round(state: Vector, key: Vector) = veorq_u8(vaesmcq_u8(vaeseq_u8(state, vdupq_n_u8(0))), key);
    last_round(state: Vector, key: Vector) = veorq_u8(vaeseq_u8(state, vdupq_n_u8(0)), key);
    add32(a: Vector, b: Vector) =
        vreinterpretq_u8_u32(vaddq_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
    sub32(a: Vector, b: Vector) =
        vreinterpretq_u8_u32(vsubq_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
    add64(a: Vector, b: Vector) =
        vreinterpretq_u8_u64(vaddq_u64(vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b)));
    sub64(a: Vector, b: Vector) =
        vreinterpretq_u8_u64(vsubq_u64(vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b)));
    splat(block: &[u8; 16]) = load(block);
    blocks(counters: Vector) = vrev64q_u8(counters);
    advance(counters: Vector) = add64(counters, halves(0, 1));
    first(counter: Counter) = halves(counter.high, counter.low);
    halves(high: u64, low: u64) = vreinterpretq_u8_u64(vcombine_u64(vcreate_u64(high), vcreate_u64(low)));
}
counter_mode!("neon,aes", 16, 8);

/// FIPS 197's `SubWord` by AESE: with all columns equal, its ShiftRows changes nothing.
#[target_feature(enable = "neon,aes")]
pub(crate) fn sub_word(word: u32) -> u32 {
    let state = vreinterpretq_u8_u32(vdupq_n_u32(word));
    vgetq_lane_u32::<0>(vreinterpretq_u32_u8(vaeseq_u8(state, vdupq_n_u8(0))))
}
