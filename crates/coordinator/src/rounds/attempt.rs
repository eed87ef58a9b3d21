//! One attempt: the protocol's state machine, its journal, the spooled inputs and the running sum.

pub use super::journal::JournalError;
use super::journal::{Durable, Event, Journal};
use crate::app::App;
use crate::clock::millis;
use serde::{Deserialize, Serialize};
use sordino_codec::{Encoding, RingVector};
use sordino_secagg::coordinator::{
    Abort, Coordinator, Outgoing, Receipt, Rejection, RunningSum, Setup, SumError, Timing,
};
use sordino_secagg::{CertificateKey, Dispute, ParticipantId, Step};
use sordino_store::{Spool, SpoolError, SpoolKey, StoreError, crash_point};
use sordino_wire::api::{Assignment, AttemptId};
use sordino_wire::{CheckedPolicy, Digest, RoundPrivacy};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::io::AsyncReadExt;
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
    /// It ended without a sum.
    #[error("{abort}")]
    Aborted {
        /// Why.
        #[source]
        abort: Abort,
        /// What it has shown of its participants.
        shown: Shown,
    },
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

/// What an attempt has shown of its participants when it ends.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    /// Who had not answered in the step that was open.
    pub(super) silent: BTreeSet<ParticipantId>,
    /// Whose shares did not open, by the word of whom.
    pub(super) disputes: Vec<Dispute>,
}

impl Shown {
    fn of(core: &Coordinator) -> Self {
        let disputes = core.disputes();
        let step = core.step();
        // Between two steps nobody is awaited. Whoever has complained may well refuse what follows: that is no silence.
        let unanswered = core.heard().into_iter().filter(|(_, last)| step.is_some() && *last != step).map(|(id, _)| id);
        let silent = unanswered.filter(|id| disputes.iter().all(|dispute| dispute.holder != *id)).collect();
        Self { silent, disputes }
    }
}

/// What came out of an attempt.
pub(super) struct Opened {
    pub(super) sum: RingVector,
    pub(super) survivors: Vec<ParticipantId>,
    /// The last step each member of the cohort was heard in.
    pub(super) heard: BTreeMap<ParticipantId, Option<Step>>,
    pub(super) shown: Shown,
    pub(super) input_bytes: u64,
    pub(super) step_millis: Vec<(String, u64)>,
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
}

/// The attempt of a round that is open.
pub struct Attempt {
    id: AttemptId,
    assignment: Assignment,
    encoding: Encoding,
    privacy: Option<RoundPrivacy>,
    cohort: BTreeSet<ParticipantId>,
    /// One for each of them: the headers of its input are looked at one after the other.
    turns: BTreeMap<ParticipantId, Mutex<()>>,
    core: Mutex<Slot>,
    sum: Mutex<RunningSum>,
    step_millis: Mutex<Vec<(String, u64)>>,
    /// When this attempt was taken up by this process: its deadlines run on a clock that nobody sets.
    since: Instant,
    /// When the open step was opened, on that clock.
    opened_at: Mutex<u64>,
    /// How long the attempt may last, by its policy.
    lasts: Duration,
    journal: Journal,
    /// Counts what happened, for those who wait.
    changed: watch::Sender<u64>,
}

/// The state machine, if it can be asked.
enum Slot {
    Open(Box<Coordinator>),
    /// A step is being closed: requests wait for a moment.
    Working,
    /// It has to be restored from the store: the attempt goes on, and requests are told to come back.
    Suspended,
    /// The attempt has ended, and the store says so.
    Over,
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
    pub(super) fn cohort_json(
        nonce: Digest,
        members: &BTreeMap<ParticipantId, Vec<u8>>,
        noise_multiplier: Option<f64>,
    ) -> Result<String, serde_json::Error> {
        let members = members.iter().map(|(id, key)| (id.to_string(), hex::encode(key))).collect();
        serde_json::to_string(&StoredCohort { nonce, members, noise_multiplier })
    }

    /// The attempt as the store has it: just begun, or as far as its journal goes.
    pub(super) async fn restore(app: &App, mut plan: Plan, cohort_json: &str) -> Result<Self, Stopped> {
        let stored: StoredCohort = serde_json::from_str(cohort_json).map_err(|_| damaged("cohort"))?;
        plan.assignment.nonce = stored.nonce;
        let cohort = stored
            .members
            .iter()
            .map(|(id, key)| {
                let id = ParticipantId::new(id).map_err(|_| damaged("cohort"))?;
                let key = hex::decode(key).map_err(|_| damaged("cohort"))?;
                Ok((id, CertificateKey::from_bytes(&key).map_err(|_| damaged("cohort"))?))
            })
            .collect::<Result<BTreeMap<_, _>, StoreError>>()?;
        let invited: BTreeSet<_> = cohort.keys().cloned().collect();
        plan.assignment.cohort = u32::try_from(invited.len()).map_err(|_| damaged("cohort"))?;
        plan.assignment.noise_multiplier = stored.noise_multiplier;
        let settled = plan.policy.assigned_terms(plan.assignment.cohort, stored.noise_multiplier);
        let terms = settled.map_err(|_| damaged("cohort"))?;
        let encoding = plan.policy.encoding(plan.model_len, &terms).map_err(|_| damaged("cohort"))?;
        let privacy = plan.policy.round_privacy(plan.model_len, &terms).map_err(|_| damaged("cohort"))?;
        let lasts = Duration::from_secs_f64(plan.policy.policy().timing.round_timeout);
        let setup = setup(app, &plan, &encoding, cohort);
        let since = Instant::now();
        let mut core = Coordinator::new(setup, 0);
        let mut sum = core.new_sum();
        let id = AttemptId { round: plan.assignment.round.clone(), attempt: plan.assignment.attempt };
        let rows = app.store.events(id.round.task.as_str(), id.round.number, id.attempt).await?;
        let next = rows.len() as u64;
        let mut step_millis = Vec::new();
        let started = app.store.attempt(id.round.task.as_str(), id.round.number, id.attempt).await?;
        let mut opened_at = started.map_or(0, |row| row.started_at);
        for row in rows {
            let at = row.at;
            let step = core.step();
            let event = Event::from_row(row).ok_or_else(|| damaged("journal"))?;
            core = replay(app, &id, core, &mut sum, event).await?;
            if let Some(step) = step.filter(|_| core.step() != step) {
                step_millis.push((step.name().to_owned(), u64::try_from(at - opened_at).unwrap_or(0)));
                opened_at = at;
            }
        }
        // Nobody could reach a coordinator that was not there: every deadline starts anew.
        core.resume(elapsed(since));
        let clock = app.shared_clock();
        let journal = Journal::open(app.store.clone(), id.clone(), next, Arc::new(move || millis(clock.now())));
        Ok(Self {
            id,
            assignment: plan.assignment,
            encoding,
            privacy,
            turns: invited.iter().map(|id| (id.clone(), Mutex::default())).collect(),
            cohort: invited,
            core: Mutex::new(Slot::Open(Box::new(core))),
            sum: Mutex::new(sum),
            step_millis: Mutex::new(step_millis),
            since,
            opened_at: Mutex::new(elapsed(since)),
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
        self.assignment.noise_multiplier
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
        let slot = self.core.lock().await;
        let Slot::Open(core) = &*slot else { return None };
        let invited = self.cohort.contains(to) && core.step() == Some(Step::AdvertiseKeys);
        let time_left = core.deadline().saturating_sub(elapsed(self.since));
        invited.then(|| Assignment { time_left, ..self.assignment.clone() })
    }

    /// The slot, once nothing is being worked on.
    async fn slot(&self) -> MutexGuard<'_, Slot> {
        let mut changed = self.changed.subscribe();
        let until = tokio::time::Instant::now() + WORK_MAX;
        loop {
            changed.borrow_and_update();
            let slot = self.core.lock().await;
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
        Ok(self.open_core(&mut *self.slot().await)?.expects(step, from)?)
    }

    /// Takes a participant's message; when this returns, it counts and is durable.
    ///
    /// # Errors
    /// [`AttemptError`]: it does not count.
    pub async fn message(&self, step: Step, from: &ParticipantId, bytes: Vec<u8>) -> Result<Receipt, AttemptError> {
        let (receipt, durable) = {
            let mut slot = self.slot().await;
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
        let mut slot = self.slot().await;
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
        let (repeated, expected, mut hasher) = {
            let mut slot = self.slot().await;
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
        let (receipt, durable) = {
            let mut slot = self.slot().await;
            let receipt = match self.open_core(&mut slot)?.input(from, &header, &payload, elapsed(self.since)) {
                Err(wrong @ (Rejection::InputDigest { .. } | Rejection::InputPadding)) => {
                    // These bytes can never become an input that was signed: the upload starts over.
                    spool.remove(&key).await?;
                    return Err(wrong.into());
                }
                other => other?,
            };
            crash_point!("MaskedInput:taken");
            (receipt, self.note(receipt, Step::MaskedInput, from, header))
        };
        self.durable(durable).await?;
        crash_point!("MaskedInput:stored");
        if receipt == Receipt::Accepted {
            // A failure here costs time, not the input: the sum is compared with the survivors before it is opened.
            let mut sum = self.sum.lock().await;
            if let Err(error) = add_spooled(spool, &key, from, &mut sum).await {
                tracing::warn!(%error, round = %self.id.round, "an input could not be added; the sum will be rebuilt");
            }
        }
        self.happened();
        Ok(receipt)
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
        loop {
            changed.borrow_and_update();
            let outgoing = {
                let mut slot = self.slot().await;
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
        *self.core.lock().await = Slot::Over;
        self.happened();
    }

    /// Marks the attempt as one to restore; whoever waits is told to come back.
    pub(super) async fn suspend(&self) {
        *self.core.lock().await = Slot::Suspended;
        self.happened();
    }

    /// Closes steps in time until the sum is open.
    pub(super) async fn run(&self, app: &App) -> Result<Opened, Stopped> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let Some(deadline) = self.advance(app).await? else { return self.open(app).await };
            let wait = Duration::from_millis(deadline.saturating_sub(elapsed(self.since)));
            tokio::select! {
                _ = changed.changed() => {}
                () = tokio::time::sleep(wait) => {}
                () = app.lifecycle.stopping() => return Err(Stopped::Parked),
            }
        }
    }

    /// Closes what is due; the next deadline, or `None` when the sum can be opened.
    ///
    /// What is due is taken out of its slot, and requests wait; where this returns early, the attempt is over or has to be
    /// restored, and the caller says which.
    async fn advance(&self, app: &App) -> Result<Option<u64>, Stopped> {
        loop {
            let core = {
                let mut slot = self.core.lock().await;
                let Slot::Open(core) = &*slot else { return Err(JournalError::Closed.into()) };
                let now = elapsed(self.since);
                if core.is_opening() {
                    return Ok(None);
                }
                if !core.awaits_registrar() && !core.is_due(now) {
                    return Ok(Some(core.deadline()));
                }
                match std::mem::replace(&mut *slot, Slot::Working) {
                    Slot::Open(core) => *core,
                    Slot::Working | Slot::Suspended | Slot::Over => return Err(JournalError::Closed.into()),
                }
            };
            let core = if let Some(roster) = core.roster_to_sign() {
                let signature = app.rounds.registrar.sign_roster(&roster).await?;
                crash_point!("roster:signed");
                self.journal.push(Event::RosterSigned(Box::new(signature))).wait().await?;
                crash_point!("roster:stored");
                core.roster_signed(signature, elapsed(self.since))
            } else if let Some(survivors) = core.survivors_to_sign() {
                let signature = app.rounds.registrar.sign_survivors(&survivors).await?;
                crash_point!("survivors:signed");
                self.journal.push(Event::SurvivorsSigned(Box::new(signature))).wait().await?;
                crash_point!("survivors:stored");
                core.survivors_signed(signature, elapsed(self.since))
            } else {
                self.close(core).await?
            };
            *self.core.lock().await = Slot::Open(Box::new(core));
            self.happened();
        }
    }

    async fn close(&self, core: Coordinator) -> Result<Coordinator, Stopped> {
        let now = elapsed(self.since);
        let step = core.step();
        let shown = Shown::of(&core);
        if let Some(abort) = core.timed_out(now).filter(|_| !core.is_complete()) {
            return Err(Stopped::Aborted { abort, shown });
        }
        let core = core.close(now).map_err(|abort| Stopped::Aborted { abort, shown })?;
        // Stored before anybody is told that Unmasking is open: what is counted is never less than what was revealed.
        let reveals = core.reveals();
        crash_point!("{}:closing", step.map_or("no step", Step::name));
        self.journal.push(Event::Closed { reveals }).wait().await?;
        crash_point!("{}:closed", step.map_or("no step", Step::name));
        self.note_closed(step).await;
        Ok(core)
    }

    async fn note_closed(&self, step: Option<Step>) {
        let Some(step) = step else { return };
        let mut opened_at = self.opened_at.lock().await;
        let now = elapsed(self.since);
        let took = now.saturating_sub(std::mem::replace(&mut *opened_at, now));
        metrics::histogram!("sordino_round_step_seconds", "step" => step.name())
            .record(Duration::from_millis(took).as_secs_f64());
        self.step_millis.lock().await.push((step.name().to_owned(), took));
        tracing::debug!(round = %self.id.round, attempt = self.id.attempt, step = step.name(), "step closed");
    }

    /// Takes the masks off. From here on the attempt takes no message: whoever is late is not needed any more.
    async fn open(&self, app: &App) -> Result<Opened, Stopped> {
        let core = match std::mem::replace(&mut *self.core.lock().await, Slot::Over) {
            Slot::Open(core) => core,
            Slot::Working | Slot::Suspended | Slot::Over => return Err(JournalError::Closed.into()),
        };
        self.happened();
        let AttemptId { round, .. } = &self.id;
        crash_point!("opening:begun");
        app.store.set_round_state(round.task.as_str(), round.number, sordino_store::round_state::AGGREGATING).await?;
        crash_point!("opening:stored");
        let began = Instant::now();
        let survivors = core.survivors().unwrap_or_default();
        let heard = core.heard();
        let (input_bytes, shown) = (core.input_len(), Shown::of(&core));
        let mut sum = core.new_sum();
        std::mem::swap(&mut sum, &mut *self.sum.lock().await);
        if !sum.is_whole_for(&survivors) {
            sum = core.new_sum();
            for from in &survivors {
                add_spooled(app.store.spool(), &self.spool_key(from)?, from, &mut sum).await?;
            }
        }
        let threads = std::thread::available_parallelism().unwrap_or(std::num::NonZeroUsize::MIN);
        let opened = tokio::task::spawn_blocking(move || core.open_on(threads, sum)).await;
        let opened = opened.map_err(|_| damaged("sum"))?;
        let sum = opened.map_err(|abort| Stopped::Aborted { abort, shown: shown.clone() })?;
        crash_point!("opening:opened");
        let mut step_millis = self.step_millis.lock().await.clone();
        step_millis.push(("Opening".to_owned(), elapsed(began)));
        Ok(Opened { sum, survivors, heard, shown, input_bytes, step_millis })
    }
}

fn setup(app: &App, plan: &Plan, encoding: &Encoding, cohort: BTreeMap<ParticipantId, CertificateKey>) -> Setup {
    let timing = &plan.policy.policy().timing;
    let seconds = |seconds: f64| to_millis(Duration::from_secs_f64(seconds));
    let n = u32::try_from(cohort.len()).unwrap_or(u32::MAX);
    Setup {
        context: plan.policy.context(app.federation(), &plan.assignment, encoding),
        quorum: plan.policy.quorum(n),
        cohort,
        timing: Timing {
            advertise: seconds(timing.participant_timeout),
            step: seconds(timing.step_timeout),
            grace: seconds(timing.step_grace),
            attempt: seconds(timing.round_timeout),
        },
    }
}

/// Tells the state machine again what it was told before.
async fn replay(
    app: &App,
    id: &AttemptId,
    mut core: Coordinator,
    sum: &mut RunningSum,
    event: Event,
) -> Result<Coordinator, Stopped> {
    match event {
        Event::Message { step: Step::MaskedInput, from, bytes } => {
            let key = SpoolKey::new(id.round.task.as_str(), id.round.number, id.attempt, from.as_str())?;
            let mut hasher = core.hasher();
            read_spooled(app.store.spool(), &key, |block| hasher.update(block)).await?;
            core.input(&from, &bytes, &hasher.finish(), 0).map_err(|_| damaged("spool"))?;
            add_spooled(app.store.spool(), &key, &from, sum).await?;
        }
        Event::Message { step, from, bytes } => {
            core.message(step, &from, &bytes, 0).map_err(|_| damaged("journal"))?;
        }
        Event::Closed { .. } => {
            let shown = Shown::of(&core);
            core = core.close(0).map_err(|abort| Stopped::Aborted { abort, shown })?;
        }
        Event::RosterSigned(signature) => core = core.roster_signed(*signature, 0),
        Event::SurvivorsSigned(signature) => core = core.survivors_signed(*signature, 0),
    }
    Ok(core)
}

/// Reads a spooled input from its beginning to its end.
async fn read_spooled(spool: &Spool, key: &SpoolKey, mut each: impl FnMut(&[u8])) -> Result<(), StoreError> {
    let mut file = spool.reader(key).await?;
    let mut block = vec![0; READ_BLOCK];
    loop {
        let got =
            file.read(&mut block).await.map_err(|source| StoreError::Io { path: key.to_string().into(), source })?;
        if got == 0 {
            return Ok(());
        }
        each(&block[..got]);
    }
}

async fn add_spooled(
    spool: &Spool,
    key: &SpoolKey,
    from: &ParticipantId,
    sum: &mut RunningSum,
) -> Result<(), StoreError> {
    let no_vector = |_: SumError| damaged("spooled input");
    let mut adder = sum.begin(from).map_err(no_vector)?;
    let mut failed = None;
    read_spooled(spool, key, |block| {
        if failed.is_none() {
            failed = adder.push(block).err();
        }
    })
    .await?;
    match failed {
        Some(error) => Err(no_vector(error)),
        None => adder.finish().map_err(no_vector),
    }
}

fn damaged(what: &'static str) -> StoreError {
    StoreError::corrupt(format!("the stored {what} of an attempt"))
}

fn elapsed(since: Instant) -> u64 {
    to_millis(since.elapsed())
}

fn to_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How long a request waits for a step that is being closed: a commit, and the registrar.
const WORK_MAX: Duration = Duration::from_secs(5);
/// Bytes of a spooled input that are in memory at a time.
const READ_BLOCK: usize = 256 * 1024;
