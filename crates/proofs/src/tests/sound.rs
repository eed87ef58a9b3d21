//! Changed and forged proofs are refused.

use curve25519_dalek::ristretto::CompressedRistretto;
use curve25519_dalek::scalar::Scalar;

use super::forge::Forger;
use super::*;
use crate::field::signed;
use crate::proof::{Finish, Malformed, Step};
use crate::sum::{CommitmentSum, SumError};
use crate::verifier::Check;

fn scalars(vector: &[i64]) -> Vec<Scalar> {
    vector.iter().map(|&integer| signed(integer.into())).collect()
}

/// The cheat is refused with this, and would pass if the verifier left out that check.
#[track_caller]
fn only_one_check_refuses(forger: &Forger<'_>, check: Check, rejection: Rejection) {
    let forged = forger.forge(&CONTEXT, &mut rng(77));
    assert_eq!(forger.case.verify(&forged, CONTEXT).map(drop), Err(rejection));
    let mut blind = forger.case.verifier();
    blind.without = Some(check);
    let submission = Submission { context: CONTEXT, commitments: &forged.0, proof: &forged.1 };
    blind.verify(&submission, ONE).expect("nothing else is wrong with it");
}

/// Every element of 32 bytes behind the version, changed in every way.
fn changes(bytes: &[u8], first: usize) -> impl Iterator<Item = (usize, Vec<u8>)> + '_ {
    let elements = (first..bytes.len()).step_by(32);
    elements.flat_map(move |at| {
        let element: [u8; 32] = bytes[at..at + 32].try_into().expect("32 bytes");
        let mut changed: Vec<[u8; 32]> = Vec::new();
        if let Some(point) = CompressedRistretto(element).decompress() {
            changed.extend([point + point, -point].map(|point| point.compress().0));
        }
        if let Some(scalar) = Scalar::from_canonical_bytes(element).into_option() {
            changed.extend(
                [scalar + Scalar::ONE, scalar - Scalar::ONE, -scalar, Scalar::ZERO].map(|scalar| scalar.to_bytes()),
            );
        }
        for bit in [0, 100, 255] {
            let mut flipped = element;
            flipped[bit / 8] ^= 1 << (bit % 8);
            changed.push(flipped);
        }
        // The group order itself, the largest string, and the element's other name modulo the order.
        let mut order = (-Scalar::ONE).to_bytes();
        changed.push(order);
        order[0] += 1;
        changed.extend([order, [0xff; 32], plus(element, order)]);
        changed.into_iter().filter(move |changed| *changed != element).map(move |changed| {
            let mut bytes = bytes.to_vec();
            bytes[at..at + 32].copy_from_slice(&changed);
            (at, bytes)
        })
    })
}

/// The sum of two strings as little-endian integers.
fn plus(a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
    let mut carry = 0;
    std::array::from_fn(|at| {
        let sum = u16::from(a[at]) + u16::from(b[at]) + carry;
        carry = sum >> 8;
        sum.to_le_bytes()[0]
    })
}

#[test]
fn every_element_changed_is_refused() {
    for setting in [Setting::Fast, Setting::Small] {
        let (case, vector) = rich(setting);
        let (commitments, proof) = case.prove(&vector, &CONTEXT, 4);
        let whole = case.verifier();
        // The range proof goes on with the transcript and would notice any change before it: the rest has to do without.
        let mut alone = case.verifier();
        alone.without = Some(Check::Bound);
        let by = |verifier: &Verifier<'_>, commitments: &[u8], proof: &[u8]| {
            let Ok(commitments) = Commitments::from_bytes(&case.claim, commitments) else { return true };
            let Ok(proof) = Proof::from_bytes(&case.claim, proof) else { return true };
            let submission = Submission { context: CONTEXT, commitments: &commitments, proof: &proof };
            verifier.verify(&submission, ONE).is_err()
        };
        let refused = |commitments: &[u8], proof: &[u8]| by(&alone, commitments, proof);
        let (commitments, proof) = (commitments.to_bytes(), proof.to_bytes());
        assert!(!refused(&commitments, &proof));
        let mut tried = 0;
        for (at, changed) in changes(&commitments, 2) {
            assert!(refused(&changed, &proof), "commitments, byte {at}");
            tried += 1;
        }
        // The projections, of 16 bytes each.
        let behind = 2 + 16 * crate::projection::ROWS;
        for at in (2..behind).step_by(16) {
            let value = i128::from_le_bytes(proof[at..at + 16].try_into().expect("16 bytes"));
            for changed in [value + 1, value - 1, -value, 0, i128::MAX, i128::MIN] {
                let mut bytes = proof.clone();
                bytes[at..at + 16].copy_from_slice(&changed.to_le_bytes());
                assert!(refused(&commitments, &bytes), "projection at byte {at}");
                tried += 1;
            }
        }
        // The range proof ends the proof, and begins with a tag of one byte.
        let bounds = proof.len() - case.prove(&vector, &CONTEXT, 4).1.bounds.len();
        assert_eq!((bounds - behind) % 32, 0);
        for (at, changed) in changes(&proof[..bounds], behind) {
            assert!(refused(&commitments, &[&changed, &proof[bounds..]].concat()), "proof, byte {at}");
            tried += 1;
        }
        for tag in 0..=255 {
            let mut bytes = proof.clone();
            bytes[bounds] = tag;
            assert_eq!(by(&whole, &commitments, &bytes), tag != proof[bounds], "tag {tag}");
        }
        for (at, changed) in changes(&proof, bounds + 1) {
            assert!(by(&whole, &commitments, &changed), "range proof, byte {at}");
            tried += 1;
        }
        assert!(tried > 1500, "{tried}");
        for len in [0, 1, 2, proof.len() - 1, proof.len() - 32] {
            assert!(refused(&commitments, &proof[..len]));
            assert!(refused(&commitments[..len.min(commitments.len() - 1)], &proof));
        }
        assert!(refused(&commitments, &[&proof[..], &[0]].concat()));
        for version in [0u16, 2, u16::MAX] {
            assert!(refused(&[&version.to_le_bytes(), &commitments[2..]].concat(), &proof));
            assert!(refused(&commitments, &[&version.to_le_bytes(), &proof[2..]].concat()));
        }
    }
}

/// Changes the product, the steps, and the last two scalars of an inner-product argument.
type ChangeFinish<'a> = dyn Fn(&mut Scalar, &mut [Step], &mut Scalar, &mut Scalar) + 'a;

/// Were a challenge drawn before all that it is about, a cheat could choose the rest to suit it.
#[test]
fn no_challenge_is_drawn_before_what_it_is_about() {
    for setting in [Setting::Fast, Setting::Small] {
        let (case, vector) = rich(setting);
        let (commitments, proof) = case.prove(&vector, &CONTEXT, 4);
        let verifier = case.verifier();
        let challenges = |commitments: &Commitments, proof: &Proof| {
            verifier.challenges(&Submission { context: CONTEXT, commitments, proof }).expect("points and scalars")
        };
        let before = challenges(&commitments, &proof);
        let unchanged = |commitments: &Commitments, proof: &Proof| {
            let after = challenges(commitments, proof);
            assert_eq!(before.len(), after.len());
            before.iter().zip(&after).take_while(|(before, after)| before == after).count()
        };
        assert_eq!(unchanged(&commitments, &proof), before.len());

        let mut spec = case.claim.spec().clone();
        spec.segments[1].bound.constant += 1;
        let wider = Case::new(spec);
        let submission = Submission { context: CONTEXT, commitments: &commitments, proof: &proof };
        let after = wider.verifier().challenges(&submission).expect("it has the same parts");
        assert_ne!(before[0], after[0], "the claim");

        let other = |point: &mut CompressedRistretto| {
            *point = (case.generators.value() + point.decompress().expect("a point")).compress();
        };
        for at in 0..commitments.rows.len() + commitments.masks.len() {
            let mut changed = commitments.clone();
            other(changed.rows.iter_mut().chain(&mut changed.masks).nth(at).expect("one of them"));
            assert_eq!(unchanged(&changed, &proof), 0, "commitment {at}");
        }
        let changed = |change: &dyn Fn(&mut Proof)| {
            let mut proof = proof.clone();
            change(&mut proof);
            unchanged(&commitments, &proof)
        };
        for at in 0..proof.projections.len() {
            assert_eq!(changed(&|proof| proof.projections[at] ^= 1), 1, "projection {at}");
        }
        for at in 0..proof.slacks.len() {
            assert_eq!(changed(&|proof| other(&mut proof.slacks[at])), 1, "slack {at}");
        }
        let ranges = |proof: &Proof| proof.ranges.clone().expect("there are ranges");
        for at in 0..ranges(&proof).rows.len() {
            assert_eq!(
                changed(&|proof| other(&mut proof.ranges.as_mut().expect("ranges").rows[at])),
                1,
                "range row {at}"
            );
        }
        // The weights, of which there are so many: projections and ranges, each bound, padding, bits.
        let weights = 1 + 2 + proof.slacks.len() + 3;
        assert_eq!(changed(&|proof| other(&mut proof.ranges.as_mut().expect("ranges").share)), weights);

        let argument = |of: &dyn Fn(&mut Proof) -> &mut crate::proof::ArgumentProof, first: usize| {
            let argument = of(&mut proof.clone()).clone();
            let firsts = usize::from(!argument.first.is_empty());
            for at in 0..argument.first.len() {
                assert_eq!(changed(&|proof| other(&mut of(proof).first[at])), first, "cross term {at}");
            }
            let folds = first + firsts;
            for at in 0..argument.folds.len() {
                for side in [0, 1] {
                    assert_eq!(changed(&|proof| other(&mut of(proof).folds[at][side])), folds + at, "fold {at}");
                }
            }
            let last = folds + argument.folds.len();
            for at in 0..4 {
                assert_eq!(changed(&|proof| other(&mut of(proof).last_masks[at])), last, "last mask {at}");
            }
            let answered = last + 1;
            for at in 0..3 {
                assert_eq!(changed(&|proof| of(proof).blindings[at] += Scalar::ONE), answered, "blinding {at}");
            }
            match argument.finish {
                Finish::Rows { x, .. } => {
                    for at in 0..x.len() {
                        let answers = |change: &dyn Fn(&mut Vec<Scalar>, &mut Vec<Scalar>)| {
                            changed(&|proof| {
                                let Finish::Rows { x, x_down } = &mut of(proof).finish else { unreachable!() };
                                change(x, x_down);
                            })
                        };
                        assert_eq!(answers(&|x, _| x[at] += Scalar::ONE), answered);
                        assert_eq!(answers(&|_, x_down| x_down[at] += Scalar::ONE), answered);
                    }
                    answered
                }
                Finish::InnerProduct { steps, .. } => {
                    let in_finish = |change: &ChangeFinish<'_>| {
                        changed(&|proof| {
                            let Finish::InnerProduct { product, steps, x, x_down } = &mut of(proof).finish else {
                                unreachable!()
                            };
                            change(product, steps, x, x_down);
                        })
                    };
                    assert_eq!(in_finish(&|product, _, _, _| *product += Scalar::ONE), answered);
                    for at in 0..steps.len() {
                        for side in [0, 1] {
                            assert_eq!(in_finish(&|_, steps, _, _| other(&mut steps[at].x[side])), answered + at);
                            assert_eq!(in_finish(&|_, steps, _, _| other(&mut steps[at].x_down[side])), answered + at);
                            assert_eq!(
                                in_finish(&|_, steps, _, _| steps[at].product[side] += Scalar::ONE),
                                answered + at
                            );
                        }
                    }
                    let end = answered + steps.len();
                    assert_eq!(in_finish(&|_, _, x, _| *x += Scalar::ONE), end);
                    assert_eq!(in_finish(&|_, _, _, x_down| *x_down += Scalar::ONE), end);
                    end
                }
            }
        };
        let behind_main = argument(&|proof| &mut proof.main, weights);
        let end = argument(&|proof| &mut proof.ranges.as_mut().expect("ranges").argument, behind_main);
        assert_eq!(end + 1, before.len(), "the last one is what the range proof goes on with");
    }
}

#[test]
fn a_proof_belongs_to_one_participant_round_task_and_policy() {
    let (case, vector) = rich(Setting::Fast);
    let proof = case.prove(&vector, &CONTEXT, 4);
    case.verify(&proof, CONTEXT).expect("honest");
    for context in [
        Context { federation: "clinic", ..CONTEXT },
        Context { task: "task-2", ..CONTEXT },
        Context { federation: "clinicst", task: "ask-1", ..CONTEXT },
        Context { round: 8, ..CONTEXT },
        Context { round: 7 << 32, ..CONTEXT },
        Context { attempt: 1, ..CONTEXT },
        Context { participant: b"site-2", ..CONTEXT },
        Context { participant: b"", ..CONTEXT },
        Context { policy: [3; 32], ..CONTEXT },
        Context { session: [3; 32], ..CONTEXT },
        Context { policy: CONTEXT.session, session: CONTEXT.policy, ..CONTEXT },
    ] {
        assert_eq!(case.verify(&proof, context).map(drop), Err(Rejection::Argument), "{context:?}");
    }
}

#[test]
fn a_proof_belongs_to_one_claim() {
    let spec = |change: fn(&mut ClaimSpec)| {
        let (case, _) = rich(Setting::Fast);
        let mut spec = case.claim.spec().clone();
        change(&mut spec);
        Case::new(spec)
    };
    let (case, vector) = rich(Setting::Fast);
    let proof = case.prove(&vector, &CONTEXT, 4);
    spec(|_| {}).verify(&proof, CONTEXT).expect("the same claim");
    for (at, other) in [
        spec(|spec| spec.segments[0].bound.constant += 1),
        spec(|spec| spec.segments[1].bound.per_square += 1),
        spec(|spec| spec.segments[1].bound.per_weight += 1),
        spec(|spec| spec.segments[1].bound.scale_bits -= 1),
        spec(|spec| (spec.segments[0].len, spec.segments[1].len) = (19, 8)),
        spec(|spec| spec.weight = Some(Interval { low: 0, high: 4 })),
        spec(|spec| spec.values[0].high += 1),
        spec(|spec| spec.values.swap(0, 2)),
        spec(|spec| spec.entries = Some(Interval { low: -10, high: 9 })),
        spec(|spec| spec.setting = Setting::Small),
        spec(|spec| spec.entries = None),
    ]
    .into_iter()
    .enumerate()
    {
        let rejection = other.verify(&proof, CONTEXT).map(drop).expect_err("another claim");
        assert!(matches!(rejection, Rejection::Argument | Rejection::Shape), "{at}: {rejection}");
    }
}

#[test]
#[should_panic(expected = "generators were made for a smaller claim")]
fn generators_of_a_smaller_claim_verify_nothing() {
    let (large, small) = (Case::new(plain(100, 9)), Case::new(plain(4, 9)));
    let _ = Verifier::new(&large.claim, &small.generators, ONE);
}

#[test]
fn rows_in_another_order_are_refused() {
    let vector = entries(&mut rng(3), 64, 8);
    let case = Case::new(plain(64, squared(&vector)));
    let (commitments, proof) = case.prove(&vector, &CONTEXT, 4);
    for a in 0..case.claim.rows() {
        for b in 0..a {
            let mut commitments = commitments.clone();
            commitments.rows.swap(a, b);
            assert_eq!(case.verify(&(commitments, proof.clone()), CONTEXT).map(drop), Err(Rejection::Argument));
        }
    }
}

#[test]
fn identity_and_strings_that_are_no_points_are_named() {
    let (case, vector) = rich(Setting::Fast);
    let (commitments, proof) = case.prove(&vector, &CONTEXT, 4);
    let mut bytes = commitments.to_bytes();
    bytes[2..34].fill(0);
    assert_eq!(Commitments::from_bytes(&case.claim, &bytes), Err(Malformed::Identity { field: "a row commitment" }));
    // Negative, and no canonical field element (RFC 9496, A.3).
    for wrong in [[1u8; 32], [0xff; 32]] {
        bytes[2..34].copy_from_slice(&wrong);
        let commitments = Commitments::from_bytes(&case.claim, &bytes).expect("looked at when it is used");
        let rejection = case.verify(&(commitments.clone(), proof.clone()), CONTEXT).map(drop);
        assert_eq!(rejection, Err(Rejection::Malformed(Malformed::Point { field: "a row commitment" })));
        let unproven = CommitmentSum::new(&case.claim).add_unproven(&commitments);
        assert_eq!(unproven, Err(SumError::Malformed(Malformed::Point { field: "a row commitment" })));
    }
}

/// The attack known from the field: a squared norm of 300,000 "proven" to be within 1. Every way to finish such a proof is
/// refused by one check, and nothing else is wrong with it.
#[test]
fn a_norm_far_beyond_its_bound_is_refused_however_it_is_forged() {
    let mut vector = vec![100; 30];
    vector.push(0);
    assert_eq!(squared(&vector), 300_000);
    for setting in [Setting::Fast, Setting::Small] {
        let case = Case::new(ClaimSpec { setting, ..plain(31, 1) });
        let forger = || Forger::of(&case, &scalars(&vector), &mut rng(5));
        // The true slack is 1 - 300,000: a range proof of another number.
        let true_slack = Forger { proven_slacks: Some(vec![Scalar::ZERO]), ..forger() };
        only_one_check_refuses(&true_slack, Check::Bound, Rejection::Bound);
        // A slack in range that is not the true one.
        let lie = |lie| Forger { slacks: vec![Scalar::ONE], lie, ..forger() };
        only_one_check_refuses(&lie(None), Check::Value, Rejection::Argument);
        only_one_check_refuses(&lie(Some(Check::Row)), Check::Row, Rejection::Argument);
        only_one_check_refuses(&lie(Some(Check::SecondRow)), Check::SecondRow, Rejection::Argument);
        if setting == Setting::Small {
            only_one_check_refuses(&lie(Some(Check::Product)), Check::Product, Rejection::Argument);
        }
    }
}

#[test]
fn a_norm_one_beyond_its_bound_is_refused() {
    for setting in [Setting::Fast, Setting::Small] {
        let vector = entries(&mut rng(6), 100, 9);
        let case = Case::new(ClaimSpec { setting, ..plain(100, squared(&vector) - 1) });
        let forger = Forger::of(&case, &scalars(&vector), &mut rng(5));
        assert_eq!(forger.slacks, [-Scalar::ONE]);
        only_one_check_refuses(
            &Forger { proven_slacks: Some(vec![Scalar::ZERO]), ..forger },
            Check::Bound,
            Rejection::Bound,
        );
        let forger = Forger::of(&case, &scalars(&vector), &mut rng(5));
        only_one_check_refuses(&Forger { slacks: vec![Scalar::ZERO], ..forger }, Check::Value, Rejection::Argument);
    }
}

/// `a^2 + b^2 = l`, the group order: modulo `l` this vector has norm 0, and is within every bound.
#[test]
fn squares_that_wrap_around_are_refused_by_the_projections() {
    let (a, b) = (0x3e98_ebc0_50ce_e193_3351_5209_df4f_a61e_u128, 0x0d53_5bbf_3fdb_25f5_8273_8be6_41f9_ce93_u128);
    let vector = [Scalar::from(a), Scalar::from(b), Scalar::ZERO];
    assert_eq!(vector[0] * vector[0] + vector[1] * vector[1], Scalar::ZERO);
    for setting in [Setting::Fast, Setting::Small] {
        let case = Case::new(ClaimSpec { setting, ..plain(3, 1) });
        let forger = Forger::of(&case, &vector, &mut rng(5));
        assert_eq!(forger.slacks, [Scalar::ONE]);
        let forged = forger.forge(&CONTEXT, &mut rng(1));
        let first =
            forged.1.projections.iter().position(|z| z.unsigned_abs() > crate::projection::MASKED_MAX.unsigned_abs());
        let rejection = Rejection::Projection { row: first.expect("every second one is") };
        only_one_check_refuses(&forger, Check::Projection, rejection);
        // Projections that are in range, and not those of the vector.
        let forger = Forger { projections: Some([1 << 100; crate::projection::ROWS]), ..forger };
        only_one_check_refuses(&forger, Check::Value, Rejection::Argument);
    }
}

/// Entries next to the group order, and a pair on the unit circle of the field: `x^2 + y^2 = 1` modulo `l`.
#[test]
fn entries_of_the_size_of_the_group_order_are_refused() {
    let t = Scalar::from(5u64);
    let denominator = (Scalar::ONE + t * t).invert();
    let circle = [(Scalar::ONE - t * t) * denominator, (t + t) * denominator];
    assert_eq!(circle[0] * circle[0] + circle[1] * circle[1], Scalar::ONE);
    let case = Case::new(plain(2, 1));
    let forger = Forger::of(&case, &circle, &mut rng(5));
    assert_eq!(forger.slacks, [Scalar::ZERO]);
    only_one_check_refuses(&forger, Check::Value, Rejection::Argument);
}

/// A range is one equation for the integer and one for each of its bits.
#[test]
fn integers_outside_of_their_ranges_are_refused() {
    let (case, vector) = rich(Setting::Fast);
    let beyond = |at: usize, value: i64| {
        let mut vector = vector.clone();
        vector[at] = value;
        vector
    };
    // Bits of another integer than the committed one: an entry, the weight (a bound that is too wide), a value.
    for changed in [beyond(0, 11), beyond(27, 6), beyond(28, 5), beyond(29, 8), beyond(30, -1)] {
        let forger = Forger::of(&case, &scalars(&changed), &mut rng(5)).with_bits(&vector);
        only_one_check_refuses(&forger, Check::Value, Rejection::Argument);
    }
    // "Bits" that make the integer: 2 for the lowest of the weight, which is 1 + 2 + 1 + 2.
    let changed = beyond(27, 6);
    let mut forger = Forger::of(&case, &scalars(&changed), &mut rng(5)).with_bits(&beyond(27, 5));
    assert_eq!(forger.bits[0], Scalar::ONE);
    forger.bits[0] = Scalar::from(2u64);
    only_one_check_refuses(&forger, Check::Value, Rejection::Argument);
}

#[test]
fn integers_beside_the_vector_are_refused() {
    let (case, vector) = rich(Setting::Fast);
    let layout = case.claim.layout();
    // Behind each segment's entries, beside the weight, and behind the values.
    let behind = layout.segments.iter().map(|&(first, len)| (first + len / layout.row_len, len % layout.row_len));
    for (row, column) in behind.chain([(layout.model_rows, 1), (layout.model_rows + 1, 3)]) {
        let mut forger = Forger::of(&case, &scalars(&vector), &mut rng(5)).with_bits(&vector);
        forger.rows.data[row * layout.row_len + column] = Scalar::ONE;
        forger.slacks = forger.true_slacks();
        only_one_check_refuses(&forger, Check::Value, Rejection::Argument);
    }
}

/// What stands behind a segment's entries is in nobody's sum, and has to be 0: a small number that the bound has room for is
/// refused, and so are two whose squares add up to 0 modulo the group order.
#[test]
fn nothing_behind_a_segments_entries_can_hide_its_norm() {
    let (a, b) = (0x3e98_ebc0_50ce_e193_3351_5209_df4f_a61e_u128, 0x0d53_5bbf_3fdb_25f5_8273_8be6_41f9_ce93_u128);
    for setting in [Setting::Fast, Setting::Small] {
        let case = Case::new(ClaimSpec { setting, ..plain(5, 25) });
        let end = case.claim.layout().model_rows * case.claim.layout().row_len;
        let forger = |behind: [Scalar; 2]| {
            let mut forger = Forger::of(&case, &scalars(&[3, 0, 0, 0, 0]), &mut rng(5));
            forger.rows.data[end - 2..end].copy_from_slice(&behind);
            forger.slacks = forger.true_slacks();
            forger
        };
        let small = forger([Scalar::ZERO, Scalar::from(4u64)]);
        assert_eq!(small.slacks, [Scalar::ZERO]);
        only_one_check_refuses(&small, Check::Value, Rejection::Argument);
        let wrapping = forger([Scalar::from(a), Scalar::from(b)]).forge(&CONTEXT, &mut rng(1));
        assert!(matches!(case.verify(&wrapping, CONTEXT).map(drop), Err(Rejection::Projection { .. })));
    }
}

#[test]
fn a_batch_names_the_bad_ones() {
    let vector = vec![3, 4, 0];
    let case = Case::new(plain(3, 25));
    let names: Vec<_> = (0..9u8).map(|at| [at]).collect();
    let contexts: Vec<_> = names.iter().map(|name| Context { participant: name, ..CONTEXT }).collect();
    let mut proofs: Vec<_> = contexts.iter().map(|context| case.prove(&vector, context, 1)).collect();
    proofs[1].1.main.blindings[0] += Scalar::ONE;
    proofs[3].1.projections[5] = i128::MAX;
    proofs[4].1.bounds[40] ^= 1;
    proofs[6].1.main.folds.clear();
    proofs[8].0.rows[1] = CompressedRistretto([1; 32]);
    let submissions: Vec<_> = proofs
        .iter()
        .zip(&contexts)
        .map(|((commitments, proof), &context)| Submission { context, commitments, proof })
        .collect();
    let results: Vec<_> =
        case.verifier().verify_batch(&submissions, ONE).into_iter().map(|result| result.map(drop)).collect();
    let want = [
        Ok(()),
        Err(Rejection::Argument),
        Ok(()),
        Err(Rejection::Projection { row: 5 }),
        Err(Rejection::Bound),
        Ok(()),
        Err(Rejection::Shape),
        Ok(()),
        Err(Rejection::Malformed(Malformed::Point { field: "a row commitment" })),
    ];
    assert_eq!(results, want);
    assert!(case.verifier().verify_batch(&[], ONE).is_empty());
}

/// Two errors that cancel in a plain sum do not in a weighed one.
#[test]
fn errors_of_two_participants_do_not_cancel() {
    let case = Case::new(plain(3, 25));
    let contexts = [CONTEXT, Context { participant: b"site-2", ..CONTEXT }];
    let mut proofs = contexts.map(|context| case.prove(&[3, 4, 0], &context, 1));
    proofs[0].1.main.blindings[2] += Scalar::ONE;
    proofs[1].1.main.blindings[2] -= Scalar::ONE;
    let submissions =
        [0, 1].map(|at| Submission { context: contexts[at], commitments: &proofs[at].0, proof: &proofs[at].1 });
    for result in case.verifier().verify_batch(&submissions, ONE) {
        assert_eq!(result.map(drop), Err(Rejection::Argument));
    }
}

/// Committed to one vector, summed another one: who proved honestly and masked something else is found in the sum.
#[test]
fn a_sum_of_other_integers_than_were_committed_to_is_refused() {
    let case = Case::new(plain(5, 55));
    let vectors = [[1, 2, 3, 4, 5], [-5, 4, -3, 2, -1]];
    let mut sum = CommitmentSum::new(&case.claim);
    let mut blindings = vec![Scalar::ZERO; case.claim.rows()];
    for (at, vector) in vectors.iter().enumerate() {
        let mut rng = rng(at as u64);
        let committed = Committed::new(&case.claim, &case.generators, vector, &mut rng, ONE).expect("within bounds");
        blindings.iter_mut().zip(committed.blindings()).for_each(|(sum, blinding)| *sum += blinding);
        sum.add_unproven(committed.commitments()).expect("points");
    }
    let check = |integers: [i64; 5], blindings: &[Scalar]| {
        sum.opens_to(&case.claim, &case.generators, &integers, blindings, ONE)
    };
    assert_eq!(check([-4, 6, 0, 6, 4], &blindings), Ok(()));
    assert_eq!(check([-4, 6, 0, 60, 4], &blindings), Err(SumError::Mismatch));
    assert_eq!(check([6, -4, 0, 6, 4], &blindings), Err(SumError::Mismatch));
    // The same sum of rows.
    assert_eq!(check([-3, 6, 0, 6, 3], &blindings), Err(SumError::Mismatch));
    assert_eq!(check([i64::MIN, i64::MAX, 0, 6, 4], &blindings), Err(SumError::Mismatch));
    let rows = case.claim.rows();
    assert_eq!(check([-4, 6, 0, 6, 4], &blindings[1..]), Err(SumError::Rows { got: rows - 1, expected: rows }));
    blindings[1] += Scalar::ONE;
    assert_eq!(check([-4, 6, 0, 6, 4], &blindings), Err(SumError::Mismatch));
}
