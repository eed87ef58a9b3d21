//! Who is who in a federation, and who may do what.
//!
//! A [`Principal`] is a site, an operator or a service; its name is a SPIFFE id in the certificate that an
//! [`Authority`] issued for a key which never left its owner. [`TrustAnchors`] turn a certificate chain into a
//! [`VerifiedPrincipal`], the only evidence of identity the other crates accept ([`VerifiedChains`] do the
//! work once for a chain that comes again); [`TokenVerifier`] adds the second factor, a short-lived token that works with
//! that one certificate only; [`Role::may`] says what follows from it.
//!
//! # Joining
//! An administrator issues a [`JoinTokenRecord`] and hands its secret out in an [`Invitation`], which also pins the
//! root certificate and the registrar's key. The site makes a [`PrincipalKey`] at home, sends [`make_csr`] and the
//! secret; [`JoinTokenRecord::redeem`] decides whom it admits, [`Authority::issue_client`] answers with a certificate.
//!
//! # Threat model
//! - Peers, and whoever sits between them, send arbitrary bytes: every parser here bounds its input before it reads
//!   it, and answers with a typed error.
//! - Whoever holds the intermediate's key can name principals at will: participants therefore also check the
//!   registrar's signature on every roster entry, which this crate does not issue.
//! - A stolen database holds hashes of join secrets only; a stolen access token is useless without the private key of
//!   the certificate it is bound to.
//! - Secrets are wiped on drop and compared in constant time. Copies that libraries make while they encode or parse
//!   (JSON, base64, the private half inside AWS-LC) are outside our reach: there it is best effort.
//!
//! # A core
//! No file, socket, clock or global random source: time (since the Unix epoch) and randomness are arguments. One
//! exception is inside AWS-LC: a P-256 signature draws its nonce there, an authority's as well as a principal's.
//! Ed25519 signatures are deterministic.

mod authority;
mod certificate;
mod certified;
mod chain;
mod csr;
#[cfg(test)]
mod fixture;
mod invitation;
mod join;
mod keys;
mod pem;
mod permissions;
mod principal;
mod time;
mod token;
mod trust;

pub use authority::{Authority, AuthorityError, IssuedCertificate, Tier};
pub use certificate::{BACKDATE, Fingerprint, InvalidValidity, SerialNumber, Validity};
pub use certified::{InvalidKeyType, KeyType, P256Key, PrincipalKey, PublicKey};
pub use chain::{CHAIN_MAX, decode_chain, encode_chain};
pub use csr::{CsrError, MAX_CSR_LEN, make_csr};
pub use invitation::{CoordinatorUrl, InvalidUrl, Invitation, InvitationError, MAX_INVITATION_LEN};
pub use join::{
    Admission, Admits, InvalidJoinSecret, InvalidJoinSecretHash, JoinError, JoinSecret, JoinSecretHash, JoinTokenRecord,
};
pub use keys::{BadSignature, IdentityKey, KeyError, verify};
pub use permissions::{Permission, Scope};
pub use principal::{FederationId, InvalidName, Principal, PrincipalId, Role};
pub use time::Utc;
pub use token::{
    AccessToken, Audience, Claims, InvalidAudience, InvalidTokenId, InvalidTtl, LEEWAY, MAX_TOKEN_LEN, TokenError,
    TokenId, TokenSigner, TokenTtl, TokenVerifier,
};
pub use trust::{TrustAnchors, TrustError, VerifiedChains, VerifiedPrincipal, named_by};
