//! `sordino policy`

use crate::{
    failure::Failure,
    files,
    output::{Output, table},
};
use sordino_codec::{Encoding, packed_len};
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
    policy.encoding(model_len).map_err(|source| Failure::Encoding {
        path: path.into(),
        model_len: model_len as u64,
        source,
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
        let name = policy.policy().task.name.clone();
        let checked = Checked { name, digest: policy.digest().to_string(), cohorts, input };
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
    format!("policy {:?} can work\ndigest {}\n\n{cohorts}\n{input}\n", checked.name, checked.digest)
}
