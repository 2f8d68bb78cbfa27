//! `LimitPodHardAntiAffinityTopology`: pods may keep others off a node, and off nothing larger.

use async_trait::async_trait;
use troupe_api::status::Status;

use super::{Attributes, Operation, Plugin, ValidatingPlugin};

const HOST_NAME: &str = "kubernetes.io/hostname";

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct LimitPodHardAntiAffinityTopology;

impl Plugin for LimitPodHardAntiAffinityTopology {
    fn name(&self) -> &'static str {
        "LimitPodHardAntiAffinityTopology"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::WRITES
    }
}

#[async_trait]
impl ValidatingPlugin for LimitPodHardAntiAffinityTopology {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        let Some(pod) = request.object().filter(|_| writes && request.is_main("", "pods")) else { return Ok(()) };
        let terms = pod.list(&["spec", "affinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution"]);
        let keys = terms.iter().map(|term| term["topologyKey"].as_str().unwrap_or_default());
        match keys.into_iter().find(|key| *key != HOST_NAME) {
            None => Ok(()),
            Some(key) => Err(request
                .forbidden(format!("affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {HOST_NAME} is allowed"))),
        }
    }
}
