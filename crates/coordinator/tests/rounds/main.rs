//! Whole rounds over real sockets and TLS: the coordinator in this process, participants as the library that sites run.

#![expect(unreachable_pub, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod accounts;
#[path = "../common/mod.rs"]
mod common;
mod convergence;
mod delta;
mod hostile;
mod lies;
mod network;
mod privacy;
mod proofs;
mod raw;
mod rechecks;
mod records;
mod registrar;
mod schedule;
mod site;
mod stage;
mod standing;
mod strategies;
mod uploads;
#[path = "../service/wire.rs"]
mod wire;

use common::{TestFederation, model};
use site::Site;
use sordino_identity::KeyType;
use sordino_participant::TrainError;
use sordino_secagg::Step;
use sordino_wire::{
    Digest, RoundId, TaskId,
    api::{Page, Round, RoundState, Task, TaskState},
};

const POLICY: &str = r#"
[task]
name = "sums"
rounds = 2
[cohort]
min = 4
target = 6
max_dropout_fraction = 0.2
[privacy]
enabled = false
clip_norm = 4.0
[encoding]
max_weight = 10
[[encoding.metrics]]
name = "loss_sum"
max = 100.0
resolution = 0.01
[timing]
gather = 5.0
participant_timeout = 20.0
round_timeout = 60.0
step_timeout = 10.0
step_grace = 0.2
"#;

async fn join(federation: &TestFederation, count: u8) -> Vec<Site> {
    let mut sites = Vec::new();
    for number in 0..count {
        sites.push(Site::join(federation, number).await);
    }
    sites
}

/// What was released of a round.
async fn round(federation: &TestFederation, task: &TaskId, number: u64) -> Round {
    let id = RoundId { task: task.clone(), number };
    federation.admin.get(&format!("/v1/rounds/{id}")).send().await.unwrap().json().await.unwrap()
}

async fn task(federation: &TestFederation, id: &TaskId) -> Task {
    federation.admin.get(&format!("/v1/tasks/{id}")).send().await.unwrap().json().await.unwrap()
}

/// Whether an epsilon is the one expected: both are rounded up, which differs with the order of events.
fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= expected * 1e-9
}

/// The sum of a round's Release as integers.
async fn sum(federation: &TestFederation, round: &Round) -> Vec<i64> {
    let auditor = federation.auditor().await;
    let bytes = auditor.get(&format!("/v1/rounds/{}/sum", round.id)).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(Digest::of(&bytes), round.release.as_ref().unwrap().sum);
    site::integers(&bytes)
}

/// Two rounds of six sites: each Release is exactly the sum of what the sites encoded, and moves the model by its mean.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_exactly_the_sum_of_the_inputs() {
    let federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let start = model(&[0.5; 40]);
    let created = federation.create_task(POLICY, federation.upload(&start).await).await;
    let sites = join(&federation, 6).await;
    let running: Vec<_> = sites.iter().map(|site| tokio::spawn(site.train(&created.id, None))).collect();
    for site in running {
        let summary = site.await.unwrap().unwrap();
        assert_eq!((summary.finished, summary.left_out, summary.refused), (2, 0, 0));
    }
    for number in 1..=2 {
        let round = round(&federation, &created.id, number).await;
        assert_eq!(round.state, RoundState::Complete, "{round:?}");
        let release = round.release.clone().unwrap();
        assert_eq!((release.survivors.len(), release.dropouts.len()), (6, 0));
        assert_eq!(release.weight, 1 + 2 + 3 + 4 + 5 + 6, "weights are 1 to 6");
        assert_eq!(sum(&federation, &round).await, site::plain_sum(&sites, &round));
    }
    let done = task(&federation, &created.id).await;
    assert_eq!(done.state, TaskState::Complete);
    let bytes =
        federation.admin.get(&format!("/v1/models/{}", done.model)).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(Digest::of(&bytes), done.model);
    // Every site moves every value by its number in hundredths; the weights are 1 to 6: (0 + 2 + 6 + 12 + 20 + 30) / 21.
    let values = &bytes[bytes.len() - 160..];
    for value in values.chunks_exact(4) {
        let value = f32::from_le_bytes(value.try_into().unwrap());
        assert!((value - (0.5 + 2.0 * 0.7 / 21.0)).abs() < 1e-3, "{value}");
    }
    let listed: Page<Round> = federation
        .admin
        .get(&format!("/v1/tasks/{}/rounds?limit=1", created.id))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!((listed.items.len(), listed.next.as_deref()), (1, Some("1")));
    rounds.abort();
}

/// In each round one site falls silent at another step: the Release is exact, and says who and where.
#[tokio::test(flavor = "multi_thread")]
async fn dropouts_at_every_step() {
    let federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let policy = POLICY.replace("rounds = 2", "rounds = 5");
    let created = federation.create_task(&policy, federation.upload(&model(&[0.5; 40])).await).await;
    let sites = join(&federation, 6).await;
    let steady: Vec<_> = sites[..5].iter().map(|site| tokio::spawn(site.train(&created.id, None))).collect();
    for (number, step) in (1..).zip(Step::ALL) {
        let error = sites[5].train(&created.id, Some((number, step))).await.expect_err("it vanishes");
        assert!(matches!(error, TrainError::Vanished { step: at, .. } if at == step), "{error}");
    }
    for site in steady {
        assert_eq!(site.await.unwrap().unwrap().finished, 5);
    }
    let vanished = &sites[5].id;
    for (number, step) in (1..).zip(Step::ALL) {
        let round = round(&federation, &created.id, number).await;
        assert_eq!((round.state, round.attempt), (RoundState::Complete, 1), "{round:?}");
        let release = round.release.clone().unwrap();
        let before = step <= Step::MaskedInput;
        assert_eq!(release.survivors.contains(vanished), !before, "{step}");
        let named = if before { &release.dropouts } else { &release.silent_survivors };
        assert_eq!(named.get(vanished).map(String::as_str), Some(step.name()), "{release:?}");
        assert_eq!(sum(&federation, &round).await, site::plain_sum(&sites, &round), "{step}");
    }
    rounds.abort();
}

/// The coordinator's process state is dropped in the middle of an attempt; the next one goes on with the same attempt,
/// from journal and spool alone, and its sum holds the inputs of before.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finishes_the_same_attempt() {
    Box::pin(restart_in_an_attempt([KeyType::Ed25519; 6])).await;
}

/// The same where half of the sites have P-256 keys, also the one that falls silent: they sign with randomness, and what
/// they send again after their own restart is what was counted before.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finishes_the_same_attempt_of_sites_with_keys_of_both_kinds() {
    let kinds = [KeyType::Ed25519, KeyType::P256, KeyType::Ed25519, KeyType::P256, KeyType::Ed25519, KeyType::P256];
    Box::pin(restart_in_an_attempt(kinds)).await;
}

async fn restart_in_an_attempt(kinds: [KeyType; 6]) {
    let mut federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let policy = POLICY.replace("step_grace = 0.2", "step_grace = 9.0");
    let created = federation.create_task(&policy, federation.upload(&model(&[0.5; 40])).await).await;
    let mut sites = Vec::new();
    for (number, kind) in (0..).zip(kinds) {
        sites.push(Site::join_with(&federation, number, kind).await);
    }
    // One site falls silent before its input, so the step stays open for its grace: the inputs of the others are in.
    let last = sites[5].train(&created.id, Some((1, Step::MaskedInput)));
    let running: Vec<_> = sites[..5].iter().map(|site| tokio::spawn(site.train(&created.id, None))).collect();
    last.await.expect_err("it vanishes");
    inputs_are_in(&federation, &created.id, 5).await;
    running.iter().for_each(tokio::task::JoinHandle::abort);
    federation.stop();
    rounds.await.unwrap().unwrap();
    let (_, folder, places) = federation.stopped().await;

    let federation = TestFederation::serve(folder, places, |_| sordino_coordinator::Routes::new()).await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    sites.iter().for_each(|site| site.moved_to(&federation.url));
    let running: Vec<_> = sites.iter().map(|site| tokio::spawn(site.train(&created.id, None))).collect();
    for site in running {
        site.await.unwrap().unwrap();
    }
    let round = round(&federation, &created.id, 1).await;
    let first = federation.app.store.attempt(created.id.as_str(), 1, 1).await.unwrap();
    assert_eq!((round.state, round.attempt), (RoundState::Complete, 1), "{first:?}");
    assert_eq!(round.release.as_ref().unwrap().survivors.len(), 5);
    assert_eq!(sum(&federation, &round).await, site::plain_sum(&sites, &round));
    rounds.abort();
}

/// A graceful stop parks the round: sites that are in the middle of it wait for the coordinator, and nobody is left out.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_parks_the_round_and_leaves_nobody_out() {
    let mut federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let policy = POLICY.replace("rounds = 2", "rounds = 1").replace("step_grace = 0.2", "step_grace = 3.0");
    let created = federation.create_task(&policy, federation.upload(&model(&[0.5; 40])).await).await;
    let sites = join(&federation, 6).await;
    let last = sites[5].train(&created.id, Some((1, Step::MaskedInput)));
    let running: Vec<_> = sites[..5].iter().map(|site| tokio::spawn(site.train(&created.id, None))).collect();
    last.await.expect_err("it vanishes");
    inputs_are_in(&federation, &created.id, 5).await;
    // All five wait for the next step when the service stops; it comes back at the same port.
    federation.stop();
    rounds.await.unwrap().unwrap();
    let port = federation.port;
    let (_, folder, places) = federation.stopped().await;
    let config = std::fs::read_to_string(&places.config).unwrap();
    std::fs::write(&places.config, config.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"))).unwrap();
    let federation = TestFederation::serve(folder, places, |_| sordino_coordinator::Routes::new()).await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    for site in running {
        let summary = site.await.unwrap().unwrap();
        assert_eq!((summary.finished, summary.left_out, summary.refused), (1, 0, 0));
    }
    let round = round(&federation, &created.id, 1).await;
    assert_eq!((round.state, round.attempt), (RoundState::Complete, 1), "{round:?}");
    assert_eq!(round.release.as_ref().unwrap().survivors.len(), 5);
    assert_eq!(sum(&federation, &round).await, site::plain_sum(&sites, &round));
    rounds.abort();
}

/// Waits until the journal of the first attempt holds this many inputs.
async fn inputs_are_in(federation: &TestFederation, task: &TaskId, count: usize) {
    loop {
        let events = federation.app.store.events(task.as_str(), 1, 1).await.unwrap();
        if events.iter().filter(|event| event.kind == 2).count() == count {
            return;
        }
        tokio::task::yield_now().await;
    }
}
