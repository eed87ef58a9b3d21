//! What every input of an attempt proves, and the check of what comes out of it.

use sordino_codec::{Encoding, RingVector, Sums};
use sordino_proofs::{CommitmentSum, Commitments, Generators, Proof, Submission, Verifier};
use sordino_secagg::{Context, ParticipantId};
use sordino_wire::RoundProof;
use sordino_wire::evidence::{InputEvidence, SumEvidence};
use std::num::NonZeroUsize;

/// What every input of an attempt proves, ready to verify.
pub(super) struct Proving {
    pub(super) proof: RoundProof,
    generators: Generators,
}

impl Proving {
    /// Derives the generators: a few milliseconds for each hundred of them.
    pub(super) fn new(proof: RoundProof) -> Self {
        let generators = Generators::of(&proof.claim);
        Self { proof, generators }
    }

    /// Whether a participant's input is proven to be within the bounds; else why not, in a sentence for people.
    pub(super) fn verify(
        &self,
        context: &Context,
        from: &ParticipantId,
        (commitments, proof): (&[u8], &[u8]),
    ) -> Result<(), String> {
        let claim = &self.proof.claim;
        let commitments = Commitments::from_bytes(claim, commitments).map_err(|error| error.to_string())?;
        let proof = Proof::from_bytes(claim, proof).map_err(|error| error.to_string())?;
        let submission =
            Submission { context: RoundProof::context(context, from), commitments: &commitments, proof: &proof };
        let verifier = Verifier::new(claim, &self.generators, ONE);
        verifier.verify(&submission, ONE).map(drop).map_err(|rejection| rejection.to_string())
    }

    /// The sum of inputs that were verified, and what shows to others that it is theirs; else why it is not.
    pub(super) fn check_sum(
        &self,
        encoding: &Encoding,
        sum: &RingVector,
        contributors: u32,
        inputs: Vec<InputEvidence>,
    ) -> Result<(Sums, SumEvidence), String> {
        let RoundProof { claim, limbs, .. } = &self.proof;
        let threads = std::thread::available_parallelism().unwrap_or(ONE);
        let sums = encoding.lift(sum, contributors).map_err(|error| error.to_string())?;
        let blindings = limbs.join(&encoding.elements_of(sum)).ok_or("the blindings are incomplete")?;
        let mut committed = CommitmentSum::new(claim);
        for InputEvidence { signed, .. } in &inputs {
            let commitments = Commitments::from_bytes(claim, &signed.commitments).map_err(|error| error.to_string())?;
            committed.add_unproven(&commitments).map_err(|error| error.to_string())?;
        }
        let integers: Vec<i64> = sums.integers().collect();
        let opens = committed.opens_to(claim, &self.generators, &integers, &blindings, threads);
        opens.map_err(|error| error.to_string())?;
        Ok((sums, SumEvidence { inputs, blindings }))
    }
}

/// Inputs are verified on one thread each: several come at a time.
const ONE: NonZeroUsize = NonZeroUsize::MIN;
