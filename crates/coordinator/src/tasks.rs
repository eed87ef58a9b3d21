//! `/v1/tasks`: what is computed, under which policy. A policy is checked as a whole before there is a task.

use crate::{
    access::{Caller, Routes},
    answer::{ApiError, Json, Named, PageParams, Params, chain, json, json_bytes},
    app::App,
    budget,
    idempotency::once,
    participants::since_epoch,
};
use axum::{extract::State, response::Response};
use http::{HeaderMap, StatusCode};
use sordino_codec::Tensors;
use sordino_identity::Permission;
use sordino_store::{NewTask, TaskRow, task_state};
use sordino_wire::{
    CheckedPolicy, Code, Digest, Policy, TaskId,
    api::{Page, Task, TaskRequest, TaskState},
};
use std::{collections::BTreeMap, sync::Arc};
use uuid::Builder;

/// `GET` and `POST /v1/tasks`, `GET /v1/tasks/{task}`.
pub(crate) fn routes() -> Routes {
    Routes::new().get("/v1/tasks", Permission::ReadTasks, list).post("/v1/tasks", Permission::CreateTask, create).get(
        "/v1/tasks/{task}",
        Permission::ReadTasks,
        read,
    )
}

/// In the order they were made.
async fn list(State(app): State<Arc<App>>, Params(page): Params<PageParams>) -> Result<Response, ApiError> {
    let rows = app.store.tasks(page.cursor(), page.fetch()?).await?;
    let Page { items, next } = page.page(rows, |row| row.id.clone(), task);
    let items = items.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(json(StatusCode::OK, &Page { items, next }))
}

async fn read(State(app): State<Arc<App>>, Named(id): Named<TaskId>) -> Result<Response, ApiError> {
    let mut task = find(&app, &id).await?;
    for row in app.store.culprits(id.as_str()).await? {
        task.left_out.insert(row.id.parse().map_err(ApiError::internal)?, row.reason);
    }
    task.reason = task.reason.or_else(|| app.rounds.hindrance(&id));
    Ok(json(StatusCode::OK, &task))
}

async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Json { value: request, bytes }: Json<TaskRequest>,
) -> Result<Response, ApiError> {
    // Off the threads that answer requests: the tails of a large cohort take their time.
    let text = request.policy.clone();
    let checked = tokio::task::spawn_blocking(move || Policy::from_toml(&text).and_then(Policy::check)).await;
    let policy = checked.map_err(ApiError::internal)?.map_err(|error| refused(&error))?;
    let who = caller.principal.id.to_string();
    let work = {
        let app = app.clone();
        async move {
            let task = start(&app, &policy, request.model, &caller).await?;
            Ok((StatusCode::CREATED, serde_json::to_vec(&task).map_err(ApiError::internal)?))
        }
    };
    let (status, body) = once(&app, &headers, who, &bytes, work).await?;
    Ok(json_bytes(status, body))
}

async fn start(app: &Arc<App>, policy: &CheckedPolicy, model: Digest, caller: &Caller) -> Result<Task, ApiError> {
    let model_len = model_len(app, model).await?;
    let terms = policy.terms(policy.policy().cohort.target);
    policy.encoding(model_len, &terms).map_err(|error| refused(&error))?;
    budget::open(app, policy, caller).await?;
    let now = app.now_millis();
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(ApiError::internal)?;
    let id = Builder::from_unix_timestamp_millis(since_epoch(now), &random).into_uuid().to_string();
    let new = NewTask {
        id: id.clone(),
        name: policy.policy().task.name.clone(),
        policy_json: serde_json::to_string(policy.policy()).map_err(ApiError::internal)?,
        policy_digest: policy.digest().0,
        model: model.0,
        model_len: model_len as u64,
    };
    app.store.create_task(new, now).await?;
    app.tasks_changed.send_replace(());
    let id = id.parse().map_err(ApiError::internal)?;
    tracing::info!(task = %id, policy = %policy.digest(), "task created");
    find(app, &id).await
}

/// Values in the model, which must have been uploaded.
async fn model_len(app: &Arc<App>, model: Digest) -> Result<usize, ApiError> {
    if app.store.model(&model.0).await?.is_none() {
        let detail = format!("model: there is no model {model}; upload it first with PUT /v1/models/{model}");
        return Err(ApiError::new(Code::Invalid, detail));
    }
    let _turn = app.model_checks.acquire().await.map_err(ApiError::internal)?;
    let limits = app.model_limits();
    let bytes = app.store.blobs().read(&model.0, limits.max_file_bytes as u64).await?;
    // Canonical, or no site takes it: that was checked when it came.
    let parsed = tokio::task::spawn_blocking(move || Tensors::from_canonical(&bytes, &limits));
    let tensors = parsed.await.map_err(ApiError::internal)?.map_err(ApiError::internal)?;
    Ok(tensors.layout().len())
}

/// The task of this id.
///
/// # Errors
/// 404 when there is none.
pub async fn find(app: &App, id: &TaskId) -> Result<Task, ApiError> {
    let row = app.store.task(id.as_str()).await?;
    task(row.ok_or_else(|| ApiError::new(Code::NotFound, format!("there is no task {id}")))?)
}

/// A row of the store as callers see it.
///
/// # Errors
/// 500 when the row is not one that we could have written.
pub fn task(row: TaskRow) -> Result<Task, ApiError> {
    let state = match row.state.as_str() {
        task_state::ACTIVE => TaskState::Active,
        task_state::COMPLETE => TaskState::Complete,
        task_state::HALTED => TaskState::Halted,
        other => return Err(ApiError::internal(format!("task {} is in the unknown state {other:?}", row.id))),
    };
    Ok(Task {
        id: row.id.try_into().map_err(ApiError::internal)?,
        policy: serde_json::from_str(&row.policy_json).map_err(ApiError::internal)?,
        policy_digest: Digest(row.policy_digest),
        state,
        model_len: row.model_len,
        model: Digest(row.model),
        round: row.next_round,
        reason: row.reason,
        left_out: BTreeMap::new(),
        created_at: since_epoch(row.created_at),
    })
}

fn refused(error: &dyn std::error::Error) -> ApiError {
    ApiError::new(Code::PolicyRefused, chain(error))
}
