//! Packing at every ring size: the bit order, round trips, streaming sums, damaged bytes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;
use sordino_codec::{PackError, RingBits, RingVector, UnpackAdd, check_packed, pack, packed_len, unpack};

fn bits(b: u8) -> RingBits {
    RingBits::new(b).unwrap()
}

/// A vector of `elements` mod 2^b.
fn vector(elements: &[u64], bits: RingBits) -> RingVector {
    let centered: Vec<i64> = elements.iter().map(|&element| bits.center(element)).collect();
    RingVector::from_centered(&centered, bits).unwrap()
}

/// The definition, one bit at a time.
fn pack_slowly(vector: &RingVector) -> Vec<u8> {
    let b = usize::from(vector.bits().get());
    let mut bytes = vec![0; (vector.len() * b).div_ceil(8)];
    for i in 0..vector.len() {
        for bit in 0..b {
            let set = u8::from(vector.get(i).unwrap() >> bit & 1 == 1);
            bytes[(i * b + bit) / 8] |= set << ((i * b + bit) % 8);
        }
    }
    bytes
}

/// Elements for any ring, and often its extremes.
fn elements() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)], 0..70)
}

#[test]
fn five_values_of_three_bits_are_these_bytes() {
    let packed = pack(&vector(&[1, 2, 3, 4, 5], bits(3)));
    // 5|4|3|2|1 from the top bit down: 0101 100 011 010 001.
    assert_eq!(packed, [0b1101_0001, 0b0101_1000]);
}

#[test]
fn every_length_at_every_ring_size_is_packed_as_defined() {
    for b in 2..=64 {
        for len in 0..=41 {
            let elements: Vec<u64> = (1..=len).map(|i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
            let vector = vector(&elements, bits(b));
            let packed = pack(&vector);
            assert_eq!(packed, pack_slowly(&vector), "b = {b}, len = {len}");
            assert_eq!(Some(packed.len()), packed_len(vector.len(), bits(b)));
            assert_eq!(unpack(&packed, vector.len(), bits(b)).as_ref(), Ok(&vector), "b = {b}, len = {len}");
        }
    }
}

#[test]
fn a_length_that_cannot_be_counted_is_refused() {
    assert_eq!(packed_len(usize::MAX, bits(8)), Some(usize::MAX));
    assert_eq!(packed_len(usize::MAX, bits(9)), None);
    assert!(matches!(unpack(&[], usize::MAX, bits(64)), Err(PackError::TooLarge { .. })));
    // Countable, but not there: refused before anything of that size is allocated.
    assert!(matches!(unpack(&[0; 8], usize::MAX / 64, bits(64)), Err(PackError::Length { .. })));
}

#[test]
fn missing_and_extra_bytes_are_refused() {
    for b in [2, 7, 8, 31, 32, 33, 63, 64] {
        let packed = pack(&vector(&[u64::MAX; 21], bits(b)));
        let longer = [&packed[..], &[0]].concat();
        for bytes in [&packed[..packed.len() - 1], &longer, &[]] {
            assert!(matches!(unpack(bytes, 21, bits(b)), Err(PackError::Length { .. })), "b = {b}");
        }
        let mut sum = RingVector::zeros(21, bits(b));
        let mut adder = UnpackAdd::new(&mut sum).unwrap();
        adder.push(&packed[1..]).unwrap();
        assert_eq!(adder.remaining(), 1);
        assert!(matches!(adder.push(&[0, 0]), Err(PackError::Length { .. })));
        assert!(matches!(adder.finish(), Err(PackError::Length { .. })));
    }
}

#[test]
fn bits_behind_the_last_value_must_be_zero() {
    for b in 2..=64 {
        for len in 1..8 {
            let mut packed = pack(&vector(&[u64::MAX; 7][..len], bits(b)));
            let used = len * usize::from(b) % 8;
            if used == 0 {
                continue;
            }
            for bit in used..8 {
                let last = packed.last_mut().unwrap();
                *last ^= 1 << bit;
                let damaged = *last;
                assert_eq!(unpack(&packed, len, bits(b)), Err(PackError::Padding), "b = {b}, bit {bit}");
                assert_eq!(check_packed(packed.len(), Some(damaged), len, bits(b)), Err(PackError::Padding));
                // The streaming adder meets it at the end, and adds nothing of the last chunk.
                let mut sum = RingVector::zeros(len, bits(b));
                let mut adder = UnpackAdd::new(&mut sum).unwrap();
                assert_eq!(adder.push(&packed), Err(PackError::Padding), "b = {b}, bit {bit}");
                assert_eq!(sum, RingVector::zeros(len, bits(b)));
                *packed.last_mut().unwrap() ^= 1 << bit;
            }
        }
    }
}

#[test]
fn a_kernel_that_leaves_high_bits_does_not_spill_into_neighbours() {
    let mut dirty = vector(&[1, 2, 3], bits(10));
    let clean = pack(&dirty);
    if let sordino_codec::LanesMut::Narrow(lanes) = dirty.lanes_mut() {
        lanes[1] |= 1 << 20;
    }
    assert_eq!(pack(&dirty), clean);
}

proptest! {
    #[test]
    fn unpack_undoes_pack(b in 2u8..=64, elements in elements()) {
        let vector = vector(&elements, bits(b));
        prop_assert_eq!(unpack(&pack(&vector), vector.len(), bits(b)), Ok(vector));
    }

    #[test]
    fn pack_undoes_unpack(b in 2u8..=64, len in 0usize..40, mut bytes in prop::collection::vec(any::<u8>(), 320)) {
        bytes.truncate(packed_len(len, bits(b)).unwrap());
        match unpack(&bytes, len, bits(b)) {
            Ok(vector) => prop_assert_eq!(pack(&vector), bytes),
            Err(error) => prop_assert_eq!(error, PackError::Padding),
        }
    }

    #[test]
    fn chunks_of_any_size_add_up_to_the_plain_sum(
        b in 2u8..=64,
        pairs in prop::collection::vec((any::<u64>(), any::<u64>()), 0..300),
        cuts in prop::collection::vec(0usize..130, 0..60),
    ) {
        let (first, second): (Vec<u64>, Vec<u64>) = pairs.into_iter().unzip();
        let (first, second) = (vector(&first, bits(b)), vector(&second, bits(b)));
        let mut expected = first.clone();
        expected.add_assign(&second).unwrap();

        let mut sum = first;
        let mut adder = UnpackAdd::new(&mut sum).unwrap();
        let packed = pack(&second);
        let mut rest = &packed[..];
        for cut in cuts {
            let (chunk, tail) = rest.split_at(cut.min(rest.len()));
            adder.push(chunk).unwrap();
            rest = tail;
        }
        adder.push(rest).unwrap();
        adder.finish().unwrap();
        prop_assert_eq!(sum, expected);
    }

    #[test]
    fn random_bytes_never_panic(
        b in 2u8..=64,
        len in 0usize..2000,
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8),
    ) {
        let bytes = chunks.concat();
        let _ = unpack(&bytes, len, bits(b));
        let mut sum = RingVector::zeros(len, bits(b));
        let mut adder = UnpackAdd::new(&mut sum).unwrap();
        for chunk in &chunks {
            let _ = adder.push(chunk);
        }
        let _ = adder.finish();
    }
}
