//! The registrar: says that everybody in a roster was admitted, and which survivor list an attempt has. A power of its own,
//! apart from running rounds.

use sordino_identity::{IdentityKey, Role};
use sordino_secagg::{
    CertificateKey, ParticipantId,
    coordinator::{UnsignedRoster, UnsignedSurvivors},
};
use sordino_store::{Signing, Store, StoreError};
use std::{collections::BTreeMap, future::Future, pin::Pin};

/// Signs rosters of principals that it admitted, and no others; of each attempt one roster, and one survivor list of it. It
/// can live in another process or an HSM.
///
/// What it has signed of an attempt it signs again, after a restart of whoever asks; anything else about the same attempt
/// it refuses. It remembers before it gives a signature out: two survivor lists would let a coordinator open stretches of
/// a sparse graph each by itself.
///
/// It computes the statement itself, from what each member advertised and the keys that it admitted: a coordinator that
/// names honest members and asks for another root's signature gets none.
pub trait Registrar: Send + Sync + 'static {
    /// Its signature of a roster, once it has found every member, with its key, among those it admitted.
    fn sign_roster<'a>(
        &'a self,
        roster: &'a UnsignedRoster,
    ) -> Pin<Box<dyn Future<Output = Result<[u8; 64], RegistrarError>> + Send + 'a>>;

    /// Its signature of the survivor list of an attempt whose roster it signed.
    fn sign_survivors<'a>(
        &'a self,
        survivors: &'a UnsignedSurvivors,
    ) -> Pin<Box<dyn Future<Output = Result<[u8; 64], RegistrarError>> + Send + 'a>>;
}

/// Why a roster or a survivor list is not signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrarError {
    /// Somebody in it was never admitted with this key, is no participant, or stands in it twice.
    #[error("the registrar did not admit {0} as a participant with this key, or finds it twice in the roster")]
    NotAdmitted(ParticipantId),
    /// It signed another roster, or another survivor list, of the same attempt.
    #[error("the registrar has signed another {what} of this attempt, and signs no second one")]
    AlreadySigned {
        /// Which of the two.
        what: &'static str,
    },
    /// The survivors are of a roster that it did not sign.
    #[error("the registrar did not sign the roster that these survivors are of")]
    NotItsRoster,
    /// What it admitted or signed cannot be read or written.
    #[error("the registrar cannot read whom it admitted, or note what it signs")]
    Store(#[from] StoreError),
}

/// The registrar of a deployment on one machine: its key is in the data folder, what it admitted and
/// signed in the store.
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
            let noted = self.store.note_roster(*roster.context().as_bytes(), statement.clone()).await?;
            may_sign(noted, "roster")?;
            Ok(self.key.sign(&statement))
        })
    }

    fn sign_survivors<'a>(
        &'a self,
        survivors: &'a UnsignedSurvivors,
    ) -> Pin<Box<dyn Future<Output = Result<[u8; 64], RegistrarError>> + Send + 'a>> {
        Box::pin(async move {
            let (context, statement) = (*survivors.context().as_bytes(), survivors.statement());
            let noted = self.store.note_survivors(context, survivors.roster_statement(), statement.clone()).await?;
            may_sign(noted, "survivor list")?;
            Ok(self.key.sign(&statement))
        })
    }
}

fn may_sign(noted: Signing, what: &'static str) -> Result<(), RegistrarError> {
    match noted {
        Signing::Noted => Ok(()),
        Signing::SignedAnother => Err(RegistrarError::AlreadySigned { what }),
        Signing::NoSuchRoster => Err(RegistrarError::NotItsRoster),
    }
}
