//! What a lying coordinator can try against honest participants, one attack per test, each against a participant as it
//! is and one that was restored from its stored bytes. A participant refuses, or gives away nothing that helps.

mod common;

use common::forge::{self, Advertisement, Delivered, Roster, Unmasking};
use common::{Anchors, LATE, NOBODY, ONE_OF_FIVE, World, certify, context, signing_key};
use rand_core::SeedableRng as _;
use sordino_secagg::coordinator::{Outgoing, Rejection};
use sordino_secagg::participant::{AwaitingRoster, Identity, Refusal, Stored};
use sordino_secagg::{Context, Faults, Malformed, NoTopology, ParticipantId, Step, Topology, roster_statement};
use std::collections::{BTreeMap, BTreeSet};

/// The participant refuses what it is told, for this reason, before and after a restart.
fn assert_refused(world: &mut World, victim: usize, lie: &[u8], want: &Refusal) {
    assert_eq!(world.answer_restored(victim, lie).err().as_ref(), Some(want), "after a restart");
    assert_eq!(world.answer(victim, lie).as_ref(), Err(want));
}

/// A cohort of five at a step, and the honest opening of participant 0.
fn at(step: Step, seed: u64) -> (World, Vec<u8>) {
    let world = World::at(step, context(ONE_OF_FIVE), 5, seed);
    let opening = world.opening(step, 0);
    (world, opening)
}

fn forged_roster(seed: u64, forge: impl FnOnce(&World, &mut Roster)) -> (World, Vec<u8>) {
    let (world, opening) = at(Step::ShareKeys, seed);
    let mut roster = Roster::read(&opening, world.leaves());
    assert_eq!(roster.write(), opening, "the forger speaks the protocol");
    forge(&world, &mut roster);
    (world, roster.write())
}

fn bad_neighbour(id: &str, why: &str) -> Refusal {
    Refusal::BadNeighbour { id: id.into(), why: why.into() }
}

// AdvertiseKeys.

#[test]
fn a_sum_of_two_is_not_taken_part_in() {
    let mut world = World::new(context(ONE_OF_FIVE), 3, 1);
    for min in 0..3 {
        let context = Context { min_survivors: min, ..context(ONE_OF_FIVE) };
        let party = &world.parties[0];
        let input = sordino_codec::RingVector::from_centered(&party.input, context.bits).expect("in the ring");
        let identity = Identity { id: &party.id, certificates: &party.certificates };
        let key = party.key.clone();
        let id = party.id.clone();
        let identity = Identity { id: &id, ..identity };
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
        let got = AwaitingRoster::advertise(context, identity, input, &key, &mut rng);
        assert_eq!(got.err(), Some(Refusal::RosterTooSmall { n: min, min: 3 }));
    }
    // An input of another length or ring than the attempt's is a mistake of its own, found before anything is said.
    let party = &world.parties[0];
    for (len, bits) in [(36, 20), (37, 21), (0, 20)] {
        let input = sordino_codec::RingVector::zeros(len, common::bits(bits));
        let identity = Identity { id: &party.id, certificates: &party.certificates };
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
        let got = AwaitingRoster::advertise(world.context.clone(), identity, input, &party.key, &mut rng);
        assert_eq!(got.err(), Some(Refusal::WrongInput { len, bits, expected_len: 37, expected_bits: 20 }));
    }
    world.play_until(Step::ShareKeys);
}

// ShareKeys: the roster.

#[test]
fn a_roster_that_the_registrar_did_not_sign() {
    let (mut world, lie) = forged_roster(2, |_, roster| roster.registrar_signature[7] ^= 1);
    assert_refused(&mut world, 0, &lie, &Refusal::RosterSignature { n: 5 });

    // Signed by the coordinator's own key.
    let mut own = rand_chacha::ChaCha20Rng::seed_from_u64(1_003);
    let (mut world, lie) = forged_roster(3, |_, roster| roster.sign(&signing_key(&mut own)));
    assert_refused(&mut world, 0, &lie, &Refusal::RosterSignature { n: 5 });

    // Signed for another attempt.
    let (mut world, lie) = forged_roster(4, |world, roster| {
        let context = roster.context;
        roster.context = *Context { attempt: 2, ..context_of(world) }.digest().as_bytes();
        roster.sign(&world.registrar);
        roster.context = context;
    });
    assert_refused(&mut world, 0, &lie, &Refusal::RosterSignature { n: 5 });
}

fn context_of(world: &World) -> Context {
    world.context.clone()
}

#[test]
fn a_roster_shrunk_below_the_minimum() {
    let (mut world, lie) = forged_roster(5, |world, roster| {
        roster.leaves.truncate(2);
        roster.neighbours.truncate(1);
        roster.sign(&world.registrar);
    });
    assert_refused(&mut world, 0, &lie, &Refusal::RosterTooSmall { n: 2, min: 3 });
}

/// The corrupt are an absolute number: in a roster that was picked small they are too many.
#[test]
fn a_roster_too_small_for_the_faults() {
    let faults = Faults { corrupt: 3, max_dropout_fraction: 0.0 };
    let mut world = World::at(Step::ShareKeys, context(faults), 10, 6);
    let mut roster = Roster::read(&world.opening(Step::ShareKeys, 0), world.leaves());
    roster.leaves.truncate(3);
    roster.neighbours.truncate(2);
    roster.sign(&world.registrar);
    let no_topology = NoTopology { n: 3, corrupt: 3, dropouts: 0, threshold: 3, answering: 2 };
    assert_refused(&mut world, 0, &roster.write(), &Refusal::NoTopology(no_topology));
}

#[test]
fn a_roster_without_the_participant() {
    let (mut world, lie) = forged_roster(7, |world, roster| {
        roster.leaves[0] = [7; 32];
        roster.sign(&world.registrar);
    });
    assert_refused(&mut world, 0, &lie, &Refusal::NotInRoster { index: 0 });
    for index in [1, 5, u32::MAX] {
        let (mut world, lie) = forged_roster(8, |_, roster| roster.index = index);
        assert_refused(&mut world, 0, &lie, &Refusal::NotInRoster { index });
    }
}

/// Keys of the coordinator's own in place of a neighbour's would open its shares and masks.
#[test]
fn replaced_keys_of_a_neighbour() {
    for (channel, mask) in [(true, false), (false, true)] {
        let forge = |world: &World, by_victim: bool| {
            let key = &world.parties[2].key;
            let mut other = Advertisement::read(&world.parties[2].message());
            if channel {
                other.channel.0 = [9; 32];
            }
            if mask {
                other.mask.0 = [9; 32];
            }
            // Only the neighbour itself could sign it.
            other.sign(if by_victim { key } else { &world.registrar })
        };
        // The roster still holds what the neighbour advertised.
        let (mut world, lie) = forged_roster(9, |world, roster| roster.neighbours[1].1 = forge(world, true));
        let why = "its advertised keys are not those in the roster";
        assert_refused(&mut world, 0, &lie, &bad_neighbour("participant-002", why));
        // The registrar signed the replaced keys without looking.
        let (mut world, lie) = forged_roster(9, |world, roster| {
            roster.replace(2, forge(world, false));
            roster.sign(&world.registrar);
        });
        let why = "its certificate's key did not sign the advertised keys";
        assert_refused(&mut world, 0, &lie, &bad_neighbour("participant-002", why));
    }
}

/// With invented neighbours the coordinator would hold a threshold of everybody's shares.
#[test]
fn an_invented_participant() {
    let mut invented = rand_chacha::ChaCha20Rng::seed_from_u64(1_010);
    let invented = signing_key(&mut invented);
    let replace = |id: &str, certificates: Vec<u8>| {
        let id = id.to_owned();
        let key = invented.clone();
        move |world: &World, roster: &mut Roster| {
            let other = Advertisement { id, certificates, ..Advertisement::read(&world.parties[2].message()) };
            roster.replace(2, other.sign(&key));
            roster.sign(&world.registrar);
        }
    };
    let id = ParticipantId::new("participant-0xx").expect("a valid name");
    // Certified by nobody but itself.
    let (mut world, lie) = forged_roster(10, replace(id.as_str(), certify(&invented, &id, &invented.verifying_key())));
    let why = "the authority did not sign the certificate";
    assert_refused(&mut world, 0, &lie, &bad_neighbour(id.as_str(), why));
    let (mut world, lie) = forged_roster(10, replace(id.as_str(), Vec::new()));
    assert_refused(&mut world, 0, &lie, &bad_neighbour(id.as_str(), "the certificate is too short"));
    // Another's certificate, under another name or its own.
    let (mut world, _) = at(Step::ShareKeys, 10);
    let stolen = world.parties[3].certificates.clone();
    let (mut other, lie) = forged_roster(10, replace(id.as_str(), stolen.clone()));
    assert_refused(&mut other, 0, &lie, &bad_neighbour(id.as_str(), why));
    let (_, lie) = forged_roster(10, replace("participant-003", stolen));
    let why = "its certificate's key did not sign the advertised keys";
    assert_refused(&mut world, 0, &lie, &bad_neighbour("participant-003", why));
}

/// A participant advertises keys whose secrets everybody knows, and the coordinator lets it.
#[test]
fn low_order_keys_of_a_neighbour() {
    for (channel, mask) in [(true, false), (false, true)] {
        let (mut world, lie) = forged_roster(11, |world, roster| {
            let mut low = Advertisement::read(&world.parties[2].message());
            if channel {
                low.channel.0 = [0; 32];
            }
            if mask {
                low.mask.0 = [0; 32];
            }
            roster.replace(2, low.sign(&world.parties[2].key));
            roster.sign(&world.registrar);
        });
        let why = "an advertised key has a small order";
        assert_refused(&mut world, 0, &lie, &bad_neighbour("participant-002", why));
    }
}

/// Fewer, other, repeated or reordered neighbours than the graph over the roster has.
#[test]
fn a_forged_graph() {
    let edits: [&dyn Fn(&mut Roster); 5] = [
        &|roster| drop(roster.neighbours.pop()),
        &|roster| roster.neighbours.swap(0, 1),
        &|roster| roster.neighbours[1] = roster.neighbours[0].clone(),
        &|roster| roster.neighbours.clear(),
        &|roster| roster.neighbours.push((5, roster.neighbours[0].1.clone(), Vec::new())),
    ];
    for edit in edits {
        let (mut world, lie) = forged_roster(12, |_, roster| edit(roster));
        assert_refused(&mut world, 0, &lie, &Refusal::WrongNeighbours);
    }
    // On a ring of five: an honest participant in place of a neighbour.
    let mut world = World::at(Step::ShareKeys, context(NOBODY), 5, 13);
    let mut roster = Roster::read(&world.opening(Step::ShareKeys, 0), world.leaves());
    assert_eq!(roster.neighbours.len(), 2);
    let stranger = (1..5).find(|other| roster.neighbours.iter().all(|(index, ..)| index != other)).expect("of five");
    roster.neighbours[0] = (stranger, world.parties[stranger as usize].message(), Vec::new());
    roster.neighbours.sort();
    roster.sign(&world.registrar);
    assert_refused(&mut world, 0, &roster.write(), &Refusal::WrongNeighbours);
}

/// Pasquini et al. 2022: one participant gets a model of its own, so that the sum tells its input. It then signs and
/// derives everything for another context than its neighbours, and neither they nor it go on.
#[test]
fn another_model_for_one_participant() {
    let mut world = World::new(context(ONE_OF_FIVE), 5, 14);
    let other = Context { model: [3; 32], ..context(ONE_OF_FIVE) };
    let other_digest = *other.digest().as_bytes();
    for party in 0..5 {
        world.advertise_in(party, if party == 0 { other.clone() } else { world.context.clone() });
    }
    // An honest coordinator would not take the advertisement.
    let rejected = world.send(0);
    assert_eq!(rejected, Err(sordino_secagg::coordinator::Rejection::WrongContext));

    let advertisements: Vec<Vec<u8>> = world.parties.iter().map(common::Party::message).collect();
    let roster = |to: u32, context: &[u8; 32]| {
        let mut roster = Roster {
            context: *context,
            index: to,
            leaves: world.leaves(),
            n: 5,
            root: [0; 32],
            path: Vec::new(),
            registrar_signature: [0; 64],
            neighbours: (0..)
                .zip(&advertisements)
                .filter(|(index, _)| *index != to)
                .map(|(index, advertisement)| (index, advertisement.clone(), Vec::new()))
                .collect(),
        };
        roster.sign(&world.registrar);
        roster.write()
    };
    let digest = world.digest();
    let (for_the_victim, its_own, for_others) = (roster(0, &digest), roster(0, &other_digest), roster(1, &digest));
    let why = "it advertised for another context: it may have been given another model";
    // The victim is shown its neighbours' context, or its own: neither fits all that it sees.
    let wrong = Refusal::WrongContext { step: Step::ShareKeys };
    let stored = world.parties[0].state().to_bytes();
    assert_eq!(world.answer(0, &for_the_victim), Err(wrong));
    world.parties[0].state = Some(Stored::from_bytes(&stored, other).expect("its own context"));
    assert_eq!(world.answer(0, &its_own), Err(bad_neighbour("participant-001", why)));
    assert_refused(&mut world, 1, &for_others, &bad_neighbour("participant-000", why));
}

// MaskedInput: the shares.

fn deliveries(seed: u64, tell: impl FnOnce(&World, &mut Delivered)) -> (World, Vec<u8>) {
    let (world, opening) = at(Step::MaskedInput, seed);
    let mut delivered = Delivered::read(&opening);
    assert_eq!(delivered.write(), opening, "the forger speaks the protocol");
    tell(&world, &mut delivered);
    (world, delivered.write())
}

/// Shares that were sealed to somebody else, in another attempt, or were dealt by somebody else.
#[test]
fn redirected_shares() {
    // What dealer 3 sealed to participant 1 goes to participant 0, with its own evidence or that of 0's place.
    let (mut world, lie) = deliveries(15, |world, lie| {
        let to_another = Delivered::read(&world.opening(Step::MaskedInput, 1));
        let taken = to_another.deliveries.iter().find(|delivery| delivery.dealer == 3).expect("dealt");
        lie.deliveries[2] = taken.clone();
    });
    assert_refused(&mut world, 0, &lie, &Refusal::AlteredShares { dealer: 3 });
    let (mut world, lie) = deliveries(15, |world, lie| {
        let to_another = Delivered::read(&world.opening(Step::MaskedInput, 1));
        let taken = to_another.deliveries.iter().find(|delivery| delivery.dealer == 3).expect("dealt");
        lie.deliveries[2].record.clone_from(&taken.record);
    });
    assert_refused(&mut world, 0, &lie, &Refusal::AlteredShares { dealer: 3 });
    // What was dealt in another attempt.
    let other = World::at(Step::MaskedInput, Context { attempt: 2, ..context(ONE_OF_FIVE) }, 5, 15);
    let (mut world, lie) = deliveries(15, |_, lie| {
        lie.deliveries[0] = Delivered::read(&other.opening(Step::MaskedInput, 0)).deliveries[0].clone();
    });
    assert_refused(&mut world, 0, &lie, &Refusal::AlteredShares { dealer: 1 });
    // Two dealers change places.
    let (mut world, lie) = deliveries(15, |_, lie| {
        let (one, two) = (lie.deliveries[0].clone(), lie.deliveries[1].clone());
        lie.deliveries[0] = forge::Delivery { dealer: 1, ..two };
        lie.deliveries[1] = forge::Delivery { dealer: 2, ..one };
    });
    assert_refused(&mut world, 0, &lie, &Refusal::AlteredShares { dealer: 1 });
}

/// A dealer signs shares that do not open: it is masked with, and of it nothing is revealed.
#[test]
fn shares_that_do_not_open() {
    let mut world = World::at(Step::ShareKeys, context(ONE_OF_FIVE), 5, 15);
    let everybody = [0, 1, 2, 3, 4];
    for at in everybody {
        let opening = world.opening(Step::ShareKeys, at);
        world.answer(at, &opening).expect("an honest coordinator");
    }
    let mut bad = forge::ShareKeys::read(&world.parties[2].message());
    assert_eq!(bad.sign(&world.parties[2].key), world.parties[2].message(), "the forger speaks the protocol");
    let for_the_victim = bad.records.iter_mut().find(|record| record.holder == 0).expect("a neighbour");
    for_the_victim.sealed[7] ^= 1;
    let bad = bad.sign(&world.parties[2].key);
    for at in [0, 1, 3, 4] {
        world.send(at).expect("honest");
    }
    world.send_bytes(Step::ShareKeys, 2, &bad).expect("the coordinator cannot open it");
    world.close().expect("everybody answered");
    for step in [Step::MaskedInput, Step::ConsistencyCheck, Step::Unmasking] {
        world.play(step, &everybody);
        world.close().expect("everybody answered");
    }
    let told = Unmasking::read(&world.parties[0].message());
    assert_eq!(told.shares.iter().map(|share| share.dealer).collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(world.open(), Ok(world.plain_sum(&everybody)));
}

/// The registrar computes what it signs from what each member advertised and from the keys that it admitted: it signs for
/// nobody it does not know, and for no key that a member did not sign.
#[test]
fn a_registrar_signs_for_those_it_admitted_only() {
    let mut world = World::new(context(ONE_OF_FIVE), 5, 19);
    world.play(Step::AdvertiseKeys, &[0, 1, 2, 3, 4]);
    world.close_unsigned().expect("everybody answered");
    let roster = world.coordinator().roster_to_sign().expect("AdvertiseKeys is closed");
    assert_eq!(roster.members().len(), 5);
    assert!(roster.statement(|id| world.key_of(id)).is_ok());
    let stranger = world.parties[2].id.clone();
    assert_eq!(roster.statement(|id| world.key_of(id).filter(|_| *id != stranger)), Err(stranger.clone()));
    let other = world.parties[3].certificate_key();
    let mistaken = |id: &ParticipantId| if *id == stranger { Some(other) } else { world.key_of(id) };
    assert_eq!(roster.statement(mistaken), Err(stranger.clone()));
}

/// A participant is not shown everybody who shared keys. It cannot see that; what it then sends would spoil the sum
/// without a trace, so it is refused, and the others' sum is exact.
#[test]
fn wrong_dealers() {
    let everybody: Vec<usize> = (0..10).collect();
    let mut world = World::new(context(Faults { corrupt: 1, max_dropout_fraction: 0.3 }), 10, 18);
    world.play(Step::AdvertiseKeys, &everybody);
    world.close().expect("everybody answered");
    world.play(Step::ShareKeys, &everybody[..9]);
    world.close().expect("enough answered");
    let mut lie = Delivered::read(&world.opening(Step::MaskedInput, 0));
    // Participant 9 shared no keys: what 8 sealed is delivered in its name.
    lie.deliveries.last_mut().expect("dealers").dealer = 9;
    assert_eq!(world.answer_restored(0, &lie.write()).err(), Some(Refusal::AlteredShares { dealer: 9 }));
    lie.deliveries.pop();
    world.answer(0, &lie.write()).expect("enough good shares: the participant cannot see the lie");
    assert_eq!(world.send(0), Err(Rejection::WrongDealers));
    world.play(Step::MaskedInput, &everybody[1..9]);
    world.close().expect("enough answered");
    for step in [Step::ConsistencyCheck, Step::Unmasking] {
        world.play(step, &everybody[1..9]);
        world.close().expect("everybody answered");
    }
    assert_eq!(world.open(), Ok(world.plain_sum(&everybody[1..9])));
}

/// Every byte of what is delivered is the dealer's: holder, commitments, encapsulations, ciphertext, and the evidence.
#[test]
fn tampered_shares() {
    let (mut world, opening) = at(Step::MaskedInput, 16);
    let honest = Delivered::read(&opening);
    let refusal = Refusal::AlteredShares { dealer: 3 };
    type Edit = fn(&mut forge::Record);
    let edits: [(&str, Edit); 9] = [
        ("holder", |record| record.holder = 1),
        ("root commitment", |record| record.commitments[0][3] ^= 1),
        ("self-seed commitment", |record| record.commitments[1][31] ^= 1),
        ("channel encapsulation", |record| record.channel_encapsulation[1_000] ^= 1),
        ("no channel encapsulation", |record| record.channel_encapsulation.clear()),
        ("another mask encapsulation", |record| record.mask_encapsulation = vec![0; 1_088]),
        ("ciphertext", |record| record.sealed[5] ^= 1),
        ("tag", |record| record.sealed[143] ^= 1),
        ("short", |record| record.sealed.truncate(143)),
    ];
    for (name, edit) in edits {
        let mut lie = honest.clone();
        let mut record = forge::Record::read(&lie.deliveries[2].record);
        edit(&mut record);
        lie.deliveries[2].record = record.write();
        assert_eq!(world.answer_restored(0, &lie.write()).err().as_ref(), Some(&refusal), "{name}");
    }
    type Forge = fn(&mut forge::Delivery);
    let forgeries: [(&str, Forge); 7] = [
        ("self-seed commitment", |delivery| delivery.self_seed_commitment[0] ^= 1),
        ("digest of no commitments", |delivery| delivery.commitments[0] ^= 1),
        ("position", |delivery| delivery.position ^= 1),
        ("position outside", |delivery| delivery.position = u32::MAX),
        ("path", |delivery| delivery.path[1][0] ^= 1),
        ("no path", |delivery| delivery.path.clear()),
        ("signature", |delivery| delivery.signature[40] ^= 1),
    ];
    for (name, forge) in forgeries {
        let mut lie = honest.clone();
        forge(&mut lie.deliveries[2]);
        assert_eq!(world.answer_restored(0, &lie.write()).err().as_ref(), Some(&refusal), "{name}");
    }
    // The mask encapsulation, at the end that takes it: participant 4 is the highest.
    let mut lie = Delivered::read(&world.opening(Step::MaskedInput, 4));
    let mut record = forge::Record::read(&lie.deliveries[0].record);
    record.mask_encapsulation[0] ^= 1;
    lie.deliveries[0].record = record.write();
    assert_refused(&mut world, 4, &lie.write(), &Refusal::AlteredShares { dealer: 0 });
}

#[test]
fn shares_of_strangers_or_twice() {
    let (mut world, opening) = at(Step::MaskedInput, 17);
    let honest = Delivered::read(&opening);
    for dealer in [0, 5, u32::MAX] {
        let mut lie = honest.clone();
        lie.deliveries[1].dealer = dealer;
        assert_eq!(world.answer_restored(0, &lie.write()).err(), Some(Refusal::ForeignShares { dealer }));
    }
    let mut lie = honest;
    lie.deliveries.push(lie.deliveries[2].clone());
    assert_refused(&mut world, 0, &lie.write(), &Refusal::ForeignShares { dealer: 3 });
}

/// Masks with few neighbours hide little: withholding their shares does not help.
#[test]
fn withheld_shares() {
    let (mut world, lie) = deliveries(18, |_, lie| lie.deliveries.truncate(2));
    let refusal = Refusal::TooFewNeighbours { step: Step::MaskedInput, answering: 2, threshold: 3 };
    assert_refused(&mut world, 0, &lie, &refusal);
}

// ConsistencyCheck: the survivor list.

#[test]
fn false_survivor_lists() {
    // Participant 4 shared no keys; its share was never delivered.
    let mut world = World::at(Step::ShareKeys, context(ONE_OF_FIVE), 5, 19);
    world.play(Step::ShareKeys, &[0, 1, 2, 3]);
    world.close().expect("four of five");
    world.play(Step::MaskedInput, &[0, 1, 2, 3]);
    world.close().expect("four of five");
    let (digest, root, registrar) = (world.digest(), world.root, world.registrar.clone());
    let list = |n: u32, members: &[u32]| forge::survivor_list(&digest, &root, n, members.iter().copied(), &registrar);
    assert_eq!(list(5, &[0, 1, 2, 3]), world.opening(Step::ConsistencyCheck, 0), "the forger speaks the protocol");
    let step = Step::ConsistencyCheck;
    let few = |survivors| Refusal::TooFewSurvivors { survivors, n: 5, min: 3 };
    let malformed = |field| Refusal::Malformed { step, source: Malformed::Value { field } };
    let mut unused_bit = list(5, &[0, 1, 2, 3]);
    *unused_bit.iter_mut().rev().nth(64).expect("a bitmap") |= 0x80;
    let cases = [
        ("nobody", list(5, &[]), few(0)),
        ("below the minimum", list(5, &[0, 1]), few(2)),
        ("without the participant", list(5, &[1, 2, 3]), Refusal::NotCounted),
        ("somebody who never shared", list(5, &[0, 1, 2, 4]), Refusal::UnknownSurvivor { index: 4 }),
        (
            "too few of its neighbours",
            list(5, &[0, 1, 2]),
            Refusal::TooFewNeighbours { step, answering: 2, threshold: 3 },
        ),
        ("of a smaller roster", list(4, &[0, 1, 2, 3]), Refusal::ForeignSurvivorList { got: 4, n: 5 }),
        ("of a larger roster", list(6, &[0, 1, 2, 3]), Refusal::ForeignSurvivorList { got: 6, n: 5 }),
        ("somebody outside of the roster", unused_bit, malformed("survivors")),
    ];
    for (name, lie, want) in cases {
        assert_eq!(world.answer_restored(0, &lie).err(), Some(want), "{name}");
    }
    assert_refused(&mut world, 0, &list(5, &[1, 2, 3]), &Refusal::NotCounted);
}

/// The registrar signs one list in an attempt. What is signed by somebody else, or about another list, roster or attempt, is
/// no list, even if it is the true one.
#[test]
fn a_survivor_list_that_the_registrar_did_not_sign() {
    let (mut world, opening) = at(Step::ConsistencyCheck, 43);
    let (digest, root, registrar) = (world.digest(), world.root, world.registrar.clone());
    let other_attempt = *Context { attempt: 2, ..context_of(&world) }.digest().as_bytes();
    let own = signing_key(&mut rand_chacha::ChaCha20Rng::seed_from_u64(1_043));
    let list = |digest, root, key| forge::survivor_list(digest, root, 5, 0..5, key);
    assert_eq!(list(&digest, &root, &registrar), opening, "the forger speaks the protocol");
    let mut flipped = opening.clone();
    *flipped.last_mut().expect("a signature") ^= 1;
    // What a participant signs about the same survivors is another statement.
    let mut of_a_participant = opening.clone();
    let signature = forge::survivors_signature(&digest, &root, 5, 0..5, &registrar);
    let start = of_a_participant.len() - signature.len();
    of_a_participant[start..].copy_from_slice(&signature);
    let refusal = |survivors| Refusal::SurvivorsSignature { survivors, n: 5 };
    for (name, lie, want) in [
        ("a damaged signature", flipped, refusal(5)),
        ("the coordinator's own signature", list(&digest, &root, &own), refusal(5)),
        ("of another roster", list(&digest, &[7; 32], &registrar), refusal(5)),
        ("of another attempt", forge::relabel(&list(&other_attempt, &root, &registrar), &digest), refusal(5)),
        ("of another list", forge::other_survivors(&opening, 5, 0..4).expect("a list"), refusal(4)),
        ("of another list, below the minimum", forge::other_survivors(&opening, 5, 0..1).expect("a list"), refusal(1)),
        ("of a participant's statement", of_a_participant, refusal(5)),
    ] {
        assert_eq!(world.answer_restored(0, &lie).err(), Some(want), "{name}");
    }
    let lie = forge::other_survivors(&opening, 5, 0..4).expect("a list");
    assert_refused(&mut world, 0, &lie, &refusal(4));
}

/// Nobody is shown the survivors before the registrar has signed them, and no message counts meanwhile. It is asked about
/// the roster that it signed.
#[test]
fn nothing_goes_on_before_the_registrar_has_signed_the_survivors() {
    let (mut world, _) = at(Step::MaskedInput, 44);
    world.play(Step::MaskedInput, &[0, 1, 2, 3]);
    world.close_unsigned().expect("four of five");
    let coordinator = world.coordinator();
    assert!(coordinator.awaits_registrar() && !coordinator.is_due(LATE) && coordinator.timed_out(LATE).is_some());
    assert_eq!((coordinator.step(), coordinator.survivors().map(|survivors| survivors.len())), (None, Some(4)));
    let outgoing = |step, at: usize| coordinator.outgoing(step, &world.parties[at].id);
    assert_eq!(outgoing(Step::ConsistencyCheck, 0), Outgoing::Wait);
    assert_eq!(outgoing(Step::ConsistencyCheck, 4), Outgoing::Excluded);
    assert_eq!(outgoing(Step::MaskedInput, 0), Outgoing::Excluded);
    let survivors = coordinator.survivors_to_sign().expect("it is asked");
    assert_eq!(survivors.context().as_bytes(), &world.digest());
    assert_eq!(survivors.roster_statement(), roster_statement(&world.context.digest(), 5, &world.root));
    let late = world.parties[0].message();
    assert!(matches!(world.send_bytes(Step::ConsistencyCheck, 0, &late), Err(Rejection::WrongStep { .. })));
    // A signature that comes out of turn changes nothing.
    world.sign_out_of_turn();
    assert_eq!(world.coordinator().step(), None);
    world.sign();
    for step in [Step::ConsistencyCheck, Step::Unmasking] {
        world.play(step, &[0, 1, 2, 3]);
        world.close().expect("everybody answered");
    }
    assert_eq!(world.open(), Ok(world.plain_sum(&[0, 1, 2, 3])));
}

// Unmasking: the signatures.

/// Everybody signed `A`, the true list; the signatures that participant 0 sees are of `B`, where 4 is a dropout.
#[test]
fn signatures_of_another_survivor_list() {
    let (mut world, opening) = at(Step::Unmasking, 20);
    let root = roster_root(20);
    let honest: Vec<(u32, [u8; 64])> = (1..5)
        .map(|at| (at, forge::consistency_signature(&world.parties[at as usize].message()).expect("signed")))
        .collect();
    assert_eq!(forge::signature_list(&world.digest(), &honest), opening, "the forger speaks the protocol");
    let all: BTreeSet<u32> = (0..5).collect();
    assert_eq!(world.survivors_signature(3, &root, &all), honest[2].1, "and signs what they sign");

    let other: BTreeSet<u32> = (0..4).collect();
    for wrong in 0..4 {
        let mut mixed = honest.clone();
        let signer = mixed[wrong].0;
        mixed[wrong].1 = world.survivors_signature(signer as usize, &root, &other);
        let lie = forge::signature_list(&world.digest(), &mixed);
        assert_eq!(world.answer_restored(0, &lie).err(), Some(Refusal::BadSignature { signer }));
    }
    // The same list, of another roster.
    let elsewhere = [(1, world.survivors_signature(1, &[0; 32], &all))];
    let lie = forge::signature_list(&world.digest(), &elsewhere);
    assert_refused(&mut world, 0, &lie, &Refusal::BadSignature { signer: 1 });
}

/// The roster's root of the cohort that [`at`] makes from a seed.
fn roster_root(seed: u64) -> [u8; 32] {
    let (world, opening) = at(Step::ShareKeys, seed);
    Roster::read(&opening, world.leaves()).root
}

#[test]
fn too_few_or_repeated_or_foreign_signatures() {
    let (mut world, _) = at(Step::Unmasking, 21);
    let digest = world.digest();
    let by = |world: &World, at: u32| {
        (at, forge::consistency_signature(&world.parties[at as usize].message()).expect("signed"))
    };
    let list = |world: &World, signers: &[u32]| {
        forge::signature_list(&digest, &signers.iter().map(|&signer| by(world, signer)).collect::<Vec<_>>())
    };
    let step = Step::Unmasking;
    for few in [&[][..], &[1], &[2, 4]] {
        let answering = u32::try_from(few.len()).expect("few");
        let want = Refusal::TooFewNeighbours { step, answering, threshold: 3 };
        let lie = list(&world, few);
        assert_eq!(world.answer_restored(0, &lie).err(), Some(want));
    }
    for (name, signers, signer) in [
        ("one twice", &[1, 2, 2][..], 2),
        ("one twice, apart", &[1, 2, 1], 1),
        ("its own", &[0, 1, 2], 0),
        ("out of order", &[2, 1, 3], 1),
    ] {
        let lie = list(&world, signers);
        assert_eq!(world.answer_restored(0, &lie).err(), Some(Refusal::ForeignSignature { signer }), "{name}");
    }
    let outside = forge::signature_list(&digest, &[by(&world, 1), by(&world, 2), (9, [0; 64])]);
    assert_refused(&mut world, 0, &outside, &Refusal::ForeignSignature { signer: 9 });

    // On a ring, those who are no neighbours do not count, and both neighbours are needed.
    let mut world = World::at(Step::Unmasking, context(NOBODY), 5, 22);
    let digest = world.digest();
    let Some(stranger) =
        (1..5).find(|other| !world.opening(step, 0).windows(4).any(|at| at == u32::to_le_bytes(*other)))
    else {
        unreachable!("two of four are no neighbours");
    };
    let lie = forge::signature_list(&digest, &[by(&world, stranger)]);
    assert_refused(&mut world, 0, &lie, &Refusal::ForeignSignature { signer: stranger });
}

/// A participant that was counted as a dropout signs nothing that counts.
#[test]
fn the_signature_of_a_dropout() {
    let mut world = World::at(Step::MaskedInput, context(ONE_OF_FIVE), 5, 23);
    world.play(Step::MaskedInput, &[0, 1, 2, 3]);
    world.close().expect("four of five");
    world.play(Step::ConsistencyCheck, &[0, 1, 2, 3]);
    let root = roster_root(23);
    let members: BTreeSet<u32> = (0..4).collect();
    let list: Vec<_> = (1..5).map(|at| (at, world.survivors_signature(at as usize, &root, &members))).collect();
    let lie = forge::signature_list(&world.digest(), &list);
    assert_refused(&mut world, 0, &lie, &Refusal::ForeignSignature { signer: 4 });
}

/// One list was signed, in memory and in what is stored: another one is no message that this state takes.
#[test]
fn a_second_survivor_list() {
    let (mut world, _) = at(Step::Unmasking, 24);
    let lie = forge::survivor_list(&world.digest(), &world.root, 5, 0..4, &world.registrar);
    let source = Malformed::Type { got: 6, expected: 8 };
    assert_refused(&mut world, 0, &lie, &Refusal::Malformed { step: Step::Unmasking, source });
}

/// Each participant is shown one of two lists, in all 32 ways, and every signature there is: never are a threshold of
/// shares of both secrets of one participant revealed, and never is more than one secret of it by any participant.
#[test]
fn two_survivor_lists_in_every_split() {
    let threshold = Topology::derive(5, &ONE_OF_FIVE).expect("there is one").t as usize;
    let mut opened = 0;
    for split in 0..32u32 {
        let mut world = World::at(Step::ConsistencyCheck, context(ONE_OF_FIVE), 5, 25);
        let lists: [BTreeSet<u32>; 2] = [(0..5).collect(), (0..4).collect()];
        let shown = |at: usize| (split >> at & 1) as usize;
        for at in 0..5 {
            let members = lists[shown(at)].iter().copied();
            let list = forge::survivor_list(&world.digest(), &world.root, 5, members, &world.registrar);
            // Participant 4 does not stand for a list without itself.
            assert_eq!(world.answer(at, &list).is_err(), at == 4 && shown(at) == 1);
        }
        let mut shares: BTreeMap<(u32, u8), BTreeSet<usize>> = BTreeMap::new();
        for at in (0..5).filter(|&at| world.parties[at].state.is_some()).collect::<Vec<_>>() {
            let agreeing: Vec<_> = (0..5)
                .filter(|&other| other != at && shown(other) == shown(at) && world.parties[other].state.is_some())
                .map(|other| {
                    let root = roster_root(25);
                    let signer = u32::try_from(other).expect("small");
                    (signer, world.survivors_signature(other, &root, &lists[shown(at)]))
                })
                .collect();
            let list = forge::signature_list(&world.digest(), &agreeing);
            let Ok(Stored::Finished(finished)) = world.answer_restored(at, &list) else { continue };
            for share in Unmasking::read(finished.message()).shares {
                shares.entry((share.dealer, share.role)).or_default().insert(at);
            }
        }
        for dealer in 0..5 {
            let of = |role| shares.get(&(dealer, role)).map_or(0, BTreeSet::len);
            assert!(of(0) < threshold || of(1) < threshold, "split {split:05b}, dealer {dealer}");
            let both = shares.get(&(dealer, 0)).zip(shares.get(&(dealer, 1)));
            assert!(both.is_none_or(|(roots, seeds)| roots.is_disjoint(seeds)), "split {split:05b}, dealer {dealer}");
            opened += usize::from(of(0) >= threshold || of(1) >= threshold);
        }
    }
    assert!(opened > 0, "honest splits do open");
}

// Replays.

/// The openings of another attempt or round, as they were and with their context exchanged.
#[test]
fn openings_of_another_attempt() {
    let others = [
        Context { attempt: 2, ..context(ONE_OF_FIVE) },
        Context { round: 8, ..context(ONE_OF_FIVE) },
        // A coordinator restored from an old copy counts rounds and attempts again.
        Context { nonce: [10; 32], ..context(ONE_OF_FIVE) },
        Context { policy: [8; 32], ..context(ONE_OF_FIVE) },
        Context { task: "letters".into(), ..context(ONE_OF_FIVE) },
        Context { federation: "example.net".into(), ..context(ONE_OF_FIVE) },
    ];
    for (seed, other) in (26..).zip(others) {
        let mut before = World::new(context(ONE_OF_FIVE), 5, seed);
        let mut world = before.again(other, seed + 100);
        let everybody = [0, 1, 2, 3, 4];
        before.play(Step::AdvertiseKeys, &everybody);
        world.play(Step::AdvertiseKeys, &everybody);
        for step in Step::ALL.into_iter().skip(1) {
            before.close().expect("everybody answered");
            world.close().expect("everybody answered");
            let old = before.opening(step, 0);
            let wrong = Refusal::WrongContext { step };
            assert_eq!(world.answer_restored(0, &old).err(), Some(wrong));
            let relabelled = world.answer_restored(0, &forge::relabel(&old, &world.digest())).err();
            let want = match step {
                Step::ShareKeys => Some(Refusal::NotInRoster { index: 0 }),
                Step::MaskedInput => Some(Refusal::AlteredShares { dealer: 1 }),
                Step::ConsistencyCheck => Some(Refusal::SurvivorsSignature { survivors: 5, n: 5 }),
                _ => Some(Refusal::BadSignature { signer: 1 }),
            };
            assert_eq!(relabelled, want, "{step}");
            // The coordinator takes no message of the other attempt either.
            before.play(step, &everybody);
            let replayed = before.parties[2].message();
            let got = match step {
                Step::MaskedInput => world.coordinator().check_input(&world.parties[2].id, &replayed),
                _ => world.send_bytes(step, 2, &replayed),
            };
            assert_eq!(got, Err(sordino_secagg::coordinator::Rejection::WrongContext));
            world.play(step, &everybody);
        }
    }
}

/// An opening of another step, or of another participant.
#[test]
fn openings_out_of_place() {
    let mut world = World::new(context(ONE_OF_FIVE), 5, 40);
    let everybody = [0, 1, 2, 3, 4];
    world.play(Step::AdvertiseKeys, &everybody);
    let mut seen: Vec<(u16, Vec<u8>)> = Vec::new();
    for (step, kind) in Step::ALL.into_iter().skip(1).zip([2u16, 4, 6, 8]) {
        world.close().expect("everybody answered");
        for (got, old) in &seen {
            let source = Malformed::Type { got: *got, expected: kind };
            assert_eq!(world.answer_restored(0, old).err(), Some(Refusal::Malformed { step, source }));
        }
        let for_another = world.opening(step, 1);
        let got = world.answer_restored(0, &for_another).err();
        let want = match step {
            Step::ShareKeys => Some(Refusal::NotInRoster { index: 1 }),
            // Its own shares come first in what participant 1 gets.
            Step::MaskedInput => Some(Refusal::ForeignShares { dealer: 0 }),
            // Everybody gets the same list.
            Step::ConsistencyCheck => None,
            _ => Some(Refusal::ForeignSignature { signer: 0 }),
        };
        assert_eq!(got, want, "{step}");
        seen.push((kind, world.opening(step, 0)));
        world.play(step, &everybody);
    }
}

/// Openings cut at each byte, with a byte too many, or of another version are refused, and none of them panics.
#[test]
fn damaged_openings() {
    let mut world = World::at(Step::ShareKeys, context(NOBODY), 3, 41);
    for step in Step::ALL.into_iter().skip(1) {
        let opening = world.opening(step, 0);
        for len in (0..opening.len()).step_by(1 + opening.len() / 200) {
            let got = world.answer_restored(0, &opening[..len]).err();
            assert!(matches!(&got, Some(Refusal::Malformed { .. })), "{step}, {len} bytes: {got:?}");
        }
        let longer = [&opening[..], &[0]].concat();
        let source = Malformed::Trailing { extra: 1 };
        assert_eq!(world.answer_restored(0, &longer).err(), Some(Refusal::Malformed { step, source }));
        let mut version = opening.clone();
        version[0] = 1;
        let source = Malformed::Version { got: 1, expected: sordino_secagg::VERSION };
        assert_eq!(world.answer_restored(0, &version).err(), Some(Refusal::Malformed { step, source }));
        // A flipped bit is refused, or it is in what the next step's signatures stand for.
        for bit in (0..opening.len() * 8).step_by(1 + opening.len() / 100) {
            let mut flipped = opening.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(world.answer_restored(0, &flipped).is_err(), "{step}, bit {bit}");
        }
        world.play(step, &[0, 1, 2]);
        if step != Step::Unmasking {
            world.close().expect("everybody answered");
        }
    }
}

/// A trust anchor that is not the federation's, on the participant's own side: it believes no neighbour.
#[test]
fn neighbours_of_another_federation() {
    let (mut world, opening) = at(Step::ShareKeys, 42);
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1_042);
    world.anchors = Anchors { authority: signing_key(&mut rng).verifying_key(), registrar: world.anchors.registrar };
    let why = "the authority did not sign the certificate";
    assert_refused(&mut world, 0, &opening, &bad_neighbour("participant-001", why));
}
