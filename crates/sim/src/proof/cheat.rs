//! What corrupt participants prove instead of their inputs.

use super::{Proven, Proving};
use crate::dice::Dice;
use sordino_codec::RingVector;
use sordino_proofs::{Claim, ClaimSpec, NormBound, Segment};
use sordino_secagg::{Context, ParticipantId};

/// What is wrong with an input or its proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cheat {
    /// One bit of the proof is flipped: this one, counted around its length.
    Garbled {
        /// Which one.
        bit: u64,
    },
    /// The input is minus ten times what it should be, with a good proof of a bound that is wide enough for it.
    Wider,
    /// Commitments, proof and input of an earlier attempt; in the first one, a proof for one that never comes.
    Replayed,
    /// Commitments and proof of another participant that has made its own already; else a proof in another's name.
    Borrowed,
    /// Commits to its input and proves it, and masks another one: no proof shows that.
    Mismatch(Mismatch),
}

/// How what is masked differs from what was committed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// The model is minus ten times what was proven.
    Scaled,
    /// One element, of the integers or of the blindings behind them, differs by 1.
    Element {
        /// Which one, counted around the vector.
        at: u64,
        /// Whether it is 1 more, or 1 less.
        up: bool,
    },
}

impl Cheat {
    /// One of them.
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        match dice.index(6) {
            0 => Self::Garbled { bit: dice.between(0, u64::MAX - 1) },
            1 => Self::Wider,
            2 => Self::Replayed,
            3 => Self::Borrowed,
            4 => Self::Mismatch(Mismatch::Scaled),
            _ => Self::Mismatch(Mismatch::Element { at: dice.between(0, u64::MAX - 1), up: dice.index(2) == 0 }),
        }
    }

    /// Two whose mismatches cancel, as long as both are survivors.
    pub(crate) fn draw_pair(dice: &mut Dice) -> [Self; 2] {
        let at = dice.between(0, u64::MAX - 1);
        [true, false].map(|up| Self::Mismatch(Mismatch::Element { at, up }))
    }

    /// Whether the proof is good all the same.
    #[must_use]
    pub const fn passes_at_the_door(self) -> bool {
        matches!(self, Self::Mismatch(_))
    }

    /// For the books.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Garbled { .. } => "garbled",
            Self::Wider => "wider",
            Self::Replayed => "replayed",
            Self::Borrowed => "borrowed",
            Self::Mismatch(_) => "mismatch",
        }
    }
}

/// Everything that a participant proves with.
pub(crate) struct Prover<'a> {
    pub(crate) proving: &'a Proving,
    pub(crate) context: &'a Context,
    pub(crate) id: &'a ParticipantId,
    /// An attempt that never comes: a proof for one that does is good there when it is replayed.
    pub(crate) never: &'a Context,
    /// Somebody else.
    pub(crate) other: &'a ParticipantId,
    /// What it made in an earlier attempt.
    pub(crate) earlier: Option<&'a Proven>,
    /// What another participant made in this one.
    pub(crate) others: Option<&'a Proven>,
}

impl Prover<'_> {
    /// Proves an input, or does what is done instead.
    pub(crate) fn prove(&self, input: &RingVector, cheat: Option<Cheat>, dice: &mut Dice) -> Proven {
        let Self { proving, context, id, .. } = *self;
        let claim = &proving.proof.claim;
        let mut under = |claim: &Claim, context: &Context, id: &ParticipantId, input: &RingVector| {
            let (attachment, committed) = proving.prove(claim, (context, id), input, dice);
            Proven { attachment, sent: committed.clone(), committed, cheat }
        };
        match (cheat, self.earlier, self.others) {
            (None, ..) => under(claim, context, id, input),
            (Some(Cheat::Garbled { bit }), ..) => {
                let mut proven = under(claim, context, id, input);
                let proof = &mut proven.attachment.proof;
                let at = around(bit, proof.len() * 8);
                proof[at / 8] ^= 1 << (at % 8);
                proven
            }
            (Some(Cheat::Wider), ..) => under(&wider(claim), context, id, &scaled(proving, input)),
            (Some(Cheat::Replayed), Some(earlier), _) => Proven { cheat, ..earlier.clone() },
            (Some(Cheat::Replayed), None, _) => under(claim, self.never, id, input),
            (Some(Cheat::Borrowed), _, Some(others)) => Proven { cheat, sent: input.clone(), ..others.clone() },
            (Some(Cheat::Borrowed), _, None) => under(claim, context, self.other, input),
            (Some(Cheat::Mismatch(how)), ..) => {
                let proven = under(claim, context, id, input);
                Proven { sent: how.changed(proving, &proven.committed), ..proven }
            }
        }
    }
}

impl Mismatch {
    fn changed(self, proving: &Proving, vector: &RingVector) -> RingVector {
        match self {
            Self::Scaled => scaled(proving, vector),
            Self::Element { at, up } => {
                let mut differences = vec![0; vector.len()];
                differences[around(at, vector.len())] = if up { 1 } else { -1 };
                added(vector, &differences)
            }
        }
    }
}

/// An index from any number.
fn around(number: u64, len: usize) -> usize {
    usize::try_from(number % len as u64).unwrap_or(0)
}

/// Minus ten times the model, in the ring; what is behind it as it was.
fn scaled(proving: &Proving, vector: &RingVector) -> RingVector {
    let mut differences: Vec<i64> = vector.iter_centered().map(|value| value * (FACTOR - 1)).collect();
    differences[proving.encoding.spec().model_len..].fill(0);
    added(vector, &differences)
}

fn added(vector: &RingVector, differences: &[i64]) -> RingVector {
    let mut sum = vector.clone();
    sum.add_centered(differences).expect("as many as there are elements");
    sum
}

/// The same claim with a bound that minus ten times an input is within.
fn wider(claim: &Claim) -> Claim {
    let spec = claim.spec();
    let squared = FACTOR.unsigned_abs().pow(2);
    let wider = |segment: &Segment| {
        let NormBound { scale_bits, per_square, per_weight, constant } = segment.bound;
        // Binary places give way to the larger numbers.
        let down = scale_bits.min(7);
        let times = |number: u64| (number.saturating_mul(squared) >> down) + 1;
        let (per_square, per_weight) =
            (if per_square == 0 { 0 } else { times(per_square) }, if per_weight == 0 { 0 } else { times(per_weight) });
        let bound = NormBound { scale_bits: scale_bits - down, per_square, per_weight, constant: times(constant) };
        Segment { len: segment.len, bound }
    };
    let spec = ClaimSpec { segments: spec.segments.iter().map(wider).collect(), ..spec.clone() };
    Claim::new(spec).expect("a hundred times a bound of 20 bits of precision is one")
}

/// What an update is multiplied with.
const FACTOR: i64 = -10;
