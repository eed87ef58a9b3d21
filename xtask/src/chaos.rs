//! Real processes behind a bad network, with kills: `sordino-chaos` drives the release build.

use std::path::PathBuf;

use crate::cargo;
use crate::report::Failure;

/// What is asked of a run.
#[derive(clap::Args)]
pub(crate) struct Chaos {
    /// How many rounds to see through, completed or failed
    #[arg(long, default_value_t = 30)]
    rounds: u64,
    /// How many sites take part
    #[arg(long, default_value_t = 8)]
    participants: u32,
    /// What the storm follows from; drawn and printed if it is left out
    #[arg(long)]
    seed: Option<u64>,
    /// Keep everything in this folder, also when nothing fails; it must not exist
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// Builds the release binary and runs it in a storm; the exit code alone says that everything held.
pub(crate) fn run(chaos: &Chaos) -> Result<(), Failure> {
    cargo::run(&mut cargo::cargo(["build", "--release", "--locked"]))?;
    let program = cargo::metadata()?.target_directory.join("release").join("sordino");
    // The dev profile is enough for what only watches.
    let mut command = cargo::cargo(["run", "--locked", "-p", "sordino-chaos", "--"]);
    command.args(["--program", program.as_str()]);
    command.args(["--rounds", &chaos.rounds.to_string(), "--participants", &chaos.participants.to_string()]);
    if let Some(seed) = chaos.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    if let Some(keep) = &chaos.keep {
        // Cargo starts it in the workspace's root, the folder is meant from here.
        command.arg("--keep").arg(std::path::absolute(keep).unwrap_or_else(|_| keep.clone()));
    }
    cargo::run(&mut command)
}

/// The bounded form: one storm, always the same, of about a minute.
pub(crate) fn in_short() -> Result<(), Failure> {
    run(&Chaos { rounds: 4, participants: 8, seed: Some(1), keep: None })
}
