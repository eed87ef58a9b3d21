//! Rounds: who takes part, one attempt after another, until there is a Release.
//!
//! One runner per active task picks the cohort, opens attempts and closes their steps in time; requests feed the open
//! [`Attempt`]. What an attempt is told goes into the store's journal before anyone is told that it counts, so a
//! coordinator that was killed replays the journal, takes the inputs from the spool, and finishes the same attempt with
//! the same sum.
//!
//! There is no type for an unmasked input here: inputs are masked when they arrive, and what is opened is their sum.

mod attempt;
mod cohort;
mod group;
mod journal;
mod proving;
mod registrar;
mod release;
mod routes;
mod runner;
mod standing;
mod sums;
mod suspicion;

pub use attempt::{Attempt, AttemptError, JournalError};
pub use registrar::{LocalRegistrar, Registrar, RegistrarError};
pub use routes::routes;

use crate::app::App;
use cohort::Waiting;
use sordino_secagg::ParticipantId;
use sordino_store::{Store, StoreError};
use sordino_wire::TaskId;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
};

/// The rounds of all active tasks.
pub struct Rounds {
    registrar: Box<dyn Registrar>,
    tasks: Mutex<BTreeMap<TaskId, Arc<TaskRounds>>>,
    /// Whether the tasks that were active when the service started are all in `tasks`.
    recovered: AtomicBool,
    /// Proofs are verified by so many threads at a time.
    verifying: Semaphore,
    /// Waiting is measured on a clock that nobody sets.
    since: Instant,
}

/// Why the rounds cannot be run any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoundsError {
    /// A defect: the rounds of a task ended in the middle of their work. What is stored is whole; a restart goes on.
    #[error("the rounds of a task ended abnormally")]
    Defect(#[source] tokio::task::JoinError),
}

/// The rounds of one task.
pub(crate) struct TaskRounds {
    id: TaskId,
    waiting: Mutex<Waiting>,
    /// What keeps the next round from beginning, where enough participants are there.
    hindrance: Mutex<Option<String>>,
    /// What participants say that they have spent, by their own ledgers.
    spent: Mutex<BTreeMap<ParticipantId, f64>>,
    /// Told when somebody checks in.
    arrived: Notify,
    current: watch::Sender<Current>,
}

/// Where a task's rounds stand.
#[derive(Clone, Default)]
enum Current {
    /// The service has just started: whether an attempt is open is being looked up.
    #[default]
    Starting,
    /// No attempt is open: a cohort is gathered, or a Release is made.
    Between,
    /// An attempt is open.
    Open(Arc<Attempt>),
    /// There are no more rounds.
    Ended,
}

impl Rounds {
    /// No task's yet.
    #[must_use]
    pub fn new(registrar: impl Registrar) -> Self {
        Self {
            registrar: Box::new(registrar),
            tasks: Mutex::new(BTreeMap::new()),
            recovered: AtomicBool::new(false),
            verifying: Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)),
            since: Instant::now(),
        }
    }

    /// What a request about an attempt of this task is told.
    fn current(&self, task: &TaskId) -> Current {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        match tasks.get(task) {
            Some(rounds) => rounds.current.borrow().clone(),
            None if self.recovered.load(Ordering::Acquire) => Current::Ended,
            None => Current::Starting,
        }
    }

    /// The rounds of a task that is active, if they are run already.
    fn get(&self, task: &TaskId) -> Option<Arc<TaskRounds>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).get(task).cloned()
    }

    fn begin(&self, task: &TaskId) -> Arc<TaskRounds> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.entry(task.clone()).or_insert_with(|| Arc::new(TaskRounds::new(task.clone()))).clone()
    }

    /// What keeps a task's next round from beginning, if enough participants are there.
    pub(crate) fn hindrance(&self, task: &TaskId) -> Option<String> {
        let hindrance = &self.get(task)?.hindrance;
        hindrance.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Time since the service started.
    fn uptime(&self) -> Duration {
        self.since.elapsed()
    }

    fn forget(&self, task: &TaskId) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(task);
    }
}

impl TaskRounds {
    fn new(id: TaskId) -> Self {
        Self {
            id,
            waiting: Mutex::default(),
            hindrance: Mutex::default(),
            spent: Mutex::default(),
            arrived: Notify::new(),
            current: watch::Sender::default(),
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a participant says that it has spent.
    fn note_spent(&self, id: &ParticipantId, epsilon: Option<f64>) {
        let said = epsilon.filter(|epsilon| epsilon.is_finite() && *epsilon >= 0.0);
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        match said {
            Some(epsilon) => spent.insert(id.clone(), epsilon),
            None => spent.remove(id),
        };
    }

    /// Of these participants the one that says to have spent most.
    fn most_spent<'a>(&self, among: impl Iterator<Item = &'a ParticipantId>) -> Option<(&'a ParticipantId, f64)> {
        let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        among.filter_map(|id| Some((id, *spent.get(id)?))).max_by(|(_, a), (_, b)| a.total_cmp(b))
    }

    /// Notes what keeps the next round from beginning; says so in the log when that has changed.
    fn hindered(&self, now: Option<String>) {
        let mut hindrance = self.hindrance.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = now.as_ref().filter(|_| *hindrance != now) {
            tracing::warn!(task = %self.id, reason, "the round waits");
        }
        *hindrance = now;
    }
}

/// Deletes what attempts that are over have left in the journal and the spool. Before connections are taken: an upload that begins later
/// is not over.
pub(crate) async fn sweep(store: &Store) -> Result<(), StoreError> {
    let open: Vec<_> = store.open_rounds().await?.into_iter().map(|row| (row.task, row.number, row.attempt)).collect();
    // Revealed shares are of no more use to anybody, once their attempt is over.
    store.forget_ended().await?;
    let swept = store.spool().sweep(&open).await?;
    if swept > 0 {
        tracing::info!(swept, "deleted uploads of attempts that are over");
    }
    Ok(())
}

/// Runs the rounds of every active task, those that are created later included, until the service stops. What is open
/// then is parked: its state is durable, and the next start goes on with it.
///
/// # Errors
/// [`RoundsError`]: the service has to be restarted.
pub async fn run(app: Arc<App>) -> Result<(), RoundsError> {
    let mut created = app.tasks_changed.subscribe();
    let mut runners = JoinSet::new();
    let mut running = BTreeMap::new();
    loop {
        match app.store.active_tasks().await {
            Ok(rows) => {
                let ids = rows.iter().filter_map(|row| row.id.parse::<TaskId>().ok());
                for id in ids.filter(|id| !running.contains_key(id)).collect::<Vec<_>>() {
                    let (app, rounds) = (app.clone(), app.rounds.begin(&id));
                    running.insert(id, rounds.clone());
                    runners.spawn(async move {
                        runner::run_task(&app, &rounds).await;
                        rounds
                    });
                }
                app.rounds.recovered.store(true, Ordering::Release);
            }
            Err(error) => {
                tracing::error!(error = crate::answer::chain(&error), "active tasks cannot be read; will try again");
                tokio::select! {
                    () = tokio::time::sleep(RETRY_PAUSE) => continue,
                    () = app.lifecycle.stopping() => break,
                }
            }
        }
        tokio::select! {
            // First: a runner that returns because the service stops has parked its round, which has not ended.
            biased;
            () = app.lifecycle.stopping() => break,
            changed = created.changed() => if changed.is_err() { break },
            Some(ended) = runners.join_next() => {
                let rounds = ended.map_err(RoundsError::Defect)?;
                rounds.current.send_replace(Current::Ended);
                app.rounds.forget(&rounds.id);
                running.remove(&rounds.id);
            }
        }
    }
    while let Some(parked) = runners.join_next().await {
        parked.map_err(RoundsError::Defect)?;
    }
    Ok(())
}

/// Before the store is asked again.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
