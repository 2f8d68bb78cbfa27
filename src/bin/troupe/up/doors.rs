//! What this binary adds to the API server's front door: keys for token verifiers, and the looks inside that
//! `troupe actors` and `troupe trace` take.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::Serialize;
use troupe_actors::{apiserver::store_status, metrics::Sources, runtime::system::System};
use troupe_api::{
    auth::tokens::{self, Issuer},
    http::{ExtraRoute, RawReply},
    meta::ObjectKey,
    status::Status,
    store::{self, Store, StoreError},
};

use crate::{backup::encode_page, config::Config};

/// The live actor tree, as JSON.
pub const ACTORS: &str = "/debug/troupe/actors";
/// The causal chain of one object: `?resource=pods&namespace=n&name=x`.
pub const TRACE: &str = "/debug/troupe/trace";
/// POST: lets an actor panic, `?path=controllers/deployment`; with `&when=next-message` not before its next message.
pub const KILL: &str = "/debug/troupe/kill";

/// A page of a backup: the first, or with `?revision=7&after=KEY` (in hex) the one behind a key, at that revision.
pub const BACKUP: &str = "/debug/troupe/backup";

/// How long an actor may take to tell its status.
const PATIENCE: Duration = Duration::from_millis(200);

/// All extra routes.
pub fn routes(config: &Config, issuer: &Arc<Issuer>, system: &System, metrics: Sources) -> Vec<ExtraRoute> {
    let keys = json_bytes(&tokens::jwks(std::slice::from_ref(issuer.public_key())));
    let address = std::net::SocketAddr::new(config.advertise_address, config.api_port).to_string();
    let discovery = json_bytes(&tokens::openid_configuration(issuer.name(), &address));
    vec![
        ExtraRoute::document("/openid/v1/jwks", "application/jwk-set+json", move || keys.clone()),
        ExtraRoute::document("/.well-known/openid-configuration", "application/json", move || discovery.clone()),
        actors(system.clone()),
        trace(system.clone()),
        kill(system.clone()),
        metrics.route(),
    ]
}

fn json_bytes(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("plain data encodes").into()
}

fn json_reply(value: &impl Serialize) -> RawReply {
    RawReply { content_type: "application/json", body: json_bytes(value) }
}

fn actors(system: System) -> ExtraRoute {
    let handler = move |_| {
        let system = system.clone();
        let reply: futures::future::BoxFuture<'static, _> = Box::pin(async move { Ok(json_reply(&system.directory().observe(PATIENCE).await)) });
        reply
    };
    ExtraRoute { path: ACTORS, handler: Arc::new(handler), acts: false }
}

fn trace(system: System) -> ExtraRoute {
    let handler = move |request: troupe_api::http::options::RawRequest| {
        let system = system.clone();
        let reply: futures::future::BoxFuture<'static, _> = Box::pin(async move {
            let value = |name: &str| parameter(&request.query, name).unwrap_or_default();
            if value("resource").is_empty() || value("name").is_empty() {
                return Err(Status::bad_request("name the object: ?resource=pods&namespace=default&name=web"));
            }
            let key = ObjectKey::new(value("namespace"), value("name"));
            Ok(json_reply(&system.recorder().trace_of(&value("resource"), &key)))
        });
        reply
    };
    ExtraRoute { path: TRACE, handler: Arc::new(handler), acts: false }
}

fn kill(system: System) -> ExtraRoute {
    let handler = move |request: troupe_api::http::options::RawRequest| {
        let system = system.clone();
        let reply: futures::future::BoxFuture<'static, _> = Box::pin(async move {
            let wanted = parameter(&request.query, "path").unwrap_or_default();
            let path = resolve(&system, &wanted)?;
            tracing::warn!(actor = %path, user = request.user.name, "killed by the chaos switch");
            match parameter(&request.query, "when").as_deref() {
                Some("next-message") => system.directory().poison(&path),
                _ => system.directory().kill(&path),
            };
            Ok(json_reply(&serde_json::json!({"killed": path})))
        });
        reply
    };
    ExtraRoute { path: KILL, handler: Arc::new(handler), acts: true }
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

/// Pages of backups.
pub fn backup(store: Arc<dyn Store>) -> ExtraRoute {
    let handler = move |request: troupe_api::http::options::RawRequest| {
        let store = store.clone();
        let reply: futures::future::BoxFuture<'static, _> = Box::pin(async move {
            let revision = match parameter(&request.query, "revision") {
                Some(text) => Some(text.parse().map_err(|_| Status::bad_request("revision is no number"))?),
                None => None,
            };
            let after = parameter(&request.query, "after").map(hex::decode).transpose().map_err(|_| Status::bad_request("after is not hex"))?;
            let page = store::backup::page(&*store, revision, after.as_deref()).await.map_err(|error| match error {
                StoreError::Compacted { .. } => Status::expired("the backup took longer than the store remembers its past, try again"),
                error => store_status(error),
            })?;
            Ok(RawReply { content_type: "application/octet-stream", body: encode_page(page, revision.is_none()) })
        });
        reply
    };
    ExtraRoute { path: BACKUP, handler: Arc::new(handler), acts: false }
}

/// A query parameter; `+` and percent signs are decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| decode(value))
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok()).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 2;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_parameters_are_decoded() {
        assert_eq!(parameter("a=1&path=kubelet%2Fpods%2Fx+y", "path").as_deref(), Some("kubelet/pods/x y"));
        assert_eq!(parameter("a=1", "b"), None);
        assert_eq!(decode("%zz%"), "%zz%");
    }
}
