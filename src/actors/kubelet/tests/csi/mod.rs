//! Volumes of a CSI driver, with a kubelet on the fake runtime and a driver behind a socket.

mod driver;
mod stage;

use std::{fs, sync::Arc, time::Duration};

use k8s_openapi::api::{
    core::v1::{Node, PersistentVolumeClaim},
    storage::v1::{CSINode, VolumeAttachment},
};
use serde_json::{Value, json};
use troupe_api::{
    meta::SystemClock,
    service::{DeleteOptions, ListOptions, PatchType},
};
use troupe_api_client::Client;

use self::{
    driver::{Driver, NAME},
    stage::{STAGES, Stage},
};
use crate::{
    controllers::attach_detach,
    kubelet::csi::proto::{AccessType, Mode},
    runtime::{
        cache::Caches,
        controller,
        system::{System, SystemOptions},
    },
};

fn claimed(name: &str) -> Value {
    json!({"name": "v", "persistentVolumeClaim": {"claimName": name}})
}

#[actix::test]
async fn a_driver_that_comes_and_goes_is_told_of_by_the_node() {
    let stage = Stage::new().await;
    let served = stage.driver(&STAGES).await;
    let csi_node = async || stage.api.client.all::<CSINode>().get_opt("n1").await.expect("answers");
    let known = csi_node().await.expect("is there");
    let entry = known.spec.drivers.first().expect("the driver").clone();
    assert_eq!((entry.name.as_str(), entry.node_id.as_str(), entry.allocatable.and_then(|most| most.count)), (NAME, "id-of-n1", Some(9)));
    let owner = known.metadata.owner_references.as_ref().map(|owners| (owners[0].kind.clone(), owners[0].name.clone()));
    assert_eq!(owner, Some(("Node".into(), "n1".into())));
    let node = stage.api.client.all::<Node>().get("n1").await.expect("is there");
    let ids = node.metadata.annotations.as_ref().and_then(|all| all.get("csi.volume.kubernetes.io/nodeid")).cloned();
    assert_eq!(ids.as_deref(), Some("{\"dir.csi.example.com\":\"id-of-n1\"}"));
    let label = node.metadata.labels.as_ref().and_then(|labels| labels.get("topology.dir.csi.example.com/node")).cloned();
    assert_eq!(label.as_deref(), Some("here"));
    drop(served);
    stage.until("the node has no driver", async || csi_node().await.is_some_and(|known| known.spec.drivers.is_empty())).await;
    stage
        .until("the node has no id", async || {
            let node = stage.api.client.all::<Node>().get("n1").await.expect("is there");
            !node.metadata.annotations.as_ref().is_some_and(|all| all.contains_key("csi.volume.kubernetes.io/nodeid"))
        })
        .await;
}

#[actix::test]
async fn a_claims_volume_is_staged_once_published_to_each_pod_and_leaves_nothing() {
    let stage = Stage::new().await;
    let served = stage.driver(&STAGES).await;
    let driver = &served.driver;
    stage.csi_driver(json!({"attachRequired": false, "podInfoOnMount": true, "fsGroupPolicy": "File"})).await;
    for (name, key) in [("stage", "a"), ("publish", "b")] {
        stage
            .api
            .create(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"}, "stringData": {key: "x"}}))
            .await;
    }
    let secret = |name: &str| json!({"name": name, "namespace": "default"});
    let source = json!({"fsType": "ext4", "volumeAttributes": {"pool": "p"}, "nodeStageSecretRef": secret("stage"), "nodePublishSecretRef": secret("publish")});
    stage.bound("data", json!({"mountOptions": ["noatime"], "csi": source})).await;
    fs::create_dir_all(driver.store.join("h-data")).expect("makes");
    fs::write(driver.store.join("h-data/file"), "kept").expect("writes");
    let group = json!({"securityContext": {"fsGroup": 4321}});
    stage.pod("one", claimed("data"), group.clone()).await;
    stage.pod_is("one", "Running").await;
    stage.pod("two", claimed("data"), group).await;
    stage.pod_is("two", "Running").await;
    for pod in ["one", "two"] {
        assert_eq!(fs::read_to_string(stage.mounted(pod).join("file")).expect("reads"), "kept");
    }
    let group = std::os::unix::fs::MetadataExt::gid(&fs::metadata(driver.store.join("h-data/file")).expect("is there"));
    assert_eq!(group, 4321, "its files are the pod's group's");
    let staged = driver.staged.lock()[0].clone();
    assert_eq!((staged.secrets.get("a").map(String::as_str), staged.volume_context.get("pool").map(String::as_str)), (Some("x"), Some("p")));
    let capability = staged.volume_capability.expect("a capability");
    assert_eq!(capability.access_mode.map(|mode| mode.mode), Some(Mode::SingleNodeWriter.into()));
    let Some(AccessType::Mount(mount)) = capability.access_type else { panic!("files are wanted") };
    assert_eq!((mount.fs_type.as_str(), &mount.mount_flags[..]), ("ext4", &["noatime".to_owned()][..]));
    let published = driver.published.lock()[0].clone();
    assert_eq!(published.secrets.get("b").map(String::as_str), Some("x"));
    assert_eq!(published.volume_context.get("csi.storage.k8s.io/pod.name").map(String::as_str), Some("one"));
    assert_eq!(published.staging_target_path, staged.staging_target_path);
    assert!(published.target_path.ends_with("/volumes/kubernetes.io~csi/data/mount"), "{}", published.target_path);
    let usage = stage.running.as_ref().expect("runs").0.handle().volumes().await;
    let of_one = usage.values().flatten().next().expect("the driver tells");
    let claim = of_one.claim.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str()));
    assert_eq!((claim, of_one.usage.used_bytes, of_one.usage.capacity_bytes), (Some(("default", "data")), Some(40), Some(100)));
    stage.delete_pod("one").await;
    assert!(!driver.calls.lock().iter().any(|call| call.starts_with("unstage")), "another pod has it");
    assert_eq!(fs::read_to_string(stage.mounted("two").join("file")).expect("reads"), "kept");
    stage.delete_pod("two").await;
    let calls = driver.calls.lock().clone();
    assert_eq!(calls.iter().filter(|call| call.starts_with("unpublish")).count(), 2, "{calls:?}");
    assert_eq!(calls.last().map(String::as_str), Some("unstage h-data"));
    assert_eq!(stage.left(), [""; 0].map(std::path::PathBuf::from));
}

#[actix::test]
async fn what_a_killed_kubelet_left_is_taken_down_by_the_next() {
    let mut stage = Stage::new().await;
    let served = stage.driver(&STAGES).await;
    stage.csi_driver(json!({"attachRequired": false})).await;
    stage.bound("data", json!({})).await;
    stage.pod("kept", claimed("data"), json!({})).await;
    stage.pod("gone", claimed("data"), json!({})).await;
    stage.pod_is("kept", "Running").await;
    stage.pod_is("gone", "Running").await;
    stage.kill().await;
    let at_once = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    stage.api.delete("pods", "default", "gone", at_once).await.expect("takes it");
    served.driver.registered.lock().clear();
    served.driver.calls.lock().clear();
    stage.start().await;
    let calls = || served.driver.calls.lock().clone();
    stage.until("the pod that is gone has it no more", async || calls().iter().any(|call| call == "unpublish h-data")).await;
    stage.until("one pod is left on disk", async || stage.left().len() == 2).await;
    assert!(!calls().iter().any(|call| call.starts_with("unstage")), "{:?}", calls());
    assert!(stage.mounted("kept").exists(), "a pod that runs keeps its volume");
    // The last step fails once: it is tried again.
    served.driver.fail_next("unstage", tonic::Status::internal("busy"));
    stage.delete_pod("kept").await;
    stage.event("FailedKillPod", "attacher.UnmountDevice failed: rpc error: code = Internal desc = busy").await;
    assert_eq!(calls().iter().filter(|call| *call == "unstage h-data").count(), 2, "{:?}", calls());
    stage.until("nothing is left", async || stage.left().is_empty()).await;
}

#[actix::test]
async fn a_pod_waits_for_its_volume_in_upstreams_words() {
    let stage = Stage::new().await;
    stage.csi_driver(json!({"attachRequired": false, "volumeLifecycleModes": ["Persistent"]})).await;
    stage.bound("data", json!({})).await;
    stage.pod("p", claimed("data"), json!({})).await;
    let missing = "MountVolume.MountDevice failed for volume \"data\" : kubernetes.io/csi: attacher.MountDevice failed to create \
        newCsiDriverClient: driver name dir.csi.example.com not found in the list of registered CSI drivers";
    stage.event("FailedMount", missing).await;
    let driver = Driver::new(stage.place.path(), &STAGES);
    driver.fail_next("stage", tonic::Status::internal("no disk"));
    driver.fail_next("publish", tonic::Status::invalid_argument("no place"));
    let _served = driver.serve(&stage.place.path().join("kubelet/plugins_registry"));
    stage.event("FailedMount", "MountVolume.MountDevice failed for volume \"data\" : rpc error: code = Internal desc = no disk").await;
    stage.event("FailedMount", "MountVolume.SetUp failed for volume \"data\" : rpc error: code = InvalidArgument desc = no place").await;
    stage.pod_is("p", "Running").await;
    stage.pod("inline", json!({"name": "v", "csi": {"driver": NAME}}), json!({})).await;
    let mode = "MountVolume.SetUp failed for volume \"v\" : kubernetes.io/csi: mounter.SetupAt failed to check volume lifecycle mode: volume mode \
        \"Ephemeral\" not supported by driver dir.csi.example.com (only supports [\"Persistent\"])";
    stage.event("FailedMount", mode).await;
    stage.delete_pod("inline").await;
    stage.delete_pod("p").await;
}

#[actix::test]
async fn a_pods_own_volume_comes_with_what_the_driver_wants_to_know() {
    let stage = Stage::new().await;
    let served = stage.driver(&STAGES).await;
    let tokens = json!([{"audience": "vault", "expirationSeconds": 600}]);
    stage.csi_driver(json!({"volumeLifecycleModes": ["Ephemeral"], "podInfoOnMount": true, "tokenRequests": tokens})).await;
    stage.api.ensure(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}})).await;
    let volume = json!({"name": "v", "csi": {"driver": NAME, "readOnly": true, "volumeAttributes": {"a": "b"}}});
    stage.pod("p", volume, json!({})).await;
    stage.pod_is("p", "Running").await;
    let published = served.driver.published.lock()[0].clone();
    let told = |key: &str| published.volume_context.get(key).cloned().unwrap_or_default();
    assert_eq!((told("a"), told("csi.storage.k8s.io/ephemeral"), told("csi.storage.k8s.io/pod.name")), ("b".into(), "true".into(), "p".into()));
    let tokens: Value = serde_json::from_str(&told("csi.storage.k8s.io/serviceAccount.tokens")).expect("JSON");
    assert!(tokens["vault"]["token"].as_str().is_some_and(|token| token.split('.').count() == 3), "{tokens}");
    assert!(tokens["vault"]["expirationTimestamp"].is_string());
    assert!(published.readonly && published.staging_target_path.is_empty());
    assert!(published.target_path.ends_with("/volumes/kubernetes.io~csi/v/mount"));
    let made = stage.runtime.container_named("p").expect("it was made");
    assert!(made.config.mounts.iter().any(|mount| mount.container_path == "/v" && mount.readonly));
    stage.delete_pod("p").await;
    assert_eq!(served.driver.calls.lock().last(), Some(&format!("unpublish {}", published.volume_id)));
    assert_eq!(stage.left(), [""; 0].map(std::path::PathBuf::from));
}

#[actix::test]
async fn a_volume_is_attached_before_it_is_mounted_and_detached_after() {
    let stage = Stage::new().await;
    let served = stage.driver(&STAGES).await;
    stage.bound("data", json!({})).await;
    let system = System::new(SystemOptions::local(1, Arc::new(SystemClock))).expect("a system");
    let caches = Caches::new(system.clone(), stage.api.client.clone());
    let (attacher, nodes) = attach_detach::controllers(&caches);
    let account = Client::for_service_account(stage.api.server.clone(), "attachdetach-controller", "kube-controller-manager");
    controller::start(&system, &caches, account.clone(), attacher);
    controller::start(&system, &caches, account, nodes);
    stage.pod("p", claimed("data"), json!({})).await;
    let attachments = || stage.api.client.all::<VolumeAttachment>();
    let asked = async || attachments().list(ListOptions::default()).await.expect("answers").items;
    stage.until("an attachment is asked for", async || asked().await.len() == 1).await;
    let attachment = asked().await[0].clone();
    let name = attachment.metadata.name.clone().expect("a name");
    assert_eq!((attachment.spec.attacher.as_str(), attachment.spec.node_name.as_str()), (NAME, "n1"));
    assert_eq!(name, crate::storage::csi::attachment_name("h-data", NAME, "n1"));
    let status = async || stage.api.client.all::<Node>().get("n1").await.expect("is there").status.clone().expect("a status");
    stage
        .until("the node says that it is in use", async || {
            status().await.volumes_in_use.is_some_and(|names| names == ["kubernetes.io/csi/dir.csi.example.com^h-data"])
        })
        .await;
    let failed = json!({"status": {"attached": false, "attachError": {"time": "2026-01-01T00:00:00Z", "message": "no slot"}}});
    attachments().patch(&name, "status", PatchType::Merge, &failed).await.expect("takes it");
    stage.event("FailedAttachVolume", "AttachVolume.Attach failed for volume \"data\" : no slot").await;
    assert!(served.driver.staged.lock().is_empty(), "it is not attached");
    let attached = json!({"status": {"attached": true, "attachError": null, "attachmentMetadata": {"lun": "3"}}});
    attachments().patch(&name, "status", PatchType::Merge, &attached).await.expect("takes it");
    stage.pod_is("p", "Running").await;
    stage.event("SuccessfulAttachVolume", "AttachVolume.Attach succeeded for volume \"data\"").await;
    assert_eq!(served.driver.staged.lock()[0].publish_context.get("lun").map(String::as_str), Some("3"));
    assert_eq!(status().await.volumes_attached.map(|all| all.len()), Some(1));
    stage.delete_pod("p").await;
    stage.until("it is detached", async || asked().await.is_empty()).await;
    let status = status().await;
    assert!(status.volumes_in_use.unwrap_or_default().is_empty() && status.volumes_attached.unwrap_or_default().is_empty());
    assert_eq!(served.driver.calls.lock().last().map(String::as_str), Some("unstage h-data"));
    assert!(system.shutdown(Duration::from_secs(5)).await);
}

#[actix::test]
async fn a_volume_that_has_grown_grows_on_the_node() {
    let stage = Stage::new().await;
    let served = stage.driver(&STAGES).await;
    stage.csi_driver(json!({"attachRequired": false})).await;
    stage.bound("data", json!({"capacity": {"storage": "2Gi"}})).await;
    let claims = stage.api.client.namespaced::<PersistentVolumeClaim>("default");
    let pending = json!({"status": {"allocatedResourceStatuses": {"storage": "NodeResizePending"},
        "conditions": [{"type": "FileSystemResizePending", "status": "True"}]}});
    claims.patch("data", "status", PatchType::Merge, &pending).await.expect("takes it");
    stage.pod("p", claimed("data"), json!({})).await;
    stage.pod_is("p", "Running").await;
    stage.event("FileSystemResizeSuccessful", "MountVolume.NodeExpandVolume succeeded for volume \"data\"").await;
    let status = claims.get("data").await.expect("is there").status.clone().expect("a status");
    assert_eq!(status.capacity.and_then(|capacity| capacity.get("storage").map(|size| size.0.clone())).as_deref(), Some("2Gi"));
    assert!(status.allocated_resource_statuses.unwrap_or_default().is_empty() && status.conditions.unwrap_or_default().is_empty());
    let expanded = served.driver.expanded.lock()[0].clone();
    assert_eq!(expanded.capacity_range.map(|range| range.required_bytes), Some(2 << 30));
    assert!(expanded.volume_path.ends_with("/mount") && expanded.staging_target_path.ends_with("/globalmount"));
    stage.delete_pod("p").await;
}

#[actix::test]
async fn a_device_of_a_driver_reaches_the_container() {
    let stage = Stage::new().await;
    let served = stage.driver(&STAGES).await;
    stage.csi_driver(json!({"attachRequired": false})).await;
    let disk = stage.place.path().join("disk");
    fs::File::create(&disk).and_then(|file| file.set_len(1 << 20)).expect("a file");
    let output = std::process::Command::new("losetup").args(["-f", "--show"]).arg(&disk).output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let device = std::path::PathBuf::from(String::from_utf8(output.stdout).expect("text").trim());
    *served.driver.device.lock() = Some(device.clone());
    stage.bound("raw", json!({"volumeMode": "Block"})).await;
    let containers = json!([{"name": "p", "image": "web", "imagePullPolicy": "Never", "volumeDevices": [{"name": "v", "devicePath": "/dev/data"}]}]);
    stage.pod("p", claimed("raw"), json!({"containers": containers})).await;
    stage.pod_is("p", "Running").await;
    let made = stage.runtime.container_named("p").expect("it was made");
    let given = made.config.devices.iter().find(|given| given.container_path == "/dev/data").expect("the device").clone();
    let number = |path: &std::path::Path| std::os::unix::fs::MetadataExt::rdev(&fs::metadata(path).expect("is there"));
    assert_eq!(number(given.host_path.as_ref()), number(&device));
    let published = served.driver.published.lock()[0].clone();
    assert!(matches!(published.volume_capability.and_then(|capability| capability.access_type), Some(AccessType::Block(_))));
    assert!(published.target_path.contains("/plugins/kubernetes.io/csi/volumeDevices/publish/raw/"), "{}", published.target_path);
    stage.delete_pod("p").await;
    assert_eq!(stage.left(), [""; 0].map(std::path::PathBuf::from));
    let output = std::process::Command::new("losetup").arg("-d").arg(&device).output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[actix::test]
async fn a_driver_that_wants_it_publishes_while_the_pod_runs() {
    let stage = Stage::new().await;
    let served = stage.driver(&STAGES).await;
    stage.csi_driver(json!({"volumeLifecycleModes": ["Ephemeral"], "requiresRepublish": true})).await;
    stage.pod("p", json!({"name": "v", "csi": {"driver": NAME}}), json!({})).await;
    stage.pod_is("p", "Running").await;
    fs::write(stage.mounted("p").join("file"), "kept").expect("writes");
    // Volumes are looked at every half minute.
    served.driver.fail_next("publish", tonic::Status::internal("not now"));
    tokio::time::sleep(Duration::from_secs(25)).await;
    stage.event("FailedMount", "MountVolume.SetUp failed for volume \"v\" : rpc error: code = Internal desc = not now").await;
    assert_eq!(fs::read_to_string(stage.mounted("p").join("file")).expect("reads"), "kept", "what is there stays there");
    let published = served.driver.published.lock().clone();
    assert_eq!((published.len(), &published[0].target_path), (2, &published[1].target_path));
    stage.delete_pod("p").await;
    assert_eq!(stage.left(), [""; 0].map(std::path::PathBuf::from));
}
