//! What the attempts of a task have shown of its participants: who is in dispute with whom, whose input was refused, whose
//! commitments opened to the sum of their group and whose did not, and who was found to be corrupt. It is written in the transaction that ends
//! the attempt, and stays as long as the task.

use crate::{
    Store, StoreError,
    row::{get, number, signed},
};
use sqlx::{SqliteConnection, sqlite::SqliteRow};

/// What an attempt has shown of its participants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Who accused whom.
    pub disputes: Vec<NewDispute>,
    /// Who was found to be corrupt.
    pub culprits: Vec<NewCulprit>,
    /// The groups whose sums were opened.
    pub checks: Vec<NewCheck>,
    /// Whose inputs were refused.
    pub refusals: Vec<NewRefusal>,
}

/// A holder says that the shares of a dealer do not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDispute {
    /// Who dealt the shares.
    pub dealer: String,
    /// Who was dealt them.
    pub holder: String,
}

/// Somebody who was found to be corrupt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCulprit {
    /// Who.
    pub id: String,
    /// By what, in one sentence.
    pub reason: String,
}

/// A group's sum was opened, and the commitments of those whose inputs are in it open to it or do not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCheck {
    /// Which group of the attempt.
    pub group: u32,
    /// Whether they open to it.
    pub passed: bool,
    /// The group's survivors.
    pub members: Vec<String>,
}

/// An input was refused, because its proof shows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRefusal {
    /// Whose.
    pub id: String,
    /// Why, in one sentence.
    pub reason: String,
}

/// A dispute as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisputeRow {
    /// Who dealt the shares.
    pub dealer: String,
    /// Who was dealt them, and says that they do not open.
    pub holder: String,
    /// The round in which it said so first.
    pub round: u64,
    /// The attempt in which it said so first.
    pub attempt: u32,
}

/// A culprit as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CulpritRow {
    /// Who.
    pub id: String,
    /// The round that showed it first.
    pub round: u64,
    /// The attempt that showed it first.
    pub attempt: u32,
    /// By what, in one sentence.
    pub reason: String,
}

/// A check as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRow {
    /// The round of the sum.
    pub round: u64,
    /// The attempt of the sum.
    pub attempt: u32,
    /// Which group of the attempt.
    pub group: u32,
    /// Whether the commitments open to the sum.
    pub passed: bool,
    /// The group's survivors, as they were given.
    pub members: Vec<String>,
}

/// A refused input as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalRow {
    /// The attempt it was sent in.
    pub attempt: u32,
    /// Whose.
    pub id: String,
    /// Why it was refused, in one sentence.
    pub reason: String,
}

impl Store {
    /// All disputes of a task, in the order of dealers and holders; none where there is no such task.
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn disputes(&self, task: &str) -> Result<Vec<DisputeRow>, StoreError> {
        let query = sqlx::query("SELECT * FROM disputes WHERE task = $1 ORDER BY dealer, holder").bind(task);
        query.fetch_all(self.readers()).await?.iter().map(dispute).collect()
    }

    /// All culprits of a task, in the order of their ids; none where there is no such task.
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn culprits(&self, task: &str) -> Result<Vec<CulpritRow>, StoreError> {
        let query = sqlx::query("SELECT * FROM culprits WHERE task = $1 ORDER BY id").bind(task);
        query.fetch_all(self.readers()).await?.iter().map(culprit).collect()
    }

    /// All checks of a task, in the order of rounds, attempts and groups; none where there is no such task.
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn checks(&self, task: &str) -> Result<Vec<CheckRow>, StoreError> {
        let query = "SELECT * FROM checks WHERE task = $1 ORDER BY round, attempt, group_number";
        sqlx::query(query).bind(task).fetch_all(self.readers()).await?.iter().map(check).collect()
    }

    /// All inputs that were refused in the ended attempts of a round, in the order of attempts and ids; none where there is
    /// no such round.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a number that no round has; else only where the database fails.
    pub async fn refusals(&self, task: &str, round: u64) -> Result<Vec<RefusalRow>, StoreError> {
        let query = "SELECT * FROM refusals WHERE task = $1 AND round = $2 ORDER BY attempt, id";
        let query = sqlx::query(query).bind(task).bind(signed("the round", round)?);
        query.fetch_all(self.readers()).await?.iter().map(refusal).collect()
    }
}

/// Inside a write that ends an attempt: what it has shown. What is known already stays as it was found first.
pub(crate) async fn note_findings(
    connection: &mut SqliteConnection,
    task: &str,
    (round, attempt): (u64, u32),
    findings: &Findings,
) -> Result<(), StoreError> {
    let round = signed("the round", round)?;
    for NewDispute { dealer, holder } in &findings.disputes {
        sqlx::query(
            "INSERT INTO disputes (task, dealer, holder, round, attempt) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (task, dealer, holder) DO NOTHING",
        )
        .bind(task)
        .bind(dealer)
        .bind(holder)
        .bind(round)
        .bind(i64::from(attempt))
        .execute(&mut *connection)
        .await?;
    }
    for NewCulprit { id, reason } in &findings.culprits {
        sqlx::query(
            "INSERT INTO culprits (task, id, round, attempt, reason) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (task, id) DO NOTHING",
        )
        .bind(task)
        .bind(id)
        .bind(round)
        .bind(i64::from(attempt))
        .bind(reason)
        .execute(&mut *connection)
        .await?;
    }
    for NewCheck { group, passed, members } in &findings.checks {
        sqlx::query(
            "INSERT INTO checks (task, round, attempt, group_number, passed, members) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (task, round, attempt, group_number) DO NOTHING",
        )
        .bind(task)
        .bind(round)
        .bind(i64::from(attempt))
        .bind(i64::from(*group))
        .bind(i64::from(*passed))
        .bind(lines(members)?)
        .execute(&mut *connection)
        .await?;
    }
    for NewRefusal { id, reason } in &findings.refusals {
        sqlx::query(
            "INSERT INTO refusals (task, round, attempt, id, reason) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (task, round, attempt, id) DO NOTHING",
        )
        .bind(task)
        .bind(round)
        .bind(i64::from(attempt))
        .bind(id)
        .bind(reason)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Names in one column.
///
/// # Errors
/// [`StoreError::Invalid`] for a name that would not come back as it is.
fn lines(names: &[String]) -> Result<String, StoreError> {
    match names.iter().find(|name| name.is_empty() || name.contains(['\n', '\r'])) {
        Some(name) => Err(StoreError::Invalid { what: format!("{name:?} is no name") }),
        None => Ok(names.join("\n")),
    }
}

fn refusal(row: &SqliteRow) -> Result<RefusalRow, StoreError> {
    Ok(RefusalRow { attempt: number(row, "attempt")?, id: get(row, "id")?, reason: get(row, "reason")? })
}

fn dispute(row: &SqliteRow) -> Result<DisputeRow, StoreError> {
    Ok(DisputeRow {
        dealer: get(row, "dealer")?,
        holder: get(row, "holder")?,
        round: number(row, "round")?,
        attempt: number(row, "attempt")?,
    })
}

fn culprit(row: &SqliteRow) -> Result<CulpritRow, StoreError> {
    Ok(CulpritRow {
        id: get(row, "id")?,
        round: number(row, "round")?,
        attempt: number(row, "attempt")?,
        reason: get(row, "reason")?,
    })
}

fn check(row: &SqliteRow) -> Result<CheckRow, StoreError> {
    Ok(CheckRow {
        round: number(row, "round")?,
        attempt: number(row, "attempt")?,
        group: number(row, "group_number")?,
        passed: get::<i64>(row, "passed")? != 0,
        members: get::<&str>(row, "members")?.lines().map(str::to_owned).collect(),
    })
}
