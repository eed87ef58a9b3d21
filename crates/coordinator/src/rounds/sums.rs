//! From what groups opened to sums that may be stored and seen: with the coordinator's noise where it adds it, and checked.

use super::attempt::{Attempt, damaged};
use super::group::Opened;
use super::proving::{INTEGER_LEN, Proving, bytes_of, sums_of};
use super::release::ReleaseError;
use sordino_codec::{RingVector, Sums};
use sordino_dp::noise::NoiseRng;
use sordino_store::{Store, StoreError, crash_point};
use sordino_wire::{ParticipantRound, RoundPrivacy, evidence::SumEvidence, policy::Placement};
use std::sync::Arc;

/// A group's sum as it may be stored and seen.
pub(super) struct Summed {
    pub(super) group: Opened,
    pub(super) sums: Sums,
    /// Where inputs carry proofs: what shows that it is their sum.
    pub(super) evidence: Option<SumEvidence>,
}

/// The sums that may be released, and the groups that may not be, each with the reason.
pub(super) async fn check(
    store: &Store,
    attempt: &Attempt,
    opened: Vec<Opened>,
) -> Result<(Vec<Summed>, Vec<(Opened, String)>), ReleaseError> {
    let (mut passed, mut failed) = (Vec::new(), Vec::new());
    for mut group in opened {
        let contributors = u32::try_from(group.survivors.len()).map_err(|_| ReleaseError::Name)?;
        let sum = std::mem::replace(&mut group.sum, RingVector::zeros(0, attempt.encoding().bits()));
        let Some(proving) = attempt.proving() else {
            let sums = released_sums(store, attempt, group.index, (sum, contributors)).await?;
            passed.push(Summed { group, sums, evidence: None });
            continue;
        };
        match proven_sums(store, attempt, proving, &mut group, (sum, contributors)).await? {
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

/// The sum as it may be stored and seen, where inputs carry no proof: with its noise where the coordinator adds it, and then
/// checked. To say of an exact sum that it is out of range would be a release without noise, with a threshold that one
/// participant can choose.
async fn released_sums(
    store: &Store,
    attempt: &Attempt,
    group: u32,
    (sum, contributors): (RingVector, u32),
) -> Result<Sums, ReleaseError> {
    let encoding = attempt.encoding().clone();
    let Some(central) = central(attempt) else {
        let open = move || encoding.open(&sum, contributors);
        return Ok(tokio::task::spawn_blocking(open).await.map_err(|_| ReleaseError::Cut)??);
    };
    let len = encoding.len() as u64 * INTEGER_LEN as u64;
    let noise = central.sum_noise();
    let noised = match kept(store, attempt, group, len).await? {
        Some(kept) => sums_of(&encoding, &kept, contributors),
        None => {
            let lifting = encoding.clone();
            let draw = move || -> Result<Sums, ReleaseError> {
                let mut sums = lifting.lift(&sum, contributors)?;
                central.add_central(&mut sums, &mut NoiseRng::from_os(getrandom::fill)?)?;
                Ok(sums)
            };
            let sums = tokio::task::spawn_blocking(draw).await.map_err(|_| ReleaseError::Cut)??;
            keep(store, attempt, group, bytes_of(&sums)).await?;
            sums
        }
    };
    encoding.check(&noised, &noise)?;
    Ok(noised)
}

/// The sum of a group whose inputs carry proofs, as it may be stored and seen, with what shows that it is theirs; else why it
/// is not. Noise of the coordinator comes first, with its own commitments and proof, and is in what is checked: the exact
/// sum is shown to nobody, and opens what was committed to if and only if the other does.
async fn proven_sums(
    store: &Store,
    attempt: &Attempt,
    proving: &Arc<Proving>,
    group: &mut Opened,
    (sum, contributors): (RingVector, u32),
) -> Result<Result<(Sums, SumEvidence), String>, ReleaseError> {
    let inputs = std::mem::take(&mut group.inputs);
    let central = central(attempt);
    if central.is_some()
        && let Some(kept) = kept(store, attempt, group.index, proving.kept_len()).await?
    {
        // It was checked before it was kept.
        let lifted = proving.kept(attempt.encoding(), &kept, contributors).ok_or_else(|| damaged("outcome"))?;
        return Ok(Ok(lifted.into_evidence(inputs)));
    }
    let (drawn, proving, encoding) = (central.is_some(), Arc::clone(proving), attempt.encoding().clone());
    let context = group.context.clone();
    let work = move || -> Result<_, ReleaseError> {
        let mut lifted = match proving.lift(&encoding, &sum, contributors) {
            Ok(lifted) => lifted,
            Err(reason) => return Ok(Err(reason)),
        };
        if let Some(central) = central {
            let mut noise = encoding.zero_sums();
            central.add_central(&mut noise, &mut NoiseRng::from_os(getrandom::fill)?)?;
            proving.add_noise(&context, &noise, &mut lifted)?;
        }
        Ok(proving.check(&lifted, &inputs).map(|()| (lifted, inputs)))
    };
    let (lifted, inputs) = match tokio::task::spawn_blocking(work).await.map_err(|_| ReleaseError::Cut)?? {
        Ok(checked) => checked,
        Err(reason) => return Ok(Err(reason)),
    };
    if drawn {
        keep(store, attempt, group.index, lifted.to_bytes()).await?;
    }
    Ok(Ok(lifted.into_evidence(inputs)))
}

/// The noise of a sum, where the coordinator adds it.
fn central(attempt: &Attempt) -> Option<ParticipantRound> {
    match attempt.privacy() {
        Some(RoundPrivacy::Participant(round)) if round.placement == Placement::Coordinator => Some(round.clone()),
        _ => None,
    }
}

/// What was [kept](keep) of a group, if anything was.
async fn kept(store: &Store, attempt: &Attempt, group: u32, len: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let id = attempt.id();
    store.spool().outcome((id.round.task.as_str(), id.round.number, id.attempt), group, len).await
}

/// Noise is drawn once. What came of it is durable before anything else is made of it, and a coordinator that is killed
/// takes that again: two noised versions of one sum would say more than one.
async fn keep(store: &Store, attempt: &Attempt, group: u32, noised: Vec<u8>) -> Result<(), StoreError> {
    let id = attempt.id();
    crash_point!("noise:drawn");
    store.spool().keep_outcome((id.round.task.as_str(), id.round.number, id.attempt), group, noised).await?;
    crash_point!("noise:stored");
    Ok(())
}
