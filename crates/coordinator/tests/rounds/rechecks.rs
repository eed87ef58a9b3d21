//! A site checks what was released of the rounds that it took part in, also after a restart, and helps a coordinator whose
//! Release does not hold no further.

use super::{
    POLICY,
    common::{TestFederation, model},
    join,
    lies::{Said, assigned, check_in, liar, ok, refusal},
    round,
    site::Site,
    task,
};
use http::StatusCode;
use sordino_identity::Role;
use sordino_participant::{Summary, TrainError, accept_release};
use sordino_secagg::Step;
use sordino_wire::{
    Code, Digest,
    api::{Round, RoundState, Task},
};

const VALUES: usize = 60;

/// A round that was released, with everything that a coordinator says of it.
struct Told {
    task: Task,
    round: Round,
    sum: Vec<u8>,
    group_sum: Vec<u8>,
    evidence: Vec<u8>,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Told {
    async fn of(federation: &TestFederation, task: Task, round: Round) -> Self {
        let get = async |path: String| {
            let answer = federation.admin.get(&path).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK, "{path}");
            answer.bytes().await.unwrap().to_vec()
        };
        let of_round = format!("/v1/rounds/{}", round.id);
        let after = round.release.as_ref().unwrap().model;
        Self {
            sum: get(format!("{of_round}/sum")).await,
            group_sum: get(format!("{of_round}/groups/0/sum")).await,
            evidence: get(format!("{of_round}/groups/0/evidence")).await,
            before: get(format!("/v1/models/{}", round.model)).await,
            after: get(format!("/v1/models/{after}")).await,
            task,
            round,
        }
    }

    /// What a coordinator answers that tells this, and has no more rounds.
    fn said(&self) -> Said {
        let of_round = format!("/v1/rounds/{}", self.round.id);
        let file = |bytes: &[u8]| vec![(StatusCode::OK, bytes.to_vec())];
        Said::from([
            (check_in(&self.task), vec![refusal(Code::Conflict)]),
            (format!("/v1/tasks/{}", self.task.id), vec![ok(&self.task)]),
            (of_round.clone(), vec![ok(&self.round)]),
            (format!("{of_round}/sum"), file(&self.sum)),
            (format!("{of_round}/groups/0/sum"), file(&self.group_sum)),
            (format!("{of_round}/groups/0/evidence"), file(&self.evidence)),
            (format!("/v1/models/{}", self.round.model), file(&self.before)),
            (format!("/v1/models/{}", Digest::of(&self.after)), file(&self.after)),
        ])
    }

    fn changed(&self, change: impl FnOnce(&mut Self)) -> Said {
        let mut told = Self {
            task: self.task.clone(),
            round: self.round.clone(),
            sum: self.sum.clone(),
            group_sum: self.group_sum.clone(),
            evidence: self.evidence.clone(),
            before: self.before.clone(),
            after: self.after.clone(),
        };
        change(&mut told);
        told.said()
    }

    fn group(&mut self) -> &mut sordino_wire::api::ReleaseGroup {
        &mut self.round.release.as_mut().unwrap().proof.as_mut().unwrap().groups[0]
    }
}

/// A federation whose first round was released, and a site that was gone when it was: its input is in the sum.
async fn released() -> (TestFederation, Site, Told) {
    let federation = TestFederation::start().await;
    let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
    let policy = POLICY.to_owned() + "[robustness]\nproof = \"transparent\"\n";
    let created = federation.create_task(&policy, federation.upload(&model(&[0.5; VALUES])).await).await;
    let mut sites = join(&federation, 6).await;
    let gone = sites.pop().unwrap();
    let running: Vec<_> = sites.iter().map(|site| tokio::spawn(site.train(&created.id, None))).collect();
    let error = gone.train(&created.id, Some((1, Step::Unmasking))).await.expect_err("it vanishes");
    assert!(matches!(error, TrainError::Vanished { .. }), "{error}");
    for site in running {
        assert_eq!(site.await.unwrap().unwrap().checked, 2);
    }
    rounds.abort();
    let round = round(&federation, &created.id, 1).await;
    assert!(round.release.as_ref().unwrap().survivors.contains(&gone.id), "{round:?}");
    assert!(gone.awaits(&round.id));
    let told = Told::of(&federation, task(&federation, &created.id).await, round).await;
    (federation, gone, told)
}

fn doubted(ended: Result<Summary, TrainError>, lie: &str) -> String {
    match ended {
        Err(TrainError::Doubted { reason, .. }) => reason,
        other => panic!("{lie}: {other:?}"),
    }
}

/// One thing after the other is not as it was proven: the site says what, and does nothing more for anybody, restarted or
/// not, until its owner lets it.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_does_not_hold_stops_a_site_until_its_owner_accepts_it() {
    let (federation, site, told) = Box::pin(released()).await;
    let awaited = site.releases();
    let id = told.round.id.clone();
    let flip = |bytes: &mut Vec<u8>, at: usize| bytes[at] ^= 1;
    let lies: [(&str, Said, &str); 9] = [
        ("a byte of the sum", told.changed(|told| flip(&mut told.sum, 9)), "the sum is "),
        ("a byte of the group's sum", told.changed(|told| flip(&mut told.group_sum, 9)), "the sum of group 0 is "),
        ("a byte of evidence", told.changed(|told| flip(&mut told.evidence, 3_000)), "the evidence of group 0 is "),
        ("a sum without end", told.changed(|told| told.sum.push(0)), "larger than"),
        ("the model before", told.changed(|told| flip(&mut told.before, 300)), "is something else"),
        (
            "another sum with all of its digests",
            told.changed(|told| {
                flip(&mut told.sum, 9);
                told.group_sum.clone_from(&told.sum);
                told.group().sum = Digest::of(&told.sum);
                told.round.release.as_mut().unwrap().sum = Digest::of(&told.sum);
            }),
            "not that of the inputs that were proven",
        ),
        (
            "another evidence with its digest",
            told.changed(|told| {
                flip(&mut told.evidence, 3_000);
                told.group().evidence = Digest::of(&told.evidence);
            }),
            "group 0",
        ),
        (
            "another model after",
            told.changed(|told| told.round.release.as_mut().unwrap().model = Digest([1; 32])),
            "the model after the round is said to be",
        ),
        ("no proof", told.changed(|told| told.round.release.as_mut().unwrap().proof = None), "norm proofs"),
    ];
    for (lie, said, says) in lies {
        site.set_releases(&awaited);
        site.moved_to(&liar(&federation, said).await.url);
        let reason = doubted(site.train(&told.task.id, None).await, lie);
        assert!(reason.contains(says), "{lie}: {reason}");
        assert!(!site.awaits(&id) && site.releases()["doubted"][id.to_string()]["reason"] == *reason, "{lie}");
        // With a coordinator that tells the truth again, nothing is said to it.
        let honest = liar(&federation, told.said()).await;
        site.moved_to(&honest.url);
        assert_eq!(doubted(site.train(&told.task.id, None).await, lie), reason);
        assert_eq!(honest.heard("/"), 0, "{lie}");
        let accepted = accept_release(site.folder(), &id, "we have asked them").unwrap();
        assert_eq!((accepted.doubt, accepted.reason.as_str()), (reason, "we have asked them"));
        assert_eq!(site.train(&told.task.id, None).await.unwrap(), Summary::default(), "{lie}");
    }
    let nothing = accept_release(site.folder(), &id, "again").unwrap_err();
    assert!(matches!(nothing, TrainError::NothingToAccept { .. }), "{nothing}");
}

/// What was noted before a restart is checked after it. That nothing can be had is no failure, and is asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_checked_after_a_restart_and_waited_for() {
    let (federation, site, told) = Box::pin(released()).await;
    let awaited = site.releases();
    let (id, path) = (told.round.id.clone(), format!("/v1/rounds/{}", told.round.id));
    let trains = async |said: Said| {
        site.moved_to(&liar(&federation, said).await.url);
        site.train(&told.task.id, None).await.unwrap().checked
    };
    for missing in [path.clone(), format!("{path}/groups/0/evidence"), format!("/v1/tasks/{}", told.task.id)] {
        let mut said = told.said();
        said.remove(&missing);
        assert_eq!((trains(said).await, site.awaits(&id)), (0, true), "{missing}");
    }
    // The model before may be gone; the sum is checked all the same.
    let mut said = told.said();
    said.remove(&format!("/v1/models/{}", told.round.model));
    assert_eq!((trains(said).await, site.awaits(&id)), (1, false));
    site.set_releases(&awaited);
    assert_eq!((trains(told.said()).await, site.awaits(&id)), (1, false));
    // Nothing is owed of a round that came to nothing.
    site.set_releases(&awaited);
    let failed = told.changed(|told| {
        told.round.state = RoundState::Failed;
        told.round.release = None;
    });
    assert_eq!((trains(failed).await, site.awaits(&id)), (0, false));
}

/// The site remembers what it has committed to: what it has not sent is not its input, whoever signed it.
#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_was_never_sent_is_noticed() {
    let (federation, site, told) = Box::pin(released()).await;
    let mut awaited = site.releases();
    let sent = &mut awaited["awaited"][told.round.id.to_string()]["attempts"]["1"];
    assert!(sent["commitments"].is_string(), "{sent}");
    sent["commitments"] = Digest([7; 32]).to_string().into();
    site.set_releases(&awaited);
    site.moved_to(&liar(&federation, told.said()).await.url);
    let reason = doubted(site.train(&told.task.id, None).await, "its own input");
    assert!(reason.contains("was never sent by it"), "{reason}");
}

/// The next round is trained while the last one is checked, and nothing of it is sent.
#[tokio::test(flavor = "multi_thread")]
async fn not_a_word_of_the_next_round_is_said_before_the_last_one_holds() {
    let (federation, site, told) = Box::pin(released()).await;
    let mut said = told.changed(|told| {
        told.evidence[3_000] ^= 1;
        (told.task.round, told.task.model) = (2, Digest::of(&told.after));
    });
    let mut offered = told.task.clone();
    (offered.round, offered.model) = (2, Digest::of(&told.after));
    said.insert(check_in(&offered), vec![ok(&assigned(&offered, 1))]);
    let lying = liar(&federation, said).await;
    site.moved_to(&lying.url);
    let reason = doubted(site.train(&offered.id, None).await, "evidence");
    assert!(reason.contains("the evidence of group 0 is "), "{reason}");
    assert_eq!((lying.heard("/checkin"), lying.heard("/messages/")), (1, 0));
}

/// With noise of the sites on the sum, a divisor that no data has a say in, and noise on metrics, what every site computes
/// again is what the coordinator released.
#[tokio::test(flavor = "multi_thread")]
async fn releases_with_noise_of_the_sites_are_computed_again() {
    let privacy = [
        "unit = \"participant\"\nnoise = \"participants\"\nnoise_multiplier = 3.0\nmax_effective_bound = 1000.0",
        "unit = \"record\"\nexample_clip = 1.0\nsampling_rate = 0.1\nnoise_multiplier = 2.0\nmetric_noise_multiplier = 20.0",
    ];
    for (privacy, population) in privacy.into_iter().zip(["participants", "records"]) {
        let federation = TestFederation::start().await;
        let rounds = tokio::spawn(sordino_coordinator::rounds::run(federation.app.clone()));
        let privacy = format!("{privacy}\ntotal_epsilon = 9.0\npopulation = \"{population}\"");
        let policy = POLICY.replace("enabled = false", &privacy) + "[robustness]\nproof = \"transparent\"\n";
        let created = federation.create_task(&policy, federation.upload(&model(&[0.5; VALUES])).await).await;
        let sites = join(&federation, 6).await;
        let running: Vec<_> = sites.iter().map(|site| tokio::spawn(site.train(&created.id, None))).collect();
        for site in running {
            let summary = site.await.unwrap().unwrap();
            assert_eq!((summary.finished, summary.checked), (2, 2), "{population}");
        }
        let release = round(&federation, &created.id, 2).await.release.unwrap();
        assert!(release.privacy.is_some() && release.proof.is_some_and(|proof| proof.noise_multiplier.is_some()));
        rounds.abort();
    }
}

/// A site asks for a Release with the same certificate with which it takes part.
#[test]
fn participants_may_read_what_they_check() {
    use sordino_identity::Permission::{ReadModel, ReadRelease, ReadRounds, ReadTasks};
    assert!([ReadModel, ReadRelease, ReadRounds, ReadTasks].iter().all(|permission| Role::Client.may(*permission)));
}
