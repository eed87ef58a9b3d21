//! Masks: AES in counter mode, expanded and added to a vector in one pass, tile by tile.
//!
//! Element e of a mask is the little-endian word at byte `e * lane bytes` of the keystream, reduced mod 2^b. The work is
//! done by `sordino-kernel`, with the widest instructions of the machine; all of them give the same bits.

use std::num::NonZeroUsize;

use crate::context::Prg;
use sordino_codec::{LanesMut, RingVector};
use sordino_kernel::{Backend, Cipher, Keystream, apply_threads};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Key and first counter block of one mask.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct MaskKey {
    /// AES-128 takes the first 16 bytes.
    pub(crate) key: Box<[u8; 32]>,
    pub(crate) counter: [u8; 16],
}

/// Whether a mask is added or taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    Plus,
    Minus,
}

/// Adds every mask to the vector, with its sign, on so many threads, each with a range of the vector: their number does
/// not change the bits.
pub(crate) fn apply(prg: Prg, masks: &[(MaskKey, Sign)], vector: &mut RingVector, threads: NonZeroUsize) {
    let streams: Vec<_> = masks.iter().map(|(mask, sign)| (mask.stream(prg), (*sign).into())).collect();
    let (bits, backend) = (vector.bits().into(), Backend::detect());
    match vector.lanes_mut() {
        LanesMut::Narrow(lanes) => apply_threads(&streams, lanes, bits, 0, backend, threads),
        LanesMut::Wide(lanes) => apply_threads(&streams, lanes, bits, 0, backend, threads),
    }
}

impl MaskKey {
    fn stream(&self, prg: Prg) -> Keystream {
        let cipher = match prg {
            Prg::Aes256Ctr => Cipher::Aes256,
            Prg::Aes128Ctr => Cipher::Aes128,
        };
        Keystream::new(cipher, &self.key, self.counter)
    }
}

impl From<Sign> for sordino_kernel::Sign {
    fn from(sign: Sign) -> Self {
        match sign {
            Sign::Plus => Self::Plus,
            Sign::Minus => Self::Minus,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
    use proptest::prelude::*;
    use sordino_codec::RingBits;

    fn mask(fill: u8, counter: [u8; 16]) -> MaskKey {
        MaskKey { key: Box::new([fill; 32]), counter }
    }

    /// NIST SP 800-38A, F.5.5 (CTR-AES256.Encrypt) and F.5.1 (CTR-AES128.Encrypt): plaintext xor ciphertext is the
    /// keystream.
    #[test]
    fn keystream_is_nist_counter_mode() {
        let plain = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
                     30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";
        for (prg, key, cipher) in [
            (
                Prg::Aes256Ctr,
                "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
                "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5\
                 2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6",
            ),
            (
                Prg::Aes128Ctr,
                "2b7e151628aed2a6abf7158809cf4f3c00000000000000000000000000000000",
                "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff\
                 5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee",
            ),
        ] {
            let bytes = |text: &str| hex::decode(text).expect("hex");
            let expected: Vec<u32> = bytes(plain)
                .iter()
                .zip(bytes(cipher))
                .map(|(plain, cipher)| plain ^ cipher)
                .collect::<Vec<u8>>()
                .chunks_exact(4)
                .map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")))
                .collect();
            let key = MaskKey {
                key: Box::new(bytes(key).try_into().expect("32 bytes")),
                counter: bytes("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff").try_into().expect("16 bytes"),
            };
            let mut vector = RingVector::zeros(expected.len(), RingBits::new(32).expect("a ring"));
            apply(prg, &[(key, Sign::Plus)], &mut vector, NonZeroUsize::MIN);
            let got: Vec<u64> = (0..vector.len()).filter_map(|at| vector.get(at)).collect();
            assert_eq!(got, expected.into_iter().map(u64::from).collect::<Vec<_>>());
        }
    }

    /// The keystream as aws-lc expands it.
    fn by_aws_lc(prg: Prg, mask: &MaskKey, len: usize) -> Vec<u8> {
        let (algorithm, key) = match prg {
            Prg::Aes256Ctr => (&AES_256, &mask.key[..]),
            Prg::Aes128Ctr => (&AES_128, &mask.key[..16]),
        };
        let cipher = UnboundCipherKey::new(algorithm, key).and_then(EncryptingKey::ctr).expect("a key");
        let mut keystream = vec![0; len];
        cipher.less_safe_encrypt(&mut keystream, EncryptionContext::Iv128((&mask.counter).into())).expect("any length");
        keystream
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// The same elements as one long stream of aws-lc, whatever the length and the number of threads, also where the
        /// counter wraps.
        #[test]
        fn masks_are_one_long_stream(
            bits in 2u8..=64,
            len in 0usize..40_000,
            threads in 1usize..=4,
            near_the_end: bool,
            short_key: bool,
        ) {
            let bits = RingBits::new(bits).expect("a ring");
            let prg = if short_key { Prg::Aes128Ctr } else { Prg::Aes256Ctr };
            let counter = if near_the_end { [0xff; 16] } else { [7; 16] };
            let mut masked = RingVector::zeros(len, bits);
            let threads = NonZeroUsize::new(threads).expect("one at least");
            apply(prg, &[(mask(3, counter), Sign::Plus)], &mut masked, threads);

            let lane_bytes = if bits.is_narrow() { 4 } else { 8 };
            let keystream = by_aws_lc(prg, &mask(3, counter), len * lane_bytes);
            for (at, word) in keystream.chunks_exact(lane_bytes).enumerate() {
                let mut bytes = [0; 8];
                bytes[..lane_bytes].copy_from_slice(word);
                let element = u64::from_le_bytes(bytes) & (u64::MAX >> (64 - bits.get()));
                prop_assert_eq!(masked.get(at), Some(element));
            }
            // What was added and taken away again is gone.
            apply(prg, &[(mask(3, counter), Sign::Minus)], &mut masked, NonZeroUsize::MIN);
            prop_assert_eq!(masked, RingVector::zeros(len, bits));
        }
    }
}
