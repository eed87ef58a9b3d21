//! `cargo xtask evaluate`: how well models do under policies that protect people, on real data, and whether that is as well
//! as we say.
//!
//! Policies are files as an operator would write them (`policies/`). A run does with them what coordinator and sites do,
//! through the same code: training, encoding, summing in the ring, noise, the average. What it leaves out is what does not
//! change a number: masks, and the network.

#![forbid(unsafe_code)]

mod dp;
mod federation;
mod parallel;
mod robust;

use clap::{Parser, Subcommand};
use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Measure models that are trained under protecting policies.
#[derive(Parser)]
#[command(name = "sordino-evaluate", version, disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    what: What,
    /// Runs of each policy, each with another split, first model and noise.
    #[arg(long, global = true, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    /// Folder for NAME.md and NAME.json; made if it is not there.
    #[arg(long, global = true, value_name = "DIR", default_value = "target/evaluate")]
    out: PathBuf,
}

#[derive(Subcommand)]
enum What {
    /// Accuracy under differential privacy, on handwritten digits
    Dp,
    /// Accuracy under attack by rule, on handwritten digits and pictures of clothes
    Robust {
        /// Only what is promised, and only on digits
        #[arg(long)]
        short: bool,
    },
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{policy}: {source}")]
    Policy { policy: &'static str, source: sordino_wire::PolicyError },
    #[error("{policy}: {source}")]
    Run { policy: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot write the result as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("a run was cut off")]
    Cut,
}

fn main() -> ExitCode {
    let Args { what, seeds, out } = Args::parse();
    let done = match what {
        What::Dp => dp::measure(seeds).and_then(|report| {
            show(&out, "dp", &report.markdown(), &report)?;
            Ok(report.missed())
        }),
        What::Robust { short } => robust::measure(seeds, short).and_then(|report| {
            show(&out, "robust", &report.markdown(), &report)?;
            report.pictures().try_for_each(|(name, svg)| write(&out, &name, svg.as_bytes()))?;
            Ok(report.missed())
        }),
    };
    let said = match done {
        Ok(missed) if missed.is_empty() => return ExitCode::SUCCESS,
        Ok(missed) => missed.join("\n"),
        Err(failure) => failure.to_string(),
    };
    // Nobody is left to be told when standard error is closed.
    let _ = writeln!(io::stderr().lock(), "error: {said}");
    ExitCode::FAILURE
}

/// Writes what was measured, and says it.
fn show(folder: &Path, name: &str, text: &str, report: &impl serde::Serialize) -> Result<(), Failure> {
    write(folder, &format!("{name}.md"), text.as_bytes())?;
    write(folder, &format!("{name}.json"), &serde_json::to_vec_pretty(report)?)?;
    let _ = io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let path = folder.join(name);
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, bytes));
    written.map_err(|source| Failure::Write { path, source })
}
