//! Differential privacy: what a release costs, what many cost together, how much noise a target needs.
//!
//! - [`Event`]: what one release did, in terms that a theorem can price; combinations without one cannot be built.
//!   [`Events`]: those of one round, charged together.
//! - [`rdp`]: Renyi curves, exact or upper bounds at every real order. [`zcdp`] and [`gaussian`]: closed forms.
//! - [`Accountant`]: the sum of curves at one delta; what a ledger asks before a round.
//! - [`pld`]: privacy loss distributions, within a hair of the truth and never below it; [`inversion`]: the same number
//!   by a method that shares nothing with it, as a second opinion.
//! - [`calibrate`]: noise or rounds for a target.
//! - [`noise`]: exact noise on integers. [`ledger`]: the rules of the budget.
//!
//! # What is promised
//! No figure is below the truth: bounds are upper bounds, discretisation is pessimistic, truncated mass counts as lost,
//! sums and roundings go up. Input that is not covered is refused with a [`DpError`]; nothing panics.
//!
//! # What is not
//! That an event is what happened: that a sample was drawn as stated and hidden, that contributions were clipped, that
//! the noise was fresh. Whoever builds an [`Event`] vouches for it. Costs are no secrets and are not computed in constant
//! time; what [`noise`] and [`ledger`] keep secret, and how well, they say themselves.
//!
//! No clock, file, socket or global randomness is used.

#![forbid(unsafe_code)]

pub mod calibrate;
mod compose;
pub mod convert;
mod error;
mod event;
mod events;
pub mod gaussian;
pub mod inversion;
pub mod ledger;
pub mod noise;
mod numeric;
pub mod pld;
pub mod rdp;
pub mod zcdp;

pub use compose::{Accountant, Budget, Spent};
pub use error::DpError;
pub use event::{Event, Mechanism, Relation, Sampling, Unit};
pub use events::{EVENTS_MAX, Events};
