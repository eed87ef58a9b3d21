//! Honest proofs verify, in every shape.

use proptest::prelude::*;

use super::*;
use crate::prover::ProveError;
use crate::sum::{BlindingLimbs, CommitmentSum, SumError};

/// Proves two vectors, sends the bytes, verifies both at once, and checks the sum.
fn whole(case: &Case, vectors: [&[i64]; 2], seed: u64) {
    let mut sum = CommitmentSum::new(&case.claim);
    let mut blindings = vec![0; 0];
    let limbs = BlindingLimbs::new(40, 2).expect("room");
    let contexts = [CONTEXT, Context { participant: b"site-2", ..CONTEXT }];
    let mut sent = Vec::new();
    for (vector, context) in vectors.into_iter().zip(&contexts) {
        let mut rng = rng(seed);
        let threads = NonZeroUsize::new(1 + sent.len()).expect("from 1");
        let committed =
            Committed::new(&case.claim, &case.generators, vector, &mut rng, threads).expect("within bounds");
        let bytes = committed.commitments().to_bytes();
        assert_eq!(bytes.len(), Commitments::byte_len(&case.claim));
        let own = limbs.split(committed.blindings());
        blindings.resize(own.len(), 0);
        blindings.iter_mut().zip(own.iter()).for_each(|(sum, limb)| *sum += limb);
        let proof = committed.prove(context, &mut rng, threads).expect("within bounds").to_bytes();
        assert_eq!(proof.len(), Proof::byte_len(&case.claim));
        sent.push((bytes, proof));
    }
    let read: Vec<_> = sent
        .iter()
        .map(|(commitments, proof)| {
            (
                Commitments::from_bytes(&case.claim, commitments).expect("commitments"),
                Proof::from_bytes(&case.claim, proof).expect("a proof"),
            )
        })
        .collect();
    let submissions: Vec<_> = read
        .iter()
        .zip(contexts)
        .map(|((commitments, proof), context)| Submission { context, commitments, proof })
        .collect();
    for verified in case.verifier().verify_batch(&submissions, NonZeroUsize::new(2).expect("two")) {
        sum.add(&verified.expect("an honest proof")).expect("rows of this claim");
    }
    let mut integers: Vec<_> = vectors[0].iter().zip(vectors[1]).map(|(a, b)| a + b).collect();
    let blindings = limbs.join(&blindings).expect("whole scalars");
    let check = |integers: &[i64]| sum.opens_to(&case.claim, &case.generators, integers, &blindings, ONE);
    assert_eq!(check(&integers), Ok(()));
    for at in [0, integers.len() / 2, integers.len() - 1] {
        integers[at] += 1;
        assert_eq!(check(&integers), Err(SumError::Mismatch));
        integers[at] -= 1;
    }
    assert_eq!(check(&integers[1..]), Err(SumError::Integers { got: integers.len() - 1, expected: integers.len() }));
}

/// A claim whose bounds the vector meets exactly, and the vector.
fn any_claim() -> impl Strategy<Value = (ClaimSpec, Vec<i64>)> {
    let lens = prop::collection::vec(1usize..90, 1..4);
    let parts = (any::<Option<u8>>(), 0usize..20, any::<bool>(), any::<bool>(), any::<bool>(), 1u32..13, any::<u64>());
    (lens, parts).prop_map(|(lens, (weight, values, ranged, centred, small, bits, seed))| {
        let mut rng = rng(seed);
        let len = lens.iter().sum();
        let mut vector = entries(&mut rng, len, bits);
        let centre = centred.then(|| entries(&mut rng, len, bits));
        let weight = weight.map(i64::from);
        let mut start = 0;
        let segments = lens.iter().map(|&len| {
            let range = start..start + len;
            start += len;
            let moved: Vec<_> = match &centre {
                Some(centre) => vector[range.clone()].iter().zip(&centre[range]).map(|(a, b)| a - b).collect(),
                None => vector[range].to_vec(),
            };
            let (squared, weight) = (squared(&moved), weight.unwrap_or(0).unsigned_abs());
            // The bound at this weight is the norm itself, or a little more.
            let per_weight = if weight == 0 || centred { 0 } else { squared / weight / 2 };
            let bound = NormBound {
                scale_bits: 0,
                per_square: 0,
                per_weight,
                constant: squared - per_weight * weight + seed % 2,
            };
            Segment { len, bound }
        });
        let segments = segments.collect();
        let most = 1 << bits;
        let interval = Interval { low: -most, high: most };
        let spec = ClaimSpec {
            segments,
            weight: weight.map(|weight| {
                if centred { Interval::only(weight) } else { Interval { low: weight / 2, high: weight + 3 } }
            }),
            values: vec![interval; values],
            entries: ranged.then_some(interval),
            centre: centre.map(|centre| centre.iter().map(|&entry| i32::try_from(entry).expect("small")).collect()),
            setting: if small { Setting::Small } else { Setting::Fast },
        };
        vector.extend(weight);
        vector.extend(entries(&mut rng, values, bits));
        (spec, vector)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_claim_is_proven_by_a_vector_on_its_bounds((spec, vector) in any_claim()) {
        whole(&Case::new(spec), [&vector, &vector], 5);
    }

    #[test]
    fn every_length_of_a_small_model((len, small) in (1usize..300, any::<bool>())) {
        let vector = entries(&mut rng(len as u64), len, 10);
        let mut spec = plain(len, squared(&vector));
        spec.setting = if small { Setting::Small } else { Setting::Fast };
        whole(&Case::new(spec), [&vector, &vector.iter().map(|entry| -entry).collect::<Vec<_>>()], 9);
    }
}

#[test]
fn long_models() {
    for (len, setting) in [
        (1 << 10, Setting::Small),
        ((1 << 10) + 1, Setting::Fast),
        (10_000, Setting::Fast),
        (65_535, Setting::Small),
        (1 << 16, Setting::Fast),
        ((1 << 16) + 1, Setting::Fast),
        (100_000, Setting::Fast),
        (1 << 20, Setting::Fast),
    ] {
        let vector = entries(&mut rng(len as u64), len, 13);
        let case = Case::new(ClaimSpec { setting, ..plain(len, squared(&vector)) });
        whole(&case, [&vector, &vector], 9);
    }
}

#[test]
fn everything_at_once() {
    for setting in [Setting::Fast, Setting::Small] {
        let (case, vector) = rich(setting);
        whole(&case, [&vector, &vector], 1);
    }
}

#[test]
fn the_largest_norm() {
    let most = 1 << 27;
    whole(&Case::new(plain(1, most * most)), [&[1 << 27], &[-(1 << 27)]], 1);
    whole(&Case::new(plain(4, most * most)), [&[1 << 26; 4], &[0, 0, 0, 1 << 27]], 1);
}

#[test]
fn threads_make_no_difference() {
    let (case, vector) = rich(Setting::Small);
    let with = |threads: usize| {
        let (mut rng, threads) = (rng(3), NonZeroUsize::new(threads).expect("from 1"));
        let committed =
            Committed::new(&case.claim, &case.generators, &vector, &mut rng, threads).expect("within bounds");
        let bytes = committed.commitments().to_bytes();
        (bytes, committed.prove(&CONTEXT, &mut rng, threads).expect("within bounds").to_bytes())
    };
    assert_eq!(with(1), with(2));
    assert_eq!(with(1), with(5));
}

#[test]
fn no_proof_is_made_of_a_vector_beyond_its_bounds() {
    let (case, vector) = rich(Setting::Fast);
    let refused = |change: fn(&mut Vec<i64>)| {
        let mut vector = vector.clone();
        change(&mut vector);
        Committed::new(&case.claim, &case.generators, &vector, &mut rng(1), ONE).map(drop).expect_err("refused")
    };
    assert_eq!(refused(|vector| vector.truncate(30)), ProveError::Length { got: 30, expected: 31 });
    assert_eq!(refused(|vector| vector[27] = 6), ProveError::Range { at: 27, low: 1, high: 5 });
    assert_eq!(refused(|vector| vector[27] = 1), ProveError::Norm { segment: 0 });
    assert_eq!(refused(|vector| vector[3] = 11), ProveError::Range { at: 3, low: -9, high: 10 });
    assert_eq!(refused(|vector| vector[20..27].fill(10)), ProveError::Norm { segment: 1 });
    assert_eq!(refused(|vector| vector[29] = 8), ProveError::Range { at: 29, low: 9, high: 9 });
    let plain = Case::new(plain(2, 25));
    let new = |vector: [i64; 2]| Committed::new(&plain.claim, &plain.generators, &vector, &mut rng(1), ONE).map(drop);
    assert_eq!(new([3, 4]), Ok(()));
    assert_eq!(new([3, 5]), Err(ProveError::Norm { segment: 0 }));
    for far in [i64::MAX, i64::MIN, 1 << 28, 1 << 32, -(1 << 31)] {
        assert_eq!(new([0, far]), Err(ProveError::Norm { segment: 0 }));
    }
}
