//! Claims for devices: from a template through allocation to their end.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;
use troupe_api::{
    features::FeatureGates,
    meta::Object,
    resources::{builtin, optional},
    service::{DeleteOptions, PatchType, Target},
};

use super::{World, eventually_async};
use crate::scheduler::{MakeSetup, Setup};

const FINALIZER: &str = "resource.kubernetes.io/delete-protection";

fn class() -> Value {
    let selector = json!({"cel": {"expression": "device.driver == 'gpu.example.com'"}});
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "gpu"}, "spec": {"selectors": [selector]}})
}

/// What a driver publishes of a node.
fn slice(node: &str, devices: &[&str]) -> Value {
    let device = |name: &&str| json!({"name": name, "attributes": {"model": {"string": "A"}}});
    let pool = json!({"name": node, "generation": 1, "resourceSliceCount": 1});
    let devices: Vec<Value> = devices.iter().map(device).collect();
    let spec = json!({"driver": "gpu.example.com", "nodeName": node, "pool": pool, "devices": devices});
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": format!("{node}-gpu")}, "spec": spec})
}

fn devices() -> Value {
    let tolerations = json!([{"key": "slow", "operator": "Exists", "effect": "NoExecute"}]);
    json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu", "tolerations": tolerations}}]}})
}

fn template() -> Value {
    let metadata = json!({"name": "one-gpu", "namespace": "default"});
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": metadata, "spec": {"spec": devices()}})
}

fn claim(name: &str) -> Value {
    let metadata = json!({"name": name, "namespace": "default"});
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": metadata, "spec": devices()})
}

fn pod(name: &str, claim: Value) -> Value {
    let mut asked = claim;
    asked["name"] = json!("gpu");
    let container = json!({"name": "c", "image": "a:1", "resources": {"claims": [{"name": "gpu"}]}});
    let spec = json!({"containers": [container], "resourceClaims": [asked]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

fn of_template() -> Value {
    json!({"resourceClaimTemplateName": "one-gpu"})
}

fn of_claim(name: &str) -> Value {
    json!({"resourceClaimName": name})
}

impl World {
    async fn device_claim(&self, name: &str) -> Option<Object> {
        self.api.get("resourceclaims.resource.k8s.io", "default", name).await.ok()
    }

    async fn pod_runs(&self, name: &str) -> bool {
        self.api.get("pods", "default", name).await.is_ok_and(|pod| pod.str(&["status", "phase"]) == "Running")
    }

    async fn why_pending(&self, name: &str) -> String {
        let Ok(pod) = self.api.get("pods", "default", name).await else { return String::new() };
        let conditions = pod.list(&["status", "conditions"]);
        let scheduled = conditions.iter().find(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False");
        scheduled.and_then(|condition| condition["message"].as_str()).unwrap_or_default().to_owned()
    }

    async fn remove_pod(&self, name: &str) {
        self.api.delete("pods", "default", name, DeleteOptions::default()).await.expect("deleted");
    }
}

/// The device that a claim has, and who uses it.
fn state(claim: &Object) -> (String, Vec<String>) {
    let results = claim.list(&["status", "allocation", "devices", "results"]);
    let users = claim.list(&["status", "reservedFor"]).iter().map(|user| user["name"].as_str().unwrap_or_default().to_owned());
    (results.first().and_then(|result| result["device"].as_str()).unwrap_or_default().to_owned(), users.collect())
}

#[actix::test]
async fn a_pod_gets_a_claim_of_its_template_with_a_device_and_gives_both_back() {
    let world = World::new().await;
    world.node("n1", 4).await;
    world.node("n2", 4).await;
    world.play_kubelets();
    world.api.create(class()).await;
    world.api.create(template()).await;
    world.api.create(slice("n2", &["gpu-0"])).await;
    world.api.create(pod("first", of_template())).await;
    eventually_async("the pod runs", async || world.pod_runs("first").await).await;
    let first = world.api.get("pods", "default", "first").await.expect("there");
    assert_eq!(first.str(&["spec", "nodeName"]), "n2", "only there are devices");
    let statuses = first.list(&["status", "resourceClaimStatuses"]);
    let name = statuses[0]["resourceClaimName"].as_str().expect("a name").to_owned();
    assert!(name.starts_with("first-gpu-"), "{name}");
    let made = world.device_claim(&name).await.expect("was made");
    assert_eq!(state(&made), ("gpu-0".into(), vec!["first".into()]));
    assert_eq!(made.list(&["metadata", "finalizers"]), [json!(FINALIZER)]);
    assert!(made.get(&["status", "allocation", "allocationTimestamp"]).is_some());
    let fields = &made.list(&["status", "allocation", "nodeSelector", "nodeSelectorTerms"])[0]["matchFields"][0];
    assert_eq!(fields["values"], json!(["n2"]));

    world.api.create(pod("second", of_template())).await;
    let none_left = "0/2 nodes are available: 2 cannot allocate all claims. still not schedulable, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    eventually_async("the second waits", async || world.why_pending("second").await == none_left).await;
    world.remove_pod("first").await;
    eventually_async("the second runs", async || world.pod_runs("second").await).await;
    eventually_async("the first claim is gone", async || world.device_claim(&name).await.is_none()).await;
}

#[actix::test]
async fn a_pod_that_is_done_gets_no_claim_any_more() {
    let world = World::new().await;
    world.api.create(template()).await;
    world.api.create(pod("a", of_template())).await;
    let claims = async || world.api.names("resourceclaims.resource.k8s.io", "default").await;
    eventually_async("a claim is made", async || claims().await.len() == 1).await;
    let status = world.api.subresource("pods", "default", "a", "status");
    world.api.patch(status, PatchType::Merge, json!({"status": {"phase": "Failed"}})).await.expect("written");
    eventually_async("it is taken away", async || claims().await.is_empty()).await;
    // Nor is one made and taken away for ever.
    world.settles().await;
    assert_eq!(claims().await, Vec::<String>::new());
}

#[actix::test]
async fn a_pod_whose_class_of_devices_is_not_there_says_so() {
    let world = World::new().await;
    world.node("n1", 4).await;
    world.api.create(claim("lost")).await;
    world.api.create(pod("a", of_claim("lost"))).await;
    let why = "0/1 nodes are available: request r: device class gpu does not exist. no new claims to deallocate, preemption: 0/1 nodes are \
               available: 1 Preemption is not helpful for scheduling.";
    eventually_async("it says so", async || world.why_pending("a").await == why).await;
}

#[actix::test]
async fn pods_share_a_claim_and_it_loses_its_device_with_the_last_of_them() {
    let world = World::new().await;
    world.node("n1", 4).await;
    world.play_kubelets();
    world.api.create(class()).await;
    world.api.create(pod("a", of_claim("shared"))).await;
    world.settles().await;
    assert_eq!(world.why_pending("a").await, "", "it waits for its claim before it is tried");
    world.api.create(claim("shared")).await;
    eventually_async("there is no device", async || world.why_pending("a").await.contains("cannot allocate all claims")).await;
    world.api.create(slice("n1", &["gpu-0", "gpu-1"])).await;
    eventually_async("it runs", async || world.pod_runs("a").await).await;
    world.api.create(pod("b", of_claim("shared"))).await;
    eventually_async("another uses it, too", async || world.pod_runs("b").await).await;
    let shared = world.device_claim("shared").await.expect("there");
    assert_eq!(state(&shared), ("gpu-0".into(), vec!["a".into(), "b".into()]));
    world.api.delete("resourceclaims.resource.k8s.io", "default", "shared", DeleteOptions::default()).await.expect("deleted");
    world.remove_pod("a").await;
    eventually_async("one user is left", async || world.device_claim("shared").await.is_some_and(|claim| state(&claim).1 == ["b"])).await;
    world.remove_pod("b").await;
    eventually_async("the claim is gone", async || world.device_claim("shared").await.is_none()).await;
}

#[actix::test]
async fn pods_that_come_at_once_never_get_one_device() {
    let world = World::new().await;
    world.node("n1", 4).await;
    world.node("n2", 4).await;
    world.play_kubelets();
    world.api.create(class()).await;
    world.api.create(template()).await;
    world.api.create(slice("n1", &["gpu-0", "gpu-1", "gpu-2"])).await;
    world.api.create(slice("n2", &["gpu-0", "gpu-1", "gpu-2"])).await;
    for at in 0..8 {
        world.api.create(pod(&format!("p{at}"), of_template())).await;
    }
    let running = async || {
        let mut count = 0;
        for at in 0..8 {
            count += usize::from(world.pod_runs(&format!("p{at}")).await);
        }
        count
    };
    eventually_async("six of eight run", async || running().await == 6).await;
    world.settles().await;
    assert_eq!(running().await, 6);
    let claims = world.api.list("resourceclaims.resource.k8s.io", "default", troupe_api::service::ListOptions::default()).await.expect("listed");
    let taken = claims.items.iter().filter_map(|item| {
        let claim = item.to_object();
        let result = claim.list(&["status", "allocation", "devices", "results"]).first().cloned()?;
        Some(format!("{}/{}", result["pool"], result["device"]))
    });
    let mut taken: Vec<String> = taken.collect();
    taken.sort();
    let all = taken.len();
    taken.dedup();
    assert_eq!((all, taken.len()), (6, 6));
}

#[actix::test]
async fn an_idle_claim_is_allocated_anew_where_its_pod_can_run() {
    let world = World::new().await;
    world.node("n1", 4).await;
    world.node("n2", 4).await;
    world.play_kubelets();
    world.api.create(class()).await;
    world.api.create(slice("n2", &["gpu-0"])).await;
    world.api.create(claim("idle")).await;
    // As if a pod had been there that is forgotten.
    let result = json!({"request": "r", "driver": "gpu.example.com", "pool": "n1", "device": "gpu-9"});
    let selector = json!({"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]});
    let status = json!({"status": {"allocation": {"devices": {"results": [result]}, "nodeSelector": selector}}});
    let target = world.api.subresource("resourceclaims.resource.k8s.io", "default", "idle", "status");
    world.api.patch(target, PatchType::Merge, status).await.expect("allocated");
    let mut elsewhere = pod("p", of_claim("idle"));
    elsewhere["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "n2"});
    world.api.create(elsewhere).await;
    eventually_async("it runs elsewhere", async || world.pod_runs("p").await).await;
    assert_eq!(state(&world.device_claim("idle").await.expect("there")), ("gpu-0".into(), vec!["p".into()]));
}

#[actix::test]
async fn pods_leave_devices_that_are_tainted() {
    let world = World::new().await;
    world.node("n1", 4).await;
    world.play_kubelets();
    world.api.create(class()).await;
    world.api.create(template()).await;
    world.api.create(slice("n1", &["gpu-0"])).await;
    world.api.create(pod("p", of_template())).await;
    eventually_async("the pod runs", async || world.pod_runs("p").await).await;
    let tainted = |key: &str| json!({"spec": {"devices": [{"name": "gpu-0", "taints": [{"key": key, "effect": "NoExecute"}]}]}});
    let target = || world.api.target("resourceslices.resource.k8s.io", "", "n1-gpu");
    world.api.patch(target(), PatchType::Merge, tainted("slow")).await.expect("tainted");
    world.settles().await;
    assert!(world.pod_runs("p").await, "the claim tolerates that");
    world.api.patch(target(), PatchType::Merge, tainted("broken")).await.expect("tainted");
    let told = ("DeviceTaintManagerEviction".to_owned(), "Marking for deletion".to_owned());
    eventually_async("it is told", async || world.events("default", "p").await.contains(&told)).await;
    eventually_async("the pod is gone", async || world.api.get("pods", "default", "p").await.is_err()).await;
}

/// A control plane where rules taint devices.
async fn world_with_rules() -> World {
    let features = FeatureGates::parse(&["DRADeviceTaintRules=true".into()]).expect("there is such a feature");
    let resources = builtin().into_iter().chain(optional(|feature| features.is_on(feature))).collect();
    let make: MakeSetup = Arc::new(|parts| Setup::standard(&parts.with_taint_rules()));
    World::serving(resources, features, make).await
}

#[actix::test]
async fn rules_keep_pods_from_devices_and_drive_them_away() {
    const RULES: &str = "devicetaintrules.resource.k8s.io";
    let world = world_with_rules().await;
    world.node("n1", 4).await;
    world.play_kubelets();
    world.api.create(class()).await;
    world.api.create(template()).await;
    world.api.create(slice("n1", &["gpu-0", "gpu-1"])).await;
    let spec = json!({"deviceSelector": {"driver": "gpu.example.com"}, "taint": {"key": "broken", "effect": "NoSchedule"}});
    world.api.create(json!({"apiVersion": "resource.k8s.io/v1beta2", "kind": "DeviceTaintRule", "metadata": {"name": "r"}, "spec": spec})).await;
    let reason = async || {
        let rule = world.api.get(RULES, "", "r").await.expect("there");
        let condition = rule.list(&["status", "conditions"]).first().cloned().unwrap_or_default();
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        (text("reason"), text("message"), condition["observedGeneration"].as_i64().unwrap_or(0))
    };
    eventually_async("it says that nobody leaves", async || reason().await.0 == "OtherEffect").await;
    world.api.create(pod("p", of_template())).await;
    eventually_async("the pod waits", async || world.why_pending("p").await.contains("cannot allocate all claims")).await;
    // Both versions are one thing.
    let set = async |version: &str, effect: &str| {
        let target = Target { version: version.into(), ..world.api.target(RULES, "", "r") };
        let patch = json!({"spec": {"taint": {"effect": effect}}});
        world.api.patch(target, PatchType::Merge, patch).await.expect("another effect");
    };
    set("v1alpha3", "None").await;
    eventually_async("the pod runs", async || world.pod_runs("p").await).await;
    let pretended = "2 published devices selected.";
    eventually_async("it says whom it means", async || reason().await.1.starts_with(pretended)).await;
    set("v1beta2", "NoExecute").await;
    eventually_async("the pod is gone", async || world.api.get("pods", "default", "p").await.is_err()).await;
    let of_effect = ["PodsPendingEviction", "NotStarted", "Completed"];
    eventually_async("it says what comes of it", async || {
        let (reason, _, generation) = reason().await;
        generation == 3 && of_effect.contains(&reason.as_str())
    })
    .await;
    let told = ("DeviceTaintManagerEviction".to_owned(), "Marking for deletion".to_owned());
    eventually_async("it is told", async || world.events("default", "p").await.contains(&told)).await;
}

#[actix::test]
async fn expressions_that_select_devices_are_judged_when_they_are_written() {
    let world = World::new().await;
    let mut odd = class();
    odd["spec"]["selectors"] = json!([{"cel": {"expression": "device.nothing == 1"}}]);
    let refused = world.api.try_create(odd).await.expect_err("it is wrong");
    assert!(refused.message.contains("spec.selectors[0].cel.expression: Invalid value: \"device.nothing == 1\": compilation failed: "), "{refused}");
    assert!(refused.message.contains("undefined field 'nothing'"), "{refused}");
}

#[actix::test]
async fn a_selector_that_fails_on_one_node_fails_the_attempt_whatever_another_node_has() {
    let world = World::new().await;
    world.node("n1", 4).await;
    world.node("n2", 4).await;
    world.play_kubelets();
    world.api.create(class()).await;
    world.api.create(slice("n1", &["gpu-0"])).await;
    let mut plain = slice("n2", &["gpu-0"]);
    plain["spec"]["devices"] = json!([{"name": "gpu-0"}]);
    world.api.create(plain).await;
    let mut picky = claim("picky");
    let selectors = json!([{"cel": {"expression": "device.attributes['gpu.example.com'].model == 'A'"}}]);
    picky["spec"]["devices"]["requests"][0]["exactly"]["selectors"] = selectors;
    world.api.create(picky).await;
    world.api.create(pod("p", of_claim("picky"))).await;
    let why = "running \"DynamicResources\" filter plugin: claim default/picky: selector #0: CEL runtime error: no such key: model";
    eventually_async("it says so", async || world.why_pending("p").await == why).await;
    let told = ("FailedScheduling".to_owned(), why.to_owned());
    eventually_async("and in an event", async || world.events("default", "p").await.contains(&told)).await;
    let devices = slice("n2", &["gpu-0"])["spec"]["devices"].clone();
    let target = world.api.target("resourceslices.resource.k8s.io", "", "n2-gpu");
    world.api.patch(target, PatchType::Merge, json!({"spec": {"devices": devices}})).await.expect("published");
    eventually_async("it runs once all can be judged", async || world.pod_runs("p").await).await;
}

#[actix::test]
async fn a_pod_whose_claims_are_too_large_together_is_told_so() {
    let world = World::new().await;
    world.node("n1", 4).await;
    world.api.create(class()).await;
    let parameters = json!({"opaque": {"driver": "gpu.example.com", "parameters": {"text": "x".repeat(10_000)}}});
    let names: Vec<String> = (0..14).map(|at| format!("large-{at}")).collect();
    for name in &names {
        let mut large = claim(name);
        large["spec"]["devices"]["config"] = vec![parameters.clone(); 32].into();
        world.api.create(large).await;
    }
    let mut large = pod("large", of_claim("large-0"));
    let asked = |name: &String| json!({"name": name, "resourceClaimName": name});
    large["spec"]["resourceClaims"] = names.iter().map(asked).collect();
    large["spec"]["containers"][0]["resources"] = json!({});
    world.api.create(large).await;
    let why = "the pod's resource claims are too large together, limit is 4194304 bytes";
    eventually_async("it says so", async || world.why_pending("large").await.contains(why)).await;
    world.api.create(pod("small", of_claim("large-0"))).await;
    eventually_async("one alone is not", async || world.why_pending("small").await.contains("cannot allocate all claims")).await;
}

#[actix::test]
async fn extended_resources_are_devices_where_no_plugin_offers_them() {
    let world = World::new().await;
    world.node("n1", 4).await;
    world.node("n2", 4).await;
    world.play_kubelets();
    let mut class = class();
    class["spec"]["extendedResourceName"] = json!("example.com/gpu");
    world.api.create(class).await;
    world.api.create(slice("n2", &["gpu-0", "gpu-1"])).await;
    let asking = |name: &str, gpus: &str| {
        let resources = json!({"requests": {"example.com/gpu": gpus}, "limits": {"example.com/gpu": gpus}});
        let spec = json!({"containers": [{"name": "c", "image": "a:1", "resources": resources}]});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec})
    };
    world.api.create(asking("p", "2")).await;
    eventually_async("the pod runs", async || world.pod_runs("p").await).await;
    let pod = world.api.get("pods", "default", "p").await.expect("there");
    assert_eq!(pod.str(&["spec", "nodeName"]), "n2");
    let name = pod.str(&["status", "extendedResourceClaimStatus", "resourceClaimName"]).to_owned();
    assert!(name.starts_with("p-extended-resources-"), "{name}");
    let mappings = pod.list(&["status", "extendedResourceClaimStatus", "requestMappings"]);
    assert_eq!(mappings, [json!({"containerName": "c", "resourceName": "example.com/gpu", "requestName": "container-0-request-0"})]);
    let claim = world.device_claim(&name).await.expect("was made");
    assert_eq!((claim.list(&["status", "allocation", "devices", "results"]).len(), state(&claim).1), (2, vec!["p".to_owned()]));
    world.api.create(asking("q", "1")).await;
    eventually_async("another waits", async || world.why_pending("q").await.contains("2 cannot allocate all claims")).await;
    world.remove_pod("p").await;
    eventually_async("it runs", async || world.pod_runs("q").await).await;
    eventually_async("the claim is gone", async || world.device_claim(&name).await.is_none()).await;
}

/// Many devices of a node, that differ.
fn many_devices(node: &str) -> Value {
    let mut slice = slice(node, &[]);
    let device = |at: i64| json!({"name": format!("gpu-{at}"), "attributes": {"a": {"int": at % 5}, "b": {"int": at * 7 % 11}}});
    slice["spec"]["devices"] = (0..100).map(device).collect();
    slice
}

/// A claim for which a search takes long: its expression does for each device, or the devices that it wants together do not exist.
fn slow_claim(name: &str, requests: usize, expression: &str) -> Value {
    let mut claim = claim(name);
    let selectors = json!([{"cel": {"expression": expression}}]);
    let request = |at: usize| json!({"name": format!("r{at}"), "exactly": {"deviceClassName": "gpu", "selectors": selectors}});
    let constraints = json!([{"matchAttribute": "gpu.example.com/a"}, {"matchAttribute": "gpu.example.com/b"}]);
    claim["spec"]["devices"] = json!({"requests": (0..requests).map(request).collect::<Vec<_>>(), "constraints": constraints});
    claim
}

#[actix::test]
async fn pods_without_claims_do_not_wait_for_searches_of_others() {
    let world = World::new().await;
    world.api.create(class()).await;
    for at in 0..8 {
        let node = format!("n{at}");
        world.node(&node, 64).await;
        world.api.create(many_devices(&node)).await;
    }
    let victim = async |name: &str| {
        let begun = Instant::now();
        let container = json!({"name": "c", "image": "a:1"});
        let metadata = json!({"name": name, "namespace": "default"});
        world.api.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}})).await;
        let has_node = async || world.api.get("pods", "default", name).await.is_ok_and(|pod| !pod.str(&["spec", "nodeName"]).is_empty());
        eventually_async("the other pod has a node", has_node).await;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "{name} waited {took:?}");
    };
    let numbers = format!("[{}]", (0..20).map(|number| number.to_string()).collect::<Vec<_>>().join(","));
    let nested = format!("{numbers}.all(a, {numbers}.all(b, {numbers}.all(c, a + b + c >= 0))) && device.driver == 'another'");
    world.api.create(slow_claim("nested", 1, &nested)).await;
    world.api.create(pod("nested", of_claim("nested"))).await;
    for name in ["v0", "v1", "v2"] {
        victim(name).await;
    }
    assert!(!world.pod_runs("nested").await);
    for at in 0..20 {
        let name = format!("together-{at}");
        world.api.create(slow_claim(&name, 32, "true")).await;
        world.api.create(pod(&name, of_claim(&name))).await;
    }
    for name in ["v3", "v4", "v5"] {
        victim(name).await;
    }
    // What is gone keeps nobody waiting.
    world.remove_pod("nested").await;
    victim("v6").await;
}
