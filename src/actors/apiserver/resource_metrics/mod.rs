//! `metrics.k8s.io`: what nodes and pods use, measured by the kubelets, as far as no API service of somebody else's has the group.
//!
//! Two scrapes of each kubelet make a measurement. They are taken every 15 seconds while somebody asks; whoever asks first after a pause waits
//! for two in a row.

mod usage;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use hyper::Method;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use serde_json::{Value, json};
use troupe_api::{
    aside,
    meta::{Clock, GroupResource, LabelSelector, Object, ObjectKey, time::format_time},
    node_pressure::{self, NodePressure},
    service::{Listers, Target},
    status::Status,
    stored::StoredObject,
};
use troupe_api_server::{
    backends::place::{Kubelet, kubelet_address},
    http::streaming::{KubeletDialer, client},
};

use self::usage::{PodName, Scrape, Usage};
use super::{computed::Computed, listers::CacheListers};
use crate::runtime::host::{Unit, UnitContext};

/// Between two scrapes.
const PERIOD: Duration = Duration::from_secs(15);
/// Scraping goes on for so long after somebody asked.
const WANTED: Duration = Duration::from_secs(300);
/// Between the two scrapes that somebody waits for.
const FIRST_WINDOW: Duration = Duration::from_secs(1);
/// A kubelet has this long to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// No more of an answer is read: many times what the containers of a full node need.
const MOST: usize = 4 << 20;
/// Kubelets asked at once.
const AT_ONCE: usize = 8;

/// The last two scrapes of each node.
#[derive(Default)]
struct Scrapes {
    nodes: BTreeMap<Arc<str>, (Scrape, Option<Scrape>)>,
    /// When somebody asked last, and when the last round ended.
    asked: Option<Instant>,
    done: Option<Instant>,
}

/// Measures nodes and pods, and answers for `metrics.k8s.io`.
pub struct ResourceMetrics {
    listers: Arc<CacheListers>,
    /// Without one nothing can be measured.
    dialer: Option<KubeletDialer>,
    clock: Arc<dyn Clock>,
    scrapes: Mutex<Scrapes>,
    /// Held through a round.
    round: tokio::sync::Mutex<()>,
}

impl ResourceMetrics {
    pub fn new(listers: Arc<CacheListers>, dialer: Option<KubeletDialer>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(ResourceMetrics { listers, dialer, clock, scrapes: Mutex::default(), round: tokio::sync::Mutex::default() })
    }

    /// Asks every kubelet.
    async fn scrape(&self) {
        let nodes = self.listers.list(&GroupResource::new("", "nodes"), "");
        let asking: Vec<_> = nodes.into_iter().map(|node| async move { (node.key.name.clone(), self.scrape_node(&node).await) }).collect();
        let answers: Vec<_> = stream::iter(asking).buffer_unordered(AT_ONCE).collect().await;
        let mut scrapes = self.scrapes.lock();
        let mut before = std::mem::take(&mut scrapes.nodes);
        for (name, answer) in answers {
            match answer {
                Ok(scrape) => {
                    let last = before.remove(&name).map(|(last, _)| last);
                    scrapes.nodes.insert(name, (scrape, last));
                }
                Err(why) => tracing::debug!(node = %name, %why, "a kubelet's figures cannot be had"),
            }
        }
        scrapes.done = Some(Instant::now());
    }

    async fn scrape_node(&self, stored: &Arc<StoredObject>) -> Result<Scrape, String> {
        let dialer = self.dialer.as_ref().ok_or("this server reaches no kubelets")?;
        let node = stored.typed::<Node>().map_err(|error| error.to_string())?;
        let address = kubelet_address(&node).map_err(|status| status.message)?;
        let authority = address.authority();
        let asking = async {
            let stream = dialer.dial(&Kubelet { node: stored.key.name.to_string(), address }).await.map_err(|error| error.to_string())?;
            let (code, body) = client::ask(stream, Method::GET, node_pressure::PATH, authority, MOST).await?;
            if !(200..300).contains(&code) {
                return Err(format!("it answered {code}"));
            }
            let (listers, now, node) = (self.listers.clone(), self.clock.now(), stored.key.name.clone());
            let parsed = aside::compute(body.len(), move || {
                let text = std::str::from_utf8(&body).map_err(|error| error.to_string())?;
                Scrape::parse(text, now, |pod| node_of(&listers, pod).is_some_and(|of| *of == *node)).map_err(|error| error.to_string())
            });
            parsed.await
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err("it did not answer in time".into()))
    }

    /// Waits until there are measurements of today, if there are none.
    async fn ensure(&self) {
        self.scrapes.lock().asked = Some(Instant::now());
        if self.is_fresh() {
            return;
        }
        let _round = self.round.lock().await;
        if self.is_fresh() {
            return;
        }
        self.scrape().await;
        tokio::time::sleep(FIRST_WINDOW).await;
        self.scrape().await;
    }

    fn is_fresh(&self) -> bool {
        self.scrapes.lock().done.is_some_and(|done| done.elapsed() < PERIOD * 3)
    }

    /// A regular round, while somebody wants it.
    async fn regular(&self) {
        let asked = self.scrapes.lock().asked;
        if asked.is_some_and(|asked| asked.elapsed() < WANTED) && self.is_fresh() {
            let _round = self.round.lock().await;
            self.scrape().await;
        }
    }

    fn node_object(&self, name: &str) -> Option<Value> {
        let stored = self.listers.get(&GroupResource::new("", "nodes"), &ObjectKey::new("", name))?;
        let scrapes = self.scrapes.lock();
        let (now, before) = scrapes.nodes.get(name)?;
        let usage = now.node_usage(before.as_ref()?)?;
        let mut object = self.head("NodeMetrics", &stored, now.at(), usage.window);
        object["usage"] = amounts(&usage);
        annotate(&mut object, now.pressure());
        Some(object)
    }

    /// Whether a selector selects the pod.
    fn is_selected(&self, (namespace, name): &PodName, labels: &LabelSelector) -> bool {
        let pod = || self.listers.get(&GroupResource::new("", "pods"), &ObjectKey::new(namespace.as_str(), name.as_str()));
        labels.is_everything() || pod().is_some_and(|pod| labels.matches_projection(&pod.meta().labels))
    }

    fn pod_object(&self, pod: &PodName) -> Option<Value> {
        let stored = self.listers.get(&GroupResource::new("", "pods"), &ObjectKey::new(pod.0.as_str(), pod.1.as_str()))?;
        // A node's word counts for its own pods alone.
        let node = self.listers.row("", "pods")?.selectable_field(&stored, "spec.nodeName")?;
        let scrapes = self.scrapes.lock();
        let (now, before) = scrapes.nodes.get(node.as_str())?;
        let usage = now.pod_usage(pod, before.as_ref())?;
        let mut object = self.head("PodMetrics", &stored, usage.timestamp, usage.window);
        let containers = usage.containers.iter().map(|(name, usage)| json!({"name": name, "usage": amounts(usage)}));
        object["containers"] = containers.collect();
        Some(object)
    }

    /// What both kinds have alike; labels are those of the node or pod.
    fn head(&self, kind: &str, of: &StoredObject, timestamp: jiff::Timestamp, window: SignedDuration) -> Value {
        let mut metadata = json!({"name": *of.key.name, "creationTimestamp": format_time(self.clock.now())});
        if !of.key.namespace.is_empty() {
            metadata["namespace"] = json!(*of.key.namespace);
        }
        let labels: BTreeMap<&str, &str> = of.meta().labels.iter().collect();
        if !labels.is_empty() {
            metadata["labels"] = json!(labels);
        }
        let window = format!("{}s", (window.as_secs_f64() * 1000.0).round() / 1000.0);
        json!({"kind": kind, "apiVersion": "metrics.k8s.io/v1beta1", "metadata": metadata, "timestamp": format_time(timestamp), "window": window})
    }
}

/// The node of a pod.
fn node_of(listers: &CacheListers, pod: &PodName) -> Option<String> {
    let stored = listers.get(&GroupResource::new("", "pods"), &ObjectKey::new(pod.0.as_str(), pod.1.as_str()))?;
    listers.row("", "pods")?.selectable_field(&stored, "spec.nodeName")
}

/// A resource list in the units that metrics servers use.
fn amounts(usage: &Usage) -> Value {
    let cpu = if usage.nano_cores == 0 { "0".to_owned() } else { format!("{}n", usage.nano_cores) };
    json!({"cpu": cpu, "memory": format!("{}Ki", usage.memory / 1024)})
}

/// Tells beside what upstream's kind has room for what the node's tasks waited for, as far as that is known.
fn annotate(object: &mut Value, pressure: NodePressure) {
    let annotations = pressure.annotations();
    if !annotations.is_empty() {
        object["metadata"]["annotations"] = json!(annotations);
    }
}

fn stored(tree: Value) -> Result<Arc<StoredObject>, Status> {
    let object = Object::from_value(tree).ok_or_else(|| Status::internal("no object"))?;
    StoredObject::from_object(&object).map(Arc::new).map_err(Status::internal)
}

/// `nodes` of the group.
pub struct NodeMetrics(pub Arc<ResourceMetrics>);

#[async_trait]
impl Computed for NodeMetrics {
    fn resource(&self) -> GroupResource {
        GroupResource::new("metrics.k8s.io", "nodes")
    }

    async fn get(&self, target: &Target) -> Result<Arc<StoredObject>, Status> {
        self.0.ensure().await;
        let found = self.0.node_object(&target.name);
        stored(found.ok_or_else(|| Status::not_found(&GroupResource::new("metrics.k8s.io", "nodemetrics"), &target.name))?)
    }

    async fn list(&self, _namespace: &str, _labels: &LabelSelector) -> Result<Vec<Arc<StoredObject>>, Status> {
        self.0.ensure().await;
        let names: Vec<Arc<str>> = self.0.scrapes.lock().nodes.keys().cloned().collect();
        names.iter().filter_map(|name| self.0.node_object(name)).map(stored).collect()
    }
}

/// `pods` of the group.
pub struct PodMetrics(pub Arc<ResourceMetrics>);

#[async_trait]
impl Computed for PodMetrics {
    fn resource(&self) -> GroupResource {
        GroupResource::new("metrics.k8s.io", "pods")
    }

    async fn get(&self, target: &Target) -> Result<Arc<StoredObject>, Status> {
        self.0.ensure().await;
        let found = self.0.pod_object(&(target.namespace.to_string(), target.name.to_string()));
        let name = format!("{}/{}", target.namespace, target.name);
        stored(found.ok_or_else(|| Status::not_found(&GroupResource::new("metrics.k8s.io", "podmetrics"), &name))?)
    }

    async fn list(&self, namespace: &str, labels: &LabelSelector) -> Result<Vec<Arc<StoredObject>>, Status> {
        self.0.ensure().await;
        let mut pods: Vec<PodName> = {
            let scrapes = self.0.scrapes.lock();
            let all = scrapes.nodes.values().flat_map(|(now, _)| now.pods());
            // Making an object costs far more than looking at labels, and an autoscaler asks for few of many.
            let is_here = |pod: &&PodName| (namespace.is_empty() || pod.0 == namespace) && self.0.is_selected(pod, labels);
            all.filter(is_here).cloned().collect()
        };
        pods.sort();
        pods.dedup();
        pods.iter().filter_map(|pod| self.0.pod_object(pod)).map(stored).collect()
    }
}

/// The unit at `apiserver/resource-metrics`: takes the regular scrapes.
pub struct Scraper {
    metrics: Arc<ResourceMetrics>,
}

impl Scraper {
    pub fn new(metrics: Arc<ResourceMetrics>) -> Self {
        Scraper { metrics }
    }
}

impl Unit for Scraper {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        cx.every(PERIOD, |unit, cx| {
            let metrics = unit.metrics.clone();
            cx.spawn(async move { metrics.regular().await });
        });
    }

    fn observe(&self) -> Value {
        let scrapes = self.metrics.scrapes.lock();
        json!({"nodes": scrapes.nodes.len(), "wanted": scrapes.asked.is_some_and(|asked| asked.elapsed() < WANTED)})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_stands_in_annotations_where_it_is_known() {
        let head = json!({"kind": "NodeMetrics", "metadata": {"name": "n"}, "usage": {"cpu": "1", "memory": "1Ki"}});
        let mut object = head.clone();
        annotate(&mut object, NodePressure::default());
        assert_eq!(object, head, "nothing is known");
        annotate(&mut object, NodePressure { cpu: Some(1250), io: Some(5), memory: None });
        let annotations = json!({"pressure.troupe.dev/cpu-some": "12.50", "pressure.troupe.dev/io-full": "0.05"});
        assert_eq!(object["metadata"], json!({"name": "n", "annotations": annotations}));
        assert_eq!(object["usage"], head["usage"], "what others read is as ever");
    }
}
