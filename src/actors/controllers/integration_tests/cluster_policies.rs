//! Policies of a kind that somebody defines while the controllers run.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use troupe_api::{
    ApiCall, ApiReply, ApiService, Status,
    meta::{Cause, GroupResource, ObjectKey},
    resources::Registry,
    service::{DeleteOptions, ListOptions, Target, UserInfo, WatchOptions, WatchStream},
};
use troupe_api_client::Client;

use super::{World, eventually_async};
use crate::{
    controllers::network_policy::{NetworkPolicyController, status::ClusterPolicyStatusController},
    network_policy::{cluster::ClusterNetworkPolicy, slices::PEERS_LABEL},
    runtime::cache::{Cache, Caches},
};

const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";
const DEFINITION: &str = "clusternetworkpolicies.policy.networking.k8s.io";

fn definition() -> Value {
    let names = json!({"plural": "clusternetworkpolicies", "kind": "ClusterNetworkPolicy"});
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let version = json!({"name": "v1alpha2", "served": true, "storage": true, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": schema}});
    let approved = json!({"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/network-policy-api/pull/347"});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": DEFINITION, "annotations": approved},
        "spec": {"group": "policy.networking.k8s.io", "scope": "Cluster", "names": names, "versions": [version]},
    })
}

fn policy(name: &str, to: Value) -> Value {
    let rules = json!([{"action": "Deny", "to": [to]}]);
    json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": {"name": name},
        "spec": {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "egress": rules}})
}

/// The addresses that nodes are told of cluster network policies' peers.
async fn told(world: &World) -> Vec<String> {
    let slices = world.api.list("endpointslices.discovery.k8s.io", "kube-system", ListOptions::default()).await.expect("listed");
    let slices = slices.items.iter().filter(|slice| slice.meta().labels.get(PEERS_LABEL).is_some());
    let endpoints = slices.map(|slice| slice.to_object()).flat_map(|slice| slice.list(&["endpoints"]).to_vec());
    let mut all: Vec<String> = endpoints.filter_map(|endpoint| endpoint["addresses"][0].as_str().map(str::to_owned)).collect();
    all.sort();
    all
}

async fn accepted(world: &World, name: &str) -> String {
    let policy = world.api.get(DEFINITION, "", name).await.expect("is there");
    let condition = policy.list(&["status", "conditions"]).iter().find(|condition| condition["type"] == "Accepted");
    condition.map(|condition| condition["status"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

async fn defined(world: &World) {
    world.api.create(definition()).await;
    eventually_async("the kind is served", async || {
        let definition = world.api.get(DEFINITIONS, "", DEFINITION).await.expect("is there");
        definition.list(&["status", "conditions"]).iter().any(|condition| condition["type"] == "Established" && condition["status"] == "True")
    })
    .await;
}

#[actix::test]
async fn peers_of_cluster_policies_are_told_while_their_kind_is_defined() {
    let world = World::new().await;
    world.start(NetworkPolicyController::new(&world.caches));
    world.start(ClusterPolicyStatusController::new(&world.caches));
    world.node("n1", 1).await;
    let addresses = json!({"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "n1"}]}});
    let target = world.api.subresource("nodes", "", "n1", "status");
    world.api.patch(target, troupe_api::service::PatchType::Merge, addresses).await.expect("is written");
    // Twice: what is defined again begins afresh.
    for _ in 0..2 {
        defined(&world).await;
        assert_eq!(told(&world).await, [] as [String; 0]);
        world.api.create(policy("nodes", json!({"nodes": {}}))).await;
        world.api.create(policy("names", json!({"domainNames": ["example.com"]}))).await;
        eventually_async("the peers are told", async || told(&world).await == ["192.0.2.1"]).await;
        eventually_async("its status", async || accepted(&world, "nodes").await == "True" && accepted(&world, "names").await == "False").await;
        world.api.delete(DEFINITIONS, "", DEFINITION, DeleteOptions::default()).await.expect("goes");
        eventually_async("nothing is told", async || told(&world).await.is_empty()).await;
        eventually_async("the definition is gone", async || world.api.get(DEFINITIONS, "", DEFINITION).await.is_err()).await;
    }
}

/// An API server that lets nobody watch one resource.
struct Refusing {
    inner: Arc<dyn ApiService>,
    resource: Mutex<&'static str>,
}

impl ApiService for Refusing {
    fn call(&self, call: ApiCall) -> BoxFuture<'static, Result<ApiReply, Status>> {
        self.inner.call(call)
    }

    fn watch(&self, user: Arc<UserInfo>, target: Target, options: WatchOptions, cause: Cause) -> BoxFuture<'static, Result<WatchStream, Status>> {
        if *target.resource.plural == **self.resource.lock() {
            let resource = GroupResource::new(&*target.resource.group, &*target.resource.plural);
            return Box::pin(std::future::ready(Err(Status::forbidden(&resource, "", "a test says so"))));
        }
        self.inner.watch(user, target, options, cause)
    }

    fn registry(&self) -> Arc<Registry> {
        self.inner.registry()
    }
}

/// The cluster policies as somebody knows them who may not watch a resource, until it is named no more.
fn kept_from(world: &World, resource: &'static str) -> (Arc<Refusing>, Cache<ClusterNetworkPolicy>, Caches) {
    let refusing = Arc::new(Refusing { inner: world.api.server.clone(), resource: Mutex::new(resource) });
    let caches = Caches::new(world.system.clone(), Client::new(refusing.clone(), world.api.user.clone(), "test"));
    (refusing, caches.cache(), caches)
}

#[actix::test]
async fn policies_of_a_kind_whose_definition_nobody_lets_us_see_are_none() {
    let world = World::new().await;
    defined(&world).await;
    world.api.create(policy("nodes", json!({"nodes": {}}))).await;
    let (refusing, policies, _caches) = kept_from(&world, "customresourcedefinitions");
    assert!(tokio::time::timeout(Duration::from_secs(10), policies.synced()).await.is_ok(), "pods wait for ever");
    assert!(policies.keys().is_empty());
    *refusing.resource.lock() = "nothing";
    eventually_async("the policy is seen", async || policies.contains(&ObjectKey::cluster("nodes"))).await;
}

#[actix::test]
async fn policies_that_nobody_lets_us_see_are_none() {
    let world = World::new().await;
    defined(&world).await;
    world.api.create(policy("nodes", json!({"nodes": {}}))).await;
    let (refusing, policies, _caches) = kept_from(&world, "clusternetworkpolicies");
    assert!(tokio::time::timeout(Duration::from_secs(10), policies.synced()).await.is_ok(), "pods wait for ever");
    assert!(policies.keys().is_empty());
    *refusing.resource.lock() = "nothing";
    eventually_async("the policy is seen", async || policies.contains(&ObjectKey::cluster("nodes"))).await;
}
