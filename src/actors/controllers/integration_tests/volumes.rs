use std::collections::BTreeSet;

use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};
use troupe_api::{
    local_path::PROVISIONER,
    meta::{Object, ObjectKey},
    metrics::{parse::Samples, render},
    service::{DeleteOptions, PatchType},
};

use super::{World, eventually, eventually_async};
use crate::{controllers::persistent_volume::metrics::COLLECTORS, kubelet::local_volumes::LocalVolumes};

fn claim(name: &str, more: Value) -> Value {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

fn volume(name: &str, size: &str) -> Value {
    let spec = json!({
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, "hostPath": {"path": "/tmp/v"}, "persistentVolumeReclaimPolicy": "Retain",
    });
    json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})
}

fn pod(name: &str, volume: Value) -> Value {
    let spec = json!({"containers": [{"name": "c", "image": "a:1"}], "volumes": [volume]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

fn uses(claim: &str) -> Value {
    json!({"name": "v", "persistentVolumeClaim": {"claimName": claim}})
}

impl World {
    async fn claim(&self, name: &str) -> Option<Object> {
        self.api.get("persistentvolumeclaims", "default", name).await.ok()
    }

    async fn is_bound(&self, name: &str) -> bool {
        self.claim(name).await.is_some_and(|claim| claim.str(&["status", "phase"]) == "Bound")
    }

    async fn runs(&self, name: &str) -> bool {
        self.api.get("pods", "default", name).await.is_ok_and(|pod| pod.str(&["status", "phase"]) == "Running")
    }

    async fn phase_of_volume(&self, name: &str) -> String {
        let found = self.api.get("persistentvolumes", "", name).await;
        found.map_or_else(|_| String::new(), |volume| volume.str(&["status", "phase"]).to_owned())
    }
}

#[actix::test]
async fn claims_are_counted_while_their_controllers_run() {
    let world = World::new().await;
    world.api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "counted"}})).await;
    let mut waits = claim("waits", json!({"storageClassName": "of-nobody"}));
    waits["metadata"]["namespace"] = "counted".into();
    world.api.create(waits).await;
    let told = || {
        let page = render(&COLLECTORS);
        let samples = Samples::parse(std::str::from_utf8(&page).expect("text")).expect("parses");
        let labels = [("namespace", "counted"), ("storage_class", "of-nobody"), ("volume_attributes_class", "")];
        samples.value("pv_collector_unbound_pvc_count", &labels)
    };
    eventually("it counts", || told() == Some(1.0)).await;
}

#[actix::test]
async fn a_claim_of_the_default_class_gets_a_volume_on_its_pods_node_and_the_node_takes_it_away() {
    let world = World::new().await;
    world.node("n1", 4).await;
    world.play_kubelets();
    world.api.create(claim("data", json!({}))).await;
    let waits = ("WaitForFirstConsumer".to_owned(), "waiting for first consumer to be created before binding".to_owned());
    eventually_async("it waits for a pod", async || world.events("default", "data").await.contains(&waits)).await;
    world.api.create(pod("p", uses("data"))).await;
    eventually_async("the pod runs", async || world.runs("p").await).await;
    let claim = world.claim("data").await.expect("there");
    assert_eq!((claim.str(&["spec", "storageClassName"]), claim.str(&["status", "phase"])), ("troupe-local", "Bound"));
    assert_eq!(claim.annotation("volume.kubernetes.io/selected-node"), Some("n1"));
    let name = claim.str(&["spec", "volumeName"]).to_owned();
    let volume = world.api.get("persistentvolumes", "", &name).await.expect("was made");
    assert_eq!((volume.str(&["spec", "local", "path"]), volume.str(&["status", "phase"])), (format!("/volumes/{name}").as_str(), "Bound"));
    assert_eq!(volume.annotation("pv.kubernetes.io/provisioned-by"), Some(PROVISIONER));
    world.api.delete("persistentvolumeclaims", "default", "data", DeleteOptions::default()).await.expect("deleted");
    world.settles().await;
    assert!(world.is_bound("data").await, "a pod uses it");
    world.api.delete("pods", "default", "p", DeleteOptions::default()).await.expect("deleted");
    eventually_async("the claim is gone", async || world.claim("data").await.is_none()).await;
    eventually_async("the volume is released", async || world.phase_of_volume(&name).await == "Released").await;
    // The node's side, on a directory of the test's own.
    let place = tempfile::tempdir().expect("a directory");
    let directory = place.path().join("volumes");
    std::fs::create_dir_all(directory.join(&name).join("deep")).expect("makes");
    let foreign = std::fs::create_dir_all(directory.join("pvc-foreign"));
    foreign.expect("makes");
    LocalVolumes::start(&world.caches, world.client(), "n1", directory.clone());
    world.settles().await;
    assert_eq!(world.phase_of_volume(&name).await, "Released", "its path is not where this node keeps volumes");
    assert!(directory.join(&name).exists());
}

#[actix::test]
async fn a_node_removes_the_directory_and_then_the_volume() {
    let world = World::new().await;
    let place = tempfile::tempdir().expect("a directory");
    let directory = place.path().join("volumes");
    let node = json!({"metadata": {"annotations": {"local-path.troupe.dev/directory": directory.display().to_string()}}});
    world.node("n1", 4).await;
    world.api.patch(world.api.target("nodes", "", "n1"), PatchType::Merge, node).await.expect("patched");
    world.play_kubelets();
    world.api.create(claim("data", json!({}))).await;
    world.api.create(pod("p", uses("data"))).await;
    eventually_async("the pod runs", async || world.runs("p").await).await;
    let name = world.claim("data").await.expect("there").str(&["spec", "volumeName"]).to_owned();
    std::fs::create_dir_all(directory.join(&name).join("deep")).expect("makes");
    std::fs::create_dir_all(directory.join("pvc-other")).expect("makes");
    LocalVolumes::start(&world.caches, world.client(), "n1", directory.clone());
    world.settles().await;
    assert!(directory.join(&name).join("deep").exists(), "it is used");
    world.api.delete("pods", "default", "p", DeleteOptions::default()).await.expect("deleted");
    world.api.delete("persistentvolumeclaims", "default", "data", DeleteOptions::default()).await.expect("deleted");
    eventually_async("the volume is gone", async || world.phase_of_volume(&name).await.is_empty()).await;
    assert!(!directory.join(&name).exists(), "the directory goes first");
    assert!(directory.join("pvc-other").exists());
}

#[actix::test]
async fn a_released_volume_of_a_node_that_is_gone_goes_without_it() {
    let world = World::new().await;
    world.node("n1", 4).await;
    world.play_kubelets();
    world.api.create(claim("data", json!({}))).await;
    world.api.create(pod("p", uses("data"))).await;
    eventually_async("the pod runs", async || world.runs("p").await).await;
    let name = world.claim("data").await.expect("there").str(&["spec", "volumeName"]).to_owned();
    world.api.delete("pods", "default", "p", DeleteOptions::default()).await.expect("deleted");
    world.api.delete("persistentvolumeclaims", "default", "data", DeleteOptions::default()).await.expect("deleted");
    eventually_async("the volume is released", async || world.phase_of_volume(&name).await == "Released").await;
    world.api.delete("nodes", "", "n1", DeleteOptions::default()).await.expect("deleted");
    eventually_async("the volume is gone", async || world.phase_of_volume(&name).await.is_empty()).await;
}

#[actix::test]
async fn a_pod_waits_for_a_claim_that_nobody_has_a_volume_for() {
    let world = World::new().await;
    world.node("n1", 4).await;
    world.play_kubelets();
    world.api.create(pod("p", uses("data"))).await;
    let told = async |world: &World, part: &str| {
        let events = world.events("default", "p").await;
        events.iter().any(|(reason, message)| reason == "FailedScheduling" && message.contains(part))
    };
    eventually_async("the missing claim is named", async || told(&world, "persistentvolumeclaim \"data\" not found").await).await;
    world.api.create(claim("data", json!({"storageClassName": ""}))).await;
    eventually_async("it waits", async || told(&world, "pod has unbound immediate PersistentVolumeClaims").await).await;
    world.api.create(volume("small", "1Mi")).await;
    world.api.create(volume("fits", "2Gi")).await;
    eventually_async("the pod runs", async || world.runs("p").await).await;
    let claim = world.claim("data").await.expect("there");
    assert_eq!((claim.str(&["spec", "volumeName"]), claim.str(&["status", "capacity", "storage"])), ("fits", "2Gi"));
    assert_eq!(world.phase_of_volume("small").await, "Available");
}

#[actix::test]
async fn of_many_claims_each_has_a_volume_of_its_own() {
    let world = World::new().await;
    for at in 0..12 {
        world.api.create(claim(&format!("c{at}"), json!({"storageClassName": ""}))).await;
        if at < 8 {
            world.api.create(volume(&format!("v{at}"), "1Gi")).await;
        }
    }
    let bound = async || {
        let mut volumes = Vec::new();
        for at in 0..12 {
            let claim = world.claim(&format!("c{at}")).await.expect("there");
            volumes.extend(Some(claim.str(&["spec", "volumeName"]).to_owned()).filter(|name| !name.is_empty()));
        }
        volumes
    };
    eventually_async("all volumes are bound", async || bound().await.len() == 8).await;
    world.settles().await;
    let volumes = bound().await;
    assert_eq!(volumes.iter().collect::<BTreeSet<_>>().len(), 8, "{volumes:?}");
    for at in 0..8 {
        assert_eq!(world.phase_of_volume(&format!("v{at}")).await, "Bound");
    }
}

#[actix::test]
async fn a_generic_ephemeral_volume_comes_and_goes_with_its_pod() {
    let world = World::new().await;
    world.node("n1", 4).await;
    world.play_kubelets();
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let scratch = json!({"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": spec}}});
    world.api.create(pod("p", scratch.clone())).await;
    eventually_async("the pod runs", async || world.runs("p").await).await;
    let owner = world.claim("p-scratch").await.expect("was made").list(&["metadata", "ownerReferences"])[0].clone();
    assert_eq!((owner["kind"].as_str(), owner["name"].as_str(), owner["controller"].as_bool()), (Some("Pod"), Some("p"), Some(true)));
    world.api.delete("pods", "default", "p", DeleteOptions::default()).await.expect("deleted");
    eventually_async("the claim goes", async || world.claim("p-scratch").await.is_none()).await;
    world.api.create(claim("q-scratch", json!({"storageClassName": ""}))).await;
    world.api.create(pod("q", scratch)).await;
    let conflict = "ephemeral volume scratch: PVC default/q-scratch was not created for pod default/q (pod is not owner)".to_owned();
    let told = ("FailedBinding".to_owned(), conflict);
    eventually_async("the conflict is told", async || world.events("default", "q").await.contains(&told)).await;
    world.api.delete("persistentvolumeclaims", "default", "q-scratch", DeleteOptions::default()).await.expect("deleted");
    eventually_async("the pod runs after all", async || world.runs("q").await).await;
}

#[actix::test]
async fn a_claim_without_a_class_gets_the_default_one_when_there_is_one() {
    let world = World::new().await;
    world.api.delete("storageclasses.storage.k8s.io", "", "troupe-local", DeleteOptions::default()).await.expect("deleted");
    // Who has not heard of the deletion names the class still, at admission and later.
    let classes = world.caches.cache::<StorageClass>();
    eventually("the class is forgotten", || classes.get(&ObjectKey::cluster("troupe-local")).is_none()).await;
    world.api.create(claim("data", json!({}))).await;
    world.settles().await;
    assert_eq!(world.claim("data").await.expect("there").get(&["spec", "storageClassName"]), None);
    world.api.create(crate::controllers::local_path::objects::storage_class().into_value()).await;
    let named = async || world.claim("data").await.is_some_and(|claim| claim.str(&["spec", "storageClassName"]) == "troupe-local");
    eventually_async("it has the default class", named).await;
}

/// A class whose volumes people make, bound when a pod comes.
async fn late_class(world: &World) {
    let (provisioner, mode) = ("kubernetes.io/no-provisioner", "WaitForFirstConsumer");
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "late"},
        "provisioner": provisioner, "volumeBindingMode": mode});
    world.api.create(class).await;
}

async fn late_volume(world: &World, name: &str, mode: &str) {
    let mut volume = volume(name, "1Gi");
    (volume["spec"]["storageClassName"], volume["spec"]["accessModes"]) = (json!("late"), json!([mode]));
    world.api.create(volume).await;
}

#[actix::test]
async fn pods_that_are_decided_on_at_once_get_volumes_of_their_own() {
    const PODS: usize = 6;
    let world = World::new().await;
    world.play_kubelets();
    late_class(&world).await;
    for number in 0..PODS {
        late_volume(&world, &format!("v{number}"), "ReadWriteOnce").await;
        world.api.create(claim(&format!("c{number}"), json!({"storageClassName": "late"}))).await;
        world.api.create(pod(&format!("p{number}"), uses(&format!("c{number}")))).await;
    }
    world.node("n1", 8).await;
    let mut volumes = BTreeSet::new();
    for number in 0..PODS {
        eventually_async("the pod runs", async || world.runs(&format!("p{number}")).await).await;
        let claim = world.claim(&format!("c{number}")).await.expect("there");
        volumes.insert(claim.str(&["spec", "volumeName"]).to_owned());
        let events = world.events("default", &format!("p{number}")).await;
        assert!(!events.iter().any(|(_, message)| message.contains("PreBind")), "nobody took what another one had chosen: {events:?}");
    }
    assert_eq!(volumes.len(), PODS);
}

#[actix::test]
async fn a_claim_for_one_pod_alone_is_not_given_to_two_at_once() {
    let world = World::new().await;
    world.play_kubelets();
    late_class(&world).await;
    late_volume(&world, "v", "ReadWriteOncePod").await;
    world.api.create(claim("c", json!({"storageClassName": "late", "accessModes": ["ReadWriteOncePod"]}))).await;
    for name in ["first", "second"] {
        world.api.create(pod(name, uses("c"))).await;
    }
    world.node("n1", 8).await;
    eventually_async("one of them runs", async || world.runs("first").await || world.runs("second").await).await;
    let (runs, waits) = if world.runs("first").await { ("first", "second") } else { ("second", "first") };
    let in_use = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";
    let told = async || world.events("default", waits).await.iter().any(|(_, message)| message.contains(in_use));
    eventually_async("the other one is told", told).await;
    assert!(!world.runs(waits).await);
    world.api.delete("pods", "default", runs, DeleteOptions::default()).await.expect("deleted");
    eventually_async("then it has its turn", async || world.runs(waits).await).await;
}

#[actix::test]
async fn a_pod_whose_volume_takes_a_while_says_where_it_will_be() {
    let world = World::new().await;
    world.node("n1", 8).await;
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "slow"},
        "provisioner": "example.com/slow", "volumeBindingMode": "WaitForFirstConsumer"});
    world.api.create(class).await;
    world.api.create(claim("c", json!({"storageClassName": "slow"}))).await;
    world.api.create(pod("p", uses("c"))).await;
    let field = async |path: [&str; 2]| world.api.get("pods", "default", "p").await.expect("there").str(&path).to_owned();
    eventually_async("it says so", async || field(["status", "nominatedNodeName"]).await == "n1").await;
    assert_eq!(field(["spec", "nodeName"]).await, "");
    let mut made = volume("v", "1Gi");
    made["spec"]["storageClassName"] = json!("slow");
    made["spec"]["claimRef"] = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "default", "name": "c"});
    world.api.create(made).await;
    eventually_async("it is bound", async || field(["spec", "nodeName"]).await == "n1").await;
    assert_eq!(field(["status", "nominatedNodeName"]).await, "", "it is where it was to be");
}

#[actix::test]
async fn a_host_path_volume_below_tmp_goes_with_its_directory_and_no_link_leads_out() {
    let world = World::new().await;
    let place = tempfile::tempdir_in("/tmp").expect("a directory");
    let (inside, outside) = (place.path().join("inside"), place.path().join("outside"));
    for made in [inside.join("gone/deep"), inside.join("kept"), outside.join("kept")] {
        std::fs::create_dir_all(made).expect("makes");
    }
    std::os::unix::fs::symlink(&outside, inside.join("link")).expect("links");
    for (name, path) in [("plain", inside.join("gone")), ("linked", inside.join("link/kept"))] {
        let mut volume = volume(name, "1Gi");
        volume["spec"]["hostPath"]["path"] = json!(path);
        volume["spec"]["persistentVolumeReclaimPolicy"] = json!("Delete");
        volume["spec"]["claimRef"] = json!({"namespace": "default", "name": name, "uid": "gone"});
        world.api.create(volume).await;
    }
    eventually_async("the volume is gone", async || world.api.get("persistentvolumes", "", "plain").await.is_err()).await;
    assert!(!inside.join("gone").exists() && inside.join("kept").exists());
    eventually_async("the other one failed", async || world.phase_of_volume("linked").await == "Failed").await;
    assert!(outside.join("kept").exists());
}
