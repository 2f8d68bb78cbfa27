use std::time::Duration;

use serde_json::{Value, json};
use troupe_api::meta::{Cause, ObjectKey};

use super::{World, eventually, eventually_async};
use crate::runtime::{
    recorder::{Hop, HopRecord, Outcome},
    system::SystemOptions,
};

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
    // As upstream's scheduler of 1.36 says it.
    let why = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is \
               not helpful for scheduling.";
    eventually_async("the event is there", async || world.events("default", "big").await.iter().any(|(reason, _)| reason == "FailedScheduling"))
        .await;
    let (_, message) = world.events("default", "big").await.into_iter().find(|(reason, _)| reason == "FailedScheduling").expect("just seen");
    assert_eq!(message, why);
    world.settles().await;
    world.node("n2", 4).await;
    eventually_async("the pod is bound", async || node_of(&world, "big").await == "n2").await;
}

#[actix::test]
async fn a_large_pod_that_fits_nowhere_is_bound_when_a_node_comes() {
    let world = World::new().await;
    world.node("n1", 2).await;
    let mut big = pod("big", "3");
    big["metadata"]["annotations"] = json!({"large": "x".repeat(40 << 10)});
    world.api.create(big).await;
    eventually_async("the event is there", async || world.events("default", "big").await.iter().any(|(reason, _)| reason == "FailedScheduling"))
        .await;
    world.node("n2", 4).await;
    eventually_async("the pod is bound", async || node_of(&world, "big").await == "n2").await;
}

#[actix::test]
async fn a_pod_that_asks_too_much_is_told_so_and_gets_no_node() {
    let world = World::new().await;
    world.node("n1", 4).await;
    let terms: Vec<Value> = (0..1000).map(|at| json!({"matchExpressions": [{"key": format!("k{at}"), "operator": "DoesNotExist"}]})).collect();
    let constraint = |at: usize| json!({"maxSkew": 1, "topologyKey": format!("k{at}"), "whenUnsatisfiable": "ScheduleAnyway"});
    let mut much = pod("much", "1");
    much["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}});
    much["spec"]["topologySpreadConstraints"] = (0..300).map(constraint).collect();
    world.api.create(much).await;
    world.api.create(pod("p", "1")).await;
    eventually_async("the other pod is bound", async || node_of(&world, "p").await == "n1").await;
    let is_told = |events: &[(String, String)]| {
        events.iter().any(|(reason, message)| reason == "FailedScheduling" && message.ends_with("ask for too many comparisons with nodes and pods"))
    };
    eventually_async("the event is there", async || is_told(&world.events("default", "much").await)).await;
    assert_eq!(node_of(&world, "much").await, "");
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
    let is_whole = |steps: &[HopRecord]| expected.iter().all(|link| steps.iter().any(|step| (&*step.from, &*step.to, &*step.message) == *link));
    // A reconcile is a hop when it has ended, which may be after the pod is bound.
    eventually("the whole chain is there", || is_whole(&trace())).await;
    let steps = trace();
    noise(&world, 50_000);
    let later = trace();
    assert!(is_whole(&later), "what led to writes is remembered as long as these: {later:#?}");
    assert!(steps.iter().all(|step| step.trace == steps[0].trace), "one trace: {steps:#?}");
}

/// So many messages that have nothing to do with anything.
fn noise(world: &World, messages: usize) {
    let recorder = world.system.recorder();
    for _ in 0..messages {
        let (to, message, at) = (recorder.intern("noise"), recorder.intern("Tick"), std::time::Instant::now());
        let (waited, handled) = (Duration::ZERO, Duration::ZERO);
        let cause = Cause { trace: 7, span: 7, ..Cause::default() };
        recorder.hop(Hop { from: to, to, message, waited, handled, outcome: Outcome::Done, cause, span: 0, produced: None, at });
    }
}

/// What a pod's trace tells of its decision and its binding: spans of decisions, and parents of the scheduler's commits.
fn decisions(world: &World, pod: &str) -> (Vec<String>, Vec<String>) {
    let steps = world.system.recorder().trace_of("pods", &ObjectKey::new("default", pod));
    let of = |from: &str, to: &str, message: &str| (from.to_owned(), to.to_owned(), message.to_owned());
    let is = |step: &HopRecord, wanted: &(String, String, String)| (&*step.from, &*step.to, &*step.message) == (&wanted.0, &wanted.1, &wanted.2);
    let (decided, bound) = (of("apiserver/pods", "scheduler", "Schedule"), of("scheduler", "apiserver/pods", "Commit"));
    let spans = steps.iter().filter(|step| is(step, &decided)).map(|step| step.span.clone());
    (spans.collect(), steps.iter().filter(|step| is(step, &bound)).map(|step| step.parent.clone()).collect())
}

/// However much else happens meanwhile: the ring of all hops is overwritten within seconds, what changed something is remembered longer,
/// and a decision belongs to what it changed.
#[actix::test]
async fn no_trace_of_a_bound_pod_is_without_its_decision() {
    const PODS: usize = 40;
    let world = World::new().await;
    // Some pods are bound at once, some only after a node comes, some after less important ones are gone.
    world.node("n1", 10).await;
    for number in 0..PODS {
        world.api.create(pod(&format!("p{number}"), if number % 3 == 0 { "1" } else { "500m" })).await;
    }
    world.node("n2", 40).await;
    for number in 0..PODS {
        eventually_async("the pod is bound", async || !node_of(&world, &format!("p{number}")).await.is_empty()).await;
        // A commit is recorded when it is answered, which is after others see what it wrote.
        eventually("its commit is recorded", || !decisions(&world, &format!("p{number}")).1.is_empty()).await;
    }
    noise(&world, 5 * SystemOptions::default().hops);
    for number in 0..PODS {
        let (spans, parents) = decisions(&world, &format!("p{number}"));
        assert!(!parents.is_empty(), "the commit of p{number}'s binding is remembered");
        assert!(parents.iter().all(|parent| spans.contains(parent)), "p{number}: {parents:?} are not all among {spans:?}");
    }
}

fn with_priority(name: &str, cpu: &str, priority: i32) -> Value {
    let mut pod = pod(name, cpu);
    pod["metadata"]["labels"] = json!({"app": name});
    pod["spec"]["priorityClassName"] = json!(format!("p{priority}"));
    pod
}

async fn priority_class(world: &World, value: i32) {
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": format!("p{value}")}, "value": value});
    world.api.create(class).await;
}

#[actix::test]
async fn a_more_important_pod_takes_the_place_of_a_less_important_one() {
    let world = World::new().await;
    world.node("n1", 4).await;
    for value in [1, 5, 10] {
        priority_class(&world, value).await;
    }
    world.api.create(with_priority("low", "2", 1)).await;
    world.api.create(with_priority("middle", "2", 5)).await;
    for name in ["low", "middle"] {
        eventually_async("the pod is bound", async || node_of(&world, name).await == "n1").await;
    }
    world.api.create(with_priority("high", "2", 10)).await;
    // Nobody plays the kubelet yet: the pod that has to go stays, and says why it goes.
    eventually_async("the least important pod is deleted", async || {
        let low = world.api.get("pods", "default", "low").await.expect("its kubelet has not ended it");
        let conditions = low.list(&["status", "conditions"]);
        let disrupted = conditions.iter().find(|condition| condition["type"] == "DisruptionTarget");
        low.is_terminating()
            && disrupted.is_some_and(|condition| {
                condition["reason"] == "PreemptionByScheduler"
                    && condition["observedGeneration"] == 1
                    && condition["message"] == "default-scheduler: preempting to accommodate a higher priority pod"
            })
    })
    .await;
    eventually_async("the node is kept free for it", async || {
        let high = world.api.get("pods", "default", "high").await.expect("there");
        high.str(&["status", "nominatedNodeName"]) == "n1"
    })
    .await;
    let high = world.api.get("pods", "default", "high").await.expect("there");
    let preempted = ("Preempted".to_owned(), format!("Preempted by pod {} on node n1", high.uid()));
    eventually_async("the event is there", async || world.events("default", "low").await.contains(&preempted)).await;
    assert_eq!(node_of(&world, "high").await, "", "the other one has not gone yet");
    world.play_kubelets();
    eventually_async("it takes the place", async || node_of(&world, "high").await == "n1").await;
    let high = world.api.get("pods", "default", "high").await.expect("there");
    assert_eq!(high.str(&["status", "nominatedNodeName"]), "", "it has what it was nominated to");
    let middle = world.api.get("pods", "default", "middle").await.expect("it was spared");
    assert!(!middle.is_terminating());
    world.settles().await;
}

#[actix::test]
async fn who_waits_for_a_pod_to_leave_keeps_its_nomination_when_another_one_waits_for_it_too() {
    let world = World::new().await;
    world.node("n1", 2).await;
    for value in [1, 5, 10] {
        priority_class(&world, value).await;
    }
    world.api.create(with_priority("low", "2", 1)).await;
    eventually_async("the pod is bound", async || node_of(&world, "low").await == "n1").await;
    // Nobody plays the kubelet: the pod that has to go stays.
    let nominated = async |name: &str| world.api.get("pods", "default", name).await.expect("there").str(&["status", "nominatedNodeName"]).to_owned();
    for (name, priority) in [("middle", 5), ("high", 10)] {
        world.api.create(with_priority(name, "2", priority)).await;
        eventually_async("the node is kept free for it", async || nominated(name).await == "n1").await;
    }
    world.settles().await;
    assert_eq!(nominated("middle").await, "n1");
}

#[actix::test]
async fn a_pod_that_must_not_preempt_waits() {
    let world = World::new().await;
    world.node("n1", 2).await;
    priority_class(&world, 1).await;
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "p10"}, "value": 10,
        "preemptionPolicy": "Never"});
    world.api.create(class).await;
    world.api.create(with_priority("low", "2", 1)).await;
    eventually_async("the pod is bound", async || node_of(&world, "low").await == "n1").await;
    world.api.create(with_priority("high", "2", 10)).await;
    let why = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never.";
    let told = ("FailedScheduling".to_owned(), why.to_owned());
    eventually_async("it says so", async || world.events("default", "high").await.contains(&told)).await;
    world.settles().await;
    let low = world.api.get("pods", "default", "low").await.expect("still there");
    assert!(!low.is_terminating());
}

#[actix::test]
async fn pods_of_a_gate_wait_and_then_keep_apart_by_their_affinity() {
    let world = World::new().await;
    for node in ["n1", "n2"] {
        world.node(node, 4).await;
        let labels = json!({"metadata": {"labels": {"kubernetes.io/hostname": node}}});
        world.api.patch(world.api.target("nodes", "", node), troupe_api::service::PatchType::Merge, labels).await.expect("labelled");
    }
    let apart = |name: &str| {
        let mut pod = pod(name, "1");
        pod["metadata"]["labels"] = json!({"app": "db"});
        let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}});
        pod["spec"]["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
        pod
    };
    let mut gated = apart("a");
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
    world.api.create(gated).await;
    world.api.create(apart("b")).await;
    eventually_async("the pod without gates is bound", async || !node_of(&world, "b").await.is_empty()).await;
    world.settles().await;
    assert_eq!(node_of(&world, "a").await, "");
    let ungated = json!({"spec": {"schedulingGates": null}});
    world.api.patch(world.api.target("pods", "default", "a"), troupe_api::service::PatchType::Merge, ungated).await.expect("the gate is gone");
    eventually_async("it is bound, too", async || !node_of(&world, "a").await.is_empty()).await;
    assert_ne!(node_of(&world, "a").await, node_of(&world, "b").await);
    world.api.create(apart("c")).await;
    let why = "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules. no new claims to deallocate, preemption: 0/2 nodes are \
               available: 2 No preemption victims found for incoming pod.";
    let told = ("FailedScheduling".to_owned(), why.to_owned());
    eventually_async("it says why not", async || world.events("default", "c").await.contains(&told)).await;
    world.client().namespaced::<k8s_openapi::api::core::v1::Pod>("default").delete("b", Default::default()).await.expect("deleted");
    world.play_kubelets();
    eventually_async("the third one takes the place", async || !node_of(&world, "c").await.is_empty()).await;
}
