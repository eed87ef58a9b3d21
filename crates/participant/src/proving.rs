//! What a site proves of its input: that the integers it masks are within the bounds of the policy.

use crate::attack::Attack;
use getrandom::{SysRng, rand_core::UnwrapErr};
use sordino_codec::{EncodeError, Encoding, RingVector};
use sordino_proofs::{Claim, Committed, Generators, ProveError};
use sordino_secagg::participant::{Attachment, Input};
use sordino_secagg::{Context, ParticipantId};
use sordino_wire::RoundProof;
use std::num::NonZeroUsize;

/// Why an input cannot be proven.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvingError {
    /// It is not within the bounds.
    #[error("the input cannot be proven to be within the bounds of the policy")]
    Prove(#[from] ProveError),
    /// The blindings do not fit behind it: a mistake of ours.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// An attack that cannot be made, in a demonstration.
    #[error("the attack's claim cannot be made")]
    Attack(#[from] sordino_proofs::ClaimError),
}

/// An input with its commitments and its proof, and the blindings of those behind it.
///
/// All of it is made before the first word of an attempt is said and stored with it: no restart proves anything twice with
/// the same randomness.
pub(crate) fn prove(
    (proof, encoding): (&RoundProof, &Encoding),
    (context, id): (&Context, &ParticipantId),
    vector: RingVector,
    attack: Option<Attack>,
) -> Result<Input, ProvingError> {
    let input = Proven { proof, encoding, context, id };
    match attack {
        None => input.honest(vector),
        Some(attack) => attack.on(&input, vector),
    }
}

/// What an input is proven for.
pub(crate) struct Proven<'a> {
    pub(crate) proof: &'a RoundProof,
    pub(crate) encoding: &'a Encoding,
    pub(crate) context: &'a Context,
    pub(crate) id: &'a ParticipantId,
}

impl Proven<'_> {
    pub(crate) fn honest(&self, vector: RingVector) -> Result<Input, ProvingError> {
        self.under(&self.proof.claim, self.context, vector)
    }

    /// Proves a claim in a context.
    pub(crate) fn under(
        &self,
        claim: &Claim,
        context: &Context,
        mut vector: RingVector,
    ) -> Result<Input, ProvingError> {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let mut rng = UnwrapErr(SysRng);
        let generators = Generators::of(claim);
        let integers = zeroize::Zeroizing::new(self.integers(&vector).collect::<Vec<_>>());
        let committed = Committed::new(claim, &generators, &integers, &mut rng, threads)?;
        self.encoding.set_elements(&mut vector, &self.proof.limbs.split(committed.blindings()))?;
        let commitments = committed.commitments().to_bytes();
        let proof = committed.prove(&RoundProof::context(context, self.id), &mut rng, threads)?.to_bytes();
        Ok(Input { vector, attachment: Some(Attachment { commitments, proof }) })
    }

    /// The integers that a proof speaks about.
    pub(crate) fn integers<'v>(&self, vector: &'v RingVector) -> impl Iterator<Item = i64> + use<'v> {
        vector.iter_centered().take(self.encoding.integers())
    }
}
