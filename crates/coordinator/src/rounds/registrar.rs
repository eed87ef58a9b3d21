//! The registrar: says that everybody in a roster was admitted. A power of its own, apart from running rounds.

use sordino_identity::{IdentityKey, Role};
use sordino_secagg::ParticipantId;
use sordino_store::{Store, StoreError};
use std::{future::Future, pin::Pin};

/// Signs rosters of principals that it admitted, and no others. It can live in another process or an HSM.
pub trait Registrar: Send + Sync + 'static {
    /// Its signature of a roster's statement, once it has found every member among those it admitted.
    fn sign_roster<'a>(
        &'a self,
        statement: &'a [u8],
        members: &'a [ParticipantId],
    ) -> Pin<Box<dyn Future<Output = Result<[u8; 64], RegistrarError>> + Send + 'a>>;
}

/// Why a roster is not signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrarError {
    /// Somebody in it was never admitted, is no participant, or stands in it twice.
    #[error("the registrar does not know {0} as a participant, or finds it twice in the roster")]
    NotAdmitted(ParticipantId),
    /// The list of those it admitted cannot be read.
    #[error("the registrar cannot read whom it admitted")]
    Store(#[from] StoreError),
}

/// The registrar of a deployment on one machine: its key is in the data folder, its list in the store.
pub struct LocalRegistrar {
    key: IdentityKey,
    store: Store,
}

impl LocalRegistrar {
    /// With the registrar's key.
    #[must_use]
    pub fn new(key: IdentityKey, store: Store) -> Self {
        Self { key, store }
    }
}

impl Registrar for LocalRegistrar {
    fn sign_roster<'a>(
        &'a self,
        statement: &'a [u8],
        members: &'a [ParticipantId],
    ) -> Pin<Box<dyn Future<Output = Result<[u8; 64], RegistrarError>> + Send + 'a>> {
        Box::pin(async move {
            for (at, member) in members.iter().enumerate() {
                let admitted = self.store.principal(member.as_str()).await?;
                let twice = at > 0 && members[at - 1] >= *member;
                if twice || admitted.is_none_or(|row| row.role != Role::Client.to_string()) {
                    return Err(RegistrarError::NotAdmitted(member.clone()));
                }
            }
            Ok(self.key.sign(statement))
        })
    }
}
