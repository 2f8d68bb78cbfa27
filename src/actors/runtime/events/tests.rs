use std::time::Duration;

use serde_json::Value;
use troupe_api::service::ListOptions;

use super::*;
use crate::apiserver::testing::{TestApi, boot};

fn about(name: &str) -> ObjectReference {
    ObjectReference { kind: Some("Pod".into()), namespace: Some("default".into()), name: Some(name.into()), ..ObjectReference::default() }
}

async fn events(api: &TestApi) -> Vec<Value> {
    let list = api.list("events", "default", ListOptions::default()).await.expect("lists");
    list.items.iter().map(|item| item.to_object().into_value()).collect()
}

/// Waits until the events are as wanted.
async fn eventually(api: &TestApi, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let look = async {
        loop {
            let events = events(api).await;
            if holds(&events) {
                return events;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), look).await.expect("in time")
}

#[actix::test]
async fn what_repeats_is_counted_in_one_event() {
    let api = boot().await;
    let recorder = EventRecorder::on_host(api.server.system(), &api.client, "kubelet", "one");
    for _ in 0..3 {
        recorder.warning(&about("web"), "Unhealthy", "probe failed");
    }
    let told = eventually(&api, |events| events.len() == 1 && events[0]["count"] == 3).await.remove(0);
    assert_eq!((&told["source"]["host"], &told["reportingComponent"], &told["type"]), (&"one".into(), &"kubelet".into(), &"Warning".into()));
    assert!(told["firstTimestamp"].is_string() && told.get("series").is_none_or(Value::is_null));
}

#[actix::test]
async fn what_a_pod_makes_an_event_say_is_cut() {
    let api = boot().await;
    let recorder = EventRecorder::on_host(api.server.system(), &api.client, "kubelet", "one");
    recorder.warning(&about("web"), "Unhealthy", "é".repeat(1 << 20));
    let told = eventually(&api, |events| events.len() == 1).await.remove(0);
    let message = told["message"].as_str().expect("a text");
    assert!(message.len() <= LONGEST_MESSAGE && message.ends_with("é ..."), "{}", message.len());
}

#[actix::test]
async fn what_repeats_of_the_scheduler_is_a_series() {
    let api = boot().await;
    let recorder = EventRecorder::in_series(api.server.system(), &api.client, "default-scheduler");
    let scheduling = recorder.trying("Scheduling");
    scheduling.warning(&about("web"), "FailedScheduling", "no node");
    scheduling.warning(&about("web"), "FailedScheduling", "still no node");
    let told = eventually(&api, |events| events.len() == 1 && events[0]["series"]["count"] == 2).await.remove(0);
    assert_eq!((&told["action"], &told["message"]), (&"Scheduling".into(), &"no node".into()));
    assert!(told["eventTime"].is_string() && told["series"]["lastObservedTime"].is_string(), "{told}");
    assert!(told["reportingInstance"].as_str().is_some_and(|instance| instance.starts_with("default-scheduler-")));
}
