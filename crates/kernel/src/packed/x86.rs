//! Packed values with the vectors of x86-64.
//!
//! Unpacking: a byte shuffle brings the bytes of each value into its lane, a shift per lane drops the bits of the value
//! before it, and the mask after the addition those of the value behind it.

/// AVX-512 with VBMI and VBMI2: 512 bits of lanes at a time, at any b.
pub(crate) mod vbmi {
    use core::arch::x86_64::*;

    use crate::backend::{load512, store512};
    use crate::keystream::{LINE_BYTES, Line};
    use crate::lane::{Bits, Lane};
    use crate::packed::BLOCK;

    /// Adds packed values to as many lines of lanes as there are 64 bytes to read for; returns the blocks of 8 values.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2")]
    pub(crate) fn unpack_add(packed: &[u8], bits: Bits, wide: bool, lines: &mut [Line]) -> usize {
        // Up to 25 and 57 bits, a value and the at most 7 bits before it fit one word.
        match (wide, bits.get()) {
            (false, ..=25) => unpack::<false, false>(packed, bits, lines),
            (false, _) => unpack::<false, true>(packed, bits, lines),
            (true, ..=57) => unpack::<true, false>(packed, bits, lines),
            (true, _) => unpack::<true, true>(packed, bits, lines),
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2")]
    fn unpack<const WIDE: bool, const TWO_WORDS: bool>(packed: &[u8], bits: Bits, lines: &mut [Line]) -> usize {
        let lane_bytes = if WIDE { 8 } else { 4 };
        let windows = Windows::new(bits, lane_bytes);
        let (low, high, shifts) = (load512(&windows.low), load512(&windows.high), load512(&windows.shifts));
        let mask = load512(&windows.mask);
        // The values of a line take 2b or b bytes.
        let stride = LINE_BYTES / lane_bytes / BLOCK * bits.block_bytes();
        let mut done = 0;
        let mut rest = packed;
        for line in lines {
            let Some(bytes) = rest.first_chunk() else { break };
            let bytes = load512(bytes);
            let low = _mm512_permutexvar_epi8(low, bytes);
            let lanes = load512(line);
            let sum = match (WIDE, TWO_WORDS) {
                (false, false) => _mm512_add_epi32(lanes, _mm512_srlv_epi32(low, shifts)),
                (true, false) => _mm512_add_epi64(lanes, _mm512_srlv_epi64(low, shifts)),
                (false, true) => {
                    let high = _mm512_permutexvar_epi8(high, bytes);
                    _mm512_add_epi32(lanes, _mm512_shrdv_epi32(low, high, shifts))
                }
                (true, true) => {
                    let high = _mm512_permutexvar_epi8(high, bytes);
                    _mm512_add_epi64(lanes, _mm512_shrdv_epi64(low, high, shifts))
                }
            };
            store512(line, _mm512_and_si512(sum, mask));
            rest = &rest[stride..];
            done += LINE_BYTES / lane_bytes / BLOCK;
        }
        done
    }

    /// Where the bytes of each lane's value are.
    struct Windows {
        /// Indices of the word that begins with the value's first byte.
        low: Line,
        /// Indices of the word behind that. They wrap where nothing of the value is there any more.
        high: Line,
        /// Per lane, the bits of the value before.
        shifts: Line,
        /// Per lane, the low b bits.
        mask: Line,
    }

    impl Windows {
        #[expect(clippy::cast_possible_truncation, reason = "bytes of a line of 64")]
        fn new(bits: Bits, lane_bytes: usize) -> Self {
            let mut windows = Self { low: [0; 64], high: [0; 64], shifts: [0; 64], mask: [0; 64] };
            for at in 0..LINE_BYTES / lane_bytes {
                let first_bit = at * bits.block_bytes();
                for byte in 0..lane_bytes {
                    windows.low[at * lane_bytes + byte] = (first_bit / 8 + byte) as u8 % 64;
                    windows.high[at * lane_bytes + byte] = (first_bit / 8 + lane_bytes + byte) as u8 % 64;
                }
                windows.shifts[at * lane_bytes] = (first_bit % 8) as u8;
                windows.mask[at * lane_bytes..][..lane_bytes]
                    .copy_from_slice(&u64::mask(bits).to_le_bytes()[..lane_bytes]);
            }
            windows
        }
    }

    /// Packs as many lines of lanes as there are 64 bytes to write for; returns the blocks of 8 values. Each store
    /// zeroes what is behind its own bytes, and the next one fills it.
    #[target_feature(enable = "avx512f")]
    pub(crate) fn pack(lines: &[Line], bits: Bits, wide: bool, packed: &mut [u8]) -> usize {
        // Values of a line as 8 words of `width` bits: pairs of narrow ones, wide ones alone.
        let width = if wide { bits.block_bytes() } else { 2 * bits.block_bytes() };
        match (wide, width) {
            (false, 64..) => pack_lines::<false, 2>(lines, bits, packed),
            (false, 32..) => pack_lines::<false, 3>(lines, bits, packed),
            (false, 16..) => pack_lines::<false, 5>(lines, bits, packed),
            (false, _) => pack_lines::<false, 8>(lines, bits, packed),
            (true, 63..) => pack_lines::<true, 2>(lines, bits, packed),
            (true, 32..) => pack_lines::<true, 3>(lines, bits, packed),
            // A wide lane of a narrow ring is possible, and nobody's hurry.
            (true, _) => 0,
        }
    }

    /// `TERMS`: how many words of `width` bits can lie in one output word, `1 + ceil(63 / width)`, 8 at most.
    #[target_feature(enable = "avx512f")]
    fn pack_lines<const WIDE: bool, const TERMS: usize>(lines: &[Line], bits: Bits, packed: &mut [u8]) -> usize {
        let b = bits.block_bytes();
        let (width, blocks) = if WIDE { (b, 1) } else { (2 * b, 2) };
        let terms: [Term; TERMS] = std::array::from_fn(|term| Term::new(term, width));
        let moves = terms.map(|term| (load512(&term.word), load512(&term.shift)));
        let mask = if WIDE { u64::mask(bits) } else { u64::from(u32::mask(bits)) };
        let mask = _mm512_set1_epi64(mask.cast_signed());
        let pair_shift = _mm512_set1_epi64(i64::from(bits.get()));
        let mut done = 0;
        let mut rest = packed;
        for line in lines {
            let Some(out) = rest.first_chunk_mut() else { break };
            let lanes = load512(line);
            let words = if WIDE {
                _mm512_and_si512(lanes, mask)
            } else {
                let odd = _mm512_and_si512(_mm512_srli_epi64::<32>(lanes), mask);
                _mm512_or_si512(_mm512_and_si512(lanes, mask), _mm512_sllv_epi64(odd, pair_shift))
            };
            let (word, shift) = moves[0];
            let mut bytes = _mm512_srlv_epi64(_mm512_permutexvar_epi64(word, words), shift);
            for (word, shift) in &moves[1..] {
                let moved = _mm512_sllv_epi64(_mm512_permutexvar_epi64(*word, words), *shift);
                bytes = _mm512_or_si512(bytes, moved);
            }
            store512(out, bytes);
            rest = &mut rest[width..];
            done += blocks;
        }
        done
    }

    /// For each output word, one of the words whose bits it has, and how far that moves: down for term 0, up for others.
    struct Term {
        word: Line,
        /// 64 where there is no such word, or nothing of it is left.
        shift: Line,
    }

    impl Term {
        #[expect(clippy::cast_possible_truncation, reason = "eight words, shifts of at most 64")]
        fn new(term: usize, width: usize) -> Self {
            let mut moves = Self { word: [0; 64], shift: [0; 64] };
            for out in 0..8 {
                let first = 64 * out / width;
                let word = first + term;
                let shift = match term {
                    _ if word >= 8 => 64,
                    0 => 64 * out - width * first,
                    _ => (width * word - 64 * out).min(64),
                };
                moves.word[8 * out] = word as u8 % 8;
                moves.shift[8 * out] = shift as u8;
            }
            moves
        }
    }
}

/// AVX2: eight narrow lanes at a time. Wide lanes gain nothing over the portable code.
pub(crate) mod avx2 {
    use core::arch::x86_64::*;

    use crate::backend::{load128, load256, store256};
    use crate::keystream::Line;
    use crate::lane::Bits;
    use crate::packed::BLOCK;

    /// Adds packed values to lanes, as far as there are bytes to read; returns the blocks of 8 values.
    #[target_feature(enable = "avx2")]
    pub(crate) fn unpack_add(packed: &[u8], bits: Bits, lines: &mut [Line]) -> usize {
        let b = bits.block_bytes();
        let windows = Windows::new(bits);
        let (low, high) = (load256(&windows.low), load256(&windows.high));
        let (down, up) = (load256(&windows.down), load256(&windows.up));
        let mask = _mm256_set1_epi32((u32::MAX >> (32 - b)).cast_signed());
        let mut done = 0;
        let mut rest = packed;
        for lanes in lines.as_flattened_mut().as_chunks_mut::<{ 4 * BLOCK }>().0 {
            // The second half of a block begins in its middle, on a byte or between two.
            let (Some(first), Some(second)) = (rest.first_chunk(), rest.get(b / 2..).and_then(<[u8]>::first_chunk))
            else {
                break;
            };
            let bytes = _mm256_set_m128i(load128(second), load128(first));
            let low = _mm256_srlv_epi32(_mm256_shuffle_epi8(bytes, low), down);
            let high = _mm256_sllv_epi32(_mm256_shuffle_epi8(bytes, high), up);
            let sum = _mm256_add_epi32(load256(lanes), _mm256_or_si256(low, high));
            store256(lanes, _mm256_and_si256(sum, mask));
            rest = &rest[b..];
            done += 1;
        }
        done
    }

    /// Where the bytes of each lane's value are, in its half of the vector.
    struct Windows {
        /// Indices of the four bytes that begin with the value's first.
        low: [u8; 32],
        /// Index of the fifth byte.
        high: [u8; 32],
        /// Per lane, the bits of the value before.
        down: [u8; 32],
        /// Per lane, where the fifth byte goes: 32, past the lane's end, if no bit is missing.
        up: [u8; 32],
    }

    impl Windows {
        #[expect(clippy::cast_possible_truncation, reason = "bytes of a half vector of 16, shifts of at most 32")]
        fn new(bits: Bits) -> Self {
            let b = bits.block_bytes();
            let mut windows = Self { low: [ABSENT; 32], high: [ABSENT; 32], down: [0; 32], up: [0; 32] };
            let index = |byte: usize| if byte < 16 { byte as u8 } else { ABSENT };
            for lane in 0..BLOCK {
                // Relative to the byte where the lane's half begins.
                let first_bit = lane * b - lane / 4 * (b / 2) * 8;
                for byte in 0..4 {
                    windows.low[4 * lane + byte] = index(first_bit / 8 + byte);
                }
                windows.high[4 * lane] = index(first_bit / 8 + 4);
                windows.down[4 * lane] = (first_bit % 8) as u8;
                windows.up[4 * lane] = 32 - (first_bit % 8) as u8;
            }
            windows
        }
    }

    /// An index that makes the shuffle write zero.
    const ABSENT: u8 = 0x80;
}
