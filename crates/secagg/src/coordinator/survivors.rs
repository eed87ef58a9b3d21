//! The statement about the survivors that the registrar signs.

use crate::context::ContextDigest;
use crate::merkle::Hash;
use crate::message::{SurvivorSet, roster_statement, survivor_list_statement};

/// The survivor list of an attempt that the registrar has not signed yet.
///
/// The registrar signs one for each context, of a roster that it signed: the argument that no stretch of a sparse graph comes
/// off by itself is for one list (`topology.rs`).
#[derive(Debug, Clone)]
pub struct UnsignedSurvivors {
    pub(super) context: ContextDigest,
    pub(super) roster_root: Hash,
    pub(super) survivors: SurvivorSet,
}

impl UnsignedSurvivors {
    /// The attempt whose survivors these are.
    #[must_use]
    pub fn context(&self) -> &ContextDigest {
        &self.context
    }

    /// The statement about the roster that the survivors are of: the registrar has signed it, or it signs no survivors.
    #[must_use]
    pub fn roster_statement(&self) -> Vec<u8> {
        roster_statement(&self.context, self.survivors.roster_len(), &self.roster_root)
    }

    /// The statement to sign.
    #[must_use]
    pub fn statement(&self) -> Vec<u8> {
        survivor_list_statement(&self.context, &self.roster_root, &self.survivors)
    }
}
