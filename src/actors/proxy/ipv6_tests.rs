//! The rules of IPv6, as the kernel takes and prints them, and packets by them. Needs root, as the project's tests do.

use std::{
    collections::BTreeMap,
    io::Write,
    net::{TcpListener, UdpSocket},
    sync::Arc,
};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use troupe_api::meta::ObjectKey;
use troupe_net::{
    iptables::{Family, HostIptables, Iptables, Observed, RuleSet, Table},
    podnet,
};

use super::{
    base,
    endpoints::Location,
    kernel_tests::{Namespace, ask_tcp, sh},
    layout::{Changes, Ledger},
    plan::{NodeView, plan},
    ranges,
    tests::service,
};

fn node() -> NodeView {
    NodeView {
        location: Location { node: "n1".into(), zone: "z1".into() },
        node_ip: Some("2001:db8::1".parse().expect("an address")),
        cluster_range: "fd00:10:244::/56".parse().expect("a network"),
        daemons: Arc::default(),
    }
}

fn slice(endpoints: &[&str], family: &str) -> Arc<EndpointSlice> {
    let endpoints: Vec<Value> = endpoints.iter().map(|ip| json!({"addresses": [ip], "nodeName": "n1", "conditions": {"ready": true}})).collect();
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 5353, "protocol": "UDP"}]);
    let metadata = json!({"name": format!("web-{family}"), "namespace": "ns", "labels": {"kubernetes.io/service-name": "web"}});
    Arc::new(serde_json::from_value(json!({"metadata": metadata, "addressType": family, "endpoints": endpoints, "ports": ports})).expect("a slice"))
}

/// A Service of both families with everything that has rules of its own.
fn web(extra: &Value) -> k8s_openapi::api::core::v1::Service {
    let mut spec = json!({
        "type": "LoadBalancer", "clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20", "fd00:10:96::14"], "ipFamilies": ["IPv4", "IPv6"],
        "externalIPs": ["198.51.100.9", "2001:db8::9"], "loadBalancerSourceRanges": ["192.0.2.0/24", "2001:db8:7::/48"],
        "sessionAffinity": "ClientIP",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}, {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053}],
    });
    spec.as_object_mut().expect("a map").extend(extra.as_object().expect("a map").clone());
    let mut service = service("web", spec);
    let ingress = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.20"}, {"ip": "2001:db8::20"}]}});
    service.status = serde_json::from_value(ingress).expect("a status");
    service
}

async fn observe(iptables: &dyn Iptables) -> Observed {
    let mut observed = Observed::default();
    for table in [Table::Filter, Table::Nat] {
        observed.read(&iptables.save(table).await.expect("saves"));
    }
    observed
}

#[test]
fn a_service_has_the_rules_of_each_family_for_its_addresses_of_that_family() {
    let slices = [slice(&["10.244.0.5"], "IPv4"), slice(&["fd00:10:244::5"], "IPv6")];
    let text = RuleSet::default().diff(&plan(&web(&json!({})), &slices, &node()).rules).to_restore();
    for wanted in
        ["-d fd00:10:96::14/128", "-d 2001:db8::9/128", "-d 2001:db8::20/128", "-s 2001:db8:7::/48", "--to-destination [fd00:10:244::5]:8080"]
    {
        assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
    }
    assert!(!text.contains("10.244.") && !text.contains("198.51.") && !text.contains("192.0.2."), "{text}");
    let none = RuleSet::default().diff(&plan(&web(&json!({})), &slices[..1], &node()).rules).to_restore();
    assert!(none.contains("REJECT --reject-with icmp6-port-unreachable"), "{none}");
}

#[test]
fn a_service_without_an_address_of_the_family_has_no_rules_of_it() {
    let v4 = service("web", json!({"clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20"], "ports": [{"name": "http", "port": 80}]}));
    assert!(plan(&v4, &[slice(&["fd00:10:244::5"], "IPv6")], &node()).rules.is_empty());
}

#[tokio::test]
async fn the_kernel_prints_rules_of_ipv6_as_we_spell_them() {
    let namespace = Namespace::new();
    let iptables = HostIptables::within(namespace.path()).of(Family::V6);
    let mut ledger = Ledger::new(base::rules(true, Family::V6), Family::V6);
    let range = serde_json::from_value(json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16", "fd00:10:96::/112"]}}));
    let refused = ranges::plan(Some(&Arc::new(range.expect("a range"))), Family::V6).rules;
    let owner = ObjectKey::new("ns", "web");
    let all = [slice(&["10.244.0.5"], "IPv4"), slice(&["fd00:10:244::5", "fd00:10:244:1::6"], "IPv6")];
    let changes: Vec<Changes> = vec![
        [(ranges::owner(), Some(refused))].into(),
        [(owner.clone(), Some(plan(&web(&json!({})), &all, &node()).rules))].into(),
        [(owner.clone(), Some(plan(&web(&json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": 30999})), &all, &node()).rules))].into(),
        [(owner.clone(), Some(plan(&web(&json!({})), &[], &node()).rules))].into(),
        [(owner, None)].into(),
    ];
    iptables.restore(ledger.reconcile(&observe(&iptables).await).to_restore()).await.expect("applies");
    for change in changes {
        let text = ledger.patch(&change).to_restore();
        iptables.restore(text.clone()).await.unwrap_or_else(|error| panic!("{error}\n{text}"));
        ledger.commit(&change);
        let left = ledger.reconcile(&observe(&iptables).await);
        assert!(left.is_empty(), "{}", left.to_restore());
    }
    let pods = podnet::rules("fd00:10:244::/56".parse().expect("a network"), "fd00:10:244::/64".parse().expect("a network"), &[]);
    iptables.restore(pods.reconcile(&observe(&iptables).await, podnet::is_ours).to_restore()).await.expect("applies");
    let left = pods.reconcile(&observe(&iptables).await, podnet::is_ours);
    assert!(left.is_empty(), "{}", left.to_restore());
}

/// A node with a bridge, and pods on it at `fd00:10:244::N`.
fn fixture(pods: &[u8]) -> (Namespace, BTreeMap<u8, Namespace>) {
    let node = Namespace::new();
    let n = node.name();
    sh(&format!(
        "ip -n {n} link add br0 type bridge && ip -n {n} link set br0 up && ip -n {n} addr add fd00:10:244::1/64 dev br0 nodad \
         && ip -n {n} link add up0 type veth peer name up1 && ip -n {n} addr add 2001:db8::1/64 dev up0 nodad && ip -n {n} link set up0 up \
         && ip -n {n} link set up1 up && ip -n {n} route add default via 2001:db8::2"
    ));
    node.run(|| sh("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"));
    let attach = |number: u8| {
        let pod = Namespace::new();
        let p = pod.name();
        sh(&format!(
            "ip -n {n} link add v{number} type veth peer name eth0 netns {p} && ip -n {n} link set v{number} master br0 up \
             && ip -n {n} link set v{number} type bridge_slave hairpin on && ip -n {p} link set eth0 up \
             && ip -n {p} addr add fd00:10:244::{number}/64 dev eth0 nodad && ip -n {p} route add default via fd00:10:244::1"
        ));
        (number, pod)
    };
    let pods = pods.iter().map(|number| attach(*number)).collect();
    (node, pods)
}

fn serve(pod: &Namespace, word: &'static str) {
    let listener = pod.run(|| TcpListener::bind("[::]:8080").expect("binds"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // The client may have left; the next one is served all the same.
            let _ = { stream }.write_all(word.as_bytes());
        }
    });
    let socket = pod.run(|| UdpSocket::bind("[::]:5353").expect("binds"));
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(word.as_bytes(), from);
        }
    });
}

/// What comes back, once neighbours have found each other: on a busy machine that may take longer than one try.
fn answer(from: &Namespace, to: &str) -> Result<String, std::io::ErrorKind> {
    let is_lost = |answer: &Result<String, std::io::ErrorKind>| {
        matches!(answer, Err(std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock | std::io::ErrorKind::HostUnreachable))
    };
    let mut answers = std::iter::repeat_with(|| ask_tcp(from, to)).take(10);
    answers.find(|answer| !is_lost(answer)).unwrap_or(Err(std::io::ErrorKind::TimedOut))
}

#[tokio::test]
async fn packets_reach_endpoints_by_ipv6_and_are_refused_where_nobody_listens() {
    let (node_machine, pods) = fixture(&[5, 6, 7]);
    for (number, word) in [(5, "five"), (6, "six")] {
        serve(&pods[&number], word);
    }
    let iptables = HostIptables::within(node_machine.path()).of(Family::V6);
    let mut ledger = Ledger::new(base::rules(true, Family::V6), Family::V6);
    iptables.restore(ledger.reconcile(&observe(&iptables).await).to_restore()).await.expect("applies");
    let range = serde_json::from_value(json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["fd00:10:96::/112"]}})).expect("a range");
    let endpoints = [slice(&["fd00:10:244::5", "fd00:10:244::6"], "IPv6")];
    let service = web(&json!({"sessionAffinity": "None", "loadBalancerSourceRanges": null}));
    let changes: Changes = [
        (ranges::owner(), Some(ranges::plan(Some(&Arc::new(range)), Family::V6).rules)),
        (ObjectKey::new("ns", "web"), Some(plan(&service, &endpoints, &node()).rules)),
    ]
    .into();
    let text = ledger.patch(&changes).to_restore();
    iptables.restore(text.clone()).await.unwrap_or_else(|error| panic!("{error}\n{text}"));
    ledger.commit(&changes);
    for address in ["[fd00:10:96::14]:80", "[2001:db8::9]:80", "[2001:db8::20]:80", "[2001:db8::1]:30080"] {
        // The node itself, a pod that serves nothing, and one that may come back to itself.
        for from in [&node_machine, &pods[&7], &pods[&5]] {
            let told = answer(from, address);
            assert!(told.as_deref().is_ok_and(|word| ["five", "six"].contains(&word)), "{address}: {told:?}");
        }
    }
    let refused = answer(&pods[&7], "[fd00:10:96::14]:81");
    assert_eq!(refused, Err(std::io::ErrorKind::ConnectionRefused), "no port of the Service");
    let refused = answer(&pods[&7], "[fd00:10:96::15]:80");
    assert_eq!(refused, Err(std::io::ErrorKind::ConnectionRefused), "no Service");
}
