//! Keeps the zone, and what is known of domain names, in step with the API: list once, then watch, list again when the watch cannot go on.

pub mod kinds;

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use hyper::StatusCode;
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::value::RawValue;
use tokio::time::timeout;
use troupe_net::dns::view::{Meta, Namespace, Service, Slice};

use self::kinds::Watched;
use crate::{
    api::{Api, Refused},
    domains::{AddressSlice, ClusterNode, Domains, NamingPolicy, ServiceRange},
    state::State,
};

const MIN_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Who is told of objects.
#[derive(Clone, Debug)]
pub struct Followers {
    pub state: Arc<State>,
    pub domains: Arc<Domains>,
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
        followers.domains.follow_no_more();
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
            Err(error) if !K::IN_ZONE && is_absent::<K>(&error) => {
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
            Err(error) if is_absent::<K>(&error) => {}
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

/// Whether there are no objects of a kind, as far as we may know. What keeps names from leading into the cluster is not taken for absent only
/// because nobody lets us see it.
fn is_absent<K: Watched>(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| match refused.status {
        StatusCode::NOT_FOUND => true,
        StatusCode::FORBIDDEN => !K::GUARDS,
        _ => false,
    })
}

/// Follows changes after `revision`, for as long as the server lets us resume. An empty `revision` afterwards says: list again.
async fn watch<K: Watched>(api: &Api, followers: &Followers, revision: &mut String, pause: &mut Duration) -> anyhow::Result<()> {
    loop {
        let mut lines = api.watch(K::PATH, revision).await.inspect_err(|error| {
            let status = error.downcast_ref::<Refused>().map(|refused| refused.status);
            if status == Some(StatusCode::GONE) || !K::IN_ZONE && is_absent::<K>(error) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_guards_the_cluster_is_not_absent_where_nobody_may_see_it() {
        let refused = |status: StatusCode| anyhow::Error::new(Refused { path: "/x".into(), status });
        let absent = |status: StatusCode| (is_absent::<NamingPolicy>(&refused(status)), is_absent::<ClusterNode>(&refused(status)));
        assert_eq!(absent(StatusCode::NOT_FOUND), (true, true));
        assert_eq!(absent(StatusCode::FORBIDDEN), (true, false));
        assert_eq!(absent(StatusCode::SERVICE_UNAVAILABLE), (false, false));
        assert!(!is_absent::<ServiceRange>(&refused(StatusCode::FORBIDDEN)));
    }
}
