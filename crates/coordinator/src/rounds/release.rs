//! From an opened sum to a Release: the next model, the sum as integers, and the manifest.

use super::attempt::Opened;
use sordino_codec::{Aggregate, DecodeError, Encoding, FileLimits, ModelFileError, Tensors, TensorsError};
use sordino_identity::PrincipalId;
use sordino_secagg::{ParticipantId, Step};
use sordino_store::{RoundOutcome, Store, StoreError};
use sordino_wire::{CheckedPolicy, Digest, api::Release};
use std::collections::{BTreeMap, BTreeSet};

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
    /// Our own records.
    #[error("the round's record names a participant that cannot exist")]
    Name,
    /// The work was cut off.
    #[error("the work was cut off")]
    Cut,
}

/// Stores the next model and the sum, and describes them.
pub(super) async fn publish(
    store: &Store,
    policy: &CheckedPolicy,
    encoding: &Encoding,
    (model, limits): (Digest, FileLimits),
    cohort: &BTreeSet<ParticipantId>,
    opened: Opened,
    last_round: bool,
) -> Result<(Release, RoundOutcome), ReleaseError> {
    let Opened { sum, survivors, heard, input_bytes, step_millis, shown: _ } = opened;
    let old = store.blobs().read(&model.0, limits.max_file_bytes as u64).await?;
    let (ring_bits, encoding) = (sum.bits().get(), encoding.clone());
    let contributors = u32::try_from(survivors.len()).map_err(|_| ReleaseError::Name)?;
    let work = move || -> Result<(Aggregate, Vec<u8>, Vec<u8>), ReleaseError> {
        let aggregate = encoding.decode(&sum, contributors)?;
        let next = Tensors::from_safetensors(&old, &limits)?.plus(&aggregate.mean)?.to_safetensors();
        let integers = sum.iter_centered().flat_map(i64::to_le_bytes).collect();
        Ok((aggregate, next, integers))
    };
    let (aggregate, next, integers) = tokio::task::spawn_blocking(work).await.map_err(|_| ReleaseError::Cut)??;
    let model_bytes = next.len() as u64;
    let new_model = store.blobs().put(next).await?;
    let sum = store.blobs().put(integers).await?;

    let names = |ids: &mut dyn Iterator<Item = &ParticipantId>| -> Result<Vec<PrincipalId>, ReleaseError> {
        ids.map(|id| id.as_str().parse().map_err(|_| ReleaseError::Name)).collect()
    };
    let missed = |of_survivors: bool| -> Result<BTreeMap<PrincipalId, String>, ReleaseError> {
        let missed_by = |(id, last): (&ParticipantId, &Option<Step>)| {
            let first = last.map_or(Some(Step::AdvertiseKeys), Step::next)?;
            (survivors.contains(id) == of_survivors).then(|| (id.clone(), first))
        };
        let named = |(id, step): (ParticipantId, Step)| {
            Ok((id.as_str().parse().map_err(|_| ReleaseError::Name)?, step.name().to_owned()))
        };
        heard.iter().filter_map(missed_by).map(named).collect()
    };
    let metrics = &policy.policy().encoding.metrics;
    let release = Release {
        model: Digest(new_model),
        sum: Digest(sum),
        ring_bits,
        cohort: names(&mut cohort.iter())?,
        survivors: names(&mut survivors.iter())?,
        dropouts: missed(false)?,
        silent_survivors: missed(true)?,
        weight: aggregate.weight_sum,
        metrics: metrics.iter().map(|metric| metric.name.clone()).zip(aggregate.metrics).collect(),
        input_bytes,
        step_millis,
    };
    let release_json = serde_json::to_string(&release).map_err(|_| ReleaseError::Name)?;
    Ok((release, RoundOutcome { release_json, new_model, model_bytes, task_done: last_round }))
}
