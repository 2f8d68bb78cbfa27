use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::json;

use super::{super::disruption::SeveralBudgetsController, World, eventually, eventually_async};

#[actix::test]
async fn a_pod_that_two_budgets_select_is_told_of_and_others_are_not() {
    let world = World::new().await;
    world.start(SeveralBudgetsController::new(&world.caches));
    for (name, app) in [("one", "web"), ("two", "web"), ("three", "other")] {
        let spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"app": app}}});
        let metadata = json!({"name": name, "namespace": "default"});
        world.api.create(json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec})).await;
    }
    let budgets = world.caches.cache::<PodDisruptionBudget>();
    eventually("the budgets are seen", || budgets.keys().len() == 3).await;
    for (name, app) in [("lone", "other"), ("twice", "web")] {
        let metadata = json!({"name": name, "namespace": "default", "labels": {"app": app}});
        let spec = json!({"containers": [{"name": "c", "image": "a:1"}]});
        world.api.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})).await;
    }
    let message = "Pod \"default\"/\"twice\" matches multiple PodDisruptionBudgets.  Chose \"one\" arbitrarily.".to_owned();
    let told = ("MultiplePodDisruptionBudgets".to_owned(), message);
    eventually_async("the pod is told of", async || world.events("default", "twice").await.contains(&told)).await;
    assert!(world.events("default", "lone").await.iter().all(|(reason, _)| reason != "MultiplePodDisruptionBudgets"));
}
