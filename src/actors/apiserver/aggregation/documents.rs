//! Asks a server for its OpenAPI documents. Those of v3 stay there, and are fetched when somebody asks; those of v2 are cut down and kept.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use serde::Deserialize;
use troupe_api::{
    aside,
    resources::aggregated::{DocumentV3, Documents},
    service::UserInfo,
};
use troupe_api_server::{
    aggregation::{Answer, ApiServiceSpec, Backend, whole},
    openapi::v2::{remote, upward},
};

const TIMEOUT: Duration = Duration::from_secs(60);
const LONGEST: usize = 16 << 20;
/// The list of documents of v3, and a mark in it.
const LONGEST_ROOT: usize = 1 << 20;
const LONGEST_MARK: usize = 256;

/// What a server told last.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub documents: Documents,
    /// Of the v2 document.
    etag: Option<String>,
}

#[derive(Deserialize)]
struct Root {
    #[serde(default)]
    paths: std::collections::HashMap<String, Place>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    #[serde(rename = "serverRelativeURL", default)]
    url: String,
}

/// Asks; what cannot be had is left out, or as it was `told` before.
pub async fn describe(spec: &ApiServiceSpec, backend: &Backend, told: Told) -> Told {
    let mut told = told;
    match v2(spec, backend, told.etag.as_deref().unwrap_or_default()).await {
        Ok(Some((document, etag))) => (told.documents.v2, told.etag) = (document, etag),
        Ok(None) => {}
        Err(why) => tracing::debug!(service = %spec.name, why, "no OpenAPI v2 document"),
    }
    match v3(spec, backend).await {
        Ok(Some(found)) => told.documents.v3 = found,
        Ok(None) => told.documents.v3 = made(&told.documents).await,
        Err(why) => tracing::debug!(service = %spec.name, why, "no OpenAPI v3 document"),
    }
    told
}

/// Whether the server has one; `None` if it has none of any version.
async fn v3(spec: &ApiServiceSpec, backend: &Backend) -> Result<Option<Option<DocumentV3>>, String> {
    let answer = ask(backend, "/openapi/v3", "", LONGEST_ROOT).await?;
    match answer.code {
        404 => Ok(None),
        200 => {
            let root: Root = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
            let path = spec.discovery_path();
            let place = root.paths.get(path.trim_start_matches('/'));
            let mark = |place: &Place| Some(place.url.split_once("hash=")?.1.split('&').next()?.to_owned());
            let hash = |place: &Place| mark(place).filter(|mark| mark.len() <= LONGEST_MARK).unwrap_or_default();
            Ok(Some(place.map(|place| DocumentV3::AtServer { hash: hash(place) })))
        }
        code => Err(format!("the server answered {code}")),
    }
}

/// One made of the v2 document.
async fn made(documents: &Documents) -> Option<DocumentV3> {
    let v2 = documents.v2.clone()?;
    let converted = aside::compute(v2.len(), move || upward::convert(&v2)).await;
    converted.ok().map(|document| DocumentV3::Made(document.into()))
}

type Found = (Option<Bytes>, Option<String>);

/// The document and its mark; `None` if it is what it was.
async fn v2(spec: &ApiServiceSpec, backend: &Backend, etag: &str) -> Result<Option<Found>, String> {
    let answer = ask(backend, "/openapi/v2", etag, LONGEST).await?;
    match answer.code {
        304 => Ok(None),
        404 => Ok(Some((None, None))),
        200 => {
            let etag = answer.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
            let (body, prefix) = (answer.body, format!("{}/", spec.discovery_path()));
            let kept = aside::compute(body.len(), move || remote::cut(&body, &prefix)).await?;
            Ok(Some((Some(kept), etag)))
        }
        code => Err(format!("the server answered {code}")),
    }
}

async fn ask(backend: &Backend, path: &str, etag: &str, longest: usize) -> Result<Answer, String> {
    let user = UserInfo { name: "system:aggregator".into(), ..UserInfo::default() };
    let mut request = Request::get(path).header(header::ACCEPT, "application/json");
    if !etag.is_empty() {
        request = request.header(header::IF_NONE_MATCH, etag);
    }
    let request = request.body(whole(Bytes::new())).map_err(|error| error.to_string())?;
    backend.ask(&user, request, longest, TIMEOUT).await.map_err(|error| error.to_string())
}
