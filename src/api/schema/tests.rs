use serde_json::json;

use super::*;
use crate::meta::{GroupVersionKind, request::FieldValidation};

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, creationTimestamp: null, labels: {}}
spec:
  replicas: 0
  paused: false
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      hostNetwork: false
      containers:
      - name: web
        image: busybox
        args: []
        resources: {limits: {cpu: 1000m, memory: 1024Mi}, requests: {cpu: 0.5}}
        ports: [{containerPort: 80}]
      volumes: [{name: tmp, emptyDir: {}}]
"#;

fn schema(group: &str, version: &str, kind: &str) -> std::sync::Arc<Schema> {
    Schemas::builtin().get(&GroupVersionKind::new(group, version, kind)).expect("a built-in kind")
}

#[test]
fn every_kind_parses_and_names_only_definitions_that_exist() {
    fn visit(node: &Node, seen: &mut std::collections::HashSet<String>) {
        if let Some(element) = node.element() {
            visit(element, seen);
        }
        if let Some(holder) = node.as_struct()
            && seen.insert(holder.full_name.to_string())
        {
            holder.fields().iter().for_each(|field| visit(&field.node, seen));
        }
    }
    let mut seen = std::collections::HashSet::new();
    for gvk in Schemas::builtin().kinds() {
        visit(&Schemas::builtin().get(gvk).expect("listed").root, &mut seen);
    }
    assert!(seen.len() > 600, "{}", seen.len());
}

#[test]
fn a_manifest_decodes_into_the_form_upstream_stores() {
    let decoded = schema("apps", "v1", "Deployment").decode(DEPLOYMENT.as_bytes(), Format::Yaml).expect("decodes");
    assert_eq!(decoded.problems, vec![]);
    let spec = &decoded.object.into_value()["spec"];
    assert_eq!(spec["replicas"], 0, "a pointer keeps its zero");
    assert!(spec.get("paused").is_none(), "an empty value goes");
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["terminationGracePeriodSeconds"], 0);
    assert!(pod.get("hostNetwork").is_none());
    let container = &pod["containers"][0];
    assert!(container.get("args").is_none());
    assert_eq!(container["resources"]["limits"], serde_json::json!({"cpu": "1", "memory": "1Gi"}));
    assert_eq!(container["resources"]["requests"]["cpu"], "500m");
    assert_eq!(pod["volumes"][0]["emptyDir"], serde_json::json!({}));
}

#[test]
fn decoding_what_was_decoded_changes_nothing() {
    let schema = schema("apps", "v1", "Deployment");
    let mut once = schema.decode(DEPLOYMENT.as_bytes(), Format::Yaml).expect("decodes").object;
    let again = schema.decode(&serde_json::to_vec(once.root()).expect("encodes"), Format::Json).expect("decodes");
    assert_eq!(again.object, once);
    schema.apply_defaults(&mut once);
    assert_eq!(once.list(&["spec", "template", "spec", "containers"])[0]["ports"][0]["protocol"], "TCP");
    let mut twice = once.clone();
    schema.apply_defaults(&mut twice);
    assert_eq!(twice, once);
    assert_eq!(schema.normalise(once.clone()).expect("decodes").object, once);
}

#[test]
fn unknown_and_duplicate_fields_are_reported_in_order() {
    let body = r#"{"kind":"Pod","apiVersion":"v1","foo":1,"metadata":{"name":"a","name":"b","labels":{"x":"1","x":"2"}},
        "spec":{"containers":[{"name":"c","imagee":"i"}]}}"#;
    let pod = schema("", "v1", "Pod");
    let decoded = pod.decode(body.as_bytes(), Format::Json).expect("decodes");
    let texts = decoded.problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    let want = [
        "unknown field \"foo\"",
        "duplicate field \"metadata.name\"",
        "duplicate field \"metadata.labels.x\"",
        "unknown field \"spec.containers[0].imagee\"",
    ];
    assert_eq!(texts, want);
    assert_eq!(decoded.object.name(), "b");
    let status = decoded.clone().checked(FieldValidation::Strict, &pod).expect_err("strict");
    assert_eq!(status.code, 400);
    assert!(status.message.starts_with("Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"foo\", duplicate"));
    assert_eq!(decoded.checked(FieldValidation::Warn, &pod).expect("warns").1, want);
}

#[test]
fn type_errors_read_as_upstream_writes_them() {
    let cases = [
        (
            ("apps", "Deployment"),
            r#"{"spec":{"replicas":"x"}}"#,
            "cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            ("apps", "Deployment"),
            r#"{"spec":{"template":{"spec":{"containers":[{"env":[{"value":1}]}]}}}}"#,
            "cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
        ),
        (("", "ConfigMap"), r#"{"data":{"a":true}}"#, "cannot unmarshal bool into Go struct field ConfigMap.data of type string"),
        (("", "Pod"), r#"{"spec":[]}"#, "cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec"),
        (
            ("", "Pod"),
            r#"{"spec":{"volumes":[{"emptyDir":"x"}]}}"#,
            "cannot unmarshal string into Go struct field Volume.spec.volumes.VolumeSource.emptyDir of type v1.EmptyDirVolumeSource",
        ),
        (
            ("", "Pod"),
            r#"{"spec":{"containers":[{"resources":{"limits":"x"}}]}}"#,
            "cannot unmarshal string into Go struct field ResourceRequirements.spec.containers.resources.limits of type v1.ResourceList",
        ),
    ];
    for ((group, kind), body, want) in cases {
        let schema = schema(group, "v1", kind);
        let status = schema.decode(body.as_bytes(), Format::Json).expect_err(body).into_status(&schema, body.as_bytes());
        assert_eq!(status.message, format!("{kind} in version \"v1\" cannot be handled as a {kind}: json: {want}"));
    }
    let quantity = schema("", "v1", "Pod").decode(br#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}"#, Format::Json);
    assert!(quantity.expect_err("no quantity").to_string().starts_with("quantities must match"));
}

#[test]
fn amounts_of_resources_are_rounded_up_to_thousandths() {
    let schema = schema("", "v1", "Pod");
    let body = br#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"0.5m","memory":"1e-10","a.b/c":"1.5Gi","a.b/d":"1.1111111111"}}}]}}"#;
    let object = schema.decode(body, Format::Json).expect("decodes").object.into_value();
    let limits = &object["spec"]["containers"][0]["resources"]["limits"];
    assert_eq!(limits, &json!({"cpu": "1m", "memory": "1e-3", "a.b/c": "1536Mi", "a.b/d": "1112m"}));
}

#[test]
fn base64_that_ends_early_is_at_fault_where_its_last_group_begins() {
    let schema = schema("", "v1", "Secret");
    for (data, at) in [("x", 0), ("YQ", 0), ("YWJjYQ", 4), ("YQ=", 3), ("Y Q=", 1)] {
        let body = json!({"data": {"a": data}}).to_string();
        let error = schema.decode(body.as_bytes(), Format::Json).expect_err(data);
        assert_eq!(error.to_string(), format!("illegal base64 data at input byte {at}"));
    }
}

#[test]
fn times_that_nobody_set_are_null_where_go_writes_them() {
    let conditions = |group: &str, version: &str, kind: &str| {
        let body = br#"{"metadata":{"name":"x"},"status":{"conditions":[{"type":"T","status":"True"}]}}"#;
        let schema = schema(group, version, kind);
        let mut object = schema.decode(body, Format::Json).expect("decodes").object;
        schema.apply_defaults(&mut object);
        assert_eq!(object.get(&["metadata"]), Some(&json!({"name": "x"})), "the time of creation says omitzero");
        object.list(&["status", "conditions"])[0].clone()
    };
    for (group, version, kind, times) in [
        ("", "v1", "Node", ["lastHeartbeatTime", "lastTransitionTime"]),
        ("batch", "v1", "Job", ["lastProbeTime", "lastTransitionTime"]),
        ("apps", "v1", "Deployment", ["lastUpdateTime", "lastTransitionTime"]),
    ] {
        let mut wanted = json!({"type": "T", "status": "True"});
        times.iter().for_each(|time| wanted[*time] = json!(null));
        assert_eq!(conditions(group, version, kind), wanted, "{kind}");
    }
}

#[test]
fn no_policies_of_an_autoscaler_are_other_than_nothing_about_them() {
    let schema = schema("autoscaling", "v2", "HorizontalPodAutoscaler");
    let scaler = schema.decode(br#"{"spec":{"behavior":{"scaleUp":{"policies":[]},"scaleDown":{}}}}"#, Format::Json).expect("decodes").object;
    let rules = json!({"scaleUp": {"policies": []}, "scaleDown": {}});
    assert_eq!(scaler.get(&["spec", "behavior"]), Some(&rules), "defaulting leaves it to validation");
}

#[test]
fn required_fields_are_missed_where_their_parents_stand() {
    let schema = schema("apps", "v1", "Deployment");
    let object = schema.decode(br#"{"metadata":{"name":"x"},"spec":{"template":{"spec":{"containers":[{"image":"i"}]}}}}"#, Format::Json);
    let errors = validate(&schema, &object.expect("decodes").object).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(errors, ["spec.selector: Required value", "spec.template.spec.containers[0].name: Required value"]);
}

#[test]
fn what_upstream_takes_although_openapi_requires_it_is_not_missed() {
    let pod = schema("", "v1", "Pod");
    let header = r#"{"name":"c","livenessProbe":{"httpGet":{"port":80,"httpHeaders":[{"name":"X-A"}]}}}"#;
    let text = format!(r#"{{"metadata":{{"name":"x"}},"spec":{{"securityContext":{{"sysctls":[{{"name":"a.b"}}]}},"containers":[{header}]}}}}"#);
    let object = pod.decode(text.as_bytes(), Format::Json).expect("decodes").object;
    assert!(validate(&pod, &object).is_empty());
    let definition = schema("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let columns = br#"{"spec":{"group":"a.b","names":{"kind":"K","plural":"ks"},"scope":"Cluster","versions":[{"additionalPrinterColumns":[{}]}]}}"#;
    assert!(validate(&definition, &definition.decode(columns, Format::Json).expect("decodes").object).is_empty(), "its rules tell of it elsewhere");
    let migration = schema("storagemigration.k8s.io", "v1beta1", "StorageVersionMigration");
    let of_core = br#"{"metadata":{"name":"x"},"spec":{"resource":{"group":"","resource":"secrets"}}}"#;
    assert!(validate(&migration, &migration.decode(of_core, Format::Json).expect("decodes").object).is_empty());
}

#[test]
fn json_that_costs_too_much_or_is_too_deep_is_refused() {
    let schema = schema("apps", "v1", "ControllerRevision");
    let dense = |item: &str| format!(r#"{{"data":[{}0]}}"#, item.repeat((2 << 20) / item.len()));
    for item in [r#"{"a":0},"#, "[[0]],", "0,", "{},"] {
        assert!(matches!(schema.decode(dense(item).as_bytes(), Format::Json), Err(DecodeError::TooLarge(_))), "{item}");
    }
    let worth_it = dense(r#"{"description":"what a field of a terse schema says","type":"string"},"#);
    assert!(schema.decode(worth_it.as_bytes(), Format::Json).is_ok());
    let deep = format!(r#"{{"data":{}{}}}"#, "[".repeat(1 << 20), "]".repeat(1 << 20));
    assert_eq!(schema.decode(deep.as_bytes(), Format::Json).expect_err("too deep"), DecodeError::Syntax("exceeded max depth".into()));
    let broken = "[".repeat(1 << 20);
    assert!(matches!(schema.decode(broken.as_bytes(), Format::Json), Err(DecodeError::Syntax(_))));
}

#[test]
fn messages_show_the_beginning_of_long_names() {
    let body = format!("{{\"{}\":1}}", "x".repeat(1 << 20));
    let decoded = schema("", "v1", "ConfigMap").decode(body.as_bytes(), Format::Json).expect("decodes");
    assert_eq!(decoded.problems[0].to_string().len(), "unknown field \"\"".len() + 1024 + 3);
}
