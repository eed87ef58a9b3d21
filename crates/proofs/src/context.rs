//! What a proof is for.

/// Where a proof belongs: it verifies for this participant in this attempt, and nowhere else.
///
/// All of it is absorbed before the first challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context<'a> {
    /// Name of the federation.
    pub federation: &'a str,
    /// Identity of the task.
    pub task: &'a str,
    /// Round of the task.
    pub round: u64,
    /// Attempt of the round.
    pub attempt: u32,
    /// Who proves: its public key or its name, as the federation knows it.
    pub participant: &'a [u8],
    /// Digest of the signed policy.
    pub policy: [u8; 32],
    /// Digest of everything else that the attempt is bound to: model, ring, thresholds, nonce.
    pub session: [u8; 32],
}
