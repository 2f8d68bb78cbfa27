//! What a pod's worker does because of the write that brought the pod.

use serde_json::json;

use super::stage::Stage;

#[actix::test]
async fn all_that_a_worker_does_first_is_because_of_the_pods_write() {
    let stage = Stage::new().await;
    let (_kubelet, system) = stage.kubelet(|_| {}).await;
    for at in 0..10 {
        let name = format!("web-{at}");
        stage.create(&name, json!({"containers": [{"name": "c", "image": "web", "imagePullPolicy": "Never"}]})).await;
        stage.until(&name, "running", |pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"))).await;
        let own = stage.api.server.system();
        let commits = own.recorder().records(own.clock().now(), own.instant());
        let made = format!("pods default/{name}@");
        let wrote = commits.iter().find(|hop| hop.produced.as_ref().is_some_and(|produced| produced.starts_with(&made))).expect("it was written");
        let worker = format!("kubelet/pods/default/{name}/");
        let all = system.recorder().records(system.clock().now(), system.instant());
        // It is woken by its containers, too, which is because of nothing.
        let works = all.iter().filter(|hop| hop.message != "Wake");
        let steps: Vec<_> = works.filter(|hop| hop.from.starts_with(&worker) || hop.to.starts_with(&worker)).collect();
        assert!(steps.iter().any(|hop| hop.message == "RunPodSandbox"), "{steps:#?}");
        assert!(steps.iter().all(|hop| hop.trace == wrote.trace), "{name}: {wrote:#?} led to {steps:#?}");
    }
}
