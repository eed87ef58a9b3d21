//! The coordinator's side of one attempt: messages, ticks and a registrar's signatures in; receipts, transitions and
//! messages to fetch out. It is stored by writing down what it was told, in order, and restored by telling it again.
//!
//! A participant's bad message costs that participant its place in the step, never the others their attempt
//! ([`Rejection`]); what ends an attempt is an [`Abort`]. The sum itself is kept beside this state machine, in a
//! [`RunningSum`], because inputs are large and arrive in pieces.

mod accept;
mod committed;
mod complaints;
mod dealt;
mod errors;
mod helped;
mod openings;
mod roster;
#[cfg(test)]
mod split;
mod sum;
mod survivors;
#[cfg(test)]
mod tests;
mod unmask;

pub use errors::{Abort, Rejection};
pub use roster::UnsignedRoster;
pub use sum::{InputAdder, Payload, PayloadHasher, RunningSum, SumError};
pub use survivors::UnsignedSurvivors;

use crate::certificate_key::CertificateKey;
use crate::context::{Context, ContextDigest, ParticipantId};
use crate::disputes::Dispute;
use crate::keys::Role;
use crate::merkle::{Hash, Tree};
use crate::message::{RevealedShare, ShareKeys, Step, SurvivorSet, advertisement_digest, roster_leaf};
use crate::topology::{Graph, Topology};
use accept::CheckedInput;
use complaints::Complaints;
use dealt::Dealt;
use helped::{Helped, keep_helped};
use roster::{Member, Roster};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

/// Milliseconds on the caller's clock.
pub type Millis = u64;

/// Deadlines, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From the start to the advertised keys: covers download and training.
    pub advertise: Millis,
    /// For each later step.
    pub step: Millis,
    /// For the rest, once the quorum of a step has answered.
    pub grace: Millis,
    /// For the whole attempt.
    pub attempt: Millis,
}

/// What an attempt begins with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What it is about.
    pub context: Context,
    /// Who is invited, with the key of its certificate.
    pub cohort: BTreeMap<ParticipantId, CertificateKey>,
    /// Answers that let a step close before its deadline; in Unmasking, shares enough to open every secret.
    pub quorum: u32,
    /// Deadlines.
    pub timing: Timing,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// It counts.
    Accepted,
    /// The very same bytes were accepted before.
    Duplicate,
}

/// What there is to fetch for a participant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// Nothing yet.
    Wait,
    /// The message that opens the step.
    Message(Vec<u8>),
    /// The step is open or over, without this participant.
    Excluded,
}

enum State {
    AdvertiseKeys {
        advertised: BTreeMap<ParticipantId, Vec<u8>>,
    },
    RosterSignature {
        roster: Roster,
    },
    ShareKeys {
        signed: Signed,
        shared: BTreeMap<u32, ShareKeys>,
    },
    MaskedInput {
        signed: Signed,
        shared: BTreeMap<u32, ShareKeys>,
        inputs: BTreeMap<u32, Vec<u8>>,
        /// Whose inputs do not count because of their proofs.
        refused: BTreeSet<u32>,
        complaints: Complaints,
        helped: Helped,
    },
    SurvivorsSignature {
        sharing: Sharing,
    },
    ConsistencyCheck {
        sharing: Sharing,
        /// Of the survivor list.
        registrar_signature: [u8; 64],
        signatures: BTreeMap<u32, [u8; 64]>,
        helped: Helped,
    },
    Unmasking {
        sharing: Sharing,
        signatures: BTreeMap<u32, [u8; 64]>,
        revealed: BTreeMap<u32, Revealed>,
        helped: Helped,
    },
    Opening {
        sharing: Sharing,
        signatures: BTreeMap<u32, [u8; 64]>,
        revealed: BTreeMap<u32, Revealed>,
    },
}

/// A roster with the registrar's signature.
struct Signed {
    roster: Roster,
    registrar_signature: [u8; 64],
}

/// What stands once the survivors are known.
struct Sharing {
    signed: Signed,
    dealt: BTreeMap<u32, Dealt>,
    survivors: SurvivorSet,
    complaints: Complaints,
}

impl Sharing {
    /// Which secret of a dealer is opened.
    fn role(&self, dealer: u32) -> Role {
        if self.survivors.contains(dealer) { Role::SelfSeed } else { Role::Root }
    }

    /// A step begins in which every holder can help.
    fn nobody_answered(&self) -> Helped {
        Helped::new(&self.signed.roster, self.dealt.keys().copied())
    }

    /// The dealers whose shares this holder said to be good, ascending: those of whom it has to reveal one.
    fn opened_by(&self, holder: u32) -> impl Iterator<Item = u32> {
        let dealers = self.signed.roster.graph.neighbours(holder).into_iter();
        dealers.filter(move |dealer| self.dealt.contains_key(dealer) && !self.complaints.stands(holder, *dealer))
    }
}

/// An `Unmasking` message that was accepted.
struct Revealed {
    /// SHA-256 of the message.
    digest: Hash,
    /// Ascending by dealer.
    shares: Vec<RevealedShare>,
}

/// One attempt, at whatever step it is.
pub struct Coordinator {
    setup: Setup,
    digest: ContextDigest,
    state: State,
    started: Millis,
    opened: Millis,
    quorum_since: Option<Millis>,
}

impl Coordinator {
    /// Begins an attempt; AdvertiseKeys is open.
    #[must_use]
    pub fn new(setup: Setup, now: Millis) -> Self {
        let digest = setup.context.digest();
        let state = State::AdvertiseKeys { advertised: BTreeMap::new() };
        Self { setup, digest, state, started: now, opened: now, quorum_since: None }
    }

    /// What the attempt is about.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.setup.context
    }

    /// The step that is open; `None` between two steps and after the last.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        match self.state {
            State::AdvertiseKeys { .. } => Some(Step::AdvertiseKeys),
            State::RosterSignature { .. } | State::SurvivorsSignature { .. } | State::Opening { .. } => None,
            State::ShareKeys { .. } => Some(Step::ShareKeys),
            State::MaskedInput { .. } => Some(Step::MaskedInput),
            State::ConsistencyCheck { .. } => Some(Step::ConsistencyCheck),
            State::Unmasking { .. } => Some(Step::Unmasking),
        }
    }

    /// Takes a participant's message. `from` was authenticated by the caller; the message carries its own signature.
    ///
    /// Inputs come through [`Self::input`] instead, with the evidence that they are whole.
    ///
    /// # Errors
    /// [`Rejection`]: the message does not count, and nothing has changed.
    pub fn message(
        &mut self,
        step: Step,
        from: &ParticipantId,
        bytes: &[u8],
        now: Millis,
    ) -> Result<Receipt, Rejection> {
        let receipt = match (step, &mut self.state) {
            (Step::AdvertiseKeys, State::AdvertiseKeys { advertised }) => {
                accept::advertise_keys(&self.setup, &self.digest, advertised, from, bytes)
            }
            (Step::ShareKeys, State::ShareKeys { signed, shared }) => {
                accept::share_keys(&self.digest, &signed.roster, shared, &self.setup.context, from, bytes)
            }
            (Step::ConsistencyCheck, State::ConsistencyCheck { sharing, signatures, helped, .. }) => {
                accept::sign_survivors(&self.digest, sharing, (signatures, helped), from, bytes)
            }
            (Step::Unmasking, State::Unmasking { sharing, signatures, revealed, helped }) => {
                accept::reveal(&self.digest, sharing, signatures, (revealed, helped), from, bytes)
            }
            _ => Err(self.wrong_step(step)),
        }?;
        if receipt == Receipt::Accepted {
            self.note_quorum(now);
        }
        Ok(receipt)
    }

    /// Whether this participant's message of the step can count now, whatever it says.
    ///
    /// # Errors
    /// [`Rejection`]: another step is open, or the participant has no part in it.
    pub fn expects(&self, step: Step, from: &ParticipantId) -> Result<(), Rejection> {
        if self.step() != Some(step) {
            return Err(self.wrong_step(step));
        }
        if self.is_member(from) { Ok(()) } else { Err(Rejection::NotInStep { id: from.clone(), step }) }
    }

    /// Whether this participant's input is awaited now; its bytes, [`Self::input_len`] of them, may be taken.
    ///
    /// # Errors
    /// [`Rejection`]: another step is open, the participant is out, or its input was accepted or refused already.
    pub fn expects_input(&self, from: &ParticipantId) -> Result<(), Rejection> {
        let step = Step::MaskedInput;
        let State::MaskedInput { signed, shared, inputs, refused, .. } = &self.state else {
            return Err(self.wrong_step(step));
        };
        match signed.roster.index_of(from).filter(|index| shared.contains_key(index)) {
            None => Err(Rejection::NotInStep { id: from.clone(), step }),
            Some(index) if refused.contains(&index) => Err(Rejection::RefusedInput { id: from.clone() }),
            Some(index) if inputs.contains_key(&index) => Err(Rejection::AlreadySubmitted { step }),
            Some(_) => Ok(()),
        }
    }

    /// Checks the header of an input before its bytes are looked at, or accepted.
    ///
    /// # Errors
    /// [`Rejection`]: the input does not count, whatever its bytes are.
    pub fn check_input(&self, from: &ParticipantId, header: &[u8]) -> Result<Receipt, Rejection> {
        self.checked_input(from, header).map(|checked| checked.receipt)
    }

    /// Checks an input and its bytes, which were hashed, and takes nothing: whatever the caller then finds to be wrong with
    /// the proof in them is what this participant signed ([`Self::refuse_input`]).
    ///
    /// # Errors
    /// [`Rejection`]: what [`Self::input`] would answer.
    pub fn check_upload(&self, from: &ParticipantId, header: &[u8], payload: &Payload) -> Result<Receipt, Rejection> {
        self.checked_upload(from, header, payload).map(|checked| checked.receipt)
    }

    /// Takes an input whose bytes were hashed. The caller has added, or now adds, exactly these bytes to the sum.
    ///
    /// # Errors
    /// [`Rejection`]: the input does not count, and nothing has changed.
    pub fn input(
        &mut self,
        from: &ParticipantId,
        header: &[u8],
        payload: &Payload,
        now: Millis,
    ) -> Result<Receipt, Rejection> {
        let CheckedInput { index, receipt, decoded, opened } = self.checked_upload(from, header, payload)?;
        if receipt == Receipt::Duplicate {
            return Ok(receipt);
        }
        if let State::MaskedInput { inputs, complaints, helped, .. } = &mut self.state {
            inputs.insert(index, header.to_vec());
            complaints.note(index, decoded.complaints);
            helped.note(opened);
        }
        self.note_quorum(now);
        Ok(receipt)
    }

    fn checked_input(&self, from: &ParticipantId, header: &[u8]) -> Result<CheckedInput, Rejection> {
        let State::MaskedInput { signed, shared, inputs, refused, .. } = &self.state else {
            return Err(self.wrong_step(Step::MaskedInput));
        };
        accept::input(&self.digest, (&signed.roster, shared), (inputs, refused), self.input_len(), from, header)
    }

    fn checked_upload(
        &self,
        from: &ParticipantId,
        header: &[u8],
        payload: &Payload,
    ) -> Result<CheckedInput, Rejection> {
        let checked = self.checked_input(from, header)?;
        let decoded = &checked.decoded;
        if payload.len() != decoded.len || *payload.digest() != decoded.digest {
            return Err(Rejection::InputDigest { announced: decoded.len });
        }
        if !payload.begins_packed(&self.setup.context) {
            return Err(Rejection::InputPadding);
        }
        Ok(checked)
    }

    /// The caller has found the proof in this participant's whole, signed upload ([`Self::check_upload`]) to be bad: the
    /// participant is a dropout for the rest of the attempt. Its root will be opened, as that of everybody who never sent
    /// an input, and its self mask never: what it uploaded stays masked.
    ///
    /// To say it again changes nothing. It is among what a caller writes down and tells again.
    ///
    /// # Errors
    /// [`Rejection`]: another step is open, the participant is out, or its input was accepted, which stands.
    pub fn refuse_input(&mut self, from: &ParticipantId, now: Millis) -> Result<(), Rejection> {
        match self.expects_input(from) {
            Ok(()) => {}
            Err(Rejection::RefusedInput { .. }) => return Ok(()),
            Err(rejection) => return Err(rejection),
        }
        if let State::MaskedInput { signed, refused, .. } = &mut self.state {
            refused.extend(signed.roster.index_of(from));
        }
        // Fewer are waited for. It is no answer: a quorum is of inputs that count.
        self.note_quorum(now);
        Ok(())
    }

    /// Bytes of an input: the vector, then the proof.
    #[must_use]
    pub fn input_len(&self) -> u64 {
        self.packed_len().saturating_add(self.setup.context.proof_len() as u64)
    }

    /// Bytes of the vector in an input, at b bits per value; what is behind them is the proof.
    #[must_use]
    pub fn packed_len(&self) -> u64 {
        self.setup.context.packed_len()
    }

    /// Reads inputs of this attempt.
    #[must_use]
    pub fn hasher(&self) -> PayloadHasher {
        PayloadHasher::new(self.packed_len())
    }

    fn wrong_step(&self, got: Step) -> Rejection {
        Rejection::WrongStep { got, open: self.step().map_or("none", Step::name) }
    }

    /// When to call [`Self::tick`] next, if nothing is heard before.
    #[must_use]
    pub fn deadline(&self) -> Millis {
        let Timing { grace, attempt, .. } = self.setup.timing;
        let step = self.opened.saturating_add(self.step_limit());
        let early = self.quorum_since.map_or(Millis::MAX, |since| since.saturating_add(grace));
        step.min(early).min(self.started.saturating_add(attempt))
    }

    fn step_limit(&self) -> Millis {
        match self.state {
            State::AdvertiseKeys { .. } => self.setup.timing.advertise,
            // Between steps nobody is waited for but the registrar: only the attempt's own limit holds.
            State::RosterSignature { .. } | State::SurvivorsSignature { .. } | State::Opening { .. } => Millis::MAX,
            _ => self.setup.timing.step,
        }
    }

    /// Whether the open step is to be closed now: everybody answered, or its time has come.
    #[must_use]
    pub fn is_due(&self, now: Millis) -> bool {
        self.step().is_some() && (self.is_complete() || now >= self.deadline())
    }

    /// Whether the attempt has run out of time altogether.
    #[must_use]
    pub fn timed_out(&self, now: Millis) -> Option<Abort> {
        let limit = self.setup.timing.attempt;
        let late = now >= self.started.saturating_add(limit);
        late.then(|| Abort::TimedOut { step: self.step().unwrap_or(Step::Unmasking), millis: limit })
    }

    fn answered(&self) -> usize {
        match &self.state {
            State::AdvertiseKeys { advertised } => advertised.len(),
            State::RosterSignature { .. } | State::SurvivorsSignature { .. } | State::Opening { .. } => 0,
            State::ShareKeys { shared, .. } => shared.len(),
            State::MaskedInput { inputs, .. } => inputs.len(),
            State::ConsistencyCheck { signatures, .. } => signatures.len(),
            State::Unmasking { revealed, .. } => revealed.len(),
        }
    }

    /// Whether everybody who is expected has answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let expected = match &self.state {
            State::AdvertiseKeys { .. } => self.setup.cohort.len(),
            State::RosterSignature { .. } | State::SurvivorsSignature { .. } | State::Opening { .. } => return false,
            State::ShareKeys { signed, .. } => signed.roster.members.len(),
            State::MaskedInput { shared, refused, .. } => shared.len() - refused.len(),
            State::ConsistencyCheck { sharing, .. } => sharing.survivors.len() as usize,
            State::Unmasking { signatures, .. } => signatures.len(),
        };
        self.answered() == expected
    }

    fn note_quorum(&mut self, now: Millis) {
        if self.quorum_since.is_some() {
            return;
        }
        let enough = self.answered() >= self.setup.quorum as usize;
        let reached = match &self.state {
            // Once every secret can be opened, more shares change nothing.
            State::Unmasking { helped, .. } => helped.is_complete(),
            // Whom too few neighbours would help to open costs the attempt: it is worth waiting for the rest.
            State::MaskedInput { helped, .. } | State::ConsistencyCheck { helped, .. } => {
                enough && helped.is_complete()
            }
            _ => enough,
        };
        if reached {
            self.quorum_since = Some(now);
        }
    }

    /// Closes the open step: whoever has not answered is a dropout. What the caller stores of it is that the step was
    /// closed, since all else follows from the messages before.
    ///
    /// # Errors
    /// [`Abort`]: the attempt is over.
    pub fn close(mut self, now: Millis) -> Result<Self, Abort> {
        let max_corrupt = self.setup.context.faults.corrupt;
        self.state = match self.state {
            State::AdvertiseKeys { advertised } => close_advertise_keys(&self.setup, &self.digest, advertised)?,
            State::ShareKeys { signed, mut shared } => {
                enough(Step::ShareKeys, shared.len(), self.setup.context.min_survivors)?;
                keep_helped(&signed.roster.graph, &mut shared);
                enough(Step::ShareKeys, shared.len(), self.setup.context.min_survivors)?;
                let helped = Helped::new(&signed.roster, shared.keys().copied());
                let (inputs, refused, complaints) = (BTreeMap::new(), BTreeSet::new(), Complaints::default());
                State::MaskedInput { signed, shared, inputs, refused, complaints, helped }
            }
            State::MaskedInput { signed, shared, inputs, complaints, helped, .. } => {
                enough(Step::MaskedInput, inputs.len(), self.setup.context.min_survivors)?;
                helped.check(&signed.roster, max_corrupt, &complaints, |holder| inputs.contains_key(&holder))?;
                let survivors = SurvivorSet::new(signed.roster.len(), inputs.into_keys());
                let dealt = shared.into_iter().map(|(dealer, shared)| (dealer, Dealt::of(&shared))).collect();
                State::SurvivorsSignature { sharing: Sharing { signed, dealt, survivors, complaints } }
            }
            State::ConsistencyCheck { sharing, signatures, helped, .. } => {
                let roster = &sharing.signed.roster;
                enough(Step::ConsistencyCheck, signatures.len(), roster.graph.topology().t)?;
                helped.check(roster, max_corrupt, &sharing.complaints, |holder| signatures.contains_key(&holder))?;
                let helped = sharing.nobody_answered();
                State::Unmasking { sharing, signatures, revealed: BTreeMap::new(), helped }
            }
            State::Unmasking { sharing, signatures, revealed, helped } => {
                let (roster, complaints) = (&sharing.signed.roster, &sharing.complaints);
                helped.check(roster, max_corrupt, complaints, |holder| revealed.contains_key(&holder))?;
                State::Opening { sharing, signatures, revealed }
            }
            between @ (State::RosterSignature { .. } | State::SurvivorsSignature { .. } | State::Opening { .. }) => {
                between
            }
        };
        self.opened = now;
        self.quorum_since = None;
        Ok(self)
    }

    /// Whether a signature of the registrar is what the attempt waits for: of the roster, or of the survivor list.
    #[must_use]
    pub fn awaits_registrar(&self) -> bool {
        matches!(self.state, State::RosterSignature { .. } | State::SurvivorsSignature { .. })
    }

    /// The roster that the registrar is asked to sign; `None` at any other time.
    #[must_use]
    pub fn roster_to_sign(&self) -> Option<UnsignedRoster> {
        let State::RosterSignature { roster } = &self.state else { return None };
        let members = roster.members.iter().map(|member| (member.id.clone(), member.advertisement.clone())).collect();
        Some(UnsignedRoster { context: self.digest, members })
    }

    /// Takes the registrar's signature of the roster; ShareKeys is open.
    #[must_use]
    pub fn roster_signed(mut self, registrar_signature: [u8; 64], now: Millis) -> Self {
        if let State::RosterSignature { roster } = self.state {
            self.state = State::ShareKeys { signed: Signed { roster, registrar_signature }, shared: BTreeMap::new() };
            self.opened = now;
            self.quorum_since = None;
        }
        self
    }

    /// The survivor list that the registrar is asked to sign; `None` at any other time.
    #[must_use]
    pub fn survivors_to_sign(&self) -> Option<UnsignedSurvivors> {
        let State::SurvivorsSignature { sharing: Sharing { signed, survivors, .. } } = &self.state else { return None };
        let (roster_root, survivors) = (signed.roster.tree.root(), survivors.clone());
        Some(UnsignedSurvivors { context: self.digest, roster_root, survivors })
    }

    /// Takes the registrar's signature of the survivor list; ConsistencyCheck is open.
    #[must_use]
    pub fn survivors_signed(mut self, registrar_signature: [u8; 64], now: Millis) -> Self {
        if let State::SurvivorsSignature { sharing } = self.state {
            let helped = sharing.nobody_answered();
            self.state = State::ConsistencyCheck { sharing, registrar_signature, signatures: BTreeMap::new(), helped };
            self.opened = now;
            self.quorum_since = None;
        }
        self
    }

    /// Starts all deadlines anew, after a restart: participants could not reach a coordinator that was not there.
    pub fn resume(&mut self, now: Millis) {
        self.started = now;
        self.opened = now;
        self.quorum_since = None;
        self.note_quorum(now);
    }

    /// The message that opens `step` for a participant.
    #[must_use]
    pub fn outgoing(&self, step: Step, to: &ParticipantId) -> Outgoing {
        let open = match &self.state {
            State::RosterSignature { .. } => Step::AdvertiseKeys,
            State::SurvivorsSignature { .. } => Step::MaskedInput,
            State::Opening { .. } => return Outgoing::Excluded,
            _ => self.step().unwrap_or(Step::AdvertiseKeys),
        };
        if open > step {
            return Outgoing::Excluded;
        }
        if open < step {
            return if self.is_member(to) { Outgoing::Wait } else { Outgoing::Excluded };
        }
        self.opening(to).map_or(Outgoing::Excluded, Outgoing::Message)
    }

    /// Whether the participant can still have a part in what comes: it was not left out at a step before.
    fn is_member(&self, id: &ParticipantId) -> bool {
        let index = |signed: &Signed| signed.roster.index_of(id);
        match &self.state {
            State::AdvertiseKeys { .. } => self.setup.cohort.contains_key(id),
            State::RosterSignature { roster } => roster.index_of(id).is_some(),
            State::ShareKeys { signed, .. } => index(signed).is_some(),
            State::MaskedInput { signed, shared, refused, .. } => {
                index(signed).is_some_and(|at| shared.contains_key(&at) && !refused.contains(&at))
            }
            State::SurvivorsSignature { sharing } | State::ConsistencyCheck { sharing, .. } => {
                index(&sharing.signed).is_some_and(|at| sharing.survivors.contains(at))
            }
            State::Unmasking { sharing, signatures, .. } => {
                index(&sharing.signed).is_some_and(|at| signatures.contains_key(&at))
            }
            State::Opening { .. } => false,
        }
    }

    /// Names of the survivors, once they are known.
    #[must_use]
    pub fn survivors(&self) -> Option<Vec<ParticipantId>> {
        match &self.state {
            State::SurvivorsSignature { sharing }
            | State::ConsistencyCheck { sharing, .. }
            | State::Unmasking { sharing, .. }
            | State::Opening { sharing, .. } => {
                let roster = &sharing.signed.roster;
                Some(sharing.survivors.iter().map(|index| roster.member(index).id.clone()).collect())
            }
            _ => None,
        }
    }

    /// Who says of whom, in the inputs accepted so far, that shares do not open, ascending; of those whose input counts at
    /// the end of an attempt, too. One side of each lies: a caller keeps them ([`crate::Disputes`]) and never
    /// puts both sides into one cohort again. It asks before it closes a step, since an attempt that ends tells no more.
    #[must_use]
    pub fn disputes(&self) -> Vec<Dispute> {
        match &self.state {
            State::AdvertiseKeys { .. } | State::RosterSignature { .. } | State::ShareKeys { .. } => Vec::new(),
            State::MaskedInput { signed, complaints, .. } => complaints.disputes(&signed.roster),
            State::SurvivorsSignature { sharing }
            | State::ConsistencyCheck { sharing, .. }
            | State::Unmasking { sharing, .. }
            | State::Opening { sharing, .. } => sharing.complaints.disputes(&sharing.signed.roster),
        }
    }

    /// Whether Unmasking was opened: shares may have been revealed, and the sum counts against what participants are
    /// willing to reveal, however the attempt ends.
    #[must_use]
    pub fn reveals(&self) -> bool {
        matches!(self.state, State::Unmasking { .. } | State::Opening { .. })
    }

    /// Whether the masks can be taken off the sum now.
    #[must_use]
    pub fn is_opening(&self) -> bool {
        matches!(self.state, State::Opening { .. })
    }

    /// Takes all masks off the sum of the survivors' inputs.
    ///
    /// # Errors
    /// [`Abort`]: a secret does not fit what its owner advertised, the sum holds other inputs than the survivors', or
    /// it is not yet time ([`Self::is_opening`]).
    pub fn open(&self, sum: RunningSum) -> Result<sordino_codec::RingVector, Abort> {
        self.open_on(NonZeroUsize::MIN, sum)
    }

    /// As [`Self::open`], on so many threads; their number does not change the bits.
    ///
    /// # Errors
    /// [`Abort`], the same.
    pub fn open_on(&self, threads: NonZeroUsize, sum: RunningSum) -> Result<sordino_codec::RingVector, Abort> {
        let State::Opening { sharing, revealed, .. } = &self.state else { return Err(Abort::TooEarly) };
        unmask::open(&self.setup.context, &self.digest, sharing, revealed, sum, threads)
    }
}

fn enough(step: Step, answered: usize, needed: u32) -> Result<(), Abort> {
    let answered = u32::try_from(answered).unwrap_or(u32::MAX);
    if answered >= needed { Ok(()) } else { Err(Abort::TooFew { step, answered, needed }) }
}

fn close_advertise_keys(
    setup: &Setup,
    context: &ContextDigest,
    advertised: BTreeMap<ParticipantId, Vec<u8>>,
) -> Result<State, Abort> {
    enough(Step::AdvertiseKeys, advertised.len(), setup.context.min_survivors)?;
    let n = u32::try_from(advertised.len()).expect("the cohort is bounded");
    let topology = Topology::derive(n, &setup.context.faults)?;
    let members: Vec<Member> = advertised
        .into_iter()
        .map(|(id, advertisement)| Member {
            key: setup.cohort[&id],
            id,
            advertised: advertisement_digest(&advertisement),
            advertisement,
        })
        .collect();
    let tree = Tree::new(members.iter().map(|member| roster_leaf(&member.id, &member.advertised)).collect());
    let graph = Graph::new(topology, context, &tree.root());
    Ok(State::RosterSignature { roster: Roster { members, tree, graph } })
}
