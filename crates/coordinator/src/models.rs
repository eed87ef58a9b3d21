//! `/v1/models`: which model files there are; `/v1/models/{digest}`: the files by their SHA-256, uploaded in chunks, served
//! in ranges.
//!
//! An upload is `PUT /v1/models/{digest}?offset=N&length=TOTAL`, chunk by chunk, each with its `Content-Digest`;
//! `GET /v1/models/{digest}/upload?length=TOTAL` says how far it got. A file is there for others only when it is whole, has the
//! digest in its name, reads as a model from its first to its last byte, and is the one file that this model has: a site
//! that counts sums by the digest of a model takes no other.

use crate::{
    access::{Caller, Routes},
    answer::{ApiError, Named, PageParams, Params, chain, json},
    app::App,
    bulk,
    participants::since_epoch,
};
use axum::{body::Body, extract::State, response::Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use sordino_codec::Tensors;
use sordino_identity::Permission;
use sordino_store::{ModelRow, SpoolError, SpoolKey, StoreError};
use sordino_wire::{
    Code, Digest,
    api::{Model, Page, UploadStatus},
};
use std::sync::Arc;
use tokio::io::AsyncReadExt as _;

/// `GET /v1/models`, `PUT` and `GET /v1/models/{digest}`, `GET /v1/models/{digest}/upload`.
pub(crate) fn routes() -> Routes {
    Routes::new()
        .get("/v1/models", Permission::ReadModel, list)
        .get("/v1/models/{digest}", Permission::ReadModel, download)
        .put("/v1/models/{digest}", Permission::WriteModel, upload)
        .get("/v1/models/{digest}/upload", Permission::WriteModel, progress)
}

/// In the order of their digests.
async fn list(State(app): State<Arc<App>>, Params(page): Params<PageParams>) -> Result<Response, ApiError> {
    let after = match page.cursor() {
        None => None,
        Some(cursor) => {
            let digest: Result<Digest, _> = cursor.parse();
            Some(digest.map_err(|_| ApiError::new(Code::Malformed, "cursor: take it from `next`"))?)
        }
    };
    let rows = app.store.models(after.as_ref().map(|digest| &digest.0), page.fetch()?).await?;
    let Page { items, next } = page.page(rows, |row| Digest(row.digest).to_string(), model);
    let items = items.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(json(StatusCode::OK, &Page { items, next }))
}

fn model(row: ModelRow) -> Result<Model, ApiError> {
    Ok(Model {
        digest: Digest(row.digest),
        task: row.task.map(TryInto::try_into).transpose().map_err(ApiError::internal)?,
        bytes: row.bytes,
        created_at: since_epoch(row.created_at),
    })
}

/// Where the chunk starts, and how long the whole is: a file that fits one chunk needs neither.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChunkParams {
    #[serde(default)]
    offset: u64,
    length: Option<u64>,
}

/// 200 while bytes are missing, 201 when the model is there.
async fn upload(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(digest): Named<Digest>,
    Params(ChunkParams { offset, length }): Params<ChunkParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let bytes_max = app.config.limits.model_bytes_max;
    if length.is_some_and(|length| length > bytes_max) {
        return Err(ApiError::new(Code::TooLarge, format!("a model file has at most {bytes_max} bytes")));
    }
    let chunk = bulk::chunk(&headers, body, &app.config.limits).await?;
    if let Some(model) = app.store.model(&digest.0).await? {
        // It is there; sending it again changes nothing.
        return Ok(json(StatusCode::OK, &UploadStatus { received: model.bytes, expected: model.bytes }));
    }
    let expected = length.unwrap_or(offset.saturating_add(chunk.len() as u64));
    if expected > bytes_max {
        return Err(ApiError::new(Code::TooLarge, format!("a model file has at most {bytes_max} bytes")));
    }
    let key = spool_key(&caller, digest)?;
    let received = app.store.spool().append(&key, offset, &chunk, expected).await.map_err(spool_refused)?;
    let status = UploadStatus { received, expected };
    if received < expected {
        return Ok(json(StatusCode::OK, &status));
    }
    // The file is whole: it is accepted or removed even if the caller hangs up now.
    let accepting = tokio::spawn(async move {
        let accepted = accept(&app, &key, digest, expected).await;
        // A file that was refused must not stay in the way of a better one; one that was accepted is in the store.
        app.store.spool().remove(&key).await?;
        accepted
    });
    accepting.await.map_err(ApiError::internal)??;
    Ok(json(StatusCode::CREATED, &status))
}

/// Checks a whole file and makes it a model of the store.
async fn accept(app: &App, key: &SpoolKey, digest: Digest, length: u64) -> Result<(), ApiError> {
    // One at a time: the file and its values are in memory together.
    let _turn = app.model_checks.acquire().await.map_err(ApiError::internal)?;
    let mut bytes = Vec::new();
    let file = app.store.spool().reader(key).await.map_err(|error| match error {
        // A start of the coordinator clears the spool of what no open attempt needs.
        StoreError::NotFound { .. } => {
            ApiError::new(Code::OffsetMismatch, "the upload is gone, the coordinator was restarted; start again at 0")
        }
        other => other.into(),
    })?;
    file.take(length).read_to_end(&mut bytes).await.map_err(ApiError::internal)?;
    let limits = app.model_limits();
    let checked = tokio::task::spawn_blocking(move || {
        if Digest(bulk::sha256(&bytes)) != digest {
            let detail = "the whole file does not have the digest of its name; nothing was kept, send it again";
            return Err(ApiError::new(Code::DigestMismatch, detail));
        }
        match Tensors::from_canonical(&bytes, &limits) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(ApiError::new(Code::Invalid, format!("not a usable model file: {}", chain(&error)))),
        }
    });
    let bytes = checked.await.map_err(ApiError::internal)??;
    app.store.blobs().put(bytes).await?;
    app.store.record_model(digest.0, None, length, app.now_millis()).await?;
    Ok(())
}

/// How long the whole is; only the uploader knows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LengthParam {
    length: u64,
}

/// How far the caller's own upload got.
async fn progress(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(digest): Named<Digest>,
    Params(LengthParam { length }): Params<LengthParam>,
) -> Result<Response, ApiError> {
    if let Some(model) = app.store.model(&digest.0).await? {
        return Ok(json(StatusCode::OK, &UploadStatus { received: model.bytes, expected: model.bytes }));
    }
    let received = app.store.spool().received(&spool_key(&caller, digest)?).await.map_err(spool_refused)?;
    Ok(json(StatusCode::OK, &UploadStatus { received, expected: length }))
}

/// The file, or the range of it that was asked for. Answers HEAD too.
async fn download(
    State(app): State<Arc<App>>,
    Named(digest): Named<Digest>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let missing = || ApiError::new(Code::NotFound, format!("there is no model {digest}"));
    app.store.model(&digest.0).await?.ok_or_else(missing)?;
    let (file, length) = app.store.blobs().open(&digest.0).await?;
    bulk::file(&headers, file, length, digest).await
}

/// Uploads of models lie beside those of rounds, under a name that no task can have.
fn spool_key(caller: &Caller, digest: Digest) -> Result<SpoolKey, StoreError> {
    SpoolKey::new(format!("model-{digest}"), 0, 0, caller.principal.id.as_str())
}

/// An upload's refusal as the caller sees it.
#[must_use]
pub fn spool_refused(error: SpoolError) -> ApiError {
    match error {
        SpoolError::OffsetMismatch { .. } => ApiError::new(Code::OffsetMismatch, error.to_string()),
        SpoolError::TooLong { .. } => ApiError::new(Code::TooLarge, error.to_string()),
        SpoolError::Full { .. } | SpoolError::Io { .. } => StoreError::from(error).into(),
        other => ApiError::internal(other),
    }
}
