//! What a participant begins an attempt with.

use super::{COMMITMENTS_MAX, Refusal};
use crate::context::{Context, ProofTerms};
use sordino_codec::RingVector;
use std::fmt;

/// The encoded input, and what it proves about itself.
pub struct Input {
    /// To be masked and added.
    pub vector: RingVector,
    /// Where the context has [`ProofTerms`], and nowhere else.
    pub attachment: Option<Attachment>,
}

/// Two byte strings that are carried as they are. They may tell nothing of the input: neighbours see a digest of the
/// first one, the coordinator sees both, and what a survivor committed to may be shown to anybody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachment {
    /// Sent and signed with the sealed shares, before anything is masked; [`ProofTerms::commitments_len`] bytes.
    pub commitments: Vec<u8>,
    /// Sent behind the masked vector; [`ProofTerms::proof_len`] bytes.
    pub proof: Vec<u8>,
}

/// Bytes of an [`Attachment`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachmentLens {
    /// Of the commitments.
    pub commitments: usize,
    /// Of the proof.
    pub proof: usize,
}

impl From<RingVector> for Input {
    /// An input without a proof.
    fn from(vector: RingVector) -> Self {
        Self { vector, attachment: None }
    }
}

impl Input {
    /// Whether it is one of this attempt.
    pub(super) fn check(&self, context: &Context) -> Result<(), Refusal> {
        let Self { vector, attachment } = self;
        if vector.len() as u64 != context.vector_len || vector.bits() != context.bits {
            return Err(Refusal::WrongInput {
                len: vector.len(),
                bits: vector.bits().get(),
                expected_len: context.vector_len,
                expected_bits: context.bits.get(),
            });
        }
        let max = u32::try_from(COMMITMENTS_MAX).expect("512 KiB");
        if let Some(ProofTerms { commitments_len: len, .. }) = context.proof.filter(|terms| terms.commitments_len > max)
        {
            return Err(Refusal::CommitmentsTooLong { len, max });
        }
        let got = attachment.as_ref().map(|Attachment { commitments, proof }| AttachmentLens {
            commitments: commitments.len(),
            proof: proof.len(),
        });
        let expected = context
            .proof
            .map(|_| AttachmentLens { commitments: context.commitments_len(), proof: context.proof_len() });
        if got == expected { Ok(()) } else { Err(Refusal::WrongAttachment { got, expected }) }
    }
}

impl fmt::Display for AttachmentLens {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} bytes of commitments and a proof of {} bytes", self.commitments, self.proof)
    }
}

/// Within a sentence.
pub(super) fn listed(lens: Option<&AttachmentLens>) -> String {
    lens.map_or_else(|| "no proof".to_owned(), ToString::to_string)
}
