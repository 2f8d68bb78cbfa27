//! Connections whose options admission changes.

use serde_json::{Value, json};

use super::world::World;

/// A policy that patches the options of a connection, with its binding.
async fn change(world: &World, resource: &str, patch: &str) {
    let version = "admissionregistration.k8s.io/v1";
    let rule = json!({"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": [resource]});
    let name = resource.replace('/', "-");
    let mutation = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": patch}});
    let spec: Value =
        json!({"matchConstraints": {"resourceRules": [rule]}, "mutations": [mutation], "reinvocationPolicy": "Never", "failurePolicy": "Fail"});
    world.api.create(json!({"apiVersion": version, "kind": "MutatingAdmissionPolicy", "metadata": {"name": name}, "spec": spec})).await;
    let binding = json!({"apiVersion": version, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": {"policyName": name}});
    world.api.create(binding).await;
}

#[actix::test]
async fn what_admission_makes_of_a_connection_is_what_is_connected_to() {
    let world = World::start().await;
    world.pod("work", &[("a", "sleep 1000"), ("b", "touch /tmp/b; sleep 1000")]).await;
    change(
        &world,
        "pods/exec",
        "[JSONPatch{op: 'replace', path: '/container', value: 'b'},
        JSONPatch{op: 'replace', path: '/command/1', value: '/tmp/b'}]",
    )
    .await;
    assert_eq!(world.says(&["exec", "work", "-c", "a", "--", "ls", "/tmp/asked"]).await, "/tmp/b\n");
    change(&world, "nodes/proxy", "[JSONPatch{op: 'replace', path: '/path', value: '/healthz'}]").await;
    assert_eq!(world.says(&["get", "--raw", "/api/v1/nodes/node/proxy/nowhere"]).await, "ok");
    change(&world, "pods/portforward", "[JSONPatch{op: 'add', path: '/ports', value: ['no number']}]").await;
    let refused = world.says(&["port-forward", "pod/work", ":80"]).await;
    assert!(refused.contains("error upgrading connection"), "{refused}");
    world.stop().await;
}
