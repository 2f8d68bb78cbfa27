//! What a look at 500 autoscalers costs: each reads its target's size, its pods and what they use, and finds that all is well.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use nix::time::{ClockId, clock_gettime};
use parking_lot::Mutex;
use serde_json::json;
use troupe_actors::{
    apiserver::ApiServer,
    controllers::podautoscaler::HorizontalController,
    runtime::{cache::Caches, controller::start},
};
use troupe_api::{
    ApiReply, ApiService, Status,
    meta::{Cause, LabelSelector, Object, Revision},
    resources::Registry,
    service::{ApiCall, ListReply, Operation, ReplyBody, Target, UserInfo, WatchOptions, WatchStream},
    stored::StoredObject,
};
use troupe_api_client::Client;

use crate::{
    api,
    figures::{Budget, report},
    running_pod,
};

const TARGETS: usize = 500;
const PODS: usize = 4;
/// Between two looks at an autoscaler.
const PERIOD: Duration = Duration::from_secs(15);
const CYCLES: u32 = 3;

pub async fn measure() {
    let (api, system) = api().await;
    let mut figures = HashMap::new();
    for target in 0..TARGETS {
        let (name, now) = (format!("t{target}"), jiff::Timestamp::now().to_string());
        let labels = json!({"app": name});
        let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        api.create(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
            "spec": {"replicas": PODS, "selector": {"matchLabels": labels}, "template": template}}))
            .await;
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
        let reference = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name});
        api.create(json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name, "namespace": "default"},
            "spec": {"scaleTargetRef": reference, "minReplicas": 1, "maxReplicas": 10, "metrics": [metric]}}))
            .await;
        let mut measured = Vec::new();
        for pod in 0..PODS {
            let pod_name = format!("{name}-{pod}");
            running_pod(&api, &pod_name, &name, target * PODS + pod).await;
            let metadata = json!({"name": pod_name, "namespace": "default", "labels": labels});
            let pod = json!({"apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics", "metadata": metadata, "timestamp": now, "window": "15s",
                "containers": [{"name": "c", "usage": {"cpu": "50m", "memory": "64Mi"}}]});
            let object = Object::from_value(pod).expect("an object");
            measured.push(Arc::new(StoredObject::from_object(&object).expect("well formed")));
        }
        figures.insert(LabelSelector::parse(&format!("app={name}")).expect("a selector"), measured);
    }
    let service = Arc::new(Measured { server: api.server.clone(), figures, asked: Mutex::default() });
    let client = Client::new(service.clone(), api.user.clone(), "bench");
    let caches = Caches::new(system.clone(), client.clone());
    start(&system, &caches, client, HorizontalController::new(&caches));
    // All have been looked at once, and have a status.
    tokio::time::sleep(PERIOD).await;
    let (before, asked) = (processor_time(), *service.asked.lock());
    assert!(asked >= TARGETS, "{asked} of {TARGETS} were looked at");
    tokio::time::sleep(PERIOD * CYCLES).await;
    let (spent, looks) = (processor_time() - before, *service.asked.lock() - asked);
    assert!(looks + TARGETS / 10 >= TARGETS * CYCLES as usize, "{looks} looks");
    let cycle = spent.as_secs_f64() * 1000.0 * TARGETS as f64 / looks as f64;
    report("processor time of a look at 500 autoscalers", cycle, " ms", Budget::AtMost(50.0));
    system.shutdown(Duration::from_secs(5)).await;
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("there is such a clock").into()
}

/// The API server, with figures for `metrics.k8s.io` as somebody else's server would have them.
struct Measured {
    server: Arc<ApiServer>,
    figures: HashMap<LabelSelector, Vec<Arc<StoredObject>>>,
    asked: Mutex<usize>,
}

impl ApiService for Measured {
    fn call(&self, call: ApiCall) -> BoxFuture<'static, Result<ApiReply, Status>> {
        let Operation::List(options) = &call.operation else { return self.server.call(call) };
        if *call.target.resource.group != *"metrics.k8s.io" {
            return self.server.call(call);
        }
        *self.asked.lock() += 1;
        let items = self.figures.get(&options.labels).cloned().unwrap_or_default();
        let list = ListReply { items, revision: Revision::ZERO, continue_token: None, remaining: None };
        std::future::ready(Ok(ApiReply::ok(ReplyBody::List(list)))).boxed()
    }

    fn watch(&self, user: Arc<UserInfo>, target: Target, options: WatchOptions, cause: Cause) -> BoxFuture<'static, Result<WatchStream, Status>> {
        self.server.watch(user, target, options, cause)
    }

    fn registry(&self) -> Arc<Registry> {
        self.server.registry()
    }
}
