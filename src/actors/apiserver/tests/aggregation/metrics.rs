//! Autoscaling by what other servers measure.

use serde_json::{Value, json};
use troupe_api::service::PatchType;

use super::extension::{Extension, METRICS, Manners, becomes};
use crate::{
    apiserver::testing::{TestApi, eventually},
    controllers::podautoscaler::HorizontalController,
    runtime::{cache::Caches, controller},
};

/// A Deployment of one pod, which is ready and requests a tenth of a CPU.
async fn target(api: &TestApi) {
    let container = json!({"name": "c", "image": "web:1", "resources": {"requests": {"cpu": "100m"}}});
    let labels = json!({"app": "web"});
    let spec = json!({"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}});
    api.create(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"}, "spec": spec})).await;
    let status = json!({"status": {"replicas": 1}});
    api.patch(api.subresource("deployments.apps", "default", "web", "status"), PatchType::Merge, status).await.expect("written");
    let meta = json!({"name": "web-1", "namespace": "default", "labels": labels});
    api.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}})).await;
    let long_ago = "2020-01-01T00:00:00Z";
    let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": long_ago});
    let status = json!({"status": {"phase": "Running", "startTime": long_ago, "conditions": [ready]}});
    api.patch(api.subresource("pods", "default", "web-1", "status"), PatchType::Merge, status).await.expect("written");
}

#[actix::test]
async fn autoscalers_ask_the_servers_that_answer_for_groups_of_metrics() {
    let extension = Extension::serve("adapter", "v1").await;
    extension.behave(Manners { old: true, ..Manners::default() });
    let api = extension.boot().await;
    extension.make_service(&api, "adapter").await;
    for (group, version) in METRICS {
        let name = format!("{version}.{group}");
        // Our own answers for metrics.k8s.io until somebody else wants to.
        let known = api.get("apiservices.apiregistration.k8s.io", "", &name).await.is_ok();
        let wanted = extension.api_service_of("adapter", group, version);
        if known {
            let spec = json!({"spec": wanted["spec"]});
            api.patch(api.target("apiservices.apiregistration.k8s.io", "", &name), PatchType::Merge, spec).await.expect("taken over");
        } else {
            api.create(wanted).await;
        }
        becomes(&api, &name, "Passed").await;
    }
    target(&api).await;
    let metrics = json!([
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
        {"type": "Pods", "pods": {"metric": {"name": "queries"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
        {"type": "External", "external": {"metric": {"name": "waiting"}, "target": {"type": "AverageValue", "averageValue": "5"}}},
    ]);
    let reference = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let spec = json!({"scaleTargetRef": reference, "minReplicas": 1, "maxReplicas": 9, "metrics": metrics});
    api.create(
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web", "namespace": "default"}, "spec": spec}),
    )
    .await;
    let system = api.server.system().clone();
    let caches = Caches::new(system.clone(), api.client.clone());
    controller::start(&system, &caches, api.client.clone(), HorizontalController::new(&caches));
    let seen = async || api.get("horizontalpodautoscalers.autoscaling", "default", "web").await.expect("there").into_value()["status"].clone();
    let is_found = |status: &Value| {
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "ScalingActive" && condition["status"] == "True")
    };
    eventually("its metrics are found", async || is_found(&seen().await)).await;
    let status = seen().await;
    // 150m of 100m for a half, 50 for 10, and 20 for 5: three, five and four pods, of which four come at once.
    assert_eq!(status["desiredReplicas"], 4, "{status}");
    let current = status["currentMetrics"].as_array().expect("a list");
    assert_eq!(current[0]["resource"]["current"], json!({"averageUtilization": 150, "averageValue": "150m"}), "{status}");
    assert_eq!(current[1]["pods"]["current"]["averageValue"], "50", "{status}");
    assert_eq!(current[2]["external"]["current"]["averageValue"], "20", "{status}");
    assert!(
        !extension.asked("/apis/metrics.k8s.io/v1beta1/namespaces/default/pods?labelSelector=").is_empty(),
        "{:?}",
        extension.asked("metrics.k8s.io")
    );
}
