//! Access tokens: JWT ([RFC 7519]) in the profile of [RFC 9068], signed with Ed25519, bound to the certificate of the
//! connection they are used on ([RFC 8705] section 3).
//!
//! One algorithm, one issuer, one audience, every claim required: nothing about a token is negotiated.
//!
//! [RFC 7519]: https://www.rfc-editor.org/rfc/rfc7519
//! [RFC 8705]: https://www.rfc-editor.org/rfc/rfc8705
//! [RFC 9068]: https://www.rfc-editor.org/rfc/rfc9068

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::VerifyingKey;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{FederationId, Fingerprint, IdentityKey, Principal, Scope, Utc, VerifiedPrincipal};

/// Most bytes of a token. One of ours takes about 700.
pub const MAX_TOKEN_LEN: usize = 2048;

/// How far two clocks may be apart before a token counts as expired, or as not yet valid.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// Signs access tokens. Held by the service that issues them.
pub struct TokenSigner {
    issuer: String,
    audience: Audience,
    key: EncodingKey,
}

impl TokenSigner {
    /// A signer for the tokens of `federation` that `audience` accepts, under a key that is used for nothing else.
    pub fn new(federation: &FederationId, audience: Audience, key: &IdentityKey) -> Self {
        // `EncodingKey` wipes its copy when dropped.
        Self { issuer: federation.spiffe_id(), audience, key: EncodingKey::from_ed_der(&key.to_pkcs8_der()) }
    }

    /// A token for the principal whose certificate was verified, usable on connections with that certificate only.
    ///
    /// It begins at `now`, since the Unix epoch, and ends after `ttl` or with the certificate, whichever is first.
    ///
    /// # Errors
    /// [`TokenError::CertificateExpired`] if that leaves no time at all, [`TokenError::Sign`] if signing fails.
    pub fn issue(
        &self,
        holder: &VerifiedPrincipal,
        ttl: TokenTtl,
        now: Duration,
        rng: &mut impl CryptoRng,
    ) -> Result<AccessToken, TokenError> {
        let issued_at = now.as_secs();
        let expires_at = issued_at.saturating_add(ttl.0.as_secs()).min(holder.not_after().as_secs());
        if expires_at <= issued_at {
            return Err(TokenError::CertificateExpired { not_after: holder.not_after().as_secs(), now: issued_at });
        }
        let claims = Claims {
            principal: holder.principal().clone(),
            scope: holder.principal().role.scope(),
            id: TokenId::random(rng),
            issued_at: Duration::from_secs(issued_at),
            expires_at: Duration::from_secs(expires_at),
        };
        let wire = WireClaims {
            iss: self.issuer.clone(),
            aud: self.audience.0.clone(),
            sub: claims.principal.spiffe_id(),
            iat: issued_at,
            nbf: issued_at,
            exp: expires_at,
            jti: claims.id.to_string(),
            scope: claims.scope,
            cnf: Confirmation { x5t_s256: URL_SAFE_NO_PAD.encode(holder.fingerprint().as_bytes()) },
        };
        let text = jsonwebtoken::encode(&access_token_header(), &wire, &self.key).map_err(TokenError::Sign)?;
        Ok(AccessToken { text: Zeroizing::new(text), claims })
    }
}

/// Verifies access tokens.
#[derive(Clone)]
pub struct TokenVerifier {
    federation: FederationId,
    issuer: String,
    audience: Audience,
    key: DecodingKey,
    validation: Validation,
}

impl TokenVerifier {
    /// Accepts tokens of `federation` for `audience` that were signed by the key `key` belongs to.
    pub fn new(federation: &FederationId, audience: Audience, key: &VerifyingKey) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        // jsonwebtoken would ask the system's clock, and answers less precisely: `verify` checks these itself.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        // Each claim is a required field of `WireClaims`.
        validation.required_spec_claims.clear();
        Self {
            federation: federation.clone(),
            issuer: federation.spiffe_id(),
            audience,
            key: DecodingKey::from_ed_der(key.as_bytes()),
            validation,
        }
    }

    /// Verifies `token` as presented at `now`, since the Unix epoch, by the holder of a verified certificate.
    ///
    /// Whether the token was revoked, by its [`Claims::id`], is the caller's to check.
    ///
    /// # Errors
    /// [`TokenError`], one variant per reason; only size, form and header are judged before the signature is verified.
    pub fn verify(&self, token: &str, holder: &VerifiedPrincipal, now: Duration) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(TokenError::TooLong { bytes: token.len() });
        }
        let header = jsonwebtoken::decode_header(token).map_err(TokenError::Malformed)?;
        if header.alg != Algorithm::EdDSA {
            return Err(TokenError::Algorithm);
        }
        // The header of ours and no other: in particular no `crit`, which RFC 7515 4.1.11 forbids to ignore.
        if header != access_token_header() {
            return Err(TokenError::WrongType);
        }
        let data = jsonwebtoken::decode::<WireClaims>(token, &self.key, &self.validation).map_err(decode_error)?;
        let claims = data.claims;
        if claims.iss != self.issuer {
            return Err(TokenError::WrongIssuer);
        }
        if claims.aud != self.audience.0 {
            return Err(TokenError::WrongAudience);
        }
        let bound_to = fingerprint(&claims.cnf.x5t_s256).ok_or(TokenError::BadClaim { claim: "cnf" })?;
        // Compared in constant time.
        if bound_to != holder.fingerprint() {
            return Err(TokenError::WrongCertificate);
        }
        let principal: Principal = claims.sub.parse().map_err(|_| TokenError::BadClaim { claim: "sub" })?;
        if principal != *holder.principal() || principal.federation != self.federation {
            return Err(TokenError::WrongPrincipal);
        }
        if claims.scope != principal.role.scope() {
            return Err(TokenError::BadClaim { claim: "scope" });
        }
        let id = claims.jti.parse().map_err(|_| TokenError::BadClaim { claim: "jti" })?;
        check_times(&claims, now)?;
        Ok(Claims {
            principal,
            scope: claims.scope,
            id,
            issued_at: Duration::from_secs(claims.iat),
            expires_at: Duration::from_secs(claims.exp),
        })
    }
}

/// A token as it was issued. Its text is wiped on drop and left out of `Debug`.
pub struct AccessToken {
    text: Zeroizing<String>,
    claims: Claims,
}

impl AccessToken {
    /// The token as text, for an `Authorization: Bearer` header.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it says.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }
}

/// What a token says, once it has been verified or issued: nothing else makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    principal: Principal,
    scope: Scope,
    id: TokenId,
    issued_at: Duration,
    expires_at: Duration,
}

impl Claims {
    /// Who holds the token (`sub`).
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// What it is for (`scope`).
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Its name (`jti`), by which it is revoked.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// When it was issued (`iat`), since the Unix epoch, in whole seconds.
    pub fn issued_at(&self) -> Duration {
        self.issued_at
    }

    /// When it ends (`exp`), since the Unix epoch, in whole seconds.
    pub fn expires_at(&self) -> Duration {
        self.expires_at
    }
}

/// The name of a token (`jti`): 128 random bits, as text 22 characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId([u8; 16]);

impl TokenId {
    fn random(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }
}

/// Whom tokens are for (`aud`): 1 to 255 visible ASCII characters, such as the service's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience(String);

/// How long a token lives: a second to an hour, 10 minutes unless stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenTtl(Duration);

impl TokenTtl {
    /// The longest life.
    pub const MAX: Self = Self(Duration::from_secs(3600));

    /// A life of `ttl`.
    ///
    /// # Errors
    /// [`InvalidTtl`] below a second or above an hour.
    pub fn new(ttl: Duration) -> Result<Self, InvalidTtl> {
        if (Duration::from_secs(1)..=Self::MAX.0).contains(&ttl) {
            Ok(Self(ttl))
        } else {
            Err(InvalidTtl { millis: ttl.as_millis() })
        }
    }

    /// The life as a duration.
    pub fn as_duration(self) -> Duration {
        self.0
    }
}

/// Why there is no token, or why one is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Send the token.
    #[error("an access token has at most {MAX_TOKEN_LEN} bytes, this one {bytes}")]
    TooLong {
        /// Bytes found.
        bytes: usize,
    },
    /// Send the token.
    #[error("the access token is not a JWT of this service")]
    Malformed(#[source] jsonwebtoken::errors::Error),
    /// Send a token of this service.
    #[error("the access token is not signed with EdDSA, the only algorithm that is accepted")]
    Algorithm,
    /// A forged token, or one from before the signing key changed: get a new one.
    #[error("the access token's signature does not verify: get a new token")]
    BadSignature,
    /// Send an access token.
    #[error("the token is not an access token: its header must hold typ \"at+jwt\", alg \"EdDSA\" and nothing else")]
    WrongType,
    /// A signed token without a claim, or with one of another type or name.
    #[error("the access token's claims are incomplete or unknown")]
    BadClaims(#[source] jsonwebtoken::errors::Error),
    /// A signed token with a claim of the wrong form.
    #[error("the access token's claim {claim:?} is malformed")]
    BadClaim {
        /// Its name.
        claim: &'static str,
    },
    /// Get a token from this federation.
    #[error("the access token was issued by another federation")]
    WrongIssuer,
    /// Get a token for this service.
    #[error("the access token is meant for another service")]
    WrongAudience,
    /// Get a token over a connection with the current certificate.
    #[error("the access token is bound to another certificate than this connection's: get a new token")]
    WrongCertificate,
    /// Get one's own token.
    #[error("the access token was issued to another principal")]
    WrongPrincipal,
    /// Get a new token.
    #[error("the access token expired at {}, it is {}: get a new token", Utc(*.expires_at), Utc(*.now))]
    Expired {
        /// When, in seconds since the Unix epoch.
        expires_at: u64,
        /// The moment of the check, in seconds since the Unix epoch.
        now: u64,
    },
    /// Set the clock.
    #[error("the access token begins at {}, it is {}: set the clock", Utc(*.not_before), Utc(*.now))]
    NotYetValid {
        /// When, in seconds since the Unix epoch.
        not_before: u64,
        /// The moment of the check, in seconds since the Unix epoch.
        now: u64,
    },
    /// Renew the certificate first.
    #[error("the certificate ended at {}, it is {}: renew it to get a token", Utc(*.not_after), Utc(*.now))]
    CertificateExpired {
        /// The certificate's end, in seconds since the Unix epoch.
        not_after: u64,
        /// The moment of the request, in seconds since the Unix epoch.
        now: u64,
    },
    /// The signing key is unusable.
    #[error("the access token could not be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

/// A life no token has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an access token lives for 1 second to 1 hour, not for {millis} ms")]
pub struct InvalidTtl {
    /// The life asked for, in milliseconds.
    pub millis: u128,
}

/// A text that cannot be an audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token's audience is 1 to {MAX_AUDIENCE_LEN} visible ASCII characters")]
pub struct InvalidAudience;

/// The claims as they travel; RFC 9068 section 2.2 and RFC 8705 section 3.1. All are required, no others are known.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireClaims {
    iss: String,
    aud: String,
    sub: String,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: String,
    scope: Scope,
    cnf: Confirmation,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    x5t_s256: String,
}

/// RFC 9068 section 2.1: the type keeps other JWTs of ours, should there ever be any, from passing as access tokens.
fn access_token_header() -> Header {
    let mut header = Header::new(Algorithm::EdDSA);
    header.typ = Some("at+jwt".to_owned());
    header
}

fn check_times(claims: &WireClaims, now: Duration) -> Result<(), TokenError> {
    let (now, leeway) = (now.as_secs(), LEEWAY.as_secs());
    // A signer of ours never writes such times; a stolen signing key should not get long-lived tokens either.
    if claims.iat > claims.exp || claims.exp - claims.iat > TokenTtl::MAX.0.as_secs() {
        return Err(TokenError::BadClaim { claim: "exp" });
    }
    let not_before = claims.nbf.max(claims.iat);
    if not_before > now.saturating_add(leeway) {
        return Err(TokenError::NotYetValid { not_before, now });
    }
    if claims.exp.saturating_add(leeway) <= now {
        return Err(TokenError::Expired { expires_at: claims.exp, now });
    }
    Ok(())
}

fn fingerprint(text: &str) -> Option<Fingerprint> {
    let mut bytes = [0; 32];
    (URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) == Ok(32)).then(|| Fingerprint::from_bytes(bytes))
}

/// For a token whose header has been read and found right.
fn decode_error(why: jsonwebtoken::errors::Error) -> TokenError {
    match why.kind() {
        ErrorKind::InvalidSignature => TokenError::BadSignature,
        ErrorKind::Json(_) => TokenError::BadClaims(why),
        _ => TokenError::Malformed(why),
    }
}

impl Default for TokenTtl {
    fn default() -> Self {
        Self(Duration::from_secs(600))
    }
}

impl FromStr for Audience {
    type Err = InvalidAudience;

    fn from_str(text: &str) -> Result<Self, InvalidAudience> {
        let fits = (1..=MAX_AUDIENCE_LEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidAudience) }
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TokenId {
    type Err = InvalidTokenId;

    fn from_str(text: &str) -> Result<Self, InvalidTokenId> {
        let mut bytes = [0; 16];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(16) => Ok(Self(bytes)),
            _ => Err(InvalidTokenId),
        }
    }
}

/// A text that is no token's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token's id is 22 characters of base64url")]
pub struct InvalidTokenId;

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenId({self})")
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken").field("claims", &self.claims).finish_non_exhaustive()
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSigner").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVerifier").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// As long as the longest URL of ours.
const MAX_AUDIENCE_LEN: usize = 255;

#[cfg(test)]
mod tests;
