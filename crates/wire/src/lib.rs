//! Every type of the HTTP interface: identifiers, policies, requests, answers and problems.
//!
//! The messages of the aggregation protocols live with their cores, in one canonical binary encoding; what stands here
//! is the JSON (and, for policies, TOML) around them. Everything is validated where it is parsed: a value of one of
//! these types is already inside its limits. Unknown fields are refused in what people write and in every request.

pub mod api;
pub mod audit;
mod budget;
mod digest;
pub mod evidence;
mod ids;
pub mod policy;
pub mod privacy;
mod problem;
mod proof;

pub use digest::{Digest, InvalidDigest};
pub use ids::{InvalidId, RoundId, TaskId};
pub use policy::{CheckedPolicy, Policy, PolicyError};
pub use privacy::{ParticipantRound, RoundPrivacy, RoundTerms};
pub use problem::{Code, Problem};
pub use proof::RoundProof;

/// Version of the HTTP interface and of the signed contexts, bumped on any change that an older peer would misread.
pub const PROTOCOL_VERSION: u16 = 1;
