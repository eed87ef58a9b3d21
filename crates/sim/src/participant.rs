//! A participant's process: the core's states, a disk that outlives it, and the habits of a shell.
//!
//! It asks for the message of its next step, computes, stores, then sends, and sends the same bytes again until it has a
//! receipt. After a crash it goes on from its disk. An answer it does not believe may have been garbled on the way:
//! nothing was sent, so it goes back to its disk and asks again, a few times.

use crate::adversary::SUMS_MAX;
use crate::dice::{Dice, Purpose, Seed};
use crate::history::History;
use crate::message::Request;
use crate::plan::{Departure, Plan};
use crate::proof::{Proven, Prover};
use crate::sabotage::Sabotage;
use ed25519_dalek::{SigningKey, VerifyingKey};
use rand_core::CryptoRng;
use sordino_codec::RingVector;
use sordino_secagg::coordinator::{Outgoing, Receipt, Rejection};
use sordino_secagg::participant::{AwaitingRoster, Exposure, Identity, Input, Refusal, Stored, Trust};
use sordino_secagg::{CertificateKey, Context, ParticipantId, Step};
use std::collections::BTreeMap;

/// Whom participants believe: a certificate is its owner's name, and the directory knows the keys.
pub(crate) struct Directory {
    pub(crate) keys: BTreeMap<ParticipantId, CertificateKey>,
    pub(crate) registrar: VerifyingKey,
}

/// A key that the simulator has drawn.
pub(crate) fn certified(key: &SigningKey) -> CertificateKey {
    key.verifying_key().try_into().expect("a good key")
}

impl Trust for Directory {
    fn participant(&self, id: &ParticipantId, certificates: &[u8]) -> Result<CertificateKey, String> {
        if certificates != id.as_str().as_bytes() {
            return Err("the certificate names somebody else".into());
        }
        self.keys.get(id).copied().ok_or_else(|| "nobody of this name was admitted".into())
    }

    fn registrar(&self) -> &VerifyingKey {
        &self.registrar
    }
}

/// A participant with its disk.
pub(crate) struct ParticipantNode {
    pub(crate) id: ParticipantId,
    pub(crate) key: SigningKey,
    pub(crate) input: RingVector,
    pub(crate) departure: Option<Departure>,
    /// Place in the cohort.
    place: usize,
    /// Counts starts of the process: what an earlier one had set a timer for is void.
    pub(crate) incarnation: u32,
    disk: Disk,
    /// An old copy of the disk, for [`Sabotage::EverybodyStartsOver`].
    backup: Option<Disk>,
    memory: Option<Memory>,
}

/// Survives crashes. The attempt's number is written before anything is said in it, so that a participant that lost the
/// state of an attempt it never spoke in does not speak in an older one again.
#[derive(Clone)]
struct Disk {
    attempt: u32,
    state: Option<Vec<u8>>,
    upload: Option<Vec<u8>>,
    /// The sums that it helped to open.
    exposure: Exposure,
}

struct Memory {
    attempt: u32,
    stored: Option<Stored>,
    upload: Option<Vec<u8>>,
    /// The message of the stored step has its receipt.
    acknowledged: bool,
    /// It has no part in this attempt any more.
    is_out: bool,
    refusals: u32,
    waits: u32,
}

/// What a participant does next.
pub(crate) enum Action {
    /// Compute the message of a step that needs none of the coordinator's.
    Advertise,
    /// Send this.
    Send(Request),
    /// Nothing, for this attempt.
    Rest,
}

/// What was computed and is not stored yet.
pub(crate) struct Computed {
    stored: Stored,
    upload: Option<Vec<u8>>,
    /// What the attempt's input proves, with the first message.
    proven: Option<Proven>,
}

impl Computed {
    /// The bytes that go out; of an upload, its header.
    pub(crate) fn message(&self) -> &[u8] {
        self.stored.message()
    }

    /// What the attempt's input proves; nothing with any but the first message, and where nothing is proven.
    pub(crate) fn proven(&self) -> Option<&Proven> {
        self.proven.as_ref()
    }
}

impl ParticipantNode {
    pub(crate) fn new(plan: &Plan, place: usize, key: SigningKey, input: RingVector) -> Self {
        let (id, departure) = (plan.participant(place), plan.departures.get(&place).copied());
        let disk = Disk { attempt: FIRST_ATTEMPT, state: None, upload: None, exposure: Exposure::default() };
        let mut node = Self { id, key, input, departure, place, incarnation: 0, disk, backup: None, memory: None };
        node.memory = Some(Memory::blank(FIRST_ATTEMPT));
        node
    }

    pub(crate) fn is_up(&self) -> bool {
        self.memory.is_some()
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.disk.attempt
    }

    /// The process dies; the disk stays.
    pub(crate) fn crash(&mut self, sabotage: Option<Sabotage>) {
        self.memory = None;
        self.incarnation += 1;
        if sabotage == Some(Sabotage::ParticipantsForget) {
            self.disk.state = None;
        }
    }

    /// The process starts, or goes back to what it had stored.
    pub(crate) fn restore(&mut self, plan: &Plan) {
        let before = self.memory.take();
        let mut memory = Memory::blank(self.disk.attempt);
        memory.refusals = before.map_or(0, |before| before.refusals);
        if let Some(bytes) = &self.disk.state {
            let stored = Stored::from_bytes(bytes, plan.context_at(self.place, self.disk.attempt));
            memory.stored = Some(stored.expect("a disk gives back what was written"));
            memory.upload = self.disk.upload.clone();
        }
        self.memory = Some(memory);
    }

    /// The step that it works on: the one whose message has no receipt, or the one it waits for.
    pub(crate) fn next(&self) -> Action {
        let Some(memory) = self.memory.as_ref().filter(|memory| !memory.is_out) else { return Action::Rest };
        let Some(stored) = &memory.stored else { return Action::Advertise };
        if !memory.acknowledged {
            return Action::Send(memory.request(stored));
        }
        match stored.step().next() {
            Some(step) => Action::Send(Request::Ask { attempt: memory.attempt, step }),
            None => Action::Rest,
        }
    }

    /// Grows while nothing comes of asking.
    pub(crate) fn patience(&mut self) -> u32 {
        let Some(memory) = &mut self.memory else { return 0 };
        memory.waits = (memory.waits + 1).min(WAITS_MAX);
        memory.waits
    }

    /// Begins an attempt: with an input and what it proves, made before the first word is said and stored with it.
    pub(crate) fn advertise(&mut self, plan: &Plan, history: &History, dice: &mut Dice) -> Result<Computed, Refusal> {
        let identity = Identity { id: &self.id, certificates: self.id.as_str().as_bytes() };
        let context = plan.context_at(self.place, self.disk.attempt);
        self.disk.exposure.check((&context).into(), SUMS_MAX)?;
        let proven = self.prove(plan, &context, history, dice);
        let input = match &proven {
            Some(Proven { attachment, sent, .. }) => {
                Input { vector: sent.clone(), attachment: Some(attachment.clone()) }
            }
            None => self.input.clone().into(),
        };
        let state = AwaitingRoster::advertise(context, identity, input, &self.key, dice.rng())?;
        Ok(Computed { stored: Stored::AwaitingRoster(state), upload: None, proven })
    }

    fn prove(&self, plan: &Plan, context: &Context, history: &History, dice: &mut Dice) -> Option<Proven> {
        let proving = plan.proving.as_ref()?;
        let attempt = self.disk.attempt;
        let mut same = Dice::new(Seed(self.place as u64), Purpose::Secrets);
        let dice = if plan.sabotage == Some(Sabotage::BlindingsAreUsedAgain) { &mut same } else { dice };
        let prover = Prover {
            proving,
            context,
            id: &self.id,
            never: &plan.context_at(self.place, u32::MAX),
            other: &plan.participant((self.place + 1) % plan.cohort as usize),
            earlier: (1..attempt).rev().find_map(|attempt| history.proven(&self.id, attempt).next()),
            others: history.proven_by_others(&self.id, attempt).next(),
        };
        Some(prover.prove(&self.input, plan.cheats.get(&(self.place, attempt)).copied(), dice))
    }

    /// Whether an opening of `step` is what it waits for.
    pub(crate) fn awaits(&self, step: Step) -> bool {
        let waiting = self.memory.as_ref().filter(|memory| memory.acknowledged && !memory.is_out);
        waiting.and_then(|memory| memory.stored.as_ref()).is_some_and(|stored| stored.step().next() == Some(step))
    }

    /// Takes what opens its next step. After a refusal it has to be restored.
    pub(crate) fn compute(
        &mut self,
        opening: &[u8],
        directory: &Directory,
        rng: &mut impl CryptoRng,
    ) -> Result<Computed, Refusal> {
        let stored = self.memory.as_mut().and_then(|memory| memory.stored.take()).expect("it awaits an opening");
        let signer = &self.key;
        let (stored, upload) = match stored {
            Stored::AwaitingRoster(state) => {
                (Stored::AwaitingShares(state.share_keys(opening, directory, signer, rng)?), None)
            }
            Stored::AwaitingShares(state) => {
                let (state, upload) = state.mask_input(opening, signer)?;
                (Stored::AwaitingSurvivors(state), Some(upload.bytes))
            }
            Stored::AwaitingSurvivors(state) => {
                (Stored::AwaitingSignatures(state.sign_survivors(opening, directory, signer)?), None)
            }
            Stored::AwaitingSignatures(state) => (Stored::Finished(state.reveal(opening, signer)?), None),
            Stored::Finished(_) => unreachable!("nothing opens after Unmasking"),
        };
        Ok(Computed { stored, upload, proven: None })
    }

    /// The coordinator's word was not believed: back to the disk, and out when that happened too often.
    pub(crate) fn doubt(&mut self, plan: &Plan) {
        self.restore(plan);
        let memory = self.memory.as_mut().expect("just restored");
        memory.acknowledged = memory.stored.is_some();
        memory.refusals += 1;
        memory.is_out = memory.refusals > REFUSALS_MAX;
    }

    /// From here on, this is what it has said.
    pub(crate) fn store(&mut self, computed: Computed, plan: &Plan) {
        let Computed { stored, upload, .. } = computed;
        let state = stored.to_bytes().to_vec();
        (self.disk.state, self.disk.upload) = (Some(state), upload.clone());
        if stored.step() == Step::Unmasking && plan.sabotage != Some(Sabotage::SumsAreNotCounted) {
            self.disk.exposure.note((&plan.context_at(self.place, self.disk.attempt)).into());
        }
        if plan.sabotage == Some(Sabotage::EverybodyStartsOver) && stored.step() == Step::MaskedInput {
            self.backup = Some(self.disk.clone());
        }
        let refusals = self.memory.as_ref().map_or(0, |memory| memory.refusals);
        let memory = Memory { stored: Some(stored), upload, refusals, ..Memory::blank(self.disk.attempt) };
        self.memory = Some(memory);
    }

    /// Goes back to its old copy, once, when all is done.
    pub(crate) fn start_over(&mut self, plan: &Plan) {
        let is_finished =
            matches!(self.memory.as_ref().and_then(|memory| memory.stored.as_ref()), Some(Stored::Finished(_)));
        if is_finished && let Some(backup) = self.backup.take() {
            self.disk = backup;
            self.restore(plan);
            self.memory.as_mut().expect("just restored").acknowledged = true;
        }
    }

    /// What became of the message of `step`.
    pub(crate) fn receipt(&mut self, step: Step, outcome: &Result<Receipt, Rejection>) {
        let Some(memory) = &mut self.memory else { return };
        if memory.acknowledged || memory.stored.as_ref().is_none_or(|stored| stored.step() != step) {
            return;
        }
        match outcome {
            // Too late, or accepted long ago and the receipt got lost: only asking on tells which.
            Ok(_) | Err(Rejection::WrongStep { .. }) => {
                memory.acknowledged = true;
                memory.waits = 0;
            }
            Err(Rejection::NotInStep { .. } | Rejection::RefusedInput { .. }) => memory.is_out = true,
            // The bytes may have been changed on the way: the same ones again.
            Err(_) => {}
        }
    }

    /// There is no message for it.
    pub(crate) fn told(&mut self, outgoing: &Outgoing) {
        if let (Some(memory), Outgoing::Excluded) = (&mut self.memory, outgoing) {
            memory.is_out = true;
        }
    }

    /// Another attempt runs: the old one's secrets go, and its number is passed.
    pub(crate) fn moves_to(&mut self, attempt: u32) {
        if attempt > self.disk.attempt && self.memory.is_some() {
            (self.disk.attempt, self.disk.state, self.disk.upload) = (attempt, None, None);
            self.memory = Some(Memory::blank(attempt));
        }
    }

    /// The round is over.
    pub(crate) fn dismiss(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.is_out = true;
        }
    }

    /// Whether it has left this attempt by its own judgement or the coordinator's.
    pub(crate) fn is_out(&self) -> bool {
        self.memory.as_ref().is_none_or(|memory| memory.is_out)
    }
}

impl Memory {
    fn blank(attempt: u32) -> Self {
        Self { attempt, stored: None, upload: None, acknowledged: false, is_out: false, refusals: 0, waits: 0 }
    }

    fn request(&self, stored: &Stored) -> Request {
        let bytes = stored.message().to_vec();
        match &self.upload {
            Some(upload) => Request::Upload { header: bytes, bytes: upload.clone() },
            None => Request::Say { step: stored.step(), bytes },
        }
    }
}

/// Attempts count from here.
pub(crate) const FIRST_ATTEMPT: u32 = 1;
/// Answers of an attempt that are not believed before a participant gives it up.
const REFUSALS_MAX: u32 = 3;
/// Steps by which a participant asks more rarely.
const WAITS_MAX: u32 = 8;
