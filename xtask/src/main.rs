//! The project's chores. People and CI run the same commands: `cargo xtask ci` is what CI does,
//! every step of it is a command of its own.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "results and progress of a command line")]

mod arrows;
mod cargo;
mod chaos;
mod ci;
mod demo;
mod deny;
mod evaluate;
#[cfg(test)]
mod fabricated;
mod fuzz;
mod lint;
mod mutate;
mod neon;
mod noise;
mod report;
mod valgrind;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::report::Failure;

/// Arguments of `cargo xtask`.
#[derive(Parser)]
#[command(name = "cargo xtask", about = "Checks and chores of this workspace", disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

/// What can be asked for.
#[derive(Subcommand)]
enum Chore {
    /// Format every crate
    Fmt {
        /// Change nothing, fail where something would change
        #[arg(long)]
        check: bool,
    },
    /// Run clippy over everything, then over the cores with their own bans (files, sockets, clocks, global randomness)
    Lint,
    /// Check that crates depend only on what their place in the architecture allows
    Arrows,
    /// Check licences, bans, sources and known vulnerabilities of everything we build on
    Deny,
    /// Run all tests, with cargo-nextest where it is installed
    ///
    /// Arguments are handed to the test runner and select tests; doc tests run only without them.
    #[command(after_help = "Example: cargo xtask test -p sordino-codec --all-features")]
    Test {
        /// Handed on to `cargo nextest run`, or to `cargo test` where nextest is missing
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run simulated worlds: whole cohorts with faults, in one thread, from one seed each
    ///
    /// With `--mutate`, break each defence of the protocol in turn in a copy of the source, and see whether the test that is
    /// named for it fails.
    #[command(
        after_help = "Examples:\n  cargo xtask sim --first 4711 --seeds 1 --log\n  cargo xtask sim --mutate --only roster"
    )]
    Sim {
        /// How many seeds, each of them with faults that never stop, with faults that stop, and with a hostile script
        #[arg(long, default_value_t = 1_000)]
        seeds: u64,
        /// The first seed
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// Print every event
        #[arg(long)]
        log: bool,
        /// Run no worlds; try the mutants
        #[arg(long, conflicts_with_all = ["seeds", "first", "log"])]
        mutate: bool,
        /// Only mutants whose names contain this; may be repeated
        #[arg(long, requires = "mutate")]
        only: Vec<String>,
        /// Only those that CI tries, so that this command keeps working
        #[arg(long, requires = "mutate", conflicts_with = "only")]
        few: bool,
    },
    /// Run the release build's demo for a few rounds and check what it reports
    Demo,
    /// Check that the release build has no way to seed its privacy noise
    Noise,
    /// Run real processes behind a bad network, kill them at random, and check that every sum is exact and nobody is stuck
    ///
    /// It ends with a table, and with an error when something did not hold; logs and faults are kept then.
    #[command(after_help = "Example: cargo xtask chaos --rounds 30 --seed 7 --keep storm")]
    Chaos(chaos::Chaos),
    /// Measure models that are trained under protecting policies, and fail where they are worse than we say
    #[command(after_help = "Example: cargo xtask evaluate dp --seeds 40 --out evaluation")]
    Evaluate(evaluate::Evaluate),
    /// Fuzz every decoder of bytes from outside with libFuzzer
    #[command(after_help = "Example: cargo xtask fuzz --target secagg_message --seconds 600")]
    Fuzz(fuzz::Fuzz),
    /// Run the kernels' tests under valgrind, on the instructions that it knows
    Valgrind,
    /// Run the kernels' tests for aarch64, compiled across and run by qemu
    #[command(after_help = "Example: cargo xtask neon --rustc /usr/bin/rustc")]
    Neon(neon::Neon),
    /// Everything CI checks, in its order; stops at the first failure
    Ci,
}

fn main() -> ExitCode {
    let done = match Args::parse().chore {
        Chore::Fmt { check } => cargo::fmt(check),
        Chore::Lint => lint::run(),
        Chore::Arrows => arrows::run(),
        Chore::Deny => deny::run(),
        Chore::Test { args } => cargo::test(&args),
        Chore::Sim { mutate: true, few: true, .. } => mutate::few(),
        Chore::Sim { mutate: true, only, .. } => mutate::run(&only),
        Chore::Sim { seeds, first, log, .. } => cargo::sim(seeds, first, log),
        Chore::Demo => demo::run(),
        Chore::Noise => noise::run(),
        Chore::Chaos(chaos) => chaos::run(&chaos),
        Chore::Evaluate(evaluate) => evaluate::run(&evaluate),
        Chore::Fuzz(fuzz) => fuzz::run(&fuzz),
        Chore::Valgrind => valgrind::run(),
        Chore::Neon(neon) => neon::run(&neon),
        Chore::Ci => ci::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            print_chain(&why);
            ExitCode::FAILURE
        }
    }
}

/// Prints what failed and, below it, why.
fn print_chain(why: &Failure) {
    eprintln!("error: {why}");
    let mut cause = std::error::Error::source(why);
    while let Some(inner) = cause {
        eprintln!("caused by: {inner}");
        cause = inner.source();
    }
}
