//! `sordino bench scale`: the whole protocol over growing cohorts, split by step and by role.

use super::{
    certificates::Certificates,
    cohort::{self, How, Outcome, PLAIN},
    fit::Line,
    machine,
    report::ms,
    scenario::{Fraction, Scenario, default_faults},
};
use crate::{
    failure::{BenchError, Failure},
    output::{note, table},
};
use serde::Serialize;
use sordino_secagg::Faults;
use std::{
    thread,
    time::{Duration, Instant},
};

/// Measure the whole protocol over growing cohorts, in this process, every opened sum checked.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sordino bench scale
  sordino bench scale --n 2000 --d 50000 --corrupt-fraction 0.05 --dropout-fraction 0.1

Without --n: 1,000 participants with 100,000 values and 10,000 with 10,000, as the default policy has it, and then a
curve of the cost per participant. Takes about half an hour of CPU time and 10 GB of memory.")]
pub(crate) struct Scale {
    /// Participants: only this cohort is measured.
    #[arg(long = "n", value_name = "N", requires = "model_len", value_parser = clap::value_parser!(u32).range(8..=100_000))]
    participants: Option<u32>,
    /// Values of the model.
    #[arg(long = "d", value_name = "D", requires = "participants")]
    model_len: Option<usize>,
    /// Share that falls silent after it has shared its keys.
    #[arg(long, value_name = "SHARE", default_value = "0.1")]
    dropouts: Fraction,
    /// Share of the cohort that may collude; the default policy's number if it is left out.
    #[arg(long, value_name = "SHARE", requires = "participants")]
    corrupt_fraction: Option<Fraction>,
    /// Share of the cohort that the policy lets fall silent; the default policy's if it is left out.
    #[arg(long, value_name = "SHARE", requires = "participants")]
    dropout_fraction: Option<Fraction>,
    /// Only the curve is measured, over these cohorts.
    #[arg(
        long,
        value_name = "N,N,...",
        value_delimiter = ',',
        conflicts_with = "participants",
        value_parser = clap::value_parser!(u32).range(8..=100_000)
    )]
    curve: Option<Vec<u32>>,
    /// Threads that participants' work is spread over; all cores if it is left out.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Small sizes, in seconds: shows that it works, says little about speed.
    #[arg(long, conflicts_with = "participants")]
    quick: bool,
}

/// Everything that was measured in one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    quick: bool,
    cpu: String,
    threads: usize,
    cohorts: Vec<Cohort>,
    #[serde(skip_serializing_if = "Option::is_none")]
    curve: Option<Curve>,
}

/// One attempt. CPU times of participants are means over those that answered.
#[derive(Debug, Serialize)]
struct Cohort {
    n: u32,
    model_len: usize,
    k: u32,
    t: u32,
    /// What the graph has to stand.
    corrupt: u32,
    max_dropouts: u32,
    /// Who fell silent.
    dropouts: u32,
    ring_bits: u8,
    bytes_up: usize,
    bytes_up_of_limit: f64,
    steps: Vec<Split>,
    /// All steps of a participant that takes part in all of them.
    participant_cpu_ms: f64,
    /// What of it goes into the certificates of its neighbours.
    certificates_cpu_ms: f64,
    coordinator_cpu_s: f64,
    registrar_cpu_s: f64,
    total_cpu_s: f64,
    wall_s: f64,
}

#[derive(Debug, Serialize)]
struct Split {
    step: &'static str,
    answered: usize,
    participant_cpu_ms: f64,
    coordinator_cpu_s: f64,
    wall_s: f64,
}

/// How the cost per participant grows, at fixed shares of faults.
#[derive(Debug, Serialize)]
struct Curve {
    corrupt_fraction: f64,
    dropout_fraction: f64,
    points: Vec<Cohort>,
    /// Participant's milliseconds over log2 n.
    by_log2_n: Option<Line>,
    /// The same over n.
    by_n: Option<Line>,
    /// The coordinator's milliseconds per participant over log2 n.
    coordinator_by_log2_n: Option<Line>,
}

impl Scale {
    /// All of it, with nothing asked for in particular.
    pub(super) fn whole(quick: bool) -> Self {
        Self {
            participants: None,
            model_len: None,
            dropouts: Fraction(DROPOUTS),
            corrupt_fraction: None,
            dropout_fraction: None,
            curve: None,
            threads: None,
            quick,
        }
    }

    pub(super) fn measure(self) -> Result<Report, Failure> {
        let threads = self.threads.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from);
        let scenarios = self.scenarios();
        let sizes = match (&self.curve, self.participants) {
            (_, Some(_)) => Vec::new(),
            (Some(sizes), None) => sizes.clone(),
            (None, None) => {
                if self.quick {
                    CURVE_QUICK.to_vec()
                } else {
                    CURVE.to_vec()
                }
            }
        };
        let largest = scenarios.iter().map(|scenario| scenario.participants).chain(sizes.iter().copied()).max();
        note("certificates for everybody");
        let certificates = Certificates::issue(largest.unwrap_or_default())?;
        let measure = |scenario: &Scenario| Cohort::measure(scenario, &certificates, threads);
        let cohorts = scenarios.iter().map(measure).collect::<Result<_, _>>()?;
        let points = sizes.iter().map(|&n| measure(&self.point(n))).collect::<Result<Vec<_>, _>>()?;
        let curve = (!points.is_empty()).then(|| Curve::through(points));
        Ok(Report { quick: self.quick, cpu: machine::cpu_model(), threads, cohorts, curve })
    }

    fn scenarios(&self) -> Vec<Scenario> {
        let faults = |n: u32| Faults {
            corrupt: self.corrupt_fraction.map_or(default_faults().corrupt, |share| share.of(n)),
            max_dropout_fraction: self.dropout_fraction.map_or(default_faults().max_dropout_fraction, |share| share.0),
        };
        let sizes = match (self.participants, self.model_len) {
            (Some(n), Some(model_len)) => vec![(n, model_len)],
            _ if self.curve.is_some() => Vec::new(),
            _ if self.quick => vec![(24, 1_000)],
            _ => vec![(1_000, 100_000), (10_000, 10_000)],
        };
        let scenario =
            |(n, model_len)| Scenario { participants: n, faults: faults(n), model_len, dropouts: self.dropouts.of(n) };
        sizes.into_iter().map(scenario).collect()
    }

    /// A point of the curve.
    fn point(&self, n: u32) -> Scenario {
        let faults = Faults { corrupt: Fraction(CURVE_CORRUPT).of(n), max_dropout_fraction: DROPOUTS };
        let model_len = if self.quick { 1_000 } else { CURVE_MODEL_LEN };
        Scenario { participants: n, faults, model_len, dropouts: Fraction(DROPOUTS).of(n) }
    }
}

impl Cohort {
    fn measure(scenario: &Scenario, certificates: &Certificates, threads: usize) -> Result<Self, BenchError> {
        note(&format!("{} participants, {} values", scenario.participants, scenario.model_len));
        let begin = Instant::now();
        let outcome = cohort::run(scenario, certificates, How { threads, ..PLAIN })?;
        Ok(Self::new(scenario, &outcome, begin.elapsed()))
    }

    fn new(scenario: &Scenario, outcome: &Outcome, wall: Duration) -> Self {
        let mut steps: Vec<Split> = outcome
            .phases
            .iter()
            .map(|phase| Split {
                step: phase.step.name(),
                answered: phase.participants.len(),
                participant_cpu_ms: phase.total().cpu_millis() / phase.participants.len().max(1) as f64,
                coordinator_cpu_s: phase.coordinator.cpu.as_secs_f64(),
                wall_s: phase.wall.as_secs_f64(),
            })
            .collect();
        steps.push(Split {
            step: "opening the sum",
            answered: 0,
            participant_cpu_ms: 0.0,
            coordinator_cpu_s: outcome.unmask.cpu.as_secs_f64(),
            wall_s: outcome.unmask.wall.as_secs_f64(),
        });
        let participants: Duration = outcome.phases.iter().map(|phase| phase.total().cpu).sum();
        let coordinator_cpu_s: f64 = steps.iter().map(|step| step.coordinator_cpu_s).sum();
        let registrar_cpu_s = outcome.registrar.cpu.as_secs_f64();
        Self {
            n: scenario.participants,
            model_len: scenario.model_len,
            k: outcome.topology.k,
            t: outcome.topology.t,
            corrupt: scenario.faults.corrupt,
            max_dropouts: scenario.faults.dropouts(scenario.participants),
            dropouts: scenario.dropouts,
            ring_bits: outcome.bits.get(),
            bytes_up: outcome.bytes_up,
            bytes_up_of_limit: outcome.bytes_up as f64 / outcome.bytes_up_limit(),
            participant_cpu_ms: steps.iter().map(|step| step.participant_cpu_ms).sum(),
            certificates_cpu_ms: outcome.certificates.cpu_millis(),
            steps,
            coordinator_cpu_s,
            registrar_cpu_s,
            total_cpu_s: participants.as_secs_f64() + coordinator_cpu_s + registrar_cpu_s,
            wall_s: wall.as_secs_f64(),
        }
    }

    fn coordinator_ms_each(&self) -> f64 {
        self.coordinator_cpu_s * 1e3 / f64::from(self.n)
    }
}

impl Curve {
    fn through(points: Vec<Cohort>) -> Self {
        let line = |x: fn(f64) -> f64, y: fn(&Cohort) -> f64| {
            Line::through(&points.iter().map(|point| (x(f64::from(point.n)), y(point))).collect::<Vec<_>>())
        };
        Self {
            corrupt_fraction: CURVE_CORRUPT,
            dropout_fraction: DROPOUTS,
            by_log2_n: line(f64::log2, |point| point.participant_cpu_ms),
            by_n: line(|n| n, |point| point.participant_cpu_ms),
            coordinator_by_log2_n: line(f64::log2, Cohort::coordinator_ms_each),
            points,
        }
    }
}

/// The report for people.
pub(crate) fn text(report: &Report) -> String {
    let mut out = format!("{}; participants by {} threads, CPU time\n", report.cpu, report.threads);
    for cohort in &report.cohorts {
        out += &one(cohort);
    }
    if let Some(curve) = &report.curve {
        out += &several(curve);
    }
    if report.quick {
        out += "\n--quick: sizes are too small to say much about speed\n";
    }
    out
}

fn one(cohort: &Cohort) -> String {
    let Cohort { n, model_len, k, t, corrupt, max_dropouts, dropouts, ring_bits, .. } = cohort;
    let header = format!(
        "\nn = {n}, d = {model_len}, k = {k}, t = {t}: stands {corrupt} that collude and {max_dropouts} that fall \
         silent; {dropouts} did\n{ring_bits} bits per value, {} kB up per participant, {:.0} % of the limit",
        cohort.bytes_up.div_ceil(1000),
        cohort.bytes_up_of_limit * 100.0
    );
    let steps = cohort.steps.iter().map(|step| {
        let participant =
            if step.answered == 0 { String::new() } else { format!("{} ms", ms(step.participant_cpu_ms)) };
        [step.step.into(), participant, seconds(step.coordinator_cpu_s), seconds(step.wall_s)]
    });
    let whole = [
        "all".into(),
        format!("{} ms", ms(cohort.participant_cpu_ms)),
        seconds(cohort.coordinator_cpu_s),
        seconds(cohort.wall_s),
    ];
    let table = table(["STEP", "EACH PARTICIPANT", "COORDINATOR", "WALL"], steps.chain([whole]));
    format!(
        "{header}\n{table}of each participant, {} ms are neighbours' certificates; registrar {}; everybody together {}\n",
        ms(cohort.certificates_cpu_ms),
        seconds(cohort.registrar_cpu_s),
        seconds(cohort.total_cpu_s)
    )
}

fn several(curve: &Curve) -> String {
    let rows = curve.points.iter().map(|point| {
        [
            point.n.to_string(),
            point.k.to_string(),
            point.t.to_string(),
            format!("{} ms", ms(point.participant_cpu_ms)),
            format!("{} ms", ms(point.participant_cpu_ms - point.certificates_cpu_ms)),
            format!("{} ms", ms(point.coordinator_ms_each())),
            format!("{} kB", point.bytes_up.div_ceil(1000)),
            seconds(point.wall_s),
        ]
    });
    let header = ["N", "K", "T", "EACH PARTICIPANT", "WITHOUT CERTIFICATES", "COORDINATOR FOR EACH", "UP", "WALL"];
    let lines = [
        ("participant, ms", "log2 n", curve.by_log2_n),
        ("participant, ms", "n", curve.by_n),
        ("coordinator for each, ms", "log2 n", curve.coordinator_by_log2_n),
    ];
    let lines = lines.into_iter().filter_map(|(what, x, line)| {
        let Line { a, b, residual } = line?;
        Some([what.into(), format!("{a:.3} + {b:.5} {x}"), format!("{residual:.3}")])
    });
    format!(
        "\na curve: {:.0} % collude, {:.0} % fall silent, d = {}\n{}{}",
        curve.corrupt_fraction * 100.0,
        curve.dropout_fraction * 100.0,
        curve.points.first().map_or(0, |point| point.model_len),
        table(header, rows),
        table(["FIT", "BY", "RESIDUAL"], lines)
    )
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.2} s")
}

/// Share that falls silent, and that the curve's policy allows for.
const DROPOUTS: f64 = 0.1;
/// Share that colludes on the curve.
const CURVE_CORRUPT: f64 = 0.05;
const CURVE: [u32; 4] = [300, 1_000, 3_000, 10_000];
const CURVE_QUICK: [u32; 3] = [12, 24, 36];
const CURVE_MODEL_LEN: usize = 10_000;
