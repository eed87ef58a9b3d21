//! A task under way with honest sites, for the misbehaviour of others.

use super::{
    POLICY,
    common::{TestFederation, model},
    join,
    raw::Part,
    round,
    site::Site,
    sum,
};
use http::StatusCode;
use sordino_participant::{Client, Credentials, Summary, TrainError};
use sordino_wire::{
    TaskId,
    api::{Round, RoundState},
};
use tokio::task::JoinHandle;

/// A federation with a task, and honest sites that train for it.
pub struct Stage {
    pub federation: TestFederation,
    pub task: TaskId,
    pub sites: Vec<Site>,
    running: Vec<JoinHandle<Result<Summary, TrainError>>>,
    rounds: JoinHandle<Result<(), sordino_coordinator::rounds::RoundsError>>,
}

/// One round. A step waits for everybody for so long once the quorum has answered.
pub fn policy(step_grace: f64) -> String {
    POLICY.replace("rounds = 2", "rounds = 1").replace("step_grace = 0.2", &format!("step_grace = {step_grace}"))
}

/// Longer than any step: whoever is awaited is awaited.
pub const PATIENT: f64 = 60.0;
/// Values of the model: with one weight and one metric, an odd number of values.
pub const VALUES: usize = 41;

impl Stage {
    /// Makes a task for `honest` sites and others, of whom there have to be as many as the policy's target lacks.
    pub async fn open(policy: &str, values: usize, honest: u8) -> Self {
        let mut stage = Self::prepare("", policy, values, honest).await;
        stage.begin();
        stage
    }

    /// The same, and the sites have joined and do nothing yet.
    ///
    /// - `extra_config`: appended to `sordino.toml`.
    pub async fn prepare(extra_config: &str, policy: &str, values: usize, honest: u8) -> Self {
        let federation = TestFederation::start_with(extra_config, |_| sordino_coordinator::Routes::new()).await;
        let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
        // In chunks, as large as they may be.
        let admin = Credentials::load(&federation.places.admin, Some(&federation.url.parse().unwrap())).unwrap();
        let first = Client::new(&admin).unwrap().put_model(&model(&vec![0.5; values])).await.unwrap();
        let created = federation.create_task(policy, first).await;
        let sites = join(&federation, honest).await;
        Self { federation, task: created.id, sites, running: Vec::new(), rounds }
    }

    /// The sites train.
    pub fn begin(&mut self) {
        self.running = self.sites.iter().map(|site| tokio::spawn(site.train(&self.task, None))).collect();
    }

    /// Waits for the honest sites. The server still runs, and the last round's sum is exactly that of the honest sites'
    /// and these parts' inputs.
    pub async fn complete(&mut self, parts: &[&Part<'_>]) -> Round {
        let mut finished = 0;
        for site in self.running.drain(..) {
            finished = site.await.unwrap().unwrap().finished;
        }
        let answer = self.federation.stranger().get("/readyz").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "the server still runs");
        let round = round(&self.federation, &self.task, finished).await;
        assert_eq!(round.state, RoundState::Complete, "{round:?}");
        let survivors = &round.release.as_ref().unwrap().survivors;
        assert_eq!(survivors.len(), self.sites.len() + parts.len(), "{round:?}");
        assert!(self.sites.iter().all(|site| survivors.contains(&site.id)), "{round:?}");
        let mut expected = vec![0; sum(&self.federation, &round).await.len()];
        let honest = self.sites.iter().map(|site| site.encoded(&round));
        for input in honest.chain(parts.iter().map(|part| part.integers.clone())) {
            assert_eq!(input.len(), expected.len());
            expected.iter_mut().zip(input).for_each(|(sum, value)| *sum += value);
        }
        assert_eq!(sum(&self.federation, &round).await, expected, "the sum is that of the survivors' inputs");
        round
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.rounds.abort();
    }
}
