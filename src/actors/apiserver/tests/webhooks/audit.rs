//! What the audit log tells of mutating webhooks.

use std::{path::Path, sync::Arc};

use serde_json::{Value, json};
use troupe_api::meta::SystemClock;
use troupe_api_server::audit::{AuditLog, LogFile, LogOptions, Policy};

use super::{
    super::edge::door::Door,
    endpoint::{Endpoint, allowed, boot, configuration, patched},
};

/// The annotations of a write that two webhooks are asked about, where requests are recorded at this level.
async fn annotations(level: &str, dir: &Path) -> Value {
    let policy = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{{level: {level}}}]\n");
    let file = LogFile::open(LogOptions { path: dir.join(level), ..LogOptions::default() }).expect("opens");
    let log = AuditLog::start(Policy::parse(&policy).expect("a policy"), file, Arc::new(SystemClock)).expect("starts");
    let marks = json!([{"op": "add", "path": "/metadata/annotations", "value": {"a": "<b>"}}]);
    let (changes, looks) = (Endpoint::serve(move |_| patched(marks.clone())).await, Endpoint::serve(|_| allowed()).await);
    let api = boot().await;
    let hooks = vec![changes.webhook("a.example.com", json!({})), looks.webhook("b.example.com", json!({}))];
    api.create(configuration("Mutating", "c", hooks)).await;
    let mut door = Door::open_with(api, |options| options.audit = Some(log.clone())).await;
    let made = door.post("/api/v1/namespaces/default/configmaps", &json!({"metadata": {"name": "m"}})).await;
    assert_eq!(made.status.as_u16(), 201);
    door.close().await;
    log.close();
    let events = std::fs::read_to_string(dir.join(level)).expect("a log");
    let event: Value = serde_json::from_str(events.lines().next().expect("an event")).expect("JSON");
    event["annotations"].clone()
}

#[actix::test]
async fn patches_stand_where_requests_stand_and_mutations_always() {
    let dir = tempfile::tempdir().expect("a directory");
    let changed = r#"{"configuration":"c","webhook":"a.example.com","mutated":true}"#;
    let patch = r#"{"configuration":"c","webhook":"a.example.com","patch":[{"op":"add","path":"/metadata/annotations","value":{"a":"\u003cb\u003e"}}],"patchType":"JSONPatch"}"#;
    for (level, patch) in [("Request", json!(patch)), ("Metadata", Value::Null)] {
        let said = annotations(level, dir.path()).await;
        assert_eq!(said["mutation.webhook.admission.k8s.io/round_0_index_0"], changed, "{level}");
        assert_eq!(said["mutation.webhook.admission.k8s.io/round_0_index_1"], changed.replace("a.ex", "b.ex").replace("true", "false"));
        assert_eq!(said["patch.webhook.admission.k8s.io/round_0_index_0"], patch, "{level}");
        assert_eq!(said["patch.webhook.admission.k8s.io/round_0_index_1"], Value::Null, "there is none");
    }
}
