//! What the attempts before mean for the next one: which of them cost a sum, and who is in its cohort.

use super::{
    POLICY,
    common::{TestFederation, model},
    join,
    raw::Raw,
    round,
    site::{Site, plain_sum},
    stage::{Stage, VALUES, policy},
    sum, task,
};
use reqwest::StatusCode;
use sordino_codec::Tensors;
use sordino_participant::{
    TrainError,
    training::{RoundInfo, TrainError as TrainingError, Trained, Trainer},
};
use sordino_secagg::Step;
use sordino_store::{AttemptStart, Findings, NewCulprit, NewDispute};
use sordino_wire::{
    TaskId,
    api::{RoundState, TaskState},
    policy::SUMS_PER_MODEL_MAX,
};
use std::time::Duration;

/// Falls silent before these steps of round 1, in one attempt after the other, and comes back each time.
async fn vanishes_before(site: &Site, task: &TaskId, steps: &[Step]) {
    for &step in steps {
        let error = site.train(task, Some((1, step))).await.expect_err("it vanishes");
        assert!(matches!(error, TrainError::Vanished { step: at, .. } if at == step), "{error}");
    }
    site.train(task, None).await.unwrap();
}

/// Three attempts end after sites have revealed shares: there is no fourth, since no site would help to open it, and
/// the task says so. An attempt that ended before does not count.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_halts_where_no_site_would_help_to_open_another_sum() {
    let federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let policy = policy(0.2).replace("target = 6", "target = 4").replace("step_timeout = 10.0", "step_timeout = 1.0");
    let created = federation.create_task(&policy, federation.upload(&model(&[0.5; VALUES])).await).await;
    let sites = join(&federation, 4).await;
    let late = [Step::Unmasking; SUMS_PER_MODEL_MAX as usize];
    let attempts = [&[Step::ConsistencyCheck][..], &late].concat();
    let steady: Vec<_> = sites[2..].iter().map(|site| tokio::spawn(site.train(&created.id, None))).collect();
    tokio::join!(
        vanishes_before(&sites[0], &created.id, &attempts),
        vanishes_before(&sites[1], &created.id, &attempts)
    );
    for site in steady {
        let summary = site.await.unwrap().unwrap();
        assert_eq!((summary.finished + summary.left_out, summary.refused, summary.failed), (4, 0, 0));
    }

    let round = round(&federation, &created.id, 1).await;
    assert_eq!((round.state, round.attempt), (RoundState::Failed, 4), "{round:?}");
    let halted = task(&federation, &created.id).await;
    assert_eq!((halted.state, halted.model), (TaskState::Halted, created.model));
    let reason = halted.reason.unwrap();
    assert!(reason.contains("in 3 attempts over model") && reason.contains("max_sums_per_model"), "{reason}");
    assert_eq!(round.failure.as_deref(), Some(&*reason));
    for attempt in 1..=4 {
        let row = federation.app.store.attempt(created.id.as_str(), 1, attempt).await.unwrap().unwrap();
        assert_eq!(row.reveals, attempt > 1, "{row:?}");
    }
    rounds.abort();
}

/// Learns nothing.
struct Idle;

impl Trainer for Idle {
    fn train(&mut self, model: &Tensors, _: &RoundInfo) -> Result<Trained, TrainingError> {
        let metrics = [("loss_sum".to_owned(), 1.0)].into();
        Ok(Trained { tensors: model.clone(), num_examples: 1, metrics })
    }
}

/// Rounds that are complete count as well, and a model that they do not change is the same one: the task ends before
/// sites would refuse it.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_halts_where_its_rounds_do_not_change_the_model() {
    let federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let policy = POLICY.replace("rounds = 2", "rounds = 9").replace("target = 6", "target = 4");
    let created = federation.create_task(&policy, federation.upload(&model(&[0.5; VALUES])).await).await;
    let sites = join(&federation, 4).await;
    let running: Vec<_> =
        sites.iter().map(|site| tokio::spawn(site.train_by(Box::new(Idle), &created.id, None))).collect();
    for site in running {
        let summary = site.await.unwrap().unwrap();
        assert_eq!((summary.finished, summary.refused), (SUMS_PER_MODEL_MAX.into(), 0));
    }
    let halted = task(&federation, &created.id).await;
    assert_eq!((halted.state, halted.model, halted.round), (TaskState::Halted, created.model, 4));
    assert!(halted.reason.unwrap().contains("make a new task from this model"));
    for number in 1..=3 {
        assert_eq!(round(&federation, &created.id, number).await.state, RoundState::Complete);
    }
    rounds.abort();
}

/// An attempt of a task, from before the service was started, that has shown this: a site dealt or held shares that did
/// not open, by the number of each; and one was found to be corrupt.
async fn shown(federation: &TestFederation, task: &sordino_wire::api::Task, disputes: &[(u8, u8)], culprit: u8) {
    let id = |number| format!("site-{number:04}");
    let dispute = |&(dealer, holder)| NewDispute { dealer: id(dealer), holder: id(holder) };
    let findings = Findings {
        disputes: disputes.iter().map(dispute).collect(),
        culprits: vec![NewCulprit { id: id(culprit), reason: "its shares did not fit its keys".into() }],
        ..Findings::default()
    };
    let store = &federation.app.store;
    let start =
        AttemptStart { task: task.id.to_string(), round: 1, attempt: 1, model: task.model.0, cohort_json: "{}".into() };
    store.begin_attempt(start, 0).await.unwrap();
    store.end_attempt(task.id.as_str(), 1, 1, ("it failed", findings), 0).await.unwrap();
}

/// What the store knows of participants outlives the service and the round: a culprit is in no cohort, and nobody is in
/// one with whom it is in dispute.
#[tokio::test(flavor = "multi_thread")]
async fn a_cohort_holds_no_culprit_and_no_two_in_dispute() {
    let federation = TestFederation::start().await;
    let policy = POLICY.replace("target = 6", "target = 4");
    let created = federation.create_task(&policy, federation.upload(&model(&[0.5; VALUES])).await).await;
    // With one more in each cohort, the same sites are too few.
    let policy = policy.replace("target = 4", "target = 5").replace("min = 4", "min = 5");
    let hindered = federation.create_task(&policy, federation.upload(&model(&[0.25; VALUES])).await).await;
    let sites = join(&federation, 6).await;
    for task in [&created, &hindered] {
        shown(&federation, task, &[(0, 1)], 2).await;
    }
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let running: Vec<_> = sites.iter().map(|site| tokio::spawn(site.train(&created.id, None))).collect();
    for site in running {
        site.await.unwrap().unwrap();
    }
    for number in 1..=2 {
        let round = round(&federation, &created.id, number).await;
        assert_eq!(round.state, RoundState::Complete, "{round:?}");
        let release = round.release.as_ref().unwrap();
        let cohort: Vec<_> = release.cohort.iter().map(sordino_identity::PrincipalId::as_str).collect();
        assert!(matches!(cohort[..], ["site-0000" | "site-0001", "site-0003", "site-0004", "site-0005"]), "{cohort:?}");
        assert_eq!(sum(&federation, &round).await, plain_sum(&sites, &round));
    }
    let done = task(&federation, &created.id).await;
    let left_out: Vec<_> = done.left_out.iter().map(|(id, why)| (id.as_str(), why.as_str())).collect();
    assert_eq!(left_out, [("site-0002", "its shares did not fit its keys")]);

    let running: Vec<_> = sites.iter().map(|site| tokio::spawn(site.train(&hindered.id, None))).collect();
    let says = "6 participants are there, of whom one cohort can hold no more than 4, and 5 are needed";
    let waits = async {
        while !task(&federation, &hindered.id).await.reason.is_some_and(|reason| reason.starts_with(says)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waits).await.expect("it says why it waits");
    // One more that is in no dispute, and the round begins.
    let seventh = Site::join(&federation, 6).await;
    let last = tokio::spawn(seventh.train(&hindered.id, None));
    for site in running.into_iter().chain([last]) {
        site.await.unwrap().unwrap();
    }
    let done = task(&federation, &hindered.id).await;
    assert_eq!((done.state, done.reason), (TaskState::Complete, None));
    rounds.abort();
}

/// A complaint costs a sum nothing that has helpers to spare. It is kept, and from then on no cohort holds both sides.
#[tokio::test(flavor = "multi_thread")]
async fn who_complains_is_kept_apart_from_whom_it_accuses() {
    let mut stage = Stage::open(&policy(2.0), VALUES, 5).await;
    let raw = Raw::join(&stage.federation, "raw-site-5").await;
    let mut part = raw.begin(&stage.task, None, 9).await;
    part.until(Step::MaskedInput).await;
    // Names in the order of the roster: the accused is the first.
    assert_eq!(part.place(), 0, "raw-site-5 is before site-0000");
    let header = part.complaining(1);
    assert_eq!(part.put(0, &part.packed).await.status(), StatusCode::OK);
    let answer = part.post(Step::MaskedInput, &header).await;
    assert_eq!(answer.status(), StatusCode::CREATED, "{}", answer.text().await.unwrap());
    part.next().await;
    part.send().await;
    part.next().await;
    // It cannot take its word back.
    let (step, revealed) = part.message();
    assert_eq!(step, Step::Unmasking);
    assert!(part.post(step, &revealed).await.status().is_client_error());
    stage.complete(&[&part]).await;

    let store = &stage.federation.app.store;
    let disputes = store.disputes(stage.task.as_str()).await.unwrap();
    let disputes: Vec<_> = disputes.iter().map(|row| (row.dealer.as_str(), row.holder.as_str(), row.round)).collect();
    assert_eq!(disputes, [("site-0000", "raw-site-5", 1)]);
    assert!(store.culprits(stage.task.as_str()).await.unwrap().is_empty(), "one of two may lie: nobody can tell which");
}
