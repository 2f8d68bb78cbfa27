//! Bodies as they are written: YAML's scalars, fields that stand twice, nulls.

use std::time::Duration;

use serde_json::json;

use super::door::Door;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

#[actix::test]
async fn yaml_bodies_are_read_by_the_rules_of_yaml_1_1() {
    let mut door = Door::open().await;
    let volumes = |mode: &str| {
        format!(
            "kind: Pod\napiVersion: v1\nmetadata: {{name: m}}\nspec:\n  containers: [{{name: a, image: i:1}}]\n  volumes:\n  - name: v\n    configMap: {{name: c, defaultMode: {mode}}}\n"
        )
    };
    for (written, read) in [("0400", 256), ("0o17", 15), ("0b11", 3), ("0x1f", 31), ("1_0", 10), ("+7", 7)] {
        let made = door.post_yaml(&format!("{PODS}?dryRun=All"), &volumes(written)).await;
        assert_eq!(made.status, 201, "{:?}", made.body);
        assert_eq!(made.json()["spec"]["volumes"][0]["configMap"]["defaultMode"], read, "{written}");
    }
    for written in ["yes", "No", "on", "OFF", "y", "N", "True"] {
        let refused = door.post_yaml(MAPS, &format!("metadata:\n  name: a\n  labels: {{x: {written}}}\n")).await;
        let why = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string";
        assert_eq!(refused.refusal(), (400, why.to_owned()), "{written}");
    }
    let refused = door.post_yaml(MAPS, "metadata: {name: a}\ndata: {x: 0400}\n").await;
    let why = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string";
    assert_eq!(refused.refusal(), (400, why.to_owned()));
    let made =
        door.post_yaml(MAPS, "metadata: {name: a}\ndata: {date: 2001-12-14, base60: 190:20:30, quoted: 'yes', 1.50: f, 010: o, yes: b}\n").await;
    let want = json!({"date": "2001-12-14", "base60": "190:20:30", "quoted": "yes", "1.5": "f", "8": "o", "true": "b"});
    assert_eq!(made.json()["data"], want);
    door.close().await;
}

#[actix::test]
async fn what_is_no_yaml_is_refused_in_the_words_of_upstreams_reader() {
    let mut door = Door::open().await;
    let text = "kind: ConfigMap\nmetadata: name: a\n";
    let unread = "yaml: line 2: mapping values are not allowed in this context";
    let refused = door.post_yaml(MAPS, text).await;
    let shown = "6b696e643a20436f6e6669674d61700a6d657461646174613a206e616d65 ...";
    assert_eq!(refused.refusal(), (400, format!("the object provided is unrecognized (must be of type ConfigMap): {unread} ({shown})")));
    let (code, message) = door.send("POST", MAPS, &[], r#"{"kind""#).await.refusal();
    let why = "couldn't get version/kind; json parse error: unexpected end of JSON input";
    assert_eq!((code, message), (400, format!("the object provided is unrecognized (must be of type ConfigMap): {why} ({{\"kind\")")));
    let apply = [("content-type", "application/apply-patch+yaml")];
    let refused = door.send("PATCH", &format!("{MAPS}/a?fieldManager=m"), &apply, text).await;
    assert_eq!(refused.refusal(), (400, format!("error decoding YAML: error converting YAML to JSON: {unread}")));
    door.close().await;
}

#[actix::test]
async fn a_body_without_anything_is_none_in_json_and_null_in_yaml() {
    let mut door = Door::open().await;
    let unrecognized = "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error:";
    let empty = door.send("POST", MAPS, &[], "").await;
    assert_eq!(empty.refusal(), (400, format!("{unrecognized} unexpected end of JSON input (<empty>)")));
    let nameless = door.post(MAPS, &json!({})).await.refusal();
    assert_eq!(nameless.0, 422);
    for text in ["", "# nothing\n", "null"] {
        assert_eq!(door.post_yaml(MAPS, text).await.refusal(), nameless, "{text:?}");
    }
    assert_eq!(door.send("POST", MAPS, &[], "null").await.refusal(), nameless);
    let into = r#"into Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
    let list = door.send("POST", MAPS, &[], "[]").await.refusal();
    assert_eq!(list, (400, format!("{unrecognized} json: cannot unmarshal array {into} (5b5d)")));
    let text = door.post_yaml(MAPS, "a").await.refusal();
    assert_eq!(text, (400, format!("{unrecognized} json: cannot unmarshal string {into} (61)")));
    assert_eq!(door.post(MAPS, &json!({"metadata": {"name": "p"}})).await.status, 201);
    let path = format!("{MAPS}/p");
    let nothing = door.put(&path, &json!({})).await.refusal();
    let empty = door.send("PUT", &path, &[("content-type", "application/yaml")], "").await.refusal();
    assert_eq!(empty, nothing);
    door.close().await;
}

#[actix::test]
async fn a_key_that_stands_twice_in_yaml_is_told_in_the_words_of_upstreams_reader() {
    let mut door = Door::open().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let text = "metadata: {name: d}\nspec:\n  replicas: 1\n  replicas: 2\n  selector: {matchLabels: {a: b}}\n  template:\n    metadata: {labels: {a: b}}\n    spec: {containers: [{name: a, image: i:1}]}\n";
    let refused = door.post_yaml(&format!("{path}?fieldValidation=Strict"), text).await;
    let why = "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: yaml: unmarshal errors:\n  line 4: key \"replicas\" already set in map";
    assert_eq!(refused.refusal(), (400, why.to_owned()));
    let warned = door.post_yaml(&format!("{path}?fieldValidation=Warn"), text).await;
    assert_eq!((warned.status.as_u16(), &warned.json()["spec"]["replicas"]), (201, &json!(2)));
    assert_eq!(warned.warnings(), ["line 4: key \"replicas\" already set in map"]);
    let apply = [("content-type", "application/apply-patch+yaml")];
    let text = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: t}\ndata:\n  a: v\n  a: w\n";
    let refused = door.send("PATCH", &format!("{MAPS}/t?fieldManager=m&fieldValidation=Strict"), &apply, text).await;
    let why = "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 6: key \"a\" already set in map";
    assert_eq!(refused.refusal(), (400, why.to_owned()));
    let twice = json!({"metadata": {"name": "d"}}).to_string().replace("{\"name\"", "{\"name\":\"c\",\"name\"");
    let refused = door.send("POST", &format!("{MAPS}?fieldValidation=Strict"), &[], twice).await;
    let why = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: duplicate field \"metadata.name\"";
    assert_eq!(refused.refusal(), (400, why.to_owned()));
    door.close().await;
}

#[actix::test]
async fn times_are_taken_and_shown_as_upstream_does() {
    let mut door = Door::open().await;
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    for (at, (sent, shown)) in [
        ("9999-12-31T23:59:59.999999Z", Some("9999-12-31T23:59:59.999999Z")),
        ("9999-12-31T22:59:59.000000-01:00", Some("9999-12-31T23:59:59.000000Z")),
        ("2024-01-02T03:04:05.000000+02:00", Some("2024-01-02T01:04:05.000000Z")),
        ("0001-01-01T00:00:00.000000Z", None),
    ]
    .into_iter()
    .enumerate()
    {
        let lease = json!({"metadata": {"name": format!("l{at}")}, "spec": {"holderIdentity": "h", "leaseDurationSeconds": 1, "renewTime": sent}});
        let made = door.post(path, &lease).await;
        assert_eq!(made.status, 201, "{:?}", made.body);
        let read = door.get(&format!("{path}/l{at}")).await.json();
        assert_eq!(read["spec"].get("renewTime"), shown.map(|shown| json!(shown)).as_ref(), "{sent}");
    }
    for sent in ["2024-01-02t03:04:05.000000Z", "2024-01-02T03:04:05.000000z"] {
        let lease = json!({"metadata": {"name": "l"}, "spec": {"renewTime": sent}});
        assert_eq!(door.post(path, &lease).await.status, 400, "{sent}");
    }
    door.close().await;
}

#[actix::test]
async fn a_null_is_as_absent() {
    let mut door = Door::open().await;
    for (path, body) in [
        ("/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles", json!({"metadata": {"name": "r"}, "rules": null})),
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles", json!({"metadata": {"name": "r"}, "rules": null, "aggregationRule": null})),
        (MAPS, json!({"metadata": {"name": "n", "labels": null, "annotations": null, "finalizers": null, "ownerReferences": null}, "data": null})),
        ("/api/v1/namespaces/default/endpoints", json!({"metadata": {"name": "n"}, "subsets": null})),
        (
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
            json!({"metadata": {"name": "n"}, "addressType": "IPv4", "endpoints": null, "ports": null}),
        ),
        (
            "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies",
            json!({"metadata": {"name": "n"}, "spec": {"podSelector": {}, "ingress": null, "policyTypes": null}}),
        ),
        (
            PODS,
            json!({"metadata": {"name": "n"}, "spec": {"volumes": null, "nodeSelector": null, "tolerations": null, "containers": [{"name": "a", "image": "i:1", "env": null, "ports": null, "command": null, "resources": {"limits": null}}]}}),
        ),
    ] {
        let made = door.post(path, &body).await;
        assert_eq!(made.status, 201, "{path}: {:?}", made.body);
    }
    door.close().await;
}

#[actix::test]
async fn a_body_of_another_kind_is_refused_as_upstream_does() {
    let mut door = Door::open().await;
    assert_eq!(door.post(MAPS, &json!({"metadata": {"name": "m"}})).await.status, 201);
    let (unknown, foreign) = (json!({"kind": "Zoo", "apiVersion": "v1"}), json!({"kind": "Deployment", "apiVersion": "apps/v1"}));
    let scheme = "in scheme \"pkg/api/legacyscheme/scheme.go:30\"";
    let cannot = "cannot be handled as a ConfigMap";
    for (body, why) in [
        (&unknown, format!("Zoo in version \"v1\" {cannot}: no kind \"Zoo\" is registered for version \"v1\" {scheme}")),
        (&foreign, format!("Deployment in version \"v1\" {cannot}: converting (v1.Deployment) to (core.ConfigMap): unknown conversion")),
    ] {
        assert_eq!(door.post(MAPS, body).await.refusal(), (400, why));
    }
    let one = format!("{MAPS}/m");
    let (code, why) = door.send("PATCH", &one, &[("content-type", "application/merge-patch+json")], unknown.to_string()).await.refusal();
    assert!(code == 422 && why.starts_with(" \"\" is invalid: patch: Invalid value: ") && why.ends_with(scheme), "{why}");
    let strategic = door.send("PATCH", &one, &[("content-type", "application/strategic-merge-patch+json")], unknown.to_string()).await;
    assert_eq!((strategic.status.as_u16(), &strategic.json()["kind"]), (200, &json!("ConfigMap")));
    let apply = door.send("PATCH", &format!("{one}?fieldManager=m"), &[("content-type", "application/apply-patch+yaml")], foreign.to_string()).await;
    assert_eq!(apply.refusal(), (400, "invalid object type: apps/v1, Kind=Deployment".to_owned()));
    door.close().await;
}

#[actix::test]
async fn a_custom_resource_says_its_kind_and_version() {
    let mut door = Door::open().await;
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let spec = json!({
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "sites", "kind": "Site"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
    });
    let definition = json!({"metadata": {"name": "sites.example.com"}, "spec": spec});
    assert_eq!(door.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await.status, 201);
    let path = "/apis/example.com/v1/namespaces/default/sites";
    for _ in 0..100 {
        if door.get(path).await.status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let nameless = r#"{"metadata":{"name":"s"}}"#;
    let missing = format!("the object provided is unrecognized (must be of type Site): Object 'Kind' is missing in '{nameless}' ({nameless})");
    let other = "the API version in the data () does not match the expected API version (example.com/v1)".to_owned();
    for (body, refusal) in [
        (nameless, (400, missing)),
        (r#"{"kind":"Site","metadata":{"name":"s"}}"#, (400, other)),
        (
            r#"{"kind":"Zoo","apiVersion":"example.com/v1","metadata":{"name":"s"}}"#,
            (422, "Zoo.example.com \"s\" is invalid: kind: Invalid value: \"Zoo\": must be Site".to_owned()),
        ),
    ] {
        assert_eq!(door.send("POST", path, &[], body).await.refusal(), refusal);
    }
    let ignoring = door.send("POST", &format!("{path}?fieldValidation=Ignore"), &[], format!("{nameless}\n")).await;
    let missing = format!("Site in version \"v1\" cannot be handled as a Site: Object 'Kind' is missing in '{nameless}'");
    assert_eq!(ignoring.refusal(), (400, missing));
    let missing = "the object provided is unrecognized (must be of type Site): Object 'Kind' is missing in '' (<empty>)";
    assert_eq!(door.post_yaml(path, "").await.refusal(), (400, missing.to_owned()));
    let twice = r#"{"kind":"Site","apiVersion":"example.com/v1","metadata":{"name":"s"},"spec":{"a":1,"a":2}}"#;
    let why = "Site in version \"v1\" cannot be handled as a Site: strict decoding error: duplicate field \"spec.a\"";
    assert_eq!(door.send("POST", &format!("{path}?fieldValidation=Strict"), &[], twice).await.refusal(), (400, why.to_owned()));
    let made = door.send("POST", path, &[], twice).await;
    assert_eq!((made.status.as_u16(), made.warnings()), (201, vec!["duplicate field \"spec.a\"".to_owned()]));
    door.close().await;
}
