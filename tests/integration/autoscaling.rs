//! Horizontal autoscaling by what pods really use, and `kubectl top`, with nothing else installed.

use std::time::Duration;

use crate::cluster::{apply, eventually, eventually_within, shared, text};

const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: autoscaling}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: burner, namespace: autoscaling}
spec:
  replicas: 1
  selector: {matchLabels: {app: burner}}
  template:
    metadata: {labels: {app: burner}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: burner
        image: "busybox:1.35"
        command: [sh, -c, "while true; do :; done"]
        resources: {requests: {cpu: 20m}, limits: {cpu: 100m}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: burner, namespace: autoscaling}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: burner}
  minReplicas: 1
  maxReplicas: 2
  metrics:
  - type: Resource
    resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}
  behavior:
    scaleDown: {stabilizationWindowSeconds: 0}
"#;

#[test]
fn a_deployment_follows_what_its_pods_use() {
    let cluster = shared();
    let kubectl = |words: &str| cluster.kubectl(&format!("-n autoscaling {words}"));
    apply(&cluster, OBJECTS);
    let replicas = || kubectl("get deployment burner -o jsonpath={.spec.replicas}");
    eventually_within(Duration::from_secs(180), "it scales up", || replicas() == "2");
    // Both are written a moment after it has scaled.
    let reasons = || kubectl("get hpa burner -o jsonpath={.status.conditions[*].reason}");
    eventually("it tells by what it scales", || reasons().contains("ValidMetricFound"));
    let events = || kubectl("get events --field-selector reason=SuccessfulRescale -o jsonpath={.items[*].message}");
    let wanted = "New size: 2; reason: cpu resource utilization (percentage of request) above target";
    eventually("an event tells of it", || events().contains(wanted));

    let top = |words: &str| text(&cluster.kubectl_output(words).stdout);
    eventually("what pods use is shown", || {
        let pods = top("-n autoscaling top pods");
        pods.starts_with("NAME") && pods.contains("burner-") && pods.contains("Mi")
    });
    eventually("what the node uses is shown", || {
        let nodes = top("top nodes");
        nodes.starts_with("NAME") && nodes.lines().count() == 2
    });

    // What dashboards ask for: throttled processors, and traffic of a pod's own network. There are two pods by now, and the second one may have
    // done nothing yet: that any of them has done it is enough.
    let node = cluster.kubectl("get nodes -o jsonpath={.items[0].metadata.name}");
    let of_container: &[&str] = &["namespace=\"autoscaling\"", "container=\"burner\""];
    let of_pod: &[&str] = &["namespace=\"autoscaling\"", "container=\"\"", "interface=\"eth0\""];
    let wanted = [
        ("container_cpu_usage_seconds_total", of_container),
        ("container_cpu_cfs_throttled_periods_total", of_container),
        ("container_memory_working_set_bytes", of_container),
        ("container_network_transmit_packets_total", of_pod),
        ("container_cpu_usage_seconds_total", &["id=\"/\""]),
    ];
    eventually_within(Duration::from_secs(60), "the kubelet tells what containers do", || {
        let scraped = cluster.kubectl(&format!("get --raw /api/v1/nodes/{node}/proxy/metrics/cadvisor"));
        wanted.iter().all(|(name, labels)| {
            let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
            scraped
                .lines()
                .filter(|line| line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label)))
                .any(|line| value(line).is_some_and(|value| value > 0.0))
        })
    });

    let patch =
        "patch hpa burner --type=json -p [{\"op\":\"replace\",\"path\":\"/spec/metrics/0/resource/target/averageUtilization\",\"value\":90000}]";
    kubectl(patch);
    // Of a pod that has not told yet it is thought that it uses all that it may.
    eventually_within(Duration::from_secs(120), "it scales down", || replicas() == "1");
    cluster.kubectl("delete namespace autoscaling --timeout=120s");
}
