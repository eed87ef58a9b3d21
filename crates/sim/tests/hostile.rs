//! Each hostile script over some seeds, beside faults and without: every lie is refused for its own reason or does no
//! harm, nobody's input comes off alone, and what is released is exact.

#![expect(clippy::print_stdout, reason = "a test prints what happened")]

use sordino_sim::{Plan, Script, Seed, Tally, World};

/// Worlds of each script, if nobody asks for more; half of them with other faults beside.
const WORLDS: u64 = 12;

/// What has to happen over all worlds of a script, so that it was one.
struct Wanted {
    /// Reasons for which participants refuse.
    refusals: &'static [&'static str],
    /// Reasons for which the coordinator rejects.
    rejections: &'static [&'static str],
    /// Reasons for which attempts end without a sum.
    ends: &'static [&'static str],
}

fn play(script: Script, wanted: &Wanted) {
    let worlds = std::env::var("SORDINO_SIM_WORLDS").ok().and_then(|text| text.parse().ok()).unwrap_or(WORLDS);
    // There are more ways to prove badly than to do anything else.
    let worlds = if script == Script::ProvesBadly { 2 * worlds } else { worlds };
    let turns = Script::ALL.len() as u64;
    let first = Script::ALL.iter().position(|other| *other == script).map_or(0, |at| at as u64);
    let mut tally = Tally::default();
    for seed in (first..).step_by(Script::ALL.len()).take_while(|seed| *seed < worlds * turns).map(Seed) {
        let report = World::new(Plan::hostile(seed, script)).run();
        let (violations, log) = (&report.violations, &report.log);
        assert!(
            violations.is_empty(),
            "{}\nseed {seed}, {script:?}: {violations:?}\nreplay: cargo xtask sim --first {seed} --seeds 1 --log",
            log.join("\n")
        );
        tally.add(&report.tally);
    }
    println!("{script:?}\n{tally}\nlies {} refused {}", tally.lies, tally.lies_refused);
    for reason in wanted.refusals {
        assert!(tally.refusals.contains_key(*reason), "nobody refused for {reason}: {:?}", tally.refusals);
    }
    for reason in wanted.rejections {
        assert!(tally.rejections.contains_key(*reason), "nothing was rejected for {reason}: {:?}", tally.rejections);
    }
    for reason in wanted.ends {
        assert!(tally.aborted.contains_key(*reason), "no attempt ended for {reason}: {:?}", tally.aborted);
    }
    assert!(tally.completed > 0, "no sum in any world: too much breaks");
    if script == Script::ProvesBadly {
        assert_every_cheat_was_met(&tally);
    }
    let lies = script.is_of_coordinator() && !script.reruns();
    assert!(!lies || tally.lies >= worlds / 2, "only {} lies", tally.lies);
}

/// Each kind of bad proof was refused, and each kind of mismatch was told from a sum that is right.
fn assert_every_cheat_was_met(tally: &Tally) {
    for kind in ["garbled", "wider", "replayed", "borrowed", "other commitments"] {
        assert!(tally.proofs_refused.contains_key(kind), "no proof was {kind}: {:?}", tally.proofs_refused);
    }
    assert!(tally.mismatches_caught > 0, "nobody masked another input than it had proven");
    assert!(tally.mismatches_cancelled > 0, "no two mismatches cancelled");
    assert!(tally.proofs_verified > tally.sums_checked, "{} sums were compared", tally.sums_checked);
}

macro_rules! scripts {
    ($($name:ident: $script:ident, refused $refusals:expr, rejected $rejections:expr, ended $ends:expr;)*) => {
        $(#[test]
        fn $name() {
            play(Script::$script, &Wanted { refusals: &$refusals, rejections: &$rejections, ends: &$ends });
        })*

        #[test]
        fn every_script_has_its_test() {
            assert_eq!([$(Script::$script),*], Script::ALL);
        }
    };
}

scripts! {
    lies_about_survivors: LiesAboutSurvivors, refused ["NotCounted", "SurvivorsSignature", "TooFewSurvivors", "TooFewNeighbours"], rejected [], ended [];
    two_survivor_sets: TwoSurvivorSets, refused ["BadSignature", "SurvivorsSignature"], rejected [], ended [];
    asking_for_both_shares: AsksForBothShares, refused ["SurvivorsSignature", "TooFewNeighbours"], rejected [], ended [];
    replaced_keys: ReplacesKeys, refused ["BadNeighbour"], rejected [], ended [];
    invented_participants: InventsParticipants, refused ["BadNeighbour", "RosterSignature"], rejected [], ended [];
    a_shrunk_cohort: ShrinksTheCohort, refused ["RosterTooSmall", "TooFewSurvivors"], rejected [], ended [];
    a_forged_graph: ForgesTheGraph, refused ["WrongNeighbours"], rejected [], ended [];
    another_model: GivesAnotherModel, refused ["WrongContext", "NotInRoster", "BadNeighbour"], rejected [], ended [];
    an_old_attempt_replayed: ReplaysAnOldAttempt, refused ["WrongContext", "NotInRoster"], rejected [], ended [];
    withheld_messages: WithholdsMessages, refused ["TooFewNeighbours"], rejected ["WrongDealers"], ended [];
    declared_dropped: DeclaresDropped, refused ["NotCounted"], rejected [], ended [];
    a_round_again_minus_one: RerunsMinusOne, refused ["TooManySums"], rejected [], ended [];
    another_model_again: RerunsWithAnotherModel, refused ["TooManySums"], rejected [], ended [];
    garbage: SendsGarbage, refused [], rejected ["Malformed"], ended [];
    wrong_shares: DealsWrongShares, refused [], rejected [], ended ["bad dealers"];
    few_wrong_shares: SpoilsFewShares, refused [], rejected [], ended ["disputed"];
    false_complaints: ComplainsFalsely, refused [], rejected ["ForeignShare"], ended ["disputed"];
    wrong_reveals: RevealsWrongShares, refused [], rejected ["BadShare", "ForeignShare", "MissingShare"], ended [];
    old_shares: RepeatsOldShares, refused [], rejected ["WrongContext"], ended [];
    two_messages: SaysTwoThings, refused [], rejected ["AlreadySubmitted"], ended [];
    late_inputs: InputsComeLate, refused [], rejected ["WrongStep"], ended [];
    bad_proofs: ProvesBadly, refused [], rejected ["RefusedInput", "CommitmentsLength"], ended ["not what was proven"];
}
