//! `sordino policy`

use crate::{
    budget::up,
    failure::Failure,
    files,
    output::{Output, table},
};
use sordino_codec::{Encoding, packed_len};
use sordino_dp::{Accountant, Budget, DpError, calibrate};
use sordino_secagg::Topology;
use sordino_wire::{CheckedPolicy, policy::POLICY_BYTES_MAX};
use std::path::{Path, PathBuf};

/// Try a policy before it is submitted.
#[derive(clap::Subcommand)]
pub(crate) enum Policy {
    Check(Check),
}

/// Check a policy as the coordinator would, and show what follows from it.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  sordino policy check policy.toml --model-len 2410

k is the number of neighbours that a participant shares its keys with, t how many of them must answer.")]
pub(crate) struct Check {
    /// The policy, TOML.
    file: PathBuf,
    /// Values in the model; what an input takes depends on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    model_len: Option<u64>,
}

#[derive(serde::Serialize)]
struct Checked {
    name: String,
    digest: String,
    cohorts: Vec<Cohort>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Input>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<NormProof>,
    #[serde(skip_serializing_if = "Option::is_none")]
    privacy: Option<Privacy>,
}

/// What every input of the target cohort proves, and what that takes.
#[derive(serde::Serialize)]
struct NormProof {
    /// The norm that an input is proven to be within, in clip norms: what an attacker may send.
    effective_bound: f64,
    commitment_rows: u64,
    commitments_bytes: u32,
    proof_bytes: u32,
}

#[derive(serde::Serialize)]
struct Privacy {
    unit: &'static str,
    relation: &'static str,
    holds_against: String,
    noise_multiplier: f64,
    delta: f64,
    total_epsilon: f64,
    epsilon_of_round: f64,
    rounds_covered: u64,
    /// Of a model of the length that was asked about, or of one value.
    noise_norm: f64,
    advice: Vec<String>,
}

#[derive(serde::Serialize)]
struct Cohort {
    participants: u32,
    k: u32,
    t: u32,
    dropouts_max: u32,
    corrupt_max: u32,
    quorum: u32,
}

#[derive(serde::Serialize)]
struct Input {
    model_len: u64,
    values: u64,
    ring_bits: u8,
    bytes: u64,
}

/// Reads and checks a policy; also its text, as it was written.
pub(crate) fn load(path: &Path) -> Result<(String, CheckedPolicy), Failure> {
    let text = files::read_text(path, POLICY_BYTES_MAX as u64)?;
    let refused = |source| Failure::Policy { path: path.into(), source };
    let checked = sordino_wire::Policy::from_toml(&text).and_then(sordino_wire::Policy::check).map_err(refused)?;
    Ok((text, checked))
}

/// How inputs for a model of `model_len` values are encoded under the policy in `path`.
pub(crate) fn encoding(path: &Path, policy: &CheckedPolicy, model_len: usize) -> Result<Encoding, Failure> {
    policy.encoding(model_len, &policy.terms(policy.policy().cohort.target)).map_err(|source| Failure::Encoding {
        path: path.into(),
        model_len: model_len as u64,
        source: Box::new(source),
    })
}

impl Policy {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let Self::Check(Check { file, model_len }) = self;
        let (_, policy) = load(&file)?;
        let sizes = policy.policy().cohort.clone();
        let mut cohorts = vec![cohort(&file, &policy, sizes.min)?];
        if sizes.target != sizes.min {
            cohorts.push(cohort(&file, &policy, sizes.target)?);
        }
        let input = model_len.map(|model_len| input(&file, &policy, model_len)).transpose()?;
        let proof = model_len.map(|model_len| proof(&file, &policy, model_len)).transpose()?.flatten();
        let name = policy.policy().task.name.clone();
        let privacy = privacy(&file, &policy, model_len.unwrap_or(1))?;
        let checked = Checked { name, digest: policy.digest().to_string(), cohorts, input, proof, privacy };
        output.result(&checked, text)
    }
}

fn cohort(path: &Path, policy: &CheckedPolicy, participants: u32) -> Result<Cohort, Failure> {
    let faults = policy.faults();
    let topology = Topology::derive(participants, &faults).map_err(|source| Failure::Topology {
        path: path.into(),
        cohort: participants,
        source,
    })?;
    Ok(Cohort {
        participants,
        k: topology.k,
        t: topology.t,
        dropouts_max: faults.dropouts(participants),
        corrupt_max: faults.corrupt,
        quorum: policy.quorum(participants),
    })
}

fn input(path: &Path, policy: &CheckedPolicy, model_len: u64) -> Result<Input, Failure> {
    let encoding = encoding(path, policy, usize::try_from(model_len).unwrap_or(usize::MAX))?;
    let bits = encoding.bits();
    // An encoding exists for lengths that can be packed only.
    let bytes = packed_len(encoding.len(), bits).expect("an encoding's vector fits the address space");
    Ok(Input { model_len, values: encoding.len() as u64, ring_bits: bits.get(), bytes: bytes as u64 })
}

/// None where the policy asks for no proof.
fn proof(path: &Path, policy: &CheckedPolicy, model_len: u64) -> Result<Option<NormProof>, Failure> {
    let len = usize::try_from(model_len).unwrap_or(usize::MAX);
    let proof = policy.round_proof(len, &policy.terms(policy.policy().cohort.target));
    let proof = proof.map_err(|source| Failure::Encoding { path: path.into(), model_len, source: Box::new(source) })?;
    Ok(proof.map(|proof| NormProof {
        effective_bound: proof.effective_bound,
        commitment_rows: proof.claim.rows() as u64,
        commitments_bytes: proof.terms().commitments_len,
        proof_bytes: proof.terms().proof_len,
    }))
}

fn privacy(path: &Path, policy: &CheckedPolicy, model_len: u64) -> Result<Option<Privacy>, Failure> {
    let refused = |source| Failure::Policy { path: path.into(), source };
    let model_len = usize::try_from(model_len).unwrap_or(usize::MAX);
    let section = &policy.policy().privacy;
    let terms = policy.terms(policy.policy().cohort.target);
    let Some(round) = policy.round_privacy(model_len, &terms).map_err(refused)? else { return Ok(None) };
    let accounted = |error: DpError| refused(error.into());
    let empty = Accountant::new(section.delta).map_err(accounted)?;
    let budget = Budget::new(section.total_epsilon, section.delta).map_err(accounted)?;
    let outlook = policy.outlook(model_len).map_err(refused)?;
    Ok(Some(Privacy {
        unit: section.unit.as_str(),
        relation: round.relation(),
        holds_against: round.holds_against(),
        noise_multiplier: terms.noise_multiplier,
        delta: section.delta,
        total_epsilon: section.total_epsilon,
        epsilon_of_round: empty.with_all(round.events()).map_err(accounted)?.epsilon,
        rounds_covered: calibrate::rounds(&empty, round.events(), budget).map_err(accounted)?,
        noise_norm: outlook.as_ref().map_or(0.0, |outlook| outlook.noise_norm),
        advice: outlook.map(|outlook| outlook.advice).unwrap_or_default(),
    }))
}

fn privacy_text(privacy: &Privacy, asked: bool) -> String {
    let Privacy { unit, relation, holds_against, noise_multiplier, delta, total_epsilon, .. } = privacy;
    let mut text = format!(
        "\nprivacy of one {unit}: {relation}\nholds against {holds_against}\nnoise multiplier {noise_multiplier}: a round \
         costs epsilon {}, and epsilon {total_epsilon} at delta {delta:e} covers {} rounds\n",
        up(privacy.epsilon_of_round),
        privacy.rounds_covered,
    );
    if asked {
        text.push_str(&format!("the noise on the average is about {:.2} clip norms long\n", privacy.noise_norm));
    }
    privacy.advice.iter().for_each(|advice| text.push_str(&format!("advice: {advice}\n")));
    text
}

fn proof_text(proof: &NormProof) -> String {
    let NormProof { effective_bound, commitment_rows, commitments_bytes, proof_bytes } = proof;
    format!(
        "\nevery input is proven: effective bound {effective_bound:.1} x clip norm\neach participant sends \
         {commitments_bytes} bytes of commitments ({commitment_rows} rows, and masks) and a proof of {proof_bytes} bytes\n"
    )
}

fn text(checked: &Checked) -> String {
    let row = |cohort: &Cohort| {
        let Cohort { participants, k, t, dropouts_max, corrupt_max, quorum } = cohort;
        [participants, k, t, dropouts_max, corrupt_max, quorum].map(ToString::to_string)
    };
    let cohorts = table(["PARTICIPANTS", "K", "T", "DROPOUTS", "COLLUDING", "QUORUM"], checked.cohorts.iter().map(row));
    let input = checked.input.as_ref().map_or_else(
        || "give --model-len to see the ring and the bytes of an input".to_owned(),
        |Input { model_len, values, ring_bits, bytes }| {
            format!(
                "model of {model_len} values: {values} values of {ring_bits} bits, {bytes} bytes for one input ({:.2} \
                 bytes per value)",
                *bytes as f64 / *values as f64
            )
        },
    );
    let privacy = checked.privacy.as_ref().map_or_else(
        || "\nprivacy.enabled = false: the sum is exact and protects nobody in it\n".to_owned(),
        |privacy| privacy_text(privacy, checked.input.is_some()),
    );
    let proof = checked.proof.as_ref().map(proof_text).unwrap_or_default();
    format!("policy {:?} can work\ndigest {}\n\n{cohorts}\n{input}\n{proof}{privacy}", checked.name, checked.digest)
}
