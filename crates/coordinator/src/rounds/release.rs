//! From an opened sum to a Release: the next model, the sum as integers, and the manifest.

use super::attempt::{Attempt, Ended};
use super::group::{Aborted, Opened};
use super::proving::Proving;
use crate::{
    app::App,
    budget::{self, BudgetError},
};
use sordino_codec::{
    Aggregate, DecodeError, Encoding, FileLimits, ModelFileError, RingVector, Sums, Tensors, TensorsError,
};
use sordino_dp::ledger::Granted;
use sordino_dp::noise::{NoiseError, NoiseRng, Unseeded};
use sordino_identity::PrincipalId;
use sordino_secagg::{ParticipantId, Step};
use sordino_store::{RoundOutcome, Store, StoreError, crash_point};
use sordino_wire::api::{
    FailedGroup, PlannedCohort, Release, ReleaseGroup, ReleasePrivacy, ReleaseProof, WorstParticipant,
};
use sordino_wire::{
    CheckedPolicy, Digest, RoundPrivacy,
    evidence::SumEvidence,
    policy::{Placement, PrivacyUnit},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
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
    #[error("the next model has a value that its dtype cannot hold")]
    Values(#[from] TensorsError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Noise could not be drawn, so there is nothing to release.
    #[error("the noise of the sum could not be drawn")]
    Noise(#[from] NoiseError),
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

/// A group's sum as it may be stored and seen.
struct Summed {
    group: Opened,
    sums: Sums,
    /// Where inputs carry proofs: what shows that it is their sum.
    evidence: Option<SumEvidence>,
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
pub(super) async fn publish(
    store: &Store,
    policy: &CheckedPolicy,
    (model, limits): (Digest, FileLimits),
    attempt: &Attempt,
    (ended, charged): (Ended, Option<Charged>),
    last_round: bool,
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
    let contributors = sums.contributors;
    let work = move || -> Result<(Aggregate, Vec<u8>, Vec<u8>), ReleaseError> {
        let aggregate = encoding.aggregate(&sums, divisor);
        let next = Tensors::from_safetensors(&old, &limits)?.plus(&aggregate.mean)?.to_safetensors();
        Ok((aggregate, next, bytes_of(&sums)))
    };
    let (aggregate, next, integers) = tokio::task::spawn_blocking(work).await.map_err(|_| ReleaseError::Cut)??;
    let model_bytes = next.len() as u64;
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
    let refused = attempt.refused().await;
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
            (Some(privacy), Some(charged)) => Some(described(policy, attempt, privacy, charged, (contributors, step))),
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
    };
    let release_json = serde_json::to_string(&release).map_err(|_| ReleaseError::Name)?;
    let outcome = RoundOutcome { release_json, new_model, model_bytes, task_done: last_round };
    Ok(Published { release, outcome, checks })
}

/// The sums that may be released, and the groups that may not be, each with the reason.
async fn check(
    store: &Store,
    attempt: &Attempt,
    opened: Vec<Opened>,
) -> Result<(Vec<Summed>, Vec<(Opened, String)>), ReleaseError> {
    let (mut passed, mut failed) = (Vec::new(), Vec::new());
    for mut group in opened {
        let contributors = u32::try_from(group.survivors.len()).map_err(|_| ReleaseError::Name)?;
        let sum = std::mem::replace(&mut group.sum, RingVector::zeros(0, attempt.encoding().bits()));
        let Some(proving) = attempt.proving() else {
            let sums = released_sums(store, attempt, sum, contributors).await?;
            passed.push(Summed { group, sums, evidence: None });
            continue;
        };
        let (proving, encoding, inputs) =
            (Arc::clone(proving), attempt.encoding().clone(), std::mem::take(&mut group.inputs));
        let work = move || proving.check_sum(&encoding, &sum, contributors, inputs);
        match tokio::task::spawn_blocking(work).await.map_err(|_| ReleaseError::Cut)? {
            Ok((sums, evidence)) => passed.push(Summed { group, sums, evidence: Some(evidence) }),
            Err(reason) => {
                let (round, number) = (&attempt.id().round, attempt.id().attempt);
                tracing::warn!(%round, attempt = number, group = group.index, reason, "a group's sum is not that of its inputs");
                failed.push((group, reason));
            }
        }
    }
    Ok((passed, failed))
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
        let add = |total: &mut [i64], more: &[i64]| total.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        add(&mut total.model, &sums.model);
        add(&mut total.metrics, &sums.metrics);
        total.weight += sums.weight;
        total.contributors += sums.contributors;
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

/// The sum as it may be stored and seen: with its noise where the coordinator adds it, and then checked. To say of an exact
/// sum that it is out of range would be a release without noise, with a threshold that one participant can choose.
///
/// Noise is drawn once. What came of it is durable before anything else is made of it, and a coordinator that is killed
/// takes that again: two noised versions of one sum would say more than one.
async fn released_sums(
    store: &Store,
    attempt: &Attempt,
    sum: RingVector,
    contributors: u32,
) -> Result<Sums, ReleaseError> {
    let encoding = attempt.encoding().clone();
    let central = match attempt.privacy() {
        Some(RoundPrivacy::Participant(round)) if round.placement == Placement::Coordinator => Some(round.clone()),
        _ => None,
    };
    let Some(central) = central else {
        let open = move || encoding.open(&sum, contributors);
        return Ok(tokio::task::spawn_blocking(open).await.map_err(|_| ReleaseError::Cut)??);
    };
    let id = attempt.id();
    let (task, round, number) = (id.round.task.as_str(), id.round.number, id.attempt);
    let len = encoding.len() as u64 * INTEGER_LEN as u64;
    let noise = central.sum_noise();
    let noised = match store.spool().outcome(task, round, number, len).await? {
        Some(kept) => sums_of(&encoding, &kept, contributors),
        None => {
            let lifting = encoding.clone();
            let draw = move || -> Result<Sums, ReleaseError> {
                let mut sums = lifting.lift(&sum, contributors)?;
                central.add_central(&mut sums, &mut NoiseRng::from_os(getrandom::fill)?)?;
                Ok(sums)
            };
            let sums = tokio::task::spawn_blocking(draw).await.map_err(|_| ReleaseError::Cut)??;
            crash_point!("noise:drawn");
            store.spool().keep_outcome(task, round, number, bytes_of(&sums)).await?;
            crash_point!("noise:stored");
            sums
        }
    };
    encoding.check(&noised, &noise)?;
    Ok(noised)
}

/// Integers in little-endian order, 8 bytes each, in the order of the encoding's fields.
fn bytes_of(sums: &Sums) -> Vec<u8> {
    sums.integers().flat_map(i64::to_le_bytes).collect()
}

/// Reads what [`bytes_of`] wrote, of an encoding's length.
fn sums_of(encoding: &Encoding, bytes: &[u8], contributors: u32) -> Sums {
    let (integers, _) = bytes.as_chunks::<INTEGER_LEN>();
    let mut model: Vec<i64> = integers.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
    let mut tail = model.split_off(encoding.spec().model_len.min(model.len()));
    let metrics = tail.split_off(1.min(tail.len()));
    let weight = tail.first().copied().and_then(|weight| u64::try_from(weight).ok()).unwrap_or(0);
    Sums { model, weight, metrics, contributors }
}

/// What the Release says of privacy.
fn described(
    policy: &CheckedPolicy,
    attempt: &Attempt,
    privacy: &RoundPrivacy,
    Charged { granted, alone, budget, worst }: Charged,
    (survivors, step): (u32, f64),
) -> ReleasePrivacy {
    let participants = u32::try_from(attempt.cohort().len()).unwrap_or(u32::MAX);
    let (planned, sum_noise_std) = match privacy {
        RoundPrivacy::Participant(round) => (round.planned, Some(round.sum_sigma(survivors) * step)),
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

/// Bytes of an integer of a sum.
const INTEGER_LEN: usize = 8;
