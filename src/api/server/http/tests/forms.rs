//! Objects that are stored in another form than the one a client asks for.

use serde_json::{Value, json};
use troupe_api::{
    meta::Object,
    service::{EventType, Target},
};

use super::{client::Door, fake::FakeService};

const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

fn put(door: &Door, plural: &str, object: Value, event: EventType) {
    let group = object["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group);
    let resource = troupe_api::ApiService::registry(&*door.service).by_resource(group, plural).expect("a built-in kind");
    let target = Target { version: resource.storage.version.clone(), resource, namespace: "default".into(), name: "".into(), subresource: "".into() };
    door.service.put(&target, &Object::from_value(object).expect("an object"), event);
}

fn core_event() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "p"}, "message": "hello", "reportingComponent": "kubelet", "count": 3,
    })
}

#[actix_web::test]
async fn an_event_is_read_in_the_form_of_its_group() {
    let door = Door::open(FakeService::new(), |_| {});
    put(&door, "events", core_event(), EventType::Added);
    let mut admin = door.connect(true).await;
    let read = admin.get(&format!("{EVENTS}/e")).await.json();
    assert_eq!(read["apiVersion"], "events.k8s.io/v1");
    assert_eq!((&read["note"], &read["regarding"]["name"]), (&json!("hello"), &json!("p")));
    assert_eq!((&read["reportingController"], &read["deprecatedCount"]), (&json!("kubelet"), &json!(3)));
    assert_eq!((&read["message"], &read["metadata"]["resourceVersion"]), (&Value::Null, &json!("2")));
    let list = admin.get(EVENTS).await.json();
    let item = &list["items"][0];
    assert_eq!((&item["note"], &item["metadata"]["resourceVersion"], &item["kind"]), (&json!("hello"), &json!("2"), &Value::Null));
    let core = admin.get("/api/v1/namespaces/default/events/e").await.json();
    assert_eq!((&core["apiVersion"], &core["message"]), (&json!("v1"), &json!("hello")));
}

#[actix_web::test]
async fn a_watch_of_events_speaks_the_form_of_its_group() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut admin = door.connect(true).await;
    let mut frames = admin.watch(&format!("{EVENTS}?watch=true"), &[]).await;
    put(&door, "events", core_event(), EventType::Added);
    let first = frames.next().await.expect("an event");
    assert_eq!((&first["object"]["apiVersion"], &first["object"]["note"]), (&json!("events.k8s.io/v1"), &json!("hello")));
}

#[actix_web::test]
async fn fields_of_events_are_selected_by_the_names_of_their_group() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut admin = door.connect(true).await;
    let selected = admin.get(&format!("{EVENTS}?fieldSelector=regarding.name%3Dp,reportingController%3Dkubelet")).await;
    assert_eq!(selected.status, 200);
    let wrong = admin.get("/api/v1/namespaces/default/events?fieldSelector=regarding.name%3Dp").await;
    assert_eq!(wrong.json()["message"], "field label not supported: regarding.name");
    let calls = door.service.calls.lock().expect("no panic holds it");
    let troupe_api::service::Operation::List(options) = &calls[0].operation else { panic!("a list came first") };
    assert_eq!(options.fields.required_value("involvedObject.name"), Some("p"));
    assert_eq!(options.fields.required_value("reportingComponent"), Some("kubelet"));
}

#[actix_web::test]
async fn an_autoscaler_is_read_in_the_version_asked_for() {
    let door = Door::open(FakeService::new(), |_| {});
    let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
    let stored = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h", "namespace": "default"},
        "spec": {"maxReplicas": 3, "metrics": [metric]},
    });
    put(&door, "horizontalpodautoscalers", stored, EventType::Added);
    let mut admin = door.connect(true).await;
    let path = |version: &str| format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers/h");
    let old = admin.get(&path("v1")).await.json();
    assert_eq!((&old["apiVersion"], &old["spec"]), (&json!("autoscaling/v1"), &json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 50})));
    let new = admin.get(&path("v2")).await.json();
    assert_eq!((&new["apiVersion"], &new["spec"]["metrics"][0]), (&json!("autoscaling/v2"), &metric));
}

#[actix_web::test]
async fn deprecated_kinds_warn() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut admin = door.connect(true).await;
    let listed = admin.get("/api/v1/namespaces/default/endpoints").await;
    assert_eq!(listed.header("warning"), "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"");
    assert_eq!(admin.get("/api/v1/namespaces/default/pods").await.header("warning"), "");
}

#[actix_web::test]
async fn a_success_without_details_has_a_code_instead() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut admin = door.connect(true).await;
    let bound = admin.send("POST", "/api/v1/namespaces/default/pods/p/binding", &[], r#"{"target":{"name":"n"}}"#).await;
    assert_eq!(bound.status, 201);
    assert_eq!(bound.json(), json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}));
}
