//! Every backend of this machine against the definition: bit k of the string is bit k % 8 of byte k / 8.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use proptest::prelude::*;

fn bits(b: u8) -> Bits {
    Bits::new(b).unwrap()
}

fn value(seed: u64, at: usize) -> u64 {
    (seed ^ at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// One bit at a time.
fn by_definition(values: &[u64], b: Bits) -> Vec<u8> {
    let mut packed = vec![0; bytes_of(values.len(), b)];
    for (at, value) in values.iter().enumerate() {
        for bit in 0..b.block_bytes() {
            let position = at * b.block_bytes() + bit;
            packed[position / 8] |= ((value >> bit & 1) as u8) << (position % 8);
        }
    }
    packed
}

/// Packs and adds `len` values with each backend; before and behind the bytes and the lanes lies something else.
fn check<L: Lane>(b: Bits, len: usize, start: usize, behind: usize, seed: u64) {
    let lanes: Vec<L> = (0..start + len).map(|at| L::from_u64_truncated(value(seed, at))).collect();
    let values: Vec<u64> = lanes[start..].iter().map(|lane| lane.masked(L::mask(b)).to_u64()).collect();
    let want = by_definition(&values, b);
    let sum: Vec<L> = (0..start + len).map(|at| L::from_u64_truncated(value(!seed, at)).masked(L::mask(b))).collect();
    let added: Vec<L> = values
        .iter()
        .zip(&sum[start..])
        .map(|(&value, sum)| sum.wrapping_add(L::from_u64_truncated(value)).masked(L::mask(b)))
        .collect();
    for backend in Backend::available() {
        let mut packed = vec![0xaa; start + want.len() + behind];
        pack(&lanes[start..], b, &mut packed[start..], backend);
        assert!(packed[start..][..want.len()] == want, "{backend} packs {len} values of {b} bits");
        assert!(packed[..start].iter().all(|&byte| byte == 0xaa), "{backend}");
        assert!(packed[start + want.len()..].iter().all(|&byte| byte == 0), "{backend}");

        // What is behind the last value is not looked at.
        packed[start + want.len()..].fill(0xff);
        let mut lanes = sum.clone();
        unpack_add(&packed[start..], b, &mut lanes[start..], backend);
        assert!(lanes[start..] == added, "{backend} adds {len} values of {b} bits");
        assert_eq!(lanes[..start], sum[..start], "{backend}: what is before the lanes was touched");
    }
}

#[test]
fn every_ring_at_every_small_length() {
    for b in 2..=64 {
        for len in (0..70).chain([127, 128, 129, 1000]) {
            for behind in [0, 70] {
                check::<u64>(bits(b), len, len % 3, behind, 1);
                if b <= 32 {
                    check::<u32>(bits(b), len, len % 5, behind, 2);
                }
            }
        }
    }
}

#[test]
fn all_bits_set_and_sums_that_wrap() {
    for b in 2..=32 {
        for backend in Backend::available() {
            let ones = vec![0xff; bytes_of(200, bits(b))];
            let mut lanes = vec![0u32; 200];
            unpack_add(&ones, bits(b), &mut lanes, backend);
            assert!(lanes.iter().all(|&lane| lane == u32::mask(bits(b))), "{backend}, {b}");
            unpack_add(&ones, bits(b), &mut lanes, backend);
            assert!(lanes.iter().all(|&lane| lane == u32::mask(bits(b)) - 1), "{backend}, {b}");
        }
    }
}

#[test]
#[should_panic(expected = "take 3 bytes, there are 2")]
fn too_few_bytes_are_a_bug_of_the_caller() {
    unpack_add(&[0; 2], bits(22), &mut [0u32], Backend::detect());
}

#[test]
#[should_panic(expected = "do not fit")]
fn a_ring_that_its_lane_does_not_hold_is_a_bug_of_the_caller() {
    pack(&[0u32], bits(33), &mut [0; 8], Backend::detect());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn all_backends_are_the_definition(
        b in 2u8..=64, len in 0usize..=5000, start in 0usize..20, behind in 0usize..130, seed: u64,
    ) {
        check::<u64>(bits(b), len, start, behind, seed);
        if b <= 32 {
            check::<u32>(bits(b), len, start, behind, seed);
        }
    }
}
