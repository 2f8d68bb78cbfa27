use std::{net::IpAddr, sync::Arc};

use serde_json::{Value, json};
use troupe_api::{
    meta::Object,
    service::{ListOptions, PatchType},
};
use troupe_api_server::store::{Store, keys, memory::MemoryStore};

use crate::apiserver::{
    ApiServerOptions, Bootstrap, Listening,
    testing::{TestApi, boot, boot_with},
};

fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

fn web(kind: &str) -> Value {
    json!({"type": kind, "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]})
}

#[actix::test]
async fn a_service_gets_an_address_of_its_own_and_gives_it_back() {
    let api = boot().await;
    let first = api.create(service("a", web("ClusterIP"))).await;
    let ip = first.str(&["spec", "clusterIP"]).to_owned();
    assert!(ip.starts_with("10.96."), "{ip}");
    assert_eq!(first.get(&["spec", "clusterIPs"]), Some(&json!([ip])));
    let mut same = web("ClusterIP");
    same["clusterIP"] = json!(ip);
    let status = api.try_create(service("b", same.clone())).await.expect_err("is taken");
    assert_eq!(status.code, 422);
    assert!(status.message.contains(&format!("failed to allocate IP {ip}: provided IP is already allocated")), "{}", status.message);
    api.delete("services", "default", "a", Default::default()).await.expect("deletes");
    assert_eq!(api.create(service("b", same)).await.str(&["spec", "clusterIP"]), ip);
}

#[actix::test]
async fn a_headless_service_takes_no_address() {
    let api = boot().await;
    let mut spec = web("ClusterIP");
    spec["clusterIP"] = json!("None");
    let created = api.create(service("a", spec)).await;
    assert_eq!(created.str(&["spec", "clusterIP"]), "None");
    assert!(api.names("ipaddresses.networking.k8s.io", "").await.is_empty());
}

#[actix::test]
async fn node_ports_are_unique_and_released() {
    let api = boot().await;
    let created = api.create(service("a", web("NodePort"))).await;
    let port = created.list(&["spec", "ports"])[0]["nodePort"].as_u64().expect("a node port");
    assert!((30000..=32767).contains(&port));
    let mut same = web("NodePort");
    same["ports"][0]["nodePort"] = json!(port);
    let status = api.try_create(service("b", same.clone())).await.expect_err("is taken");
    assert!(
        status.message.ends_with(&format!("spec.ports[0].nodePort: Invalid value: {port}: provided port is already allocated")),
        "{}",
        status.message
    );
    assert_eq!(api.names("ipaddresses.networking.k8s.io", "").await.len(), 1, "the refused create gave its address back");
    api.delete("services", "default", "a", Default::default()).await.expect("deletes");
    api.create(service("b", same)).await;
}

#[actix::test]
async fn a_dry_run_takes_nothing() {
    let api = boot().await;
    let target = api.target("services", "default", "");
    let body = troupe_api::service::Body::Json(service("a", web("NodePort")).to_string().into());
    let options = troupe_api::service::WriteOptions { dry_run: true, ..Default::default() };
    let reply = api.call(target, troupe_api::service::Operation::Create { body, options }).await.expect("would create");
    assert!(!reply.into_tree().expect("an object").str(&["spec", "clusterIP"]).is_empty());
    assert!(api.names("ipaddresses.networking.k8s.io", "").await.is_empty());
    assert!(api.names("services", "default").await.is_empty());
}

#[actix::test]
async fn two_families_need_a_cluster_of_two_families() {
    let api = boot().await;
    let mut spec = web("ClusterIP");
    spec["ipFamilyPolicy"] = json!("RequireDualStack");
    let status = api.try_create(service("a", spec)).await.expect_err("is refused");
    assert!(status.message.contains("this cluster is not configured for dual-stack services"), "{}", status.message);
}

#[actix::test]
async fn repair_marks_a_node_port_that_a_service_has_and_nobody_marked_and_tells_of_it() {
    let store = Arc::new(MemoryStore::new());
    let api = boot_with(ApiServerOptions::new(store.clone())).await;
    let mut spec = web("NodePort");
    spec["ports"][0]["nodePort"] = json!(30100);
    api.create(service("a", spec.clone())).await;
    let key = format!("{}ranges/servicenodeports", keys::ROOT);
    let (bitmap, _) = store.get(key.as_bytes(), None).await.expect("the store answers");
    store.delete(key.into(), bitmap.expect("there is one").mod_revision).await.expect("deletes");
    api.server.bootstrap(&Bootstrap::default()).await.expect("repairs");
    let events = api.list("events", "default", ListOptions::default()).await.expect("listed").items;
    let events: Vec<Object> = events.iter().map(|event| event.to_object()).collect();
    let told = events.iter().find(|event| event.str(&["reason"]) == "PortNotAllocated").expect("it is told");
    assert_eq!((told.str(&["involvedObject", "name"]), told.str(&["message"])), ("a", "Port 30100 is not allocated; repairing"));
    assert_eq!(told.str(&["source", "component"]), "portallocator-repair-controller");
    let status = api.try_create(service("b", spec)).await.expect_err("is taken");
    assert!(status.message.ends_with("provided port is already allocated"), "{}", status.message);
}

/// A server with ranges of these families.
async fn boot_in(ranges: &[&str]) -> TestApi {
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    options.service_cidrs = ranges.iter().map(|range| range.parse().expect("a range")).collect();
    boot_with(options).await
}

fn texts(object: &Object, field: &str) -> Vec<String> {
    object.list(&["spec", field]).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[actix::test]
async fn services_of_two_families_gain_and_lose_addresses() {
    for ranges in [["10.96.0.0/16", "fd00:10:96::/112"], ["fd00:10:96::/112", "10.96.0.0/16"]] {
        let api = boot_in(&ranges).await;
        let usual = if ranges[0].contains(':') { ["IPv6", "IPv4"] } else { ["IPv4", "IPv6"] };
        let single = api.create(service("single", web("ClusterIP"))).await;
        assert_eq!((texts(&single, "ipFamilies"), texts(&single, "clusterIPs").len()), (vec![usual[0].to_owned()], 1));
        assert_eq!(single.str(&["spec", "ipFamilyPolicy"]), "SingleStack");

        let patch = |policy: &str| {
            let patch = json!({"spec": {"ipFamilyPolicy": policy}});
            api.patch(api.target("services", "default", "single"), PatchType::Merge, patch)
        };
        let both = patch("RequireDualStack").await.expect("gains a family");
        assert_eq!(texts(&both, "ipFamilies"), usual);
        let ips = texts(&both, "clusterIPs");
        assert_eq!(ips[0], single.str(&["spec", "clusterIP"]), "what it has it keeps");
        assert_eq!(ips.iter().map(|ip| ip.contains(':')).collect::<Vec<_>>(), usual.map(|family| family == "IPv6"));
        assert_eq!(api.names("ipaddresses.networking.k8s.io", "").await.len(), 2);
        let again = patch("SingleStack").await.expect("loses it");
        assert_eq!(texts(&again, "clusterIPs"), [ips[0].clone()]);
        assert_eq!(api.names("ipaddresses.networking.k8s.io", "").await, [ips[0].clone()], "the other address is given back");

        let mut other = web("ClusterIP");
        other["ipFamilies"] = json!([usual[1]]);
        assert_eq!(texts(&api.create(service("other", other)).await, "ipFamilies"), [usual[1]]);
        let mut headless = web("ClusterIP");
        headless["clusterIP"] = json!("None");
        headless["ipFamilyPolicy"] = json!("PreferDualStack");
        let headless = api.create(service("headless", headless)).await;
        assert_eq!((texts(&headless, "ipFamilies"), texts(&headless, "clusterIPs")), (usual.map(str::to_owned).to_vec(), vec!["None".to_owned()]));
        let free = api.create(service("free", json!({"clusterIP": "None", "ports": [{"port": 80}]}))).await;
        assert_eq!((free.str(&["spec", "ipFamilyPolicy"]), texts(&free, "ipFamilies").len()), ("RequireDualStack", 2));
    }
}

#[actix::test]
async fn a_cluster_of_ipv6_alone_gives_ipv6_addresses() {
    let api = boot_in(&["fd00:10:96::/112"]).await;
    let created = api.create(service("a", web("ClusterIP"))).await;
    assert_eq!(texts(&created, "ipFamilies"), ["IPv6"]);
    assert!(created.str(&["spec", "clusterIP"]).starts_with("fd00:10:96::"));
    let mut other = web("ClusterIP");
    other["ipFamilies"] = json!(["IPv4"]);
    let status = api.try_create(service("b", other)).await.expect_err("is refused");
    assert!(status.message.contains("spec.ipFamilies[0]: Invalid value: \"IPv4\": not configured on this cluster"), "{}", status.message);
}

#[actix::test]
async fn the_default_range_of_a_cluster_grows_by_the_other_family() {
    let store = Arc::new(MemoryStore::new());
    for (ranges, wanted) in [
        (vec!["10.96.0.0/16"], vec!["10.96.0.0/16"]),
        (vec!["10.96.0.0/16", "fd00:10:96::/112"], vec!["10.96.0.0/16", "fd00:10:96::/112"]),
        (vec!["10.96.0.0/16"], vec!["10.96.0.0/16", "fd00:10:96::/112"]),
    ] {
        let mut options = ApiServerOptions::new(store.clone());
        options.service_cidrs = ranges.iter().map(|range| range.parse().expect("a range")).collect();
        let api = boot_with(options).await;
        let bootstrap = Bootstrap { advertise: Some(([198, 51, 100, 2].into(), 6443)), ..Bootstrap::default() };
        api.server.bootstrap(&bootstrap).await.expect("makes what every cluster has");
        let range = api.get("servicecidrs.networking.k8s.io", "", "kubernetes").await.expect("there");
        assert_eq!(texts(&range, "cidrs"), wanted);
        assert_eq!(texts(&api.get("services", "default", "kubernetes").await.expect("there"), "clusterIPs"), ["10.96.0.1"]);
    }
}

#[actix::test]
async fn a_further_range_widens_what_services_get_when_it_is_ready() {
    use crate::{
        controllers::service_cidr::ServiceCidrController,
        runtime::{cache::Caches, controller},
    };
    let api = boot().await;
    let mut spec = web("ClusterIP");
    spec["clusterIP"] = json!("10.200.0.7");
    let range =
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "more"}, "spec": {"cidrs": ["10.200.0.0/24"]}});
    api.create(range).await;
    let status = api.try_create(service("a", spec.clone())).await.expect_err("it is not ready");
    assert!(status.message.contains("the provided network does not match the current range"), "{}", status.message);

    let caches = Caches::new(api.server.system().clone(), api.client.clone());
    controller::start(api.server.system(), &caches, api.client.clone(), ServiceCidrController::new(&caches));
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    let created = loop {
        match api.try_create(service("a", spec.clone())).await {
            Ok(created) => break created,
            Err(status) => assert!(tokio::time::Instant::now() < deadline, "{}", status.message),
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert_eq!(created.str(&["spec", "clusterIP"]), "10.200.0.7");
    let known = api.get("servicecidrs.networking.k8s.io", "", "more").await.expect("there");
    assert_eq!(known.list(&["metadata", "finalizers"]), [json!("networking.k8s.io/service-cidr-finalizer")]);
    assert_eq!(known.list(&["status", "conditions"])[0]["message"], "Kubernetes Service CIDR is ready");

    // As long as a Service has an address there it stays, and gives out no more.
    api.delete("servicecidrs.networking.k8s.io", "", "more", Default::default()).await.expect("is taken");
    let terminating = async || {
        let known = api.get("servicecidrs.networking.k8s.io", "", "more").await.expect("it stays");
        known.list(&["status", "conditions"])[0]["reason"] == "Terminating"
    };
    while !terminating().await {
        assert!(tokio::time::Instant::now() < deadline, "nothing says why it stays");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    spec["clusterIP"] = json!("10.200.0.8");
    api.try_create(service("b", spec)).await.expect_err("the range is going");
}

/// A Service of a namespace at an external address and a port.
fn outside(namespace: &str, name: &str, ip: &str, port: Value) -> Value {
    let spec = json!({"externalIPs": [ip], "ports": [port]});
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

#[actix::test]
async fn no_service_takes_where_the_server_listens_whatever_it_advertises() {
    let mut options = ApiServerOptions::new(Arc::new(MemoryStore::new()));
    let own = ["198.51.100.2", "2001:db8::2"].map(|ip| ip.parse::<IpAddr>().expect("an address"));
    options.listening = Listening { ports: vec![6443], addresses: Arc::new(move || own.to_vec()) };
    let api = boot_with(options).await;
    for (ip, port) in [
        ("198.51.100.2", json!({"port": 6443})),
        ("198.51.100.2", json!({"port": 10250})),
        ("198.51.100.2", json!({"port": 31000})),
        ("198.51.100.2", json!({"port": 8472, "protocol": "UDP"})),
        ("2001:db8::2", json!({"port": 6443})),
        ("64:ff9b::c633:6402", json!({"port": 6443})),
    ] {
        let status = api.try_create(outside("default", "a", ip, port.clone())).await.expect_err("is refused");
        assert!(status.code == 422 && status.message.contains("spec.externalIPs[0]"), "{ip} {port}: {}", status.message);
    }
    api.create(outside("default", "a", "198.51.100.2", json!({"port": 80}))).await;
}

#[actix::test]
async fn another_namespaces_external_address_is_refused_and_ones_own_is_not() {
    let api = boot().await;
    api.create(outside("default", "web", "203.0.113.9", json!({"port": 443}))).await;
    let status = api.try_create(outside("kube-system", "robs", "203.0.113.9", json!({"port": 443}))).await.expect_err("is refused");
    assert_eq!(
        status.message,
        "Service \"robs\" is invalid: spec.externalIPs[0]: Invalid value: \"203.0.113.9\": \
         a Service of another namespace has port 443/TCP of this address"
    );
    api.create(outside("default", "again", "203.0.113.9", json!({"port": 443}))).await;
    let mut beside = api.create(outside("kube-system", "beside", "203.0.113.9", json!({"port": 444}))).await;
    beside.set(&["spec", "ports"], json!([{"port": 443, "protocol": "TCP"}]));
    let status = api.try_update(beside.into_value()).await.expect_err("by an update neither");
    assert!(status.message.contains("a Service of another namespace has port 443/TCP"), "{}", status.message);
}
