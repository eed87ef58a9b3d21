//! How a site joins: an administrator has an invitation made, the site redeems it with a signing request.
//!
//! `POST /v1/join-tokens` makes a one-time secret and wraps it into an invitation together with what the site must
//! trust from then on: the root certificate and the registrar's key. `POST /v1/enroll` trades the secret for a
//! certificate; it is the one route that changes something for callers without one. A secret is stored as its hash
//! only, works once, and expires.

use crate::{
    access::{Caller, Routes},
    answer::{ApiError, Json, chain, json_bytes},
    app::App,
    clock::millis,
    idempotency::{self, once},
    participants::since_epoch,
};
use aws_lc_rs::hmac;
use axum::{extract::State, response::Response};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use getrandom::{SysRng, rand_core::UnwrapErr};
use http::{HeaderMap, Method, StatusCode};
use serde::{Deserialize, Serialize};
use sordino_identity::{
    Admits, AuthorityError, Invitation, JoinError, JoinSecret, JoinSecretHash, JoinTokenRecord, Permission, Principal,
    Role, SerialNumber, Validity, VerifiedPrincipal,
};
use sordino_store::{Enrolled, JoinTokenRow, NewJoinToken, NewPrincipal};
use sordino_wire::{
    Code,
    api::{EnrollAnswer, EnrollRequest, JoinTokenAnswer, JoinTokenRequest, Millis},
};
use std::{sync::Arc, time::Duration};
use zeroize::Zeroizing;

/// `POST /v1/enroll`, `POST /v1/join-tokens`.
pub(crate) fn routes() -> Routes {
    Routes::new().open(Method::POST, "/v1/enroll", enroll).post("/v1/join-tokens", Permission::IssueJoinToken, invite)
}

/// Derives join secrets from public nonces, so that a repeated request can be answered with the same invitation
/// although no secret is stored.
pub(crate) struct InvitationKey(hmac::Key);

impl InvitationKey {
    /// Reads 64 hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        hex::decode_to_slice(text.trim(), &mut *bytes).ok()?;
        Some(Self(hmac::Key::new(hmac::HMAC_SHA256, &*bytes)))
    }

    /// HMAC-SHA-256 of the label and the nonce: 256 bits that look uniform to whoever lacks the key.
    fn secret(&self, nonce: &Nonce) -> JoinSecret {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(SECRET_LABEL);
        context.update(&nonce.0);
        let tag = context.sign();
        let text = Zeroizing::new(format!("{SECRET_PREFIX}{}", URL_SAFE_NO_PAD.encode(tag.as_ref())));
        text.parse().expect("32 bytes in base64url are a join secret")
    }
}

/// What is stored of an answered invitation: enough to make it again with the key, useless without it.
#[derive(Serialize, Deserialize)]
struct Issued {
    nonce: Nonce,
    expires_at: Millis,
}

#[derive(Serialize, Deserialize)]
struct Nonce([u8; 32]);

async fn invite(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Json { value: request, bytes }: Json<JoinTokenRequest>,
) -> Result<Response, ApiError> {
    let JoinTokenRequest { principal, role, expires_in } = request;
    if role == Role::Coordinator {
        let detail = "role: a coordinator's certificate is made by `sordino init`, not by an invitation";
        return Err(ApiError::new(Code::Invalid, detail));
    }
    let longest = Duration::from(app.config.limits.join_token_max).as_secs();
    if !(1..=longest).contains(&expires_in) {
        let detail = format!("expires_in is {expires_in}, it must be 1 to {longest} seconds");
        return Err(ApiError::new(Code::Invalid, detail));
    }
    let work = {
        let (app, created_by) = (app.clone(), caller.principal.id.to_string());
        async move {
            let mut nonce = Nonce([0; 32]);
            getrandom::fill(&mut nonce.0).map_err(ApiError::internal)?;
            let now = app.now();
            let expires_at = millis(now + Duration::from_secs(expires_in));
            let token = NewJoinToken {
                hash: *app.invitations.secret(&nonce).hash().as_bytes(),
                principal: principal.to_string(),
                role: role.as_str().to_owned(),
                expires_at,
                created_by,
            };
            app.store.add_join_token(token, millis(now)).await?;
            let issued = Issued { nonce, expires_at: since_epoch(expires_at) };
            Ok((StatusCode::CREATED, serde_json::to_vec(&issued).map_err(ApiError::internal)?))
        }
    };
    let (status, stored) = once(&app, &headers, caller.principal.id.to_string(), &bytes, work).await?;
    let Issued { nonce, expires_at } = serde_json::from_slice(&stored).map_err(ApiError::internal)?;
    let invitation = invitation(&app, app.invitations.secret(&nonce))?;
    let answer = JoinTokenAnswer { invitation: invitation.to_text().to_string(), expires_at };
    Ok(json_bytes(status, serde_json::to_vec(&answer).map_err(ApiError::internal)?))
}

fn invitation(app: &App, secret: JoinSecret) -> Result<Invitation, ApiError> {
    let url = app.url().parse().map_err(ApiError::internal)?;
    let root = app.anchors.certificates().next().cloned().ok_or_else(|| ApiError::internal("no root certificate"))?;
    Invitation::new(url, app.federation().clone(), root, app.registrar_key, secret).map_err(ApiError::internal)
}

async fn enroll(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Json { value: request, bytes }: Json<EnrollRequest>,
) -> Result<Response, ApiError> {
    let secret: JoinSecret = request.token.parse().map_err(|error| refused(&error))?;
    let hash = secret.hash();
    // Whoever has no secret of ours costs a read and no write.
    if app.store.join_token(hash.as_bytes()).await?.is_none() {
        return Err(refused(&JoinError::Unknown));
    }
    // Nobody else can use up a key of this scope: it takes the secret to get into it.
    let scope = format!("enroll:{hash}");
    let repeated = idempotency::key(&headers)?.is_some();
    let work = {
        let app = app.clone();
        async move {
            let (chain, not_after) = redeem(&app, &secret, &request, repeated).await?;
            let answer = EnrollAnswer { certificate_chain: chain, not_after };
            Ok((StatusCode::CREATED, serde_json::to_vec(&answer).map_err(ApiError::internal)?))
        }
    };
    let (status, body) = once(&app, &headers, scope, &bytes, work).await?;
    Ok(json_bytes(status, body))
}

/// The certificate chain in PEM that the secret is worth, and the end of its life.
async fn redeem(
    app: &App,
    secret: &JoinSecret,
    request: &EnrollRequest,
    repeated: bool,
) -> Result<(String, Millis), ApiError> {
    let hash = secret.hash();
    let row = app.store.join_token(hash.as_bytes()).await?.ok_or_else(|| refused(&JoinError::Unknown))?;
    let now = app.now();
    let principal = match record(&row)?.redeem(secret, &request.principal, now) {
        Ok(admission) => admission.principal(app.federation()),
        // The first answer was lost with the process that made it: whoever has the secret and signs with the same key
        // gets the certificate that was issued then.
        Err(JoinError::AlreadyUsed { used_at }) if repeated && row.principal == request.principal.as_str() => {
            return issued_before(app, &row, request, used_at).await;
        }
        Err(error) => return Err(refused(&error)),
    };
    let (chain, verified) = certify(app, &principal, &request.csr, now)?;
    let not_after = millis(verified.not_after());
    let newcomer = NewPrincipal {
        id: principal.id.to_string(),
        role: principal.role.as_str().to_owned(),
        verifying_key: verifying_key(&verified)?,
        certificate_chain: chain.clone().into_bytes(),
        fingerprint: *verified.fingerprint().as_bytes(),
        not_after,
    };
    match app.store.enroll(hash.as_bytes(), newcomer, millis(now)).await {
        Ok(Enrolled::Done) => Ok((chain, since_epoch(not_after))),
        Ok(Enrolled::TokenUnknown) => Err(refused(&JoinError::Unknown)),
        Ok(Enrolled::TokenUsed) => Err(refused(&JoinError::AlreadyUsed { used_at: now.as_secs() })),
        Ok(Enrolled::TokenExpired) => {
            let expires_at = since_epoch(row.expires_at) / 1000;
            Err(refused(&JoinError::Expired { expires_at, now: now.as_secs() }))
        }
        Ok(Enrolled::PrincipalMismatch) => {
            let detail = "this principal exists in another role; choose another id and ask for a new invitation";
            Err(ApiError::new(Code::Conflict, detail))
        }
        Err(sordino_store::StoreError::Conflict { what }) => Err(ApiError::new(Code::Conflict, what)),
        Err(error) => Err(error.into()),
    }
}

/// What an earlier request with this secret and the same key was answered with.
async fn issued_before(
    app: &App,
    row: &JoinTokenRow,
    request: &EnrollRequest,
    used_at: u64,
) -> Result<(String, Millis), ApiError> {
    let principal = Principal {
        federation: app.federation().clone(),
        role: row.role.parse().map_err(ApiError::internal)?,
        id: request.principal.clone(),
    };
    // Issued to see the request's key verified; it is dropped again.
    let (_, verified) = certify(app, &principal, &request.csr, app.now())?;
    match app.store.principal(principal.id.as_str()).await? {
        Some(stored) if stored.verifying_key == verifying_key(&verified)? => {
            let chain = String::from_utf8(stored.certificate_chain).map_err(ApiError::internal)?;
            Ok((chain, since_epoch(stored.not_after)))
        }
        _ => Err(refused(&JoinError::AlreadyUsed { used_at })),
    }
}

/// Issues a certificate for the key of the signing request, and verifies it as a peer would.
fn certify(
    app: &App,
    principal: &Principal,
    csr: &str,
    now: Duration,
) -> Result<(String, VerifiedPrincipal), ApiError> {
    let validity =
        Validity::starting(now, app.config.limits.certificate_lifetime.into()).map_err(ApiError::internal)?;
    let serial = SerialNumber::random(&mut UnwrapErr(SysRng));
    let issued = app.issuer.issue_client(csr, principal, validity, serial).map_err(|error| match error {
        AuthorityError::Csr(why) => {
            ApiError::new(Code::Invalid, format!("the signing request is refused: {}", chain(&why)))
        }
        other => ApiError::internal(other),
    })?;
    let verified = app.anchors.verify_client(&issued.chain(), now).map_err(ApiError::internal)?;
    Ok((issued.chain_pem(), verified))
}

fn verifying_key(verified: &VerifiedPrincipal) -> Result<Vec<u8>, ApiError> {
    let key = verified.public_key().ok_or_else(|| ApiError::internal("a client certificate without a key of ours"))?;
    Ok(key.to_bytes())
}

fn record(row: &JoinTokenRow) -> Result<JoinTokenRecord, ApiError> {
    let role = row.role.parse().map_err(ApiError::internal)?;
    let id = row.principal.parse().map_err(ApiError::internal)?;
    Ok(JoinTokenRecord {
        hash: JoinSecretHash::from_bytes(row.hash),
        admits: Admits { role, id: Some(id) },
        expires_at: Duration::from_millis(since_epoch(row.expires_at)),
        used_at: row.used_at.map(|used| Duration::from_millis(since_epoch(used))),
    })
}

fn refused(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(Code::JoinTokenRefused, error.to_string())
}

const KEY_BYTES: usize = 32;
const SECRET_PREFIX: &str = "sj1_";
/// Ends in NUL so that no other label of ours is its prefix.
const SECRET_LABEL: &[u8] = b"sordino invitation v1\0";

#[cfg(test)]
mod tests {
    use super::*;

    /// HMAC-SHA-256 by OpenSSL: `printf 'sordino invitation v1\0' | cat - <(head -c 32 /dev/zero) | openssl dgst
    /// -sha256 -mac HMAC -macopt hexkey:0101...`, then base64url.
    #[test]
    fn a_secret_is_a_function_of_key_and_nonce() {
        let key = |byte: &str| InvitationKey::parse(&format!("{}\n", byte.repeat(32))).expect("64 digits");
        let text = |byte, nonce| key(byte).secret(&Nonce([nonce; 32])).to_text().to_string();
        assert_eq!(text("01", 0), KNOWN);
        assert_ne!(text("01", 1), KNOWN);
        assert_ne!(text("02", 0), KNOWN);
        assert!(InvitationKey::parse("0101").is_none());
    }

    const KNOWN: &str = "sj1_o7q8dfEL9-20DtcDmauetYFE3XeuXGO5PuEouEz8has";
}
