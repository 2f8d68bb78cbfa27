use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{
    allocation::{DEFERRED, Pending, generation},
    message,
    operations::{Operation, changes, in_progress, operations, pod_target},
    pending::{Candidate, sort},
    *,
};
use crate::kubelet::worker::observed::{ContainerView, Observed, RunState, SandboxView};

fn container(name: &str, cpu: &str, memory: &str) -> Value {
    let size = json!({"cpu": cpu, "memory": memory});
    json!({"name": name, "resources": {"requests": size, "limits": size}})
}

fn pod(containers: &[Value]) -> Arc<Pod> {
    let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 2}, "spec": {"containers": containers}});
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn running(names: &[&str]) -> Observed {
    let view = |name: &&str| ContainerView {
        id: format!("{name}-0"),
        name: (*name).to_owned(),
        sandbox: "s".into(),
        state: RunState::Running,
        ..Default::default()
    };
    Observed { sandboxes: vec![SandboxView { id: "s".into(), ready: true, ..Default::default() }], containers: names.iter().map(view).collect() }
}

/// The writes in short: `pod memory quota shares`, or `name cpu memory` of limits.
fn writes(before: &Pod, after: &Pod, names: &[&str]) -> Vec<String> {
    let actuated = Actuated::as_specified(before);
    let (spec, observed) = (after.spec.as_ref().expect("a spec"), running(names));
    let changes = changes(spec, &observed, &actuated);
    let all = operations(&changes, actuated.pod, pod_target(after, spec, actuated.pod));
    let short = |operation: &Operation| match operation {
        Operation::Pod(PodAmounts { memory, cpu_quota, cpu_shares }) => format!("pod {}Mi {cpu_quota} {cpu_shares}", memory >> 20),
        Operation::Container { name, amounts, .. } => format!("{name} {}m {}Mi", amounts.cpu_limit, amounts.memory_limit >> 20),
    };
    all.iter().map(short).collect()
}

#[test]
fn a_pod_that_grows_does_so_before_its_containers_and_shrinks_after_them() {
    let small = pod(&[container("a", "100m", "10Mi"), container("b", "100m", "10Mi")]);
    let large = pod(&[container("a", "200m", "20Mi"), container("b", "200m", "20Mi")]);
    let growing = ["pod 40Mi 20000 204", "a 100m 20Mi", "b 100m 20Mi", "pod 40Mi 40000 204", "pod 40Mi 40000 409", "a 200m 20Mi", "b 200m 20Mi"];
    assert_eq!(writes(&small, &large, &["a", "b"]), growing);
    let shrinking = ["b 200m 10Mi", "a 200m 10Mi", "pod 20Mi 40000 409", "b 100m 10Mi", "a 100m 10Mi", "pod 20Mi 40000 204", "pod 20Mi 20000 204"];
    assert_eq!(writes(&large, &small, &["a", "b"]), shrinking);
}

#[test]
fn containers_that_shrink_make_room_for_those_that_grow() {
    let before = pod(&[container("a", "100m", "10Mi"), container("b", "100m", "10Mi"), container("c", "100m", "10Mi")]);
    let after = pod(&[container("a", "150m", "20Mi"), container("b", "60m", "5Mi"), container("c", "100m", "5Mi")]);
    let expected = ["c 100m 5Mi", "b 100m 5Mi", "a 100m 20Mi", "pod 30Mi 31000 307", "pod 30Mi 31000 317", "b 60m 5Mi", "a 150m 20Mi"];
    assert_eq!(writes(&before, &after, &["a", "b", "c"])[..], expected);
}

#[test]
fn limits_are_added_and_what_does_not_run_is_left_for_its_start() {
    let only_requests = json!({"name": "a", "resources": {"requests": {"cpu": "20m"}}});
    let with_limit = json!({"name": "a", "resources": {"requests": {"cpu": "25m"}, "limits": {"cpu": "35m"}}});
    let idle = json!({"name": "b", "resources": {"requests": {"memory": "1Mi"}}});
    let (before, after) = (pod(&[only_requests, idle.clone()]), pod(&[with_limit, idle]));
    assert_eq!(writes(&before, &after, &["a", "b"]), ["pod 0Mi 0 25", "a 35m 0Mi"]);
    assert_eq!(writes(&before, &after, &["b"]), ["pod 0Mi 0 25"]);
}

#[test]
fn a_resize_is_in_progress_until_all_that_runs_has_its_size() {
    let (before, after) = (pod(&[container("a", "1", "1Gi")]), pod(&[container("a", "2", "1Gi")]));
    let going = |actuated: &Actuated, observed: &Observed| in_progress(&after, after.spec.as_ref().expect("a spec"), observed, actuated);
    let mut actuated = Actuated::as_specified(&before);
    assert!(going(&actuated, &running(&["a"])) && !going(&actuated, &Observed::default()));
    actuated.pod = Actuated::as_specified(&after).pod;
    assert!(going(&actuated, &running(&["a"])));
    assert!(!going(&Actuated::as_specified(&after), &running(&["a"])));
}

#[test]
fn a_worker_sees_a_pod_with_what_is_allocated_and_nothing_that_nobody_looked_at() {
    let allocations = Allocations::default();
    let (before, after) = (pod(&[container("a", "1", "1Gi")]), pod(&[container("a", "2000m", "1Gi")]));
    let sees = |pod: &Arc<Pod>| match allocations.view(pod.clone()) {
        View::Allocated(pod, _) => ("allocated", cpu_of(&pod)),
        View::Unjudged(pod, _) => ("unjudged", cpu_of(&pod)),
    };
    assert_eq!(sees(&after), ("allocated", "2000m".to_owned()), "nothing is known");
    allocations.set("u", PodAllocation { judged: 1, generation: 1, ..PodAllocation::admitted(&before) });
    assert_eq!(sees(&after), ("unjudged", "1".to_owned()));
    let pending = Some(Pending { reason: DEFERRED, message: "no room".into(), generation: 2 });
    allocations.set("u", PodAllocation { judged: generation(&after), pending, ..PodAllocation::admitted(&before) });
    assert_eq!(sees(&after), ("allocated", "1".to_owned()));
    let same = pod(&[container("a", "1000m", "1024Mi")]);
    assert!(Arc::ptr_eq(&allocations.applied_to(&same), &same), "the same amounts in other words");
    allocations.remove("u");
    assert_eq!(sees(&after), ("allocated", "2000m".to_owned()));
}

fn cpu_of(pod: &Pod) -> String {
    let spec = pod.spec.as_ref().expect("a spec");
    spec.containers[0].resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get("cpu")).expect("a request").0.clone()
}

#[test]
fn records_survive_a_restart_and_damaged_ones_count_as_none() {
    let root = tempfile::tempdir().expect("a directory");
    let directory = root.path().join("pods/u");
    std::fs::create_dir_all(&directory).expect("makes");
    let pod = pod(&[container("a", "1", "1Gi")]);
    let allocated = Allocated::of(pod.spec.as_ref().expect("a spec"));
    let record = Record { generation: 7, allocated: allocated.clone(), actuated: Actuated::as_specified(&pod) };
    record.write(&directory).expect("writes");
    assert_eq!(Record::read(&directory), Some(record));
    let loaded = Allocations::load(root.path()).get("u").expect("is there");
    assert_eq!((loaded.generation, loaded.judged, &loaded.allocated), (7, 7, &allocated));
    std::fs::write(directory.join("resources.json"), "{\"generation\": ").expect("writes");
    assert!(Record::read(&directory).is_none() && Allocations::load(root.path()).get("u").is_none());
}

#[test]
fn who_asks_for_no_more_comes_first_then_priority_class_and_patience() {
    let candidate = |name: &str, priority: i32, limits: Value, since: Option<&str>, had: &str| {
        let conditions = since.map(|since| json!([{"type": "PodResizePending", "status": "True", "lastTransitionTime": since}]));
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": name},
            "spec": {"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": limits}}]},
            "status": {"conditions": conditions}}))
        .expect("a pod");
        let mut before = pod.clone();
        let requests = before.spec.as_mut().and_then(|spec| spec.containers[0].resources.as_mut()?.requests.as_mut()).expect("requests");
        requests.insert("cpu".into(), k8s_openapi::apimachinery::pkg::api::resource::Quantity(had.into()));
        Candidate { pod: Arc::new(pod), allocation: Arc::new(PodAllocation::admitted(&before)) }
    };
    let all = json!({"cpu": "2", "memory": "1Gi"});
    let (early, late) = (Some("2026-01-01T00:00:00Z"), Some("2026-01-01T00:01:00Z"));
    let mut candidates = [
        candidate("new", 5, json!({}), None, "1"),
        candidate("late", 5, json!({}), late, "1"),
        candidate("early", 5, json!({}), early, "1"),
        candidate("guaranteed", 5, all, late, "1"),
        candidate("important", 9, json!({}), late, "1"),
        candidate("smaller", 0, json!({}), late, "3"),
    ];
    sort(&mut candidates);
    let names: Vec<_> = candidates.iter().map(|candidate| candidate.pod.metadata.name.clone().expect("a name")).collect();
    assert_eq!(names, ["smaller", "important", "guaranteed", "early", "late", "new"]);
}

#[test]
fn events_tell_the_sizes_as_json() {
    let pod: Pod = serde_json::from_value(json!({"spec": {
        "initContainers": [{"name": "c0", "resources": {"limits": {"cpu": "200m"}, "requests": {"cpu": "100m"}}}],
        "containers": [{"name": "c1", "resources": {"requests": {"cpu": "200m", "memory": "100"}}}],
    }}))
    .expect("a pod");
    let sizes = "\"initContainers\":[{\"name\":\"c0\",\"resources\":{\"limits\":{\"cpu\":\"200m\"},\"requests\":{\"cpu\":\"100m\"}}}],\
                 \"containers\":[{\"name\":\"c1\",\"resources\":{\"requests\":{\"cpu\":\"200m\",\"memory\":\"100\"}}}],\"generation\":2";
    assert_eq!(message::started(&pod, 2), format!("Pod resize started: {{{sizes}}}"));
    assert_eq!(message::completed(&pod, 2), format!("Pod resize completed: {{{sizes}}}"));
    assert_eq!(message::pending(&pod, 2, DEFERRED, "full"), format!("Pod resize Deferred: {{{sizes},\"error\":\"full\"}}"));
    assert_eq!(message::failed(&pod, 2, "no"), format!("Pod resize error: {{{sizes},\"error\":\"no\"}}"));
}
