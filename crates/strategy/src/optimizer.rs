//! The rules, with the papers' names and letters.

use crate::state::{State, StateError};
use sordino_codec::{Tensors, TensorsError};

/// How the mean update moves the model. In the formulas x is the model and Delta the mean of the updates, which points
/// where the model is to go: it is the negative of a gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ServerOptimizer {
    /// `x += lr Delta`: `FedAvg` with `lr = 1` ([McMahan et al. 2017], Algorithm 1), and what [Reddi et al. 2021] call
    /// `FedOpt` with SGD (Algorithm 1) otherwise. Remembers nothing.
    ///
    /// [McMahan et al. 2017]: https://arxiv.org/abs/1602.05629
    /// [Reddi et al. 2021]: https://arxiv.org/abs/2003.00295
    Average {
        /// lr.
        learning_rate: f64,
    },
    /// `FedAvgM`, [Hsu et al. 2019]: `v = beta v + Delta; x += lr v`, without Nesterov's look-ahead. v begins
    /// at 0.
    ///
    /// [Hsu et al. 2019]: https://arxiv.org/abs/1909.06335
    Momentum {
        /// lr.
        learning_rate: f64,
        /// beta.
        momentum: f64,
    },
    /// [Reddi et al. 2021], Algorithm 2: `m = beta_1 m + (1 - beta_1) Delta`, then v as [`SecondMoment`] says, then
    /// `x += lr m / (sqrt(v) + tau)`. m begins at 0, v at `tau^2`. As there, m and v are not corrected for where they began.
    ///
    /// [Reddi et al. 2021]: https://arxiv.org/abs/2003.00295
    Adaptive {
        /// lr, eta in the paper.
        learning_rate: f64,
        /// beta_1.
        beta_1: f64,
        /// tau, the degree of adaptivity: the smaller, the more a value's own history counts.
        adaptivity: f64,
        /// How v goes on.
        second: SecondMoment,
    },
}

/// How v, the second moment, goes on in an adaptive rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SecondMoment {
    /// `FedAdagrad`: `v = v + Delta^2`.
    Adagrad,
    /// `FedYogi`: `v = v - (1 - beta_2) Delta^2 sign(v - Delta^2)`, where the sign of 0 is 0.
    Yogi {
        /// beta_2.
        beta_2: f64,
    },
    /// `FedAdam`: `v = beta_2 v + (1 - beta_2) Delta^2`.
    Adam {
        /// beta_2.
        beta_2: f64,
    },
}

/// Why there is no next model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// Model and mean, or a value out of its dtype's range.
    #[error("the mean does not move the model")]
    Model(#[from] TensorsError),
    /// What is remembered is another optimiser's, another model's, or out of range.
    #[error("the optimiser's state cannot be used")]
    State(#[from] StateError),
}

impl ServerOptimizer {
    /// What it remembers before its first step over a model of so many values; none if it remembers nothing.
    #[must_use]
    pub fn initial(&self, model_len: usize) -> Option<State> {
        match *self {
            Self::Average { .. } => None,
            Self::Momentum { .. } => Some(State::zero(model_len, None)),
            // Algorithm 2, input: "v_{-1} >= tau^2".
            Self::Adaptive { adaptivity, .. } => Some(State::zero(model_len, Some(to_f32(adaptivity * adaptivity)))),
        }
    }

    /// Whether it remembers anything between rounds.
    #[must_use]
    pub fn is_stateful(&self) -> bool {
        !matches!(self, Self::Average { .. })
    }

    /// Whether the state it remembers holds a second moment.
    #[must_use]
    pub fn has_second_moment(&self) -> bool {
        matches!(self, Self::Adaptive { .. })
    }

    /// One step: what is remembered next, and the next model.
    ///
    /// m and v are rounded to f32 before the model moves by them, so the next model follows from the model, the *next* state
    /// and the rule.
    ///
    /// - `state`: [`ServerOptimizer::initial`] before the first step, then what the last one gave.
    /// - `mean`: `[model_len]`.
    ///
    /// # Errors
    /// [`StepError`]: another shape, or a value that left its range. Nothing has changed.
    pub fn step(
        &self,
        state: Option<&State>,
        model: &Tensors,
        mean: &[f32],
    ) -> Result<(Option<State>, Tensors), StepError> {
        let len = model.values().len();
        if mean.len() != len {
            return Err(TensorsError::Length { expected: len, got: mean.len() }.into());
        }
        let moved = |by: &mut dyn Iterator<Item = f64>| -> Result<Tensors, TensorsError> {
            let values = model.values().iter().zip(by).map(|(x, by)| to_f32(f64::from(*x) + by)).collect();
            Tensors::new(model.layout().clone(), values)
        };
        let delta = mean.iter().copied().map(f64::from);
        match *self {
            Self::Average { learning_rate } => {
                State::none(state)?;
                Ok((None, moved(&mut delta.map(|delta| learning_rate * delta))?))
            }
            Self::Momentum { learning_rate, momentum } => {
                let (before, _) = State::some(state, len, false)?;
                let next: Vec<f32> =
                    before.iter().zip(delta).map(|(v, delta)| to_f32(momentum * f64::from(*v) + delta)).collect();
                let next = State::new(next, None)?;
                let model = moved(&mut next.momentum().iter().map(|v| learning_rate * f64::from(*v)))?;
                Ok((Some(next), model))
            }
            Self::Adaptive { learning_rate, beta_1, adaptivity, second } => {
                let (m, v) = State::some(state, len, true)?;
                let m = m.iter().zip(delta.clone());
                let m = m.map(|(m, delta)| to_f32(beta_1 * f64::from(*m) + (1.0 - beta_1) * delta)).collect();
                let v =
                    v.iter().zip(delta).map(|(v, delta)| to_f32(second.next(f64::from(*v), delta * delta))).collect();
                let next = State::new(m, Some(v))?;
                let step = |(m, v): (&f32, &f32)| learning_rate * f64::from(*m) / (f64::from(*v).sqrt() + adaptivity);
                let model = moved(&mut next.momentum().iter().zip(next.second_moment()).map(step))?;
                Ok((Some(next), model))
            }
        }
    }
}

impl SecondMoment {
    /// v after a step, from v and `Delta^2`.
    fn next(self, v: f64, squared: f64) -> f64 {
        match self {
            Self::Adagrad => v + squared,
            Self::Yogi { beta_2 } => v - (1.0 - beta_2) * squared * sign(v - squared),
            Self::Adam { beta_2 } => beta_2 * v + (1.0 - beta_2) * squared,
        }
    }
}

/// The mathematical sign: `f64::signum` has none of 0.
fn sign(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value.signum() }
}

/// To nearest, ties to even; what is beyond f32 becomes infinite and is refused where it is stored.
#[expect(clippy::cast_possible_truncation, reason = "rounding is what is asked for")]
fn to_f32(value: f64) -> f32 {
    value as f32
}

/// lr of `FedAvg` and `FedAvgM`, where a policy does not say.
pub const LEARNING_RATE: f64 = 1.0;
/// lr of the adaptive rules. Reddi et al. 2021 tune it for each task; this is where to begin.
pub const ADAPTIVE_LEARNING_RATE: f64 = 0.1;
/// beta of `FedAvgM`, as usual (Hsu et al. 2019 try 0 to 0.997).
pub const MOMENTUM: f64 = 0.9;
/// beta_1 of `FedAdam` and `FedYogi`, as in the experiments of Reddi et al. 2021.
pub const BETA_1: f64 = 0.9;
/// beta_1 of `FedAdagrad`: Adagrad has no momentum.
pub const BETA_1_ADAGRAD: f64 = 0.0;
/// beta_2 of `FedAdam` and `FedYogi`, as there.
pub const BETA_2: f64 = 0.99;
/// tau, as there.
pub const ADAPTIVITY: f64 = 1e-3;
