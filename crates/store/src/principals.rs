//! Who may talk to the coordinator, and the tokens by which they join.

use crate::{
    Store, StoreError,
    row::{bytes32, get, page},
};
use sqlx::{SqliteConnection, sqlite::SqliteRow};

/// A token to be given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJoinToken {
    /// SHA-256 of the token, which is itself stored nowhere.
    pub hash: [u8; 32],
    /// Whom it admits.
    pub principal: String,
    /// In which role.
    pub role: String,
    /// First moment at which it is worthless; epoch milliseconds.
    pub expires_at: i64,
    /// The principal that gave it out.
    pub created_by: String,
}

/// A token as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinTokenRow {
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// Whom it admits.
    pub principal: String,
    /// In which role.
    pub role: String,
    /// First moment at which it is worthless; epoch milliseconds.
    pub expires_at: i64,
    /// The principal that gave it out.
    pub created_by: String,
    /// Epoch milliseconds.
    pub created_at: i64,
    /// When it was used up; epoch milliseconds.
    pub used_at: Option<i64>,
}

/// A principal with its current certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPrincipal {
    /// Its name, unique.
    pub id: String,
    /// Its role.
    pub role: String,
    /// Key of the certificate: a byte for its kind, and 32 (Ed25519) or 65 bytes (P-256). No two principals share one.
    pub verifying_key: Vec<u8>,
    /// PEM, leaf first.
    pub certificate_chain: Vec<u8>,
    /// SHA-256 of the leaf certificate in DER.
    pub fingerprint: [u8; 32],
    /// End of the certificate's life; epoch milliseconds.
    pub not_after: i64,
}

/// A principal as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalRow {
    /// Its name.
    pub id: String,
    /// Its role.
    pub role: String,
    /// Key of the certificate: a byte for its kind, and 32 (Ed25519) or 65 bytes (P-256).
    pub verifying_key: Vec<u8>,
    /// PEM, leaf first.
    pub certificate_chain: Vec<u8>,
    /// SHA-256 of the leaf certificate in DER.
    pub fingerprint: [u8; 32],
    /// End of the certificate's life; epoch milliseconds.
    pub not_after: i64,
    /// When it got its current certificate; epoch milliseconds.
    pub enrolled_at: i64,
    /// When it was last heard of, to within [`TOUCH_RESOLUTION_MS`]; epoch milliseconds.
    pub last_seen: Option<i64>,
}

/// What became of an enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Enrolled {
    /// The token is used up and the principal is stored.
    Done,
    /// No such token was given out. Nothing was changed, as in all that follow.
    TokenUnknown,
    /// The token was used before.
    TokenUsed,
    /// The token came too late.
    TokenExpired,
    /// The token admits another principal or role, or the principal exists in another role.
    PrincipalMismatch,
}

impl Store {
    /// Stores a join token by its hash.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where this token exists already.
    pub async fn add_join_token(&self, token: NewJoinToken, now: i64) -> Result<(), StoreError> {
        self.writer()
            .write((token, now), |(token, now), connection| {
                Box::pin(async move {
                    let insert = "INSERT INTO join_tokens (hash, principal, role, expires_at, created_by, created_at) \
                                  VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (hash) DO NOTHING";
                    let inserted = sqlx::query(insert)
                        .bind(&token.hash[..])
                        .bind(&token.principal)
                        .bind(&token.role)
                        .bind(token.expires_at)
                        .bind(&token.created_by)
                        .bind(*now)
                        .execute(connection)
                        .await?;
                    if inserted.rows_affected() == 0 {
                        return Err(StoreError::conflict("this join token exists already: make a new one"));
                    }
                    Ok(())
                })
            })
            .await
    }

    /// The token with this hash.
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn join_token(&self, hash: &[u8; 32]) -> Result<Option<JoinTokenRow>, StoreError> {
        let row = sqlx::query(SELECT_TOKEN).bind(&hash[..]).fetch_optional(self.readers()).await?;
        row.map(|row| token(&row)).transpose()
    }

    /// Uses a token up and stores the principal it admits, or replaces that principal's key and certificate. Both
    /// happen, or neither; of two calls with one token, one wins.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where another principal has this key or certificate; the token is then unused.
    pub async fn enroll(&self, hash: &[u8; 32], principal: NewPrincipal, now: i64) -> Result<Enrolled, StoreError> {
        self.writer()
            .write((*hash, principal, now), |(hash, principal, now), connection| {
                Box::pin(enroll(connection, hash, principal, *now))
            })
            .await
    }

    /// Stores a principal without a token, or replaces its key and certificate: for those that `init` makes, and for
    /// renewals.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where it exists in another role, or another principal has this key or certificate.
    pub async fn add_principal(&self, principal: NewPrincipal, now: i64) -> Result<(), StoreError> {
        self.writer()
            .write((principal, now), |(principal, now), connection| {
                Box::pin(async move {
                    if put_principal(connection, principal, *now).await? {
                        return Ok(());
                    }
                    let NewPrincipal { id, role, .. } = principal;
                    Err(StoreError::conflict(format!("principal {id} exists in another role than {role}")))
                })
            })
            .await
    }

    /// The principal of this name.
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn principal(&self, id: &str) -> Result<Option<PrincipalRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM principals WHERE id = $1").bind(id).fetch_optional(self.readers()).await?;
        row.map(|row| principal(&row)).transpose()
    }

    /// Principals in the order of their names, those after `after`, at most `limit` and [`PAGE_MAX`](crate::PAGE_MAX).
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn principals(&self, after: Option<&str>, limit: u32) -> Result<Vec<PrincipalRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM principals WHERE id > $1 ORDER BY id LIMIT $2")
            .bind(after.unwrap_or_default())
            .bind(page(limit))
            .fetch_all(self.readers())
            .await?;
        rows.iter().map(principal).collect()
    }

    /// How many principals have this role, whether their certificates are still valid or not.
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn principals_in_role(&self, role: &str) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM principals WHERE role = $1")
            .bind(role)
            .fetch_one(self.readers())
            .await?;
        Ok(count.unsigned_abs())
    }

    /// Notes that a principal was heard of. Calls within [`TOUCH_RESOLUTION_MS`] of the last one cost no write to the
    /// disk; an unknown principal is no error.
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn touch(&self, id: &str, now: i64) -> Result<(), StoreError> {
        self.writer()
            .write((id.to_owned(), now), |(id, now), connection| {
                Box::pin(async move {
                    let update = "UPDATE principals SET last_seen = $2 \
                                  WHERE id = $1 AND (last_seen IS NULL OR last_seen <= $3)";
                    let stale = now.saturating_sub(TOUCH_RESOLUTION_MS);
                    sqlx::query(update).bind(id).bind(*now).bind(stale).execute(connection).await?;
                    Ok(())
                })
            })
            .await
    }
}

async fn enroll(
    connection: &mut SqliteConnection,
    hash: &[u8; 32],
    principal: &NewPrincipal,
    now: i64,
) -> Result<Enrolled, StoreError> {
    let Some(row) = sqlx::query(SELECT_TOKEN).bind(&hash[..]).fetch_optional(&mut *connection).await? else {
        return Ok(Enrolled::TokenUnknown);
    };
    let token = token(&row)?;
    if token.used_at.is_some() {
        return Ok(Enrolled::TokenUsed);
    }
    if token.expires_at <= now {
        return Ok(Enrolled::TokenExpired);
    }
    if (&token.principal, &token.role) != (&principal.id, &principal.role)
        || !put_principal(connection, principal, now).await?
    {
        return Ok(Enrolled::PrincipalMismatch);
    }
    sqlx::query("UPDATE join_tokens SET used_at = $2 WHERE hash = $1")
        .bind(&hash[..])
        .bind(now)
        .execute(connection)
        .await?;
    Ok(Enrolled::Done)
}

/// Inserts or replaces; false, with nothing changed, where the principal exists in another role.
async fn put_principal(
    connection: &mut SqliteConnection,
    principal: &NewPrincipal,
    now: i64,
) -> Result<bool, StoreError> {
    let put = "INSERT INTO principals \
               (id, role, verifying_key, certificate_chain, fingerprint, not_after, enrolled_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) \
               ON CONFLICT (id) DO UPDATE SET verifying_key = excluded.verifying_key, \
               certificate_chain = excluded.certificate_chain, fingerprint = excluded.fingerprint, \
               not_after = excluded.not_after, enrolled_at = excluded.enrolled_at \
               WHERE principals.role = excluded.role";
    let put = sqlx::query(put)
        .bind(&principal.id)
        .bind(&principal.role)
        .bind(&principal.verifying_key[..])
        .bind(&principal.certificate_chain)
        .bind(&principal.fingerprint[..])
        .bind(principal.not_after)
        .bind(now)
        .execute(connection)
        .await;
    match put {
        Ok(done) => Ok(done.rows_affected() == 1),
        Err(error) if error.as_database_error().is_some_and(|error| error.is_unique_violation()) => {
            let id = &principal.id;
            Err(StoreError::conflict(format!("the key of {id} belongs to another principal: make a new key")))
        }
        Err(error) => Err(error.into()),
    }
}

fn token(row: &SqliteRow) -> Result<JoinTokenRow, StoreError> {
    Ok(JoinTokenRow {
        hash: bytes32(row, "hash")?,
        principal: get(row, "principal")?,
        role: get(row, "role")?,
        expires_at: get(row, "expires_at")?,
        created_by: get(row, "created_by")?,
        created_at: get(row, "created_at")?,
        used_at: get(row, "used_at")?,
    })
}

fn principal(row: &SqliteRow) -> Result<PrincipalRow, StoreError> {
    Ok(PrincipalRow {
        id: get(row, "id")?,
        role: get(row, "role")?,
        verifying_key: get(row, "verifying_key")?,
        certificate_chain: get(row, "certificate_chain")?,
        fingerprint: bytes32(row, "fingerprint")?,
        not_after: get(row, "not_after")?,
        enrolled_at: get(row, "enrolled_at")?,
        last_seen: get(row, "last_seen")?,
    })
}

const SELECT_TOKEN: &str = "SELECT * FROM join_tokens WHERE hash = $1";

/// How exact [`PrincipalRow::last_seen`] is; finer would cost a commit per heartbeat and tell nobody more.
pub const TOUCH_RESOLUTION_MS: i64 = 1000;
