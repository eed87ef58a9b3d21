//! Two sums over one model: of nearly the same cohort they would tell the difference, a single site's input.

use super::super::{
    common::{TestFederation, model},
    join, round,
    site::plain_sum,
    stage::{PATIENT, Stage, VALUES, policy},
    sum,
};
use super::{Counts, Replaces, assigned, check_in, liar, model_is, ok, refusal, task, task_is, untrained};
use sordino_codec::Tensors;
use sordino_participant::{
    Summary, TrainError,
    training::{RoundInfo, TrainError as TrainingError, Trained, Trainer},
};
use sordino_wire::{
    Code, Digest,
    api::{RoundState, Task},
};
use std::sync::{atomic::Ordering, mpsc};

/// The coordinator opens a sum, and then asks for another one over the same model, in another task: a round run again
/// without somebody would look like that. Whose owner allows for one sum per model trains nothing and says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_sum_over_one_model_gets_no_help() {
    let policy = policy(PATIENT).replace("target = 6", "target = 4");
    let mut stage = Stage::prepare("", &policy, VALUES, 4).await;
    for site in &stage.sites {
        site.set("max_sums_per_model", "1");
    }
    stage.begin();
    stage.complete(&[]).await;

    let file = model(&[0.5; VALUES]);
    let again = stage.federation.create_task(&policy, Digest::of(&file)).await;
    let said = [
        (check_in(&again), vec![ok(&assigned(&again, 1)), refusal(Code::Conflict)]),
        task_is(&again),
        model_is(&again, &file),
    ];
    let liar = liar(&stage.federation, said.into()).await;
    let (site, counts) = (&stage.sites[2], Counts::default());
    site.moved_to(&liar.url);
    let summary = site.train_by(Box::new(counts.clone()), &again.id, None).await.unwrap();
    assert_eq!(summary, Summary { refused: 1, ..Summary::default() });
    assert_eq!(counts.0.load(Ordering::Relaxed), 0, "nothing is trained for it");
    assert_eq!(liar.heard("/messages/"), 0, "and nothing said");
}

/// The same where the model was changed in the last bit of one value: another digest, and for all that a site can tell
/// the model of a later round. But the coordinator needs a round for it, and this one has had its sum.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_sum_of_one_round_gets_no_help_whatever_its_model() {
    let two_rounds = policy(PATIENT).replace("target = 6", "target = 4").replace("rounds = 1", "rounds = 2");
    let mut stage = Stage::prepare("", &two_rounds, VALUES, 4).await;
    for site in &stage.sites {
        site.set("max_sums_per_model", "1");
    }
    stage.begin();
    // One sum of each round, over a model of its own.
    stage.complete(&[]).await;

    let site = &stage.sites[1];
    let mut values = [0.5; VALUES];
    // The site is started anew each time.
    for attempt in 2..4 {
        values[7] = f32::from_bits(f32::to_bits(values[7]) + 1);
        let file = model(&values);
        let mut again = task(&stage.federation, &stage.task).await;
        (again.round, again.model) = (2, Digest::of(&file));
        let said = [
            (check_in(&again), vec![ok(&assigned(&again, attempt)), refusal(Code::Conflict)]),
            task_is(&again),
            model_is(&again, &file),
        ];
        let liar = liar(&stage.federation, said.into()).await;
        let counts = Counts::default();
        site.moved_to(&liar.url);
        let summary = site.train_by(Box::new(counts.clone()), &again.id, None).await.unwrap();
        assert_eq!(summary, Summary { refused: 1, ..Summary::default() });
        assert_eq!(counts.0.load(Ordering::Relaxed), 0, "nothing is trained for it");
        assert_eq!(liar.heard("/messages/"), 0, "and nothing said");
    }
    // Nor has the task a round more than its policy says.
    let file = model(&values);
    let mut next = task(&stage.federation, &stage.task).await;
    (next.round, next.model) = (3, Digest::of(&file));
    let said = |task: &Task, attempt| {
        let assigned = vec![ok(&assigned(task, attempt)), refusal(Code::Conflict)];
        [(check_in(task), assigned), task_is(task), model_is(task, &file)].into()
    };
    site.moved_to(&liar(&stage.federation, said(&next, 1)).await.url);
    let error = untrained(site, &next, "a round too many").await;
    assert!(matches!(error, TrainError::NoSuchRound { round: 3, rounds: 2 }), "{error}");

    // A site that does not know its sums any more takes part in nothing.
    site.damage_exposure();
    next.round = 2;
    let liar = liar(&stage.federation, said(&next, 9)).await;
    site.moved_to(&liar.url);
    let error = untrained(site, &next, "a damaged record").await;
    assert!(error.to_string().contains("holds how many sums this site has helped to open"), "{error}");
    assert_eq!(liar.heard("/messages/"), 0);
}

/// Trains once it is told to.
struct Waits(mpsc::Receiver<()>);

impl Trainer for Waits {
    fn train(&mut self, model: &Tensors, round: &RoundInfo) -> Result<Trained, TrainingError> {
        self.0.recv().unwrap();
        Replaces(Some(0.75), Some(2.0)).train(model, round)
    }
}

/// Two tasks with cohorts of their own: while one waits for a slow site, the other one's round is complete, and each sum
/// is that of its own cohort.
#[tokio::test(flavor = "multi_thread")]
async fn two_cohorts_at_once() {
    let policy = policy(PATIENT).replace("target = 6", "target = 4");
    let federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let sites = join(&federation, 8).await;
    let mut tasks = Vec::new();
    for value in [0.25, 0.5] {
        tasks.push(federation.create_task(&policy, federation.upload(&model(&[value; VALUES])).await).await.id);
    }
    let (slow, quick) = sites.split_at(4);
    let (go, wait) = mpsc::channel();
    let first = tokio::spawn(slow[0].train_by(Box::new(Waits(wait)), &tasks[0], None));
    let others: Vec<_> = slow[1..].iter().map(|site| tokio::spawn(site.train(&tasks[0], None))).collect();
    let quick_ones: Vec<_> = quick.iter().map(|site| tokio::spawn(site.train(&tasks[1], None))).collect();
    for site in quick_ones {
        assert_eq!(site.await.unwrap().unwrap().finished, 1);
    }
    assert_eq!(round(&federation, &tasks[0], 1).await.state, RoundState::Collecting, "it is open all the while");
    go.send(()).unwrap();
    for site in others.into_iter().chain([first]) {
        assert_eq!(site.await.unwrap().unwrap().finished, 1);
    }
    for (task, cohort) in tasks.iter().zip([slow, quick]) {
        let round = round(&federation, task, 1).await;
        assert_eq!(round.release.as_ref().unwrap().survivors.len(), 4);
        assert_eq!(sum(&federation, &round).await, plain_sum(cohort, &round));
    }
    rounds.abort();
}
