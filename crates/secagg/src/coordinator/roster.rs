//! Who advertised keys, and the statement about them that the registrar signs.

use crate::certificate_key::CertificateKey;
use crate::context::{ContextDigest, ParticipantId};
use crate::keys::End;
use crate::merkle::{self, Hash, Tree};
use crate::message::{AdvertiseKeys, advertisement_digest, claim, roster_leaf, roster_statement, verify_all};
use crate::topology::Graph;

/// Those who advertised, in the order of their names, with the graph over them.
pub(super) struct Roster {
    pub(super) members: Vec<Member>,
    pub(super) tree: Tree,
    pub(super) graph: Graph,
}

pub(super) struct Member {
    pub(super) id: ParticipantId,
    pub(super) key: CertificateKey,
    pub(super) advertisement: Vec<u8>,
    /// SHA-256 of it.
    pub(super) advertised: Hash,
}

impl Member {
    /// The keys that it advertised.
    pub(super) fn keys(&self) -> AdvertiseKeys {
        AdvertiseKeys::decode(&self.advertisement).expect("it was decoded when it was accepted")
    }
}

impl Roster {
    pub(super) fn index_of(&self, id: &ParticipantId) -> Option<u32> {
        let at = self.members.binary_search_by(|member| member.id.cmp(id)).ok()?;
        u32::try_from(at).ok()
    }

    pub(super) fn member(&self, index: u32) -> &Member {
        &self.members[index as usize]
    }

    pub(super) fn end(&self, index: u32) -> End<'_> {
        let member = self.member(index);
        End { index, id: &member.id, advertised: &member.advertised }
    }

    pub(super) fn len(&self) -> u32 {
        self.graph.topology().n
    }
}

/// A roster that the registrar has not signed yet: who is in it, and what each of them advertised.
///
/// The registrar computes the statement for itself. If it signed a root that somebody else names, it would sign for
/// principals that it was never shown.
#[derive(Debug, Clone)]
pub struct UnsignedRoster {
    pub(super) context: ContextDigest,
    pub(super) members: Vec<(ParticipantId, Vec<u8>)>,
}

impl UnsignedRoster {
    /// The attempt whose roster it is.
    #[must_use]
    pub fn context(&self) -> &ContextDigest {
        &self.context
    }

    /// Everybody in it, ascending and each once, or nobody is signed for.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &ParticipantId> {
        self.members.iter().map(|(id, _)| id)
    }

    /// The statement to sign, if every member is named once, in order, and `key_of` has the key that signed its
    /// advertisement.
    ///
    /// # Errors
    /// The first member for whom this does not hold.
    pub fn statement(
        &self,
        key_of: impl Fn(&ParticipantId) -> Option<CertificateKey>,
    ) -> Result<Vec<u8>, ParticipantId> {
        let mut leaves = Vec::with_capacity(self.members.len());
        let mut keys = Vec::with_capacity(self.members.len());
        let mut last = None;
        for (id, advertisement) in &self.members {
            let decoded = AdvertiseKeys::decode(advertisement).ok();
            let fits = decoded.is_some_and(|decoded| decoded.id == *id && decoded.context == self.context);
            let key = key_of(id).filter(|_| fits && last < Some(id)).ok_or_else(|| id.clone())?;
            leaves.push(roster_leaf(id, &advertisement_digest(advertisement)));
            keys.push(key);
            last = Some(id);
        }
        let claims: Option<Vec<_>> =
            keys.iter().zip(&self.members).map(|(key, (_, advertisement))| claim(key, advertisement)).collect();
        let claims = claims.expect("what was decoded ends with a signature");
        verify_all(&claims).map_err(|at| self.members[at].0.clone())?;
        // The cohort is bounded far below 2^32.
        let n = u32::try_from(leaves.len()).unwrap_or(u32::MAX);
        Ok(roster_statement(&self.context, n, &merkle::root(&leaves)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::PublicKeys;
    use ed25519_dalek::SigningKey;

    /// The statement is about principals in the order of their names, each once: another order, or one that stands there
    /// twice, is another roster, in which somebody could have two places.
    #[test]
    fn a_roster_names_each_member_once_and_in_order() {
        let context = ContextDigest([7; 32]);
        let id = |at: u8| ParticipantId::new(&format!("site-000{at}")).expect("a name");
        let key = |id: &ParticipantId| SigningKey::from_bytes(&[id.as_str().as_bytes()[8]; 32]);
        let member = |at: u8| {
            let keys = || PublicKeys { x25519: [at + 9; 32], kem: None };
            let said = AdvertiseKeys { context, id: id(at), channel: keys(), mask: keys(), certificates: Vec::new() };
            (id(at), said.encode(&key(&id(at))))
        };
        let statement = |places: &[u8]| {
            let members = places.iter().map(|&at| member(at)).collect();
            UnsignedRoster { context, members }.statement(|id| key(id).verifying_key().try_into().ok())
        };
        assert!(statement(&[1, 2, 3, 4]).is_ok());
        for (places, first_bad) in [(&[1, 3, 2, 4], 2), (&[1, 2, 2, 3], 2), (&[4, 1, 2, 3], 1), (&[1, 2, 1, 3], 1)] {
            assert_eq!(statement(places), Err(id(first_bad)), "{places:?}");
        }
    }
}
