//! Every backend of this machine against NIST's vectors, the `aes` crate block by block, and aws-lc-rs.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a failed unwrap is a failed test; small sizes"
)]

use super::*;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use proptest::prelude::*;

const CIPHERS: [Cipher; 2] = [Cipher::Aes256, Cipher::Aes128];

fn bits(b: u8) -> Bits {
    Bits::new(b).unwrap()
}

fn key(seed: u8) -> [u8; 32] {
    std::array::from_fn(|at| (at as u8).wrapping_mul(37) ^ seed)
}

/// The keystream's bytes, one block at a time with the counter by hand.
fn by_hand(cipher: Cipher, key: &[u8; 32], counter: u128, len: usize) -> Vec<u8> {
    let (long, short) = (aes::Aes256::new_from_slice(key).unwrap(), aes::Aes128::new_from_slice(&key[..16]).unwrap());
    let mut bytes = Vec::with_capacity(len + BLOCK_BYTES);
    let mut counter = counter;
    while bytes.len() < len {
        let mut block = Array::from(counter.to_be_bytes());
        match cipher {
            Cipher::Aes256 => long.encrypt_block(&mut block),
            Cipher::Aes128 => short.encrypt_block(&mut block),
        }
        bytes.extend_from_slice(&block);
        counter = counter.wrapping_add(1);
    }
    bytes.truncate(len);
    bytes
}

fn by_aws_lc(cipher: Cipher, key: &[u8; 32], counter: u128, len: usize) -> Vec<u8> {
    let (algorithm, key) = match cipher {
        Cipher::Aes256 => (&AES_256, &key[..]),
        Cipher::Aes128 => (&AES_128, &key[..16]),
    };
    let cipher = UnboundCipherKey::new(algorithm, key).and_then(EncryptingKey::ctr).unwrap();
    let mut bytes = vec![0; len];
    cipher.less_safe_encrypt(&mut bytes, EncryptionContext::Iv128((&counter.to_be_bytes()).into())).unwrap();
    bytes
}

/// What [`apply`] must make of `lanes`, from the bytes of the whole keystreams.
fn expected<L: Lane>(streams: &[(Vec<u8>, Sign)], lanes: &[L], b: Bits, first: usize) -> Vec<L> {
    let mut lanes = lanes.to_vec();
    for (bytes, sign) in streams {
        for (lane, word) in lanes.iter_mut().zip(bytes[first * L::BYTES..].chunks_exact(L::BYTES)) {
            let word = L::from_le_slice(word);
            *lane = match sign {
                Sign::Plus => lane.wrapping_add(word),
                Sign::Minus => lane.wrapping_sub(word),
            };
        }
    }
    lanes.iter().map(|lane| lane.masked(L::mask(b))).collect()
}

/// Applies two keystreams to `len` lanes that begin `start` lanes into their allocation, with each backend, whole and by
/// threads, and compares with the streams by hand.
fn check<L: Lane>(cipher: Cipher, counter: u128, b: Bits, len: usize, first: usize, start: usize, threads: usize) {
    let seeds = [(3, Sign::Plus), (200, Sign::Minus)];
    let total = (first + len) * L::BYTES;
    let streams = seeds.map(|(seed, sign)| (by_hand(cipher, &key(seed), counter, total), sign));
    let masks = seeds.map(|(seed, sign)| (Keystream::new(cipher, &key(seed), counter.to_be_bytes()), sign));
    let before: Vec<L> =
        (0..start + len).map(|at| L::from_u64_truncated((at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    let want = expected(&streams, &before[start..], b, first);
    for backend in Backend::available() {
        let mut lanes = before.clone();
        apply(&masks, &mut lanes[start..], b, first as u64, backend);
        assert!(lanes[start..] == want, "{backend}: {cipher:?}, {len} of {b} bits from {first}, at {start}");
        assert_eq!(lanes[..start], before[..start], "{backend}: what is before the lanes was touched");

        let mut lanes = before.clone();
        let threads = NonZeroUsize::new(threads).unwrap();
        apply_threads(&masks, &mut lanes[start..], b, first as u64, backend, threads);
        assert!(lanes[start..] == want, "{backend}: {threads} threads");
    }
}

/// NIST SP 800-38A, F.5.5 (CTR-AES256.Encrypt) and F.5.1 (CTR-AES128.Encrypt): plaintext xor ciphertext is the keystream.
#[test]
fn nist_vectors() {
    let plain = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
                 30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";
    for (cipher, key, text) in [
        (
            Cipher::Aes256,
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5\
             2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6",
        ),
        (
            Cipher::Aes128,
            "2b7e151628aed2a6abf7158809cf4f3c00000000000000000000000000000000",
            "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff\
             5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee",
        ),
    ] {
        let bytes = |text: &str| hex::decode(text).unwrap();
        let stream: Vec<u8> = bytes(plain).iter().zip(bytes(text)).map(|(plain, text)| plain ^ text).collect();
        let counter = bytes("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff").try_into().unwrap();
        let masks = [(Keystream::new(cipher, &bytes(key).try_into().unwrap(), counter), Sign::Plus)];
        for backend in Backend::available() {
            let mut narrow = [0u32; 16];
            apply(&masks, &mut narrow, bits(32), 0, backend);
            assert_eq!(narrow.map(u32::to_le_bytes).as_flattened(), stream, "{backend}, {cipher:?}");
            let mut wide = [0u64; 8];
            apply(&masks, &mut wide, bits(64), 0, backend);
            assert_eq!(wide.map(u64::to_le_bytes).as_flattened(), stream, "{backend}, {cipher:?}");
        }
    }
}

/// NIST SP 800-38A has one key each; FIPS 197, appendix C has others, as single blocks.
#[test]
fn fips_197_vectors() {
    let key = std::array::from_fn(|at| at as u8);
    let block: [u8; 16] = std::array::from_fn(|at| at as u8 * 0x11);
    for (cipher, want) in
        [(Cipher::Aes128, "69c4e0d86a7b0430d8cdb78070b4c55a"), (Cipher::Aes256, "8ea2b7ca516745bfeafc49904b496089")]
    {
        for backend in Backend::available() {
            let mut lanes = [0u64; 2];
            apply(&[(Keystream::new(cipher, &key, block), Sign::Plus)], &mut lanes, bits(64), 0, backend);
            assert_eq!(hex::encode(lanes.map(u64::to_le_bytes).as_flattened()), want, "{backend}");
        }
    }
}

/// The counter carries out of 32 bits, out of its low half, and wraps at its end, in the middle of what vectors take.
#[test]
fn counter_carries() {
    for wrap in [1u128 << 32, 1 << 64, (7 << 64) + (1 << 63), 3 << 64, 0] {
        for before in [1, 2, 3, 5, 31, 32, 33, 100] {
            let counter = wrap.wrapping_sub(before);
            for cipher in CIPHERS {
                check::<u32>(cipher, counter, bits(32), 700, 0, 0, 1);
                check::<u64>(cipher, counter, bits(64), 333, 5, 1, 2);
            }
        }
    }
}

#[test]
fn borders_of_tiles() {
    let tile = TILE_BYTES / 4;
    for len in [tile - 1, tile, tile + 1, 2 * tile + 17] {
        for start in [0, 1, 4, 13] {
            check::<u32>(Cipher::Aes256, 9, bits(20), len, start, start, 3);
            check::<u64>(Cipher::Aes128, 9, bits(50), len / 2, start, start, 2);
        }
    }
}

/// A position far beyond what a test can expand: the same block, reached through the counter.
#[test]
fn far_elements() {
    for backend in Backend::available() {
        let first = u64::MAX - 100;
        let (mut near, mut far) = ([0u64; 60], [0u64; 60]);
        let counter = u128::MAX - 5;
        let moved = counter.wrapping_add(u128::from(first / 2));
        let one = |counter: u128| [(Keystream::new(Cipher::Aes256, &key(1), counter.to_be_bytes()), Sign::Plus)];
        apply(&one(counter), &mut far, bits(64), first, backend);
        apply(&one(moved), &mut near, bits(64), first % 2, backend);
        assert_eq!(far, near, "{backend}");
    }
}

#[test]
fn no_keystream_only_reduces() {
    for backend in Backend::available() {
        let mut lanes = [33u32, 31, 32];
        apply(&[], &mut lanes, bits(5), 0, backend);
        assert_eq!(lanes, [1, 31, 0]);
        apply::<u32>(&[], &mut [], bits(5), 0, backend);
    }
}

#[test]
fn the_portable_backend_is_everywhere_and_the_fastest_is_the_last() {
    assert_eq!(Backend::available().next(), Some(Backend::PORTABLE));
    assert_eq!(Backend::available().last(), Some(Backend::detect()));
    assert!(Backend::available().all(|backend| Backend::of(backend.instructions()) == Some(backend)));
    // With `--no-capture`: what this machine, or valgrind's model of one, has been tested with.
    #[expect(clippy::print_stdout, reason = "only where it was asked for")]
    for backend in Backend::available() {
        println!("has {backend}");
    }
}

#[test]
fn debug_shows_no_key() {
    let shown = format!("{:?}", Keystream::new(Cipher::Aes256, &[42; 32], [43; 16]));
    assert_eq!(shown, "Keystream { cipher: Aes256, .. }");
}

/// The measure is what it says: the xor of all the keystream's lines, folded to one vector of the backend.
#[test]
fn register_only_encrypts_every_counter() {
    for cipher in CIPHERS {
        let stream = Keystream::new(cipher, &key(5), [0; 16]);
        let lines = 48;
        let bytes = by_hand(cipher, &key(5), 0, lines * LINE_BYTES);
        let fold = |bytes: &[u8]| {
            bytes.chunks_exact(16).fold([0; 16], |sum: [u8; 16], block| std::array::from_fn(|at| sum[at] ^ block[at]))
        };
        for backend in Backend::available() {
            let digest = crate::register_only(&stream, (lines * LINE_BYTES) as u64, backend);
            assert_eq!(digest.is_none(), backend == Backend::PORTABLE, "{backend}");
            if let Some(digest) = digest {
                assert_eq!(fold(&digest), fold(&bytes), "{backend}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn all_backends_are_the_cipher_block_by_block(
        b in 2u8..=64,
        len in 0usize..=5000,
        first in 0usize..=100,
        start in 0usize..=20,
        counter: u128,
        short_key: bool,
        threads in 1usize..=5,
    ) {
        let cipher = if short_key { Cipher::Aes128 } else { Cipher::Aes256 };
        check::<u64>(cipher, counter, bits(b), len, first, start, threads);
        check::<u32>(cipher, counter, bits(b), len, first, start, threads);
    }

    #[test]
    fn aws_lc_expands_the_same_stream(counter: u128, len in 0usize..3000, near_the_end: bool, short_key: bool) {
        let cipher = if short_key { Cipher::Aes128 } else { Cipher::Aes256 };
        let counter = if near_the_end { u128::MAX - counter % 100 } else { counter };
        let bytes = by_aws_lc(cipher, &key(7), counter, len * 4);
        let want: Vec<u32> = bytes.chunks_exact(4).map(u32::from_le_slice).collect();
        for backend in Backend::available() {
            let mut lanes = vec![0u32; len];
            let masks = [(Keystream::new(cipher, &key(7), counter.to_be_bytes()), Sign::Plus)];
            apply(&masks, &mut lanes, bits(32), 0, backend);
            prop_assert_eq!(&lanes, &want, "{}", backend);
        }
    }

    /// Any split of a vector gives the bits of the whole.
    #[test]
    fn parts_make_the_whole(len in 1usize..5000, split in 0usize..5000, b in 2u8..=32, counter: u128) {
        let split = split.min(len);
        let masks = [(Keystream::new(Cipher::Aes256, &key(8), counter.to_be_bytes()), Sign::Minus)];
        for backend in Backend::available() {
            let (mut whole, mut parts) = (vec![1u32; len], vec![1u32; len]);
            apply(&masks, &mut whole, bits(b), 0, backend);
            let (front, back) = parts.split_at_mut(split);
            apply(&masks, back, bits(b), split as u64, backend);
            apply(&masks, front, bits(b), 0, backend);
            prop_assert_eq!(&whole, &parts, "{}", backend);
        }
    }
}
