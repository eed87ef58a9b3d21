use crate::context::{ContextDigest, ParticipantId};
use crate::keys::{ChannelSecret, Edge, End, Role, Root, SecretScalar, SelfSeed};
use crate::merkle::Hash;
use crate::message::{AdvertiseKeys, ShareKeys, Unmasking, advertisement_digest};
use crate::{labels, shamir};
use hkdf::Hkdf;
use serde_json::Value;
use sha2::Sha256;
use std::collections::BTreeMap;

/// What everybody sent in one attempt of the known answers, and what the last participant kept to itself.
struct Attempt {
    context: ContextDigest,
    advertised: Vec<(AdvertiseKeys, Hash)>,
    shared: Vec<ShareKeys>,
    /// By holder: what the survivors revealed of the last participant, who fell silent after `ShareKeys`.
    revealed: BTreeMap<u32, SecretScalar>,
    secret: Value,
    pq: bool,
}

fn attempts() -> Vec<Attempt> {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../../vectors/secagg/protocol-v3.json")).expect("JSON");
    let bytes = |value: &Value| hex::decode(value.as_str().expect("text")).expect("hex");
    let attempt = |attempt: &Value| {
        let parties = attempt["participants"].as_array().expect("participants");
        let dropout = u32::try_from(parties.len() - 1).expect("few");
        let mut revealed = BTreeMap::new();
        for party in &parties[..parties.len() - 1] {
            let unmasking = Unmasking::decode(&bytes(&party["unmasking"])).expect("a message");
            let of_dropout = unmasking.shares.into_iter().find(|share| share.dealer == dropout).expect("a neighbour");
            assert_eq!(of_dropout.role, Role::Root);
            revealed.insert(unmasking.index, of_dropout.salted.share.clone());
        }
        let advertised = parties
            .iter()
            .map(|party| bytes(&party["advertise_keys"]))
            .map(|message| (AdvertiseKeys::decode(&message).expect("a message"), advertisement_digest(&message)));
        Attempt {
            context: ContextDigest(bytes(&attempt["context_digest"]).try_into().expect("32 bytes")),
            advertised: advertised.collect(),
            shared: parties
                .iter()
                .map(|party| ShareKeys::decode(&bytes(&party["share_keys"])).expect("a message").0)
                .collect(),
            revealed,
            secret: parties[parties.len() - 1].clone(),
            pq: attempt["context"]["pq"].as_bool().expect("a flag"),
        }
    };
    vectors["attempts"].as_array().expect("attempts").iter().map(attempt).collect()
}

/// The coordinator opens a dropout's root, as the protocol lets it. With the root, and with everything that anybody sent,
/// it opens nothing that was sealed to the dropout or by it, and cannot compute the dropout's self mask: an input that
/// arrives too late stays masked.
#[test]
fn an_opened_root_opens_neither_a_sealed_share_nor_a_self_mask() {
    for Attempt { context, advertised, shared, revealed, secret, pq } in attempts() {
        let holders: Vec<u32> = revealed.keys().copied().collect();
        let coefficients = shamir::lagrange(&holders);
        let opened = shamir::reconstruct(&coefficients, revealed.values().map(SecretScalar::scalar));
        let root = Root(SecretScalar::new(opened));
        assert_eq!(hex::encode(root.0.bytes()), secret["root"].as_str().expect("text"), "the very root");
        let dropout = shared.len() - 1;
        let mask_secret = root.mask_secret(&context, pq);
        assert_eq!(mask_secret.public(), advertised[dropout].0.mask, "and its keys");
        let id = |at: usize| &advertised[at].0.id;
        let end = |at: usize| End { index: u32::try_from(at).expect("few"), id: id(at), advertised: &advertised[at].1 };

        let candidates = candidates(&context, &root, &id);
        let (mut tried, mut masks) = (0, 0);
        for (dealer, message) in shared.iter().enumerate() {
            for sealed in message.sealed() {
                let holder = sealed.holder as usize;
                if dealer != dropout && holder != dropout {
                    continue;
                }
                let edge = Edge {
                    context: &context,
                    sender: id(dealer),
                    receiver: id(holder),
                    advertised: [&advertised[dealer].1, &advertised[holder].1],
                    commitments: &sealed.commitments,
                };
                let other = if dealer == dropout { holder } else { dealer };
                let peer = advertised[other].0.channel.x25519;
                for bytes in &candidates {
                    let guess = ChannelSecret::from_bytes(bytes, pq);
                    let opened = guess.open(&edge, &peer, sealed.channel_encapsulation, sealed.sealed);
                    assert!(opened.is_none());
                    tried += 1;
                }
                // The mask of the pair is what the root is for.
                let sent = sealed.mask_encapsulation.filter(|_| dealer < holder);
                if dealer < holder || !pq {
                    let keys = &advertised[other].0.mask;
                    assert!(mask_secret.pair_mask(&context, &end(dropout), &end(other), keys, sent).is_some());
                    masks += 1;
                }
            }
        }
        assert!(tried >= 400 && masks >= 3, "{tried} guesses, {masks} masks");

        let self_mask = secret["self_mask"]["key"].as_str().expect("text");
        for scalar in candidates.iter().flat_map(|bytes| bytes.as_chunks::<32>().0).filter_map(SecretScalar::from_bytes)
        {
            assert_ne!(hex::encode(&SelfSeed(scalar).mask(&context, id(dropout)).key[..]), self_mask);
        }
    }
}

/// Whatever derives from the root under a label of ours, with any name, and the root itself, as channel secrets.
fn candidates<'a>(
    context: &ContextDigest,
    root: &Root,
    id: &impl Fn(usize) -> &'a ParticipantId,
) -> Vec<[u8; ChannelSecret::LEN]> {
    let mut repeated = [0; ChannelSecret::LEN];
    for part in repeated.chunks_exact_mut(32) {
        part.copy_from_slice(&root.0.bytes()[..]);
    }
    let mut candidates = vec![repeated];
    for label in labels::ALL {
        for parts in [vec![], vec![id(0)], vec![id(3)], vec![id(0), id(3)], vec![id(3), id(0)]] {
            let mut info = u32::try_from(label.len()).expect("short").to_le_bytes().to_vec();
            info.extend_from_slice(label);
            for part in parts {
                info.extend(u32::try_from(part.as_str().len()).expect("short").to_le_bytes());
                info.extend_from_slice(part.as_str().as_bytes());
            }
            let mut okm = [0; ChannelSecret::LEN];
            let hkdf = Hkdf::<Sha256>::new(Some(&context.0), &root.0.bytes()[..]);
            hkdf.expand(&info, &mut okm).expect("short");
            candidates.push(okm);
        }
    }
    candidates
}
