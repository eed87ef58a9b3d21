//! Norm proofs and the evidence for a sum, as they come from participants and from a coordinator.

use rand_core::CryptoRng;
use sordino_proofs::{
    Claim, ClaimSpec, Commitments, Committed, Context, Generators, Interval, NormBound, Proof, Segment, Setting,
    Submission, Verifier,
};
use sordino_wire::evidence::SumEvidence;
use std::num::NonZeroUsize;
use std::sync::LazyLock;

/// A claim with every part that a proof can have, and its generators.
struct Known {
    claim: Claim,
    generators: Generators,
}

static FAST: LazyLock<Known> = LazyLock::new(|| Known::new(Setting::Fast));
static SMALL: LazyLock<Known> = LazyLock::new(|| Known::new(Setting::Small));

impl Known {
    fn new(setting: Setting) -> Self {
        let segment = |squared| Segment { len: 3, bound: NormBound::constant(squared) };
        let spec = ClaimSpec {
            segments: vec![segment(50), segment(60)],
            weight: Some(Interval { low: 1, high: 9 }),
            values: vec![Interval { low: -4, high: 4 }],
            entries: Some(Interval { low: -7, high: 7 }),
            centre: None,
            setting,
        };
        let claim = Claim::new(spec).expect("small bounds");
        Self { generators: Generators::of(&claim), claim }
    }

    fn of(setting: u8) -> &'static Self {
        if setting.is_multiple_of(2) { &FAST } else { &SMALL }
    }
}

fn context() -> Context<'static> {
    Context {
        federation: "fuzz.example",
        task: "fuzz",
        round: 1,
        attempt: 1,
        participant: b"site-0001",
        policy: [2; 32],
        session: [3; 32],
    }
}

/// One byte for the setting, the commitments, the proof: each has one encoding, and the verifier answers.
pub(crate) fn norm_proof(bytes: &[u8]) {
    let _ = verifies(bytes);
}

/// Whether commitments and proof are read, and verify.
///
/// # Panics
/// If what was read is written as something else.
#[must_use]
pub fn verifies(bytes: &[u8]) -> bool {
    let Some((setting, rest)) = bytes.split_first() else { return false };
    let Known { claim, generators } = Known::of(*setting);
    let Some((first, second)) = rest.split_at_checked(Commitments::byte_len(claim)) else { return false };
    let (Ok(commitments), Ok(proof)) = (Commitments::from_bytes(claim, first), Proof::from_bytes(claim, second)) else {
        return false;
    };
    assert_eq!(commitments.to_bytes(), first, "commitments have one encoding");
    assert_eq!(proof.to_bytes(), second, "a proof has one encoding");
    let submission = Submission { context: context(), commitments: &commitments, proof: &proof };
    Verifier::new(claim, generators, NonZeroUsize::MIN).verify(&submission, NonZeroUsize::MIN).is_ok()
}

/// What a participant sends whose vector is within the bounds, for the setting of this byte.
///
/// # Panics
/// Never: the vector is within them.
#[must_use]
pub fn honest_proof(setting: u8, rng: &mut impl CryptoRng) -> Vec<u8> {
    let Known { claim, generators } = Known::of(setting);
    let vector = [3, -4, 5, -1, 0, 7, 2, -3];
    let committed = Committed::new(claim, generators, &vector, rng, NonZeroUsize::MIN).expect("within the bounds");
    let commitments = committed.commitments().to_bytes();
    let proof = committed.prove(&context(), rng, NonZeroUsize::MIN).expect("within the bounds").to_bytes();
    [&[setting][..], &commitments, &proof].concat()
}

/// The evidence for a sum: what is read is what was written, byte for byte.
pub(crate) fn sum_evidence(bytes: &[u8]) {
    if let Ok(evidence) = SumEvidence::from_bytes(bytes) {
        assert_eq!(evidence.to_bytes(), bytes, "evidence has one encoding");
    }
}
