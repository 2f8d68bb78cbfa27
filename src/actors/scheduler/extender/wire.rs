//! What is said to extenders and what they answer (`k8s.io/kube-scheduler/extender/v1`). Names of fields in answers are read as Go reads
//! them: in any case.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use crate::scheduler::framework::Candidate;

/// `ExtenderArgs`.
pub fn arguments(pod: &Pod, nodes: &[Arc<Node>], names_alone: bool) -> Value {
    let names = || nodes.iter().map(|node| node.metadata.name.as_deref().unwrap_or_default()).collect::<Vec<_>>();
    let items = || nodes.iter().map(|node| json!(**node)).collect::<Vec<Value>>();
    let (nodes, names) = if names_alone { (Value::Null, json!(names())) } else { (json!({"metadata": {}, "items": items()}), Value::Null) };
    json!({"Pod": pod, "Nodes": nodes, "NodeNames": names})
}

/// `ExtenderBindingArgs`.
pub fn binding(pod: &Pod, node: &str) -> Value {
    let metadata = &pod.metadata;
    json!({"PodName": metadata.name, "PodNamespace": metadata.namespace, "PodUID": metadata.uid, "Node": node})
}

/// `ExtenderPreemptionArgs`; `object` finds the pods.
pub fn preemption(pod: &Pod, candidates: &[Candidate], names_alone: bool, object: impl Fn(&Candidate) -> Vec<Arc<Pod>>) -> Value {
    let by_node: BTreeMap<&str, Value> = candidates
        .iter()
        .map(|candidate| {
            let pods: Vec<Value> = match names_alone {
                true => candidate.victims.iter().map(|victim| json!({"UID": &*victim.uid})).collect(),
                false => object(candidate).iter().map(|pod| json!(**pod)).collect(),
            };
            (&*candidate.node, json!({"Pods": pods, "NumPDBViolations": candidate.broken_budgets}))
        })
        .collect();
    let (victims, meta) = if names_alone { (Value::Null, json!(by_node)) } else { (json!(by_node), Value::Null) };
    json!({"Pod": pod, "NodeNameToVictims": victims, "NodeNameToMetaVictims": meta})
}

/// A field, by its name in any case.
pub fn field<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let fields = answer.as_object().into_iter().flatten();
    fields.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).next_back().unwrap_or(&Value::Null)
}

/// What an extender that filters lets pass.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filtered {
    pub nodes: Vec<String>,
    /// Why others are out, and whether removing pods would not help.
    pub failed: BTreeMap<String, (String, bool)>,
}

impl Filtered {
    /// Reads an `ExtenderFilterResult`.
    ///
    /// # Errors
    /// What the extender says went wrong.
    pub fn read(answer: &Value, names_alone: bool) -> Result<Self, String> {
        if let Some(why) = field(answer, "Error").as_str().filter(|why| !why.is_empty()) {
            return Err(why.to_owned());
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let names = field(answer, "NodeNames").as_array().filter(|_| names_alone);
        let items = field(field(answer, "Nodes"), "items").as_array();
        let nodes = match names {
            Some(names) => names.iter().map(text).collect(),
            None => items.into_iter().flatten().map(|node| text(&node["metadata"]["name"])).collect(),
        };
        let mut failed = BTreeMap::new();
        for (list, unresolvable) in [("FailedNodes", false), ("FailedAndUnresolvableNodes", true)] {
            let entries = field(answer, list).as_object().into_iter().flatten();
            failed.extend(entries.map(|(node, why)| (node.clone(), (text(why), unresolvable))));
        }
        Ok(Filtered { nodes, failed })
    }
}

/// Reads a `HostPriorityList`: scores by node.
pub fn scores(answer: &Value) -> BTreeMap<String, i64> {
    let entries = answer.as_array().into_iter().flatten();
    entries.map(|entry| (field(entry, "Host").as_str().unwrap_or_default().to_owned(), field(entry, "Score").as_i64().unwrap_or(0))).collect()
}

/// Reads an `ExtenderPreemptionResult`: UIDs of victims and how many break a budget, by node.
pub fn victims(answer: &Value) -> BTreeMap<String, (Vec<String>, usize)> {
    let by_node = field(answer, "NodeNameToMetaVictims").as_object().into_iter().flatten();
    let read = |victims: &Value| {
        let uid = |pod: &Value| field(pod, "UID").as_str().unwrap_or_default().to_owned();
        let uids = field(victims, "Pods").as_array().into_iter().flatten().map(uid).collect();
        (uids, field(victims, "NumPDBViolations").as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0))
    };
    by_node.map(|(node, victims)| (node.clone(), read(victims))).collect()
}
