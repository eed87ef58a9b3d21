//! What is computed, from which model, and the models that came out.

use crate::{
    Store, StoreError,
    row::{bytes32, get, number, page, signed},
};
use sqlx::{SqliteConnection, sqlite::SqliteRow};

/// Values of [`TaskRow::state`].
pub mod task_state {
    /// Rounds may start.
    pub const ACTIVE: &str = "active";
    /// All rounds are done, or it has ended early and the reason is in the row.
    pub const COMPLETE: &str = "complete";
    /// Ended before its last round; the reason is in the row.
    pub const HALTED: &str = "halted";
}

/// A task to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// Unique.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The accepted policy.
    pub policy_json: String,
    /// What messages bind.
    pub policy_digest: [u8; 32],
    /// The model the first round starts from.
    pub model: [u8; 32],
    /// Values in the flat vector of the model.
    pub model_len: u64,
}

/// A task as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRow {
    /// Unique.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The accepted policy.
    pub policy_json: String,
    /// What messages bind.
    pub policy_digest: [u8; 32],
    /// The model that the next round starts from, or the last one.
    pub model: [u8; 32],
    /// Values in the flat vector of the model.
    pub model_len: u64,
    /// Number of the round that runs or comes next, from 1.
    pub next_round: u64,
    /// One of [`task_state`].
    pub state: String,
    /// Why it was halted, or has ended before its last round.
    pub reason: Option<String>,
    /// Epoch milliseconds.
    pub created_at: i64,
    /// Last change of this row; epoch milliseconds.
    pub updated_at: i64,
}

/// A model whose blob is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRow {
    /// SHA-256 of the file.
    pub digest: [u8; 32],
    /// The task that made it; none where it was given.
    pub task: Option<String>,
    /// Length of the file.
    pub bytes: u64,
    /// Epoch milliseconds.
    pub created_at: i64,
}

impl Store {
    /// Creates a task, active, with round 1 next.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where the id is taken.
    pub async fn create_task(&self, task: NewTask, now: i64) -> Result<(), StoreError> {
        let model_len = signed("the length of the model", task.model_len)?;
        self.writer()
            .write((task, model_len, now), |(task, model_len, now), connection| {
                Box::pin(async move {
                    let insert = "INSERT INTO tasks (id, name, policy_json, policy_digest, model, model_len, \
                                  next_round, state, created_at, updated_at) \
                                  VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $8, $8) ON CONFLICT (id) DO NOTHING";
                    let inserted = sqlx::query(insert)
                        .bind(&task.id)
                        .bind(&task.name)
                        .bind(&task.policy_json)
                        .bind(&task.policy_digest[..])
                        .bind(&task.model[..])
                        .bind(*model_len)
                        .bind(task_state::ACTIVE)
                        .bind(*now)
                        .execute(connection)
                        .await?;
                    if inserted.rows_affected() == 0 {
                        return Err(StoreError::conflict(format!("task {} exists already", task.id)));
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Halts an active task that has no round under way. One that is halted stays as it is.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without the task, [`StoreError::Conflict`] where it is complete.
    pub async fn halt_task(&self, id: &str, reason: &str, now: i64) -> Result<(), StoreError> {
        self.writer()
            .write((id.to_owned(), reason.to_owned(), now), |(id, reason, now), connection| {
                Box::pin(async move {
                    match need_task(connection, id).await?.state.as_str() {
                        task_state::HALTED => return Ok(()),
                        task_state::ACTIVE => {}
                        state => return Err(StoreError::conflict(format!("task {id} is {state} already"))),
                    }
                    sqlx::query("UPDATE tasks SET state = $2, reason = $3, updated_at = $4 WHERE id = $1")
                        .bind(&*id)
                        .bind(task_state::HALTED)
                        .bind(&*reason)
                        .bind(*now)
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// The task of this id.
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn task(&self, id: &str) -> Result<Option<TaskRow>, StoreError> {
        let row = sqlx::query(SELECT_TASK).bind(id).fetch_optional(self.readers()).await?;
        row.map(|row| task(&row)).transpose()
    }

    /// Tasks in the order of their ids, those after `after`, at most `limit` and [`PAGE_MAX`](crate::PAGE_MAX).
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn tasks(&self, after: Option<&str>, limit: u32) -> Result<Vec<TaskRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM tasks WHERE id > $1 ORDER BY id LIMIT $2")
            .bind(after.unwrap_or_default())
            .bind(page(limit))
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(task).collect()
    }

    /// All tasks whose rounds may start, in the order of their ids.
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn active_tasks(&self) -> Result<Vec<TaskRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM tasks WHERE state = $1 ORDER BY id")
            .bind(task_state::ACTIVE)
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(task).collect()
    }

    /// Notes that a model's blob is kept. A repetition changes nothing: who recorded it first stays its task.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where it is recorded with another length.
    pub async fn record_model(
        &self,
        digest: [u8; 32],
        task: Option<&str>,
        bytes: u64,
        now: i64,
    ) -> Result<(), StoreError> {
        let task = task.map(str::to_owned);
        self.writer()
            .write((digest, task, bytes, now), |(digest, task, bytes, now), connection| {
                Box::pin(put_model(connection, digest, task.as_deref(), *bytes, *now))
            })
            .await
    }

    /// The model of this digest.
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn model(&self, digest: &[u8; 32]) -> Result<Option<ModelRow>, StoreError> {
        let row = sqlx::query(SELECT_MODEL).bind(&digest[..]).fetch_optional(self.readers()).await?;
        row.map(|row| model(&row)).transpose()
    }

    /// Models in the order of their digests, those after `after`, at most `limit` and [`PAGE_MAX`](crate::PAGE_MAX).
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn models(&self, after: Option<&[u8; 32]>, limit: u32) -> Result<Vec<ModelRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM models WHERE digest > $1 ORDER BY digest LIMIT $2")
            // Nothing stands before every digest.
            .bind(after.map_or(&[][..], |digest| &digest[..]))
            .bind(page(limit))
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(model).collect()
    }
}

/// Inside a write: the task, which must exist.
pub(crate) async fn need_task(connection: &mut SqliteConnection, id: &str) -> Result<TaskRow, StoreError> {
    let row = sqlx::query(SELECT_TASK).bind(id).fetch_optional(connection).await?;
    task(&row.ok_or_else(|| StoreError::not_found(format!("task {id}")))?)
}

/// Inside a write: records a model, or checks that it is recorded alike.
pub(crate) async fn put_model(
    connection: &mut SqliteConnection,
    digest: &[u8; 32],
    task: Option<&str>,
    bytes: u64,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO models (digest, task, bytes, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (digest) DO NOTHING",
    )
    .bind(&digest[..])
    .bind(task)
    .bind(signed("the length of the model file", bytes)?)
    .bind(now)
    .execute(&mut *connection)
    .await?;
    let stored = model(&sqlx::query(SELECT_MODEL).bind(&digest[..]).fetch_one(connection).await?)?;
    if stored.bytes == bytes {
        return Ok(());
    }
    let (name, was) = (hex::encode(digest), stored.bytes);
    Err(StoreError::conflict(format!("model {name} is recorded with {was} bytes, not {bytes}")))
}

fn task(row: &SqliteRow) -> Result<TaskRow, StoreError> {
    Ok(TaskRow {
        id: get(row, "id")?,
        name: get(row, "name")?,
        policy_json: get(row, "policy_json")?,
        policy_digest: bytes32(row, "policy_digest")?,
        model: bytes32(row, "model")?,
        model_len: number(row, "model_len")?,
        next_round: number(row, "next_round")?,
        state: get(row, "state")?,
        reason: get(row, "reason")?,
        created_at: get(row, "created_at")?,
        updated_at: get(row, "updated_at")?,
    })
}

fn model(row: &SqliteRow) -> Result<ModelRow, StoreError> {
    Ok(ModelRow {
        digest: bytes32(row, "digest")?,
        task: get(row, "task")?,
        bytes: number(row, "bytes")?,
        created_at: get(row, "created_at")?,
    })
}

const SELECT_TASK: &str = "SELECT * FROM tasks WHERE id = $1";
const SELECT_MODEL: &str = "SELECT * FROM models WHERE digest = $1";
