//! Leases are renewed whatever else there is to do, and what was begun under a mandate ends with it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use k8s_openapi::api::{
    coordination::v1::{Lease, LeaseSpec},
    core::v1::ConfigMap,
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;
use troupe_api::{ApiService, meta::ObjectKey};
use troupe_api_client::Client;
use troupe_api_server::store::memory::MemoryStore;

use super::{Candidacy, Terms, mandate::Mandate, run};
use crate::{
    apiserver::{
        ApiServerOptions,
        testing::{TestApi, boot_with},
    },
    runtime::{
        cache::Caches,
        controller::{self, Controller, Outcome, ReconcileContext, ReconcileError, Watches},
        host::{Unit, UnitContext},
        placement::ArbiterGroup,
        system::{System, SystemOptions},
        unit::Policy,
    },
    simulation::simulate,
};

/// Holds up its arbiter from its start until the other end of its channel is gone.
struct Blocker(Arc<Mutex<mpsc::Receiver<()>>>);

impl Unit for Blocker {
    fn started(&mut self, _cx: &mut UnitContext<'_, Self>) {
        self.0.lock().recv().expect_err("nobody sends");
    }
}

#[actix::test]
async fn leases_are_renewed_though_every_other_arbiter_is_held_up() {
    let system = System::new(SystemOptions { arbiters: 1, ..SystemOptions::default() }).expect("threads start");
    let options = ApiServerOptions { system: system.clone(), ..ApiServerOptions::new(Arc::new(MemoryStore::new())) };
    let api = boot_with(options).await;
    let gates: Vec<mpsc::Sender<()>> = [ArbiterGroup::Workers, ArbiterGroup::Serving].into_iter().map(|group| hold_up(&system, group)).collect();
    let candidacy = Candidacy {
        lease: "kube-scheduler",
        event_source: "default-scheduler",
        identity: "only".into(),
        terms: Terms { lease: Duration::from_secs(15), renew: Duration::from_secs(10), retry: Duration::from_millis(20) },
        coordinated: None,
        client: Client::new(api.server.clone(), api.user.clone(), "only"),
        service: api.server.clone(),
        start: Arc::new(|_| Box::new(|| {})),
    };
    run(&system, candidacy);
    let mut renewals = Vec::new();
    let renewed = async {
        while renewals.len() < 5 {
            if let Ok(Some(lease)) = api.client.namespaced::<Lease>("kube-system").get_opt("kube-scheduler").await {
                let LeaseSpec { renew_time, .. } = lease.spec.clone().unwrap_or_default();
                if renewals.last() != Some(&renew_time) {
                    renewals.push(renew_time);
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let outcome = tokio::time::timeout(Duration::from_secs(30), renewed).await;
    drop(gates);
    assert!(outcome.is_ok(), "renewed {} times while others are held up", renewals.len());
}

fn hold_up(system: &System, group: ArbiterGroup) -> mpsc::Sender<()> {
    let (gate, closed) = mpsc::channel();
    let closed = Arc::new(Mutex::new(closed));
    let policy = Policy { group, ..Policy::default() };
    system.spawn(format!("blocker/{group:?}"), policy, move |_| Blocker(closed.clone()));
    gate
}

/// Reconciles one key for ever, and fails on all others.
struct Stubborn {
    tries: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

struct CountsDrops(Arc<AtomicUsize>);

impl Drop for CountsDrops {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Controller for Stubborn {
    const NAME: &'static str = "stubborn";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<ConfigMap>();
    }

    async fn reconcile(&self, key: &ObjectKey, _cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        self.tries.fetch_add(1, SeqCst);
        if &*key.name == "endless" {
            let _counts = CountsDrops(self.dropped.clone());
            std::future::pending::<()>().await;
        }
        Err(ReconcileError::Other("as ever".into()))
    }
}

async fn make(api: &TestApi, name: &str) {
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}})).await;
}

#[test]
fn work_under_a_mandate_that_ended_is_dropped_and_not_tried_again() {
    simulate(1, |system| async move {
        let options =
            ApiServerOptions { system: system.clone(), clock: system.clock().clone(), ..ApiServerOptions::new(Arc::new(MemoryStore::new())) };
        let api = boot_with(options).await;
        make(&api, "endless").await;
        make(&api, "failing").await;
        let mandate = Mandate::new(Instant::now() + Duration::from_secs(10));
        let service: Arc<dyn ApiService> = mandate.service(api.server.clone());
        let (tries, dropped) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let stubborn = Stubborn { tries: tries.clone(), dropped: dropped.clone() };
        let caches = Caches::new(system.clone(), api.client.clone());
        let client = Client::new(service.clone(), api.user.clone(), "stubborn");
        controller::start(&system, &caches, client, stubborn);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(tries.load(SeqCst) > 5 && dropped.load(SeqCst) == 0 && !service.has_ended());
        assert!(mandate.extend(Instant::now() + Duration::from_secs(10)));
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(dropped.load(SeqCst), 0);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(service.has_ended() && !mandate.extend(Instant::now() + Duration::from_secs(10)), "what has ended stays so");
        assert_eq!(dropped.load(SeqCst), 1, "what was in work is dropped");
        let before = tries.load(SeqCst);
        make(&api, "new").await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(tries.load(SeqCst), before, "nothing is tried again, and nothing new either");
    });
}
