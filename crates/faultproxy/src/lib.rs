//! A TCP proxy for tests: it stands between two peers and does what bad networks do, by a plan that one seed fixes.
//!
//! | module | what |
//! |---|---|
//! | [`faults`] | how bad the network is, as data |
//! | [`plan`] | what goes wrong where: connection, direction, byte |
//! | [`proxy`] | the listener, and what it has done so far |
//! | `pump` | one direction of one connection |
//!
//! A fault belongs to a byte of a stream, never to a moment: the same seed and the same bytes give the same faults. Which
//! connection is which number is a matter of who comes first, so runs of several peers repeat their faults, not their
//! order.
//!
//! # Threat model
//! None: nothing here protects anybody. It listens on loopback only, holds one buffer for each direction of a bounded
//! number of connections, and is linked by tests and chores alone.

#![forbid(unsafe_code)]

pub mod faults;
pub mod plan;
pub mod proxy;
mod pump;

pub use faults::{Faults, InvalidFaults};
pub use plan::{Direction, Ending, Event, Fault, Plan, Script};
pub use proxy::{Injection, Proxy, Tally};
