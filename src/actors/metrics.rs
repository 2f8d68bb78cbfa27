//! The scrape of a control plane: everything that this process counts, on one page.

mod pod_resources;

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use troupe_api::{
    Status,
    auth::tokens,
    features,
    metrics::{BuildInfo, CONTENT_TYPE, Collect, Process, health, render},
    spans,
    stored::StoredObject,
    version::VersionInfo,
};
use troupe_api_server::{
    admission::{durations, match_metrics, pod_security, policies, webhook_metrics},
    audit, authentication, authorization, conversion, encryption, flow,
    http::{ExtraRoute, RawReply, monitor, options::RawHandler, streaming},
    store::{metered, size},
    token_signer,
};

use crate::{
    apiserver::{self, ApiServer},
    controllers::{
        cronjob, device_taint_eviction, endpointslice, job, managed, node_lifecycle, persistent_volume, podautoscaler, resourceclaim,
        trust_bundle_publisher,
    },
    kubelet, proxy,
    runtime::{
        cache::Caches,
        leader,
        metrics::{ActorMetrics, CacheMetrics},
        queue,
        system::System,
    },
    scheduler,
    storage::operations,
};

/// Gives all pods.
type Pods = Arc<dyn Fn() -> Vec<Arc<StoredObject>> + Send + Sync>;

/// What is read off living things at the time of a scrape.
#[derive(Clone)]
pub struct Sources {
    own: Arc<[Box<dyn Collect>]>,
    /// Where this process knows them.
    pods: Option<Pods>,
}

impl Sources {
    /// The actors of a process, and the objects of its API server.
    pub fn new(system: &System, api: Option<&ApiServer>, version: VersionInfo) -> Self {
        let (actors, caches) = (ActorMetrics(system.clone()), CacheMetrics(system.clone()));
        let mut own: Vec<Box<dyn Collect>> = vec![Box::new(BuildInfo(version)), Box::new(actors), Box::new(caches), Box::new(Process)];
        if let Some(api) = api {
            own.push(Box::new(api.stored_objects()));
        }
        let pods = api.map(|api| -> Pods {
            let stored = api.stored_objects();
            Arc::new(move || stored.pods())
        });
        Sources { own: own.into(), pods }
    }

    /// The same of a scheduler, which watches pods. The watch begins with the first question about them.
    pub fn with_pods(self, caches: Caches) -> Self {
        let pods: Pods = Arc::new(move || caches.cache::<Pod>().select_stored("", |_| true));
        Sources { pods: Some(pods), ..self }
    }

    /// What pods ask for; `None` where this process does not know them. It reads every pod, on a thread where nobody waits for another.
    pub async fn resources(&self) -> Option<Bytes> {
        let pods = self.pods.clone()?;
        tokio::task::spawn_blocking(move || pod_resources::page(&pods())).await.ok()
    }

    /// Everything that this process counts. Parts that do not run in it have no series.
    pub fn scrape(&self) -> Bytes {
        let mut collectors: Vec<&dyn Collect> = self.own.iter().map(|source| &**source).collect();
        collectors.extend(flow::COLLECTORS);
        collectors.extend(monitor::COLLECTORS);
        collectors.extend(streaming::COLLECTORS);
        collectors.extend(apiserver::cache::metrics::COLLECTORS);
        collectors.extend(apiserver::aggregation::metrics::COLLECTORS);
        collectors.extend(durations::COLLECTORS);
        collectors.extend(pod_security::COLLECTORS);
        collectors.extend(policies::metrics::COLLECTORS);
        collectors.extend(webhook_metrics::COLLECTORS);
        collectors.extend(match_metrics::COLLECTORS);
        collectors.extend(conversion::metrics::COLLECTORS);
        collectors.extend(audit::COLLECTORS);
        collectors.extend(authentication::COLLECTORS);
        collectors.extend(authorization::COLLECTORS);
        collectors.extend(tokens::COLLECTORS);
        collectors.extend(token_signer::COLLECTORS);
        collectors.extend(encryption::COLLECTORS);
        collectors.extend(features::COLLECTORS);
        collectors.extend(spans::COLLECTORS);
        collectors.extend(metered::COLLECTORS);
        collectors.extend(size::COLLECTORS);
        collectors.extend(queue::COLLECTORS);
        collectors.extend(leader::COLLECTORS);
        collectors.extend(resourceclaim::COLLECTORS);
        collectors.extend(trust_bundle_publisher::metrics::COLLECTORS);
        collectors.extend(device_taint_eviction::metrics::COLLECTORS);
        collectors.extend(job::metrics::COLLECTORS);
        collectors.extend(managed::COLLECTORS);
        collectors.extend(cronjob::metrics::COLLECTORS);
        collectors.extend(node_lifecycle::metrics::COLLECTORS);
        collectors.extend(persistent_volume::metrics::COLLECTORS);
        collectors.extend(podautoscaler::metrics::COLLECTORS);
        collectors.extend(endpointslice::metrics::COLLECTORS);
        collectors.extend(scheduler::metrics::COLLECTORS);
        collectors.extend(kubelet::device_metrics::COLLECTORS);
        collectors.extend(kubelet::pod_certificates::metrics::COLLECTORS);
        collectors.extend(kubelet::pod_resources::metrics::COLLECTORS);
        collectors.extend(kubelet::metrics::COLLECTORS);
        collectors.extend(operations::COLLECTORS);
        collectors.extend(proxy::metrics::COLLECTORS);
        collectors.extend(proxy::health::COLLECTORS);
        collectors.extend(troupe_api_client::COLLECTORS);
        render(&collectors)
    }

    /// `/metrics`, `/metrics/resources` and `/metrics/slis` of the front door; who may read them is a question of RBAC.
    pub fn routes(self) -> [ExtraRoute; 3] {
        let pods = self.clone();
        let handler: RawHandler = Arc::new(move |_| {
            let pods = pods.clone();
            let reply: BoxFuture<'static, Result<RawReply, Status>> = Box::pin(async move {
                let body = pods.resources().await.ok_or_else(Status::page_not_found)?;
                Ok(RawReply::new(CONTENT_TYPE, body))
            });
            reply
        });
        [
            ExtraRoute::document("/metrics", CONTENT_TYPE, move || self.scrape()),
            ExtraRoute { path: "/metrics/resources", handler, acts: false },
            ExtraRoute::document("/metrics/slis", CONTENT_TYPE, health::slis),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use serde_json::json;
    use troupe_api::metrics::parse::Samples;

    use super::*;
    use crate::{
        apiserver::testing::boot,
        controllers::serviceaccount::ServiceAccountController,
        runtime::{cache::Caches, controller},
    };

    fn scrape(sources: &Sources) -> Samples {
        Samples::parse(std::str::from_utf8(&sources.scrape()).expect("text")).expect("a scrape parses")
    }

    /// Namespaces get service accounts: through a queue, a client, the store and the watch cache.
    #[actix::test]
    async fn a_scrape_tells_of_objects_store_queues_and_actors() {
        let api = boot().await;
        let system = api.server.system().clone();
        let caches = Caches::new(system.clone(), api.client.clone());
        controller::start(&system, &caches, api.client.clone(), ServiceAccountController::new(&caches));
        let sources = Sources::new(&system, Some(&api.server), VersionInfo::of_build("1", "c", "d"));
        let before = scrape(&sources).value("apiserver_storage_objects", &[("resource", "namespaces")]).expect("they are counted");
        api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "counted"}})).await;
        let served = async {
            while api.get("serviceaccounts", "counted", "default").await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), served).await.expect("the controller works");
        let samples = scrape(&sources);
        assert_eq!(samples.value("apiserver_storage_objects", &[("resource", "namespaces")]), Some(before + 1.0));
        let positive = |name, labels: &[(&str, &str)]| assert!(samples.value(name, labels).is_some_and(|value| value > 0.0), "{name} {labels:?}");
        positive("apiserver_storage_events_received_total", &[("resource", "serviceaccounts")]);
        positive("etcd_request_duration_seconds_count", &[("operation", "create"), ("resource", "namespaces")]);
        let created = [("type", "admit"), ("operation", "CREATE"), ("rejected", "false")];
        positive("apiserver_admission_step_admission_duration_seconds_count", &created);
        let by_plugin = "apiserver_admission_controller_admission_duration_seconds_count";
        positive(by_plugin, &[created.as_slice(), &[("name", "NamespaceLifecycle")]].concat());
        let of_updates = [("type", "validate"), ("operation", "CREATE"), ("name", "PersistentVolumeClaimResize")];
        assert_eq!(samples.value(by_plugin, &of_updates), None, "a plugin of updates has no time of creates");
        positive("workqueue_adds_total", &[("name", "serviceaccount")]);
        positive("workqueue_queue_duration_seconds_count", &[("name", "serviceaccount")]);
        positive("troupe_actor_handled_total", &[("actor", "controllers/serviceaccount")]);
        positive("troupe_actor_count", &[("actor", "apiserver/namespaces")]);
        positive("rest_client_requests_total", &[("method", "POST"), ("code", "201")]);
        positive("kubernetes_build_info", &[("minor", "36")]);
        positive("apiserver_watch_cache_resource_version", &[("resource", "namespaces")]);
        let fresh = |name, labels: &[(&str, &str)]| assert!(samples.value(name, labels).is_some_and(|lag| lag < 1.0), "{name} {labels:?}");
        fresh("troupe_watch_cache_lag_seconds", &[("resource", "namespaces")]);
        fresh("troupe_cache_lag_seconds", &[("cache", "caches/Namespace")]);
        positive("process_resident_memory_bytes", &[]);
    }

    #[actix::test]
    async fn what_pods_ask_for_is_told_from_the_watch_cache() {
        let api = boot().await;
        let sources = Sources::new(api.server.system(), Some(&api.server), VersionInfo::of_build("1", "c", "d"));
        let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "250m"}}});
        api.create(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asks", "namespace": "default"}, "spec": {"containers": [container]}}),
        )
        .await;
        let told = async {
            loop {
                let page = sources.resources().await.expect("this process knows pods");
                let samples = Samples::parse(std::str::from_utf8(&page).expect("text")).expect("a scrape parses");
                if let Some(cores) = samples.value("kube_pod_resource_request", &[("pod", "asks"), ("resource", "cpu")]) {
                    return cores;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert_eq!(tokio::time::timeout(Duration::from_secs(10), told).await.expect("the cache shows it"), 0.25);
        let elsewhere = Sources::new(api.server.system(), None, VersionInfo::of_build("1", "c", "d"));
        assert_eq!(elsewhere.resources().await, None);
    }

    #[actix::test]
    async fn every_family_appears_once_and_with_all_its_samples_together() {
        let api = boot().await;
        let sources = Sources::new(api.server.system(), Some(&api.server), VersionInfo::of_build("1", "c", "d"));
        let text = sources.scrape();
        let text = std::str::from_utf8(&text).expect("text");
        let (mut seen, mut current) = (BTreeSet::new(), "");
        for line in text.lines() {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                current = declared.split(' ').next().expect("a name");
                assert!(seen.insert(current), "{current} is declared twice");
            } else if !line.starts_with('#') {
                assert!(line.starts_with(current), "{line} stands below {current}");
            }
        }
        assert!(seen.contains("etcd_requests_total"));
    }
}
