//! The documents about the API itself: health, discovery, OpenAPI, the version, and what there is.

use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;
use tokio::sync::Semaphore;
use troupe_api::status::Status;

use super::{
    accept, health,
    openapi::{OpenApiReply, wants_message},
    outgoing::Outgoing,
    query::Query,
    shared::Shared,
};

/// Readers of OpenAPI at once: each waits on a thread of its own while a document is being made.
pub(super) static OPENAPI_READERS: Semaphore = Semaphore::const_new(OPENAPI_AT_ONCE as usize);
pub(super) const OPENAPI_AT_ONCE: u32 = 8;

/// The document at the request's path; `None` where that is no document.
///
/// # Errors
/// It could not be made, or not in the form that is asked for.
pub async fn document(shared: &Shared, request: &HttpRequest, query: &Query) -> Result<Option<HttpResponse>, Status> {
    let (path, options) = (request.path(), &shared.options);
    if let Some(response) = health::answer(&options.health, path, query).await {
        return Ok(Some(response));
    }
    let registry = options.service.settled_registry().await;
    if let Some(response) = shared.discovery.answer(request, &registry, &options.advertise) {
        return response.map(Some);
    }
    let trimmed = path.trim_end_matches('/');
    if let Some(below) = trimmed.strip_prefix("/openapi/v3")
        && (below.is_empty() || below.starts_with('/'))
    {
        let (openapi, below) = (shared.openapi.clone(), below.trim_start_matches('/').to_owned());
        // Nobody closes it.
        let _place = OPENAPI_READERS.acquire().await.ok();
        // The first reader has the documents made, which takes longer than an event loop may be held.
        let found = tokio::task::spawn_blocking(move || openapi.document(&registry, &below)).await.map_err(Status::internal)??;
        return Ok(Some(OpenApiReply::respond(found, request)));
    }
    if trimmed == "/openapi/v2" {
        let (openapi, as_message) = (shared.openapi.clone(), wants_message(accept::header(request))?);
        let _place = OPENAPI_READERS.acquire().await.ok();
        let found = tokio::task::spawn_blocking(move || openapi.v2(&registry, as_message)).await.map_err(Status::internal)??;
        return Ok(Some(OpenApiReply::respond(found, request)));
    }
    let document = match trimmed {
        // A tree would forget the order of its keys.
        "/version" => serde_json::to_vec(&options.version).map_err(Status::internal)?,
        "" => json!({"paths": root_paths(shared)}).to_string().into_bytes(),
        _ => return Ok(None),
    };
    let accepted = accept::Accepted { encoding: accept::Encoding::Json, form: accept::Form::Full, pretty: true };
    Ok(Some(Outgoing::new(request, accepted).json(200, document)))
}

/// What `/` lists.
fn root_paths(shared: &Shared) -> Vec<String> {
    let registry = shared.options.service.registry();
    let mut paths = vec![
        "/api".to_owned(),
        "/apis".into(),
        "/healthz".into(),
        "/livez".into(),
        "/openapi/v2".into(),
        "/openapi/v3".into(),
        "/readyz".into(),
        "/version".into(),
    ];
    for row in registry.rows() {
        for served in &row.served {
            if row.group.is_empty() {
                paths.push(format!("/api/{}", served.version));
            } else {
                paths.push(format!("/apis/{}", row.group));
                paths.push(format!("/apis/{}/{}", row.group, served.version));
            }
        }
    }
    for remote in registry.aggregated().versions() {
        let (group, version) = (&remote.discovered.group, &remote.discovered.version);
        paths.extend([format!("/apis/{group}"), format!("/apis/{group}/{version}")]);
    }
    paths.extend(shared.options.routes.iter().map(|route| route.path.to_owned()));
    paths.sort_unstable();
    paths.dedup();
    paths
}
