//! What this process tells of itself.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{Method, Request, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use troupe_api::Status;
use troupe_api_server::http::streaming::{query_value, query_values};

use crate::{
    runtime::{
        recorder::{
            HopRecord,
            chain::{Wanted, related},
        },
        system::{Process, System},
    },
    serving::{Body, document},
};

/// All paths below which a process tells of itself.
pub const BELOW: &str = "/debug/troupe/process/";
/// Its live actors.
pub const ACTORS: &str = "/debug/troupe/process/actors";
/// Its hops that may belong to the story of an object: `?object=pods%20default/web&trace=…&version=…`, the latter two
/// repeated. With `&asker=ID` of the process itself nothing is told twice.
pub const HOPS: &str = "/debug/troupe/process/hops";
/// What an actor says about one of the things that it works on: `?path=scheduler&about=default/web`. No item where it says nothing.
pub const ASK: &str = "/debug/troupe/process/ask";
/// POST: lets an actor panic, `?path=controllers/deployment`; with `&when=next-message` not before its next message, with
/// `&when=poison&key=default/web` whenever it works on that key (without one: whatever it does) until `&when=cure`.
pub const KILL: &str = "/debug/troupe/process/kill";

/// How long an actor may take to tell its status.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long it may take to answer a question.
const THINKING: Duration = Duration::from_secs(2);

/// What one process tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report<T> {
    pub process: Process,
    /// Microseconds since 1970 by its clock when it answered.
    pub now_us: i64,
    pub items: Vec<T>,
}

impl<T> Report<T> {
    fn of(system: &System, items: Vec<T>) -> Self {
        Report { process: system.process().clone(), now_us: system.clock().now().as_microsecond(), items }
    }
}

/// Answers a request for one of the paths.
pub async fn answer<B>(system: &System, request: &Request<B>) -> Response<Body> {
    let (uri, post) = (request.uri(), request.method() == Method::POST);
    match tell(system, post, uri.path(), uri.query().unwrap_or_default()).await {
        Ok(told) => document(200, "application/json", told),
        Err(status) => document(status.code, "application/json", status.to_text()),
    }
}

/// The same for who has only a path and a query.
///
/// # Errors
/// 404 for other paths, 405 when looking and doing are mixed up, 400 when something is missing.
pub async fn tell(system: &System, post: bool, path: &str, query: &str) -> Result<Bytes, Status> {
    if post != (path == KILL) {
        return Err(Status::method_not_allowed("the server does not allow this method on the requested resource"));
    }
    match path {
        ACTORS => Ok(bytes_of(&actors(system).await)),
        HOPS => {
            let own = query_values(query, "asker").contains(&system.process().id);
            let told = if own { Report::of(system, Vec::new()) } else { hops(system, &wanted(query)?) };
            Ok(bytes_of(&told))
        }
        ASK => Ok(bytes_of(&said(system, &query_value(query, "path"), &query_value(query, "about")).await)),
        KILL => kill(system, query).map(|told| bytes_of(&told)),
        _ => Err(Status::page_not_found()),
    }
}

fn bytes_of(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("plain data encodes").into()
}

fn wanted(query: &str) -> Result<Wanted, Status> {
    let object = Some(query_value(query, "object")).filter(|object| !object.is_empty());
    let object = object.ok_or_else(|| Status::bad_request("name the object: ?object=pods default/web"))?;
    let all = |name| query_values(query, name).into_iter().collect();
    Ok(Wanted { object, traces: all("trace"), versions: all("version") })
}

/// The live actors, each with what it says of itself if it answers soon.
pub(super) async fn actors(system: &System) -> Report<Value> {
    let found = system.directory().observe(PATIENCE).await;
    Report::of(system, found.iter().map(|actor| json!(actor)).collect())
}

/// What an actor says about something.
pub(super) async fn said(system: &System, path: &str, about: &str) -> Report<Value> {
    Report::of(system, system.directory().ask(path, about, THINKING).await.into_iter().collect())
}

/// The hops that may belong to a story.
pub(super) fn hops(system: &System, wanted: &Wanted) -> Report<HopRecord> {
    let records = system.recorder().records(system.clock().now(), system.instant());
    Report::of(system, related(records, wanted))
}

fn kill(system: &System, query: &str) -> Result<Value, Status> {
    let path = resolve(system, &query_value(query, "path"))?;
    tracing::warn!(actor = %path, asked = query, "the chaos switch is used");
    match query_value(query, "when").as_str() {
        "next-message" => system.directory().poison(&path),
        "poison" => system.directory().poison_key(&path, &query_value(query, "key"), true),
        "cure" => system.directory().poison_key(&path, &query_value(query, "key"), false),
        _ => system.directory().kill(&path),
    };
    Ok(json!({"killed": path, "process": system.process().name}))
}

/// The actor at this path, or the only one below it: nobody knows the uid that ends a PodWorker's path.
fn resolve(system: &System, wanted: &str) -> Result<Arc<str>, Status> {
    let below = format!("{wanted}/");
    let all: Vec<Arc<str>> = system.directory().snapshot().into_iter().map(|actor| actor.path).collect();
    if let Some(path) = all.iter().find(|path| &***path == wanted) {
        return Ok(path.clone());
    }
    match all.iter().filter(|path| path.starts_with(&below)).collect::<Vec<_>>()[..] {
        [path] => Ok(path.clone()),
        [] => Err(Status::bad_request(format!("no actor lives at \"{wanted}\"; troupe actors lists them"))),
        _ => Err(Status::bad_request(format!("several actors live below \"{wanted}\"; troupe actors lists them"))),
    }
}
