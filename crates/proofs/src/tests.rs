//! Whole proofs: honest ones verify, changed and forged ones do not.

mod complete;
mod forge;
mod sound;

use std::num::NonZeroUsize;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::claim::{Claim, ClaimSpec, Interval, NormBound, Segment, Setting};
use crate::context::Context;
use crate::generators::Generators;
use crate::proof::{Commitments, Proof};
use crate::prover::Committed;
use crate::verifier::{Rejection, Submission, Verified, Verifier};

const ONE: NonZeroUsize = NonZeroUsize::MIN;

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

const CONTEXT: Context<'static> = Context {
    federation: "clinics",
    task: "task-1",
    round: 7,
    attempt: 2,
    participant: b"site-1",
    policy: [1; 32],
    session: [2; 32],
};

/// A claim with the generators that it needs.
struct Case {
    claim: Claim,
    generators: Generators,
}

impl Case {
    fn new(spec: ClaimSpec) -> Self {
        let claim = Claim::new(spec).expect("a claim");
        let generators = Generators::of(&claim);
        Self { claim, generators }
    }

    fn prove(&self, vector: &[i64], context: &Context<'_>, seed: u64) -> (Commitments, Proof) {
        let mut rng = rng(seed);
        let committed = Committed::new(&self.claim, &self.generators, vector, &mut rng, ONE).expect("within the claim");
        let commitments = committed.commitments().clone();
        (commitments, committed.prove(context, &mut rng, ONE).expect("within the claim"))
    }

    fn verifier(&self) -> Verifier<'_> {
        Verifier::new(&self.claim, &self.generators, ONE)
    }

    fn verify(&self, (commitments, proof): &(Commitments, Proof), context: Context<'_>) -> Result<Verified, Rejection> {
        self.verifier().verify(&Submission { context, commitments, proof }, ONE)
    }
}

/// One segment under a bound on the sum of its squares.
fn plain(len: usize, squared: u64) -> ClaimSpec {
    ClaimSpec {
        segments: vec![Segment { len, bound: NormBound::constant(squared) }],
        weight: None,
        values: Vec::new(),
        entries: None,
        centre: None,
        setting: Setting::Fast,
    }
}

fn squared(vector: &[i64]) -> u64 {
    vector.iter().map(|entry| entry.unsigned_abs().pow(2)).sum()
}

/// Entries of so many bits and a sign.
fn entries(rng: &mut ChaCha20Rng, len: usize, bits: u32) -> Vec<i64> {
    (0..len)
        .map(|_| i64::from(rng.next_u32() >> (32 - bits)) * if rng.next_u32().is_multiple_of(2) { 1 } else { -1 })
        .collect()
}

/// Everything that a claim can have, small: two segments whose bounds grow with the weight, values, ranges of entries.
fn rich(setting: Setting) -> (Case, Vec<i64>) {
    let bound = |squared: u64| NormBound { scale_bits: 3, per_square: squared * 8, per_weight: 5, constant: 11 };
    let case = Case::new(ClaimSpec {
        segments: vec![Segment { len: 20, bound: bound(300) }, Segment { len: 7, bound: bound(40) }],
        weight: Some(Interval { low: 1, high: 5 }),
        values: vec![Interval { low: -4, high: 4 }, Interval::only(9), Interval { low: 0, high: 1000 }],
        entries: Some(Interval { low: -9, high: 10 }),
        centre: None,
        setting,
    });
    let mut vector: Vec<i64> = (0..27).map(|at| (at * 7 + 3) % 20 - 9).collect();
    vector.extend([3, -4, 9, 650]);
    (case, vector)
}
