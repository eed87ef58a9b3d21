//! Masks: AES in counter mode, expanded and added to a vector tile by tile.
//!
//! Element e of a mask is the little-endian word at byte `e * lane bytes` of the keystream, reduced mod 2^b. All masks
//! of a vector pass over one tile that fits the cache before the next tile begins, so the vector itself crosses the
//! memory bus once whatever the number of neighbours; counter mode can start at any block.

use crate::context::Prg;
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use sordino_codec::{Lane, LanesMut, RingBits, RingVector, add_keystream, sub_keystream};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

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

/// Adds every mask to the vector, with its sign.
pub(crate) fn apply(prg: Prg, masks: &[(MaskKey, Sign)], vector: &mut RingVector) {
    let streams: Vec<Stream> = masks.iter().map(|(key, sign)| Stream::new(prg, key, *sign)).collect();
    let bits = vector.bits();
    match vector.lanes_mut() {
        LanesMut::Narrow(lanes) => apply_to(&streams, lanes, bits),
        LanesMut::Wide(lanes) => apply_to(&streams, lanes, bits),
    }
}

fn apply_to<L: Lane>(streams: &[Stream], lanes: &mut [L], bits: RingBits) {
    let mut keystream = Zeroizing::new(vec![0; TILE_BYTES.min(lanes.len() * L::BYTES)]);
    let mut block = 0;
    for tile in lanes.chunks_mut(TILE_BYTES / L::BYTES) {
        let keystream = &mut keystream[..tile.len() * L::BYTES];
        for stream in streams {
            stream.fill(block, keystream);
            match stream.sign {
                Sign::Plus => add_keystream(tile, keystream, bits),
                Sign::Minus => sub_keystream(tile, keystream, bits),
            }
        }
        block += (TILE_BYTES / BLOCK_BYTES) as u128;
    }
}

/// One mask's cipher, its key schedule computed once.
struct Stream {
    cipher: EncryptingKey,
    counter: u128,
    sign: Sign,
}

impl Stream {
    fn new(prg: Prg, mask: &MaskKey, sign: Sign) -> Self {
        let (algorithm, key) = match prg {
            Prg::Aes256Ctr => (&AES_256, &mask.key[..]),
            Prg::Aes128Ctr => (&AES_128, &mask.key[..16]),
        };
        let cipher = UnboundCipherKey::new(algorithm, key)
            .and_then(EncryptingKey::ctr)
            .expect("the key has the length that its algorithm takes");
        Self { cipher, counter: u128::from_be_bytes(mask.counter), sign }
    }

    /// The keystream from the given block on.
    fn fill(&self, block: u128, keystream: &mut [u8]) {
        keystream.fill(0);
        let counter = self.counter.wrapping_add(block).to_be_bytes();
        self.cipher
            .less_safe_encrypt(keystream, EncryptionContext::Iv128((&counter).into()))
            .expect("counter mode takes any length");
    }
}

/// Vector bytes that all masks pass over together: the tile and its keystream stay in the second-level cache.
const TILE_BYTES: usize = 32 * 1024;
const BLOCK_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            apply(prg, &[(key, Sign::Plus)], &mut vector);
            let got: Vec<u64> = (0..vector.len()).filter_map(|at| vector.get(at)).collect();
            assert_eq!(got, expected.into_iter().map(u64::from).collect::<Vec<_>>());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Tiles change nothing: the same bytes as one long pass, whatever the length, also where the counter wraps.
        #[test]
        fn tiled_is_untiled(bits in 2u8..=64, len in 0usize..40_000, near_the_end: bool) {
            let bits = RingBits::new(bits).expect("a ring");
            let counter = if near_the_end { [0xff; 16] } else { [7; 16] };
            let mut tiled = RingVector::zeros(len, bits);
            apply(Prg::Aes256Ctr, &[(mask(3, counter), Sign::Plus)], &mut tiled);

            let lane_bytes = if bits.is_narrow() { 4 } else { 8 };
            let mut keystream = vec![0; len * lane_bytes];
            Stream::new(Prg::Aes256Ctr, &mask(3, counter), Sign::Plus).fill(0, &mut keystream);
            for (at, word) in keystream.chunks_exact(lane_bytes).enumerate() {
                let mut bytes = [0; 8];
                bytes[..lane_bytes].copy_from_slice(word);
                let element = u64::from_le_bytes(bytes) & (u64::MAX >> (64 - bits.get()));
                prop_assert_eq!(tiled.get(at), Some(element));
            }
            // What was added and taken away again is gone.
            apply(Prg::Aes256Ctr, &[(mask(3, counter), Sign::Minus)], &mut tiled);
            prop_assert_eq!(tiled, RingVector::zeros(len, bits));
        }
    }
}
