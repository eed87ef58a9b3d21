//! What travels between the nodes of a world.

use crate::dice::Dice;
use sordino_secagg::Step;
use sordino_secagg::coordinator::{Outgoing, Receipt, Rejection};

/// From a participant to the coordinator.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    /// A message of the protocol.
    Say { step: Step, bytes: Vec<u8> },
    /// A masked input, with its header.
    Upload { header: Vec<u8>, bytes: Vec<u8> },
    /// Is there anything that opens this step for me?
    Ask { attempt: u32, step: Step },
}

impl Request {
    pub(crate) fn step(&self) -> Step {
        match self {
            Self::Say { step, .. } | Self::Ask { step, .. } => *step,
            Self::Upload { .. } => Step::MaskedInput,
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Say { .. } => "says",
            Self::Upload { .. } => "uploads",
            Self::Ask { .. } => "asks for",
        }
    }

    /// Changes its bytes; `false` if it has none.
    pub(crate) fn corrupt(&mut self, dice: &mut Dice) -> bool {
        match self {
            Self::Say { bytes, .. } => corrupt(bytes, dice),
            Self::Upload { header, bytes } => {
                let which = if dice.index(2) == 0 { header } else { bytes };
                corrupt(which, dice);
            }
            Self::Ask { .. } => return false,
        }
        true
    }
}

/// From the coordinator to a participant.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    /// The attempt that runs.
    pub(crate) attempt: u32,
    pub(crate) answer: Answer,
}

#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// What became of a message.
    Receipt { step: Step, outcome: Result<Receipt, Rejection> },
    /// What opens a step.
    Opening { step: Step, outgoing: Outgoing },
    /// The question is about another attempt than the one that runs.
    OtherAttempt,
    /// The round is over.
    Over,
}

impl Reply {
    /// Changes its bytes; `false` if it has none.
    pub(crate) fn corrupt(&mut self, dice: &mut Dice) -> bool {
        let Answer::Opening { outgoing: Outgoing::Message(bytes), .. } = &mut self.answer else { return false };
        corrupt(bytes, dice);
        true
    }
}

/// Flips a bit, cuts the end off, appends a byte, or overwrites a run.
fn corrupt(bytes: &mut Vec<u8>, dice: &mut Dice) {
    if bytes.is_empty() {
        bytes.push(0);
        return;
    }
    let at = dice.index(bytes.len());
    match dice.between(0, 9) {
        0 => bytes.truncate(at),
        1 => bytes.push(0),
        2 => {
            let noise = dice.bytes();
            bytes[at..].iter_mut().zip(noise).for_each(|(byte, noise)| *byte ^= noise | 1);
        }
        _ => bytes[at] ^= 1 << dice.index(8),
    }
}
