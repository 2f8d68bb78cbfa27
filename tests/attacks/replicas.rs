//! Objects that ask for more than there is: pods without number, memory without end, and what ends the process.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use troupe_actors::runtime::work::Version;
use troupe_api::{meta::Object, stored::StoredObject};

use crate::{
    caller::Caller,
    cluster::eventually,
    stage::{self, Stage},
};

const ABSURD: i32 = i32::MAX;

/// A pod that no node takes.
fn template(app: &str) -> Value {
    let container = json!({"name": "c", "image": "busybox:1.35", "command": ["sleep", "infinity"]});
    json!({"metadata": {"labels": {"app": app}}, "spec": {"nodeSelector": {"no": "where"}, "containers": [container]}})
}

fn workload(kind: &str, name: &str, more: Value) -> Value {
    let selector = json!({"matchLabels": {"app": name}});
    let mut spec = json!({"replicas": ABSURD, "selector": selector, "template": template(name)});
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// How many pods carry the label.
fn pods(caller: &Caller, namespace: &str, app: &str) -> usize {
    let list = caller.get(&format!("/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{app}")).json();
    list["items"].as_array().map_or(0, Vec::len)
}

/// How many pods there are, counted by the server.
fn all_pods(caller: &Caller, namespace: &str) -> usize {
    let list = caller.get(&format!("/api/v1/namespaces/{namespace}/pods?limit=1")).json();
    let shown = list["items"].as_array().map_or(0, Vec::len);
    shown + usize::try_from(list["metadata"]["remainingItemCount"].as_u64().unwrap_or(0)).expect("a count")
}

#[test]
fn a_stateful_set_of_absurd_size_costs_what_it_does_now() {
    let stage = stage::shared();
    let room = stage.room("absurd-set");
    let caller = Caller::administrator(&stage);
    let sets = format!("/apis/apps/v1/namespaces/{}/statefulsets", room.name);
    let (_, toll) = stage.attack(|| {
        for (name, policy) in [("ordered", "OrderedReady"), ("highest", "OrderedReady")] {
            let start = if name == "highest" { ABSURD - 1 } else { 0 };
            let more = json!({"serviceName": name, "podManagementPolicy": policy, "ordinals": {"start": start}});
            let made = caller.json("POST", &sets, &workload("StatefulSet", name, more));
            assert_eq!(made.status, 201, "{made:?}");
        }
        eventually("the first pod of each is made", || all_pods(&caller, &room.name) == 2);
        std::thread::sleep(Duration::from_secs(3));
    });
    assert_eq!(all_pods(&caller, &room.name), 2, "in order, each waits for the one before");
    assert!(toll.memory < 64 << 20, "{toll:?}");
}

#[test]
fn workloads_of_absurd_size_are_held_back_and_others_live_on() {
    let stage = Stage::up();
    let room = stage.room("absurd");
    let caller = Caller::administrator(&stage);
    let apps = format!("/apis/apps/v1/namespaces/{}", room.name);
    let surge = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "100%", "maxUnavailable": "100%"}});
    let (_, toll) = stage.attack(|| {
        let parallel = json!({"serviceName": "parallel", "podManagementPolicy": "Parallel"});
        assert_eq!(caller.json("POST", &format!("{apps}/statefulsets"), &workload("StatefulSet", "parallel", parallel)).status, 201);
        let deployment = workload("Deployment", "surging", json!({"strategy": surge}));
        assert_eq!(caller.json("POST", &format!("{apps}/deployments"), &deployment).status, 201);
        held_back(&stage, &room.name, &["StatefulSet", "ReplicaSet"]);
    });
    // What was on its way when it was told has come.
    let is_steady = || {
        let so_far = all_pods(&caller, &room.name);
        std::thread::sleep(Duration::from_secs(2));
        all_pods(&caller, &room.name) == so_far
    };
    eventually("what was begun is made", is_steady);
    let before = all_pods(&caller, &room.name);
    assert!((2_000..=4_100).contains(&before), "{before} pods");
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(all_pods(&caller, &room.name), before, "no more while none of them runs");
    assert!(toll.memory < 512 << 20, "{toll:?}");
    others_are_served(&stage, &room.name);
    let patch = json!({"spec": {"replicas": 0}}).to_string();
    assert_eq!(caller.send("PATCH", &format!("{apps}/statefulsets/parallel"), "application/merge-patch+json", patch).status, 200);
    eventually("what is scaled down goes", || pods(&caller, &room.name, "parallel") == 0);
}

/// Waits until an event says of each kind that it is held back.
fn held_back(stage: &Stage, namespace: &str, kinds: &[&str]) {
    let caller = Caller::administrator(stage);
    let deadline = Instant::now() + Duration::from_secs(150);
    loop {
        let events = caller.get(&format!("/api/v1/namespaces/{namespace}/events?fieldSelector=reason%3DPodCreationHeldBack")).json();
        let told = |kind: &str| events["items"].as_array().is_some_and(|all| all.iter().any(|event| event["involvedObject"]["kind"] == kind));
        if kinds.iter().all(|kind| told(kind)) {
            return;
        }
        assert!(Instant::now() < deadline, "not held back in time: {} pods", all_pods(&caller, namespace));
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Somebody else's Deployment comes up meanwhile.
fn others_are_served(stage: &Stage, namespace: &str) {
    stage.kubectl(&format!("-n {namespace} create deployment small --image=busybox:1.35 -- sleep infinity"));
    stage.kubectl(&format!("-n {namespace} rollout status deployment/small --timeout=180s"));
}

#[test]
fn a_job_of_absurd_size_is_held_back_too() {
    let stage = stage::shared();
    let room = stage.room("absurd-job");
    let caller = Caller::administrator(&stage);
    let mut template = template("job");
    template["spec"]["restartPolicy"] = "Never".into();
    let spec = json!({"parallelism": ABSURD, "completions": ABSURD, "backoffLimit": ABSURD, "activeDeadlineSeconds": i64::MAX, "template": template});
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "absurd"}, "spec": spec});
    let (made, _) = stage.attack(|| {
        let made = caller.json("POST", &format!("/apis/batch/v1/namespaces/{}/jobs", room.name), &job);
        if made.status == 201 {
            held_back(&stage, &room.name, &["Job"]);
        }
        made
    });
    assert_eq!(made.status, 201, "{made:?}");
    assert!(all_pods(&caller, &room.name) <= 2_000, "{}", all_pods(&caller, &room.name));
}

/// A config map of 900 KB.
fn large(name: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("large-{name}")}, "data": {"a": "x".repeat(900_000)}})
}

#[test]
fn who_fills_the_memory_is_refused_and_the_node_lives_on() {
    let stage = Stage::up();
    let room = stage.room("full");
    let caller = Caller::administrator(&stage);
    stage.kubectl(&format!("-n {} create deployment witness --image=busybox:1.35 -- sleep infinity", room.name));
    stage.kubectl(&format!("-n {} rollout status deployment/witness --timeout=180s", room.name));
    let maps = format!("/api/v1/namespaces/{}/configmaps", room.name);
    let (made, _) = stage.attack(|| {
        (0..2_000).find(|number| {
            let reply = caller.json("POST", &maps, &large(*number));
            assert!([201, 429].contains(&reply.status), "{reply:?}");
            reply.status == 429
        })
    });
    let made = made.expect("the limit is below 1.8 GB");
    let refused = caller.json("POST", &maps, &large(made));
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.message().contains("short of memory"), "{}", refused.message());
    // The node reports, pods run and can be looked into.
    std::thread::sleep(Duration::from_secs(12));
    assert!(stage.kubectl("get nodes --no-headers").contains(" Ready "), "the node is well");
    assert_eq!(stage.kubectl(&format!("-n {} exec deploy/witness -- echo here", room.name)).trim(), "here");
    // Deletions make room.
    assert_eq!(caller.send("DELETE", &maps, "application/json", "").status, 200);
    let deadline = Instant::now() + Duration::from_secs(120);
    while caller.json("POST", &maps, &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "small-"}})).status != 201 {
        assert!(Instant::now() < deadline, "there is no room after all was deleted");
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn an_object_in_whose_hands_the_process_died_is_set_aside_until_it_changes() {
    let stage = Stage::up();
    let room = stage.room("deadly");
    let caller = Caller::administrator(&stage);
    let sets = format!("/apis/apps/v1/namespaces/{}/replicasets", room.name);
    for name in ["deadly", "harmless"] {
        let mut set = workload("ReplicaSet", name, json!({"replicas": 1}));
        set["spec"]["template"]["spec"]["nodeSelector"] = json!({});
        assert_eq!(caller.json("POST", &sets, &set).status, 201);
    }
    eventually("both have their pod", || all_pods(&caller, &room.name) == 2);
    // As three processes leave it that died while they worked on it.
    let object = Object::from_value(caller.get(&format!("{sets}/deadly")).json()).expect("an object");
    let Version(version) = Version::of(&StoredObject::from_object(&object).expect("encodes"));
    stage.stop();
    let suspects = json!({format!("replicaset {}/deadly", room.name): {"version": version, "deaths": 3}});
    fs::create_dir_all(stage.path("run")).expect("makes");
    fs::write(stage.path("run/troupe.suspects"), suspects.to_string()).expect("writes");
    stage.start();
    let lose_pods = |name: &str| {
        for pod in
            caller.get(&format!("/api/v1/namespaces/{}/pods?labelSelector=app%3D{name}", room.name)).json()["items"].as_array().expect("a list")
        {
            let path = format!("/api/v1/namespaces/{}/pods/{}", room.name, pod["metadata"]["name"].as_str().expect("named"));
            caller.send("DELETE", &format!("{path}?gracePeriodSeconds=0"), "application/json", "");
        }
    };
    let has_pod = |name: &str| pods(&caller, &room.name, name) == 1;
    let told =
        || stage.kubectl(&format!("-n {} get events --field-selector reason=ReconcileQuarantined", room.name)).contains("the process died 3 times");
    eventually("people are told", told);
    for name in ["deadly", "harmless"] {
        lose_pods(name);
    }
    eventually("the other one gets its pod back", || has_pod("harmless"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(pods(&caller, &room.name, "deadly"), 0, "it is left alone");
    stage.kubectl(&format!("-n {} annotate replicaset deadly mended=yes", room.name));
    eventually("a change gives it another chance", || has_pod("deadly"));
}
