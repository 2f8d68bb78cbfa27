use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use proptest::prelude::*;
use serde_json::json;

use super::{
    plan::{Action, Plan, Snapshot, plan},
    pods::EndpointPod,
    topology::{Capacities, NodeCapacity},
    trigger_times::LAST_CHANGE,
};
use crate::runtime::cache::digest_of;

fn service() -> Service {
    let spec = json!({"clusterIP": "10.96.0.5", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "web"}]});
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n", "uid": "s"}, "spec": spec})).expect("a service")
}

fn plan_of(service: &Service, pods: &[Arc<Pod>], slices: &[Arc<EndpointSlice>], zones: &BTreeMap<String, String>) -> Plan {
    let pods: Vec<Arc<EndpointPod>> = pods.iter().map(|pod| digest_of::<Pod, EndpointPod>(pod)).collect();
    plan(Snapshot { service, pods: &pods, slices, zones, triggered: None, capacities: None })
}

fn pod(number: usize, ready: bool, terminating: bool, port: i32) -> Arc<Pod> {
    let ip = format!("10.244.{}.{}", number / 250, number % 250 + 1);
    let mut object = json!({
        "metadata": {"name": format!("p{number}"), "namespace": "n", "uid": format!("u{number}"), "labels": {"app": "web"}},
        "spec": {"nodeName": "a", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": port}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    });
    if terminating {
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    Arc::new(serde_json::from_value(object).expect("a pod"))
}

#[test]
fn pods_that_all_serve_other_ports_take_no_longer_for_it() {
    let ports: Vec<_> = (0..50).map(|n| json!({"name": format!("p{n}"), "port": 80 + n, "protocol": "TCP", "targetPort": "web"})).collect();
    let mut service = service();
    service.spec.as_mut().expect("a spec").ports = serde_json::from_value(json!(ports)).expect("ports");
    let pods: Vec<_> = (0..1500).map(|number| pod(number, true, false, 1000 + i32::try_from(number).expect("small"))).collect();
    let zones = BTreeMap::new();
    let made = plan_of(&service, &pods, &[], &zones).actions.into_iter().enumerate();
    let slices = made.filter_map(|(number, action)| {
        let Action::Create(mut slice) = action else { return None };
        slice.metadata.name = Some(format!("web-{number}"));
        Some(Arc::new(*slice))
    });
    let slices: Vec<_> = slices.collect();
    assert_eq!(slices.len(), 1500);
    let begun = std::time::Instant::now();
    assert_eq!(plan_of(&service, &pods, &slices, &zones).actions, []);
    assert!(begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
}

#[test]
fn each_family_of_a_service_has_slices_of_its_own() {
    let of = |families: serde_json::Value| {
        let mut service = service();
        service.spec.as_mut().expect("a spec").ip_families = serde_json::from_value(families).expect("families");
        service
    };
    let mut dual = Pod::clone(&pod(1, true, false, 80));
    let ips = ["10.244.0.2", "fd00:10:244::2"].map(|ip| json!({"ip": ip}));
    dual.status.as_mut().expect("a status").pod_ips = serde_json::from_value(json!(ips)).expect("addresses");
    let pods = [Arc::new(dual), pod(2, true, false, 80)];
    let told = |slices: &[Arc<EndpointSlice>]| {
        let addresses =
            |slice: &EndpointSlice| -> Vec<String> { slice.endpoints.iter().flatten().flat_map(|endpoint| endpoint.addresses.clone()).collect() };
        let mut all: Vec<_> = slices.iter().map(|slice| (slice.address_type.clone(), addresses(slice))).collect();
        all.sort();
        all
    };
    let v4 = ("IPv4".to_owned(), vec!["10.244.0.2".to_owned(), "10.244.0.3".to_owned()]);
    let v6 = ("IPv6".to_owned(), vec!["fd00:10:244::2".to_owned()]);
    let (slices, _) = settle(&of(json!(["IPv4"])), &pods, Vec::new());
    assert_eq!(told(&slices), std::slice::from_ref(&v4));
    let (slices, _) = settle(&of(json!(["IPv4", "IPv6"])), &pods, slices);
    assert_eq!(told(&slices), [v4, v6.clone()]);
    let (slices, steps) = settle(&of(json!(["IPv4", "IPv6"])), &pods, slices);
    assert_eq!(steps, 0, "nothing is left to do");
    let (slices, _) = settle(&of(json!(["IPv6"])), &pods, slices);
    assert_eq!(told(&slices), [v6]);
}

/// Slices with every planned action in effect.
fn settle(service: &Service, pods: &[Arc<Pod>], mut slices: Vec<Arc<EndpointSlice>>) -> (Vec<Arc<EndpointSlice>>, usize) {
    let zones = BTreeMap::new();
    let actions = plan_of(service, pods, &slices, &zones).actions;
    let count = actions.len();
    for action in actions {
        match action {
            Action::Create(mut slice) => {
                let name = format!("web-{}", (0..).find(|n| slices.iter().all(|s| s.metadata.name != Some(format!("web-{n}")))).expect("endless"));
                (slice.metadata.uid, slice.metadata.name) = (Some(name.clone()), Some(name));
                slices.push(Arc::new(*slice));
            }
            Action::Update(slice) => {
                let at = slices.iter().position(|other| other.metadata.uid == slice.metadata.uid).expect("known");
                slices[at] = Arc::new(*slice);
            }
            Action::Delete { uid, .. } => slices.retain(|slice| slice.metadata.uid.as_deref() != Some(&uid)),
        }
    }
    (slices, count)
}

fn addresses(slices: &[Arc<EndpointSlice>]) -> usize {
    slices.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).sum()
}

#[test]
fn a_service_without_pods_has_one_empty_slice() {
    let (slices, _) = settle(&service(), &[], Vec::new());
    assert_eq!((slices.len(), addresses(&slices)), (1, 0));
    assert_eq!(slices[0].metadata.labels.as_ref().expect("set")["kubernetes.io/service-name"], "web");
}

#[test]
fn conditions_tell_ready_serving_and_terminating_apart() {
    let (slices, _) = settle(&service(), &[pod(0, true, false, 80), pod(1, false, false, 80), pod(2, true, true, 80)], Vec::new());
    let conditions: Vec<_> = slices[0].endpoints.iter().flatten().map(|endpoint| endpoint.conditions.clone().expect("set")).collect();
    let facts: Vec<_> = conditions.iter().map(|c| (c.ready, c.serving, c.terminating)).collect();
    let some = |a, b, c| (Some(a), Some(b), Some(c));
    assert_eq!(facts, [some(true, true, false), some(false, false, false), some(false, true, true)]);
}

#[test]
fn ready_endpoints_prefer_clients_as_near_as_the_service_asks() {
    let zones = BTreeMap::from([("a".to_owned(), "z".to_owned())]);
    let pods = [pod(0, true, false, 80), pod(1, false, false, 80)];
    let hints = |service: &Service, zones: &BTreeMap<String, String>| -> Vec<_> {
        let actions = plan_of(service, &pods, &[], zones).actions;
        let [Action::Create(slice)] = &actions[..] else { panic!("{actions:?}") };
        slice.endpoints.iter().flatten().map(|endpoint| json!(endpoint.hints)).collect()
    };
    let mut service = service();
    assert_eq!(hints(&service, &zones), [json!(null), json!(null)]);
    let mut ask = |distribution: &str, annotations: serde_json::Value| {
        service.spec.as_mut().expect("a spec").traffic_distribution = Some(distribution.into());
        service.metadata.annotations = serde_json::from_value(annotations).expect("annotations");
        service.clone()
    };
    let zone = json!({"forZones": [{"name": "z"}]});
    assert_eq!(hints(&ask("PreferClose", json!(null)), &zones), [zone.clone(), json!(null)]);
    assert_eq!(hints(&ask("PreferSameZone", json!(null)), &zones), [zone.clone(), json!(null)]);
    let both = json!({"forNodes": [{"name": "a"}], "forZones": [{"name": "z"}]});
    assert_eq!(hints(&ask("PreferSameNode", json!(null)), &zones), [both, json!(null)]);
    assert_eq!(hints(&ask("PreferSameNode", json!(null)), &BTreeMap::new()), [json!({"forNodes": [{"name": "a"}]}), json!(null)]);
    assert_eq!(hints(&ask("PreferSameZone", json!(null)), &BTreeMap::new()), [json!(null), json!(null)]);
    let annotated = ask("PreferSameZone", json!({"service.kubernetes.io/topology-mode": "Auto"}));
    assert_eq!(hints(&annotated, &zones), [json!(null), json!(null)]);
}

#[test]
fn named_ports_that_differ_between_pods_make_slices_of_their_own() {
    let (slices, _) = settle(&service(), &[pod(0, true, false, 80), pod(1, true, false, 8080)], Vec::new());
    let mut ports: Vec<_> = slices.iter().filter_map(|slice| slice.ports.as_ref()?[0].port).collect();
    ports.sort_unstable();
    assert_eq!(ports, [80, 8080]);
}

proptest! {
    /// Any change of pods is reflected in one step, no slice is over-full, and a second plan is empty.
    #[test]
    fn one_plan_is_enough(before in 0_usize..350, after in 0_usize..350) {
        let service = service();
        let pods: Vec<_> = (0..350).map(|n| pod(n, n % 3 > 0, false, 80)).collect();
        let (slices, _) = settle(&service, &pods[..before], Vec::new());
        let (slices, _) = settle(&service, &pods[350 - after..], slices);
        prop_assert_eq!(addresses(&slices), after);
        prop_assert!(slices.iter().all(|slice| slice.endpoints.as_ref().map_or(0, Vec::len) <= 100));
        prop_assert_eq!(settle(&service, &pods[350 - after..], slices).1, 0);
    }
}

#[test]
fn a_change_of_one_pod_of_many_changes_its_slice_alone() {
    let mut pods: Vec<_> = (0..1000).map(|number| pod(number, true, false, 80)).collect();
    let (slices, made) = settle(&service(), &pods, Vec::new());
    assert_eq!((made, slices.len()), (10, 10));
    pods[437] = pod(437, false, false, 80);
    let actions = plan_of(&service(), &pods, &slices, &BTreeMap::new()).actions;
    let [Action::Update(changed)] = &actions[..] else { panic!("{actions:?}") };
    let before = slices.iter().find(|slice| slice.metadata.uid == changed.metadata.uid).expect("known");
    let differ = before.endpoints.iter().flatten().zip(changed.endpoints.iter().flatten()).filter(|(old, new)| old != new);
    let differ: Vec<_> = differ.map(|(_, new)| new.target_ref.as_ref().and_then(|target| target.name.clone())).collect();
    assert_eq!(differ, [Some("p437".to_owned())]);
    assert_eq!(changed.metadata, before.metadata);
}

#[test]
fn slices_tell_when_the_change_was_made_that_is_written_and_are_not_written_for_that() {
    let (service, zones) = (service(), BTreeMap::new());
    let digest = |pods: &[Arc<Pod>]| -> Vec<Arc<EndpointPod>> { pods.iter().map(|pod| digest_of(&**pod)).collect() };
    let triggered = |second: i64| Some(Timestamp::from_second(second).expect("a time"));
    let told = |action: &Action| match action {
        Action::Create(slice) | Action::Update(slice) => slice.metadata.annotations.as_ref().and_then(|told| told.get(LAST_CHANGE)).cloned(),
        Action::Delete { .. } => None,
    };
    let pods = digest(&[pod(0, true, false, 80)]);
    let plan_at = |pods: &[Arc<EndpointPod>], slices: &[Arc<EndpointSlice>], triggered| {
        plan(Snapshot { service: &service, pods, slices, zones: &zones, triggered, capacities: None }).actions
    };
    let made = plan_at(&pods, &[], triggered(1));
    assert_eq!(told(&made[0]).as_deref(), Some("1970-01-01T00:00:01Z"));
    let [Action::Create(slice)] = &made[..] else { panic!("{made:?}") };
    let there = [Arc::new(EndpointSlice::clone(slice))];
    assert_eq!(plan_at(&pods, &there, triggered(2)), [], "nothing else changed");
    assert_eq!(plan_at(&pods, &there, None), []);
    let changed = digest(&[pod(0, false, false, 80)]);
    assert_eq!(told(&plan_at(&changed, &there, triggered(3))[0]).as_deref(), Some("1970-01-01T00:00:03Z"));
    let unknown = plan_at(&changed, &there, None);
    let [Action::Update(untold)] = &unknown[..] else { panic!("{unknown:?}") };
    assert_eq!(untold.metadata.annotations, None, "of this change no time is known");
}

#[test]
fn hints_by_the_capacity_of_zones_are_for_ready_endpoints_and_stay() {
    let mut service = service();
    service.metadata.annotations = serde_json::from_value(json!({"service.kubernetes.io/topology-mode": "Auto"})).expect("annotations");
    let nodes = [("a", "4"), ("b", "4")].map(|(zone, cpu)| {
        let status = json!({"allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": "True"}]});
        let node = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}, "status": status});
        Arc::new(NodeCapacity::of(&serde_json::from_value(node).expect("a node")))
    });
    let capacities = Capacities::of(&nodes).expect("two zones");
    let zones: BTreeMap<String, String> = [("a", "a"), ("b", "b")].map(|(node, zone)| (node.to_owned(), zone.to_owned())).into();
    let pods = [(1, "a", true), (2, "a", true), (3, "a", true), (4, "b", true), (5, "b", false)].map(|(number, node, ready)| {
        let mut pod = Pod::clone(&pod(number, ready, false, 80));
        pod.spec.as_mut().expect("a spec").node_name = Some(node.to_owned());
        digest_of::<Pod, EndpointPod>(&pod)
    });
    let planned = |slices: &[Arc<EndpointSlice>], capacities: Option<&Capacities>| {
        plan(Snapshot { service: &service, pods: &pods, slices, zones: &zones, triggered: None, capacities })
    };
    let first = planned(&[], Some(&capacities));
    let [Action::Create(slice)] = first.actions.as_slice() else { panic!("{first:?}") };
    let mut slice = EndpointSlice::clone(slice);
    let hints: Vec<Option<&str>> =
        slice.endpoints.iter().flatten().map(|endpoint| Some(endpoint.hints.as_ref()?.for_zones.as_ref()?.first()?.name.as_str())).collect();
    assert_eq!(hints.iter().filter(|zone| **zone == Some("a")).count(), 2);
    assert_eq!(hints.iter().filter(|zone| **zone == Some("b")).count(), 2);
    assert_eq!(hints.len(), 5, "the one that is not ready has none");
    slice.metadata.name = Some("web-0".into());
    let slices = [Arc::new(slice)];
    assert_eq!(planned(&slices, Some(&capacities)).actions, [], "nothing is left to do");
    let without = planned(&slices, None);
    assert!(without.topology.values().all(Result::is_err));
    let [Action::Update(slice)] = without.actions.as_slice() else { panic!("{without:?}") };
    assert!(slice.endpoints.iter().flatten().all(|endpoint| endpoint.hints.is_none()));
}
