use serde_json::json;
use troupe_api::service::{DeleteOptions, PatchType};

use super::{super::system_namespaces::SystemNamespacesController, World, eventually_async};

#[actix::test]
async fn a_new_namespace_gets_its_account_and_the_root_certificate() {
    let world = World::new().await;
    world.api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})).await;
    eventually_async("the account is there", async || world.api.get("serviceaccounts", "team", "default").await.is_ok()).await;
    eventually_async("the certificate is there", async || {
        let map = world.api.get("configmaps", "team", "kube-root-ca.crt").await;
        map.is_ok_and(|map| map.str(&["data", "ca.crt"]) == "CA")
    })
    .await;
    world.settles().await;
}

#[actix::test]
async fn a_deleted_namespace_takes_everything_along() {
    let world = World::new().await;
    world.node("n1", 64).await;
    world.play_kubelets();
    world.api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})).await;
    eventually_async("the account is there", async || world.api.get("serviceaccounts", "team", "default").await.is_ok()).await;
    let mut deployment = super::deployment("web", 2, "a:1");
    deployment["metadata"]["namespace"] = json!("team");
    world.api.create(deployment).await;
    world
        .api
        .create(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "team"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}))
        .await;
    eventually_async("the pods are there", async || world.api.names("pods", "team").await.len() == 2).await;
    world.api.delete("namespaces", "", "team", DeleteOptions::default()).await.expect("accepted");
    eventually_async("the namespace is gone", async || world.api.get("namespaces", "", "team").await.is_err()).await;
    for resource in ["pods", "replicasets.apps", "deployments.apps", "services", "configmaps", "serviceaccounts", "endpoints"] {
        assert_eq!(world.api.names(resource, "team").await, Vec::<String>::new(), "{resource}");
    }
    world.settles().await;
}

#[actix::test]
async fn pods_of_a_deleted_namespace_end_before_anything_else_goes() {
    let world = World::new().await;
    world.api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})).await;
    eventually_async("the account is there", async || world.api.get("serviceaccounts", "team", "default").await.is_ok()).await;
    let metadata = |name: &str| json!({"name": name, "namespace": "team"});
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata("held"), "spec": {"containers": [{"name": "a", "image": "a:1"}]}});
    pod["metadata"]["finalizers"] = json!(["example.com/held"]);
    world.api.create(pod).await;
    world.api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("kept")})).await;
    let policy = json!({"podSelector": {}});
    world.api.create(json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata("kept"), "spec": policy})).await;
    world.api.delete("namespaces", "", "team", DeleteOptions::default()).await.expect("accepted");
    eventually_async("the namespace waits for the pod", async || {
        let namespace = world.api.get("namespaces", "", "team").await.expect("is still there");
        let told = "Some resources are remaining: pods. has 1 resource instances";
        namespace.list(&["status", "conditions"]).iter().any(|condition| condition["message"] == told)
    })
    .await;
    assert!(world.api.get("pods", "team", "held").await.expect("is held").is_terminating());
    for resource in ["configmaps", "networkpolicies.networking.k8s.io"] {
        assert!(!world.api.get(resource, "team", "kept").await.expect("is kept").is_terminating(), "{resource}");
    }
    let target = world.api.target("pods", "team", "held");
    world.api.patch(target, PatchType::Merge, json!({"metadata": {"finalizers": null}})).await.expect("is let go");
    eventually_async("the namespace is gone", async || world.api.get("namespaces", "", "team").await.is_err()).await;
    assert_eq!(world.api.names("configmaps", "team").await, Vec::<String>::new());
    world.settles().await;
}

/// Upstream's estimate is how long pods may take to end: what is there after that is a failure, and before it is none.
#[actix::test]
async fn a_pod_that_takes_longer_than_it_may_is_told_of_as_a_failure() {
    let world = World::new().await;
    world.node("n1", 4).await;
    let failure = async |namespace: &str| {
        let found = world.api.get("namespaces", "", namespace).await.expect("is still there");
        let conditions = found.list(&["status", "conditions"]).to_vec();
        let failure = conditions.into_iter().find(|condition| condition["type"] == "NamespaceDeletionContentFailure");
        failure.map(|condition| condition["message"].as_str().unwrap_or_default().to_owned())
    };
    for (namespace, grace) in [("short", 1), ("long", 3600)] {
        world.api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})).await;
        eventually_async("the account is there", async || world.api.get("serviceaccounts", namespace, "default").await.is_ok()).await;
        let spec = json!({"containers": [{"name": "a", "image": "a:1"}], "terminationGracePeriodSeconds": grace});
        world.api.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "slow", "namespace": namespace}, "spec": spec})).await;
        eventually_async("the pod has a node", async || {
            world.api.get("pods", namespace, "slow").await.is_ok_and(|pod| pod.str(&["spec", "nodeName"]) == "n1")
        })
        .await;
        world.api.delete("namespaces", "", namespace, DeleteOptions::default()).await.expect("accepted");
    }
    let told = "Failed to delete all resource types, 1 remaining: unexpected items still remain in namespace: short for gvr: /v1, Resource=pods";
    eventually_async("the pod is told of", async || failure("short").await.as_deref() == Some(told)).await;
    eventually_async("the other namespace is looked at", async || failure("long").await.is_some()).await;
    assert_eq!(failure("long").await.as_deref(), Some("All content successfully deleted, may be waiting on finalization"));
    world.play_kubelets();
    for namespace in ["short", "long"] {
        eventually_async("the namespace is gone", async || world.api.get("namespaces", "", namespace).await.is_err()).await;
    }
    world.settles().await;
}

#[actix::test]
async fn a_namespace_that_every_cluster_has_is_made_anew_and_no_other() {
    let world = World::new().await;
    world.start(SystemNamespacesController::new(&world.caches));
    // What lacks at the start is made then.
    eventually_async("the node's leases have a place", async || world.api.get("namespaces", "", "kube-node-lease").await.is_ok()).await;
    let made = world.api.get("namespaces", "", "kube-node-lease").await.expect("is there");
    world.api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})).await;
    for name in ["team", "kube-node-lease"] {
        world.api.delete("namespaces", "", name, DeleteOptions::default()).await.expect("accepted");
    }
    eventually_async("the node's leases have a place again", async || {
        let namespace = world.api.get("namespaces", "", "kube-node-lease").await;
        namespace.is_ok_and(|namespace| namespace.uid() != made.uid())
    })
    .await;
    eventually_async("the other one is gone", async || world.api.get("namespaces", "", "team").await.is_err()).await;
    world.settles().await;
    assert!(world.api.get("namespaces", "", "team").await.is_err());
}
