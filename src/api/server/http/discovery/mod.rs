//! Discovery documents, made once per version of the resource table.

mod aggregated;
mod forms;
mod groups;
mod legacy;

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderValue},
};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest, Sha512};
use troupe_api::{resources::Registry, status::Status};

use super::{
    accept::{self, Offer, clauses, negotiate},
    outgoing::Outgoing,
};

const AGGREGATED_TYPE: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A document with its ETag.
struct Tagged {
    json: Bytes,
    etag: String,
}

/// All documents of one registry.
struct Documents {
    registry: Arc<Registry>,
    core: Tagged,
    groups: Tagged,
}

/// Answers discovery requests. The aggregated documents are remembered until the table changes.
#[derive(Default)]
pub struct Discovery {
    remembered: ArcSwapOption<Documents>,
}

impl Discovery {
    /// Answers `/api`, `/apis`, `/api/V`, `/apis/G` and `/apis/G/V`; `None` for any other path.
    ///
    /// # Errors
    /// 404 for a group or version that is not served, 406 for a form we don't have.
    pub fn answer(&self, request: &HttpRequest, registry: &Arc<Registry>, advertise: &str) -> Option<Result<HttpResponse, Status>> {
        let parts: Vec<&str> = request.path().split('/').filter(|part| !part.is_empty()).take(5).collect();
        let document = match parts[..] {
            ["api"] if wants_aggregated(request) => return Some(Ok(self.aggregated(request, registry, true))),
            ["apis"] if wants_aggregated(request) => return Some(Ok(self.aggregated(request, registry, false))),
            ["api"] => Some(encode(&legacy::api_versions(registry, advertise))),
            ["apis"] => Some(encode(&legacy::group_list(registry))),
            ["api", version] => legacy::resource_list(registry, "", version).as_ref().map(encode),
            ["apis", group] => legacy::group(registry, group).as_ref().map(encode),
            ["apis", group, version] => legacy::resource_list(registry, group, version).as_ref().map(encode),
            _ => return None,
        };
        Some(plain(request, document))
    }

    fn aggregated(&self, request: &HttpRequest, registry: &Arc<Registry>, core: bool) -> HttpResponse {
        let documents = self.documents(registry);
        let tagged = if core { &documents.core } else { &documents.groups };
        let known = request.headers().get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tagged.etag.as_bytes());
        let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        response.insert_header((header::ETAG, tagged.etag.as_str())).insert_header((header::VARY, HeaderValue::from_static("Accept")));
        if known {
            return response.finish();
        }
        response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(AGGREGATED_TYPE)));
        response.body(tagged.json.clone())
    }

    fn documents(&self, registry: &Arc<Registry>) -> Arc<Documents> {
        if let Some(known) = self.remembered.load_full()
            && Arc::ptr_eq(&known.registry, registry)
        {
            return known;
        }
        let documents = Arc::new(Documents {
            registry: registry.clone(),
            core: tagged(&aggregated::document(registry, true)),
            groups: tagged(&aggregated::document(registry, false)),
        });
        self.remembered.store(Some(documents.clone()));
        documents
    }
}

fn encode<T: Serialize>(document: &T) -> Vec<u8> {
    serde_json::to_vec(document).expect("texts and lists of them always encode")
}

fn tagged(document: &impl Serialize) -> Tagged {
    let json = Bytes::from(encode(document));
    let etag = format!("\"{}\"", hex::encode_upper(Sha512::digest(&json)));
    Tagged { json, etag }
}

fn plain(request: &HttpRequest, document: Option<Vec<u8>>) -> Result<HttpResponse, Status> {
    let document = document.ok_or_else(Status::page_not_found)?;
    let accepted = negotiate(accept::header(request), Offer::DOCUMENT)?;
    Ok(Outgoing::new(request, accepted).json(200, document))
}

/// Whether the best alternative we have for discovery is the aggregated form.
fn wants_aggregated(request: &HttpRequest) -> bool {
    for clause in clauses(accept::header(request)) {
        if !clause.takes("application/json") {
            continue;
        }
        match (clause.param("as"), clause.param("g"), clause.param("v")) {
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => return true,
            ("", ..) => return false,
            _ => {}
        }
    }
    false
}
