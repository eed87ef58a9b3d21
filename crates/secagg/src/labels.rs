//! Every domain-separation label of the protocol, in one place: no two purposes share one, and a new version of the
//! protocol changes them all.

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident = $purpose:literal;)*) => {
        $($(#[$doc])* pub(crate) const $name: &[u8] = concat!("sordino/secagg/v3/", $purpose).as_bytes();)*

        #[cfg(test)]
        pub(crate) const ALL: &[&[u8]] = &[$($name,)*];
    };
}

labels! {
    /// Hash of the context, bound into every key and signature.
    CONTEXT = "context";
    /// Signature of a message; the message's own version and type follow.
    MESSAGE_SIGNATURE = "message signature";
    /// A dealer's signature of everything that it sealed.
    SHARES_SIGNATURE = "shares signature";
    /// The registrar's signature of a roster.
    ROSTER_SIGNATURE = "roster signature";
    /// The registrar's signature of the one survivor list of an attempt.
    SURVIVOR_LIST_SIGNATURE = "survivor list signature";
    /// A survivor's signature of the survivor set.
    SURVIVORS_SIGNATURE = "survivors signature";
    /// Seed of the graph.
    GRAPH_SEED = "graph seed";
    /// Root to the X25519 key of the masks.
    MASK_X25519 = "mask x25519 key";
    /// Root to the seed of the ML-KEM key of the masks.
    MASK_KEM = "mask ml-kem key";
    /// Root to the coins of one encapsulation.
    MASK_COINS = "mask ml-kem coins";
    /// Pair secret to the AES-CTR key and counter of a pairwise mask.
    PAIR_MASK = "pair mask";
    /// Self-mask seed to the AES-CTR key and counter of a self mask.
    SELF_MASK = "self mask";
    /// Channel secret to the AES-GCM key and nonce of one direction.
    CHANNEL = "channel";
    /// Associated data of a sealed pair of shares.
    SEALED_SHARES = "sealed shares";
    /// Salted hash of one share.
    SHARE_COMMITMENT = "share commitment";
    /// Hash of the dealers that an input is masked with.
    DEALERS = "dealers";
    /// Hash of a self-mask seed.
    SELF_SEED_COMMITMENT = "self-mask seed commitment";
}

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn no_label_is_another_or_its_beginning() {
        for (at, label) in ALL.iter().enumerate() {
            for (other_at, other) in ALL.iter().enumerate() {
                assert!(at == other_at || !label.starts_with(other), "{:?}", String::from_utf8_lossy(label));
            }
        }
    }
}
