//! What one attempt is about. Its digest goes into every key, signature and associated data, so that nothing that was
//! said in one attempt means anything in another.

use crate::canonical::Writer;
use crate::labels;
use crate::merkle::Hash;
use sha2::{Digest as _, Sha256};
use sordino_codec::{RingBits, packed_len};
use std::fmt;

/// Version of the messages and of the key schedule.
pub const VERSION: u16 = 3;

/// A participant's name: 8 to 64 of `[A-Za-z0-9_-]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticipantId(Box<str>);

/// A name that is not 8 to 64 of `[A-Za-z0-9_-]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a participant's name is 8 to 64 of A-Z a-z 0-9 _ -")]
pub struct InvalidParticipantId;

impl ParticipantId {
    /// Bytes of a name at most.
    pub const MAX_LEN: usize = 64;
    const MIN_LEN: usize = 8;

    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidParticipantId`] for any other text.
    pub fn new(name: &str) -> Result<Self, InvalidParticipantId> {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if plain && (Self::MIN_LEN..=Self::MAX_LEN).contains(&name.len()) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidParticipantId)
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ParticipantId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for ParticipantId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The stream cipher that expands mask keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Prg {
    /// AES-256 in counter mode.
    #[default]
    Aes256Ctr,
    /// AES-128 in counter mode: faster, with less margin over many edges.
    Aes128Ctr,
}

/// How many participants may misbehave; what the graph and the threshold are derived from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Faults {
    /// Participants that collude with the coordinator, at most, over the whole federation.
    ///
    /// Absolute, because the coordinator chooses whom it invites: a share of a hand-picked cohort would promise nothing.
    pub corrupt: u32,
    /// Share of the roster that falls silent, at most; in `[0, 1)`. Corrupt ones that do not answer count here.
    pub max_dropout_fraction: f64,
}

impl Faults {
    /// Dropouts among `n` participants, at most: rounded down, so that the promise is not made for more than was asked.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a u32 stays in its range")]
    pub fn dropouts(&self, n: u32) -> u32 {
        // 0.3 is below three tenths in binary, and 0.3 of 10 must still be 3.
        (f64::from(n) * self.max_dropout_fraction + 1e-6).floor() as u32
    }
}

/// What inputs of an attempt prove about themselves. What a proof is, this crate does not know: it carries two byte
/// strings of these lengths, and says who sent them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProofTerms {
    /// Digest of what is proven, and of what else everybody who proves it relies on.
    pub claim: Hash,
    /// Bytes of the commitments that travel, signed, with the sealed shares; at most
    /// [`COMMITMENTS_MAX`](crate::COMMITMENTS_MAX).
    pub commitments_len: u32,
    /// Bytes of the proof that travels behind the masked vector.
    pub proof_len: u32,
}

/// What one attempt is about, known to everybody in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// Trust domain of the federation.
    pub federation: String,
    /// Id of the task.
    pub task: String,
    /// Number of the round, counted from 1.
    pub round: u64,
    /// Number of the attempt, counted from 1. An abandoned attempt is followed by the next one, with new keys.
    pub attempt: u32,
    /// Drawn by the coordinator for this attempt: a coordinator restored from an old copy repeats numbers, not this.
    pub nonce: [u8; 32],
    /// SHA-256 of the policy.
    pub policy: Hash,
    /// SHA-256 of the model file that this participant was given. Participants that were given different models sign
    /// different contexts, and no sum comes out (Pasquini et al. 2022).
    pub model: Hash,
    /// Values in the vector.
    pub vector_len: u64,
    /// Ring of the sum.
    pub bits: RingBits,
    /// Cipher of the masks.
    pub prg: Prg,
    /// Whether every secret is agreed on by ML-KEM-768 beside X25519, so that what is recorded today stays closed to
    /// tomorrow's quantum computers.
    pub pq: bool,
    /// Fewest inputs that a sum may hold.
    pub min_survivors: u32,
    /// What graph and threshold have to stand.
    pub faults: Faults,
    /// What comes with every input; nothing does where it is `None`.
    pub proof: Option<ProofTerms>,
}

impl Context {
    /// Bytes of the masked vector in an upload: b bits per value.
    pub(crate) fn packed_len(&self) -> u64 {
        let len = usize::try_from(self.vector_len).ok().and_then(|len| packed_len(len, self.bits));
        len.unwrap_or(usize::MAX) as u64
    }

    /// Bytes of the commitments.
    pub(crate) fn commitments_len(&self) -> usize {
        self.proof.map_or(0, |terms| terms.commitments_len as usize)
    }

    /// Bytes of the proof.
    pub(crate) fn proof_len(&self) -> usize {
        self.proof.map_or(0, |terms| terms.proof_len as usize)
    }

    /// SHA-256 over all fields in their order.
    ///
    /// # Panics
    /// If a name is longer than [`NAME_MAX`] bytes: names are checked where they enter the program.
    #[must_use]
    pub fn digest(&self) -> ContextDigest {
        assert!(self.federation.len() <= NAME_MAX && self.task.len() <= NAME_MAX, "names are bounded where they enter");
        let mut out = Writer::new();
        out.bytes(labels::CONTEXT).u16(VERSION);
        out.bytes(self.federation.as_bytes()).bytes(self.task.as_bytes());
        out.u64(self.round).u32(self.attempt).raw(&self.nonce).raw(&self.policy).raw(&self.model);
        out.u64(self.vector_len).u8(self.bits.get()).u8(match self.prg {
            Prg::Aes256Ctr => 0,
            Prg::Aes128Ctr => 1,
        });
        out.u8(u8::from(self.pq));
        out.u32(self.min_survivors).u32(self.faults.corrupt).u64(self.faults.max_dropout_fraction.to_bits());
        match &self.proof {
            None => out.u8(0),
            Some(ProofTerms { claim, commitments_len, proof_len }) => {
                out.u8(1).raw(claim).u32(*commitments_len).u32(*proof_len)
            }
        };
        ContextDigest(Sha256::digest(out.finish()).into())
    }
}

/// Bytes of the federation's or the task's name, at most.
pub const NAME_MAX: usize = 255;

/// SHA-256 of a [`Context`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ContextDigest(pub(crate) Hash);

impl ContextDigest {
    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &Hash {
        &self.0
    }
}

impl fmt::Debug for ContextDigest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ContextDigest({:02x}{:02x}{:02x}{:02x}..)", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}
