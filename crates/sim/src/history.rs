//! What an all-seeing observer has written down: all that invariants look at.

use crate::knowledge::Knowledge;
use sordino_codec::RingVector;
use sordino_forge::Unmasking;
use sordino_secagg::coordinator::Millis;
use sordino_secagg::{Dispute, ParticipantId, Step};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that was observed so far.
#[derive(Default)]
pub struct History {
    /// The virtual time.
    pub now: Millis,
    /// Fewest inputs that a sum may hold, by the policy.
    pub min_survivors: u32,
    /// Every participant's input.
    pub inputs: BTreeMap<ParticipantId, RingVector>,
    /// All different messages that a participant sent, ever; of an upload, header and bytes. By attempt and step.
    pub said: BTreeMap<(ParticipantId, u32, Step), BTreeSet<Vec<u8>>>,
    /// Which secrets of a dealer a holder revealed a share of: holder, attempt, dealer's place in the roster.
    pub revealed: BTreeMap<(ParticipantId, u32, u32), BTreeSet<u8>>,
    /// Where the coordinator stood, each time it was somewhere else than before.
    pub positions: Vec<(u32, Position)>,
    /// All different survivor lists that the coordinator held, by attempt.
    pub survivors: BTreeMap<u32, BTreeSet<Vec<ParticipantId>>>,
    /// Sums that left the coordinator.
    pub releases: Vec<Release>,
    /// Messages for which a receipt left the coordinator: attempt, sender, step.
    pub receipted: BTreeSet<(u32, ParticipantId, Step)>,
    /// What the coordinator that runs knows: the attempt, and the last step it heard each participant in.
    pub heard: Option<(u32, BTreeMap<ParticipantId, Option<Step>>)>,
    /// What a restarted coordinator did not understand of its own journal.
    pub complaints: Vec<String>,
    /// The last message that did not count.
    pub refused: Option<Refused>,
    /// The attempt that is open, while the coordinator runs: its number, and the time by which it has to end.
    pub open_attempt: Option<(u32, Millis)>,
    /// Attempts that have begun, and those that have ended.
    pub began: BTreeSet<u32>,
    /// Attempts that have ended.
    pub ended: BTreeSet<u32>,
    /// Whether inputs carry proofs.
    pub proves: bool,
    /// Participants that an attempt's end was blamed on, or whose proofs were found to be bad.
    pub blamed: BTreeSet<ParticipantId>,
    /// Participants that may be corrupt, by the policy.
    pub max_corrupt: u32,
    /// Who disputed whose shares in attempts that have ended, and whether one ended over that.
    pub disputes: BTreeMap<u32, (Vec<Dispute>, bool)>,
    /// Whether messages to participants arrive as an honest coordinator sent them, if they do.
    pub arrives_whole: bool,
    /// What coordinator and corrupt participants know.
    pub knowledge: Knowledge,
    /// Whether the coordinator begins a round again after it has a sum.
    pub reruns: bool,
    /// Lies that were not answered as they should be: believed, or refused for another reason.
    pub surprises: Vec<String>,
    /// Whether nothing is left that could happen.
    pub is_over: bool,
}

/// Where a coordinator stands in an attempt, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Position {
    /// AdvertiseKeys is open.
    AdvertiseKeys,
    /// The registrar is asked for its word on the roster.
    RosterSignature,
    /// ShareKeys is open.
    ShareKeys,
    /// MaskedInput is open.
    MaskedInput,
    /// The registrar is asked for its word on the survivors.
    SurvivorsSignature,
    /// ConsistencyCheck is open.
    ConsistencyCheck,
    /// Unmasking is open.
    Unmasking,
    /// The sum can be opened.
    Opening,
    /// The attempt is over.
    Ended,
}

/// A sum that left the coordinator.
#[derive(Debug, Clone)]
pub struct Release {
    /// Of which attempt.
    pub attempt: u32,
    /// Whose inputs it is said to hold.
    pub survivors: Vec<ParticipantId>,
    /// The sum.
    pub sum: RingVector,
}

/// Everything about a coordinator that a message could change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Where it stands.
    pub position: Position,
    /// When it acts on its own.
    pub deadline: Millis,
    /// Whom it heard.
    pub heard: BTreeMap<ParticipantId, Option<Step>>,
    /// Whose inputs are in its sum.
    pub included: BTreeSet<ParticipantId>,
    /// Entries of its journal.
    pub journal: usize,
}

/// A message that did not count, or was a repetition, and the coordinator around it.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Who sent it.
    pub from: ParticipantId,
    /// Before it came.
    pub before: Moved,
    /// After it was answered.
    pub after: Moved,
}

impl History {
    /// A participant has handed a message to the network.
    pub fn says(&mut self, from: &ParticipantId, attempt: u32, step: Step, bytes: Vec<u8>) {
        if step == Step::Unmasking {
            for share in Unmasking::parse(&bytes).map(|message| message.shares).unwrap_or_default() {
                self.revealed.entry((from.clone(), attempt, share.dealer)).or_default().insert(share.role);
            }
        }
        self.said.entry((from.clone(), attempt, step)).or_default().insert(bytes);
    }

    /// The coordinator was seen somewhere.
    pub fn stands(&mut self, attempt: u32, position: Position) {
        if self.positions.last() != Some(&(attempt, position)) {
            self.positions.push((attempt, position));
        }
    }
}
