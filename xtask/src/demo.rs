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
    epsilon: Option<f64>,
}

/// The part of it that is about an attack.
#[derive(Deserialize)]
struct Attacked {
    attack: Shown,
}

#[derive(Deserialize)]
struct Shown {
    rounds: u64,
    named_rounds: u64,
    spoiled_rounds: u64,
    isolated_in: Option<u64>,
    accuracy: f64,
    accuracy_without_attack: f64,
}

/// A run with attackers, and what it has to come to.
struct Attack {
    arguments: &'static [&'static str],
    /// At least and at most.
    accuracy: (f64, f64),
    named: Named,
}

/// Who has to be named.
enum Named {
    /// Nobody can be: the attackers are in every sum.
    Nobody,
    /// Each attacker, and none is in a sum.
    InEveryRound,
    /// Each attacker as one found guilty, by this round, and none is in a sum.
    Within(u64),
}

/// A run, and what it has to come to.
struct Run {
    name: &'static str,
    arguments: &'static [&'static str],
    rounds: usize,
    accuracy_min: f64,
    /// Whether records are hidden, which costs accuracy and has a budget.
    private: bool,
}

const RUNS: [Run; 2] = [
    // As a stranger runs it. In simulated runs of 100 seeds the lowest accuracy was 0.883, half of them were above 0.908.
    Run { name: "demo", arguments: &[], rounds: 40, accuracy_min: 0.86, private: true },
    // Enough rounds for the model to be good, and for the coordinator to be killed in the middle. Over forty seeds the lowest
    // accuracy after ten rounds was 0.939; after eight of these it is a little lower.
    Run {
        name: "demo --dp none",
        arguments: &["--dp", "none", "--rounds", "8"],
        rounds: 8,
        accuracy_min: 0.9,
        private: false,
    },
];
/// Attacks, and what has to come of them: a fifth of the sites, or two of twelve.
const ATTACKS: [Attack; 3] = [
    // Over six seeds the model was at 0.10 after four rounds, and at 0.94 or more without the attack.
    Attack { arguments: &["scale10", "--proof", "none", "--rounds", "4"], accuracy: (0.0, 0.3), named: Named::Nobody },
    // Over six seeds the lowest accuracy after ten rounds was 0.93.
    Attack { arguments: &["scale10", "--proof", "transparent"], accuracy: (0.88, 1.0), named: Named::InEveryRound },
    // Over six seeds both were found by the fourth round.
    Attack { arguments: &["mismatch"], accuracy: (0.88, 1.0), named: Named::Within(10) },
];
/// Of a few rounds in which everybody is honest.
const ACCURACY_HONEST: f64 = 0.88;
/// Of the demo's budget.
const EPSILON_MAX: f64 = 10.0;

/// Runs the release build's demo, as it is and for a few rounds without privacy, and looks at what it reports; its exit code
/// alone says that every sum was exact and that the killed coordinator finished its round.
pub(crate) fn run() -> Result<(), Failure> {
    for run in &RUNS {
        let mut command = cargo::cargo(["run", "--release", "--locked", "--", "demo", "--output", "json"]);
        let json = cargo::output(command.args(run.arguments).stderr(Stdio::inherit()))?;
        let report: Report = serde_json::from_str(&json).map_err(|error| Failure::Demo(error.to_string()))?;
        let last = run.check(&report).map_err(Failure::Demo)?;
        let epsilon = last.epsilon.map_or_else(String::new, |epsilon| format!(" at epsilon {epsilon:.3}"));
        println!(
            "{}: {} rounds in {:.1} s, every sum exact, accuracy {:.3}{epsilon}",
            run.name, run.rounds, report.seconds, last.accuracy
        );
    }
    for attack in &ATTACKS {
        let mut command = cargo::cargo(["run", "--release", "--locked", "--", "demo", "--output", "json", "--attack"]);
        let json = cargo::output(command.args(attack.arguments).stderr(Stdio::inherit()))?;
        let Attacked { attack: shown } =
            serde_json::from_str(&json).map_err(|error| Failure::Demo(error.to_string()))?;
        attack.check(&shown).map_err(Failure::Demo)?;
        println!(
            "demo --attack {}: accuracy {:.3}, {:.3} without the attack",
            attack.arguments.join(" "),
            shown.accuracy,
            shown.accuracy_without_attack
        );
    }
    // What people see is made by other code than the JSON, and optimised.
    let mut command = cargo::cargo(["run", "--release", "--locked", "--", "demo", "--rounds", "2"]);
    let text = cargo::output(command.stderr(Stdio::inherit()))?;
    match text.lines().last() {
        Some(line) if line.starts_with("after 2 rounds, (epsilon, delta) = (") => Ok(()),
        last => Err(Failure::Demo(format!("the text ends with {last:?}, not with what is promised"))),
    }
}

impl Attack {
    fn check(&self, shown: &Shown) -> Result<(), String> {
        let Shown { rounds, named_rounds, spoiled_rounds, isolated_in, accuracy, accuracy_without_attack } = *shown;
        let (least, most) = self.accuracy;
        if !(least..=most).contains(&accuracy) {
            return Err(format!("accuracy {accuracy} under attack is not between {least} and {most}"));
        }
        if accuracy_without_attack.is_nan() || accuracy_without_attack < ACCURACY_HONEST {
            return Err(format!("accuracy {accuracy_without_attack} without the attack is below {ACCURACY_HONEST}"));
        }
        let (expected, fits) = match self.named {
            Named::Nobody => ("attackers in every sum, unnamed", (named_rounds, spoiled_rounds) == (0, rounds)),
            Named::InEveryRound => {
                ("each attacker named in every round", (named_rounds, spoiled_rounds) == (rounds, 0))
            }
            Named::Within(last) => {
                let found = isolated_in.is_some_and(|round| round <= last);
                ("each attacker found guilty in time", found && spoiled_rounds == 0)
            }
        };
        if rounds > 0 && fits {
            return Ok(());
        }
        Err(format!(
            "{expected} was expected: named in {named_rounds} of {rounds} rounds, in the sum of {spoiled_rounds}, all found \
             guilty in round {isolated_in:?}"
        ))
    }
}

impl Run {
    /// The last round of a report that shows enough.
    fn check<'a>(&self, report: &'a Report) -> Result<&'a Round, String> {
        if report.rounds.len() != self.rounds {
            return Err(format!("{} rounds were reported, {} were asked for", report.rounds.len(), self.rounds));
        }
        if report.rounds.iter().any(|round| round.survivors == 0 || round.verified_values == 0) {
            return Err("a round's sum was not verified".into());
        }
        if report.killed.is_none() {
            return Err("the coordinator was not killed".into());
        }
        let mut spent = 0.0;
        for round in &report.rounds {
            match (round.epsilon, self.private) {
                (Some(epsilon), true) if epsilon > spent && epsilon <= EPSILON_MAX => spent = epsilon,
                (None, false) => {}
                (epsilon, _) => return Err(format!("epsilon {epsilon:?} after {spent} in a budget of {EPSILON_MAX}")),
            }
        }
        match report.rounds.last() {
            Some(round) if round.accuracy >= self.accuracy_min => Ok(round),
            last => Err(format!("accuracy {:?} is below {}", last.map(|round| round.accuracy), self.accuracy_min)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report of `run`, whose rounds spend an equal part of `epsilon` each.
    fn report(run: &Run, accuracy: f64, verified_values: u64, killed: bool, epsilon: Option<f64>) -> Report {
        let spent = |number: usize| epsilon.map(|total| total * (number as f64 + 1.0) / run.rounds as f64);
        let round = |number| Round { survivors: 8, accuracy, verified_values, epsilon: spent(number) };
        Report { rounds: (0..run.rounds).map(round).collect(), killed: killed.then(|| true.into()), seconds: 1.0 }
    }

    #[test]
    fn a_report_that_shows_too_little_is_refused() {
        for run in &RUNS {
            let epsilon = run.private.then_some(9.5);
            let fine = |report: &Report| run.check(report).is_ok();
            assert!(fine(&report(run, 0.95, 2413, true, epsilon)));
            assert!(!fine(&report(run, 0.5, 2413, true, epsilon)));
            assert!(!fine(&report(run, f64::NAN, 2413, true, epsilon)));
            assert!(!fine(&report(run, 0.95, 0, true, epsilon)));
            assert!(!fine(&report(run, 0.95, 2413, false, epsilon)));
            assert!(!fine(&Report { rounds: Vec::new(), ..report(run, 0.95, 1, true, epsilon) }));
            // More than the budget, nothing spent, or the other kind of run.
            for epsilon in [Some(10.1), Some(0.0), Some(f64::NAN), (!run.private).then_some(9.5)] {
                assert!(!fine(&report(run, 0.95, 2413, true, epsilon)), "{epsilon:?}");
            }
        }
    }

    #[test]
    fn an_attack_that_shows_too_little_is_refused() {
        let shown = |named_rounds, spoiled_rounds, isolated_in, accuracy| Shown {
            rounds: 4,
            named_rounds,
            spoiled_rounds,
            isolated_in,
            accuracy,
            accuracy_without_attack: 0.95,
        };
        let [none, named, isolated] = &ATTACKS;
        for (attack, good, bad) in [
            (none, shown(0, 4, None, 0.1), [shown(0, 4, None, 0.9), shown(0, 3, None, 0.1), shown(1, 4, None, 0.1)]),
            (
                named,
                shown(4, 0, None, 0.93),
                [shown(3, 0, None, 0.93), shown(4, 1, None, 0.93), shown(4, 0, None, 0.1)],
            ),
            (
                isolated,
                shown(0, 0, Some(3), 0.93),
                [shown(0, 0, None, 0.93), shown(0, 0, Some(11), 0.93), shown(0, 1, Some(3), 0.93)],
            ),
        ] {
            assert_eq!(attack.check(&good), Ok(()), "{:?}", attack.arguments);
            assert!(bad.iter().all(|bad| attack.check(bad).is_err()), "{:?}", attack.arguments);
            assert!(attack.check(&Shown { rounds: 0, named_rounds: 0, spoiled_rounds: 0, ..good }).is_err());
            assert!(attack.check(&Shown { accuracy_without_attack: f64::NAN, ..good }).is_err());
        }
    }
}
