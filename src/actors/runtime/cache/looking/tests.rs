//! Caches on an API server whose watches can be held back, in time that is not waited for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};
use troupe_api::{
    ApiCall, ApiReply, ApiService, Status,
    meta::{Cause, GroupResource, LabelSelector, ObjectKey},
    metrics::{parse::Samples, render},
    resources::Registry,
    service::{Announced, Target, UserInfo, WatchOptions, WatchStream},
};
use troupe_api_client::Client;
use troupe_api_server::store::memory::MemoryStore;

use crate::{
    apiserver::{
        ApiServerOptions,
        testing::{TestApi, boot_with, eventually},
    },
    runtime::{
        cache::{Cache, Caches},
        metrics::CacheMetrics,
        system::{System, SystemOptions},
    },
    simulation::{simulate, simulate_with_clock},
};

/// A service whose first watches can be held back: they bring nothing more, and do not end.
struct Withholding {
    inner: Arc<dyn ApiService>,
    begun: AtomicUsize,
    /// So many watches, from the first on, are held back.
    withheld: watch::Sender<usize>,
}

impl Withholding {
    /// Holds back all watches that have begun by now.
    fn withhold(&self) {
        self.withheld.send_replace(self.begun.load(SeqCst));
    }
}

impl ApiService for Withholding {
    fn call(&self, call: ApiCall) -> BoxFuture<'static, Result<ApiReply, Status>> {
        self.inner.call(call)
    }

    fn watch(&self, user: Arc<UserInfo>, target: Target, options: WatchOptions, cause: Cause) -> BoxFuture<'static, Result<WatchStream, Status>> {
        let number = self.begun.fetch_add(1, SeqCst) + 1;
        let (watch, mut withheld) = (self.inner.watch(user, target, options, cause), self.withheld.subscribe());
        async move {
            let silent = async move {
                assert!(withheld.wait_for(|withheld| *withheld >= number).await.is_ok(), "the sender lives");
            };
            Ok(watch.await?.take_until(Box::pin(silent)).chain(stream::pending()).boxed())
        }
        .boxed()
    }

    fn announced(&self, resources: Vec<GroupResource>) -> BoxFuture<'static, Announced> {
        self.inner.announced(resources)
    }

    fn registry(&self) -> Arc<Registry> {
        self.inner.registry()
    }
}

/// A server on a store.
async fn server(system: &System, store: &Arc<MemoryStore>) -> TestApi {
    boot_with(ApiServerOptions { system: system.clone(), clock: system.clock().clone(), ..ApiServerOptions::new(store.clone()) }).await
}

/// Caches that read through the service.
async fn stage(system: &System) -> (TestApi, Arc<Withholding>, Caches) {
    let api = server(system, &Arc::new(MemoryStore::new())).await;
    let service = Arc::new(Withholding { inner: api.server.clone(), begun: AtomicUsize::new(0), withheld: watch::Sender::new(0) });
    let client = Client::new(service.clone(), api.user.clone(), "test");
    let caches = Caches::new(system.clone(), client);
    (api, service, caches)
}

async fn config_map(api: &TestApi, name: &str) {
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}})).await;
}

/// What the directory says of the cache at a path.
async fn listed(system: &System, path: &str) -> Value {
    let all = system.directory().observe(Duration::from_secs(1)).await;
    all.into_iter().find(|actor| &*actor.path == path).expect("it is listed").status
}

fn metric(system: &System, name: &str, path: &str) -> Option<f64> {
    let text = render(&[&CacheMetrics(system.clone())]);
    Samples::parse(std::str::from_utf8(&text).expect("text")).expect("parses").value(name, &[("cache", path)])
}

fn seconds(status: &Value) -> f64 {
    status["lagSeconds"].as_f64().expect("a number")
}

#[test]
fn a_watch_that_is_held_back_is_told_of_after_a_second_and_replaced_within_ten() {
    simulate(1, held_back);
}

async fn held_back(system: System) {
    const MAPS: &str = "caches/ConfigMap";
    let (api, service, caches) = stage(&system).await;
    let (maps, secrets): (Cache<ConfigMap>, Cache<Secret>) = (caches.cache(), caches.cache());
    maps.synced().await;
    secrets.synced().await;
    service.withhold();
    config_map(&api, "missed").await;
    let begun = Instant::now();
    let numbers = || maps.freshness().numbers(system.instant());
    eventually("it complains", async || numbers().episodes == 1).await;
    // A second until the watches are told, a second until that is asked for, and the second that it may be late.
    assert!(begun.elapsed() <= Duration::from_secs(4), "it took {:?}", begun.elapsed());
    assert!(seconds(&listed(&system, MAPS).await) >= 1.0);
    assert!(metric(&system, "troupe_cache_lag_seconds", MAPS).is_some_and(|lag| lag >= 1.0));
    assert_eq!(metric(&system, "troupe_cache_lag_episodes_total", MAPS), Some(1.0));
    let missed = ObjectKey::new("default", "missed");
    eventually("another watch brings it", async || maps.contains(&missed)).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
    eventually("it has caught up", async || numbers().behind.is_zero()).await;
    let status = listed(&system, MAPS).await;
    assert_eq!((&status["lagEpisodes"], &status["replacedWatches"]), (&json!(1), &json!(1)));
    assert_eq!(metric(&system, "troupe_cache_watch_replacements_total", MAPS), Some(1.0));
    // Nothing happened of which the other one, held back as well, would have to know.
    let quiet = listed(&system, "caches/Secret").await;
    assert_eq!((&quiet["lagEpisodes"], &quiet["replacedWatches"]), (&json!(0), &json!(0)));
}

#[test]
fn a_quiet_cache_and_one_that_selects_nothing_of_what_happens_never_complain() {
    simulate(1, quiet);
}

async fn quiet(system: System) {
    let (api, _service, caches) = stage(&system).await;
    let labels = LabelSelector::parse("team=none").expect("labels");
    let selected: Cache<ConfigMap> = caches.selected("-of-nobody", WatchOptions { labels, ..WatchOptions::default() });
    let secrets: Cache<Secret> = caches.cache();
    selected.synced().await;
    secrets.synced().await;
    for at in 0..20 {
        config_map(&api, &format!("m{at}")).await;
        tokio::time::sleep(Duration::from_millis(1700)).await;
    }
    let newest = api.server.listers().version(&GroupResource::new("", "configmaps")).expect("it is counted");
    assert!(selected.wait_for(newest, Duration::from_secs(2)).await, "a bookmark says how far it is");
    for path in ["caches/ConfigMap-of-nobody", "caches/Secret"] {
        let status = listed(&system, path).await;
        assert_eq!((&status["lagEpisodes"], &status["replacedWatches"], seconds(&status)), (&json!(0), &json!(0), 0.0), "{path}");
    }
}

/// Several servers of one store, one at a time.
struct Servers {
    /// Where watches begin. Those at another one end.
    watched: watch::Sender<Arc<dyn ApiService>>,
    /// Who is asked what watches were told.
    asked: Mutex<Arc<dyn ApiService>>,
}

impl ApiService for Servers {
    fn call(&self, call: ApiCall) -> BoxFuture<'static, Result<ApiReply, Status>> {
        self.watched.borrow().call(call)
    }

    fn watch(&self, user: Arc<UserInfo>, target: Target, options: WatchOptions, cause: Cause) -> BoxFuture<'static, Result<WatchStream, Status>> {
        let mut watched = self.watched.subscribe();
        let watch = watched.borrow_and_update().watch(user, target, options, cause);
        async move {
            let moved = async move {
                assert!(watched.changed().await.is_ok(), "the sender lives");
            };
            Ok(watch.await?.take_until(Box::pin(moved)).boxed())
        }
        .boxed()
    }

    fn announced(&self, resources: Vec<GroupResource>) -> BoxFuture<'static, Announced> {
        self.asked.lock().announced(resources)
    }

    fn registry(&self) -> Arc<Registry> {
        self.watched.borrow().registry()
    }
}

#[test]
fn caches_go_on_at_a_server_that_started_later_and_nothing_is_stuck() {
    simulate_with_clock(1, |system, clock| async move {
        let other = System::new(SystemOptions::local(2, clock)).expect("no threads are started");
        another_server(system, other).await;
    });
}

async fn another_server(system: System, other: System) {
    let store = Arc::new(MemoryStore::new());
    let first = server(&system, &store).await;
    let service: Arc<dyn ApiService> = first.server.clone();
    let servers = Arc::new(Servers { watched: watch::Sender::new(service.clone()), asked: Mutex::new(service) });
    let caches = Caches::new(system.clone(), Client::new(servers.clone(), first.user.clone(), "test"));
    let (maps, secrets): (Cache<ConfigMap>, Cache<Secret>) = (caches.cache(), caches.cache());
    maps.synced().await;
    secrets.synced().await;
    let undisturbed = async |when: &str| {
        for path in ["caches/ConfigMap", "caches/Secret"] {
            let status = listed(&system, path).await;
            assert_eq!((&status["lagEpisodes"], &status["replacedWatches"]), (&json!(0), &json!(0)), "{path} {when}");
        }
    };
    for at in 0..5 {
        config_map(&first, &format!("m{at}")).await;
    }
    // The revision of its load is newer than all that the quiet one was told of, and it has watches of its own to tell.
    let second = server(&other, &store).await;
    let there = Caches::new(other.clone(), second.client.clone());
    let (there_maps, there_secrets): (Cache<ConfigMap>, Cache<Secret>) = (there.cache(), there.cache());
    there_maps.synced().await;
    there_secrets.synced().await;
    *servers.asked.lock() = second.server.clone();
    tokio::time::sleep(Duration::from_secs(30)).await;
    undisturbed("while another server is asked").await;

    servers.watched.send_replace(second.server.clone());
    tokio::time::sleep(Duration::from_secs(30)).await;
    undisturbed("after the first server went away").await;
    let begun = Instant::now();
    second.create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "news", "namespace": "default"}})).await;
    eventually("the quiet one hears of it", async || secrets.contains(&ObjectKey::new("default", "news"))).await;
    assert!(begun.elapsed() <= Duration::from_secs(1), "it took {:?}", begun.elapsed());
}
