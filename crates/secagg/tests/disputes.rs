//! Shares that do not open, and holders that say so of shares that do: who lies is not known, that somebody does is, before
//! anything is revealed. No attempt fails twice over the same two.

mod common;

use common::forge::{Delivered, MaskedInput, ShareKeys, Unmasking};
use common::{ONE_OF_FIVE, World, context};
use sordino_secagg::coordinator::{Abort, Receipt, Rejection};
use sordino_secagg::{Context, Dispute, Disputes, Faults, Malformed, ParticipantId, Step};

/// Of ten one may be corrupt and three may fall silent: everybody is everybody's neighbour, six shares open a secret.
const ONE_CORRUPT: Faults = Faults { corrupt: 1, max_dropout_fraction: 0.3 };
const TEN: [usize; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
/// From MaskedInput on.
const LATER: [Step; 3] = [Step::MaskedInput, Step::ConsistencyCheck, Step::Unmasking];

fn id(at: usize) -> ParticipantId {
    ParticipantId::new(&format!("participant-{at:03}")).expect("a name")
}

fn dispute(dealer: usize, holder: usize) -> Dispute {
    Dispute { dealer: id(dealer), holder: id(holder) }
}

fn without(who: &[usize]) -> Vec<usize> {
    TEN.into_iter().filter(|at| !who.contains(at)).collect()
}

/// Up to MaskedInput, with shares of one dealer that do not open for these holders.
fn spoiled(seed: u64, dealer: usize, holders: &[u32]) -> World {
    let mut world = World::at(Step::ShareKeys, context(ONE_CORRUPT), 10, seed);
    spoil(&mut world, dealer, holders);
    world.play(Step::ShareKeys, &without(&[dealer]));
    world.close().expect("everybody answered");
    world
}

fn spoil(world: &mut World, dealer: usize, holders: &[u32]) {
    let opening = world.opening(Step::ShareKeys, dealer);
    world.answer(dealer, &opening).expect("an honest coordinator");
    let mut message = ShareKeys::read(&world.parties[dealer].message());
    for record in message.records.iter_mut().filter(|record| holders.contains(&record.holder)) {
        record.sealed[30] ^= 1;
    }
    let message = message.sign(&world.parties[dealer].key);
    assert_eq!(world.send_bytes(Step::ShareKeys, dealer, &message), Ok(Receipt::Accepted));
}

/// Sends an input that complains about these dealers; its bytes are what they would be.
fn complains(world: &mut World, holder: usize, about: &[u32]) -> Result<Receipt, Rejection> {
    let opening = world.opening(Step::MaskedInput, holder);
    world.answer(holder, &opening).expect("an honest coordinator");
    let header = MaskedInput::read(&world.parties[holder].message());
    let header = MaskedInput { complaints: about.to_vec(), ..header }.sign(&world.parties[holder].key);
    let packed = world.parties[holder].upload.clone();
    world.send_input(holder, &header, &packed)
}

/// Ten shared honestly, and one complains about one, whose shares it holds.
fn framed(seed: u64, dealer: u32, holder: usize) -> World {
    let mut world = World::at(Step::MaskedInput, context(ONE_CORRUPT), 10, seed);
    assert_eq!(complains(&mut world, holder, &[dealer]), Ok(Receipt::Accepted));
    world
}

/// Plays on, with those silent from that step on; `framer`, whose state knows nothing of its complaint, reveals all but one.
/// The end of the attempt, and the step after which it came.
fn go_on(world: &mut World, from: Step, silent: &[usize], framer: Option<(usize, u32)>) -> Result<(), (Step, Abort)> {
    for step in LATER {
        let masked = framer.map(|(holder, _)| holder).filter(|_| step == Step::MaskedInput);
        let reveals = framer.filter(|_| step == Step::Unmasking);
        let away = |at: &usize| step >= from && silent.contains(at) || masked == Some(*at);
        let apart = reveals.map(|(holder, _)| holder);
        let left: Vec<usize> = TEN.into_iter().filter(|at| !away(at) && apart != Some(*at)).collect();
        world.play(step, &left);
        if let Some((holder, dealer)) = reveals {
            let opening = world.opening(step, holder);
            world.answer(holder, &opening).expect("an honest coordinator");
            let mut message = Unmasking::read(&world.parties[holder].message());
            message.shares.retain(|share| share.dealer != dealer);
            let message = message.sign(&world.parties[holder].key);
            assert_eq!(world.send_bytes(step, holder, &message), Ok(Receipt::Accepted));
        }
        assert_eq!(world.coordinator().reveals(), step == Step::Unmasking, "{step}");
        world.close().map_err(|abort| (step, abort))?;
    }
    assert!(world.coordinator().reveals());
    Ok(())
}

/// The next attempt keeps the two sides apart, and the same three fall silent at the same step.
fn next_attempt_completes(world: &World, abort: &Abort, from: Step, seed: u64) {
    let Abort::Disputed { disputes } = abort else { unreachable!("it ended in dispute: {abort:?}") };
    assert_eq!(abort.culprits(), []);
    let disputes: Disputes = disputes.iter().cloned().collect();
    let cohort = disputes.apart(TEN.into_iter().map(id));
    assert_eq!(cohort.len(), 9);
    let left: Vec<usize> = TEN.into_iter().filter(|at| cohort.contains(&id(*at))).collect();
    let mut next = world.again(Context { attempt: 2, ..context(ONE_CORRUPT) }, seed);
    for step in Step::ALL {
        let play: Vec<usize> = left.iter().copied().filter(|at| step < from || ![2, 3].contains(at)).collect();
        next.play(step, &play);
        next.close().expect("two of nine may fall silent");
    }
    let masked: Vec<usize> = left.into_iter().filter(|at| from > Step::MaskedInput || ![2, 3].contains(at)).collect();
    assert_eq!(next.open(), Ok(next.plain_sum(&masked)));
}

/// A dealer spoils as few pairs as may be corrupt, and honest participants fall silent later: the attempt ends before
/// anything more is said, with the two of whom one lies; and never again over them.
#[test]
fn a_spoiled_pair_and_silence_end_in_a_dispute_at_every_step() {
    for from in LATER {
        let mut world = spoiled(40, 9, &[0]);
        let (step, abort) = go_on(&mut world, from, &[1, 2, 3], None).expect_err("five of six helpers");
        assert_eq!((step, &abort), (from, &Abort::Disputed { disputes: vec![dispute(9, 0)] }));
        assert_eq!(
            abort.to_string(),
            "too few shares are good, and one side lies in each of these: participant-000 says that what participant-009 \
             dealt it does not open"
        );
        next_attempt_completes(&world, &abort, from, 41);
    }
}

/// A holder says of shares that open that they do not: the same, and it is its word against the dealer's.
#[test]
fn a_false_complaint_and_silence_end_in_a_dispute_at_every_step() {
    for from in LATER {
        let mut world = framed(42, 0, 9);
        let (step, abort) = go_on(&mut world, from, &[1, 2, 3], Some((9, 0))).expect_err("five of six helpers");
        assert_eq!((step, &abort), (from, &Abort::Disputed { disputes: vec![dispute(0, 9)] }));
        next_attempt_completes(&world, &abort, from, 43);
    }
}

/// With helpers enough a complaint costs nobody anything, and is kept.
#[test]
fn a_dispute_need_not_end_an_attempt() {
    let mut world = spoiled(44, 9, &[0, 4]);
    go_on(&mut world, Step::Unmasking, &[5], None).expect("six helpers are left");
    let disputes = world.coordinator().disputes();
    assert_eq!(disputes, [dispute(9, 0), dispute(9, 4)]);
    assert_eq!(disputes.into_iter().collect::<Disputes>().guilty(1), [id(9)].into());
    assert_eq!(world.open(), Ok(world.plain_sum(&TEN)));
}

/// Where too many fall silent anyway, complaints are not the reason.
#[test]
fn silence_is_not_blamed_on_a_dispute() {
    let mut world = spoiled(45, 9, &[0]);
    let (_, abort) = go_on(&mut world, Step::ConsistencyCheck, &[1, 2, 3, 4, 5], None).expect_err("too few");
    assert_eq!(abort, Abort::TooFew { step: Step::ConsistencyCheck, answered: 5, needed: 6 });
    let mut world = spoiled(46, 9, &[0]);
    let (_, abort) = go_on(&mut world, Step::ConsistencyCheck, &[1, 2, 3, 4], None).expect_err("too few");
    assert_eq!(abort, Abort::TooFewShares { dealer: id(0), available: 5, threshold: 6 });
}

/// More holders than may be corrupt do not all lie.
#[test]
fn a_dealer_whose_shares_do_not_open_for_many_is_named_before_anything_is_revealed() {
    let mut world = spoiled(47, 9, &[0, 1]);
    let (step, abort) = go_on(&mut world, Step::MaskedInput, &[2, 3], None).expect_err("five of six helpers");
    assert_eq!((step, abort), (Step::MaskedInput, Abort::BadDealers { culprits: vec![id(9)] }));

    // Nobody may be corrupt, and two of four pairs are garbled, of each of two dealers: nobody refuses for that, or the two
    // would end every attempt and nobody would know who they are. Masks are put on, and the two are named.
    let mut world = World::at(Step::ShareKeys, context(ONE_OF_FIVE), 5, 14);
    world.play(Step::ShareKeys, &[0, 1, 2]);
    [3, 4].into_iter().for_each(|dealer| spoil(&mut world, dealer, &[0, 1, 2, 3, 4]));
    world.close().expect("everybody answered");
    world.play(Step::MaskedInput, &[0, 1, 2, 3, 4]);
    assert_eq!(world.coordinator().disputes().len(), 8);
    assert_eq!(world.close(), Err(Abort::BadDealers { culprits: vec![id(3), id(4)] }));
}

/// What a holder said with its input binds it: it neither leaves a dealer out later nor helps one it complained about.
#[test]
fn a_holder_reveals_what_it_said_to_be_good() {
    let mut world = World::at(Step::Unmasking, context(ONE_CORRUPT), 10, 48);
    for at in TEN {
        let opening = world.opening(Step::Unmasking, at);
        world.answer(at, &opening).expect("an honest coordinator");
    }
    let honest = Unmasking::read(&world.parties[9].message());
    for dealer in [0, 5, 8] {
        let mut lie = honest.clone();
        lie.shares.retain(|share| share.dealer != dealer);
        let lie = lie.sign(&world.parties[9].key);
        assert_eq!(world.send_bytes(Step::Unmasking, 9, &lie), Err(Rejection::MissingShare { dealer }));
    }
    let nothing = Unmasking { shares: Vec::new(), ..honest }.sign(&world.parties[9].key);
    assert_eq!(world.send_bytes(Step::Unmasking, 9, &nothing), Err(Rejection::MissingShare { dealer: 0 }));
    // It costs nobody but itself: the others are enough.
    for at in without(&[9]) {
        assert_eq!(world.send(at), Ok(Receipt::Accepted));
    }
    world.close().expect("enough shares");
    assert_eq!(world.open(), Ok(world.plain_sum(&TEN)));

    let mut world = framed(49, 3, 9);
    world.play(Step::MaskedInput, &without(&[9]));
    world.close().expect("enough helpers");
    world.play(Step::ConsistencyCheck, &TEN);
    world.close().expect("everybody answered");
    let opening = world.opening(Step::Unmasking, 9);
    world.answer(9, &opening).expect("an honest coordinator");
    assert_eq!(world.send(9), Err(Rejection::ForeignShare { dealer: 3 }));
}

/// Complaints are about those who dealt the sender shares, each once; and nobody else writes them.
#[test]
fn a_complaint_is_signed_and_about_a_dealer() {
    let mut world = World::at(Step::ShareKeys, context(ONE_CORRUPT), 10, 50);
    world.play(Step::ShareKeys, &TEN[..9]);
    world.close().expect("nine of ten");
    let opening = world.opening(Step::MaskedInput, 2);
    assert_eq!(Delivered::read(&opening).deliveries.len(), 8);
    world.answer(2, &opening).expect("an honest coordinator");
    let (honest, packed) = (MaskedInput::read(&world.parties[2].message()), world.parties[2].upload.clone());
    assert!(honest.complaints.is_empty());
    let key = world.parties[2].key.clone();
    let header = |about: &[u32]| MaskedInput { complaints: about.to_vec(), ..honest.clone() }.sign(&key);
    // Itself, one that shared nothing, nobody.
    for dealer in [2, 9, 10, u32::MAX] {
        let foreign = Err(Rejection::ForeignComplaint { dealer });
        assert_eq!(world.send_input(2, &header(&[0, dealer]), &packed), foreign);
    }
    for twice in [&[1, 1][..], &[3, 1]] {
        let malformed = Malformed::Value { field: "complaints" };
        assert_eq!(world.send_input(2, &header(twice), &packed), Err(malformed.into()));
    }
    let many: Vec<u32> = (0..4_097).collect();
    let malformed = Malformed::TooLong { field: "complaints", len: 4_097, max: 4_096 };
    assert_eq!(world.send_input(2, &header(&many), &packed), Err(malformed.into()));
    // The network adds a complaint, or exchanges one.
    let mut changed = header(&[1]);
    let at = changed.len() - 64 - 4;
    changed[at] = 3;
    assert_eq!(world.send_input(2, &changed, &packed), Err(Rejection::BadSignature));
    let signature = world.parties[2].message();
    let added = [&header(&[1])[..at + 4], &signature[signature.len() - 64..]].concat();
    assert_eq!(world.send_input(2, &added, &packed), Err(Rejection::BadSignature));
    assert_eq!(world.coordinator().disputes(), []);

    assert_eq!(world.send_input(2, &header(&[1, 8]), &packed), Ok(Receipt::Accepted));
    assert_eq!(world.send_input(2, &header(&[1, 8]), &packed), Ok(Receipt::Duplicate));
    let other = Err(Rejection::AlreadySubmitted { step: Step::MaskedInput });
    assert_eq!(world.send_input(2, &header(&[1]), &packed), other);
    assert_eq!(world.coordinator().disputes(), [dispute(1, 2), dispute(8, 2)]);
}

/// A step waits for those whose help is needed: who answers and complains is none of them.
#[test]
fn a_quorum_of_answers_is_none_without_good_helpers() {
    let mut world = World::new(context(ONE_CORRUPT), 10, 51).with_quorum(7);
    world.play_until(Step::MaskedInput);
    assert_eq!(complains(&mut world, 9, &[0]), Ok(Receipt::Accepted));
    world.play(Step::MaskedInput, &[0, 4, 5, 6, 7, 8]);
    assert!(!world.coordinator().is_due(99), "participant 0 has five helpers");
    world.play(Step::MaskedInput, &[1]);
    assert!(world.coordinator().is_due(10) && !world.coordinator().is_due(9), "a grace after the sixth");
    world.play(Step::MaskedInput, &[2]);
    world.close().expect("enough helpers");
    world.play(Step::ConsistencyCheck, &[9, 0, 4, 5, 6, 7, 8]);
    assert!(!world.coordinator().is_due(99), "participant 0 has five helpers");
    world.play(Step::ConsistencyCheck, &[1]);
    assert!(world.coordinator().is_due(10), "a grace after the sixth");
}
