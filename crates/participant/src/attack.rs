//! Sites that cheat, for demonstrations and tests: what the defences have to stand.

use crate::proving::{Proven, ProvingError};
use sordino_codec::{Encoding, RingVector};
use sordino_proofs::{Claim, ClaimSpec, NormBound, Segment};
use sordino_secagg::Context;
use sordino_secagg::participant::Input;
use std::str::FromStr;

/// What a site does instead of what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Sends minus ten times its update. Where inputs are proven, with a proof of a wider bound.
    Scale10,
    /// Commits to its update and proves it, and sends minus ten times of it.
    Mismatch,
    /// Sends its update with a proof of which one byte is changed.
    Garbled,
    /// Sends its update with a proof for another round.
    Replayed,
}

impl Attack {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 4] = [
        ("scale10", Self::Scale10),
        ("mismatch", Self::Mismatch),
        ("garbled", Self::Garbled),
        ("replayed", Self::Replayed),
    ];

    /// Whether only the proof is wrong: where there is none, nothing is.
    #[must_use]
    pub fn is_on_proofs(self) -> bool {
        matches!(self, Self::Garbled | Self::Replayed)
    }

    /// What is sent instead of an honest vector where inputs carry no proof.
    pub(crate) fn unproven(self, encoding: &Encoding, vector: RingVector) -> RingVector {
        match self {
            Self::Scale10 | Self::Mismatch => scaled(encoding, &vector),
            Self::Garbled | Self::Replayed => vector,
        }
    }

    /// What is sent instead of an honest vector with its proof.
    pub(crate) fn on(self, input: &Proven<'_>, vector: RingVector) -> Result<Input, ProvingError> {
        match self {
            Self::Scale10 => {
                let vector = scaled(input.encoding, &vector);
                input.under(&wider(&input.proof.claim)?, input.context, vector)
            }
            Self::Mismatch => {
                let Input { vector, attachment } = input.honest(vector)?;
                Ok(Input { vector: scaled(input.encoding, &vector), attachment })
            }
            Self::Garbled => {
                let mut sent = input.honest(vector)?;
                if let Some(byte) = sent.attachment.as_mut().and_then(|attachment| attachment.proof.last_mut()) {
                    *byte ^= 1;
                }
                Ok(sent)
            }
            Self::Replayed => {
                let elsewhere = Context { round: input.context.round + 1, ..input.context.clone() };
                input.under(&input.proof.claim, &elsewhere, vector)
            }
        }
    }
}

impl FromStr for Attack {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, attack)| *attack).ok_or_else(|| {
            let known = Self::ALL.map(|(known, _)| known).join(", ");
            format!("there is no attack {name:?}; there are {known}")
        })
    }
}

impl std::fmt::Display for Attack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = Self::ALL.iter().find(|(_, attack)| attack == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// Minus ten times the update, in the ring; weight, metrics and what is behind them as they were.
fn scaled(encoding: &Encoding, vector: &RingVector) -> RingVector {
    let mut more: Vec<i64> = vector.iter_centered().collect();
    let (model, rest) = more.split_at_mut(encoding.spec().model_len);
    model.iter_mut().for_each(|value| *value *= FACTOR - 1);
    rest.fill(0);
    let mut scaled = vector.clone();
    // Of the same length.
    let _ = scaled.add_centered(&more);
    scaled
}

/// The same claim with a bound that minus ten times an update is within.
fn wider(claim: &Claim) -> Result<Claim, sordino_proofs::ClaimError> {
    let spec = claim.spec();
    let squared = FACTOR.unsigned_abs().pow(2);
    let wider = |segment: &Segment| {
        let NormBound { scale_bits, per_square, per_weight, constant } = segment.bound;
        // Binary places give way to the larger numbers.
        let down = scale_bits.min(7);
        let scaled = |number: u64| number.saturating_mul(squared) >> down;
        let bound = NormBound {
            scale_bits: scale_bits - down,
            per_square: scaled(per_square) + 1,
            per_weight: scaled(per_weight) + 1,
            constant: scaled(constant) + 1,
        };
        Segment { len: segment.len, bound }
    };
    Claim::new(ClaimSpec { segments: spec.segments.iter().map(wider).collect(), ..spec.clone() })
}

/// What an update is multiplied with.
const FACTOR: i64 = -10;
