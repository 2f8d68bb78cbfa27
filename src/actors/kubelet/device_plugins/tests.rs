use std::{collections::HashMap, time::Duration};

use futures::{StreamExt, stream};
use serde_json::{Value, from_value, json};
use tokio::sync::watch;

use super::{proto::*, server::serve, *};
use crate::kubelet::plugin_testing::{self, Served, streaming, unary};

const GPU: &str = "example.com/gpu";

fn pod(uid: &str, init: Value, containers: Value) -> Pod {
    let metadata = json!({"name": uid, "namespace": "n", "uid": uid});
    from_value(json!({"metadata": metadata, "spec": {"initContainers": init, "containers": containers}})).expect("a pod")
}

fn wanting(name: &str, count: &str) -> Value {
    json!({"name": name, "resources": {"limits": {"example.com/gpu": count}}})
}

fn device(id: &str, health: &str) -> Device {
    Device { id: id.into(), health: health.into(), topology: None }
}

/// A plugin that lists what the channel has.
fn plugin(directory: &Path, devices: watch::Receiver<Vec<Device>>) -> Served {
    let list = streaming(move |_: Empty| {
        let devices = tokio_stream::wrappers::WatchStream::new(devices.clone());
        devices.map(|devices| Ok(ListAndWatchResponse { devices })).chain(stream::pending()).boxed()
    });
    let allocate = unary(|request: AllocateRequest| {
        let response = |ids: &DeviceIds| ContainerResponse {
            envs: HashMap::from([("GPUS".to_owned(), ids.ids.join(","))]),
            devices: vec![DeviceSpec { container_path: "/dev/gpu".into(), host_path: "/dev/null".into(), permissions: "rw".into() }],
            cdi_devices: vec![CdiDevice { name: "example.com/gpu=0".into() }],
            ..ContainerResponse::default()
        };
        Ok(AllocateResponse { container_responses: request.container_requests.iter().map(response).collect() })
    });
    let preferred = unary(|request: PreferredRequest| {
        let last = |of: &PreferredOf| DeviceIds { ids: of.available.iter().rev().take(1).cloned().collect() };
        Ok(PreferredResponse { container_responses: request.container_requests.iter().map(last).collect() })
    });
    let methods = vec![
        ("/v1beta1.DevicePlugin/ListAndWatch", list),
        ("/v1beta1.DevicePlugin/Allocate", allocate),
        ("/v1beta1.DevicePlugin/GetPreferredAllocation", preferred),
    ];
    plugin_testing::serve(&directory.join("gpu.sock"), methods)
}

async fn register(directory: &Path, resource: &str, version: &str) -> Result<(), String> {
    let kubelet = Service::new(&directory.join("kubelet.sock"), Duration::from_secs(10));
    let options = Some(Options { pre_start_required: false, get_preferred_allocation_available: true });
    let request = RegisterRequest { version: version.into(), endpoint: "gpu.sock".into(), resource_name: resource.into(), options };
    let answer: Result<Empty, _> = kubelet.ask("/v1beta1.Registration/Register", request).await;
    answer.map(drop).map_err(|status| status.message().to_owned())
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never happened that {what}");
}

fn amount(plugins: &DevicePlugins) -> Option<(usize, usize)> {
    plugins.amounts().get(GPU).copied()
}

#[tokio::test]
async fn devices_of_a_plugin_are_counted_given_out_and_taken_back_over_a_restart() {
    let place = tempfile::tempdir().expect("a directory");
    let directory = place.path().join(DIRECTORY);
    std::fs::create_dir_all(&directory).expect("makes");
    let (tell, devices) = watch::channel(vec![device("a", HEALTHY), device("b", HEALTHY), device("c", "Unhealthy")]);
    let plugins = Arc::new(DevicePlugins::new(place.path()));
    let served = tokio::spawn(serve(plugins.clone()));
    until("the kubelet listens", || directory.join("kubelet.sock").exists()).await;
    let running = plugin(&directory, devices.clone());
    let why = register(&directory, GPU, "v1alpha").await;
    assert_eq!(why, Err("requested API version \"v1alpha\" is not supported by kubelet. Supported version is [v1beta1]".into()));
    assert_eq!(register(&directory, "cpu", VERSION).await, Err("the ResourceName \"cpu\" is invalid".into()));
    register(&directory, GPU, VERSION).await.expect("is known");
    until("its devices are told", || amount(&plugins) == Some((3, 2))).await;

    let one = pod("one", json!([wanting("init", "1")]), json!([wanting("main", "1")]));
    let anywhere = Affinity::default();
    plugins.allocate(&one, &anywhere).await.expect("there is one");
    plugins.allocate(&one, &anywhere).await.expect("it has it");
    let main: Container = from_value(wanting("main", "1")).expect("a container");
    let mut config = cri::ContainerConfig { envs: vec![cri::KeyValue { key: "A".into(), value: "1".into() }], ..Default::default() };
    apply(plugins.start(&one, &main).await.expect("it starts"), &mut config);
    assert_eq!((config.envs[1].key.as_str(), config.envs[1].value.as_str()), ("GPUS", "b"), "the plugin prefers the last");
    assert_eq!((config.devices.len(), config.cdi_devices[0].name.as_str()), (1, "example.com/gpu=0"));
    let two = pod("two", json!([]), json!([wanting("main", "2")]));
    let short = "Allocate failed due to requested number of devices unavailable for example.com/gpu. Requested: 2, Available: 1, which is unexpected";
    assert_eq!(plugins.allocate(&two, &anywhere).await, Err(short.into()), "the init container's device went on to the main one");

    tell.send_replace(vec![device("a", "Unhealthy"), device("b", HEALTHY)]);
    until("one is not well", || amount(&plugins) == Some((2, 1))).await;
    drop(running);
    until("the plugin is gone", || amount(&plugins) == Some((2, 0))).await;
    served.abort();
    assert!(served.await.is_err(), "it ended");

    // Another process finds who has what.
    let plugins = Arc::new(DevicePlugins::new(place.path()));
    assert_eq!(amount(&plugins), Some((0, 0)));
    let none = "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices example.com/gpu, which is unexpected";
    assert_eq!(plugins.allocate(&pod("three", json!([]), json!([wanting("main", "1")])), &anywhere).await, Err(none.into()));
    let served = tokio::spawn(serve(plugins.clone()));
    std::fs::remove_file(directory.join("gpu.sock")).unwrap_or_default();
    until("the kubelet listens", || std::os::unix::net::UnixStream::connect(directory.join("kubelet.sock")).is_ok()).await;
    let _running = plugin(&directory, devices);
    register(&directory, GPU, VERSION).await.expect("is known");
    until("its devices are told", || amount(&plugins) == Some((2, 1))).await;
    let three = pod("three", json!([]), json!([wanting("main", "1")]));
    assert!(plugins.allocate(&three, &anywhere).await.is_err(), "the first pod still has it");
    plugins.release("one").await.expect("is free");
    plugins.allocate(&three, &anywhere).await.expect("it has it");
    served.abort();
}
