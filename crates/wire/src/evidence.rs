//! What shows to anybody that a released sum is that of inputs within their bounds: who committed to what, the proofs, and
//! what the sum of the commitments opens with. Nothing in it is secret: commitments hide, proofs show their statement only.

use crate::proof::RoundProof;
use curve25519_dalek::scalar::Scalar;
use sordino_proofs::{
    CommitmentSum, Commitments, Generators, Malformed, Proof, Rejection, Submission, SumError, Verifier,
};
use sordino_secagg::{CertificateKey, Context, ParticipantId, SignedCommitments};
use std::num::NonZeroUsize;

/// The evidence for one group's sum.
#[derive(Clone, PartialEq, Eq)]
pub struct SumEvidence {
    /// Of everybody whose input is in the sum, ascending.
    pub inputs: Vec<InputEvidence>,
    /// Of the noise that the coordinator added, where it did.
    pub noise: Option<NoiseEvidence>,
    /// Sums of the blindings of all commitments, `[claim.rows()]`.
    pub blindings: Vec<Scalar>,
}

/// What one input was proven to be.
#[derive(Clone, PartialEq, Eq)]
pub struct InputEvidence {
    /// To what its sender committed, with its certificate and its signature.
    pub signed: SignedCommitments,
    /// That this is within the bounds; the bytes of a [`Proof`].
    pub proof: Vec<u8>,
}

/// How large the noise in a sum is that the coordinator added.
#[derive(Clone, PartialEq, Eq)]
pub struct NoiseEvidence {
    /// To what it committed; the bytes of [`Commitments`].
    pub commitments: Vec<u8>,
    /// That this is within its bounds; the bytes of a [`Proof`].
    pub proof: Vec<u8>,
}

/// What a released sum is checked against.
#[derive(Clone, Copy)]
pub struct Claimed<'a> {
    /// What the attempt of this group was about.
    pub context: &'a Context,
    /// What every input proves.
    pub proof: &'a RoundProof,
    /// Whose inputs are said to be in the sum, ascending.
    pub survivors: &'a [ParticipantId],
    /// The sum: model entries, the weight, metrics.
    pub integers: &'a [i64],
}

/// Why a sum is not shown to be that of inputs within their bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// Not what [`SumEvidence::to_bytes`] writes.
    #[error("the evidence cannot be read: {0}")]
    Unreadable(&'static str),
    /// Evidence for the inputs of others.
    #[error("the evidence is not for exactly the participants whose inputs are said to be in the sum")]
    Survivors,
    /// A certificate that is not believed.
    #[error("the certificate of {id}: {why}")]
    Certificate {
        /// Whose.
        id: ParticipantId,
        /// Why it is not.
        why: String,
    },
    /// Commitments that their owner did not sign in this attempt.
    #[error("{id} did not sign these commitments in this attempt")]
    Signature {
        /// Whose they are said to be.
        id: ParticipantId,
    },
    /// Bytes that are no commitments or no proof.
    #[error("what {id} is said to have sent cannot be read")]
    Malformed {
        /// Whose.
        id: ParticipantId,
        /// Why.
        source: Malformed,
    },
    /// A proof that shows nothing.
    #[error("the proof of {id} does not verify")]
    Proof {
        /// Whose.
        id: ParticipantId,
        /// Why.
        source: Rejection,
    },
    /// Noise of the coordinator that the policy does not ask for, or none where it does.
    #[error("the policy has {} of the coordinator in a sum, and the evidence has {}", noise_or_not(*expected), noise_or_not(!expected))]
    Noise {
        /// Whether the policy asks for it.
        expected: bool,
    },
    /// Bytes that are no commitments or no proof.
    #[error("what the coordinator says of its noise cannot be read")]
    NoiseMalformed(#[source] Malformed),
    /// The coordinator's noise is not shown to be within its bounds.
    #[error("the proof of the coordinator's noise does not verify")]
    NoiseProof(#[source] Rejection),
    /// The sum is another one.
    #[error("the sum is not that of the inputs that were proven")]
    Sum(#[from] SumError),
}

impl SumEvidence {
    /// A label and a version; the inputs, each as two byte strings; the noise, none or one, in the same way; the blindings.
    /// Whatever there may be several of stands behind its number, a byte string behind its length. Integers are u32,
    /// little-endian.
    ///
    /// # Panics
    /// If there is more of anything than a u32 counts.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let count = |len: usize| u32::try_from(len).expect("bounded by what a cohort sends").to_le_bytes();
        let mut out = LABEL.to_vec();
        let string = |out: &mut Vec<u8>, bytes: &[u8]| {
            out.extend(count(bytes.len()));
            out.extend_from_slice(bytes);
        };
        out.extend(count(self.inputs.len()));
        for InputEvidence { signed, proof } in &self.inputs {
            string(&mut out, &signed.to_bytes());
            string(&mut out, proof);
        }
        out.extend(count(self.noise.iter().len()));
        if let Some(NoiseEvidence { commitments, proof }) = &self.noise {
            string(&mut out, commitments);
            string(&mut out, proof);
        }
        out.extend(count(self.blindings.len()));
        self.blindings.iter().for_each(|blinding| out.extend_from_slice(blinding.as_bytes()));
        out
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`EvidenceError::Unreadable`]: anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EvidenceError> {
        let mut rest = bytes.strip_prefix(LABEL).ok_or(EvidenceError::Unreadable("it is not of this version"))?;
        let mut inputs = Vec::new();
        for _ in 0..count(&mut rest)? {
            let signed = SignedCommitments::from_bytes(string(&mut rest)?);
            let signed = signed.map_err(|_| EvidenceError::Unreadable("signed commitments are malformed"))?;
            inputs.push(InputEvidence { signed, proof: string(&mut rest)?.to_vec() });
        }
        let noise = match count(&mut rest)? {
            0 => None,
            1 => Some(NoiseEvidence { commitments: string(&mut rest)?.to_vec(), proof: string(&mut rest)?.to_vec() }),
            _ => return Err(EvidenceError::Unreadable("there is more than one noise")),
        };
        let mut blindings = Vec::new();
        for _ in 0..count(&mut rest)? {
            let (blinding, behind) = rest.split_first_chunk().ok_or(SHORT)?;
            let blinding = Option::from(Scalar::from_canonical_bytes(*blinding));
            blindings.push(blinding.ok_or(EvidenceError::Unreadable("a blinding is no scalar"))?);
            rest = behind;
        }
        if rest.is_empty() {
            Ok(Self { inputs, noise, blindings })
        } else {
            Err(EvidenceError::Unreadable("it is too long"))
        }
    }

    /// Checks all of it: who signed which commitments, that each is proven to be within the bounds, the coordinator's noise
    /// too, and that their sum opens to the released integers.
    ///
    /// - `generators`: those of [`RoundProof::generators`].
    /// - `key_of`: the key in a certificate chain, if that leads to the federation's root and names the participant.
    ///
    /// # Errors
    /// [`EvidenceError`] says what does not fit, and whose it is.
    pub fn verify(
        &self,
        claimed: &Claimed<'_>,
        generators: &Generators,
        key_of: impl Fn(&ParticipantId, &[u8]) -> Result<CertificateKey, String>,
        threads: NonZeroUsize,
    ) -> Result<(), EvidenceError> {
        let Claimed { context, proof: RoundProof { claim, noise, .. }, survivors, integers } = *claimed;
        if !self.inputs.iter().map(|input| &input.signed.id).eq(survivors) {
            return Err(EvidenceError::Survivors);
        }
        let digest = context.digest();
        let mut parsed = Vec::with_capacity(self.inputs.len());
        for InputEvidence { signed, proof } in &self.inputs {
            let id = &signed.id;
            let key =
                key_of(id, &signed.certificates).map_err(|why| EvidenceError::Certificate { id: id.clone(), why })?;
            if !signed.verify(&digest, &key) {
                return Err(EvidenceError::Signature { id: id.clone() });
            }
            let malformed = |source| EvidenceError::Malformed { id: id.clone(), source };
            let commitments = Commitments::from_bytes(claim, &signed.commitments).map_err(malformed)?;
            parsed.push((id, commitments, Proof::from_bytes(claim, proof).map_err(malformed)?));
        }
        let submission =
            |(id, commitments, proof)| Submission { context: RoundProof::context(context, id), commitments, proof };
        let submissions: Vec<_> =
            parsed.iter().map(|(id, commitments, proof)| submission((id, commitments, proof))).collect();
        let verified = Verifier::new(claim, generators, threads).verify_batch(&submissions, threads);
        let mut sum = CommitmentSum::new(claim);
        for (verified, (id, ..)) in verified.into_iter().zip(&parsed) {
            let id = || ParticipantId::clone(id);
            sum.add(&verified.map_err(|source| EvidenceError::Proof { id: id(), source })?)?;
        }
        match (noise, &self.noise) {
            (None, None) => {}
            (Some(bound), Some(noise)) => {
                let commitments = Commitments::from_bytes(&bound.claim, &noise.commitments);
                let commitments = &commitments.map_err(EvidenceError::NoiseMalformed)?;
                let proof = &Proof::from_bytes(&bound.claim, &noise.proof).map_err(EvidenceError::NoiseMalformed)?;
                let submission = Submission { context: RoundProof::noise_context(context), commitments, proof };
                let verifier = Verifier::new(&bound.claim, generators, threads);
                sum.add(&verifier.verify(&submission, threads).map_err(EvidenceError::NoiseProof)?)?;
            }
            (expected, _) => return Err(EvidenceError::Noise { expected: expected.is_some() }),
        }
        Ok(sum.opens_to(claim, generators, integers, &self.blindings, threads)?)
    }
}

impl std::fmt::Debug for SumEvidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SumEvidence").field("inputs", &self.inputs.len()).finish_non_exhaustive()
    }
}

fn noise_or_not(noise: bool) -> &'static str {
    if noise { "noise" } else { "no noise" }
}

fn count(rest: &mut &[u8]) -> Result<u32, EvidenceError> {
    let (count, behind) = rest.split_first_chunk().ok_or(SHORT)?;
    *rest = behind;
    Ok(u32::from_le_bytes(*count))
}

/// A byte string after its length. Nothing is allocated for a length that is not there.
fn string<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], EvidenceError> {
    let len = count(rest)? as usize;
    let (string, behind) = rest.split_at_checked(len).ok_or(SHORT)?;
    *rest = behind;
    Ok(string)
}

const SHORT: EvidenceError = EvidenceError::Unreadable("it is too short");
const LABEL: &[u8] = b"sordino/evidence/v1\n";
