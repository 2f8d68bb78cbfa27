//! The status of cluster network policies: whether all that a policy says is enforced. Upstream's API names no types of conditions; this one is
//! named as those of the Gateway API are. Keys are policies.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};
use troupe_api::{meta::ObjectKey, service::PatchType};

use crate::{
    network_policy::cluster::{self, ClusterNetworkPolicy},
    runtime::{
        cache::{Cache, Caches},
        controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    },
};

const ACCEPTED: &str = "Accepted";
/// Bytes of a condition's message; the API takes 32768.
const LONGEST_MESSAGE: usize = 4096;

/// See the module.
pub struct ClusterPolicyStatusController {
    policies: Cache<ClusterNetworkPolicy>,
}

impl ClusterPolicyStatusController {
    pub fn new(caches: &Caches) -> Self {
        ClusterPolicyStatusController { policies: caches.cache() }
    }
}

/// The condition that a policy should have; `None` when it has it.
fn plan(policy: &ClusterNetworkPolicy, now: Timestamp) -> Option<Condition> {
    let problems = cluster::parse(policy).problems;
    let (status, reason, message) = match problems.as_slice() {
        [] => ("True", "Accepted", "all its rules are enforced".to_owned()),
        some => ("False", "Unsupported", some.join("; ")),
    };
    let message = message[..message.floor_char_boundary(LONGEST_MESSAGE)].to_owned();
    let conditions = policy.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let before = conditions.iter().find(|condition| condition.type_ == ACCEPTED);
    let since = before.filter(|before| before.status == status).map_or(Time(now), |before| before.last_transition_time.clone());
    let wanted = Condition {
        type_: ACCEPTED.into(),
        status: status.into(),
        reason: reason.into(),
        message,
        observed_generation: policy.metadata.generation,
        last_transition_time: since,
    };
    (before != Some(&wanted)).then_some(wanted)
}

/// The patch that sets a condition and leaves those of others.
fn patch(policy: &ClusterNetworkPolicy, condition: &Condition) -> Value {
    let others = policy.status.iter().flat_map(|status| &status.conditions).filter(|other| other.type_ != condition.type_);
    let all: Vec<&Condition> = others.chain([condition]).collect();
    // Somebody else's condition that came meanwhile must not be lost.
    json!({"metadata": {"resourceVersion": policy.metadata.resource_version}, "status": {"conditions": all}})
}

impl Controller for ClusterPolicyStatusController {
    const NAME: &'static str = "clusternetworkpolicy-status";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<ClusterNetworkPolicy>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(policy) = self.policies.get(key).map(|cached| cached.object) else { return Ok(Outcome::Done) };
        let Some(condition) = plan(&policy, cx.now()) else { return Ok(Outcome::Done) };
        let api = cx.client().all::<ClusterNetworkPolicy>();
        let written = api.patch(&key.name, "status", PatchType::Merge, &patch(&policy, &condition)).await?;
        cx.wrote(&self.policies, &*written);
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(to: Value) -> ClusterNetworkPolicy {
        let spec = json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "egress": [{"action": "Accept", "to": [to]}]});
        serde_json::from_value(json!({"metadata": {"name": "p", "generation": 3}, "spec": spec})).expect("a policy")
    }

    #[test]
    fn what_is_not_enforced_is_named_and_said_once() {
        let mut known = policy(json!({"networks": ["10.0.0.0/8"]}));
        let condition = plan(&known, Timestamp::UNIX_EPOCH).expect("has none");
        assert_eq!((&*condition.status, condition.observed_generation), ("True", Some(3)));
        known.status = serde_json::from_value(patch(&known, &condition)["status"].clone()).expect("a status");
        assert_eq!(plan(&known, Timestamp::now()), None);

        let mut names = policy(json!({"domainNames": ["*.com"]}));
        names.status = known.status;
        let refused = plan(&names, Timestamp::now()).expect("has another one");
        assert_eq!((&*refused.status, &*refused.reason), ("False", "Unsupported"));
        assert_eq!(refused.message, "spec.egress[0].to[0].domainNames[0] is no domain name: nothing is accepted by it");
        assert!(refused.last_transition_time.0 > Timestamp::UNIX_EPOCH);
        let other = Condition { type_: "Theirs".into(), ..condition };
        names.status.as_mut().expect("has one").conditions.push(other);
        assert_eq!(patch(&names, &refused)["status"]["conditions"].as_array().map(Vec::len), Some(2));
    }
}
