//! Metrics that other people's servers have: of pods and objects (`custom.metrics.k8s.io`), and of what is outside of the cluster
//! (`external.metrics.k8s.io`), as API services bring them.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::autoscaling::v2::CrossVersionObjectReference, apimachinery::pkg::apis::meta::v1::LabelSelector as MetricSelector};
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
    pub async fn of_pods(&self, metric: &str, selector: &LabelSelector) -> Result<PodMetrics, String> {
        let resource = Asked { group: CUSTOM, plural: "pods", namespaced: true, name: "*", subresource: metric };
        let values = self.ask(&resource, selector.clone()).await?;
        let of = |value: &Value| {
            let window = at(value, &["windowSeconds"]).as_i64().map_or(WINDOW, SignedDuration::from_secs);
            let timestamp = text(value, &["timestamp"]).parse().unwrap_or(Timestamp::MIN);
            Some((text(value, &["describedObject", "name"]).to_owned(), PodMetric { timestamp, window, value: amount(value)? }))
        };
        Ok(values.iter().filter_map(of).collect())
    }

    /// A metric of one object.
    ///
    /// # Errors
    /// As those of [`Foreign::of_pods`], or the kind is not known.
    pub async fn of_object(&self, metric: &str, object: &CrossVersionObjectReference) -> Result<i64, String> {
        let group = GroupVersion::parse(object.api_version.as_deref().unwrap_or_default()).group;
        let row = self.client.service().registry().by_kind(&group, &object.kind);
        let row = row.ok_or_else(|| format!("no matches for kind {:?} in group {group:?}", object.kind))?;
        let plural = if row.group.is_empty() { row.plural.to_string() } else { row.group_resource().to_string() };
        let asked = Asked { group: CUSTOM, plural: &plural, namespaced: row.namespaced, name: &object.name, subresource: metric };
        let values = self.ask(&asked, LabelSelector::everything()).await?;
        values.first().and_then(amount).ok_or_else(|| "no metrics returned from custom metrics API".into())
    }

    /// The sum of an external metric's series.
    ///
    /// # Errors
    /// As those of [`Foreign::of_pods`].
    pub async fn external(&self, metric: &str, selector: Option<&MetricSelector>) -> Result<i64, String> {
        let selector = selector.map_or_else(LabelSelector::everything, |selector| LabelSelector::from(Some(selector)));
        let values = self.ask(&Asked { group: EXTERNAL, plural: metric, namespaced: true, name: "", subresource: "" }, selector).await?;
        if values.is_empty() {
            return Err("no metrics returned from external metrics API".into());
        }
        Ok(values.iter().filter_map(amount).fold(0, i64::saturating_add))
    }

    async fn ask(&self, asked: &Asked<'_>, labels: LabelSelector) -> Result<Vec<Value>, String> {
        let (group, name) = asked.group;
        let registry = self.client.service().registry();
        let version = VERSIONS.into_iter().find(|version| registry.is_elsewhere(group, version));
        let version = version.ok_or_else(|| {
            let why = if asked.group == EXTERNAL {
                format!("the server could not find the requested resource (get {}.{group})", asked.plural)
            } else {
                format!("no {name} metrics API ({group}) registered")
            };
            format!("unable to fetch metrics from {name} metrics API: {why}")
        })?;
        let resource = asked.row(version).ok_or_else(|| "the metric cannot be asked for".to_owned())?;
        let target = Target {
            resource,
            version: version.into(),
            namespace: self.namespace.into(),
            name: asked.name.into(),
            subresource: asked.subresource.into(),
        };
        let listing = Operation::List(ListOptions { labels, ..ListOptions::default() });
        let failed = |why: String| format!("unable to fetch metrics from {name} metrics API: {why}");
        let reply = self.client.call(target, listing).await.map_err(|status| failed(status.message))?;
        let ReplyBody::List(list) = reply.body else { return Err(failed("a list was expected".into())) };
        Ok(list.items.iter().map(|item| item.to_object().into_value()).collect())
    }
}

/// One path below the group: `PLURAL[/NAME/METRIC]`.
struct Asked<'a> {
    group: (&'static str, &'static str),
    plural: &'a str,
    namespaced: bool,
    name: &'a str,
    subresource: &'a str,
}

impl Asked<'_> {
    /// A row that leads there. Discovery names each metric; that it is there, the server says best.
    fn row(&self, version: &str) -> Option<Arc<Resource>> {
        let resource = DiscoveredResource {
            resource: self.plural.into(),
            response_kind: DiscoveredKind { kind: "MetricValueList".into(), ..DiscoveredKind::default() },
            scope: if self.namespaced { "Namespaced" } else { "Cluster" }.into(),
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
