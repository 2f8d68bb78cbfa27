//! `ExtendedResourceToleration`: pods that ask for an extended resource tolerate the taint of the nodes kept for it.

use std::collections::BTreeSet;

use async_trait::async_trait;
use serde_json::{Value, json};
use troupe_api::{meta::Object, resources::validation::resource_names::is_extended, status::Status};

use super::{Attributes, MutatingPlugin, Operation, Plugin};

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExtendedResourceToleration;

impl Plugin for ExtendedResourceToleration {
    fn name(&self) -> &'static str {
        "ExtendedResourceToleration"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::WRITES
    }
}

#[async_trait]
impl MutatingPlugin for ExtendedResourceToleration {
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || !request.is_main("", "pods") {
            return Ok(());
        }
        let Some(pod) = request.object_mut() else { return Ok(()) };
        let asked = asked(pod);
        if asked.is_empty() {
            return Ok(());
        }
        let mut tolerations = pod.list(&["spec", "tolerations"]).to_vec();
        for resource in asked {
            let wanted = json!({"key": resource, "operator": "Exists", "effect": "NoSchedule"});
            // It loses the seconds after which it ends.
            match tolerations.iter_mut().find(|toleration| is_same(toleration, &wanted)) {
                Some(same) => *same = wanted,
                None => tolerations.push(wanted),
            }
        }
        pod.set(&["spec", "tolerations"], tolerations);
        Ok(())
    }
}

/// Whether both are about the same taint (upstream's `MatchToleration`).
fn is_same(one: &Value, other: &Value) -> bool {
    ["key", "effect", "operator", "value"].iter().all(|field| one[*field].as_str().unwrap_or_default() == other[*field].as_str().unwrap_or_default())
}

/// The extended resources that containers ask for.
fn asked(pod: &Object) -> BTreeSet<String> {
    let containers = ["containers", "initContainers"].into_iter().flat_map(|list| pod.list(&["spec", list]));
    let requests = containers.filter_map(|container| container.pointer("/resources/requests")?.as_object());
    requests.flat_map(|requests| requests.keys()).filter(|name| is_extended(name)).cloned().collect()
}
