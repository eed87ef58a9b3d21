//! What a site's own ledger refuses, whatever a coordinator opens.

use super::{
    POLICY,
    common::{TestFederation, model},
    join, near, round,
    site::Site,
};
use sordino_codec::Tensors;
use sordino_dp::Accountant;
use sordino_participant::{
    SiteAccount, Summary, TrainError,
    training::{RoundInfo, TrainError as TrainingError, Trained, Trainer},
};
use sordino_wire::api::{Budgets, RoundState, Task};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

const SITES: u8 = 4;
const VALUES: usize = 40;

/// Learns nothing, and counts how often it was asked to.
#[derive(Clone, Default)]
struct Counted(Arc<AtomicU64>);

impl Trainer for Counted {
    fn train(&mut self, model: &Tensors, _: &RoundInfo) -> Result<Trained, TrainingError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let metrics = BTreeMap::from([("loss_sum".to_owned(), 0.0)]);
        Ok(Trained { tensors: model.clone(), num_examples: 9, metrics })
    }
}

impl Counted {
    fn asked(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

async fn create(federation: &TestFederation, rounds: u64, privacy: &str) -> Task {
    let policy = POLICY
        .replace("rounds = 2", &format!("rounds = {rounds}"))
        .replace("target = 6", &format!("target = {SITES}"))
        .replace("enabled = false", privacy);
    federation.create_task(&policy, federation.upload(&model(&[0.0; VALUES])).await).await
}

/// Lets every site finish so many rounds, or fail.
async fn train(sites: &[Site], trainer: &Counted, task: &Task, rounds: u64) -> Vec<Result<Summary, TrainError>> {
    let running = sites.iter().map(|site| tokio::spawn(site.train_for(rounds, Box::new(trainer.clone()), &task.id)));
    let mut ended = Vec::new();
    for site in running.collect::<Vec<_>>() {
        ended.push(site.await.unwrap());
    }
    ended
}

/// A coordinator opens a task without noise over sites that have paid for privacy, and comes back to one that ran before:
/// they train for neither, and say why. Only the sites' owners can allow it, by name.
async fn no_noise_after_a_charge(privacy: &str) {
    let federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let sites = join(&federation, SITES).await;
    let trainer = Counted::default();
    let finished = |ended: Vec<Result<Summary, TrainError>>| ended.into_iter().all(|site| site.unwrap().finished == 1);

    let exact = create(&federation, 2, "enabled = false").await;
    assert!(finished(train(&sites, &trainer, &exact, 1).await), "nothing was paid yet");
    let noised = create(&federation, 1, privacy).await;
    assert!(finished(train(&sites, &trainer, &noised, 1).await));
    let asked = trainer.asked();
    let later = create(&federation, 1, "enabled = false").await;
    for task in [&exact, &later] {
        for ended in train(&sites, &trainer, task, 1).await {
            let error = ended.expect_err("it has paid");
            assert!(matches!(&error, TrainError::Unprotected { task: refused, .. } if *refused == task.id), "{error}");
            let told = error.to_string();
            for part in [task.id.as_str(), "state/privacy.ledger", "require_privacy = false in participant.toml"] {
                assert!(told.contains(part), "{told}");
            }
        }
    }
    assert_eq!(trainer.asked(), asked, "nobody has trained");

    sites.iter().for_each(|site| site.set("require_privacy", "true"));
    for ended in train(&sites, &trainer, &later, 1).await {
        assert!(matches!(ended, Err(TrainError::NoPrivacy { .. })), "{ended:?}");
    }
    sites.iter().for_each(|site| site.set("require_privacy", "false"));
    assert!(finished(train(&sites, &trainer, &later, 1).await), "on purpose");
    while round(&federation, &later.id, 1).await.state != RoundState::Complete {
        tokio::task::yield_now().await;
    }
    rounds.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn sites_whose_records_have_paid_train_for_no_task_without_noise() {
    no_noise_after_a_charge("unit = \"record\"\nnoise_multiplier = 8.0\nsampling_rate = 0.1\nsteps = 2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sites_whose_contributions_have_paid_train_for_no_task_without_noise() {
    no_noise_after_a_charge("unit = \"participant\"\nnoise_multiplier = 9.0").await;
}

/// Under the unit `participant`, with this noise, over this population.
fn whole(noise: &str, population: &str) -> String {
    format!(
        "unit = \"participant\"\nnoise = \"{noise}\"\nnoise_multiplier = 3.0\ntotal_epsilon = 2.6\n\
         population = \"{population}\""
    )
}

/// Events of this many rounds of each task, at a site's delta.
fn cost(tasks: &[(&Task, u64)]) -> f64 {
    let mut accountant = Accountant::new(1e-5).unwrap();
    for (task, rounds) in tasks {
        let policy = task.policy.clone().check().unwrap();
        let round = policy.round_privacy(VALUES, &policy.terms(SITES.into())).unwrap().unwrap();
        for event in round.events().times(*rounds).unwrap().iter() {
            accountant.add(event).unwrap();
        }
    }
    accountant.spent().epsilon
}

/// To the coordinator each new population begins at zero. A site counts its contributions to all of them in one account,
/// wherever the noise is added: when that is spent, it trains for none of them, and for its records there is another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_population_is_no_new_budget_of_a_site() {
    let federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let sites = join(&federation, SITES).await;
    let trainer = Counted::default();
    let first = create(&federation, 1, &whole("participants", "first")).await;
    let second = create(&federation, 2, &whole("coordinator", "second")).await;
    let third = create(&federation, 1, &whole("participants", "third")).await;
    // Any two rounds of these tasks and no third one: enough for each of them by itself.
    let limit = f64::midpoint(cost(&[(&first, 1), (&second, 1)]), cost(&[(&first, 1), (&second, 2)]));
    sites.iter().for_each(|site| site.set("max_epsilon", &format!("{limit:?}")));
    for (task, finished) in [(&first, 1), (&second, 1)] {
        let policy = task.policy.clone().check().unwrap();
        let total = policy.policy().privacy.total_epsilon;
        assert!(
            cost(&[(&second, 2)]) <= total && total <= limit,
            "the policies promise no more than sites allow: {limit}"
        );
        for ended in train(&sites, &trainer, task, finished).await {
            assert_eq!(ended.unwrap().finished, 1);
        }
    }
    let paid = cost(&[(&first, 1), (&second, 1)]);
    let asked = trainer.asked();
    for task in [&second, &third, &second] {
        for ended in train(&sites, &trainer, task, 1).await {
            let error = ended.expect_err("nothing is left");
            let TrainError::BudgetSpent { round, source } = &error else { panic!("{error}") };
            assert_eq!(round.task, task.id);
            let told = source.to_string();
            assert!(told.contains("privacy budget exhausted for site-") && told.contains("/participant/1"), "{told}");
        }
        for site in &sites {
            let standing = site.standing();
            assert_eq!((standing.participant.charges, standing.record), (2, SiteAccount::default()));
            assert!(near(standing.participant.spent, paid) && paid <= standing.total, "{standing:?}");
        }
    }
    assert_eq!(trainer.asked(), asked, "nobody has trained");
    // To the coordinator that last population has spent nothing.
    let budgets: Budgets = federation.admin.get("/v1/budget").send().await.unwrap().json().await.unwrap();
    let last = budgets.budgets.iter().find(|budget| budget.population == "third").unwrap();
    assert_eq!(last.committed, 0, "{last:?}");

    let records = "unit = \"record\"\nnoise_multiplier = 8.0\nsampling_rate = 0.1\nsteps = 2";
    let records = create(&federation, 1, records).await;
    for ended in train(&sites, &trainer, &records, 1).await {
        assert_eq!(ended.unwrap().finished, 1);
    }
    for site in &sites {
        let standing = site.standing();
        assert_eq!((standing.participant.charges, standing.record.charges), (2, 1));
    }
    rounds.abort();
}

/// Rounds whose noise was planned to use all of a budget up fit into a site's of the same size: both sum up in the same way.
#[tokio::test(flavor = "multi_thread")]
async fn rounds_that_were_planned_to_the_limit_fit_at_the_sites() {
    let federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let sites = join(&federation, SITES).await;
    sites.iter().for_each(|site| site.set("max_epsilon", "3.0"));
    let planned = "unit = \"participant\"\ntotal_epsilon = 3.0\ntarget_epsilon = 3.0\nmetric_noise_multiplier = 30.0";
    let task = create(&federation, 5, planned).await;
    for ended in train(&sites, &Counted::default(), &task, 5).await {
        assert_eq!(ended.unwrap().finished, 5);
    }
    for site in &sites {
        let standing = site.standing();
        assert_eq!(standing.participant.charges, 5);
        assert!((2.99..=3.0).contains(&standing.participant.spent), "{standing:?}");
    }
    rounds.abort();
}
