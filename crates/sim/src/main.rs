//! Runs worlds from the command line: `sordino-sim --seeds N [--first S] [--log]`.

#![expect(clippy::print_stderr, reason = "errors of a command line")]

use sordino_sim::{Outcome, Plan, Report, Script, Seed, Tally, World};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

/// What to run.
struct Args {
    first: u64,
    seeds: u64,
    log: bool,
}

const USAGE: &str = "usage: sordino-sim [--seeds N] [--first S] [--log]
Each seed is run three times: with faults that never stop, with faults that stop, and with one of the hostile scripts,
which take turns; beside faults in every other turn.";

fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(why) => {
            eprintln!("error: {why}\n{USAGE}");
            return ExitCode::from(USAGE_ERROR);
        }
    };
    match run(&args, &mut io::stdout().lock()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        // Whoever reads has seen enough.
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: results cannot be written: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all seeds and prints what happened; the number of worlds that failed.
fn run(args: &Args, out: &mut impl Write) -> io::Result<u32> {
    let (mut chaos, mut stopping) = (Tally::default(), Tally::default());
    let mut hostile: BTreeMap<Script, Tally> = BTreeMap::new();
    let mut failures = 0u32;
    for seed in (args.first..).take(usize::try_from(args.seeds).unwrap_or(usize::MAX)).map(Seed) {
        let safety = World::new(Plan::chaos(seed)).run();
        failures += u32::from(!show(&safety, "faults never stop", args.log, out)?);
        chaos.add(&safety.tally);
        let liveness = World::new(Plan::faults_stop(seed)).run();
        let completed = matches!(liveness.outcome, Some(Outcome::Released { .. }));
        failures += u32::from(!show(&liveness, "faults stop", args.log || !completed, out)? || !completed);
        if !completed {
            let outcome = &liveness.outcome;
            writeln!(out, "seed {seed}: no sum, though the faults stopped: {outcome:?}\nreplay: {}", replay(seed))?;
        }
        stopping.add(&liveness.tally);
        let script = Script::of(seed);
        let attack = World::new(Plan::hostile(seed, script)).run();
        failures += u32::from(!show(&attack, &format!("{script:?}"), args.log, out)?);
        hostile.entry(script).or_default().add(&attack.tally);
    }
    writeln!(out, "faults never stop\n{chaos}\n\nfaults stop\n{stopping}\n")?;
    show_scripts(&hostile, out)?;
    show_proofs([&chaos, &stopping].into_iter().chain(hostile.values()), out)?;
    writeln!(out, "\n{failures} failures")?;
    Ok(failures)
}

/// One line for each script.
fn show_scripts(hostile: &BTreeMap<Script, Tally>, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<22}{:>8}{:>8}{:>10}{:>12}{:>8}{:>8}",
        "script", "worlds", "lies", "refusals", "rejections", "sums", "aborts"
    )?;
    for (script, tally) in hostile {
        let Tally { worlds, lies, completed, .. } = tally;
        let (refusals, rejections) = (tally.refusals.values().sum::<u64>(), tally.rejections.values().sum::<u64>());
        let (name, aborts) = (format!("{script:?}"), tally.aborted.values().sum::<u64>());
        writeln!(out, "{name:<22}{worlds:>8}{lies:>8}{refusals:>10}{rejections:>12}{completed:>8}{aborts:>8}")?;
    }
    Ok(())
}

/// What became of proofs, over all worlds.
fn show_proofs<'a>(tallies: impl Iterator<Item = &'a Tally>, out: &mut impl Write) -> io::Result<()> {
    let mut all = Tally::default();
    tallies.for_each(|tally| all.add(tally));
    let Tally { proofs_made, proofs_verified, proofs_refused, sums_checked, .. } = &all;
    let (caught, cancelled) = (all.mismatches_caught, all.mismatches_cancelled);
    writeln!(out, "\nproofs: {proofs_made} made, {proofs_verified} verified, refused {proofs_refused:?}")?;
    writeln!(out, "sums: {sums_checked} compared, mismatches {caught} caught, {cancelled} cancelled")
}

/// Prints what went wrong and how to see it again; `true` if nothing did.
fn show(report: &Report, phase: &str, log: bool, out: &mut impl Write) -> io::Result<bool> {
    if log || !report.violations.is_empty() {
        writeln!(out, "-- seed {}, {phase}: {} participants", report.plan.seed, report.plan.cohort)?;
        for line in &report.log {
            writeln!(out, "{line}")?;
        }
    }
    for violation in &report.violations {
        let seed = report.plan.seed;
        writeln!(out, "seed {seed}, {phase}: {violation}\nreplay: {}", replay(seed))?;
    }
    Ok(report.violations.is_empty())
}

fn replay(seed: Seed) -> String {
    format!("cargo xtask sim --first {seed} --seeds 1 --log")
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut parsed = Args { first: 0, seeds: DEFAULT_SEEDS, log: false };
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().ok_or_else(|| format!("{arg} takes a number"))?;
            value.parse().map_err(|_| format!("{arg} takes a number, not {value:?}"))
        };
        match arg.as_str() {
            "--seeds" => parsed.seeds = number()?,
            "--first" => parsed.first = number()?,
            "--log" => parsed.log = true,
            _ => return Err(format!("{arg} is not known")),
        }
    }
    Ok(parsed)
}

const DEFAULT_SEEDS: u64 = 1_000;
const USAGE_ERROR: u8 = 2;
