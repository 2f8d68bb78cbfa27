//! What can be chosen of the pod network: whose it is, how much pods may send and receive, what they are called there.

use std::fs;

use serde_json::json;

use crate::cluster::{Cluster, apply, eventually, shared, text};

const SERVER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: default, labels: {app: server}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: busybox:1.35
    command: [sh, -c, "mkdir /w; echo theirs > /w/index.html; exec httpd -f -p 8080 -h /w"]
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: default}
spec: {selector: {app: server}, ports: [{port: 80, targetPort: 8080}]}
"#;

const LIMITED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: limited, namespace: default, annotations: {kubernetes.io/ingress-bandwidth: 3M}}
spec:
  terminationGracePeriodSeconds: 0
  hostname: foo
  subdomain: bar
  setHostnameAsFQDN: true
  containers:
  - name: c
    image: busybox:1.35
    command: [sh, -c, "hostname; cat /etc/hosts; exec sleep 3600"]
"#;

#[test]
fn a_network_of_somebody_else_is_waited_for_and_used() {
    let cluster = Cluster::place();
    cluster.start_with(&["--cni", "none"]);
    let lacks = || cluster.kubectl(r#"get node it -o jsonpath={.status.conditions[?(@.type=="Ready")].message}"#);
    assert!(lacks().contains("cni plugin not initialized"), "{}", lacks());
    let dir = cluster.path("cni");
    fs::create_dir_all(&dir).expect("makes");
    assert_eq!(fs::read_dir(&dir).expect("lists").count(), 0, "nothing is configured");
    let ipam = json!({"type": "host-local", "subnet": "10.244.0.0/24", "routes": [{"dst": "0.0.0.0/0"}], "dataDir": cluster.path("their-addresses")});
    let theirs = json!({"cniVersion": "0.4.0", "name": "theirs", "plugins": [{"type": "ptp", "ipam": ipam}]});
    let (half, whole) = (dir.join("theirs.new"), dir.join("50-theirs.conflist"));
    fs::write(&half, theirs.to_string()).expect("writes");
    fs::rename(&half, &whole).expect("renames");
    cluster.kubectl("wait --for=condition=Ready node/it --timeout=60s");
    apply(&cluster, SERVER);
    cluster.kubectl("wait --for=condition=Ready pod/server --timeout=60s");
    let address = cluster.kubectl("get service server -o jsonpath={.spec.clusterIP}");
    eventually("the Service answers", || cluster.get(&format!("{address}:80")).is_some_and(|page| page.contains("theirs")));
    let rules = cluster.rules();
    assert!(rules.contains("KUBE-SERVICES") && !rules.contains("TROUPE-POSTROUTING"), "{rules}");
    let links = text(&cluster.inside("ip").args(["-o", "link"]).output().expect("ip runs").stdout);
    assert!(!links.contains("it0") && !links.contains("troupe-vxlan"), "{links}");
}

#[test]
fn a_pod_is_limited_by_its_annotation_and_knows_both_of_its_names() {
    let cluster = shared();
    apply(&cluster, LIMITED);
    cluster.kubectl("wait --for=condition=Ready pod/limited --timeout=60s");
    let limits = || text(&cluster.inside("tc").args(["qdisc", "show"]).output().expect("tc runs").stdout);
    let is_limited = || limits().lines().any(|line| line.contains("qdisc tbf") && line.contains("rate 3Mbit"));
    assert!(is_limited(), "{}", limits());
    let full = "foo.bar.default.svc.cluster.local";
    let ip = cluster.kubectl("get pod limited -o jsonpath={.status.podIP}");
    let told = cluster.kubectl("logs limited");
    assert!(told.starts_with(&format!("{full}\n")) && told.contains(&format!("\n{ip}\t{full}\tfoo\n")), "{told}");
    cluster.kubectl("delete pod limited --timeout=60s");
    eventually("the limit goes with the pod", || !is_limited());
}
