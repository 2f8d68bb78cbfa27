//! Service load balancers on bare metal: gives Services of `type: LoadBalancer` an address of a pool. Nodes announce it on their
//! link ([`crate::load_balancer`]) and proxy what comes.
//!
//! In: Services. Out: their `status.loadBalancer`, and upstream's finalizer, which keeps a Service until its address is released.
//! An address of the pool that a node hears a stranger answer for (it says so on its Node object) is given to nobody, and taken from who has it,
//! as far as what nodes say counts (`words.rs`).
//! A Service of both families gets an address of each. What the status says is what is assigned; there is no other record. Services with a `loadBalancerClass` are somebody else's.

mod plan;
pub mod pool;
mod words;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Service};
use parking_lot::Mutex;
use serde_json::{Value, json};
use troupe_api::{
    load_balancing::{ANNOUNCED, FINALIZER, answered_by_others, assigned, may_announce},
    meta::ObjectKey,
    projection::MetaProjection,
    service::PatchType,
};

pub use self::pool::Pool;
use self::{
    plan::{Plan, View, plan},
    words::{Verdict, Words},
};
use crate::runtime::{
    cache::{Cache, Caches, Digest, Digests},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// See the module.
pub struct ServiceLoadBalancerController {
    services: Cache<Service>,
    nodes: Cache<Node>,
    answered: Digests<Node, Answered>,
    words: Mutex<Words>,
    pool: Option<Pool>,
}

impl ServiceLoadBalancerController {
    pub fn new(caches: &Caches, pool: Option<Pool>) -> Self {
        let nodes: Cache<Node> = caches.cache();
        ServiceLoadBalancerController { services: caches.cache(), answered: nodes.digests(), nodes, words: Mutex::default(), pool }
    }

    /// What counts of what nodes say.
    fn verdict(&self, now: Timestamp) -> Verdict {
        let (mut said, mut announcers) = (Vec::new(), 0);
        for node in self.nodes.select_stored("", |_| true) {
            let digest = self.answered.of(&node);
            let Some(answered) = digest.as_deref().and_then(|digest| digest.0.as_ref()) else { continue };
            announcers += 1;
            if !answered.is_empty() {
                said.push((node.key.name.clone(), answered.clone()));
            }
        }
        self.words.lock().judge(&said, announcers == 1, now)
    }

    /// The addresses of others.
    fn view(&self, key: &ObjectKey, now: Timestamp) -> View {
        let Verdict { answered, doubted } = self.verdict(now);
        let mut view = View { answered, doubted, ..View::default() };
        for other in self.services.select("", |meta| meta.finalizers.iter().any(|held| **held == *FINALIZER)) {
            if is_named(&other, key) {
                continue;
            }
            for ip in assigned(&other) {
                view.taken.insert(ip, (plan::right(&other), other.metadata.name.clone().unwrap_or_default()));
            }
        }
        view
    }

    async fn write(&self, service: &Service, key: &ObjectKey, mut patch: Value, cx: &ReconcileContext) -> Result<(), ReconcileError> {
        patch["metadata"]["uid"] = json!(service.metadata.uid);
        patch["metadata"]["resourceVersion"] = json!(service.metadata.resource_version);
        // Both through the status, as upstream: that is what the role allows.
        match cx.client().namespaced::<Service>(key.namespace.clone()).patch(&key.name, "status", PatchType::Merge, &patch).await {
            Ok(written) => cx.wrote(&self.services, &*written),
            Err(status) if status.is_not_found() => {}
            Err(status) => return Err(status.into()),
        }
        Ok(())
    }
}

/// The addresses that a node heard somebody else answer for; nothing that it says counts while it may not announce.
struct Answered(Option<BTreeSet<IpAddr>>);

impl Answered {
    fn by(node: &Node) -> Self {
        Answered(may_announce(node).then(|| answered_by_others(node)))
    }
}

impl Digest<Node> for Answered {
    fn of(_: &Arc<MetaProjection>, node: &Node) -> Self {
        Answered::by(node)
    }
}

fn is_named(service: &Service, key: &ObjectKey) -> bool {
    let (namespace, name) = (service.metadata.namespace.as_deref(), service.metadata.name.as_deref());
    namespace == Some(&*key.namespace) && name == Some(&*key.name)
}

/// What is patched for addresses, or for none.
fn patched(service: &Service, ips: &[IpAddr]) -> Value {
    let mut finalizers: BTreeSet<&str> = service.metadata.finalizers.iter().flatten().map(String::as_str).collect();
    let (ingress, announced) = if ips.is_empty() {
        finalizers.remove(FINALIZER);
        (Value::Null, Value::Null)
    } else {
        finalizers.insert(FINALIZER);
        let ingress: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip.to_string(), "ipMode": "VIP"})).collect();
        (json!(ingress), json!("true"))
    };
    let finalizers = if finalizers.is_empty() { Value::Null } else { json!(finalizers) };
    json!({"metadata": {"finalizers": finalizers, "annotations": {ANNOUNCED: announced}}, "status": {"loadBalancer": {"ingress": ingress}}})
}

impl Controller for ServiceLoadBalancerController {
    const NAME: &'static str = "service-lb-controller";
    const EVENT_SOURCE: Option<&'static str> = Some("service-controller");
    // One at a time: two Services must not be given the same address.
    const CONCURRENCY: usize = 1;

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary_when::<Service>(|change| change.versions().any(|service| plan::concerns(service)));
        if self.pool.is_none() {
            return;
        }
        let services = self.services.clone();
        // Whoever has an address that somebody else answers for needs another one, and whoever waits may have one that nobody answers for.
        watches.map::<Node>(move |change| {
            let answered = |node: Option<&Arc<Node>>| node.and_then(|node| Answered::by(node).0).unwrap_or_default();
            if answered(change.before()) == answered(change.after()) {
                return Vec::new();
            }
            let concerned = services.list("").into_iter().filter(|service| plan::concerns(service));
            let key = |service: Arc<Service>| {
                ObjectKey::new(service.metadata.namespace.clone().unwrap_or_default(), service.metadata.name.clone().unwrap_or_default())
            };
            concerned.map(key).collect()
        });
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(cached) = self.services.get(key) else { return Ok(Outcome::Done) };
        let service = &*cached.object;
        match plan(service, self.pool.as_ref(), || self.view(key, cx.now())) {
            Plan::Keep => {}
            Plan::Release => {
                cx.tell(service, false, "DeletingLoadBalancer", "Deleting load balancer");
                self.write(service, key, patched(service, &[]), cx).await?;
                cx.tell(service, false, "DeletedLoadBalancer", "Deleted load balancer");
            }
            Plan::Assign(ips) => {
                cx.tell(service, false, "EnsuringLoadBalancer", "Ensuring load balancer");
                self.write(service, key, patched(service, &ips), cx).await?;
                cx.tell(service, false, "EnsuredLoadBalancer", "Ensured load balancer");
            }
            Plan::Withdraw(why) => {
                self.write(service, key, patched(service, &[]), cx).await?;
                cx.tell(service, true, "SyncLoadBalancerFailed", format!("Error syncing load balancer: failed to ensure load balancer: {why}"));
            }
            Plan::Refuse(why) => {
                cx.tell(service, true, "SyncLoadBalancerFailed", format!("Error syncing load balancer: failed to ensure load balancer: {why}"));
                // Without a pool nothing changes until this process is started with one.
                return if self.pool.is_some() { Err(ReconcileError::Other(why)) } else { Ok(Outcome::Done) };
            }
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_may_not_announce_says_nothing_that_counts() {
        let node = |ready: &str| -> Node {
            let annotations = json!({troupe_api::load_balancing::ANSWERED_BY_OTHERS: "192.0.2.1,x"});
            let conditions = json!([{"type": "Ready", "status": ready}]);
            serde_json::from_value(json!({"metadata": {"annotations": annotations}, "status": {"conditions": conditions}})).expect("a node")
        };
        assert_eq!(Answered::by(&node("True")).0, Some(BTreeSet::from([[192, 0, 2, 1].into()])));
        assert_eq!(Answered::by(&node("Unknown")).0, None);
    }

    #[test]
    fn others_finalizers_stay_when_ours_comes_and_goes() {
        let service = |finalizers: &[&str]| -> Service {
            serde_json::from_value(json!({"metadata": {"name": "s", "finalizers": finalizers}})).expect("a service")
        };
        let with = patched(&service(&["a/b"]), &[[192, 0, 2, 1].into()]);
        assert_eq!(with["metadata"]["finalizers"], json!(["a/b", FINALIZER]));
        assert_eq!(with["status"]["loadBalancer"]["ingress"][0]["ip"], "192.0.2.1");
        let without = patched(&service(&["a/b", FINALIZER]), &[]);
        assert_eq!((&without["metadata"]["finalizers"], &without["status"]["loadBalancer"]["ingress"]), (&json!(["a/b"]), &Value::Null));
        assert_eq!(patched(&service(&[FINALIZER]), &[])["metadata"]["finalizers"], Value::Null);
    }
}
