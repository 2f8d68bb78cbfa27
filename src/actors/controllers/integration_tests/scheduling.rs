use serde_json::{Value, json};
use troupe_api::meta::ObjectKey;

use super::{World, eventually, eventually_async};

fn pod(name: &str, cpu: &str) -> Value {
    let containers = json!([{"name": "c", "image": "a:1", "resources": {"requests": {"cpu": cpu}}}]);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": {"containers": containers}})
}

async fn node_of(world: &World, name: &str) -> String {
    let pod = world.api.get("pods", "default", name).await.expect("there");
    pod.str(&["spec", "nodeName"]).to_owned()
}

#[actix::test]
async fn a_pending_pod_is_bound_and_says_so() {
    let world = World::new().await;
    world.node("n1", 4).await;
    world.api.create(pod("p", "1")).await;
    eventually_async("the pod is bound", async || node_of(&world, "p").await == "n1").await;
    let scheduled = ("Scheduled".to_owned(), "Successfully assigned default/p to n1".to_owned());
    eventually_async("the event is there", async || world.events("default", "p").await.contains(&scheduled)).await;
    world.settles().await;
}

#[actix::test]
async fn a_pod_that_fits_nowhere_says_why_and_is_bound_when_a_node_comes() {
    let world = World::new().await;
    world.node("n1", 2).await;
    world.api.create(pod("big", "3")).await;
    let why = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption \
               victims found for incoming pod.";
    eventually_async("the event is there", async || world.events("default", "big").await.iter().any(|(reason, _)| reason == "FailedScheduling"))
        .await;
    let (_, message) = world.events("default", "big").await.into_iter().find(|(reason, _)| reason == "FailedScheduling").expect("just seen");
    assert!(message.starts_with("0/1 nodes are available: 1 Insufficient cpu."), "{message} against {why}");
    world.settles().await;
    world.node("n2", 4).await;
    eventually_async("the pod is bound", async || node_of(&world, "big").await == "n2").await;
}

#[actix::test]
async fn the_trace_of_a_pod_leads_from_the_deployment_to_its_node() {
    let world = World::new().await;
    world.node("n1", 4).await;
    world.deployment("web", 1, "a:1").await;
    eventually_async("the pod is bound", async || {
        let Some(pod) = world.api.names("pods", "default").await.pop() else { return false };
        node_of(&world, &pod).await == "n1"
    })
    .await;
    let pod = world.api.names("pods", "default").await.remove(0);
    let expected = [
        ("outside", "apiserver/deployments.apps", "Commit"),
        ("apiserver/deployments.apps", "controllers/deployment", "Reconcile"),
        ("controllers/deployment", "apiserver/replicasets.apps", "Commit"),
        ("apiserver/replicasets.apps", "controllers/replicaset", "Reconcile"),
        ("controllers/replicaset", "apiserver/pods", "Commit"),
        ("apiserver/pods", "scheduler", "Schedule"),
        ("scheduler", "apiserver/pods", "Commit"),
    ];
    let trace = || world.system.recorder().trace_of("pods", &ObjectKey::new("default", pod.as_str()));
    // A reconcile is a hop when it has ended, which may be after the pod is bound.
    eventually("the whole chain is there", || {
        let steps = trace();
        expected.iter().all(|link| steps.iter().any(|step| (&*step.from, &*step.to, &*step.message) == *link))
    })
    .await;
    let steps = trace();
    assert!(steps.iter().all(|step| step.trace == steps[0].trace), "one trace: {steps:#?}");
}
