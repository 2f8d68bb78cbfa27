//! Groups of pods that get nodes together (KEP-4671).

use std::sync::Arc;

use serde_json::{Value, json};
use troupe_api::{
    features::FeatureGates,
    resources::{builtin, optional},
    service::{DeleteOptions, PatchType},
};

use super::{World, eventually_async};
use crate::{
    controllers::pod_group_protection::PodGroupProtectionController,
    scheduler::{MakeSetup, Setup},
};

const GROUPS: &str = "podgroups.scheduling.k8s.io";
const WORKLOADS: &str = "workloads.scheduling.k8s.io";
const TOO_FEW: &str = "pod group is unschedulable, waiting for minCount pods from a gang to be scheduled";

/// A control plane with the features on.
async fn world() -> World {
    world_with(&[]).await
}

/// The same with further features.
async fn world_with(more: &[&str]) -> World {
    let gates: Vec<String> = ["GenericWorkload=true", "GangScheduling=true"].iter().chain(more).map(|gate| (*gate).to_owned()).collect();
    let features = FeatureGates::parse(&gates).expect("there are such features");
    let resources = builtin().into_iter().chain(optional(|feature| features.is_on(feature))).collect();
    let make: MakeSetup = Arc::new(|parts| Setup::standard(&parts.with_gangs()));
    let world = World::serving(resources, features, make).await;
    world.start(PodGroupProtectionController::new(&world.caches));
    world
}

fn group(name: &str, least: usize) -> Value {
    json!({"apiVersion": "scheduling.k8s.io/v1alpha2", "kind": "PodGroup", "metadata": {"name": name, "namespace": "default"},
        "spec": {"schedulingPolicy": {"gang": {"minCount": least}}}})
}

/// A pod of a group that takes a CPU.
fn pod(name: &str, group: &str) -> Value {
    let container = json!({"name": "c", "image": "a:1", "resources": {"requests": {"cpu": "1"}}});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"schedulingGroup": {"podGroupName": group}, "containers": [container]}})
}

async fn is_placed(world: &World, name: &str) -> bool {
    world.api.get("pods", "default", name).await.is_ok_and(|pod| !pod.str(&["spec", "nodeName"]).is_empty())
}

/// How many of a gang's pods (`a-0`, `a-1`, …) have a node.
async fn placed(world: &World, gang: &str, pods: usize) -> usize {
    let mut placed = 0;
    for number in 0..pods {
        placed += usize::from(is_placed(world, &format!("{gang}-{number}")).await);
    }
    placed
}

/// Status, reason and message of the group's condition.
async fn told(world: &World, name: &str) -> (String, String, String) {
    let group = world.api.get(GROUPS, "default", name).await.expect("is there");
    let found = group.list(&["status", "conditions"]).iter().find(|condition| condition["type"] == "PodGroupScheduled").cloned();
    let text = |field: &str| found.as_ref().map_or_else(String::new, |condition| condition[field].as_str().unwrap_or_default().to_owned());
    (text("status"), text("reason"), text("message"))
}

async fn end(world: &World, name: &str) {
    let at_once = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    world.api.delete("pods", "default", name, at_once).await.expect("deleted");
}

#[actix::test]
async fn of_two_gangs_that_fit_one_at_a_time_neither_has_half() {
    let world = world().await;
    world.node("n1", 3).await;
    world.node("n2", 2).await;
    for gang in ["a", "b"] {
        world.api.create(group(gang, 4)).await;
    }
    for number in 0..4 {
        for gang in ["a", "b"] {
            world.api.create(pod(&format!("{gang}-{number}"), gang)).await;
        }
    }
    let one_is_whole = async || matches!((placed(&world, "a", 4).await, placed(&world, "b", 4).await), (4, 0) | (0, 4));
    eventually_async("one gang is placed", one_is_whole).await;
    world.settles().await;
    let (first, second) = if placed(&world, "a", 4).await == 4 { ("a", "b") } else { ("b", "a") };
    assert_eq!(placed(&world, second, 4).await, 0);
    let scheduled = ("True".to_owned(), "Scheduled".to_owned(), String::new());
    eventually_async("the one says so", async || told(&world, first).await == scheduled).await;
    let waits = ("False".to_owned(), "Unschedulable".to_owned(), "pod group is unschedulable".to_owned());
    eventually_async("the other says so, too", async || told(&world, second).await == waits).await;
    // The one CPU that is left is kept by nobody: a pod of no gang gets it.
    let mut reasons = Vec::new();
    for number in 0..4 {
        reasons.extend(world.events("default", &format!("{second}-{number}")).await.into_iter().map(|(_, message)| message));
    }
    assert!(reasons.iter().any(|reason| reason == TOO_FEW), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("Insufficient cpu")), "{reasons:?}");
    let mut alone = pod("alone", "a");
    alone["spec"]["schedulingGroup"] = Value::Null;
    world.api.create(alone).await;
    eventually_async("it has the rest", async || is_placed(&world, "alone").await).await;
    for number in 0..4 {
        assert!(placed(&world, second, 4).await == 0, "three CPUs are too few");
        end(&world, &format!("{first}-{number}")).await;
    }
    eventually_async("the other gang is placed whole", async || placed(&world, second, 4).await == 4).await;
    eventually_async("and says so", async || told(&world, second).await == scheduled).await;
}

#[actix::test]
async fn pods_wait_for_their_group_and_for_one_another() {
    let world = world().await;
    world.node("n1", 4).await;
    world.api.create(pod("a-0", "a")).await;
    world.settles().await;
    assert!(!is_placed(&world, "a-0").await, "there is no group");
    world.api.create(group("a", 2)).await;
    world.settles().await;
    assert!(!is_placed(&world, "a-0").await, "it is alone");
    assert!(world.events("default", "a-0").await.is_empty(), "nothing was tried");
    world.api.create(pod("a-1", "a")).await;
    eventually_async("both are placed", async || placed(&world, "a", 2).await == 2).await;
    world.api.create(pod("a-2", "a")).await;
    eventually_async("one more goes alone", async || is_placed(&world, "a-2").await).await;
}

#[actix::test]
async fn pods_of_an_indexed_job_get_nodes_together() {
    let world = world_with(&["WorkloadWithJob=true"]).await;
    world.node("n1", 2).await;
    let container = json!({"name": "c", "image": "a:1", "resources": {"requests": {"cpu": "1"}}});
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [container]}});
    let spec = json!({"completionMode": "Indexed", "parallelism": 3, "completions": 3, "template": template});
    world.api.create(json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train", "namespace": "default"}, "spec": spec})).await;
    eventually_async("its pods are there", async || world.api.names("pods", "default").await.len() == 3).await;
    world.settles().await;
    let pods = world.api.names("pods", "default").await;
    for pod in &pods {
        assert!(!is_placed(&world, pod).await, "two CPUs are too few for all");
    }
    world.node("n2", 1).await;
    for pod in &pods {
        eventually_async("each has a node", async || is_placed(&world, pod).await).await;
    }
    assert_eq!((world.api.names(GROUPS, "default").await.len(), world.api.names(WORKLOADS, "default").await.len()), (1, 1));
    let target = world.api.target("jobs.batch", "default", "train");
    let smaller = json!({"spec": {"parallelism": 2, "completions": 2}});
    let refused = world.api.patch(target, PatchType::Merge, smaller).await.expect_err("a gang keeps its number");
    assert!(refused.message.contains("cannot change parallelism for a Job referencing gang-scheduled PodGroup"), "{refused:?}");
}

async fn priority_class(world: &World, value: i32) {
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "important"}, "value": value});
    world.api.create(class).await;
}

fn important(name: &str, group: &str) -> Value {
    let mut pod = pod(name, group);
    pod["spec"]["priorityClassName"] = "important".into();
    pod
}

#[actix::test]
async fn others_are_removed_for_a_gang_only_if_it_fits_then() {
    let world = world().await;
    world.play_kubelets();
    world.node("n1", 3).await;
    priority_class(&world, 10).await;
    let mut low = pod("low", "a");
    low["spec"]["schedulingGroup"] = Value::Null;
    world.api.create(low).await;
    eventually_async("it is placed", async || is_placed(&world, "low").await).await;
    world.api.create(group("large", 4)).await;
    for number in 0..4 {
        world.api.create(important(&format!("large-{number}"), "large")).await;
    }
    eventually_async("it does not fit", async || told(&world, "large").await.0 == "False").await;
    world.settles().await;
    assert!(is_placed(&world, "low").await && placed(&world, "large", 4).await == 0, "nobody goes for nothing");
    world.api.create(group("small", 3)).await;
    for number in 0..3 {
        world.api.create(important(&format!("small-{number}"), "small")).await;
    }
    eventually_async("it has the place", async || placed(&world, "small", 3).await == 3).await;
    assert!(world.api.get("pods", "default", "low").await.is_err(), "it went for others");
}

#[actix::test]
async fn a_group_stays_while_pods_are_of_it() {
    let world = world().await;
    world.node("n1", 4).await;
    world.api.create(group("a", 1)).await;
    world.api.create(pod("a-0", "a")).await;
    eventually_async("it is placed", async || is_placed(&world, "a-0").await).await;
    world.api.delete(GROUPS, "default", "a", DeleteOptions::default()).await.expect("deleted");
    world.settles().await;
    assert!(world.api.get(GROUPS, "default", "a").await.expect("a pod is of it").is_terminating());
    end(&world, "a-0").await;
    eventually_async("it goes with its last pod", async || world.api.get(GROUPS, "default", "a").await.is_err()).await;
}

#[actix::test]
async fn a_group_is_of_a_template_that_there_is_and_for_good() {
    let world = world().await;
    let of = |workload: &str, template: &str| {
        let mut of = group("a", 2);
        of["spec"]["podGroupTemplateRef"] = json!({"workload": {"workloadName": workload, "podGroupTemplateName": template}});
        of
    };
    let refused = |message: &str| format!("podgroups.scheduling.k8s.io \"a\" is forbidden: PodGroup rejected: {message}");
    let missing = world.api.try_create(of("w", "t")).await.expect_err("no workload");
    assert_eq!(missing.message, refused("Workload \"w\" not found"));
    let template = json!({"name": "t", "schedulingPolicy": {"gang": {"minCount": 2}}, "priority": 7});
    let workload = json!({"apiVersion": "scheduling.k8s.io/v1alpha2", "kind": "Workload", "metadata": {"name": "w", "namespace": "default"},
        "spec": {"podGroupTemplates": [template]}});
    world.api.create(workload).await;
    let stored = world.api.get(WORKLOADS, "default", "w").await.expect("is there");
    assert_eq!(stored.list(&["spec", "podGroupTemplates"]), [json!({"name": "t", "schedulingPolicy": {"gang": {"minCount": 2}}})]);
    let other = world.api.try_create(of("w", "u")).await.expect_err("no such template");
    assert_eq!(other.message, refused("PodGroupTemplate \"u\" not found in Workload \"w\""));
    let mut created = world.api.create(of("w", "t")).await;
    assert_eq!(created.list(&["metadata", "finalizers"]), [json!("scheduling.k8s.io/podgroup-protection")]);
    assert_eq!(created.get(&["spec", "disruptionMode"]), None);
    created.set(&["spec", "schedulingPolicy", "gang", "minCount"], 3);
    let changed = world.api.try_update(created.into_value()).await.expect_err("is for good");
    assert!(changed.message.contains("spec.schedulingPolicy: Invalid value: null: field is immutable"), "{}", changed.message);
}
