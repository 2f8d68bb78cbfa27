//! Much to do is no reason to lose the lead: objects without number, large ones, and all of them at a restart.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    caller::Caller,
    cluster::eventually,
    stage::{self, Stage},
};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const PATIENCE: Duration = Duration::from_secs(120);
/// Requests in flight while objects are made.
const MAKERS: usize = 6;
const PODS: usize = 3_000;
const LARGE_PODS: usize = 200;
const LARGE_MAPS: usize = 300;

/// A pod that no node takes.
fn pod(name: &str, annotation: usize) -> Value {
    let metadata = json!({"name": name, "annotations": {"filling": "x".repeat(annotation)}});
    let container = json!({"name": "c", "image": "busybox:1.35", "command": ["sleep", "infinity"]});
    let spec = json!({"nodeSelector": {"nowhere": "yes"}, "terminationGracePeriodSeconds": 0, "containers": [container]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "x".repeat(500 << 10)}})
}

/// Makes so many objects, some at a time.
fn make(caller: &Caller, path: &str, count: usize, object: impl Fn(usize) -> Value + Sync) {
    thread::scope(|scope| {
        for maker in 0..MAKERS {
            let object = &object;
            scope.spawn(move || {
                for number in (maker..count).step_by(MAKERS) {
                    let reply = caller.json("POST", path, &object(number));
                    assert_eq!(reply.status, 201, "{}", reply.message());
                }
            });
        }
    });
}

/// Holders and transitions of the leases in kube-system.
fn leases(caller: &Caller) -> Vec<[String; 3]> {
    let listed = caller.get(LEASES).json();
    let items = listed["items"].as_array().expect("a list").iter();
    let kept = items.filter(|lease| lease["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("kube-")));
    kept.map(|lease| [&lease["metadata"]["name"], &lease["spec"]["holderIdentity"], &lease["spec"]["leaseTransitions"]].map(Value::to_string))
        .collect()
}

/// How often a lead was lost: one process takes its own lease up again, which its transitions do not show.
fn lost(stage: &Stage) -> usize {
    fs::read_to_string(stage.path("data/troupe.log")).expect("a log").matches("lost the lead").count()
}

#[test]
fn leads_are_kept_through_a_restart_and_the_end_of_a_full_namespace() {
    let stage = Stage::up();
    let room = stage.room("crowd");
    let caller = Caller::administrator(&stage);
    let (maps, pods) = (format!("/api/v1/namespaces/{}/configmaps", room.name), format!("/api/v1/namespaces/{}/pods", room.name));
    let begun = Instant::now();
    make(&caller, &maps, LARGE_MAPS, |number| map(&format!("m{number}")));
    make(&caller, &pods, LARGE_PODS, |number| pod(&format!("large{number}"), 200 << 10));
    make(&caller, &pods, PODS, |number| pod(&format!("p{number}"), 10));
    println!("made in {:?}", begun.elapsed());
    let begun = Instant::now();
    stage.stop();
    stage.start();
    println!("restarted in {:?}", begun.elapsed());
    let caller = Caller::administrator(&stage);
    eventually("both leads are taken", || leases(&caller).iter().filter(|[_, holder, _]| holder.len() > 2).count() == 2);
    let before = leases(&caller);
    let (took, toll) = stage.attack(|| {
        let begun = Instant::now();
        let path = format!("/api/v1/namespaces/{}", room.name);
        assert_eq!(caller.send("DELETE", &path, "application/json", "").status, 200);
        while caller.get(&path).status != 404 {
            assert!(begun.elapsed() < PATIENCE, "the namespace is still there");
            thread::sleep(Duration::from_millis(500));
        }
        begun.elapsed()
    });
    println!("gone in {took:?}; {toll:?}");
    assert_eq!(leases(&caller), before);
    assert_eq!(lost(&stage), 0, "a lead was lost");
}

/// References to owners that are not there.
fn dead(count: usize) -> Vec<Value> {
    let one = |at: usize| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": format!("dead{at}"), "uid": format!("dead{at}")});
    (0..count).map(one).collect()
}

fn dependent(name: &str, owners: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": owners}})
}

#[test]
fn thousands_of_dead_owners_cost_little_and_end() {
    let stage = stage::shared();
    let room = stage.room("dead-owners");
    let caller = Caller::administrator(&stage);
    let maps = format!("/api/v1/namespaces/{}/configmaps", room.name);
    let dead = dead(6_000);
    let unknown = json!({"apiVersion": "example.com/v1", "kind": "Nothing", "name": "x", "uid": "x"});
    let undecided: Vec<Value> = dead.iter().cloned().chain([unknown]).collect();
    make(&caller, &maps, 40, |number| dependent(&format!("undecided{number}"), &undecided));
    make(&caller, &maps, 10, |number| dependent(&format!("doomed{number}"), &dead));
    let names = || {
        let listed = caller.get(&maps).json();
        listed["items"].as_array().expect("a list").iter().map(|map| map["metadata"]["name"].to_string()).collect::<Vec<_>>()
    };
    let deadline = Instant::now() + PATIENCE;
    while names().iter().any(|name| name.contains("doomed")) {
        assert!(Instant::now() < deadline, "what lost all its owners is still there");
        thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(names().iter().filter(|name| name.contains("undecided")).count(), 40, "who may have an owner yet stays");
    let (_, toll) = stage.toll_of(|| thread::sleep(Duration::from_secs(20)));
    println!("{toll:?}");
    assert!(toll.processor < Duration::from_secs(4), "the collector looks again and again: {toll:?}");
}
