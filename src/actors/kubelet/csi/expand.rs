//! The node's part of a volume that has grown: its file system grows after it, and the claim tells.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::{Map, Value, json};
use troupe_api::service::PatchType;

use super::{
    Csi, Volume,
    proto::{CapacityRange, NodeExpandVolumeRequest, RpcType},
    record::Record,
    volume::Growth,
};

/// Conditions of a claim that grows.
const OF_GROWTH: [&str; 4] = ["Resizing", "FileSystemResizePending", "ControllerResizeError", "NodeResizeError"];

impl Csi {
    /// Lets a published volume grow on this node if its claim waits for that; says whether it has.
    ///
    /// # Errors
    /// The message of the event that says why not.
    pub async fn expand(&self, volume: &Volume, pod: &Pod) -> Result<bool, String> {
        let (Some(growth), Some(client)) = (&volume.growth, &self.client) else { return Ok(false) };
        let failed = |why: String| format!("NodeExpandVolume.NodeExpandVolume failed for volume {:?} : {why}", volume.spec_name);
        let (uid, namespace) = (pod.metadata.uid.as_deref().unwrap_or_default(), pod.metadata.namespace.clone().unwrap_or_default());
        if volume.read_only {
            return Ok(false);
        }
        let driver = self.driver(&volume.driver).map_err(failed)?;
        let _alone = self.lock(&volume.unique_name()).await;
        let able = driver.capabilities().await.map_err(|error| failed(error.to_string()))?;
        let claims = client.namespaced::<PersistentVolumeClaim>(namespace.as_str());
        if able.has(RpcType::ExpandVolume) {
            let record = Record::of(volume, &self.node);
            let staging = if able.has(RpcType::StageUnstageVolume) { self.layout.staging(&record).display().to_string() } else { String::new() };
            let asked = NodeExpandVolumeRequest {
                volume_id: volume.handle.clone(),
                volume_path: self.layout.target(uid, &record).display().to_string(),
                capacity_range: Some(CapacityRange { required_bytes: growth.bytes, limit_bytes: 0 }),
                staging_target_path: staging,
                volume_capability: Some(volume.capability(&able, None)),
                secrets: self.secret(volume.expand_secret.as_ref(), "NodeExpandSecretRef").await.map_err(failed)?,
            };
            if let Err(error) = driver.expand(asked).await {
                let why = format!("Expander.NodeExpand failed to expand the volume : {error}");
                if error.is_final {
                    let marked = claims.get(&growth.claim).await;
                    let patch = marked.map(|claim| unfinished(&claim, &why, error.is_infeasible));
                    if let Ok(patch) = patch
                        && let Err(status) = claims.patch(&growth.claim, "status", PatchType::Merge, &patch).await
                    {
                        tracing::debug!(%status, claim = growth.claim, "that the volume does not grow was not written");
                    }
                }
                return Err(failed(why));
            }
        }
        let claim = claims.get(&growth.claim).await.map_err(|status| failed(status.message))?;
        let written = claims.patch(&growth.claim, "status", PatchType::Merge, &finished(&claim, growth)).await;
        written.map(|_| true).map_err(|status| failed(format!("mountVolume.NodeExpandVolume update pvc status failed: {}", status.message)))
    }
}

/// What a claim's status becomes when its volume has grown.
fn finished(claim: &PersistentVolumeClaim, growth: &Growth) -> Value {
    let conditions = claim.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let kept: Vec<_> = conditions.filter(|condition| !OF_GROWTH.contains(&condition.type_.as_str())).collect();
    json!({"metadata": {"resourceVersion": claim.metadata.resource_version},
        "status": {"capacity": {"storage": growth.size}, "allocatedResourceStatuses": {"storage": null}, "conditions": kept}})
}

/// The same when the driver could not; an infeasible growth is not tried again.
fn unfinished(claim: &PersistentVolumeClaim, why: &str, is_infeasible: bool) -> Value {
    let conditions = claim.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut kept: Vec<Value> = conditions.filter(|condition| condition.type_ != "NodeResizeError").map(|condition| json!(condition)).collect();
    let now = troupe_api::meta::time::format_time(jiff::Timestamp::now());
    let message = format!("failed to expand pvc with {why}");
    kept.push(json!({"type": "NodeResizeError", "status": "True", "lastTransitionTime": now, "message": message}));
    let mut status = Map::from_iter([("conditions".to_owned(), json!(kept))]);
    if is_infeasible {
        status.insert("allocatedResourceStatuses".into(), json!({"storage": "NodeResizeInfeasible"}));
    }
    json!({"metadata": {"resourceVersion": claim.metadata.resource_version}, "status": status})
}

#[cfg(test)]
mod tests {
    use serde_json::from_value;

    use super::*;

    #[test]
    fn a_claim_that_has_grown_says_so_and_nothing_of_the_way() {
        let claim = from_value(json!({"metadata": {"name": "c", "resourceVersion": "7"}, "status": {"capacity": {"storage": "1Gi"},
            "allocatedResourceStatuses": {"storage": "NodeResizePending"},
            "conditions": [{"type": "FileSystemResizePending", "status": "True"}, {"type": "Other", "status": "True"}]}}))
        .expect("a claim");
        let growth = Growth { claim: "c".into(), size: "2Gi".into(), bytes: 2 << 30 };
        let patch = finished(&claim, &growth);
        assert_eq!(patch["status"]["capacity"]["storage"], "2Gi");
        assert_eq!(patch["status"]["conditions"], json!([{"type": "Other", "status": "True"}]));
        assert!(patch["status"]["allocatedResourceStatuses"]["storage"].is_null());
        let patch = unfinished(&claim, "no room", true);
        assert_eq!(patch["status"]["allocatedResourceStatuses"]["storage"], "NodeResizeInfeasible");
        assert_eq!(patch["status"]["conditions"][2]["message"], "failed to expand pvc with no room");
        assert!(unfinished(&claim, "no room", false)["status"].get("allocatedResourceStatuses").is_none());
    }
}
