//! The pen of a liar: what a lying coordinator or participant can write.
//!
//! Messages are read and written as `docs/protocol.md` describes them, and not with the code of `sordino-secagg`: a test
//! that forges with the code that it tests would miss what both of them get wrong. Tests of the protocol, the simulator's
//! adversaries and the tests over real sockets share this pen. Nothing that is shipped depends on it.
//!
//! A pen does not care what it writes. It checks no limit, and signs whatever it is given a key for. What it reads is a
//! message of an honest party, or one that `parse` answers with `None`; `read` panics where `parse` does that.

#![forbid(unsafe_code)]

mod coordinator;
mod fields;
pub mod merkle;
mod participant;

pub use coordinator::{
    Delivered, Delivery, Roster, other_survivors, roster_leaf, signature_list, survivor_list, survivors_of,
    survivors_signature,
};
pub use participant::{
    Advertisement, MaskedInput, Record, Share, ShareKeys, Unmasking, consistency, consistency_signature, dealers,
    resign,
};

/// SHA-256.
pub type Hash = [u8; 32];

/// Version of the messages that this pen writes.
pub const VERSION: u16 = 3;

/// Puts a message into another context, without a new signature.
///
/// # Panics
/// If it is shorter than a header.
#[must_use]
pub fn relabel(message: &[u8], context: &Hash) -> Vec<u8> {
    let mut message = message.to_vec();
    message[4..36].copy_from_slice(context);
    message
}

/// The context that a message names; `None` if it is shorter than a header.
#[must_use]
pub fn context_of(message: &[u8]) -> Option<Hash> {
    message.get(4..36)?.try_into().ok()
}
