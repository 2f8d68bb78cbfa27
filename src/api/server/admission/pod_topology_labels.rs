//! `PodTopologyLabels`: a pod carries the zone and the region of its node (KEP-4742).

use async_trait::async_trait;
use troupe_api::{
    meta::{GroupResource, ObjectKey},
    status::Status,
};

use super::{Attributes, MutatingPlugin, Operation, Plugin};

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodTopologyLabels;

impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::CREATES
    }
}

#[async_trait]
impl MutatingPlugin for PodTopologyLabels {
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        let Some(node) = node_of(request) else { return Ok(()) };
        let found = request.reads.listers().get(&GroupResource::new("", "nodes"), &ObjectKey::cluster(node.as_str()));
        let Some(node) = found.map(|node| node.to_object()) else { return Ok(()) };
        let Some(object) = request.object_mut() else { return Ok(()) };
        for label in LABELS {
            if let Some(value) = node.label(label) {
                object.set(&["metadata", "labels", label], value);
            }
        }
        Ok(())
    }
}

/// The node that a new pod, or a binding, names.
fn node_of(request: &Attributes<'_>) -> Option<String> {
    let target = request.target;
    if request.operation != Operation::Create || !target.resource.group.is_empty() || &*target.resource.plural != "pods" {
        return None;
    }
    let object = request.object()?;
    let node = match &*target.subresource {
        "" => object.str(&["spec", "nodeName"]),
        "binding" if object.str(&["target", "kind"]) == "Node" => object.str(&["target", "name"]),
        _ => return None,
    };
    Some(node.to_owned()).filter(|node| !node.is_empty())
}
