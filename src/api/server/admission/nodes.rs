//! `TaintNodesByCondition`: a new node takes no pods until it has been seen ready.

use async_trait::async_trait;
use serde_json::json;
use troupe_api::status::Status;

use super::{Attributes, MutatingPlugin, Operation, Plugin};

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaintNodesByCondition;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::CREATES
    }
}

#[async_trait]
impl MutatingPlugin for TaintNodesByCondition {
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        if request.operation != Operation::Create || !request.is_main("", "nodes") {
            return Ok(());
        }
        let Some(node) = request.object_mut() else { return Ok(()) };
        let mut taints = node.list(&["spec", "taints"]).to_vec();
        if !taints.iter().any(|taint| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule") {
            taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
            node.set(&["spec", "taints"], taints);
        }
        Ok(())
    }
}
