//! Pods: what is refused, and what writers are warned of.

use serde_json::{Value, json};

use super::door::Door;

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str, container: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [container]}})
}

#[actix::test]
async fn fractions_of_bytes_are_stored_in_canonical_form_with_a_warning() {
    let mut door = Door::open().await;
    let limits = json!({"memory": "0.1Gi", "ephemeral-storage": "100m"});
    let made = door.post(PODS, &pod("p", json!({"name": "a", "image": "i:1", "resources": {"limits": limits}}))).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let resources = &made.json()["spec"]["containers"][0]["resources"];
    assert_eq!(resources["limits"], json!({"memory": "107374182400m", "ephemeral-storage": "100m"}));
    let told = |list: &str, name: &str, value: &str| {
        format!("spec.containers[0].resources.{list}[{name}]: fractional byte value \"{value}\" is invalid, must be an integer")
    };
    assert_eq!(
        made.warnings(),
        [
            told("limits", "memory", "107374182400m"),
            told("requests", "memory", "107374182400m"),
            told("limits", "ephemeral-storage", "100m"),
            told("requests", "ephemeral-storage", "100m"),
        ]
    );
    door.close().await;
}

#[actix::test]
async fn a_hook_that_sleeps_ends_within_the_grace_period() {
    let mut door = Door::open().await;
    for (seconds, grace) in [(40, 30), (-1, 30), (3, 2)] {
        let hook = json!({"preStop": {"sleep": {"seconds": seconds}}});
        let mut pod = pod("p", json!({"name": "a", "image": "i:1", "lifecycle": hook}));
        pod["spec"]["terminationGracePeriodSeconds"] = grace.into();
        let why = format!(
            "Pod \"p\" is invalid: spec.containers[0].lifecycle.preStop.sleep: Invalid value: {seconds}: must be non-negative and less than terminationGracePeriodSeconds ({grace})"
        );
        assert_eq!(door.post(PODS, &pod).await.refusal(), (422, why));
    }
    let hook = json!({"preStop": {"sleep": {"seconds": 0}}});
    assert_eq!(door.post(PODS, &pod("p", json!({"name": "a", "image": "i:1", "lifecycle": hook}))).await.status, 201);
    door.close().await;
}

#[actix::test]
async fn who_writes_pods_is_told_what_is_odd_about_them() {
    let mut door = Door::open().await;
    let env = json!([{"name": "T", "value": "1"}, {"name": "T", "value": "2"}]);
    let container = json!({"name": "a", "image": "i:1", "env": env});
    let hides = "containers[0].env[1]: hides previous definition of \"T\", which may be dropped when using apply";
    let made = door.post(PODS, &pod("p.q", container.clone())).await;
    let name = "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]";
    assert_eq!((made.status.as_u16(), made.warnings()), (201, vec![name.to_owned(), format!("spec.{hides}")]));
    let labelled =
        door.send("PATCH", &format!("{PODS}/p.q"), &[("content-type", "application/merge-patch+json")], r#"{"metadata":{"labels":{"a":"b"}}}"#).await;
    assert_eq!((labelled.status.as_u16(), labelled.warnings()), (200, Vec::new()), "pods are talked about once");
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    assert_eq!(door.post(path, &deployment).await.warnings(), [format!("spec.template.spec.{hides}")]);
    let patch = [("content-type", "application/merge-patch+json")];
    let scaled = door.send("PATCH", &format!("{path}/d"), &patch, r#"{"spec":{"replicas":2}}"#).await;
    assert_eq!(scaled.warnings(), [format!("spec.template.spec.{hides}")]);
    let labelled = door.send("PATCH", &format!("{path}/d"), &patch, r#"{"metadata":{"labels":{"a":"b"}}}"#).await;
    assert_eq!(labelled.warnings(), Vec::<String>::new());
    door.close().await;
}
