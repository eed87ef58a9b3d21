//! One group of an attempt: everybody in it is summed with everybody else in it, and with nobody outside.

use super::attempt::{Attempt, JournalError, Stopped, damaged, elapsed};
use super::journal::Event;
use crate::app::App;
use sordino_codec::RingVector;
use sordino_secagg::coordinator::{Abort, Coordinator, RunningSum, Setup, SumError};
use sordino_secagg::{Context, Dispute, ParticipantId, Step};
use sordino_store::{Spool, SpoolKey, StoreError};
use sordino_wire::Digest;
use sordino_wire::api::{Assignment, AttemptId};
use sordino_wire::evidence::InputEvidence;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;

/// One secure sum of an attempt.
pub(super) struct Group {
    pub(super) index: u32,
    assignment: Assignment,
    pub(super) core: Mutex<Slot>,
    pub(super) sum: Mutex<RunningSum>,
    steps: Mutex<Steps>,
}

/// The state machine, if it can be asked.
pub(super) enum Slot {
    Open(Box<Coordinator>),
    /// A step is being closed: requests wait for a moment.
    Working,
    /// It has to be restored from the store: the attempt goes on, and requests are told to come back.
    Suspended,
    /// The group has ended.
    Over,
}

/// How long steps took.
struct Steps {
    /// When the open step was opened: while the journal is replayed in epoch milliseconds, then on the attempt's own clock.
    opened_at: u64,
    millis: Vec<(String, u64)>,
}

/// What a group has shown of its participants when it ends.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    /// Who had not answered in the step that was open.
    pub(super) silent: BTreeSet<ParticipantId>,
    /// Whose shares did not open, by the word of whom.
    pub(super) disputes: Vec<Dispute>,
}

impl Shown {
    pub(super) fn of(core: &Coordinator) -> Self {
        let disputes = core.disputes();
        let step = core.step();
        // Between two steps nobody is awaited. Whoever has complained may well refuse what follows: that is no silence.
        let unanswered = core.heard().into_iter().filter(|(_, last)| step.is_some() && *last != step).map(|(id, _)| id);
        let silent = unanswered.filter(|id| disputes.iter().all(|dispute| dispute.holder != *id)).collect();
        Self { silent, disputes }
    }
}

/// A group that came to no sum.
#[derive(Debug)]
pub(super) struct Aborted {
    pub(super) abort: Abort,
    /// The last step each of its members was heard in.
    pub(super) heard: BTreeMap<ParticipantId, Option<Step>>,
    pub(super) shown: Shown,
}

/// What came out of a group.
pub(super) struct Opened {
    pub(super) index: u32,
    pub(super) nonce: Digest,
    pub(super) context: Context,
    pub(super) sum: RingVector,
    /// What its survivors committed to, and their proofs; empty where inputs carry none.
    pub(super) inputs: Vec<InputEvidence>,
    pub(super) survivors: Vec<ParticipantId>,
    /// The last step each of its members was heard in.
    pub(super) heard: BTreeMap<ParticipantId, Option<Step>>,
    pub(super) shown: Shown,
    pub(super) input_bytes: u64,
    pub(super) step_millis: Vec<(String, u64)>,
}

impl Group {
    /// A group that has heard nothing.
    ///
    /// - `started_at`: when the attempt began; epoch milliseconds.
    pub(super) fn new(index: u32, assignment: Assignment, setup: Setup, started_at: i64) -> Self {
        let core = Coordinator::new(setup, 0);
        let sum = core.new_sum();
        let steps = Steps { opened_at: u64::try_from(started_at).unwrap_or(0), millis: Vec::new() };
        let core = Mutex::new(Slot::Open(Box::new(core)));
        Self { index, assignment, core, sum: Mutex::new(sum), steps: Mutex::new(steps) }
    }

    /// Tells the state machine again what it was told before, at `at` in epoch milliseconds.
    pub(super) async fn replay(&mut self, app: &App, id: &AttemptId, event: Event, at: i64) -> Result<(), Stopped> {
        let Slot::Open(core) = std::mem::replace(self.core.get_mut(), Slot::Working) else {
            return Err(damaged("journal").into());
        };
        let step = core.step();
        let core = told(app, id, *core, self.sum.get_mut(), event).await?;
        if let Some(step) = step.filter(|_| core.step() != step) {
            let (steps, at) = (self.steps.get_mut(), u64::try_from(at).unwrap_or(0));
            steps.millis.push((step.name().to_owned(), at.saturating_sub(steps.opened_at)));
            steps.opened_at = at;
        }
        *self.core.get_mut() = Slot::Open(Box::new(core));
        Ok(())
    }

    /// Takes up what was replayed: all deadlines start anew.
    pub(super) fn resume(&mut self, now: u64) {
        if let Slot::Open(core) = self.core.get_mut() {
            core.resume(now);
        }
        self.steps.get_mut().opened_at = now;
    }

    /// What a member is asked to do, if keys can still be advertised.
    pub(super) async fn assignment(&self, now: u64) -> Option<Assignment> {
        let slot = self.core.lock().await;
        let Slot::Open(core) = &*slot else { return None };
        let time_left = core.deadline().saturating_sub(now);
        (core.step() == Some(Step::AdvertiseKeys)).then(|| Assignment { time_left, ..self.assignment.clone() })
    }

    /// Notes that a step was closed; how long it was open, in milliseconds.
    pub(super) async fn note_closed(&self, step: Step, now: u64) -> u64 {
        let mut steps = self.steps.lock().await;
        let took = now.saturating_sub(std::mem::replace(&mut steps.opened_at, now));
        steps.millis.push((step.name().to_owned(), took));
        took
    }

    /// Takes the masks off. From here on the group takes no message: whoever is late is not needed any more.
    pub(super) async fn open(&self, app: &App, attempt: &Attempt) -> Result<Result<Opened, Aborted>, Stopped> {
        let core = match std::mem::replace(&mut *self.core.lock().await, Slot::Over) {
            Slot::Open(core) => core,
            Slot::Working | Slot::Suspended | Slot::Over => return Err(JournalError::Closed.into()),
        };
        let began = Instant::now();
        let survivors = core.survivors().unwrap_or_default();
        let (heard, shown, input_bytes) = (core.heard(), Shown::of(&core), core.input_len());
        let context = core.context().clone();
        let mut inputs = Vec::new();
        for signed in core.signed_commitments() {
            let key = attempt.spool_key(&signed.id)?;
            let proof = read_proof(app.store.spool(), &key, core.packed_len()).await?;
            inputs.push(InputEvidence { signed, proof });
        }
        let mut sum = core.new_sum();
        std::mem::swap(&mut sum, &mut *self.sum.lock().await);
        if !sum.is_whole_for(&survivors) {
            sum = core.new_sum();
            for from in &survivors {
                add_spooled(app.store.spool(), &attempt.spool_key(from)?, from, &mut sum).await?;
            }
        }
        let threads = std::thread::available_parallelism().unwrap_or(std::num::NonZeroUsize::MIN);
        let opened = tokio::task::spawn_blocking(move || core.open_on(threads, sum)).await;
        let sum = match opened.map_err(|_| damaged("sum"))? {
            Ok(sum) => sum,
            Err(abort) => return Ok(Err(Aborted { abort, heard, shown })),
        };
        let mut step_millis = self.steps.lock().await.millis.clone();
        step_millis.push(("Opening".to_owned(), elapsed(began)));
        let (index, nonce) = (self.index, self.assignment.nonce);
        Ok(Ok(Opened { index, nonce, context, sum, inputs, survivors, heard, shown, input_bytes, step_millis }))
    }
}

/// Tells a state machine what is in its journal.
async fn told(
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
        Event::Refused { from, .. } => core.refuse_input(&from, 0).map_err(|_| damaged("journal"))?,
        // It was written after the step had closed, which it does every time.
        Event::Closed { .. } => core = core.close(0).map_err(|_| damaged("journal"))?,
        Event::RosterSigned { signature, .. } => core = core.roster_signed(*signature, 0),
        Event::SurvivorsSigned { signature, .. } => core = core.survivors_signed(*signature, 0),
    }
    Ok(core)
}

/// Reads a spooled input from its beginning to its end.
pub(super) async fn read_spooled(spool: &Spool, key: &SpoolKey, mut each: impl FnMut(&[u8])) -> Result<(), StoreError> {
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

/// What is behind the vector in a spooled input.
pub(super) async fn read_proof(spool: &Spool, key: &SpoolKey, packed_len: u64) -> Result<Vec<u8>, StoreError> {
    let mut vector_left = packed_len;
    let mut proof = Vec::new();
    read_spooled(spool, key, |block| {
        let of_vector = usize::try_from(vector_left).unwrap_or(usize::MAX).min(block.len());
        vector_left -= of_vector as u64;
        proof.extend_from_slice(&block[of_vector..]);
    })
    .await?;
    Ok(proof)
}

pub(super) async fn add_spooled(
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

/// Bytes of a spooled input that are in memory at a time.
const READ_BLOCK: usize = 256 * 1024;
