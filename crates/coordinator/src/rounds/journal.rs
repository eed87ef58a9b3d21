//! What an attempt was told, written down in order before anybody is told that it counts.

use sordino_secagg::{ParticipantId, Step};
use sordino_store::{EventRow, NewEvent, Store, StoreError};
use sordino_wire::api::AttemptId;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Something an attempt was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A participant's message. For MaskedInput the header of an input whose bytes are whole in the spool.
    Message { step: Step, from: ParticipantId, bytes: Vec<u8> },
    /// A whole input of a participant was found not to be what its proof has to show: it counts as a dropout.
    Refused { from: ParticipantId, reason: String },
    /// The open step of a group was closed. With `reveals`, that opened Unmasking: from here on shares may be revealed.
    Closed { group: u32, reveals: bool },
    /// The registrar signed the roster of a group.
    RosterSigned { group: u32, signature: Box<[u8; 64]> },
    /// The registrar signed the survivor list of a group.
    SurvivorsSigned { group: u32, signature: Box<[u8; 64]> },
}

/// Numbers of the kinds of events beside those of the steps; they are stored and never change.
const CLOSED: i64 = 100;
const ROSTER_SIGNED: i64 = 101;
const UNMASKING_OPENED: i64 = 102;
const SURVIVORS_SIGNED: i64 = 103;
const REFUSED: i64 = 104;

impl Event {
    fn into_new(self) -> NewEvent {
        let group = |group: u32, rest: &[u8]| [&group.to_le_bytes(), rest].concat();
        let (kind, sender, body, reveals) = match self {
            Self::Message { step, from, bytes } => (step.number().into(), Some(from.as_str().to_owned()), bytes, false),
            Self::Refused { from, reason } => (REFUSED, Some(from.as_str().to_owned()), reason.into_bytes(), false),
            Self::Closed { group: of, reveals: false } => (CLOSED, None, group(of, &[]), false),
            Self::Closed { group: of, reveals: true } => (UNMASKING_OPENED, None, group(of, &[]), true),
            Self::RosterSigned { group: of, signature } => (ROSTER_SIGNED, None, group(of, &signature[..]), false),
            Self::SurvivorsSigned { group: of, signature } => {
                (SURVIVORS_SIGNED, None, group(of, &signature[..]), false)
            }
        };
        NewEvent { kind, sender, body, reveals }
    }

    /// `None` for a row that this version did not write.
    pub(super) fn from_row(row: EventRow) -> Option<Self> {
        let EventRow { kind, sender, body, .. } = row;
        if let Some(sender) = sender {
            let from = ParticipantId::new(&sender).ok()?;
            if kind == REFUSED {
                return Some(Self::Refused { from, reason: String::from_utf8(body).ok()? });
            }
            return Some(Self::Message { step: Step::from_number(u8::try_from(kind).ok()?)?, from, bytes: body });
        }
        let (group, rest) = body.split_first_chunk()?;
        let group = u32::from_le_bytes(*group);
        let signature = || rest.try_into().ok().map(Box::new);
        match kind {
            CLOSED if rest.is_empty() => Some(Self::Closed { group, reveals: false }),
            UNMASKING_OPENED if rest.is_empty() => Some(Self::Closed { group, reveals: true }),
            ROSTER_SIGNED => Some(Self::RosterSigned { group, signature: signature()? }),
            SURVIVORS_SIGNED => Some(Self::SurvivorsSigned { group, signature: signature()? }),
            _ => None,
        }
    }
}

/// The journal of an attempt, as a queue: what is pushed first is durable first, and what waits together shares a commit.
pub(super) struct Journal {
    queue: mpsc::UnboundedSender<Entry>,
}

/// Resolves when an event is durable.
pub(super) struct Durable(oneshot::Receiver<Result<(), Arc<StoreError>>>);

/// The journal could not be written: what was told to the attempt in memory is not what is stored.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The store refused.
    #[error("the attempt's journal cannot be written")]
    Store(#[source] Arc<StoreError>),
    /// Nothing more can be written: an earlier event could not be.
    #[error("the attempt's journal is closed")]
    Closed,
}

impl Journal {
    /// Opens the journal behind its last event.
    pub(super) fn open(store: Store, id: AttemptId, next: u64, now: Arc<dyn Fn() -> i64 + Send + Sync>) -> Self {
        let (queue, events) = mpsc::unbounded_channel();
        tokio::spawn(write(store, id, next, events, now));
        Self { queue }
    }

    /// Puts an event behind those before it.
    pub(super) fn push(&self, event: Event) -> Durable {
        self.enqueue(Some(event))
    }

    /// Resolves when all that was pushed before is durable.
    pub(super) fn barrier(&self) -> Durable {
        self.enqueue(None)
    }

    fn enqueue(&self, event: Option<Event>) -> Durable {
        let (done, durable) = oneshot::channel();
        // A writer that has stopped drops `done`, which the receiver notices.
        let _ = self.queue.send((event, done));
        Durable(durable)
    }
}

impl Durable {
    pub(super) async fn wait(self) -> Result<(), JournalError> {
        match self.0.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(JournalError::Store(error)),
            Err(_) => Err(JournalError::Closed),
        }
    }
}

/// An event, or none for a barrier, and who waits until it is durable.
type Entry = (Option<Event>, oneshot::Sender<Result<(), Arc<StoreError>>>);

/// Writes until the attempt is dropped, or until the first failure: what comes after a gap must not be stored.
async fn write(
    store: Store,
    id: AttemptId,
    mut next: u64,
    mut queue: mpsc::UnboundedReceiver<Entry>,
    now: Arc<dyn Fn() -> i64 + Send + Sync>,
) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let (events, waiting): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let events: Vec<NewEvent> = events.into_iter().flatten().map(Event::into_new).collect();
        let count = events.len() as u64;
        let written = if events.is_empty() {
            Ok(())
        } else {
            let AttemptId { round, attempt } = &id;
            store.append_events(round.task.as_str(), round.number, *attempt, next, events, now()).await
        };
        let written = written.map_err(Arc::new);
        next += count;
        for done in waiting {
            // Whoever has stopped waiting does not need to know.
            let _ = done.send(written.clone());
        }
        if written.is_err() {
            return;
        }
    }
}

/// Events in one commit, at most.
const BATCH_MAX: usize = 256;
