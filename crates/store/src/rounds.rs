//! Rounds: which attempt runs, how each ended, and what that does to the task.
//!
//! Every step is one transaction that checks the state it starts from, so that a coordinator which comes back from a
//! crash, or does something twice, finds a round in exactly one state.

use crate::{
    Store, StoreError,
    journal::{attempt_state, close_attempt, need_open_attempt},
    row::{bytes32, bytes32_or_none, get, number, page, signed},
    standing::{Findings, note_findings},
    tasks::{need_task, put_model, task_state},
};
use sqlx::{SqliteConnection, sqlite::SqliteRow};

/// Values of [`RoundRow::state`], in the order in which a round goes through them.
pub mod round_state {
    /// Between attempts: the cohort is not complete.
    pub const WAITING: &str = "waiting";
    /// An attempt runs and inputs come in.
    pub const COLLECTING: &str = "collecting";
    /// The inputs are in; the sum is being opened.
    pub const AGGREGATING: &str = "aggregating";
    /// There is a Release.
    pub const COMPLETE: &str = "complete";
    /// There will be none; the reason is in the row.
    pub const FAILED: &str = "failed";
}

/// How an attempt begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptStart {
    /// The task.
    pub task: String,
    /// Must be the task's next round.
    pub round: u64,
    /// Must follow the round's last attempt; the first is 1.
    pub attempt: u32,
    /// Must be the task's model.
    pub model: [u8; 32],
    /// Who is invited, as the caller encodes it.
    pub cohort_json: String,
}

/// How a round ends well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundOutcome {
    /// What is published.
    pub release_json: String,
    /// The model that came out; its blob must be stored already.
    pub new_model: [u8; 32],
    /// Length of the new model's file.
    pub model_bytes: u64,
    /// What becomes of the task.
    pub then: Then,
}

/// What becomes of a task after a round that ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// Its next round.
    GoesOn,
    /// It is complete; before its last round, with the reason.
    Complete {
        /// Why it ends before its last round.
        early: Option<String>,
    },
}

/// A round as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundRow {
    /// The task.
    pub task: String,
    /// From 1.
    pub number: u64,
    /// One of [`round_state`].
    pub state: String,
    /// The newest attempt, from 1.
    pub attempt: u32,
    /// The model it started from.
    pub model: [u8; 32],
    /// What was published.
    pub release_json: Option<String>,
    /// The model that came out.
    pub new_model: Option<[u8; 32]>,
    /// Why it failed.
    pub reason: Option<String>,
    /// Epoch milliseconds.
    pub started_at: i64,
    /// Epoch milliseconds.
    pub ended_at: Option<i64>,
}

impl RoundRow {
    /// Whether nothing can happen to it any more.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.state.as_str(), round_state::COMPLETE | round_state::FAILED)
    }
}

impl Store {
    /// Starts an attempt, and with the first one the round: it is then `collecting`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without the task; [`StoreError::Conflict`] where the task is not active, the round is
    /// not its next one or has ended, an attempt is open, or the attempt's number or model is not the expected one.
    pub async fn begin_attempt(&self, start: AttemptStart, now: i64) -> Result<(), StoreError> {
        self.writer()
            .write((start, now), |(start, now), connection| Box::pin(begin_attempt(connection, start, *now)))
            .await
    }

    /// Moves an open round between `waiting`, `collecting` and `aggregating`.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for any other state: rounds end by [`Store::complete_round`] and [`Store::fail_round`].
    /// [`StoreError::NotFound`] without the round, [`StoreError::Conflict`] where it has ended.
    pub async fn set_round_state(&self, task: &str, round: u64, state: &str) -> Result<(), StoreError> {
        if !OPEN_STATES.contains(&state) {
            return Err(StoreError::Invalid { what: format!("an open round cannot be {state:?}") });
        }
        self.writer()
            .write((task.to_owned(), round, state.to_owned()), |(task, round, state), connection| {
                Box::pin(async move {
                    need_open_round(connection, task, *round).await?;
                    set_state(connection, task, *round, state).await
                })
            })
            .await
    }

    /// Abandons an open attempt, and notes what it has shown. The round stays open, `waiting` for the next one.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] or [`StoreError::Conflict`] where the attempt does not exist or is not open.
    pub async fn end_attempt(
        &self,
        task: &str,
        round: u64,
        attempt: u32,
        (reason, findings): (&str, Findings),
        now: i64,
    ) -> Result<(), StoreError> {
        self.writer()
            .write((task.to_owned(), round, attempt, reason.to_owned(), findings, now), |arguments, connection| {
                let (task, round, attempt, reason, findings, now) = arguments;
                Box::pin(async move {
                    need_open_attempt(connection, task, *round, *attempt).await?;
                    note_findings(connection, task, (*round, *attempt), findings).await?;
                    let end = (attempt_state::ABANDONED, Some(reason.as_str()), *now);
                    close_attempt(connection, task, *round, *attempt, end).await?;
                    set_state(connection, task, *round, round_state::WAITING).await
                })
            })
            .await
    }

    /// Ends a round with a Release: round and attempt are complete, what it has shown is noted, the model is recorded, the
    /// task moves on to it and to its next round, or is complete. A repetition with the same release changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without the round or attempt; [`StoreError::Conflict`] where the round ended otherwise
    /// or the attempt is not open.
    pub async fn complete_round(
        &self,
        task: &str,
        round: u64,
        attempt: u32,
        (outcome, findings): (RoundOutcome, Findings),
        now: i64,
    ) -> Result<(), StoreError> {
        self.writer()
            .write((task.to_owned(), round, attempt, outcome, findings, now), |arguments, connection| {
                let (task, round, attempt, outcome, findings, now) = arguments;
                Box::pin(complete_round(connection, task, (*round, *attempt), (outcome, findings), *now))
            })
            .await
    }

    /// Ends a round without a Release: an open attempt is abandoned and what it has shown noted, and the task moves on to its next round with the
    /// model it has, or is halted. A round that has failed stays as it is.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without the round, [`StoreError::Conflict`] where it is complete.
    pub async fn fail_round(
        &self,
        task: &str,
        round: u64,
        (reason, findings): (&str, Findings),
        halt_task: bool,
        now: i64,
    ) -> Result<(), StoreError> {
        self.writer()
            .write((task.to_owned(), round, reason.to_owned(), findings, halt_task, now), |arguments, connection| {
                let (task, round, reason, findings, halt_task, now) = arguments;
                Box::pin(fail_round(connection, task, *round, (reason, findings), *halt_task, *now))
            })
            .await
    }

    /// One round.
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn round(&self, task: &str, number: u64) -> Result<Option<RoundRow>, StoreError> {
        let query = sqlx::query(SELECT_ROUND).bind(task).bind(signed("the round", number)?);
        query.fetch_optional(self.readers()).await?.map(|row| round(&row)).transpose()
    }

    /// The task's last round before this one that ended with a Release.
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn last_release(&self, task: &str, before: u64) -> Result<Option<RoundRow>, StoreError> {
        let select = "SELECT * FROM rounds WHERE task = $1 AND number < $2 AND state = $3 ORDER BY number DESC LIMIT 1";
        let query = sqlx::query(select).bind(task).bind(signed("the round", before)?).bind(round_state::COMPLETE);
        query.fetch_optional(self.readers()).await?.map(|row| round(&row)).transpose()
    }

    /// Rounds of a task in order, those after number `after`, at most `limit` and [`PAGE_MAX`](crate::PAGE_MAX).
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn rounds(&self, task: &str, after: u64, limit: u32) -> Result<Vec<RoundRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM rounds WHERE task = $1 AND number > $2 ORDER BY number LIMIT $3")
            .bind(task)
            .bind(signed("the round", after)?)
            .bind(page(limit))
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(round).collect()
    }

    /// Every round that has not ended, of all tasks: what a coordinator resumes when it starts.
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn open_rounds(&self) -> Result<Vec<RoundRow>, StoreError> {
        let [waiting, collecting, aggregating] = OPEN_STATES;
        let rows = sqlx::query("SELECT * FROM rounds WHERE state IN ($1, $2, $3) ORDER BY task, number")
            .bind(waiting)
            .bind(collecting)
            .bind(aggregating)
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(round).collect()
    }
}

async fn begin_attempt(connection: &mut SqliteConnection, start: &AttemptStart, now: i64) -> Result<(), StoreError> {
    let AttemptStart { task: id, round: number, attempt, model, cohort_json } = start;
    let task = need_task(connection, id).await?;
    if task.state != task_state::ACTIVE {
        return Err(StoreError::conflict(format!("task {id} is {}: no round can start", task.state)));
    }
    if task.next_round != *number {
        return Err(StoreError::conflict(format!("round {id}.{number} cannot start: next is {}", task.next_round)));
    }
    if task.model != *model {
        let want = hex::encode(task.model);
        return Err(StoreError::conflict(format!("round {id}.{number} must start from model {want}")));
    }
    let last = match find_round(connection, id, *number).await? {
        None => {
            insert_round(connection, start, now).await?;
            0
        }
        Some(round) if round.is_ended() => return Err(ended(&round)),
        Some(round) => round.attempt,
    };
    if last.checked_add(1) != Some(*attempt) {
        return Err(StoreError::conflict(format!("attempt {attempt} of round {id}.{number} cannot follow {last}")));
    }
    if last > 0 && need_open_attempt(connection, id, *number, last).await.is_ok() {
        return Err(StoreError::conflict(format!("attempt {last} of round {id}.{number} is still open")));
    }
    sqlx::query(
        "INSERT INTO attempts (task, round, attempt, state, model, cohort_json, started_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(id)
    .bind(signed("the round", *number)?)
    .bind(i64::from(*attempt))
    .bind(attempt_state::OPEN)
    .bind(&model[..])
    .bind(cohort_json)
    .bind(now)
    .execute(&mut *connection)
    .await?;
    sqlx::query("UPDATE rounds SET state = $3, attempt = $4 WHERE task = $1 AND number = $2")
        .bind(id)
        .bind(signed("the round", *number)?)
        .bind(round_state::COLLECTING)
        .bind(i64::from(*attempt))
        .execute(connection)
        .await?;
    Ok(())
}

async fn insert_round(connection: &mut SqliteConnection, start: &AttemptStart, now: i64) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO rounds (task, number, state, attempt, model, started_at) VALUES ($1, $2, $3, 0, $4, $5)")
        .bind(&start.task)
        .bind(signed("the round", start.round)?)
        .bind(round_state::COLLECTING)
        .bind(&start.model[..])
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

async fn complete_round(
    connection: &mut SqliteConnection,
    task: &str,
    (number, attempt): (u64, u32),
    (outcome, findings): (&RoundOutcome, &Findings),
    now: i64,
) -> Result<(), StoreError> {
    let round = need_round(connection, task, number).await?;
    if round.state == round_state::COMPLETE
        && (round.release_json.as_ref(), round.new_model, round.attempt)
            == (Some(&outcome.release_json), Some(outcome.new_model), attempt)
    {
        return Ok(());
    }
    if round.is_ended() {
        return Err(ended(&round));
    }
    need_open_attempt(connection, task, number, attempt).await?;
    close_attempt(connection, task, number, attempt, (attempt_state::COMPLETE, None, now)).await?;
    note_findings(connection, task, (number, attempt), findings).await?;
    put_model(connection, &outcome.new_model, Some(task), outcome.model_bytes, now).await?;
    sqlx::query(
        "UPDATE rounds SET state = $3, release_json = $4, new_model = $5, ended_at = $6 \
         WHERE task = $1 AND number = $2",
    )
    .bind(task)
    .bind(signed("the round", number)?)
    .bind(round_state::COMPLETE)
    .bind(&outcome.release_json)
    .bind(&outcome.new_model[..])
    .bind(now)
    .execute(&mut *connection)
    .await?;
    let (state, reason) = match &outcome.then {
        Then::GoesOn => (task_state::ACTIVE, None),
        Then::Complete { early } => (task_state::COMPLETE, early.as_deref()),
    };
    sqlx::query("UPDATE tasks SET model = $2, next_round = $3, state = $4, reason = $5, updated_at = $6 WHERE id = $1")
        .bind(task)
        .bind(&outcome.new_model[..])
        .bind(after(number)?)
        .bind(state)
        .bind(reason)
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

async fn fail_round(
    connection: &mut SqliteConnection,
    task: &str,
    number: u64,
    (reason, findings): (&str, &Findings),
    halt_task: bool,
    now: i64,
) -> Result<(), StoreError> {
    let round = need_round(connection, task, number).await?;
    if round.state == round_state::FAILED {
        return Ok(());
    }
    if round.is_ended() {
        return Err(ended(&round));
    }
    if need_open_attempt(connection, task, number, round.attempt).await.is_ok() {
        let end = (attempt_state::ABANDONED, Some(reason), now);
        close_attempt(connection, task, number, round.attempt, end).await?;
        note_findings(connection, task, (number, round.attempt), findings).await?;
    }
    sqlx::query("UPDATE rounds SET state = $3, reason = $4, ended_at = $5 WHERE task = $1 AND number = $2")
        .bind(task)
        .bind(signed("the round", number)?)
        .bind(round_state::FAILED)
        .bind(reason)
        .bind(now)
        .execute(&mut *connection)
        .await?;
    let halted = halt_task.then_some(reason);
    sqlx::query("UPDATE tasks SET next_round = $2, state = $3, reason = $4, updated_at = $5 WHERE id = $1")
        .bind(task)
        .bind(after(number)?)
        .bind(if halt_task { task_state::HALTED } else { task_state::ACTIVE })
        .bind(halted)
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

async fn set_state(connection: &mut SqliteConnection, task: &str, number: u64, state: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE rounds SET state = $3 WHERE task = $1 AND number = $2")
        .bind(task)
        .bind(signed("the round", number)?)
        .bind(state)
        .execute(connection)
        .await?;
    Ok(())
}

async fn need_open_round(connection: &mut SqliteConnection, task: &str, number: u64) -> Result<RoundRow, StoreError> {
    let round = need_round(connection, task, number).await?;
    if round.is_ended() { Err(ended(&round)) } else { Ok(round) }
}

async fn need_round(connection: &mut SqliteConnection, task: &str, number: u64) -> Result<RoundRow, StoreError> {
    let round = find_round(connection, task, number).await?;
    round.ok_or_else(|| StoreError::not_found(format!("round {task}.{number}")))
}

async fn find_round(
    connection: &mut SqliteConnection,
    task: &str,
    number: u64,
) -> Result<Option<RoundRow>, StoreError> {
    let query = sqlx::query(SELECT_ROUND).bind(task).bind(signed("the round", number)?);
    query.fetch_optional(connection).await?.map(|row| round(&row)).transpose()
}

/// The number of the following round, as SQL stores it.
fn after(number: u64) -> Result<i64, StoreError> {
    signed("the next round", number.saturating_add(1))
}

fn ended(round: &RoundRow) -> StoreError {
    StoreError::conflict(format!("round {}.{} is {} already", round.task, round.number, round.state))
}

fn round(row: &SqliteRow) -> Result<RoundRow, StoreError> {
    Ok(RoundRow {
        task: get(row, "task")?,
        number: number(row, "number")?,
        state: get(row, "state")?,
        attempt: number(row, "attempt")?,
        model: bytes32(row, "model")?,
        release_json: get(row, "release_json")?,
        new_model: bytes32_or_none(row, "new_model")?,
        reason: get(row, "reason")?,
        started_at: get(row, "started_at")?,
        ended_at: get(row, "ended_at")?,
    })
}

const SELECT_ROUND: &str = "SELECT * FROM rounds WHERE task = $1 AND number = $2";
const OPEN_STATES: [&str; 3] = [round_state::WAITING, round_state::COLLECTING, round_state::AGGREGATING];
