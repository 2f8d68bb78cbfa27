//! A second machine joins by token; pods talk across; the cluster lives through the loss of a node and has it back.

use std::os::unix::fs::PermissionsExt;

use crate::{
    cluster::{eventually, text},
    hub::{Hub, Machine},
};

#[test]
fn a_second_node_joins_and_its_loss_is_survived() {
    let hub = Hub::new();
    let one = Machine::new(&hub, "one", "198.51.100.2");
    let two = Machine::new(&hub, "two", "198.51.100.3");
    one.troupe(&["up", "--detach"]);
    join(&one, &two);
    pods_talk_across(&one);
    nodes_are_managed(&one);
    a_crash_is_survived(&one, &two);
    a_cut_is_survived(&one, &two);
}

/// The command that `troupe token create` prints is all that the second machine needs.
fn join(one: &Machine, two: &Machine) {
    let command = one.troupe(&["token", "create", "--ttl", "1h", "--print-join-command"]);
    assert!(one.troupe(&["token", "list"]).contains("authentication,signing"));
    let words: Vec<&str> = command.split_whitespace().collect();
    assert_eq!(words[..2], ["troupe", "node"], "{command}");
    two.start_node(&words[2..]);
    eventually("both nodes are ready", || one.kubectl("get nodes --no-headers").matches(" Ready ").count() == 2);
    let mode = std::fs::metadata(two.path("kubeconfig")).expect("the node's kubeconfig").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let refused = |words: &[&str]| {
        let output = two.kubectl_output(words);
        assert!(!output.status.success(), "{words:?} must be refused: {}", text(&output.stdout));
        text(&output.stderr)
    };
    let secrets = refused(&["get", "secret", "-n", "kube-system", "bootstrap-token-none00"]);
    assert!(secrets.contains("no relationship found between node 'two' and this object"), "{secrets}");
    let label = refused(&["label", "node", "one", "mine=yes"]);
    assert!(label.contains("node \"two\" is not allowed to modify node \"one\""), "{label}");
}

fn peer(node: &str) -> String {
    let page = r"#!/bin/sh\necho Content-Type: text/plain\necho\necho from $REMOTE_ADDR at $(hostname)\n";
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: peer-{node}, labels: {{app: peer, where: {node}}}}}
spec:
  nodeSelector: {{kubernetes.io/hostname: {node}}}
  terminationGracePeriodSeconds: 0
  containers:
  - name: peer
    image: busybox:1.35
    command: [sh, -c, "mkdir -p /w/cgi-bin; printf \"$PAGE\" > /w/cgi-bin/peer; chmod +x /w/cgi-bin/peer; echo serving; exec httpd -f -p 0.0.0.0:8080 -h /w"]
    env: [{{name: PAGE, value: '{page}'}}]
    readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: peer-{node}}}
spec: {{selector: {{where: {node}}}, ports: [{{port: 80, targetPort: 8080}}]}}
---
"#
    )
}

fn apply(one: &Machine, manifests: &str) {
    let file = one.path("manifests.yaml");
    std::fs::write(&file, manifests).expect("writes");
    one.kubectl(&format!("apply -f {}", file.display()));
}

/// Pods reach each other by address and through Services, and see who calls: nothing is translated in between.
fn pods_talk_across(one: &Machine) {
    apply(one, &format!("{}{}", peer("one"), peer("two")));
    one.kubectl("wait --for=condition=Ready pod/peer-one pod/peer-two --timeout=120s");
    let field = |what: &str, path: &str| one.kubectl(&format!("get {what} -o jsonpath={{{path}}}"));
    for (from, to) in [("one", "two"), ("two", "one")] {
        let own = field(&format!("pod/peer-{from}"), ".status.podIP");
        let wanted = format!("from {own} at peer-{to}");
        let addresses = [field(&format!("pod/peer-{to}"), ".status.podIP") + ":8080", field(&format!("service/peer-{to}"), ".spec.clusterIP")];
        for address in addresses {
            let ask = ["exec", &format!("peer-{from}"), "--", "timeout", "3", "wget", "-q", "-O", "-", &format!("http://{address}/cgi-bin/peer")];
            eventually(&format!("{address} answers a pod on {from} and sees its address"), || {
                text(&one.kubectl_output(&ask).stdout).trim() == wanted
            });
        }
    }
    assert_eq!(one.kubectl("logs peer-two").trim(), "serving");
    assert_eq!(one.kubectl("exec peer-two -- hostname").trim(), "peer-two");
}

const ROAMING: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: roaming}
spec:
  replicas: 2
  selector: {matchLabels: {app: roaming}}
  template:
    metadata: {labels: {app: roaming}}
    spec:
      terminationGracePeriodSeconds: 0
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      containers: [{name: c, image: 'busybox:1.35', command: [sleep, infinity]}]
";

/// Names of the running roaming pods on a node that nobody has deleted.
fn roaming_on(one: &Machine, node: &str) -> usize {
    let template = "go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.spec.nodeName}}={{.status.phase}} {{end}}{{end}}";
    let output = one.kubectl_output(&["get", "pods", "-l", "app=roaming", "-o", template]);
    text(&output.stdout).split_whitespace().filter(|pod| *pod == format!("{node}=Running")).count()
}

/// Lets the roaming pods live on one node only, then opens the other again.
fn gather_on(one: &Machine, node: &str, other: &str) {
    one.kubectl(&format!("cordon {other}"));
    one.kubectl("delete pods -l app=roaming --wait=false");
    eventually("the pods run where they may", || roaming_on(one, node) == 2);
    one.kubectl(&format!("uncordon {other}"));
}

/// Labels, taints, cordon and drain by kubectl.
fn nodes_are_managed(one: &Machine) {
    one.kubectl("label node two rack=a");
    assert!(one.kubectl("get nodes -l rack=a -o name").contains("node/two"));
    one.kubectl("taint node two busy=yes:NoSchedule");
    apply(one, ROAMING);
    eventually("pods that do not tolerate the taint run on the other node", || roaming_on(one, "one") == 2);
    one.kubectl("taint node two busy:NoSchedule-");
    gather_on(one, "two", "one");
    drains_within_a_budget(one);
    eventually("drained pods run on the other node", || roaming_on(one, "one") == 2);
    assert!(!one.kubectl("get pods -o wide --no-headers").contains(" two "), "nothing but the daemons is left on a drained node");
    one.kubectl("uncordon two");
}

const BUDGET: &str = "
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: roaming}
spec: {minAvailable: 2, selector: {matchLabels: {app: roaming}}}
";

/// A budget holds a drain up until it leaves room; then pods move one by one.
fn drains_within_a_budget(one: &Machine) {
    apply(one, BUDGET);
    eventually("the budget is counted", || one.kubectl("get pdb roaming -o jsonpath={.status.currentHealthy}") == "2");
    let held = one.kubectl_output(&["drain", "two", "--ignore-daemonsets", "--force", "--timeout=4s"]);
    let said = text(&held.stderr);
    assert!(!held.status.success(), "{said}");
    assert!(said.contains("(will retry after 5s): Cannot evict pod as it would violate the pod's disruption budget."), "{said}");
    assert_eq!(roaming_on(one, "two"), 2, "nobody was evicted");
    one.kubectl("patch pdb roaming --type=merge -p {\"spec\":{\"minAvailable\":1}}");
    let drained = one.kubectl("drain two --ignore-daemonsets --force --timeout=120s");
    assert!(drained.contains("evicting pod default/roaming-") && drained.ends_with("node/two drained\n"), "{drained}");
    one.kubectl("delete pdb roaming");
}

fn is_ready(one: &Machine, node: &str) -> bool {
    one.kubectl(&format!("get node {node} --no-headers")).contains(" Ready ")
}

/// Node two falls silent while pods run there; they are replaced, and when it is back nothing old is left.
fn lost_and_found(one: &Machine, lose: impl FnOnce(), find: impl FnOnce()) {
    gather_on(one, "two", "one");
    lose();
    eventually("the silent node is not ready", || !is_ready(one, "two"));
    let taints = || one.kubectl("get node two -o jsonpath={.spec.taints[*].key}");
    eventually("and tainted", || taints().contains("node.kubernetes.io/unreachable"));
    eventually("its pods are replaced", || roaming_on(one, "one") == 2);
    find();
    eventually("the node is ready again", || is_ready(one, "two"));
    eventually("its old pods are gone", || one.kubectl("get pods -l app=roaming -o name").lines().count() == 2);
    eventually("nothing taints it", || taints().trim().is_empty());
}

fn a_crash_is_survived(one: &Machine, two: &Machine) {
    // The identity from the first join is enough.
    lost_and_found(one, || two.kill_node(), || two.start_node(&[]));
}

fn a_cut_is_survived(one: &Machine, two: &Machine) {
    let restore = || {
        two.ip("link set eth0 up");
        // The kernel drops the routes of a link that goes down.
        two.ip(&format!("route replace default via {}", Hub::ADDRESS));
    };
    lost_and_found(one, || two.ip("link set eth0 down"), restore);
    apply(one, &peer("two"));
    one.kubectl("wait --for=condition=Ready pod/peer-two --timeout=120s");
    let address = one.kubectl("get pod peer-two -o jsonpath={.status.podIP}");
    let ask = ["exec", "peer-one", "--", "timeout", "3", "wget", "-q", "-O", "-", &format!("http://{address}:8080/cgi-bin/peer")];
    eventually("pods talk across again", || text(&one.kubectl_output(&ask).stdout).contains("at peer-two"));
}
