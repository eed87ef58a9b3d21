//! The project's chores. People and CI run the same commands: `cargo xtask ci` is what CI does,
//! every step of it is a command of its own.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "results and progress of a command line")]

mod arrows;
mod cargo;
mod ci;
mod demo;
mod deny;
#[cfg(test)]
mod fabricated;
mod lint;
mod report;

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
    #[command(after_help = "Example: cargo xtask sim --first 4711 --seeds 1 --log")]
    Sim {
        /// How many seeds, each of them with faults that never stop and with faults that stop
        #[arg(long, default_value_t = 1_000)]
        seeds: u64,
        /// The first seed
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// Print every event
        #[arg(long)]
        log: bool,
    },
    /// Run the release build's demo for a few rounds and check what it reports
    Demo,
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
        Chore::Sim { seeds, first, log } => cargo::sim(seeds, first, log),
        Chore::Demo => demo::run(),
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
