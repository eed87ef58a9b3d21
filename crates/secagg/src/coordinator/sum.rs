//! The running sum of masked inputs, each added once, in a streaming pass.

use super::Coordinator;
use crate::context::{Context, ParticipantId};
use crate::merkle::Hash;
use aws_lc_rs::digest;
use sordino_codec::{PackError, RingVector, UnpackAdd, check_packed};
use std::collections::BTreeSet;

/// Evidence that bytes were read to their end: their number and SHA-256, and how the vector in front ends. Only
/// [`PayloadHasher`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    len: u64,
    packed_len: u64,
    /// The vector's last byte, or that of them all if they end before.
    last: Option<u8>,
    digest: Hash,
}

impl Payload {
    /// Bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether they begin with a vector of this attempt, so that adding it cannot fail half way.
    pub(super) fn begins_packed(&self, context: &Context) -> bool {
        let packed_len = self.len.min(self.packed_len);
        let lens = usize::try_from(packed_len).ok().zip(usize::try_from(context.vector_len).ok());
        lens.is_some_and(|(bytes, len)| check_packed(bytes, self.last, len, context.bits).is_ok())
    }

    /// SHA-256 of them.
    #[must_use]
    pub fn digest(&self) -> &Hash {
        &self.digest
    }
}

/// Reads the bytes of an input as they come.
pub struct PayloadHasher {
    len: u64,
    packed_len: u64,
    last: Option<u8>,
    hasher: digest::Context,
}

impl PayloadHasher {
    /// Of nothing yet. The vector is the first `packed_len` bytes ([`Coordinator::packed_len`]), the proof all others.
    #[must_use]
    pub fn new(packed_len: u64) -> Self {
        Self { len: 0, packed_len, last: None, hasher: digest::Context::new(&digest::SHA256) }
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let (of_vector, _) = split_at_most(bytes, self.packed_len.saturating_sub(self.len));
        self.len += bytes.len() as u64;
        self.last = of_vector.last().copied().or(self.last);
        self.hasher.update(bytes);
    }

    /// There are no more.
    #[must_use]
    pub fn finish(self) -> Payload {
        let digest = self.hasher.finish();
        let digest = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
        Payload { len: self.len, packed_len: self.packed_len, last: self.last, digest }
    }
}

/// The bytes that still belong to the vector, and those behind it.
fn split_at_most(bytes: &[u8], len: u64) -> (&[u8], &[u8]) {
    bytes.split_at(usize::try_from(len).unwrap_or(usize::MAX).min(bytes.len()))
}

/// Why an input is not in the sum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SumError {
    /// It is in already.
    #[error("the input of {0} is in the sum already")]
    Twice(ParticipantId),
    /// Its bytes are no vector of this ring.
    #[error("the input is not a packed vector of this ring")]
    Packing(#[from] PackError),
    /// Too few or too many bytes are behind the vector.
    #[error("{got} bytes follow the vector of the input, {expected} belong there")]
    ProofLength {
        /// Bytes that there are.
        got: u64,
        /// Bytes of a proof.
        expected: u64,
    },
    /// An input was added in part and never finished: the sum is rebuilt from the inputs.
    #[error("an input was added in part: the sum has to be rebuilt")]
    Torn,
}

/// The sum of masked inputs. It holds each input once and knows whose they are.
pub struct RunningSum {
    sum: RingVector,
    /// Bytes behind the vector in each input, which are not added.
    proof_len: u64,
    included: BTreeSet<ParticipantId>,
    torn: bool,
}

impl RunningSum {
    /// Of no input.
    ///
    /// # Panics
    /// If the vector does not fit the address space: its length is bounded where a task is made.
    #[must_use]
    pub fn new(context: &Context) -> Self {
        let len = usize::try_from(context.vector_len).expect("a task's vector fits the address space");
        let (sum, proof_len) = (RingVector::zeros(len, context.bits), context.proof_len() as u64);
        Self { sum, proof_len, included: BTreeSet::new(), torn: false }
    }

    /// Whose inputs are in it.
    #[must_use]
    pub fn included(&self) -> &BTreeSet<ParticipantId> {
        &self.included
    }

    /// Whether it holds exactly these participants' inputs, each whole.
    #[must_use]
    pub fn is_whole_for(&self, survivors: &[ParticipantId]) -> bool {
        !self.torn && self.included.iter().eq(survivors)
    }

    /// Begins to add one participant's input. Until it is finished, the sum is torn.
    ///
    /// # Errors
    /// [`SumError::Twice`], [`SumError::Torn`].
    pub fn begin(&mut self, from: &ParticipantId) -> Result<InputAdder<'_>, SumError> {
        if self.torn {
            return Err(SumError::Torn);
        }
        if self.included.contains(from) {
            return Err(SumError::Twice(from.clone()));
        }
        let Self { sum, proof_len, included, torn } = self;
        let adder = UnpackAdd::new(sum)?;
        *torn = true;
        Ok(InputAdder { adder, behind: 0, proof_len: *proof_len, from: from.clone(), included, torn })
    }

    /// The sum and whose inputs are in it; `None` if it is torn.
    pub(super) fn into_parts(self) -> Option<(RingVector, BTreeSet<ParticipantId>)> {
        (!self.torn).then_some((self.sum, self.included))
    }
}

/// One input on its way into the sum: its vector is added, the proof behind it is counted.
pub struct InputAdder<'a> {
    adder: UnpackAdd<'a>,
    /// Bytes behind the vector so far.
    behind: u64,
    proof_len: u64,
    from: ParticipantId,
    included: &'a mut BTreeSet<ParticipantId>,
    torn: &'a mut bool,
}

impl InputAdder<'_> {
    /// Takes the next bytes of the upload, however many.
    ///
    /// # Errors
    /// Nothing of `bytes` was added: [`SumError::ProofLength`] for more bytes than the upload has, [`SumError::Packing`]
    /// for padding that is not zero.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SumError> {
        let (of_vector, of_proof) = split_at_most(bytes, self.adder.remaining() as u64);
        let behind = self.behind + of_proof.len() as u64;
        if behind > self.proof_len {
            return Err(SumError::ProofLength { got: behind, expected: self.proof_len });
        }
        self.adder.push(of_vector)?;
        self.behind = behind;
        Ok(())
    }

    /// The input is in the sum.
    ///
    /// # Errors
    /// [`SumError::Packing`]: fewer bytes than the vector has. [`SumError::ProofLength`]: fewer than the proof has.
    pub fn finish(self) -> Result<(), SumError> {
        if self.adder.remaining() == 0 && self.behind != self.proof_len {
            return Err(SumError::ProofLength { got: self.behind, expected: self.proof_len });
        }
        self.adder.finish()?;
        self.included.insert(self.from);
        *self.torn = false;
        Ok(())
    }
}

impl Coordinator {
    /// A sum for this attempt, of no input yet.
    #[must_use]
    pub fn new_sum(&self) -> RunningSum {
        RunningSum::new(&self.setup.context)
    }
}
