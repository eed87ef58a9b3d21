//! A repeated request gets the first one's answer, and is not executed again.

use crate::{
    Store, StoreError,
    row::{bytes32, get, number},
};
use sqlx::SqliteConnection;

/// What to do with a request that carries an `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Idempotency {
    /// Execute it; then call [`Store::idempotent_done`] or [`Store::idempotent_abandon`].
    New,
    /// It was executed: give this answer again.
    Replay {
        /// HTTP status.
        status: u16,
        /// Body of the answer.
        body: Vec<u8>,
    },
    /// The key was used for a different request.
    Conflict,
    /// The first request of this key is still being executed.
    InProgress,
}

impl Store {
    /// Reserves a key for a request, or says what became of the one that has it. Keys belong to their principal, and
    /// live for [`IDEMPOTENCY_KEY_LIFE_MS`].
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn idempotent(
        &self,
        principal: &str,
        key: &str,
        request_digest: [u8; 32],
        now: i64,
    ) -> Result<Idempotency, StoreError> {
        self.writer()
            .write((principal.to_owned(), key.to_owned(), request_digest, now), |arguments, connection| {
                let (principal, key, request, now) = arguments;
                Box::pin(reserve(connection, principal, key, request, *now))
            })
            .await
    }

    /// Keeps the answer to a request whose key was reserved.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where the key was not reserved, or is answered already.
    pub async fn idempotent_done(
        &self,
        principal: &str,
        key: &str,
        status: u16,
        body: Vec<u8>,
    ) -> Result<(), StoreError> {
        self.writer()
            .write((principal.to_owned(), key.to_owned(), status, body), |arguments, connection| {
                let (principal, key, status, body) = arguments;
                Box::pin(async move {
                    let update = "UPDATE idempotency_keys SET status = $3, body = $4 \
                                  WHERE principal = $1 AND key = $2 AND status IS NULL";
                    let query = sqlx::query(update).bind(principal).bind(key).bind(i64::from(*status)).bind(body);
                    if query.execute(connection).await?.rows_affected() == 0 {
                        return Err(StoreError::not_found(format!("an open idempotency key {key:?} of {principal}")));
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Frees a reserved key whose request was not executed, so that it can be tried again.
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn idempotent_abandon(&self, principal: &str, key: &str) -> Result<(), StoreError> {
        self.writer()
            .write((principal.to_owned(), key.to_owned()), |(principal, key), connection| {
                Box::pin(async move {
                    let delete = "DELETE FROM idempotency_keys WHERE principal = $1 AND key = $2 AND status IS NULL";
                    sqlx::query(delete).bind(principal).bind(key).execute(connection).await?;
                    Ok(())
                })
            })
            .await
    }
}

/// Frees the keys of requests that died with an earlier process.
pub(crate) async fn forget_interrupted(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM idempotency_keys WHERE status IS NULL").execute(connection).await?;
    Ok(())
}

async fn reserve(
    connection: &mut SqliteConnection,
    principal: &str,
    key: &str,
    request: &[u8; 32],
    now: i64,
) -> Result<Idempotency, StoreError> {
    sqlx::query("DELETE FROM idempotency_keys WHERE created_at <= $1")
        .bind(now.saturating_sub(IDEMPOTENCY_KEY_LIFE_MS))
        .execute(&mut *connection)
        .await?;
    let insert = "INSERT INTO idempotency_keys (principal, key, request_digest, created_at) VALUES ($1, $2, $3, $4) \
                  ON CONFLICT (principal, key) DO NOTHING";
    let inserted =
        sqlx::query(insert).bind(principal).bind(key).bind(&request[..]).bind(now).execute(&mut *connection).await?;
    if inserted.rows_affected() == 1 {
        return Ok(Idempotency::New);
    }
    let row = sqlx::query("SELECT * FROM idempotency_keys WHERE principal = $1 AND key = $2")
        .bind(principal)
        .bind(key)
        .fetch_one(connection)
        .await?;
    if bytes32(&row, "request_digest")? != *request {
        return Ok(Idempotency::Conflict);
    }
    match get::<Option<Vec<u8>>>(&row, "body")? {
        Some(body) => Ok(Idempotency::Replay { status: number(&row, "status")?, body }),
        None => Ok(Idempotency::InProgress),
    }
}

/// How long an answer is kept for repetitions: 24 hours.
pub const IDEMPOTENCY_KEY_LIFE_MS: i64 = 24 * 60 * 60 * 1000;
