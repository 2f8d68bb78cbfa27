//! kube-rs: typed and dynamic objects, watches, patches of every kind, waits, commands and logs.

use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt, TryStreamExt, pin_mut};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Client, Config,
    api::{AttachParams, DeleteParams, EvictParams, ListParams, LogParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{DynamicObject, GroupVersionKind, PartialObjectMeta},
    discovery::{Discovery, pinned_kind},
    runtime::{
        wait::{Condition, await_condition, conditions},
        watcher,
    },
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::stage::Corner;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn first_minute(corner: &Corner) {
    let kubeconfig = corner.kubeconfig();
    corner.run(async move || {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a configuration");
        let client = Client::try_from(config).expect("a client");
        makes_and_lists(&client).await;
        watches(&client).await;
        follows_a_list(&client).await;
        applies(&client).await;
        patches(&client).await;
        discovers(&client).await;
        executes(&client).await;
        reads_logs_and_evicts(&client).await;
    });
}

fn map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"of": "kube-rs"}}, "data": {"k": value}})).expect("a config map")
}

async fn makes_and_lists(client: &Client) {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    for name in ["a", "b", "c"] {
        maps.create(&PostParams::default(), &map(name, "1")).await.expect("created");
    }
    let exists = maps.create(&PostParams::default(), &map("a", "1")).await.expect_err("exists");
    assert!(matches!(exists, kube::Error::Api(status) if status.reason == "AlreadyExists" && status.code == 409));
    let mut stale = maps.get("c").await.expect("there");
    maps.replace("c", &PostParams::default(), &stale).await.expect("replaced");
    stale.data = map("c", "2").data;
    maps.replace("c", &PostParams::default(), &stale).await.expect("nothing had changed");
    let conflict = maps.replace("c", &PostParams::default(), &stale).await.expect_err("an old version");
    assert!(matches!(conflict, kube::Error::Api(status) if status.reason == "Conflict" && status.code == 409));
    let first = maps.list(&ListParams::default().labels("of=kube-rs").limit(2)).await.expect("a page");
    let token = first.metadata.continue_.expect("another page");
    assert_eq!((first.items.len(), first.metadata.remaining_item_count), (2, None));
    let rest = maps.list(&ListParams::default().labels("of=kube-rs").limit(2).continue_token(&token)).await.expect("a page");
    assert_eq!(rest.items.len(), 1);
    let metadata: kube::core::ObjectList<PartialObjectMeta<ConfigMap>> =
        maps.list_metadata(&ListParams::default().labels("of=kube-rs")).await.expect("metadata");
    assert_eq!(metadata.items.len(), 3);
    assert!(maps.get_opt("missing").await.expect("answered").is_none());
    maps.delete("c", &DeleteParams::background()).await.expect("deleted");
}

async fn watches(client: &Client) {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let parameters = WatchParams::default().labels("of=kube-rs").timeout(20);
    let events = maps.watch(&parameters.initial_events(), "").await.expect("a watch");
    pin_mut!(events);
    let mut names = Vec::new();
    while let Some(event) = events.try_next().await.expect("a frame") {
        match event {
            WatchEvent::Added(map) => names.extend(map.metadata.name),
            WatchEvent::Bookmark(end) => {
                assert_eq!(end.metadata.annotations["k8s.io/initial-events-end"], "true");
                break;
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(names, ["a", "b"]);
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "2"}}))).await.expect("patched");
    assert!(matches!(events.next().await, Some(Ok(WatchEvent::Modified(map))) if map.data.as_ref().is_some_and(|data| data["k"] == "2")));
    maps.delete("a", &DeleteParams::default()).await.expect("deleted");
    assert!(matches!(events.next().await, Some(Ok(WatchEvent::Deleted(_)))));
    let lost = maps.watch(&WatchParams::default().timeout(5), "nonsense").await;
    assert!(lost.is_err(), "no revision");
}

/// What controllers are built on: it lists, watches, and begins again by itself.
async fn follows_a_list(client: &Client) {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let events = watcher(maps.clone(), config.labels("of=kube-rs"));
        pin_mut!(events);
        let mut next = async || tokio::time::timeout(PATIENCE, events.next()).await.expect("in time").expect("no end").expect("an event");
        assert!(matches!(next().await, watcher::Event::Init));
        assert!(matches!(next().await, watcher::Event::InitApply(map) if map.metadata.name.as_deref() == Some("b")));
        assert!(matches!(next().await, watcher::Event::InitDone));
        maps.create(&PostParams::default(), &map("d", "1")).await.expect("created");
        assert!(matches!(next().await, watcher::Event::Apply(map) if map.metadata.name.as_deref() == Some("d")));
        maps.delete("d", &DeleteParams::default()).await.expect("deleted");
        assert!(matches!(next().await, watcher::Event::Delete(map) if map.metadata.name.as_deref() == Some("d")));
    }
}

async fn applies(client: &Client) {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let container = json!({"name": "c", "image": "busybox:1.35", "command": ["sleep", "infinity"]});
    let template = json!({"metadata": {"labels": {"app": "k"}}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}});
    let wanted = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "k"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "k"}}, "template": template},
    });
    let applied = deployments.patch("k", &PatchParams::apply("kube-rs"), &Patch::Apply(&wanted)).await.expect("applied");
    assert_eq!(applied.metadata.managed_fields.expect("owned")[0].manager.as_deref(), Some("kube-rs"));
    let mut other = wanted.clone();
    other["spec"]["replicas"] = 2.into();
    let refused = deployments.patch("k", &PatchParams::apply("other"), &Patch::Apply(&other)).await.expect_err("a conflict");
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 409 && status.message.contains(".spec.replicas")));
    deployments.patch("k", &PatchParams::apply("other").force(), &Patch::Apply(&other)).await.expect("taken over");
    let scale = deployments.get_scale("k").await.expect("a scale");
    assert_eq!(scale.spec.and_then(|spec| spec.replicas), Some(2));
}

/// Strategic, merge and JSON patches; a rollout that is waited for, and an end.
async fn patches(client: &Client) {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let two = json!({"spec": {"template": {"spec": {"containers": [{"name": "d", "image": "busybox:1.35", "command": ["sleep", "infinity"]}]}}}});
    let patched = deployments.patch("k", &PatchParams::default(), &Patch::Strategic(&two)).await.expect("patched");
    let names = |deployment: &Deployment| {
        let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.clone()).expect("a template");
        pod.containers.into_iter().map(|container| container.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&patched), ["d", "c"], "lists are merged by name");
    let patched = deployments.patch("k", &PatchParams::default(), &Patch::Merge(&two)).await.expect("patched");
    assert_eq!(names(&patched), ["d"], "lists are replaced");
    let rename = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/name", "value": "e"}]);
    let rename = Patch::<()>::Json(serde_json::from_value(rename).expect("a patch"));
    let patched = deployments.patch("k", &PatchParams::default(), &rename).await.expect("patched");
    assert_eq!(names(&patched), ["e"]);
    let observed = |deployment: Option<&Deployment>| {
        deployment.is_some_and(|deployment| {
            let (generation, status) = (deployment.metadata.generation, deployment.status.as_ref());
            status.is_some_and(|status| status.observed_generation == generation && status.updated_replicas == Some(2) && status.replicas == Some(2))
        })
    };
    let rolled = await_condition(deployments.clone(), "k", conditions::is_deployment_completed().and(observed));
    let rolled = tokio::time::timeout(PATIENCE, rolled).await.expect("in time").expect("watched").expect("there");
    assert_eq!(rolled.status.and_then(|status| status.ready_replicas), Some(2));
    let uid = rolled.metadata.uid.expect("stored");
    deployments.delete("k", &DeleteParams::foreground()).await.expect("deleted");
    let gone = await_condition(deployments, "k", conditions::is_deleted(&uid));
    tokio::time::timeout(PATIENCE, gone).await.expect("in time").expect("watched");
}

async fn discovers(client: &Client) {
    assert_eq!(client.apiserver_version().await.expect("a version").minor, "36");
    let gvk = GroupVersionKind::gvk("", "v1", "ConfigMap");
    let (resource, _) = pinned_kind(client, &gvk).await.expect("served");
    let maps: Api<DynamicObject> = Api::default_namespaced_with(client.clone(), &resource);
    assert_eq!(maps.get("b").await.expect("there").data["data"]["k"], "1");
    for discovery in [Discovery::new(client.clone()).run().await, Discovery::new(client.clone()).run_aggregated().await] {
        let discovery = discovery.expect("answered");
        let (deployments, capabilities) = discovery.resolve_gvk(&GroupVersionKind::gvk("apps", "v1", "Deployment")).expect("served");
        assert_eq!((deployments.plural.as_str(), capabilities.subresources.len()), ("deployments", 2));
    }
}

/// A pod that is waited for, and commands in it with all their streams.
async fn executes(client: &Client) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let container =
        json!({"name": "c", "image": "busybox:1.35", "command": ["sh", "-c", "echo first; until [ -e /tmp/over ]; do sleep 0.1; done; echo last"]});
    let pod = json!({
        "metadata": {"name": "k"},
        "spec": {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0},
    });
    pods.create(&PostParams::default(), &serde_json::from_value(pod).expect("a pod")).await.expect("created");
    let running = await_condition(pods.clone(), "k", conditions::is_pod_running());
    tokio::time::timeout(PATIENCE, running).await.expect("in time").expect("watched");

    let mut failing = pods.exec("k", ["sh", "-c", "echo out; echo err >&2; exit 3"], &AttachParams::default()).await.expect("executed");
    let (mut out, mut err) = (String::new(), String::new());
    failing.stdout().expect("asked for").read_to_string(&mut out).await.expect("text");
    failing.stderr().expect("asked for").read_to_string(&mut err).await.expect("text");
    let status = failing.take_status().expect("the first time").await.expect("told");
    assert_eq!((out.as_str(), err.as_str(), status.reason.as_deref()), ("out\n", "err\n", Some("NonZeroExitCode")));
    let causes = status.details.and_then(|details| details.causes).expect("details");
    assert_eq!(causes[0].message.as_deref(), Some("3"));

    let mut cat = pods.exec("k", ["cat"], &AttachParams::default().stdin(true).stderr(false)).await.expect("executed");
    let (mut stdin, mut stdout, mut said) = (cat.stdin().expect("asked for"), cat.stdout().expect("asked for"), String::new());
    stdin.write_all(b"to and fro\n").await.expect("written");
    stdin.shutdown().await.expect("closed");
    tokio::time::timeout(PATIENCE, stdout.read_to_string(&mut said)).await.expect("the end of its input ends it").expect("text");
    assert_eq!(said, "to and fro\n");
}

async fn reads_logs_and_evicts(client: &Client) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    assert_eq!(pods.logs("k", &LogParams { tail_lines: Some(1), ..LogParams::default() }).await.expect("logs"), "first\n");
    let mut lines = pods.log_stream("k", &LogParams { follow: true, ..LogParams::default() }).await.expect("logs").lines();
    assert_eq!(lines.try_next().await.expect("text").as_deref(), Some("first"));
    let mut touch = pods.exec("k", ["touch", "/tmp/over"], &AttachParams::default()).await.expect("executed");
    let status = touch.take_status().expect("the first time").await.expect("told");
    assert_eq!(status.status.as_deref(), Some("Success"));
    let rest: Vec<String> = tokio::time::timeout(PATIENCE, lines.try_collect()).await.expect("logs end with the container").expect("text");
    assert_eq!(rest, ["last"]);
    let pod = pods.get("k").await.expect("there");
    pods.evict("k", &EvictParams::default()).await.expect("evicted");
    let gone = await_condition(pods, "k", conditions::is_deleted(pod.metadata.uid.as_deref().expect("stored")));
    tokio::time::timeout(PATIENCE, gone).await.expect("in time").expect("watched");
}
