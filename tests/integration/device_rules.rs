//! APIs of devices that are off where nothing is said: rules that taint devices, and questions about pools.

use std::fs;

use crate::cluster::{Cluster, eventually};

const OBJECTS: &str = "apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: s}
spec:
  driver: gpu.example.com
  nodeName: n1
  pool: {name: n1, generation: 1, resourceSliceCount: 1}
  devices: [{name: gpu-0}, {name: gpu-1}]
---
apiVersion: resource.k8s.io/v1beta2
kind: DeviceTaintRule
metadata: {name: r}
spec:
  deviceSelector: {driver: gpu.example.com}
  taint: {key: example.com/broken, effect: None}
";
const ASKED: &str = "apiVersion: resource.k8s.io/v1alpha3
kind: ResourcePoolStatusRequest
metadata: {name: q}
spec: {driver: gpu.example.com}
";

#[test]
fn rules_that_taint_devices_and_questions_about_pools_are_answered() {
    let cluster = Cluster::place();
    let gates = "--feature-gates=DRADeviceTaintRules=true,DRAResourcePoolStatus=true";
    let versions = "--runtime-config=resource.k8s.io/v1beta2=true,resource.k8s.io/v1alpha3=true";
    let _daemon = cluster.daemon("control-plane", &["--components=apiserver,controllers", gates, versions]);
    eventually("the API server is ready", || cluster.kubectl_output("get --raw /readyz").status.success());
    let file = cluster.path("objects.yaml");
    fs::write(&file, OBJECTS).expect("writes");
    cluster.kubectl(&format!("apply -f {}", file.display()));
    let asked = cluster.path("asked.yaml");
    fs::write(&asked, ASKED).expect("writes");
    // What controllers know of slices follows within a moment.
    eventually("the slice is there", || cluster.kubectl("get resourceslices s -o name") == "resourceslice.resource.k8s.io/s\n");
    cluster.kubectl(&format!("apply -f {}", asked.display()));
    let told = || cluster.kubectl("get devicetaintrule r -o jsonpath={.status.conditions[0].message}");
    eventually("the rule tells what it means", || !told().is_empty());
    // The slice may have come a moment after it.
    assert!(told().contains(" selected. 0 allocated devices selected. 0 pods would be evicted in 0 different namespaces"), "{}", told());
    let free = "get resourcepoolstatusrequest q -o jsonpath={.status.pools[0].poolName}/{.status.pools[0].availableDevices}";
    eventually("the question is answered", || cluster.kubectl(free) == "n1/2");
    let shown = cluster.kubectl("get devicetaintrules.v1alpha3.resource.k8s.io r -o jsonpath={.apiVersion}/{.spec.taint.key}/{.metadata.generation}");
    assert_eq!(shown, "resource.k8s.io/v1alpha3/example.com/broken/1");
    assert!(cluster.kubectl("get devicetaintrules").contains("example.com/broken"));
}
