//! A node whose machine shuts down, with a kubelet on the fake runtime and a logind of the test's.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::stage::{PATIENCE, Stage};
use crate::kubelet::node_shutdown::{
    logind::{Lock, Logind, LogindBus, LogindError},
    plan::Period,
};

/// Tells one kubelet what a test says.
struct Bus(Mutex<Option<UnboundedReceiver<bool>>>);

struct Told(UnboundedReceiver<bool>);

#[async_trait]
impl LogindBus for Bus {
    async fn connect(&self) -> Result<Box<dyn Logind>, LogindError> {
        let events = self.0.lock().take().expect("one kubelet");
        Ok(Box::new(Told(events)))
    }
}

#[async_trait]
impl Logind for Told {
    async fn inhibit_delay(&mut self) -> Result<Duration, LogindError> {
        Ok(PATIENCE)
    }

    async fn override_inhibit_delay(&mut self, _: Duration) -> Result<(), LogindError> {
        unreachable!("it waits long enough")
    }

    async fn reload(&mut self) -> Result<(), LogindError> {
        unreachable!("it waits long enough")
    }

    async fn inhibit(&mut self) -> Result<Lock, LogindError> {
        Ok(Box::new(()))
    }

    async fn monitor(&mut self) -> Result<(), LogindError> {
        Ok(())
    }

    async fn next(&mut self) -> Result<bool, LogindError> {
        match self.0.recv().await {
            Some(is_active) => Ok(is_active),
            None => std::future::pending().await,
        }
    }
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Waits until the node is ready, or not.
async fn node_is(stage: &Stage, ready: bool) -> NodeCondition {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let node = stage.api.client.all::<Node>().get_opt("n1").await.expect("the API answers");
        let conditions = node.as_ref().and_then(|node| node.status.as_ref()?.conditions.clone()).unwrap_or_default();
        let found = conditions.iter().find(|condition| condition.type_ == "Ready").cloned();
        if let Some(found) = found.filter(|found| (found.status == "True") == ready) {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{conditions:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[actix::test]
async fn pods_end_with_their_node_and_none_begins_until_the_shutdown_is_taken_back() {
    let stage = Stage::new().await;
    let (events, told) = unbounded_channel();
    let shut = |options: &mut crate::kubelet::KubeletOptions| {
        options.shutdown.periods = vec![Period { priority: 0, grace: 30 }];
        options.shutdown.bus = Arc::new(Bus(Mutex::new(Some(told))));
    };
    let (_kubelet, _system) = stage.kubelet(shut).await;
    let spec = || json!({"containers": [{"name": "c", "image": "web", "imagePullPolicy": "Never"}]});
    stage.create("web", spec()).await;
    stage.until("web", "running", |pod| phase(pod) == "Running").await;
    node_is(&stage, true).await;
    events.send(true).expect("it listens");
    let ended = stage.until("web", "failed", |pod| phase(pod) == "Failed").await;
    let status = ended.status.as_ref().expect("a status");
    let message = "Pod was terminated in response to imminent node shutdown.";
    assert_eq!((status.reason.as_deref(), status.message.as_deref()), (Some("Terminated"), Some(message)));
    let disruption = status.conditions.iter().flatten().find(|condition| condition.type_ == "DisruptionTarget").expect("a condition");
    assert_eq!((disruption.reason.as_deref(), disruption.message.as_deref()), (Some("TerminationByKubelet"), Some(message)));
    let unready = node_is(&stage, false).await;
    assert_eq!((unready.reason.as_deref(), unready.message.as_deref()), (Some("KubeletNotReady"), Some("node is shutting down")));
    stage.create("late", spec()).await;
    let refused = stage.until("late", "failed", |pod| phase(pod) == "Failed").await;
    let status = refused.status.as_ref().expect("a status");
    let why = "Pod was rejected: Pod was rejected as the node is shutting down.";
    assert_eq!((status.reason.as_deref(), status.message.as_deref()), (Some("NodeShutdown"), Some(why)));
    events.send(false).expect("it listens");
    node_is(&stage, true).await;
    assert!(stage.place.path().join("kubelet/graceful_node_shutdown_state").exists());
    stage.create("next", spec()).await;
    stage.until("next", "running", |pod| phase(pod) == "Running").await;
}
