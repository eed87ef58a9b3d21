//! Noise that follows what is left of the budget.

use super::{
    common::{TestFederation, model},
    join, near,
    privacy::Zero,
    round, site, sum,
};
use sordino_dp::Accountant;
use sordino_secagg::Step;
use sordino_wire::{
    Policy, RoundTerms,
    api::{Budgets, RoundState},
};
use std::fs;

const VALUES: usize = 2_000;
const ROUNDS: u64 = 4;
const SITES: u8 = 3;
/// What all rounds would have if none of them were repeated.
const PLANNED: f64 = 40.0;

/// A policy whose budget is just what its rounds cost with the planned noise.
fn policy() -> String {
    let text = |total: f64| {
        format!(
            "[task]\nname = \"schedule\"\nrounds = {ROUNDS}\n\
             [cohort]\nmin = 3\ntarget = 3\nmax_dropout_fraction = 0.0\nmax_corrupt_fraction = 0.0\n\
             [privacy]\nunit = \"participant\"\nschedule = \"adaptive\"\nnoise_multiplier = {PLANNED:?}\n\
             total_epsilon = {total:?}\nmetric_noise_multiplier = 200.0\n\
             [[encoding.metrics]]\nname = \"loss_sum\"\nmax = 100.0\nresolution = 0.01\n\
             [timing]\ngather = 20.0\nparticipant_timeout = 20.0\nround_timeout = 60.0\nstep_timeout = 1.5\n\
             step_grace = 0.2\n"
        )
    };
    text(total(&text(100.0), &[(PLANNED, ROUNDS)]) * (1.0 + 1e-5))
}

/// Epsilon of rounds with these multipliers, so many of each.
fn total(policy: &str, rounds: &[(f64, u64)]) -> f64 {
    let policy = Policy::from_toml(policy).unwrap().check().unwrap();
    let mut accountant = Accountant::new(1e-5).unwrap();
    for (noise_multiplier, count) in rounds {
        let terms = RoundTerms { cohort: SITES.into(), noise_multiplier: *noise_multiplier };
        let round = policy.round_privacy(VALUES, &terms).unwrap().unwrap();
        for event in round.events().times(*count).unwrap().iter() {
            accountant.add(event).unwrap();
        }
    }
    accountant.spent().epsilon
}

/// Multipliers of the rounds that are released, where the second one's first attempt fails too late to be given back. With
/// `restart` the coordinator is stopped after that and comes back.
async fn multipliers(restart: bool) -> Vec<f64> {
    let mut federation = TestFederation::start().await;
    let mut rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let text = policy();
    let created = federation.create_task(&text, federation.upload(&model(&[0.0; VALUES])).await).await;
    let sites = join(&federation, SITES).await;
    let steady: Vec<_> =
        sites[1..].iter().map(|site| tokio::spawn(site.train_by(Box::new(Zero), &created.id, None))).collect();
    let late = Some((2, Step::Unmasking));
    sites[0].train_by(Box::new(Zero), &created.id, late).await.expect_err("it vanishes");
    let last = tokio::spawn(sites[0].train_by(Box::new(Zero), &created.id, None));
    if restart {
        while federation.app.store.round(created.id.as_str(), 3).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        federation.stop();
        rounds.await.unwrap().unwrap();
        let port = federation.port;
        let (_, folder, places) = federation.stopped().await;
        let config = fs::read_to_string(&places.config).unwrap();
        fs::write(&places.config, config.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"))).unwrap();
        federation = TestFederation::serve(folder, places, |_| sordino_coordinator::Routes::new()).await;
        rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    }
    for site in steady.into_iter().chain([last]) {
        site.await.unwrap().unwrap();
    }

    let mut found = Vec::new();
    let checked = created.policy.clone().check().unwrap();
    let total_epsilon = checked.policy().privacy.total_epsilon;
    for number in 1..=ROUNDS {
        let round = round(&federation, &created.id, number).await;
        let attempts = if number == 2 { 2 } else { 1 };
        assert_eq!((round.state, round.attempt), (RoundState::Complete, attempts), "{round:?}");
        let privacy = round.release.clone().unwrap().privacy.unwrap();
        assert!(privacy.epsilon <= total_epsilon, "{privacy:?}");
        // The sites drew their shares for the multiplier that the Release tells: they were told the same.
        let terms = RoundTerms { cohort: SITES.into(), noise_multiplier: privacy.noise_multiplier };
        let step = checked.encoding(VALUES, &terms).unwrap().step();
        let released = sum(&federation, &round).await;
        assert_eq!(released, site::plain_sum(&sites, &round));
        let squares = released[..VALUES].iter().map(|value| (*value as f64 * step).powi(2)).sum::<f64>();
        let ratio = squares / VALUES as f64 / privacy.sum_noise_std.unwrap().powi(2);
        // The same bounds as in `privacy`, with x = 25.
        assert!((1.0 - 0.224..1.0 + 0.249).contains(&ratio), "{ratio}");
        found.push(privacy.noise_multiplier);
    }
    let budgets: Budgets = federation.admin.get("/v1/budget").send().await.unwrap().json().await.unwrap();
    let [budget] = &budgets.budgets[..] else { panic!("{budgets:?}") };
    assert_eq!((budget.committed, budget.open), (ROUNDS, 1));
    // With the attempt that was lost it is used up, and never more than that.
    assert!(budget.spent <= total_epsilon && budget.spent >= total_epsilon * 0.9999, "{budget:?}");
    let spent = found.iter().chain([&found[0]]).map(|multiplier| (*multiplier, 1)).collect::<Vec<_>>();
    assert!(near(budget.spent, total(&text, &spent)), "{budget:?}");
    rounds.abort();
    found
}

/// After a round that had to be repeated the rounds that are left have more noise: the least that lets all of them run.
/// Budget, events and number of rounds decide that, all of them public: a coordinator that was restarted comes to the
/// same.
#[tokio::test(flavor = "multi_thread")]
async fn noise_follows_what_is_left_of_the_budget_and_a_restart_changes_nothing() {
    let (found, again) = tokio::join!(multipliers(false), multipliers(true));
    assert_eq!(found, again);
    let text = policy();
    let most = Policy::from_toml(&text).unwrap().privacy.total_epsilon;
    assert_eq!(found[0], PLANNED, "nothing was lost yet");
    assert!(found[1] > PLANNED * 1.1, "an attempt of four was lost: {found:?}");
    // Charged before the second round's second attempt: the first round, and the attempt that was lost.
    let mut before = vec![(PLANNED, 2)];
    for (multiplier, left) in found[1..].iter().zip([3, 2, 1]) {
        assert_eq!((multiplier * 1e4).round() / 1e4, *multiplier, "a decimal number with four digits");
        let with = |multiplier: f64| total(&text, &[&before[..], &[(multiplier, left)]].concat());
        assert!(with(*multiplier) <= most, "{found:?}: {left} rounds with {multiplier} fit");
        assert!(with(multiplier - 2e-3) > most, "{found:?}: {left} rounds with less than {multiplier} do not");
        before.push((*multiplier, 1));
    }
}
