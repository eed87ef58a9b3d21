//! Whole attempts with an honest coordinator: sums are exact, silence costs nothing that it need not, and a participant
//! that misbehaves costs itself its place.

mod common;

use common::forge::{self, Advertisement, MaskedInput, Record, ShareKeys, Unmasking};
use common::{LATE, NOBODY, ONE_OF_FIVE, World, bits, context};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use sordino_secagg::coordinator::{Abort, Outgoing, Receipt, Rejection, SumError};
use sordino_secagg::participant::Stored;
use sordino_secagg::{BadKeys, Context, Faults, Malformed, Prg, Step, advertised_certificates};

/// How an attempt ended.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// With exactly the sum of these participants' inputs.
    SumOf(Vec<usize>),
    Aborted(Abort),
}

/// Participants that fall silent from a step on.
type Silence<'a> = &'a [(Step, &'a [usize])];

/// Plays an attempt. An honest coordinator shows nobody anything that is refused: whom too few neighbours are left for is
/// left out after ShareKeys, and costs the attempt later.
fn run(world: &mut World, silence: Silence<'_>) -> Outcome {
    let mut left: Vec<usize> = (0..world.parties.len()).collect();
    let mut masked = Vec::new();
    for step in Step::ALL {
        left.retain(|at| !silence.iter().any(|(from, who)| *from <= step && who.contains(at)));
        left.retain(|&at| {
            if step == Step::AdvertiseKeys {
                world.advertise_in(at, world.context.clone());
                return true;
            }
            let id = world.parties[at].id.clone();
            let Outgoing::Message(opening) = world.coordinator().outgoing(step, &id) else {
                assert_eq!(step, Step::MaskedInput, "participant {at} is left out");
                return false;
            };
            assert_eq!(world.answer(at, &opening), Ok(()), "participant {at} in {step}");
            true
        });
        for &at in &left {
            assert_eq!(world.send(at), Ok(Receipt::Accepted), "participant {at} in {step}");
        }
        if step == Step::MaskedInput {
            masked.clone_from(&left);
        }
        if let Err(abort) = world.close() {
            return Outcome::Aborted(abort);
        }
    }
    match world.open() {
        Ok(sum) => {
            assert_eq!(sum, world.plain_sum(&masked), "the sum of the inputs that were masked in time");
            Outcome::SumOf(masked)
        }
        Err(abort) => Outcome::Aborted(abort),
    }
}

/// On a ring where both neighbours are needed, one that falls silent takes two others' help away: the attempt ends with the
/// reason, as soon as it is known.
#[test]
fn silence_on_a_sparse_graph_has_a_reason() {
    for (step, want) in [
        // Its neighbours lack it, and theirs lack them: nobody is left.
        (Step::ShareKeys, (Step::ShareKeys, 0)),
        (Step::MaskedInput, (Step::MaskedInput, 1)),
        (Step::ConsistencyCheck, (Step::ConsistencyCheck, 1)),
    ] {
        let outcome = run(&mut World::new(context(NOBODY), 6, 9), &[(step, &[2])]);
        match (outcome, want) {
            (Outcome::Aborted(Abort::TooFew { step, answered, .. }), want) => assert_eq!((step, answered), want),
            (Outcome::Aborted(Abort::TooFewShares { available, threshold, .. }), (_, want)) => {
                assert_eq!((available, threshold), (want, 2));
            }
            (other, _) => unreachable!("{step}: {other:?}"),
        }
    }
}

#[test]
fn sums_are_exact() {
    let sparse = Faults { corrupt: 0, max_dropout_fraction: 0.025 };
    let corrupt = Faults { corrupt: 1, max_dropout_fraction: 0.3 };
    for (n, faults) in [(3, NOBODY), (5, ONE_OF_FIVE), (5, NOBODY), (10, corrupt), (40, sparse), (40, NOBODY)] {
        // Narrow and wide lanes, and both ends of each; the large cohorts show no more than one of each.
        let rings: &[u8] = if n < 40 { &[2, 20, 32, 33, 64] } else { &[20, 45] };
        for &ring in rings {
            for prg in [Prg::Aes256Ctr, Prg::Aes128Ctr] {
                let context = Context { bits: bits(ring), prg, ..context(faults) };
                let outcome = run(&mut World::new(context, n, u64::from(ring)), &[]);
                assert_eq!(outcome, Outcome::SumOf((0..n).collect()), "n = {n}, {ring} bits, {prg:?}");
            }
        }
    }
}

/// What travels is not the input: masked twice over, and different in every attempt.
#[test]
fn an_upload_is_neither_the_input_nor_repeated() {
    let world = World::at(Step::ConsistencyCheck, context(ONE_OF_FIVE), 5, 1);
    let mut again = world.again(Context { attempt: 2, ..context(ONE_OF_FIVE) }, 2);
    for (next, before) in again.parties.iter_mut().zip(&world.parties) {
        next.input.clone_from(&before.input);
    }
    again.play_until(Step::ConsistencyCheck);
    for (party, next) in world.parties.iter().zip(&again.parties) {
        let plain = sordino_codec::RingVector::from_centered(&party.input, bits(20)).expect("in the ring");
        let plain = sordino_codec::pack(&plain);
        assert_eq!(plain.len(), party.upload.len());
        // About 1 in 256 bytes agree by chance; 20 of 93 do with a probability below 2^-90.
        let same = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a == b).count();
        assert!(same(&plain, &party.upload) < 20 && same(&next.upload, &party.upload) < 20);
    }
}

/// Participants fall silent in a cohort of 5 with threshold 3. The sum holds exactly the inputs that were masked in
/// time, or the attempt aborts and says where.
#[test]
fn dropouts() {
    use Step::{AdvertiseKeys, ConsistencyCheck, MaskedInput, ShareKeys, Unmasking};
    let too_few = |step, answered| Outcome::Aborted(Abort::TooFew { step, answered, needed: 3 });
    let sum_of = |of: &[usize]| Outcome::SumOf(of.to_vec());
    let too_few_shares = |dealer: &str| {
        let dealer = sordino_secagg::ParticipantId::new(dealer).expect("a valid name");
        Outcome::Aborted(Abort::TooFewShares { dealer, available: 2, threshold: 3 })
    };
    let cases: [(&str, Silence<'_>, Outcome); 14] = [
        ("nobody", &[], sum_of(&[0, 1, 2, 3, 4])),
        ("before advertising", &[(AdvertiseKeys, &[2])], sum_of(&[0, 1, 3, 4])),
        ("before sharing", &[(ShareKeys, &[0])], sum_of(&[1, 2, 3, 4])),
        ("before masking", &[(MaskedInput, &[2])], sum_of(&[0, 1, 3, 4])),
        ("after masking, the input still counts", &[(ConsistencyCheck, &[4])], sum_of(&[0, 1, 2, 3, 4])),
        ("after signing, the input still counts", &[(Unmasking, &[1])], sum_of(&[0, 1, 2, 3, 4])),
        ("one before masking, one after", &[(MaskedInput, &[0]), (Unmasking, &[1])], too_few_shares("participant-002")),
        ("too many before advertising", &[(AdvertiseKeys, &[0, 1, 2])], too_few(AdvertiseKeys, 2)),
        ("too many before sharing", &[(ShareKeys, &[0, 1, 2])], too_few(ShareKeys, 2)),
        ("two before sharing: nobody has enough neighbours", &[(ShareKeys, &[0, 1])], too_few(ShareKeys, 0)),
        ("too many before masking", &[(MaskedInput, &[0, 1, 2])], too_few(MaskedInput, 2)),
        ("two before masking", &[(MaskedInput, &[0, 1])], too_few_shares("participant-002")),
        ("too many before signing", &[(ConsistencyCheck, &[0, 1, 2])], too_few(ConsistencyCheck, 2)),
        ("one too many before revealing", &[(Unmasking, &[3, 4])], too_few_shares("participant-000")),
    ];
    for (name, silence, want) in cases {
        assert_eq!(run(&mut World::new(context(ONE_OF_FIVE), 5, 7), silence), want, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Masks cancel for any graph, ring and silence: what comes out is exact, or nothing does.
    #[test]
    fn any_silence_gives_an_exact_sum_or_none(
        seed: u64,
        n in 3usize..24,
        ring in 2u8..=64,
        silent in proptest::collection::btree_map(0usize..24, 0usize..5, 0..4),
    ) {
        let silence: Vec<(Step, Vec<usize>)> = silent.into_iter().map(|(at, step)| (Step::ALL[step], vec![at])).collect();
        let silence: Vec<(Step, &[usize])> = silence.iter().map(|(step, who)| (*step, who.as_slice())).collect();
        let faults = Faults { corrupt: 0, max_dropout_fraction: 0.3 };
        let mut world = World::new(Context { bits: bits(ring), ..context(faults) }, n, seed);
        // `run` compares the sum with the plain one.
        if let Outcome::Aborted(abort) = run(&mut world, &silence) {
            prop_assert!(!silence.is_empty(), "{}", abort);
            prop_assert_eq!(abort.culprits(), &[]);
        }
    }
}

/// The bits behind the last value are zero, or the input is refused before a byte of it is in the sum.
#[test]
fn padding_is_checked_before_an_input_counts() {
    let mut world = World::at(Step::MaskedInput, context(ONE_OF_FIVE), 5, 6);
    world.play(Step::MaskedInput, &[1, 2, 3, 4]);
    let opening = world.opening(Step::MaskedInput, 0);
    world.answer(0, &opening).expect("an honest coordinator is believed");
    // 37 values of 20 bits leave 4 bits of the last byte.
    let mut packed = world.parties[0].upload.clone();
    *packed.last_mut().expect("not empty") |= 0x10;
    let mut header = world.parties[0].message();
    header[80..112].copy_from_slice(&Sha256::digest(&packed));
    forge::resign(&mut header, &world.parties[0].key);
    assert_eq!(world.send_input(0, &header, &packed), Err(Rejection::InputPadding));
    assert_eq!(world.send(0), Ok(Receipt::Accepted), "its good input still counts");
    world.close().expect("everybody answered");
    for step in [Step::ConsistencyCheck, Step::Unmasking] {
        world.play(step, &[0, 1, 2, 3, 4]);
        world.close().expect("everybody answered");
    }
    assert_eq!(world.open(), Ok(world.plain_sum(&[0, 1, 2, 3, 4])));
}

/// Its pairwise masks are about to be opened: with its input in hand the coordinator would see through them.
#[test]
fn an_input_is_late_once_the_survivors_are_announced() {
    let mut world = World::at(Step::MaskedInput, context(ONE_OF_FIVE), 5, 3);
    world.play(Step::MaskedInput, &[0, 1, 2, 4]);
    let opening = world.opening(Step::MaskedInput, 3);
    world.answer(3, &opening).expect("an honest coordinator");
    world.close().expect("four of five");
    for _ in 0..2 {
        let late = Rejection::WrongStep { got: Step::MaskedInput, open: "ConsistencyCheck" };
        assert_eq!(world.send(3), Err(late));
        assert_eq!(world.coordinator().survivors().expect("known").len(), 4);
    }
    assert_eq!(world.coordinator().outgoing(Step::ConsistencyCheck, &world.parties[3].id), Outgoing::Excluded);
    for step in [Step::ConsistencyCheck, Step::Unmasking] {
        world.play(step, &[0, 1, 2, 4]);
        world.close().expect("all survivors answered");
    }
    assert_eq!(world.open(), Ok(world.plain_sum(&[0, 1, 2, 4])));
}

/// In every step the first message stands: the same bytes again are fine, others are not.
#[test]
fn the_first_message_of_a_step_stands() {
    let mut world = World::new(context(ONE_OF_FIVE), 5, 4);
    let everybody = [0, 1, 2, 3, 4];
    for step in Step::ALL {
        world.play(step, &everybody);
        assert_eq!(world.send(2), Ok(Receipt::Duplicate), "{step}");

        let key = world.parties[2].key.clone();
        let sent = world.parties[2].message();
        let mut upload = world.parties[2].upload.clone();
        let other = match step {
            Step::AdvertiseKeys => {
                Advertisement { channel: ([9; 32], Vec::new()), ..Advertisement::read(&sent) }.sign(&key)
            }
            Step::ShareKeys => ShareKeys { self_seed_commitment: [0; 32], ..ShareKeys::read(&sent) }.sign(&key),
            Step::MaskedInput => {
                upload[0] ^= 1;
                MaskedInput::read(&sent).of(&upload).sign(&key)
            }
            Step::ConsistencyCheck => {
                let mut other = sent.clone();
                *other.last_mut().expect("not empty") ^= 1;
                other
            }
            Step::Unmasking => {
                let mut other = Unmasking::read(&sent);
                other.shares.pop();
                other.sign(&key)
            }
        };
        let got = if step == Step::MaskedInput {
            world.send_input(2, &other, &upload)
        } else {
            world.send_bytes(step, 2, &other)
        };
        assert_eq!(got, Err(Rejection::AlreadySubmitted { step }));
        world.close().expect("everybody answered");
    }
    assert_eq!(world.open(), Ok(world.plain_sum(&everybody)));
}

/// A coordinator takes no message with a bit flipped, a byte missing or a byte too many, and is none the worse for it.
#[test]
fn damaged_messages_are_rejected() {
    let everybody = [0, 1, 2];
    let mut world = World::new(context(NOBODY), 3, 5);
    for step in Step::ALL {
        for at in everybody {
            if step == Step::AdvertiseKeys {
                world.advertise_in(at, world.context.clone());
            } else {
                let opening = world.opening(step, at);
                world.answer(at, &opening).expect("an honest coordinator");
            }
        }
        let message = world.parties[1].message();
        let upload = world.parties[1].upload.clone();
        let mut send = |bytes: &[u8]| match step {
            Step::MaskedInput => world.send_input(1, bytes, &upload),
            _ => world.send_bytes(step, 1, bytes),
        };
        for bit in 0..message.len() * 8 {
            let mut flipped = message.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(send(&flipped).is_err(), "{step}, bit {bit}");
        }
        for len in 0..message.len() {
            let got = send(&message[..len]);
            assert!(matches!(got, Err(Rejection::Malformed(_))), "{step}, {len} bytes: {got:?}");
        }
        let longer = [&message[..], &[0]].concat();
        assert_eq!(send(&longer), Err(Rejection::Malformed(Malformed::Trailing { extra: 1 })), "{step}");
        for at in everybody {
            assert_eq!(world.send(at), Ok(Receipt::Accepted));
        }
        world.close().expect("everybody answered");
    }
    assert_eq!(world.open(), Ok(world.plain_sum(&everybody)));
}

#[test]
fn an_upload_is_the_bytes_that_its_header_signed() {
    let mut world = World::at(Step::MaskedInput, context(ONE_OF_FIVE), 5, 6);
    let opening = world.opening(Step::MaskedInput, 0);
    world.answer(0, &opening).expect("an honest coordinator");
    let (header, upload) = (world.parties[0].message(), world.parties[0].upload.clone());
    let id = world.parties[0].id.clone();
    let announced = upload.len() as u64;
    assert_eq!(announced, world.coordinator().input_len());
    let mut changed = upload.clone();
    changed[17] ^= 4;
    for wrong in [&changed[..], &upload[1..], &[], &[&upload[..], &[0]].concat()] {
        let mut hasher = world.coordinator().hasher();
        hasher.update(wrong);
        let got = world.coordinator_mut().input(&id, &header, &hasher.finish(), 0);
        assert_eq!(got, Err(Rejection::InputDigest { announced }));
    }
    // A header of another length is refused before its bytes are asked for.
    let mut other = header.clone();
    other[72..80].copy_from_slice(&(announced - 1).to_le_bytes());
    forge::resign(&mut other, &world.parties[0].key);
    let expected = Rejection::InputLength { announced: announced - 1, expected: announced };
    assert_eq!(world.coordinator().check_input(&id, &other), Err(expected));
    assert_eq!(world.send(0), Ok(Receipt::Accepted));
}

/// Each kind of message from somebody who has no part in the step, in another's name, or with another's signature.
#[test]
fn nobody_speaks_for_another() {
    let mut world = World::new(context(ONE_OF_FIVE), 5, 8);
    let stranger = sordino_secagg::ParticipantId::new("nobody-we-know").expect("a valid name");
    for step in Step::ALL {
        for at in 0..5 {
            if step == Step::AdvertiseKeys {
                world.advertise_in(at, world.context.clone());
            } else {
                let opening = world.opening(step, at);
                world.answer(at, &opening).expect("an honest coordinator");
            }
        }
        let message = world.parties[1].message();
        let foreign = if step == Step::MaskedInput {
            world.coordinator().check_input(&world.parties[0].id, &message)
        } else {
            world.send_bytes(step, 0, &message)
        };
        assert_eq!(foreign, Err(Rejection::ForeignName), "{step}");
        let unknown = if step == Step::MaskedInput {
            world.coordinator().check_input(&stranger, &message)
        } else {
            world.coordinator_mut().message(step, &stranger, &message, 0)
        };
        assert_eq!(unknown, Err(Rejection::NotInStep { id: stranger.clone(), step }));
        if step != Step::ConsistencyCheck {
            let mut signed_by_another = message.clone();
            let other = world.parties[3].key.clone();
            forge::resign(&mut signed_by_another, &other);
            let got = if step == Step::MaskedInput {
                world.coordinator().check_input(&world.parties[1].id, &signed_by_another)
            } else {
                world.send_bytes(step, 1, &signed_by_another)
            };
            assert_eq!(got, Err(Rejection::BadSignature), "{step}");
        }
        // A message of another step has no place here.
        for wrong in Step::ALL.into_iter().filter(|wrong| *wrong != step) {
            let got = world.send_bytes(wrong, 1, &message);
            assert_eq!(got, Err(Rejection::WrongStep { got: wrong, open: step.name() }));
        }
        for at in 0..5 {
            assert_eq!(world.send(at), Ok(Receipt::Accepted));
        }
        world.close().expect("everybody answered");
    }
    assert_eq!(world.open(), Ok(world.plain_sum(&[0, 1, 2, 3, 4])));
}

#[test]
fn a_bad_revealed_share_costs_its_sender_only() {
    let mut world = World::at(Step::MaskedInput, context(ONE_OF_FIVE), 5, 9);
    world.play(Step::MaskedInput, &[0, 1, 2, 3]);
    world.close().expect("four of five");
    world.play(Step::ConsistencyCheck, &[0, 1, 2, 3]);
    world.close().expect("four of five");
    for at in [0, 1, 2, 3] {
        let opening = world.opening(Step::Unmasking, at);
        world.answer(at, &opening).expect("an honest coordinator");
    }
    let key = world.parties[2].key.clone();
    let honest = Unmasking::read(&world.parties[2].message());
    assert_eq!(
        honest.shares.iter().map(|share| (share.dealer, share.role)).collect::<Vec<_>>(),
        [(0, 1), (1, 1), (3, 1), (4, 0)]
    );
    let changed = |change: &dyn Fn(&mut Unmasking)| {
        let mut message = honest.clone();
        change(&mut message);
        message.sign(&key)
    };
    let cases: [(&str, Vec<u8>, Rejection); 7] = [
        ("another share", changed(&|m| m.shares[0].share = [1; 32]), Rejection::BadShare { dealer: 0 }),
        ("another salt", changed(&|m| m.shares[1].salt[31] ^= 1), Rejection::BadShare { dealer: 1 }),
        ("another dealer's share", changed(&|m| m.shares[3].dealer = 2), Rejection::ForeignShare { dealer: 2 }),
        ("the root of a survivor", changed(&|m| m.shares[0].role = 0), Rejection::ForeignShare { dealer: 0 }),
        ("the seed of a dropout", changed(&|m| m.shares[3].role = 1), Rejection::ForeignShare { dealer: 4 }),
        ("one share twice", changed(&|m| m.shares[1] = m.shares[0].clone()), Rejection::ForeignShare { dealer: 0 }),
        ("nobody's share", changed(&|m| m.shares[3].dealer = u32::MAX), Rejection::ForeignShare { dealer: u32::MAX }),
    ];
    for (name, message, want) in cases {
        assert_eq!(world.send_bytes(Step::Unmasking, 2, &message), Err(want), "{name}");
    }
    // Not below the group's order: there would be two encodings of one share.
    let bytes = changed(&|m| m.shares[0].share = [0xff; 32]);
    let malformed = Rejection::Malformed(Malformed::Value { field: "share" });
    assert_eq!(world.send_bytes(Step::Unmasking, 2, &bytes), Err(malformed));

    for at in [0, 1, 3, 2] {
        assert_eq!(world.send(at), Ok(Receipt::Accepted));
    }
    world.close().expect("enough shares");
    assert_eq!(world.open(), Ok(world.plain_sum(&[0, 1, 2, 3])));
}

/// A dealer that shares another root than the one behind its advertised key: its shares open their commitments, and
/// nothing is amiss until it falls silent and its root is needed.
#[test]
fn a_dealer_of_a_wrong_root_is_named_and_the_next_attempt_does_without_it() {
    let mut world = World::new(context(ONE_OF_FIVE), 5, 10);
    for at in 0..5 {
        world.advertise_in(at, world.context.clone());
    }
    // A stored state ends with the root and the 96 bytes of the channel keys.
    let mut stored = world.parties[4].state().to_bytes().to_vec();
    let root = stored.len() - 128..stored.len() - 96;
    world.rng().fill_bytes(&mut stored[root.start..root.end - 1]);
    stored[root.end - 1] = 0;
    world.parties[4].state = Some(Stored::from_bytes(&stored, world.context.clone()).expect("another valid root"));
    for at in 0..5 {
        assert_eq!(world.send(at), Ok(Receipt::Accepted));
    }
    world.close().expect("everybody answered");
    world.play(Step::ShareKeys, &[0, 1, 2, 3, 4]);
    world.close().expect("everybody answered");
    for step in [Step::MaskedInput, Step::ConsistencyCheck, Step::Unmasking] {
        world.play(step, &[0, 1, 2, 3]);
        world.close().expect("four of five");
    }
    let culprit = world.parties[4].id.clone();
    let abort = world.open().expect_err("a wrong root takes off wrong masks");
    assert_eq!(abort, Abort::BadDealers { culprits: vec![culprit.clone()] });
    assert_eq!(abort.culprits(), [culprit]);

    let mut next = world.again(Context { attempt: 2, ..context(ONE_OF_FIVE) }, 11);
    assert_eq!(run(&mut next, &[(Step::AdvertiseKeys, &[4])]), Outcome::SumOf(vec![0, 1, 2, 3]));
}

#[test]
fn a_dealer_of_a_wrong_self_mask_seed_is_named() {
    let everybody = [0, 1, 2, 3, 4];
    let mut world = World::at(Step::ShareKeys, context(ONE_OF_FIVE), 5, 12);
    world.play(Step::ShareKeys, &everybody[..4]);
    let opening = world.opening(Step::ShareKeys, 4);
    world.answer(4, &opening).expect("an honest coordinator");
    let mut message = ShareKeys::read(&world.parties[4].message());
    message.self_seed_commitment[5] ^= 1;
    let message = message.sign(&world.parties[4].key);
    assert_eq!(world.send_bytes(Step::ShareKeys, 4, &message), Ok(Receipt::Accepted));
    world.close().expect("everybody answered");
    for step in [Step::MaskedInput, Step::ConsistencyCheck, Step::Unmasking] {
        world.play(step, &everybody);
        world.close().expect("everybody answered");
    }
    assert_eq!(world.open(), Err(Abort::BadDealers { culprits: vec![world.parties[4].id.clone()] }));
}

/// One key in the roster that no secret can be agreed on with would cost every neighbour its attempt: it is kept out.
#[test]
fn keys_of_no_use_are_not_taken() {
    let mut world = World::new(context(ONE_OF_FIVE), 5, 15);
    world.advertise_in(0, world.context.clone());
    let honest = Advertisement::read(&world.parties[0].message());
    let key = world.parties[0].key.clone();
    let mut one = [0; 32];
    one[0] = 1;
    for low in [[0; 32], one] {
        for bad in [
            Advertisement { channel: (low, honest.channel.1.clone()), ..honest.clone() }.sign(&key),
            Advertisement { mask: (low, honest.mask.1.clone()), ..honest.clone() }.sign(&key),
        ] {
            assert_eq!(world.send_bytes(Step::AdvertiseKeys, 0, &bad), Err(BadKeys::SmallOrder.into()));
        }
    }
    for (kem, want) in [(vec![0xff; 1_184], BadKeys::NoKemKey), (Vec::new(), BadKeys::OtherKind)] {
        for bad in [
            Advertisement { channel: (honest.channel.0, kem.clone()), ..honest.clone() }.sign(&key),
            Advertisement { mask: (honest.mask.0, kem.clone()), ..honest.clone() }.sign(&key),
        ] {
            assert_eq!(world.send_bytes(Step::AdvertiseKeys, 0, &bad), Err(want.into()));
        }
    }
    assert_eq!(world.send(0), Ok(Receipt::Accepted));
    assert_eq!(advertised_certificates(&world.parties[0].message()).as_ref(), Ok(&world.parties[0].certificates));
    assert!(advertised_certificates(&[1, 0]).is_err());
}

/// Shares for others than the neighbours, too many, too few, or twice.
#[test]
fn shares_go_to_exactly_the_neighbours() {
    let mut world = World::at(Step::ShareKeys, context(NOBODY), 5, 16);
    let opening = world.opening(Step::ShareKeys, 2);
    world.answer(2, &opening).expect("an honest coordinator");
    let honest = ShareKeys::read(&world.parties[2].message());
    let key = world.parties[2].key.clone();
    let others = (0..5).filter(|other| *other != 2 && honest.records.iter().all(|record| record.holder != *other));
    for stranger in others.chain([2, 77]) {
        let mut message = honest.clone();
        message.records[1].holder = stranger;
        assert_eq!(world.send_bytes(Step::ShareKeys, 2, &message.sign(&key)), Err(Rejection::WrongHolders));
    }
    let edits: [&dyn Fn(&mut ShareKeys); 4] = [
        &|message| drop(message.records.pop()),
        &|message| message.records.swap(0, 1),
        &|message| message.records[1] = message.records[0].clone(),
        &|message| message.records.push(message.records[1].clone()),
    ];
    for edit in edits {
        let mut message = honest.clone();
        edit(&mut message);
        assert_eq!(world.send_bytes(Step::ShareKeys, 2, &message.sign(&key)), Err(Rejection::WrongHolders));
    }
    assert_eq!(world.send(2), Ok(Receipt::Accepted));
}

/// An encapsulation too few or too many: the neighbours would refuse what a coordinator lets through.
#[test]
fn shares_have_the_encapsulations_that_the_policy_asks_for() {
    type Edit = fn(&mut Record);
    let edits: [(usize, Edit); 3] = [
        (1, |record| record.channel_encapsulation.clear()),
        (0, |record| record.mask_encapsulation = vec![0; 1_088]),
        (3, |record| record.mask_encapsulation.clear()),
    ];
    let mut world = World::at(Step::ShareKeys, context(ONE_OF_FIVE), 5, 16);
    let opening = world.opening(Step::ShareKeys, 2);
    world.answer(2, &opening).expect("an honest coordinator");
    let key = world.parties[2].key.clone();
    for (at, edit) in edits {
        let mut message = ShareKeys::read(&world.parties[2].message());
        edit(&mut message.records[at]);
        let holder = message.records[at].holder;
        let got = world.send_bytes(Step::ShareKeys, 2, &message.sign(&key));
        assert_eq!(got, Err(Rejection::WrongEncapsulations { holder }));
    }
}

/// A dealer whose encapsulation does not come from its root would put on masks that nobody can take off: when it falls
/// silent, its root is opened, and names it.
#[test]
fn a_dropout_of_a_wrong_encapsulation_is_named() {
    let mut world = World::at(Step::ShareKeys, context(ONE_OF_FIVE), 5, 16);
    for at in 0..5 {
        let opening = world.opening(Step::ShareKeys, at);
        world.answer(at, &opening).expect("an honest coordinator");
        let mut message = ShareKeys::read(&world.parties[at].message());
        if at == 0 {
            message.records[3].mask_encapsulation[9] ^= 1;
        }
        let message = message.sign(&world.parties[at].key);
        assert_eq!(world.send_bytes(Step::ShareKeys, at, &message), Ok(Receipt::Accepted));
    }
    world.close().expect("everybody answered");
    for step in [Step::MaskedInput, Step::ConsistencyCheck, Step::Unmasking] {
        world.play(step, &[1, 2, 3, 4]);
        world.close().expect("four of five");
    }
    assert_eq!(world.open(), Err(Abort::BadDealers { culprits: vec![world.parties[0].id.clone()] }));
}

/// The same protocol where the policy does without ML-KEM.
#[test]
fn dropouts_without_ml_kem() {
    let context = Context { pq: false, ..context(ONE_OF_FIVE) };
    let mut world = World::at(Step::MaskedInput, context, 5, 18);
    for step in [Step::MaskedInput, Step::ConsistencyCheck, Step::Unmasking] {
        world.play(step, &[0, 1, 2, 4]);
        world.close().expect("four of five");
    }
    assert_eq!(world.open(), Ok(world.plain_sum(&[0, 1, 2, 4])));
}

/// The sum beside the state machine holds each survivor's input once, or it is not opened.
#[test]
fn a_sum_of_other_inputs_is_not_opened() {
    let everybody = [0, 1, 2, 3, 4];
    let mut world = World::at(Step::Unmasking, context(ONE_OF_FIVE), 5, 17);
    world.play(Step::Unmasking, &everybody);
    world.close().expect("everybody answered");
    assert!(world.coordinator().is_opening());
    assert_eq!(world.coordinator().open(world.coordinator().new_sum()), Err(Abort::SumMismatch));

    let ids: Vec<_> = world.parties.iter().map(|party| party.id.clone()).collect();
    let with = |who: &[usize], last: usize| {
        let mut sum = world.coordinator().new_sum();
        for &at in who {
            let upload = &world.parties[at].upload;
            let mut adder = sum.begin(&ids[at]).expect("not yet in the sum");
            adder.push(&upload[..if at == last { upload.len() - 1 } else { upload.len() }]).expect("not too long");
            if at != last {
                adder.finish().expect("whole");
            }
        }
        sum
    };
    assert_eq!(world.coordinator().open(with(&[0, 1, 2, 3], usize::MAX)), Err(Abort::SumMismatch));
    let mut torn = with(&everybody, 4);
    assert_eq!(torn.begin(&ids[4]).err(), Some(SumError::Torn));
    assert_eq!(world.coordinator().open(torn), Err(Abort::SumMismatch));
    let mut whole = with(&everybody, usize::MAX);
    assert_eq!(whole.begin(&ids[4]).err(), Some(SumError::Twice(ids[4].clone())));
    assert!(world.open().is_ok_and(|sum| sum == world.plain_sum(&everybody)));
}

/// Steps close when everybody has answered, a grace after the quorum, or at the deadline; attempts end.
#[test]
fn steps_are_due_in_time() {
    let mut world = World::new(context(ONE_OF_FIVE), 5, 18);
    assert!(!world.coordinator().is_due(999));
    assert!(world.coordinator().is_due(1_000), "the advertising deadline");
    assert_eq!(world.coordinator().timed_out(9_999), None);
    let late = Abort::TimedOut { step: Step::AdvertiseKeys, millis: 10_000 };
    assert_eq!(world.coordinator().timed_out(LATE), Some(late));
    for at in 0..5 {
        assert!(!world.coordinator().is_due(1));
        world.play(Step::AdvertiseKeys, &[at]);
    }
    assert!(world.coordinator().is_due(0), "everybody answered");
}
