//! `matchLabelKeys` and `mismatchLabelKeys` of affinity and of spread constraints: when a pod is made, its labels of these names go into the
//! selectors beside them (KEP-3633, KEP-3243), so that whoever reads the selectors need not know of the keys.

use serde_json::{Map, Value, json};

use crate::{
    meta::Object,
    resources::tree::{Fields, child, each},
};

/// Completes the selectors of a pod that is made.
pub fn merge(pod: &mut Object) {
    let Some(labels) = pod.at(&["metadata", "labels"]).cloned() else { return };
    let Some(Value::Object(spec)) = pod.root_mut().get_mut("spec") else { return };
    each(spec, "topologySpreadConstraints", |constraint| complete(constraint, &labels));
    let Some(affinity) = child(spec, "affinity") else { return };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = child(affinity, kind) else { continue };
        each(affinity, "requiredDuringSchedulingIgnoredDuringExecution", |term| complete(term, &labels));
        each(affinity, "preferredDuringSchedulingIgnoredDuringExecution", |weighted| {
            if let Some(term) = child(weighted, "podAffinityTerm") {
                complete(term, &labels);
            }
        });
    }
}

/// Without a selector nothing is selected, whatever the keys.
fn complete(term: &mut Fields, labels: &Map<String, Value>) {
    let keys = |name: &str| term.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let wanted = [("In", keys("matchLabelKeys")), ("NotIn", keys("mismatchLabelKeys"))];
    let found = wanted.iter().flat_map(|(operator, keys)| keys.iter().map(move |key| (operator, key)));
    let found = found.filter_map(|(operator, key)| Some((operator, key, labels.get(key.as_str()?)?)));
    let expressions: Vec<Value> = found.map(|(operator, key, value)| json!({"key": key, "operator": operator, "values": [value]})).collect();
    if expressions.is_empty() {
        return;
    }
    if let Some(selector) = child(term, "labelSelector")
        && let Value::Array(all) = selector.entry("matchExpressions").or_insert_with(|| json!([]))
    {
        all.extend(expressions);
    }
}
