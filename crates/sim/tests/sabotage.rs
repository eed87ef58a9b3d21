//! Each invariant is seen to fail: on what it is there for, and not by chance.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use sordino_sim::{Crashes, INVARIANTS, Permille, Plan, Sabotage, Script, Seed, World};

/// Worlds to try: not in every one of them somebody crashes at the right moment.
const SEEDS: usize = 60;

/// Plans in which `sabotage` has its occasions, and the same without it.
fn plans(sabotage: Sabotage) -> impl Iterator<Item = (Plan, Plan)> {
    (0..).map(move |seed| {
        let honest = match sabotage {
            // These need a round that comes to its end.
            Sabotage::EverybodyStartsOver => Plan::peace(Seed(seed)),
            Sabotage::CorruptPassForHonest => Plan::hostile(Seed(seed), Script::DealsWrongShares),
            Sabotage::AuthorityCertifiesAnybody => Plan::hostile(Seed(seed), Script::InventsParticipants),
            Sabotage::DisputesAreForgotten => Plan::hostile(Seed(seed), Script::SpoilsFewShares),
            Sabotage::SumsAreNotCounted => Plan::hostile(Seed(seed), Script::RerunsMinusOne),
            Sabotage::ProofsAreNotChecked | Sabotage::EverySumOpens | Sabotage::OtherSumsAreReleased => {
                Plan::hostile(Seed(seed), Script::ProvesBadly)
            }
            Sabotage::RefusalsAreForgotten => {
                crashing(Plan::hostile(Seed(seed), Script::ProvesBadly), Permille::NEVER, Permille(120))
            }
            Sabotage::ReleasesAreForgotten => crashing(Plan::peace(Seed(seed)), Permille::NEVER, Permille(120)),
            _ => crashing(Plan::chaos(Seed(seed)), Permille(60), Permille(60)),
        };
        let mut plan = honest.clone();
        plan.sabotage = Some(sabotage);
        if sabotage == Sabotage::MinimumIsNotEnforced {
            plan.min_survivors = plan.cohort;
        }
        (plan, honest)
    })
}

fn crashing(plan: Plan, participant: Permille, coordinator: Permille) -> Plan {
    Plan { crashes: Crashes { participant, coordinator, down_max: 1_000 }, ..plan }
}

/// Some world with the sabotage breaks the invariant, and without it that same world does not.
fn is_caught(sabotage: Sabotage, by: &str) {
    is_caught_among(sabotage, by, |_| true);
}

/// The same among worlds whose inputs carry proofs.
fn is_caught_where_inputs_are_proven(sabotage: Sabotage, by: &str) {
    is_caught_among(sabotage, by, |plan| plan.proving.is_some());
}

fn is_caught_among(sabotage: Sabotage, by: &str, wanted: fn(&Plan) -> bool) {
    assert!(INVARIANTS.iter().any(|(name, _)| *name == by), "there is no invariant {by}");
    let caught = plans(sabotage).filter(|(plan, _)| wanted(plan)).take(SEEDS).find(|(plan, _)| {
        let report = World::new(plan.clone()).watching_only(by).run();
        report.violations.iter().any(|violation| violation.invariant == by)
    });
    let Some((_, honest)) = caught else { panic!("{by} did not notice {sabotage:?} in {SEEDS} worlds") };
    let report = World::new(honest).run();
    assert!(report.violations.is_empty(), "{by} fails without {sabotage:?} too: {:?}", report.violations);
}

#[test]
fn a_participant_that_forgets_says_two_things() {
    is_caught(Sabotage::ParticipantsForget, "a_participant_says_one_thing_per_step");
}

#[test]
fn old_copies_and_a_second_survivor_list_open_both_secrets() {
    is_caught(Sabotage::EverybodyStartsOver, "nobody_reveals_both_secrets_of_a_neighbour");
}

#[test]
fn an_input_counted_twice_makes_a_wrong_sum() {
    is_caught(Sabotage::InputsCountTwice, "a_release_is_exactly_the_sum_of_the_survivors_inputs");
}

#[test]
fn a_proof_that_nobody_checks_is_noticed() {
    is_caught(Sabotage::ProofsAreNotChecked, "every_survivor_has_proved_its_input");
}

#[test]
fn a_self_mask_that_comes_off_over_a_bad_proof_is_noticed() {
    is_caught(Sabotage::ProofsAreNotChecked, "the_self_mask_over_a_bad_proof_stays_closed");
}

#[test]
fn a_bad_proof_that_is_forgotten_is_noticed() {
    is_caught(Sabotage::RefusalsAreForgotten, "whoever_proves_badly_stays_named");
}

#[test]
fn a_mismatch_that_opens_is_noticed() {
    is_caught(Sabotage::EverySumOpens, "a_sum_opens_if_it_is_what_was_committed_to");
}

#[test]
fn a_right_sum_that_does_not_open_is_noticed() {
    is_caught_where_inputs_are_proven(Sabotage::InputsCountTwice, "a_sum_opens_if_it_is_what_was_committed_to");
}

#[test]
fn a_release_of_another_sum_is_noticed() {
    is_caught(Sabotage::OtherSumsAreReleased, "no_sum_is_released_that_does_not_open");
}

#[test]
fn a_second_commitment_in_an_attempt_is_noticed() {
    is_caught_where_inputs_are_proven(Sabotage::ParticipantsForget, "nobody_commits_twice");
}

#[test]
fn blindings_that_are_used_again_are_noticed() {
    is_caught_where_inputs_are_proven(Sabotage::BlindingsAreUsedAgain, "nobody_commits_twice");
}

#[test]
fn a_lost_journal_loses_messages() {
    is_caught(Sabotage::JournalLosesMessages, "accepted_messages_survive_a_crash");
}

#[test]
fn a_lost_closing_goes_back_a_step() {
    is_caught(Sabotage::JournalLosesClosings, "the_coordinator_never_goes_back_a_step");
}

#[test]
fn a_lost_input_changes_the_survivors() {
    is_caught(Sabotage::SurvivorsChange, "survivors_never_change_once_announced");
}

#[test]
fn a_policy_that_nobody_enforces_is_noticed() {
    is_caught(Sabotage::MinimumIsNotEnforced, "no_sum_of_fewer_than_the_minimum");
}

#[test]
fn ignored_deadlines_are_noticed() {
    is_caught(Sabotage::DeadlinesAreIgnored, "every_attempt_ends");
}

#[test]
fn refusals_that_leave_a_trace_are_noticed() {
    is_caught(Sabotage::RefusalsExtendDeadlines, "a_refused_message_changes_nothing");
}

#[test]
fn a_second_sum_of_a_round_is_noticed() {
    is_caught(Sabotage::ReleasesAreForgotten, "a_round_releases_one_sum");
}

#[test]
fn blame_for_an_honest_dealer_is_noticed() {
    is_caught(Sabotage::CorruptPassForHonest, "nobody_honest_is_blamed");
}

#[test]
fn a_dispute_that_ends_two_attempts_is_noticed() {
    is_caught(Sabotage::DisputesAreForgotten, "every_dispute_has_a_corrupt_side_and_ends_one_attempt");
}

#[test]
fn a_dispute_of_two_honest_ones_is_noticed() {
    is_caught(Sabotage::CorruptPassForHonest, "every_dispute_has_a_corrupt_side_and_ends_one_attempt");
}

#[test]
fn two_secrets_of_one_participant_are_noticed() {
    is_caught(Sabotage::EverybodyStartsOver, "no_two_secrets_of_one_participant_can_be_computed");
}

#[test]
fn an_input_that_comes_off_alone_is_noticed() {
    is_caught(Sabotage::EverybodyStartsOver, "what_can_be_unmasked_is_one_sum_of_enough_inputs");
}

#[test]
fn a_lie_that_is_believed_is_noticed() {
    is_caught(Sabotage::AuthorityCertifiesAnybody, "lies_are_answered_as_they_should_be");
}

#[test]
fn one_sum_too_many_is_noticed() {
    is_caught(Sabotage::SumsAreNotCounted, "nobody_helps_to_open_too_many_sums");
}

/// No invariant is without a sabotage that it notices.
#[test]
fn every_invariant_is_seen_to_fail() {
    let here = include_str!("sabotage.rs");
    for (name, _) in INVARIANTS {
        assert!(here.contains(&format!("\"{name}\"")), "{name} is never seen to fail");
    }
}
