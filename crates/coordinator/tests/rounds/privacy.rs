//! Rounds with differential privacy: charged before anybody is asked, with the noise that was paid for.

use super::{
    POLICY,
    common::{TestFederation, model},
    join, near,
    raw::Raw,
    round, site, sum, task,
};
use reqwest::StatusCode;
use sordino_codec::{Encoding, RingVector, Tensors};
use sordino_dp::{
    Accountant,
    ledger::{Ask, Name, ReservationId, Scope, Status},
};
use sordino_participant::training::{RoundInfo, TrainError, Trained, Trainer};
use sordino_secagg::Step;
use sordino_wire::{
    Policy, RoundId,
    api::{BudgetEntry, BudgetState, Budgets, Page, RoundState, TaskState},
};
use std::collections::BTreeMap;

const VALUES: usize = 2_000;
const SITES: u8 = 6;

/// Learns nothing: what is released is noise.
pub struct Zero;

impl Trainer for Zero {
    fn train(&mut self, model: &Tensors, _: &RoundInfo) -> Result<Trained, TrainError> {
        let metrics = BTreeMap::from([("loss_sum".to_owned(), 0.0)]);
        Ok(Trained { tensors: model.clone(), num_examples: 9, metrics })
    }
}

/// A policy of ten rounds whose budget lies between what 7 and what 8 of them cost.
fn policy_for_seven(noise: &str) -> String {
    let text = |total: f64| {
        POLICY.replace("rounds = 2", "rounds = 10").replace(
            "enabled = false",
            &format!(
                "unit = \"participant\"\nnoise = \"{noise}\"\nnoise_multiplier = 3.0\ntotal_epsilon = {total:?}\n\
                 population = \"{noise}\""
            ),
        )
    };
    let policy = Policy::from_toml(&text(100.0)).unwrap().check().unwrap();
    let events = policy.round_privacy(VALUES, &policy.terms(SITES.into())).unwrap().unwrap().events().clone();
    let cost = |rounds| Accountant::new(1e-5).unwrap().with_all(&events.times(rounds).unwrap()).unwrap().epsilon;
    text((cost(7) + cost(8)) / 2.0)
}

/// Seven rounds, the eighth is refused before anybody is asked, and a restart changes nothing. Each Release has the noise
/// that it says, no less than was charged.
async fn seven_rounds(noise: &str) {
    let mut federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let model = model(&[0.0; VALUES]);
    let created = federation.create_task(&policy_for_seven(noise), federation.upload(&model).await).await;
    let sites = join(&federation, SITES).await;
    let running: Vec<_> =
        sites.iter().map(|site| tokio::spawn(site.train_by(Box::new(Zero), &created.id, None))).collect();
    for site in running {
        let summary = site.await.unwrap().unwrap();
        assert_eq!((summary.finished, summary.left_out, summary.refused), (7, 0, 0), "{noise}");
    }
    let charges: Vec<_> = sites.iter().map(|site| site.standing().participant.charges).collect();
    assert_eq!(charges, [7; SITES as usize], "each has counted for itself");
    let (mut squares, mut said, mut before) = (0.0, 0.0, 0.0);
    for number in 1..=7 {
        let round = round(&federation, &created.id, number).await;
        assert_eq!((round.state, round.attempt), (RoundState::Complete, 1), "{round:?}");
        let release = round.release.clone().unwrap();
        let privacy = release.privacy.unwrap();
        assert!(privacy.epsilon > before && privacy.epsilon <= privacy.total_epsilon, "{privacy:?}");
        before = privacy.epsilon;
        assert_eq!(
            (release.weight, privacy.survivors),
            (SITES.into(), SITES.into()),
            "how much data there is stays out"
        );
        let released = sum(&federation, &round).await;
        let plain = site::plain_sum(&sites, &round);
        // Participants' noise is in what they encoded; the coordinator's is not, and their inputs are zero.
        assert_eq!(released == plain, noise == "participants");
        let checked = created.policy.clone().check().unwrap();
        let step = checked.encoding(VALUES, &checked.terms(SITES.into())).unwrap().step();
        squares += released[..VALUES].iter().map(|value| (*value as f64 * step).powi(2)).sum::<f64>();
        said = privacy.sum_noise_std.unwrap();
        // Charged is a multiplier of 3 on a norm of 4, for the honest of the fewest survivors.
        assert!(said >= 12.0, "{said}");
    }
    let samples = 7.0 * VALUES as f64;
    let ratio = squares / samples / (said * said);
    assert!((ratio - 1.0).abs() < 6.0 * (2.0 / samples).sqrt(), "{noise}: {ratio}");

    let halted = task(&federation, &created.id).await;
    assert_eq!(halted.state, TaskState::Halted);
    assert!(halted.reason.as_ref().unwrap().contains("privacy budget exhausted"), "{halted:?}");
    let eighth = RoundId { task: created.id.clone(), number: 8 };
    let answer = federation.admin.get(&format!("/v1/rounds/{eighth}")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND, "nobody was asked for anything");
    let budgets = async |federation: &TestFederation| -> Budgets {
        federation.admin.get("/v1/budget").send().await.unwrap().json().await.unwrap()
    };
    let spent = budgets(&federation).await;
    assert_eq!((spent.budgets.len(), spent.budgets[0].committed, spent.budgets[0].open), (1, 7, 0));
    assert_eq!(spent.budgets[0].spent, before);
    assert_ne!(spent.budgets[0].state, BudgetState::Ok);

    federation.stop();
    rounds.await.unwrap().unwrap();
    let (_, folder, places) = federation.stopped().await;
    let federation = TestFederation::serve(folder, places, |_| sordino_coordinator::Routes::new()).await;
    assert_eq!(budgets(&federation).await, spent);
    assert_eq!(task(&federation, &created.id).await.state, TaskState::Halted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_of_seven_rounds_runs_seven_with_noise_of_the_participants() {
    seven_rounds("participants").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_of_seven_rounds_runs_seven_with_noise_of_the_coordinator() {
    seven_rounds("coordinator").await;
}

/// Releases of a zero update, over two tasks, by the step before which sites drop out and how long the others wait for
/// them: in one those sites have shared keys and their masks are taken off, in the other they never say a word.
type Releases = [(u64, Step, f64); 2];
/// Values of each of them.
const SHORT: usize = 500;

/// Ten sites of whom one may be corrupt; three of them drop out in each round, which is all that the policy allows. The
/// noise of the Releases has the variance of seven shares, which is what they say, and never less than was charged.
///
/// The sum of N squares of Gaussian noise, over its variance, is below `N - 2 sqrt(N x)` or above `N + 2 sqrt(N x) + 2 x`
/// with a chance of at most `e^-x` each (Laurent, Massart 2000, lemma 1); a discrete Gaussian this wide differs by less
/// than f64 can tell. With x = 25 a right program fails with a chance below 3e-11.
async fn with_three_of_ten_dropped_out(releases: Releases) {
    let federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let sites = join(&federation, 10).await;
    let first = federation.upload(&model(&[0.0; SHORT])).await;
    let run = async |(count, step, grace): (u64, Step, f64)| {
        let policy = format!(
            "[task]\nname = \"noise\"\nrounds = {count}\n\
             [cohort]\nmin = 7\ntarget = 10\nmax_dropout_fraction = 0.3\nmax_corrupt_fraction = 0.1\n\
             [privacy]\nunit = \"participant\"\nnoise = \"participants\"\npopulation = \"{step}\"\nclip_norm = 4.0\n\
             noise_multiplier = 20.0\n\
             [timing]\ngather = 60.0\nparticipant_timeout = 20.0\nround_timeout = 60.0\nstep_timeout = 10.0\n\
             step_grace = {grace:?}\n"
        );
        let created = federation.create_task(&policy, first).await;
        let (unsteady, steady) = sites.split_at(3);
        let steady: Vec<_> =
            steady.iter().map(|site| tokio::spawn(site.train_by(Box::new(Zero), &created.id, None))).collect();
        let vanishing = unsteady.iter().map(|site| {
            let runs: Vec<_> =
                (1..=count).map(|round| site.train_by(Box::new(Zero), &created.id, Some((round, step)))).collect();
            tokio::spawn(async move {
                for run in runs {
                    let error = run.await.expect_err("it vanishes");
                    assert!(matches!(error, sordino_participant::TrainError::Vanished { .. }), "{error}");
                }
            })
        });
        for site in vanishing.collect::<Vec<_>>() {
            site.await.unwrap();
        }
        for site in steady {
            let summary = site.await.unwrap().unwrap();
            assert_eq!((summary.finished, summary.left_out, summary.refused), (count, 0, 0), "{step}");
        }
        (created, count, step)
    };
    let tasks = [run(releases[0]).await, run(releases[1]).await];

    let (mut squares, mut count, mut said, mut charged) = (0.0, 0_usize, 0.0, 0.0);
    for (created, rounds, step) in tasks {
        let checked = created.policy.clone().check().unwrap();
        let encoding = checked.encoding(SHORT, &checked.terms(10)).unwrap();
        let bound = (encoding.norm_bound(1).squared() as f64).sqrt() * encoding.step();
        for number in 1..=rounds {
            let round = round(&federation, &created.id, number).await;
            assert_eq!((round.state, round.attempt), (RoundState::Complete, 1), "{round:?}");
            let release = round.release.clone().unwrap();
            let gone: Vec<_> = release.dropouts.iter().map(|(id, at)| (id.as_str(), at.as_str())).collect();
            let expected = ["site-0000", "site-0001", "site-0002"].map(|id| (id, step.name()));
            assert_eq!((release.cohort.len(), &gone[..]), (10, &expected[..]));
            let privacy = release.privacy.unwrap();
            assert_eq!((privacy.survivors, privacy.planned.min_survivors, privacy.planned.max_corrupt), (7, 7, 1));
            said = privacy.sum_noise_std.unwrap();
            charged = privacy.noise_multiplier * bound;
            // Six honest shares are what is charged, and seven were added.
            let share = said * said / 7.0;
            assert!(share * 6.0 >= charged * charged, "{share}, {charged}");
            assert!(share * 6.0 <= charged * charged * (1.0 + 1e-6), "no more than that either: {share}, {charged}");
            let released = sum(&federation, &round).await;
            squares += released[..SHORT].iter().map(|value| (*value as f64 * encoding.step()).powi(2)).sum::<f64>();
            count += SHORT;
        }
    }
    assert_eq!(count as u64, (releases[0].0 + releases[1].0) * SHORT as u64);
    let (n, x) = (count as f64, 25.0_f64);
    let (low, high) = (1.0 - 2.0 * (x / n).sqrt(), 1.0 + 2.0 * (x / n).sqrt() + 2.0 * x / n);
    let ratio = squares / n / (said * said);
    assert!((low..=high).contains(&ratio), "{ratio} of what seven shares have");
    let paid = squares / n / (charged * charged);
    // Seven sixths of the charge, of which no deviation takes away a sixth.
    assert!(paid >= low * 7.0 / 6.0 && paid >= 1.0, "{paid} of what was charged");
    tracing::warn!(count, ratio, paid, "variance of so many values, beside seven shares and beside what was charged");
    rounds.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_three_of_ten_dropped_out_the_noise_of_forty_releases_is_seven_shares() {
    with_three_of_ten_dropped_out([(4, Step::MaskedInput, 1.0), (36, Step::AdvertiseKeys, 0.01)]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute; forty of them always run"]
async fn with_three_of_ten_dropped_out_the_noise_of_two_hundred_releases_is_seven_shares() {
    with_three_of_ten_dropped_out([(10, Step::MaskedInput, 1.0), (190, Step::AdvertiseKeys, 0.01)]).await;
}

/// What the attempts of a round cost, by how they end: before sites are asked for shares nothing of it can be opened, and
/// the charge is given back; afterwards it stays spent, whatever came of it. A restart changes nothing of that.
#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_attempt_stays_spent_once_sites_were_asked_for_shares() {
    let mut federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let policy = "[task]\nname = \"abandoned\"\nrounds = 1\n\
                  [cohort]\nmin = 3\ntarget = 3\nmax_dropout_fraction = 0.0\nmax_corrupt_fraction = 0.0\n\
                  [privacy]\nunit = \"participant\"\nnoise_multiplier = 9.0\n\
                  [timing]\ngather = 20.0\nparticipant_timeout = 20.0\nround_timeout = 60.0\nstep_timeout = 1.5\n\
                  step_grace = 0.2\n";
    let created = federation.create_task(policy, federation.upload(&model(&[0.0; 40])).await).await;
    let sites = join(&federation, 3).await;
    let steady: Vec<_> =
        sites[1..].iter().map(|site| tokio::spawn(site.train_by(Box::new(Zero), &created.id, None))).collect();
    // Two attempts that end before Unmasking is open, and one that ends in it.
    for step in [Step::MaskedInput, Step::ConsistencyCheck, Step::Unmasking] {
        let error = sites[0].train_by(Box::new(Zero), &created.id, Some((1, step))).await.expect_err("it vanishes");
        assert!(matches!(error, sordino_participant::TrainError::Vanished { step: at, .. } if at == step), "{error}");
    }
    sites[0].train_by(Box::new(Zero), &created.id, None).await.unwrap();
    for site in steady {
        site.await.unwrap().unwrap();
    }
    let round = round(&federation, &created.id, 1).await;
    assert_eq!((round.state, round.attempt), (RoundState::Complete, 4), "{round:?}");

    let checked = created.policy.clone().check().unwrap();
    let events = checked.round_privacy(40, &checked.terms(3)).unwrap().unwrap().events().clone();
    let cost = |rounds| Accountant::new(1e-5).unwrap().with_all(&events.times(rounds).unwrap()).unwrap().epsilon;
    // The charge that was given back does not count when the last one is made.
    let release = round.release.unwrap();
    assert!(near(release.privacy.as_ref().unwrap().epsilon, cost(2)));
    let mut scraper = federation.auditor().await;
    scraper.token = None;
    let text = scraper.get("/metrics").send().await.unwrap().text().await.unwrap();
    let gauge = |name: &str| {
        let series = format!("sordino_dp_epsilon_{name}{{task=\"{}\",name=\"abandoned\"}} ", created.id);
        let value = text.lines().find_map(|line| line.strip_prefix(&series));
        value.unwrap_or_else(|| panic!("no {series} in {text}")).parse::<f64>().unwrap()
    };
    assert!(near(gauge("spent"), cost(2)) && near(gauge("total"), 10.0), "{text}");

    let charge = |attempt| Some(format!("{}.1.{attempt}", created.id));
    let expected = [
        ("opened", None, None),
        ("reserved", charge(1), Some(cost(1))),
        ("aborted", charge(1), None),
        ("reserved", charge(2), Some(cost(1))),
        ("aborted", charge(2), None),
        ("reserved", charge(3), Some(cost(1))),
        ("reserved", charge(4), Some(cost(2))),
        ("committed", charge(4), None),
    ];
    let check = async |federation: &TestFederation| {
        let history = federation.admin.get("/v1/budget/history").send().await.unwrap();
        let history: Page<BudgetEntry> = history.json().await.unwrap();
        assert_eq!(history.items.len(), expected.len(), "{history:?}");
        for (entry, (what, charge, epsilon)) in history.items.iter().zip(&expected) {
            assert_eq!((entry.what.as_str(), &entry.charge), (*what, charge), "{history:?}");
            let same = entry.epsilon.zip(*epsilon).map_or(entry.epsilon == *epsilon, |(found, cost)| near(found, cost));
            assert!(same, "{entry:?}: {epsilon:?}");
        }
        let budgets: Budgets = federation.admin.get("/v1/budget").send().await.unwrap().json().await.unwrap();
        let [budget] = &budgets.budgets[..] else { panic!("{budgets:?}") };
        assert_eq!((budget.committed, budget.open), (1, 1));
        assert!(near(budget.spent, cost(2)), "{budget:?}");
        // Each site was in all of them, as the coordinator counts.
        assert!(near(budget.worst_participant.as_ref().unwrap().epsilon, cost(2)), "{budget:?}");
    };
    check(&federation).await;
    // A site takes nobody's word for what was not opened: it has paid for each input that it was ready to send.
    for site in &sites {
        let account = site.standing().participant;
        assert_eq!(account.charges, 4);
        assert!(near(account.spent, cost(4)), "{account:?}");
    }
    federation.stop();
    rounds.await.unwrap().unwrap();
    let (_, folder, places) = federation.stopped().await;
    let federation = TestFederation::serve(folder, places, |_| sordino_coordinator::Routes::new()).await;
    check(&federation).await;
}

/// One of the sites sends a metric that alone exceeds what all of them can have. Were the exact sum compared with that, or
/// said in the answer, the attacker would learn of the others' sum without noise, by a threshold of its choice.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_of_a_sum_that_lacks_its_noise() {
    let federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let policy = POLICY.replace("rounds = 2", "rounds = 1").replace(
        "enabled = false",
        "unit = \"participant\"\nnoise = \"coordinator\"\nnoise_multiplier = 20.0\nmetric_noise_multiplier = 20.0",
    );
    let created = federation.create_task(&policy, federation.upload(&model(&[0.0; VALUES])).await).await;
    let sites = join(&federation, SITES - 1).await;
    let raw = Raw::join(&federation, "raw-site-5").await;
    let running: Vec<_> =
        sites.iter().map(|site| tokio::spawn(site.train_by(Box::new(Zero), &created.id, None))).collect();
    let beyond = |encoding: &Encoding| {
        let mut integers = vec![0; encoding.len()];
        let bounds = encoding.metric_bounds();
        let at = encoding.len() - bounds.len();
        integers[at - 1] = 1;
        integers[at] = i64::try_from(bounds[0]).unwrap() * i64::from(SITES) + 1;
        RingVector::from_centered(&integers, encoding.bits()).expect("the ring has room for it")
    };
    raw.begin_with(&created.id, None, beyond).await.finish().await;
    for site in running {
        site.await.unwrap().unwrap();
    }
    let round = round(&federation, &created.id, 1).await;
    assert_eq!((round.state, round.attempt), (RoundState::Complete, 1), "{round:?}");
    assert!(round.failure.is_none(), "{round:?}");
    rounds.abort();
}

/// A database that was restored from before a charge: what that attempt released cannot be known, and a second release
/// would be free.
#[tokio::test(flavor = "multi_thread")]
async fn a_charge_that_the_database_does_not_know_halts_the_task() {
    let federation = TestFederation::start().await;
    let created =
        federation.create_task(&policy_for_seven("participants"), federation.upload(&model(&[0.0; 40])).await).await;
    let checked = created.policy.clone().check().unwrap();
    let events = checked.round_privacy(40, &checked.terms(SITES.into())).unwrap().unwrap().events().clone();
    let name = |text: &str| Name::new(text).unwrap();
    let id = ReservationId { task: name(created.id.as_str()), round: 1, attempt: 1 };
    let scope = Scope { population: name("participants"), unit: name("participant"), data_version: name("1") };
    let ask = Ask { id: id.clone(), scope, event: events, participants: vec![name("site-0")] };
    federation.app.ledger.reserve(ask, federation.app.now()).await.unwrap().unwrap();

    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let sites = join(&federation, SITES).await;
    let running: Vec<_> =
        sites.iter().map(|site| tokio::spawn(site.train_by(Box::new(Zero), &created.id, None))).collect();
    for site in running {
        assert_eq!(site.await.unwrap().unwrap().finished, 0, "nobody was asked for anything");
    }
    let task = task(&federation, &created.id).await;
    assert_eq!(task.state, TaskState::Halted);
    assert!(task.reason.as_ref().unwrap().contains("the database is older than the ledger"), "{task:?}");
    assert_eq!(federation.app.ledger.status(&id).await.unwrap(), Some(Status::Open), "it stays spent");
    rounds.abort();
}
