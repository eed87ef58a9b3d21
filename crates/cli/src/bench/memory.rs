//! `sordino bench memory`: how much memory a round takes that is far larger than memory.
//!
//! The coordinator's own code keeps what it keeps. Inputs go through its spool, and participants exist one at a time:
//! their states wait in files. The peak is that of a process of its own, which nothing was measured in before.

use super::{
    certificates::Certificates,
    cohort::{self, How, PLAIN},
    scenario::{Fraction, Scenario, default_faults},
};
use crate::{
    failure::{BenchError, Failure},
    output::{Output, note, table},
};
use serde::{Deserialize, Serialize};
use sordino_secagg::Faults;
use std::{
    process::{Command, Stdio},
    time::Instant,
};

/// Measure the memory of a round with many participants and a large model, every opened sum checked.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  sordino bench memory

Takes some minutes, and 6 GB of files in the folder for temporary files (TMPDIR).")]
pub(crate) struct Memory {
    /// Participants.
    #[arg(long = "n", value_name = "N", default_value_t = PARTICIPANTS, value_parser = clap::value_parser!(u32).range(8..=100_000))]
    participants: u32,
    /// Values of the model.
    #[arg(long = "d", value_name = "D", default_value_t = MODEL_LEN)]
    model_len: usize,
    /// Share that falls silent after it has shared its keys, and that the policy allows for.
    #[arg(long, value_name = "SHARE", default_value = "0.1")]
    dropouts: Fraction,
    /// Measure this very process instead of another one.
    #[arg(long, hide = true)]
    here: bool,
}

/// What was measured. Sizes are bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    n: u32,
    model_len: usize,
    k: u32,
    t: u32,
    corrupt: u32,
    dropouts: u32,
    /// The model as 32-bit floats.
    model_bytes: u64,
    /// Most memory in use before the round, for certificates and the program itself.
    before_bytes: u64,
    /// Most memory in use.
    peak_bytes: u64,
    /// 3 models, 100 MB, and 3 kB for each participant and neighbour.
    limit_bytes: u64,
    of_limit: f64,
    wall_s: f64,
}

impl Memory {
    pub(super) fn whole(quick: bool) -> Self {
        let (participants, model_len) = if quick { (24, 10_000) } else { (PARTICIPANTS, MODEL_LEN) };
        Self { participants, model_len, dropouts: Fraction(DROPOUTS), here: false }
    }

    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        output.result(&self.measure()?, text)
    }

    pub(super) fn measure(self) -> Result<Report, Failure> {
        Ok(if self.here { self.measure_here() } else { self.measure_apart() }?)
    }

    /// The same command in a process of its own.
    fn measure_apart(&self) -> Result<Report, BenchError> {
        note(&format!("{} participants, {} values", self.participants, self.model_len));
        let program = std::env::current_exe().map_err(BenchError::Process)?;
        let mut command = Command::new(program);
        command.args(["--output", "json", "bench", "memory", "--here"]);
        for (name, value) in [
            ("--n", self.participants.to_string()),
            ("--d", self.model_len.to_string()),
            ("--dropouts", self.dropouts.0.to_string()),
        ] {
            command.args([name, &value]);
        }
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(BenchError::Process)?;
        if !output.status.success() {
            return Err(BenchError::Measured(output.status.to_string()));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| BenchError::Measured(error.to_string()))
    }

    fn measure_here(&self) -> Result<Report, BenchError> {
        let Self { participants, model_len, dropouts, .. } = *self;
        let folder = tempfile::tempdir().map_err(BenchError::Files)?;
        let certificates = Certificates::issue(participants)?;
        let before_bytes = peak_bytes()?;
        let begin = Instant::now();
        // As few neighbours as the dropouts that are measured need: what is in flight grows with them, and so does the
        // limit; the time for their masks would only grow.
        let faults = Faults { max_dropout_fraction: dropouts.0, ..default_faults() };
        let scenario = Scenario { participants, faults, model_len, dropouts: dropouts.of(participants) };
        let outcome = cohort::run(&scenario, &certificates, How { folder: Some(folder.path()), ..PLAIN })?;
        let peak_bytes = peak_bytes()?;
        let k = outcome.topology.k;
        let model_bytes = (model_len * size_of::<f32>()) as u64;
        let limit_bytes = 3 * model_bytes + 100_000_000 + 3_000 * u64::from(participants) * u64::from(k);
        Ok(Report {
            n: participants,
            model_len,
            k,
            t: outcome.topology.t,
            corrupt: faults.corrupt,
            dropouts: scenario.dropouts,
            model_bytes,
            before_bytes,
            peak_bytes,
            limit_bytes,
            of_limit: peak_bytes as f64 / limit_bytes as f64,
            wall_s: begin.elapsed().as_secs_f64(),
        })
    }
}

/// The most memory that this process has had in use so far.
pub(super) fn peak_bytes() -> Result<u64, BenchError> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|_| BenchError::NoPeak)?;
    parse_peak(&status).ok_or(BenchError::NoPeak)
}

fn parse_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The report for people.
pub(crate) fn text(report: &Report) -> String {
    let Report { n, model_len, k, t, corrupt, dropouts, .. } = report;
    let mb = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let rows = [
        ["model".into(), mb(report.model_bytes)],
        ["in use before the round".into(), mb(report.before_bytes)],
        ["most in use".into(), mb(report.peak_bytes)],
        ["3 models, 100 MB, 3 kB for each participant and neighbour".into(), mb(report.limit_bytes)],
        ["most in use of that".into(), format!("{:.0} %", report.of_limit * 100.0)],
    ];
    format!(
        "n = {n}, d = {model_len}, k = {k}, t = {t}: stands {corrupt} that collude; {dropouts} fell silent; {:.0} s\n{}",
        report.wall_s,
        table(["MEMORY", "SIZE"], rows)
    )
}

const PARTICIPANTS: u32 = 1_000;
const MODEL_LEN: usize = 1_000_000;
const DROPOUTS: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read() {
        assert_eq!(parse_peak("Name:\tx\nVmHWM:\t   51236 kB\nVmRSS:\t 1 kB\n"), Some(51_236 * 1024));
        for status in ["", "VmHWM: 12", "VmHWM: twelve kB", "VmHWM: 99999999999999999999 kB"] {
            assert_eq!(parse_peak(status), None);
        }
    }
}
