//! The coordinator's side of one attempt: messages, ticks and a registrar's signature in; receipts, transitions and
//! messages to fetch out. It is stored by writing down what it was told, in order, and restored by telling it again.
//!
//! A participant's bad message costs that participant its place in the step, never the others their attempt
//! ([`Rejection`]); what ends an attempt is an [`Abort`]. The sum itself is kept beside this state machine, in a
//! [`RunningSum`], because inputs are large and arrive in pieces.

mod errors;
mod roster;
mod sum;
#[cfg(test)]
mod tests;
mod unmask;

pub use errors::{Abort, Rejection};
pub use roster::UnsignedRoster;
pub use sum::{InputAdder, Payload, PayloadHasher, RunningSum, SumError};

use crate::context::{Context, ContextDigest, ParticipantId};
use crate::keys::{Encapsulation, Role, ShareCommitments};
use crate::merkle::{Hash, Tree};
use crate::message::{
    AdvertiseKeys, AnnouncedNeighbour, ConsistencySignature, DeliveredShares, MaskedInput, RevealedShare,
    RosterAnnouncement, ShareKeys, SignatureList, Step, SurvivorList, SurvivorSet, Unmasking, advertisement_digest,
    dealers_digest, roster_leaf, survivors_statement, verify, verify_message,
};
use crate::topology::{Graph, Topology};
use ed25519_dalek::VerifyingKey;
use roster::{Member, Roster};
use sha2::{Digest as _, Sha256};
use sordino_codec::packed_len;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use unmask::Openable;

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
    pub cohort: BTreeMap<ParticipantId, VerifyingKey>,
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

/// What is left of a `ShareKeys` message once nobody can fetch sealed shares any more: what opened secrets and shares
/// are checked against.
struct Dealt {
    self_seed_commitment: Hash,
    /// Ascending by holder.
    to: Vec<DealtTo>,
}

struct DealtTo {
    holder: u32,
    commitments: ShareCommitments,
    mask_encapsulation: Option<Box<Encapsulation>>,
}

impl Dealt {
    fn of(shared: &ShareKeys) -> Self {
        let to = shared.sealed().map(|sealed| DealtTo {
            holder: sealed.holder,
            commitments: sealed.commitments,
            mask_encapsulation: sealed.mask_encapsulation.map(|encapsulation| Box::new(*encapsulation)),
        });
        Self { self_seed_commitment: shared.self_seed_commitment, to: to.collect() }
    }

    fn to(&self, holder: u32) -> Option<&DealtTo> {
        let at = self.to.binary_search_by_key(&holder, |dealt| dealt.holder).ok()?;
        self.to.get(at)
    }
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
    },
    ConsistencyCheck {
        sharing: Sharing,
        signatures: BTreeMap<u32, [u8; 64]>,
    },
    Unmasking {
        sharing: Sharing,
        signatures: BTreeMap<u32, [u8; 64]>,
        revealed: BTreeMap<u32, Revealed>,
        open: Openable,
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
}

impl Sharing {
    /// Which secret of a dealer is opened.
    fn role(&self, dealer: u32) -> Role {
        if self.survivors.contains(dealer) { Role::SelfSeed } else { Role::Root }
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
            State::RosterSignature { .. } | State::Opening { .. } => None,
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
                advertise_keys(&self.setup, &self.digest, advertised, from, bytes)
            }
            (Step::ShareKeys, State::ShareKeys { signed, shared }) => {
                share_keys(&self.digest, &signed.roster, shared, self.setup.context.pq, from, bytes)
            }
            (Step::ConsistencyCheck, State::ConsistencyCheck { sharing, signatures }) => {
                sign_survivors(&self.digest, sharing, signatures, from, bytes)
            }
            (Step::Unmasking, State::Unmasking { sharing, signatures, revealed, open }) => {
                reveal(&self.digest, sharing, signatures, (revealed, open), from, bytes)
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
    /// [`Rejection`]: another step is open, the participant is out, or its input was accepted already.
    pub fn expects_input(&self, from: &ParticipantId) -> Result<(), Rejection> {
        let step = Step::MaskedInput;
        let State::MaskedInput { signed, shared, inputs } = &self.state else { return Err(self.wrong_step(step)) };
        match signed.roster.index_of(from).filter(|index| shared.contains_key(index)) {
            None => Err(Rejection::NotInStep { id: from.clone(), step }),
            Some(index) if inputs.contains_key(&index) => Err(Rejection::AlreadySubmitted { step }),
            Some(_) => Ok(()),
        }
    }

    /// Checks the header of an input before its bytes are looked at, or accepted.
    ///
    /// # Errors
    /// [`Rejection`]: the input does not count, whatever its bytes are.
    pub fn check_input(&self, from: &ParticipantId, header: &[u8]) -> Result<Receipt, Rejection> {
        self.checked_input(from, header).map(|(_, receipt, _)| receipt)
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
        let (index, receipt, decoded) = self.checked_input(from, header)?;
        if payload.len() != decoded.len || *payload.digest() != decoded.digest {
            return Err(Rejection::InputDigest { announced: decoded.len });
        }
        if !payload.is_packed(&self.setup.context) {
            return Err(Rejection::InputPadding);
        }
        if let State::MaskedInput { inputs, .. } = &mut self.state {
            inputs.insert(index, header.to_vec());
        }
        if receipt == Receipt::Accepted {
            self.note_quorum(now);
        }
        Ok(receipt)
    }

    fn checked_input(&self, from: &ParticipantId, header: &[u8]) -> Result<(u32, Receipt, MaskedInput), Rejection> {
        let step = Step::MaskedInput;
        let State::MaskedInput { signed, shared, inputs } = &self.state else { return Err(self.wrong_step(step)) };
        let index = signed.roster.index_of(from).filter(|index| shared.contains_key(index));
        let index = index.ok_or_else(|| Rejection::NotInStep { id: from.clone(), step })?;
        let decoded = MaskedInput::decode(header)?;
        check_sender(&self.digest, &decoded.context, index, decoded.index)?;
        let receipt = receipt(inputs.get(&index).map(Vec::as_slice), header, step)?;
        let expected = self.input_len();
        if decoded.len != expected {
            return Err(Rejection::InputLength { announced: decoded.len, expected });
        }
        if !verify_message(&signed.roster.member(index).key, header) {
            return Err(Rejection::BadSignature);
        }
        let dealers = signed.roster.graph.neighbours(index).into_iter().filter(|dealer| shared.contains_key(dealer));
        if decoded.dealers != dealers_digest(&self.digest, &dealers.collect::<Vec<_>>()) {
            return Err(Rejection::WrongDealers);
        }
        Ok((index, receipt, decoded))
    }

    /// Bytes of an input: the vector at b bits per value.
    #[must_use]
    pub fn input_len(&self) -> u64 {
        let Context { vector_len, bits, .. } = self.setup.context;
        usize::try_from(vector_len).ok().and_then(|len| packed_len(len, bits)).unwrap_or(usize::MAX) as u64
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
            State::RosterSignature { .. } | State::Opening { .. } => Millis::MAX,
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
            State::RosterSignature { .. } | State::Opening { .. } => 0,
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
            State::RosterSignature { .. } | State::Opening { .. } => return false,
            State::ShareKeys { signed, .. } => signed.roster.members.len(),
            State::MaskedInput { shared, .. } => shared.len(),
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
            State::Unmasking { open, .. } => open.is_complete(),
            // Whom too few neighbours would help to open costs the attempt: it is worth waiting for the rest.
            State::MaskedInput { signed, shared, inputs } => {
                enough
                    && every_dealer_is_helped(&signed.roster, shared.keys(), |holder| inputs.contains_key(&holder))
                        .is_ok()
            }
            State::ConsistencyCheck { sharing, signatures } => {
                let roster = &sharing.signed.roster;
                enough
                    && every_dealer_is_helped(roster, sharing.dealt.keys(), |holder| signatures.contains_key(&holder))
                        .is_ok()
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
        self.state = match self.state {
            State::AdvertiseKeys { advertised } => close_advertise_keys(&self.setup, &self.digest, advertised)?,
            State::ShareKeys { signed, mut shared } => {
                enough(Step::ShareKeys, shared.len(), self.setup.context.min_survivors)?;
                keep_helped(&signed.roster, &mut shared);
                enough(Step::ShareKeys, shared.len(), self.setup.context.min_survivors)?;
                State::MaskedInput { signed, shared, inputs: BTreeMap::new() }
            }
            State::MaskedInput { signed, shared, inputs } => {
                enough(Step::MaskedInput, inputs.len(), self.setup.context.min_survivors)?;
                every_dealer_is_helped(&signed.roster, shared.keys(), |holder| inputs.contains_key(&holder))?;
                let survivors = SurvivorSet::new(signed.roster.len(), inputs.into_keys());
                let dealt = shared.into_iter().map(|(dealer, shared)| (dealer, Dealt::of(&shared))).collect();
                let sharing = Sharing { signed, dealt, survivors };
                State::ConsistencyCheck { sharing, signatures: BTreeMap::new() }
            }
            State::ConsistencyCheck { sharing, signatures } => {
                enough(Step::ConsistencyCheck, signatures.len(), sharing.signed.roster.graph.topology().t)?;
                every_dealer_is_helped(&sharing.signed.roster, sharing.dealt.keys(), |holder| {
                    signatures.contains_key(&holder)
                })?;
                let open = Openable::new(&sharing);
                State::Unmasking { sharing, signatures, revealed: BTreeMap::new(), open }
            }
            State::Unmasking { sharing, signatures, revealed, open } => {
                match unmask::missing(&self.setup.context, &sharing, &revealed, &open) {
                    Some(abort) => return Err(abort),
                    None => State::Opening { sharing, signatures, revealed },
                }
            }
            between @ (State::RosterSignature { .. } | State::Opening { .. }) => between,
        };
        self.opened = now;
        self.quorum_since = None;
        Ok(self)
    }

    /// Whether the registrar's signature is what the attempt waits for.
    #[must_use]
    pub fn awaits_registrar(&self) -> bool {
        matches!(self.state, State::RosterSignature { .. })
    }

    /// What the registrar is asked to sign; `None` at any other time.
    #[must_use]
    pub fn roster_to_sign(&self) -> Option<UnsignedRoster> {
        let State::RosterSignature { roster } = &self.state else { return None };
        let members = roster.members.iter().map(|member| (member.id.clone(), member.advertisement.clone())).collect();
        Some(UnsignedRoster { context: self.digest, members })
    }

    /// Takes the registrar's signature; ShareKeys is open.
    #[must_use]
    pub fn roster_signed(mut self, registrar_signature: [u8; 64], now: Millis) -> Self {
        if let State::RosterSignature { roster } = self.state {
            self.state = State::ShareKeys { signed: Signed { roster, registrar_signature }, shared: BTreeMap::new() };
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
            State::MaskedInput { signed, shared, .. } => index(signed).is_some_and(|at| shared.contains_key(&at)),
            State::ConsistencyCheck { sharing, .. } => {
                index(&sharing.signed).is_some_and(|at| sharing.survivors.contains(at))
            }
            State::Unmasking { sharing, signatures, .. } => {
                index(&sharing.signed).is_some_and(|at| signatures.contains_key(&at))
            }
            State::Opening { .. } => false,
        }
    }

    /// The message that opens the current step for a participant that has a part in it.
    fn opening(&self, to: &ParticipantId) -> Option<Vec<u8>> {
        if !self.is_member(to) {
            return None;
        }
        let context = self.digest;
        match &self.state {
            State::AdvertiseKeys { .. } | State::RosterSignature { .. } | State::Opening { .. } => None,
            State::ShareKeys { signed: Signed { roster, registrar_signature }, .. } => {
                let index = roster.index_of(to)?;
                let announced = |other: u32| {
                    let advertisement = roster.member(other).advertisement.clone();
                    Some(AnnouncedNeighbour { index: other, advertisement, path: roster.tree.path(other as usize)? })
                };
                let neighbours = roster.graph.neighbours(index).into_iter().map(announced).collect::<Option<_>>()?;
                let announcement = RosterAnnouncement {
                    context,
                    index,
                    n: roster.len(),
                    root: roster.tree.root(),
                    path: roster.tree.path(index as usize)?,
                    registrar_signature: *registrar_signature,
                    neighbours,
                };
                Some(announcement.encode())
            }
            State::MaskedInput { signed, shared, .. } => {
                let index = signed.roster.index_of(to)?;
                let dealers = signed.roster.graph.neighbours(index).into_iter();
                let deliveries = dealers.filter_map(|dealer| shared.get(&dealer)?.delivery(index)).collect();
                Some(DeliveredShares { context, deliveries }.encode())
            }
            State::ConsistencyCheck { sharing, .. } => {
                Some(SurvivorList { context, survivors: sharing.survivors.clone() }.encode())
            }
            State::Unmasking { sharing: Sharing { signed, .. }, signatures, .. } => {
                let neighbours = signed.roster.graph.neighbours(signed.roster.index_of(to)?).into_iter();
                let signatures = neighbours.filter_map(|signer| Some((signer, *signatures.get(&signer)?))).collect();
                Some(SignatureList { context, signatures }.encode())
            }
        }
    }

    /// Those in the cohort, by the last step they were heard in; `None` for those who never were.
    #[must_use]
    pub fn heard(&self) -> BTreeMap<ParticipantId, Option<Step>> {
        let mut heard: BTreeMap<_, _> = self.setup.cohort.keys().map(|id| (id.clone(), None)).collect();
        let mut note = |id: &ParticipantId, step| {
            heard.insert(id.clone(), Some(step));
        };
        let members = |roster: &Roster, indices: &mut dyn Iterator<Item = u32>| -> Vec<ParticipantId> {
            indices.map(|index| roster.member(index).id.clone()).collect()
        };
        if let State::AdvertiseKeys { advertised } = &self.state {
            advertised.keys().for_each(|id| note(id, Step::AdvertiseKeys));
            return heard;
        }
        fn keys<V>(of: &BTreeMap<u32, V>) -> Vec<u32> {
            of.keys().copied().collect()
        }
        let none = Vec::new;
        let (roster, shared, inputs, signatures, revealed) = match &self.state {
            State::AdvertiseKeys { .. } => return heard,
            State::RosterSignature { roster } => (roster, none(), none(), none(), none()),
            State::ShareKeys { signed, shared } => (&signed.roster, keys(shared), none(), none(), none()),
            State::MaskedInput { signed, shared, inputs } => {
                (&signed.roster, keys(shared), keys(inputs), none(), none())
            }
            State::ConsistencyCheck { sharing, signatures } => {
                let inputs = sharing.survivors.iter().collect();
                (&sharing.signed.roster, keys(&sharing.dealt), inputs, keys(signatures), none())
            }
            State::Unmasking { sharing, signatures, revealed, .. }
            | State::Opening { sharing, signatures, revealed } => {
                let inputs = sharing.survivors.iter().collect();
                (&sharing.signed.roster, keys(&sharing.dealt), inputs, keys(signatures), keys(revealed))
            }
        };
        roster.members.iter().for_each(|member| note(&member.id, Step::AdvertiseKeys));
        let later = [
            (Step::ShareKeys, shared),
            (Step::MaskedInput, inputs),
            (Step::ConsistencyCheck, signatures),
            (Step::Unmasking, revealed),
        ];
        for (step, indices) in later {
            members(roster, &mut indices.into_iter()).iter().for_each(|id| note(id, step));
        }
        heard
    }

    /// Names of the survivors, once they are known.
    #[must_use]
    pub fn survivors(&self) -> Option<Vec<ParticipantId>> {
        match &self.state {
            State::ConsistencyCheck { sharing, .. }
            | State::Unmasking { sharing, .. }
            | State::Opening { sharing, .. } => {
                let roster = &sharing.signed.roster;
                Some(sharing.survivors.iter().map(|index| roster.member(index).id.clone()).collect())
            }
            _ => None,
        }
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

/// Whether every dealer keeps a threshold of neighbours that go on. One that does not could not be opened, and its
/// neighbours and itself would have to refuse what an honest coordinator shows them.
fn every_dealer_is_helped<'a>(
    roster: &Roster,
    dealers: impl Iterator<Item = &'a u32>,
    goes_on: impl Fn(u32) -> bool,
) -> Result<(), Abort> {
    let threshold = roster.graph.topology().t;
    for &dealer in dealers {
        let available = helpers(roster, dealer, &goes_on);
        if available < threshold {
            return Err(Abort::TooFewShares { dealer: roster.member(dealer).id.clone(), available, threshold });
        }
    }
    Ok(())
}

/// Leaves those out who would get fewer shares than the threshold, and who would therefore take no further part; then
/// those who lack them; and so on.
fn keep_helped(roster: &Roster, shared: &mut BTreeMap<u32, ShareKeys>) {
    let threshold = roster.graph.topology().t;
    loop {
        let lacking: Vec<u32> = shared
            .keys()
            .copied()
            .filter(|&dealer| helpers(roster, dealer, &|holder| shared.contains_key(&holder)) < threshold)
            .collect();
        if lacking.is_empty() {
            return;
        }
        lacking.iter().for_each(|dealer| drop(shared.remove(dealer)));
    }
}

/// Neighbours that go on.
fn helpers(roster: &Roster, dealer: u32, goes_on: &impl Fn(u32) -> bool) -> u32 {
    let helpers = roster.graph.neighbours(dealer).into_iter().filter(|&holder| goes_on(holder)).count();
    u32::try_from(helpers).expect("no more than neighbours")
}

/// Tells a repetition from a second, different message.
fn receipt(before: Option<&[u8]>, now: &[u8], step: Step) -> Result<Receipt, Rejection> {
    match before {
        None => Ok(Receipt::Accepted),
        Some(before) if before == now => Ok(Receipt::Duplicate),
        Some(_) => Err(Rejection::AlreadySubmitted { step }),
    }
}

fn check_sender(expected: &ContextDigest, context: &ContextDigest, sender: u32, named: u32) -> Result<(), Rejection> {
    if context != expected {
        return Err(Rejection::WrongContext);
    }
    if named != sender {
        return Err(Rejection::ForeignName);
    }
    Ok(())
}

fn advertise_keys(
    setup: &Setup,
    context: &ContextDigest,
    advertised: &mut BTreeMap<ParticipantId, Vec<u8>>,
    from: &ParticipantId,
    bytes: &[u8],
) -> Result<Receipt, Rejection> {
    let step = Step::AdvertiseKeys;
    let key = setup.cohort.get(from).ok_or_else(|| Rejection::NotInStep { id: from.clone(), step })?;
    let decoded = AdvertiseKeys::decode(bytes)?;
    if decoded.context != *context {
        return Err(Rejection::WrongContext);
    }
    if decoded.id != *from {
        return Err(Rejection::ForeignName);
    }
    let receipt = receipt(advertised.get(from).map(Vec::as_slice), bytes, step)?;
    if !verify_message(key, bytes) {
        return Err(Rejection::BadSignature);
    }
    // One such key in the roster would cost every neighbour its attempt.
    decoded.channel.check(setup.context.pq)?;
    decoded.mask.check(setup.context.pq)?;
    advertised.insert(from.clone(), bytes.to_vec());
    Ok(receipt)
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

fn share_keys(
    context: &ContextDigest,
    roster: &Roster,
    shared: &mut BTreeMap<u32, ShareKeys>,
    pq: bool,
    from: &ParticipantId,
    bytes: &[u8],
) -> Result<Receipt, Rejection> {
    let step = Step::ShareKeys;
    let index = roster.index_of(from).ok_or_else(|| Rejection::NotInStep { id: from.clone(), step })?;
    let (message, named) = ShareKeys::decode(bytes)?;
    check_sender(context, &named, index, message.index)?;
    let receipt = receipt(shared.get(&index).map(ShareKeys::bytes), bytes, step)?;
    if !message.holders().eq(roster.graph.neighbours(index)) {
        return Err(Rejection::WrongHolders);
    }
    if let Some(sealed) = message.sealed().find(|sealed| !sealed.has_encapsulations(index, pq)) {
        return Err(Rejection::WrongEncapsulations { holder: sealed.holder });
    }
    if !message.is_signed_by(&roster.member(index).key, context) {
        return Err(Rejection::BadSignature);
    }
    shared.insert(index, message);
    Ok(receipt)
}

fn sign_survivors(
    context: &ContextDigest,
    sharing: &Sharing,
    signatures: &mut BTreeMap<u32, [u8; 64]>,
    from: &ParticipantId,
    bytes: &[u8],
) -> Result<Receipt, Rejection> {
    let step = Step::ConsistencyCheck;
    let roster = &sharing.signed.roster;
    let index = roster.index_of(from).filter(|&index| sharing.survivors.contains(index));
    let index = index.ok_or_else(|| Rejection::NotInStep { id: from.clone(), step })?;
    let message = ConsistencySignature::decode(bytes)?;
    check_sender(context, &message.context, index, message.index)?;
    let receipt = receipt(signatures.get(&index).map(|signature| &signature[..]), &message.signature, step)?;
    let statement = survivors_statement(context, &roster.tree.root(), &sharing.survivors);
    if !verify(&roster.member(index).key, &statement, &message.signature) {
        return Err(Rejection::BadSignature);
    }
    signatures.insert(index, message.signature);
    Ok(receipt)
}

fn reveal(
    context: &ContextDigest,
    sharing: &Sharing,
    signatures: &BTreeMap<u32, [u8; 64]>,
    (revealed, open): (&mut BTreeMap<u32, Revealed>, &mut Openable),
    from: &ParticipantId,
    bytes: &[u8],
) -> Result<Receipt, Rejection> {
    let step = Step::Unmasking;
    let roster = &sharing.signed.roster;
    let index = roster.index_of(from).filter(|index| signatures.contains_key(index));
    let index = index.ok_or_else(|| Rejection::NotInStep { id: from.clone(), step })?;
    let message = Unmasking::decode(bytes)?;
    check_sender(context, &message.context, index, message.index)?;
    let digest: Hash = Sha256::digest(bytes).into();
    let receipt = receipt(revealed.get(&index).map(|revealed| &revealed.digest[..]), &digest, step)?;
    if !verify_message(&roster.member(index).key, bytes) {
        return Err(Rejection::BadSignature);
    }
    let mut last = None;
    for RevealedShare { dealer, role, salted } in &message.shares {
        // Only what this holder was dealt, of the secret that is to be opened, once.
        let dealt = sharing.dealt.get(dealer).and_then(|dealt| dealt.to(index));
        let dealt = dealt.filter(|_| *role == sharing.role(*dealer) && Some(*dealer) > last);
        let dealt = dealt.ok_or(Rejection::ForeignShare { dealer: *dealer })?;
        let opened = salted.commitment(context, &roster.member(*dealer).id, from, *role);
        if opened != *dealt.commitments.of_role(*role) {
            return Err(Rejection::BadShare { dealer: *dealer });
        }
        last = Some(*dealer);
    }
    if receipt == Receipt::Accepted {
        open.note(&message.shares);
        revealed.insert(index, Revealed { digest, shares: message.shares });
    }
    Ok(receipt)
}
