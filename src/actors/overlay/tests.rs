use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use serde_json::json;
use troupe_api::{meta::ObjectKey, service::PatchType};
use troupe_net::iptables::Family;
use troupe_net::overlay::{FakeRouting, Observed, Step, Via};

use super::*;
use crate::{apiserver::testing::boot, runtime::cache::Caches};

async fn node(api: &crate::apiserver::testing::TestApi, name: &str, address: &str, range: &str) {
    api.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"podCIDR": range, "podCIDRs": [range]}})).await;
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": address}]}});
    api.patch(api.subresource("nodes", "", name, "status"), PatchType::Merge, status).await.expect("the status is written");
}

async fn eventually(what: &str, done: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(tokio::time::Instant::now() < deadline, "{what} does not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[actix::test]
async fn routes_follow_nodes_that_come_and_go() {
    let api = boot().await;
    let caches = Caches::new(api.server.system().clone(), api.client.clone());
    let routing = Arc::new(FakeRouting::new(Observed { on_link: vec!["192.168.0.0/24".parse().expect("a network")], ..Observed::default() }));
    node(&api, "one", "192.168.0.1", "10.244.0.0/24").await;
    let options = OverlayOptions { node_name: "one".into(), family: Family::V4, nodes: caches.cache(), routing: routing.clone() };
    Overlay::start(options, api.server.system());
    node(&api, "two", "192.168.0.2", "10.244.1.0/24").await;
    let range: ipnetwork::IpNetwork = "10.244.1.0/24".parse().expect("a network");
    let set = Step::SetRoute(range, Via::Link(Ipv4Addr::new(192, 168, 0, 2).into()));
    eventually("a route to the second node", || routing.steps().contains(&set)).await;
    api.delete("nodes", "", "two", troupe_api::service::DeleteOptions::default()).await.expect("is deleted");
    eventually("the tunnel's removal", || routing.steps().contains(&Step::RemoveTunnel)).await;
    assert!(caches.cache::<Node>().get(&ObjectKey::cluster("two")).is_none());
    let steps = routing.steps();
    assert!(
        matches!(steps.as_slice(), [first, Step::MakeTunnel(_), third, Step::RemoveTunnel] if *first == set && *third == Step::RemoveRoute(range)),
        "{steps:?}"
    );
}
