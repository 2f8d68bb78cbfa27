//! The units and their rules against the kernel, in network namespaces of their own. Needs root, as the project's tests do.

use std::{io, net::UdpSocket, process::Command, sync::Arc, time::Duration};

use serde_json::{Value, json};
use troupe_net::{
    cni::{
        Network,
        announce::{HostPodAddresses, PodAddresses},
    },
    conntrack::{Conntrack, FlowDestination, HostConntrack, StaleFlows},
    iptables::{Family, HostIptables, IpSets, Iptables, Observed, Patch},
    neighbours::Neighbours,
    netlink::Netlink,
    netns,
};

use super::{
    layout::{PolicyLayout, PolicyOwner, TABLE, base},
    model::PodView,
    plan::{closed, peer_rules, pod_rules},
    plan_tests::{cluster_policy, deciding, pod, policy},
    unit_tests::Stage,
};
use crate::{
    proxy::kernel_tests::{Fixture, Namespace, ask_tcp, ask_udp, serve_tcp, serve_udp, sh},
    rules::{Changes, Ledger},
};

async fn observe(filter: &(impl Iptables + IpSets)) -> Observed {
    let mut observed = Observed::default();
    observed.read(&filter.save(TABLE).await.expect("saves"));
    observed.read_sets(&filter.save_sets().await.expect("saves"));
    observed
}

async fn apply(filter: &(impl Iptables + IpSets), patch: &Patch) {
    filter.restore_sets(patch.sets_before(Family::V4)).await.expect("takes sets");
    filter.restore(patch.to_restore()).await.unwrap_or_else(|error| panic!("{error}\n{}", patch.to_restore()));
    filter.restore_sets(patch.sets_after()).await.expect("takes sets");
    filter.destroy_sets(patch.destroy_sets.iter().cloned().collect()).await.expect("destroys sets");
}

fn all_sorts() -> Value {
    let ports = json!([
        {"port": 80}, {"port": 90, "endPort": 99, "protocol": "UDP"}, {"port": "web"}, {"protocol": "SCTP"}, {"port": 9, "protocol": "SCTP"},
        {"port": 1, "endPort": 65535}, {"protocol": "TCP"},
    ]);
    let peers = json!([
        {"podSelector": {"matchLabels": {"a": "b"}}}, {"namespaceSelector": {}}, {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "192.0.2.1/32"]}},
    ]);
    json!({
        "podSelector": {}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": peers, "ports": ports}, {"from": peers}, {"ports": ports}],
        "egress": [{"to": peers, "ports": ports}, {"to": peers}, {"ports": ports}],
    })
}

/// A policy of either tier with all sorts of rules.
fn all_sorts_of_tier(tier: &str) -> Value {
    let protocols = json!([
        {"tcp": {"destinationPort": {"number": 80}}}, {"udp": {"destinationPort": {"range": {"start": 90, "end": 99}}}}, {"sctp": {}},
        {"destinationNamedPort": "web"},
    ]);
    let pods = json!([{"namespaces": {}}, {"pods": {"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {}}}]);
    let elsewhere = json!([{"nodes": {}}, {"networks": ["0.0.0.0/0", "192.0.2.7/24"]}]);
    let rules = |peers: &str, all: &[&Value]| -> Vec<Value> {
        let protocols = &protocols;
        let actions = ["Accept", "Pass", "Deny"].iter();
        let each = actions.flat_map(|action| all.iter().map(move |other| json!({"action": action, peers: other, "protocols": protocols})));
        let whole = all.iter().map(|other| json!({"action": "Pass", peers: other}));
        let denied = json!({"action": "Deny", peers: [{}]});
        each.chain(whole).chain([denied]).collect()
    };
    json!({"tier": tier, "priority": 5, "subject": {"namespaces": {}}, "ingress": rules("from", &[&pods]), "egress": rules("to", &[&pods, &elsewhere])})
}

#[tokio::test]
async fn the_kernel_prints_our_rules_and_sets_as_we_spell_them() {
    let namespace = Namespace::new();
    let filter = troupe_net::iptables::HostIptables::within(namespace.path());
    let mut ledger = Ledger::<PolicyLayout>::new(base(Family::V4), Family::V4);
    apply(&filter, &ledger.reconcile(&observe(&filter).await)).await;
    let cluster = ["Admin", "Baseline"].map(|tier| cluster_policy(&tier.to_lowercase(), all_sorts_of_tier(tier)));
    // The baseline is not asked where a policy isolates.
    let isolated = deciding(vec![policy("all", all_sorts())], cluster.to_vec());
    let governed = deciding(Vec::new(), cluster.to_vec());
    let pods: Vec<PodView> = (5..40).map(|low| pod(&format!("p{low}"), json!({}), &format!("10.244.0.{low}"))).collect();
    let mut changes = Changes::<PolicyOwner>::new();
    for (at, pod) in pods.iter().enumerate() {
        let deciding = if at % 2 == 0 { &isolated } else { &governed };
        changes.insert(PolicyOwner::Pod(pod.key.clone()), Some(Arc::new(pod_rules(pod, deciding, Family::V4))));
    }
    for (id, set) in isolated.policies[0].peer_sets().into_iter().chain(cluster.iter().flat_map(|policy| policy.peer_sets())) {
        let entries = match set.kind() {
            troupe_net::iptables::SetKind::Net => vec!["10.244.1.1".to_owned(), "10.244.1.2".to_owned()],
            troupe_net::iptables::SetKind::AddressPort => vec!["10.244.1.1,tcp:80".to_owned(), "10.244.1.2,sctp:90".to_owned()],
        };
        changes.insert(PolicyOwner::Peers(id), Some(Arc::new(peer_rules(&set, entries, Family::V4))));
    }
    apply(&filter, &ledger.patch(&changes)).await;
    ledger.commit(&changes);
    let left = ledger.reconcile(&observe(&filter).await);
    assert!(left.is_empty(), "{}\n{left:?}", left.to_restore());
    let shut = Changes::from([(PolicyOwner::Pod(pods[0].key.clone()), Some(Arc::new(closed(&pods[0], Family::V4))))]);
    apply(&filter, &ledger.patch(&shut)).await;
    ledger.commit(&shut);
    assert!(ledger.reconcile(&observe(&filter).await).is_empty());
    let gone: Changes<PolicyOwner> = changes.into_keys().map(|owner| (owner, None)).collect();
    apply(&filter, &ledger.patch(&gone)).await;
    ledger.commit(&gone);
    let observed = observe(&filter).await;
    assert!(ledger.reconcile(&observed).is_empty());
    assert!(observed.sets().is_empty(), "{:?}", observed.sets());
    let removal = troupe_net::cleanup::removal(&observed, troupe_net::cleanup::is_ours);
    filter.restore(removal.to_restore()).await.expect("applies");
    assert!(observe(&filter).await.chains().all(|(id, rules)| rules.is_empty() && !troupe_net::cleanup::is_ours(id)));
}

/// Asks from a pod of the fixture, or from its node.
async fn ask(fixture: &Arc<Fixture>, from: Option<usize>, to: &str, udp: bool) -> Result<String, std::io::ErrorKind> {
    let (fixture, to) = (fixture.clone(), to.to_owned());
    let work = move || {
        let from = from.map_or(&fixture.node, |at| &fixture.pods[at]);
        if udp { ask_udp(from, &to) } else { ask_tcp(from, &to) }
    };
    tokio::task::spawn_blocking(work).await.expect("does not panic")
}

/// A cluster of three pods on one bridge.
struct Three {
    fixture: Arc<Fixture>,
    stage: Stage,
}

const SERVER: usize = 0;
const CLIENT: usize = 1;
const OTHER: usize = 2;

impl Three {
    fn new() -> Self {
        let fixture = Arc::new(Fixture::new(&[5, 6, 7]));
        for port in [80, 81] {
            serve_tcp(&fixture.pods[SERVER], port, "server");
        }
        serve_udp(&fixture.pods[SERVER], 53, "names");
        serve_tcp(&fixture.pods[OTHER], 80, "other");
        let stage = Stage::new(Arc::new(fixture.iptables()), None);
        stage.sync();
        for (name, ip) in [("server", "10.244.0.5"), ("client", "10.244.0.6"), ("other", "10.244.0.7")] {
            stage.pod(name, json!({"app": name}), ip);
        }
        Three { fixture, stage }
    }

    async fn tcp(&self, from: usize, to: &str) -> Result<String, std::io::ErrorKind> {
        ask(&self.fixture, Some(from), to, false).await
    }

    /// Asks until it is answered, or not: rules come by themselves. A packet that is dropped costs two seconds.
    async fn until(&self, from: usize, to: &str, answered: bool) {
        for _ in 0..20 {
            if self.tcp(from, to).await.is_ok() == answered {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{to} is {}answered to pod {from}", if answered { "not " } else { "" });
    }
}

/// Real packets between pods of one bridge.
#[tokio::test]
async fn pods_of_one_node_are_kept_apart_as_policies_say() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let three = Three::new();
            let stage = &three.stage;
            three.until(CLIENT, "10.244.0.5:80", true).await;

            // Nobody comes in but the node, whose probes always do.
            stage.policy("deny", json!({"podSelector": {"matchLabels": {"app": "server"}}}));
            three.until(CLIENT, "10.244.0.5:80", false).await;
            assert_eq!(ask(&three.fixture, None, "10.244.0.5:80", false).await.as_deref(), Ok("server"));
            assert_eq!(three.tcp(SERVER, "10.244.0.7:80").await.as_deref(), Ok("other"), "what it begins itself is answered");

            // Pods by label and port.
            let spec = json!({"podSelector": {"matchLabels": {"app": "server"}}, "ingress": [
                {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}]});
            stage.policy("allow", spec.clone());
            stage.peers("allow", spec, &["10.244.0.6"]);
            three.until(CLIENT, "10.244.0.5:80", true).await;
            assert_eq!(ask(&three.fixture, Some(CLIENT), "10.244.0.5:53", true).await.as_deref(), Ok("names"));
            assert!(three.tcp(CLIENT, "10.244.0.5:81").await.is_err(), "another port");
            assert!(three.tcp(OTHER, "10.244.0.5:80").await.is_err(), "another pod");

            // Nothing goes out but to a block with an exception.
            let blocks = json!({"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"],
                "egress": [{"to": [{"ipBlock": {"cidr": "10.244.0.0/24", "except": ["10.244.0.7/32"]}}]}]});
            stage.policy("out", blocks);
            three.until(CLIENT, "10.244.0.7:80", false).await;
            assert_eq!(three.tcp(CLIENT, "10.244.0.5:80").await.as_deref(), Ok("server"), "both ends allow it");
            assert_eq!(three.tcp(OTHER, "10.244.0.6:1").await, Err(std::io::ErrorKind::ConnectionRefused), "it is reached, and refuses by itself");

            for policy in ["deny", "allow", "out"] {
                stage.remove(&stage.policies, policy);
            }
            three.until(CLIENT, "10.244.0.7:80", true).await;
            three.until(OTHER, "10.244.0.5:81", true).await;
        })
        .await;
}

/// Real packets between pods that administrators' policies are about, too.
#[tokio::test]
async fn administrators_rules_stand_before_and_behind_those_of_namespaces() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let three = Three::new();
            let stage = &three.stage;
            stage.namespace(json!({"team": "red"}));
            let server = json!({"pods": {"namespaceSelector": {"matchLabels": {"team": "red"}}, "podSelector": {"matchLabels": {"app": "server"}}}});
            let client = json!({"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "client"}}}});
            let spec = |tier: &str, rules: Value| json!({"tier": tier, "priority": 5, "subject": server, "ingress": rules});

            // The baseline denies one, until somebody of the namespace allows him.
            let baseline = spec("Baseline", json!([{"action": "Deny", "from": [client]}]));
            stage.cluster_policy("baseline", baseline.clone());
            stage.cluster_peers(baseline, &["10.244.0.6"]);
            three.until(CLIENT, "10.244.0.5:80", false).await;
            assert_eq!(three.tcp(OTHER, "10.244.0.5:80").await.as_deref(), Ok("server"), "no rule is about him");
            assert_eq!(ask(&three.fixture, None, "10.244.0.5:80", false).await.as_deref(), Ok("server"), "the node");
            let allow = json!({"podSelector": {"matchLabels": {"app": "server"}}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.244.0.6/32"}}]}]});
            stage.policy("allow", allow);
            three.until(CLIENT, "10.244.0.5:80", true).await;
            assert!(three.tcp(OTHER, "10.244.0.5:80").await.is_err(), "whom the policy does not name");

            // An administrator's word stands over that: a port is denied, another one accepted, the rest left to the namespace.
            let port = |number: u16| json!([{"tcp": {"destinationPort": {"number": number}}}]);
            let admin = spec(
                "Admin",
                json!([
                {"action": "Pass", "from": [client], "protocols": [{"udp": {}}]},
                {"action": "Deny", "from": [client], "protocols": port(80)},
                {"action": "Accept", "from": [{"namespaces": {}}], "protocols": port(81)}]),
            );
            stage.cluster_policy("admin", admin);
            stage.cluster_peers(spec("Admin", json!([{"action": "Accept", "from": [{"namespaces": {}}]}])), &["10.244.0.6", "10.244.0.7"]);
            three.until(CLIENT, "10.244.0.5:80", false).await;
            three.until(OTHER, "10.244.0.5:81", true).await;
            assert!(three.tcp(OTHER, "10.244.0.5:80").await.is_err(), "still isolated");
            assert_eq!(ask(&three.fixture, Some(CLIENT), "10.244.0.5:53", true).await.as_deref(), Ok("names"), "passed on, and allowed there");

            // A pod is kept from its own node by administrators alone.
            serve_tcp(&three.fixture.node, 82, "node");
            assert_eq!(three.tcp(OTHER, "10.244.0.1:82").await.as_deref(), Ok("node"));
            let other = json!({"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "other"}}}});
            let out =
                json!({"tier": "Admin", "priority": 9, "subject": other, "egress": [{"action": "Deny", "to": [{"networks": ["10.244.0.1/32"]}]}]});
            stage.cluster_policy("out", out);
            three.until(OTHER, "10.244.0.1:82", false).await;
            stage.policy("shut", json!({"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"]}));
            three.until(CLIENT, "10.244.0.7:80", false).await;
            assert_eq!(three.tcp(CLIENT, "10.244.0.1:82").await.as_deref(), Ok("node"), "network policies let it");
            stage.remove(&stage.policies, "shut");
            stage.remove_cluster_policy("out");
            three.until(OTHER, "10.244.0.1:82", true).await;

            // Another label of the namespace, and the policies are about nobody.
            stage.namespace(json!({"team": "green"}));
            three.until(CLIENT, "10.244.0.5:80", true).await;
            stage.remove(&stage.policies, "allow");
            three.until(OTHER, "10.244.0.5:80", true).await;
        })
        .await;
}

#[tokio::test]
async fn rules_that_somebody_took_away_are_put_back() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let three = Three::new();
            three.stage.policy("deny", json!({"podSelector": {"matchLabels": {"app": "server"}}}));
            three.until(CLIENT, "10.244.0.5:80", false).await;
            let filter = three.fixture.iptables();
            filter.restore("*mangle\n-F TROUPE-POLICY\nCOMMIT\n".to_owned()).await.expect("flushes");
            assert!(three.tcp(CLIENT, "10.244.0.5:80").await.is_ok(), "the kernel obeys whoever asks");
            let back = async {
                while !observe(&filter).await.chains().any(|(id, rules)| id.name == "TROUPE-POLICY" && rules.len() == 3) {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), back).await.expect("the rules are put back");
            assert!(three.tcp(CLIENT, "10.244.0.5:80").await.is_err());
        })
        .await;
}

#[test]
fn who_had_an_address_is_forgotten_when_it_is_given_out_again() {
    let fixture = Fixture::new(&[5]);
    serve_tcp(&fixture.pods[0], 80, "pod");
    let node = fixture.node.path();
    let name = node.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    // A pod that is gone had another hardware address.
    sh(&format!("ip -n {name} neigh replace 10.244.0.5 lladdr 02:00:00:00:00:09 dev br0 nud permanent"));
    assert!(ask_tcp(&fixture.node, "10.244.0.5:80").is_err(), "the packet goes to nobody");
    let forget = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let netlink = Netlink::open().expect("a socket");
            netlink.forget(&["10.244.0.5".parse().expect("an address"), "10.244.0.99".parse().expect("an address")]).await
        })
    };
    netns::run(&node, forget).expect("the namespace exists").expect("is forgotten");
    assert_eq!(ask_tcp(&fixture.node, "10.244.0.5:80").as_deref(), Ok("pod"));
}

/// The entries of a node's connection table that tell an address.
fn tracked(node: &Namespace, address: &str) -> usize {
    let list = |family: &str| node.run(|| Command::new("conntrack").args(["-L", "-f", family]).output().expect("lists").stdout);
    let text = ["ipv4", "ipv6"].map(|family| String::from_utf8(list(family)).expect("is text")).concat();
    text.lines().filter(|line| line.split_whitespace().any(|word| word.split_once('=').is_some_and(|(_, value)| value == address))).count()
}

/// Sends one more datagram of a stream.
fn stream(socket: &UdpSocket) -> io::Result<usize> {
    socket.send(b"hello")?;
    socket.recv(&mut [0; 64])
}

#[tokio::test]
async fn a_stream_to_whoever_had_an_address_is_judged_anew() {
    let fixture = Fixture::new(&[5, 6]);
    let (node, pods) = (&fixture.node, fixture.pods.as_slice());
    let name = node.name();
    sh(&format!("ip -n {name} -6 addr add fd00:10:244::1/64 dev br0 nodad && ip -n {} -6 addr add fd00:10:244::5/64 dev eth0 nodad", pods[0].name()));
    // Both families are tracked, and a Service leads to the first pod.
    node.run(|| {
        sh("iptables -A OUTPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT && ip6tables -A OUTPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT && \
            iptables -t nat -A OUTPUT -d 10.96.0.9/32 -p tcp -j DNAT --to-destination 10.244.0.5:80");
    });
    pods.iter().for_each(|pod| serve_udp(pod, 53, "u"));
    serve_tcp(&pods[0], 80, "t");
    let ipv6 = pods[0].run(|| UdpSocket::bind("[fd00:10:244::5]:53").expect("binds"));
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((count, from)) = ipv6.recv_from(&mut buffer) {
            // Who asked may have gone.
            let _ = ipv6.send_to(&buffer[..count], from);
        }
    });
    let streams = [("0.0.0.0:0", "10.244.0.5:53"), ("[::]:0", "[fd00:10:244::5]:53")].map(|(from, to)| {
        let socket = node.run(|| UdpSocket::bind(from).expect("binds"));
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("sets");
        socket.connect(to).expect("connects");
        stream(&socket).expect("is answered");
        socket
    });
    assert_eq!(ask_tcp(node, "10.96.0.9:80").as_deref(), Ok("t"));
    assert_eq!(ask_udp(node, "10.244.0.6:53").as_deref(), Ok("u"));
    // Nobody may any more, and who did may go on.
    node.run(|| sh("iptables -A OUTPUT -d 10.244.0.5/32 -j DROP && ip6tables -A OUTPUT -d fd00:10:244::5/128 -j DROP"));
    for socket in &streams {
        stream(socket).expect("is established");
    }
    assert_eq!((tracked(node, "10.96.0.9"), tracked(node, "fd00:10:244::5")), (1, 1));

    let ips = ["10.244.0.5", "fd00:10:244::5"].map(|ip| ip.parse::<std::net::IpAddr>().expect("an address"));
    let conntrack = HostConntrack::within(node.path());
    conntrack.forget_addresses(&ips).await.expect("forgets");
    for address in ["10.244.0.5", "10.96.0.9", "fd00:10:244::5"] {
        assert_eq!(tracked(node, address), 0, "{address}");
    }
    assert_eq!(tracked(node, "10.244.0.6"), 1, "nobody else's");
    for socket in &streams {
        stream(socket).expect_err("is judged anew");
    }
    conntrack.forget_addresses(&ips).await.expect("has nothing to forget");
}

#[tokio::test]
async fn the_kernel_tells_that_somebody_changed_rules_or_sets() {
    let node = Namespace::new();
    let filter = HostIptables::within(node.path());
    let version = node.run(|| Command::new("iptables").arg("--version").output().expect("tells").stdout);
    let counts = String::from_utf8_lossy(&version).contains("nf_tables");
    let first = filter.generation().await;
    assert_eq!(first.is_some(), counts, "the older packet filter counts nothing");
    assert_eq!(filter.fingerprint(Some("s")).await, None, "there is no such set");
    node.run(|| sh("ipset create s hash:net,iface && iptables -t raw -N A"));
    let (second, empty) = (filter.generation().await, filter.fingerprint(Some("s")).await);
    assert!(empty.is_some() && (!counts || second != first));
    observe(&filter).await;
    assert_eq!((filter.generation().await, filter.fingerprint(Some("s")).await), (second, empty), "who reads changes nothing");
    let all = filter.fingerprint(None).await;
    node.run(|| sh("ipset add s 10.0.0.1,lo && ip6tables -t raw -N A"));
    assert!(filter.fingerprint(Some("s")).await != empty && filter.fingerprint(None).await != all);
    assert!(!counts || filter.generation().await != second, "of whatever family");
}

#[tokio::test]
async fn a_stream_to_an_endpoint_that_left_is_translated_anew() {
    let fixture = Fixture::new(&[5, 6]);
    let (node, pods) = (&fixture.node, fixture.pods.as_slice());
    let lead_to = |pod: &str, verb: &str| {
        node.run(|| sh(&format!("iptables -t nat {verb} -d 10.96.0.10/32 -p udp --dport 53 -j DNAT --to-destination {pod}:53")));
    };
    lead_to("10.244.0.5", "-A OUTPUT");
    serve_udp(&pods[0], 53, "five");
    serve_udp(&pods[1], 53, "six");
    let socket = node.run(|| UdpSocket::bind("0.0.0.0:0").expect("binds"));
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("sets");
    socket.connect("10.96.0.10:53").expect("connects");
    let ask = || {
        let mut buffer = [0; 64];
        socket.send(b"hello").expect("is sent");
        let count = socket.recv(&mut buffer).expect("is answered");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    assert_eq!(ask(), "five");
    lead_to("10.244.0.6", "-R OUTPUT 1");
    assert_eq!(ask(), "five", "streams stay where they are");
    let conntrack = HostConntrack::within(node.path());
    let to = |endpoint: &str| {
        let destination = FlowDestination::Address("10.96.0.10".parse().expect("an address"), 53);
        StaleFlows { destination, endpoint: Some(endpoint.parse().expect("an endpoint")) }
    };
    conntrack.forget(&[to("10.244.0.6:53"), to("10.244.0.5:54")]).await.expect("has nothing to forget");
    assert_eq!(ask(), "five");
    conntrack.forget(&[to("10.244.0.6:53"), to("10.244.0.5:53")]).await.expect("forgets");
    assert_eq!(ask(), "six");
}

/// A pod's neighbours send to the pod that has an address, not to the one that had it.
#[test]
fn pods_of_the_bridge_hear_who_has_an_address_now() {
    let fixture = Fixture::new(&[5, 6]);
    let (server, client) = (&fixture.pods[0], &fixture.pods[1]);
    serve_tcp(server, 80, "pod");
    sh(&format!("ip -n {} -6 addr add fd00:10:244::5/64 dev eth0 nodad", server.name()));
    sh(&format!("ip -n {} -6 addr add fd00:10:244::6/64 dev eth0 nodad", client.name()));
    let ipv6 = server.run(|| std::net::TcpListener::bind("[fd00:10:244::5]:80").expect("binds"));
    std::thread::spawn(move || ipv6.incoming().flatten().try_for_each(|mut stream| std::io::Write::write_all(&mut stream, b"pod6")));

    // Pods that are gone had another hardware address, and were talked to a moment ago.
    let addresses = ["10.244.0.5", "fd00:10:244::5"];
    for address in addresses {
        sh(&format!("ip -n {} neigh replace {address} lladdr 02:00:00:00:00:09 dev eth0 nud reachable", client.name()));
    }
    assert!(ask_tcp(client, "10.244.0.5:80").is_err(), "the packet goes to nobody");

    let place = tempfile::tempdir().expect("a directory");
    let network = Network { data_dir: place.path().join("leases"), ..Network::new(Vec::new()) };
    let leases = network.data_dir.join(&network.name);
    std::fs::create_dir_all(&leases).expect("makes");
    for address in addresses {
        std::fs::write(leases.join(address), "sandbox\r\neth0").expect("writes");
    }
    let remembered = json!({"result": {"interfaces": [{"name": "eth0", "sandbox": server.path()}]}});
    std::fs::write(place.path().join(format!("{}-sandbox-eth0", network.name)), remembered.to_string()).expect("writes");
    let pods = HostPodAddresses::with_results(&network, place.path().to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let announced = addresses.map(|address| address.parse::<std::net::IpAddr>().expect("an address"));
    runtime.block_on(pods.announce(&announced)).expect("announces");

    assert_eq!(ask_tcp(client, "10.244.0.5:80").as_deref(), Ok("pod"));
    assert_eq!(ask_tcp(client, "[fd00:10:244::5]:80").as_deref(), Ok("pod6"));
}
