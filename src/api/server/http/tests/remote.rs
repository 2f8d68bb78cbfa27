//! The client over HTTPS.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use troupe_api::{
    ApiService, Status,
    meta::{Cause, GroupResource, Object, ObjectKey, ObjectVersion, Revision},
    service::{DeleteOptions, EventType, ListOptions, Operation, PatchType, UserInfo, WatchOptions},
};
use troupe_api_client::{
    Api, Client, WatchEvent,
    remote::{Access, RemoteApi, RemoteOptions, announced},
};

use super::{client::Door, fake::FakeService};
use crate::http::ExtraRoute;

fn options() -> RemoteOptions {
    RemoteOptions { connect_timeout: Duration::from_secs(2), ..RemoteOptions::new("unused") }
}

fn access(door: &Door, servers: Vec<String>) -> Access {
    Access { servers, server_name: None, ca_pem: door.pki.ca_pem().to_owned(), certificate: Some(door.admin.clone()), token: None }
}

fn remote(door: &Door) -> RemoteApi {
    RemoteApi::fixed(access(door, vec![format!("https://{}", door.handle.addr())]), options()).expect("usable credentials")
}

fn api(remote: &RemoteApi) -> Api<ConfigMap> {
    Client::new(Arc::new(remote.clone()), Arc::new(UserInfo::default()), "tester").namespaced("n")
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"a": "b"}})).expect("a ConfigMap")
}

#[actix_web::test]
async fn a_typed_client_does_over_https_what_it_does_in_process() {
    let door = Door::open(FakeService::new(), |_| {});
    let remote = remote(&door);
    remote.ready().await.expect("ready");
    let api = api(&remote);
    let made = api.create(&config_map("x")).await.expect("made");
    assert_eq!((made.metadata.resource_version.as_deref(), &made.data), (Some("2"), &config_map("x").data));
    assert_eq!(api.get("x").await.expect("there").metadata.uid, made.metadata.uid);
    api.update(&made).await.expect("updated");
    api.patch("x", "", PatchType::Merge, &json!({"data": {}})).await.expect("patched");
    let list = api.list(ListOptions::default()).await.expect("listed");
    assert_eq!((list.items.len(), list.revision), (1, Revision(3)));
    api.delete("x", DeleteOptions::default()).await.expect("deleted");
    let gone = api.get("x").await.expect_err("gone");
    assert!(gone.is_not_found());
    assert_eq!(gone.message, "configmaps \"x\" not found");
    let calls = door.service.calls.lock().expect("no panic holds it");
    let Operation::Create { options, .. } = &calls[0].operation else { panic!("the first call creates") };
    assert_eq!((options.field_manager.as_str(), calls[0].user.name.as_str()), ("tester", "cert"), "who calls is in the certificate");
}

#[actix_web::test]
async fn a_call_carries_its_cause() {
    let door = Door::open(FakeService::new(), |_| {});
    let version = ObjectVersion { resource: "deployments.apps".into(), key: ObjectKey::new("n", "web"), revision: Revision(7) };
    let cause = Cause::root().with_object(Arc::new(version));
    let client = Client::new(Arc::new(remote(&door)), Arc::new(UserInfo::default()), "tester").caused_by(cause.clone());
    let _ = client.namespaced::<ConfigMap>("n").get("x").await; // that it is not there does not matter
    assert_eq!(door.service.calls.lock().expect("no panic holds it")[0].cause, cause);
}

#[actix_web::test]
async fn a_watch_streams_what_exists_and_what_changes() {
    let door = Door::open(FakeService::new(), |_| {});
    let put = |name: &str, event| {
        let tree = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name, "namespace": "n", "uid": name}});
        door.service.put(&door.service.target("configmaps", "n", ""), &Object::from_value(tree).expect("an object"), event);
    };
    put("a", EventType::Added);
    let api = api(&remote(&door));
    let mut watch =
        api.watch(WatchOptions { send_initial_events: Some(true), allow_bookmarks: true, ..WatchOptions::default() }).await.expect("begins");
    let WatchEvent::Applied { object, .. } = watch.next().await.expect("an event") else { panic!("what exists comes first") };
    assert_eq!(object.metadata.name.as_deref(), Some("a"));
    assert!(matches!(watch.next().await, Some(WatchEvent::Bookmark { revision: Revision(2), initial_end: true })));
    for at in 0..100 {
        put(&format!("x{at}"), EventType::Modified);
    }
    put("a", EventType::Deleted);
    for at in 0..100 {
        let Some(WatchEvent::Applied { object, stored, cause }) = watch.next().await else { panic!("a change was made") };
        assert_eq!(object.metadata.name, Some(format!("x{at}")));
        let told = cause.object.expect("an event tells of an object");
        assert_eq!((&told.key, told.revision, &*told.resource), (&stored.key, stored.revision, "configmaps"));
        assert_ne!(cause.trace, 0, "the trace of the writer goes on");
    }
    assert!(matches!(watch.next().await, Some(WatchEvent::Deleted { .. })));
    door.handle.stop().await;
    assert!(watch.next().await.is_none(), "a server that stops ends its watches in good order");
}

#[actix_web::test]
async fn what_watches_were_told_of_is_asked_of_the_server() {
    let pods = [GroupResource::new("", "pods"), GroupResource::new("apps", "deployments")];
    let told = ExtraRoute::document(announced::PATH, "application/json", || r#"{"pods": 7}"#.into());
    let door = Door::open(FakeService::new(), move |options| options.routes = vec![told]);
    let answer = remote(&door).announced(pods.to_vec()).await;
    assert_eq!(answer.revisions, [Some(Revision(7)), None]);
    let silent = Door::open(FakeService::new(), |_| {});
    let answer = remote(&silent).announced(pods.to_vec()).await;
    assert!(answer.revisions.is_empty() && answer.ask_again > Duration::from_secs(30), "a server that cannot say is not asked again soon");
}

#[actix_web::test]
async fn a_watch_lists_where_the_server_cannot_begin_with_what_there_is() {
    let mut service = FakeService::new();
    service.lists_only = true;
    let door = Door::open(service, |_| {});
    let api = api(&remote(&door));
    api.create(&config_map("a")).await.expect("made");
    let mut watch =
        api.watch(WatchOptions { send_initial_events: Some(true), allow_bookmarks: true, ..WatchOptions::default() }).await.expect("begins");
    let named = |event: Option<WatchEvent<ConfigMap>>| match event {
        Some(WatchEvent::Applied { object, .. }) => object.metadata.name.clone().unwrap_or_default(),
        _ => panic!("an object was expected"),
    };
    assert_eq!(named(watch.next().await), "a");
    assert!(matches!(watch.next().await, Some(WatchEvent::Bookmark { revision: Revision(2), initial_end: true })));
    api.create(&config_map("b")).await.expect("made");
    assert_eq!(named(watch.next().await), "a", "the fake knows no revisions and tells it once more");
    assert_eq!(named(watch.next().await), "b");
}

#[actix_web::test]
async fn a_forgotten_revision_ends_a_watch_with_410() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut watch = api(&remote(&door)).watch(WatchOptions { resource_version: Some(Revision(1)), ..WatchOptions::default() }).await.expect("begins");
    assert!(matches!(watch.next().await, Some(WatchEvent::End(status)) if status.code == 410));
    assert!(watch.next().await.is_none());
}

#[actix_web::test]
async fn the_next_server_answers_when_one_is_gone() {
    let (first, second) = (Door::open(FakeService::new(), |_| {}), Door::open(FakeService::new(), |_| {}));
    // The two have authorities of their own: trust both, and show a token in place of a certificate.
    let mut access = access(&first, vec![format!("https://{}", first.handle.addr()), format!("https://{}", second.handle.addr())]);
    access.ca_pem.push_str(second.pki.ca_pem());
    access.certificate = None;
    access.token = Some("admin".into());
    let remote = RemoteApi::fixed(access, options()).expect("usable credentials");
    let api = api(&remote);
    api.create(&config_map("x")).await.expect("the first server takes it");
    first.handle.stop().await;
    let answer = api.get("x").await.expect_err("the second server has no such object");
    assert!(answer.is_not_found(), "{answer}");
    api.create(&config_map("y")).await.expect("the second server takes it");
    second.handle.stop().await;
    let status: Status = api.get("y").await.expect_err("nobody answers");
    assert_eq!(status.code, 503, "{status}");
}

#[actix_web::test]
async fn more_requests_than_a_connection_carries_open_another() {
    let door = Door::open(FakeService::new(), |_| {});
    let api = api(&remote(&door));
    let mut watches = Vec::new();
    for _ in 0..200 {
        watches.push(
            api.watch(WatchOptions { send_initial_events: Some(true), allow_bookmarks: true, ..WatchOptions::default() }).await.expect("begins"),
        );
    }
    api.create(&config_map("x")).await.expect("requests are still taken");
    for watch in &mut watches {
        assert!(matches!(watch.next().await, Some(WatchEvent::Bookmark { initial_end: true, .. })));
        assert!(matches!(watch.next().await, Some(WatchEvent::Applied { .. })));
    }
}

#[actix_web::test]
async fn a_service_account_calls_with_a_token_of_its_own() {
    let door = Door::open(FakeService::new(), |_| {});
    let server = format!("https://{}", door.handle.addr());
    let remote = RemoteApi::fixed(access(&door, vec![server]), RemoteOptions { account_tokens: true, ..options() }).expect("usable credentials");
    let client = Client::for_service_account(Arc::new(remote), "replicaset-controller", "tester");
    // The fake has no tokens to give: what is asked for shows in the calls.
    let refused = client.namespaced::<ConfigMap>("n").create(&config_map("x")).await.expect_err("no token");
    assert!(refused.message.contains("kube-system/replicaset-controller"), "{refused}");
    let calls = door.service.calls.lock().expect("no panic holds it");
    let asked = &calls[0].target;
    assert_eq!((&*asked.resource.plural, &*asked.name, &*asked.subresource), ("serviceaccounts", "replicaset-controller", "token"));
    assert_eq!(calls.len(), 1, "nothing goes out under another identity");
}
