//! Asks for an autoscaler's metrics and turns each into a proposal.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::autoscaling::v2::{
        ContainerResourceMetricStatus, ExternalMetricSource, ExternalMetricStatus, HorizontalPodAutoscaler, MetricIdentifier, MetricSpec,
        MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricSource, ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use serde_json::Value;
use tokio::time::Instant;
use troupe_api::{
    meta::{LabelSelector, quantity},
    resources::tree::{at, text},
    service::{ListOptions, Operation, ReplyBody, Target},
};
use troupe_api_client::Client;

use super::{
    foreign::Foreign,
    metrics::{self, Fault},
    options::Starting,
    pod::{ScaledPod, milli},
    replicas::{Measured, PodMetric, PodMetrics, Proposal, Tolerances, by_average, by_utilization, by_value, by_value_per_pod},
};
use crate::controllers::selector_text::selector_text;

/// Why a metric of no known type asks for nothing.
const UNKNOWN_TYPE: &str = "InvalidMetricSourceType";

/// What became of one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What the autoscaler's status says of it; empty where it could not be had.
    pub status: MetricStatus,
    pub result: Result<Found, Failure>,
}

impl Outcome {
    /// The replicas that it asks for.
    fn asked(&self) -> Result<i32, Fault> {
        let fault = |failure: &Failure| if failure.reason == UNKNOWN_TYPE { Fault::Spec } else { Fault::Internal };
        self.result.as_ref().map(|found| found.replicas).map_err(fault)
    }
}

/// Replicas that a metric asks for, and how it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub replicas: i32,
    pub name: String,
}

/// Why a metric asks for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Of the condition `ScalingActive` and of an event.
    pub reason: &'static str,
    pub why: String,
    /// As all metrics together say it.
    pub summary: String,
}

/// What the metrics of one autoscaler are judged by.
pub struct Measuring<'a> {
    pub client: &'a Client,
    pub autoscaler: &'a HorizontalPodAutoscaler,
    pub selector: &'a LabelSelector,
    /// Those that the selector selects.
    pub pods: &'a [Arc<ScaledPod>],
    /// Replicas that the target's spec asks for.
    pub current: i32,
    /// Replicas that its status tells of.
    pub replicas: i32,
    /// By how much use may differ from its target where the autoscaler says nothing.
    pub tolerance: f64,
    pub starting: Starting,
    pub now: Timestamp,
}

impl Measuring<'_> {
    /// All metrics, in the order of the spec.
    pub async fn all(&self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for metric in self.autoscaler.spec.metrics.iter().flatten() {
            let began = Instant::now();
            let outcome = self.one(metric).await;
            metrics::computed(&metric.type_, self.current, outcome.asked(), began.elapsed());
            outcomes.push(outcome);
        }
        outcomes
    }

    async fn one(&self, metric: &MetricSpec) -> Outcome {
        let type_ = metric.type_.clone();
        if let ("Resource", Some(source)) = (type_.as_str(), &metric.resource) {
            let judged = self.resource(&source.name, "", &source.target).await;
            return outcome(judged, "FailedGetResourceMetric", &format!("failed to get {} resource metric value", source.name), |current| {
                MetricStatus { type_, resource: Some(ResourceMetricStatus { current, name: source.name.clone() }), ..MetricStatus::default() }
            });
        }
        if let ("ContainerResource", Some(source)) = (type_.as_str(), &metric.container_resource) {
            let judged = self.resource(&source.name, &source.container, &source.target).await;
            let summary = format!("failed to get {} container metric value", source.container);
            return outcome(judged, "FailedGetContainerResourceMetric", &summary, |current| {
                let status = ContainerResourceMetricStatus { container: source.container.clone(), current, name: source.name.clone() };
                MetricStatus { type_, container_resource: Some(status), ..MetricStatus::default() }
            });
        }
        if let ("Pods", Some(source)) = (type_.as_str(), &metric.pods) {
            let judged = self.of_pods(&source.metric, &source.target).await;
            return outcome(judged, "FailedGetPodsMetric", "failed to get pods metric value", |current| {
                let status = PodsMetricStatus { current, metric: source.metric.clone() };
                MetricStatus { type_, pods: Some(status), ..MetricStatus::default() }
            });
        }
        if let ("Object", Some(source)) = (type_.as_str(), &metric.object) {
            let judged = self.of_object(source).await;
            return outcome(judged, "FailedGetObjectMetric", "failed to get object metric value", |current| {
                let status = ObjectMetricStatus { current, described_object: source.described_object.clone(), metric: source.metric.clone() };
                MetricStatus { type_, object: Some(status), ..MetricStatus::default() }
            });
        }
        if let ("External", Some(source)) = (type_.as_str(), &metric.external) {
            let judged = self.external(source).await;
            let name = &source.metric.name;
            let what = if source.target.average_value.is_some() { format!("{name} external metric") } else { format!("external metric {name}") };
            let summary = format!("failed to get {name} external metric value: failed to get {what}");
            return outcome(judged, "FailedGetExternalMetric", &summary, |current| {
                let status = ExternalMetricStatus { current, metric: source.metric.clone() };
                MetricStatus { type_, external: Some(status), ..MetricStatus::default() }
            });
        }
        let why = format!("unknown metric source type {type_:?}");
        let failure = Failure { reason: UNKNOWN_TYPE, summary: why.clone(), why };
        Outcome { status: MetricStatus::default(), result: Err(failure) }
    }

    fn foreign(&self) -> Foreign<'_> {
        Foreign { client: self.client, namespace: self.autoscaler.metadata.namespace.as_deref().unwrap_or_default() }
    }

    async fn of_pods(&self, metric: &MetricIdentifier, target: &MetricTarget) -> Result<Judged, String> {
        let name = &metric.name;
        let failed = |why: String| format!("unable to get metric {name}: {why}");
        let metrics = self.foreign().of_pods(metric, self.selector).await.map_err(failed)?;
        let average = target.average_value.as_ref().and_then(|quantity| milli(&quantity.0)).unwrap_or(0);
        let proposal = by_average(self.measured(metrics), average, "")?;
        Ok(Judged { current: value_of_average(&proposal, false), replicas: proposal.replicas, name: format!("pods metric {name}") })
    }

    async fn of_object(&self, source: &ObjectMetricSource) -> Result<Judged, String> {
        let (name, object) = (&source.metric.name, &source.described_object);
        let usage = self.foreign().of_object(&source.metric, object).await.map_err(|why| {
            let namespace = self.autoscaler.metadata.namespace.as_deref().unwrap_or_default();
            format!("unable to get metric {name}: {why} on {} {namespace}/{}", object.kind, object.name)
        })?;
        self.of_whole(usage, &source.target, format!("{} metric {name}", object.kind))
            .unwrap_or_else(|| Err("invalid object metric source: neither a value target nor an average value target was set".into()))
    }

    async fn external(&self, source: &ExternalMetricSource) -> Result<Judged, String> {
        let (name, selector) = (&source.metric.name, selector_text(source.metric.selector.as_ref()));
        let usage = self.foreign().external(name, source.metric.selector.as_ref()).await.map_err(|why| {
            let namespace = self.autoscaler.metadata.namespace.as_deref().unwrap_or_default();
            format!("unable to get external metric {namespace}/{name}/{selector}: {why}")
        })?;
        self.of_whole(usage, &source.target, format!("external metric {name}({selector})"))
            .unwrap_or_else(|| Err("invalid external metric source: neither a value target nor an average value target was set".into()))
    }

    /// A metric that is not of single pods, judged as a whole or a pod. `None` where the target says neither.
    fn of_whole(&self, usage: i64, target: &MetricTarget, name: String) -> Option<Result<Judged, String>> {
        if let Some(average) = target.average_value.as_ref().and_then(|quantity| milli(&quantity.0)) {
            let proposal = by_value_per_pod(usage, average, self.replicas, tolerances(self.autoscaler, self.tolerance));
            return Some(Ok(Judged { current: value_of_average(&proposal, false), replicas: proposal.replicas, name }));
        }
        let wanted = target.value.as_ref().and_then(|quantity| milli(&quantity.0))?;
        let judged = by_value(&self.measured(PodMetrics::new()), usage, wanted);
        Some(judged.map(|proposal| {
            let current = MetricValueStatus { value: Some(quantity_of(proposal.usage, false)), ..MetricValueStatus::default() };
            Judged { current, replicas: proposal.replicas, name }
        }))
    }

    /// The use of a resource by whole pods, or by one container of each.
    async fn resource(&self, resource: &str, container: &str, target: &MetricTarget) -> Result<Judged, String> {
        let judged =
            |proposal: Proposal, name| Judged { current: value_of_average(&proposal, resource == "memory"), replicas: proposal.replicas, name };
        let what = if container.is_empty() { "resource" } else { "container resource" };
        if let Some(average) = target.average_value.as_ref().and_then(|quantity| milli(&quantity.0)) {
            let metrics = self.pod_metrics(resource, container).await;
            let proposal = metrics.and_then(|metrics| by_average(self.measured(metrics), average, resource));
            return proposal
                .map(|proposal| judged(proposal, format!("{resource} resource")))
                .map_err(|why| format!("failed to get {resource} usage: {why}"));
        }
        let Some(percent) = target.average_utilization else {
            return Err("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set".into());
        };
        let metrics = self.pod_metrics(resource, container).await;
        let proposal = metrics.and_then(|metrics| by_utilization(self.measured(metrics), percent, resource, container));
        let name = format!("{resource} {what} utilization (percentage of request)");
        proposal.map(|proposal| judged(proposal, name)).map_err(|why| format!("failed to get {resource} utilization: {why}"))
    }

    fn measured(&self, metrics: PodMetrics) -> Measured<'_> {
        let tolerances = tolerances(self.autoscaler, self.tolerance);
        Measured { pods: self.pods, metrics, current: self.current, tolerances, starting: self.starting, now: self.now }
    }

    /// What `metrics.k8s.io` says that the pods use, whoever serves it.
    async fn pod_metrics(&self, resource: &str, container: &str) -> Result<PodMetrics, String> {
        let fail = |why: String| format!("unable to get metrics for resource {resource}: {why}");
        let list = self.list_pod_metrics().await.map_err(|why| fail(format!("unable to fetch metrics from resource metrics API: {why}")))?;
        if list.is_empty() {
            return Err(fail("no metrics returned from resource metrics API".into()));
        }
        let metrics = of_pods(&list, resource, container).map_err(fail)?;
        if metrics.is_empty() { Err(fail("no metrics returned from resource metrics API".into())) } else { Ok(metrics) }
    }

    async fn list_pod_metrics(&self) -> Result<Vec<Value>, String> {
        let row = self.client.service().registry().by_kind("metrics.k8s.io", "PodMetrics");
        let resource = row.ok_or_else(|| "the server could not find the requested resource (get pods.metrics.k8s.io)".to_owned())?;
        let namespace = self.autoscaler.metadata.namespace.as_deref().unwrap_or_default().into();
        let Some(version) = resource.served.first().map(|served| served.version.clone()) else { return Err("no version of it is served".into()) };
        let target = Target { resource, version, namespace, name: "".into(), subresource: "".into() };
        let options = ListOptions { labels: self.selector.clone(), ..ListOptions::default() };
        let reply = self.client.call(target, Operation::List(options)).await.map_err(|status| status.message)?;
        let ReplyBody::List(list) = reply.body else { return Err("a list was expected".into()) };
        Ok(list.items.iter().map(|item| item.to_object().into_value()).collect())
    }
}

/// The measurements of `resource` in the objects of a list; pods of which not all is measured are left out.
fn of_pods(list: &[Value], resource: &str, container: &str) -> Result<PodMetrics, String> {
    let mut metrics = PodMetrics::new();
    for pod in list {
        let name = text(pod, &["metadata", "name"]);
        let containers = at(pod, &["containers"]).as_array().map(Vec::as_slice).unwrap_or_default();
        let chosen: Vec<&Value> = containers.iter().filter(|one| container.is_empty() || text(one, &["name"]) == container).collect();
        if chosen.is_empty() && !container.is_empty() {
            let namespace = text(pod, &["metadata", "namespace"]);
            return Err(format!("container {container} not present in metrics for pod {namespace}/{name}"));
        }
        let amounts: Option<Vec<i64>> = chosen.iter().map(|one| milli(text(one, &["usage", resource]))).collect();
        let Some(amounts) = amounts else { continue };
        let metric = PodMetric {
            timestamp: text(pod, &["timestamp"]).parse().unwrap_or(Timestamp::MIN),
            window: text(pod, &["window"]).parse().unwrap_or(SignedDuration::ZERO),
            value: amounts.into_iter().fold(0, i64::saturating_add),
        };
        metrics.insert(name.to_owned(), metric);
    }
    Ok(metrics)
}

/// What one metric comes to, and what the status says of it.
struct Judged {
    current: MetricValueStatus,
    replicas: i32,
    name: String,
}

fn outcome(judged: Result<Judged, String>, reason: &'static str, summary: &str, status: impl FnOnce(MetricValueStatus) -> MetricStatus) -> Outcome {
    match judged {
        Ok(Judged { current, replicas, name }) => Outcome { status: status(current), result: Ok(Found { replicas, name }) },
        Err(why) => {
            let failure = Failure { reason, summary: format!("{summary}: {why}"), why };
            Outcome { status: MetricStatus::default(), result: Err(failure) }
        }
    }
}

fn value_of_average(proposal: &Proposal, binary: bool) -> MetricValueStatus {
    let average = quantity_of(proposal.usage, binary);
    MetricValueStatus { average_utilization: proposal.utilization, average_value: Some(average), value: None }
}

/// A number of thousandths.
fn quantity_of(milli: i64, binary: bool) -> Quantity {
    Quantity(quantity::canonical(i128::from(milli) * 1_000_000, binary))
}

/// What the autoscaler's behavior says, or what holds for all.
fn tolerances(autoscaler: &HorizontalPodAutoscaler, usual: f64) -> Tolerances {
    let behavior = autoscaler.spec.behavior.as_ref();
    let own = |rules: Option<&k8s_openapi::api::autoscaling::v2::HPAScalingRules>| {
        let nanos = rules.and_then(|rules| quantity::nanos(&rules.tolerance.as_ref()?.0));
        #[allow(clippy::cast_precision_loss, reason = "a tolerance needs no more digits")]
        nanos.map_or(usual, |nanos| nanos as f64 / 1e9)
    };
    Tolerances {
        down: own(behavior.and_then(|behavior| behavior.scale_down.as_ref())),
        up: own(behavior.and_then(|behavior| behavior.scale_up.as_ref())),
    }
}
