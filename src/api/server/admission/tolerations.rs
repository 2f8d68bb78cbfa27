//! `DefaultTolerationSeconds`: pods stay for a while, usually five minutes, on a node that is not ready or not reachable.

use async_trait::async_trait;
use serde_json::{Value, json};
use troupe_api::status::Status;

use super::{Attributes, MutatingPlugin, Operation, Plugin};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// The plugin: for how many seconds pods stay that say nothing themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultTolerationSeconds {
    pub not_ready: i64,
    pub unreachable: i64,
}

impl Default for DefaultTolerationSeconds {
    fn default() -> Self {
        DefaultTolerationSeconds { not_ready: 300, unreachable: 300 }
    }
}

impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::WRITES
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
        let stays = [(NOT_READY, self.not_ready), (UNREACHABLE, self.unreachable)];
        let is_missing = |(taint, _): &(&str, i64)| !tolerations.iter().any(|toleration| tolerates(toleration, taint));
        let missing: Vec<(&str, i64)> = stays.into_iter().filter(is_missing).collect();
        if missing.is_empty() {
            return Ok(());
        }
        for (taint, seconds) in missing {
            tolerations.push(json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}));
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
