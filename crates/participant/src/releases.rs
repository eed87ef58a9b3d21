//! What a site wants to see of the rounds that it has proven an input in, and what it has seen.
//!
//! A coordinator that took an input owes everybody the evidence that the sum it releases is that of inputs within their
//! bounds. A site notes the debt before the first word of an attempt, and crosses it out when it has checked the Release
//! itself: with its own root, and with the commitments that it remembers to have sent. Notes are durable, so that a site
//! that was restarted checks all the same. A Release that does not hold makes the site stop; it helps this coordinator no
//! further until its owner says so.

use crate::client::{Client, ClientError};
use crate::join::since_epoch;
use crate::session::{SiteTrust, causes};
use serde::{Deserialize, Serialize};
use sordino_codec::FileLimits;
use sordino_identity::FederationId;
use sordino_secagg::ParticipantId;
use sordino_wire::api::{Assignment, Millis, Round, RoundState, Task};
use sordino_wire::audit::{Audited, Files, GroupFiles, Manifest, Trust};
use sordino_wire::{CheckedPolicy, Digest, RoundId, TaskId};
use std::{collections::BTreeMap, num::NonZeroUsize, time::Duration};

/// What is kept of it, in the site's state folder. Nothing in it is secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Releases {
    /// Rounds whose Release is still to be checked.
    #[serde(default)]
    awaited: BTreeMap<RoundId, Awaited>,
    /// Rounds whose Release does not hold.
    #[serde(default)]
    doubted: BTreeMap<RoundId, Doubt>,
    /// Those that the owner has let be.
    #[serde(default)]
    accepted: Vec<AcceptedRelease>,
    /// What the last Release of a task that holds has ended with, where its optimiser remembers anything.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    ended_with: BTreeMap<TaskId, EndedWith>,
}

/// What a Release ended with: where the round that begins with its model goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct EndedWith {
    model: Digest,
    state: Digest,
}

/// A Release that is still to be checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Awaited {
    policy: Digest,
    model: Digest,
    model_len: usize,
    /// When the first attempt began for this site, by its own clock: certificates held after it.
    since: Millis,
    /// What the site has committed to in each attempt.
    attempts: BTreeMap<u32, Sent>,
}

/// What a site has committed to in an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sent {
    nonce: Digest,
    /// SHA-256 of its commitments.
    commitments: Digest,
}

/// Why a Release does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Doubt {
    reason: String,
    at: Millis,
}

/// A Release that does not hold, or was never shown, and that the site's owner has let be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedRelease {
    /// The round.
    pub round: RoundId,
    /// What was found.
    pub doubt: String,
    /// Why the owner lets it be.
    pub reason: String,
    /// When.
    pub at: Millis,
}

/// What came of the check of a Release.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// It holds, whatever the coordinator says.
    Holds(Box<Audited>),
    /// There is none, and none will come.
    None,
    /// It cannot be checked yet.
    Later(String),
    /// It does not hold.
    Doubted(String),
}

impl Releases {
    /// Notes what is committed to in an attempt.
    pub(crate) fn await_release(&mut self, assignment: &Assignment, model_len: usize, commitments: &[u8]) {
        let awaited = self.awaited.entry(assignment.round.clone()).or_insert_with(|| Awaited {
            policy: assignment.policy_digest,
            model: assignment.model,
            model_len,
            since: now(),
            attempts: BTreeMap::new(),
        });
        let sent = Sent { nonce: assignment.nonce, commitments: Digest::of(commitments) };
        awaited.attempts.insert(assignment.attempt, sent);
    }

    /// What is to be checked, but of this round.
    pub(crate) fn due(&self, but: Option<&RoundId>) -> Vec<(RoundId, Awaited)> {
        let due = self.awaited.iter().filter(|(round, _)| Some(*round) != but);
        due.map(|(round, awaited)| (round.clone(), awaited.clone())).collect()
    }

    /// Takes in what came of a check.
    pub(crate) fn settle(&mut self, round: &RoundId, verdict: &Verdict) {
        match verdict {
            Verdict::Later(_) => {}
            Verdict::Holds(audited) => {
                self.awaited.remove(round);
                self.goes_on(round, audited);
            }
            Verdict::None => drop(self.awaited.remove(round)),
            Verdict::Doubted(reason) => {
                self.awaited.remove(round);
                self.doubted.insert(round.clone(), Doubt { reason: reason.clone(), at: now() });
            }
        }
    }

    /// Compares what a round's optimiser went on from with what the Release ended with whose model the round began with: no
    /// single Release shows whether its state before is that one.
    fn goes_on(&mut self, round: &RoundId, audited: &Audited) {
        let Some(states) = audited.optimizer else { return };
        let last = self.ended_with.get(&round.task).filter(|last| last.model == audited.model_before);
        if let Some(last) = last.filter(|last| last.state != states.before) {
            let (said, was) = (states.before, last.state);
            let reason =
                format!("it goes on from the optimiser's state {said}, and the Release before it ended with {was}");
            self.doubted.insert(round.clone(), Doubt { reason, at: now() });
            return;
        }
        let ended = EndedWith { model: audited.model_after, state: states.after };
        self.ended_with.insert(round.task.clone(), ended);
    }

    /// A Release that does not hold, and why; the oldest round first.
    pub(crate) fn doubt(&self) -> Option<(&RoundId, &str)> {
        self.doubted.iter().next().map(|(round, doubt)| (round, doubt.reason.as_str()))
    }

    /// How many Releases are awaited, if that is more than a coordinator may owe.
    pub(crate) fn too_many(&self) -> Option<usize> {
        Some(self.awaited.len()).filter(|awaited| *awaited > AWAITED_MAX)
    }

    /// Lets a Release be that does not hold or was never shown; none if this site has nothing against it.
    pub(crate) fn accept(&mut self, round: &RoundId, reason: &str) -> Option<AcceptedRelease> {
        let doubt = match (self.doubted.remove(round), self.awaited.remove(round)) {
            (Some(doubt), _) => doubt.reason,
            (None, Some(_)) => "it was never shown".to_owned(),
            (None, None) => return None,
        };
        let accepted = AcceptedRelease { round: round.clone(), doubt, reason: reason.to_owned(), at: now() };
        if self.accepted.len() >= ACCEPTED_MAX {
            self.accepted.remove(0);
        }
        self.accepted.push(accepted.clone());
        Some(accepted)
    }
}

/// Who checks Releases: for one site.
#[derive(Clone)]
pub(crate) struct Checker {
    pub(crate) client: Client,
    pub(crate) trust: SiteTrust,
    pub(crate) federation: FederationId,
    pub(crate) id: ParticipantId,
}

impl Checker {
    /// Checks Releases, one after the other.
    pub(crate) async fn check_all(self, due: Vec<(RoundId, Awaited)>) -> Vec<(RoundId, Verdict)> {
        let mut verdicts = Vec::with_capacity(due.len());
        for (round, awaited) in due {
            let verdict = self.check(&round, &awaited).await.unwrap_or_else(|verdict| verdict);
            verdicts.push((round, verdict));
        }
        verdicts
    }

    /// Fetches what is published of a round and checks it. An error ends the check early.
    async fn check(&self, id: &RoundId, awaited: &Awaited) -> Result<Verdict, Verdict> {
        let path = format!("/v1/rounds/{id}");
        let round: Round = self.client.get(&path).await.map_err(undelivered)?;
        match (round.state, &round.release) {
            (RoundState::Failed, _) => return Err(Verdict::None),
            (RoundState::Complete, Some(_)) => {}
            _ => return Err(Verdict::Later(UNDER_WAY.to_owned())),
        }
        if round.id != *id || round.model != awaited.model {
            let (told, model, given) = (&round.id, round.model, awaited.model);
            let why = format!("it is said to be of round {told} over model {model}, and this site was given {given}");
            return Err(Verdict::Doubted(why));
        }
        let task: Task = self.client.get(&format!("/v1/tasks/{}", id.task)).await.map_err(undelivered)?;
        let (federation, stated, model_len) = (self.federation.clone(), awaited.policy, awaited.model_len);
        let manifest = off_thread(move || -> Result<_, String> {
            let policy: CheckedPolicy = task.policy.check().map_err(|error| causes(&error))?;
            let manifest = Manifest::new((&policy, stated), &federation, &round, model_len);
            manifest.map_err(|error| causes(&error))
        });
        let manifest = manifest.await?.map_err(Verdict::Doubted)?;
        let fetch = async |path: String, limit| self.client.get_file(&path, limit).await.map_err(undelivered);
        let sum = fetch(format!("{path}/sum"), manifest.sum_len()).await?;
        let mut groups = Vec::new();
        for group in manifest.groups() {
            let path = format!("{path}/groups/{}", group.group);
            let sum = fetch(format!("{path}/sum"), manifest.sum_len()).await?;
            groups.push((sum, fetch(format!("{path}/evidence"), manifest.evidence_len_max(group)).await?));
        }
        let before = match self.client.get_model(awaited.model, FileLimits::default().max_file_bytes).await {
            // What is gone cannot be moved again; the sum is checked all the same.
            Err(ClientError::Refused(_)) => None,
            model => Some(model.map_err(undelivered)?),
        };
        let state = match manifest.state_before() {
            None => None,
            Some((_, limit)) => match self.client.get_file(&format!("{path}/optimizer/before"), limit).await {
                // As with the model.
                Err(ClientError::Refused(_)) => None,
                state => Some(state.map_err(undelivered)?),
            },
        };
        let roots = self.trust.chains.anchors().clone();
        let trust = Trust { roots, during: Duration::from_millis(awaited.since)..=since_epoch() };
        let audited = off_thread(move || {
            let groups = groups.iter().map(|(sum, evidence)| GroupFiles { sum, evidence }).collect::<Vec<_>>();
            let (before, state_before) = (before.as_deref(), state.as_deref());
            let files = Files { sum: &sum, groups: &groups, before, after: None, state_before, state_after: None };
            manifest.verify(&files, &trust, threads()).map_err(|error| causes(&error))
        });
        let audited = audited.await?.map_err(Verdict::Doubted)?;
        self.own_input(&audited, awaited).map_err(Verdict::Doubted)?;
        Ok(Verdict::Holds(Box::new(audited)))
    }

    /// Whether what is said to be this site's own input is what it has committed to. That its input is missing proves
    /// nothing: its group may have been dropped.
    fn own_input(&self, audited: &Audited, awaited: &Awaited) -> Result<(), String> {
        let Some((group, commitments)) = audited.input_of(&self.id) else { return Ok(()) };
        let found = Sent { nonce: group.nonce, commitments };
        if awaited.attempts.values().any(|sent| *sent == found) {
            return Ok(());
        }
        Err(format!("what group {} has as the input of this site was never sent by it", group.group))
    }
}

/// Runs work that takes a while beside the requests.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Verdict> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Verdict::Later("the check was cut off".to_owned()))
}

/// An answer that is no answer is waited for; one that no honest coordinator gives is not.
#[expect(clippy::needless_pass_by_value, reason = "what errors are mapped by takes them")]
fn undelivered(error: ClientError) -> Verdict {
    let text = causes(&error);
    match error {
        ClientError::TooLarge { .. } | ClientError::WrongDigest { .. } => Verdict::Doubted(text),
        _ => Verdict::Later(text),
    }
}

fn threads() -> NonZeroUsize {
    std::thread::available_parallelism().map_or(NonZeroUsize::MIN, |threads| threads.min(THREADS_MAX))
}

fn now() -> Millis {
    u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX)
}

/// Of a round that goes on.
pub(crate) const UNDER_WAY: &str = "the round is not over";
/// Releases that a coordinator may owe: it has them before the next round begins.
const AWAITED_MAX: usize = 16;
/// Releases that an owner has let be, the newest ones.
const ACCEPTED_MAX: usize = 100;
/// Threads that check a Release: the site trains meanwhile.
const THREADS_MAX: NonZeroUsize = NonZeroUsize::new(4).unwrap();

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use sordino_wire::api::ReleaseOptimizer;

    fn assignment(number: u64, attempt: u32) -> Assignment {
        Assignment {
            round: format!("0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b.{number}").parse().unwrap(),
            attempt,
            nonce: Digest([u8::try_from(attempt).unwrap(); 32]),
            model: Digest([2; 32]),
            policy_digest: Digest([3; 32]),
            time_left: 9,
            cohort: 5,
            noise_multiplier: None,
        }
    }

    #[test]
    fn a_round_is_awaited_once_with_all_of_its_attempts() {
        let mut releases = Releases::default();
        let first = assignment(1, 1);
        releases.await_release(&first, 40, b"one");
        releases.await_release(&assignment(1, 2), 40, b"two");
        releases.await_release(&assignment(2, 1), 40, b"three");
        assert_eq!(releases.due(Some(&first.round)).len(), 1, "the other round's");
        let due = releases.due(None);
        let attempts: Vec<_> = due[0].1.attempts.iter().map(|(number, sent)| (*number, sent.commitments)).collect();
        assert_eq!(attempts, [(1, Digest::of(b"one")), (2, Digest::of(b"two"))]);
        let json = serde_json::to_vec(&releases).unwrap();
        assert_eq!(serde_json::from_slice::<Releases>(&json).unwrap(), releases);
        releases.settle(&first.round, &Verdict::Later("not yet".into()));
        assert_eq!(releases.due(None).len(), 2);
        releases.settle(&first.round, &Verdict::None);
        assert_eq!((releases.due(None).len(), releases.doubt()), (1, None));
    }

    #[test]
    fn a_doubt_stays_until_it_is_accepted() {
        let mut releases = Releases::default();
        let round = assignment(1, 1).round;
        assert_eq!(releases.accept(&round, "nothing"), None);
        releases.await_release(&assignment(1, 1), 40, b"one");
        releases.settle(&round, &Verdict::Doubted("it is wrong".into()));
        assert_eq!((releases.doubt(), releases.due(None).len()), (Some((&round, "it is wrong")), 0));
        let accepted = releases.accept(&round, "I have asked").unwrap();
        assert_eq!((accepted.doubt.as_str(), accepted.reason.as_str()), ("it is wrong", "I have asked"));
        assert_eq!(releases.doubt(), None);
        assert_eq!(releases.accept(&round, "again"), None);
    }

    /// A Release that holds by itself, of a round between two models and two states.
    fn holds(number: u64, models: [u8; 2], states: [u8; 2]) -> (RoundId, Verdict) {
        let round = assignment(number, 1).round;
        let [model_before, model_after] = models.map(|byte| Digest([byte; 32]));
        let [before, after] = states.map(|byte| Digest([byte; 32]));
        let audited = Audited {
            round: round.clone(),
            federation: "example.org".parse().unwrap(),
            policy: Digest([3; 32]),
            model_before,
            model_after,
            model_recomputed: true,
            optimizer: Some(ReleaseOptimizer { before, after }),
            convergence: None,
            sum: Digest([4; 32]),
            weight: 3,
            metrics: BTreeMap::new(),
            survivors: Vec::new(),
            bounds: None,
        };
        (round, Verdict::Holds(Box::new(audited)))
    }

    /// Each Release holds by itself; that an optimiser's state was exchanged between two rounds shows from both.
    #[test]
    fn a_state_that_is_not_the_last_one_is_doubted() {
        let mut releases = Releases::default();
        for (number, models, states) in [(1, [1, 2], [10, 11]), (2, [2, 3], [11, 12])] {
            let (round, verdict) = holds(number, models, states);
            releases.settle(&round, &verdict);
            assert_eq!(releases.doubt(), None);
        }
        // After rounds that this site has not seen there is nothing to compare with.
        let (round, verdict) = holds(4, [8, 9], [20, 21]);
        releases.settle(&round, &verdict);
        assert_eq!(releases.doubt(), None);
        let json = serde_json::to_vec(&releases).unwrap();
        let mut releases: Releases = serde_json::from_slice(&json).unwrap();
        let (round, verdict) = holds(5, [9, 1], [20, 22]);
        releases.settle(&round, &verdict);
        let (doubted, reason) = releases.doubt().unwrap();
        assert_eq!(doubted, &round);
        assert!(reason.contains("it goes on from the optimiser's state 1414"), "{reason}");
        assert!(reason.contains("ended with 1515"), "{reason}");
    }

    #[test]
    fn a_coordinator_owes_so_many_and_no_more() {
        let mut releases = Releases::default();
        for number in 1..=16 {
            releases.await_release(&assignment(number, 1), 40, b"one");
        }
        assert_eq!(releases.too_many(), None);
        releases.await_release(&assignment(17, 1), 40, b"one");
        assert_eq!(releases.too_many(), Some(17));
        releases.accept(&assignment(3, 1).round, "it lost them").unwrap();
        assert_eq!(releases.too_many(), None);
        for number in 100..300 {
            releases.await_release(&assignment(number, 1), 40, b"one");
            releases.accept(&assignment(number, 1).round, "as well").unwrap();
        }
        assert_eq!(releases.accepted.len(), ACCEPTED_MAX, "history does not grow for ever");
    }
}
