//! `cargo xtask chaos`: a federation of real processes of the real binary, its sites behind a bad network, coordinator and
//! sites killed with SIGKILL at random moments and started again on what they had on disk. Round after round.
//!
//! What must hold all the same stands in [`invariants`]: every completed round's sum is exact, every round ends in time,
//! nobody ends, refuses or panics who should not. The storm follows from one seed: which kill waits for which event, and
//! which byte of which connection is cut. The order in which processes meet is the machine's, so a seed repeats the
//! storm, not the run.

#![forbid(unsafe_code)]

mod failure;
mod federation;
mod invariants;
mod journal;
mod process;
mod report;
mod run;
mod storm;
mod watch;

use clap::Parser;
use failure::Failure;
use std::{path::PathBuf, process::ExitCode};

/// Run rounds of real processes behind a bad network, with kills, and check what must hold.
#[derive(Parser)]
#[command(name = "sordino-chaos", version)]
struct Chaos {
    /// The binary to run: `sordino`.
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    /// Rounds to see through, completed or failed.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rounds: u64,
    /// Sites that take part.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(8..=200))]
    participants: u32,
    /// What the storm follows from; drawn and printed if it is left out.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Keep everything in this folder: configuration, keys, logs, faults. It must not exist.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = Chaos::parse().run();
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            report::note(&format!("error: {}", failure.chain()));
            ExitCode::FAILURE
        }
    }
}

impl Chaos {
    /// Whether everything held.
    fn run(self) -> Result<bool, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::Runtime)?;
        runtime.block_on(run::run(self))
    }
}
