//! Rounds whose inputs carry proofs: honest ones are summed exactly, and those who cheat are named or isolated.

use super::{
    POLICY,
    common::{TestFederation, model},
    join, round, site, sum,
};
use sordino_participant::attack::Attack;
use sordino_wire::api::{Release, Round, RoundState};

const VALUES: usize = 500;

fn policy(rounds: u64) -> String {
    POLICY.replace("rounds = 2", &format!("rounds = {rounds}")) + "[robustness]\nproof = \"transparent\"\n"
}

fn released(round: &Round) -> &Release {
    assert_eq!(round.state, RoundState::Complete, "{round:?}");
    round.release.as_ref().expect("it is complete")
}

/// Two rounds of six honest sites: the sums are exact, and every check passes.
#[tokio::test(flavor = "multi_thread")]
async fn honest_inputs_are_proven_and_summed_exactly() {
    let federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let created = federation.create_task(&policy(2), federation.upload(&model(&[0.5; VALUES])).await).await;
    let sites = join(&federation, 6).await;
    let running: Vec<_> = sites.iter().map(|site| tokio::spawn(site.train(&created.id, None))).collect();
    for site in running {
        let summary = site.await.unwrap().unwrap();
        assert_eq!((summary.finished, summary.left_out, summary.refused), (2, 0, 0));
    }
    for number in 1..=2 {
        let round = round(&federation, &created.id, number).await;
        let release = released(&round);
        assert_eq!((release.survivors.len(), release.dropouts.len(), release.refused.len()), (6, 0, 0));
        let proof = release.proof.as_ref().expect("it is proven");
        assert_eq!((proof.groups.len(), proof.failed.len(), proof.cohort), (1, 0, 6));
        assert_eq!(proof.groups[0].survivors, release.survivors);
        assert_eq!(sum(&federation, &round).await, site::plain_sum(&sites, &round));
        assert!(round.checks.iter().all(|check| check.passed) && round.checks.len() == 1, "{:?}", round.checks);
    }
    rounds.abort();
}

/// Each kind of bad proof is named at once, and the others' sum is exact without it.
#[tokio::test(flavor = "multi_thread")]
async fn whose_proof_is_bad_is_named_and_left_out() {
    for attack in [Attack::Scale10, Attack::Garbled, Attack::Replayed] {
        let federation = TestFederation::start().await;
        let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
        let created = federation.create_task(&policy(1), federation.upload(&model(&[0.5; VALUES])).await).await;
        let sites = join(&federation, 6).await;
        let running: Vec<_> = sites[..5].iter().map(|site| tokio::spawn(site.train(&created.id, None))).collect();
        let cheat = tokio::spawn(sites[5].cheat(attack, &created.id));
        for site in running {
            assert_eq!(site.await.unwrap().unwrap().finished, 1, "{attack}");
        }
        let summary = cheat.await.unwrap().unwrap();
        assert_eq!((summary.finished, summary.left_out), (0, 1), "{attack}");
        let round = round(&federation, &created.id, 1).await;
        let release = released(&round);
        assert_eq!((release.survivors.len(), round.attempt), (5, 1), "{attack}: {round:?}");
        assert_eq!(release.dropouts[&sites[5].id], "MaskedInput", "{attack}");
        assert!(release.refused.contains_key(&sites[5].id) && release.refused.len() == 1, "{:?}", release.refused);
        assert_eq!(sum(&federation, &round).await, site::plain_sum(&sites, &round), "{attack}");
        rounds.abort();
    }
}

/// A site that sends another input than it has committed to spoils its group's sum, which is not released; the other
/// groups' sums are, and it is isolated after a few rounds. After that there is one group again.
#[tokio::test(flavor = "multi_thread")]
async fn who_sends_another_input_than_it_committed_to_is_isolated() {
    const ROUNDS: u64 = 8;
    let federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let policy = policy(ROUNDS).replace("min = 4", "min = 3").replace("gather = 5.0", "gather = 0.5");
    let created = federation.create_task(&policy, federation.upload(&model(&[0.5; VALUES])).await).await;
    let sites = join(&federation, 6).await;
    let running: Vec<_> = sites[..5].iter().map(|site| tokio::spawn(site.train(&created.id, None))).collect();
    let cheat = tokio::spawn(sites[5].cheat(Attack::Mismatch, &created.id));
    for site in running {
        assert_eq!(site.await.unwrap().unwrap().refused, 0);
    }
    cheat.abort();
    let mut attempts = 0;
    for number in 1..=ROUNDS {
        let round = round(&federation, &created.id, number).await;
        let release = released(&round);
        assert!(!release.survivors.contains(&sites[5].id), "{release:?}");
        assert_eq!(sum(&federation, &round).await, site::plain_sum(&sites, &round));
        let failed = round.checks.iter().filter(|check| !check.passed);
        assert!(failed.clone().all(|check| check.survivors.contains(&sites[5].id)), "{:?}", round.checks);
        attempts += failed.count();
        let proof = release.proof.as_ref().expect("it is proven");
        if number == 1 {
            assert_eq!((round.attempt, proof.groups.len(), proof.failed.len()), (2, 1, 1), "{round:?}");
        }
        if number == ROUNDS {
            assert_eq!((proof.groups.len(), proof.failed.len(), release.survivors.len()), (1, 0, 5), "{round:?}");
        }
    }
    assert!((2..=5).contains(&attempts), "{attempts} groups were spoiled");
    let culprits = federation.app.store.culprits(created.id.as_str()).await.unwrap();
    assert_eq!(culprits.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), [sites[5].id.as_str()]);
    assert!(culprits[0].reason.contains("another input than it had committed to"), "{culprits:?}");
    rounds.abort();
}
