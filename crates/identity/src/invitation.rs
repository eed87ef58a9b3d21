//! An invitation: everything a site needs to join a federation, in one line of text.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::VerifyingKey;
use rustls_pki_types::{CertificateDer, ServerName};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{FederationId, InvalidJoinSecret, JoinSecret, TrustAnchors, TrustError};

/// Most bytes of an invitation. One of ours takes about 1 kB.
pub const MAX_INVITATION_LEN: usize = 16 * 1024;

/// What an operator hands to a site: where to go, whom to trust there, and a secret that works once.
///
/// It pins the root certificate and the registrar's key, so that joining trusts the operator who handed it over and
/// nobody on the way. As text: `sordino-invitation-1.` and base64url of JSON. It holds a [`JoinSecret`]: hand it over
/// as you would a password. Its `Debug` form leaves the secret out.
#[derive(Debug)]
pub struct Invitation {
    url: CoordinatorUrl,
    federation: FederationId,
    root: CertificateDer<'static>,
    registrar_key: VerifyingKey,
    secret: JoinSecret,
}

impl Invitation {
    /// Puts an invitation together.
    ///
    /// # Errors
    /// [`InvitationError::Root`] if `root` is not a root certificate of `federation`, [`InvitationError::RegistrarKey`]
    /// if the key has small order.
    pub fn new(
        url: CoordinatorUrl,
        federation: FederationId,
        root: CertificateDer<'static>,
        registrar_key: VerifyingKey,
        secret: JoinSecret,
    ) -> Result<Self, InvitationError> {
        TrustAnchors::from_der(federation.clone(), [root.clone()]).map_err(InvitationError::Root)?;
        if registrar_key.is_weak() {
            return Err(InvitationError::RegistrarKey);
        }
        Ok(Self { url, federation, root, registrar_key, secret })
    }

    /// Where the coordinator answers.
    pub fn url(&self) -> &CoordinatorUrl {
        &self.url
    }

    /// The federation to join.
    pub fn federation(&self) -> &FederationId {
        &self.federation
    }

    /// Its root certificate.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// The root as trust anchors.
    pub fn trust_anchors(&self) -> TrustAnchors {
        TrustAnchors::from_der(self.federation.clone(), [self.root.clone()])
            .expect("checked when the invitation was made")
    }

    /// The key that signs every entry of the federation's roster.
    pub fn registrar_key(&self) -> &VerifyingKey {
        &self.registrar_key
    }

    /// The secret that works once.
    pub fn secret(&self) -> &JoinSecret {
        &self.secret
    }

    /// The invitation as one line of text.
    pub fn to_text(&self) -> Zeroizing<String> {
        let secret = self.secret.to_text();
        let fields = Fields {
            url: self.url.as_str().into(),
            federation: self.federation.clone(),
            root_ca: URL_SAFE_NO_PAD.encode(&self.root),
            registrar_key: URL_SAFE_NO_PAD.encode(self.registrar_key.as_bytes()),
            secret: Zeroizing::new(secret.as_str().into()),
        };
        let json = Zeroizing::new(serde_json::to_vec(&fields).expect("five strings always have a JSON form"));
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + json.len().div_ceil(3) * 4));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(json.as_slice(), &mut text);
        text
    }
}

/// Where a coordinator answers: `https://host` or `https://host:port`, the host a DNS name or an address.
///
/// An origin only: no path, query, fragment or user, so that appending an API path is always right.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CoordinatorUrl {
    text: String,
    name: ServerName<'static>,
    port: u16,
}

impl CoordinatorUrl {
    /// Most bytes: a DNS name of 253, the scheme and a port.
    pub const MAX_LEN: usize = 253 + "https://".len() + ":65535".len();

    /// The origin as text, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name or address that the server's certificate must hold.
    pub fn server_name(&self) -> &ServerName<'static> {
        &self.name
    }

    /// The TCP port; 443 where the text states none.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A text that is no coordinator's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidUrl {
    /// Shorten it.
    #[error("a coordinator's URL has at most {} bytes, this one {bytes}", CoordinatorUrl::MAX_LEN)]
    TooLong {
        /// Bytes found.
        bytes: usize,
    },
    /// There is no service without TLS.
    #[error("a coordinator's URL begins with https://")]
    NotHttps,
    /// Give the origin alone.
    #[error("a coordinator's URL reads https://host or https://host:port, with a DNS name or an address and no path")]
    Shape,
}

/// A text that is no invitation, or one that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvitationError {
    /// Give the invitation.
    #[error("an invitation has at most {MAX_INVITATION_LEN} bytes, this one {bytes}")]
    TooLong {
        /// Bytes found.
        bytes: usize,
    },
    /// Give the invitation, or a newer program.
    #[error(
        "an invitation begins with \"{PREFIX}\": check that it was copied whole, and that this version can read it"
    )]
    Prefix,
    /// Copy it again.
    #[error("the invitation is damaged: check that it was copied whole")]
    Damaged,
    /// Ask for another.
    #[error("the invitation's URL cannot be used")]
    Url(#[source] InvalidUrl),
    /// Ask for another.
    #[error("the invitation's root certificate cannot be used")]
    Root(#[source] TrustError),
    /// Ask for another.
    #[error("the invitation's registrar key is not a valid Ed25519 key")]
    RegistrarKey,
    /// Ask for another.
    #[error("the invitation's join secret cannot be used")]
    Secret(#[source] InvalidJoinSecret),
}

/// The JSON inside. Binary fields are base64url without padding.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    url: String,
    federation: FederationId,
    root_ca: String,
    registrar_key: String,
    #[serde(with = "secret_text")]
    secret: Zeroizing<String>,
}

mod secret_text {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(text: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(deserializer).map(Zeroizing::new)
    }
}

impl FromStr for Invitation {
    type Err = InvitationError;

    fn from_str(text: &str) -> Result<Self, InvitationError> {
        if text.len() > MAX_INVITATION_LEN {
            return Err(InvitationError::TooLong { bytes: text.len() });
        }
        let body = text.trim_ascii().strip_prefix(PREFIX).ok_or(InvitationError::Prefix)?;
        let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(body).map_err(|_| InvitationError::Damaged)?);
        // serde_json's own message could quote from the secret.
        let fields: Fields = serde_json::from_slice(&json).map_err(|_| InvitationError::Damaged)?;
        let url = fields.url.parse().map_err(InvitationError::Url)?;
        let root = URL_SAFE_NO_PAD.decode(&fields.root_ca).map_err(|_| InvitationError::Damaged)?;
        let key = URL_SAFE_NO_PAD.decode(&fields.registrar_key).map_err(|_| InvitationError::Damaged)?;
        let key = VerifyingKey::try_from(key.as_slice()).map_err(|_| InvitationError::RegistrarKey)?;
        let secret = fields.secret.parse().map_err(InvitationError::Secret)?;
        Self::new(url, fields.federation, root.into(), key, secret)
    }
}

impl FromStr for CoordinatorUrl {
    type Err = InvalidUrl;

    /// Takes one slash at the end, as people paste it.
    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        if text.len() > Self::MAX_LEN + 1 {
            return Err(InvalidUrl::TooLong { bytes: text.len() });
        }
        let rest = text.strip_prefix(SCHEME).ok_or(InvalidUrl::NotHttps)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or(InvalidUrl::Shape)?;
                let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(InvalidUrl::Shape)?) };
                // Brackets are for IPv6 and for nothing else (RFC 3986 section 3.2.2).
                host.parse::<std::net::Ipv6Addr>().map_err(|_| InvalidUrl::Shape)?;
                (host, port)
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port {
            None => HTTPS_PORT,
            // `u16::from_str` takes a plus sign, a URL does not.
            Some(digits) if !digits.bytes().all(|b| b.is_ascii_digit()) => return Err(InvalidUrl::Shape),
            Some(digits) => digits.parse().map_err(|_| InvalidUrl::Shape)?,
        };
        let name = ServerName::try_from(host).map_err(|_| InvalidUrl::Shape)?.to_owned();
        if port == 0 {
            return Err(InvalidUrl::Shape);
        }
        Ok(Self { text: format!("{SCHEME}{authority}"), name, port })
    }
}

impl TryFrom<String> for CoordinatorUrl {
    type Error = InvalidUrl;

    fn try_from(text: String) -> Result<Self, InvalidUrl> {
        text.parse()
    }
}

impl From<CoordinatorUrl> for String {
    fn from(url: CoordinatorUrl) -> Self {
        url.text
    }
}

impl fmt::Display for CoordinatorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for CoordinatorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The 1 is the version of what follows.
const PREFIX: &str = "sordino-invitation-1.";
const SCHEME: &str = "https://";
const HTTPS_PORT: u16 = 443;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    use super::*;
    use crate::{Authority, IdentityKey, SerialNumber, Validity};

    fn invitation() -> Invitation {
        let mut rng = ChaCha20Rng::seed_from_u64(5);
        let federation: FederationId = "demo.sordino".parse().unwrap();
        let validity = Validity::starting(Duration::from_secs(1_800_000_000), Duration::from_secs(3600)).unwrap();
        let key = IdentityKey::generate(&mut rng);
        let root =
            Authority::root(&federation, key.rcgen_key_pair(), validity, SerialNumber::random(&mut rng)).unwrap();
        Invitation::new(
            "https://localhost:8443".parse().unwrap(),
            federation,
            root.certificate().clone(),
            key.verifying_key(),
            JoinSecret::generate(&mut rng),
        )
        .unwrap()
    }

    fn with(field: &str, value: &str) -> String {
        let text = invitation().to_text();
        let json = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX).unwrap()).unwrap();
        let mut json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        json[field] = value.into();
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json.to_string()))
    }

    #[test]
    fn an_invitation_survives_its_text() {
        let (sent, text) = (invitation(), invitation().to_text());
        let got: Invitation = format!("  {}\n", text.as_str()).parse().unwrap();
        assert_eq!(got.url(), sent.url());
        assert_eq!(got.federation(), sent.federation());
        assert_eq!(got.root(), sent.root());
        assert_eq!(got.registrar_key(), sent.registrar_key());
        assert_eq!(got.secret().hash(), sent.secret().hash());
        assert_eq!(got.trust_anchors().federation(), sent.federation());
        let secret = sent.secret().to_text();
        assert!(!format!("{got:?}").contains(&secret[4..]) && format!("{got:?}").contains("JoinSecret"));
    }

    #[test]
    fn each_defect_has_its_error() {
        let text = invitation().to_text();
        let neutral = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode("{}"));
        let weak = URL_SAFE_NO_PAD.encode([0u8; 32]);
        for (name, text, want) in [
            (
                "oversized",
                "x".repeat(MAX_INVITATION_LEN + 1),
                InvitationError::TooLong { bytes: MAX_INVITATION_LEN + 1 },
            ),
            ("empty", String::new(), InvitationError::Prefix),
            ("later version", text.replace("-1.", "-2."), InvitationError::Prefix),
            ("cut", text[..text.len() - 5].to_owned(), InvitationError::Damaged),
            ("no fields", neutral, InvitationError::Damaged),
            ("unknown field", with("extra", "x"), InvitationError::Damaged),
            ("plain http", with("url", "http://localhost"), InvitationError::Url(InvalidUrl::NotHttps)),
            ("no certificate", with("root_ca", "AAAA"), InvitationError::Root(TrustError::BadRoot)),
            ("key of small order", with("registrar_key", &weak), InvitationError::RegistrarKey),
            ("short key", with("registrar_key", "AAAA"), InvitationError::RegistrarKey),
            ("no secret", with("secret", "sj1_"), InvitationError::Secret(InvalidJoinSecret)),
        ] {
            assert_eq!(text.parse::<Invitation>().unwrap_err(), want, "{name}");
        }
        let foreign = with("federation", "other").parse::<Invitation>().unwrap_err();
        assert!(matches!(foreign, InvitationError::Root(TrustError::ForeignFederation { .. })));
    }

    #[test]
    fn urls_are_origins() {
        for (text, name, port) in [
            ("https://localhost", "localhost", 443),
            ("https://fed.example.org:8443", "fed.example.org", 8443),
            ("https://127.0.0.1:1/", "127.0.0.1", 1),
            ("https://[::1]:8443", "::1", 8443),
            ("https://[2001:db8::1]", "2001:db8::1", 443),
        ] {
            let url: CoordinatorUrl = text.parse().unwrap();
            assert_eq!((&*url.server_name().to_str(), url.port()), (name, port));
            assert_eq!(url.as_str(), text.trim_end_matches('/'));
        }
        for bad in [
            "",
            "https://",
            "HTTPS://localhost",
            "http://localhost",
            "https://localhost:",
            "https://localhost:0",
            "https://localhost:65536",
            "https://localhost:+1",
            "https://user@localhost",
            "https://localhost/path",
            "https://localhost//",
            "https://localhost?x",
            "https://localhost#x",
            "https://local host",
            "https://::1",
            "https://[::1",
            "https://[::1]8443",
            "https://[localhost]",
            "https://a:1:2",
        ] {
            assert!(bad.parse::<CoordinatorUrl>().is_err(), "{bad}");
        }
        let long = format!("https://{}", "a.".repeat(200));
        assert!(matches!(long.parse::<CoordinatorUrl>(), Err(InvalidUrl::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_invitations_are_an_answer_and_never_a_panic(
            text in ".{0,100}",
            noise in prop::collection::vec(any::<u8>(), 0..200),
            url in "https://[a-z0-9.:\\[\\]/]{0,30}",
            root in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            prop_assert!(text.parse::<Invitation>().is_err());
            let noise = URL_SAFE_NO_PAD.encode(noise);
            prop_assert!((PREFIX.to_owned() + &noise).parse::<Invitation>().is_err());
            prop_assert!(with("root_ca", &URL_SAFE_NO_PAD.encode(root)).parse::<Invitation>().is_err());
            let _ = with("url", &url).parse::<Invitation>();
        }
    }
}
