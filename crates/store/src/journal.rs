//! The journal of an attempt: what it was told, in order, so that a restart can replay it.

use crate::{
    Store, StoreError,
    row::{bytes32, get, number, signed},
};
use sqlx::{SqliteConnection, sqlite::SqliteRow};

/// Values of [`AttemptRow::state`].
pub mod attempt_state {
    /// Takes events.
    pub const OPEN: &str = "open";
    /// Its sum is the round's Release.
    pub const COMPLETE: &str = "complete";
    /// Ended without a sum; the reason is in the row.
    pub const ABANDONED: &str = "abandoned";
}

/// An event to be appended. Its number is its place: see [`Store::append_events`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// What it is, as the caller counts kinds.
    pub kind: i64,
    /// The participant it came from; none for what the coordinator did itself.
    pub sender: Option<String>,
    /// As the caller encodes it.
    pub body: Vec<u8>,
    /// Whether shares may be revealed once this is stored: see [`Store::reveals`].
    pub reveals: bool,
}

/// An event as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// Its place in the attempt, from 0 without gaps.
    pub seq: u64,
    /// What it is, as the caller counts kinds.
    pub kind: i64,
    /// The participant it came from; none for what the coordinator did itself.
    pub sender: Option<String>,
    /// As the caller encoded it.
    pub body: Vec<u8>,
    /// When it was appended; epoch milliseconds.
    pub at: i64,
}

/// An attempt as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
    /// The task.
    pub task: String,
    /// The round, from 1.
    pub round: u64,
    /// From 1.
    pub attempt: u32,
    /// One of [`attempt_state`].
    pub state: String,
    /// The model its cohort was given.
    pub model: [u8; 32],
    /// Who was invited, as the caller encoded it.
    pub cohort_json: String,
    /// Why it was abandoned.
    pub reason: Option<String>,
    /// Whether shares may have been revealed in it.
    pub reveals: bool,
    /// Epoch milliseconds.
    pub started_at: i64,
    /// Epoch milliseconds.
    pub ended_at: Option<i64>,
}

impl Store {
    /// Appends events to an open attempt, all or none; when this returns they are durable.
    ///
    /// - `first_seq`: number of the first event, which must be the one after the last stored; the first of all is 0.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where `first_seq` is not the next number or the attempt is not open;
    /// [`StoreError::NotFound`] without the attempt.
    pub async fn append_events(
        &self,
        task: &str,
        round: u64,
        attempt: u32,
        first_seq: u64,
        events: Vec<NewEvent>,
        now: i64,
    ) -> Result<(), StoreError> {
        self.writer()
            .write((task.to_owned(), round, attempt, first_seq, events, now), |arguments, connection| {
                let (task, round, attempt, first_seq, events, now) = arguments;
                Box::pin(append(connection, (task, *round, *attempt), *first_seq, events, *now))
            })
            .await
    }

    /// How many attempts of a task over a model have come so far that shares may have been revealed in them, whatever became
    /// of them: those with an event that says so.
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn reveals(&self, task: &str, model: &[u8; 32]) -> Result<u32, StoreError> {
        let count: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM attempts WHERE task = $1 AND model = $2 AND reveals = 1")
                .bind(task)
                .bind(&model[..])
                .fetch_one(self.readers())
                .await?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// All events of an attempt, in order; none where there is no such attempt.
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn events(&self, task: &str, round: u64, attempt: u32) -> Result<Vec<EventRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT seq, kind, sender, body, at FROM events \
             WHERE task = $1 AND round = $2 AND attempt = $3 ORDER BY seq",
        )
        .bind(task)
        .bind(signed("the round", round)?)
        .bind(i64::from(attempt))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(event).collect()
    }

    /// Deletes the events of an attempt that is over and will not be replayed.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where the attempt is open, [`StoreError::NotFound`] where there is none.
    pub async fn forget_events(&self, task: &str, round: u64, attempt: u32) -> Result<(), StoreError> {
        self.writer()
            .write((task.to_owned(), round, attempt), |(task, round, attempt), connection| {
                Box::pin(async move {
                    if need_attempt(connection, task, *round, *attempt).await?.state == attempt_state::OPEN {
                        return Err(StoreError::conflict(format!("attempt {task}.{round}.{attempt} is still open")));
                    }
                    sqlx::query("DELETE FROM events WHERE task = $1 AND round = $2 AND attempt = $3")
                        .bind(task)
                        .bind(signed("the round", *round)?)
                        .bind(i64::from(*attempt))
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await?;
        self.writer().empty_log().await;
        Ok(())
    }

    /// Deletes the events of every attempt that is over: what a coordinator that was killed had no time for.
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn forget_ended(&self) -> Result<(), StoreError> {
        self.writer()
            .write((), |(), connection| {
                Box::pin(async move {
                    sqlx::query(
                        "DELETE FROM events WHERE NOT EXISTS (SELECT 1 FROM attempts WHERE attempts.task = events.task \
                         AND attempts.round = events.round AND attempts.attempt = events.attempt \
                         AND attempts.state = $1)",
                    )
                    .bind(attempt_state::OPEN)
                    .execute(connection)
                    .await?;
                    Ok(())
                })
            })
            .await?;
        self.writer().empty_log().await;
        Ok(())
    }

    /// One attempt.
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn attempt(&self, task: &str, round: u64, number: u32) -> Result<Option<AttemptRow>, StoreError> {
        let query = sqlx::query(SELECT_ATTEMPT).bind(task).bind(signed("the round", round)?).bind(i64::from(number));
        query.fetch_optional(self.readers()).await?.map(|row| attempt(&row)).transpose()
    }
}

async fn append(
    connection: &mut SqliteConnection,
    (task, round, attempt): (&str, u64, u32),
    first_seq: u64,
    events: &[NewEvent],
    now: i64,
) -> Result<(), StoreError> {
    need_open_attempt(connection, task, round, attempt).await?;
    let round_number = signed("the round", round)?;
    let last = "SELECT seq FROM events WHERE task = $1 AND round = $2 AND attempt = $3 ORDER BY seq DESC LIMIT 1";
    let last: Option<i64> = sqlx::query_scalar(last)
        .bind(task)
        .bind(round_number)
        .bind(i64::from(attempt))
        .fetch_optional(&mut *connection)
        .await?;
    let next = last.map_or(0, |last| last + 1);
    if signed("the number of the first event", first_seq)? != next {
        return Err(StoreError::conflict(format!(
            "event {first_seq} of attempt {task}.{round}.{attempt} cannot be appended: next is {next}"
        )));
    }
    for (seq, event) in (next..).zip(events) {
        sqlx::query(
            "INSERT INTO events (task, round, attempt, seq, kind, sender, body, at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(task)
        .bind(round_number)
        .bind(i64::from(attempt))
        .bind(seq)
        .bind(event.kind)
        .bind(&event.sender)
        .bind(&event.body)
        .bind(now)
        .execute(&mut *connection)
        .await?;
    }
    if events.iter().any(|event| event.reveals) {
        sqlx::query("UPDATE attempts SET reveals = 1 WHERE task = $1 AND round = $2 AND attempt = $3")
            .bind(task)
            .bind(round_number)
            .bind(i64::from(attempt))
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Inside a write: the attempt, which must be open.
pub(crate) async fn need_open_attempt(
    connection: &mut SqliteConnection,
    task: &str,
    round: u64,
    number: u32,
) -> Result<AttemptRow, StoreError> {
    let attempt = need_attempt(connection, task, round, number).await?;
    if attempt.state != attempt_state::OPEN {
        return Err(StoreError::conflict(format!("attempt {task}.{round}.{number} is {} already", attempt.state)));
    }
    Ok(attempt)
}

/// Inside a write: ends an attempt with a state, a reason and a time.
pub(crate) async fn close_attempt(
    connection: &mut SqliteConnection,
    task: &str,
    round: u64,
    attempt: u32,
    (state, reason, now): (&str, Option<&str>, i64),
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE attempts SET state = $4, reason = $5, ended_at = $6 WHERE task = $1 AND round = $2 AND attempt = $3",
    )
    .bind(task)
    .bind(signed("the round", round)?)
    .bind(i64::from(attempt))
    .bind(state)
    .bind(reason)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

async fn need_attempt(
    connection: &mut SqliteConnection,
    task: &str,
    round: u64,
    number: u32,
) -> Result<AttemptRow, StoreError> {
    let query = sqlx::query(SELECT_ATTEMPT).bind(task).bind(signed("the round", round)?).bind(i64::from(number));
    let row = query.fetch_optional(connection).await?;
    attempt(&row.ok_or_else(|| StoreError::not_found(format!("attempt {task}.{round}.{number}")))?)
}

fn attempt(row: &SqliteRow) -> Result<AttemptRow, StoreError> {
    Ok(AttemptRow {
        task: get(row, "task")?,
        round: number(row, "round")?,
        attempt: number(row, "attempt")?,
        state: get(row, "state")?,
        model: bytes32(row, "model")?,
        cohort_json: get(row, "cohort_json")?,
        reason: get(row, "reason")?,
        reveals: get::<i64>(row, "reveals")? != 0,
        started_at: get(row, "started_at")?,
        ended_at: get(row, "ended_at")?,
    })
}

fn event(row: &SqliteRow) -> Result<EventRow, StoreError> {
    Ok(EventRow {
        seq: number(row, "seq")?,
        kind: get(row, "kind")?,
        sender: get(row, "sender")?,
        body: get(row, "body")?,
        at: get(row, "at")?,
    })
}

const SELECT_ATTEMPT: &str = "SELECT * FROM attempts WHERE task = $1 AND round = $2 AND attempt = $3";
