//! `/v1/token`: a short-lived access token, bound to the client certificate of the connection.

use crate::{
    access::{Caller, Peer, PeerIdentity, Routes},
    answer::{ApiError, json},
    app::{App, StartError},
};
use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Response},
};
use getrandom::{SysRng, rand_core::UnwrapErr};
use http::{HeaderValue, Method, StatusCode, header};
use sordino_identity::{
    AccessToken, Audience, Claims, FederationId, IdentityKey, Permission, TokenError, TokenSigner, TokenTtl,
    TokenVerifier, VerifiedPrincipal,
};
use sordino_wire::{Code, api::TokenAnswer};
use std::{sync::Arc, time::Duration};

/// Signs and verifies the access tokens of this service.
pub struct Tokens {
    signer: TokenSigner,
    verifier: TokenVerifier,
    ttl: TokenTtl,
}

impl Tokens {
    /// Tokens of `federation` for its coordinator, under a key that is used for nothing else.
    ///
    /// # Errors
    /// [`StartError::TokenLifetime`] when no token can live for `ttl`.
    pub fn new(federation: &FederationId, key: &IdentityKey, ttl: Duration) -> Result<Self, StartError> {
        let audience = format!("{}/coordinator", federation.spiffe_id());
        let audience: Audience = audience.parse().expect("a SPIFFE id is short and visible ASCII");
        let verifier = TokenVerifier::new(federation, audience.clone(), &key.verifying_key());
        Ok(Self { signer: TokenSigner::new(federation, audience, key), verifier, ttl: TokenTtl::new(ttl)? })
    }

    /// A token for the holder of this certificate.
    ///
    /// # Errors
    /// [`TokenError::CertificateExpired`] when the certificate leaves no time.
    pub fn issue(&self, holder: &VerifiedPrincipal, now: Duration) -> Result<AccessToken, TokenError> {
        self.signer.issue(holder, self.ttl, now, &mut UnwrapErr(SysRng))
    }

    /// What the token says, if the holder of this certificate may use it now.
    ///
    /// # Errors
    /// [`TokenError`], one variant per reason.
    pub fn verify(&self, token: &str, holder: &VerifiedPrincipal, now: Duration) -> Result<Claims, TokenError> {
        self.verifier.verify(token, holder, now)
    }
}

/// `POST /v1/token`.
pub(crate) fn routes() -> Routes {
    Routes::new().certificate_only(Method::POST, "/v1/token", Permission::ObtainToken, issue)
}

async fn issue(State(app): State<Arc<App>>, Extension(peer): Extension<Peer>, _: Caller) -> Result<Response, ApiError> {
    let PeerIdentity::Verified(holder) = &peer.identity else {
        return Err(ApiError::internal("a route that takes a certificate was reached without one"));
    };
    let now = app.now();
    let token = match app.tokens.issue(holder, now) {
        Ok(token) => token,
        Err(error @ TokenError::CertificateExpired { .. }) => {
            return Err(ApiError::new(Code::ClientCertificateRequired, error.to_string()));
        }
        Err(error) => return Err(ApiError::internal(error)),
    };
    let answer = TokenAnswer {
        access_token: token.as_str().to_owned(),
        token_type: "Bearer".into(),
        expires_in: token.claims().expires_at().saturating_sub(now).as_secs(),
    };
    let never = HeaderValue::from_static("no-store");
    Ok(([(header::CACHE_CONTROL, never)], json(StatusCode::OK, &answer)).into_response())
}
