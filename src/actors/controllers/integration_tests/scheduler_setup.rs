//! Schedulers that are set up otherwise than by default: profiles, plugins that make pods wait, extenders.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use troupe_api::{
    meta::ObjectKey,
    service::{DeleteOptions, ListOptions},
};
use troupe_api_client::Client;

use super::{World, eventually, eventually_async};
use crate::scheduler::{
    MakeSetup, Setup,
    configuration::Configuration,
    extender::{ExtenderSettings, Extenders, testing::serve},
    features::Features,
    framework::{Permit, Plugin, Point, Profile, WaitingPods, Writing},
    plugins::registry,
    pod_info::PodInfo,
};

fn pod(name: &str, scheduler: &str, spec: Value) -> Value {
    let requests = json!({"cpu": "1"});
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"schedulerName": scheduler, "containers": [{"name": "c", "image": "a:1", "resources": {"requests": requests}}]}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    pod
}

async fn node_of(world: &World, name: &str) -> String {
    world.api.get("pods", "default", name).await.map(|pod| pod.str(&["spec", "nodeName"]).to_owned()).unwrap_or_default()
}

async fn nominated_node_of(world: &World, name: &str) -> String {
    world.api.get("pods", "default", name).await.expect("there").str(&["status", "nominatedNodeName"]).to_owned()
}

async fn is_bound(world: &World, name: &str, node: &str) {
    eventually_async("the pod is bound", async || node_of(world, name).await == node).await;
}

/// The condition PodScheduled: reason and message.
async fn condition(world: &World, name: &str) -> (String, String) {
    let pod = world.api.get("pods", "default", name).await.expect("there").into_value();
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.into_iter().find(|condition| condition["type"] == "PodScheduled").unwrap_or_default();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

fn configured(text: &str) -> MakeSetup {
    let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
    let configuration = Configuration::parse(&format!("{head}{text}"), Features::default()).expect("usable");
    Arc::new(move |parts| configuration.setup(parts))
}

#[actix::test]
async fn each_profile_serves_the_pods_that_name_it_and_tells_so() {
    let world = World::scheduled_as(configured(
        "profiles:
- schedulerName: default-scheduler
- schedulerName: packs
  plugins: {score: {disabled: [{name: '*'}], enabled: [{name: NodeResourcesFit}]}}
  pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: MostAllocated, resources: [{name: cpu}]}}}]
",
    ))
    .await;
    world.node("large", 8).await;
    world.node("small", 4).await;
    for (name, scheduler, node) in [("a", "packs", "small"), ("b", "packs", "small"), ("c", "default-scheduler", "large")] {
        world.api.create(pod(name, scheduler, json!({}))).await;
        is_bound(&world, name, node).await;
        let told = async || {
            let list = world.api.list("events", "default", ListOptions::default()).await.expect("listed");
            let events = list.items.iter().map(|item| item.to_object());
            let mut about = events.filter(|event| event.str(&["involvedObject", "name"]) == name && event.str(&["reason"]) == "Scheduled");
            about.next().is_some_and(|event| event.str(&["reportingComponent"]) == scheduler)
        };
        eventually_async("the profile's own event is there", told).await;
    }
    world.api.create(pod("foreign", "somebody-else", json!({}))).await;
    world.settles().await;
    assert_eq!((node_of(&world, "foreign").await, condition(&world, "foreign").await), (String::new(), Default::default()));
}

/// What the scheduler says about a pod, as findings by plugin, and the nodes that nothing is against.
async fn explained(world: &World, name: &str) -> Option<Value> {
    world.system.directory().ask("scheduler", &format!("default/{name}"), Duration::from_secs(10)).await
}

#[actix::test]
async fn a_pod_is_explained_by_its_own_profile_and_its_claims() {
    let world = World::scheduled_as(configured(
        "profiles:
- schedulerName: default-scheduler
- schedulerName: picky
  pluginConfig:
  - name: NodeAffinity
    args: {addedAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: disk, operator: Exists}]}]}}}
",
    ))
    .await;
    world.node("one", 4).await;
    world.node("two", 4).await;
    world.api.create(pod("picked", "picky", json!({}))).await;
    eventually_async("it is told why", async || condition(&world, "picked").await.0 == "Unschedulable").await;
    let told = explained(&world, "picked").await.expect("it waits for a node");
    assert_eq!((&told["findings"][0]["plugin"], &told["findings"][0]["nodes"]), (&json!("NodeAffinity"), &json!(["one", "two"])), "{told}");
    assert_eq!(told["feasible"], json!([]));

    let reached = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["three"]}]}]}});
    let volume = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "", "local": {"path": "/v"},
        "claimRef": {"namespace": "default", "name": "data"}, "nodeAffinity": reached});
    world.api.create(json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"}, "spec": volume})).await;
    let claim = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}});
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "default"}, "spec": claim});
    world.api.create(claim).await;
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
    world.api.create(pod("far", "default-scheduler", json!({"volumes": volumes}))).await;
    let conflict = "node(s) didn't match PersistentVolume's node affinity";
    eventually_async("it is told why", async || condition(&world, "far").await.1.contains(conflict)).await;
    let told = explained(&world, "far").await.expect("it waits for a node");
    assert_eq!((&told["findings"][0]["plugin"], &told["findings"][0]["reason"]), (&json!("VolumeBinding"), &json!(conflict)), "{told}");
    assert_eq!((&told["findings"][0]["nodes"], &told["preemption"]), (&json!(["one", "two"]), &json!("helpless")), "{told}");

    world.api.create(pod("foreign", "somebody-else", json!({}))).await;
    world.settles().await;
    assert_eq!((explained(&world, "foreign").await, explained(&world, "absent").await), (None, None));
}

/// Makes pods wait that ask for it by a label of theirs.
struct Patient {
    rejects: bool,
}

impl Plugin for Patient {
    fn name(&self) -> &'static str {
        "Patient"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Permit, Point::PreBind]
    }

    /// What has to be ready for some never is.
    fn pre_bind(&self, pod: &Arc<Pod>, _node: &Arc<Node>, _client: &Client) -> Option<Writing> {
        let labels = pod.metadata.labels.as_ref()?;
        if labels.get("ready").is_some_and(|ready| ready == "never") { Some(Box::pin(std::future::pending())) } else { None }
    }

    fn permit(&self, pod: &PodInfo, _node: &str) -> Permit {
        match pod.placed.labels.get("wait").map(String::as_str) {
            Some("not") | None => Permit::Allow,
            Some(_) if self.rejects => Permit::Reject("not today".into()),
            Some(_) => Permit::Wait(Duration::from_secs(60)),
        }
    }
}

/// A scheduler with that plugin, and where pods wait for it once it has been started.
fn patient(rejects: bool) -> (MakeSetup, Arc<Mutex<Option<Arc<WaitingPods>>>>) {
    let waiting = Arc::new(Mutex::new(None));
    let shared = waiting.clone();
    let make: MakeSetup = Arc::new(move |parts| {
        *shared.lock().expect("nobody panics") = Some(parts.waiting.clone());
        let made = registry::make(registry::Arguments::default(), parts);
        let mut plugins: Vec<(Arc<dyn Plugin>, i64)> =
            registry::DEFAULTS.iter().filter_map(|(name, weight)| Some((made.get(name)?.clone(), *weight))).collect();
        plugins.push((Arc::new(Patient { rejects }), 0));
        Setup { profiles: Profile::of(plugins).into(), ..Setup::standard(parts) }
    });
    (make, waiting)
}

fn waits(name: &str, spec: Value) -> Value {
    let mut pod = pod(name, "default-scheduler", spec);
    pod["metadata"]["labels"] = json!({"wait": "yes"});
    pod
}

#[actix::test]
async fn a_pod_that_waits_keeps_its_place_until_it_is_allowed() {
    let (make, waiting) = patient(false);
    let world = World::scheduled_as(make).await;
    world.node("n1", 1).await;
    world.api.create(waits("first", json!({}))).await;
    let pods = || waiting.lock().expect("nobody panics").clone().expect("the scheduler runs");
    eventually("it waits", || pods().list().contains_key("default/first")).await;
    world.api.create(pod("second", "default-scheduler", json!({}))).await;
    eventually_async("the other one finds no room", async || condition(&world, "second").await.1.contains("Insufficient cpu")).await;
    assert_eq!(node_of(&world, "first").await, "");
    eventually_async("it says where it will be", async || nominated_node_of(&world, "first").await == "n1").await;
    pods().allow(&ObjectKey::new("default", "first"), "Patient");
    is_bound(&world, "first", "n1").await;
    assert_eq!(nominated_node_of(&world, "first").await, "");
    assert_eq!(node_of(&world, "second").await, "");
}

#[actix::test]
async fn a_pod_that_is_rejected_or_deleted_while_it_waits_leaves_its_place() {
    let (make, waiting) = patient(false);
    let world = World::scheduled_as(make).await;
    world.node("n1", 1).await;
    let pods = || waiting.lock().expect("nobody panics").clone().expect("the scheduler runs");
    world.api.create(waits("first", json!({}))).await;
    eventually("it waits", || pods().list().contains_key("default/first")).await;
    assert!(pods().reject(&ObjectKey::new("default", "first"), "Patient", "go away"));
    eventually_async("it is told", async || condition(&world, "first").await.1 == "0/1 nodes are available: 1 go away.").await;
    assert_eq!(nominated_node_of(&world, "first").await, "");
    world.api.create(waits("second", json!({}))).await;
    eventually("another one has the place", || pods().list().contains_key("default/second")).await;
    world
        .api
        .delete("pods", "default", "second", DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() })
        .await
        .expect("deleted");
    eventually("nobody waits", || pods().list().is_empty()).await;
    world.api.create(pod("third", "default-scheduler", json!({}))).await;
    is_bound(&world, "third", "n1").await;
}

#[actix::test]
async fn a_pod_that_waits_to_be_bound_makes_room_for_a_more_important_one_and_stays() {
    let (make, waiting) = patient(false);
    let world = World::scheduled_as(make).await;
    world.node("n1", 1).await;
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "important"}, "value": 10});
    world.api.create(class).await;
    let pods = || waiting.lock().expect("nobody panics").clone().expect("the scheduler runs");
    for (name, label, value) in [("permitted", "wait", "yes"), ("ready", "ready", "never")] {
        let mut first = pod(name, "default-scheduler", json!({}));
        first["metadata"]["labels"] = json!({label: value});
        world.api.create(first).await;
        eventually_async("it has a place and waits", async || nominated_node_of(&world, name).await == "n1").await;
        assert_eq!(pods().list().len(), usize::from(label == "wait"));
        let second = format!("important-{name}");
        world.api.create(pod(&second, "default-scheduler", json!({"priorityClassName": "important"}))).await;
        is_bound(&world, &second, "n1").await;
        let first = world.api.get("pods", "default", name).await.expect("it is still there");
        assert!(!first.is_terminating() && first.str(&["spec", "nodeName"]).is_empty());
        let uid = world.api.get("pods", "default", &second).await.expect("there").uid().to_owned();
        let told = ("Preempted".to_owned(), format!("Preempted by pod {uid} on node n1 (in kube-scheduler memory)."));
        eventually_async("it is told", async || world.events("default", name).await.contains(&told)).await;
        for gone in [name, second.as_str()] {
            let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
            world.api.delete("pods", "default", gone, now).await.expect("deleted");
        }
    }
}

#[actix::test]
async fn a_plugin_may_reject_a_pod_that_has_a_node() {
    let (make, _) = patient(true);
    let world = World::scheduled_as(make).await;
    world.node("n1", 1).await;
    world.api.create(waits("first", json!({}))).await;
    let told = ("Unschedulable".to_owned(), "0/1 nodes are available: 1 not today.".to_owned());
    eventually_async("it is told", async || condition(&world, "first").await == told).await;
    world.api.create(pod("second", "default-scheduler", json!({}))).await;
    is_bound(&world, "second", "n1").await;
}

fn extended(url: &str, more: &Value) -> MakeSetup {
    let mut extender = json!({"urlPrefix": url, "filterVerb": "filter", "nodeCacheCapable": true});
    for (key, value) in more.as_object().into_iter().flatten() {
        extender[key] = value.clone();
    }
    let settings = ExtenderSettings::read(&extender).expect("usable");
    Arc::new(move |parts| Setup { extenders: Extenders::new([settings.clone()]), ..Setup::standard(parts) })
}

#[actix::test]
async fn an_extender_says_where_pods_go_and_whom_it_lets_in() {
    let url = serve(|verb, args| {
        let name = args["Pod"]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        match verb {
            "filter" if name == "broken" => (500, json!({})),
            "filter" if name == "refused" => {
                (200, json!({"NodeNames": [], "FailedNodes": {"n1": "no licence", "n2": "no licence", "n3": "no licence"}}))
            }
            // It must not name a node that it was not asked about, such as one that is full by then.
            "filter" => {
                let licensed: Vec<&Value> = args["NodeNames"].as_array().into_iter().flatten().filter(|node| *node != "n1").collect();
                (200, json!({"NodeNames": licensed, "FailedNodes": {"n1": "no licence"}}))
            }
            _ => (200, json!([{"Host": "n3", "Score": 10}, {"Host": "n2", "Score": 0}])),
        }
    })
    .await;
    let world = World::scheduled_as(extended(&url, &json!({"prioritizeVerb": "prioritize", "weight": 10}))).await;
    for name in ["n1", "n2", "n3"] {
        world.node(name, 4).await;
    }
    // Several are asked about at once; none gets what another one has.
    for number in 0..8 {
        world.api.create(pod(&format!("p{number}"), "default-scheduler", json!({}))).await;
    }
    for number in 0..8 {
        eventually_async("the pod is bound", async || !node_of(&world, &format!("p{number}")).await.is_empty()).await;
    }
    let mut nodes = Vec::new();
    for number in 0..8 {
        nodes.push(node_of(&world, &format!("p{number}")).await);
    }
    let on = |node: &str| nodes.iter().filter(|known| *known == node).count();
    assert_eq!((on("n1"), on("n2"), on("n3")), (0, 4, 4), "the liked one is full, and the rest goes to the other: {nodes:?}");
    world.api.create(pod("refused", "default-scheduler", json!({}))).await;
    let told = async || condition(&world, "refused").await.1.starts_with("0/3 nodes are available: ");
    eventually_async("it is told", told).await;
    world.api.create(pod("broken", "default-scheduler", json!({}))).await;
    eventually_async("an error is told as one", async || condition(&world, "broken").await.0 == "SchedulerError").await;
}

#[actix::test]
async fn an_extender_that_fails_is_told_and_one_that_binds_is_left_to_it() {
    let asked = Arc::new(Mutex::new(Vec::<Value>::new()));
    let seen = asked.clone();
    let url = serve(move |verb, args| match verb {
        "bind" => {
            seen.lock().expect("nobody panics").push(args);
            (200, json!({"Error": "the extender has no hands"}))
        }
        "filter" if args["Pod"]["metadata"]["name"] == "broken" => (500, json!({})),
        _ => (200, json!({"NodeNames": args["NodeNames"]})),
    })
    .await;
    let world = World::scheduled_as(extended(&url, &json!({"bindVerb": "bind"}))).await;
    world.node("n1", 4).await;
    world.api.create(pod("broken", "default-scheduler", json!({}))).await;
    let why = format!("failed filter with extender at URL {}/filter, code 500", url.trim_end_matches('/'));
    let told = ("SchedulerError".to_owned(), why.clone());
    eventually_async("it is told", async || condition(&world, "broken").await == told).await;
    eventually_async("and an event", async || world.events("default", "broken").await.contains(&("FailedScheduling".to_owned(), why.clone()))).await;
    world.api.create(pod("p", "default-scheduler", json!({}))).await;
    eventually("it is asked to bind", || !asked.lock().expect("nobody panics").is_empty()).await;
    let args = asked.lock().expect("nobody panics")[0].clone();
    assert_eq!((&args["PodName"], &args["PodNamespace"], &args["Node"]), (&json!("p"), &json!("default"), &json!("n1")));
    assert_eq!(node_of(&world, "p").await, "", "nobody else binds it");
}

#[actix::test]
async fn a_search_for_devices_that_takes_too_long_ends_by_the_clock_and_holds_up_nobody() {
    let world = World::scheduled_as(configured(
        "profiles:
- schedulerName: default-scheduler
  pluginConfig: [{name: DynamicResources, args: {filterTimeout: 300ms}}]
",
    ))
    .await;
    world.node("n1", 4).await;
    world.api.create(json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "gpu"}, "spec": {}})).await;
    let device = |at: usize| json!({"name": format!("gpu-{at}"), "attributes": {"numa": {"int": at}}});
    let (devices, pool) = ((0..24).map(device).collect::<Value>(), json!({"name": "n1", "generation": 1, "resourceSliceCount": 1}));
    let spec = json!({"driver": "gpu.example.com", "nodeName": "n1", "pool": pool, "devices": devices});
    world.api.create(json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "s"}, "spec": spec})).await;
    // There is no way, and very many that come close.
    let request = |name: String, selectors: Value| json!({"name": name, "exactly": {"deviceClassName": "gpu", "selectors": selectors}});
    let never = request("z".into(), json!([{"cel": {"expression": "false"}}]));
    let requests: Value = (0..12).map(|at| request(format!("r{at}"), json!([]))).chain([never]).collect();
    let constraints = json!([{"distinctAttribute": "gpu.example.com/numa"}]);
    let spec = json!({"devices": {"requests": requests, "constraints": constraints}});
    let metadata = json!({"name": "c", "namespace": "default"});
    world.api.create(json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": metadata, "spec": spec})).await;
    let claims = json!({"resourceClaims": [{"name": "c", "resourceClaimName": "c"}]});
    world.api.create(pod("p", "default-scheduler", claims)).await;
    let told = ("SchedulerError".to_owned(), "running \"DynamicResources\" filter plugin: node n1: timed out trying to allocate devices".to_owned());
    eventually_async("the search ends", async || condition(&world, "p").await == told).await;
    world.api.create(pod("q", "default-scheduler", json!({}))).await;
    is_bound(&world, "q", "n1").await;
}
