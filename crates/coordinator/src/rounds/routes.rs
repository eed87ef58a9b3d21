//! `/v1/tasks/{task}/checkin`, `/v1/tasks/{task}/rounds`, `/v1/rounds/{round}` and the steps of its attempts.

use super::{Attempt, AttemptError, Current, JournalError};
use crate::{
    access::{Caller, Routes},
    answer::{ApiError, Json, Named, PageParams, Params, json, read_body, require_type},
    app::App,
    bulk::{self, OCTETS},
    models::spool_refused,
    participants::since_epoch,
};
use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use sordino_identity::{Permission, decode_chain};
use sordino_secagg::{
    ParticipantId, Step, advertised_certificates,
    coordinator::{Outgoing, Receipt, Rejection},
};
use sordino_store::{CheckRow, RoundRow, StoreError, crash_point, round_state, task_state};
use sordino_wire::{
    Code, Digest, RoundId, TaskId,
    api::{AttemptId, CheckIn, GroupCheck, Page, Release, ReleaseGroup, Round, RoundState, UploadStatus},
};
use std::{sync::Arc, time::Duration};

/// Every route of rounds.
#[must_use]
pub fn routes() -> Routes {
    Routes::new()
        .post("/v1/tasks/{task}/checkin", Permission::TakePartInRound, check_in)
        .get("/v1/tasks/{task}/rounds", Permission::ReadRounds, list)
        .get("/v1/rounds/{round}", Permission::ReadRounds, read)
        .get("/v1/rounds/{round}/sum", Permission::ReadRelease, sum)
        .get("/v1/rounds/{round}/optimizer/{when}", Permission::ReadRelease, optimizer)
        .get("/v1/rounds/{round}/groups/{group}/sum", Permission::ReadRelease, group_sum)
        .get("/v1/rounds/{round}/groups/{group}/evidence", Permission::ReadRelease, evidence)
        .get("/v1/rounds/{round}/attempts/{attempt}/messages/{step}", Permission::TakePartInRound, fetch)
        .post("/v1/rounds/{round}/attempts/{attempt}/messages/{step}", Permission::TakePartInRound, send)
        .get("/v1/rounds/{round}/attempts/{attempt}/input", Permission::TakePartInRound, uploaded)
        .put("/v1/rounds/{round}/attempts/{attempt}/input", Permission::TakePartInRound, upload)
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    /// Seconds.
    #[serde(default)]
    wait: u64,
}

impl Wait {
    fn limited(self, app: &App) -> Duration {
        Duration::from_secs(self.wait).min(app.config.limits.long_poll_max.into())
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Offset {
    offset: u64,
}

async fn check_in(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(task): Named<TaskId>,
    Params(wait): Params<Wait>,
    Json { value: CheckIn { after, epsilon_spent }, .. }: Json<CheckIn>,
) -> Result<Response, ApiError> {
    let row = app.store.task(task.as_str()).await?;
    let row = row.ok_or_else(|| ApiError::new(Code::NotFound, format!("there is no task {task}")))?;
    if row.state != task_state::ACTIVE {
        return Err(ApiError::new(Code::Conflict, format!("task {task} is {}: it has no more rounds", row.state)));
    }
    let me = participant(&caller)?;
    if after.is_some() {
        // Its last message was answered.
        crash_point!("Unmasking:answered");
    }
    app.store.touch(me.as_str(), app.now_millis()).await?;
    // A task that was just created, or a service that just started: its rounds are run in a moment.
    let rounds = app.rounds.get(&task).ok_or_else(starting)?;
    rounds.note_spent(&me, epsilon_spent);
    let wait = wait.limited(&app);
    let deadline = tokio::time::Instant::now() + wait;
    let mut current = rounds.current.subscribe();
    loop {
        let standing = current.borrow_and_update().clone();
        match standing {
            Current::Ended => return Err(ApiError::new(Code::Conflict, format!("task {task} has no more rounds"))),
            Current::Open(attempt) if Some(attempt.id()) > after.as_ref() => {
                if let Some(assignment) = attempt.assignment(&me).await {
                    return Ok(json(StatusCode::OK, &assignment));
                }
            }
            Current::Open(_) | Current::Between | Current::Starting => {}
        }
        rounds.waiting().arrive(me.clone(), app.rounds.uptime() + wait + RETURN_SLACK);
        rounds.arrived.notify_one();
        tokio::select! {
            changed = current.changed() => if changed.is_err() { return Err(stopping()) },
            () = tokio::time::sleep_until(deadline) => return Ok(StatusCode::NO_CONTENT.into_response()),
            () = app.lifecycle.stopping() => return Err(stopping()),
        }
    }
}

async fn list(
    State(app): State<Arc<App>>,
    Named(task): Named<TaskId>,
    Params(page): Params<PageParams>,
) -> Result<Response, ApiError> {
    let after = match page.cursor() {
        None => 0,
        Some(cursor) => cursor.parse().map_err(|_| ApiError::new(Code::Malformed, "cursor: take it from `next`"))?,
    };
    crate::tasks::find(&app, &task).await?;
    let rows = app.store.rounds(task.as_str(), after, page.fetch()?).await?;
    let checks = app.store.checks(task.as_str()).await?;
    let Page { items, next } = page.page(rows, |row| row.number.to_string(), |row| round(row, &checks));
    let items = items.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(json(StatusCode::OK, &Page { items, next }))
}

async fn read(State(app): State<Arc<App>>, Named(id): Named<RoundId>) -> Result<Response, ApiError> {
    Ok(json(StatusCode::OK, &find(&app, &id).await?))
}

async fn sum(State(app): State<Arc<App>>, headers: HeaderMap, Named(id): Named<RoundId>) -> Result<Response, ApiError> {
    let release = released(&app, &id).await?;
    blob(&app, &headers, release.sum).await
}

/// What the optimiser remembered, `before` the round or `after` it. It follows from sums that the caller may read.
async fn optimizer(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Named((id, when)): Named<(RoundId, String)>,
) -> Result<Response, ApiError> {
    let states = released(&app, &id).await?.optimizer;
    let state = match (states, when.as_str()) {
        (Some(states), "before") => states.before,
        (Some(states), "after") => states.after,
        _ => {
            let detail = format!("the Release of round {id} has no optimiser state of that name");
            return Err(ApiError::new(Code::NotFound, detail));
        }
    };
    blob(&app, &headers, state).await
}

async fn group_sum(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Named((id, group)): Named<(RoundId, u32)>,
) -> Result<Response, ApiError> {
    blob(&app, &headers, released_group(&app, &id, group).await?.sum).await
}

async fn evidence(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Named((id, group)): Named<(RoundId, u32)>,
) -> Result<Response, ApiError> {
    blob(&app, &headers, released_group(&app, &id, group).await?.evidence).await
}

async fn blob(app: &App, headers: &HeaderMap, digest: Digest) -> Result<Response, ApiError> {
    let (file, len) = app.store.blobs().open(&digest.0).await?;
    bulk::file(headers, file, len, digest).await
}

async fn released(app: &App, id: &RoundId) -> Result<Release, ApiError> {
    let release = find(app, id).await?.release;
    release.ok_or_else(|| ApiError::new(Code::NotFound, format!("round {id} has no Release")))
}

/// A group whose sum is in the Release of a round.
async fn released_group(app: &App, id: &RoundId, group: u32) -> Result<ReleaseGroup, ApiError> {
    let groups = released(app, id).await?.proof.map(|proof| proof.groups).unwrap_or_default();
    let found = groups.into_iter().find(|released| released.group == group);
    found.ok_or_else(|| ApiError::new(Code::NotFound, format!("the Release of round {id} has no proven group {group}")))
}

async fn fetch(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named((round, attempt, step)): Named<(RoundId, u32, String)>,
    Params(wait): Params<Wait>,
) -> Result<Response, ApiError> {
    let attempt = open_attempt(&app, &AttemptId { round, attempt })?;
    let step = step_named(&step)?;
    // Whoever asks for it has had its answer to the step before.
    crash_point!("{step}:awaited");
    let deadline = tokio::time::Instant::now() + wait.limited(&app);
    let me = participant(&caller)?;
    let outgoing = tokio::select! {
        outgoing = attempt.outgoing(step, &me, deadline) => outgoing.map_err(refused)?,
        () = app.lifecycle.stopping() => return Err(stopping()),
    };
    match outgoing {
        Outgoing::Wait => Ok(StatusCode::NO_CONTENT.into_response()),
        Outgoing::Message(bytes) => Ok(([(header::CONTENT_TYPE, OCTETS)], bytes).into_response()),
        Outgoing::Excluded => {
            let detail =
                format!("{step} goes on without {}: an earlier step closed before it answered", caller.principal.id);
            Err(ApiError::new(Code::StaleRound, detail))
        }
    }
}

async fn send(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named((round, attempt, step)): Named<(RoundId, u32, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let attempt = open_attempt(&app, &AttemptId { round, attempt })?;
    let step = step_named(&step)?;
    let me = participant(&caller)?;
    // Whoever sends has been told that the step is open.
    crash_point!("{step}:announced");
    require_type(&headers, OCTETS)?;
    // Asked before the body is read: nobody fills the memory with messages that cannot count.
    attempt.expects(step, &me).await.map_err(refused)?;
    let limits = &app.config.limits;
    let bytes = read_body(&headers, body, limits.message_bytes_max, limits.body_timeout.into()).await?.to_vec();
    if step == Step::AdvertiseKeys {
        check_certificates(&app, &caller, &bytes, attempt.lasts())?;
    }
    // The work goes on if the caller hangs up: a message that was accepted is stored.
    let work = {
        let app = app.clone();
        tokio::spawn(async move {
            match step {
                Step::MaskedInput => attempt.input(&app, &me, bytes).await,
                _ => attempt.message(step, &me, bytes).await,
            }
        })
    };
    let receipt = work.await.map_err(ApiError::internal)?.map_err(refused)?;
    metrics::counter!("sordino_messages_total", "step" => step.name()).increment(1);
    Ok(match receipt {
        Receipt::Accepted => StatusCode::CREATED,
        Receipt::Duplicate => StatusCode::OK,
    }
    .into_response())
}

async fn uploaded(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named((round, attempt)): Named<(RoundId, u32)>,
) -> Result<Response, ApiError> {
    let attempt = open_attempt(&app, &AttemptId { round, attempt })?;
    let me = participant(&caller)?;
    let expected = attempt.expects_input(&me).await.map_err(refused)?;
    let received = app.store.spool().received(&attempt.spool_key(&me)?).await.map_err(spool_refused)?;
    Ok(json(StatusCode::OK, &UploadStatus { received, expected }))
}

async fn upload(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named((round, attempt)): Named<(RoundId, u32)>,
    Params(Offset { offset }): Params<Offset>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let attempt = open_attempt(&app, &AttemptId { round, attempt })?;
    let me = participant(&caller)?;
    // Asked before the body is read: nobody fills the disk with an input that is not awaited.
    let expected = attempt.expects_input(&me).await.map_err(refused)?;
    let bytes = bulk::chunk(&headers, body, &app.config.limits).await?;
    let key = attempt.spool_key(&me)?;
    crash_point!("chunk:{}:taken", if offset == 0 { "first" } else { "later" });
    let received = app.store.spool().append(&key, offset, &bytes, expected).await.map_err(spool_refused)?;
    crash_point!("chunk:{}:stored", if offset == 0 { "first" } else { "later" });
    metrics::counter!("sordino_upload_bytes_total").increment(received.saturating_sub(offset));
    Ok(json(StatusCode::OK, &UploadStatus { received, expected }))
}

/// A chain that its neighbours will not believe would cost every one of them the attempt.
fn check_certificates(app: &App, caller: &Caller, message: &[u8], lasts: Duration) -> Result<(), ApiError> {
    let refuse = |why: String| ApiError::new(Code::Rejected, format!("the advertised certificate chain: {why}"));
    let chain = advertised_certificates(message).map_err(|error| refuse(error.to_string()))?;
    let chain = decode_chain(&chain).ok_or_else(|| refuse("it cannot be read".into()))?;
    let verified = app.anchors.verify_client(&chain, app.now()).map_err(|error| refuse(error.to_string()))?;
    if verified.fingerprint() != caller.fingerprint {
        return Err(refuse("it is not that of the connection".into()));
    }
    // Neighbours look at it later in the attempt.
    if verified.not_after() < app.now() + lasts {
        return Err(refuse("it expires before the attempt has to be over; join again for a new one".into()));
    }
    Ok(())
}

/// The attempt, if it is the one that is open.
fn open_attempt(app: &App, id: &AttemptId) -> Result<Arc<Attempt>, ApiError> {
    match app.rounds.current(&id.round.task) {
        Current::Open(attempt) if attempt.id() == id => Ok(attempt),
        // A participant that is told "not open" drops out, and this attempt may well be open in a moment.
        Current::Starting => Err(starting()),
        _ => {
            let detail = format!("attempt {} of round {} is not open; check in again", id.attempt, id.round);
            Err(ApiError::new(Code::StaleRound, detail))
        }
    }
}

/// The caller as the protocol names it: the rules for names are the same.
fn participant(caller: &Caller) -> Result<ParticipantId, ApiError> {
    ParticipantId::new(caller.principal.id.as_str()).map_err(ApiError::internal)
}

fn step_named(name: &str) -> Result<Step, ApiError> {
    let known = || Step::ALL.map(Step::name).join(", ");
    Step::from_name(name)
        .ok_or_else(|| ApiError::new(Code::NotFound, format!("there is no step {name:?}; there are {}", known())))
}

fn refused(error: AttemptError) -> ApiError {
    let detail = crate::answer::chain(&error);
    match error {
        AttemptError::Ended { .. } => ApiError::new(Code::StaleRound, detail),
        AttemptError::Incomplete { .. } => ApiError::new(Code::Conflict, detail),
        AttemptError::Disproved { .. } => ApiError::new(Code::Rejected, detail),
        AttemptError::Suspended => passing(&detail),
        AttemptError::Spool(error) => spool_refused(error),
        AttemptError::Store(error) => error.into(),
        // What was not stored does not count; the attempt is restored, and the same message can be sent again.
        AttemptError::Journal(JournalError::Store(error)) if matches!(*error, StoreError::Full { .. }) => {
            let detail = "the coordinator's disk is full; nothing was changed, retry later";
            ApiError::new(Code::StorageFull, detail).retry_after(PASSING_RETRY)
        }
        AttemptError::Journal(_) => passing(&detail),
        AttemptError::Rejected(rejection) => ApiError::new(
            match rejection {
                Rejection::WrongStep { .. } => Code::WrongStep,
                Rejection::AlreadySubmitted { .. } => Code::AlreadySubmitted,
                Rejection::InputDigest { .. } => Code::DigestMismatch,
                _ => Code::Rejected,
            },
            detail,
        ),
    }
}

fn passing(detail: &str) -> ApiError {
    ApiError::new(Code::Unavailable, detail).retry_after(PASSING_RETRY)
}

fn starting() -> ApiError {
    passing("the coordinator is starting; try again")
}

fn stopping() -> ApiError {
    passing("the coordinator is stopping; try again")
}

/// The round of this id.
async fn find(app: &App, id: &RoundId) -> Result<Round, ApiError> {
    let row = app.store.round(id.task.as_str(), id.number).await?;
    let row = row.ok_or_else(|| ApiError::new(Code::NotFound, format!("there is no round {id}")))?;
    round(row, &app.store.checks(id.task.as_str()).await?)
}

/// A row of the store as callers see it.
///
/// - `checks`: of all rounds of its task.
fn round(row: RoundRow, checks: &[CheckRow]) -> Result<Round, ApiError> {
    let checks = checks.iter().filter(|check| check.round == row.number).map(|check| {
        let survivors = check.members.iter().map(|id| id.parse().map_err(ApiError::internal));
        Ok(GroupCheck {
            attempt: check.attempt,
            group: check.group,
            passed: check.passed,
            survivors: survivors.collect::<Result<_, ApiError>>()?,
        })
    });
    let checks = checks.collect::<Result<_, ApiError>>()?;
    let state = match row.state.as_str() {
        round_state::WAITING => RoundState::Waiting,
        round_state::COLLECTING => RoundState::Collecting,
        round_state::AGGREGATING => RoundState::Aggregating,
        round_state::COMPLETE => RoundState::Complete,
        round_state::FAILED => RoundState::Failed,
        other => return Err(ApiError::internal(format!("round {} is in the unknown state {other:?}", row.number))),
    };
    let release = row.release_json.as_deref().map(serde_json::from_str).transpose().map_err(ApiError::internal)?;
    Ok(Round {
        id: RoundId { task: row.task.parse().map_err(ApiError::internal)?, number: row.number },
        state,
        attempt: row.attempt,
        model: Digest(row.model),
        started_at: since_epoch(row.started_at),
        ended_at: row.ended_at.map(since_epoch),
        failure: row.reason,
        checks,
        release,
    })
}

/// After which what passes has passed, mostly.
const PASSING_RETRY: Duration = Duration::from_secs(1);
/// How long a participant whose long poll has ended still counts as there: it comes back at once.
const RETURN_SLACK: Duration = Duration::from_secs(5);
