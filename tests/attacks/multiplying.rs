//! Small pods of an ordinary tenant that ask for much: what is made of them is bounded by what it is, not by how it is written.

use std::{io::Write, time::Duration};

use serde_json::{Value, json};

use crate::{
    cluster::{eventually_within, text},
    stage::{self, Room, Stage},
};

const PATIENCE: Duration = Duration::from_secs(90);
/// More than this is out of proportion for a pod.
const MUCH: u64 = 300 << 20;

/// A pod as the restricted level lets it in, with more in its spec and in its only container.
fn pod(room: &Room<'_>, name: &str, spec: Value, container: Value) -> String {
    let security = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    let mut main = json!({"name": "c", "image": "busybox:1.35", "command": ["sleep", "3600"], "securityContext": security});
    main.as_object_mut().expect("a map").extend(container.as_object().expect("a map").clone());
    let security = json!({"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}});
    let mut all = json!({"terminationGracePeriodSeconds": 1, "securityContext": security, "containers": [main]});
    all.as_object_mut().expect("a map").extend(spec.as_object().expect("a map").clone());
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": room.name}, "spec": all}).to_string()
}

/// Creates an object that is too large to be applied: that would note it in an annotation.
fn create(stage: &Stage, manifest: &str) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(manifest.as_bytes()).expect("writes");
    stage.kubectl(&format!("create -f {}", file.path().display()));
}

/// Creates a pod and waits until its container waits, or an event says, why.
fn until_refused(stage: &Stage, room: &Room<'_>, name: &str, pod: &str, why: &str) {
    create(stage, pod);
    let said = || {
        let status =
            stage.kubectl_output(&format!("-n {} get pod {name} -o jsonpath={{.status.containerStatuses[*].state.waiting.message}}", room.name));
        let events = format!("-n {} get events --field-selector=involvedObject.name={name} -o jsonpath={{.items[*].message}}", room.name);
        text(&status.stdout) + &text(&stage.kubectl_output(&events).stdout)
    };
    eventually_within(PATIENCE, &format!("{name} is told: {why}"), || said().contains(why));
    stage.kubectl(&format!("-n {} delete pod {name} --timeout=120s", room.name));
}

#[test]
fn what_a_pod_multiplies_is_never_made() {
    let stage = stage::shared();
    let room = stage.room("multiplying");
    let large =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": room.name}, "stringData": {"k": "y".repeat(1_000_000)}});
    create(&stage, &large.to_string());
    let double = |index: usize| json!({"name": format!("A{index}"), "value": format!("$(A{0})$(A{0})", index - 1)});
    let doubling: Vec<Value> = std::iter::once(json!({"name": "A0", "value": "x".repeat(1000)})).chain((1..40).map(double)).collect();
    let items: Vec<Value> = (0..9000).map(|index| json!({"key": "k", "path": format!("p{index}")})).collect();
    let named: Vec<Value> = (0..400).map(|index| json!({"name": format!("v{index}"), "secret": {"secretName": "s"}})).collect();
    let mounts: Vec<Value> = (0..2000).map(|index| json!({"name": format!("v{index}"), "emptyDir": {"medium": "Memory"}})).collect();
    let (_, toll) = stage.attack(|| {
        let many = |name: &str, volumes: Value, why: &str| {
            until_refused(&stage, &room, name, &pod(&room, name, json!({"volumes": volumes}), json!({})), why);
        };
        until_refused(&stage, &room, "doubling", &pod(&room, "doubling", json!({}), json!({"env": doubling})), "no program can be started");
        many("items", json!([{"name": "v", "secret": {"secretName": "s", "items": items}}]), "larger than");
        many("named", json!(named), "larger than");
        many("mounts", json!(mounts), "this node sets up 512 at most");
    });
    assert!(toll.memory < MUCH, "{toll:?}");
}

#[test]
fn a_node_notices_exits_whatever_its_pods_say_of_themselves() {
    let stage = stage::shared();
    let room = stage.room("talkative");
    let hook = json!({"lifecycle": {"preStop": {"exec": {"command": ["true", "x".repeat(1_200_000)]}}}});
    let (_, toll) = stage.attack(|| {
        for number in 0..18 {
            create(&stage, &pod(&room, &format!("talker{number}"), json!({}), hook.clone()));
        }
        create(&stage, &pod(&room, "mortal", json!({}), json!({"command": ["sh", "-c", "sleep 5; exit 1"]})));
        stage.kubectl("-n talkative wait pod talker17 --for=condition=Ready --timeout=120s");
        let restarts = "-n talkative get pod mortal -o jsonpath={.status.containerStatuses[0].restartCount}";
        eventually_within(PATIENCE, "the exit is noticed", || {
            text(&stage.kubectl_output(restarts).stdout).parse::<u32>().is_ok_and(|count| count > 0)
        });
    });
    println!("{toll:?}");
}
