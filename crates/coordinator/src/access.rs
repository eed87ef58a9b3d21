//! Who may call which route. A route cannot exist without saying what it takes: there is no way to add one that does
//! not go through [`Routes`], and no method of [`Routes`] that leaves the question open.
//!
//! Checked in this order, before a byte of the body is read: the client certificate of the connection (verified by
//! [`TrustAnchors`](sordino_identity::TrustAnchors) when it was opened, still valid now); the principal, as the store
//! knows it today, with this very certificate; the access token; that the token belongs to this certificate; the
//! permission of the principal's role.

use crate::{
    answer::{ApiError, chain, no_such_method, no_such_path},
    app::App,
    clock::millis,
};
use axum::{
    Router,
    extract::{FromRequestParts, Request, State},
    handler::Handler,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use http::{HeaderMap, HeaderValue, Method, header, request::Parts};
use sordino_identity::{Fingerprint, Permission, Principal, VerifiedPrincipal};
use sordino_secagg::CertificateKey;
use sordino_store::PrincipalRow;
use sordino_wire::Code;
use std::{net::SocketAddr, sync::Arc};

/// What a route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Open,
    /// The certificate of a principal whose role has the permission.
    Certificate(Permission),
    /// That, and an access token bound to the certificate.
    Token(Permission),
}

/// One entry of the table of routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// GET answers HEAD too.
    pub method: Method,
    /// With `{variables}`.
    pub path: &'static str,
    /// What it takes.
    pub access: Access,
}

/// Routes that are being collected, each with what it takes.
#[derive(Default)]
pub struct Routes {
    entries: Vec<(Route, MethodRouter<Arc<App>>)>,
}

impl Routes {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `GET path` for principals with `permission`, with a token.
    #[must_use]
    pub fn get<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        path: &'static str,
        permission: Permission,
        handler: H,
    ) -> Self {
        self.add(Method::GET, path, Access::Token(permission), handler)
    }

    /// `POST path` for principals with `permission`, with a token.
    #[must_use]
    pub fn post<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        path: &'static str,
        permission: Permission,
        handler: H,
    ) -> Self {
        self.add(Method::POST, path, Access::Token(permission), handler)
    }

    /// `PUT path` for principals with `permission`, with a token.
    #[must_use]
    pub fn put<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        path: &'static str,
        permission: Permission,
        handler: H,
    ) -> Self {
        self.add(Method::PUT, path, Access::Token(permission), handler)
    }

    /// `method path` for principals with `permission`, by their certificate alone: for `/v1/token`, where the token
    /// comes from, and for `/metrics`, whose scrapers cannot fetch one.
    #[must_use]
    pub(crate) fn certificate_only<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        method: Method,
        path: &'static str,
        permission: Permission,
        handler: H,
    ) -> Self {
        self.add(method, path, Access::Certificate(permission), handler)
    }

    /// `method path` for anyone who connects. A test holds the list of these.
    #[must_use]
    pub(crate) fn open<H: Handler<T, Arc<App>>, T: 'static>(
        self,
        method: Method,
        path: &'static str,
        handler: H,
    ) -> Self {
        self.add(method, path, Access::Open, handler)
    }

    fn add<H: Handler<T, Arc<App>>, T: 'static>(
        mut self,
        method: Method,
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        let filter = MethodFilter::try_from(method.clone()).expect("the methods above are standard ones");
        self.entries.push((Route { method, path, access }, on(filter, handler)));
        self
    }

    /// All routes of both.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        self
    }

    /// What is there, in the order it was added.
    pub fn table(&self) -> impl Iterator<Item = &Route> {
        self.entries.iter().map(|(route, _)| route)
    }

    /// The router: each route behind its guard, everything else answered with a problem.
    pub(crate) fn into_router(self, app: Arc<App>) -> Router {
        let mut router = Router::new();
        for (Route { path, access, .. }, handler) in self.entries {
            let guard = Guard { app: app.clone(), access };
            router = router.route(path, handler.route_layer(middleware::from_fn_with_state(guard, admit)));
        }
        router.fallback(no_such_path).method_not_allowed_fallback(no_such_method).with_state(app)
    }
}

/// Who calls: a principal whose certificate, token and permission were checked.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Name, role and federation.
    pub principal: Principal,
    /// What it signs its messages with.
    pub verifying_key: CertificateKey,
    /// Of the certificate on this connection.
    pub fingerprint: Fingerprint,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| ApiError::internal("an open route asks for its caller"))
    }
}

/// Who is at the other end of a connection, established once, when it was opened.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it connects from.
    pub address: SocketAddr,
    /// Who it says it is.
    pub identity: PeerIdentity,
}

/// What came of the client certificate of a connection.
#[derive(Debug, Clone)]
pub enum PeerIdentity {
    /// There was none.
    Anonymous,
    /// It leads to our root and breaks a rule of ours; this one.
    Refused(Arc<str>),
    /// It is the certificate of a principal.
    Verified(Arc<VerifiedPrincipal>),
}

#[derive(Clone)]
struct Guard {
    app: Arc<App>,
    access: Access,
}

async fn admit(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let Guard { app, access } = guard;
    let permission = match access {
        Access::Open => return next.run(request).await,
        Access::Certificate(permission) | Access::Token(permission) => permission,
    };
    let peer = request.extensions().get::<Peer>().cloned();
    let bearer = bearer(request.headers());
    let admitted = async {
        let verified = certificate(&app, peer.as_ref())?;
        let row = principal(&app, verified).await?;
        if matches!(access, Access::Token(_)) {
            token(&app, verified, bearer.as_deref())?;
        }
        let principal = verified.principal();
        if !principal.role.may(permission) {
            let detail = format!("the role {} does not have the permission {}", principal.role, permission.as_str());
            return Err(ApiError::new(Code::Forbidden, detail));
        }
        let verifying_key = CertificateKey::from_bytes(&row.verifying_key).map_err(ApiError::internal)?;
        heard(&app, &row);
        Ok(Caller { principal: principal.clone(), verifying_key, fingerprint: verified.fingerprint() })
    }
    .await;
    match admitted {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refused) => refused.into_response(),
    }
}

/// The certificate of the connection: shown, ours, and not expired since the connection was opened.
fn certificate<'a>(app: &App, peer: Option<&'a Peer>) -> Result<&'a VerifiedPrincipal, ApiError> {
    let refuse = |detail: &str| Err(ApiError::new(Code::ClientCertificateRequired, detail));
    match peer.map(|peer| &peer.identity) {
        None | Some(PeerIdentity::Anonymous) => refuse("show the certificate you enrolled with in the TLS handshake"),
        Some(PeerIdentity::Refused(why)) => refuse(&format!("the client certificate is refused: {why}")),
        Some(PeerIdentity::Verified(verified)) if verified.not_after() < app.clock.now() => {
            refuse("the client certificate has expired; enrol again")
        }
        Some(PeerIdentity::Verified(verified)) => Ok(verified),
    }
}

/// The principal as the store knows it now: in that role, with that certificate as its current one.
async fn principal(app: &App, verified: &VerifiedPrincipal) -> Result<PrincipalRow, ApiError> {
    let refuse = |detail| Err(ApiError::new(Code::ClientCertificateRequired, detail));
    let principal = verified.principal();
    match app.store.principal(principal.id.as_str()).await? {
        None => refuse("the certificate's principal is not enrolled here"),
        Some(row) if row.role != principal.role.as_str() => {
            refuse("the certificate names another role than the one this principal has now; enrol again")
        }
        Some(row) if Fingerprint::from_bytes(row.fingerprint) != verified.fingerprint() => {
            refuse("the certificate was replaced by a newer one; use that one")
        }
        Some(row) => Ok(row),
    }
}

/// The access token: there, ours, in time, and bound to this certificate.
fn token(app: &App, verified: &VerifiedPrincipal, bearer: Option<&str>) -> Result<(), ApiError> {
    let challenge = |value| (header::WWW_AUTHENTICATE, HeaderValue::from_static(value));
    let Some(bearer) = bearer else {
        let (name, value) = challenge("Bearer");
        let detail = "send Authorization: Bearer with a token from POST /v1/token";
        return Err(ApiError::new(Code::TokenRequired, detail).header(name, value));
    };
    let verdict = app.tokens.verify(bearer, verified, app.now());
    verdict.map(|_| ()).map_err(|error| {
        let (name, value) = challenge("Bearer error=\"invalid_token\"");
        let detail = format!("the access token is refused: {}; get a new one from POST /v1/token", chain(&error));
        ApiError::new(Code::TokenRequired, detail).header(name, value)
    })
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750, section 2.1); `None` unless there is exactly one.
fn bearer(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// Notes that the principal was heard, now and then, beside the request.
fn heard(app: &Arc<App>, row: &PrincipalRow) {
    let now = millis(app.clock.now());
    if row.last_seen.is_some_and(|seen| now.saturating_sub(seen) < HEARD_EVERY_MILLIS) {
        return;
    }
    let (app, id) = (app.clone(), row.id.clone());
    tokio::spawn(async move {
        if let Err(error) = app.store.touch(&id, now).await {
            tracing::warn!(error = chain(&error), "last_seen was not written");
        }
    });
}

/// A write to the database costs milliseconds; `last_seen` need not be finer than this.
const HEARD_EVERY_MILLIS: i64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_bearer_token_counts() {
        let headers = |values: &[&'static str]| {
            values.iter().map(|&value| (header::AUTHORIZATION, HeaderValue::from_static(value))).collect::<HeaderMap>()
        };
        assert_eq!(bearer(&headers(&["Bearer abc"])).as_deref(), Some("abc"));
        assert_eq!(bearer(&headers(&["bearer abc"])).as_deref(), Some("abc"));
        for none in [&[][..], &["Basic abc"], &["Bearer"], &["Bearer a", "Bearer b"]] {
            assert_eq!(bearer(&headers(none)), None, "{none:?}");
        }
    }
}
