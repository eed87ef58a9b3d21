//! The one transcript of the crate: what is absorbed before which challenge.
//!
//! STROBE-128 by way of Merlin: every message goes in under a label and with its length, so that no two sequences of
//! messages are one. A prover and a verifier that absorb the same things draw the same challenges.
//!
//! The order, whole:
//! 1. the protocol and its version, which stands for the curve, the generators' domain, the projections' and folds' shapes;
//!    the context; the claim (bounds, ranges, setting), from which the layout follows;
//! 2. the commitments of the rows and of the masks; **challenge:** the seed of the projections;
//! 3. the projections, the commitments of the slacks and of the range rows; **challenges:** one weight for each projection,
//!    bound, range and padded entry, and those of the range rows;
//! 4. the commitment of the ranges' share, then each argument: its cross terms, **challenge** after each fold; the
//!    commitments of its last masks, **challenge**; its answers (in the small setting: the halves of each step,
//!    **challenge** after each);
//! 5. the range proof of the slacks, which goes on with this transcript.

use curve25519_dalek::ristretto::CompressedRistretto;
use curve25519_dalek::scalar::Scalar;
use sha2::{Digest, Sha256};
use tari_merlin::Transcript as Merlin;

use crate::claim::Claim;
use crate::context::Context;

/// Version of everything that a proof is; another one verifies nothing of this.
pub const VERSION: u16 = 1;

#[derive(Clone)]
pub(crate) struct Transcript(Merlin);

/// Each label once: two messages of different meaning never share one.
macro_rules! labels {
    ($($name:ident = $label:literal;)*) => {
        /// What a message is.
        #[derive(Clone, Copy)]
        pub(crate) enum Label { $($name,)* }
        impl Label {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$name,)*];
            fn bytes(self) -> &'static [u8] {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

labels! {
    Version = b"version";
    Federation = b"federation";
    Task = b"task";
    Round = b"round";
    Attempt = b"attempt";
    Participant = b"participant";
    Policy = b"policy";
    Session = b"session";
    Claim = b"claim";
    RowCommitment = b"row commitment";
    MaskCommitment = b"mask commitment";
    ProjectionSeed = b"projection seed";
    Projection = b"projection";
    SlackCommitment = b"slack commitment";
    RangeRowCommitment = b"range row commitment";
    ProjectionWeights = b"projection weights";
    RangeWeights = b"range weights";
    BoundWeight = b"bound weight";
    PaddingWeights = b"padding weights";
    BitRowWeight = b"bit row weight";
    BitColumnWeight = b"bit column weight";
    RangeShare = b"range share";
    Argument = b"argument";
    CrossTerm = b"cross term";
    Fold = b"fold";
    LastMask = b"last mask";
    Answer = b"answer";
    AnswerScalar = b"answer scalar";
    Half = b"half";
    HalfScalar = b"half scalar";
    Step = b"step";
    End = b"end";
}

impl Transcript {
    /// Absorbs everything that a proof speaks about and does not contain.
    pub(crate) fn new(context: &Context<'_>, claim: &Claim) -> Self {
        let mut transcript = Self(Merlin::new(b"sordino/proofs/v1"));
        transcript.bytes(Label::Version, &VERSION.to_le_bytes());
        transcript.bytes(Label::Federation, context.federation.as_bytes());
        transcript.bytes(Label::Task, context.task.as_bytes());
        transcript.bytes(Label::Round, &context.round.to_le_bytes());
        transcript.bytes(Label::Attempt, &context.attempt.to_le_bytes());
        transcript.bytes(Label::Participant, context.participant);
        transcript.bytes(Label::Policy, &context.policy);
        transcript.bytes(Label::Session, &context.session);
        transcript.bytes(Label::Claim, claim.digest());
        transcript
    }

    pub(crate) fn bytes(&mut self, label: Label, bytes: &[u8]) {
        self.0.append_message(label.bytes(), bytes);
    }

    pub(crate) fn point(&mut self, label: Label, point: &CompressedRistretto) {
        self.bytes(label, point.as_bytes());
    }

    pub(crate) fn points(&mut self, label: Label, points: &[CompressedRistretto]) {
        self.0.append_u64(label.bytes(), points.len() as u64);
        for point in points {
            self.point(label, point);
        }
    }

    pub(crate) fn scalar(&mut self, label: Label, scalar: &Scalar) {
        self.bytes(label, scalar.as_bytes());
    }

    /// Many scalars as one message.
    pub(crate) fn scalars(&mut self, label: Label, scalars: &[Scalar]) {
        let mut hash = Sha256::new();
        for scalar in scalars {
            hash.update(scalar.as_bytes());
        }
        self.0.append_u64(label.bytes(), scalars.len() as u64);
        self.bytes(label, &hash.finalize());
    }

    /// Uniform modulo the group order, and not 0.
    pub(crate) fn challenge(&mut self, label: Label) -> Scalar {
        loop {
            let mut wide = [0; 64];
            self.0.challenge_bytes(label.bytes(), &mut wide);
            let scalar = Scalar::from_bytes_mod_order_wide(&wide);
            if scalar != Scalar::ZERO {
                return scalar;
            }
        }
    }

    pub(crate) fn seed(&mut self, label: Label) -> [u8; 32] {
        let mut seed = [0; 32];
        self.0.challenge_bytes(label.bytes(), &mut seed);
        seed
    }

    /// For the range proof, which goes on with it.
    pub(crate) fn into_merlin(self) -> Merlin {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Label;

    #[test]
    fn no_two_labels_are_one() {
        let mut labels: Vec<_> = Label::ALL.iter().map(|label| label.bytes()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Label::ALL.len());
    }
}
