//! What a participant stores is all that it needs to go on, means nothing elsewhere, and is read with care.

mod common;

use common::{ONE_OF_FIVE, World, context};
use sordino_secagg::participant::{RestoreError, Stored};
use sordino_secagg::{Context, Malformed, Step};

/// Everybody restarts after every step: the same bytes are sent again, and the sum is exact.
#[test]
fn a_restart_at_every_step_changes_nothing() {
    let everybody = [0, 1, 2, 3, 4];
    let mut world = World::new(context(ONE_OF_FIVE), 5, 1);
    for step in Step::ALL {
        world.play(step, &everybody);
        for at in everybody {
            let restored = world.restored(at);
            assert_eq!(restored.step(), step);
            assert_eq!(restored.message(), world.parties[at].message());
            assert_eq!(*restored.to_bytes(), *world.parties[at].state().to_bytes());
            world.parties[at].state = Some(restored);
            assert!(world.send(at).is_ok(), "the same bytes");
        }
        world.close().expect("everybody answered");
    }
    assert_eq!(world.open(), Ok(world.plain_sum(&everybody)));
}

/// What follows from a stored state follows from it every time: one input is masked, one list signed, one set of shares
/// revealed. (Sharing draws fresh randomness; its result is stored before it is sent.)
#[test]
fn a_restored_participant_repeats_itself() {
    let mut world = World::at(Step::MaskedInput, context(ONE_OF_FIVE), 5, 2);
    for step in [Step::MaskedInput, Step::ConsistencyCheck, Step::Unmasking] {
        let opening = world.opening(step, 3);
        let once = world.answer_restored(3, &opening).expect("an honest coordinator");
        let twice = world.answer_restored(3, &opening).expect("an honest coordinator");
        assert_eq!(once.message(), twice.message(), "{step}");
        world.play(step, &[0, 1, 2, 3, 4]);
        assert_eq!(world.parties[3].message(), once.message(), "{step}");
        world.close().expect("everybody answered");
    }
}

#[test]
fn a_state_of_another_attempt_is_not_restored() {
    let mut world = World::new(context(ONE_OF_FIVE), 5, 3);
    let others = [
        Context { attempt: 2, ..context(ONE_OF_FIVE) },
        Context { round: 6, ..context(ONE_OF_FIVE) },
        Context { nonce: [0; 32], ..context(ONE_OF_FIVE) },
        Context { model: [0; 32], ..context(ONE_OF_FIVE) },
        Context { policy: [0; 32], ..context(ONE_OF_FIVE) },
        Context { min_survivors: 4, ..context(ONE_OF_FIVE) },
    ];
    for step in Step::ALL {
        world.play(step, &[0, 1, 2, 3, 4]);
        let stored = world.parties[0].state().to_bytes();
        for other in &others {
            assert_eq!(Stored::from_bytes(&stored, other.clone()).err(), Some(RestoreError::OtherAttempt));
        }
        world.close().expect("everybody answered");
    }
}

/// Stored bytes that were cut, lengthened or changed give an error or a state, never a panic, also not in the next step.
#[test]
fn damaged_stored_bytes() {
    let mut world = World::new(context(ONE_OF_FIVE), 5, 4);
    for step in Step::ALL {
        world.play(step, &[0, 1, 2, 3, 4]);
        world.close().expect("everybody answered");
        let stored = world.parties[0].state().to_bytes();
        // Every byte of what is short; of the long keys of neighbours, some.
        let stride = 1 + stored.len() / 400;
        for len in (0..stored.len()).step_by(stride) {
            assert!(Stored::from_bytes(&stored[..len], world.context.clone()).is_err(), "{step}, {len} bytes");
        }
        let longer = [&stored[..], &[0]].concat();
        let trailing = RestoreError::Malformed(Malformed::Trailing { extra: 1 });
        assert_eq!(Stored::from_bytes(&longer, world.context.clone()).err(), Some(trailing));
        let opening = step.next().map(|next| world.opening(next, 0));
        let honest = world.parties[0].state.take();
        for byte in (0..stored.len()).step_by(stride) {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = stored.to_vec();
                changed[byte] ^= flip;
                let Ok(state) = Stored::from_bytes(&changed, world.context.clone()) else { continue };
                let _ = state.to_bytes();
                if let Some(opening) = &opening {
                    world.parties[0].state = Some(state);
                    let _ = world.answer(0, opening);
                }
            }
        }
        world.parties[0].state = honest;
    }
}

/// Once the input is masked, what is stored holds neither the input nor a secret of the participant's own; once the
/// survivors are signed, it holds one share of each neighbour.
#[test]
fn stored_secrets_dwindle() {
    let mut world = World::new(context(ONE_OF_FIVE), 5, 5);
    let contains = |bytes: &[u8], secret: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
    world.play(Step::AdvertiseKeys, &[0, 1, 2, 3, 4]);
    let first = world.parties[0].state().to_bytes();
    let root = first[first.len() - 128..first.len() - 96].to_vec();
    let channel = first[first.len() - 96..].to_vec();
    let ring = sordino_codec::RingVector::from_centered(&world.parties[0].input, world.context.bits).expect("fits");
    let input = sordino_codec::pack(&ring);
    for secret in [&root, &channel, &input] {
        assert!(contains(&first, secret));
    }
    world.close().expect("everybody answered");
    for step in [Step::ShareKeys, Step::MaskedInput, Step::ConsistencyCheck, Step::Unmasking] {
        world.play(step, &[0, 1, 2, 3, 4]);
        world.close().expect("everybody answered");
        let stored = world.parties[0].state().to_bytes();
        for secret in [&root, &channel, &input] {
            assert_eq!(contains(&stored, secret), step == Step::ShareKeys, "{step}");
        }
    }
}
