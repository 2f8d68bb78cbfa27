//! How far the watch caches are behind the store, in time that is not waited for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use troupe_api::{
    meta::{GroupResource, ObjectKey},
    metrics::{parse::Samples, render},
};
use troupe_api_server::store::{Store, WatchMessage, memory::MemoryStore};

use super::hooked::{Hooked, Hooks};
use crate::{
    apiserver::{
        ApiServerOptions,
        testing::{TestApi, boot_with, eventually},
    },
    runtime::system::System,
    simulation::simulate,
};

const FEED: &str = "apiserver/store-feed";

/// Holds back the first watches: they bring nothing more, and do not end.
struct Silenced {
    begun: AtomicUsize,
    /// So many watches, from the first on, are silent.
    silent: watch::Sender<usize>,
}

impl Hooks for Silenced {
    fn watched(&self, messages: mpsc::Receiver<WatchMessage>) -> mpsc::Receiver<WatchMessage> {
        let (sender, receiver) = mpsc::channel(16);
        let number = self.begun.fetch_add(1, SeqCst) + 1;
        tokio::spawn(relay(messages, sender, self.silent.subscribe(), number));
        receiver
    }
}

async fn relay(mut from: mpsc::Receiver<WatchMessage>, to: mpsc::Sender<WatchMessage>, mut silent: watch::Receiver<usize>, number: usize) {
    loop {
        let message = tokio::select! {
            biased;
            _ = silent.wait_for(|silent| *silent >= number) => break,
            message = from.recv() => message,
        };
        let Some(message) = message else { return };
        if to.send(message).await.is_err() {
            return;
        }
    }
    to.closed().await;
}

/// What the directory says of the unit at a path.
async fn listed(system: &System, path: &str) -> Value {
    let all = system.directory().observe(Duration::from_secs(1)).await;
    all.into_iter().find(|actor| &*actor.path == path).expect("it lives").status
}

fn metric(api: &TestApi, name: &str) -> f64 {
    let text = render(&[&api.server.stored_objects()]);
    let samples = Samples::parse(std::str::from_utf8(&text).expect("text")).expect("parses");
    samples.value(name, &[("group", ""), ("resource", "configmaps")]).expect("it is told")
}

async fn stuck(system: System) {
    let hooks = Silenced { begun: AtomicUsize::new(0), silent: watch::Sender::new(0) };
    let store = Arc::new(Hooked { inner: MemoryStore::new(), hooks });
    let options = ApiServerOptions { system: system.clone(), clock: system.clock().clone(), ..ApiServerOptions::new(store.clone()) };
    let api = boot_with(options).await;
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "known", "namespace": "default"}})).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let quiet = listed(&system, FEED).await;
    assert_eq!((&quiet["lagEpisodes"], &quiet["replacedWatches"], metric(&api, "troupe_watch_cache_lag_seconds")), (&json!(0), &json!(0), 0.0));
    let watches = store.hooks.begun.load(SeqCst);
    store.hooks.silent.send_replace(watches);
    // As another server would, past this one's caches.
    let key = |name: &str| Bytes::from(format!("/registry/configmaps/default/{name}"));
    let (known, _) = store.inner.get(&key("known"), None).await.expect("reads");
    let value = String::from_utf8(known.expect("exists").value.to_vec()).expect("text").replace("known", "missed");
    let written = store.inner.create(key("missed"), value.into(), None).await.expect("creates");
    let begun = Instant::now();
    eventually("it complains", async || listed(&system, FEED).await["lagEpisodes"] == 1).await;
    assert!(begun.elapsed() <= Duration::from_secs(3), "it took {:?}", begun.elapsed());
    assert!(listed(&system, "apiserver/configmaps").await["lagSeconds"].as_f64() >= Some(1.0));
    assert!(metric(&api, "troupe_watch_cache_lag_seconds") >= 1.0);
    let (maps, missed) = (GroupResource::new("", "configmaps"), ObjectKey::new("default", "missed"));
    eventually("another watch brings it", async || api.server.listers().get(&maps, &missed).is_some()).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
    assert_eq!(store.hooks.begun.load(SeqCst), watches + 1, "it was replaced once");
    eventually("it has caught up", async || metric(&api, "troupe_watch_cache_lag_seconds") == 0.0).await;
    let feed = listed(&system, FEED).await;
    assert_eq!((&feed["lagEpisodes"], &feed["replacedWatches"], &feed["lagSeconds"]), (&json!(1), &json!(1), &json!(0.0)));
    assert_eq!(metric(&api, "apiserver_watch_cache_resource_version"), written.0 as f64);
}

#[test]
fn a_watch_on_the_store_that_is_stuck_is_told_of_after_a_second_and_replaced_within_ten() {
    simulate(1, stuck);
}
