//! Rounds with differential privacy: charged before anybody is asked, with the noise that was paid for.

use super::{
    POLICY,
    common::{TestFederation, model},
    join, round, site, sum, task,
};
use reqwest::StatusCode;
use sordino_codec::Tensors;
use sordino_dp::Accountant;
use sordino_participant::training::{RoundInfo, TrainError, Trained, Trainer};
use sordino_wire::{
    Policy, RoundId,
    api::{BudgetState, Budgets, RoundState, TaskState},
};
use std::collections::BTreeMap;

const VALUES: usize = 2_000;
const SITES: u8 = 6;

/// Learns nothing: what is released is noise.
struct Zero;

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
