//! `sordino bench`: what the aggregation costs on this machine, beside what the machine could do at best.

mod certificates;
mod cohort;
mod machine;
mod report;

use crate::{failure::Failure, output::Output};
use certificates::Certificates;
use cohort::{Outcome, Scenario};
use machine::Machine;
use report::{Mark, Report, Row, Speed};
use sordino_secagg::Faults;

/// Measure this machine.
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    Secagg(Secagg),
}

/// Measure secure aggregation: real cohorts in this process, every opened sum checked.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  sordino bench secagg --output json > secagg.json

Takes a minute or two and about half a gigabyte of memory; docs/benchmarks.md says what is measured and how to read it.")]
pub(crate) struct Secagg {
    /// Small sizes, in seconds: shows that it works, says little about speed.
    #[arg(long)]
    quick: bool,
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
}

impl Bench {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let Self::Secagg(Secagg { quick }) = self;
        let report = secagg(if quick { &QUICK } else { &FULL }, quick)?;
        output.result(&report, report::text)
    }
}

fn secagg(sizes: &Sizes, quick: bool) -> Result<Report, Failure> {
    let machine = Machine::measure(sizes.copy_bytes);
    let certificates = Certificates::issue(sizes.large.max(AT_K_21.0))?;
    let largest = sizes.model_lens.iter().copied().max().unwrap_or_default();

    // Speeds are told of the largest vector, at exactly 21 neighbours.
    let (participants, faults) = AT_K_21;
    let reference = Scenario { participants, faults, model_len: largest, dropouts: 0 };
    let outcome = cohort::run(&reference, &certificates)?;
    let lane_bytes = outcome.lane_bytes();
    let copy = machine::copy_speed(lane_bytes);
    let copy_large = machine.copy_large_bytes_per_second;
    let masking = Speed::new(outcome.keystream_bytes(), outcome.mask_input.cpu, machine.keystream_bytes_per_second);
    let adding = Speed::new(lane_bytes, outcome.add.cpu, copy);
    let adding_of_large_copy = adding.bytes_per_second / copy_large;

    let mut rows = vec![Row::new("k = 21", &reference, &outcome)];
    for (name, scenario) in scenarios(sizes) {
        let outcome = cohort::run(&scenario, &certificates)?;
        rows.push(Row::new(name, &scenario, &outcome));
    }
    let marks = if quick { Vec::new() } else { marks(&outcome, &rows) };
    Ok(Report { quick, machine, copy_same_bytes_per_second: copy, masking, adding, adding_of_large_copy, rows, marks })
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
            scenarios.push(("large, fewest neighbours", sparse));
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

/// First marks to beat: CPU time of a widely used Python implementation with 32-bit masks, on a machine of 2 cores.
fn marks(reference: &Outcome, rows: &[Row]) -> Vec<Mark> {
    let unmask = rows.iter().find(|row| row.is("large, fewest neighbours", 1_000_000, 10));
    let mut marks = vec![
        Mark::new("masking, k = 21, d = 1,000,000", "ms", 179.0, reference.mask_input.cpu_millis()),
        Mark::new("share-keys, k = 21", "ms", 66.0, reference.share_keys.cpu_millis()),
    ];
    marks.extend(unmask.map(|row| {
        let what = format!("coordinator unmask, n = 100, k = {} (mark: 21), d = 1,000,000, 10 % dropouts", row.k);
        Mark::new(&what, "ms", 12_700.0, row.unmask_cpu_ms)
    }));
    marks.push(Mark::new("wire", "bytes per value", 8.0, reference.bytes_per_value()));
    marks
}

/// A complete graph of 22 has exactly 21 neighbours each.
const AT_K_21: (u32, Faults) = (22, Faults { corrupt: 0, max_dropout_fraction: 0.1 });
const FULL: Sizes = Sizes { model_lens: &[100_000, 1_000_000], small: 16, large: 100, copy_bytes: 256 << 20 };
const QUICK: Sizes = Sizes { model_lens: &[10_000], small: 16, large: 36, copy_bytes: 16 << 20 };
