//! What CI does, step by step. `.ci/run` calls this and nothing else.

use std::time::Instant;

use crate::report::Failure;
use crate::{arrows, cargo, chaos, demo, deny, evaluate, fuzz, lint, mutate, noise, valgrind};

/// A step's name, which is also the command that runs it alone, and what it does.
type Step = (&'static str, fn() -> Result<(), Failure>);

/// In this order: the cheapest and most telling first.
const STEPS: &[Step] = &[
    ("fmt --check", || cargo::fmt(true)),
    ("arrows", arrows::run),
    ("deny", deny::run),
    ("lint", lint::run),
    // Behind the lints, whose compiled crates it uses.
    ("fuzz --check", fuzz::check),
    ("test", || cargo::test(&[])),
    ("valgrind", valgrind::run),
    ("sim --mutate --few", mutate::few),
    ("demo", demo::run),
    // Behind the demo, whose binary they look at.
    ("noise", noise::run),
    ("evaluate dp --seeds 2", evaluate::dp_in_short),
    ("evaluate robust --seeds 1 --short", evaluate::robust_in_short),
    ("chaos --rounds 4 --seed 1", chaos::in_short),
];

/// Runs all steps and stops at the first that fails.
pub(crate) fn run() -> Result<(), Failure> {
    let began = Instant::now();
    for (index, (step, work)) in STEPS.iter().enumerate() {
        eprintln!("\n== {} of {}: {step}", index + 1, STEPS.len());
        let step_began = Instant::now();
        let done = work();
        let seconds = step_began.elapsed().as_secs_f64();
        eprintln!("== {step}: {} in {seconds:.1} s", if done.is_ok() { "passed" } else { "failed" });
        done.map_err(|source| Failure::Step { step, source: Box::new(source) })?;
    }
    eprintln!("\nall {} steps passed in {:.0} s", STEPS.len(), began.elapsed().as_secs_f64());
    Ok(())
}
