//! From an opened sum to a Release: the next model, the sum as integers, and the manifest.

use super::attempt::{Attempt, Ended};
use super::group::{Aborted, Opened};
use super::proving::{Proving, bytes_of};
use super::sums::{Summed, check};
use crate::{
    app::App,
    budget::{self, BudgetError},
};
use sordino_codec::{DecodeError, FileLimits, ModelFileError, Sums, Tensors};
use sordino_dp::ledger::Granted;
use sordino_dp::noise::{NoiseError, Unseeded};
use sordino_identity::PrincipalId;
use sordino_proofs::ProveError;
use sordino_secagg::{ParticipantId, Step};
use sordino_store::{RoundOutcome, Store, StoreError, Then};
use sordino_strategy::{State, StateError, StepError};
use sordino_wire::api::{
    FailedGroup, PlannedCohort, Release, ReleaseGroup, ReleaseNoise, ReleaseOptimizer, ReleasePrivacy, ReleaseProof,
    WorstParticipant,
};
use sordino_wire::{CheckedPolicy, Digest, RoundPrivacy, policy::PrivacyUnit};
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

/// Why a sum becomes no Release.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReleaseError {
    /// No honest inputs make this sum.
    #[error("the opened sum is not one of inputs within their bounds")]
    Decode(#[from] DecodeError),
    /// The model of the round.
    #[error("the model of the round cannot be read")]
    Model(#[from] ModelFileError),
    /// The mean moves a weight out of its dtype's range.
    #[error("the sum leads to no next model")]
    Values(#[from] StepError),
    /// The optimiser's state of the last Release.
    #[error("what the optimiser remembers cannot be read")]
    State(#[from] StateError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Noise could not be drawn, so there is nothing to release.
    #[error("the noise of the sum could not be drawn")]
    Noise(#[from] NoiseError),
    /// The noise came out larger than can be shown: chance below 2^-59.
    #[error("the size of the noise could not be proven")]
    NoiseProof(#[from] ProveError),
    /// There is no entropy for noise.
    #[error(transparent)]
    Entropy(#[from] Unseeded<getrandom::Error>),
    /// Our own records.
    #[error("the round's record names a participant that cannot exist")]
    Name,
    /// The work was cut off.
    #[error("the work was cut off")]
    Cut,
    /// In every group somebody sent another input than it had committed to.
    #[error("the commitments of no group open to its sum: {reason}")]
    NoSum {
        /// What the check of the first one said.
        reason: String,
        /// Whose groups they are.
        checks: Vec<GroupSum>,
    },
}

/// What is published of a round.
pub(super) struct Published {
    pub(super) release: Release,
    pub(super) outcome: RoundOutcome,
    /// How the checks of its sums came out.
    pub(super) checks: Vec<GroupSum>,
}

/// Whether a group's sum is that of what its members had proven.
#[derive(Debug)]
pub(super) struct GroupSum {
    pub(super) group: u32,
    pub(super) passed: bool,
    /// Those whose inputs are in it.
    pub(super) members: BTreeSet<ParticipantId>,
}

/// What a round was charged, as its Release tells.
pub(super) struct Charged {
    granted: Granted,
    /// Epsilon of this round by itself.
    alone: f64,
    budget: String,
    worst: Option<WorstParticipant>,
}

impl Charged {
    /// - `said`: of the cohort, who says to have spent most of its records' privacy by its own ledger.
    pub(super) async fn new(
        app: &App,
        policy: &CheckedPolicy,
        (granted, privacy): (&Granted, &RoundPrivacy),
        said: Option<(&ParticipantId, f64)>,
    ) -> Result<Self, BudgetError> {
        let scope = budget::scope(&policy.policy().privacy)?;
        let counted = app.ledger.worst_participant(&scope).await?;
        let counted = counted.map(|(name, epsilon)| (name.to_string(), epsilon, false));
        // Of another unit, that is another number.
        let said = said.filter(|_| privacy.unit() == PrivacyUnit::Record);
        let said = said.map(|(id, epsilon)| (id.to_string(), epsilon, true));
        let worst = counted.into_iter().chain(said).max_by(|(_, a, _), (_, b, _)| a.total_cmp(b));
        let worst = worst.and_then(|(id, epsilon, by_own_word)| {
            Some(WorstParticipant { id: id.parse().ok()?, epsilon, by_own_word })
        });
        let alone = budget::alone(privacy.events(), granted.delta)?;
        Ok(Self { granted: granted.clone(), alone, budget: scope.to_string(), worst })
    }
}

/// Stores the next model and the sum, and describes them.
///
/// - `before`: the task's Release before this one, if there is one: the optimiser goes on from what it ended with.
/// - `refused`: whose inputs were refused in the round, and why.
pub(super) async fn publish(
    store: &Store,
    policy: &CheckedPolicy,
    (model, limits, before): (Digest, FileLimits, Option<&Release>),
    attempt: &Attempt,
    (ended, charged): (Ended, Option<Charged>),
    (refused, last_round): (BTreeMap<ParticipantId, String>, bool),
) -> Result<Published, ReleaseError> {
    let Ended { opened, aborted } = ended;
    let (cohort, privacy) = (attempt.cohort(), attempt.privacy());
    let old = store.blobs().read(&model.0, limits.max_file_bytes as u64).await?;
    let heard = heard(&opened, &aborted);
    let invited: usize = opened.iter().map(|group| group.heard.len()).sum();
    let (passed, failed) = check(store, attempt, opened).await?;
    let checks = checks(&passed, &failed);
    if passed.is_empty() {
        let reason = failed.into_iter().next().map(|(_, reason)| reason).unwrap_or_default();
        return Err(ReleaseError::NoSum { reason, checks });
    }
    // Of the groups that count: what the others were asked for is not in the sum.
    let invited = invited - failed.iter().map(|(group, _)| group.heard.len()).sum::<usize>();
    let invited = u32::try_from(invited).ok().and_then(NonZeroU32::new).ok_or(ReleaseError::Name)?;
    let divisor = RoundPrivacy::divisor(privacy, invited);
    let encoding = attempt.encoding().clone();
    let (step, ring_bits) = (encoding.step(), encoding.bits().get());
    let sums = total(passed.iter().map(|summed| &summed.sums)).ok_or(ReleaseError::Name)?;
    let (contributors, groups) = (sums.contributors, u32::try_from(passed.len()).map_err(|_| ReleaseError::Name)?);
    let state = remembered(store, policy, encoding.spec().model_len, before).await?;
    let (stepping, first) = (policy.clone(), state.clone());
    let work = move || -> Result<_, ReleaseError> {
        let aggregate = encoding.aggregate(&sums, divisor);
        let old = Tensors::from_safetensors(&old, &limits)?;
        let (state, next) = stepping.next_model(first.as_ref(), &old, &aggregate)?;
        Ok((aggregate, next.to_safetensors(), state.map(|state| state.to_bytes()), bytes_of(&sums)))
    };
    let stepped = tokio::task::spawn_blocking(work).await.map_err(|_| ReleaseError::Cut)??;
    let (aggregate, next, next_state, integers) = stepped;
    let model_bytes = next.len() as u64;
    let optimizer = match state.zip(next_state) {
        None => None,
        // The state before is there already, unless it is the first one.
        Some((before, after)) => Some(ReleaseOptimizer {
            before: Digest(store.blobs().put(before.to_bytes()).await?),
            after: Digest(store.blobs().put(after).await?),
        }),
    };
    let convergence = policy.convergence(before.and_then(|release| release.convergence.as_ref()), &aggregate);
    let new_model = store.blobs().put(next).await?;
    let sum = store.blobs().put(integers).await?;

    let survivors: BTreeSet<_> = passed.iter().flat_map(|summed| &summed.group.survivors).collect();
    let missed = |of_survivors: bool| -> Result<BTreeMap<PrincipalId, String>, ReleaseError> {
        let missed_by = |(id, last): (&ParticipantId, &Option<Step>)| {
            let first = last.map_or(Some(Step::AdvertiseKeys), Step::next)?;
            (survivors.contains(id) == of_survivors).then(|| (id.clone(), first))
        };
        let named = |(id, step): (ParticipantId, Step)| Ok((principal(&id)?, step.name().to_owned()));
        heard.iter().filter_map(missed_by).map(named).collect()
    };
    let metrics = &policy.policy().encoding.metrics;
    let release = Release {
        model: Digest(new_model),
        sum: Digest(sum),
        ring_bits,
        cohort: principals(cohort)?,
        survivors: principals(survivors.iter().copied())?,
        dropouts: missed(false)?,
        silent_survivors: missed(true)?,
        weight: aggregate.weight_sum,
        metrics: metrics.iter().map(|metric| metric.name.clone()).zip(aggregate.metrics).collect(),
        input_bytes: passed.iter().map(|summed| summed.group.input_bytes).max().unwrap_or(0),
        step_millis: slowest(passed.iter().map(|summed| &summed.group.step_millis)),
        privacy: match (privacy, charged) {
            (Some(privacy), Some(charged)) => {
                Some(described(policy, attempt, (privacy, charged), (contributors, groups), step))
            }
            _ => None,
        },
        refused: refused
            .into_iter()
            .map(|(id, why)| Ok((principal(&id)?, why)))
            .collect::<Result<_, ReleaseError>>()?,
        proof: match attempt.proving() {
            Some(proving) => Some(proven(store, attempt, proving, (passed, failed)).await?),
            None => None,
        },
        optimizer,
        convergence,
    };
    let release_json = serde_json::to_string(&release).map_err(|_| ReleaseError::Name)?;
    let early = if last_round { None } else { convergence.and_then(|stands| policy.converged(&stands)) };
    let then = if last_round || early.is_some() { Then::Complete { early } } else { Then::GoesOn };
    let outcome = RoundOutcome { release_json, new_model, model_bytes, then };
    Ok(Published { release, outcome, checks })
}

/// What the optimiser remembers: what the last Release ended with, or what it begins with.
async fn remembered(
    store: &Store,
    policy: &CheckedPolicy,
    model_len: usize,
    before: Option<&Release>,
) -> Result<Option<State>, ReleaseError> {
    let optimizer = policy.optimizer();
    let Some(last) = before.and_then(|release| release.optimizer) else { return Ok(optimizer.initial(model_len)) };
    let bytes = store.blobs().read(&last.after.0, State::file_len_max(model_len) as u64).await?;
    Ok(Some(State::from_bytes(&bytes, model_len, optimizer.has_second_moment())?))
}

/// How the checks came out, to be kept: none where inputs carry no proof.
fn checks(passed: &[Summed], failed: &[(Opened, String)]) -> Vec<GroupSum> {
    let check = |group: &Opened, passed| GroupSum {
        group: group.index,
        passed,
        members: group.survivors.iter().cloned().collect(),
    };
    let passed = passed.iter().filter(|summed| summed.evidence.is_some()).map(|summed| check(&summed.group, true));
    passed.chain(failed.iter().map(|(group, _)| check(group, false))).collect()
}

/// What the Release says of proofs. The evidence is stored.
async fn proven(
    store: &Store,
    attempt: &Attempt,
    proving: &Proving,
    (passed, failed): (Vec<Summed>, Vec<(Opened, String)>),
) -> Result<ReleaseProof, ReleaseError> {
    let mut groups = Vec::with_capacity(passed.len());
    for Summed { group, sums, evidence } in passed {
        let evidence = evidence.ok_or(ReleaseError::Name)?;
        groups.push(ReleaseGroup {
            group: group.index,
            nonce: group.nonce,
            survivors: principals(&group.survivors)?,
            sum: Digest(store.blobs().put(bytes_of(&sums)).await?),
            evidence: Digest(store.blobs().put(evidence.to_bytes()).await?),
        });
    }
    let failed = failed.into_iter().map(|(group, reason)| {
        Ok(FailedGroup { group: group.index, survivors: principals(&group.survivors)?, reason })
    });
    Ok(ReleaseProof {
        attempt: attempt.id().attempt,
        claim: Digest(*proving.proof.claim.digest()),
        effective_bound: proving.proof.effective_bound,
        noise: proving
            .proof
            .noise
            .as_ref()
            .map(|noise| ReleaseNoise { effective_bound: noise.clip_norms, shows: NOISE_SHOWS.to_owned() }),
        cohort: attempt.group_size(),
        noise_multiplier: attempt.noise_multiplier(),
        groups,
        failed: failed.collect::<Result<_, ReleaseError>>()?,
    })
}

/// The last step each member of any group was heard in.
fn heard(opened: &[Opened], aborted: &[Aborted]) -> BTreeMap<ParticipantId, Option<Step>> {
    let of_all = opened.iter().map(|group| &group.heard).chain(aborted.iter().map(|group| &group.heard));
    of_all.flatten().map(|(id, step)| (id.clone(), *step)).collect()
}

/// The longest that each step took in any group, in the order of the steps.
fn slowest<'a>(groups: impl Iterator<Item = &'a Vec<(String, u64)>>) -> Vec<(String, u64)> {
    let mut slowest: Vec<(String, u64)> = Vec::new();
    for (step, millis) in groups.flatten() {
        match slowest.iter_mut().find(|(name, _)| name == step) {
            Some((_, most)) => *most = (*most).max(*millis),
            None => slowest.push((step.clone(), *millis)),
        }
    }
    slowest
}

/// The sum of sums; none of none.
fn total<'a>(sums: impl Iterator<Item = &'a Sums>) -> Option<Sums> {
    sums.cloned().reduce(|mut total, sums| {
        total.add(&sums);
        total
    })
}

/// A participant as the registry names it.
fn principal(id: &ParticipantId) -> Result<PrincipalId, ReleaseError> {
    id.as_str().parse().map_err(|_| ReleaseError::Name)
}

fn principals<'a>(ids: impl IntoIterator<Item = &'a ParticipantId>) -> Result<Vec<PrincipalId>, ReleaseError> {
    ids.into_iter().map(principal).collect()
}

/// What the Release says of privacy.
fn described(
    policy: &CheckedPolicy,
    attempt: &Attempt,
    (privacy, Charged { granted, alone, budget, worst }): (&RoundPrivacy, Charged),
    (survivors, groups): (u32, u32),
    step: f64,
) -> ReleasePrivacy {
    let participants = u32::try_from(attempt.cohort().len()).unwrap_or(u32::MAX);
    let (planned, sum_noise_std) = match privacy {
        RoundPrivacy::Participant(round) => (round.planned, Some(round.sum_sigma(survivors, groups) * step)),
        RoundPrivacy::Record(_) => {
            let (min_survivors, max_corrupt) = (policy.policy().cohort.min, policy.faults().corrupt);
            (sordino_dp::noise::Cohort { participants, min_survivors, max_corrupt }, None)
        }
    };
    ReleasePrivacy {
        unit: privacy.unit(),
        relation: privacy.relation().to_owned(),
        sampling: privacy.sampling(),
        holds_against: privacy.holds_against(),
        budget,
        epsilon: granted.spent,
        epsilon_of_round: alone,
        delta: granted.delta,
        total_epsilon: granted.total,
        noise_multiplier: attempt.noise_multiplier().unwrap_or(0.0),
        sum_noise_std,
        accountant: "Renyi divergences, converted at the best order".to_owned(),
        planned: PlannedCohort {
            participants: planned.participants,
            min_survivors: planned.min_survivors,
            max_corrupt: planned.max_corrupt,
        },
        survivors,
        worst_participant: worst,
        software: concat!("sordino ", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

/// What the proof of the coordinator's noise does and does not show.
const NOISE_SHOWS: &str = "each group's sum is that of inputs within their bounds and of one vector of the coordinator's within \
                           effective_bound; not that this vector was drawn as noise, nor that it does not shift the model";
