//! Writes that the API server refuses, and what people are told of it.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use troupe_api::{
    ApiCall, ApiReply, ApiService, Status,
    meta::{Cause, GroupResource},
    resources::Registry,
    service::{ListOptions, Operation, Target, UserInfo, WatchOptions, WatchStream},
};
use troupe_api_client::Client;

use super::eventually_async;
use crate::{
    apiserver::testing::{TestApi, boot},
    controllers::{
        node_ipam::{ClusterRange, NodeIpamController},
        podautoscaler::HorizontalController,
    },
    runtime::{
        cache::Caches,
        controller::{Controller, start},
    },
};

/// An API server that lets nobody change one resource.
struct Unchangeable {
    inner: Arc<dyn ApiService>,
    plural: &'static str,
}

impl ApiService for Unchangeable {
    fn call(&self, call: ApiCall) -> BoxFuture<'static, Result<ApiReply, Status>> {
        let changes = matches!(call.operation, Operation::Update { .. } | Operation::Patch { .. });
        if changes && *call.target.resource.plural == *self.plural {
            let resource = GroupResource::new(&*call.target.resource.group, &*call.target.resource.plural);
            return Box::pin(std::future::ready(Err(Status::forbidden(&resource, &call.target.name, "a test says so"))));
        }
        self.inner.call(call)
    }

    fn watch(&self, user: Arc<UserInfo>, target: Target, options: WatchOptions, cause: Cause) -> BoxFuture<'static, Result<WatchStream, Status>> {
        self.inner.watch(user, target, options, cause)
    }

    fn registry(&self) -> Arc<Registry> {
        self.inner.registry()
    }
}

/// A controller that may not change a resource, with its objects.
async fn run<C: Controller>(plural: &'static str, make: impl FnOnce(&Caches) -> C, objects: &[Value]) -> TestApi {
    let api = boot().await;
    let system = api.server.system().clone();
    let client = Client::new(Arc::new(Unchangeable { inner: api.server.clone(), plural }), api.user.clone(), "test");
    let caches = Caches::new(system.clone(), client.clone());
    start(&system, &caches, client, make(&caches));
    for object in objects {
        api.create(object.clone()).await;
    }
    api
}

/// Type and message of an event of this reason, once there is one.
async fn told(api: &TestApi, reason: &str) -> (String, String) {
    let find = async || {
        let events = api.list("events", "default", ListOptions::default()).await.expect("listed").items;
        let event = events.iter().map(|event| event.to_object()).find(|event| event.str(&["reason"]) == reason)?;
        Some((event.str(&["type"]).to_owned(), event.str(&["message"]).to_owned()))
    };
    eventually_async(reason, async || find().await.is_some()).await;
    find().await.expect("it was there")
}

#[actix::test]
async fn a_node_that_cannot_be_given_its_range_is_told_of() {
    let range = ClusterRange::new("10.244.0.0/16".parse().expect("a range"));
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "one"}});
    let api = run("nodes", |caches| NodeIpamController::new(caches, vec![range]), &[node]).await;
    assert_eq!(told(&api, "CIDRAssignmentFailed").await, ("Normal".into(), "Node one status is now: CIDRAssignmentFailed".into()));
}

#[actix::test]
async fn an_autoscaler_whose_status_cannot_be_written_is_told_of() {
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"scaleTargetRef": target, "maxReplicas": 3},
    });
    let api = run("horizontalpodautoscalers", HorizontalController::new, &[autoscaler]).await;
    let (kind, message) = told(&api, "FailedUpdateStatus").await;
    assert_eq!(kind, "Warning");
    assert!(message.ends_with("\"web\" is forbidden: a test says so"), "{message}");
}
