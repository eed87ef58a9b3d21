//! A deterministic world: a coordinator, a registrar and a cohort of participants around the cores, in one thread, from
//! one seed.
//!
//! Time is an integer, chance comes from ChaCha20, maps are ordered: the same seed gives the same log, byte for byte.
//! Messages are lost, delayed, reordered, repeated and changed; processes die at every point of every step and come back
//! from what they had stored, or never. After every event the [`invariants`] are checked.
//!
//! - [`Plan::chaos`]: anything may break, nothing may be wrong (safety).
//! - [`Plan::faults_stop`]: faults stop, no more leave than the policy allows for, the sum has to come (liveness).
//! - [`Plan::hostile`]: a [`Script`], by which a coordinator lies or corrupt participants misbehave.
//! - [`Proving`]: in some worlds, and in all of [`Script::ProvesBadly`], inputs carry real norm proofs; corrupt participants
//!   [`Cheat`] with them, beside whatever else a script has them do.
//! - [`Sabotage`]: what the protocol does not stand, to see each invariant fail.
//!
//! [`World::run`] is the way in; a [`Report`] holds what happened.

#![forbid(unsafe_code)]

mod adversary;
mod coordinator;
mod dice;
mod history;
pub mod invariants;
mod knowledge;
mod message;
mod participant;
mod plan;
mod proof;
mod sabotage;
mod tally;
mod world;

pub use adversary::{SUMS_MAX, Script};
pub use coordinator::Outcome;
pub use dice::{Permille, Seed};
pub use history::{Check, History, Moved, Position, Proofs, Refused, Release};
pub use invariants::{INVARIANTS, Invariant, Violation};
pub use knowledge::Knowledge;
pub use plan::{Crashes, Departure, Moment, Network, Plan};
pub use proof::{Cheat, Mismatch, Proven, Proving};
pub use sabotage::Sabotage;
pub use tally::Tally;
pub use world::{Report, World};
