//! The product as a stranger meets it, shortened: a federation of real processes, with failures, its sums proven.

use std::process::Stdio;

use serde::Deserialize;

use crate::cargo;
use crate::report::Failure;

/// What the demo reports and we look at.
#[derive(Deserialize)]
struct Report {
    rounds: Vec<Round>,
    killed: Option<serde_json::Value>,
    seconds: f64,
}

#[derive(Deserialize)]
struct Round {
    survivors: u64,
    accuracy: f64,
    verified_values: u64,
}

/// Runs the release build's demo for a few rounds and looks at what it reports; its exit code alone says that every sum
/// was exact and that the killed coordinator finished its round.
pub(crate) fn run() -> Result<(), Failure> {
    let rounds = ROUNDS.to_string();
    let mut command =
        cargo::cargo(["run", "--release", "--locked", "--", "demo", "--output", "json", "--rounds", &rounds]);
    let json = cargo::output(command.stderr(Stdio::inherit()))?;
    let report: Report = serde_json::from_str(&json).map_err(|error| Failure::Demo(error.to_string()))?;
    let accuracy = check(&report).map_err(Failure::Demo)?;
    println!("demo: {ROUNDS} rounds in {:.1} s, every sum exact, accuracy {accuracy:.3}", report.seconds);
    Ok(())
}

fn check(report: &Report) -> Result<f64, String> {
    if report.rounds.len() != ROUNDS {
        return Err(format!("{} rounds were reported, {ROUNDS} were asked for", report.rounds.len()));
    }
    if report.rounds.iter().any(|round| round.survivors == 0 || round.verified_values == 0) {
        return Err("a round's sum was not verified".into());
    }
    if report.killed.is_none() {
        return Err("the coordinator was not killed".into());
    }
    match report.rounds.last() {
        Some(round) if round.accuracy >= ACCURACY_MIN => Ok(round.accuracy),
        last => Err(format!("accuracy {:?} is below {ACCURACY_MIN}", last.map(|round| round.accuracy))),
    }
}

/// Enough for the model to be good, and for the coordinator to be killed in the middle.
const ROUNDS: usize = 8;
/// Over forty seeds the lowest accuracy after ten rounds was 0.939; after eight of these it is a little lower.
const ACCURACY_MIN: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::*;

    fn report(accuracy: f64, verified_values: u64, killed: bool) -> Report {
        let round = |_| Round { survivors: 8, accuracy, verified_values };
        Report { rounds: (0..ROUNDS).map(round).collect(), killed: killed.then(|| true.into()), seconds: 1.0 }
    }

    #[test]
    fn a_report_that_shows_too_little_is_refused() {
        assert_eq!(check(&report(0.95, 2413, true)), Ok(0.95));
        assert!(check(&report(0.5, 2413, true)).is_err());
        assert!(check(&report(f64::NAN, 2413, true)).is_err());
        assert!(check(&report(0.95, 0, true)).is_err());
        assert!(check(&report(0.95, 2413, false)).is_err());
        assert!(check(&Report { rounds: Vec::new(), ..report(0.95, 1, true) }).is_err());
    }
}
