//! `DefaultTolerationSeconds`: pods stay five minutes on a node that is not ready or not reachable.

use async_trait::async_trait;
use serde_json::{Value, json};
use troupe_api::status::Status;

use super::{Attributes, MutatingPlugin, Operation, Plugin};

const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultTolerationSeconds;

impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }
}

#[async_trait]
impl MutatingPlugin for DefaultTolerationSeconds {
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || !request.is_main("", "pods") {
            return Ok(());
        }
        let Some(pod) = request.object_mut() else { return Ok(()) };
        let mut tolerations = pod.list(&["spec", "tolerations"]).to_vec();
        let missing = TAINTS.iter().filter(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint))).collect::<Vec<_>>();
        if missing.is_empty() {
            return Ok(());
        }
        for taint in missing {
            tolerations.push(json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}));
        }
        pod.set(&["spec", "tolerations"], tolerations);
        Ok(())
    }
}

/// Whether the pod already says what it wants about `taint`.
fn tolerates(toleration: &Value, taint: &str) -> bool {
    let text = |field: &str| toleration.get(field).and_then(Value::as_str).unwrap_or("");
    let key_fits = text("key") == taint || text("key").is_empty();
    key_fits && matches!(text("effect"), "NoExecute" | "")
}
