//! Rounds whose inputs carry proofs: honest ones are summed exactly, and those who cheat are named or isolated.

use super::{
    POLICY,
    common::{TestFederation, model},
    join, round, site, sum,
};
use sordino_participant::attack::Attack;
use sordino_secagg::{CertificateKey, ParticipantId};
use sordino_wire::api::{Assignment, Release, ReleaseGroup, Round, RoundState};
use sordino_wire::evidence::{Claimed, EvidenceError, SumEvidence};
use sordino_wire::{CheckedPolicy, Digest};
use std::{collections::BTreeMap, num::NonZeroUsize};

const VALUES: usize = 500;

fn policy(rounds: u64) -> String {
    POLICY.replace("rounds = 2", &format!("rounds = {rounds}")) + "[robustness]\nproof = \"transparent\"\n"
}

/// What `/metrics` says of proofs: how many were verified, how many inputs were refused for each reason, and how many checks
/// of sums passed and failed.
#[derive(Debug, Default)]
struct Counted {
    verified: u64,
    refused: BTreeMap<String, u64>,
    checks: BTreeMap<String, u64>,
}

impl Counted {
    /// As a scraper sees it: by its certificate alone.
    async fn by(federation: &TestFederation) -> Self {
        let mut scraper = federation.admin.clone();
        scraper.token = None;
        let text = scraper.get("/metrics").send().await.unwrap().text().await.unwrap();
        for name in ["sordino_proof_verify_seconds", "sordino_inputs_refused_total", "sordino_group_checks_total"] {
            let kind = if name.ends_with("_seconds") { "histogram" } else { "counter" };
            let is_there = text.contains(&format!("\n{name}"));
            let is_described =
                text.contains(&format!("# HELP {name} ")) && text.contains(&format!("# TYPE {name} {kind}"));
            assert!(!is_there || is_described, "{name} in {text}");
        }
        let mut counted = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.rsplit_once(' ')) {
            let label = |name: &str, label: &str| {
                let value = name.strip_prefix(label)?.strip_suffix("\"}")?;
                Some(value.to_owned())
            };
            if name == "sordino_proof_verify_seconds_count" {
                counted.verified = value.parse().unwrap();
            } else if let Some(reason) = label(name, "sordino_inputs_refused_total{reason=\"") {
                counted.refused.insert(reason, value.parse().unwrap());
            } else if let Some(outcome) = label(name, "sordino_group_checks_total{outcome=\"") {
                counted.checks.insert(outcome, value.parse().unwrap());
            }
        }
        counted
    }

    /// What has come since. Tests in one process share the counters: there may be more than one's own.
    fn since(&self, before: &Self) -> Self {
        let less = |now: &BTreeMap<String, u64>, then: &BTreeMap<String, u64>| {
            let less = |(label, count): (&String, &u64)| (label.clone(), count - then.get(label).copied().unwrap_or(0));
            now.iter().map(less).filter(|(_, count)| *count > 0).collect()
        };
        Self {
            verified: self.verified - before.verified,
            refused: less(&self.refused, &before.refused),
            checks: less(&self.checks, &before.checks),
        }
    }
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
        assert_eq!((summary.finished, summary.left_out, summary.refused, summary.checked), (2, 0, 0, 2));
    }
    for number in 1..=2 {
        let round = round(&federation, &created.id, number).await;
        assert!(!sites.iter().any(|site| site.awaits(&round.id)), "every site has checked it again");
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
    for (attack, reason) in [
        (Attack::Scale10, "argument_rejected"),
        (Attack::Garbled, "bound_rejected"),
        (Attack::Replayed, "argument_rejected"),
    ] {
        let federation = TestFederation::start().await;
        let before = Counted::by(&federation).await;
        let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
        let created = federation.create_task(&policy(1), federation.upload(&model(&[0.5; VALUES])).await).await;
        let sites = join(&federation, 6).await;
        let running: Vec<_> = sites[..5].iter().map(|site| tokio::spawn(site.train(&created.id, None))).collect();
        let cheat = tokio::spawn(sites[5].cheat(attack, &created.id));
        for site in running {
            let summary = site.await.unwrap().unwrap();
            assert_eq!((summary.finished, summary.checked), (1, 1), "{attack}");
        }
        let summary = cheat.await.unwrap().unwrap();
        assert_eq!((summary.finished, summary.left_out), (0, 1), "{attack}");
        let round = round(&federation, &created.id, 1).await;
        let release = released(&round);
        assert_eq!((release.survivors.len(), round.attempt), (5, 1), "{attack}: {round:?}");
        assert_eq!(release.dropouts[&sites[5].id], "MaskedInput", "{attack}");
        assert!(release.refused.contains_key(&sites[5].id) && release.refused.len() == 1, "{:?}", release.refused);
        assert_eq!(sum(&federation, &round).await, site::plain_sum(&sites, &round), "{attack}");
        let counted = Counted::by(&federation).await.since(&before);
        assert!(counted.verified >= 6, "{attack}: {counted:?}");
        assert!(counted.refused.get(reason).is_some_and(|count| *count >= 1), "{attack}: {counted:?}");
        assert!(counted.checks.get("passed").is_some_and(|count| *count >= 1), "{attack}: {counted:?}");
        rounds.abort();
    }
}

/// The evidence for a group's sum, checked as anybody can who has the policy and the certificates' keys: here those of the
/// registry.
async fn verify(federation: &TestFederation, policy: &CheckedPolicy, round: &Round, group: &ReleaseGroup) {
    let proof = released(round).proof.as_ref().unwrap();
    let auditor = federation.auditor().await;
    let get = async |what: &str| {
        let path = format!("/v1/rounds/{}/groups/{}/{what}", round.id, group.group);
        auditor.get(&path).send().await.unwrap().error_for_status().unwrap().bytes().await.unwrap()
    };
    let (bytes, integers) = (get("evidence").await, site::integers(&get("sum").await));
    assert_eq!(Digest::of(&bytes), group.evidence);
    let terms = policy.assigned_terms(proof.cohort, proof.noise_multiplier).unwrap();
    let bounds = policy.round_proof(VALUES, &terms).unwrap().unwrap();
    assert_eq!(Digest(*bounds.claim.digest()), proof.claim);
    let assignment = Assignment {
        round: round.id.clone(),
        attempt: proof.attempt,
        nonce: group.nonce,
        model: round.model,
        policy_digest: policy.digest(),
        time_left: 0,
        cohort: proof.cohort,
        noise_multiplier: proof.noise_multiplier,
    };
    let encoding = policy.encoding(VALUES, &terms).unwrap();
    let context = policy.context(federation.app.federation(), &assignment, (&encoding, Some(&bounds)));
    let survivors: Vec<_> = group.survivors.iter().map(|id| ParticipantId::new(id.as_str()).unwrap()).collect();
    let mut keys = BTreeMap::new();
    for id in &survivors {
        let row = federation.app.store.principal(id.as_str()).await.unwrap().unwrap();
        keys.insert(id.clone(), CertificateKey::from_bytes(&row.verifying_key).unwrap());
    }
    let key_of = |id: &ParticipantId, _: &[u8]| Ok(keys[id]);
    let generators = bounds.generators();
    let check = |evidence: &SumEvidence, integers: &[i64]| {
        let claimed = Claimed { context: &context, proof: &bounds, survivors: &survivors, integers };
        evidence.verify(&claimed, &generators, key_of, NonZeroUsize::MIN)
    };
    let evidence = SumEvidence::from_bytes(&bytes).unwrap();
    check(&evidence, &integers).unwrap();
    let mut other = integers.clone();
    other[7] += 1;
    assert!(matches!(check(&evidence, &other), Err(EvidenceError::Sum(_))));
    if let Some(noise) = &evidence.noise {
        let without = SumEvidence { noise: None, ..evidence.clone() };
        assert!(matches!(check(&without, &integers), Err(EvidenceError::Noise { expected: true })));
        let mut garbled = noise.clone();
        *garbled.proof.last_mut().unwrap() ^= 1;
        let garbled = SumEvidence { noise: Some(garbled), ..evidence };
        let refused = check(&garbled, &integers);
        assert!(matches!(refused, Err(EvidenceError::NoiseProof(_) | EvidenceError::NoiseMalformed(_))), "{refused:?}");
    }
}

/// The coordinator adds the noise: what is released and checked has it, with a proof of its size. A site that sends another
/// input than it committed to is found all the same, and of its group nothing is released.
#[tokio::test(flavor = "multi_thread")]
async fn noise_of_the_coordinator_is_proven_and_part_of_what_is_checked() {
    const ROUNDS: u64 = 8;
    let federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let policy = policy(ROUNDS).replace("min = 4", "min = 3").replace("gather = 5.0", "gather = 0.5").replace(
        "enabled = false",
        "unit = \"participant\"\nnoise_multiplier = 20.0\nmetric_noise_multiplier = 20.0\ntotal_epsilon = 9.0",
    );
    let created = federation.create_task(&policy, federation.upload(&model(&[0.5; VALUES])).await).await;
    let checked = created.policy.clone().check().unwrap();
    let sites = join(&federation, 6).await;
    let running: Vec<_> = sites[..5].iter().map(|site| tokio::spawn(site.train(&created.id, None))).collect();
    let cheat = tokio::spawn(sites[5].cheat(Attack::Mismatch, &created.id));
    for site in running {
        assert_eq!(site.await.unwrap().unwrap().refused, 0);
    }
    cheat.abort();
    let (mut squares, mut samples, mut said, mut failed) = (0.0, 0.0, 0.0, 0);
    for number in 1..=ROUNDS {
        let round = round(&federation, &created.id, number).await;
        let release = released(&round);
        let proof = release.proof.as_ref().expect("it is proven");
        failed += round.checks.iter().filter(|check| !check.passed).count();
        assert!(!release.survivors.contains(&sites[5].id), "{release:?}");
        let noise = proof.noise.as_ref().expect("it has noise");
        let expected = 20.0 * (VALUES as f64).sqrt();
        assert!((expected..2.0 * expected).contains(&noise.effective_bound), "{noise:?}");
        for group in &proof.groups {
            verify(&federation, &checked, &round, group).await;
        }
        // Its standard deviation is what the Release says, one draw for each group.
        let noised = sum(&federation, &round).await;
        let plain = site::plain_sum(&sites, &round);
        let step = checked.encoding(VALUES, &checked.terms(6)).unwrap().step();
        let difference = noised.iter().zip(&plain).take(VALUES).map(|(noised, plain)| (noised - plain) as f64 * step);
        let std = release.privacy.as_ref().unwrap().sum_noise_std.unwrap();
        squares += difference.map(|noise| (noise / std).powi(2)).sum::<f64>();
        samples += VALUES as f64;
        said = f64::max(said, std);
    }
    assert!((squares / samples - 1.0).abs() < 6.0 * (2.0f64 / samples).sqrt(), "{squares} {samples}");
    assert!((1..=5).contains(&failed) && said > 0.0, "{failed} groups were spoiled");
    rounds.abort();
}

/// A site that sends another input than it has committed to spoils its group's sum, which is not released; the other
/// groups' sums are, and it is isolated after a few rounds. After that there is one group again.
#[tokio::test(flavor = "multi_thread")]
async fn who_sends_another_input_than_it_committed_to_is_isolated() {
    const ROUNDS: u64 = 8;
    let federation = TestFederation::start().await;
    let before = Counted::by(&federation).await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let policy = policy(ROUNDS).replace("min = 4", "min = 3").replace("gather = 5.0", "gather = 0.5");
    let created = federation.create_task(&policy, federation.upload(&model(&[0.5; VALUES])).await).await;
    let sites = join(&federation, 6).await;
    let running: Vec<_> = sites[..5].iter().map(|site| tokio::spawn(site.train(&created.id, None))).collect();
    let cheat = tokio::spawn(sites[5].cheat(Attack::Mismatch, &created.id));
    for site in running {
        let summary = site.await.unwrap().unwrap();
        assert_eq!((summary.refused, summary.checked), (0, ROUNDS), "every Release holds, whatever was dropped");
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
    let counted = Counted::by(&federation).await.since(&before);
    assert!(counted.checks["failed"] >= attempts as u64 && counted.checks["passed"] >= ROUNDS, "{counted:?}");
    let culprits = federation.app.store.culprits(created.id.as_str()).await.unwrap();
    assert_eq!(culprits.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), [sites[5].id.as_str()]);
    assert!(culprits[0].reason.contains("another input than it had committed to"), "{culprits:?}");
    rounds.abort();
}
