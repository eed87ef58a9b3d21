//! `sordino bench secagg`: the aggregation beside this machine, and beside another implementation.

use super::{
    certificates::{Certificates, Neighbours},
    cohort::{self, How, Outcome, PLAIN},
    machine::{self, Machine},
    peer::{self, Peer},
    report::{Report, Row, Speed},
    scenario::Scenario,
};
use crate::failure::{BenchError, Failure};
use sordino_secagg::Faults;
use std::path::PathBuf;

/// Measure secure aggregation: real cohorts in this process, every opened sum checked.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  sordino bench secagg --output json > secagg.json

Takes a minute or two and about half a gigabyte of memory, with --peer twice as long; docs/benchmarks.md says what is
measured and how to read it.")]
pub(crate) struct Secagg {
    /// Small sizes, in seconds: shows that it works, says little about speed.
    #[arg(long)]
    pub(super) quick: bool,
    /// Also measure Flower's SecAgg+ functions on the same core, if flwr 1.42 is installed.
    #[arg(long)]
    peer: bool,
    /// Python that has flwr; implies --peer.
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
}

/// How much is measured.
struct Sizes {
    /// Values of the model.
    model_lens: &'static [usize],
    /// Participants of the two cohorts.
    small: u32,
    large: u32,
    /// Bytes that are copied to see how fast memory is.
    copy_bytes: usize,
    /// Repetitions of what the peer does quickly.
    peer_repeats: u32,
}

/// What is compared with the peer.
pub(super) struct Compared {
    /// A complete graph with 21 neighbours, the longest vector.
    pub(super) masking: Outcome,
    /// A complete graph with 100 neighbours.
    pub(super) share_keys: Outcome,
    /// The same, among neighbours whose certificates were checked before.
    pub(super) share_keys_again: Outcome,
    /// The large cohort with the fewest neighbours, a tenth silent, the longest vector.
    pub(super) unmask: Outcome,
    pub(super) participants: u32,
    pub(super) dropouts: u32,
    pub(super) model_len: usize,
}

impl Secagg {
    pub(super) fn measure(self) -> Result<Report, Failure> {
        let Self { quick, peer, python } = self;
        // Before it is pinned: a process on one core sees no other.
        let cpu = machine::cpu_model();
        let python = python.or_else(|| peer.then(|| PathBuf::from(PYTHON)));
        if python.is_some() {
            machine::pin_to_one_core();
        }
        Ok(measure(cpu, if quick { &QUICK } else { &FULL }, quick, python)?)
    }
}

fn measure(cpu: String, sizes: &Sizes, quick: bool, python: Option<PathBuf>) -> Result<Report, BenchError> {
    let machine = Machine::measure(cpu, sizes.copy_bytes);
    let certificates = Certificates::issue(sizes.large.max(AT_K_21.0).max(AT_K_100.0))?;
    let largest = sizes.model_lens.iter().copied().max().unwrap_or_default();

    // Speeds are told of the largest vector, at exactly 21 neighbours.
    let (participants, faults) = AT_K_21;
    let reference = Scenario { participants, faults, model_len: largest, dropouts: 0 };
    let outcome = cohort::run(&reference, &certificates, PLAIN)?;
    let lane_bytes = outcome.lane_bytes();
    let copy = machine::copy_speed(lane_bytes);
    let copy_large = machine.copy_large_bytes_per_second;
    let keystream = machine.registers_bytes_per_second.unwrap_or(machine.keystream_bytes_per_second);
    let masking = Speed::new(outcome.keystream_bytes(), outcome.mask_input().cpu, keystream);
    let adding = Speed::new(lane_bytes, outcome.add.cpu, copy_large);
    let adding_again = machine::adding_speed(largest, outcome.bits());

    let mut rows = vec![Row::new("k = 21", &reference, &outcome)];
    let mut unmask = None;
    for (name, scenario) in scenarios(sizes) {
        let outcome = cohort::run(&scenario, &certificates, PLAIN)?;
        rows.push(Row::new(name, &scenario, &outcome));
        if name == SPARSE && scenario.model_len == largest && scenario.dropouts == sizes.large / 10 {
            unmask = Some((scenario, outcome));
        }
    }
    let peer = match (python, unmask) {
        (Some(python), Some((scenario, unmask))) => {
            let (participants, faults) = AT_K_100;
            let share_keys = Scenario { participants, faults, model_len: 1_000, dropouts: 0 };
            let compared = Compared {
                masking: outcome,
                share_keys: cohort::run(&share_keys, &certificates, PLAIN)?,
                share_keys_again: cohort::run(&share_keys, &certificates, AMONG_KNOWN)?,
                unmask,
                participants: scenario.participants,
                dropouts: scenario.dropouts,
                model_len: largest,
            };
            Some(peer::measure(&python, &compared, sizes.peer_repeats)?)
        }
        _ => None,
    };
    if let Some(Peer::Skipped { skipped }) = &peer {
        crate::output::note(&format!("the peer is skipped: {skipped}"));
    }
    Ok(Report { quick, machine, copy_same_bytes_per_second: copy, masking, adding, adding_again, rows, peer })
}

/// The cohorts that are measured, each at every length with 0, 10 and 30 % dropouts.
fn scenarios(sizes: &Sizes) -> Vec<(&'static str, Scenario)> {
    let mut scenarios = Vec::new();
    for &model_len in sizes.model_lens {
        for percent in [0, 10, 30] {
            // What a policy would have to allow for, and with it a tenth that colludes.
            let allowed = if percent > 10 { 0.3 } else { 0.1 };
            let policy = |participants: u32| Scenario {
                participants,
                faults: Faults { corrupt: participants / 10, max_dropout_fraction: allowed },
                model_len,
                dropouts: participants * percent / 100,
            };
            scenarios.push(("small", policy(sizes.small)));
            let sparse = Scenario { faults: sparsest(sizes.large), ..policy(sizes.large) };
            scenarios.push((SPARSE, sparse));
            scenarios.push(("large", policy(sizes.large)));
        }
    }
    scenarios
}

/// The mildest faults that still ask for a graph that nobody can cut: 28 neighbours of 99, where a policy that allows
/// for the dropouts that are measured would have many more. It shows costs near those of other implementations' 21.
fn sparsest(participants: u32) -> Faults {
    Faults { corrupt: 0, max_dropout_fraction: 1.0 / f64::from(participants) }
}

/// As in every round but the first.
const AMONG_KNOWN: How<'static> = How { neighbours: Neighbours::Known, ..PLAIN };
const SPARSE: &str = "large, fewest neighbours";
/// A complete graph of 22 has exactly 21 neighbours each.
const AT_K_21: (u32, Faults) = (22, Faults { corrupt: 0, max_dropout_fraction: 0.1 });
/// With so many dropouts, no graph of 101 is good enough but the complete one; the threshold is 51.
const AT_K_100: (u32, Faults) = (101, Faults { corrupt: 0, max_dropout_fraction: 0.45 });
const FULL: Sizes =
    Sizes { model_lens: &[100_000, 1_000_000], small: 16, large: 100, copy_bytes: 256 << 20, peer_repeats: 5 };
const QUICK: Sizes = Sizes { model_lens: &[10_000], small: 16, large: 36, copy_bytes: 16 << 20, peer_repeats: 2 };
const PYTHON: &str = "python3";
