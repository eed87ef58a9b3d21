use super::recode::recode;
use super::shares::SharesStatement;
use super::signature::signed_bytes;
use super::*;
use crate::keys::{Encapsulation, PlainShares, ShareCommitments};
use ed25519_dalek::SigningKey;
use proptest::prelude::*;

const CONTEXT: ContextDigest = ContextDigest([7; 32]);

fn key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

/// What participant 1 seals for the holder; only a higher index gets an encapsulation for the mask.
fn sealed(holder: u32) -> Vec<u8> {
    let fill = u8::try_from(holder % 251).expect("small");
    let encapsulation = [fill; size_of::<Encapsulation>()];
    SealedShares {
        holder,
        commitments: ShareCommitments { root: [fill; 32], self_seed: [fill + 1; 32] },
        mask_encapsulation: (holder > 1).then_some(&encapsulation),
        channel_encapsulation: Some(&encapsulation),
        sealed: &[fill; PlainShares::SEALED_LEN],
    }
    .encode()
}

/// A message of each type, with two items in each list.
fn samples() -> [(&'static str, Vec<u8>, Vec<usize>); 9] {
    let id = ParticipantId::new("participant-a").expect("a valid name");
    let certificates = vec![1, 2, 3];
    let channel = PublicKeys { x25519: [1; 32], kem: Some(Box::new([5; 1_184])) };
    let mask = PublicKeys { x25519: [2; 32], kem: None };
    let advertisement = AdvertiseKeys { context: CONTEXT, id, channel, mask, certificates }.encode(&key());
    let roster = RosterAnnouncement {
        context: CONTEXT,
        index: 1,
        n: 3,
        root: [3; 32],
        path: vec![[4; 32], [5; 32]],
        registrar_signature: [8; 64],
        neighbours: vec![
            AnnouncedNeighbour { index: 0, advertisement: advertisement.clone(), path: vec![[6; 32]] },
            AnnouncedNeighbour { index: 2, advertisement: vec![9], path: vec![[7; 32], [8; 32]] },
        ],
    };
    let share_keys = ShareKeys::encode(&CONTEXT, 1, (&[9; 32], &[8; 5]), &[sealed(0), sealed(2)], &key());
    let (shared, _) = ShareKeys::decode(&share_keys).expect("just encoded");
    let deliveries = [0, 2].map(|holder| shared.delivery(holder).expect("a holder")).to_vec();
    let delivered = DeliveredShares { context: CONTEXT, deliveries }.encode();
    let masked = MaskedInput {
        context: CONTEXT,
        index: 1,
        dealers: [2; 32],
        len: 93,
        digest: [1; 32],
        complaints: vec![0, 7, u32::MAX],
    };
    let survivors = SurvivorSet::new(11, [0, 3, 10].into_iter());
    let survivor_list = SurvivorList { context: CONTEXT, survivors, registrar_signature: [5; 64] };
    let signatures = SignatureList { context: CONTEXT, signatures: vec![(0, [1; 64]), (2, [2; 64])] };
    let salted = || SaltedShare {
        share: SecretScalar::new(curve25519_dalek::scalar::Scalar::from(77u64)),
        salt: Box::new([3; 32]),
    };
    let revealed = |dealer, role| RevealedShare { dealer, role, salted: salted() };
    let unmasking =
        Unmasking { context: CONTEXT, index: 1, shares: vec![revealed(0, Role::Root), revealed(2, Role::SelfSeed)] };
    // With each, the places of its lengths and counts, computed by hand: a header has 36 bytes.
    let keys = 36 + 4 + 13 + 32;
    let neighbours = 76 + 4 + 64 + 64;
    let in_record = |at: usize| [at + 68, at + 72, at + 76 + 1_088];
    let (first, second) = (85, 85 + 80 + 1_088 + 144);
    let delivery = 40 + 4 + 32 + 32 + 4;
    [
        ("AdvertiseKeys", advertisement.clone(), vec![36, keys, keys + 4 + 1_184 + 32, keys + 8 + 1_184 + 32]),
        ("Roster", roster.encode(), vec![76, neighbours, neighbours + 8, neighbours + 12 + advertisement.len()]),
        ("ShareKeys", share_keys, [&[72, 81][..], &in_record(first), &[second + 68]].concat()),
        ("DeliveredShares", delivered, [&[36, delivery][..], &[delivery + 4 + 80 + 1_088 + 144]].concat()),
        ("MaskedInput", masked.encode(&key()), vec![112]),
        ("SurvivorList", survivor_list.encode(), vec![36, 40]),
        (
            "ConsistencySignature",
            ConsistencySignature { context: CONTEXT, index: 1, signature: [4; 64] }.encode(),
            vec![],
        ),
        ("SignatureList", signatures.encode(), vec![36]),
        ("Unmasking", unmasking.encode(&key()), vec![40]),
    ]
}

#[test]
fn messages_are_read_as_they_were_written() {
    for (name, bytes, _) in samples() {
        let again = recode(&bytes).expect(name);
        assert_eq!(again, bytes[..again.len()], "{name}");
        assert!(bytes.len() - again.len() == 0 || bytes.len() - again.len() == 64, "{name}");
    }
}

#[test]
fn messages_end_where_they_end() {
    for (name, bytes, _) in samples() {
        for len in 0..bytes.len() {
            let got = recode(&bytes[..len]);
            assert!(matches!(got, Err(Malformed::Truncated { .. })), "{name}, {len} bytes: {got:?}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(recode(&longer), Err(Malformed::Trailing { extra: 1 }), "{name}");
    }
}

/// Each length and count, one at a time, says too little, too much, or as much as it can.
#[test]
fn lengths_that_lie_are_refused() {
    for (name, bytes, lengths) in samples() {
        for at in lengths {
            let mut field = [0; 4];
            field.copy_from_slice(&bytes[at..at + 4]);
            let truth = u32::from_le_bytes(field);
            let lies = [0, truth.wrapping_sub(1), truth + 1, truth + 0x100, 0x0100_0000, 0x7fff_ffff, u32::MAX];
            for lie in lies.into_iter().filter(|lie| *lie != truth) {
                let mut lying = bytes.clone();
                lying[at..at + 4].copy_from_slice(&lie.to_le_bytes());
                // Ending in a roster of fewer places, the same bitmap is that of another roster; all else is refused.
                let other_roster = name == "SurvivorList" && at == 36 && lie.div_ceil(8) == truth.div_ceil(8);
                assert!(other_roster || recode(&lying).is_err(), "{name}, {lie} in place of {truth} at byte {at}");
                if lie > 0x0010_0000 {
                    let got = recode(&lying);
                    assert!(matches!(got, Err(Malformed::TooLong { .. })), "{name}, {lie} at byte {at}: {got:?}");
                }
            }
        }
    }
}

/// A count within its maximum costs nothing while the items are not there.
#[test]
fn nothing_is_allocated_for_items_that_are_not_there() {
    let mut list = begin(kind::SIGNATURES, &CONTEXT);
    list.count(NEIGHBOURS_MAX);
    assert_eq!(SignatureList::decode(&list.finish()), Err(Malformed::Truncated { field: "signatures" }));
    let mut roster = begin(kind::ROSTER, &CONTEXT);
    roster.u32(0).u32(3).raw(&[0; 32]).count(ROSTER_PATH_MAX).raw(&[0; 32]);
    assert_eq!(RosterAnnouncement::decode(&roster.finish()), Err(Malformed::Truncated { field: "inclusion proof" }));
    let mut shares = begin(kind::SHARE_KEYS, &CONTEXT);
    shares.u32(0).raw(&[0; 32]).bytes(&[]).count(NEIGHBOURS_MAX).raw(&[0; 1_000]);
    assert_eq!(ShareKeys::decode(&shares.finish()).err(), Some(Malformed::Truncated { field: "shares" }));
}

#[test]
fn other_versions_and_types_are_named() {
    for (name, bytes, _) in samples() {
        let mut other = bytes.clone();
        other[..2].copy_from_slice(&1u16.to_le_bytes());
        assert_eq!(recode(&other), Err(Malformed::Version { got: 1, expected: 3 }), "{name}");
    }
    let [_, (_, roster, _), ..] = samples();
    assert_eq!(AdvertiseKeys::decode(&roster), Err(Malformed::Type { got: 2, expected: 1 }));
    assert_eq!(SurvivorList::decode(&roster).err(), Some(Malformed::Type { got: 2, expected: 6 }));
}

/// Commitments may be as long as they may be, and no longer, whether the bytes are there or not.
#[test]
fn commitments_are_bounded() {
    let encode = |len: usize| ShareKeys::encode(&CONTEXT, 1, (&[9; 32], &vec![6; len]), &[sealed(2)], &key());
    let (longest, _) = ShareKeys::decode(&encode(COMMITMENTS_MAX)).expect("as long as allowed");
    assert_eq!(longest.commitments(), vec![6; COMMITMENTS_MAX]);
    let too_long = Malformed::TooLong { field: "commitments", len: COMMITMENTS_MAX + 1, max: COMMITMENTS_MAX };
    assert_eq!(ShareKeys::decode(&encode(COMMITMENTS_MAX + 1)).err(), Some(too_long));
    let mut claimed = begin(kind::SHARE_KEYS, &CONTEXT);
    claimed.u32(1).raw(&[9; 32]).u32(u32::try_from(COMMITMENTS_MAX).expect("512 KiB"));
    assert_eq!(ShareKeys::decode(&claimed.finish()).err(), Some(Malformed::Truncated { field: "commitments" }));
}

/// What a survivor committed to, as a file: one encoding, of bounded fields, which ends where it ends.
#[test]
fn signed_commitments_are_read_as_they_were_written() {
    let written = SignedCommitments {
        id: ParticipantId::new("participant-a").expect("a valid name"),
        certificates: vec![1, 2, 3],
        index: 4,
        self_seed_commitment: [5; 32],
        commitments: vec![6; 70],
        holders: 7,
        root: [8; 32],
        signature: [9; 64],
    };
    let bytes = written.to_bytes();
    assert_eq!(SignedCommitments::from_bytes(&bytes), Ok(written.clone()));
    for len in 0..bytes.len() {
        let got = SignedCommitments::from_bytes(&bytes[..len]);
        assert!(matches!(got, Err(Malformed::Truncated { .. })), "{len} bytes: {got:?}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(SignedCommitments::from_bytes(&longer), Err(Malformed::Trailing { extra: 1 }));
    let older = [&[2, 0], &bytes[2..]].concat();
    assert_eq!(SignedCommitments::from_bytes(&older), Err(Malformed::Version { got: 2, expected: VERSION }));
    let neighbours = u32::try_from(NEIGHBOURS_MAX).expect("few");
    let with = |holders| SignedCommitments { holders, ..written.clone() }.to_bytes();
    assert!(SignedCommitments::from_bytes(&with(neighbours)).is_ok());
    let max = NEIGHBOURS_MAX;
    let too_many = Malformed::TooLong { field: "holders", len: max + 1, max };
    assert_eq!(SignedCommitments::from_bytes(&with(neighbours + 1)), Err(too_many));
    // The lengths of the name, the chain and the commitments, which nobody allocates for.
    for (at, field) in [(2, "participant"), (19, "certificates"), (62, "commitments")] {
        let mut lying = bytes.clone();
        lying[at..at + 4].fill(0xff);
        let got = SignedCommitments::from_bytes(&lying);
        assert!(matches!(got, Err(Malformed::TooLong { field: named, .. }) if named == field), "{field}: {got:?}");
    }
    let mut bad_name = bytes;
    bad_name[6] = b'/';
    assert_eq!(SignedCommitments::from_bytes(&bad_name), Err(Malformed::Value { field: "participant" }));
}

#[test]
fn values_that_a_field_cannot_have() {
    let [(_, advertisement, _), .., (_, unmasking, _)] = samples();
    let mut bad_name = advertisement;
    bad_name[40] = b'/';
    assert_eq!(AdvertiseKeys::decode(&bad_name).err(), Some(Malformed::Value { field: "participant" }));
    bad_name[40] = 0xff;
    assert_eq!(AdvertiseKeys::decode(&bad_name).err(), Some(Malformed::Value { field: "participant" }));
    let mut bad_role = unmasking.clone();
    bad_role[48] = 2;
    assert_eq!(Unmasking::decode(&bad_role).err(), Some(Malformed::Value { field: "role" }));
    let mut bad_share = unmasking;
    bad_share[49..81].fill(0xff);
    assert_eq!(Unmasking::decode(&bad_share).err(), Some(Malformed::Value { field: "share" }));
}

#[test]
fn survivor_sets() {
    let set = SurvivorSet::new(11, [0, 3, 10].into_iter());
    assert_eq!(set.bitmap, [0b0000_1001, 0b0000_0100]);
    assert_eq!((set.len(), set.is_empty()), (3, false));
    assert_eq!(set.iter().collect::<Vec<_>>(), [0, 3, 10]);
    assert!(set.contains(10) && !set.contains(9) && !set.contains(11) && !set.contains(u32::MAX));
    assert_eq!(format!("{set:?}"), "{0, 3, 10}");
    assert_eq!(SurvivorSet::from_bitmap(11, &set.bitmap.clone()), Some(set));
    // One encoding of a set: no unused bits, no bytes too few or too many.
    assert_eq!(SurvivorSet::from_bitmap(11, &[9, 0b0000_1000]), None);
    assert_eq!(SurvivorSet::from_bitmap(11, &[9]), None);
    assert_eq!(SurvivorSet::from_bitmap(11, &[9, 4, 0]), None);
    assert!(SurvivorSet::from_bitmap(8, &[0xff]).is_some_and(|all| all.len() == 8));
    assert!(SurvivorSet::from_bitmap(0, &[]).is_some_and(|none| none.is_empty()));
}

/// Nothing that is signed for one purpose passes for another: statements begin with different labels.
#[test]
fn a_signature_has_one_meaning() {
    let survivors = SurvivorSet::new(3, 0..3);
    let root = [1; 32];
    let statements = [
        signed_bytes(&samples()[0].1),
        SharesStatement {
            context: &CONTEXT,
            dealer: 1,
            self_seed_commitment: &root,
            commitments: &root,
            holders: 3,
            root: &root,
        }
        .bytes(),
        roster_statement(&CONTEXT, 3, &root),
        survivor_list_statement(&CONTEXT, &root, &survivors),
        survivors_statement(&CONTEXT, &root, &survivors),
    ];
    for (at, statement) in statements.iter().enumerate() {
        let signature = Signer::sign(&key(), statement);
        for (other_at, other) in statements.iter().enumerate() {
            assert_eq!(verify_ed25519(&key().verifying_key(), other, &signature), at == other_at);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever comes, decoders answer; what they take has this one encoding.
    #[test]
    fn any_bytes(kind in 0u16..12, rest in proptest::collection::vec(any::<u8>(), 0..600)) {
        let bytes = [&VERSION.to_le_bytes()[..], &kind.to_le_bytes(), &rest].concat();
        if let Ok(again) = recode(&bytes) {
            prop_assert_eq!(&again[..], &bytes[..again.len()]);
        }
    }

    /// The same from bytes that nearly are a message.
    #[test]
    fn nearly_messages(
        which in 0usize..9,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        whole: bool,
    ) {
        let (_, mut bytes, _) = samples()[which].clone();
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if !whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(again) = recode(&bytes) {
            prop_assert_eq!(&again[..], &bytes[..again.len()]);
        }
    }
}
