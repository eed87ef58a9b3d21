//! Every decoder behind one door, for tests and fuzzers.

use super::{
    AdvertiseKeys, ConsistencySignature, DeliveredShares, MaskedInput, RosterAnnouncement, ShareKeys, SignatureList,
    SurvivorList, Unmasking, kind,
};
use crate::canonical::Malformed;
use ed25519_dalek::SigningKey;

/// Decodes bytes as the message that they say they are and encodes it again; of a signed message without the signature.
/// What was decoded begins with what comes back, since every message has one encoding.
///
/// # Errors
/// [`Malformed`]: they are no message.
pub fn recode(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut kind = [0; 2];
    kind.copy_from_slice(bytes.get(2..4).ok_or(Malformed::Truncated { field: "type" })?);
    let unsigned = |mut bytes: Vec<u8>| {
        bytes.truncate(bytes.len() - 64);
        bytes
    };
    let key = SigningKey::from_bytes(&[3; 32]);
    Ok(match u16::from_le_bytes(kind) {
        kind::ADVERTISE_KEYS => unsigned(AdvertiseKeys::decode(bytes)?.encode(&key)),
        kind::ROSTER => RosterAnnouncement::decode(bytes)?.encode(),
        kind::SHARE_KEYS => {
            let (decoded, context) = ShareKeys::decode(bytes)?;
            let records: Vec<Vec<u8>> = decoded.sealed().map(|sealed| sealed.encode()).collect();
            let committed = (&decoded.self_seed_commitment, decoded.commitments());
            unsigned(ShareKeys::encode(&context, decoded.index, committed, &records, &key))
        }
        kind::DELIVERED_SHARES => DeliveredShares::decode(bytes)?.encode(),
        kind::MASKED_INPUT => unsigned(MaskedInput::decode(bytes)?.encode(&key)),
        kind::SURVIVOR_LIST => SurvivorList::decode(bytes)?.encode(),
        kind::CONSISTENCY => ConsistencySignature::decode(bytes)?.encode(),
        kind::SIGNATURES => SignatureList::decode(bytes)?.encode(),
        kind::UNMASKING => unsigned(Unmasking::decode(bytes)?.encode(&key)),
        got => return Err(Malformed::Type { got, expected: 0 }),
    })
}
