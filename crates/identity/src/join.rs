//! One-time join secrets: what lets a newcomer, who has no certificate yet, enrol once.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::{FederationId, Principal, PrincipalId, Role, Utc};

/// 256 random bits, shown once to whoever is invited. As text: `sj1_` and 43 characters of base64url.
///
/// Wiped on drop, boxed, printed as its type name only; the service keeps its [`JoinSecretHash`].
pub struct JoinSecret(Box<Zeroizing<[u8; 32]>>);

impl JoinSecret {
    /// Draws one.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut secret = Box::new(Zeroizing::new([0; 32]));
        rng.fill_bytes(&mut **secret);
        Self(secret)
    }

    /// The secret as text, to be handed to one person.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(TEXT_LEN));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(self.0.as_slice(), &mut text);
        text
    }

    /// What is stored in its place.
    ///
    /// A plain hash with a label, neither salted nor slow: with 256 bits of entropy there is nothing to guess, and a
    /// deterministic hash lets the store look a token up by it.
    pub fn hash(&self) -> JoinSecretHash {
        let digest = Sha256::new_with_prefix(HASH_LABEL).chain_update(self.0.as_slice());
        JoinSecretHash(digest.finalize().into())
    }
}

/// SHA-256 of a [`JoinSecret`] under a label of its own. Compared in constant time; as text, 64 hex digits.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JoinSecretHash([u8; 32]);

impl JoinSecretHash {
    /// A hash that was stored.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Whom a join token admits: one role, and either one id or whichever the newcomer asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admits {
    /// The role the newcomer gets.
    pub role: Role,
    /// The id the newcomer gets; `None` lets it choose one. That the id is free is the store's to check.
    pub id: Option<PrincipalId>,
}

/// What is stored about one join token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRecord {
    /// The hash of its secret.
    pub hash: JoinSecretHash,
    /// Whom it admits.
    pub admits: Admits,
    /// The first moment it no longer works, since the Unix epoch.
    pub expires_at: Duration,
    /// When it was used, since the Unix epoch; `None` until then.
    pub used_at: Option<Duration>,
}

impl JoinTokenRecord {
    /// Decides whether `secret` admits `id` at the moment `now`, and as what.
    ///
    /// Changes nothing: the caller sets `used_at` in the same transaction that registers the newcomer, under the
    /// condition that it was still unset. A secret that does not match learns nothing about the record.
    ///
    /// # Errors
    /// [`JoinError`], in this order: unknown, already used, expired, wrong principal.
    pub fn redeem(&self, secret: &JoinSecret, id: &PrincipalId, now: Duration) -> Result<Admission, JoinError> {
        if secret.hash() != self.hash {
            return Err(JoinError::Unknown);
        }
        if let Some(used_at) = self.used_at {
            return Err(JoinError::AlreadyUsed { used_at: used_at.as_secs() });
        }
        if now >= self.expires_at {
            return Err(JoinError::Expired { expires_at: self.expires_at.as_secs(), now: now.as_secs() });
        }
        match &self.admits.id {
            Some(admitted) if admitted != id => Err(JoinError::WrongPrincipal { asked: id.clone() }),
            _ => Ok(Admission { role: self.admits.role, id: id.clone() }),
        }
    }
}

/// Evidence that a join token admitted somebody: only [`JoinTokenRecord::redeem`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    role: Role,
    id: PrincipalId,
}

impl Admission {
    /// The principal the newcomer is to become in `federation`.
    pub fn principal(&self, federation: &FederationId) -> Principal {
        Principal { federation: federation.clone(), role: self.role, id: self.id.clone() }
    }
}

/// Why a join secret admitted nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Check that the whole invitation was copied; a secret of another federation looks like this too.
    #[error("this join secret was never issued here: check the invitation, or ask for a new one")]
    Unknown,
    /// Ask for another. If it was not you who used it, tell the operator.
    #[error("this join secret was already used, at {}: each works once, ask for a new one", Utc(*.used_at))]
    AlreadyUsed {
        /// When, in seconds since the Unix epoch.
        used_at: u64,
    },
    /// Ask for another.
    #[error("this join secret expired at {}, it is {}: ask for a new one", Utc(*.expires_at), Utc(*.now))]
    Expired {
        /// When, in seconds since the Unix epoch.
        expires_at: u64,
        /// The moment of the attempt, in seconds since the Unix epoch.
        now: u64,
    },
    /// Join under the id the invitation was made for.
    #[error("this join secret was issued for another participant than {asked}")]
    WrongPrincipal {
        /// The id that was asked for.
        asked: PrincipalId,
    },
}

/// A text that is no join secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a join secret is \"sj1_\" and 43 characters of base64url: check that it was copied whole")]
pub struct InvalidJoinSecret;

/// A text that is no hash of a join secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hash of a join secret is 64 hex digits")]
pub struct InvalidJoinSecretHash;

impl FromStr for JoinSecret {
    type Err = InvalidJoinSecret;

    fn from_str(text: &str) -> Result<Self, InvalidJoinSecret> {
        if text.len() != TEXT_LEN {
            return Err(InvalidJoinSecret);
        }
        let body = text.strip_prefix(PREFIX).ok_or(InvalidJoinSecret)?;
        let mut secret = Box::new(Zeroizing::new([0; 32]));
        match URL_SAFE_NO_PAD.decode_slice(body, secret.as_mut_slice()) {
            Ok(32) => Ok(Self(secret)),
            _ => Err(InvalidJoinSecret),
        }
    }
}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecret")
    }
}

impl PartialEq for JoinSecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for JoinSecretHash {}

impl fmt::Display for JoinSecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for JoinSecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinSecretHash({self})")
    }
}

impl FromStr for JoinSecretHash {
    type Err = InvalidJoinSecretHash;

    fn from_str(text: &str) -> Result<Self, InvalidJoinSecretHash> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidJoinSecretHash)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for JoinSecretHash {
    type Error = InvalidJoinSecretHash;

    fn try_from(text: String) -> Result<Self, InvalidJoinSecretHash> {
        text.parse()
    }
}

impl From<JoinSecretHash> for String {
    fn from(hash: JoinSecretHash) -> Self {
        hash.to_string()
    }
}

/// Tells secret scanners and people what it is; the 1 is its version.
const PREFIX: &str = "sj1_";
/// The prefix and 32 bytes in base64 without padding.
const TEXT_LEN: usize = PREFIX.len() + 43;
/// Ends in NUL so that no other label of ours is its prefix.
const HASH_LABEL: &[u8] = b"sordino join secret v1\0";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    use super::*;

    fn secret(seed: u64) -> JoinSecret {
        JoinSecret::generate(&mut ChaCha20Rng::seed_from_u64(seed))
    }

    fn id(text: &str) -> PrincipalId {
        text.parse().unwrap()
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_is_redeemed_once_in_time_by_whom_it_names() {
        let record = JoinTokenRecord {
            hash: secret(1).hash(),
            admits: Admits { role: Role::Client, id: Some(id("site-0001")) },
            expires_at: at(100),
            used_at: None,
        };
        let used = JoinTokenRecord { used_at: Some(at(50)), ..record.clone() };
        let open = JoinTokenRecord { admits: Admits { role: Role::Auditor, id: None }, ..record.clone() };
        let client = Ok(Admission { role: Role::Client, id: id("site-0001") });
        for (name, record, secret, who, now, want) in [
            ("in time", &record, secret(1), "site-0001", 99, client),
            ("other secret", &record, secret(2), "site-0001", 99, Err(JoinError::Unknown)),
            ("expired", &record, secret(1), "site-0001", 100, Err(JoinError::Expired { expires_at: 100, now: 100 })),
            ("used", &used, secret(1), "site-0001", 99, Err(JoinError::AlreadyUsed { used_at: 50 })),
            ("used and expired", &used, secret(1), "site-0001", 200, Err(JoinError::AlreadyUsed { used_at: 50 })),
            ("used, other secret", &used, secret(2), "site-0001", 99, Err(JoinError::Unknown)),
            (
                "other id",
                &record,
                secret(1),
                "site-0002",
                99,
                Err(JoinError::WrongPrincipal { asked: id("site-0002") }),
            ),
            ("any id", &open, secret(1), "site-0002", 99, Ok(Admission { role: Role::Auditor, id: id("site-0002") })),
        ] {
            assert_eq!(record.redeem(&secret, &id(who), at(now)), want, "{name}");
        }
        let principal = open.redeem(&secret(1), &id("site-0002"), at(0)).unwrap().principal(&"demo".parse().unwrap());
        assert_eq!(principal.spiffe_id(), "spiffe://demo/auditor/site-0002");
        let json = serde_json::to_string(&used).unwrap();
        assert_eq!(serde_json::from_str::<JoinTokenRecord>(&json).unwrap(), used);
    }

    /// Computed with Python's hashlib.
    #[test]
    fn the_hash_is_sha256_under_its_label() {
        let secret: JoinSecret = format!("sj1_{}", "A".repeat(43)).parse().unwrap();
        assert_eq!(secret.hash().to_string(), HASH_OF_ZEROS);
    }

    #[test]
    fn a_secret_has_one_text_and_prints_as_its_type() {
        let text = secret(1).to_text();
        assert_eq!(text.parse::<JoinSecret>().unwrap().hash(), secret(1).hash());
        assert_eq!(format!("{:?}", secret(1)), "JoinSecret");
        let good = format!("sj1_{}", "A".repeat(43));
        assert!(good.parse::<JoinSecret>().is_ok());
        for bad in [
            String::new(),
            good[..46].to_owned(),
            good.clone() + "A",
            good.replace("sj1", "sj2"),
            // The last character carries two bits that must be zero: one text per secret.
            good[..46].to_owned() + "B",
            good[..46].to_owned() + "=",
            good[..46].to_owned() + "+",
        ] {
            assert_eq!(bad.parse::<JoinSecret>().unwrap_err(), InvalidJoinSecret, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_secrets_are_an_answer_and_never_a_panic(text in ".{0,60}", body in "[A-Za-z0-9_-]{43}") {
            prop_assert!(text.parse::<JoinSecret>().is_err());
            let text = format!("sj1_{body}");
            if let Ok(secret) = text.parse::<JoinSecret>() {
                prop_assert_eq!(&*secret.to_text(), &text);
            }
            let _ = text.parse::<JoinSecretHash>();
        }
    }

    const HASH_OF_ZEROS: &str = "bcd82606b2bb61d856db64cd4793cd6981a8a972db64e4936e182243e2b001ca";
}
