//! Round keys (FIPS 197, 5.2), expanded once per call and wiped after it.

use aes::cipher::KeyInit;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{Cipher, Keystream};

/// Round keys in the form that a backend works with.
pub(crate) enum Schedule {
    /// The `aes` crate's own; it wipes them.
    Aes128(aes::Aes128),
    /// As above.
    Aes256(aes::Aes256),
    /// For our kernels.
    Expanded(RoundKeys),
}

impl Schedule {
    /// For the portable backend.
    pub(crate) fn portable(stream: &Keystream) -> Self {
        match stream.cipher {
            Cipher::Aes128 => Self::Aes128(aes::Aes128::new_from_slice(stream.key()).expect("16 bytes")),
            Cipher::Aes256 => Self::Aes256(aes::Aes256::new_from_slice(stream.key()).expect("32 bytes")),
        }
    }

    /// For a kernel that brings its own `SubWord`: the S-box on each byte of a word, in constant time.
    pub(crate) fn expanded(stream: &Keystream, sub_word: impl Fn(u32) -> u32) -> Self {
        Self::Expanded(RoundKeys::new(stream.key(), sub_word))
    }
}

/// Expanded round keys, as bytes in the order of the state.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct RoundKeys {
    /// The first `rounds + 1` are used.
    keys: Box<[[u8; 16]; ROUND_KEYS_MAX]>,
    rounds: usize,
}

impl RoundKeys {
    /// FIPS 197, algorithm 2, for keys of 16 or 32 bytes.
    fn new(key: &[u8], sub_word: impl Fn(u32) -> u32) -> Self {
        let key_words = key.len() / 4;
        let rounds = key_words + 6;
        let mut keys = Box::new([[0; 16]; ROUND_KEYS_MAX]);
        let words = keys.as_flattened_mut();
        words[..key.len()].copy_from_slice(key);
        // Bytes of a word are read little-endian here, so that RotWord turns to the right and Rcon is in the low byte.
        let word = |words: &[u8], at: usize| {
            u32::from_le_bytes(words[4 * at..][..4].try_into().expect("a slice of four bytes is four bytes"))
        };
        let mut rcon = 1u8;
        for at in key_words..4 * (rounds + 1) {
            let mut temp = word(words, at - 1);
            if at % key_words == 0 {
                temp = sub_word(temp.rotate_right(8)) ^ u32::from(rcon);
                // Doubling in the field, modulo x^8 + x^4 + x^3 + x + 1. The constants are public.
                rcon = (rcon << 1) ^ if rcon & 0x80 == 0 { 0 } else { 0x1b };
            } else if key_words == 8 && at % key_words == 4 {
                temp = sub_word(temp);
            }
            temp ^= word(words, at - key_words);
            words[4 * at..][..4].copy_from_slice(&temp.to_le_bytes());
        }
        Self { keys, rounds }
    }

    /// The keys of all rounds; behind `rounds + 1` of them there are zeros.
    #[inline]
    pub(crate) fn keys(&self) -> &[[u8; 16]; ROUND_KEYS_MAX] {
        &self.keys
    }

    /// 10 or 14.
    #[inline]
    pub(crate) fn rounds(&self) -> usize {
        self.rounds
    }
}

/// Round keys of AES-256.
pub(crate) const ROUND_KEYS_MAX: usize = 15;
