//! `task.strategy` and `[strategy]`: how the mean of the updates becomes the next model, and with which numbers.
//!
//! Whatever happens to the mean after it was released costs no privacy, so every strategy here goes with every kind of
//! noise: nothing of a site's is read again.

use super::{Policy, PolicyError};
use crate::CheckedPolicy;
use serde::{Deserialize, Serialize};
use sordino_codec::{Aggregate, Tensors};
use sordino_strategy::{
    ADAPTIVE_LEARNING_RATE, ADAPTIVITY, BETA_1, BETA_1_ADAGRAD, BETA_2, LEARNING_RATE, MOMENTUM, SecondMoment,
    ServerOptimizer, State, StepError,
};
use std::fmt;

/// How the mean of the updates becomes the next model, as papers call it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// Weighted mean of the updates, added (McMahan et al. 2017).
    #[default]
    FedAvg,
    /// The same with momentum (Hsu et al. 2019).
    FedAvgM,
    /// The same as `FedAvg`; sites are held near the model that they were given (Li et al. 2020).
    FedProx,
    /// Adagrad over rounds (Reddi et al. 2021).
    FedAdagrad,
    /// Yogi over rounds (the same).
    FedYogi,
    /// Adam over rounds (the same).
    FedAdam,
}

/// `[strategy]`: numbers of the strategy. Those that it uses are filled in when the policy is checked, but for `FedAvg`, where
/// the one that there is may be left out; others are refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StrategySection {
    /// What the step of the model is multiplied by; 1, and 0.1 for the adaptive ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_learning_rate: Option<f64>,
    /// Of `FedAvgM`: share of the last step that is carried on; 0.9.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Of the adaptive ones: share of the last mean that is carried on; 0.9, and 0 for `FedAdagrad`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta_1: Option<f64>,
    /// Of `FedYogi` and `FedAdam`: the same for squares; 0.99.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta_2: Option<f64>,
    /// Of the adaptive ones, tau: what is added to the root of the squares; 0.001.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptivity: Option<f64>,
    /// Of `FedProx`, mu: how strongly a site's steps lead back to the model that it was given; 0.01.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proximal_mu: Option<f64>,
}

impl StrategySection {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Strategy {
    const ALL: [Self; 6] = [Self::FedAvg, Self::FedAvgM, Self::FedProx, Self::FedAdagrad, Self::FedYogi, Self::FedAdam];

    /// What it is called in a policy.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FedAvg => "FedAvg",
            Self::FedAvgM => "FedAvgM",
            Self::FedProx => "FedProx",
            Self::FedAdagrad => "FedAdagrad",
            Self::FedYogi => "FedYogi",
            Self::FedAdam => "FedAdam",
        }
    }

    /// The value of a key where the policy leaves it out; none where the strategy has no such number.
    fn default_of(self, key: &Key) -> Option<f64> {
        use Strategy::{FedAdagrad, FedAdam, FedAvg, FedAvgM, FedProx, FedYogi};
        match (key.name, self) {
            ("strategy.server_learning_rate", FedAvg | FedAvgM | FedProx) => Some(LEARNING_RATE),
            ("strategy.server_learning_rate", FedAdagrad | FedYogi | FedAdam) => Some(ADAPTIVE_LEARNING_RATE),
            ("strategy.momentum", FedAvgM) => Some(MOMENTUM),
            ("strategy.beta_1", FedYogi | FedAdam) => Some(BETA_1),
            ("strategy.beta_1", FedAdagrad) => Some(BETA_1_ADAGRAD),
            ("strategy.beta_2", FedYogi | FedAdam) => Some(BETA_2),
            ("strategy.adaptivity", FedAdagrad | FedYogi | FedAdam) => Some(ADAPTIVITY),
            ("strategy.proximal_mu", FedProx) => Some(PROXIMAL_MU),
            _ => None,
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// A number of the section.
struct Key {
    name: &'static str,
    of: fn(&mut StrategySection) -> &mut Option<f64>,
    fits: fn(f64) -> bool,
    range: &'static str,
}

const KEYS: [Key; 6] = [
    Key {
        name: "strategy.server_learning_rate",
        of: |section| &mut section.server_learning_rate,
        fits: |value| value > 0.0 && value <= LEARNING_RATE_MAX,
        range: "above 0 and at most 1,000",
    },
    Key { name: "strategy.momentum", of: |section| &mut section.momentum, fits: is_share, range: SHARE_RANGE },
    Key { name: "strategy.beta_1", of: |section| &mut section.beta_1, fits: is_share, range: SHARE_RANGE },
    Key { name: "strategy.beta_2", of: |section| &mut section.beta_2, fits: is_share, range: SHARE_RANGE },
    Key {
        name: "strategy.adaptivity",
        of: |section| &mut section.adaptivity,
        fits: |value| (ADAPTIVITY_MIN..=ADAPTIVITY_MAX).contains(&value),
        range: "1e-9 to 1,000",
    },
    Key {
        name: "strategy.proximal_mu",
        of: |section| &mut section.proximal_mu,
        fits: |value| value > 0.0 && value <= PROXIMAL_MU_MAX,
        range: "above 0 and at most 1,000; without it the strategy is \"FedAvg\"",
    },
];

fn is_share(value: f64) -> bool {
    (0.0..1.0).contains(&value)
}

impl Policy {
    /// Checks the section, refuses numbers that the strategy does not use, and fills in the others.
    pub(super) fn resolve_strategy(&mut self) -> Result<(), PolicyError> {
        let strategy = self.task.strategy;
        for key in KEYS {
            let value = (key.of)(&mut self.strategy);
            match (*value, strategy.default_of(&key)) {
                (Some(found), Some(_)) if !(key.fits)(found) => {
                    return Err(PolicyError::OutOfRange { key: key.name, value: found.to_string(), range: key.range });
                }
                (Some(_), None) => {
                    let of = Strategy::ALL.into_iter().filter(|strategy| strategy.default_of(&key).is_some());
                    let of = of.map(Strategy::name).collect::<Vec<_>>().join(", ");
                    return Err(PolicyError::NotOfStrategy { key: key.name, strategy, of });
                }
                // What was a policy before there were strategies is the same one.
                (None, Some(_)) if strategy == Strategy::FedAvg => {}
                (None, default) => *value = default,
                (Some(_), Some(_)) => {}
            }
        }
        let (rate, mu) = (self.training.learning_rate, self.proximal_mu());
        if rate * mu > 1.0 {
            return Err(PolicyError::ProximalStep { mu, rate });
        }
        Ok(())
    }

    /// mu of `FedProx`; 0 under other strategies.
    #[must_use]
    pub fn proximal_mu(&self) -> f64 {
        self.strategy.proximal_mu.unwrap_or(0.0)
    }
}

impl CheckedPolicy {
    /// The coordinator's side of the strategy.
    #[must_use]
    pub fn optimizer(&self) -> ServerOptimizer {
        let Policy {
            task,
            strategy: StrategySection { server_learning_rate, momentum, beta_1, beta_2, adaptivity, proximal_mu: _ },
            ..
        } = self.policy();
        let learning_rate = server_learning_rate.unwrap_or(LEARNING_RATE);
        let beta_2 = beta_2.unwrap_or(BETA_2);
        let second = match task.strategy {
            Strategy::FedAvg | Strategy::FedProx => return ServerOptimizer::Average { learning_rate },
            Strategy::FedAvgM => {
                return ServerOptimizer::Momentum { learning_rate, momentum: momentum.unwrap_or(MOMENTUM) };
            }
            Strategy::FedAdagrad => SecondMoment::Adagrad,
            Strategy::FedYogi => SecondMoment::Yogi { beta_2 },
            Strategy::FedAdam => SecondMoment::Adam { beta_2 },
        };
        let (beta_1, adaptivity) = (beta_1.unwrap_or(BETA_1), adaptivity.unwrap_or(ADAPTIVITY));
        ServerOptimizer::Adaptive { learning_rate, beta_1, adaptivity, second }
    }

    /// What follows from a round's sum: what the optimiser remembers next, and the next model. The same at the coordinator
    /// and at everybody who computes it again.
    ///
    /// # Errors
    /// [`StepError`]: model, state and sum do not belong together, or a value left its range.
    pub fn next_model(
        &self,
        state: Option<&State>,
        model: &Tensors,
        aggregate: &Aggregate,
    ) -> Result<(Option<State>, Tensors), StepError> {
        self.optimizer().step(state, model, &aggregate.mean)
    }
}

/// Li et al. 2020 (<https://arxiv.org/abs/1812.06127>) choose among 0.001, 0.01, 0.1 and 1.
const PROXIMAL_MU: f64 = 0.01;
const PROXIMAL_MU_MAX: f64 = 1e3;
const SHARE_RANGE: &str = "at least 0 and below 1";
const LEARNING_RATE_MAX: f64 = 1e3;
/// Its square, where second moments begin, is then far above the smallest f32.
const ADAPTIVITY_MIN: f64 = 1e-9;
const ADAPTIVITY_MAX: f64 = 1e3;

#[cfg(test)]
#[expect(clippy::panic, reason = "a failed match is a failed test")]
mod tests {
    use super::*;

    fn checked(strategy: &str, section: &str) -> Result<CheckedPolicy, PolicyError> {
        let text = format!("[task]\nname = \"a\"\nrounds = 2\nstrategy = \"{strategy}\"\n[strategy]\n{section}\n");
        Policy::from_toml(&text)?.check()
    }

    #[test]
    fn numbers_that_are_left_out_are_filled_in() {
        let adaptive =
            |beta_1, second| ServerOptimizer::Adaptive { learning_rate: 0.1, beta_1, adaptivity: 1e-3, second };
        for (strategy, optimizer) in [
            ("FedAvg", ServerOptimizer::Average { learning_rate: 1.0 }),
            ("FedAvgM", ServerOptimizer::Momentum { learning_rate: 1.0, momentum: 0.9 }),
            ("FedProx", ServerOptimizer::Average { learning_rate: 1.0 }),
            ("FedAdagrad", adaptive(0.0, SecondMoment::Adagrad)),
            ("FedYogi", adaptive(0.9, SecondMoment::Yogi { beta_2: 0.99 })),
            ("FedAdam", adaptive(0.9, SecondMoment::Adam { beta_2: 0.99 })),
        ] {
            let policy = checked(strategy, "").expect("a policy");
            assert_eq!(policy.optimizer(), optimizer, "{strategy}");
            let json = serde_json::to_string(policy.policy()).expect("JSON");
            let again: Policy = serde_json::from_str(&json).expect("a policy");
            assert_eq!(again.check().expect("the same").digest(), policy.digest(), "{strategy}");
        }
        let policy = checked("FedAdam", "server_learning_rate = 0.02\nbeta_1 = 0.5\nbeta_2 = 0.75\nadaptivity = 0.25");
        let (learning_rate, second) = (0.02, SecondMoment::Adam { beta_2: 0.75 });
        let expected = ServerOptimizer::Adaptive { learning_rate, beta_1: 0.5, adaptivity: 0.25, second };
        assert_eq!(policy.expect("a policy").optimizer(), expected);
    }

    /// A policy of before is the same one, with the same digest.
    #[test]
    fn plain_fed_avg_says_nothing_of_strategies() {
        let policy = checked("FedAvg", "").expect("a policy");
        let json = serde_json::to_string(policy.policy()).expect("JSON");
        assert!(!json.contains("\"strategy\":{"), "{json}");
    }

    #[test]
    fn numbers_of_other_strategies_are_refused_with_theirs() {
        for (strategy, section, of) in [
            ("FedAvg", "momentum = 0.9", "FedAvgM"),
            ("FedAvg", "adaptivity = 0.1", "FedAdagrad, FedYogi, FedAdam"),
            ("FedAvgM", "beta_1 = 0.9", "FedAdagrad, FedYogi, FedAdam"),
            ("FedAdagrad", "beta_2 = 0.9", "FedYogi, FedAdam"),
            ("FedAdam", "momentum = 0.9", "FedAvgM"),
            ("FedAdam", "proximal_mu = 0.1", "FedProx"),
        ] {
            let error = checked(strategy, section).expect_err("a refusal").to_string();
            let key = section.split(' ').next().unwrap_or_default();
            let told = format!(
                "strategy.{key} is no number of task.strategy = \"{strategy}\" but of {of}: leave it out, or choose one of these"
            );
            assert_eq!(error, told);
        }
        let error = checked("FedAdam", "beta_3 = 0.9").expect_err("a slip").to_string();
        assert!(error.contains("beta_3"), "{error}");
    }

    #[test]
    fn a_proximal_term_does_not_overshoot() {
        assert_eq!(checked("FedProx", "").expect("a policy").policy().proximal_mu(), 0.01);
        assert_eq!(checked("FedAvg", "").expect("a policy").policy().proximal_mu(), 0.0);
        assert!(checked("FedProx", "proximal_mu = 20.0").is_ok(), "times the learning rate of 0.05 that is 1");
        let error = checked("FedProx", "proximal_mu = 20.1").expect_err("beyond").to_string();
        assert!(
            error.starts_with("strategy.proximal_mu = 20.1 times training.learning_rate = 0.05 is above 1"),
            "{error}"
        );
    }

    #[test]
    fn ranges_are_checked() {
        for (strategy, section) in [
            ("FedAvg", "server_learning_rate = 0.0"),
            ("FedAvg", "server_learning_rate = 1001.0"),
            ("FedAvgM", "momentum = 1.0"),
            ("FedAvgM", "momentum = -0.1"),
            ("FedAdam", "beta_1 = nan"),
            ("FedAdam", "beta_2 = 1.0"),
            ("FedYogi", "adaptivity = 0.0"),
            ("FedYogi", "adaptivity = 1e-10"),
            ("FedProx", "proximal_mu = 0.0"),
            ("FedProx", "proximal_mu = -0.1"),
            ("FedProx", "proximal_mu = inf"),
            ("FedProx", "proximal_mu = nan"),
            ("FedProx", "proximal_mu = 1000.5"),
        ] {
            match checked(strategy, section) {
                Err(PolicyError::OutOfRange { key, .. }) => {
                    assert!(section.starts_with(key.trim_start_matches("strategy.")), "{key}");
                }
                other => panic!("{section}: {other:?}"),
            }
        }
    }
}
