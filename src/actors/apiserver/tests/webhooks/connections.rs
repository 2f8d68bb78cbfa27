use serde_json::json;

use super::{
    super::edge::door::Door,
    endpoint::{Answer, Endpoint, allowed, boot, configuration, denied},
};

#[actix::test]
async fn connections_are_asked_about_before_they_begin() {
    let (api, hook) = (boot().await, Endpoint::serve(|_| denied(json!({"message": "no shells", "code": 403}))).await);
    let rules = json!([{"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/*", "services/proxy"]}]);
    api.create(configuration("Validating", "c", vec![hook.webhook("a.example.com", json!({"rules": rules}))])).await;
    let mut door = Door::open_to(api).await;
    let pod = "/api/v1/namespaces/default/pods/p";
    for (path, kind) in [
        (format!("{pod}/exec?command=sh&stdout=true"), "PodExecOptions"),
        (format!("{pod}/attach?stdout=true"), "PodAttachOptions"),
        (format!("{pod}/portforward?ports=80"), "PodPortForwardOptions"),
        (format!("{pod}/proxy/a"), "PodProxyOptions"),
        ("/api/v1/namespaces/default/services/s/proxy/a".to_owned(), "ServiceProxyOptions"),
    ] {
        let refused = door.send("POST", &path, &[], "").await;
        let why = "admission webhook \"a.example.com\" denied the request: no shells";
        assert_eq!(refused.refusal(), (403, why.to_owned()), "{path}");
        let asked = hook.asked();
        let last = asked.last().expect("was asked");
        assert_eq!((&last["operation"], &last["kind"]["kind"], &last["object"]["kind"]), (&json!("CONNECT"), &json!(kind), &json!(kind)));
    }
    assert_eq!(hook.asked()[0]["object"]["command"], json!(["sh"]));
    assert_eq!(hook.asked()[0]["name"], "p");
    // Logs are read, not connected to, and nobody serves the rest here.
    assert_eq!(door.get(&format!("{pod}/log")).await.status, 501);
    assert_eq!(door.send("POST", "/api/v1/nodes/n/proxy/a", &[], "").await.status, 501);
    assert_eq!(hook.asked().len(), 5);
    door.close().await;
}

#[actix::test]
async fn clients_are_warned_of_what_webhooks_warn_of() {
    let hook = Endpoint::serve(|_| Answer::Say(json!({"allowed": true, "warnings": ["mind the map", "mind the map", "and the gap"]}))).await;
    let silent = Endpoint::serve(|_| allowed()).await;
    let api = boot().await;
    api.create(configuration("Validating", "c", vec![silent.webhook("a.example.com", json!({})), hook.webhook("b.example.com", json!({}))])).await;
    let mut door = Door::open_to(api).await;
    let made = door.post("/api/v1/namespaces/default/configmaps", &json!({"metadata": {"name": "m"}})).await;
    assert_eq!((made.status.as_u16(), made.warnings()), (201, vec!["mind the map".to_owned(), "and the gap".to_owned()]));
    door.close().await;
}

#[actix::test]
async fn a_webhook_behind_a_service_shows_the_name_of_the_service() {
    let (api, hook) = (boot().await, Endpoint::serve(|_| denied(json!({"message": "no"}))).await);
    for name in ["hook", "other"] {
        let spec = json!({"type": "ExternalName", "externalName": "localhost"});
        api.create(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec})).await;
    }
    let mut client = hook.webhook("a.example.com", json!({}))["clientConfig"].clone();
    client.as_object_mut().expect("fields").remove("url");
    for (service, said) in [
        ("hook", "admission webhook \"a.example.com\" denied the request: no".to_owned()),
        (
            "other",
            format!(
                "Internal error occurred: failed calling webhook \"a.example.com\": failed to call webhook: Post \"https://other.default.svc:{}/x?timeout=10s\": tls: failed to verify certificate: x509: certificate is valid for ",
                hook.port
            ),
        ),
        (
            "missing",
            format!(
                "Internal error occurred: failed calling webhook \"a.example.com\": failed to call webhook: Post \"https://missing.default.svc:{}/x?timeout=10s\": service \"missing\" not found",
                hook.port
            ),
        ),
    ] {
        client["service"] = json!({"namespace": "default", "name": service, "path": "/x", "port": hook.port});
        api.create(configuration("Validating", service, vec![hook.webhook("a.example.com", json!({"clientConfig": client}))])).await;
        let refused = api.try_create(super::endpoint::map("m")).await.expect_err("is refused");
        assert!(refused.message.starts_with(&said), "{service}: {refused}");
        api.delete("validatingwebhookconfigurations.admissionregistration.k8s.io", "", service, Default::default()).await.expect("goes");
    }
}
