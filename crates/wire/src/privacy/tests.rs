use super::*;
use crate::api::Assignment;
use crate::{Digest, RoundId};
use sordino_dp::{Accountant, Mechanism};

/// Ten sites with noise of their own inside the sum, of whom three may fall silent and one is corrupt.
const SHARED: &str = "unit = \"participant\"\nnoise = \"participants\"\n";
const CENTRAL: &str = "unit = \"participant\"\nnoise = \"coordinator\"\n";
const RECORD: &str = "unit = \"record\"\n";
const METRIC: &str = "[[encoding.metrics]]\nname = \"loss_sum\"\nmax = 100.0\nresolution = 0.01\n";

fn text(rounds: u64, privacy: &str, rest: &str) -> String {
    format!(
        "[task]\nname = \"terms\"\nrounds = {rounds}\n[cohort]\nmin = 7\ntarget = 10\nmax_dropout_fraction = 0.3\n\
         max_corrupt_fraction = 0.1\n[privacy]\n{privacy}\n{rest}"
    )
}

fn check(rounds: u64, privacy: &str, rest: &str) -> Result<CheckedPolicy, PolicyError> {
    Policy::from_toml(&text(rounds, privacy, rest))?.check()
}

fn checked(rounds: u64, privacy: &str, rest: &str) -> CheckedPolicy {
    check(rounds, privacy, rest).unwrap_or_else(|error| panic!("{privacy}{rest}: {error}"))
}

fn multiplier(policy: &CheckedPolicy) -> f64 {
    policy.policy().privacy.noise_multiplier.expect("a checked policy has one")
}

/// Epsilon of all rounds of a policy, with this multiplier, cohort and model.
fn total(policy: &CheckedPolicy, noise_multiplier: f64, cohort: u32, model_len: usize) -> f64 {
    let Policy { task, privacy, .. } = policy.policy();
    let round = policy.round_privacy(model_len, &RoundTerms { cohort, noise_multiplier });
    let round = round.expect("such noise").expect("privacy is on");
    let rounds = round.events().times(task.rounds).expect("a count");
    Accountant::new(privacy.delta).and_then(|accountant| accountant.with_all(&rounds)).expect("a cost").epsilon
}

fn participant(policy: &CheckedPolicy, model_len: usize, terms: &RoundTerms) -> ParticipantRound {
    match policy.round_privacy(model_len, terms) {
        Ok(Some(RoundPrivacy::Participant(round))) => round,
        other => panic!("{other:?}"),
    }
}

/// The multiplier that a target gives keeps it, for models and cohorts that are not known yet; one that is two digits of
/// the grid smaller does not. It stands on the grid, and checking again changes nothing.
#[test]
fn a_target_gives_the_least_multiplier_that_keeps_it() {
    for (rounds, target, privacy, rest) in [
        (50, 6.5, SHARED, ""),
        (50, 6.5, "unit = \"participant\"\nmetric_noise_multiplier = 20.0\n", METRIC),
        (20, 3.6, "unit = \"participant\"\nnoise = \"coordinator\"\nmetric_noise_multiplier = 20.0\n", METRIC),
        (1, 1.5, SHARED, METRIC),
        // More noise than the first steps of a search: it must not step over all that can be drawn.
        (5_000, 2.0, SHARED, ""),
        (40, 10.0, RECORD, ""),
        (40, 10.0, RECORD, METRIC),
        (200, 1.5, "unit = \"record\"\nsampling_rate = 0.02\nsteps = 7\n", ""),
    ] {
        let name = format!("{rounds} rounds to {target} with {privacy}{rest}");
        let policy = checked(rounds, &format!("{privacy}target_epsilon = {target:?}\n"), rest);
        let found = multiplier(&policy);
        assert_eq!((found * 1e4).round() / 1e4, found, "{name}: {found} has four digits behind the point");
        for model_len in [1, 650, 1_000_000] {
            for cohort in [7, 8, 10] {
                let total = total(&policy, found, cohort, model_len);
                assert!(total <= target, "{name}: {total} with {found} for {cohort} sites and {model_len} values");
            }
        }
        let less = total(&policy, found - 2e-4, 10, 1);
        assert!(less > target, "{name}: {less} with two digits less than {found}");
        let again = policy.policy().clone().check().expect("the result of a check");
        assert_eq!((again.policy(), again.digest()), (policy.policy(), policy.digest()), "{name}");
    }
}

#[test]
fn without_a_target_the_multiplier_is_the_documented_one() {
    let policy = checked(2, RECORD, "");
    assert_eq!(multiplier(&policy), 1.1);
    assert_eq!(policy.terms(9), RoundTerms { cohort: 9, noise_multiplier: 1.1 });
    let off = checked(2, "enabled = false\n", "");
    assert_eq!(off.policy().privacy.noise_multiplier, None);
    assert_eq!(off.terms(9), RoundTerms { cohort: 9, noise_multiplier: 0.0 });
    assert_eq!(off.round_privacy(9, &off.terms(9)), Ok(None));
}

/// A coordinator cannot talk a site into less noise than the policy has, nor into another cohort.
#[test]
fn only_terms_of_the_policy_are_believed() {
    const FIXED: &str = "noise_multiplier = 3.0\ntotal_epsilon = 100.0\n";
    let fixed = checked(3, &format!("{SHARED}{FIXED}"), "");
    let adaptive = checked(3, &format!("{SHARED}{FIXED}schedule = \"adaptive\"\n"), "");
    let off = checked(3, "enabled = false\n", "");
    let believed = |policy: &CheckedPolicy, cohort, noise_multiplier: Option<f64>| match policy
        .assigned_terms(cohort, noise_multiplier)
    {
        Ok(terms) => {
            let stated = RoundTerms { cohort, noise_multiplier: noise_multiplier.unwrap_or(0.0) };
            assert_eq!(terms, stated, "what is stated is what holds");
            true
        }
        Err(PolicyError::Terms { cohort: named, .. }) => {
            assert_eq!(named, cohort);
            false
        }
        other => panic!("{other:?}"),
    };
    let below = 3.0_f64.next_down();
    for (multiplier, in_fixed, in_adaptive, in_off) in [
        (None, false, false, true),
        (Some(3.0), true, true, false),
        (Some(below), false, false, false),
        (Some(3.0_f64.next_up()), false, true, false),
        (Some(10_000.0), false, true, false),
        (Some(10_000.1), false, false, false),
        (Some(0.0), false, false, false),
        (Some(-3.0), false, false, false),
        (Some(f64::INFINITY), false, false, false),
        (Some(f64::NAN), false, false, false),
    ] {
        assert_eq!(believed(&fixed, 8, multiplier), in_fixed, "fixed: {multiplier:?}");
        assert_eq!(believed(&adaptive, 8, multiplier), in_adaptive, "adaptive: {multiplier:?}");
        assert_eq!(believed(&off, 8, multiplier), in_off, "switched off: {multiplier:?}");
    }
    for (cohort, allowed) in [(0, false), (6, false), (7, true), (10, true), (11, false), (u32::MAX, false)] {
        assert_eq!(believed(&fixed, cohort, Some(3.0)), allowed, "{cohort}");
        assert_eq!(believed(&off, cohort, None), allowed, "{cohort}");
    }
}

/// Where participants add the noise, the sum opens for no fewer than their shares are sized for, and every message of the
/// attempt binds that number.
#[test]
fn only_as_many_may_be_missing_as_shares_allow_for() {
    let wide = "[cohort]\nmin = 7\ntarget = 20\nmax_dropout_fraction = 0.3\nmax_corrupt_fraction = 0.1\n[privacy]\n";
    for (privacy, expected) in [
        // 0.3 of 10 are 3, of 13 are 3, of 14 are 4, of 20 are 6; but never below the minimum.
        (SHARED, &[(7, 7), (8, 7), (9, 7), (10, 7), (13, 10), (14, 10), (20, 14)][..]),
        // The coordinator's noise does not depend on who is there, and neither does that of records.
        (CENTRAL, &[(7, 7), (10, 7), (20, 7)]),
        (RECORD, &[(7, 7), (10, 7), (20, 7)]),
        ("enabled = false\n", &[(7, 7), (10, 7), (20, 7)]),
    ] {
        let toml = format!("[task]\nname = \"terms\"\nrounds = 1\n{wide}{privacy}");
        let policy = Policy::from_toml(&toml).and_then(Policy::check).expect(privacy);
        for (cohort, least) in expected {
            let terms = policy.terms(*cohort);
            assert_eq!(policy.policy().min_survivors(&terms), *least, "{privacy}: {cohort}");
            let encoding = policy.encoding(9, &terms).expect("it fits");
            let assignment = assignment(&policy, *cohort);
            let context = policy.context(&"test.example".parse().expect("a name"), &assignment, (&encoding, None));
            assert_eq!((context.min_survivors, context.bits), (*least, encoding.bits()), "{privacy}: {cohort}");
            if let Ok(Some(RoundPrivacy::Participant(round))) = policy.round_privacy(9, &terms) {
                let planned = Cohort { participants: *cohort, min_survivors: *least, max_corrupt: 1 };
                assert_eq!(round.planned, planned, "0.1 of 7, rounded up");
            }
        }
    }
}

fn assignment(policy: &CheckedPolicy, cohort: u32) -> Assignment {
    Assignment {
        round: RoundId { task: "0193e3a0-0000-7000-8000-000000000000".parse().expect("an id"), number: 1 },
        attempt: 1,
        nonce: Digest([1; 32]),
        model: Digest([2; 32]),
        policy_digest: policy.digest(),
        time_left: 0,
        cohort,
        noise_multiplier: policy.policy().privacy.noise_multiplier,
    }
}

#[test]
fn promises_that_cannot_be_kept_are_refused() {
    let refused = |privacy: &str, rest: &str| match check(20, privacy, rest) {
        Err(error) => error,
        Ok(policy) => panic!("{privacy}{rest} is accepted as {:?}", policy.policy().privacy),
    };
    // The same for both units: who takes part is never a secret.
    for unit in [SHARED, CENTRAL, RECORD] {
        let amplified = format!("{unit}noise_multiplier = 9.0\namplification = \"poisson\"\n");
        assert_eq!(refused(&amplified, ""), PolicyError::NoAmplification);
    }
    let total = "noise_multiplier = 9.0\ntotal_epsilon = 100.0\n";
    for unit in [SHARED, CENTRAL] {
        let above = format!("{unit}{total}delta = 0.11\n");
        let expected = PolicyError::DeltaAbovePopulation { delta: 0.11, population: 10, unit: "participants" };
        assert_eq!(refused(&above, ""), expected);
        checked(20, &format!("{unit}{total}delta = 0.1\n"), "");
    }
    // How many records there are is known to the sites only, and asked there.
    checked(20, &format!("{RECORD}{total}delta = 0.11\n"), "");
    for delta in ["0.0", "1.0", "nan", "-1e-5"] {
        let error = refused(&format!("{RECORD}{total}delta = {delta}\n"), "");
        assert!(matches!(error, PolicyError::OutOfRange { key: "privacy.delta", .. }), "{delta}: {error}");
    }

    match refused(&format!("{SHARED}noise_multiplier = 2.0\ntarget_epsilon = 3.0\n"), "") {
        PolicyError::AboveTarget { multiplier, rounds, planned, target } => {
            assert_eq!((multiplier, rounds, target), (2.0, 20, 3.0));
            assert!(planned > 3.0, "{planned}");
        }
        other => panic!("{other}"),
    }
    match refused(&format!("{SHARED}noise_multiplier = 0.5\ntotal_epsilon = 5.0\n"), "") {
        PolicyError::NotOneRound { one, total, delta } => {
            assert_eq!((total, delta), (5.0, 1e-5));
            assert!(one > 5.0, "{one}");
        }
        other => panic!("{other}"),
    }
    // The metric's own noise does not follow the target, and is too little for it by itself.
    let error = refused(&format!("{SHARED}metric_noise_multiplier = 1.0\ntarget_epsilon = 3.0\n"), METRIC);
    assert!(matches!(error, PolicyError::Unreachable { target: 3.0, rounds: 20, .. }), "{error}");
    for (privacy, key) in [
        ("enabled = false\ntarget_epsilon = 3.0\n", "privacy.target_epsilon"),
        ("total_epsilon = 3.0\ntarget_epsilon = 3.1\n", "privacy.target_epsilon"),
        ("noise_multiplier = 0.0\n", "privacy.noise_multiplier"),
        ("noise_multiplier = nan\n", "privacy.noise_multiplier"),
        ("sampling_rate = 1.5\n", "privacy.sampling_rate"),
        ("sampling_rate = nan\n", "privacy.sampling_rate"),
        ("steps = 0\n", "privacy.steps"),
        ("example_clip = -1.0\n", "privacy.example_clip"),
        ("population = \"two words\"\n", "privacy.population"),
    ] {
        match refused(privacy, "") {
            PolicyError::OutOfRange { key: named, .. } => assert_eq!(named, key, "{privacy}"),
            other => panic!("{privacy}: {other}"),
        }
    }
    let wide = format!("{METRIC}record_max = 100.5\n");
    let expected = PolicyError::MetricBound { name: "loss_sum".into(), record_max: 100.5, max: 100.0 };
    assert_eq!(refused(RECORD, &wide), expected);

    // A share below two units of the grid is no discrete Gaussian any more.
    let coarse = format!("{SHARED}noise_multiplier = 0.5\ntotal_epsilon = 1000.0\n");
    match refused(&coarse, "[encoding]\nprecision_bits = 2\n") {
        PolicyError::Noise(NoiseError::ShareTooSmall { sigma, .. }) => assert!(sigma < 2.0, "{sigma}"),
        other => panic!("{other}"),
    }
    // And beyond 2^48 in variance nothing is drawn.
    let loud = refused(&format!("{SHARED}noise_multiplier = 10000.0\n"), "[encoding]\nprecision_bits = 40\n");
    assert!(matches!(loud, PolicyError::Noise(_)), "{loud}");
}

/// Whoever survives, of any cohort, and whoever of them is corrupt: the honest shares have at least the variance that the
/// policy promises and the ledger is charged, and one survivor fewer opens nothing.
#[test]
fn the_honest_of_every_survivor_set_carry_what_is_charged() {
    for (dropouts, corrupt) in [(0.3, 0.1), (0.3, 0.0), (0.0, 0.4), (0.2, 0.2)] {
        let fractions = format!("max_dropout_fraction = {dropouts:?}\nmax_corrupt_fraction = {corrupt:?}\n");
        let toml = format!(
            "[task]\nname = \"shares\"\nrounds = 1\n[cohort]\nmin = 9\ntarget = 30\n{fractions}[privacy]\n{SHARED}\
             noise_multiplier = 2.5\nclip_norm = 4.0\ntotal_epsilon = 100.0\n{METRIC}"
        );
        let policy = Policy::from_toml(&toml).and_then(Policy::check).unwrap_or_else(|error| panic!("{toml}: {error}"));
        let exact = policy.policy().exact_encoding(40).expect("it fits");
        // Norm of an input in grid steps, not below the clip norm; and the largest loss in steps of 0.01.
        let bound = (exact.norm_bound(1).squared() as f64).sqrt();
        assert!(bound * exact.step() >= 4.0, "{bound}");
        for cohort in 9..=30 {
            let terms = policy.terms(cohort);
            let round = participant(&policy, 40, &terms);
            let charged: Vec<_> = round.events.iter().map(|event| (event.count(), event.mechanism())).collect();
            let least = policy.policy().min_survivors(&terms);
            assert_eq!(least, 9.max(cohort - (dropouts * f64::from(cohort) + 1e-6) as u32), "{cohort}");
            let noises = [(&round.model, 2.5, bound), (&round.metrics[0], 5.0, 10_000.0)];
            assert_eq!(charged.len(), noises.len());
            for ((noise, multiplier, bound), (count, mechanism)) in noises.into_iter().zip(charged) {
                let Mechanism::DiscreteGaussianSum { parties, sigma2, l2, .. } = mechanism else {
                    panic!("{mechanism:?}");
                };
                assert_eq!(count, 1);
                assert!(l2 >= bound && l2 < bound * (1.0 + 1e-9), "what is charged for is an input's bound: {l2}");
                let sigma = multiplier * l2;
                for survivors in least..=cohort {
                    let honest = survivors - policy.faults().corrupt;
                    let carried = f64::from(honest) * noise.sigma2.to_f64();
                    assert!(carried >= sigma * sigma, "{survivors} of {cohort}: {carried}");
                    assert!(carried >= parties as f64 * sigma2, "{survivors} of {cohort}: {carried} below the charge");
                    // No more than that either, where it is the worst set that there can be.
                    let lavish = carried / (sigma * sigma) - 1.0;
                    assert!(survivors > least || lavish < 1e-6, "{survivors} of {cohort}: {lavish}");
                }
            }
            for survivors in least..=cohort {
                let said = round.sum_sigma(survivors, 1).powi(2);
                let shares = f64::from(survivors) * round.model.sigma2.to_f64();
                assert!((said / shares - 1.0).abs() < 1e-12, "{said} of {shares}");
            }
        }
    }
}

/// The coordinator's noise is all of it, whoever survives.
#[test]
fn the_noise_of_the_coordinator_is_what_is_charged() {
    let policy = checked(1, &format!("{CENTRAL}noise_multiplier = 2.5\nclip_norm = 4.0\n"), METRIC);
    let bound = (policy.policy().exact_encoding(40).expect("it fits").norm_bound(1).squared() as f64).sqrt();
    for cohort in 7..=10 {
        let round = participant(&policy, 40, &policy.terms(cohort));
        for survivors in 7..=cohort {
            assert!(round.sum_sigma(survivors, 1) >= 2.5 * bound);
            assert_eq!(round.sum_sigma(survivors, 1), round.sum_sigma(7, 1));
        }
        let mechanisms: Vec<_> = round.events.iter().map(|event| event.mechanism()).collect();
        assert!(matches!(mechanisms[..], [Mechanism::DiscreteGaussian { .. }, Mechanism::DiscreteGaussian { .. }]));
    }
}

/// Inputs at their bounds with the noise of everybody come out of the ring as they went in: nothing wraps around, and what
/// is opened is believed. A ring without room for the noise would not hold the same sum.
#[test]
fn the_ring_has_room_for_the_noise() {
    let policy = checked(1, &format!("{SHARED}noise_multiplier = 60.0\nclip_norm = 4.0\n"), METRIC);
    let model_len = 500;
    let terms = policy.terms(10);
    let encoding = policy.encoding(model_len, &terms).expect("it fits");
    let exact = policy.policy().exact_encoding(model_len).expect("it fits");
    assert!(encoding.bits().get() > exact.bits().get(), "{:?} beside {:?}", encoding.bits(), exact.bits());
    let round = participant(&policy, model_len, &terms);
    // All of a site's norm on one value, the same of all sites, and the largest loss.
    let largest = encoding.norm_bound(1).squared().isqrt() as i64;
    let mut input = vec![0_i64; encoding.len()];
    input[0] = largest;
    input[1] = 0;
    (input[model_len], input[model_len + 1]) = (1, 10_000);
    let mut plain = vec![0_i64; encoding.len()];
    let mut ring = RingVector::zeros(encoding.len(), encoding.bits());
    for site in 0..10 {
        let mut masked = RingVector::from_centered(&input, encoding.bits()).expect("an input fits");
        round.add_share(&mut masked, &mut NoiseRng::predictable(site)).expect("it is drawn");
        // The noise by itself, from the same generator.
        let mut alone = vec![0_i64; encoding.len()];
        let (model, rest) = alone.split_at_mut(model_len);
        round.draw(model, &mut rest[1..], &mut NoiseRng::predictable(site)).expect("it is drawn");
        assert_eq!(alone[model_len], 0, "the weight gets none");
        assert!(alone[..model_len].iter().filter(|noise| **noise != 0).count() > model_len * 9 / 10);
        for (sum, (input, noise)) in plain.iter_mut().zip(input.iter().zip(&alone)) {
            *sum += input + noise;
        }
        ring.add_assign(&masked).expect("of one ring");
    }
    assert!(ring.iter_centered().eq(plain.iter().copied()), "nothing has wrapped around");
    let sums = encoding.open(&ring, 10).expect("a sum within its bounds");
    assert!(sums.integers().eq(plain.iter().copied()));
    let twelve = (12.0 * round.sum_sigma(10, 1)).ceil() as i64 + 10 * largest;
    assert!(encoding.bits().centered_max() >= twelve, "room for 12 standard deviations beside the largest sum");
    assert!(plain.iter().any(|value| value.abs() > exact.bits().centered_max()), "without room it would wrap around");
}
