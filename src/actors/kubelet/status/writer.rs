//! A status as the patch that writes it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Value, json};

use crate::kubelet::{cluster::is_static, patch::replace_list};

/// Fields that must go when the new status has none of them.
const CLEARED: &[&str] = &[
    "reason",
    "message",
    "resources",
    "allocatedResources",
    "podIP",
    "podIPs",
    "initContainerStatuses",
    "containerStatuses",
    "ephemeralContainerStatuses",
];

/// Lists that a strategic merge would add to: a pod whose sandbox was made anew has other addresses, not more of them.
const ADDRESSES: &[&str] = &["podIPs", "hostIPs"];

/// The strategic merge patch from the pod as the API has it to its new status: only conditions of our own, and
/// only for this very pod (its uid must match). `written` is what was written last, which the pod may not show yet.
pub fn status_patch(pod: &Pod, status: &PodStatus, written: Option<&PodStatus>) -> Value {
    let mut new = serde_json::to_value(status).expect("an API type always encodes");
    let old = pod.status.as_ref().map(|status| serde_json::to_value(status).expect("an API type always encodes")).unwrap_or_default();
    if let Some(fields) = new.as_object_mut() {
        for name in CLEARED {
            if !fields.contains_key(*name) && old.get(name).is_some() {
                fields.insert((*name).to_owned(), Value::Null);
            }
        }
        if let Some(conditions) = fields.get_mut("conditions").and_then(Value::as_array_mut) {
            let own: std::collections::BTreeSet<&str> =
                status.conditions.iter().flatten().filter(|condition| super::is_own(condition)).map(|condition| condition.type_.as_str()).collect();
            conditions.retain(|condition| condition["type"].as_str().is_some_and(|kind| own.contains(kind)));
            clear_texts(conditions);
            let order = order(pod, conditions);
            let told = pod.status.iter().chain(written).flat_map(|status| status.conditions.iter().flatten());
            let told: std::collections::BTreeSet<&str> = told.map(|condition| condition.type_.as_str()).collect();
            let over = super::conditions::RESIZE.into_iter().filter(|kind| told.contains(kind) && !own.contains(kind));
            conditions.extend(over.map(|kind| json!({"$patch": "delete", "type": kind})));
            fields.insert("$setElementOrder/conditions".to_owned(), order);
        }
        for name in ADDRESSES {
            replace_list(fields, name);
        }
    }
    json!({"metadata": {"uid": pod.metadata.uid}, "status": new})
}

/// In which order conditions come, as upstream's kubelet has them: those of others, as the pod shows them, then its own.
fn order(pod: &Pod, own: &[Value]) -> Value {
    let is_kept = |kind: &str| !super::conditions::RESIZE.contains(&kind) && own.iter().all(|condition| condition["type"] != kind);
    let others = conditions(pod.status.as_ref()).map(|(kind, _)| kind).filter(|kind| is_kept(kind));
    let own = own.iter().map(|condition| json!({"type": condition["type"]}));
    others.map(|kind| json!({"type": kind})).chain(own).collect()
}

/// A merged condition keeps its old reason and message unless told otherwise.
fn clear_texts(conditions: &mut [Value]) {
    for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
        for name in ["reason", "message"] {
            condition.entry(name).or_insert(Value::Null);
        }
    }
}

/// Whether somebody else says otherwise of what the kubelet said, as the node controller does of pods on a node that is silent. A
/// pod that does not show yet what was written is told by that, too: look again before writing. A mirror pod that shows nothing of
/// it was made anew.
pub fn is_overwritten(pod: &Pod, written: &PodStatus) -> bool {
    let shown: BTreeMap<&str, &str> = conditions(pod.status.as_ref()).collect();
    let mut own = written.conditions.iter().flatten().filter(|condition| super::is_own(condition)).peekable();
    let is_new = |status: &PodStatus| !status.conditions.iter().flatten().any(super::is_own);
    if is_static(pod) && own.peek().is_some() && pod.status.as_ref().is_some_and(is_new) {
        return true;
    }
    own.any(|condition| shown.get(condition.type_.as_str()).is_some_and(|status| *status != condition.status))
}

fn conditions(status: Option<&PodStatus>) -> impl Iterator<Item = (&str, &str)> {
    let all = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
    all.map(|condition| (condition.type_.as_str(), condition.status.as_str()))
}

/// Whether the API already shows this status.
pub fn is_shown(pod: &Pod, status: &PodStatus) -> bool {
    pod.status.as_ref() == Some(status)
}
