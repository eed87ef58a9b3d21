//! One attempt: the protocol's state machine, its journal, the spooled inputs and the running sum.

use super::group::{Aborted, Group, Opened, Shown, Slot, add_spooled, read_proof, read_spooled};
pub use super::journal::JournalError;
use super::journal::{Durable, Event, Journal};
use super::proving::{Disproof, Proving};
use crate::app::App;
use crate::bulk::sha256;
use crate::clock::millis;
use crate::health::{INPUTS_REFUSED, PROOF_VERIFY_SECONDS};
use serde::{Deserialize, Serialize};
use sordino_codec::Encoding;
use sordino_secagg::coordinator::{Abort, Coordinator, Outgoing, Receipt, Rejection, Setup, Timing};
use sordino_secagg::{CertificateKey, ParticipantId, Step};
use sordino_store::{SpoolError, SpoolKey, StoreError, crash_point};
use sordino_wire::api::{Assignment, AttemptId};
use sordino_wire::{CheckedPolicy, Digest, RoundPrivacy, RoundProof};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, MutexGuard, watch};

/// Why a request to an attempt is not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttemptError {
    /// The attempt is over.
    #[error("attempt {attempt} of round {round} is over")]
    Ended {
        /// The round.
        round: sordino_wire::RoundId,
        /// The attempt.
        attempt: u32,
    },
    /// The attempt goes on, and cannot be asked just now.
    #[error("the attempt's state is being stored or restored; try again")]
    Suspended,
    /// The protocol refuses the message.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The input is not proven to be within its bounds.
    #[error("the input is refused, and its sender left out of the attempt: {reason}")]
    Disproved {
        /// What is wrong with its proof.
        reason: String,
    },
    /// The upload is not whole.
    #[error("{received} of {expected} bytes of the input have arrived; send the rest first")]
    Incomplete {
        /// Bytes that are durable.
        received: u64,
        /// Bytes of the whole.
        expected: u64,
    },
    /// The journal failed: what the attempt was told in memory is not what is stored.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The spool failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an attempt stopped running.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stopped {
    /// No group of it came to a sum.
    #[error("no group came to a sum")]
    Aborted(Vec<Aborted>),
    /// The registrar did not sign.
    #[error(transparent)]
    Registrar(#[from] super::RegistrarError),
    /// Memory and store may differ: it has to be restored from the store.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The service stops; the next start goes on.
    #[error("the service stops")]
    Parked,
}

/// What is stored of an attempt when it begins.
#[derive(Serialize, Deserialize)]
struct StoredCohort {
    nonce: Digest,
    /// Names and certificate keys, the bytes of [`CertificateKey`] in hexadecimal.
    members: BTreeMap<String, String>,
    /// Noise of this attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    noise_multiplier: Option<f64>,
    /// Who is summed with whom: of equal size, no name in two. Empty where all are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<BTreeSet<String>>,
}

/// The attempt of a round that is open.
pub struct Attempt {
    id: AttemptId,
    encoding: Encoding,
    privacy: Option<RoundPrivacy>,
    /// Shared with the threads that verify; none where inputs carry no proof.
    proving: Option<Arc<Proving>>,
    /// Participants of each group.
    group_size: u32,
    /// Whose inputs were refused because of their proofs, and why.
    refused: Mutex<BTreeMap<ParticipantId, String>>,
    noise_multiplier: Option<f64>,
    cohort: BTreeSet<ParticipantId>,
    /// One for each of them: the headers of its input are looked at one after the other.
    turns: BTreeMap<ParticipantId, Mutex<()>>,
    groups: Vec<Group>,
    /// Whose group is which.
    group_of: BTreeMap<ParticipantId, usize>,
    /// When this attempt was taken up by this process: its deadlines run on a clock that nobody sets.
    since: Instant,
    /// How long the attempt may last, by its policy.
    lasts: Duration,
    journal: Journal,
    /// Counts what happened, for those who wait.
    changed: watch::Sender<u64>,
}

/// What an attempt is made of.
pub(super) struct Plan {
    /// Without what is stored with the attempt: nonce, cohort, noise.
    pub(super) assignment: Assignment,
    pub(super) policy: CheckedPolicy,
    pub(super) model_len: usize,
}

impl Attempt {
    /// Names and keys of a new attempt's cohort, with a fresh nonce and its noise, as they are stored.
    ///
    /// - `groups`: who is summed with whom.
    pub(super) fn cohort_json(
        nonce: Digest,
        members: &BTreeMap<ParticipantId, Vec<u8>>,
        groups: &[BTreeSet<ParticipantId>],
        noise_multiplier: Option<f64>,
    ) -> Result<String, serde_json::Error> {
        let members = members.iter().map(|(id, key)| (id.to_string(), hex::encode(key))).collect();
        let names = |group: &BTreeSet<ParticipantId>| group.iter().map(ToString::to_string).collect();
        let groups = if groups.len() > 1 { groups.iter().map(names).collect() } else { Vec::new() };
        serde_json::to_string(&StoredCohort { nonce, members, noise_multiplier, groups })
    }

    /// The attempt as the store has it: just begun, or as far as its journal goes.
    pub(super) async fn restore(app: &App, mut plan: Plan, cohort_json: &str) -> Result<Self, Stopped> {
        let stored: StoredCohort = serde_json::from_str(cohort_json).map_err(|_| damaged("cohort"))?;
        let cohorts = stored.cohorts()?;
        // All groups have one size, hence one encoding and one noise.
        let size = cohorts.first().map_or(0, BTreeMap::len);
        plan.assignment.cohort = u32::try_from(size).map_err(|_| damaged("cohort"))?;
        plan.assignment.noise_multiplier = stored.noise_multiplier;
        let settled = plan.policy.assigned_terms(plan.assignment.cohort, stored.noise_multiplier);
        let terms = settled.map_err(|_| damaged("cohort"))?;
        let encoding = plan.policy.encoding(plan.model_len, &terms).map_err(|_| damaged("cohort"))?;
        let privacy = plan.policy.round_privacy(plan.model_len, &terms).map_err(|_| damaged("cohort"))?;
        let proof = plan.policy.round_proof(plan.model_len, &terms).map_err(|_| damaged("cohort"))?;
        let lasts = Duration::from_secs_f64(plan.policy.policy().timing.round_timeout);
        let id = AttemptId { round: plan.assignment.round.clone(), attempt: plan.assignment.attempt };
        let started = app.store.attempt(id.round.task.as_str(), id.round.number, id.attempt).await?;
        let started_at = started.map_or(0, |row| row.started_at);
        let since = Instant::now();
        let several = cohorts.len() > 1;
        let mut groups = Vec::with_capacity(cohorts.len());
        let mut group_of = BTreeMap::new();
        for (at, cohort) in cohorts.into_iter().enumerate() {
            let index = u32::try_from(at).map_err(|_| damaged("cohort"))?;
            group_of.extend(cohort.keys().map(|id| (id.clone(), at)));
            let nonce = if several { group_nonce(stored.nonce, index) } else { stored.nonce };
            let assignment = Assignment { nonce, ..plan.assignment.clone() };
            let setup = setup(app, &plan.policy, &assignment, (&encoding, proof.as_ref()), cohort);
            groups.push(Group::new(index, assignment, setup, started_at));
        }
        let rows = app.store.events(id.round.task.as_str(), id.round.number, id.attempt).await?;
        let next = rows.len() as u64;
        let mut refused = BTreeMap::new();
        for row in rows {
            let at = row.at;
            let event = Event::from_row(row).ok_or_else(|| damaged("journal"))?;
            if let Event::Refused { from, reason } = &event {
                refused.insert(from.clone(), reason.clone());
            }
            let group = match &event {
                Event::Message { from, .. } | Event::Refused { from, .. } => group_of.get(from).copied(),
                Event::Closed { group, .. }
                | Event::RosterSigned { group, .. }
                | Event::SurvivorsSigned { group, .. } => usize::try_from(*group).ok(),
            };
            let group = group.and_then(|at| groups.get_mut(at)).ok_or_else(|| damaged("journal"))?;
            group.replay(app, &id, event, at).await?;
        }
        // Nobody could reach a coordinator that was not there: every deadline starts anew.
        for group in &mut groups {
            group.resume(elapsed(since));
        }
        let clock = app.shared_clock();
        let journal = Journal::open(app.store.clone(), id.clone(), next, Arc::new(move || millis(clock.now())));
        let invited: BTreeSet<_> = group_of.keys().cloned().collect();
        Ok(Self {
            id,
            encoding,
            privacy,
            turns: invited.iter().map(|id| (id.clone(), Mutex::default())).collect(),
            cohort: invited,
            groups,
            group_of,
            proving: proof.map(|proof| Arc::new(Proving::new(proof))),
            group_size: plan.assignment.cohort,
            refused: Mutex::new(refused),
            noise_multiplier: stored.noise_multiplier,
            since,
            lasts,
            journal,
            changed: watch::Sender::new(0),
        })
    }

    /// Which attempt it is.
    #[must_use]
    pub fn id(&self) -> &AttemptId {
        &self.id
    }

    pub(super) fn encoding(&self) -> &Encoding {
        &self.encoding
    }

    /// What it does for privacy.
    pub(super) fn privacy(&self) -> Option<&RoundPrivacy> {
        self.privacy.as_ref()
    }

    /// Noise of this attempt.
    pub(super) fn noise_multiplier(&self) -> Option<f64> {
        self.noise_multiplier
    }

    /// What its inputs prove.
    pub(super) fn proving(&self) -> Option<&Arc<Proving>> {
        self.proving.as_ref()
    }

    /// Participants of each group.
    pub(super) fn group_size(&self) -> u32 {
        self.group_size
    }

    /// Whose inputs were refused because of their proofs, and why.
    pub(super) async fn refused(&self) -> BTreeMap<ParticipantId, String> {
        self.refused.lock().await.clone()
    }

    pub(super) fn cohort(&self) -> &BTreeSet<ParticipantId> {
        &self.cohort
    }

    /// How long the attempt may last.
    pub(super) fn lasts(&self) -> Duration {
        self.lasts
    }

    /// What a participant is asked to do, if it is invited and keys can still be advertised.
    pub(super) async fn assignment(&self, to: &ParticipantId) -> Option<Assignment> {
        self.groups[*self.group_of.get(to)?].assignment(elapsed(self.since)).await
    }

    /// A participant's group; somebody who is in none is answered by the first one, which knows nothing of it either.
    fn group_of(&self, id: &ParticipantId) -> &Group {
        &self.groups[self.group_of.get(id).copied().unwrap_or(0)]
    }

    /// A group's slot, once nothing is being worked on.
    async fn slot<'a>(&self, group: &'a Group) -> MutexGuard<'a, Slot> {
        let mut changed = self.changed.subscribe();
        let until = tokio::time::Instant::now() + WORK_MAX;
        loop {
            changed.borrow_and_update();
            let slot = group.core.lock().await;
            if !matches!(*slot, Slot::Working) || tokio::time::Instant::now() >= until {
                return slot;
            }
            drop(slot);
            tokio::select! {
                _ = changed.changed() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// The state machine, if the attempt is open.
    fn open_core<'a>(&self, slot: &'a mut Slot) -> Result<&'a mut Coordinator, AttemptError> {
        match slot {
            Slot::Open(core) => Ok(core),
            Slot::Working | Slot::Suspended => Err(AttemptError::Suspended),
            Slot::Over => Err(AttemptError::Ended { round: self.id.round.clone(), attempt: self.id.attempt }),
        }
    }

    /// Whether this participant's message of the step is awaited: asked before a byte of it is read.
    ///
    /// # Errors
    /// [`AttemptError`]: it is not, or its sender has no part in it.
    pub async fn expects(&self, step: Step, from: &ParticipantId) -> Result<(), AttemptError> {
        let group = self.group_of(from);
        Ok(self.open_core(&mut *self.slot(group).await)?.expects(step, from)?)
    }

    /// Takes a participant's message; when this returns, it counts and is durable.
    ///
    /// # Errors
    /// [`AttemptError`]: it does not count.
    pub async fn message(&self, step: Step, from: &ParticipantId, bytes: Vec<u8>) -> Result<Receipt, AttemptError> {
        let group = self.group_of(from);
        let (receipt, durable) = {
            let mut slot = self.slot(group).await;
            let receipt = self.open_core(&mut slot)?.message(step, from, &bytes, elapsed(self.since))?;
            crash_point!("{step}:taken");
            (receipt, self.note(receipt, step, from, bytes))
        };
        self.durable(durable).await?;
        crash_point!("{step}:stored");
        Ok(receipt)
    }

    /// Puts an accepted message into the journal; a repeated one waits for what is there.
    fn note(&self, receipt: Receipt, step: Step, from: &ParticipantId, bytes: Vec<u8>) -> Durable {
        match receipt {
            Receipt::Accepted => self.journal.push(Event::Message { step, from: from.clone(), bytes }),
            Receipt::Duplicate => self.journal.barrier(),
        }
    }

    /// Waits until what was told is stored. If it cannot be, memory is ahead of the store: the attempt is restored.
    async fn durable(&self, durable: Durable) -> Result<(), JournalError> {
        let stored = durable.wait().await;
        if stored.is_err() {
            self.suspend().await;
        }
        self.happened();
        stored
    }

    /// Bytes of an input, if this participant's is awaited.
    ///
    /// # Errors
    /// [`AttemptError`]: it is not.
    pub async fn expects_input(&self, from: &ParticipantId) -> Result<u64, AttemptError> {
        let mut slot = self.slot(self.group_of(from)).await;
        let core = self.open_core(&mut slot)?;
        core.expects_input(from)?;
        Ok(core.input_len())
    }

    /// Takes an input whose bytes are whole in the spool: checks the header, then the bytes, then adds them to the sum.
    ///
    /// # Errors
    /// [`AttemptError`]: it does not count; what is in the spool stays there, so that the rest can follow.
    pub async fn input(&self, app: &App, from: &ParticipantId, header: Vec<u8>) -> Result<Receipt, AttemptError> {
        // Else one header could throw away the bytes that another one has just been found to fit.
        let _turn = match self.turns.get(from) {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        let group = self.group_of(from);
        let (repeated, expected, mut hasher) = {
            let mut slot = self.slot(group).await;
            let core = self.open_core(&mut slot)?;
            (core.check_input(from, &header)? == Receipt::Duplicate, core.input_len(), core.hasher())
        };
        if repeated {
            self.durable(self.journal.barrier()).await?;
            return Ok(Receipt::Duplicate);
        }
        let key = self.spool_key(from)?;
        let spool = app.store.spool();
        let received = spool.received(&key).await?;
        if received != expected {
            return Err(AttemptError::Incomplete { received, expected });
        }
        read_spooled(spool, &key, |block| hasher.update(block)).await?;
        let payload = hasher.finish();
        {
            let mut slot = self.slot(group).await;
            if let Err(wrong) = self.open_core(&mut slot)?.check_upload(from, &header, &payload) {
                if matches!(wrong, Rejection::InputDigest { .. } | Rejection::InputPadding) {
                    // These bytes can never become an input that was signed: the upload starts over.
                    spool.remove(&key).await?;
                }
                return Err(wrong.into());
            }
        }
        // These are the bytes that the sender signed. What they prove is its own doing.
        if let Err(disproof) = self.proven(app, group, from).await? {
            return self.refuse(group, from, &disproof).await;
        }
        let (receipt, durable) = {
            let mut slot = self.slot(group).await;
            let receipt = self.open_core(&mut slot)?.input(from, &header, &payload, elapsed(self.since))?;
            crash_point!("MaskedInput:taken");
            (receipt, self.note(receipt, Step::MaskedInput, from, header))
        };
        self.durable(durable).await?;
        crash_point!("MaskedInput:stored");
        if receipt == Receipt::Accepted {
            // A failure here costs time, not the input: the sum is compared with the survivors before it is opened.
            let mut sum = group.sum.lock().await;
            if let Err(error) = add_spooled(spool, &key, from, &mut sum).await {
                tracing::warn!(%error, round = %self.id.round, "an input could not be added; the sum will be rebuilt");
            }
        }
        self.happened();
        Ok(receipt)
    }

    /// Whether the proof in a participant's whole upload is good; it is where none is asked for.
    async fn proven(
        &self,
        app: &App,
        group: &Group,
        from: &ParticipantId,
    ) -> Result<Result<(), Disproof>, AttemptError> {
        let Some(proving) = self.proving.clone() else { return Ok(Ok(())) };
        let (context, commitments, packed_len) = {
            let mut slot = self.slot(group).await;
            let core = self.open_core(&mut slot)?;
            let commitments = core.commitments(from).unwrap_or_default().to_vec();
            (core.context().clone(), commitments, core.packed_len())
        };
        let proof = read_proof(app.store.spool(), &self.spool_key(from)?, packed_len).await?;
        let _turn = app.rounds.verifying.acquire().await;
        let id = from.clone();
        let work = move || {
            let began = Instant::now();
            let verified = proving.verify(&context, &id, (&commitments, &proof));
            metrics::histogram!(PROOF_VERIFY_SECONDS).record(began.elapsed());
            verified
        };
        Ok(tokio::task::spawn_blocking(work).await.map_err(|_| damaged("proof"))?)
    }

    /// Notes that a participant's input does not count because of its proof: it is a dropout, with this reason.
    async fn refuse(&self, group: &Group, from: &ParticipantId, disproof: &Disproof) -> Result<Receipt, AttemptError> {
        let reason = disproof.to_string();
        let durable = {
            let mut slot = self.slot(group).await;
            self.open_core(&mut slot)?.refuse_input(from, elapsed(self.since))?;
            self.refused.lock().await.insert(from.clone(), reason.clone());
            self.journal.push(Event::Refused { from: from.clone(), reason: reason.clone() })
        };
        self.durable(durable).await?;
        metrics::counter!(INPUTS_REFUSED, "reason" => disproof.label()).increment(1);
        let (round, attempt) = (&self.id.round, self.id.attempt);
        tracing::warn!(%round, attempt, participant = %from, reason, "an input was refused: its proof does not verify");
        Err(AttemptError::Disproved { reason })
    }

    /// What opens a step for a participant; waits until there is something to say, at most until `deadline`.
    ///
    /// # Errors
    /// [`AttemptError::Ended`].
    pub async fn outgoing(
        &self,
        step: Step,
        to: &ParticipantId,
        deadline: tokio::time::Instant,
    ) -> Result<Outgoing, AttemptError> {
        let mut changed = self.changed.subscribe();
        let group = self.group_of(to);
        loop {
            changed.borrow_and_update();
            let outgoing = {
                let mut slot = self.slot(group).await;
                self.open_core(&mut slot)?.outgoing(step, to)
            };
            if outgoing != Outgoing::Wait {
                return Ok(outgoing);
            }
            tokio::select! {
                _ = changed.changed() => {}
                () = tokio::time::sleep_until(deadline) => return Ok(Outgoing::Wait),
            }
        }
    }

    /// Where a participant's upload is spooled.
    ///
    /// # Errors
    /// Never for names that were checked.
    pub fn spool_key(&self, from: &ParticipantId) -> Result<SpoolKey, StoreError> {
        let AttemptId { round, attempt } = &self.id;
        SpoolKey::new(round.task.as_str(), round.number, *attempt, from.as_str())
    }

    fn happened(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Marks the attempt as over, once the store says so; whoever waits is told.
    pub(super) async fn end(&self) {
        for group in &self.groups {
            *group.core.lock().await = Slot::Over;
        }
        self.happened();
    }

    /// Marks the attempt as one to restore; whoever waits is told to come back.
    pub(super) async fn suspend(&self) {
        for group in &self.groups {
            *group.core.lock().await = Slot::Suspended;
        }
        self.happened();
    }

    /// Closes steps in time until every group has a sum that can be opened or has ended without one, and opens those.
    pub(super) async fn run(&self, app: &App) -> Result<Ended, Stopped> {
        let mut changed = self.changed.subscribe();
        let mut aborted: BTreeMap<usize, Aborted> = BTreeMap::new();
        loop {
            changed.borrow_and_update();
            let mut deadline = None;
            for (at, group) in self.groups.iter().enumerate() {
                if aborted.contains_key(&at) {
                    continue;
                }
                match self.advance(app, group).await? {
                    Stand::Waits(until) => deadline = Some(deadline.map_or(until, |other: u64| other.min(until))),
                    Stand::Opening => {}
                    Stand::Aborted(why) => {
                        // The others go on; whoever waits in this one is told that it is over.
                        *group.core.lock().await = Slot::Over;
                        self.happened();
                        aborted.insert(at, *why);
                    }
                }
            }
            let Some(deadline) = deadline else { break };
            let wait = Duration::from_millis(deadline.saturating_sub(elapsed(self.since)));
            tokio::select! {
                _ = changed.changed() => {}
                () = tokio::time::sleep(wait) => {}
                () = app.lifecycle.stopping() => return Err(Stopped::Parked),
            }
        }
        if aborted.len() < self.groups.len() {
            crash_point!("opening:begun");
            let AttemptId { round, .. } = &self.id;
            let state = sordino_store::round_state::AGGREGATING;
            app.store.set_round_state(round.task.as_str(), round.number, state).await?;
            crash_point!("opening:stored");
        }
        let mut opened = Vec::new();
        for (at, group) in
            self.groups.iter().enumerate().filter(|(at, _)| !aborted.contains_key(at)).collect::<Vec<_>>()
        {
            match group.open(app, self).await? {
                Ok(sum) => opened.push(sum),
                Err(why) => {
                    aborted.insert(at, why);
                }
            }
            self.happened();
        }
        crash_point!("opening:opened");
        let aborted: Vec<_> = aborted.into_values().collect();
        if opened.is_empty() { Err(Stopped::Aborted(aborted)) } else { Ok(Ended { opened, aborted }) }
    }

    /// Closes what is due in a group.
    ///
    /// What is due is taken out of its slot, and requests wait; where this returns an error, the attempt has to be restored.
    async fn advance(&self, app: &App, group: &Group) -> Result<Stand, Stopped> {
        loop {
            let core = {
                let mut slot = group.core.lock().await;
                let Slot::Open(core) = &*slot else { return Err(JournalError::Closed.into()) };
                let now = elapsed(self.since);
                if core.is_opening() {
                    return Ok(Stand::Opening);
                }
                if !core.awaits_registrar() && !core.is_due(now) {
                    return Ok(Stand::Waits(core.deadline()));
                }
                match std::mem::replace(&mut *slot, Slot::Working) {
                    Slot::Open(core) => *core,
                    Slot::Working | Slot::Suspended | Slot::Over => return Err(JournalError::Closed.into()),
                }
            };
            let index = group.index;
            let core = if let Some(roster) = core.roster_to_sign() {
                let signature = Box::new(app.rounds.registrar.sign_roster(&roster).await?);
                crash_point!("roster:signed");
                self.journal.push(Event::RosterSigned { group: index, signature: signature.clone() }).wait().await?;
                crash_point!("roster:stored");
                core.roster_signed(*signature, elapsed(self.since))
            } else if let Some(survivors) = core.survivors_to_sign() {
                let signature = Box::new(app.rounds.registrar.sign_survivors(&survivors).await?);
                crash_point!("survivors:signed");
                self.journal.push(Event::SurvivorsSigned { group: index, signature: signature.clone() }).wait().await?;
                crash_point!("survivors:stored");
                core.survivors_signed(*signature, elapsed(self.since))
            } else {
                match self.close(group, core).await? {
                    Ok(core) => core,
                    Err(aborted) => return Ok(Stand::Aborted(aborted)),
                }
            };
            *group.core.lock().await = Slot::Open(Box::new(core));
            self.happened();
        }
    }

    async fn close(&self, group: &Group, core: Coordinator) -> Result<Result<Coordinator, Box<Aborted>>, Stopped> {
        let now = elapsed(self.since);
        let step = core.step();
        let (heard, shown) = (core.heard(), Shown::of(&core));
        let aborted = |abort| Box::new(Aborted { abort, heard, shown });
        if let Some(abort) = core.timed_out(now).filter(|_| !core.is_complete()) {
            return Ok(Err(aborted(abort)));
        }
        let core = match core.close(now) {
            Ok(core) => core,
            Err(abort) => return Ok(Err(aborted(abort))),
        };
        // Stored before anybody is told that Unmasking is open: what is counted is never less than what was revealed.
        let reveals = core.reveals();
        crash_point!("{}:closing", step.map_or("no step", Step::name));
        self.journal.push(Event::Closed { group: group.index, reveals }).wait().await?;
        crash_point!("{}:closed", step.map_or("no step", Step::name));
        if let Some(step) = step {
            let took = group.note_closed(step, now).await;
            metrics::histogram!("sordino_round_step_seconds", "step" => step.name())
                .record(Duration::from_millis(took).as_secs_f64());
            let (round, attempt) = (&self.id.round, self.id.attempt);
            tracing::debug!(%round, attempt, group = group.index, step = step.name(), "step closed");
        }
        Ok(Ok(core))
    }
}

/// Where a group stands once what was due is closed.
enum Stand {
    /// For messages, or until then.
    Waits(u64),
    /// Its masks can be taken off.
    Opening,
    /// There will be no sum of it.
    Aborted(Box<Aborted>),
}

/// What came out of an attempt: of at least one group its sum.
pub(super) struct Ended {
    pub(super) opened: Vec<Opened>,
    pub(super) aborted: Vec<Aborted>,
}

impl Ended {
    /// What each group has shown of its participants, with the reason where it came to no sum.
    pub(super) fn shown(&self) -> impl Iterator<Item = (&Shown, Option<&Abort>)> {
        let opened = self.opened.iter().map(|group| (&group.shown, None));
        opened.chain(self.aborted.iter().map(|group| (&group.shown, Some(&group.abort))))
    }
}

impl StoredCohort {
    /// Names and certificate keys, group by group.
    fn cohorts(&self) -> Result<Vec<BTreeMap<ParticipantId, CertificateKey>>, StoreError> {
        let member = |name: &String| {
            let key = hex::decode(self.members.get(name).ok_or_else(|| damaged("cohort"))?);
            let key = CertificateKey::from_bytes(&key.map_err(|_| damaged("cohort"))?);
            Ok((ParticipantId::new(name).map_err(|_| damaged("cohort"))?, key.map_err(|_| damaged("cohort"))?))
        };
        if self.groups.is_empty() {
            return Ok(vec![self.members.keys().map(member).collect::<Result<_, StoreError>>()?]);
        }
        self.groups.iter().map(|group| group.iter().map(member).collect()).collect()
    }
}

/// The nonce of one group of an attempt: no key, signature or proof of one means anything in another.
fn group_nonce(attempt: Digest, group: u32) -> Digest {
    Digest(sha256(&[GROUP_LABEL, &attempt.0, &group.to_le_bytes()].concat()))
}

fn setup(
    app: &App,
    policy: &CheckedPolicy,
    assignment: &Assignment,
    (encoding, proof): (&Encoding, Option<&RoundProof>),
    cohort: BTreeMap<ParticipantId, CertificateKey>,
) -> Setup {
    let timing = &policy.policy().timing;
    let seconds = |seconds: f64| to_millis(Duration::from_secs_f64(seconds));
    let n = u32::try_from(cohort.len()).unwrap_or(u32::MAX);
    Setup {
        context: policy.context(app.federation(), assignment, (encoding, proof)),
        quorum: policy.quorum(n),
        cohort,
        timing: Timing {
            advertise: seconds(timing.participant_timeout),
            step: seconds(timing.step_timeout),
            grace: seconds(timing.step_grace),
            attempt: seconds(timing.round_timeout),
        },
    }
}

pub(super) fn damaged(what: &'static str) -> StoreError {
    StoreError::corrupt(format!("the stored {what} of an attempt"))
}

pub(super) fn elapsed(since: Instant) -> u64 {
    to_millis(since.elapsed())
}

fn to_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How long a request waits for a step that is being closed: a commit, and the registrar.
const WORK_MAX: Duration = Duration::from_secs(5);
const GROUP_LABEL: &[u8] = b"sordino/coordinator/group/v1";
