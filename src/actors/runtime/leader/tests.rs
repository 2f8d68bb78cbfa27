//! Two contenders over one API server, in paused time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::coordination::v1::Lease;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;
use troupe_api::{
    ApiCall, ApiReply, ApiService, Status,
    meta::Cause,
    resources::Registry,
    service::{PatchType, Target, UserInfo, WatchOptions, WatchStream},
};
use troupe_api_client::Client;
use troupe_api_server::store::memory::MemoryStore;

use super::{Candidacy, Candidate, Release, Terms, run};
use crate::{
    apiserver::{
        ApiServerOptions,
        testing::{TestApi, boot_with},
    },
    runtime::{
        host::UnitAddr,
        system::{System, SystemOptions},
    },
    simulation::{SimulatedClock, simulate},
};

/// An API service that can be cut off: then calls wait for ever.
struct Cuttable {
    inner: Arc<dyn ApiService>,
    cut: AtomicBool,
}

impl ApiService for Cuttable {
    fn call(&self, call: ApiCall) -> BoxFuture<'static, Result<ApiReply, Status>> {
        if self.cut.load(SeqCst) { std::future::pending().boxed() } else { self.inner.call(call) }
    }

    fn watch(&self, user: Arc<UserInfo>, target: Target, options: WatchOptions, cause: Cause) -> BoxFuture<'static, Result<WatchStream, Status>> {
        self.inner.watch(user, target, options, cause)
    }

    fn registry(&self) -> Arc<Registry> {
        self.inner.registry()
    }
}

/// A process that stands for the lease. Its subtree writes its name into a ConfigMap ten times a second, and goes on
/// trying even when it was stopped, as a unit that does not hear does.
struct Contender {
    system: System,
    unit: UnitAddr<Candidate>,
    link: Arc<Cuttable>,
    starts: Arc<AtomicUsize>,
    stops: Arc<AtomicUsize>,
}

/// Who wrote when, as far as the API server took it.
type Writes = Arc<Mutex<Vec<(&'static str, Instant)>>>;

fn contender(api: &TestApi, name: &'static str, writes: &Writes) -> Contender {
    let system = System::new(SystemOptions::local(7, Arc::new(SimulatedClock::default()))).expect("no threads are started");
    let link = Arc::new(Cuttable { inner: api.server.clone(), cut: AtomicBool::new(false) });
    let (starts, stops) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (user, written, begun, ended) = (api.user.clone(), writes.clone(), starts.clone(), stops.clone());
    let start = move |service: Arc<dyn ApiService>| {
        begun.fetch_add(1, SeqCst);
        let (client, written, ended) = (Client::new(service, user.clone(), name), written.clone(), ended.clone());
        tokio::task::spawn_local(async move {
            loop {
                let api = client.namespaced::<k8s_openapi::api::core::v1::ConfigMap>("default");
                if api.patch("ledger", "", PatchType::Merge, &json!({"data": {"writer": name}})).await.is_ok() {
                    written.lock().push((name, Instant::now()));
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let stop: super::Stop = Box::new(move || {
            ended.fetch_add(1, SeqCst);
        });
        stop
    };
    let candidacy = Candidacy {
        lease: "kube-scheduler",
        event_source: "default-scheduler",
        identity: name.into(),
        terms: Terms::default(),
        coordinated: None,
        client: Client::new(link.clone(), api.user.clone(), name),
        // Only the way to the lease is cut: what the subtree sends would arrive.
        service: api.server.clone(),
        start: Arc::new(start),
    };
    Contender { unit: run(&system, candidacy), system, link, starts, stops }
}

async fn world(system: &System) -> (TestApi, Writes) {
    let options = ApiServerOptions { system: system.clone(), clock: system.clock().clone(), ..ApiServerOptions::new(Arc::new(MemoryStore::new())) };
    let api = boot_with(options).await;
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ledger", "namespace": "default"}})).await;
    (api, Writes::default())
}

async fn lease(api: &TestApi) -> Arc<Lease> {
    api.client.namespaced::<Lease>("kube-system").get("kube-scheduler").await.expect("there")
}

async fn holder(api: &TestApi) -> String {
    lease(api).await.spec.clone().unwrap_or_default().holder_identity.unwrap_or_default()
}

async fn events(api: &TestApi) -> Vec<String> {
    let events = api.client.namespaced::<k8s_openapi::api::core::v1::Event>("kube-system").list(Default::default()).await.expect("listed");
    events.items.iter().filter(|event| event.reason.as_deref() == Some("LeaderElection")).filter_map(|event| event.message.clone()).collect()
}

async fn wait_for_writer(writes: &Writes, name: &str) {
    while writes.lock().last().is_none_or(|(writer, _)| *writer != name) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn one_of_two_leads_and_the_other_takes_over_when_it_gives_up() {
    simulate(1, |system| async move {
        let (api, writes) = world(&system).await;
        let first = contender(&api, "first", &writes);
        wait_for_writer(&writes, "first").await;
        let second = contender(&api, "second", &writes);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((second.starts.load(SeqCst), holder(&api).await), (0, "first".to_owned()));
        let spec = lease(&api).await.spec.clone().unwrap_or_default();
        assert_eq!((spec.lease_duration_seconds, spec.lease_transitions), (Some(15), Some(0)));
        let begun = Instant::now();
        first.unit.ask(Release, Cause::default()).await.expect("answers");
        assert_eq!((holder(&api).await, first.stops.load(SeqCst)), (String::new(), 1));
        wait_for_writer(&writes, "second").await;
        assert!(begun.elapsed() < Duration::from_secs(5), "a lease that was given up need not run out");
        assert_eq!(lease(&api).await.spec.clone().unwrap_or_default().lease_transitions, Some(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(first.starts.load(SeqCst), 1, "who released stands no more");
        let mut told = events(&api).await;
        told.sort();
        assert_eq!(told, ["first became leader", "first stopped leading", "second became leader"]);
        drop(first.system);
    });
}

#[test]
fn a_leader_that_cannot_renew_writes_nothing_after_the_deadline() {
    simulate(2, |system| async move {
        let (api, writes) = world(&system).await;
        let first = contender(&api, "first", &writes);
        wait_for_writer(&writes, "first").await;
        let second = contender(&api, "second", &writes);
        tokio::time::sleep(Duration::from_secs(20)).await;
        let cut = Instant::now();
        first.link.cut.store(true, SeqCst);
        wait_for_writer(&writes, "second").await;
        assert!(cut.elapsed() < Duration::from_secs(25), "taken over after the lease ran out: {:?}", cut.elapsed());
        let last = writes.lock().iter().filter(|(writer, _)| *writer == "first").map(|(_, at)| *at).max().expect("it wrote");
        assert!(last.saturating_duration_since(cut) <= Terms::default().renew, "it wrote until {:?} after the cut", last - cut);
        assert_eq!(first.stops.load(SeqCst), 1);
        tokio::time::sleep(Duration::from_secs(120)).await;
        let strangers = writes.lock().iter().filter(|(writer, at)| *writer == "first" && *at > last).count();
        assert_eq!(strangers, 0, "its units still try, and nothing leaves");
        first.link.cut.store(false, SeqCst);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((first.starts.load(SeqCst), holder(&api).await), (1, "second".to_owned()), "back, it waits for its turn");
        second.unit.ask(Release, Cause::default()).await.expect("answers");
        wait_for_writer(&writes, "first").await;
        assert_eq!(lease(&api).await.spec.clone().unwrap_or_default().lease_transitions, Some(2));
    });
}

#[test]
fn a_restart_under_the_same_identity_goes_on_at_once() {
    simulate(3, |system| async move {
        let (api, writes) = world(&system).await;
        let first = contender(&api, "first", &writes);
        wait_for_writer(&writes, "first").await;
        first.system.stop("leader/kube-scheduler");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(first.stops.load(SeqCst), 1, "a candidate that ends takes its subtree along");
        writes.lock().clear();
        let begun = Instant::now();
        contender(&api, "first", &writes);
        wait_for_writer(&writes, "first").await;
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert_eq!(lease(&api).await.spec.clone().unwrap_or_default().lease_transitions, Some(0));
    });
}
