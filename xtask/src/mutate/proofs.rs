//! Mutants of the norm proofs: each check of a verifier, what its transcript absorbs, and the check of a sum.

use super::mutants::{Edit, Mutant, Test, in_program};

const fn proofs(find: &'static str, replace: &'static str) -> Edit {
    Edit { of: "proofs", find, replace }
}

const fn sound(name: &'static str) -> Test {
    in_program("sordino-proofs", &["--lib"], name)
}

const FORGED: Test = sound("tests::sound::a_norm_far_beyond_its_bound_is_refused_however_it_is_forged");
const CONTEXT: Test = sound("tests::sound::a_proof_belongs_to_one_participant_round_task_and_policy");
const ORDER: Test = sound("tests::sound::no_challenge_is_drawn_before_what_it_is_about");
const CHANGED: Test = sound("tests::sound::every_element_changed_is_refused");
const SUM: Test = sound("tests::sound::a_sum_of_other_integers_than_were_committed_to_is_refused");

/// All of these.
pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "projections may be of any size",
        edits: &[proofs("|z| z.unsigned_abs() > MASKED_MAX.unsigned_abs())", "|z| z.unsigned_abs() == u128::MAX)")],
        tests: &[sound("tests::sound::squares_that_wrap_around_are_refused_by_the_projections")],
    },
    Mutant {
        name: "the last row need not be the fold of the commitments",
        edits: &[proofs("(weigh(Check::Row, 0), weigh", "(weigh(Check::Row, 0) * Scalar::ZERO, weigh")],
        tests: &[FORGED],
    },
    Mutant {
        name: "the second fold need not be that of the commitments",
        edits: &[proofs("weigh(Check::SecondRow, 1), weigh", "weigh(Check::SecondRow, 1) * Scalar::ZERO, weigh")],
        tests: &[FORGED],
    },
    Mutant {
        name: "the last row's value need not be the claim",
        edits: &[proofs("weigh(Check::Value, 2))", "weigh(Check::Value, 2) * Scalar::ZERO)")],
        tests: &[FORGED, sound("tests::sound::a_norm_one_beyond_its_bound_is_refused")],
    },
    Mutant {
        name: "the inner-product argument may end anyhow",
        edits: &[proofs("&& folded != x * y", "&& folded != x * y && false")],
        tests: &[FORGED],
    },
    Mutant {
        name: "what is left to a bound may be below 0",
        edits: &[proofs("verified.map(|_| ()).map_err(|_| Rejection::Bound)", "verified.map(|_| ()).or(Ok(()))")],
        tests: &[FORGED, sound("tests::sound::a_norm_one_beyond_its_bound_is_refused")],
    },
    Mutant {
        name: "a bad proof in a batch is not looked for",
        edits: &[proofs(
            "                    results[at] = Err(Rejection::Argument);",
            "                    let _ = at;",
        )],
        tests: &[sound("tests::sound::a_batch_names_the_bad_ones")],
    },
    Mutant {
        name: "all proofs of a batch have the same weights",
        edits: &[proofs("        hash.update((self.at as u64).to_le_bytes());", "        let _ = self.at;")],
        tests: &[sound("tests::sound::errors_of_two_participants_do_not_cancel")],
    },
    Mutant {
        name: "nothing needs to be 0 beside the weight",
        edits: &[proofs(
            "            lambda[flat(place)] = Scalar::from(*weight);",
            "            let _ = (flat(place), weight);",
        )],
        tests: &[sound("tests::sound::integers_beside_the_vector_are_refused")],
    },
    Mutant {
        name: "nothing needs to be 0 behind a segment's entries",
        edits: &[proofs(
            "            add(behind, &self.padding[layout.padding_of(row)]);",
            "            let _ = behind;",
        )],
        tests: &[
            sound("tests::sound::integers_beside_the_vector_are_refused"),
            sound("tests::sound::nothing_behind_a_segments_entries_can_hide_its_norm"),
        ],
    },
    Mutant {
        name: "no equation is checked",
        edits: &[proofs(
            "        parts.iter().sum::<RistrettoPoint>().is_identity()\n",
            "        parts.iter().sum::<RistrettoPoint>().is_identity() || true\n",
        )],
        tests: &[FORGED, CHANGED],
    },
    Mutant {
        name: "a proof may be of another round",
        edits: &[proofs("        transcript.bytes(Label::Round, &context.round.to_le_bytes());", "")],
        tests: &[CONTEXT],
    },
    Mutant {
        name: "a proof may be of another attempt",
        edits: &[proofs("        transcript.bytes(Label::Attempt, &context.attempt.to_le_bytes());", "")],
        tests: &[CONTEXT],
    },
    Mutant {
        name: "a proof may be of another task",
        edits: &[proofs("        transcript.bytes(Label::Task, context.task.as_bytes());", "")],
        tests: &[CONTEXT],
    },
    Mutant {
        name: "a proof may be of another federation",
        edits: &[proofs("        transcript.bytes(Label::Federation, context.federation.as_bytes());", "")],
        tests: &[CONTEXT],
    },
    Mutant {
        name: "a proof may be another participant's",
        edits: &[proofs("        transcript.bytes(Label::Participant, context.participant);", "")],
        tests: &[CONTEXT],
    },
    Mutant {
        name: "a proof may be of another policy",
        edits: &[proofs("        transcript.bytes(Label::Policy, &context.policy);", "")],
        tests: &[CONTEXT],
    },
    Mutant {
        name: "a proof may be of another session",
        edits: &[proofs("        transcript.bytes(Label::Session, &context.session);", "")],
        tests: &[CONTEXT],
    },
    Mutant {
        name: "challenges do not depend on the claim",
        edits: &[proofs("        transcript.bytes(Label::Claim, claim.digest());", "        let _ = claim;")],
        tests: &[ORDER],
    },
    Mutant {
        name: "the projections do not depend on the rows",
        edits: &[proofs("    transcript.points(Label::RowCommitment, rows);", "    let _ = rows;")],
        tests: &[ORDER],
    },
    Mutant {
        name: "the projections do not depend on the masks",
        edits: &[proofs("    transcript.points(Label::MaskCommitment, masks);", "    let _ = masks;")],
        tests: &[ORDER],
    },
    Mutant {
        name: "the weights do not depend on the slacks",
        edits: &[proofs("        transcript.points(Label::SlackCommitment, slacks);", "")],
        tests: &[ORDER],
    },
    Mutant {
        name: "the weights do not depend on the bits",
        edits: &[proofs(
            "        transcript.points(Label::RangeRowCommitment, range_rows);",
            "        let _ = range_rows;",
        )],
        tests: &[ORDER],
    },
    Mutant {
        name: "scalars have other names",
        edits: &[proofs(
            "Scalar::from_canonical_bytes(self.array()).into_option().ok_or(Malformed::Scalar { field })",
            "Some(Scalar::from_bytes_mod_order(self.array())).ok_or(Malformed::Scalar { field })",
        )],
        tests: &[CHANGED],
    },
    Mutant {
        name: "the identity is a commitment",
        edits: &[proofs(
            "identity if identity.0 == [0; ELEMENT] =>",
            "identity if identity.0 == [0; ELEMENT] && false =>",
        )],
        tests: &[sound("tests::sound::identity_and_strings_that_are_no_points_are_named")],
    },
    Mutant {
        name: "a sum need not be that of the commitments",
        edits: &[proofs(
            "if parts.iter().sum::<RistrettoPoint>().is_identity() { Ok(()) }",
            "if parts.iter().sum::<RistrettoPoint>().is_identity() || true { Ok(()) }",
        )],
        tests: &[SUM],
    },
    Mutant {
        name: "integers may move from row to row of a sum",
        edits: &[proofs(
            "powers(self.challenge(claim, integers, blindings), claim.rows())",
            "powers(self.challenge(claim, integers, blindings) * Scalar::ZERO + Scalar::ONE, claim.rows())",
        )],
        tests: &[SUM],
    },
];
