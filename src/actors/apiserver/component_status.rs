//! `componentstatuses`: how the store, the controllers and the scheduler are, looked up whenever somebody asks.
//!
//! Upstream knocks at the ports that controllers and scheduler have on its own machine. Here they are known by the leases
//! of their leaders, wherever those run.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use serde_json::json;
use troupe_api::{
    meta::{Clock, GroupResource, LabelSelector, Object, ObjectKey},
    service::{Listers, Target},
    status::Status,
    stored::StoredObject,
};
use troupe_api_server::store::Store;

use super::{computed::Computed, health::store_answers, listers::CacheListers};

/// How long the store may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// All components by name, each with the lease of its leader; the store has none.
const COMPONENTS: [(&str, Option<&str>); 3] =
    [("controller-manager", Some("kube-controller-manager")), ("etcd-0", None), ("scheduler", Some("kube-scheduler"))];

/// The components, as a resource that is read but not stored.
pub struct ComponentStatuses {
    store: Arc<dyn Store>,
    listers: Arc<CacheListers>,
    clock: Arc<dyn Clock>,
}

impl ComponentStatuses {
    pub fn new(store: Arc<dyn Store>, listers: Arc<CacheListers>, clock: Arc<dyn Clock>) -> Self {
        ComponentStatuses { store, listers, clock }
    }

    async fn health(&self, lease: Option<&str>) -> Health {
        let Some(name) = lease else {
            return match store_answers(self.store.current_revision(), PATIENCE).await {
                Ok(()) => Health::good(),
                Err(why) => Health { error: why, ..Health::default() },
            };
        };
        let key = ObjectKey::new("kube-system", name);
        let lease = self.listers.get(&GroupResource::new("coordination.k8s.io", "leases"), &key);
        let lease = lease.and_then(|lease| lease.typed::<Lease>().ok());
        of_leader(&key, lease.as_ref().and_then(|lease| lease.spec.as_ref()), self.clock.now())
    }
}

#[async_trait]
impl Computed for ComponentStatuses {
    fn resource(&self) -> GroupResource {
        GroupResource::new("", "componentstatuses")
    }

    async fn get(&self, target: &Target) -> Result<Arc<StoredObject>, Status> {
        let Some((name, lease)) = COMPONENTS.iter().find(|(known, _)| **known == *target.name) else {
            return Err(Status::not_found(&GroupResource::new("", "componentstatus"), &target.name));
        };
        object(name, &self.health(*lease).await).map(Arc::new)
    }

    async fn list(&self, _namespace: &str, _labels: &LabelSelector) -> Result<Vec<Arc<StoredObject>>, Status> {
        let mut items = Vec::new();
        for (name, lease) in COMPONENTS {
            items.push(Arc::new(object(name, &self.health(lease).await)?));
        }
        Ok(items)
    }
}

/// How a component is.
#[derive(Debug, Default, PartialEq)]
struct Health {
    good: bool,
    message: String,
    error: String,
}

impl Health {
    fn good() -> Self {
        Health { good: true, message: "ok".into(), error: String::new() }
    }

    fn bad(message: String) -> Self {
        Health { good: false, message, error: String::new() }
    }
}

/// A component is well while somebody leads it.
fn of_leader(key: &ObjectKey, lease: Option<&LeaseSpec>, now: Timestamp) -> Health {
    let Some(lease) = lease else { return Health::bad(format!("there is no lease {key}")) };
    let holder = lease.holder_identity.as_deref().unwrap_or_default();
    let Some(renewed) = lease.renew_time.as_ref().filter(|_| !holder.is_empty()) else {
        return Health::bad(format!("nobody holds the lease {key}"));
    };
    let silent = now.duration_since(renewed.0).as_secs();
    if silent <= i64::from(lease.lease_duration_seconds.unwrap_or_default()) {
        return Health::good();
    }
    Health::bad(format!("{holder} holds the lease {key}, but renewed it {silent} s ago"))
}

fn object(name: &str, health: &Health) -> Result<StoredObject, Status> {
    let mut condition = json!({"type": "Healthy", "status": if health.good { "True" } else { "False" }});
    for (field, text) in [("message", &health.message), ("error", &health.error)] {
        if !text.is_empty() {
            condition[field] = json!(text);
        }
    }
    let tree = json!({"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name}, "conditions": [condition]});
    let tree = Object::from_value(tree).expect("an object is an object");
    StoredObject::from_object(&tree).map_err(Status::internal)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn a_component_is_well_while_its_leader_renews_the_lease() {
        let key = ObjectKey::new("kube-system", "kube-scheduler");
        let lease = LeaseSpec {
            holder_identity: Some("one_42".into()),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(at(100))),
            ..LeaseSpec::default()
        };
        assert_eq!(of_leader(&key, Some(&lease), at(115)), Health::good());
        let late = Health::bad("one_42 holds the lease kube-system/kube-scheduler, but renewed it 16 s ago".into());
        assert_eq!(of_leader(&key, Some(&lease), at(116)), late);
        let given_up = LeaseSpec { holder_identity: Some(String::new()), ..lease };
        assert_eq!(of_leader(&key, Some(&given_up), at(100)).message, "nobody holds the lease kube-system/kube-scheduler");
        assert_eq!(of_leader(&key, None, at(100)).message, "there is no lease kube-system/kube-scheduler");
    }

    #[test]
    fn what_is_wrong_is_told_and_what_is_empty_is_left_out() {
        let told = |health| object("x", &health).expect("an object").to_object().list(&["conditions"])[0].clone();
        assert_eq!(told(Health::good()), json!({"type": "Healthy", "status": "True", "message": "ok"}));
        let silent = Health { error: "the store is away".into(), ..Health::default() };
        assert_eq!(told(silent), json!({"type": "Healthy", "status": "False", "error": "the store is away"}));
    }
}
