//! Inputs that carry a proof: what is carried arrives as it was sent, signed by whoever sent it, or is refused; and an
//! input whose proof was found bad is a dropout like any other. What a proof is, the protocol does not know: here it is
//! any bytes.

mod common;

use common::forge::{Delivered, MaskedInput, ShareKeys, Unmasking};
use common::{NOBODY, ONE_OF_FIVE, World, bits, context};
use proptest::prelude::*;
use rand_core::SeedableRng as _;
use sha2::{Digest as _, Sha256};
use sordino_codec::RingVector;
use sordino_secagg::coordinator::{Abort, Coordinator, Outgoing, Receipt, Rejection, Setup, SumError, Timing};
use sordino_secagg::participant::{
    Attachment, AttachmentLens, AwaitingRoster, Identity, Input, Refusal, Stored, Trust as _,
};
use sordino_secagg::{COMMITMENTS_MAX, Context, Faults, Malformed, ProofTerms, SignedCommitments, Step};

/// Neither length is a multiple of anything.
const TERMS: ProofTerms = ProofTerms { claim: [7; 32], commitments_len: 71, proof_len: 43 };

const EVERYBODY: [usize; 5] = [0, 1, 2, 3, 4];

fn proven(terms: ProofTerms, faults: Faults) -> Context {
    Context { proof: Some(terms), ..context(faults) }
}

/// A cohort of five, one of whom may fall silent, with nobody's answer in the step.
fn at(step: Step, seed: u64) -> World {
    World::at(step, proven(TERMS, ONE_OF_FIVE), 5, seed)
}

/// Those go on from the step that is open to the end, and the sum is opened.
fn finish(world: &mut World, who: &[usize]) -> Result<Vec<i64>, Abort> {
    let open = world.coordinator().step().expect("a step is open");
    for step in Step::ALL.into_iter().filter(|step| *step >= open) {
        world.play(step, who);
        world.close()?;
    }
    world.open()
}

/// The participant has what the step answers to, and has not said it yet.
fn prepare(world: &mut World, who: &[usize], step: Step) {
    for &at in who {
        let opening = world.opening(step, at);
        world.answer(at, &opening).expect("an honest coordinator");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Sums are exact whatever is carried beside the inputs, also nothing at all, and what is carried arrives.
    #[test]
    fn sums_stay_exact_with_any_attachment(
        seed: u64,
        n in 3usize..9,
        ring in 2u8..=64,
        commitments_len in 0u32..300,
        proof_len in 0u32..300,
        silent in 0usize..16,
    ) {
        let terms = ProofTerms { commitments_len, proof_len, ..TERMS };
        let faults = Faults { corrupt: 0, max_dropout_fraction: 0.3 };
        let mut world = World::new(Context { bits: bits(ring), ..proven(terms, faults) }, n, seed);
        world.play_until(Step::MaskedInput);
        // Of three, nobody may fall silent.
        let who: Vec<usize> = (0..n).filter(|at| n < 4 || *at != silent).collect();
        let sum = finish(&mut world, &who);
        prop_assert_eq!(sum, Ok(world.plain_sum(&who)));
        for party in &world.parties {
            let sent = party.attachment.as_ref().expect("everybody has one");
            prop_assert_eq!(world.coordinator().commitments(&party.id), Some(&sent.commitments[..]));
        }
        for &at in &who {
            let party = &world.parties[at];
            let sent = party.attachment.as_ref().expect("everybody has one");
            prop_assert_eq!(party.upload.len() as u64, world.coordinator().input_len());
            let packed_len = usize::try_from(world.coordinator().packed_len()).expect("short");
            prop_assert_eq!(&party.upload[packed_len..], &sent.proof[..]);
        }
    }
}

// What a participant begins with.

fn advertise(world: &World, proof: Option<ProofTerms>, attachment: Option<Attachment>) -> Option<Refusal> {
    let context = Context { proof, ..world.context.clone() };
    let party = &world.parties[0];
    let vector = RingVector::from_centered(&party.input, context.bits).expect("in the ring");
    let identity = Identity { id: &party.id, certificates: &party.certificates };
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
    AwaitingRoster::advertise(context, identity, Input { vector, attachment }, &party.key, &mut rng).err()
}

/// Presence and lengths are those of the context, or nothing is said.
#[test]
fn an_input_carries_what_the_attempt_asks_for() {
    let world = World::new(context(ONE_OF_FIVE), 5, 1);
    let of = |commitments: usize, proof: usize| Attachment { commitments: vec![1; commitments], proof: vec![2; proof] };
    let lens = |commitments, proof| Some(AttachmentLens { commitments, proof });
    assert_eq!(advertise(&world, None, None), None);
    assert_eq!(advertise(&world, Some(TERMS), Some(of(71, 43))), None);
    let empty = ProofTerms { commitments_len: 0, proof_len: 0, ..TERMS };
    assert_eq!(advertise(&world, Some(empty), Some(of(0, 0))), None);
    let cases = [
        ("terms without an attachment", Some(TERMS), None, None, lens(71, 43)),
        ("empty terms without an attachment", Some(empty), None, None, lens(0, 0)),
        ("an attachment without terms", None, Some(of(71, 43)), lens(71, 43), None),
        ("an empty attachment without terms", None, Some(of(0, 0)), lens(0, 0), None),
        ("longer commitments", Some(TERMS), Some(of(72, 43)), lens(72, 43), lens(71, 43)),
        ("shorter commitments", Some(TERMS), Some(of(70, 43)), lens(70, 43), lens(71, 43)),
        ("a longer proof", Some(TERMS), Some(of(71, 44)), lens(71, 44), lens(71, 43)),
        ("a shorter proof", Some(TERMS), Some(of(71, 42)), lens(71, 42), lens(71, 43)),
        ("one for the other", Some(TERMS), Some(of(43, 71)), lens(43, 71), lens(71, 43)),
    ];
    for (name, terms, attachment, got, expected) in cases {
        let refusal = Refusal::WrongAttachment { got, expected };
        assert_eq!(advertise(&world, terms, attachment), Some(refusal), "{name}");
    }
    let refusal = Refusal::WrongAttachment { got: None, expected: lens(71, 43) };
    assert_eq!(
        refusal.to_string(),
        "the input comes with no proof, the attempt takes 71 bytes of commitments and a proof of 43 bytes"
    );
    // What no coordinator could take.
    let max = u32::try_from(COMMITMENTS_MAX).expect("512 KiB");
    let terms = |commitments_len| Some(ProofTerms { commitments_len, ..TERMS });
    assert_eq!(advertise(&world, terms(max), Some(of(COMMITMENTS_MAX, 43))), None);
    let refusal = Refusal::CommitmentsTooLong { len: max + 1, max };
    assert_eq!(advertise(&world, terms(max + 1), Some(of(COMMITMENTS_MAX + 1, 43))), Some(refusal));
}

/// The terms are in the context: who believes in others has signed something else.
#[test]
fn other_terms_are_another_context() {
    let digest = |proof: Option<ProofTerms>| *Context { proof, ..context(NOBODY) }.digest().as_bytes();
    let all = [
        None,
        Some(TERMS),
        Some(ProofTerms { claim: [8; 32], ..TERMS }),
        Some(ProofTerms { commitments_len: 72, ..TERMS }),
        Some(ProofTerms { proof_len: 44, ..TERMS }),
        Some(ProofTerms { commitments_len: 43, proof_len: 71, ..TERMS }),
    ];
    for (at, one) in all.iter().enumerate() {
        for (other_at, other) in all.iter().enumerate() {
            assert_eq!(digest(*one) == digest(*other), at == other_at, "{one:?}, {other:?}");
        }
    }
    let mut world = World::new(proven(TERMS, ONE_OF_FIVE), 5, 2);
    world.context.proof = all[2];
    world.advertise_in(0, world.context.clone());
    assert_eq!(world.send(0), Err(Rejection::WrongContext));
}

// Commitments.

/// The coordinator takes commitments of the one length, signed by their dealer with everything else.
#[test]
fn tampered_commitments_in_sealed_shares() {
    let mut world = at(Step::ShareKeys, 3);
    prepare(&mut world, &[0], Step::ShareKeys);
    let (message, key) = (world.parties[0].message(), world.parties[0].key.clone());
    let honest = ShareKeys::read(&message);
    let sent = world.parties[0].attachment.clone().expect("an attachment").commitments;
    assert_eq!(honest.commitments, sent);
    assert_eq!(honest.sign(&key), message, "the forger speaks the protocol");
    // On the way: behind the 36 bytes of the header, the index, the commitment to the seed, and the length.
    for at in 76..76 + sent.len() {
        let mut tampered = message.clone();
        tampered[at] ^= 0x10;
        assert_eq!(world.send_bytes(Step::ShareKeys, 0, &tampered), Err(Rejection::BadSignature), "byte {at}");
    }
    let signature = message[message.len() - 64..].to_vec();
    let mut exchanged = ShareKeys { commitments: vec![0; sent.len()], ..honest.clone() }.sign(&key);
    exchanged.truncate(exchanged.len() - 64);
    exchanged.extend(signature);
    assert_eq!(world.send_bytes(Step::ShareKeys, 0, &exchanged), Err(Rejection::BadSignature));
    // By the dealer itself.
    for len in [0, 70, 72, 4_000] {
        let other = ShareKeys { commitments: vec![1; len], ..honest.clone() }.sign(&key);
        let want = Rejection::CommitmentsLength { got: len, expected: 71 };
        assert_eq!(world.send_bytes(Step::ShareKeys, 0, &other), Err(want));
    }
    let long = ShareKeys { commitments: vec![1; COMMITMENTS_MAX + 1], ..honest.clone() }.sign(&key);
    let too_long = Malformed::TooLong { field: "commitments", len: COMMITMENTS_MAX + 1, max: COMMITMENTS_MAX };
    assert_eq!(world.send_bytes(Step::ShareKeys, 0, &long), Err(too_long.into()));
    assert_eq!(world.coordinator().commitments(&world.parties[0].id), None);
    assert_eq!(world.send(0), Ok(Receipt::Accepted));
    assert_eq!(world.coordinator().commitments(&world.parties[0].id), Some(&sent[..]));
    // It has said what it commits to.
    let other = ShareKeys { commitments: vec![1; 71], ..honest }.sign(&key);
    let step = Step::ShareKeys;
    assert_eq!(world.send_bytes(step, 0, &other), Err(Rejection::AlreadySubmitted { step }));
}

/// Where inputs carry no proof, nobody commits to anything.
#[test]
fn commitments_that_nobody_asked_for() {
    let mut world = World::at(Step::ShareKeys, context(ONE_OF_FIVE), 5, 4);
    prepare(&mut world, &[0], Step::ShareKeys);
    let honest = ShareKeys::read(&world.parties[0].message());
    let one = ShareKeys { commitments: vec![1], ..honest }.sign(&world.parties[0].key);
    let want = Rejection::CommitmentsLength { got: 1, expected: 0 };
    assert_eq!(world.send_bytes(Step::ShareKeys, 0, &one), Err(want));
    assert_eq!(world.send(0), Ok(Receipt::Accepted));
    assert_eq!(world.coordinator().commitments(&world.parties[0].id), None);
    world.play(Step::ShareKeys, &[1, 2, 3, 4]);
    world.close().expect("everybody answered");
    assert_eq!(finish(&mut world, &EVERYBODY), Ok(world.plain_sum(&EVERYBODY)));
    assert_eq!(world.coordinator().signed_commitments(), []);
}

/// A neighbour sees a digest of what a dealer committed to: the coordinator can show no other one.
#[test]
fn a_tampered_digest_of_commitments_in_a_delivery() {
    let mut world = at(Step::MaskedInput, 5);
    let opening = world.opening(Step::MaskedInput, 0);
    let honest = Delivered::read(&opening);
    for delivery in &honest.deliveries {
        let dealer = &world.parties[delivery.dealer as usize];
        let sent = &dealer.attachment.as_ref().expect("an attachment").commitments;
        assert_eq!(delivery.commitments[..], Sha256::digest(sent)[..]);
    }
    let altered = Refusal::AlteredShares { dealer: 3 };
    for digest in [[0; 32], Sha256::digest([]).into(), honest.deliveries[0].commitments] {
        let mut lie = honest.clone();
        lie.deliveries[2].commitments = digest;
        assert_eq!(world.answer_restored(0, &lie.write()).err().as_ref(), Some(&altered));
    }
    let mut lie = honest;
    lie.deliveries[2].commitments[31] ^= 1;
    assert_eq!(world.answer_restored(0, &lie.write()).err().as_ref(), Some(&altered), "after a restart");
    assert_eq!(world.answer(0, &lie.write()), Err(altered));
}

/// Known from the moment its message is accepted until the end, of everybody who goes on, survivor or not.
#[test]
fn commitments_are_known_until_the_end() {
    let mut world = World::new(proven(TERMS, ONE_OF_FIVE), 5, 6);
    let known = |world: &World| -> Vec<bool> {
        let of = |party: &common::Party| {
            let known = world.coordinator().commitments(&party.id);
            let sent = party.attachment.as_ref().expect("an attachment");
            known.is_some_and(|known| known == sent.commitments)
        };
        world.parties.iter().map(of).collect()
    };
    world.play(Step::AdvertiseKeys, &EVERYBODY);
    world.close().expect("everybody answered");
    assert_eq!(known(&world), [false; 5]);
    world.play(Step::ShareKeys, &[0, 1, 2, 4]);
    let want = [true, true, true, false, true];
    assert_eq!(known(&world), want);
    world.close().expect("four of five");
    for step in [Step::MaskedInput, Step::ConsistencyCheck, Step::Unmasking] {
        assert_eq!(known(&world), want, "{step}");
        world.play(step, &[0, 1, 2, 4]);
        assert_eq!(known(&world), want, "{step}");
        world.close().expect("four of five");
    }
    assert_eq!(known(&world), want);
    let stranger = sordino_secagg::ParticipantId::new("nobody-we-know").expect("a valid name");
    assert_eq!(world.coordinator().commitments(&stranger), None);
    assert_eq!(world.open(), Ok(world.plain_sum(&[0, 1, 2, 4])));
}

// Proofs.

/// The header signs the proof with the vector, and the coordinator takes the bytes of one length.
#[test]
fn tampered_proofs_in_an_upload() {
    let mut world = at(Step::MaskedInput, 7);
    prepare(&mut world, &[0], Step::MaskedInput);
    let (header, upload) = (world.parties[0].message(), world.parties[0].upload.clone());
    let (id, key) = (world.parties[0].id.clone(), world.parties[0].key.clone());
    let announced = world.coordinator().input_len();
    // 37 values of 20 bits are 93 bytes.
    assert_eq!((world.coordinator().packed_len(), announced), (93, 93 + 43));
    assert_eq!(upload.len(), 93 + 43);
    for at in 93..upload.len() {
        let mut tampered = upload.clone();
        tampered[at] ^= 1;
        assert_eq!(world.send_input(0, &header, &tampered), Err(Rejection::InputDigest { announced }), "byte {at}");
    }
    let longer = [&upload[..], &[0]].concat();
    for wrong in [&upload[..93], &upload[..upload.len() - 1], &longer] {
        assert_eq!(world.send_input(0, &header, wrong), Err(Rejection::InputDigest { announced }));
        // Signed as it is.
        let signed = MaskedInput::read(&header).of(wrong).sign(&key);
        let want = Rejection::InputLength { announced: wrong.len() as u64, expected: announced };
        assert_eq!(world.send_input(0, &signed, wrong), Err(want));
    }
    // The padding is that of the vector: the bits of the last byte are the proof's own.
    let mut padded = upload.clone();
    padded[92] |= 0x10;
    let signed = MaskedInput::read(&header).of(&padded).sign(&key);
    assert_eq!(world.send_input(0, &signed, &padded), Err(Rejection::InputPadding));
    // Evidence that was made as if the vector ended elsewhere is none.
    for packed_len in [0, 92, 94, announced, u64::MAX] {
        let mut hasher = sordino_secagg::coordinator::PayloadHasher::new(packed_len);
        hasher.update(&upload);
        let got = world.coordinator_mut().input(&id, &header, &hasher.finish(), 0);
        assert_eq!(got, Err(Rejection::InputPadding), "{packed_len}");
    }
    assert_eq!(world.send(0), Ok(Receipt::Accepted));
    world.play(Step::MaskedInput, &[1, 2, 3, 4]);
    world.close().expect("everybody answered");
    assert_eq!(finish(&mut world, &EVERYBODY), Ok(world.plain_sum(&EVERYBODY)));
}

/// However an upload is cut into pieces, its vector is added and its proof is not; more or fewer bytes are refused.
#[test]
fn an_upload_is_added_in_any_pieces() {
    let mut world = at(Step::Unmasking, 8);
    let id = world.parties[0].id.clone();
    let ids: Vec<_> = world.parties.iter().map(|party| party.id.clone()).collect();
    let uploads: Vec<Vec<u8>> = world.parties.iter().map(|party| party.upload.clone()).collect();
    world.play(Step::Unmasking, &EVERYBODY);
    world.close().expect("everybody answered");
    for piece in [1, 7, 92, 93, 94, 135, 136] {
        let mut sum = world.coordinator().new_sum();
        for (id, upload) in ids.iter().zip(&uploads) {
            let mut adder = sum.begin(id).expect("once");
            upload.chunks(piece).for_each(|piece| adder.push(piece).expect("of the right length"));
            adder.finish().expect("whole");
        }
        let opened = world.coordinator().open(sum).map(|sum| sum.iter_centered().collect::<Vec<_>>());
        assert_eq!(opened, Ok(world.plain_sum(&EVERYBODY)), "pieces of {piece}");
    }
    let wrong = |got| SumError::ProofLength { got, expected: 43 };
    for (len, refused) in [(0, None), (92, None), (93, Some(wrong(0))), (135, Some(wrong(42)))] {
        let mut sum = world.coordinator().new_sum();
        let mut adder = sum.begin(&id).expect("once");
        adder.push(&uploads[0][..len]).expect("not too long");
        let error = adder.finish().expect_err("not whole");
        assert_eq!(refused.is_none(), matches!(error, SumError::Packing(_)), "{len}: {error:?}");
        assert!(refused.is_none_or(|refused| refused == error), "{len}");
        assert_eq!(sum.begin(&id).err(), Some(SumError::Torn));
    }
    let mut sum = world.coordinator().new_sum();
    let mut adder = sum.begin(&id).expect("once");
    assert_eq!(adder.push(&[&uploads[0][..], &[0]].concat()), Err(wrong(44)));
    adder.push(&uploads[0]).expect("nothing was added before");
    assert_eq!(adder.push(&[0]), Err(wrong(44)));
    adder.finish().expect("whole");
}

// Restarts.

/// What is stored holds the attachment for as long as it is needed, and not longer.
#[test]
fn a_restart_keeps_the_attachment() {
    let mut world = World::new(proven(TERMS, ONE_OF_FIVE), 5, 9);
    let Attachment { commitments, proof } = world.parties[2].attachment.clone().expect("an attachment");
    let contains = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    for step in Step::ALL {
        world.play(step, &EVERYBODY);
        for at in EVERYBODY {
            let restored = world.restored(at);
            assert_eq!(*restored.to_bytes(), *world.parties[at].state().to_bytes());
            assert_eq!(restored.message(), world.parties[at].message());
            world.parties[at].state = Some(restored);
            assert!(world.send(at).is_ok(), "the same bytes");
        }
        let stored = world.parties[2].state().to_bytes();
        let held = (contains(&stored, &commitments), contains(&stored, &proof));
        // The commitments were sent with the shares: they are in the message that is sent again.
        let want = match step {
            Step::AdvertiseKeys | Step::ShareKeys => (true, true),
            _ => (false, false),
        };
        assert_eq!(held, want, "{step}");
        for terms in [None, Some(ProofTerms { proof_len: 42, ..TERMS }), Some(ProofTerms { claim: [0; 32], ..TERMS })] {
            let other = Context { proof: terms, ..world.context.clone() };
            assert!(Stored::from_bytes(&stored, other).is_err(), "another attempt");
        }
        for len in 0..stored.len() {
            assert!(Stored::from_bytes(&stored[..len], world.context.clone()).is_err(), "{step}, {len} bytes");
        }
        world.close().expect("everybody answered");
    }
    assert_eq!(world.open(), Ok(world.plain_sum(&EVERYBODY)));
}

// Refused inputs.

/// The shell finds participant 3's proof to be bad: the sum is that of the others, exactly, and of the refused one only
/// the root is asked for, which opens what its neighbours put on; its own input stays under its self mask.
#[test]
fn a_refused_input_is_a_dropout() {
    let others = [0, 1, 2, 4];
    let mut world = at(Step::MaskedInput, 10);
    let id = world.parties[3].id.clone();
    prepare(&mut world, &[3], Step::MaskedInput);
    let (header, upload) = (world.parties[3].message(), world.parties[3].upload.clone());
    let payload = |world: &World, bytes: &[u8]| {
        let mut hasher = world.coordinator().hasher();
        hasher.update(bytes);
        hasher.finish()
    };
    // Only of what it signed can it be said that it proves nothing. To look changes nothing.
    let whole = payload(&world, &upload);
    let cut = payload(&world, &upload[1..]);
    let announced = upload.len() as u64;
    let digest = Rejection::InputDigest { announced };
    assert_eq!(world.coordinator().check_upload(&id, &header, &cut), Err(digest));
    assert_eq!(world.coordinator().check_upload(&id, &header, &whole), Ok(Receipt::Accepted), "whole and signed");
    assert_eq!(world.coordinator().expects_input(&id), Ok(()));
    assert_eq!(world.coordinator_mut().refuse_input(&id, 0), Ok(()));

    let refused = Rejection::RefusedInput { id: id.clone() };
    assert_eq!(world.coordinator().expects_input(&id), Err(refused.clone()));
    assert_eq!(world.coordinator().check_input(&id, &header), Err(refused.clone()));
    assert_eq!(world.coordinator().check_input(&id, b"anything"), Err(refused.clone()));
    assert_eq!(world.coordinator().check_upload(&id, &header, &whole), Err(refused.clone()));
    assert_eq!(world.coordinator_mut().input(&id, &header, &whole, 0), Err(refused));
    let step = Step::MaskedInput;
    assert_eq!(world.coordinator().expects(step, &id), Err(Rejection::NotInStep { id: id.clone(), step }));
    assert_eq!(world.coordinator().outgoing(Step::MaskedInput, &id), Outgoing::Excluded);
    assert_eq!(world.coordinator().outgoing(Step::ConsistencyCheck, &id), Outgoing::Excluded);
    assert_eq!(world.coordinator().heard()[&id], Some(Step::ShareKeys));
    // Twice is once.
    assert_eq!(world.coordinator_mut().refuse_input(&id, 0), Ok(()));

    world.play(Step::MaskedInput, &others[..3]);
    assert!(!world.coordinator().is_complete());
    world.play(Step::MaskedInput, &others[3..]);
    assert!(world.coordinator().is_complete(), "nobody waits for it");
    assert!(world.coordinator().is_due(0));
    world.close().expect("four of five");
    assert_eq!(world.coordinator().heard()[&id], Some(Step::ShareKeys));
    let open = "ConsistencyCheck";
    assert_eq!(world.coordinator_mut().refuse_input(&id, 0), Err(Rejection::WrongStep { got: step, open }));
    let late = Err(Rejection::WrongStep { got: step, open });
    assert_eq!(world.send(3), late, "it comes no more into the sum");
    let survivors = world.coordinator().survivors().expect("known");
    assert_eq!(survivors.len(), 4);
    assert!(!survivors.contains(&id));
    world.play(Step::ConsistencyCheck, &others);
    world.close().expect("four of five");
    world.play(Step::Unmasking, &others);
    for at in others {
        let told = Unmasking::read(&world.parties[at].message());
        let of_refused: Vec<u8> =
            told.shares.iter().filter(|share| share.dealer == 3).map(|share| share.role).collect();
        assert_eq!(of_refused, [0], "one share, of its root");
    }
    // Nor would one of its self-mask seed be taken.
    let mut other = Unmasking::read(&world.parties[0].message());
    other.shares.iter_mut().filter(|share| share.dealer == 3).for_each(|share| share.role = 1);
    let other = other.sign(&world.parties[0].key);
    assert!(world.send_bytes(Step::Unmasking, 0, &other).is_err());
    world.close().expect("four of five");
    assert_eq!(world.open(), Ok(world.plain_sum(&others)));
    // It is in the sum of nobody, and among those who committed to nothing that is in it.
    let committed: Vec<_> = world.coordinator().signed_commitments().into_iter().map(|signed| signed.id).collect();
    assert_eq!(committed, world.coordinator().survivors().expect("known"));
}

/// Its complaints are not heard either, and the neighbours it would have helped are helped by others, or by too few.
#[test]
fn as_many_can_be_refused_as_can_fall_silent() {
    let mut world = at(Step::MaskedInput, 11);
    let ids = [0, 1].map(|at| world.parties[at].id.clone());
    for id in &ids {
        world.coordinator_mut().refuse_input(id, 0).expect("it is awaited");
    }
    world.play(Step::MaskedInput, &[2, 3, 4]);
    assert!(world.coordinator().is_complete());
    let dealer = world.parties[2].id.clone();
    assert_eq!(world.close(), Err(Abort::TooFewShares { dealer, available: 2, threshold: 3 }));

    let mut world = at(Step::MaskedInput, 11);
    for at in [0, 1, 2] {
        let id = world.parties[at].id.clone();
        world.coordinator_mut().refuse_input(&id, 0).expect("it is awaited");
    }
    world.play(Step::MaskedInput, &[3, 4]);
    let too_few = Abort::TooFew { step: Step::MaskedInput, answered: 2, needed: 3 };
    assert_eq!(world.close(), Err(too_few));
}

/// What was accepted stands; and nobody is refused who is not awaited.
#[test]
fn who_cannot_be_refused() {
    let step = Step::MaskedInput;
    let mut world = World::new(proven(TERMS, ONE_OF_FIVE), 5, 12);
    let id = |world: &World, at: usize| world.parties[at].id.clone();
    let (one, three) = (id(&world, 1), id(&world, 3));
    for before in [Step::AdvertiseKeys, Step::ShareKeys] {
        let early = Rejection::WrongStep { got: step, open: before.name() };
        assert_eq!(world.coordinator_mut().refuse_input(&one, 0), Err(early));
        world.play(before, if before == Step::ShareKeys { &[0, 1, 2, 4] } else { &EVERYBODY });
        world.close().expect("enough answered");
    }
    let out = Rejection::NotInStep { id: three.clone(), step };
    assert_eq!(world.coordinator_mut().refuse_input(&three, 0), Err(out));
    let stranger = sordino_secagg::ParticipantId::new("nobody-we-know").expect("a valid name");
    let unknown = Rejection::NotInStep { id: stranger.clone(), step };
    assert_eq!(world.coordinator_mut().refuse_input(&stranger, 0), Err(unknown));
    world.play(step, &[1]);
    assert_eq!(world.coordinator_mut().refuse_input(&one, 0), Err(Rejection::AlreadySubmitted { step }));
    assert_eq!(world.send(1), Ok(Receipt::Duplicate));
    world.play(step, &[0, 2, 4]);
    world.close().expect("four of five");
    assert_eq!(finish(&mut world, &[0, 1, 2, 4]), Ok(world.plain_sum(&[0, 1, 2, 4])));
}

/// A coordinator that is told again what it was told stands where it stood.
#[test]
fn a_refusal_is_told_again() {
    let mut world = World::new(proven(TERMS, ONE_OF_FIVE), 5, 13);
    let cohort = world.parties.iter().map(|party| (party.id.clone(), party.certificate_key())).collect();
    let timing = Timing { advertise: 1_000, step: 100, grace: 10, attempt: 10_000 };
    let mut again = Coordinator::new(Setup { context: world.context.clone(), cohort, quorum: u32::MAX, timing }, 0);
    for step in [Step::AdvertiseKeys, Step::ShareKeys] {
        world.play(step, &EVERYBODY);
        for party in &world.parties {
            again.message(step, &party.id, &party.message(), 0).expect("it was accepted before");
        }
        world.close().expect("everybody answered");
        again = again.close(0).expect("it was closed before");
        if let Some(roster) = again.roster_to_sign() {
            let statement = roster.statement(|id| world.key_of(id)).expect("they have keys");
            again = again.roster_signed(sordino_secagg::Signer::sign(&world.registrar, &statement), 0);
        }
    }
    let id = world.parties[4].id.clone();
    for _ in 0..2 {
        world.coordinator_mut().refuse_input(&id, 0).expect("it is awaited");
        again.refuse_input(&id, 0).expect("it is awaited");
    }
    world.play(Step::MaskedInput, &[0, 1, 2, 3]);
    for party in &world.parties[..4] {
        let mut hasher = again.hasher();
        hasher.update(&party.upload);
        again.input(&party.id, &party.message(), &hasher.finish(), 0).expect("it was accepted before");
    }
    again.resume(0);
    assert!(again.is_complete() && world.coordinator().is_complete());
    assert_eq!(again.expects_input(&id), Err(Rejection::RefusedInput { id: id.clone() }));
    assert_eq!(again.heard(), world.coordinator().heard());
    again = again.close(0).expect("four of five");
    world.close_unsigned().expect("four of five");
    let statement = |core: &Coordinator| core.survivors_to_sign().expect("MaskedInput is closed").statement();
    assert_eq!(statement(&again), statement(world.coordinator()));
    assert_eq!(again.signed_commitments(), world.coordinator().signed_commitments());
}

// For those who were not there.

/// Who committed to what, from files alone: the certificate says who, its key has signed what.
#[test]
fn signed_commitments_are_checked_by_outsiders() {
    let mut world = at(Step::ShareKeys, 14);
    world.play(Step::ShareKeys, &EVERYBODY);
    let sealed = ShareKeys::read(&world.parties[0].message()).records;
    world.close().expect("everybody answered");
    assert_eq!(world.coordinator().signed_commitments(), [], "nobody has survived yet");
    world.play(Step::MaskedInput, &[0, 1, 3, 4]);
    assert_eq!(world.coordinator().signed_commitments(), []);
    world.close().expect("four of five");
    let signed = world.coordinator().signed_commitments();
    let survivors = [0, 1, 3, 4];
    assert_eq!(signed.len(), survivors.len());
    let digest = world.context.digest();
    // An outsider has its own trust anchors, and knows what the attempt was about.
    let stands = |bytes: &[u8]| {
        let Ok(read) = SignedCommitments::from_bytes(bytes) else { return false };
        let key = world.anchors.participant(&read.id, &read.certificates);
        key.is_ok_and(|key| read.verify(&digest, &key))
    };
    for (at, signed) in survivors.into_iter().zip(&signed) {
        let party = &world.parties[at];
        assert_eq!((&signed.id, signed.index as usize), (&party.id, at));
        assert_eq!(signed.commitments, party.attachment.as_ref().expect("an attachment").commitments);
        assert_eq!(signed.certificates, party.certificates);
        assert_eq!(signed.holders, 4);
        let bytes = signed.to_bytes();
        assert_eq!(SignedCommitments::from_bytes(&bytes).as_ref(), Ok(signed));
        assert!(stands(&bytes));
        for byte in 0..bytes.len() {
            for flip in [0x01, 0x80] {
                let mut changed = bytes.clone();
                changed[byte] ^= flip;
                assert!(!stands(&changed), "byte {byte}");
            }
        }
        let other_attempt = Context { attempt: 2, ..world.context.clone() }.digest();
        assert!(!signed.verify(&other_attempt, &party.certificate_key()));
        let another = world.parties[(at + 1) % 5].certificate_key();
        assert!(!signed.verify(&digest, &another));
    }
    // It holds nothing that was sealed.
    let bytes = signed[0].to_bytes();
    for record in &sealed {
        assert!(!bytes.windows(16).any(|window| record.sealed.windows(16).any(|sealed| sealed == window)));
    }
    // The same until the end.
    for step in [Step::ConsistencyCheck, Step::Unmasking] {
        world.play(step, &survivors);
        world.close().expect("all survivors answered");
        assert_eq!(world.coordinator().signed_commitments(), signed, "{step}");
    }
}

/// The certificate chain of a P-256 key, and its signature, travel the same way.
#[test]
fn signed_commitments_of_a_p256_key() {
    let mut world = World::new(proven(TERMS, ONE_OF_FIVE), 5, 15).with_p256(&[1, 2]);
    world.play_until(Step::ConsistencyCheck);
    let digest = world.context.digest();
    for (party, signed) in world.parties.iter().zip(world.coordinator().signed_commitments()) {
        let key = world.anchors.participant(&signed.id, &signed.certificates).expect("certified");
        assert!(signed.verify(&digest, &key) && key == party.certificate_key());
    }
}
