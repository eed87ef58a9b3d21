//! How well models do under policies that protect people: `sordino-evaluate` measures.

use std::path::PathBuf;

use crate::cargo;
use crate::report::Failure;

/// What is measured.
#[derive(clap::Args)]
pub(crate) struct Evaluate {
    /// `dp`: accuracy under differential privacy; `robust`: accuracy under attack, by rule
    #[arg(value_parser = ["dp", "robust"])]
    what: String,
    /// How many runs of each policy, or of each rule under each attack
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// `robust`: only what is promised, and only on digits
    #[arg(long)]
    short: bool,
    /// Folder for the results, as Markdown and JSON, and pictures; made if it is not there [default: `evaluate` in the target folder]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Measures; the exit code says whether everything is as good as we say.
pub(crate) fn run(evaluate: &Evaluate) -> Result<(), Failure> {
    let out = match &evaluate.out {
        // Cargo starts it in the workspace's root, the folder is meant from here.
        Some(out) => std::path::absolute(out).unwrap_or_else(|_| out.clone()),
        None => cargo::metadata()?.target_directory.join("evaluate").into_std_path_buf(),
    };
    let seeds = evaluate.seeds.to_string();
    let mut command =
        cargo::cargo(["run", "--locked", "-p", "sordino-evaluate", "--", &evaluate.what, "--seeds", &seeds]);
    if evaluate.short {
        command.arg("--short");
    }
    cargo::run(command.arg("--out").arg(out))
}

/// Two runs of each policy, so that this command keeps working.
pub(crate) fn dp_in_short() -> Result<(), Failure> {
    run(&Evaluate { what: "dp".into(), seeds: 2, short: false, out: None })
}

/// One run of what is promised.
pub(crate) fn robust_in_short() -> Result<(), Failure> {
    run(&Evaluate { what: "robust".into(), seeds: 1, short: true, out: None })
}
