//! The same rules against the kernel, in network namespaces of their own. Needs root, as the project's tests do.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::json;
use troupe_api::meta::ObjectKey;
use troupe_net::{
    iptables::{Family, HostIptables, Iptables},
    netns, podnet,
};

use super::{
    base,
    layout::{Changes, Ledger},
    plan::plan,
    ranges,
    spread_tests::{Many, balancer_ip, external_ip},
    tests::{changes, node, observe, service, slice},
    wide_tests::wide,
};

/// A named network namespace, removed on drop.
pub struct Namespace {
    name: String,
}

impl Namespace {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tp{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        sh(&format!("ip netns add {name} && ip -n {name} link set lo up"));
        Namespace { name }
    }

    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::run(&self.path(), work).expect("the namespace exists")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A namespace that is gone already needs no removal.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

pub fn sh(script: &str) {
    let status = Command::new("sh").args(["-ec", script]).status().expect("a shell");
    assert!(status.success(), "{script}");
}

/// A node with a bridge and pods on it: each pod a namespace at `10.244.0.N`.
pub struct Fixture {
    pub node: Namespace,
    pub pods: Vec<Namespace>,
}

impl Fixture {
    pub fn new(pods: &[u8]) -> Self {
        let node = Namespace::new();
        let n = &node.name;
        sh(&format!(
            "ip -n {n} link add br0 type bridge && ip -n {n} addr add 10.244.0.1/24 dev br0 && ip -n {n} link set br0 up && ip -n {n} link add up0 type veth peer name up1 \
             && ip -n {n} addr add 192.0.2.1/24 dev up0 && ip -n {n} link set up0 up && ip -n {n} link set up1 up && ip -n {n} route add default via 192.0.2.2"
        ));
        node.run(|| sh("echo 1 > /proc/sys/net/ipv4/ip_forward"));
        let pods = pods
            .iter()
            .map(|ip| {
                let pod = Namespace::new();
                let p = &pod.name;
                sh(&format!(
                    "ip -n {n} link add v{ip} type veth peer name eth0 netns {p} && ip -n {n} link set v{ip} master br0 up \
                     && ip -n {n} link set v{ip} type bridge_slave hairpin on \
                     && ip -n {p} addr add 10.244.0.{ip}/24 dev eth0 && ip -n {p} link set eth0 up && ip -n {p} route add default via 10.244.0.1"
                ));
                pod
            })
            .collect();
        Fixture { node, pods }
    }

    pub fn iptables(&self) -> HostIptables {
        HostIptables::within(self.node.path())
    }
}

/// Serves one word per TCP connection, forever.
pub fn serve_tcp(pod: &Namespace, port: u16, word: &'static str) {
    let listener = pod.run(|| TcpListener::bind(("0.0.0.0", port)).expect("binds"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // The client may have left; the next one is served all the same.
            let _ = { stream }.write_all(word.as_bytes());
        }
    });
}

pub fn serve_udp(pod: &Namespace, port: u16, word: &'static str) {
    serve_udp_at(pod, "0.0.0.0", port, word);
}

/// Answers come from the address that was asked only where it is the one that is bound.
fn serve_udp_at(pod: &Namespace, ip: &str, port: u16, word: &'static str) {
    let socket = pod.run(|| UdpSocket::bind((ip, port)).expect("binds"));
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(word.as_bytes(), from);
        }
    });
}

pub fn ask_tcp(from: &Namespace, to: &str) -> Result<String, std::io::ErrorKind> {
    let to = to.parse().expect("an address");
    from.run(|| {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2)).map_err(|error| error.kind())?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).expect("sets");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|error| error.kind())?;
        Ok(answer)
    })
}

pub fn ask_udp(from: &Namespace, to: &str) -> Result<String, std::io::ErrorKind> {
    from.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("binds");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("sets");
        socket.connect(to).expect("connects");
        socket.send(b"hello").map_err(|error| error.kind())?;
        let mut buffer = [0; 64];
        let count = socket.recv(&mut buffer).map_err(|error| error.kind())?;
        Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
    })
}

async fn apply(iptables: &dyn Iptables, ledger: &mut Ledger, changes: &Changes) {
    let text = ledger.patch(changes).to_restore();
    iptables.restore(text.clone()).await.unwrap_or_else(|error| panic!("{error}\n{text}"));
    ledger.commit(changes);
}

#[tokio::test]
async fn the_kernel_prints_our_rules_as_we_spell_them() {
    let namespace = Namespace::new();
    let iptables = HostIptables::within(namespace.path());
    let mut ledger = Ledger::new(base::rules(true, Family::V4), Family::V4);
    iptables.restore(ledger.reconcile(&observe(&iptables).await).to_restore()).await.expect("applies");
    let left = ledger.reconcile(&observe(&iptables).await);
    assert!(left.is_empty(), "{}", left.to_restore());
    let steps = (0..16)
        .map(|kind| (kind, Some((kind, vec![(kind + 1, true, true), (kind + 20, false, true), (kind + 40, false, true)]))))
        .collect::<Vec<_>>();
    apply(&iptables, &mut ledger, &changes(&steps)).await;
    let left = ledger.reconcile(&observe(&iptables).await);
    assert!(left.is_empty(), "{}", left.to_restore());
    for ready in [true, false] {
        let (service, slices) = wide("wide", "10.96.9.9", 300, ready);
        let rules = plan(&service, &slices, &node()).rules;
        apply(&iptables, &mut ledger, &[(ObjectKey::new("ns", "wide"), Some(rules))].into()).await;
        let left = ledger.reconcile(&observe(&iptables).await);
        assert!(left.is_empty(), "{}", left.to_restore());
    }
    apply(&iptables, &mut ledger, &[(ObjectKey::new("ns", "wide"), None)].into()).await;
    let gone = (0..16).map(|kind| (kind, None)).collect::<Vec<_>>();
    apply(&iptables, &mut ledger, &changes(&gone)).await;
    let left = ledger.reconcile(&observe(&iptables).await);
    assert!(left.is_empty(), "{}", left.to_restore());
}

#[tokio::test]
async fn the_pod_networks_rules_round_trip_and_leave_without_a_trace() {
    let namespace = Namespace::new();
    let iptables = HostIptables::within(namespace.path());
    let before = observe(&iptables).await;
    let rules = podnet::rules("10.244.0.0/16".parse().expect("a network"), "10.244.0.0/24".parse().expect("a network"), &[]);
    iptables.restore(rules.reconcile(&before, podnet::is_ours).to_restore()).await.expect("applies");
    let left = rules.reconcile(&observe(&iptables).await, podnet::is_ours);
    assert!(left.is_empty(), "{}", left.to_restore());
    let removal = troupe_net::cleanup::removal(&observe(&iptables).await, troupe_net::cleanup::is_ours);
    iptables.restore(removal.to_restore()).await.expect("applies");
    let mut after = observe(&iptables).await;
    assert!(after.chains().all(|(_, rules)| rules.is_empty()));
    after = observe(&iptables).await;
    assert!(after.chains().all(|(id, _)| !troupe_net::cleanup::is_ours(id)));
}

#[tokio::test]
async fn lines_that_stand_twice_are_put_in_anew_and_all_leave() {
    let namespace = Namespace::new();
    let iptables = HostIptables::within(namespace.path());
    let rules = podnet::rules("10.244.0.0/16".parse().expect("a network"), "10.244.0.0/24".parse().expect("a network"));
    let twice = async || {
        let again: String =
            rules.lines.iter().map(|line| format!("*{}\n-A {} {}\nCOMMIT\n", line.chain.table.name(), line.chain.name, line.rule)).collect();
        iptables.restore(again).await.expect("applies");
    };
    iptables.restore(rules.reconcile(&observe(&iptables).await, podnet::is_ours).to_restore()).await.expect("applies");
    twice().await;
    let patch = rules.reconcile(&observe(&iptables).await, podnet::is_ours);
    assert_eq!((patch.add.len(), patch.remove.values().sum::<usize>()), (rules.lines.len(), 2 * rules.lines.len()));
    iptables.restore(patch.to_restore()).await.expect("applies");
    let left = rules.reconcile(&observe(&iptables).await, podnet::is_ours);
    assert!(left.is_empty(), "{}", left.to_restore());
    twice().await;
    let failures = troupe_net::cleanup::remove_chains(&iptables, troupe_net::cleanup::is_ours).await;
    assert!(failures.is_empty(), "{failures:?}");
    assert!(observe(&iptables).await.chains().all(|(id, rules)| rules.is_empty() && !troupe_net::cleanup::is_ours(id)));
}

#[tokio::test]
async fn traffic_reaches_endpoints_through_every_address_of_a_service() {
    let fixture = Fixture::new(&[5, 6, 7]);
    let [a, b, client] = fixture.pods.as_slice() else { panic!("three pods") };
    serve_tcp(a, 8080, "a");
    serve_tcp(b, 8080, "b");
    serve_udp(a, 5353, "u");
    let iptables = fixture.iptables();
    let mut ledger = Ledger::new(base::rules(false, Family::V4), Family::V4);
    iptables.restore(ledger.reconcile(&observe(&iptables).await).to_restore()).await.expect("applies");
    let spec = json!({
        "type": "NodePort", "clusterIP": "10.96.0.20",
        "ports": [{"name": "t", "port": 80, "protocol": "TCP", "nodePort": 30080}, {"name": "u", "port": 53, "protocol": "UDP"}],
    });
    let ports = json!([{"name": "t", "port": 8080, "protocol": "TCP"}, {"name": "u", "port": 5353, "protocol": "UDP"}]);
    let with = |ips: &[u8]| {
        let endpoints = ips.iter().map(|ip| json!({"addresses": [format!("10.244.0.{ip}")], "nodeName": "n1"})).collect::<Vec<_>>();
        let rules = plan(&service("web", spec.clone()), &[slice("web", "web-1", ports.clone(), json!(endpoints))], &node()).rules;
        Changes::from([(ObjectKey::new("ns", "web"), Some(rules))])
    };
    apply(&iptables, &mut ledger, &with(&[5])).await;
    assert_eq!(ask_tcp(client, "10.96.0.20:80").as_deref(), Ok("a"));
    assert_eq!(ask_tcp(a, "10.96.0.20:80").as_deref(), Ok("a"), "a pod reaches itself through its service");
    assert_eq!(ask_tcp(&fixture.node, "10.96.0.20:80").as_deref(), Ok("a"));
    assert_eq!(ask_tcp(client, "10.244.0.1:30080").as_deref(), Ok("a"));
    assert_eq!(ask_udp(client, "10.96.0.20:53").as_deref(), Ok("u"));
    apply(&iptables, &mut ledger, &with(&[5, 6])).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        seen.insert(ask_tcp(client, "10.96.0.20:80").expect("answers"));
    }
    assert_eq!(seen.len(), 2, "both endpoints are used");
    apply(&iptables, &mut ledger, &with(&[])).await;
    assert_eq!(ask_tcp(client, "10.96.0.20:80"), Err(std::io::ErrorKind::ConnectionRefused));
}

#[tokio::test]
async fn what_the_daemons_of_a_node_listen_at_is_no_services_and_no_pods() {
    let fixture = Fixture::new(&[5, 7]);
    let [pod, client] = fixture.pods.as_slice() else { panic!("two pods") };
    for (place, ip, word) in [(pod, "0.0.0.0", "pod"), (&fixture.node, "192.0.2.1", "node")] {
        serve_tcp(place, 6443, word);
        serve_udp_at(place, ip, 8472, word);
    }
    let iptables = fixture.iptables();
    // As the portmap plugin leads from a host port to a pod.
    let mapped = "*nat\n:CNI-HOSTPORT-DNAT - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n\
                  -A CNI-HOSTPORT-DNAT -p udp -m udp --dport 8472 -j DNAT --to-destination 10.244.0.5:8472\nCOMMIT\n";
    iptables.restore(mapped.to_owned()).await.expect("applies");
    let mut ledger = Ledger::new(base::rules(false, Family::V4), Family::V4);
    iptables.restore(ledger.reconcile(&observe(&iptables).await).to_restore()).await.expect("applies");
    let ports = json!([{"name": "t", "port": 6443, "protocol": "TCP"}, {"name": "u", "port": 8472, "protocol": "UDP"}]);
    let spec = json!({"clusterIP": "10.96.0.20", "externalIPs": ["192.0.2.1", "203.0.113.5"], "ports": ports});
    let with = |ips: &[u8]| {
        let endpoints = ips.iter().map(|ip| json!({"addresses": [format!("10.244.0.{ip}")], "nodeName": "n1"})).collect::<Vec<_>>();
        let rules = plan(&service("web", spec.clone()), &[slice("web", "web-1", ports.clone(), json!(endpoints))], &node()).rules;
        Changes::from([(ObjectKey::new("ns", "web"), Some(rules))])
    };
    for ips in [vec![5_u8], Vec::new()] {
        apply(&iptables, &mut ledger, &with(&ips)).await;
        let left = ledger.reconcile(&observe(&iptables).await);
        assert!(left.is_empty(), "{}", left.to_restore());
        for from in [client, &fixture.node] {
            assert_eq!(ask_tcp(from, "192.0.2.1:6443").as_deref(), Ok("node"));
            assert_eq!(ask_udp(from, "192.0.2.1:8472").as_deref(), Ok("node"));
        }
        let elsewhere = ask_tcp(client, "203.0.113.5:6443");
        assert_eq!(elsewhere.as_deref(), if ips.is_empty() { Err(&std::io::ErrorKind::ConnectionRefused) } else { Ok("pod") });
    }
    apply(&iptables, &mut ledger, &with(&[5])).await;
    assert!(ask_udp(&fixture.node, "203.0.113.5:8472").is_err(), "what a node sends through the tunnel goes to no pod");
}

#[tokio::test]
async fn many_addresses_ports_and_sources_meet_in_the_kernel_as_planned() {
    let fixture = Fixture::new(&[5, 7]);
    let [pod, client] = fixture.pods.as_slice() else { panic!("two pods") };
    serve_tcp(pod, 10_001, "first");
    serve_tcp(pod, 10_050, "last");
    let iptables = fixture.iptables();
    let mut ledger = Ledger::new(base::rules(false, Family::V4), Family::V4);
    iptables.restore(ledger.reconcile(&observe(&iptables).await).to_restore()).await.expect("applies");
    let many = Many { external: 50, balancers: 2, ports: 50, endpoints: 1, ready: true, ..Many::default() };
    let endpoint = json!([{"addresses": ["10.244.0.5"], "nodeName": "n1"}]);
    let with = |sources: &[&str], many: Many, endpoints: &serde_json::Value| {
        let (mut service, slices) = many.build();
        service.spec.as_mut().expect("has one").load_balancer_source_ranges = Some(sources.iter().map(|range| (*range).to_owned()).collect());
        let slice = slice("many", "many-1", json!(slices[0].ports), endpoints.clone());
        Changes::from([(ObjectKey::new("ns", "many"), Some(plan(&service, &[slice], &node()).rules))])
    };
    let allowed: Vec<String> = (0..50).map(|at| format!("203.0.{at}.0/24")).chain(["10.244.0.7/32".into(), "0.0.0.0/0".into()]).collect();
    let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
    let closed = &allowed[..50];
    let nobody = json!([]);
    let wide = Many { ports: 300, ..many };
    for (sources, many, endpoints) in
        [(closed, wide, &endpoint), (&allowed[..], wide, &nobody), (&allowed[..], many, &endpoint), (&allowed[..51], many, &endpoint)]
    {
        apply(&iptables, &mut ledger, &with(sources, many, endpoints)).await;
        let left = ledger.reconcile(&observe(&iptables).await);
        assert!(left.is_empty(), "{}", left.to_restore());
    }
    for at in [0, 49] {
        assert_eq!(ask_tcp(client, &format!("{}:1", external_ip(at))).as_deref(), Ok("first"));
        assert_eq!(ask_tcp(client, &format!("{}:50", external_ip(at))).as_deref(), Ok("last"));
    }
    assert!(ask_tcp(client, &format!("{}:51", external_ip(0))).is_err(), "not one of its ports");
    assert!(ask_tcp(client, &format!("{}:1", external_ip(50))).is_err(), "not one of its addresses");
    assert_eq!(ask_tcp(client, &format!("{}:50", balancer_ip(1))).as_deref(), Ok("last"));
    apply(&iptables, &mut ledger, &with(closed, many, &endpoint)).await;
    assert!(ask_tcp(client, &format!("{}:50", balancer_ip(1))).is_err(), "its source may not");
    assert_eq!(ask_tcp(client, &format!("{}:50", external_ip(1))).as_deref(), Ok("last"));
    apply(&iptables, &mut ledger, &with(closed, many, &nobody)).await;
    assert_eq!(ask_tcp(client, &format!("{}:50", external_ip(1))), Err(std::io::ErrorKind::ConnectionRefused));
    apply(&iptables, &mut ledger, &[(ObjectKey::new("ns", "many"), None)].into()).await;
    let left = ledger.reconcile(&observe(&iptables).await);
    assert!(left.is_empty(), "{}", left.to_restore());
}

#[tokio::test]
async fn a_packet_to_what_no_service_claims_is_refused_at_once() {
    let fixture = Fixture::new(&[5]);
    let iptables = fixture.iptables();
    let mut ledger = Ledger::new(base::rules(false, Family::V4), Family::V4);
    iptables.restore(ledger.reconcile(&observe(&iptables).await).to_restore()).await.expect("applies");
    let range = serde_json::from_value(json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]}})).expect("a range");
    let changes = Changes::from([(ranges::owner(), Some(ranges::plan(Some(&std::sync::Arc::new(range)), Family::V4).rules))]);
    apply(&iptables, &mut ledger, &changes).await;
    let left = ledger.reconcile(&observe(&iptables).await);
    assert!(left.is_empty(), "{}", left.to_restore());
    let refused = std::io::ErrorKind::ConnectionRefused;
    for from in [&fixture.pods[0], &fixture.node] {
        assert_eq!(ask_tcp(from, "10.96.0.77:80"), Err(refused));
    }
    assert_eq!(ask_udp(&fixture.pods[0], "10.96.0.77:53"), Err(refused));
    // The kernel tells a sender of its own before the packet is one.
    assert_eq!(ask_udp(&fixture.node, "10.96.0.77:53"), Err(std::io::ErrorKind::PermissionDenied));
}

#[tokio::test]
async fn a_client_with_affinity_stays_where_it_was_when_endpoints_join() {
    let fixture = Fixture::new(&[5, 6, 7]);
    let [a, b, client] = fixture.pods.as_slice() else { panic!("three pods") };
    serve_tcp(a, 8080, "a");
    serve_tcp(b, 8080, "b");
    let iptables = fixture.iptables();
    let mut ledger = Ledger::new(base::rules(false, Family::V4), Family::V4);
    iptables.restore(ledger.reconcile(&observe(&iptables).await).to_restore()).await.expect("applies");
    let spec = json!({"clusterIP": "10.96.0.20", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]});
    let with = |ips: &[u8]| {
        let endpoints = ips.iter().map(|ip| json!({"addresses": [format!("10.244.0.{ip}")]})).collect::<Vec<_>>();
        let rules = plan(&service("web", spec.clone()), &[slice("web", "web-1", json!([{"port": 8080}]), json!(endpoints))], &node()).rules;
        Changes::from([(ObjectKey::new("ns", "web"), Some(rules))])
    };
    apply(&iptables, &mut ledger, &with(&[5])).await;
    assert_eq!(ask_tcp(client, "10.96.0.20:80").as_deref(), Ok("a"));
    apply(&iptables, &mut ledger, &with(&[5, 6])).await;
    for _ in 0..10 {
        assert_eq!(ask_tcp(client, "10.96.0.20:80").as_deref(), Ok("a"));
    }
}
