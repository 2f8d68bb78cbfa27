//! Metrics that other people's servers have: of pods and objects (`custom.metrics.k8s.io`), and of what is outside of the cluster
//! (`external.metrics.k8s.io`), as API services bring them.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::autoscaling::v2::{CrossVersionObjectReference, MetricIdentifier},
    apimachinery::pkg::apis::meta::v1::LabelSelector as MetricSelector,
};
use serde_json::Value;
use troupe_api::{
    meta::{GroupVersion, LabelSelector},
    resources::{
        Resource,
        discovered::{DiscoveredKind, DiscoveredResource, DiscoveredVersion, rows},
        tree::{at, text},
    },
    service::{ListOptions, Operation, ReplyBody, Target},
};
use troupe_api_client::Client;

use super::{
    pod::milli,
    replicas::{PodMetric, PodMetrics},
};

const CUSTOM: (&str, &str) = ("custom.metrics.k8s.io", "custom");
/// What upstream says first of what nobody could be asked.
const FAILED: &str = "unable to fetch metrics from custom metrics API";
const EXTERNAL: (&str, &str) = ("external.metrics.k8s.io", "external");
/// The newest first.
const VERSIONS: [&str; 2] = ["v1beta2", "v1beta1"];
/// How long a measurement took that does not say so.
const WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// Whom to ask, about what namespace.
pub struct Foreign<'a> {
    pub client: &'a Client,
    pub namespace: &'a str,
}

impl Foreign<'_> {
    /// A metric of all pods that a selector selects.
    ///
    /// # Errors
    /// Nobody serves it, or not this one.
    pub async fn of_pods(&self, metric: &MetricIdentifier, selector: &LabelSelector) -> Result<PodMetrics, String> {
        let resource = Asked { group: CUSTOM, plural: "pods", namespace: self.namespace, name: "*", subresource: &metric.name };
        let options = ListOptions { labels: selector.clone(), ..of_series(metric) };
        let values = self.ask(&resource, options).await?;
        if values.is_empty() {
            return Err("no metrics returned from custom metrics API".into());
        }
        let of = |value: &Value| {
            let window = at(value, &["windowSeconds"]).as_i64().map_or(WINDOW, SignedDuration::from_secs);
            let timestamp = text(value, &["timestamp"]).parse().unwrap_or(Timestamp::MIN);
            Some((text(value, &["describedObject", "name"]).to_owned(), PodMetric { timestamp, window, value: amount(value)? }))
        };
        Ok(values.iter().filter_map(of).collect())
    }

    /// A metric of one object of the namespace, or of the namespace, whatever name is given for that: nobody escapes theirs.
    ///
    /// # Errors
    /// As those of [`Foreign::of_pods`], or the kind is not known.
    pub async fn of_object(&self, metric: &MetricIdentifier, object: &CrossVersionObjectReference) -> Result<i64, String> {
        let group = GroupVersion::parse(object.api_version.as_deref().unwrap_or_default()).group;
        let row = self.client.service().registry().by_kind(&group, &object.kind);
        let row = row.ok_or_else(|| format!("no matches for kind {:?} in group {group:?}", object.kind))?;
        let plural = if row.group.is_empty() { row.plural.to_string() } else { row.group_resource().to_string() };
        let asked = Asked::of_object(self.namespace, &plural, &object.name, &metric.name);
        let values = self.ask(&asked, of_series(metric)).await?;
        let [value] = values.as_slice() else {
            let count = values.len();
            return Err(format!("{FAILED}: the custom metrics API server returned {count} results when we asked for exactly one"));
        };
        amount(value).ok_or_else(|| "no metrics returned from custom metrics API".into())
    }

    /// The sum of an external metric's series.
    ///
    /// # Errors
    /// As those of [`Foreign::of_pods`].
    pub async fn external(&self, metric: &str, selector: Option<&MetricSelector>) -> Result<i64, String> {
        let selector = selector.map_or_else(LabelSelector::everything, |selector| LabelSelector::from(Some(selector)));
        let asked = Asked { group: EXTERNAL, plural: metric, namespace: self.namespace, name: "", subresource: "" };
        let values = self.ask(&asked, ListOptions { labels: selector, ..ListOptions::default() }).await?;
        if values.is_empty() {
            return Err("no metrics returned from external metrics API".into());
        }
        Ok(values.iter().filter_map(amount).fold(0, i64::saturating_add))
    }

    async fn ask(&self, asked: &Asked<'_>, options: ListOptions) -> Result<Vec<Value>, String> {
        let (group, name) = asked.group;
        let registry = self.client.service().registry();
        let version = VERSIONS.into_iter().find(|version| registry.is_reached(group, version));
        let version = version.ok_or_else(|| {
            let why = if asked.group == EXTERNAL {
                format!("the server could not find the requested resource (get {}.{group})", asked.plural)
            } else {
                format!("no {name} metrics API ({group}) registered")
            };
            format!("unable to fetch metrics from {name} metrics API: {why}")
        })?;
        let target = asked.target(version).ok_or_else(|| "the metric cannot be asked for".to_owned())?;
        let failed = |why: String| format!("unable to fetch metrics from {name} metrics API: {why}");
        let reply = self.client.call(target, Operation::List(options)).await.map_err(|status| failed(status.message))?;
        let ReplyBody::List(list) = reply.body else { return Err(failed("a list was expected".into())) };
        Ok(list.items.iter().map(|item| item.to_object().into_value()).collect())
    }
}

/// The series of a metric of pods or objects that an autoscaler means.
fn of_series(metric: &MetricIdentifier) -> ListOptions {
    let metric_labels = metric.selector.as_ref().map_or_else(LabelSelector::everything, |selector| LabelSelector::from(Some(selector)));
    ListOptions { metric_labels, ..ListOptions::default() }
}

/// One path below the group: `namespaces/NAMESPACE/PLURAL[/NAME/METRIC]`.
struct Asked<'a> {
    group: (&'static str, &'static str),
    plural: &'a str,
    namespace: &'a str,
    name: &'a str,
    subresource: &'a str,
}

impl<'a> Asked<'a> {
    /// A metric of an object; those of namespaces are at `metrics/METRIC`.
    fn of_object(namespace: &'a str, plural: &'a str, name: &'a str, metric: &'a str) -> Self {
        if plural == "namespaces" {
            return Asked { group: CUSTOM, plural: "metrics", namespace, name: metric, subresource: "" };
        }
        Asked { group: CUSTOM, plural, namespace, name, subresource: metric }
    }

    fn target(&self, version: &str) -> Option<Target> {
        Some(Target {
            resource: self.row(version)?,
            version: version.into(),
            namespace: self.namespace.into(),
            name: self.name.into(),
            subresource: self.subresource.into(),
        })
    }

    /// A row that leads there. Discovery names each metric; that it is there, the server says best.
    fn row(&self, version: &str) -> Option<Arc<Resource>> {
        let resource = DiscoveredResource {
            resource: self.plural.into(),
            response_kind: DiscoveredKind { kind: "MetricValueList".into(), ..DiscoveredKind::default() },
            scope: "Namespaced".into(),
            verbs: vec!["get".into(), "list".into()],
            ..DiscoveredResource::default()
        };
        let version = DiscoveredVersion { group: self.group.0.into(), version: version.into(), resources: vec![resource], stale: false };
        rows(std::iter::once(&version), |_, _| false).pop()
    }
}

/// The value of a metric in thousandths.
fn amount(value: &Value) -> Option<i64> {
    milli(text(value, &["value"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use troupe_api_client::remote::request::Outgoing;

    use super::*;

    fn metric(selector: Value) -> MetricIdentifier {
        serde_json::from_value(json!({"name": "requests", "selector": selector})).expect("a metric")
    }

    fn path(asked: &Asked<'_>, options: ListOptions) -> String {
        let target = asked.target("v1beta2").expect("a target");
        Outgoing::of_call(&target, &Operation::List(options)).expect("encodes").path
    }

    #[test]
    fn the_series_that_are_meant_are_asked_for_as_upstream_does() {
        let selecting = metric(json!({"matchLabels": {"verb": "GET"}}));
        let pods = Asked { group: CUSTOM, plural: "pods", namespace: "n", name: "*", subresource: "requests" };
        let options = ListOptions { labels: LabelSelector::parse("app=web").expect("a selector"), ..of_series(&selecting) };
        let asked = path(&pods, options);
        assert!(asked.starts_with("/apis/custom.metrics.k8s.io/v1beta2/namespaces/n/pods/"), "{asked}");
        assert!(asked.ends_with("/requests?labelSelector=app%3Dweb&metricLabelSelector=verb%3DGET"), "{asked}");
        let of_object = |plural: &str, options| path(&Asked::of_object("n", plural, "web", "requests"), options);
        let base = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/n";
        assert_eq!(of_object("services", of_series(&selecting)), format!("{base}/services/web/requests?metricLabelSelector=verb%3DGET"));
        assert_eq!(
            of_object("ingresses.networking.k8s.io", of_series(&metric(json!(null)))),
            format!("{base}/ingresses.networking.k8s.io/web/requests")
        );
        assert_eq!(of_object("namespaces", of_series(&metric(json!({})))), format!("{base}/metrics/requests"), "whatever name is given");
    }
}
