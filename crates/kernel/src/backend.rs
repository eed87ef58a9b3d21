//! Which instructions the kernels use, and the only unsafe code of the workspace.
//!
//! # Safety argument
//! Three things here are unsafe, each with one reason:
//!
//! 1. *Calling a function with `#[target_feature]` from one without.* It is sound where the CPU has the features. A
//!    [`Backend`] is the evidence: its field is private to this module, [`Backend::of`] alone makes one, and only after
//!    asking the CPU. The intrinsics inside such functions are safe functions.
//! 2. *Vector loads and stores.* The wrappers take references to arrays of exactly the vector's size and use the
//!    unaligned instructions, so that reference and access cover the same bytes.
//! 3. *Lanes seen as bytes.* [`Lane`] is sealed to `u32` and `u64`: no padding, every bit pattern valid, alignment only
//!    shrinks. The borrow of the lanes lasts as long as that of the bytes.
#![expect(unsafe_code, reason = "the one module that may; see its safety argument")]

use std::fmt;
use std::sync::LazyLock;

#[cfg(target_arch = "aarch64")]
use crate::keystream::neon;
#[cfg(target_arch = "x86_64")]
use crate::keystream::x86;
use crate::keystream::{Counter, Keystream, Line, Sign, portable, schedule::Schedule};
use crate::lane::{Bits, Lane};
#[cfg(target_arch = "x86_64")]
use crate::packed;

/// Sets of instructions that the kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Instructions {
    /// No vectors of our own; AES by the `aes` crate.
    Portable,
    /// aarch64: NEON and the AES instructions.
    Neon,
    /// x86-64: AES-NI on 128-bit vectors; unpacking with AVX2 where it is there.
    AesNi,
    /// x86-64: VAES and AVX2 on 256-bit vectors.
    Vaes256,
    /// x86-64: VAES and AVX-512 (F, BW, VBMI, VBMI2) on 512-bit vectors.
    Vaes512,
}

/// Instructions that this CPU has been seen to have. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend(Instructions);

impl Backend {
    /// The portable one, which is everywhere.
    pub const PORTABLE: Self = Self(Instructions::Portable);

    /// The fastest that this CPU has; asked once per process.
    #[must_use]
    pub fn detect() -> Self {
        static FASTEST: LazyLock<Backend> = LazyLock::new(|| Backend::available().last().unwrap_or(Backend::PORTABLE));
        *FASTEST
    }

    /// All that this CPU has, the slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        use Instructions::{AesNi, Neon, Portable, Vaes256, Vaes512};
        [Portable, Neon, AesNi, Vaes256, Vaes512].into_iter().filter_map(Self::of)
    }

    /// These instructions, if this CPU has them.
    #[must_use]
    pub fn of(instructions: Instructions) -> Option<Self> {
        cpu_has(instructions).then_some(Self(instructions))
    }

    /// What it stands for.
    #[must_use]
    pub fn instructions(self) -> Instructions {
        self.0
    }

    /// Round keys for this backend's kernels.
    pub(crate) fn schedule(self, stream: &Keystream) -> Schedule {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::AesNi | Instructions::Vaes256 | Instructions::Vaes512 => {
                // SAFETY: point 1 of the argument; each of the three includes AES-NI and SSSE3.
                Schedule::expanded(stream, |word| unsafe { x86::aesni::sub_word(word) })
            }
            #[cfg(target_arch = "aarch64")]
            Instructions::Neon => {
                // SAFETY: point 1 of the argument.
                Schedule::expanded(stream, |word| unsafe { neon::sub_word(word) })
            }
            _ => Schedule::portable(stream),
        }
    }

    /// Adds the keystream from `counter` on to whole lines, or subtracts it. The counter's low half must not wrap on the
    /// way: of the blocks behind that, the result is not defined.
    #[inline]
    pub(crate) fn combine<L: Lane>(self, schedule: &Schedule, counter: Counter, sign: Sign, lanes: &mut [L]) {
        let keys = match schedule {
            Schedule::Aes128(cipher) => return portable::combine(cipher, counter, sign, lanes),
            Schedule::Aes256(cipher) => return portable::combine(cipher, counter, sign, lanes),
            Schedule::Expanded(keys) => keys,
        };
        let (wide, lines) = (L::BYTES == size_of::<u64>(), lines(lanes));
        match self.0 {
            // SAFETY: point 1 of the argument.
            #[cfg(target_arch = "x86_64")]
            Instructions::Vaes512 => unsafe { x86::vaes512::combine(keys, counter, sign, wide, lines) },
            // SAFETY: point 1 of the argument.
            #[cfg(target_arch = "x86_64")]
            Instructions::Vaes256 => unsafe { x86::vaes256::combine(keys, counter, sign, wide, lines) },
            // SAFETY: point 1 of the argument.
            #[cfg(target_arch = "x86_64")]
            Instructions::AesNi => unsafe { x86::aesni::combine(keys, counter, sign, wide, lines) },
            // SAFETY: point 1 of the argument.
            #[cfg(target_arch = "aarch64")]
            Instructions::Neon => unsafe { neon::combine(keys, counter, sign, wide, lines) },
            _ => unreachable!("a schedule is used by the backend that made it"),
        }
    }

    /// Adds packed values to lanes, as many blocks of eight as vectors reach; returns their number.
    #[inline]
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "only x86-64 has vectors for this"))]
    pub(crate) fn unpack_add<L: Lane>(self, packed: &[u8], bits: Bits, lanes: &mut [L]) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::Vaes512 => {
                // SAFETY: point 1 of the argument.
                unsafe { packed::x86::vbmi::unpack_add(packed, bits, L::BYTES == size_of::<u64>(), lines(lanes)) }
            }
            #[cfg(target_arch = "x86_64")]
            Instructions::Vaes256 | Instructions::AesNi if L::BYTES == 4 && is_x86_feature_detected!("avx2") => {
                // SAFETY: point 1 of the argument; AVX2 was asked for just now.
                unsafe { packed::x86::avx2::unpack_add(packed, bits, lines(lanes)) }
            }
            _ => 0,
        }
    }

    /// Packs lanes, as many blocks of eight as vectors reach; returns their number. Bytes behind them may be overwritten.
    #[inline]
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_variables, reason = "only x86-64 has vectors for this"))]
    pub(crate) fn pack<L: Lane>(self, lanes: &[L], bits: Bits, packed: &mut [u8]) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Instructions::Vaes512 => {
                // SAFETY: point 1 of the argument.
                unsafe { packed::x86::vbmi::pack(lines_of(lanes), bits, L::BYTES == size_of::<u64>(), packed) }
            }
            _ => 0,
        }
    }

    /// Encrypts counters and only xors the blocks together; `None` where there is no kernel of ours to compare with.
    pub(crate) fn register_only(self, schedule: &Schedule, counter: Counter, lines: u64) -> Option<Line> {
        let Schedule::Expanded(keys) = schedule else { return None };
        match self.0 {
            // SAFETY: point 1 of the argument.
            #[cfg(target_arch = "x86_64")]
            Instructions::Vaes512 => Some(unsafe { x86::vaes512::register_only(keys, counter, lines) }),
            // SAFETY: point 1 of the argument.
            #[cfg(target_arch = "x86_64")]
            Instructions::Vaes256 => Some(unsafe { x86::vaes256::register_only(keys, counter, lines) }),
            // SAFETY: point 1 of the argument.
            #[cfg(target_arch = "x86_64")]
            Instructions::AesNi => Some(unsafe { x86::aesni::register_only(keys, counter, lines) }),
            // SAFETY: point 1 of the argument.
            #[cfg(target_arch = "aarch64")]
            Instructions::Neon => Some(unsafe { neon::register_only(keys, counter, lines) }),
            _ => None,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Instructions::Portable => "portable",
            Instructions::Neon => "neon",
            Instructions::AesNi => "aes-ni",
            Instructions::Vaes256 => "vaes-256",
            Instructions::Vaes512 => "vaes-512",
        })
    }
}

/// Whether this CPU, and the operating system on it, has all that the kernels of `instructions` are compiled with.
fn cpu_has(instructions: Instructions) -> bool {
    match instructions {
        Instructions::Portable => true,
        #[cfg(target_arch = "x86_64")]
        Instructions::AesNi => is_x86_feature_detected!("aes") && is_x86_feature_detected!("ssse3"),
        #[cfg(target_arch = "x86_64")]
        Instructions::Vaes256 => {
            cpu_has(Instructions::AesNi) && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("vaes")
        }
        #[cfg(target_arch = "x86_64")]
        Instructions::Vaes512 => {
            cpu_has(Instructions::Vaes256)
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vbmi")
                && is_x86_feature_detected!("avx512vbmi2")
        }
        // The vector kernels see lanes as bytes and count on little-endian words.
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        Instructions::Neon => {
            std::arch::is_aarch64_feature_detected!("neon") && std::arch::is_aarch64_feature_detected!("aes")
        }
        #[allow(unreachable_patterns, reason = "which are left depends on the architecture")]
        _ => false,
    }
}

/// Whole lines of lanes as bytes; what is behind the last whole line is left out.
fn lines<L: Lane>(lanes: &mut [L]) -> &mut [Line] {
    // SAFETY: point 3 of the argument; the length in bytes is that of the lanes.
    let bytes = unsafe { std::slice::from_raw_parts_mut(lanes.as_mut_ptr().cast::<u8>(), size_of_val(lanes)) };
    bytes.as_chunks_mut().0
}

/// As [`lines`], to be read.
#[cfg(target_arch = "x86_64")]
fn lines_of<L: Lane>(lanes: &[L]) -> &[Line] {
    // SAFETY: point 3 of the argument; the length in bytes is that of the lanes.
    let bytes = unsafe { std::slice::from_raw_parts(lanes.as_ptr().cast::<u8>(), size_of_val(lanes)) };
    bytes.as_chunks().0
}

/// Loads and stores of whole vectors.
#[cfg(target_arch = "x86_64")]
mod vectors {
    use core::arch::x86_64::{
        __m128i, __m256i, __m512i, _mm_loadu_si128, _mm_storeu_si128, _mm256_loadu_si256, _mm256_storeu_si256,
        _mm512_loadu_si512, _mm512_storeu_si512,
    };

    macro_rules! access {
        ($features:literal, $vector:ty, $bytes:literal, $load:ident = $loadu:ident, $store:ident = $storeu:ident) => {
            #[target_feature(enable = $features)]
            #[inline]
            pub(crate) fn $load(bytes: &[u8; $bytes]) -> $vector {
                // SAFETY: point 2 of the argument.
                unsafe { $loadu(bytes.as_ptr().cast()) }
            }

            #[target_feature(enable = $features)]
            #[inline]
            pub(crate) fn $store(bytes: &mut [u8; $bytes], vector: $vector) {
                // SAFETY: point 2 of the argument.
                unsafe { $storeu(bytes.as_mut_ptr().cast(), vector) }
            }
        };
    }

    access!("sse2", __m128i, 16, load128 = _mm_loadu_si128, store128 = _mm_storeu_si128);
    access!("avx", __m256i, 32, load256 = _mm256_loadu_si256, store256 = _mm256_storeu_si256);
    access!("avx512f", __m512i, 64, load512 = _mm512_loadu_si512, store512 = _mm512_storeu_si512);
}
#[cfg(target_arch = "x86_64")]
pub(crate) use vectors::{load128, load256, load512, store128, store256, store512};

/// Loads and stores of whole vectors.
#[cfg(target_arch = "aarch64")]
mod vectors {
    use core::arch::aarch64::{uint8x16_t, vld1q_u8, vst1q_u8};

    #[target_feature(enable = "neon")]
    #[inline]
    pub(crate) fn load_neon(bytes: &[u8; 16]) -> uint8x16_t {
        // SAFETY: point 2 of the argument.
        unsafe { vld1q_u8(bytes.as_ptr()) }
    }

    #[target_feature(enable = "neon")]
    #[inline]
    pub(crate) fn store_neon(bytes: &mut [u8; 16], vector: uint8x16_t) {
        // SAFETY: point 2 of the argument.
        unsafe { vst1q_u8(bytes.as_mut_ptr(), vector) }
    }
}
#[cfg(target_arch = "aarch64")]
pub(crate) use vectors::{load_neon, store_neon};
