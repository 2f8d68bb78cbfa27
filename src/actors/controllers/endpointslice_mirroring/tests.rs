use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Endpoints, Service},
    discovery::v1::EndpointSlice,
};
use serde_json::{Value, json};

use super::plan::{MANAGER, Plan, is_mirrored, plan};
use crate::controllers::endpointslice::plan::Action;

fn endpoints(subsets: Value) -> Endpoints {
    let metadata = json!({"name": "db", "namespace": "n", "uid": "e", "labels": {"team": "a"},
        "annotations": {"note": "kept", "kubectl.kubernetes.io/last-applied-configuration": "{}"}});
    serde_json::from_value(json!({"metadata": metadata, "subsets": subsets})).expect("endpoints")
}

/// The slices that a plan makes, as the API server would store them.
fn stored(plan: &Plan) -> Vec<Arc<EndpointSlice>> {
    let slices = plan.actions.iter().enumerate().map(|(at, action)| {
        let (Action::Create(slice) | Action::Update(slice)) = action else { panic!("{action:?}") };
        let mut slice = (**slice).clone();
        slice.metadata.generate_name = None;
        slice.metadata.name = Some(format!("db-{at}"));
        slice.metadata.uid = Some(at.to_string());
        Arc::new(slice)
    });
    slices.collect()
}

/// Family, ports and addresses (with `!` where they are not ready) of slices.
fn told(slices: &[Arc<EndpointSlice>]) -> Vec<(String, Vec<i32>, Vec<String>)> {
    let mut told: Vec<_> = slices
        .iter()
        .map(|slice| {
            let ports = slice.ports.iter().flatten().filter_map(|port| port.port).collect();
            let addresses = slice.endpoints.iter().flatten().map(|endpoint| {
                let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true);
                format!("{}{}", endpoint.addresses[0], if ready { "" } else { "!" })
            });
            (slice.address_type.clone(), ports, addresses.collect())
        })
        .collect();
    told.sort();
    told
}

fn addresses(list: &[&str]) -> Value {
    list.iter().map(|ip| json!({"ip": ip})).collect()
}

#[test]
fn a_slice_mirrors_a_set_of_ports_and_a_family() {
    let endpoints = endpoints(json!([
        {"addresses": addresses(&["10.1.2.3", "fd00::1"]), "notReadyAddresses": addresses(&["10.1.2.4"]), "ports": [{"port": 80, "name": "web"}]},
        {"addresses": addresses(&["10.9.9.9"]), "ports": [{"port": 53, "protocol": "UDP"}]},
    ]));
    let first = plan(&endpoints, &[]);
    let slices = stored(&first);
    let expected = [("IPv4", 53, vec!["10.9.9.9"]), ("IPv4", 80, vec!["10.1.2.3", "10.1.2.4!"]), ("IPv6", 80, vec!["fd00::1"])];
    let expected = expected.map(|(family, port, list)| (family.to_owned(), vec![port], list.into_iter().map(str::to_owned).collect::<Vec<_>>()));
    assert_eq!(told(&slices), expected);
    let metadata = &slices[0].metadata;
    let labels = metadata.labels.as_ref().expect("labels");
    assert_eq!(labels["kubernetes.io/service-name"], "db");
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], MANAGER);
    assert_eq!(labels["team"], "a");
    assert_eq!(metadata.annotations.as_ref().expect("annotations").keys().collect::<Vec<_>>(), ["note"]);
    assert_eq!(metadata.owner_references.as_ref().expect("an owner")[0].kind, "Endpoints");
    assert_eq!(plan(&endpoints, &slices), Plan::default(), "planning again gives nothing");
}

#[test]
fn an_updated_slice_has_no_prefix_for_its_name() {
    let of = |ip: &str| endpoints(json!([{"addresses": addresses(&[ip]), "ports": [{"port": 80}]}]));
    let mut slice = (*stored(&plan(&of("10.1.2.3"), &[]))[0]).clone();
    slice.metadata.generate_name = Some("db-".to_owned());
    let slices = [Arc::new(slice)];
    assert_eq!(plan(&of("10.1.2.3"), &slices), Plan::default(), "the prefix alone is no change");
    let changed = plan(&of("10.1.2.4"), &slices);
    let [Action::Update(updated)] = changed.actions.as_slice() else { panic!("{changed:?}") };
    assert_eq!(updated.metadata.generate_name, None);
}

#[test]
fn subsets_are_put_together_by_their_addresses() {
    let endpoints = endpoints(json!([
        {"addresses": addresses(&["10.0.0.1", "10.0.0.2"]), "ports": [{"port": 80, "name": "a"}]},
        {"addresses": addresses(&["10.0.0.1"]), "notReadyAddresses": addresses(&["10.0.0.2"]), "ports": [{"port": 443, "name": "b"}]},
        {"notReadyAddresses": addresses(&["10.0.0.1"]), "addresses": addresses(&["10.0.0.2"]), "ports": [{"port": 80, "name": "a"}]},
    ]));
    let slices = stored(&plan(&endpoints, &[]));
    // As upstream's: ports with the same addresses share a set, and what is unready for one of them is for all.
    assert_eq!(slices.len(), 1);
    assert_eq!(told(&slices)[0].1, [80, 443]);
}

#[test]
fn a_changed_set_of_ports_takes_over_the_slice_that_is_left() {
    let slices = stored(&plan(&endpoints(json!([{"addresses": addresses(&["10.0.0.1"]), "ports": [{"port": 80}]}])), &[]));
    let changed = plan(&endpoints(json!([{"addresses": addresses(&["10.0.0.2"]), "ports": [{"port": 81}]}])), &slices);
    let [Action::Update(slice)] = &changed.actions[..] else { panic!("{changed:?}") };
    assert_eq!((slice.metadata.name.as_deref(), slice.metadata.uid.as_deref()), (Some("db-0"), Some("0")));
    assert_eq!(told(&[Arc::new((**slice).clone())]), [("IPv4".to_owned(), vec![81], vec!["10.0.0.2".to_owned()])]);
    let none = plan(&endpoints(json!([])), &slices);
    assert!(matches!(&none.actions[..], [Action::Delete { .. }]), "{none:?}");
}

#[test]
fn what_is_too_much_or_no_address_is_left_out_and_counted() {
    let many: Vec<String> = (0..1500).map(|n| format!("10.0.{}.{}", n / 250, n % 250 + 1)).chain(["nonsense".into()]).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let planned = plan(&endpoints(json!([{"addresses": addresses(&many), "ports": [{"port": 80}]}])), &[]);
    assert_eq!(told(&stored(&planned))[0].2.len(), 1000);
    assert_eq!(planned.invalid + planned.skipped, 501);
}

#[test]
fn ports_times_addresses_stay_bounded() {
    // One subset has all ports and addresses, and each port another subset of its own besides.
    let all: Vec<String> = (0..4000).map(|n| format!("10.0.{}.{}", n / 250, n % 250 + 1)).collect();
    let ports: Vec<Value> = (1..=4000).map(|port| json!({"port": port, "name": format!("p{port}")})).collect();
    let own = (0..4000).map(|at| json!({"addresses": addresses(&[&all[at]]), "ports": [ports[at]]}));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let subsets: Vec<Value> = own.chain([json!({"addresses": addresses(&all), "ports": ports})]).collect();
    let planned = plan(&endpoints(json!(subsets)), &[]);
    assert!(planned.actions.len() <= 1, "{}", planned.actions.len());
    assert!(planned.skipped > 10_000_000, "{}", planned.skipped);
}

#[test]
fn only_endpoints_kept_by_hand_are_mirrored() {
    let service = |spec: Value| serde_json::from_value::<Service>(json!({"spec": spec})).expect("a service");
    let plain = endpoints(json!([]));
    assert!(is_mirrored(Some(&service(json!({}))), &plain));
    assert!(!is_mirrored(None, &plain));
    assert!(!is_mirrored(Some(&service(json!({"selector": {"app": "db"}}))), &plain));
    let mut skipped = plain.clone();
    skipped.metadata.labels = Some([("endpointslice.kubernetes.io/skip-mirror".into(), "true".into())].into());
    assert!(!is_mirrored(Some(&service(json!({}))), &skipped));
    let mut leader = plain;
    leader.metadata.annotations = Some([("control-plane.alpha.kubernetes.io/leader".into(), "{}".into())].into());
    assert!(!is_mirrored(Some(&service(json!({}))), &leader));
}
