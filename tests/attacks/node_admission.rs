//! Pods that name their node go past the scheduler: the node takes no more than it has, gives no port away that it needs, and runs
//! nothing on behalf of a manifest that does not exist.

use serde_json::{Value, json};

use crate::{
    caller::Caller,
    cluster::{eventually, text},
    stage::{self, Room, Stage},
};

const IMAGE: &str = "docker.io/library/busybox:1.35";

/// A pod that restricted allows, with what `spec` and `container` add.
fn pod(name: &str, node: Option<&str>, spec: &Value, container: &Value) -> Value {
    let mut main = json!({
        "name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "1000"],
        "securityContext": {"allowPrivilegeEscalation": false, "runAsUser": 1000, "capabilities": {"drop": ["ALL"]}},
    });
    add(&mut main, container);
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}, "containers": [main],
    }});
    add(&mut pod["spec"], spec);
    if let Some(node) = node {
        pod["spec"]["nodeName"] = node.into();
    }
    pod
}

fn add(target: &mut Value, fields: &Value) {
    for (name, value) in fields.as_object().into_iter().flatten() {
        target[name] = value.clone();
    }
}

fn make(stage: &Stage, room: &Room<'_>, pod: &Value) {
    let reply = Caller::administrator(stage).json("POST", &format!("/api/v1/namespaces/{}/pods", room.name), pod);
    assert_eq!(reply.status, 201, "{reply:?}");
}

fn status(stage: &Stage, room: &Room<'_>, pod: &str) -> Value {
    let output = stage.kubectl_output(&format!("-n {} get pod {pod} -o json", room.name));
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).expect("a pod")["status"].clone()
}

/// Waits until the pod has failed for a reason; gives the message.
fn refused(stage: &Stage, room: &Room<'_>, pod: &str, reason: &str) -> String {
    eventually(&format!("{pod} is refused"), || status(stage, room, pod)["phase"] == "Failed");
    let status = status(stage, room, pod);
    assert_eq!(status["reason"], reason, "{status}");
    assert!(status["containerStatuses"].as_array().is_none_or(Vec::is_empty), "nothing of it was made: {status}");
    let events =
        || stage.kubectl(&format!("-n {} get events --field-selector involvedObject.name={pod} -o jsonpath={{.items[*].reason}}", room.name));
    eventually("an event says so", || events().contains(reason));
    status["message"].as_str().expect("a message").to_owned()
}

fn node(stage: &Stage) -> String {
    stage.kubectl("get nodes -o jsonpath={.items[0].metadata.name}").trim().to_owned()
}

fn ready(stage: &Stage, room: &Room<'_>, pod: &str) {
    stage.kubectl(&format!("-n {} wait --for=condition=Ready pod/{pod} --timeout=180s", room.name));
}

#[test]
fn pods_that_name_their_node_take_no_more_than_it_has() {
    let stage = stage::shared();
    let (room, other) = (stage.room("greedy"), stage.room("modest"));
    stage.kubectl("label namespace greedy pod-security.kubernetes.io/enforce=restricted");
    let node = node(&stage);
    let asking = |name: &str, resource: &str, amount: &str| {
        let resources = json!({"resources": {"requests": {resource: amount}, "limits": {resource: amount}}});
        make(&stage, &room, &pod(name, Some(&node), &json!({}), &resources));
    };
    stage.attack(|| {
        for (name, resource, amount) in [
            ("memory", "memory", "100Gi"),
            ("cpu", "cpu", "1000"),
            ("storage", "ephemeral-storage", "100Ti"),
            ("pages", "hugepages-2Mi", "4Mi"),
            ("largest", "memory", "9223372036854775807"),
            ("exbi", "cpu", "7Ei"),
        ] {
            if name == "pages" {
                let amounts = json!({"cpu": "10m", resource: amount});
                make(&stage, &room, &pod(name, Some(&node), &json!({}), &json!({"resources": {"requests": amounts, "limits": amounts}})));
            } else {
                asking(name, resource, amount);
            }
            let message = refused(&stage, &room, name, &format!("OutOf{resource}"));
            let expected = format!("Pod was rejected: Node didn't have enough resource: {resource}, requested: ");
            assert!(message.starts_with(&expected) && message.contains(", used: ") && message.contains(", capacity: "), "{message}");
        }
        make(&stage, &room, &pod("selects", Some(&node), &json!({"nodeSelector": {"nowhere": "true"}}), &json!({})));
        let terms = json!([{"matchExpressions": [{"key": "nowhere", "operator": "Exists"}]}]);
        let affinity = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
        make(&stage, &room, &pod("requires", Some(&node), &affinity, &json!({})));
        for name in ["selects", "requires"] {
            let message = refused(&stage, &room, name, "NodeAffinity");
            assert_eq!(message, "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector");
        }
    });
    make(&stage, &other, &pod("small", None, &json!({}), &json!({"resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}})));
    ready(&stage, &other, "small");
}

/// The ports at which somebody listens on the loopback address of the node; the runtime does.
fn listeners(stage: &Stage) -> Vec<u64> {
    let table = stage.inside("cat").arg("/proc/net/tcp").output().expect("cat runs");
    let port = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = fields.get(1)?.strip_prefix("0100007F:")?;
        (fields.get(3) == Some(&"0A")).then(|| u64::from_str_radix(port, 16).ok())?
    };
    let ports: Vec<u64> = text(&table.stdout).lines().filter_map(port).collect();
    assert!(!ports.is_empty(), "the runtime listens");
    ports
}

#[test]
fn no_pod_takes_a_port_of_the_daemons_or_of_another_pod() {
    let stage = stage::shared();
    let room = stage.room("ports");
    let node = node(&stage);
    let api: u64 = {
        let server = stage.kubectl("config view --minify -o jsonpath={.clusters[0].cluster.server}");
        server.trim().rsplit(':').next().expect("a port").trim_end_matches('/').parse().expect("a port")
    };
    let kubelet = stage.kubectl("get nodes -o jsonpath={.items[0].status.daemonEndpoints.kubeletEndpoint.Port}");
    let kubelet: u64 = kubelet.trim().parse().expect("a port");
    let on = |port: u64| json!({"ports": [{"containerPort": 8080, "hostPort": port}]});
    let taken = "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
    make(&stage, &room, &pod("first", None, &json!({}), &on(28080)));
    ready(&stage, &room, "first");
    stage.attack(|| {
        for (name, port) in [("api", api), ("kubelet", kubelet), ("second", 28080)] {
            make(&stage, &room, &pod(name, Some(&node), &json!({}), &on(port)));
            assert_eq!(refused(&stage, &room, name, "NodePorts"), taken);
        }
        // The runtime streams what is typed into containers through a port of its own choice.
        for port in listeners(&stage).into_iter().filter(|port| ![api, kubelet].contains(port)) {
            let name = format!("listener-{port}");
            make(&stage, &room, &pod(&name, Some(&node), &json!({}), &on(port)));
            assert_eq!(refused(&stage, &room, &name, "NodePorts"), taken);
        }
        let chosen = pod("scheduled", None, &json!({}), &on(api));
        make(&stage, &room, &chosen);
        assert_eq!(refused(&stage, &room, "scheduled", "NodePorts"), taken);
        let tunnel = json!({"ports": [{"containerPort": 8080, "hostPort": 8472, "protocol": "UDP"}]});
        make(&stage, &room, &pod("tunnel", Some(&node), &json!({}), &tunnel));
        assert_eq!(refused(&stage, &room, "tunnel", "NodePorts"), taken);
        let mut hosted = pod("hosted", Some(&node), &json!({"hostNetwork": true}), &json!({}));
        hosted["spec"]["containers"][0]["ports"] = json!([{"containerPort": kubelet, "hostPort": kubelet}]);
        make(&stage, &room, &hosted);
        assert_eq!(refused(&stage, &room, "hosted", "NodePorts"), taken);
        make(&stage, &room, &pod("waits", None, &json!({}), &on(kubelet)));
        eventually("the scheduler knows of the kubelet's port", || {
            status(&stage, &room, "waits").to_string().contains("node(s) didn't have free ports for the requested pod ports")
        });
        assert_eq!(status(&stage, &room, "waits")["phase"], "Pending");
        // Through the kubelet's own port.
        assert!(stage.kubectl("-n ports exec first -- echo reached").contains("reached"));
    });
}

#[test]
fn nobody_runs_the_mirror_of_a_manifest_that_does_not_exist() {
    let stage = stage::shared();
    let room = stage.room("mirrors");
    let mut mirror = pod("mirror", Some(&node(&stage)), &json!({}), &json!({}));
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "0123456789abcdef"});
    let path = "/api/v1/namespaces/mirrors/pods";
    let reply = Caller::administrator(&stage).json("POST", path, &mirror);
    assert_eq!(reply.status, 201, "{reply:?}");
    let uid = reply.json()["metadata"]["uid"].as_str().expect("a uid").to_owned();
    eventually("it is removed", || !stage.kubectl_output("-n mirrors get pod mirror").status.success());
    assert!(!stage.kubectl("-n mirrors get events -o jsonpath={.items[*].reason}").contains("Created"));
    assert!(!stage.path("kubelet/pods").join(uid).exists(), "nothing of it was made");
    drop(room);
}

#[test]
fn pods_that_run_go_on_after_a_restart_whatever_the_node_says_by_then() {
    let stage = Stage::up();
    let room = stage.room("lasting");
    let node = node(&stage);
    stage.kubectl(&format!("label node {node} disk=ssd"));
    let half = json!({"resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}, "ports": [{"containerPort": 8080, "hostPort": 28081}]});
    make(&stage, &room, &pod("chosen", None, &json!({"nodeSelector": {"disk": "ssd"}}), &half));
    ready(&stage, &room, "chosen");
    let container = || status(&stage, &room, "chosen")["containerStatuses"][0]["containerID"].clone();
    let before = container();
    stage.kubectl(&format!("label node {node} disk-"));
    stage.strike("-9");
    stage.start();
    // A new one like it finds no place any more, which shows that the node has looked at its pods.
    make(&stage, &room, &pod("later", Some(&node), &json!({"nodeSelector": {"disk": "ssd"}}), &json!({})));
    refused(&stage, &room, "later", "NodeAffinity");
    make(&stage, &room, &pod("rival", Some(&node), &json!({}), &half));
    refused(&stage, &room, "rival", "NodePorts");
    ready(&stage, &room, "chosen");
    assert_eq!(container(), before, "the very same container runs");
    // A label that is set just before a pod comes counts at once.
    stage.kubectl(&format!("label node {node} disk=ssd"));
    make(&stage, &room, &pod("labelled", Some(&node), &json!({"nodeSelector": {"disk": "ssd"}}), &json!({})));
    ready(&stage, &room, "labelled");
}
