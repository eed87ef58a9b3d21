//! Secure aggregation by masking: SecAgg+ (Bell, Bonawitz, Gascón, Lepoint, Raykova, CCS 2020) with the consistency
//! check of Bonawitz et al. (CCS 2017, Fig. 4), without a socket, a clock or randomness of its own.
//!
//! Every participant adds to its encoded input a mask of its own and one mask for each neighbour of a random k-regular
//! graph; pairwise masks cancel in the sum. What is needed to take off the rest is shared among neighbours: the root of
//! a dropout's pairwise keys, or the self-mask seed of a survivor, never both of one participant.
//!
//! # Threat model
//! - *Coordinator*: may lie, replay, withhold, forge the graph, show different participants different things, and
//!   collude with up to `corrupt` participants. It learns the sum over at least `min_survivors` inputs, or nothing.
//!   It can always prevent a sum.
//! - *Registrar and certificate authority*: admit principals; the registrar also signs the one survivor list of an
//!   attempt. A coordinator that controls both can invent participants, and one with the registrar's key can open
//!   stretches of a sparse graph by themselves (`topology.rs` says how); a deployment that fears this keeps the
//!   registrar's key elsewhere.
//! - *Participants*: may fall silent at any point, up to the policy's fraction, and send garbage at any point, which
//!   costs them their place. A participant can still send a masked vector of any content: bounding it takes a proof,
//!   which is somebody else's business; here commitments and proof are bytes that are carried, signed
//!   ([`ProofTerms`]), and an input whose proof was found bad is left out as a dropout
//!   ([`coordinator::Coordinator::refuse_input`]).
//!   One that deals bad shares, or complains about good ones, can spoil an attempt: it is named and left out of the
//!   next, or in dispute with the other side and never in one cohort with it again ([`Disputes`]).
//! - *Network*: assumed hostile; every message is bound to its context and signed. Confidentiality of shares rests on
//!   X25519 with ML-KEM-768 and AES-256-GCM, that of inputs on the same exchange and AES in counter mode: who records
//!   an attempt has to break both halves. Signatures are Ed25519 or ECDSA and have to hold for as long as the attempt takes.
//! - *Best effort*: secrets are wiped when dropped, and no branch or index depends on them in our own code; what
//!   compilers and operating systems copy is theirs.
//!
//! # Where things are
//! [`Topology`] derives k and t; [`participant`] and [`coordinator`] are the two state machines; [`Context`] is what
//! every key and signature binds.

#![forbid(unsafe_code)]

mod canonical;
mod certificate_key;
mod context;
pub mod coordinator;
mod disputes;
mod kem;
mod keys;
mod labels;
pub mod merkle;
mod message;
pub mod participant;
mod prg;
mod shamir;
mod topology;
#[cfg(test)]
mod wycheproof;
mod x25519;

pub use canonical::Malformed;
pub use certificate_key::{BadCertificateKey, CertificateKey};
pub use context::{
    Context, ContextDigest, Faults, InvalidParticipantId, NAME_MAX, ParticipantId, Prg, ProofTerms, VERSION,
};
pub use disputes::{Dispute, Disputes};
pub use keys::BadKeys;
#[cfg(any(test, feature = "test-util"))]
pub use message::recode::recode;
pub use message::{
    CERTIFICATES_MAX, COMMITMENTS_MAX, NEIGHBOURS_MAX, ROSTER_MAX, SignedCommitments, Signer, Step, SurvivorSet,
    advertised_certificates, roster_statement,
};
pub use topology::{Graph, NoTopology, Topology};
