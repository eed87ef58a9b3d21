//! The same work by another implementation: the SecAgg+ functions of Flower 1.42, run by a Python that has them, in the
//! same run and on the same core as ours.

use super::secagg::Compared;
use crate::failure::BenchError;
use serde::{Deserialize, Serialize};
use sordino_secagg::Step;
use std::{
    io::{self, Write as _},
    path::Path,
    process::{Command, Stdio},
};

/// What became of the comparison.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Peer {
    /// There is no Python, or it has no flwr.
    Skipped {
        skipped: String,
    },
    Measured {
        figures: Figures,
        comparisons: Vec<Comparison>,
    },
}

/// What the script says.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Said {
    Skipped { skipped: String },
    Measured(Figures),
}

/// What was measured there. Times are CPU seconds of the process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) flwr: String,
    pub(crate) numpy: String,
    pub(crate) python: String,
    masking: Masking,
    share_keys: ShareKeys,
    unmask: Vec<Unmask>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Masking {
    neighbours: u32,
    dim: usize,
    /// All that a client does in the stage.
    stage_seconds: f64,
    /// What of it is encoding, which is outside of what is measured here.
    quantization_seconds: f64,
    seconds: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct ShareKeys {
    neighbours: u32,
    threshold: u32,
    seconds: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Unmask {
    participants: u32,
    neighbours: u32,
    threshold: u32,
    dim: usize,
    dropouts: u32,
    seconds: f64,
    bytes_up: f64,
}

/// One figure of theirs and ours.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) peer: f64,
    pub(crate) ours: f64,
    /// Theirs over ours: above 1, ours is less.
    pub(crate) times: f64,
    /// What it should be at least; `None` where it is only told.
    pub(crate) at_least: Option<f64>,
}

impl Comparison {
    fn new(what: String, unit: &'static str, peer: f64, ours: f64, at_least: Option<f64>) -> Self {
        Self { what, unit, peer, ours, times: peer / ours.max(f64::MIN_POSITIVE), at_least }
    }
}

/// Runs the script, with the sizes that were measured here.
pub(crate) fn measure(python: &Path, ours: &Compared, repeats: u32) -> Result<Peer, BenchError> {
    let failed = |source| BenchError::Python { python: python.into(), source };
    let share_topology = ours.share_keys.topology;
    let unmask_topology = ours.unmask.topology;
    let cohorts = format!("{FEWEST_SHARES},{}:{}", unmask_topology.k + 1, unmask_topology.t);
    let arguments = [
        ("--dim", ours.model_len.to_string()),
        ("--mask-neighbours", ours.masking.topology.k.to_string()),
        ("--share-neighbours", share_topology.k.to_string()),
        ("--share-threshold", share_topology.t.to_string()),
        ("--participants", ours.participants.to_string()),
        ("--dropouts", ours.dropouts.to_string()),
        ("--unmask", cohorts),
        ("--repeats", repeats.to_string()),
    ];
    // The script comes from standard input: the binary is enough to compare.
    let mut command = Command::new(python);
    command.arg("-").args(arguments.iter().flat_map(|(name, value)| [*name, value.as_str()]));
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let mut child = match spawned {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Peer::Skipped { skipped: format!("there is no {}", python.display()) });
        }
        spawned => spawned.map_err(failed)?,
    };
    if let Some(mut stdin) = child.stdin.take() {
        // A Python that ended early says so by its exit.
        let _ = stdin.write_all(SCRIPT.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        return Err(BenchError::Peer(output.status.to_string()));
    }
    match serde_json::from_slice(&output.stdout).map_err(|error| BenchError::Peer(error.to_string()))? {
        Said::Skipped { skipped } => Ok(Peer::Skipped { skipped }),
        Said::Measured(figures) => {
            let comparisons = compare(&figures, ours);
            Ok(Peer::Measured { figures, comparisons })
        }
    }
}

/// Their figures beside ours, the best of several both.
fn compare(theirs: &Figures, ours: &Compared) -> Vec<Comparison> {
    let masking = ours.masking.best(Step::MaskedInput).cpu_millis();
    let share_keys = ours.share_keys.best(Step::ShareKeys).cpu_millis();
    let certificates = ours.share_keys.certificates.cpu_millis();
    let again = ours.share_keys_again.best(Step::ShareKeys).cpu_millis();
    let Masking { neighbours: k, dim, stage_seconds, seconds, .. } = theirs.masking;
    let shared = theirs.share_keys.seconds * 1e3;
    let of_keys = format!("share-keys, k = {}", theirs.share_keys.neighbours);
    let mut comparisons = vec![
        Comparison::new(format!("masking, k = {k}, d = {dim}"), MS, seconds * 1e3, masking, Some(12.0)),
        Comparison::new("  with the peer's quantization".into(), MS, stage_seconds * 1e3, masking, None),
        // What both do is compared; what only we do is told below.
        Comparison::new(of_keys, MS, shared, share_keys - certificates, Some(80.0)),
        Comparison::new("  and certificates checked: it has none".into(), MS, shared, share_keys, None),
        Comparison::new("  and certificates that were seen before".into(), MS, shared, again, None),
    ];
    for their in &theirs.unmask {
        let Unmask { participants, neighbours, dim, dropouts, seconds, bytes_up, .. } = their;
        let k = ours.unmask.topology.k;
        let same = *neighbours == k;
        let ks = if same { format!("k = {k}") } else { format!("k = {k} (peer {neighbours})") };
        let at_least = same.then_some(60.0);
        let what = format!("unmask, n = {participants}, {dropouts} silent, d = {dim}, {ks}");
        comparisons.push(Comparison::new(what, MS, seconds * 1e3, ours.unmask.unmask.cpu_millis(), at_least));
        let what = format!("bytes up per participant, {ks}");
        comparisons.push(Comparison::new(what, "kB", bytes_up / 1e3, ours.unmask.bytes_up as f64 / 1e3, None));
    }
    comparisons
}

const SCRIPT: &str = include_str!("../../../../benches/peers/secagg.py");
/// 20 neighbours and itself, and the threshold: what Flower's examples use is about as many.
const FEWEST_SHARES: &str = "21:11";
const MS: &str = "ms";
