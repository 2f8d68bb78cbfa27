use std::net::IpAddr;

use serde_json::json;
use troupe_api::service::ListOptions;
use troupe_net::{
    echo::FakeEcho,
    overlay::{FakeRouting, Observed},
};

use super::*;
use crate::{
    apiserver::testing::{TestApi, boot, eventually},
    runtime::cache::Caches,
};

async fn node(api: &TestApi, number: u8) {
    let (name, range) = (format!("n{number}"), format!("10.244.{number}.0/24"));
    api.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"podCIDR": range, "podCIDRs": [range]}})).await;
    let addresses = json!([{"type": "InternalIP", "address": format!("192.0.2.{number}")}]);
    let status = json!({"status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": "True"}]}});
    api.patch(api.subresource("nodes", "", &name, "status"), PatchType::StrategicMerge, status).await.expect("is written");
}

/// Status and reason of the condition of the first node.
async fn condition_of(api: &TestApi) -> Option<(String, String)> {
    let node = api.get("nodes", "", "n1").await.expect("is there");
    let conditions = node.list(&["status", "conditions"]);
    let condition = conditions.iter().find(|condition| condition["type"] == "NetworkUnavailable")?;
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason")))
}

async fn is(api: &TestApi, status: &str, reason: &str) -> bool {
    condition_of(api).await == Some((status.to_owned(), reason.to_owned()))
}

async fn reasons(api: &TestApi) -> Vec<String> {
    let events = api.list("events", "default", ListOptions::default()).await.expect("listed");
    events.items.iter().map(|event| event.to_object().str(&["reason"]).to_owned()).collect()
}

fn bridge(number: u8) -> IpAddr {
    [10, 244, number, 1].into()
}

#[actix::test]
async fn a_node_that_reaches_nobody_says_so_and_takes_it_back() {
    let api = boot().await;
    let caches = Caches::new(api.server.system().clone(), api.client.clone());
    let (echo, system) = (Arc::new(FakeEcho::default()), api.server.system());
    let range: IpNetwork = "10.244.2.0/24".parse().expect("a network");
    let routes = [(range, Via::Link([192, 0, 2, 2].into()))].into();
    let routing: Arc<dyn Routing> = Arc::new(FakeRouting::new(Observed { routes, ..Observed::default() }));
    node(&api, 1).await;
    let unit = Reachability::start(
        ReachabilityOptions {
            node_name: "n1".into(),
            families: vec![(Family::V4, routing)],
            nodes: caches.cache(),
            client: api.client.clone(),
            events: EventRecorder::on_host(system, &api.client, "pod-network", "n1"),
            echo: echo.clone(),
            heartbeat: Duration::from_millis(20),
            is_foreign: Arc::new(|| false),
        },
        system,
    );
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(echo.asked().is_empty(), "a node alone asks nobody");
    assert_eq!(condition_of(&api).await, None);
    node(&api, 2).await;
    node(&api, 3).await;
    eventually("the network is not available", async || is(&api, "True", "PodNetworkUnreachable").await).await;
    eventually("both are asked", async || echo.asked().contains(&(bridge(1), vec![bridge(2), bridge(3)]))).await;
    eventually("it is told of", async || {
        let told = reasons(&api).await;
        ["PodNetworkUnreachable", "NetworkUnavailable"].iter().all(|reason| told.iter().any(|known| known == reason))
    })
    .await;
    // While nobody can be asked nothing changes.
    echo.refuse(true);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(is(&api, "True", "PodNetworkUnreachable").await);
    echo.refuse(false);
    echo.answer_for(&[bridge(2)]);
    eventually("half of the others are enough", async || is(&api, "False", "PodNetworkReachable").await).await;
    eventually("the ways are shown", async || {
        let found = system.directory().observe(Duration::from_secs(1)).await;
        let Some(actor) = found.iter().find(|actor| &*actor.path == Reachability::PATH) else { return false };
        let (mesh, other) = (&actor.status["mesh"], &actor.status["mesh"][1]);
        mesh[0]["node"] == "n2" && mesh[0]["via"] == "route" && mesh[0]["rttMicros"] == 200 && other["unreachableSince"].is_string()
    })
    .await;
    assert!(unit.connected());
}
