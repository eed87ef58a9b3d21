//! Strategies that are more than a mean, over real sockets.

use super::{
    POLICY,
    common::{TestFederation, model},
    join, round, sum, task,
};
use http::StatusCode;
use sordino_codec::{FileLimits, Sums, Tensors};
use sordino_strategy::State;
use sordino_wire::{
    CheckedPolicy, Digest, Policy, RoundPrivacy, TaskId,
    api::{ReleaseOptimizer, Round, RoundState, TaskState},
};
use std::num::NonZeroU32;

const VALUES: usize = 40;
const SITES: u8 = 6;

/// The test's policy under another strategy; `more` are further sections.
fn policy(strategy: &str, rounds: u64, more: &str) -> String {
    POLICY.replace("rounds = 2", &format!("rounds = {rounds}\nstrategy = \"{strategy}\"")) + more
}

fn checked(text: &str) -> CheckedPolicy {
    Policy::from_toml(text).unwrap().check().unwrap()
}

async fn file(federation: &TestFederation, path: &str) -> Vec<u8> {
    let answer = federation.admin.get(path).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    answer.bytes().await.unwrap().to_vec()
}

async fn tensors(federation: &TestFederation, digest: Digest) -> Tensors {
    let bytes = file(federation, &format!("/v1/models/{digest}")).await;
    Tensors::from_canonical(&bytes, &FileLimits::default()).unwrap()
}

/// Six sites see a task through, and each checks as many Releases as the policy has proofs for.
async fn trained(federation: &TestFederation, text: &str, proven: bool) -> TaskId {
    let created = federation.create_task(text, federation.upload(&model(&[0.5; VALUES])).await).await;
    let rounds = checked(text).policy().task.rounds;
    let sites = join(federation, SITES).await;
    let running: Vec<_> = sites.iter().map(|site| tokio::spawn(site.train(&created.id, None))).collect();
    for site in running {
        let summary = site.await.unwrap().unwrap();
        assert_eq!((summary.finished, summary.checked), (rounds, if proven { rounds } else { 0 }));
    }
    assert_eq!(task(federation, &created.id).await.state, TaskState::Complete);
    created.id
}

/// The next model of a round, from its sum: what anybody can compute.
async fn next(
    federation: &TestFederation,
    policy: &CheckedPolicy,
    state: Option<&State>,
    round: &Round,
) -> (Option<State>, Tensors) {
    let encoding = policy.encoding(VALUES, &policy.terms(u32::from(SITES))).unwrap();
    let integers = sum(federation, round).await;
    let sums = Sums {
        model: integers[..VALUES].to_vec(),
        weight: integers[VALUES].try_into().unwrap(),
        metrics: integers[VALUES + 1..].to_vec(),
        contributors: u32::from(SITES),
    };
    let divisor = RoundPrivacy::divisor(None, NonZeroU32::new(SITES.into()).unwrap());
    policy.next_model(state, &tensors(federation, round.model).await, &encoding.aggregate(&sums, divisor)).unwrap()
}

/// Each round goes on from the state that the last one ended with; sites and everybody else compute the same models again.
#[tokio::test(flavor = "multi_thread")]
async fn an_optimiser_goes_on_from_round_to_round() {
    let federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    for (strategy, section) in [("FedAdam", "[strategy]\nserver_learning_rate = 0.05\n"), ("FedAvgM", "")] {
        let text = policy(strategy, 3, &format!("{section}[robustness]\nproof = \"transparent\"\n"));
        let id = trained(&federation, &text, true).await;
        let policy = checked(&text);
        let second = policy.optimizer().has_second_moment();
        let mut state = policy.optimizer().initial(VALUES).unwrap();
        for number in 1..=3 {
            let round = round(&federation, &id, number).await;
            assert_eq!(round.state, RoundState::Complete, "{round:?}");
            let release = round.release.as_ref().unwrap();
            let ReleaseOptimizer { before, after } = release.optimizer.unwrap();
            assert_eq!(before, Digest::of(&state.to_bytes()), "{strategy}: round {number} goes on from the last one");
            let path = format!("/v1/rounds/{}/optimizer", round.id);
            assert_eq!(file(&federation, &format!("{path}/before")).await, state.to_bytes());
            let (computed, moved) = next(&federation, &policy, Some(&state), &round).await;
            assert_eq!(release.model, Digest::of(&moved.to_safetensors()), "{strategy}, round {number}");
            let published = file(&federation, &format!("{path}/after")).await;
            assert_eq!(after, Digest::of(&published));
            state = State::from_bytes(&published, VALUES, second).unwrap();
            assert_eq!(Some(&state), computed.as_ref());
            let other = federation.admin.get(&format!("{path}/later")).send().await.unwrap();
            assert_eq!(other.status(), StatusCode::NOT_FOUND);
        }
    }
    rounds.abort();
}

/// What follows from a released mean costs no privacy: a round is charged the same under every strategy.
#[test]
fn strategies_cost_no_privacy() {
    let text = |strategy: &str| {
        policy(strategy, 2, "").replace("enabled = false", "unit = \"participant\"\nnoise_multiplier = 20.0")
    };
    let events = |strategy: &str| {
        let policy = checked(&text(strategy));
        let privacy = policy.round_privacy(VALUES, &policy.terms(6)).unwrap().unwrap();
        format!("{:?}", privacy.events())
    };
    for strategy in ["FedAvgM", "FedAdagrad", "FedYogi", "FedAdam"] {
        assert_eq!(events(strategy), events("FedAvg"), "{strategy}");
    }
}
