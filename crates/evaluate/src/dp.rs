//! Accuracy under differential privacy.

use crate::{
    Failure,
    federation::{Error, Federation},
    parallel,
};
use serde::Serialize;
use sordino_wire::{
    Policy,
    policy::{Placement, PrivacyUnit},
};
use std::fmt::Write as _;

/// A policy and what it has to reach.
struct Case {
    name: &'static str,
    toml: &'static str,
    /// Of every run.
    accuracy_min: f64,
    /// Of all rounds together; none without privacy.
    epsilon_max: Option<f64>,
}

const CASES: [Case; 4] = [
    Case {
        name: "participant-none",
        toml: include_str!("../policies/participant-none.toml"),
        accuracy_min: 0.88,
        epsilon_max: None,
    },
    Case {
        name: "participant-6.5",
        toml: include_str!("../policies/participant-6.5.toml"),
        accuracy_min: 0.88,
        epsilon_max: Some(6.5),
    },
    Case {
        name: "participant-3.6",
        toml: include_str!("../policies/participant-3.6.toml"),
        accuracy_min: 0.83,
        epsilon_max: Some(3.6),
    },
    Case {
        name: "record-9.5",
        toml: include_str!("../policies/record-9.5.toml"),
        accuracy_min: 0.88,
        epsilon_max: Some(10.0),
    },
];

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    data: &'static str,
    seeds: u64,
    cases: Vec<Measured>,
}

/// One policy.
#[derive(Debug, Serialize)]
struct Measured {
    policy: &'static str,
    unit: &'static str,
    noise: &'static str,
    participants: u32,
    rounds: u64,
    delta: f64,
    noise_multiplier: Option<f64>,
    epsilon: Option<f64>,
    epsilon_max: Option<f64>,
    accuracy: Spread,
    accuracy_min: f64,
}

/// Accuracies of all runs.
#[derive(Debug, Serialize)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

/// Runs every policy with that many seeds, on two threads.
pub(crate) fn measure(seeds: u64) -> Result<Report, Failure> {
    let cases = CASES.iter().map(|case| case.measure(seeds)).collect::<Result<_, _>>()?;
    Ok(Report { data: "handwritten digits, dealt by Dirichlet(0.5); softmax regression of 650 values", seeds, cases })
}

impl Case {
    fn measure(&self, seeds: u64) -> Result<Measured, Failure> {
        let policy = Policy::from_toml(self.toml)
            .and_then(Policy::check)
            .map_err(|source| Failure::Policy { policy: self.name, source })?;
        let failed = |source| Failure::Run { policy: self.name, source };
        let federation = Federation::new(policy).map_err(failed)?;
        let epsilon = federation.epsilon().map_err(failed)?;
        let accuracy = Spread::of(&federation, seeds).map_err(failed)?.ok_or(Failure::Cut)?;
        let policy = federation.policy();
        let privacy = &policy.privacy;
        Ok(Measured {
            policy: self.name,
            unit: if privacy.enabled { privacy.unit.as_str() } else { "none" },
            noise: match (privacy.enabled, privacy.unit, privacy.placement()) {
                (false, ..) => "none",
                (true, PrivacyUnit::Record, _) => "in training",
                (true, PrivacyUnit::Participant, Placement::Participants) => "participants",
                (true, PrivacyUnit::Participant, Placement::Coordinator) => "coordinator",
            },
            participants: policy.cohort.target,
            rounds: policy.task.rounds,
            delta: privacy.delta,
            noise_multiplier: privacy.noise_multiplier.filter(|_| privacy.enabled),
            epsilon,
            epsilon_max: self.epsilon_max,
            accuracy,
            accuracy_min: self.accuracy_min,
        })
    }
}

impl Spread {
    /// None where a thread was cut off.
    fn of(federation: &Federation, seeds: u64) -> Result<Option<Self>, Error> {
        let runs = parallel::map(usize::try_from(seeds)?, |seed| federation.accuracy(seed as u64));
        let mut runs = runs.into_iter().collect::<Result<Vec<_>, _>>()?;
        runs.sort_by(f64::total_cmp);
        Ok(match (runs.first(), runs.get(runs.len() / 2), runs.last()) {
            (Some(&min), Some(&median), Some(&max)) => Some(Self { min, median, max }),
            _ => None,
        })
    }
}

impl Report {
    /// A table for people.
    pub(crate) fn markdown(&self) -> String {
        let Self { data, seeds, cases } = self;
        let mut out = format!(
            "# Accuracy under differential privacy\n\n{data}; {seeds} runs of each policy (`crates/evaluate/policies`).\n\n\
             | policy | hides one | noise | participants | rounds | multiplier | epsilon (at most) | delta | accuracy: lowest | \
             median | highest | wanted |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n"
        );
        for case in cases {
            let number = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.4}"));
            let max = case.epsilon_max.map_or_else(String::new, |max| format!(" ({max})"));
            let Spread { min, median, max: highest } = case.accuracy;
            // Writing to a string does not fail.
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {}{max} | {:e} | {min:.3} | {median:.3} | {highest:.3} | {} |",
                case.policy,
                case.unit,
                case.noise,
                case.participants,
                case.rounds,
                number(case.noise_multiplier),
                number(case.epsilon),
                case.delta,
                case.accuracy_min,
            );
        }
        out
    }

    /// What was not reached, a line each.
    pub(crate) fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        for case in &self.cases {
            if case.accuracy.min < case.accuracy_min {
                missed.push(format!("{}: accuracy {} is below {}", case.policy, case.accuracy.min, case.accuracy_min));
            }
            if let (Some(max), epsilon) = (case.epsilon_max, case.epsilon)
                && epsilon.is_none_or(|epsilon| epsilon > max)
            {
                missed.push(format!("{}: epsilon {epsilon:?} is above {max}", case.policy));
            }
        }
        missed
    }
}
