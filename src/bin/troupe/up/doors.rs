//! What this binary adds to the API server's front door: keys for token verifiers, and the looks inside all processes of
//! the cluster that `troupe actors` and `troupe trace` take.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::Serialize;
use troupe_actors::{
    apiserver::{ApiServer, store_status},
    insight::{self, Insight},
    metrics::Sources,
    runtime::system::System,
};
use troupe_api::{
    ApiService,
    auth::tokens::{self, Issuer},
    meta::{Clock, ObjectKey},
    status::Status,
};
use troupe_api_client::remote::announced;
use troupe_api_server::{
    flow::{Classifier, Dump},
    http::{
        ExtraRoute, RawReply,
        options::RawRequest,
        streaming::{query_value, query_values},
    },
    store::{self, Store, StoreError},
};

use crate::{backup::encode_page, config::Config};

/// The live actor trees of all processes, as JSON.
pub const ACTORS: &str = "/debug/troupe/actors";
/// The causal chain of one object through all processes: `?resource=pods&namespace=n&name=x`.
pub const TRACE: &str = "/debug/troupe/trace";
/// What an actor says about one of the things that it works on, in whatever processes it lives: `?path=scheduler&about=default/web`.
pub const ASK: &str = "/debug/troupe/ask";
/// POST: lets an actor panic, `?path=controllers/deployment`; with `&when=next-message` not before its next message, and with
/// `&process=…` in that process.
pub const KILL: &str = "/debug/troupe/kill";

/// A page of a backup: the first, or with `?revision=7&after=KEY` (in hex) the one behind a key, at that revision.
pub const BACKUP: &str = "/debug/troupe/backup";

/// Keys of service accounts may be kept for an hour, as upstream's.
const KEYS_CACHING: Option<&str> = Some("public, max-age=3600");

/// All extra routes.
pub fn routes(config: &Config, issuer: &Arc<Issuer>, system: &System, insight: &Insight, metrics: Sources) -> Vec<ExtraRoute> {
    let keys = issuer.key_set();
    let address = std::net::SocketAddr::new(config.advertise_address, config.api_port);
    let place = config.api.service_account_jwks_uri.clone().unwrap_or_else(|| format!("https://{address}/openid/v1/jwks"));
    let (told, issuer) = (keys.clone(), issuer.clone());
    let mut routes = vec![
        ExtraRoute::cached("/openid/v1/jwks", "application/jwk-set+json", KEYS_CACHING, move || json_bytes(&tokens::jwks(&keys.told()))),
        ExtraRoute::cached("/.well-known/openid-configuration", "application/json", KEYS_CACHING, move || {
            json_bytes(&tokens::openid_configuration(issuer.name(), &place, &told.told()))
        }),
        actors(insight.clone()),
        trace(insight.clone()),
        said(insight.clone()),
        kill(insight.clone()),
        own(system.clone(), insight::KILL, true),
        own(system.clone(), insight::BELOW, false),
    ];
    routes.extend(metrics.routes());
    routes
}

fn json_bytes(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("plain data encodes").into()
}

fn json_reply(value: &impl Serialize) -> RawReply {
    RawReply::new("application/json", json_bytes(value))
}

type Answer = BoxFuture<'static, Result<RawReply, Status>>;

fn actors(insight: Insight) -> ExtraRoute {
    let handler = move |_| {
        let insight = insight.clone();
        let reply: Answer = Box::pin(async move { Ok(json_reply(&insight.actors().await)) });
        reply
    };
    ExtraRoute { path: ACTORS, handler: Arc::new(handler), acts: false }
}

fn trace(insight: Insight) -> ExtraRoute {
    let handler = move |request: RawRequest| {
        let insight = insight.clone();
        let reply: Answer = Box::pin(async move {
            let value = |name: &str| query_value(&request.query, name);
            if value("resource").is_empty() || value("name").is_empty() {
                return Err(Status::bad_request("name the object: ?resource=pods&namespace=default&name=web"));
            }
            let key = ObjectKey::new(value("namespace"), value("name"));
            Ok(json_reply(&insight.trace(&value("resource"), &key).await))
        });
        reply
    };
    ExtraRoute { path: TRACE, handler: Arc::new(handler), acts: false }
}

fn said(insight: Insight) -> ExtraRoute {
    let handler = move |request: RawRequest| {
        let insight = insight.clone();
        let reply: Answer = Box::pin(async move {
            let value = |name: &str| query_value(&request.query, name);
            Ok(json_reply(&insight.said(&value("path"), &value("about")).await))
        });
        reply
    };
    ExtraRoute { path: ASK, handler: Arc::new(handler), acts: false }
}

fn kill(insight: Insight) -> ExtraRoute {
    let handler = move |request: RawRequest| {
        let insight = insight.clone();
        let reply: Answer = Box::pin(async move {
            tracing::warn!(asked = request.query, user = request.user.name, "an actor is to be killed");
            insight.kill(&request.query).await.map(|told| json_reply(&told))
        });
        reply
    };
    ExtraRoute { path: KILL, handler: Arc::new(handler), acts: true }
}

/// What this process tells the API servers of the cluster of itself.
fn own(system: System, path: &'static str, acts: bool) -> ExtraRoute {
    let handler = move |request: RawRequest| {
        let system = system.clone();
        let reply: Answer = Box::pin(async move {
            let body = insight::tell(&system, acts, &request.path, &request.query).await?;
            Ok(RawReply::new("application/json", body))
        });
        reply
    };
    ExtraRoute { path, handler: Arc::new(handler), acts }
}

/// What flow control has in work and lets wait, as upstream tells it.
pub fn flow_control(flow: Arc<Classifier>, clock: Arc<dyn Clock>) -> ExtraRoute {
    let handler = move |request: RawRequest| {
        let dump = Dump::of(&request.path, &request.query).map(|what| flow.dump(what, clock.now()));
        let reply = dump.map(|text| RawReply::new("text/plain; charset=utf-8", text));
        let answer: Answer = Box::pin(std::future::ready(reply.ok_or_else(Status::page_not_found)));
        answer
    };
    ExtraRoute { path: "/debug/api_priority_and_fairness/", handler: Arc::new(handler), acts: false }
}

/// What watches were told of: clients in other processes ask it, to know when they are behind.
pub fn announced(api: Arc<ApiServer>) -> ExtraRoute {
    let handler = move |request: RawRequest| {
        let mut named: Vec<_> = query_values(&request.query, announced::RESOURCE).iter().map(|name| announced::resource(name)).collect();
        if named.is_empty() {
            named = api.registry().rows().iter().map(|row| row.group_resource()).collect();
        }
        let told = api.announced(named.clone());
        let reply: Answer = Box::pin(async move { Ok(RawReply::new("application/json", announced::document(&named, &told.await))) });
        reply
    };
    ExtraRoute { path: announced::PATH, handler: Arc::new(handler), acts: false }
}

/// Pages of backups.
pub fn backup(store: Arc<dyn Store>) -> ExtraRoute {
    let handler = move |request: RawRequest| {
        let store = store.clone();
        let reply: futures::future::BoxFuture<'static, _> = Box::pin(async move {
            let value = |name: &str| Some(query_value(&request.query, name)).filter(|value| !value.is_empty());
            let revision = match value("revision") {
                Some(text) => Some(text.parse().map_err(|_| Status::bad_request("revision is no number"))?),
                None => None,
            };
            let after = value("after").map(hex::decode).transpose().map_err(|_| Status::bad_request("after is not hex"))?;
            let page = store::backup::page(&*store, revision, after.as_deref()).await.map_err(|error| match error {
                StoreError::Compacted { .. } => Status::expired("the backup took longer than the store remembers its past, try again"),
                error => store_status(error),
            })?;
            Ok(RawReply::new("application/octet-stream", encode_page(page, revision.is_none())))
        });
        reply
    };
    ExtraRoute { path: BACKUP, handler: Arc::new(handler), acts: false }
}
