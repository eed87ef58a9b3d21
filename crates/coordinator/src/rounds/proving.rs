//! What every input of an attempt proves, and the check of what comes out of it.

use curve25519_dalek::scalar::Scalar;
use getrandom::{SysRng, rand_core::UnwrapErr};
use sordino_codec::{Encoding, RingVector, Sums};
use sordino_proofs::{
    CommitmentSum, Commitments, Committed, Generators, Malformed, Proof, ProveError, Rejection, Submission, Verifier,
};
use sordino_secagg::{Context, ParticipantId};
use sordino_wire::RoundProof;
use sordino_wire::evidence::{InputEvidence, NoiseEvidence, SumEvidence};
use std::num::NonZeroUsize;
use zeroize::Zeroizing;

/// Why a participant's input is not proven to be within the bounds. The text is a sentence for people.
#[derive(Debug, thiserror::Error)]
pub(super) enum Disproof {
    /// Bytes that are no commitments for the claim.
    #[error(transparent)]
    Commitments(Malformed),
    /// Bytes that are no proof of the claim.
    #[error(transparent)]
    Proof(Malformed),
    /// A proof that shows nothing.
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

impl Disproof {
    /// The reason as a label of metrics: one of few, whatever was sent.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Commitments(_) => "commitments_malformed",
            Self::Proof(_) => "proof_malformed",
            Self::Rejected(rejection) => match rejection {
                Rejection::Malformed(_) => "point_malformed",
                Rejection::Shape => "shape_rejected",
                Rejection::Projection { .. } => "projection_rejected",
                Rejection::Argument => "argument_rejected",
                Rejection::Bound => "bound_rejected",
                _ => "other",
            },
        }
    }
}

/// What every input of an attempt proves, ready to verify.
pub(super) struct Proving {
    pub(super) proof: RoundProof,
    generators: Generators,
}

impl Proving {
    /// Derives the generators: a few milliseconds for each hundred of them.
    pub(super) fn new(proof: RoundProof) -> Self {
        let generators = proof.generators();
        Self { proof, generators }
    }

    /// Whether a participant's input is proven to be within the bounds.
    pub(super) fn verify(
        &self,
        context: &Context,
        from: &ParticipantId,
        (commitments, proof): (&[u8], &[u8]),
    ) -> Result<(), Disproof> {
        let claim = &self.proof.claim;
        let commitments = Commitments::from_bytes(claim, commitments).map_err(Disproof::Commitments)?;
        let proof = Proof::from_bytes(claim, proof).map_err(Disproof::Proof)?;
        let submission =
            Submission { context: RoundProof::context(context, from), commitments: &commitments, proof: &proof };
        let verifier = Verifier::new(claim, &self.generators, ONE);
        Ok(verifier.verify(&submission, ONE).map(drop)?)
    }

    /// What a sum holds; else why it cannot be read.
    pub(super) fn lift(&self, encoding: &Encoding, sum: &RingVector, contributors: u32) -> Result<Lifted, String> {
        let sums = encoding.lift(sum, contributors).map_err(|error| error.to_string())?;
        let blindings = self.proof.limbs.join(&encoding.elements_of(sum)).ok_or("the blindings are incomplete")?;
        Ok(Lifted { sums, blindings: Zeroizing::new(blindings), noise: None })
    }

    /// Whether the sum is that of what its members, and the coordinator with its noise, have committed to; else why not.
    pub(super) fn check(&self, lifted: &Lifted, inputs: &[InputEvidence]) -> Result<(), String> {
        let claim = &self.proof.claim;
        let add = |sum: &mut CommitmentSum, bytes: &[u8]| sum.add_unproven(&Commitments::from_bytes(claim, bytes)?);
        let of_noise = lifted.noise.iter().map(|noise| &noise.commitments);
        let mut all = inputs.iter().map(|input| &input.signed.commitments).chain(of_noise);
        let mut committed = CommitmentSum::new(claim);
        let checked = all.try_for_each(|bytes| add(&mut committed, bytes)).and_then(|()| {
            let integers: Vec<i64> = lifted.sums.integers().collect();
            committed.opens_to(claim, &self.generators, &integers, &lifted.blindings, threads())
        });
        checked.map_err(|error| error.to_string())
    }

    /// Adds the coordinator's noise to a sum, with commitments to it and a proof of its size.
    ///
    /// - `noise`: laid out as the sum; none where the coordinator adds none.
    pub(super) fn add_noise(&self, context: &Context, noise: &Sums, lifted: &mut Lifted) -> Result<(), ProveError> {
        let Some(bound) = &self.proof.noise else { return Ok(()) };
        let integers = Zeroizing::new(noise.integers().collect::<Vec<_>>());
        let mut rng = UnwrapErr(SysRng);
        let committed = Committed::new(&bound.claim, &self.generators, &integers, &mut rng, threads())?;
        let commitments = committed.commitments().to_bytes();
        let with_noise = lifted.blindings.iter().zip(committed.blindings()).map(|(sum, noise)| sum + noise);
        lifted.blindings = Zeroizing::new(with_noise.collect());
        let proof = committed.prove(&RoundProof::noise_context(context), &mut rng, threads())?.to_bytes();
        lifted.sums.add(noise);
        lifted.noise = Some(NoiseEvidence { commitments, proof });
        Ok(())
    }

    /// Bytes of a sum with its noise as it is kept.
    pub(super) fn kept_len(&self) -> u64 {
        let [integers, commitments, proof, blindings] = self.kept_parts();
        (integers + commitments + proof + blindings) as u64
    }

    fn kept_parts(&self) -> [usize; 4] {
        let RoundProof { claim, noise, .. } = &self.proof;
        let (commitments, proof) =
            noise.as_ref().map_or((0, 0), |bound| (Commitments::byte_len(&bound.claim), Proof::byte_len(&bound.claim)));
        [claim.len() * INTEGER_LEN, commitments, proof, claim.rows() * SCALAR_LEN]
    }

    /// Reads what [`Lifted::to_bytes`] wrote; none if it is something else.
    pub(super) fn kept(&self, encoding: &Encoding, bytes: &[u8], contributors: u32) -> Option<Lifted> {
        let [integers, commitments, proof, _] = self.kept_parts();
        let (integers, rest) = bytes.split_at_checked(integers)?;
        let (commitments, rest) = rest.split_at_checked(commitments)?;
        let (proof, blindings) = rest.split_at_checked(proof)?;
        let (blindings, &[]) = blindings.as_chunks::<SCALAR_LEN>() else { return None };
        let blindings = blindings.iter().map(|bytes| Option::from(Scalar::from_canonical_bytes(*bytes)));
        Some(Lifted {
            sums: sums_of(encoding, integers, contributors),
            blindings: Zeroizing::new(blindings.collect::<Option<_>>()?),
            noise: Some(NoiseEvidence { commitments: commitments.to_vec(), proof: proof.to_vec() }),
        })
    }
}

/// A sum off its masks.
pub(super) struct Lifted {
    pub(super) sums: Sums,
    /// Sums of the blindings of the commitments to what is in it.
    blindings: Zeroizing<Vec<Scalar>>,
    /// What shows the size of the coordinator's noise in it.
    noise: Option<NoiseEvidence>,
}

impl Lifted {
    /// The sum and what shows to others that it is that of these inputs.
    pub(super) fn into_evidence(self, inputs: Vec<InputEvidence>) -> (Sums, SumEvidence) {
        let Self { sums, blindings, noise } = self;
        (sums, SumEvidence { inputs, noise, blindings: blindings.to_vec() })
    }

    /// The sum, commitments and proof of the noise, and the blindings.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = bytes_of(&self.sums);
        if let Some(NoiseEvidence { commitments, proof }) = &self.noise {
            out.extend_from_slice(commitments);
            out.extend_from_slice(proof);
        }
        self.blindings.iter().for_each(|blinding| out.extend_from_slice(blinding.as_bytes()));
        out
    }
}

/// Integers in little-endian order, 8 bytes each, in the order of the encoding's fields.
pub(super) fn bytes_of(sums: &Sums) -> Vec<u8> {
    sums.integers().flat_map(i64::to_le_bytes).collect()
}

/// Reads what [`bytes_of`] wrote, of an encoding's length.
pub(super) fn sums_of(encoding: &Encoding, bytes: &[u8], contributors: u32) -> Sums {
    let (integers, _) = bytes.as_chunks::<INTEGER_LEN>();
    let mut model: Vec<i64> = integers.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
    let mut tail = model.split_off(encoding.spec().model_len.min(model.len()));
    let metrics = tail.split_off(1.min(tail.len()));
    let weight = tail.first().copied().and_then(|weight| u64::try_from(weight).ok()).unwrap_or(0);
    Sums { model, weight, metrics, contributors }
}

fn threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(ONE)
}

/// Inputs are verified on one thread each: several come at a time.
const ONE: NonZeroUsize = NonZeroUsize::MIN;
/// Bytes of an integer of a sum.
pub(super) const INTEGER_LEN: usize = 8;
const SCALAR_LEN: usize = 32;
