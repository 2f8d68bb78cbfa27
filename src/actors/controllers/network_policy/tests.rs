use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use proptest::prelude::*;
use serde_json::{Value, json};
use troupe_api::meta::ObjectKey;
use troupe_net::iptables::{Family, SetKind};

use super::{
    plan::{Part, Peers, plan},
    world::World,
};
use crate::{
    controllers::endpointslice::plan::Action,
    network_policy::{
        model::{PodView, PolicyView, Protocol},
        slices::entries,
    },
};

fn pod(namespace: &str, name: &str, labels: Value, ip: &str) -> PodView {
    let pod = json!({
        "metadata": {"namespace": namespace, "name": name, "uid": name, "labels": labels},
        "spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"podIP": ip, "podIPs": [{"ip": ip}]},
    });
    PodView::of(&serde_json::from_value(pod).expect("a pod"))
}

fn policy(namespace: &str, name: &str, spec: Value) -> PolicyView {
    let policy = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
    PolicyView::of(&serde_json::from_value(policy).expect("a policy"))
}

/// The slices after some steps, as an API server would keep them.
fn taken(mut slices: Vec<Arc<EndpointSlice>>, actions: Vec<Action>, next: &mut u32) -> Vec<Arc<EndpointSlice>> {
    for action in actions {
        match action {
            Action::Create(mut slice) => {
                *next += 1;
                slice.metadata.name = Some(format!("s{next}"));
                slice.metadata.uid = Some(format!("u{next}"));
                slices.push(Arc::new(*slice));
            }
            Action::Update(slice) => {
                slices.retain(|old| old.metadata.uid != slice.metadata.uid);
                slices.push(Arc::new(*slice));
            }
            Action::Delete { uid, .. } => slices.retain(|old| old.metadata.uid.as_deref() != Some(&*uid)),
        }
    }
    slices
}

fn told(slices: &[Arc<EndpointSlice>], kind: SetKind) -> Vec<String> {
    let mut all: Vec<String> = slices.iter().flat_map(|slice| entries(slice, kind, Family::V4)).collect();
    all.sort();
    all
}

#[test]
fn a_namespaces_policies_are_told_the_pods_they_mean() {
    let world = World::default();
    world.set_namespace(&"a".into(), Some(BTreeMap::new()));
    world.set_namespace(&"b".into(), Some([("team".to_owned(), "red".to_owned())].into()));
    let own = json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "x"}}}]}]});
    assert_eq!(world.set_policy(&ObjectKey::new("a", "own"), Some(policy("a", "own", own))).as_deref(), Some("a"));
    assert_eq!(world.set_pod(&ObjectKey::new("a", "x"), Some(pod("a", "x", json!({"app": "x"}), "10.244.0.1"))), ["a".into()]);
    assert!(world.set_pod(&ObjectKey::new("b", "x"), Some(pod("b", "x", json!({"app": "x"}), "10.244.0.2"))).is_empty());
    assert!(world.set_pod(&ObjectKey::new("a", "y"), Some(pod("a", "y", json!({"app": "y"}), "10.244.0.3"))).is_empty());
    let mut next = 0;
    let slices = taken(Vec::new(), plan("a", world.peers_of("a"), &[]), &mut next);
    assert_eq!(told(&slices, SetKind::Net), ["10.244.0.1"]);
    assert!(world.peers_of("b").is_empty());

    let red = json!({"podSelector": {}, "egress": [{"to": [{"namespaceSelector": {"matchLabels": {"team": "red"}}}], "ports": [{"port": "web"}]}]});
    world.set_policy(&ObjectKey::new("a", "own"), Some(policy("a", "own", red)));
    let slices = taken(slices.clone(), plan("a", world.peers_of("a"), &slices), &mut next);
    assert_eq!(told(&slices, SetKind::AddressPort), ["10.244.0.2,tcp:8080"]);
    assert_eq!(world.set_namespace(&"a".into(), Some([("team".to_owned(), "red".to_owned())].into())), ["a".into()]);
    let slices = taken(slices.clone(), plan("a", world.peers_of("a"), &slices), &mut next);
    assert_eq!(told(&slices, SetKind::AddressPort).len(), 3);
    assert_eq!(world.set_pod(&ObjectKey::new("a", "y"), None), ["a".into()]);
    world.set_policy(&ObjectKey::new("a", "own"), None);
    assert!(taken(slices.clone(), plan("a", world.peers_of("a"), &slices), &mut next).is_empty());
}

#[test]
fn an_address_stays_in_its_slice() {
    let part = Part { id: "A".into(), family: Family::V4, port: Some((Protocol::Tcp, 80)) };
    let ips = |range: std::ops::Range<u32>| range.map(|low| IpAddr::V4((0x0AF4_0000 + low).into())).collect();
    let mut next = 0;
    let slices = taken(Vec::new(), plan("a", Peers::from([(part.clone(), ips(0..1200))]), &[]), &mut next);
    assert_eq!(slices.len(), 3);
    let actions = plan("a", Peers::from([(part.clone(), ips(1..1201))]), &slices);
    assert!(matches!(actions.as_slice(), [Action::Update(_)] | [Action::Update(_), Action::Update(_)]), "{} steps", actions.len());
    let slices = taken(slices, actions, &mut next);
    assert_eq!(told(&slices, SetKind::AddressPort).len(), 1200);
    assert!(plan("a", Peers::from([(part, ips(1..1201))]), &slices).is_empty());
}

fn peers() -> impl Strategy<Value = Peers> {
    let part = (0u8..3, prop::option::of(80u16..82)).prop_map(|(id, port)| Part {
        id: format!("S{id}").into(),
        family: Family::V4,
        port: port.map(|port| (Protocol::Tcp, port)),
    });
    let ip = (0u32..700).prop_map(|low| IpAddr::V4((0x0AF4_0000 + low).into()));
    prop::collection::btree_map(part, prop::collection::btree_set(ip, 1..30), 0..4)
}

proptest! {
    #[test]
    fn slices_tell_what_is_wanted_and_then_nothing_is_left_to_do(steps in prop::collection::vec(peers(), 1..5)) {
        let (mut slices, mut next) = (Vec::new(), 0);
        for wanted in steps {
            slices = taken(slices.clone(), plan("a", wanted.clone(), &slices), &mut next);
            let all: usize = wanted.values().map(std::collections::BTreeSet::len).sum();
            let seen: usize = slices.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).sum();
            prop_assert_eq!(seen, all);
            prop_assert!(plan("a", wanted, &slices).is_empty());
        }
    }
}
