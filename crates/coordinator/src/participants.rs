//! `/v1/participants`: who belongs to the federation.

use crate::{
    access::Routes,
    answer::{ApiError, PageParams, Params, json},
    app::App,
};
use axum::{extract::State, response::Response};
use http::StatusCode;
use sordino_identity::Permission;
use sordino_store::PrincipalRow;
use sordino_wire::api::{Millis, Page, Participant};
use std::sync::Arc;

/// `GET /v1/participants`.
pub(crate) fn routes() -> Routes {
    Routes::new().get("/v1/participants", Permission::ReadParticipants, list)
}

/// Principals of every role, in the order of their ids.
async fn list(State(app): State<Arc<App>>, Params(page): Params<PageParams>) -> Result<Response, ApiError> {
    let rows = app.store.principals(page.cursor(), page.fetch()?).await?;
    let Page { items, next } = page.page(rows, |row| row.id.clone(), participant);
    let items = items.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(json(StatusCode::OK, &Page { items, next }))
}

fn participant(row: PrincipalRow) -> Result<Participant, ApiError> {
    Ok(Participant {
        id: row.id.try_into().map_err(ApiError::internal)?,
        role: row.role.parse().map_err(ApiError::internal)?,
        enrolled_at: since_epoch(row.enrolled_at),
        not_after: since_epoch(row.not_after),
        last_seen: row.last_seen.map(since_epoch),
    })
}

/// Times in the store are never before 1970: ours are read from a [`Clock`](crate::clock::Clock).
pub(crate) fn since_epoch(millis: i64) -> Millis {
    millis.try_into().unwrap_or(0)
}
