//! What inputs prove, in the worlds where they do: real proofs of small claims, made as a site makes them and verified as a
//! coordinator does.
//!
//! The bounds are those of a policy, as `sordino-wire` derives them. All randomness comes from the world's dice.

mod cheat;

pub(crate) use cheat::Prover;
pub use cheat::{Cheat, Mismatch};

use crate::dice::Dice;
use sordino_codec::{Encoding, RingVector};
use sordino_proofs::{
    Claim, ClaimSpec, CommitmentSum, Commitments, Committed, Generators, NormBound, Proof, Segment, Setting,
    Submission, Verifier,
};
use sordino_secagg::participant::Attachment;
use sordino_secagg::{Context, ParticipantId};
use sordino_wire::{Policy, RoundProof};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::LazyLock;

/// What every input of a world proves, and how it is laid out.
#[derive(Debug)]
pub struct Proving {
    encoding: Encoding,
    proof: RoundProof,
}

/// An input with its proof, as its participant stored it before it said anything.
#[derive(Clone)]
pub struct Proven {
    /// Commitments and proof.
    pub attachment: Attachment,
    /// What the commitments are to: integers, and the blindings behind them.
    pub committed: RingVector,
    /// What is masked: the same, of an honest participant.
    pub sent: RingVector,
    /// What is wrong with it.
    pub cheat: Option<Cheat>,
}

impl Proven {
    /// Whether its proof is one, of its own commitments by its own participant for its own attempt.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.cheat.is_none_or(Cheat::passes_at_the_door)
    }

    /// Points that nobody else may have committed with: each has a blinding of its own.
    pub(crate) fn points(&self) -> impl Iterator<Item = [u8; POINT]> + '_ {
        let points = self.attachment.commitments.get(VERSION..).unwrap_or_default();
        points.chunks_exact(POINT).map(|point| point.try_into().expect("chunks of that length"))
    }
}

impl fmt::Debug for Proven {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Proven").field("cheat", &self.cheat).finish_non_exhaustive()
    }
}

impl Proving {
    /// Bounds for a cohort of this size: small ones, since a proof is most of what a world costs.
    pub(crate) fn draw(dice: &mut Dice, cohort: u32) -> Self {
        let max_weight = if dice.index(2) == 0 { 1 } else { dice.between(2, 1_000) };
        let (precision_bits, metrics) = (dice.between(8, 20), dice.index(3));
        let metrics = ["[[encoding.metrics]]\nname = \"loss\"\nmax = 9.0\n", EXACT_METRIC][..metrics].concat();
        let policy = format!(
            "[task]\nname = \"sum\"\nrounds = 1\n[cohort]\nmin = {cohort}\ntarget = {cohort}\nmax_dropout_fraction = 0.0\n\
             max_corrupt_fraction = 0.0\n[privacy]\nenabled = false\n[robustness]\nproof = \"transparent\"\n[encoding]\n\
             max_weight = {max_weight}\nprecision_bits = {precision_bits}\n{metrics}"
        );
        let policy = Policy::from_toml(&policy).and_then(Policy::check).expect("a policy that is within all ranges");
        let (model_len, terms) = (1 + dice.index(MODEL_LEN_MAX), policy.terms(cohort));
        let proof = policy.round_proof(model_len, &terms).expect("bounds that can be proven");
        let encoding = policy.encoding(model_len, &terms).expect("a ring that holds them");
        Self { encoding, proof: proof.expect("the policy asks for a proof") }
    }

    /// How inputs are laid out.
    #[must_use]
    pub fn encoding(&self) -> &Encoding {
        &self.encoding
    }

    /// What they prove.
    #[must_use]
    pub fn proof(&self) -> &RoundProof {
        &self.proof
    }

    /// An honest input without its blindings; half of them of full norm.
    pub(crate) fn draw_input(&self, dice: &mut Dice) -> RingVector {
        let spec = self.encoding.spec();
        let divisor = if dice.index(2) == 0 { 1.0 } else { 20_000.0 };
        let entry = |dice: &mut Dice| f32::from(i16::try_from(dice.between(0, 2_000)).unwrap_or(0) - 1_000) / divisor;
        let update: Vec<f32> = (0..spec.model_len).map(|_| entry(dice)).collect();
        let weight = u32::try_from(dice.between(1, spec.max_weight.into())).unwrap_or(1);
        let thousandth = |dice: &mut Dice| f64::from(u32::try_from(dice.between(0, 1_000)).unwrap_or(0)) / 1_000.0;
        let metrics: Vec<f64> = spec.metrics.iter().map(|metric| metric.max * thousandth(dice)).collect();
        self.encoding.encode(&update, weight, &metrics, dice.rng()).expect("finite numbers").vector
    }

    /// Commits to an input and proves it within a claim, for a participant in an attempt; what is committed to has the
    /// blindings behind the integers.
    fn prove(
        &self,
        claim: &Claim,
        (context, id): (&Context, &ParticipantId),
        input: &RingVector,
        dice: &mut Dice,
    ) -> (Attachment, RingVector) {
        let integers: Vec<i64> = input.iter_centered().take(self.encoding.integers()).collect();
        let committed = Committed::new(claim, &GENERATORS, &integers, dice.rng(), ONE);
        let committed = committed.expect("an input that is within the claim");
        let mut vector = input.clone();
        let elements = self.proof.limbs.split(committed.blindings());
        self.encoding.set_elements(&mut vector, &elements).expect("an input of this encoding");
        let commitments = committed.commitments().to_bytes();
        let proof = committed.prove(&RoundProof::context(context, id), dice.rng(), ONE);
        let proof = proof.expect("an input that is within the claim").to_bytes();
        (Attachment { commitments, proof }, vector)
    }

    /// Whether a participant's input is proven to be within the bounds.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn verify(
        &self,
        context: &Context,
        from: &ParticipantId,
        (commitments, proof): (&[u8], &[u8]),
    ) -> Result<(), String> {
        let claim = &self.proof.claim;
        let commitments = Commitments::from_bytes(claim, commitments).map_err(|error| error.to_string())?;
        let proof = Proof::from_bytes(claim, proof).map_err(|error| error.to_string())?;
        let context = RoundProof::context(context, from);
        let submission = Submission { context, commitments: &commitments, proof: &proof };
        let verified = Verifier::new(claim, &GENERATORS, ONE).verify(&submission, ONE);
        verified.map(drop).map_err(|rejection| rejection.to_string())
    }

    /// Whether a sum is that of what its contributors committed to.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn opens(&self, sum: &RingVector, committed: &[Vec<u8>]) -> Result<(), String> {
        let RoundProof { claim, limbs, .. } = &self.proof;
        let contributors = u32::try_from(committed.len()).unwrap_or(u32::MAX);
        let sums = self.encoding.lift(sum, contributors).map_err(|error| error.to_string())?;
        let blindings = limbs.join(&self.encoding.elements_of(sum)).ok_or("the blindings are incomplete")?;
        let mut all = CommitmentSum::new(claim);
        for commitments in committed {
            let commitments = Commitments::from_bytes(claim, commitments).map_err(|error| error.to_string())?;
            all.add_unproven(&commitments).map_err(|error| error.to_string())?;
        }
        let integers: Vec<i64> = sums.integers().collect();
        all.opens_to(claim, &GENERATORS, &integers, &blindings, ONE).map_err(|error| error.to_string())
    }
}

/// Those of the largest claim serve all: a longer list of them begins with the shorter one.
static GENERATORS: LazyLock<Generators> = LazyLock::new(|| {
    let bound = NormBound::constant(1);
    let claim = Claim::new(ClaimSpec {
        segments: vec![Segment { len: MODEL_LEN_MAX, bound }],
        weight: None,
        values: Vec::new(),
        entries: None,
        centre: None,
        setting: Setting::Fast,
    });
    Generators::of(&claim.expect("a small claim"))
});

/// Values of a model, at most: rows of 16, beside which ranges and masks take no longer ones.
const MODEL_LEN_MAX: usize = 200;
const EXACT_METRIC: &str = "[[encoding.metrics]]\nname = \"correct\"\nmax = 500.0\nresolution = 1.0\n";
/// Bytes of a point.
pub(crate) const POINT: usize = 32;
/// What stands before the points of commitments.
const VERSION: usize = 2;
const ONE: NonZeroUsize = NonZeroUsize::MIN;
