//! Claims against slices, after the examples of KEP-4381, KEP-4815, KEP-5055, KEP-5075 and upstream's documentation of dynamic resource
//! allocation.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::Node,
    resource::v1::{AllocationResult, DeviceClass, ResourceClaim, ResourceSlice},
};
use serde_json::{Value, from_value, json};
use troupe_api::device_selectors::MOST_COST;

use super::*;

const DRIVER: &str = "gpu.example.com";

#[derive(Default, Clone)]
struct Known {
    taken: BTreeSet<String>,
    shares: BTreeMap<String, Amounts>,
}

impl InUse for Known {
    fn is_taken(&self, device: &DeviceId) -> bool {
        self.taken.contains(&device.device)
    }

    fn shares(&self, device: &DeviceId) -> Option<Amounts> {
        self.shares.get(&device.device).cloned()
    }
}

/// What there is.
#[derive(Default)]
struct Place {
    slices: Slices,
    classes: BTreeMap<String, Arc<DeviceClass>>,
    known: Known,
    programs: Arc<Selectors>,
}

impl Place {
    fn of(slices: Vec<Value>) -> Self {
        let class = |name: &str, spec: Value| {
            let class: DeviceClass = from_value(json!({"metadata": {"name": name}, "spec": spec})).expect("a class");
            (name.to_owned(), Arc::new(class))
        };
        let of_driver = json!({"selectors": [{"cel": {"expression": format!("device.driver == '{DRIVER}'")}}]});
        let configured = json!({"config": [{"opaque": {"driver": DRIVER, "parameters": {"mode": "fast"}}}]});
        let slices = slices.into_iter().map(|slice| from_value::<ResourceSlice>(slice).expect("a slice")).collect();
        Place { slices, classes: [class("gpu", of_driver), class("any", json!({})), class("fast", configured)].into(), ..Place::default() }
    }

    fn taken(mut self, devices: &[&str]) -> Self {
        self.known.taken = devices.iter().map(|device| (*device).to_owned()).collect();
        self
    }

    fn allocate(&self, node: &str, claims: &[Value]) -> Result<Vec<AllocationResult>, Failure> {
        self.allocate_within(node, claims, &Bounds { is_over: &|steps| steps > 100_000, most_cost: MOST_COST, among: None })
    }

    fn allocate_within(&self, node: &str, claims: &[Value], bounds: &Bounds<'_>) -> Result<Vec<AllocationResult>, Failure> {
        let claims: Vec<Arc<ResourceClaim>> = claims.iter().map(|claim| Arc::new(from_value(claim.clone()).expect("a claim"))).collect();
        let labels = json!({"zone": if node == "far" { "b" } else { "a" }});
        let node: Node = from_value(json!({"metadata": {"name": node, "labels": labels}})).expect("a node");
        let class = |name: &str| self.classes.get(name).cloned();
        let allocator = Allocator::new(&claims, &class, &self.programs, self.slices.clone(), Box::new(self.known.clone()));
        allocator.map_err(Failure::Error)?.allocate(&node, bounds, &|claim, result| format!("share-{claim}-{result}"))
    }

    /// `request=device` of each claim.
    fn devices(&self, node: &str, claims: &[Value]) -> Result<Vec<Vec<String>>, Failure> {
        let results = |allocation: &AllocationResult| {
            let results = allocation.devices.as_ref().and_then(|devices| devices.results.as_deref()).unwrap_or_default();
            results.iter().map(|result| format!("{}={}", result.request, result.device)).collect()
        };
        Ok(self.allocate(node, claims)?.iter().map(results).collect())
    }
}

fn slice(name: &str, more: Value) -> Value {
    let mut spec = json!({"driver": DRIVER, "nodeName": "n1", "pool": {"name": "n1", "generation": 1, "resourceSliceCount": 1}});
    for (key, value) in more.as_object().expect("an object") {
        if value.is_null() { spec.as_object_mut().expect("an object").remove(key).map(drop).unwrap_or(()) } else { spec[key] = value.clone() }
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

fn gpu(name: &str, model: &str, numa: i64) -> Value {
    json!({"name": name, "attributes": {"model": {"string": model}, "numa": {"int": numa}}, "capacity": {"memory": {"value": "40Gi"}}})
}

/// Four devices of a node.
fn four() -> Vec<Value> {
    vec![slice("s", json!({"devices": [gpu("gpu-0", "A", 0), gpu("gpu-1", "B", 0), gpu("gpu-2", "A", 1), gpu("gpu-3", "B", 1)]}))]
}

fn exactly(name: &str, more: Value) -> Value {
    let mut exactly = json!({"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1});
    for (key, value) in more.as_object().expect("an object") {
        exactly[key] = value.clone();
    }
    json!({"name": name, "exactly": exactly})
}

fn claim(requests: Vec<Value>) -> Value {
    json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"}, "spec": {"devices": {"requests": requests}}})
}

fn selecting(expression: &str) -> Value {
    json!({"selectors": [{"cel": {"expression": expression}}]})
}

fn error(why: &str) -> Failure {
    Failure::Error(why.to_owned())
}

#[test]
fn the_first_free_device_that_is_selected_is_taken() {
    let place = Place::of(four()).taken(&["gpu-0"]);
    assert_eq!(place.devices("n1", &[claim(vec![exactly("r", json!({}))])]), Ok(vec![vec!["r=gpu-1".into()]]));
    let models = selecting("device.attributes['gpu.example.com'].model == 'A'");
    assert_eq!(place.devices("n1", &[claim(vec![exactly("r", models)])]), Ok(vec![vec!["r=gpu-2".into()]]));
    assert_eq!(place.devices("n2", &[claim(vec![exactly("r", json!({}))])]), Err(Failure::Nothing), "they are another node's");
    let memory = selecting("device.capacity['gpu.example.com'].memory.compareTo(quantity('80Gi')) >= 0");
    assert_eq!(place.devices("n1", &[claim(vec![exactly("r", memory)])]), Err(Failure::Nothing));
}

#[test]
fn claims_and_requests_never_share_a_device() {
    let place = Place::of(four());
    let two = claim(vec![exactly("a", json!({"count": 2})), exactly("b", json!({}))]);
    let one = claim(vec![exactly("r", json!({}))]);
    let devices = place.devices("n1", &[two.clone(), one.clone()]).expect("four are enough");
    assert_eq!(devices, [vec!["a=gpu-0".to_owned(), "a=gpu-1".into(), "b=gpu-2".into()], vec!["r=gpu-3".into()]]);
    assert_eq!(place.devices("n1", &[two, one.clone(), one]), Err(Failure::Nothing), "five are not there");
}

#[test]
fn an_earlier_choice_is_taken_back_if_a_later_request_needs_it() {
    let place = Place::of(four()).taken(&["gpu-2", "gpu-3"]);
    let picky = selecting("device.attributes['gpu.example.com'].model == 'A'");
    let devices = place.devices("n1", &[claim(vec![exactly("any", json!({})), exactly("picky", picky)])]);
    assert_eq!(devices, Ok(vec![vec!["any=gpu-1".into(), "picky=gpu-0".into()]]));
}

#[test]
fn constraints_keep_devices_together_or_apart() {
    let place = Place::of(four()).taken(&["gpu-0"]);
    let mut together = claim(vec![exactly("r", json!({"count": 2}))]);
    together["spec"]["devices"]["constraints"] = json!([{"requests": ["r"], "matchAttribute": "gpu.example.com/numa"}]);
    assert_eq!(place.devices("n1", &[together.clone()]), Ok(vec![vec!["r=gpu-2".into(), "r=gpu-3".into()]]));
    together["spec"]["devices"]["constraints"] = json!([{"matchAttribute": "other.example.com/numa"}]);
    assert_eq!(place.devices("n1", &[together.clone()]), Err(Failure::Nothing), "they have no such attribute");
    let mut apart = claim(vec![exactly("r", json!({"count": 2}))]);
    apart["spec"]["devices"]["constraints"] = json!([{"distinctAttribute": "gpu.example.com/model"}]);
    assert_eq!(place.devices("n1", &[apart]), Ok(vec![vec!["r=gpu-1".into(), "r=gpu-2".into()]]));
    let mut other = claim(vec![exactly("r", json!({"count": 2})), exactly("s", json!({}))]);
    other["spec"]["devices"]["constraints"] = json!([{"requests": ["s"], "matchAttribute": "gpu.example.com/numa"}]);
    assert!(place.devices("n1", &[other]).is_ok(), "a constraint is about its requests only");
}

#[test]
fn all_devices_are_wanted_or_none() {
    let all = || exactly("r", json!({"allocationMode": "All", "count": null}));
    let place = Place::of(four());
    assert_eq!(place.devices("n1", &[claim(vec![all()])]).expect("there").concat().len(), 4);
    assert_eq!(Place::of(four()).taken(&["gpu-3"]).devices("n1", &[claim(vec![all()])]), Err(Failure::Nothing));
    let none = exactly("r", json!({"allocationMode": "All", "selectors": [{"cel": {"expression": "false"}}]}));
    assert_eq!(place.devices("n1", &[claim(vec![none])]), Err(Failure::Nothing), "at least one is needed");
    let unfinished = json!({"pool": {"name": "n1", "generation": 1, "resourceSliceCount": 2}, "devices": [gpu("gpu-0", "A", 0)]});
    let unfinished = Place::of(vec![slice("s", unfinished)]);
    let why = "claim n/c, request r: asks for all devices, but resource pool gpu.example.com/n1 is currently being updated";
    assert_eq!(unfinished.devices("n1", &[claim(vec![all()])]), Err(error(why)));
    assert_eq!(unfinished.devices("n1", &[claim(vec![exactly("r", json!({}))])]), Err(Failure::Nothing), "nothing of it is used");
}

#[test]
fn the_first_alternative_that_can_be_had_is_taken() {
    let sub = |name: &str, count: i64, expression: &str| json!({"name": name, "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": count, "selectors": [{"cel": {"expression": expression}}]});
    let request = json!({"name": "r", "firstAvailable": [
        sub("big", 1, "device.attributes['gpu.example.com'].model == 'H'"), sub("two", 2, "true"), sub("one", 1, "true"),
    ]});
    assert_eq!(Place::of(four()).devices("n1", &[claim(vec![request.clone()])]), Ok(vec![vec!["r/two=gpu-0".into(), "r/two=gpu-1".into()]]));
    let scarce = Place::of(four()).taken(&["gpu-0", "gpu-1", "gpu-2"]);
    assert_eq!(scarce.devices("n1", &[claim(vec![request.clone()])]), Ok(vec![vec!["r/one=gpu-3".into()]]));
    // The second request needs what the first alternative would leave it without.
    let tight = Place::of(four()).taken(&["gpu-0", "gpu-1"]);
    let devices = tight.devices("n1", &[claim(vec![request, exactly("s", json!({}))])]);
    assert_eq!(devices, Ok(vec![vec!["r/one=gpu-2".into(), "s=gpu-3".into()]]));
}

#[test]
fn administrators_get_devices_that_others_have() {
    let place = Place::of(four()).taken(&["gpu-0", "gpu-1", "gpu-2", "gpu-3"]);
    let admin = exactly("r", json!({"adminAccess": true, "count": 2}));
    let allocation = place.allocate("n1", &[claim(vec![admin])]).expect("administration minds nobody");
    let results = allocation[0].devices.as_ref().and_then(|devices| devices.results.as_ref()).expect("results");
    assert_eq!(
        results.iter().map(|result| (result.device.as_str(), result.admin_access)).collect::<Vec<_>>(),
        [("gpu-0", Some(true)), ("gpu-1", Some(true))]
    );
}

#[test]
fn taints_keep_away_whoever_does_not_tolerate_them() {
    let tainted = |effect: &str| {
        let mut device = gpu("gpu-0", "A", 0);
        device["taints"] = json!([{"key": "broken", "effect": effect, "timeAdded": "2026-01-01T00:00:00Z"}]);
        Place::of(vec![slice("s", json!({"devices": [device]}))])
    };
    let plain = || [claim(vec![exactly("r", json!({}))])];
    assert_eq!(tainted("NoSchedule").devices("n1", &plain()), Err(Failure::Nothing));
    assert_eq!(tainted("NoExecute").devices("n1", &plain()), Err(Failure::Nothing));
    assert!(tainted("None").devices("n1", &plain()).is_ok());
    let tolerating = exactly("r", json!({"tolerations": [{"key": "broken", "operator": "Exists"}]}));
    let allocation = tainted("NoExecute").allocate("n1", &[claim(vec![tolerating])]).expect("it is tolerated");
    let results = allocation[0].devices.as_ref().and_then(|devices| devices.results.as_ref()).expect("results");
    assert_eq!(results[0].tolerations.as_ref().map(Vec::len), Some(1), "who evicts has to know");
}

#[test]
fn slices_say_from_which_nodes_their_devices_are_reached() {
    let own = Place::of(four());
    let by_name = own.allocate("n1", &[claim(vec![exactly("r", json!({}))])]).expect("there");
    let fields = json!({"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]});
    assert_eq!(serde_json::to_value(&by_name[0].node_selector).expect("json"), fields);
    let term = json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]});
    let zone = json!({"nodeName": null, "nodeSelector": term, "pool": {"name": "z", "generation": 1, "resourceSliceCount": 1}, "devices": [gpu("g", "A", 0)]});
    let zone = Place::of(vec![slice("s", zone)]);
    let found = zone.allocate("near", &[claim(vec![exactly("r", json!({}))])]).expect("of this zone");
    assert_eq!(serde_json::to_value(&found[0].node_selector).expect("json"), term);
    assert_eq!(zone.devices("far", &[claim(vec![exactly("r", json!({}))])]), Err(Failure::Nothing));
    let everywhere =
        json!({"nodeName": null, "allNodes": true, "pool": {"name": "all", "generation": 1, "resourceSliceCount": 1}, "devices": [gpu("g", "A", 0)]});
    let found = Place::of(vec![slice("s", everywhere)]).allocate("far", &[claim(vec![exactly("r", json!({}))])]).expect("everywhere");
    assert_eq!(found[0].node_selector, None);
    let mut near = gpu("near", "A", 0);
    near["nodeName"] = json!("n1");
    let mut all = gpu("other", "A", 0);
    all["allNodes"] = json!(true);
    let each = json!({"nodeName": null, "perDeviceNodeSelection": true, "devices": [near, all]});
    let each = Place::of(vec![slice("s", each)]);
    assert_eq!(each.devices("n2", &[claim(vec![exactly("r", json!({}))])]), Ok(vec![vec!["r=other".into()]]));
    assert_eq!(each.devices("n1", &[claim(vec![exactly("r", json!({}))])]), Ok(vec![vec!["r=near".into()]]));
}

#[test]
fn what_a_driver_has_replaced_is_not_used() {
    let pool = |generation: i64, count: i64| json!({"name": "n1", "generation": generation, "resourceSliceCount": count});
    let old = slice("a", json!({"pool": pool(1, 1), "devices": [gpu("old", "A", 0)]}));
    let new = slice("b", json!({"pool": pool(2, 1), "devices": [gpu("new", "A", 0)]}));
    let one = || [claim(vec![exactly("r", json!({}))])];
    assert_eq!(Place::of(vec![old, new]).devices("n1", &one()), Ok(vec![vec!["r=new".into()]]));
    // Half of the old generation is gone, and the newer one has nothing for this node.
    let half = slice("a", json!({"pool": pool(1, 2), "devices": [gpu("old", "A", 0)]}));
    let elsewhere = slice("b", json!({"nodeName": "n2", "pool": pool(2, 1), "devices": [gpu("new", "A", 0)]}));
    assert_eq!(Place::of(vec![half, elsewhere]).devices("n1", &one()), Err(Failure::Nothing));
    let twice = slice("a", json!({"devices": [gpu("g", "A", 0), gpu("g", "A", 0)]}));
    assert_eq!(Place::of(vec![twice]).devices("n1", &one()), Err(Failure::OnNode("invalid resource pools were encountered".into())));
}

#[test]
fn parts_of_a_device_share_its_counters() {
    let pool = json!({"name": "n1", "generation": 1, "resourceSliceCount": 2});
    let part =
        |name: &str, memory: &str| json!({"name": name, "consumesCounters": [{"counterSet": "gpu-0", "counters": {"memory": {"value": memory}}}]});
    let counters = slice("a", json!({"pool": pool, "sharedCounters": [{"name": "gpu-0", "counters": {"memory": {"value": "40Gi"}}}]}));
    let parts = slice("b", json!({"pool": pool, "devices": [part("whole", "40Gi"), part("half-0", "20Gi"), part("half-1", "20Gi")]}));
    let slices = vec![counters, parts];
    let two = [claim(vec![exactly("r", json!({"count": 2}))])];
    assert_eq!(Place::of(slices.clone()).devices("n1", &two), Ok(vec![vec!["r=half-0".into(), "r=half-1".into()]]));
    let one = [claim(vec![exactly("r", json!({}))])];
    assert_eq!(Place::of(slices.clone()).taken(&["half-0"]).devices("n1", &one), Ok(vec![vec!["r=half-1".into()]]), "the whole is not free");
    assert_eq!(Place::of(slices).taken(&["whole"]).devices("n1", &one), Err(Failure::Nothing));
}

#[test]
fn devices_that_are_shared_have_capacity_for_several() {
    let policy = json!({"default": "10Gi", "validRange": {"min": "5Gi", "step": "5Gi"}});
    let device = json!({"name": "g", "allowMultipleAllocations": true, "capacity": {"memory": {"value": "40Gi", "requestPolicy": policy}}});
    let place = || Place::of(vec![slice("s", json!({"devices": [device.clone()]}))]);
    let asking = |memory: &str| claim(vec![exactly("r", json!({"capacity": {"requests": {"memory": memory}}}))]);
    let found = place().allocate("n1", &[asking("12Gi"), asking("20Gi")]).expect("35Gi of 40Gi");
    let consumed = |at: usize| {
        let result = &found[at].devices.as_ref().and_then(|devices| devices.results.as_ref()).expect("results")[0];
        (result.share_id.clone(), result.consumed_capacity.as_ref().map(|consumed| consumed["memory"].0.clone()))
    };
    assert_eq!(consumed(0), (Some("share-0-0".into()), Some("15Gi".into())), "rounded up to the next step");
    assert_eq!(consumed(1), (Some("share-1-0".into()), Some("20Gi".into())));
    assert_eq!(place().devices("n1", &[asking("25Gi"), asking("20Gi")]), Err(Failure::Nothing));
    let mut shared = place();
    shared.known.shares.insert("g".into(), Amounts::from([("memory".into(), 30 * 1024 * 1024 * 1024 * 1_000_000_000)]));
    assert!(shared.devices("n1", &[claim(vec![exactly("r", json!({}))])]).is_ok(), "the default is 10Gi");
    assert_eq!(shared.devices("n1", &[asking("15Gi")]), Err(Failure::Nothing));
    assert_eq!(place().devices("n1", &[claim(vec![exactly("r", json!({"capacity": {"requests": {"cores": "1"}}}))])]), Err(Failure::Nothing));
}

#[test]
fn drivers_are_told_what_classes_and_claims_say() {
    let mut asking =
        claim(vec![exactly("a", json!({"deviceClassName": "fast"})), exactly("b", json!({"deviceClassName": "fast"})), exactly("c", json!({}))]);
    let opaque = |mode: &str| json!({"driver": DRIVER, "parameters": {"mode": mode}});
    asking["spec"]["devices"]["config"] =
        json!([{"requests": ["c"], "opaque": opaque("slow")}, {"requests": ["x"], "opaque": opaque("never")}, {"opaque": opaque("all")}]);
    let found = Place::of(four()).allocate("n1", &[asking]).expect("there");
    let configs = serde_json::to_value(found[0].devices.as_ref().and_then(|devices| devices.config.as_ref())).expect("json");
    assert_eq!(
        configs,
        json!([
            {"source": "FromClass", "requests": ["a", "b"], "opaque": opaque("fast")},
            {"source": "FromClaim", "requests": ["c"], "opaque": opaque("slow")},
            {"source": "FromClaim", "opaque": opaque("all")},
        ])
    );
}

#[test]
fn what_is_wrong_is_said() {
    let place = Place::of(four());
    let odd = selecting("device.attributes['gpu.example.com'].absent");
    let why = "claim n/c: selector #0: CEL runtime error: no such key: absent";
    assert_eq!(place.devices("n1", &[claim(vec![exactly("r", odd)])]), Err(error(why)));
    let why = "claim n/c, request r: could not retrieve device class none: not found";
    assert_eq!(place.devices("n1", &[claim(vec![exactly("r", json!({"deviceClassName": "none"}))])]), Err(error(why)));
    let many = (0..3).map(|at| exactly(&format!("r{at}"), json!({"count": 20}))).collect();
    let why = "claim n/c: number of requested devices 60 exceeds the claim limit of 32";
    assert_eq!(place.devices("n1", &[claim(many)]), Err(error(why)));
}

#[test]
fn a_search_without_solution_ends() {
    let devices: Vec<Value> = (0..24).map(|at| gpu(&format!("gpu-{at:02}"), "A", at)).collect();
    let place = Place::of(vec![slice("s", json!({"devices": devices}))]);
    let mut asking = claim((0..12).map(|at| exactly(&format!("r{at:02}"), json!({}))).chain([exactly("z", selecting("false"))]).collect());
    asking["spec"]["devices"]["constraints"] = json!([{"distinctAttribute": "gpu.example.com/numa"}]);
    assert_eq!(place.devices("n1", &[asking]), Err(Failure::Unfinished));
}

#[test]
fn a_search_among_few_devices_finds_what_a_longer_one_found() {
    let place = Place::of(four());
    let asking = [claim(vec![exactly("r", json!({"count": 2}))])];
    let among = |names: &[&str]| {
        let among = names.iter().map(|name| (*name).to_owned()).collect();
        let found = place.allocate_within("n1", &asking, &Bounds { is_over: &|steps| steps > 1_000, most_cost: MOST_COST, among: Some(&among) })?;
        let results = found[0].devices.as_ref().and_then(|devices| devices.results.as_deref()).unwrap_or_default();
        Ok::<_, Failure>(results.iter().map(|result| result.device.clone()).collect::<Vec<_>>())
    };
    assert_eq!(among(&["gpu-1", "gpu-3"]), Ok(vec!["gpu-1".to_owned(), "gpu-3".into()]));
    assert_eq!(among(&["gpu-1"]), Err(Failure::Nothing), "something is not free any more");
}

/// Three loops within each other, for which a device takes some ten thousand units.
fn slow() -> String {
    let numbers = format!("[{}]", (0..16).map(|number| number.to_string()).collect::<Vec<_>>().join(","));
    format!("{numbers}.all(a, {numbers}.all(b, {numbers}.all(c, a + b + c >= 0)))")
}

#[test]
fn expressions_are_work_that_is_done_once_for_a_version_of_a_slice() {
    let devices: Vec<Value> = (0..10).map(|at| gpu(&format!("gpu-{at}"), "A", at)).collect();
    let slices: Slices = [from_value::<ResourceSlice>(slice("s", json!({"devices": devices}))).expect("a slice")].into_iter().collect();
    let node: Node = from_value(json!({"metadata": {"name": "n1"}})).expect("a node");
    let class: Arc<DeviceClass> = Arc::new(from_value(json!({"metadata": {"name": "gpu"}, "spec": {}})).expect("a class"));
    let selectors = Arc::<Selectors>::default();
    let steps = Cell::new(0);
    let search = |mode: &str, most_cost: u64| {
        let asked = json!({"allocationMode": mode, "selectors": [{"cel": {"expression": slow()}}, {"cel": {"expression": "false"}}]});
        let claim = Arc::new(from_value(claim(vec![exactly("r", asked)])).expect("a claim"));
        let known = Box::new(Known::default());
        let allocator = Allocator::new(&[claim], &|_| Some(class.clone()), &selectors, slices.clone(), known).expect("is understood");
        let is_over = |so_far: usize| {
            steps.set(so_far);
            false
        };
        allocator.allocate(&node, &Bounds { is_over: &is_over, most_cost, among: None }, &|_, _| String::new())
    };
    for mode in ["ExactCount", "All"] {
        assert_eq!(search(mode, 10_000), Err(Failure::Unfinished), "one device takes longer than that");
    }
    assert_eq!(search("All", MOST_COST), Err(Failure::Nothing));
    assert!(steps.get() > 100_000, "{}", steps.get());
    assert_eq!(search("ExactCount", 10_000), Err(Failure::Nothing), "nobody need be asked again");
    assert!(steps.get() < 100, "{}", steps.get());
}

#[test]
fn the_selector_that_takes_long_is_told_by_claim_and_request() {
    let node: Node = from_value(json!({"metadata": {"name": "n1"}})).expect("a node");
    let asked = |expression: &str| json!({"selectors": [{"cel": {"expression": "true"}}, {"cel": {"expression": expression}}]});
    let claim = Arc::new(from_value(claim(vec![exactly("a", asked("true")), exactly("b", asked(&slow()))])).expect("a claim"));
    let place = Place::of(four());
    let class = |name: &str| place.classes.get(name).cloned();
    let allocator = Allocator::new(&[claim], &class, &place.programs, place.slices.clone(), Box::new(Known::default())).expect("is understood");
    assert_eq!(allocator.costliest(), None, "nothing was asked");
    let bounds = Bounds { is_over: &|_| false, most_cost: 10_000, among: None };
    assert_eq!(allocator.allocate(&node, &bounds, &|_, _| String::new()), Err(Failure::Unfinished));
    assert_eq!(allocator.costliest().as_deref(), Some("claim n/c, request b, claim n/c: selector #1"));
}

#[test]
fn what_takes_long_to_compile_is_compiled_where_there_is_time() {
    let long = [claim(vec![exactly("r", selecting(&format!("device.driver != '{}'", "x".repeat(3_000))))])];
    let place = Place::of(four());
    let within = |most_cost: u64| place.allocate_within("n1", &long, &Bounds { is_over: &|_| false, most_cost, among: None });
    assert_eq!(within(20_000), Err(Failure::Unfinished), "three thousand bytes");
    assert!(within(MOST_COST).is_ok());
    let again = Place { programs: place.programs.clone(), ..Place::of(four()) };
    let found = again.allocate_within("n1", &long, &Bounds { is_over: &|steps| steps > 10_000, most_cost: 20_000, among: None });
    assert!(found.is_ok(), "it is known to others");
}

#[test]
fn slices_are_found_by_node_and_pool_as_they_change() {
    let mut slices: Slices = four().into_iter().map(|slice| from_value::<ResourceSlice>(slice).expect("a slice")).collect();
    assert_eq!((slices.of_node("n1").len(), slices.of_node("n2").len(), slices.len()), (1, 0, 1));
    let moved = slice("s", json!({"nodeName": "n2"}));
    slices.set(Arc::new(from_value(moved).expect("a slice")));
    assert_eq!((slices.of_node("n1").len(), slices.of_node("n2").len(), slices.len()), (0, 1, 1));
    slices.remove("s");
    assert!(slices.is_empty() && slices.of_node("n2").is_empty());
}
