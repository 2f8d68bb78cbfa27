//! What the front door counts of its requests.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use serde_json::json;
use troupe_api::{
    metrics::{CONTENT_TYPE, parse::Samples, render},
    service::EventType,
};
use troupe_api_server::http::{ExtraRoute, RawReply, monitor};

use super::{
    client::{Connection, Door},
    fake::{FakeService, config_map},
};

/// Tests of this process share the series: this one has a resource of its own.
const LIMITS: &str = "/api/v1/namespaces/default/limitranges";

async fn scrape(connection: &mut Connection) -> Samples {
    let reply = connection.get("/metrics").await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, CONTENT_TYPE));
    Samples::parse(std::str::from_utf8(&reply.body).expect("text")).expect("a scrape parses")
}

fn labels<'a>(verb: &'a str, scope: &'a str) -> [(&'a str, &'a str); 6] {
    [("verb", verb), ("group", ""), ("version", "v1"), ("resource", "limitranges"), ("scope", scope), ("component", "apiserver")]
}

#[actix_web::test]
async fn pages_count_by_the_version_that_they_are_of() {
    let page = |path: &'static str, version| {
        let mut route = ExtraRoute::document(path, "text/plain", || "x".into());
        if version {
            route.handler = Arc::new(|_| {
                let reply = RawReply { version: Some("v1beta1"), ..RawReply::new("application/json", "{}") };
                std::future::ready(Ok(reply)).boxed()
            });
        }
        route
    };
    let door = Door::open(FakeService::new(), |options| {
        let metrics = ExtraRoute::document("/metrics", CONTENT_TYPE, || render(&monitor::COLLECTORS));
        options.routes = vec![metrics, page("/statusz", true), page("/flagz", false)];
    });
    let mut admin = door.connect(true).await;
    admin.get("/statusz").await;
    admin.get("/flagz").await;
    let samples = scrape(&mut admin).await;
    let total = |resource, group, version| {
        let labels = [("verb", "GET"), ("group", group), ("version", version), ("resource", resource), ("component", "apiserver"), ("code", "200")];
        samples.value("apiserver_request_total", &labels)
    };
    assert_eq!((total("statusz", "config.k8s.io", "v1beta1"), total("flagz", "", "")), (Some(1.0), Some(1.0)));
    door.handle.stop().await;
}

#[actix_web::test]
async fn requests_count_by_verb_resource_scope_and_code() {
    let door = Door::open(FakeService::new(), |options| {
        options.routes = vec![ExtraRoute::document("/metrics", CONTENT_TYPE, || render(&monitor::COLLECTORS))];
    });
    let mut admin = door.connect(true).await;
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "a", "namespace": "default"}}).to_string();
    let typed = [("content-type", "application/json"), ("user-agent", "kube-scheduler/v1.36.0")];
    admin.send("POST", LIMITS, &typed, range).await;
    admin.get(&format!("{LIMITS}/a")).await;
    admin.get(&format!("{LIMITS}/none")).await;
    admin.get(LIMITS).await;
    admin.get("/api/v1/limitranges").await;
    let samples = scrape(&mut admin).await;
    let total = |verb, scope, code: &str| samples.value("apiserver_request_total", &[&labels(verb, scope)[..], &[("code", code)]].concat());
    assert_eq!(total("POST", "resource", "201"), Some(1.0));
    assert_eq!(total("GET", "resource", "200"), Some(1.0));
    assert_eq!(total("GET", "resource", "404"), Some(1.0));
    assert_eq!(total("LIST", "namespace", "200"), Some(1.0));
    assert_eq!(total("LIST", "cluster", "200"), Some(1.0));
    assert_eq!(samples.value("apiserver_request_total", &[("resource", "limitranges"), ("system_client", "kube-scheduler")]), Some(1.0));
    let get = labels("GET", "resource");
    assert_eq!(samples.value("apiserver_request_duration_seconds_count", &get), Some(2.0));
    assert_eq!(samples.value("apiserver_request_sli_duration_seconds_count", &get), Some(2.0));
    assert!(samples.value("apiserver_response_sizes_sum", &get).is_some_and(|bytes| bytes > 200.0));
    assert_eq!(samples.value("apiserver_response_sizes_count", &labels("POST", "resource")), None, "only reads have sizes");
    assert!(samples.value("apiserver_current_inflight_requests", &[("request_kind", "readOnly")]).is_some_and(|now| now >= 1.0), "the scrape itself");
    door.handle.stop().await;
}

#[actix_web::test]
async fn deprecated_versions_are_told_once_somebody_asks_for_them() {
    let door = Door::open(FakeService::new(), |options| {
        options.routes = vec![ExtraRoute::document("/metrics", CONTENT_TYPE, || render(&monitor::COLLECTORS))];
    });
    let mut admin = door.connect(true).await;
    admin.get("/api/v1/namespaces/default/endpoints").await;
    admin.get("/api/v1/namespaces/default/pods").await;
    let samples = scrape(&mut admin).await;
    let told = |resource| {
        let labels = [("group", ""), ("version", "v1"), ("resource", resource), ("subresource", ""), ("removed_release", "")];
        samples.value("apiserver_requested_deprecated_apis", &labels)
    };
    assert_eq!((told("endpoints"), told("pods")), (Some(1.0), None));
    door.handle.stop().await;
}

#[actix_web::test]
async fn how_long_a_watch_sends_what_there_was_is_told() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut watching = door.connect(true).await;
    let path = "/api/v1/namespaces/default/podtemplates?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut frames = watching.watch(path, &[]).await;
    frames.next().await.expect("the end of what there was");
    let page = render(&monitor::COLLECTORS);
    let samples = Samples::parse(std::str::from_utf8(&page).expect("text")).expect("parses");
    let of = [("group", ""), ("version", "v1"), ("resource", "podtemplates"), ("scope", "namespace")];
    assert_eq!(samples.value("apiserver_watch_list_duration_seconds_count", &of), Some(1.0));
    drop((frames, watching));
    door.handle.stop().await;
}

#[actix_web::test]
async fn a_watch_is_long_running_until_its_client_goes() {
    let door = Door::open(FakeService::new(), |options| {
        options.routes = vec![ExtraRoute::document("/metrics", CONTENT_TYPE, || render(&monitor::COLLECTORS))];
    });
    let mut admin = door.connect(true).await;
    let mut watching = door.connect(true).await;
    let mut frames = watching.watch("/api/v1/replicationcontrollers?watch=true", &[]).await;
    let target = door.service.target("replicationcontrollers", "default", "");
    door.service.put(&target, &config_map("a", 10), EventType::Added);
    frames.next().await.expect("an event");
    let of = [("resource", "replicationcontrollers")];
    let samples = scrape(&mut admin).await;
    assert_eq!(samples.value("apiserver_longrunning_requests", &of), Some(1.0));
    assert_eq!(samples.value("apiserver_watch_events_total", &of), Some(1.0));
    assert!(samples.value("apiserver_watch_events_sizes_sum", &of).is_some_and(|bytes| bytes > 10.0));
    assert_eq!(samples.value("apiserver_request_total", &of), None, "it has not ended");
    drop((frames, watching));
    let ended = async {
        while scrape(&mut admin).await.value("apiserver_longrunning_requests", &of) != Some(0.0) {
            // The server learns of it when it writes next.
            door.service.put(&target, &config_map("a", 10), EventType::Modified);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the watch ends");
    let samples = scrape(&mut admin).await;
    assert_eq!(samples.value("apiserver_request_total", &[("verb", "WATCH"), ("code", "200"), of[0]]), Some(1.0));
    door.handle.stop().await;
}
