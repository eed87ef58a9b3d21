//! What a site's own ledger refuses, whatever a coordinator opens.

use super::{
    POLICY,
    common::{TestFederation, model},
    join, round,
    site::Site,
};
use sordino_codec::Tensors;
use sordino_participant::{
    Summary, TrainError,
    training::{RoundInfo, TrainError as TrainingError, Trained, Trainer},
};
use sordino_wire::api::{RoundState, Task};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

const SITES: u8 = 4;

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
    federation.create_task(&policy, federation.upload(&model(&[0.0; 40])).await).await
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
