//! `/livez`, `/readyz`, `/metrics`, and what is done to every answer: counted, timed, and given the headers that all
//! have.
//!
//! Metrics have the prefix `sordino_`, their unit last, and labels from small closed sets: methods, routes with their
//! `{variables}` unfilled, statuses, reasons. Never an id.

use crate::{access::Routes, answer::ApiError, app::App, lifecycle::Phase};
use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, header};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use sordino_identity::Permission;
use sordino_wire::Code;
use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

/// The probes are for those who run the service's machine; the metrics are for principals that may read them.
pub(crate) fn routes() -> Routes {
    Routes::new().open(Method::GET, "/livez", livez).open(Method::GET, "/readyz", readyz).certificate_only(
        Method::GET,
        "/metrics",
        Permission::ReadMetrics,
        render,
    )
}

/// The process answers.
async fn livez() -> &'static str {
    "ok\n"
}

/// It answers with all it has: recovered, not stopping, and the store can be read.
async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str, ApiError> {
    let unavailable = |detail| ApiError::new(Code::Unavailable, detail).retry_after(NOT_READY_RETRY);
    match app.lifecycle.phase() {
        Phase::Starting => return Err(unavailable("the coordinator is starting")),
        Phase::Stopping => return Err(unavailable("the coordinator is stopping")),
        Phase::Ready => {}
    }
    match app.store.principals(None, 1).await {
        Ok(_) => Ok("ok\n"),
        Err(error) => Err(unavailable("the database cannot be read").because(error)),
    }
}

/// The Prometheus text format, version 0.0.4.
async fn render(State(app): State<Arc<App>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics.render())
}

/// Around every request, those that no route takes included.
pub(crate) async fn observe(request: Request, next: Next) -> Response {
    let method = known(request.method());
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().into());
    let began = Instant::now();
    let mut response = next.run(request).await;
    let labels = [("method", method.to_owned()), ("route", route), ("status", response.status().as_u16().to_string())];
    metrics::counter!("sordino_http_requests_total", &labels).increment(1);
    metrics::histogram!(REQUEST_SECONDS, &labels[..2]).record(began.elapsed());
    protect(response.headers_mut());
    response
}

/// The headers that every answer has.
fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000; includeSubDomains"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Unless a handler knows better.
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// Methods are the caller's to invent; labels are not.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// The process's one recorder of metrics; a second service in the same process shares it.
///
/// # Panics
/// Never: the buckets are constants in ascending order.
pub(crate) fn recorder() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    let make = || {
        let builder = PrometheusBuilder::new().set_buckets(&SECONDS).expect("the buckets are not empty");
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another recorder of metrics was installed first; /metrics stays empty");
        }
        describe();
        handle
    };
    RECORDER.get_or_init(make).clone()
}

fn describe() {
    metrics::describe_counter!("sordino_http_requests_total", "Requests answered, by method, route and status.");
    metrics::describe_histogram!(REQUEST_SECONDS, "Time to answer a request, long polls included.");
    metrics::describe_counter!("sordino_connections_total", "Connections accepted, by what became of them.");
    metrics::describe_gauge!("sordino_connections_open", "Connections open now.");
    metrics::describe_histogram!(PROOF_VERIFY_SECONDS, "Time to verify the norm proof of one input, waiting excluded.");
    metrics::describe_counter!(INPUTS_REFUSED, "Inputs that do not count because of their proofs, by reason.");
    metrics::describe_counter!(
        GROUP_CHECKS,
        "Sums that were compared with what their members had proven, by outcome: passed or failed."
    );
}

const REQUEST_SECONDS: &str = "sordino_http_request_duration_seconds";
pub(crate) const PROOF_VERIFY_SECONDS: &str = "sordino_proof_verify_seconds";
pub(crate) const INPUTS_REFUSED: &str = "sordino_inputs_refused_total";
pub(crate) const GROUP_CHECKS: &str = "sordino_group_checks_total";
const NOT_READY_RETRY: Duration = Duration::from_secs(1);
/// From a read out of the cache to a long poll.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0];
