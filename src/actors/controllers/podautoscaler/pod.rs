//! What an autoscaler judges by: of each pod so little that thousands are judged at each look.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Container, Pod},
    apimachinery::pkg::api::resource::Quantity,
};
use troupe_api::{meta, projection::MetaProjection};

use crate::{
    controllers::pods::{PodStanding, ready_condition},
    runtime::cache::Digest,
};

/// See the module.
#[derive(Debug)]
pub struct ScaledPod {
    pub meta: Arc<MetaProjection>,
    pub standing: PodStanding,
    /// `status.startTime`.
    pub started: Option<Timestamp>,
    pub readiness: Option<Readiness>,
    /// What the pod as a whole requests, where it requests anything.
    pub own: Option<Amounts>,
    /// The containers that run beside each other: sidecars last.
    pub containers: Box<[Requests]>,
}

/// A pod's Ready condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    pub is_false: bool,
    /// When it changed; long ago where it does not say.
    pub changed: Timestamp,
}

/// What a container requests.
#[derive(Debug)]
pub struct Requests {
    pub container: Box<str>,
    pub amounts: Amounts,
}

/// Thousandths by resource; what is no quantity is left out.
#[derive(Debug, Default)]
pub struct Amounts(Box<[(Box<str>, i64)]>);

impl Amounts {
    fn of(requests: &BTreeMap<String, Quantity>) -> Self {
        Amounts(requests.iter().filter_map(|(resource, quantity)| Some((resource.as_str().into(), milli(&quantity.0)?))).collect())
    }

    pub fn get(&self, resource: &str) -> Option<i64> {
        self.0.iter().find(|(known, _)| **known == *resource).map(|(_, amount)| *amount)
    }
}

impl Digest<Pod> for ScaledPod {
    fn of(meta: &Arc<MetaProjection>, pod: &Pod) -> Self {
        let status = pod.status.as_ref();
        ScaledPod {
            meta: meta.clone(),
            standing: PodStanding::of(pod),
            started: status.and_then(|status| status.start_time.as_ref()).map(|time| time.0),
            readiness: ready_condition(pod).map(|ready| Readiness {
                is_false: ready.status == "False",
                changed: ready.last_transition_time.as_ref().map_or(Timestamp::MIN, |time| time.0),
            }),
            own: own(pod),
            containers: running(pod).map(|one| Requests { container: one.name.as_str().into(), amounts: requests(one) }).collect(),
        }
    }
}

/// Thousandths of a quantity, rounded away from zero.
pub fn milli(quantity: &str) -> Option<i64> {
    quantity.parse::<meta::Quantity>().ok().map(|quantity| quantity.milli_value())
}

fn own(pod: &Pod) -> Option<Amounts> {
    let requests = pod.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    (!requests.is_empty()).then(|| Amounts::of(requests))
}

/// The containers of a pod that runs: all but those of its beginning.
fn running(pod: &Pod) -> impl Iterator<Item = &Container> {
    let of_beginning = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars = of_beginning.filter(|one| one.restart_policy.as_deref() == Some("Always"));
    pod.spec.iter().flat_map(|spec| &spec.containers).chain(sidecars)
}

fn requests(container: &Container) -> Amounts {
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    requests.map(Amounts::of).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::cache::digest_of;

    #[test]
    fn a_digest_says_what_its_pod_requests_and_since_when_it_is_ready() {
        let (start, ready) = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
        let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
        let containers = json!([{"name": "app", "resources": cpu("250m")}, {"name": "odd", "resources": cpu("much")}]);
        let init = json!([{"name": "first", "resources": cpu("7")}, {"name": "mesh", "restartPolicy": "Always", "resources": cpu("100m")}]);
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"containers": containers, "initContainers": init, "resources": {"requests": {"memory": "1Ki"}}},
            "status": {"startTime": start, "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": ready}]},
        }))
        .expect("a pod");
        let digest = digest_of::<Pod, ScaledPod>(&pod);
        let requests: Vec<_> = digest.containers.iter().map(|one| (&*one.container, one.amounts.get("cpu"))).collect();
        assert_eq!(requests, [("app", Some(250)), ("odd", None), ("mesh", Some(100))]);
        assert_eq!(digest.own.as_ref().map(|own| (own.get("memory"), own.get("cpu"))), Some((Some(1_024_000), None)));
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        assert_eq!((digest.started, digest.readiness), (Some(at(start)), Some(Readiness { is_false: true, changed: at(ready) })));
    }
}
