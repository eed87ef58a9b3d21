//! What the registrar has signed, so that it never signs two different things about one attempt, also after a restart.

use crate::{Store, StoreError, row::get};
use sqlx::SqliteConnection;

/// Whether the registrar may give out its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Signing {
    /// It is noted that it signs this: for the first time, or the very same as before.
    Noted,
    /// It has signed something else about the same attempt.
    SignedAnother,
    /// It has not signed the roster that the survivors are of.
    NoSuchRoster,
}

impl Store {
    /// Notes that the registrar signs this roster of an attempt, before it does.
    ///
    /// - `context`: the digest of what the attempt is about.
    /// - `roster`: the statement that is signed.
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn note_roster(&self, context: [u8; 32], roster: Vec<u8>) -> Result<Signing, StoreError> {
        self.writer()
            .write((context, roster), |(context, roster), connection| {
                Box::pin(async move {
                    let insert = "INSERT INTO registrar_signed (context, roster) VALUES ($1, $2) \
                                  ON CONFLICT (context) DO NOTHING";
                    sqlx::query(insert).bind(&context[..]).bind(&roster[..]).execute(&mut *connection).await?;
                    let signed = signed(connection, context).await?;
                    let same = signed.is_some_and(|(signed, _)| signed == *roster);
                    Ok(if same { Signing::Noted } else { Signing::SignedAnother })
                })
            })
            .await
    }

    /// Notes that the registrar signs this survivor list of an attempt, before it does.
    ///
    /// - `context`: the digest of what the attempt is about.
    /// - `roster`: the statement about the roster that the survivors are of.
    /// - `survivors`: the statement that is signed.
    ///
    /// # Errors
    /// Only where the database fails.
    pub async fn note_survivors(
        &self,
        context: [u8; 32],
        roster: Vec<u8>,
        survivors: Vec<u8>,
    ) -> Result<Signing, StoreError> {
        self.writer()
            .write((context, roster, survivors), |(context, roster, survivors), connection| {
                Box::pin(async move {
                    match signed(&mut *connection, context).await? {
                        Some((signed, None)) if signed == *roster => {
                            let update = "UPDATE registrar_signed SET survivors = $2 WHERE context = $1";
                            sqlx::query(update).bind(&context[..]).bind(&survivors[..]).execute(connection).await?;
                            Ok(Signing::Noted)
                        }
                        Some((signed, Some(before))) if signed == *roster => {
                            Ok(if before == *survivors { Signing::Noted } else { Signing::SignedAnother })
                        }
                        _ => Ok(Signing::NoSuchRoster),
                    }
                })
            })
            .await
    }
}

/// The statements about an attempt that are noted: its roster, and its survivors.
async fn signed(
    connection: &mut SqliteConnection,
    context: &[u8; 32],
) -> Result<Option<(Vec<u8>, Option<Vec<u8>>)>, StoreError> {
    let query = sqlx::query("SELECT * FROM registrar_signed WHERE context = $1").bind(&context[..]);
    let row = query.fetch_optional(connection).await?;
    row.map(|row| Ok((get(&row, "roster")?, get(&row, "survivors")?))).transpose()
}
