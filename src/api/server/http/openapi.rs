//! `/openapi/v3`, the index and a document per group and version, and `/openapi/v2`, remembered until the resource table changes. Documents that
//! are of no version of a group, such as `/openapi/v3/apis/apps`, are made once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderValue},
};
use bytes::Bytes;
use serde_json::json;
use sha2::{Digest, Sha512};
use troupe_api::{
    meta::GroupVersion,
    resources::{Registry, Resource, aggregated::DocumentV3},
    status::Status,
};

use super::{
    accept::clauses,
    compress::{gunzipped, gzipped, takes_gzip},
    query::Query,
    slices::Sliced,
};
use crate::openapi::{OpenApiSource, v2};

/// One document with what readers want of it.
#[derive(Clone)]
struct Document {
    /// Kept compressed: readers are few and the documents long.
    gzip: Bytes,
    hash: Arc<str>,
    /// As it was made, while somebody is sent that.
    plain: Arc<Mutex<Weak<Vec<u8>>>>,
}

/// What everybody is sent who is sent it now.
struct Plain(Arc<Vec<u8>>);

impl AsRef<[u8]> for Plain {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Document {
    fn of(content: &[u8]) -> Self {
        Document::named(content, hex::encode_upper(Sha512::digest(content)).into())
    }

    fn named(content: &[u8], hash: Arc<str>) -> Self {
        Document { gzip: gzipped(content).into(), hash, plain: Arc::default() }
    }

    fn plain(&self) -> Bytes {
        let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        let known = plain.upgrade().unwrap_or_else(|| Arc::new(gunzipped(&self.gzip)));
        *plain = Arc::downgrade(&known);
        Bytes::from_owner(Plain(known))
    }
}

/// The documents of one registry. Those of groups that did not change stay from registry to registry.
#[derive(Default)]
struct Remembered {
    registry: Option<Arc<Registry>>,
    documents: BTreeMap<String, Arc<Made>>,
    /// Those that other servers have, by the hashes that they name them by.
    elsewhere: BTreeMap<String, String>,
}

/// A document and what it is made of; made when first asked for, where its hash is known before.
struct Made {
    source: Source,
    group_version: GroupVersion,
    hash: Arc<str>,
    document: OnceLock<Document>,
}

impl Made {
    fn of(source: Source, group_version: GroupVersion, document: Document) -> Self {
        Made { source, group_version, hash: document.hash.clone(), document: document.into() }
    }
}

/// What a document was made of.
enum Source {
    Rows(Vec<Arc<Resource>>),
    /// Its path alone.
    Page,
    /// It came from another server.
    Text(Bytes),
}

impl Source {
    fn is_same(&self, other: &Source) -> bool {
        match (self, other) {
            (Source::Rows(rows), Source::Rows(others)) => {
                rows.len() == others.len() && rows.iter().zip(others).all(|(row, other)| Arc::ptr_eq(row, other))
            }
            (Source::Page, Source::Page) => true,
            (Source::Text(text), Source::Text(other)) => text == other,
            _ => false,
        }
    }
}

/// The v2 document of one registry, as JSON and as a message; only old clients ask for it.
#[derive(Default)]
struct RememberedV2 {
    registry: Option<Arc<Registry>>,
    documents: Vec<Document>,
}

/// Answers `/openapi/v2` and what is below `/openapi/v3`.
pub struct OpenApi {
    source: Option<Arc<dyn OpenApiSource>>,
    remembered: Mutex<Remembered>,
    v2: Mutex<RememberedV2>,
}

impl OpenApi {
    pub fn new(source: Option<Arc<dyn OpenApiSource>>) -> Self {
        OpenApi { source, remembered: Mutex::default(), v2: Mutex::default() }
    }

    /// Answers `/openapi/v3` (empty `path`) or `/openapi/v3/{path}`. May take long: call it off the worker's loop.
    ///
    /// # Errors
    /// 404 for what is not served.
    pub fn document(&self, registry: &Arc<Registry>, path: &str) -> Result<OpenApiReply, Status> {
        let source = self.source.as_ref().ok_or_else(Status::page_not_found)?;
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.registry.as_ref().is_none_or(|known| !Arc::ptr_eq(known, registry)) {
            let before = std::mem::take(&mut remembered.documents);
            let documents = make_all(&**source, registry, before);
            *remembered = Remembered { registry: Some(registry.clone()), documents, elsewhere: elsewhere(registry) };
        }
        if path.is_empty() {
            let own = remembered.documents.iter().map(|(path, made)| (path, &*made.hash));
            let all = own.chain(remembered.elsewhere.iter().map(|(path, hash)| (path, &**hash)));
            let url =
                |path: &str, hash: &str| if hash.is_empty() { format!("/openapi/v3/{path}") } else { format!("/openapi/v3/{path}?hash={hash}") };
            let paths: BTreeMap<_, _> = all.map(|(path, hash)| (path.clone(), json!({"serverRelativeURL": url(path, hash)}))).collect();
            return Ok(OpenApiReply::Index(json!({"paths": paths}).to_string().into()));
        }
        let made = remembered.documents.get(path).cloned().ok_or_else(Status::page_not_found)?;
        // Others need not wait for this one.
        drop(remembered);
        let make = || {
            let json = source.document(registry, &made.group_version).unwrap_or_default();
            Document::named(&json, made.hash.clone())
        };
        let document = made.document.get_or_init(make).clone();
        Ok(OpenApiReply::Document { document, media_type: "application/json" })
    }
}

impl OpenApi {
    /// Answers `/openapi/v2`, as a message or as JSON. May take long: call it off the worker's loop.
    ///
    /// # Errors
    /// 404 where there is no such document.
    pub fn v2(&self, registry: &Arc<Registry>, as_message: bool) -> Result<OpenApiReply, Status> {
        let source = self.source.as_ref().ok_or_else(Status::page_not_found)?;
        let mut remembered = self.v2.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.registry.as_ref().is_none_or(|known| !Arc::ptr_eq(known, registry)) {
            let made = source.v2(registry).ok_or_else(Status::page_not_found)?;
            *remembered = RememberedV2 { registry: Some(registry.clone()), documents: vec![Document::of(&made.json), Document::of(&made.message)] };
        }
        let document = remembered.documents.get(usize::from(as_message)).cloned().ok_or_else(Status::page_not_found)?;
        Ok(OpenApiReply::Document { document, media_type: if as_message { v2::MEDIA_TYPE } else { "application/json" } })
    }
}

/// Whether a client of `/openapi/v2` prefers the message.
///
/// # Errors
/// 406 when it takes neither that nor JSON.
pub fn wants_message(accept: &str) -> Result<bool, Status> {
    // The older name has an `@` that media types may not have.
    const OLD_TYPE: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    if accept.is_empty() {
        return Ok(false);
    }
    for clause in clauses(accept) {
        if clause.takes("application/json") {
            return Ok(false);
        }
        if clause.takes(v2::MEDIA_TYPE) || clause.takes(OLD_TYPE) {
            return Ok(true);
        }
    }
    Err(Status::not_acceptable(format!("only the following media types are accepted: application/json, {}", v2::MEDIA_TYPE)))
}

/// A found document.
pub enum OpenApiReply {
    Index(Bytes),
    #[allow(private_interfaces, reason = "made and read in this module only")]
    Document {
        document: Document,
        media_type: &'static str,
    },
}

impl OpenApiReply {
    /// The HTTP reply, with what lets clients cache it for good.
    pub fn respond(self, request: &HttpRequest) -> HttpResponse {
        let (document, media_type) = match self {
            OpenApiReply::Index(index) => {
                return HttpResponse::Ok().insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/json"))).body(index);
            }
            OpenApiReply::Document { document, media_type } => (document, media_type),
        };
        let etag = format!("\"{}\"", document.hash);
        let known = request.headers().get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == etag.as_bytes());
        let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        response.insert_header((header::ETAG, etag)).insert_header((header::VARY, HeaderValue::from_static("Accept")));
        match Query::parse(request.query_string()).text("hash") {
            Some(hash) if hash != &*document.hash => {
                let now = format!("{}?hash={}", request.path(), document.hash);
                return HttpResponse::MovedPermanently().insert_header((header::LOCATION, now)).finish();
            }
            Some(_) => response.insert_header((header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"))),
            None => &mut response,
        };
        if known {
            return response.finish();
        }
        response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(media_type)));
        if takes_gzip(request) {
            response.insert_header((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
            return response.body(Sliced::shared(document.gzip));
        }
        response.body(Sliced::shared(document.plain()))
    }
}

fn make_all(source: &dyn OpenApiSource, registry: &Registry, mut before: BTreeMap<String, Arc<Made>>) -> BTreeMap<String, Arc<Made>> {
    let mut rows: BTreeMap<String, (GroupVersion, Vec<Arc<Resource>>)> = BTreeMap::new();
    for row in registry.rows().iter().filter(|row| row.is_told) {
        for served in row.served.iter().filter(|served| !registry.is_elsewhere(&row.group, &served.version)) {
            let made = || (GroupVersion::new(row.group.clone(), served.version.clone()), Vec::new());
            rows.entry(path_of(&row.group, &served.version)).or_insert_with(made).1.push(row.clone());
        }
    }
    let mut documents = BTreeMap::new();
    let mut add = |path: String, source: Source, make: &dyn Fn(Source) -> Option<Made>| match before
        .remove(&path)
        .filter(|made| made.source.is_same(&source))
    {
        Some(made) => drop(documents.insert(path, made)),
        None => documents.extend(make(source).map(|made| (path, Arc::new(made)))),
    };
    for (path, (group_version, rows)) in rows {
        let make = |rows: Source| of_rows(source, registry, rows, &group_version);
        add(path, Source::Rows(rows), &make);
    }
    for path in source.pages(registry) {
        let make = |page: Source| {
            let document = Document::of(&source.page(&path)?);
            Some(Made::of(page, GroupVersion::new("", ""), document))
        };
        add(path.clone(), Source::Page, &make);
    }
    for remote in registry.aggregated().versions() {
        if let Some(DocumentV3::Made(text)) = &remote.documents.v3 {
            let group_version = GroupVersion::new(remote.discovered.group.clone(), remote.discovered.version.clone());
            let path = path_of(&remote.discovered.group, &remote.discovered.version);
            add(path, Source::Text(text.clone()), &|made_of| Some(Made::of(made_of, group_version.clone(), Document::of(text))));
        }
    }
    documents
}

/// The document of rows, which is not made yet where its hash is known without it.
fn of_rows(source: &dyn OpenApiSource, registry: &Registry, rows: Source, group_version: &GroupVersion) -> Option<Made> {
    let hash = match &rows {
        Source::Rows(rows) => source.hash(rows, group_version),
        Source::Page | Source::Text(_) => None,
    };
    if let Some(hash) = hash {
        return Some(Made { source: rows, group_version: group_version.clone(), hash: hash.into(), document: OnceLock::new() });
    }
    let document = Document::of(&source.document(registry, group_version)?);
    Some(Made::of(rows, group_version.clone(), document))
}

/// The documents that are fetched from other servers when somebody asks, with their hashes.
fn elsewhere(registry: &Registry) -> BTreeMap<String, String> {
    let versions = registry.aggregated().versions().iter();
    let at_server = versions.filter_map(|remote| match &remote.documents.v3 {
        Some(DocumentV3::AtServer { hash }) => Some((path_of(&remote.discovered.group, &remote.discovered.version), hash.clone())),
        _ => None,
    });
    at_server.collect()
}

fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}
