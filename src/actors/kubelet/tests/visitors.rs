//! Ephemeral containers, from the API to the runtime.

use serde_json::{Value, json};
use troupe_cri::proto::NamespaceMode;

use super::forgotten::{create, kubelet, until};
use crate::apiserver::testing::boot;

#[actix::test]
async fn a_visitor_is_started_in_a_running_pod_and_sees_the_processes_of_its_target() {
    let (api, place) = (boot().await, tempfile::tempdir().expect("a directory"));
    let (kubelet, _system, runtime) = kubelet(&api, place.path()).await;
    create(&api, "web", "Always").await;
    let runs = |name: &'static str| {
        move |pod: &k8s_openapi::api::core::v1::Pod| {
            let status = pod.status.as_ref();
            let lists = status.map(|status| [&status.container_statuses, &status.ephemeral_container_statuses]);
            let mut all = lists.into_iter().flatten().flatten().flatten();
            all.any(|own| own.name == name && own.state.as_ref().is_some_and(|state| state.running.is_some()))
        }
    };
    until(&api, "web", "running", runs("web")).await;
    assert!(kubelet.handle().container("default", "web", None, "debug").await.is_err());
    let target = || api.subresource("pods", "default", "web", "ephemeralcontainers");
    let add = async |visitor: Value| {
        let mut pod = api.get("pods", "default", "web").await.expect("there");
        let mut all = pod.list(&["spec", "ephemeralContainers"]).to_vec();
        all.push(visitor);
        pod.set(&["spec", "ephemeralContainers"], all);
        api.try_update_at(target(), pod.root().clone().into()).await
    };
    let debug = json!({"name": "debug", "image": "web", "imagePullPolicy": "Never", "stdin": true, "tty": true, "targetContainerName": "web",
        "env": [{"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]});
    let updated = add(debug).await.expect("it is taken");
    assert_eq!(updated.int(&["metadata", "generation"]), Some(2));
    until(&api, "web", "visited", runs("debug")).await;
    let (visitor, web) = (runtime.container_named("debug").expect("made"), runtime.container_named("web").expect("made"));
    let namespaces = visitor.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref()?.namespace_options.as_ref());
    let namespaces = namespaces.expect("namespaces");
    assert_eq!((namespaces.pid(), namespaces.target_id.as_str()), (NamespaceMode::Target, web.id.as_str()));
    assert!(visitor.config.stdin && visitor.config.tty && visitor.config.envs.iter().any(|env| env.key == "ME" && env.value == "web"));
    assert_eq!(kubelet.handle().container("default", "web", None, "debug").await.expect("it runs"), visitor.id);
    assert!(kubelet.handle().log("default", "web", None, "debug", false).await.is_ok());
    // It is not started again, and another one may come.
    runtime.exit(&visitor.id, 3);
    until(&api, "web", "left alone", |pod| {
        let statuses = pod.status.as_ref().and_then(|status| status.ephemeral_container_statuses.as_ref());
        let end = statuses.and_then(|all| all.first()?.state.as_ref()?.terminated.clone());
        end.is_some_and(|end| end.exit_code == 3)
    })
    .await;
    add(json!({"name": "more", "image": "web", "imagePullPolicy": "Never"})).await.expect("it is taken");
    until(&api, "web", "visited again", runs("more")).await;
    assert_eq!(runtime.container_named("debug").expect("kept").id, visitor.id);
    let unknown = add(json!({"name": "lost", "image": "web", "targetContainerName": "none"})).await.expect_err("there is no such container");
    assert!(unknown.message.contains("spec.ephemeralContainers[2].targetContainerName: Not found"), "{}", unknown.message);
}
