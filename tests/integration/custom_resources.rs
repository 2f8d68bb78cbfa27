//! Custom resources with kubectl: defined, explained, applied, printed, watched, scaled and deleted, on a running cluster.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    time::Duration,
};

use crate::cluster::{Cluster, apply, eventually, eventually_within, shared, text};

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ovens.bakery.example.com}
spec:
  group: bakery.example.com
  scope: Namespaced
  names: {plural: ovens, singular: oven, kind: Oven, shortNames: [ov], categories: [bakery]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.racks, statusReplicasPath: .status.racks}
    additionalPrinterColumns:
    - {name: Degrees, type: integer, jsonPath: .spec.degrees}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    selectableFields: [{jsonPath: .spec.fuel}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [degrees]
            properties:
              degrees: {type: integer, minimum: 50, maximum: 500, description: How hot it gets inside.}
              fuel: {type: string, enum: [wood, gas], default: gas}
              racks: {type: integer, default: 1}
              timer: {x-kubernetes-int-or-string: true}
          status:
            type: object
            properties:
              racks: {type: integer}
              conditions:
                type: array
                items:
                  type: object
                  properties: {type: {type: string}, status: {type: string}}
"#;

const OVEN: &str = r#"
apiVersion: bakery.example.com/v1
kind: Oven
metadata: {name: stone, namespace: bakery}
spec: {degrees: 300, fuel: wood}
"#;

/// A ConfigMap that goes when the oven goes.
const OWNED: &str = r#"
apiVersion: bakery.example.com/v1
kind: Oven
metadata:
  name: small
  namespace: bakery
  ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: owner, uid: UID}]
spec: {degrees: 200}
"#;

fn kubectl(cluster: &Cluster, words: &str) -> String {
    cluster.kubectl(&format!("-n bakery {words}"))
}

#[test]
fn custom_resources_are_used_like_any_other() {
    let cluster = shared();
    apply(&cluster, DEFINITION);
    cluster.kubectl("wait --for=condition=Established crd/ovens.bakery.example.com --timeout=90s");
    cluster.kubectl("create namespace bakery");
    apply(&cluster, OVEN);
    is_printed_and_explained(&cluster);
    is_validated(&cluster);
    is_watched_and_scaled(&cluster);
    is_collected(&cluster);
    cluster.kubectl("delete namespace bakery --timeout=120s");
    cluster.kubectl("delete crd ovens.bakery.example.com --timeout=120s");
    let gone = cluster.kubectl_output("get ovens -A");
    // Which of the two kubectl says depends on whether it still remembers what there was.
    let told = ["the server doesn't have a resource type \"ovens\"", "the server could not find the requested resource"];
    assert!(told.iter().any(|told| text(&gone.stderr).contains(told)), "{}", text(&gone.stderr));
}

fn is_printed_and_explained(cluster: &Cluster) {
    let table = kubectl(cluster, "get ov");
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "DEGREES", "READY", "AGE"], "{table}");
    assert_eq!(rows[1][..2], ["stone", "300"], "{table}");
    assert!(kubectl(cluster, "get bakery").contains("stone"));
    assert_eq!(kubectl(cluster, "get ovens --field-selector spec.fuel=gas -o name"), "");
    assert_eq!(kubectl(cluster, "get ovens --field-selector spec.fuel=wood -o name").trim(), "oven.bakery.example.com/stone");
    let explained = cluster.kubectl("explain oven.spec.degrees");
    assert!(explained.contains("<integer>") && explained.contains("How hot it gets inside."), "{explained}");
    let explained = cluster.kubectl("explain oven");
    assert!(explained.contains("APIVersion defines the versioned schema"), "{explained}");
    assert!(cluster.kubectl("api-resources --api-group=bakery.example.com").contains("ov "));
    assert!(cluster.kubectl("get --raw /openapi/v2").contains("com.example.bakery.v1.Oven"));
}

fn is_validated(cluster: &Cluster) {
    let hot = cluster.kubectl_words(&["-n", "bakery", "patch", "oven", "stone", "--type=merge", "-p", r#"{"spec":{"racks":2}}"#]);
    assert!(hot.contains("patched"), "{hot}");
    let refused = cluster.kubectl_command(&["-n", "bakery", "patch", "oven", "stone", "--type=merge", "-p", r#"{"spec":{"degrees":900}}"#]).output();
    let refused = text(&refused.expect("kubectl runs").stderr);
    assert!(refused.contains("spec.degrees in body should be less than or equal to 500"), "{refused}");
    cluster.kubectl_words(&["-n", "bakery", "patch", "oven", "stone", "--subresource=status", "--type=merge", "-p", READY]);
    assert!(kubectl(cluster, "get oven stone").contains("True"));
    assert_eq!(kubectl(cluster, "get oven stone -o jsonpath={.metadata.generation}"), "2");
}

const READY: &str = r#"{"status":{"racks":2,"conditions":[{"type":"Ready","status":"True"}]}}"#;

fn is_watched_and_scaled(cluster: &Cluster) {
    let mut watch = cluster.kubectl_command(&["-n", "bakery", "get", "ovens", "-w", "--output-watch-events"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().expect("kubectl runs");
    let mut lines = BufReader::new(watch.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let first = lines.find(|line| line.contains("stone"));
    kubectl(cluster, "scale oven stone --replicas=3");
    let next = lines.next();
    let _ = watch.kill();
    let _ = watch.wait();
    let is = |line: &Option<String>, event: &str| line.as_ref().is_some_and(|line| line.starts_with(event) && line.contains("stone"));
    assert!(is(&first, "ADDED") && is(&next, "MODIFIED"), "{first:?} {next:?}");
    assert_eq!(kubectl(cluster, "get oven stone -o jsonpath={.spec.racks}"), "3");
}

fn is_collected(cluster: &Cluster) {
    kubectl(cluster, "create configmap owner");
    let uid = kubectl(cluster, "get configmap owner -o jsonpath={.metadata.uid}");
    apply(cluster, &OWNED.replace("UID", &uid));
    kubectl(cluster, "delete configmap owner");
    eventually_within(Duration::from_secs(120), "what the owner leaves is collected", || {
        !cluster.kubectl_output("-n bakery get oven small").status.success()
    });
    eventually("the other one stays", || kubectl(cluster, "get ovens -o name").trim() == "oven.bakery.example.com/stone");
}
