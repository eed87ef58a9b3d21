//! What the attempts of a task have shown of its participants: who is in dispute with whom, and who was found to be
//! corrupt. It is written in the transaction that ends the attempt, and stays as long as the task.

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
    Ok(())
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
