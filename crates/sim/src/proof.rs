//! What stands in for a proof in the worlds whose inputs carry one: hashes, that everybody can make and check. The
//! protocol does not look into them.

use sha2::{Digest as _, Sha256};
use sordino_secagg::participant::Attachment;
use sordino_secagg::{ParticipantId, ProofTerms};

/// What inputs carry.
pub(crate) const TERMS: ProofTerms = ProofTerms { claim: [5; 32], commitments_len: HASH_LEN, proof_len: HASH_LEN };

const HASH_LEN: u32 = 32;

/// Other commitments in each attempt, and the proof that fits them.
pub(crate) fn attachment(id: &ParticipantId, attempt: u32) -> Attachment {
    let commitments = Sha256::new().chain_update(id.as_str()).chain_update(attempt.to_le_bytes()).finalize().to_vec();
    let proof = proof_of(&commitments);
    Attachment { commitments, proof }
}

/// Whether an upload ends with the proof of these commitments.
pub(crate) fn holds(commitments: &[u8], upload: &[u8]) -> bool {
    upload.ends_with(&proof_of(commitments))
}

fn proof_of(commitments: &[u8]) -> Vec<u8> {
    Sha256::digest(commitments).to_vec()
}
