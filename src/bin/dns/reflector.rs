//! Keeps the zone, and what is known of domain names, in step with the API: list once, then watch, list again when the watch cannot go on.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::bail;
use hyper::StatusCode;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::value::RawValue;
use tokio::time::timeout;
use troupe_net::dns::{
    cluster_addresses::{Source, SourceKind},
    view::{Meta, Namespace, Service, Slice},
};

use crate::{
    api::{Api, Refused},
    domains::{AddressSlice, ClusterNode, Domains, NamingPolicy, ServiceRange, name_of, of_service, of_slice},
    metrics::METRICS,
    programming,
    state::State,
};

const MIN_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// The definition of cluster network policies, which most clusters do not have.
pub const POLICIES_DEFINED: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?fieldSelector=metadata.name%3Dclusternetworkpolicies.policy.networking.k8s.io";

/// What an object that is gone tells.
const NOTHING: [&str; 0] = [];

/// Who is told of objects.
#[derive(Clone, Debug)]
pub struct Followers {
    pub state: Arc<State>,
    pub domains: Arc<Domains>,
}

/// A kind of object that names follow from.
trait Watched: DeserializeOwned + Send + 'static {
    const PATH: &'static str;
    /// The zone is not known without.
    const IN_ZONE: bool = true;
    /// Where the definition of a kind is that is not built in.
    const DEFINITION: Option<&'static str> = None;
    fn revision(&self) -> &str;
    fn add(self, to: &Followers);
    fn remove(meta: &Meta, to: &Followers);
    fn replace(all: Vec<Self>, to: &Followers);
    /// An object, as JSON, is taken in that was not there or another one before.
    fn taken(_raw: &str, _of: Option<&(String, String)>, _to: &Followers) {}
    /// The Service that it belongs to.
    fn service(&self) -> Option<(String, String)> {
        None
    }
}

impl Watched for Namespace {
    const PATH: &'static str = "/api/v1/namespaces";

    fn revision(&self) -> &str {
        &self.metadata.resource_version
    }

    fn add(self, to: &Followers) {
        to.state.change(|index| index.add_namespace(self.metadata.name));
    }

    fn remove(meta: &Meta, to: &Followers) {
        to.state.change(|index| index.remove_namespace(&meta.name));
    }

    fn replace(all: Vec<Self>, to: &Followers) {
        to.state.change(|index| index.replace_namespaces(all.into_iter().map(|namespace| namespace.metadata.name)));
    }
}

impl Watched for Service {
    const PATH: &'static str = "/api/v1/services";

    fn revision(&self) -> &str {
        &self.metadata.resource_version
    }

    fn add(self, to: &Followers) {
        to.domains.set_cluster(Source::new(SourceKind::Service, name_of(&self.metadata)), of_service(&self));
        to.state.change(|index| index.add_service(self));
    }

    fn remove(meta: &Meta, to: &Followers) {
        to.domains.set_cluster(Source::new(SourceKind::Service, name_of(meta)), NOTHING);
        to.state.change(|index| index.remove_service(&meta.namespace, &meta.name));
    }

    fn replace(all: Vec<Self>, to: &Followers) {
        to.domains.replace_cluster(SourceKind::Service, all.iter().map(|service| (name_of(&service.metadata), of_service(service))));
        to.state.change(|index| index.replace_services(all));
    }
}

impl Watched for Slice {
    const PATH: &'static str = "/apis/discovery.k8s.io/v1/endpointslices";

    fn revision(&self) -> &str {
        &self.metadata.resource_version
    }

    fn add(self, to: &Followers) {
        to.domains.set_cluster(Source::new(SourceKind::Servers, name_of(&self.metadata)), of_slice(&self));
        to.state.change(|index| index.add_slice(self));
    }

    fn remove(meta: &Meta, to: &Followers) {
        to.domains.set_cluster(Source::new(SourceKind::Servers, name_of(meta)), NOTHING);
        to.state.change(|index| index.remove_slice(&meta.namespace, &meta.name));
    }

    fn replace(all: Vec<Self>, to: &Followers) {
        to.domains.replace_cluster(SourceKind::Servers, all.iter().map(|slice| (name_of(&slice.metadata), of_slice(slice))));
        to.state.change(|index| index.replace_slices(all));
    }

    fn service(&self) -> Option<(String, String)> {
        Some((self.metadata.namespace.clone(), Slice::service(self)?.to_owned()))
    }

    fn taken(raw: &str, of: Option<&(String, String)>, to: &Followers) {
        let headless = |(namespace, name): &(String, String)| to.state.zone.read().index.service(namespace, name).is_some_and(Service::is_headless);
        if of.is_some_and(headless)
            && let Some(took) = programming::since(raw, SystemTime::now())
        {
            METRICS.programmed(took);
        }
    }
}

impl Watched for NamingPolicy {
    const PATH: &'static str = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies";
    const IN_ZONE: bool = false;
    const DEFINITION: Option<&'static str> = Some(POLICIES_DEFINED);

    fn revision(&self) -> &str {
        &self.metadata.resource_version
    }

    fn add(self, to: &Followers) {
        to.domains.set_policy(self);
    }

    fn remove(meta: &Meta, to: &Followers) {
        to.domains.remove_policy(&meta.name);
    }

    fn replace(all: Vec<Self>, to: &Followers) {
        to.domains.replace_policies(all);
    }
}

impl Watched for AddressSlice {
    // In `troupe_net::dns::domain_names::NAMESPACE`.
    const PATH: &'static str = "/apis/discovery.k8s.io/v1/namespaces/troupe-domain-names/endpointslices";
    const IN_ZONE: bool = false;

    fn revision(&self) -> &str {
        &self.metadata.resource_version
    }

    fn add(self, to: &Followers) {
        to.domains.set_slice(self);
    }

    fn remove(meta: &Meta, to: &Followers) {
        to.domains.remove_slice(&meta.name);
    }

    fn replace(all: Vec<Self>, to: &Followers) {
        to.domains.replace_slices(all);
    }
}

impl Watched for ClusterNode {
    const PATH: &'static str = "/api/v1/nodes";
    const IN_ZONE: bool = false;

    fn revision(&self) -> &str {
        &self.metadata.resource_version
    }

    fn add(self, to: &Followers) {
        to.domains.set_cluster(Source::new(SourceKind::Node, self.metadata.name.as_str()), self.told());
    }

    fn remove(meta: &Meta, to: &Followers) {
        to.domains.set_cluster(Source::new(SourceKind::Node, meta.name.as_str()), NOTHING);
    }

    fn replace(all: Vec<Self>, to: &Followers) {
        to.domains.replace_cluster(SourceKind::Node, all.into_iter().map(|node| (node.metadata.name.clone(), node.told())));
    }
}

impl Watched for ServiceRange {
    const PATH: &'static str = "/apis/networking.k8s.io/v1/servicecidrs";
    const IN_ZONE: bool = false;

    fn revision(&self) -> &str {
        &self.metadata.resource_version
    }

    fn add(self, to: &Followers) {
        to.domains.set_cluster(Source::new(SourceKind::ServiceRange, self.metadata.name.as_str()), self.told());
    }

    fn remove(meta: &Meta, to: &Followers) {
        to.domains.set_cluster(Source::new(SourceKind::ServiceRange, meta.name.as_str()), NOTHING);
    }

    fn replace(all: Vec<Self>, to: &Followers) {
        to.domains.replace_cluster(SourceKind::ServiceRange, all.into_iter().map(|range| (range.metadata.name.clone(), range.told())));
    }
}

/// One line of a watch.
#[derive(Deserialize)]
struct Event<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// Only the metadata of an object, all that a bookmark has.
#[derive(Deserialize)]
struct MetaOnly {
    metadata: Meta,
}

/// An object of a list; nothing where it is none of its kind: one that nobody can read must not take the names of all others along.
struct Item<K>(Option<K>);

impl<'de, K: Watched> Deserialize<'de> for Item<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Item(serde_json::from_str(raw.get()).inspect_err(|error| unreadable::<K>(error)).ok()))
    }
}

fn unreadable<K: Watched>(error: &serde_json::Error) {
    eprintln!("an object of {} cannot be read and is left out: {error}", K::PATH);
}

/// Starts following every kind.
pub fn spawn_all(api: &Api, followers: &Followers) {
    tokio::spawn(follow::<Namespace>(api.clone(), followers.clone()));
    tokio::spawn(follow::<Service>(api.clone(), followers.clone()));
    tokio::spawn(follow::<Slice>(api.clone(), followers.clone()));
    tokio::spawn(follow::<NamingPolicy>(api.clone(), followers.clone()));
    tokio::spawn(follow_addresses(api.clone(), followers.clone()));
}

/// Follows what domain names lead to, and where they must not, while policies have any: in most clusters none does, and nobody watches anything for it.
async fn follow_addresses(api: Api, followers: Followers) {
    loop {
        followers.domains.naming_is(true).await;
        tokio::select! {
            biased;
            () = followers.domains.naming_is(false) => {}
            () = follow::<AddressSlice>(api.clone(), followers.clone()) => {}
            () = follow::<ClusterNode>(api.clone(), followers.clone()) => {}
            () = follow::<ServiceRange>(api.clone(), followers.clone()) => {}
        }
        followers.domains.replace_slices(Vec::new());
    }
}

async fn follow<K: Watched>(api: Api, followers: Followers) {
    let (mut listed, mut pause) = (!K::IN_ZONE, MIN_PAUSE);
    loop {
        match api.list::<Item<K>>(K::PATH).await {
            Ok(list) => {
                let items: Vec<K> = list.items.into_iter().filter_map(|Item(object)| object).collect();
                K::replace(items, &followers);
                if !std::mem::replace(&mut listed, true) {
                    followers.state.mark_listed();
                }
                pause = MIN_PAUSE;
                let mut revision = list.metadata.resource_version;
                // Answers stay those of the last version seen until the API server is back.
                while let Err(error) = watch::<K>(&api, &followers, &mut revision, &mut pause).await {
                    eprintln!("watching {}: {error:#}", K::PATH);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                    if revision.is_empty() {
                        break;
                    }
                }
            }
            // Nobody defines the kind, or nobody lets us see it: it may be so for ever.
            Err(error) if !K::IN_ZONE && is_absent(&error) => {
                K::replace(Vec::new(), &followers);
                await_kind::<K>(&api).await;
            }
            Err(error) => {
                eprintln!("listing {}: {error:#}", K::PATH);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
}

/// Waits until a kind may be served: every node's server asks, so that nobody asks often for what nobody may ever define.
async fn await_kind<K: Watched>(api: &Api) {
    if let Some(path) = K::DEFINITION {
        match definition_changes(api, path).await {
            Ok(()) => return tokio::time::sleep(MIN_PAUSE).await,
            Err(error) if is_absent(&error) => {}
            Err(error) => eprintln!("watching {path}: {error:#}"),
        }
    }
    tokio::time::sleep(MAX_PAUSE).await;
}

/// Resolves when a definition appears or changes, when the server ends the watch of it, and soon where it is there: it may be about to be served.
///
/// # Errors
/// What keeps from looking.
pub async fn definition_changes(api: &Api, path: &str) -> anyhow::Result<()> {
    let known = api.list::<IgnoredAny>(path).await?;
    let mut lines = api.watch(path, &known.metadata.resource_version).await?;
    let changes = async {
        while let Some(line) = lines.next().await? {
            let event: Event<'_> = serde_json::from_slice(&line)?;
            if event.r#type != "BOOKMARK" {
                break;
            }
        }
        anyhow::Ok(())
    };
    if known.items.is_empty() { changes.await } else { timeout(MAX_PAUSE, changes).await.unwrap_or(Ok(())) }
}

fn is_absent(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| matches!(refused.status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN))
}

/// Follows changes after `revision`, for as long as the server lets us resume. An empty `revision` afterwards says: list again.
async fn watch<K: Watched>(api: &Api, followers: &Followers, revision: &mut String, pause: &mut Duration) -> anyhow::Result<()> {
    loop {
        let mut lines = api.watch(K::PATH, revision).await.inspect_err(|error| {
            let status = error.downcast_ref::<Refused>().map(|refused| refused.status);
            if status == Some(StatusCode::GONE) || !K::IN_ZONE && is_absent(error) {
                revision.clear();
            }
        })?;
        while let Some(line) = lines.next().await? {
            let event: Event<'_> = serde_json::from_slice(&line)?;
            if event.r#type == "ERROR" {
                revision.clear();
                bail!("{}", event.object.get());
            }
            *pause = MIN_PAUSE;
            *revision = apply::<K>(&event, followers)?;
        }
    }
}

/// Takes one event in; returns its revision.
fn apply<K: Watched>(event: &Event<'_>, followers: &Followers) -> serde_json::Result<String> {
    match event.r#type {
        "ADDED" | "MODIFIED" => {
            let object: K = match serde_json::from_str(event.object.get()) {
                Ok(object) => object,
                Err(error) => {
                    unreadable::<K>(&error);
                    let MetaOnly { metadata } = serde_json::from_str(event.object.get())?;
                    return Ok(metadata.resource_version);
                }
            };
            let revision = object.revision().to_owned();
            let service = object.service();
            object.add(followers);
            K::taken(event.object.get(), service.as_ref(), followers);
            Ok(revision)
        }
        kind => {
            let MetaOnly { metadata } = serde_json::from_str(event.object.get())?;
            if kind == "DELETED" {
                K::remove(&metadata, followers);
            }
            Ok(metadata.resource_version)
        }
    }
}
