//! The registrar: says that everybody in a roster was admitted. A power of its own, apart from running rounds.

use sordino_identity::{IdentityKey, Role};
use sordino_secagg::{CertificateKey, ParticipantId, coordinator::UnsignedRoster};
use sordino_store::{Store, StoreError};
use std::{collections::BTreeMap, future::Future, pin::Pin};

/// Signs rosters of principals that it admitted, and no others. It can live in another process or an HSM.
///
/// It computes the statement itself, from what each member advertised and the keys that it admitted: a coordinator that
/// names honest members and asks for another root's signature gets none.
pub trait Registrar: Send + Sync + 'static {
    /// Its signature of a roster, once it has found every member, with its key, among those it admitted.
    fn sign_roster<'a>(
        &'a self,
        roster: &'a UnsignedRoster,
    ) -> Pin<Box<dyn Future<Output = Result<[u8; 64], RegistrarError>> + Send + 'a>>;
}

/// Why a roster is not signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrarError {
    /// Somebody in it was never admitted with this key, is no participant, or stands in it twice.
    #[error("the registrar did not admit {0} as a participant with this key, or finds it twice in the roster")]
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
        roster: &'a UnsignedRoster,
    ) -> Pin<Box<dyn Future<Output = Result<[u8; 64], RegistrarError>> + Send + 'a>> {
        Box::pin(async move {
            let mut keys = BTreeMap::new();
            for member in roster.members() {
                let admitted = self.store.principal(member.as_str()).await?;
                let admitted = admitted.filter(|row| row.role == Role::Client.as_str());
                let key = admitted.and_then(|row| CertificateKey::from_bytes(&row.verifying_key).ok());
                keys.insert(member.clone(), key.ok_or_else(|| RegistrarError::NotAdmitted(member.clone()))?);
            }
            let statement = roster.statement(|id| keys.get(id).copied()).map_err(RegistrarError::NotAdmitted)?;
            Ok(self.key.sign(&statement))
        })
    }
}
