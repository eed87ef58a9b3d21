//! Byzantine-robust aggregation: from updates, some of them an attacker's, to one vector that the attacker did not choose.
//!
//! - [`Door`] and [`Updates`]: what is checked before anything is added; no rule takes what was not let in.
//! - [`Detector`]: who stands out in one round, by which test, value and threshold. [`Evidence`]: who does so over rounds.
//! - [`Stage`] and [`Rule`]: what is done to rows, and how they become one; by their definitions in [`stage`] and [`rules`].
//! - [`Pipeline`]: detector, stages and rule as a policy names them; an [`Outcome`], or an [`Abort`] that says why not.
//! - [`Gram`]: the centred products of all rows, which every rule on distances computes with instead of the rows.
//! - [`sybil`]: an alarm. [`attacks`]: what is to be withstood.
//!
//! ```
//! use sordino_robust::{Door, Pipeline, Round, Updates};
//!
//! let rows = [[1.0f32, 2.0], [1.1, 2.1], [0.9, 1.9], [1.0, 2.2], [-40.0, 90.0]];
//! let rows: Vec<&[f32]> = rows.iter().map(|row| &row[..]).collect();
//! let updates = Updates::check(&rows, &Door { dimension: Some(2), max_norm: Some(100.0) })?;
//! let outcome = Pipeline::default().run(&updates, &Round::default())?;
//! assert_eq!(outcome.kept, [0, 1, 2, 3]);
//! assert!((outcome.vector[0] - 1.0).abs() < 0.1);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Who is trusted with what
//! The server sees every update and runs this; up to `f` of `n` clients send what they like, knowing all the others' updates and
//! the policy, but not the seed of a round before it is over.
//!
//! # What is promised
//! - A rule runs only where its condition on `n` and `f` holds, for the plan ([`Pipeline::check_from`]) and for those who came.
//!   Where it does not, and where too many are flagged, nothing is computed: never a mean instead.
//! - The same rows in the same order give the same bits, on any number of threads. Ties go to the lower index.
//! - Rows are stored as `f32` or `f64`; norms and sums are `f64`. They are borrowed, read in blocks of columns and never copied
//!   as a whole, so that they may be memory maps.
//!
//! # What is not
//! That a model is sound: a backdoor whose update has a normal norm and direction passes every rule here. With data that differ
//! strongly from client to client, honest and hostile updates cannot be told apart by any of them, and a majority always wins.
//! `docs/robustness.md` has the table of what withstands what. Nothing is secret and nothing is computed in constant time.
//!
//! No clock, file, socket or global randomness is used; threads end with the call that starts them.

#![forbid(unsafe_code)]

pub mod attacks;
mod bound;
mod columns;
pub mod detector;
mod door;
mod element;
mod evidence;
pub mod geometric;
mod gram;
mod layer;
mod network;
mod numbers;
mod parallel;
mod pipeline;
mod rule;
pub mod rules;
mod seed;
mod select;
mod spectral;
pub mod stage;
pub mod sybil;
mod weights;

pub use bound::Bound;
pub use columns::Mixed;
pub use detector::{Detector, Findings, Flag, Test};
pub use door::{Admitted, Door, Invalid, Refusal, Updates};
pub use element::Element;
pub use evidence::{Evidence, FLAGS_MAX, Observation, Quarantine, Standing, WINDOW};
pub use gram::Gram;
pub use pipeline::{Abort, Outcome, Pipeline, Round};
pub use rule::{Rule, Tau};
pub use seed::Seed;
pub use select::Selection;
pub use spectral::Filtered;
pub use stage::{Radius, Stage};
pub use weights::{BadWeights, CAP, Weights};
