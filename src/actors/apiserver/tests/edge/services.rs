//! Services that change.

use serde_json::json;

use super::door::Door;

const SERVICES: &str = "/api/v1/namespaces/default/services";

#[actix::test]
async fn a_load_balancer_that_is_local_no_more_gives_its_health_check_port_back() {
    let mut door = Door::open().await;
    let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}], "selector": {"a": "b"}});
    let made = door.post(SERVICES, &json!({"metadata": {"name": "s"}, "spec": spec})).await.json();
    let port = made["spec"]["healthCheckNodePort"].as_i64().expect("a port");
    let mut changed = made.clone();
    changed["spec"]["externalTrafficPolicy"] = "Cluster".into();
    let updated = door.put(&format!("{SERVICES}/s"), &changed).await;
    assert_eq!(updated.status, 200, "{:?}", updated.body);
    assert_eq!(updated.json()["spec"].get("healthCheckNodePort"), None);
    // Somebody else may have it now.
    let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port, "ports": [{"port": 80}]});
    assert_eq!(door.post(SERVICES, &json!({"metadata": {"name": "t"}, "spec": spec})).await.status, 201);
    // A patch of the one field does the same.
    let patched = door
        .send(
            "PATCH",
            &format!("{SERVICES}/t"),
            &[("content-type", "application/merge-patch+json")],
            r#"{"spec":{"externalTrafficPolicy":"Cluster"}}"#,
        )
        .await;
    assert_eq!((patched.status.as_u16(), patched.json()["spec"].get("healthCheckNodePort")), (200, None));
    door.close().await;
}

#[actix::test]
async fn an_address_that_is_set_stays() {
    let mut door = Door::open().await;
    let made = door.post(SERVICES, &json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})).await.json();
    let mut changed = made.clone();
    changed["spec"]["clusterIP"] = "10.96.0.77".into();
    changed["spec"]["clusterIPs"] = json!(["10.96.0.77"]);
    let why = "Service \"s\" is invalid: spec.clusterIPs[0]: Invalid value: [\"10.96.0.77\"]: may not change once set";
    assert_eq!(door.put(&format!("{SERVICES}/s"), &changed).await.refusal(), (422, why.to_owned()));
    // As kubectl replace writes it: one field, no resource version.
    let plain = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.96.0.77", "ports": [{"port": 80}]}});
    assert_eq!(door.put(&format!("{SERVICES}/s"), &plain).await.refusal(), (422, why.to_owned()));
    let plain = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 81}]}});
    let kept = door.put(&format!("{SERVICES}/s"), &plain).await.json();
    assert_eq!(kept["spec"]["clusterIPs"], made["spec"]["clusterIPs"]);
    door.close().await;
}
