//! The rounds of one task, one after another.

use super::{
    Current, TaskRounds,
    attempt::{Attempt, Plan, Stopped},
    cohort::Gathering,
    release,
};
use crate::{app::App, bulk};
use sordino_codec::Encoding;
use sordino_secagg::ParticipantId;
use sordino_store::{AttemptStart, RoundRow, StoreError, TaskRow, attempt_state, round_state, task_state};
use sordino_wire::{CheckedPolicy, Digest, Policy, RoundId, api::Assignment};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// Runs the rounds of a task until it is complete, halted, or the service stops.
pub(super) async fn run_task(app: &Arc<App>, rounds: &TaskRounds) {
    let mut standing = Standing::default();
    loop {
        match next(app, rounds, &mut standing).await {
            Ok(Next::GoOn) => {}
            Ok(Next::TaskEnded) | Err(Failed::Parked) => return,
            Err(Failed::Retry(error)) => {
                let error = crate::answer::chain(&*error);
                tracing::error!(task = %rounds.id, error, "the round waits: the coordinator cannot go on with it");
                tokio::select! {
                    () = tokio::time::sleep(RETRY_PAUSE) => {}
                    () = app.lifecycle.stopping() => return,
                }
            }
        }
    }
}

/// What is remembered of participants from the attempts before.
#[derive(Default)]
struct Standing {
    /// Those whose shares did not fit their keys: not asked again in the round they spoilt.
    culprits: BTreeSet<ParticipantId>,
    /// Those who did not answer in the attempt that was abandoned: asked last.
    silent: BTreeSet<ParticipantId>,
}

enum Next {
    GoOn,
    TaskEnded,
}

enum Failed {
    Parked,
    /// The store, the disk or the registrar failed; nothing is lost, and the same is tried again.
    Retry(Box<dyn std::error::Error + Send + Sync>),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Retry(error.into())
    }
}

fn retry(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failed {
    Failed::Retry(error.into())
}

/// Goes on with the attempt that is open, or opens the next one, and sees it through.
async fn next(app: &Arc<App>, rounds: &TaskRounds, standing: &mut Standing) -> Result<Next, Failed> {
    let Some(task) = app.store.task(rounds.id.as_str()).await?.filter(|row| row.state == task_state::ACTIVE) else {
        return Ok(Next::TaskEnded);
    };
    let policy: Policy = serde_json::from_str(&task.policy_json).map_err(retry)?;
    let policy = policy.check().map_err(retry)?;
    let encoding = policy.encoding(usize::try_from(task.model_len).map_err(retry)?).map_err(retry)?;
    let number = task.next_round;
    let round = app.store.round(&task.id, number).await?;
    let last = round.as_ref().map_or(0, |row| row.attempt);

    let open = match &round {
        Some(row) if row.state != round_state::WAITING && !row.is_ended() => {
            app.store.attempt(&task.id, number, last).await?.filter(|row| row.state == attempt_state::OPEN)
        }
        _ => None,
    };
    if open.is_none() {
        rounds.current.send_replace(Current::Between);
    }
    let (attempt, cohort_json) = if let Some(row) = open {
        tracing::info!(task = %rounds.id, round = number, attempt = last, "going on with an attempt");
        (last, row.cohort_json)
    } else {
        if last == 0 {
            *standing = Standing::default();
        }
        let cohort = gather(app, rounds, &policy, standing).await?;
        let cohort_json = admit(app, &cohort).await?;
        let start = AttemptStart {
            task: task.id.clone(),
            round: number,
            attempt: last + 1,
            model: task.model,
            cohort_json: cohort_json.clone(),
        };
        app.store.begin_attempt(start, app.now_millis()).await?;
        (last + 1, cohort_json)
    };

    let assignment = Assignment {
        round: RoundId { task: rounds.id.clone(), number },
        attempt,
        nonce: Digest([0; 32]),
        model: Digest(task.model),
        policy_digest: policy.digest(),
        time_left: 0,
    };
    let plan = Plan { assignment, policy: policy.clone(), encoding };
    let attempt = match Attempt::restore(app, plan, &cohort_json).await {
        Ok(attempt) => Arc::new(attempt),
        Err(stopped) => return give_up(app, &task, (number, attempt), stopped, standing).await,
    };
    rounds.current.send_replace(Current::Open(attempt.clone()));
    let ended = match attempt.run(app).await {
        Ok(opened) => complete(app, &task, &policy, &attempt, opened).await,
        Err(stopped) => give_up(app, &task, (number, attempt.id().attempt), stopped, standing).await,
    };
    if ended.is_ok() {
        // The store says that it is over: whoever asks is told so.
        attempt.end().await;
        rounds.current.send_replace(Current::Between);
    } else {
        // It goes on, here after a pause or after a restart: whoever asks is told to come back.
        attempt.suspend().await;
    }
    ended
}

/// Waits for a cohort. Who of those that are there takes part is drawn by chance: names decide nothing.
async fn gather(
    app: &App,
    rounds: &TaskRounds,
    policy: &CheckedPolicy,
    standing: &Standing,
) -> Result<BTreeSet<ParticipantId>, Failed> {
    let cohort = &policy.policy().cohort;
    let patience = Duration::from_secs_f64(policy.policy().timing.gather);
    let mut draw = [0; 32];
    getrandom::fill(&mut draw).map_err(retry)?;
    let rank = |id: &ParticipantId| {
        let drawn = bulk::sha256(&[&draw[..], id.as_str().as_bytes()].concat());
        (standing.silent.contains(id), drawn)
    };
    loop {
        let arrived = rounds.arrived.notified();
        let now = app.rounds.uptime();
        let size = (cohort.min, cohort.target);
        let gathering = rounds.waiting().gather(size, patience, &standing.culprits, rank, now);
        let until = match gathering {
            Gathering::Begin(cohort) => return Ok(cohort),
            Gathering::Wait(until) => until.map_or(IDLE, |until| until.saturating_sub(now)),
        };
        tokio::select! {
            () = arrived => {}
            () = tokio::time::sleep(until) => {}
            () = app.lifecycle.stopping() => return Err(Failed::Parked),
        }
    }
}

/// The certificate keys of a cohort, as they are stored with its attempt.
async fn admit(app: &App, cohort: &BTreeSet<ParticipantId>) -> Result<String, Failed> {
    let mut members = BTreeMap::new();
    for id in cohort {
        let row = app.store.principal(id.as_str()).await?;
        let row = row.ok_or_else(|| retry(format!("{id} checked in and is not a principal")))?;
        members.insert(id.clone(), row.verifying_key);
    }
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(retry)?;
    Attempt::cohort_json(Digest(nonce), &members).map_err(retry)
}

async fn complete(
    app: &App,
    task: &TaskRow,
    policy: &CheckedPolicy,
    attempt: &Attempt,
    opened: super::attempt::Opened,
) -> Result<Next, Failed> {
    let id = attempt.id();
    let (round, number) = (id.round.number, id.attempt);
    let encoding: &Encoding = attempt.encoding();
    let model = (Digest(task.model), app.model_limits());
    let last_round = round >= policy.policy().task.rounds;
    let published = release::publish(&app.store, policy, encoding, model, attempt.cohort(), opened, last_round).await;
    let (release, outcome) = match published {
        Ok(published) => published,
        Err(release::ReleaseError::Store(error)) => return Err(error.into()),
        Err(error) => {
            let reason = crate::answer::chain(&error);
            return fail(app, task, (round, number), &reason).await;
        }
    };
    let task_done = outcome.task_done;
    app.store.complete_round(&task.id, round, number, outcome, app.now_millis()).await?;
    metrics::counter!("sordino_rounds_total", "outcome" => "complete").increment(1);
    for step in release.dropouts.values().chain(release.silent_survivors.values()) {
        metrics::counter!("sordino_dropouts_total", "step" => step.clone()).increment(1);
    }
    let survivors = release.survivors.len();
    tracing::info!(round = %id.round, attempt = number, survivors, model = %release.model, "round complete");
    clean(app, &task.id, round, number).await;
    Ok(if task_done { Next::TaskEnded } else { Next::GoOn })
}

/// Ends an attempt that gave no sum, and the round with it when it was the last one it gets.
async fn give_up(
    app: &App,
    task: &TaskRow,
    (round, attempt): (u64, u32),
    stopped: Stopped,
    standing: &mut Standing,
) -> Result<Next, Failed> {
    match stopped {
        Stopped::Parked => Err(Failed::Parked),
        Stopped::Store(error @ (StoreError::Corrupt { .. } | StoreError::NotFound { .. })) => {
            // What was stored of the attempt is damaged or gone: it cannot end with its sum.
            abandon(app, task, (round, attempt), &crate::answer::chain(&error)).await
        }
        Stopped::Store(error) => Err(error.into()),
        Stopped::Journal(error) => Err(retry(error)),
        Stopped::Registrar(error @ super::RegistrarError::NotAdmitted(_)) => {
            abandon(app, task, (round, attempt), &error.to_string()).await
        }
        Stopped::Registrar(error) => Err(retry(error)),
        Stopped::Aborted { abort, silent } => {
            standing.culprits.extend(abort.culprits().iter().cloned());
            standing.silent = silent;
            abandon(app, task, (round, attempt), &crate::answer::chain(&abort)).await
        }
    }
}

async fn abandon(app: &App, task: &TaskRow, (round, attempt): (u64, u32), reason: &str) -> Result<Next, Failed> {
    metrics::counter!("sordino_attempts_abandoned_total").increment(1);
    tracing::warn!(task = %task.id, round, attempt, reason, "attempt abandoned");
    if attempt >= ATTEMPTS_MAX {
        return fail(app, task, (round, attempt), reason).await;
    }
    app.store.end_attempt(&task.id, round, attempt, reason, app.now_millis()).await?;
    clean(app, &task.id, round, attempt).await;
    Ok(Next::GoOn)
}

async fn fail(app: &App, task: &TaskRow, (round, attempt): (u64, u32), reason: &str) -> Result<Next, Failed> {
    let halt = failed_in_a_row(app, task, round).await? + 1 >= FAILURES_MAX;
    app.store.fail_round(&task.id, round, reason, halt, app.now_millis()).await?;
    metrics::counter!("sordino_rounds_total", "outcome" => "failed").increment(1);
    tracing::error!(task = %task.id, round, reason, halt, "round failed; the model stays as it was");
    clean(app, &task.id, round, attempt).await;
    Ok(if halt { Next::TaskEnded } else { Next::GoOn })
}

/// Rounds right before this one that failed.
async fn failed_in_a_row(app: &App, task: &TaskRow, round: u64) -> Result<usize, StoreError> {
    let before = round.saturating_sub(1);
    let first = before.saturating_sub(FAILURES_MAX as u64);
    let rows: Vec<RoundRow> =
        app.store.rounds(&task.id, first, u32::try_from(before - first).unwrap_or(1).max(1)).await?;
    Ok(rows.iter().rev().filter(|row| row.number < round).take_while(|row| row.state == round_state::FAILED).count())
}

/// Drops what an attempt that is over has left: revealed shares and masked inputs are of no more use to anybody.
async fn clean(app: &App, task: &str, round: u64, attempt: u32) {
    if let Err(error) = app.store.forget_events(task, round, attempt).await {
        tracing::warn!(%error, task, round, attempt, "the journal of an ended attempt could not be deleted");
    }
    if let Err(error) = app.store.spool().remove_attempt(task, round, attempt).await {
        tracing::warn!(%error, task, round, attempt, "the inputs of an ended attempt could not be deleted");
    }
}

/// Attempts that a round gets.
const ATTEMPTS_MAX: u32 = 5;
/// Failed rounds in a row after which a task halts and an operator looks.
const FAILURES_MAX: usize = 3;
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// How long to wait for somebody to check in before looking again all the same.
const IDLE: Duration = Duration::from_secs(60);
