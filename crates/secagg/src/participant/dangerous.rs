//! A state's secrets in the open, for the test that searches a coordinator's memory and disk for them.
//!
//! Behind `test-util`: no build that is shipped has this.

use super::{AwaitingShares, Session, Stored};
use crate::keys::{ChannelSecret, Role, Root};

impl Stored {
    /// Names and bytes of what nobody else may learn while this participant survives: its root, the keys that follow from
    /// it, the channel key, and what it agreed on with each neighbour; later, the neighbours' root shares that it holds.
    ///
    /// The self-mask seed is not among them: a survivor's neighbours reveal it.
    #[must_use]
    pub fn dangerous_secrets(&self) -> Vec<(&'static str, Vec<u8>)> {
        match self {
            Self::AwaitingRoster(state) => own(&state.session, &state.root, &state.channel),
            Self::AwaitingShares(state) => [own(&state.session, &state.root, &state.channel), agreed(state)].concat(),
            Self::AwaitingSurvivors(state) => {
                let held = state.held.values().flatten();
                held.map(|shares| ("held root share", shares.of_role(Role::Root).share.bytes().to_vec())).collect()
            }
            Self::AwaitingSignatures(_) | Self::Finished(_) => Vec::new(),
        }
    }
}

fn own(session: &Session, root: &Root, channel: &ChannelSecret) -> Vec<(&'static str, Vec<u8>)> {
    let mut found =
        vec![("root", root.0.bytes().to_vec()), ("mask secret", session.mask_secret(root).dangerous_bytes())];
    // An X25519 key, and the two halves of the seed of an ML-KEM key.
    found.extend(channel.bytes().chunks(32).map(|part| ("channel secret", part.to_vec())));
    found
}

fn agreed(state: &AwaitingShares) -> Vec<(&'static str, Vec<u8>)> {
    let AwaitingShares { session, root, channel, place, peers, .. } = state;
    let secret = session.mask_secret(root);
    let mut found = Vec::new();
    for (&index, keys) in peers {
        found.push(("pair secret", secret.dangerous_shared(&keys.mask)));
        found.push(("channel pair secret", channel.dangerous_shared(&keys.channel.x25519)));
        let (own, peer) = (place.own_end(session), place.peer_end(index));
        // At the higher index the neighbour's encapsulation has not been delivered yet.
        if let Some((mask, _)) = secret.pair_mask(&session.digest, &own, &peer, &keys.mask, None) {
            found.push(("pair mask key", mask.key.to_vec()));
        }
    }
    found
}
