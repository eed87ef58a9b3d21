//! What an all-seeing observer has written down: all that invariants look at.

use crate::knowledge::Knowledge;
use crate::proof::{POINT, Proven};
use sordino_codec::RingVector;
use sordino_forge::{ShareKeys, Unmasking};
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
    /// What there is to know about proofs, where inputs carry them.
    pub proofs: Option<Proofs>,
    /// Sums that were compared with what their survivors committed to, each time.
    pub checks: Vec<Check>,
    /// Who was told that its proof is bad, and in which attempt.
    pub refused_inputs: BTreeSet<(u32, ParticipantId)>,
    /// An attempt, and those whose proofs the coordinator knows to be bad in it.
    pub named: (u32, BTreeSet<ParticipantId>),
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

/// What participants proved, and to whom it can be laid.
#[derive(Debug, Default)]
pub struct Proofs {
    /// Elements of a vector that are integers; behind them are blindings.
    pub integers: usize,
    /// What participants stored, by name and attempt; more than one thing only where something is broken.
    made: BTreeMap<(ParticipantId, u32), Vec<Proven>>,
    /// What they said to be their commitments.
    committed: BTreeMap<(ParticipantId, u32), BTreeSet<Vec<u8>>>,
    /// Whose proof is good and of the commitments that it sent, in which attempt; with what it made.
    good: BTreeMap<(ParticipantId, u32), Proven>,
    /// Who has committed with a point.
    points: BTreeMap<[u8; POINT], (ParticipantId, u32)>,
    /// Somebody honest that committed twice in an attempt, or with a point of another attempt.
    pub repeated: Option<String>,
    /// Who stands where in the roster of an attempt, by those who are sure of it.
    pub places: BTreeMap<(u32, u32), ParticipantId>,
}

/// A sum that was compared with what its survivors committed to.
#[derive(Debug, Clone)]
pub struct Check {
    /// Of which attempt.
    pub attempt: u32,
    /// Whose inputs it holds.
    pub survivors: Vec<ParticipantId>,
    /// Whether it was found to be their sum.
    pub opens: bool,
}

impl Proofs {
    /// Of vectors with so many integers.
    pub(crate) fn of(integers: usize) -> Self {
        Self { integers, ..Self::default() }
    }

    /// A participant has stored what it is about to say.
    pub(crate) fn makes(&mut self, id: &ParticipantId, attempt: u32, proven: &Proven, is_honest: bool) {
        let made = self.made.entry((id.clone(), attempt)).or_default();
        if is_honest {
            let before = made.iter().any(|before| before.attachment.commitments != proven.attachment.commitments);
            let again = before.then(|| format!("{id} committed to two inputs in attempt {attempt}"));
            let points = proven.points().filter_map(|point| self.points.insert(point, (id.clone(), attempt)));
            let point = points.last().map(|(whose, when)| {
                format!("{id} commits in attempt {attempt} with a point of {whose} in attempt {when}")
            });
            self.repeated = self.repeated.take().or(again).or(point);
        }
        made.push(proven.clone());
    }

    /// A participant has handed a message to the network.
    fn hears(&mut self, from: &ParticipantId, attempt: u32, step: Step, bytes: &[u8]) {
        let key = (from.clone(), attempt);
        match step {
            Step::ShareKeys => {
                let commitments = ShareKeys::parse(bytes).map(|message| message.commitments);
                self.committed.entry(key).or_default().extend(commitments);
            }
            Step::MaskedInput => {
                let committed = self.committed.get(&key);
                let is_sent = |made: &&Proven| {
                    let is_committed = committed.is_some_and(|all| all.contains(&made.attachment.commitments));
                    made.is_good() && is_committed && bytes.ends_with(&made.attachment.proof)
                };
                if let Some(made) = self.made.get(&key).into_iter().flatten().find(is_sent) {
                    self.good.insert(key, made.clone());
                }
            }
            Step::AdvertiseKeys | Step::ConsistencyCheck | Step::Unmasking => {}
        }
    }

    /// What is wrong with a participant's proof, for the books.
    pub(crate) fn what_is_wrong(&self, id: &ParticipantId, attempt: u32) -> &'static str {
        let key = (id.clone(), attempt);
        let said = self.committed.get(&key);
        match self.made.get(&key).and_then(|made| made.last()) {
            Some(made) if said.is_none_or(|said| !said.contains(&made.attachment.commitments)) => "other commitments",
            Some(Proven { cheat: Some(cheat), .. }) => cheat.name(),
            _ => "nothing",
        }
    }

    /// What a participant committed to in an attempt, proved, and sent; `None` if it did something else.
    #[must_use]
    pub fn good(&self, id: &ParticipantId, attempt: u32) -> Option<&Proven> {
        self.good.get(&(id.clone(), attempt))
    }
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
        if let Some(proofs) = &mut self.proofs {
            proofs.hears(from, attempt, step, &bytes);
        }
        self.said.entry((from.clone(), attempt, step)).or_default().insert(bytes);
    }

    /// What a participant made in an attempt.
    pub(crate) fn proven(&self, id: &ParticipantId, attempt: u32) -> impl Iterator<Item = &Proven> {
        self.proofs.iter().filter_map(move |proofs| proofs.made.get(&(id.clone(), attempt))).flatten()
    }

    /// What others made in an attempt.
    pub(crate) fn proven_by_others(&self, id: &ParticipantId, attempt: u32) -> impl Iterator<Item = &Proven> {
        let made = self.proofs.iter().flat_map(|proofs| &proofs.made);
        made.filter(move |((whose, when), _)| whose != id && *when == attempt).flat_map(|(_, made)| made)
    }

    /// The coordinator was seen somewhere.
    pub fn stands(&mut self, attempt: u32, position: Position) {
        if self.positions.last() != Some(&(attempt, position)) {
            self.positions.push((attempt, position));
        }
    }
}
