//! Keeps the zone in step with the API: list once, then watch, list again when the watch cannot go on.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::value::RawValue;
use troupe_net::dns::{
    Index,
    view::{Meta, Namespace, Service, Slice},
};

use crate::{api::Api, state::State};

const MIN_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// A kind of object that names follow from.
trait Watched: DeserializeOwned + Send + 'static {
    const PATH: &'static str;
    fn meta(&self) -> &Meta;
    fn add(self, index: &mut Index);
    fn remove(meta: &Meta, index: &mut Index);
    fn replace(all: Vec<Self>, index: &mut Index);
}

impl Watched for Namespace {
    const PATH: &'static str = "/api/v1/namespaces";

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn add(self, index: &mut Index) {
        index.add_namespace(self.metadata.name);
    }

    fn remove(meta: &Meta, index: &mut Index) {
        index.remove_namespace(&meta.name);
    }

    fn replace(all: Vec<Self>, index: &mut Index) {
        index.replace_namespaces(all.into_iter().map(|namespace| namespace.metadata.name));
    }
}

impl Watched for Service {
    const PATH: &'static str = "/api/v1/services";

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn add(self, index: &mut Index) {
        index.add_service(self);
    }

    fn remove(meta: &Meta, index: &mut Index) {
        index.remove_service(&meta.namespace, &meta.name);
    }

    fn replace(all: Vec<Self>, index: &mut Index) {
        index.replace_services(all);
    }
}

impl Watched for Slice {
    const PATH: &'static str = "/apis/discovery.k8s.io/v1/endpointslices";

    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn add(self, index: &mut Index) {
        index.add_slice(self);
    }

    fn remove(meta: &Meta, index: &mut Index) {
        index.remove_slice(&meta.namespace, &meta.name);
    }

    fn replace(all: Vec<Self>, index: &mut Index) {
        index.replace_slices(all);
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
pub fn spawn_all(api: &Api, state: &Arc<State>) {
    tokio::spawn(follow::<Namespace>(api.clone(), state.clone()));
    tokio::spawn(follow::<Service>(api.clone(), state.clone()));
    tokio::spawn(follow::<Slice>(api.clone(), state.clone()));
}

async fn follow<K: Watched>(api: Api, state: Arc<State>) {
    let (mut listed, mut pause) = (false, MIN_PAUSE);
    loop {
        match api.list::<Item<K>>(K::PATH).await {
            Ok(list) => {
                let items: Vec<K> = list.items.into_iter().filter_map(|Item(object)| object).collect();
                state.change(|index| K::replace(items, index));
                if !std::mem::replace(&mut listed, true) {
                    state.mark_listed();
                }
                pause = MIN_PAUSE;
                let mut revision = list.metadata.resource_version;
                // Answers stay those of the last version seen until the API server is back.
                while let Err(error) = watch::<K>(&api, &state, &mut revision, &mut pause).await {
                    eprintln!("watching {}: {error:#}", K::PATH);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                    if revision.is_empty() {
                        break;
                    }
                }
            }
            Err(error) => {
                eprintln!("listing {}: {error:#}", K::PATH);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
}

/// Follows changes after `revision`, for as long as the server lets us resume. An empty `revision` afterwards says: list again.
async fn watch<K: Watched>(api: &Api, state: &State, revision: &mut String, pause: &mut Duration) -> anyhow::Result<()> {
    loop {
        let mut lines = api.watch(K::PATH, revision).await.inspect_err(|error| {
            if error.to_string().contains("410") {
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
            *revision = apply::<K>(&event, state)?;
        }
    }
}

/// Takes one event in; returns its revision.
fn apply<K: Watched>(event: &Event<'_>, state: &State) -> serde_json::Result<String> {
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
            let revision = object.meta().resource_version.clone();
            state.change(|index| object.add(index));
            Ok(revision)
        }
        kind => {
            let MetaOnly { metadata } = serde_json::from_str(event.object.get())?;
            if kind == "DELETED" {
                state.change(|index| K::remove(&metadata, index));
            }
            Ok(metadata.resource_version)
        }
    }
}
