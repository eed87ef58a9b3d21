//! How the mean of a round's updates becomes the next model.
//!
//! A [`ServerOptimizer`] is a rule and its numbers; [`ServerOptimizer::step`] takes what it remembers, the model and the
//! mean, and gives what it remembers next and the next model. It is one pure function: the same input gives the same bits
//! on every machine, so that a participant or an auditor computes a published model again and compares digests. For that
//! each value is computed by itself, in doubles, by operations that IEEE 754 rounds correctly (no sum over values whose
//! order could differ, no fused multiply-add, no function of a platform's library), and stored as f32.
//!
//! # Threat model
//! The mean is public: it follows from the sum that was released, with its noise where there is any. What an optimiser
//! remembers follows from those means, the policy and nothing else, so it says no more than they do, and costs no privacy. A
//! state file that comes from elsewhere is hostile until checked: [`State::from_bytes`] refuses any but the one file that a
//! state has. Whether it is the *right* state is for its digest to show.

#![forbid(unsafe_code)]

mod optimizer;
mod state;

pub use optimizer::{
    ADAPTIVE_LEARNING_RATE, ADAPTIVITY, BETA_1, BETA_1_ADAGRAD, BETA_2, LEARNING_RATE, MOMENTUM, SecondMoment,
    ServerOptimizer, StepError,
};
pub use state::{State, StateError};
