//! Tasks that end before their last round, because what they release gets no better, over real sockets.

use super::{
    POLICY,
    common::{TestFederation, model},
    join, round,
    site::Site,
    task,
};
use sordino_codec::Tensors;
use sordino_participant::training::{RoundInfo, TrainError, Trained, Trainer};
use sordino_wire::{
    TaskId,
    api::{ReleaseConvergence, RoundState, TaskState},
};
use std::collections::BTreeMap;

/// Loss of each row in each round; the later ones are as the last.
const LOSSES: [f64; 4] = [3.0, 2.0, 2.5, 1.0];
/// The loss is at its lowest in round 4, and has not fallen any further in rounds 5, 6 and 7.
const LAST: u64 = 7;

/// Reports these losses.
struct Reports;

impl Trainer for Reports {
    fn train(&mut self, model: &Tensors, round: &RoundInfo) -> Result<Trained, TrainError> {
        let at = usize::try_from(round.round - 1).expect("few rounds");
        let loss_sum = 2.0 * LOSSES.get(at).unwrap_or(&LOSSES[3]);
        let metrics = BTreeMap::from([("loss_sum".to_owned(), loss_sum)]);
        let update = vec![0.01; model.values().len()];
        Ok(Trained { tensors: model.plus(&update).expect("finite"), num_examples: 2, metrics })
    }
}

async fn train_for(sites: &[Site], task: &TaskId, rounds: u64) {
    let running: Vec<_> =
        sites.iter().map(|site| tokio::spawn(site.train_for(rounds, Box::new(Reports), task))).collect();
    for site in running {
        let summary = site.await.unwrap().unwrap();
        assert_eq!((summary.finished, summary.checked), (rounds, rounds));
    }
}

/// The pooled loss is watched over a restart of the coordinator; sites check what is said of it, end with the task, and the
/// task says why it has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_ends_once_it_has_converged() {
    let mut federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let policy = POLICY.replace("rounds = 2", "rounds = 50")
        + "[robustness]\nproof = \"transparent\"\n[convergence]\npatience = 3\nmin_delta = 0.25\n";
    let created = federation.create_task(&policy, federation.upload(&model(&[0.5; 40])).await).await;
    let sites = join(&federation, 6).await;
    train_for(&sites, &created.id, 5).await;
    federation.stop();
    rounds.await.unwrap().unwrap();
    let (_, folder, places) = federation.stopped().await;
    let mut federation = TestFederation::serve(folder, places, |_| sordino_coordinator::Routes::new()).await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    sites.iter().for_each(|site| site.moved_to(&federation.url));
    let running: Vec<_> =
        sites.iter().map(|site| tokio::spawn(site.train_by(Box::new(Reports), &created.id, None))).collect();
    for site in running {
        assert_eq!(site.await.unwrap().unwrap().finished, LAST - 5, "a site ends with its task");
    }
    let mut stands = Vec::new();
    for number in 1..=LAST {
        let round = round(&federation, &created.id, number).await;
        assert_eq!(round.state, RoundState::Complete, "{round:?}");
        let ReleaseConvergence { value, best, stale } = round.release.unwrap().convergence.unwrap();
        stands.push((value, best, stale));
    }
    assert_eq!(
        stands,
        [(3.0, 3.0, 0), (2.0, 2.0, 0), (2.5, 2.0, 1), (1.0, 1.0, 0), (1.0, 1.0, 1), (1.0, 1.0, 2), (1.0, 1.0, 3)]
    );
    let ended = task(&federation, &created.id).await;
    assert_eq!((ended.state, ended.round), (TaskState::Complete, LAST + 1));
    assert!(ended.reason.as_ref().unwrap().starts_with("converged: in 3 Releases loss_sum"), "{ended:?}");

    federation.stop();
    rounds.await.unwrap().unwrap();
    let (_, folder, places) = federation.stopped().await;
    let federation = TestFederation::serve(folder, places, |_| sordino_coordinator::Routes::new()).await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    assert_eq!(task(&federation, &created.id).await, ended, "and it stays ended");
    rounds.abort();
}
