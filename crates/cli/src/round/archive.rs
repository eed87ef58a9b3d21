//! A round with everything that is published of it: what `sordino round export` writes and `sordino round verify` reads.
//!
//! | file | what |
//! |---|---|
//! | `export.json` | the version of this layout, the federation, the round, the policy's digest |
//! | `policy.json` | the policy; SHA-256 of it is its digest |
//! | `round.json` | the round with its Release, as the coordinator tells it |
//! | `root.pem` | the root certificates that the exporter trusts |
//! | `sum.i64` | the sum |
//! | `group-N.sum.i64`, `group-N.evidence` | those of each group of a Release with norm proofs |
//! | `model-before.safetensors`, `model-after.safetensors` | the models, where the exporter may read models |
//! | `state-before.safetensors`, `state-after.safetensors` | what the optimiser remembers, where the strategy has one that does |
//!
//! None of it is secret, and no key is among it.

use crate::{failure::Failure, files};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sordino_codec::MAX_FILE_BYTES;
use sordino_identity::{FederationId, TrustAnchors};
use sordino_participant::{Client, ClientError};
use sordino_strategy::State;
use sordino_wire::{
    CheckedPolicy, Code, Digest, Policy, RoundId,
    api::{ReleaseGroup, Round, Task},
    audit::{self, AuditError, Audited, Files, GroupFiles, Manifest, Trust},
};
use std::{error::Error, fs, num::NonZeroUsize, path::Path};

/// A round and its files.
pub(super) struct Archive {
    head: Head,
    policy: Vec<u8>,
    round: Round,
    pub(super) root_pem: String,
    sum: Vec<u8>,
    /// Number, sum and evidence of each, in the order of the Release.
    groups: Vec<(u32, Vec<u8>, Vec<u8>)>,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
    /// What the optimiser remembered, before and after.
    states: [Option<Vec<u8>>; 2],
}

/// `export.json`
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    federation: FederationId,
    round: RoundId,
    policy_digest: Digest,
}

impl Archive {
    /// Fetches everything that is published of a round, and that the caller may read.
    pub(super) async fn fetch(
        client: &Client,
        id: &RoundId,
        (federation, root_pem): (FederationId, String),
    ) -> Result<Self, Failure> {
        let round: Round = client.get(&format!("/v1/rounds/{id}")).await?;
        let task: Task = client.get(&format!("/v1/tasks/{}", id.task)).await?;
        let release = round.release.as_ref().ok_or_else(|| AuditError::NoRelease { round: id.clone() });
        let release = release.map_err(Box::new)?;
        let values = task.model_len.saturating_add(1 + task.policy.encoding.metrics.len() as u64);
        let sum_max = usize::try_from(values.saturating_mul(8)).unwrap_or(SUM_MAX).min(SUM_MAX);
        let sum = client.get_file(&format!("/v1/rounds/{id}/sum"), sum_max).await?;
        let mut groups = Vec::new();
        for group in release.proof.iter().flat_map(|proof| &proof.groups) {
            let path = format!("/v1/rounds/{id}/groups/{}", group.group);
            let sum = client.get_file(&format!("{path}/sum"), sum_max).await?;
            let evidence = client.get_file(&format!("{path}/evidence"), evidence_max(group)).await?;
            groups.push((group.group, sum, evidence));
        }
        let (before, after) = (model(client, round.model).await?, model(client, release.model).await?);
        let mut states = [None, None];
        if release.optimizer.is_some() {
            let max = state_max(sum.len());
            for (state, when) in states.iter_mut().zip(["before", "after"]) {
                *state = Some(client.get_file(&format!("/v1/rounds/{id}/optimizer/{when}"), max).await?);
            }
        }
        let policy = serde_json::to_vec(&task.policy).map_err(|error| Failure::Stdout(error.into()))?;
        let head = Head { format: FORMAT, federation, round: id.clone(), policy_digest: task.policy_digest };
        Ok(Self { head, policy, round, root_pem, sum, groups, before, after, states })
    }

    /// Writes a folder that does not exist yet; none of it stays if it cannot be written whole.
    pub(super) fn write(&self, folder: &Path) -> Result<(), Failure> {
        fs::create_dir(folder).map_err(|source| Failure::File { what: "make", path: folder.into(), source })?;
        let written = self.write_files(folder);
        if written.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_dir_all(folder);
        }
        written
    }

    fn write_files(&self, folder: &Path) -> Result<(), Failure> {
        let write = |name: &str, bytes: &[u8]| files::write_new(&folder.join(name), bytes);
        write(HEAD, &json(&self.head)?)?;
        write(POLICY, &self.policy)?;
        write(ROUND, &json(&self.round)?)?;
        write(ROOT, self.root_pem.as_bytes())?;
        write(SUM, &self.sum)?;
        for (group, sum, evidence) in &self.groups {
            write(&group_sum(*group), sum)?;
            write(&group_evidence(*group), evidence)?;
        }
        let [state_before, state_after] = &self.states;
        for (name, file) in
            [(BEFORE, &self.before), (AFTER, &self.after), (STATE_BEFORE, state_before), (STATE_AFTER, state_after)]
        {
            if let Some(bytes) = file {
                write(name, bytes)?;
            }
        }
        Ok(())
    }

    /// Reads a folder that [`Archive::write`] wrote, wherever it has been since.
    pub(super) fn read(folder: &Path) -> Result<Self, Failure> {
        let read = |name: &str, max: usize| files::read(&folder.join(name), max as u64);
        let head: Head = parsed(folder, HEAD)?;
        if head.format != FORMAT {
            return Err(not_ours(folder, HEAD, format!("format {} is not read, {FORMAT} is", head.format)));
        }
        let round: Round = parsed(folder, ROUND)?;
        if round.id != head.round {
            return Err(not_ours(folder, ROUND, format!("it is round {}, and {HEAD} says {}", round.id, head.round)));
        }
        let mut groups = Vec::new();
        let proof = round.release.iter().filter_map(|release| release.proof.as_ref());
        for group in proof.flat_map(|proof| &proof.groups) {
            let number = group.group;
            let sum = read(&group_sum(number), SUM_MAX)?;
            groups.push((number, sum, read(&group_evidence(number), evidence_max(group))?));
        }
        let sum = read(SUM, SUM_MAX)?;
        let optional = |name: &str, max: usize| {
            if folder.join(name).exists() { read(name, max).map(Some) } else { Ok(None) }
        };
        let state_max = state_max(sum.len());
        Ok(Self {
            policy: read(POLICY, TEXT_MAX)?,
            root_pem: files::read_text(&folder.join(ROOT), TEXT_MAX as u64)?,
            sum,
            groups,
            before: optional(BEFORE, MAX_FILE_BYTES)?,
            after: optional(AFTER, MAX_FILE_BYTES)?,
            states: [optional(STATE_BEFORE, state_max)?, optional(STATE_AFTER, state_max)?],
            head,
            round,
        })
    }

    /// The roots in a PEM text, as those of the archive's federation.
    pub(super) fn roots(&self, pem: &str) -> Result<TrustAnchors, Failure> {
        Ok(TrustAnchors::from_pem(self.head.federation.clone(), pem)?)
    }

    /// Checks all of it again, believing these roots.
    pub(super) fn verify(&self, roots: TrustAnchors, threads: NonZeroUsize) -> Result<Audited, Failure> {
        Ok(self.audit(roots, threads).map_err(Box::new)?)
    }

    fn audit(&self, roots: TrustAnchors, threads: NonZeroUsize) -> Result<Audited, AuditError> {
        let policy = self.policy()?;
        let model_len = audit::model_len(&policy, self.sum.len());
        let followed = (&policy, self.head.policy_digest);
        let manifest = Manifest::new(followed, &self.head.federation, &self.round, model_len)?;
        let groups = self.groups.iter().map(|(_, sum, evidence)| GroupFiles { sum, evidence });
        let groups: Vec<_> = groups.collect();
        let (before, after) = (self.before.as_deref(), self.after.as_deref());
        let [state_before, state_after] = self.states.each_ref().map(Option::as_deref);
        let files = Files { sum: &self.sum, groups: &groups, before, after, state_before, state_after };
        manifest.verify(&files, &Trust { roots, during: Trust::time_of(&self.round) }, threads)
    }

    /// The policy, if the file is the text that its digest is of.
    fn policy(&self) -> Result<CheckedPolicy, AuditError> {
        let (stated, found) = (self.head.policy_digest, Digest::of(&self.policy));
        if found != stated {
            return Err(AuditError::Policy { stated, found });
        }
        let unreadable = |error: serde_json::Error| sordino_wire::PolicyError::Unreadable(error.to_string());
        Ok(serde_json::from_slice::<Policy>(&self.policy).map_err(unreadable)?.check()?)
    }
}

/// A model; none where the caller may not read models.
async fn model(client: &Client, digest: Digest) -> Result<Option<Vec<u8>>, Failure> {
    match client.get_model(digest, MAX_FILE_BYTES).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(ClientError::Refused(problem)) if matches!(problem.code, Code::Forbidden | Code::NotFound) => {
            crate::output::note(&format!("model {digest} is left out: {}", problem.detail));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec_pretty(value).map_err(|error| Failure::Stdout(error.into()))
}

fn parsed<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<T, Failure> {
    let bytes = files::read(&folder.join(name), TEXT_MAX as u64)?;
    serde_json::from_slice(&bytes).map_err(|error| not_ours(folder, name, error))
}

fn not_ours(folder: &Path, name: &str, why: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
    Failure::Exported { path: folder.join(name), source: why.into() }
}

fn group_sum(group: u32) -> String {
    format!("group-{group}.sum.i64")
}

fn group_evidence(group: u32) -> String {
    format!("group-{group}.evidence")
}

/// Bytes of a group's evidence, at most.
fn evidence_max(group: &ReleaseGroup) -> usize {
    group.survivors.len().saturating_add(BESIDE_INPUTS).saturating_mul(INPUT_MAX)
}

/// Bytes of an optimiser's state, at most: two f32 for each value, of which the sum has 8 bytes.
fn state_max(sum_bytes: usize) -> usize {
    State::file_len_max(sum_bytes / 8)
}

/// Version of the layout.
const FORMAT: u32 = 1;
const HEAD: &str = "export.json";
const POLICY: &str = "policy.json";
const ROUND: &str = "round.json";
const ROOT: &str = "root.pem";
const SUM: &str = "sum.i64";
const BEFORE: &str = "model-before.safetensors";
const AFTER: &str = "model-after.safetensors";
const STATE_BEFORE: &str = "state-before.safetensors";
const STATE_AFTER: &str = "state-after.safetensors";
/// Bytes of a text: a round of the largest cohort.
const TEXT_MAX: usize = 64 << 20;
/// Bytes of a sum: 8 for each value of the largest model as F16, and some metrics.
const SUM_MAX: usize = 4 * MAX_FILE_BYTES + 4_096;
/// Bytes of what shows of one input that it is within its bounds: commitments take half of it, at most.
const INPUT_MAX: usize = 1 << 20;
/// What stands in evidence beside its inputs takes no more than so many of them.
const BESIDE_INPUTS: usize = 4;
