//! The node's lease, by which others see that it lives.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
};
use serde_json::json;
use troupe_api::{Status, client::Client, meta::time::format_micro_time, service::PatchType};

/// It holds for so many renewals.
const HOLDS: u32 = 4;
const NAMESPACE: &str = "kube-node-lease";

/// Renews the lease, making it where there is none. `heartbeat` says how often that happens.
pub async fn renew(client: &Client, node: &str, uid: Option<&str>, now: Timestamp, heartbeat: Duration) -> Result<(), Status> {
    let duration = i32::try_from((heartbeat * HOLDS).as_secs().max(1)).unwrap_or(i32::MAX);
    let api = client.namespaced::<Lease>(NAMESPACE);
    let patch = json!({"spec": {"renewTime": format_micro_time(now), "holderIdentity": node, "leaseDurationSeconds": duration}});
    match api.patch(node, "", PatchType::Merge, &patch).await {
        Err(status) if status.is_not_found() => {}
        other => return other.map(drop),
    }
    let owner = uid.map(|uid| OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.to_owned(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    });
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(node.to_owned()),
            namespace: Some(NAMESPACE.into()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(node.to_owned()),
            lease_duration_seconds: Some(duration),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        }),
    };
    api.create(&lease).await.map(drop)
}
