//! A delta above 1 over the records of a site would allow one of them to be shown whole: the site refuses it, since nobody
//! else knows how many there are.

use super::{
    POLICY,
    common::{TestFederation, model},
    join,
};
use sordino_codec::Tensors;
use sordino_participant::TrainError;
use sordino_participant::training::{RoundInfo, TrainError as TrainingError, Trained, Trainer};
use sordino_wire::PolicyError;

/// Knows how many records there are, and is never asked to train.
struct Counting(u64);

impl Trainer for Counting {
    fn train(&mut self, _: &Tensors, _: &RoundInfo) -> Result<Trained, TrainingError> {
        unreachable!("the site refuses before it trains")
    }

    fn records(&self) -> Option<u64> {
        Some(self.0)
    }
}

/// Ends all sites of one task with this delta; the sites' own is 1e-5.
async fn refusals(delta: f64, records: u64) -> Vec<TrainError> {
    let mut federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let privacy = format!("unit = \"record\"\ndelta = {delta:?}");
    let policy = POLICY.replace("enabled = false", &privacy).replace("target = 6", "target = 4");
    let task = federation.create_task(&policy, federation.upload(&model(&[0.0; 20])).await).await;
    let sites = join(&federation, 4).await;
    let running: Vec<_> =
        sites.iter().map(|site| tokio::spawn(site.train_by(Box::new(Counting(records)), &task.id, None))).collect();
    let mut errors = Vec::new();
    for site in running {
        errors.push(site.await.unwrap().unwrap_err());
    }
    federation.stop();
    rounds.await.unwrap().unwrap();
    errors
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_refuses_a_delta_above_one_in_its_records() {
    for error in refusals(1e-6, 100_001).await {
        assert!(matches!(error, TrainError::Delta { records: 100_001, .. }), "{error}");
        assert!(error.to_string().contains("participant.toml, above 1 in 100001 records"), "{error}");
    }
    for error in refusals(0.01, 101).await {
        let TrainError::Policy(cause @ PolicyError::DeltaAbovePopulation { population: 101, .. }) = &error else {
            unreachable!("{error}")
        };
        assert!(cause.to_string().contains("privacy.delta is 1e-2, above 1 in 101 records of this site"), "{cause}");
    }
}
