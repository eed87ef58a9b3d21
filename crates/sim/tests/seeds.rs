//! Hundreds of worlds. `SORDINO_SIM_SEEDS` runs more of them, `cargo xtask sim` as many as one likes.

#![expect(clippy::print_stdout, clippy::panic, reason = "a test prints what happened and fails by panicking")]

use sordino_sim::{Moment, Outcome, Plan, Report, Seed, Tally, World};

/// Seeds of each of the tests, if nobody asks for more.
const SEEDS: u64 = 110;

fn seeds() -> u64 {
    std::env::var("SORDINO_SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

/// Fails with all that is needed to see it again.
fn assert_sound(report: &Report) {
    let seed = report.plan.seed;
    assert!(
        report.violations.is_empty(),
        "{}\nseed {seed}: {:?}\nreplay: cargo xtask sim --first {seed} --seeds 1 --log",
        report.log.join("\n"),
        report.violations
    );
}

fn chaos(first: u64) -> Tally {
    let mut tally = Tally::default();
    for seed in first..first + seeds() {
        let report = World::new(Plan::chaos(Seed(seed))).run();
        assert_sound(&report);
        tally.add(&report.tally);
    }
    println!("{tally}");
    assert_much_happened(&tally);
    tally
}

/// A run in which little breaks, or in which nothing gets through, would prove nothing.
fn assert_much_happened(tally: &Tally) {
    assert!(tally.completed * 10 >= tally.worlds * 3, "only {} of {} completed", tally.completed, tally.worlds);
    assert!(tally.completed < tally.worlds, "no round failed: too little breaks");
    assert!(tally.released_with_dropouts * 10 >= tally.worlds, "{} sums with dropouts", tally.released_with_dropouts);
    assert!(tally.aborted.len() >= 3, "{:?}", tally.aborted);
    assert!(tally.sparse > 0, "no sparse graph");
    for step in sordino_secagg::Step::ALL {
        assert!(tally.silent.contains_key(&step), "nobody was silent in {step}");
        assert!(tally.coordinator_crashes.contains_key(step.name()), "the coordinator never crashed in {step}");
        for moment in Moment::ALL {
            assert!(tally.participant_crashes.contains_key(&(step, moment)), "nobody crashed in {step}, {moment:?}");
        }
    }
    assert!(tally.departures > 0 && tally.returns > 0, "{} left, {} returned", tally.departures, tally.returns);
    assert!(tally.proofs_verified > 0 && tally.sums_checked > 0, "no world in which inputs are proven");
    let network = [tally.lost, tally.repeated, tally.changed_up, tally.changed_down];
    assert!(network.iter().all(|&count| count >= 10), "lost, repeated, changed up and down: {network:?}");
    for kind in ["Malformed", "WrongContext", "WrongStep", "BadSignature", "InputDigest", "AlreadySubmitted"] {
        assert!(tally.rejections.contains_key(kind), "no message was rejected as {kind}: {:?}", tally.rejections);
    }
}

/// Whatever breaks, nothing is wrong.
#[test]
fn anything_may_break() {
    chaos(0);
}

/// The same with other seeds, on another core.
#[test]
fn anything_may_break_again() {
    chaos(1_000_000);
}

/// When faults stop and no more leave than the policy allows for, there is a sum, in the first attempt.
#[test]
fn a_round_completes_once_faults_stop() {
    let mut tally = Tally::default();
    for seed in 0..seeds() {
        let report = World::new(Plan::faults_stop(Seed(seed))).run();
        assert_sound(&report);
        let completed = matches!(report.outcome, Some(Outcome::Released { .. }));
        assert!(completed, "{}\nseed {seed}: {:?}", report.log.join("\n"), report.outcome);
        tally.add(&report.tally);
    }
    assert!(tally.departures * 5 >= tally.worlds, "too few leave: {}", tally.departures);
    assert!(tally.coordinator_crashes.len() >= 4, "{:?}", tally.coordinator_crashes);
}

/// Nothing breaks: everybody is in the sum.
#[test]
fn in_peace_everybody_survives() {
    for seed in 0..30 {
        let report = World::new(Plan::peace(Seed(seed))).run();
        assert_sound(&report);
        let Some(Outcome::Released { survivors, .. }) = &report.outcome else {
            panic!("seed {seed}: {:?}", report.outcome)
        };
        assert_eq!(survivors.len(), report.plan.cohort as usize, "seed {seed}");
    }
}

/// The same seed gives the same log, another seed another one.
#[test]
fn a_world_follows_from_its_seed() {
    for seed in 0..12 {
        let run = |seed| World::new(Plan::chaos(Seed(seed))).run().digest;
        assert_eq!(run(seed), run(seed), "seed {seed}");
        assert_ne!(run(seed), run(seed + 1), "seed {seed}");
    }
}
