//! The node's lease, by which others see that it lives.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
};
use serde_json::json;
use troupe_api::{Status, meta::time::format_micro_time, service::PatchType};
use troupe_api_client::Client;

/// It holds for so many renewals.
const HOLDS: u32 = 4;
/// Where nodes have their leases.
pub const NAMESPACE: &str = "kube-node-lease";

/// When the lease was last renewed, as it says.
pub async fn renewed(client: &Client, node: &str) -> Result<Option<Timestamp>, Status> {
    let lease = client.namespaced::<Lease>(NAMESPACE).get_opt(node).await?;
    Ok(lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0)))
}

/// The time that the next renewal tells. Who watches the lease takes only a later one for a sign of life, so a clock that
/// was set back must not show.
pub fn next_renewal(before: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let least = before.and_then(|before| before.checked_add(SignedDuration::from_micros(1)).ok());
    least.map_or(now, |least| least.max(now))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewals_go_on_although_the_clock_was_set_back() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        assert_eq!(next_renewal(None, at(5)), at(5));
        assert_eq!(next_renewal(Some(at(5)), at(15)), at(15));
        let first = next_renewal(Some(at(3600)), at(10));
        let second = next_renewal(Some(first), at(20));
        assert!(at(3600) < first && first < second);
    }
}
