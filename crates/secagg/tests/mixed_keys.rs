//! A cohort in which some have Ed25519 keys and some P-256 keys.

mod common;

use common::{ONE_OF_FIVE, World, certify_key, context};
use sordino_secagg::coordinator::{Receipt, Rejection};
use sordino_secagg::participant::Refusal;
use sordino_secagg::{Faults, Step};

const EVERYBODY: [usize; 5] = [0, 1, 2, 3, 4];

/// Each kind checks the other's advertisements, shares and survivor signatures; one of each kind falls silent. Everybody
/// restarts after every step, and what is sent again is what was stored, also where signing again would give other bytes.
#[test]
fn the_sum_of_a_mixed_cohort_is_exact() {
    let faults = Faults { corrupt: 0, max_dropout_fraction: 0.25 };
    let mut world = World::new(context(faults), 8, 1).with_p256(&[1, 3, 4, 7]);
    let everybody: Vec<usize> = (0..8).collect();
    let left = [0, 2, 3, 4, 6, 7];
    for step in Step::ALL {
        let who = if step < Step::MaskedInput { &everybody[..] } else { &left };
        world.play(step, who);
        for &at in who {
            let restored = world.restored(at);
            assert_eq!(restored.message(), world.parties[at].message());
            world.parties[at].state = Some(restored);
            assert_eq!(world.send(at), Ok(Receipt::Duplicate), "participant {at} in {step}");
        }
        world.close().expect("enough answered");
    }
    assert_eq!(world.open(), Ok(world.plain_sum(&left)));
}

/// From one state a P-256 key makes messages that differ in nothing but their signatures. The one that came first counts,
/// and the other is not taken for it.
#[test]
fn a_second_signature_of_the_same_is_another_message() {
    let mut world = World::new(context(ONE_OF_FIVE), 5, 2).with_p256(&[3]);
    world.play_until(Step::MaskedInput);
    let id = world.parties[3].id.clone();
    for step in [Step::MaskedInput, Step::ConsistencyCheck, Step::Unmasking] {
        let opening = world.opening(step, 3);
        let other = world.answer_restored(3, &opening).expect("an honest coordinator").message().to_vec();
        world.play(step, &EVERYBODY);
        let message = world.parties[3].message();
        let (content, signature) = message.split_last_chunk::<64>().expect("it is signed");
        let (same_content, other_signature) = other.split_last_chunk::<64>().expect("it is signed");
        assert_eq!(content, same_content, "{step}");
        assert_ne!(signature, other_signature, "{step}");
        let got = match step {
            Step::MaskedInput => world.coordinator().check_input(&id, &other),
            _ => world.send_bytes(step, 3, &other),
        };
        assert_eq!(got, Err(Rejection::AlreadySubmitted { step }));
        assert_eq!(world.send(3), Ok(Receipt::Duplicate), "{step}");
        world.close().expect("everybody answered");
    }
    assert_eq!(world.open(), Ok(world.plain_sum(&EVERYBODY)));
}

/// A signature of the other kind under the same name: the coordinator takes none, and where it is fooled about the key,
/// the neighbours, who go by the certificate, are not.
#[test]
fn a_signature_of_the_other_kind_is_refused() {
    for p256_signs in [false, true] {
        let mut world = World::new(context(ONE_OF_FIVE), 5, 3);
        // The cohort knows participant 2 by its Ed25519 key, or by its P-256 key.
        if !p256_signs {
            world = world.with_p256(&[2]);
        }
        let key = world.parties[2].certificate_key();
        let mut other = World::new(context(ONE_OF_FIVE), 5, 3).with_p256(&[2]);
        world.parties[2].p256 = if p256_signs { other.parties[2].p256.take() } else { None };
        assert_ne!(world.parties[2].certificate_key(), key);
        world.advertise_in(2, world.context.clone());
        assert_eq!(world.send(2), Err(Rejection::BadSignature));
    }
    for certificate_is_p256 in [false, true] {
        let mut world = World::new(context(ONE_OF_FIVE), 5, 4);
        let ed25519 = world.parties[2].certificate_key();
        let with_p256 = World::new(context(ONE_OF_FIVE), 5, 4).with_p256(&[2]);
        let p256 = with_p256.parties[2].certificate_key();
        let certified = if certificate_is_p256 { p256 } else { ed25519 };
        if !certificate_is_p256 {
            world = world.with_p256(&[2]);
        }
        let id = world.parties[2].id.clone();
        world.parties[2].certificates = certify_key(&world.authority, &id, &certified);
        assert_ne!(world.parties[2].certificate_key(), certified);
        world.play(Step::AdvertiseKeys, &EVERYBODY);
        world.close().expect("everybody answered");
        let opening = world.opening(Step::ShareKeys, 0);
        let why = "its certificate's key did not sign the advertised keys".to_owned();
        assert_eq!(world.answer(0, &opening), Err(Refusal::BadNeighbour { id: id.to_string(), why }));
    }
}
