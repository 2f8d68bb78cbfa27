//! What requests leave in the audit log.

use std::{path::Path, sync::Arc, time::Duration};

use serde_json::{Value, json};
use troupe_api::meta::SystemClock;

use super::{client::Door, fake::FakeService};
use crate::{
    audit::{AuditLog, Backends, LogFile, LogOptions, Mode, Modes, Policy},
    webhook_client::{Endpoint, testing::Server},
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A door that records by `rules`, and where its log is.
fn audited(rules: &str, dir: &Path) -> (Door, Arc<AuditLog>) {
    let policy = Policy::parse(&format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}")).expect("a policy");
    let file = LogFile::open(LogOptions { path: dir.join("audit.log"), ..LogOptions::default() }).expect("opens");
    let log = AuditLog::start(policy, file, Arc::new(SystemClock)).expect("starts");
    let door = Door::open(FakeService::new(), |options| options.audit = Some(log.clone()));
    (door, log)
}

fn events(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("audit.log")).expect("a log");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Waits until the log has so many events.
async fn becomes(dir: &Path, count: usize) -> Vec<Value> {
    for _ in 0..500 {
        let found = events(dir);
        if found.len() >= count {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{count} events never came: {:?}", events(dir));
}

#[actix_web::test]
async fn a_write_leaves_two_events_with_what_was_asked_and_answered() {
    let dir = tempfile::tempdir().expect("a directory");
    let (door, log) = audited("- {level: RequestResponse}\n", dir.path());
    let mut admin = door.connect(true).await;
    let body = json!({"metadata": {"name": "a"}, "data": {"k": "v"}}).to_string();
    let made = admin.send("POST", MAPS, &[("user-agent", "kubectl/v1"), ("audit-id", "mine")], body).await;
    assert_eq!(made.header("audit-id"), "mine");
    log.close();
    let events = events(dir.path());
    let stages: Vec<_> = events.iter().map(|event| event["stage"].clone()).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseComplete"]);
    let done = &events[1];
    assert_eq!((&done["auditID"], &done["verb"], &done["user"]["username"]), (&json!("mine"), &json!("create"), &json!("cert")));
    assert_eq!(done["objectRef"], json!({"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"}));
    // The body said nothing of its kind.
    let asked = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"k": "v"}});
    assert_eq!(done["requestObject"], asked);
    assert_eq!((&done["responseObject"]["kind"], &done["responseStatus"]["code"]), (&json!("ConfigMap"), &json!(201)));
    assert_eq!(done["annotations"]["authorization.k8s.io/decision"], "allow");
    assert_eq!(done["sourceIPs"], json!(["127.0.0.1"]));
}

#[actix_web::test]
async fn requests_wait_for_a_webhook_where_that_is_wanted() {
    let server = Server::serve(|_, _| (200, String::new())).await;
    let blocking = Some(Endpoint::of_kubeconfig(&server.kubeconfig).expect("works"));
    let policy = Policy::parse("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n").expect("a policy");
    let log = AuditLog::start(policy, Backends { blocking, ..Backends::default() }, Arc::new(SystemClock)).expect("starts");
    let door = Door::open(FakeService::new(), |options| options.audit = Some(log.clone()));
    let mut admin = door.connect(true).await;
    admin.send("GET", &format!("{MAPS}/missing"), &[("audit-id", "mine")], "").await;
    let stages = |asked: Vec<(String, Value)>| asked.iter().map(|(_, list)| list["items"][0]["stage"].clone()).collect::<Vec<_>>();
    assert_eq!(stages(server.asked()), ["RequestReceived", "ResponseComplete"], "the webhook has both when the reply is there");
    log.close();
}

#[actix_web::test]
async fn what_must_be_recorded_and_cannot_be_is_refused() {
    for (mode, wanted) in [(Mode::Queued, 404_u16), (Mode::Blocking, 404), (Mode::Strict, 500)] {
        let policy = Policy::parse("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n").expect("a policy");
        let full = LogFile::open(LogOptions { path: "/dev/full".into(), ..LogOptions::default() }).expect("opens");
        let modes = Modes { file: mode, ..Modes::default() };
        let log = AuditLog::start(policy, Backends { modes, ..Backends::from(full) }, Arc::new(SystemClock)).expect("starts");
        let door = Door::open(FakeService::new(), |options| options.audit = Some(log.clone()));
        let mut admin = door.connect(true).await;
        assert_eq!(admin.get(&format!("{MAPS}/missing")).await.status, wanted, "{mode:?}");
        log.close();
    }
}

#[actix_web::test]
async fn an_event_is_written_when_the_reply_is_there_where_that_is_wanted() {
    let dir = tempfile::tempdir().expect("a directory");
    let policy = Policy::parse("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n").expect("a policy");
    let file = LogFile::open(LogOptions { path: dir.path().join("audit.log"), ..LogOptions::default() }).expect("opens");
    let modes = Modes { file: Mode::Blocking, ..Modes::default() };
    let log = AuditLog::start(policy, Backends { modes, ..Backends::from(file) }, Arc::new(SystemClock)).expect("starts");
    let door = Door::open(FakeService::new(), |options| options.audit = Some(log.clone()));
    let mut admin = door.connect(true).await;
    admin.get(&format!("{MAPS}/missing")).await;
    assert_eq!(events(dir.path()).len(), 2);
    log.close();
}

#[actix_web::test]
async fn refusals_impersonation_and_unknown_callers_are_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let (door, log) = audited("- {level: Metadata, omitStages: [RequestReceived]}\n", dir.path());
    let mut admin = door.connect(true).await;
    admin.send("GET", &format!("{MAPS}/missing"), &[("impersonate-user", "bob"), ("impersonate-group", "system:masters")], "").await;
    let mut nobody = door.connect(false).await;
    assert_eq!(nobody.send("GET", MAPS, &[("authorization", "Bearer wrong")], "").await.status, 401);
    nobody.send("GET", "/secret-path", &[], "").await;
    log.close();
    let events = events(dir.path());
    assert_eq!(events[0]["impersonatedUser"]["username"], "bob");
    assert_eq!((&events[0]["responseStatus"]["code"], &events[0]["responseStatus"]["reason"]), (&json!(404), &json!("NotFound")));
    assert_eq!((&events[1]["stage"], &events[1]["responseStatus"]["code"]), (&json!("ResponseStarted"), &json!(401)));
    assert_eq!(events[1]["annotations"], json!({"test/credentials": "wrong"}), "what is said of credentials that are refused");
    assert_eq!((&events[2]["annotations"]["authorization.k8s.io/decision"], &events[2]["verb"]), (&json!("forbid"), &json!("get")));
    assert!(events[2].get("objectRef").is_none());
}

#[actix_web::test]
async fn a_watch_is_told_when_it_starts_and_when_it_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let (door, _log) = audited("- {level: Metadata, verbs: [watch]}\n- {level: None}\n", dir.path());
    let mut admin = door.connect(true).await;
    let frames = admin.watch(&format!("{MAPS}?watch=true"), &[]).await;
    let begun = becomes(dir.path(), 2).await;
    assert_eq!((&begun[0]["stage"], &begun[1]["stage"]), (&json!("RequestReceived"), &json!("ResponseStarted")));
    drop(frames);
    drop(admin);
    door.handle.stop().await;
    assert_eq!(becomes(dir.path(), 3).await[2]["stage"], "ResponseComplete");
}

#[actix_web::test]
async fn what_would_last_is_told_to_have_started_where_it_is_refused_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let (door, log) = audited("- {level: Metadata}\n", dir.path());
    let mut nobody = door.connect(false).await;
    for path in [format!("{MAPS}?watch=true"), "/api/v1/namespaces/default/pods/p/log".to_owned()] {
        assert_eq!(nobody.get(&path).await.status, 403, "{path}");
    }
    assert_eq!(nobody.get(MAPS).await.status, 403);
    log.close();
    let stages: Vec<_> = events(dir.path()).iter().map(|event| event["stage"].clone()).collect();
    let lasting = ["RequestReceived", "ResponseStarted", "ResponseComplete"];
    assert_eq!(stages, [&lasting[..], &lasting, &["RequestReceived", "ResponseComplete"]].concat());
}

#[actix_web::test]
async fn a_panic_has_a_stage_of_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let (door, log) = audited("- {level: Metadata, omitStages: [RequestReceived]}\n", dir.path());
    let mut admin = door.connect(true).await;
    assert_eq!(admin.get(&format!("{MAPS}/panic")).await.status, 500);
    log.close();
    let events = events(dir.path());
    assert_eq!((&events[0]["stage"], &events[0]["responseStatus"]["code"]), (&json!("Panic"), &json!(500)));
}
