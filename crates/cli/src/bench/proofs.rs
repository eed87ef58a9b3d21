//! `sordino bench proofs`: what a norm proof costs, beside this machine's multi-scalar multiplication and beside other
//! systems' proofs.

use super::{
    machine::{self, Cost, cpu_model},
    memory::peak_bytes,
    report::ms,
};
use crate::{
    failure::{BenchError, Failure},
    output::{Output, note, table},
};
use curve25519_dalek::{RistrettoPoint, Scalar, traits::VartimeMultiscalarMul as _};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use sordino_proofs::{
    Claim, ClaimSpec, Commitments, Committed, Context, Generators, Interval, NormBound, Proof, Segment, Setting,
    Submission, Verifier,
};
use std::{
    hint::black_box,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Measure norm proofs: made, verified, and what they weigh.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  sordino bench proofs --output json > proofs.json

Takes about half a minute; docs/benchmarks.md says what is measured, benches/peers/README.md how to build the peer.")]
pub(crate) struct Proofs {
    /// Small sizes, in seconds: shows that it works, says little about speed.
    #[arg(long)]
    quick: bool,
    /// Also run this program, which measures other systems' proofs on the same machine.
    #[arg(long, value_name = "PROGRAM")]
    peer: Option<PathBuf>,
    /// Only verify the proof in this folder, and say how much memory that took.
    #[arg(long, hide = true, value_name = "FOLDER", requires = "model_len")]
    verify: Option<PathBuf>,
    /// Values of the model that it is a proof of.
    #[arg(long, hide = true)]
    model_len: Option<usize>,
}

/// What was measured. Times are milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    quick: bool,
    cpu: String,
    /// Full-size terms of the multi-scalar multiplication that is the measure.
    msm_terms: usize,
    /// Each of them, CPU time of one core.
    msm_us_per_term: f64,
    rows: Vec<Row>,
    /// Of a process that verifies one proof of 2^20 values.
    memory: Memory,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<Vec<Figure>>,
}

#[derive(Debug, Serialize)]
struct Row {
    model_len: usize,
    setting: &'static str,
    /// Commitments and proof, one thread, CPU time.
    prove_ms: f64,
    /// Of these the commitments, which are needed before.
    commit_ms: f64,
    /// Times as many full-size terms as the model has values.
    prove_of_msm: f64,
    /// Passed with one thread over passed with two.
    two_threads: f64,
    /// Each proof of a batch, one thread, CPU time.
    verify_ms: f64,
    batch: usize,
    commitment_bytes: usize,
    proof_bytes: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Memory {
    model_len: usize,
    before_bytes: u64,
    peak_bytes: u64,
}

/// One other system, as its program says.
#[derive(Debug, Serialize, Deserialize)]
struct Figure {
    system: String,
    what: String,
    prove_seconds: f64,
    verify_seconds: f64,
    bytes: usize,
}

/// A claim and a vector that is on its bound.
struct Case {
    claim: Claim,
    generators: Generators,
    vector: Vec<i64>,
}

impl Proofs {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        if let (Some(folder), Some(model_len)) = (&self.verify, self.model_len) {
            return output.result(&verify_here(folder, model_len)?, |memory| format!("{memory:?}"));
        }
        output.result(&self.measure()?, text)
    }

    fn measure(self) -> Result<Report, BenchError> {
        let Self { quick, peer, .. } = self;
        let (sizes, msm_terms): (&[_], _) = if quick { (&QUICK, 256) } else { (&FULL, 4096) };
        let msm_us_per_term = msm_speed(msm_terms);
        let rows = sizes.iter().map(|&(model_len, setting)| measure(model_len, setting, msm_us_per_term));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let memory = memory(LONGEST)?;
        let peer = peer.map(|program| ask(&program, quick)).transpose()?;
        Ok(Report { quick, cpu: cpu_model(), msm_terms, msm_us_per_term, rows, memory, peer })
    }
}

impl Case {
    /// Values of 14 bits, a weight and four metrics.
    fn new(model_len: usize, setting: Setting) -> Result<Self, BenchError> {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut vector: Vec<i64> = (0..model_len).map(|_| i64::from(rng.next_u32() >> 18) - (1 << 13)).collect();
        let squared = vector.iter().map(|value| value.unsigned_abs().pow(2)).sum();
        vector.extend([17, 1, -2, 3, -4]);
        let claim = Claim::new(ClaimSpec {
            segments: vec![Segment { len: model_len, bound: NormBound::constant(squared) }],
            weight: Some(Interval { low: 1, high: 100_000 }),
            values: vec![Interval { low: -1_000_000, high: 1_000_000 }; 4],
            entries: None,
            centre: None,
            setting,
        })
        .map_err(proof)?;
        Ok(Self { generators: Generators::of(&claim), claim, vector })
    }

    fn prove(&self, participant: usize, threads: NonZeroUsize) -> Result<Proven, BenchError> {
        let mut rng = ChaCha20Rng::seed_from_u64(participant as u64);
        let name = participant.to_le_bytes();
        let (committed, commit) =
            Cost::of(|| Committed::new(&self.claim, &self.generators, &self.vector, &mut rng, threads));
        let committed = committed.map_err(proof)?;
        let commitments = committed.commitments().clone();
        let (proven, prove) = Cost::of(|| committed.prove(&context(&name), &mut rng, threads));
        Ok(Proven { name, commitments, proof: proven.map_err(proof)?, commit, prove })
    }
}

struct Proven {
    name: [u8; size_of::<usize>()],
    commitments: Commitments,
    proof: Proof,
    commit: Cost,
    prove: Cost,
}

impl Proven {
    fn submission(&self) -> Submission<'_> {
        Submission { context: context(&self.name), commitments: &self.commitments, proof: &self.proof }
    }

    fn wall(&self) -> f64 {
        self.commit.wall_millis() + self.prove.wall_millis()
    }
}

fn context(participant: &[u8]) -> Context<'_> {
    Context { federation: "bench", task: "bench", round: 1, attempt: 1, participant, policy: [0; 32], session: [0; 32] }
}

fn measure(model_len: usize, setting: Setting, msm_us_per_term: f64) -> Result<Row, BenchError> {
    let shown = shown(setting);
    note(&format!("{model_len} values, {shown}"));
    let case = Case::new(model_len, setting)?;
    let (mut proven, mut two) = (Vec::new(), Vec::new());
    for participant in 0..BATCH {
        // By turns, so that what disturbs the one disturbs the other.
        proven.push(case.prove(participant, ONE)?);
        two.push(case.prove(participant, TWO)?);
    }
    let verifier = Verifier::new(&case.claim, &case.generators, ONE);
    let submissions: Vec<_> = proven.iter().map(Proven::submission).collect();
    let mut verified = Vec::new();
    for _ in 0..REPEATS {
        let (results, cost) = Cost::of(|| verifier.verify_batch(&submissions, ONE));
        results.into_iter().try_for_each(|result| result.map(drop)).map_err(proof)?;
        verified.push(cost);
    }
    let commit = Cost::median(proven.iter().map(|proven| proven.commit).collect());
    let prove = Cost::median(proven.iter().map(|proven| proven.prove).collect());
    let prove_ms = commit.cpu_millis() + prove.cpu_millis();
    let best = |proven: &[Proven]| proven.iter().map(Proven::wall).fold(f64::INFINITY, f64::min);
    Ok(Row {
        model_len,
        setting: shown,
        prove_ms,
        commit_ms: commit.cpu_millis(),
        prove_of_msm: prove_ms * 1e3 / (msm_us_per_term * model_len as f64),
        two_threads: best(&proven) / best(&two),
        verify_ms: Cost::median(verified).cpu_millis() / BATCH as f64,
        batch: BATCH,
        commitment_bytes: Commitments::byte_len(&case.claim),
        proof_bytes: Proof::byte_len(&case.claim),
    })
}

/// Microseconds of CPU time for each term of a multi-scalar multiplication of so many full-size terms.
fn msm_speed(terms: usize) -> f64 {
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let mut bytes = || {
        let mut bytes = [0; 64];
        rng.fill_bytes(&mut bytes);
        bytes
    };
    let scalars: Vec<_> = (0..terms).map(|_| Scalar::from_bytes_mod_order_wide(&bytes())).collect();
    let points: Vec<_> = (0..terms).map(|_| RistrettoPoint::from_uniform_bytes(&bytes())).collect();
    let per_second = machine::speed(terms, || {
        black_box(RistrettoPoint::vartime_multiscalar_mul(black_box(&scalars), &points));
    });
    1e6 / per_second
}

/// A process of its own verifies a proof from files: nothing else was in its memory.
fn memory(model_len: usize) -> Result<Memory, BenchError> {
    let folder = tempfile::tempdir().map_err(BenchError::Files)?;
    let case = Case::new(model_len, Setting::Fast)?;
    let Proven { commitments, proof, .. } = case.prove(0, ONE)?;
    std::fs::write(folder.path().join(COMMITMENTS), commitments.to_bytes()).map_err(BenchError::Files)?;
    std::fs::write(folder.path().join(PROOF), proof.to_bytes()).map_err(BenchError::Files)?;
    // The bound is part of the claim, and follows from the vector, which the other process must not have.
    let NormBound { constant, .. } = case.claim.segments()[0].bound;
    std::fs::write(folder.path().join(BOUND), constant.to_string()).map_err(BenchError::Files)?;
    let mut command = Command::new(std::env::current_exe().map_err(BenchError::Process)?);
    command.args(["--output", "json", "bench", "proofs", "--model-len", &model_len.to_string(), "--verify"]);
    let output = command.arg(folder.path()).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    said(&output.map_err(BenchError::Process)?, BenchError::Measured)
}

fn verify_here(folder: &Path, model_len: usize) -> Result<Memory, BenchError> {
    let read = |name| std::fs::read(folder.join(name)).map_err(BenchError::Files);
    let bound = String::from_utf8_lossy(&read(BOUND)?).parse().map_err(proof)?;
    let mut spec = Case::new(1, Setting::Fast)?.claim.spec().clone();
    spec.segments[0] = Segment { len: model_len, bound: NormBound::constant(bound) };
    let claim = Claim::new(spec).map_err(proof)?;
    let before_bytes = peak_bytes()?;
    let generators = Generators::of(&claim);
    let commitments = Commitments::from_bytes(&claim, &read(COMMITMENTS)?).map_err(proof)?;
    let proven = Proof::from_bytes(&claim, &read(PROOF)?).map_err(proof)?;
    let name = 0usize.to_le_bytes();
    let submission = Submission { context: context(&name), commitments: &commitments, proof: &proven };
    Verifier::new(&claim, &generators, ONE).verify(&submission, ONE).map_err(proof)?;
    Ok(Memory { model_len, before_bytes, peak_bytes: peak_bytes()? })
}

fn ask(program: &Path, quick: bool) -> Result<Vec<Figure>, BenchError> {
    let mut command = Command::new(program);
    command.args(quick.then_some("--quick"));
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|source| BenchError::Program { program: program.into(), source })?;
    said(&output, BenchError::Peer)
}

fn said<T: serde::de::DeserializeOwned>(
    output: &std::process::Output,
    failed: fn(String) -> BenchError,
) -> Result<T, BenchError> {
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))
}

fn proof(error: impl std::error::Error + Send + Sync + 'static) -> BenchError {
    BenchError::Proof(Box::new(error))
}

const fn shown(setting: Setting) -> &'static str {
    match setting {
        Setting::Fast => "fast",
        Setting::Small => "small",
    }
}

fn text(report: &Report) -> String {
    let kb = |bytes: usize| format!("{:.1} kB", bytes as f64 / 1e3);
    let rows = report.rows.iter().map(|row| {
        [
            row.model_len.to_string(),
            row.setting.to_owned(),
            format!("{} ms", ms(row.prove_ms)),
            format!("{} ms", ms(row.commit_ms)),
            format!("{:.2}", row.prove_of_msm),
            format!("{:.2}", row.two_threads),
            format!("{} ms", ms(row.verify_ms)),
            kb(row.commitment_bytes),
            kb(row.proof_bytes),
            kb(row.commitment_bytes + row.proof_bytes),
        ]
    });
    let header = [
        "D",
        "SETTING",
        "PROVE",
        "OF IT COMMIT",
        "OF MSM",
        "TWO THREADS",
        "VERIFY",
        "COMMITMENTS",
        "PROOF",
        "TOGETHER",
    ];
    let mut out = format!(
        "{}\none full-size term of a multi-scalar multiplication of {}: {:.2} us\n\n\
         CPU time of one thread; values of 14 bits; verified in batches of {BATCH}, each\n{}",
        report.cpu,
        report.msm_terms,
        report.msm_us_per_term,
        table(header, rows)
    );
    let Memory { model_len, before_bytes, peak_bytes } = report.memory;
    let mb = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    out += &format!(
        "\na process that verifies one proof of {model_len} values: {} of memory ({} before)\n",
        mb(peak_bytes),
        mb(before_bytes)
    );
    if let Some(peer) = &report.peer {
        let rows = peer.iter().map(|figure| {
            [
                figure.system.clone(),
                figure.what.clone(),
                format!("{} ms", ms(figure.prove_seconds * 1e3)),
                format!("{} ms", ms(figure.verify_seconds * 1e3)),
                kb(figure.bytes),
            ]
        });
        out += &format!("\n{}", table(["OTHER SYSTEMS", "WHAT", "PROVE", "VERIFY", "BYTES"], rows));
    }
    if report.quick {
        out += "\n--quick: sizes are too small to say much about speed\n";
    }
    out
}

const ONE: NonZeroUsize = NonZeroUsize::MIN;
const TWO: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);
const BATCH: usize = 8;
const REPEATS: usize = 3;
const LONGEST: usize = 1 << 20;
const FULL: [(usize, Setting); 5] = [
    (LONGEST, Setting::Fast),
    (LONGEST, Setting::Small),
    (100_000, Setting::Fast),
    (10_000, Setting::Fast),
    (10_000, Setting::Small),
];
const QUICK: [(usize, Setting); 2] = [(1000, Setting::Fast), (1000, Setting::Small)];
const COMMITMENTS: &str = "commitments";
const PROOF: &str = "proof";
const BOUND: &str = "bound";
