//! Replies and watches in protobuf, read by prost's messages.

use k8s_pb::{
    api::core::v1 as core,
    apimachinery::pkg::{apis::meta::v1 as meta, runtime::Unknown},
};
use prost::Message;
use serde_json::json;
use troupe_api::service::EventType;

use super::{
    client::{Door, Reply},
    fake::{FakeService, config_map},
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const TYPED_CLIENT: [(&str, &str); 1] = [("accept", "application/vnd.kubernetes.protobuf,application/json")];
const METADATA: [(&str, &str); 1] = [("accept", "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")];

fn door(maps: usize, size: usize) -> Door {
    let door = Door::open(FakeService::new(), |_| {});
    let target = door.service.target("configmaps", "default", "");
    for at in 0..maps {
        door.service.put(&target, &config_map(&format!("m{at:05}"), size), EventType::Added);
    }
    door
}

/// apiVersion, kind and content of an enveloped object.
fn opened(bytes: &[u8]) -> (String, String, Vec<u8>) {
    let envelope = Unknown::decode(bytes.strip_prefix(b"k8s\0").expect("the mark")).expect("an envelope");
    let type_meta = envelope.type_meta.expect("named");
    (type_meta.api_version.expect("named"), type_meta.kind.expect("named"), envelope.raw.expect("content"))
}

fn message<M: Message + Default>(reply: &Reply, kind: &str) -> M {
    assert_eq!(reply.header("content-type"), PROTOBUF);
    let (_, found, raw) = opened(&reply.body);
    assert_eq!(found, kind);
    M::decode(&raw[..]).expect("a message of its kind")
}

#[actix_web::test]
async fn a_typed_client_creates_reads_and_lists_in_protobuf() {
    let door = door(0, 0);
    let mut admin = door.connect(true).await;
    let metadata = meta::ObjectMeta { name: Some("a".into()), ..Default::default() };
    let map = core::ConfigMap { metadata: Some(metadata), data: [("k".to_owned(), "v".to_owned())].into(), ..Default::default() };
    let body = troupe_api::protobuf::unknown("v1", "ConfigMap", &map.encode_to_vec());
    let headers = [TYPED_CLIENT[0], ("content-type", PROTOBUF)];
    let made = admin.send("POST", MAPS, &headers, body).await;
    assert_eq!(made.status, 201);
    assert_eq!(message::<core::ConfigMap>(&made, "ConfigMap").data["k"], "v");
    let read: core::ConfigMap = message(&admin.send("GET", &format!("{MAPS}/a"), &TYPED_CLIENT, "").await, "ConfigMap");
    let metadata = read.metadata.expect("metadata");
    assert_eq!((metadata.resource_version.as_deref(), metadata.creation_timestamp.and_then(|time| time.seconds)), (Some("2"), Some(1_767_323_045)));
    let list: core::ConfigMapList = message(&admin.send("GET", MAPS, &TYPED_CLIENT, "").await, "ConfigMapList");
    assert_eq!((list.items.len(), list.metadata.expect("metadata").resource_version.as_deref()), (1, Some("2")));
    let deleted = admin.send("DELETE", &format!("{MAPS}/a"), &TYPED_CLIENT, "").await;
    assert_eq!(message::<meta::Status>(&deleted, "Status").status.as_deref(), Some("Success"));
    let missing = admin.send("GET", &format!("{MAPS}/a"), &TYPED_CLIENT, "").await;
    let status: meta::Status = message(&missing, "Status");
    assert_eq!((missing.status.as_u16(), status.code, status.reason.as_deref()), (404, Some(404), Some("NotFound")));
    assert_eq!(status.details.expect("details").kind.as_deref(), Some("configmaps"));
}

#[actix_web::test]
async fn a_long_list_streams_whole_within_its_announced_length() {
    let door = door(300, 1000);
    let mut admin = door.connect(true).await;
    let reply = admin.send("GET", MAPS, &TYPED_CLIENT, "").await;
    assert_eq!(reply.header("transfer-encoding"), "chunked");
    let list: core::ConfigMapList = message(&reply, "ConfigMapList");
    assert_eq!((list.items.len(), list.items[299].data["text"].len()), (300, 1000));
    let names: meta::PartialObjectMetadataList = message(
        &admin.send("GET", MAPS, &[("accept", "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")], "").await,
        "PartialObjectMetadataList",
    );
    let first = names.items[0].metadata.as_ref().expect("metadata");
    assert_eq!((first.name.as_deref(), first.labels["app"].as_str()), (Some("m00000"), "web"));
}

#[actix_web::test]
async fn a_memo_spent_budget_changes_nothing() {
    let door = Door::open(FakeService::new(), |options| options.memo_bytes = 0);
    let target = door.service.target("configmaps", "default", "");
    for at in 0..100 {
        door.service.put(&target, &config_map(&format!("m{at:05}"), 1000), EventType::Added);
    }
    let mut admin = door.connect(true).await;
    let list: core::ConfigMapList = message(&admin.send("GET", MAPS, &TYPED_CLIENT, "").await, "ConfigMapList");
    assert_eq!(list.items.len(), 100);
}

#[actix_web::test]
async fn a_watch_is_length_delimited_down_to_bookmarks_and_errors() {
    let door = door(1, 10);
    let mut admin = door.connect(true).await;
    let path = format!("{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true");
    let mut frames = admin.watch(&path, &TYPED_CLIENT).await;
    let (kind, object) = event(&frames.delimited().await.expect("an event"));
    assert_eq!(kind, "ADDED");
    let (api_version, name, raw) = opened(&object);
    assert_eq!((api_version.as_str(), name.as_str()), ("v1", "ConfigMap"));
    assert_eq!(core::ConfigMap::decode(&raw[..]).expect("a map").data["text"], "x".repeat(10));
    let (kind, object) = event(&frames.delimited().await.expect("a bookmark"));
    let bookmark = core::ConfigMap::decode(&opened(&object).2[..]).expect("a map").metadata.expect("metadata");
    assert_eq!((kind.as_str(), bookmark.annotations["k8s.io/initial-events-end"].as_str()), ("BOOKMARK", "true"));
    assert_eq!(bookmark.resource_version.as_deref(), Some("2"));
    let mut lost = door.connect(true).await;
    let mut frames = lost.watch(&format!("{MAPS}?watch=1&resourceVersion=1"), &TYPED_CLIENT).await;
    let (kind, object) = event(&frames.delimited().await.expect("an event"));
    let status = meta::Status::decode(&opened(&object).2[..]).expect("a status");
    assert_eq!((kind.as_str(), status.code, status.reason.as_deref()), ("ERROR", Some(410), Some("Expired")));
    assert_eq!(frames.delimited().await, None);
}

#[actix_web::test]
async fn a_watch_of_metadata_carries_metadata() {
    let door = door(1, 10);
    let mut admin = door.connect(true).await;
    let mut frames = admin.watch(&format!("{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"), &METADATA).await;
    let (_, object) = event(&frames.delimited().await.expect("an event"));
    let (api_version, kind, raw) = opened(&object);
    assert_eq!((api_version.as_str(), kind.as_str()), ("meta.k8s.io/v1", "PartialObjectMetadata"));
    let partial = meta::PartialObjectMetadata::decode(&raw[..]).expect("metadata");
    assert_eq!(partial.metadata.expect("metadata").name.as_deref(), Some("m00000"));
}

#[actix_web::test]
async fn other_versions_tables_and_documents_come_as_asked() {
    let door = door(1, 10);
    let mut admin = door.connect(true).await;
    let table = "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/json;as=Table;g=meta.k8s.io;v=v1";
    assert_eq!(admin.send("GET", MAPS, &[("accept", table)], "").await.json()["kind"], "Table");
    let resources: meta::APIResourceList = message(&admin.send("GET", "/api/v1", &[("accept", PROTOBUF)], "").await, "APIResourceList");
    let pods = resources.resources.iter().find(|resource| resource.name.as_deref() == Some("pods")).expect("served");
    assert!(pods.verbs.as_ref().expect("verbs").items.contains(&"watch".to_owned()));
    let wrong = admin.send("GET", MAPS, &[("accept", "text/html")], "").await;
    assert_eq!(
        (wrong.status.as_u16(), &wrong.json()["message"]),
        (406, &json!("only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"))
    );
}

/// Type and object of an event.
fn event(frame: &[u8]) -> (String, Vec<u8>) {
    let event = meta::WatchEvent::decode(frame).expect("an event");
    (event.r#type.expect("typed"), event.object.and_then(|object| object.raw).expect("an object"))
}
