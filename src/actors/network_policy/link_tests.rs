//! Links of pods against the kernel, in network namespaces of their own. Needs root, as the project's tests do.

use std::{
    fs,
    net::{IpAddr, UdpSocket},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use troupe_net::{
    cni::{
        Network,
        announce::{HostPodAddresses, PodAddresses},
        links::{HostPodLinks, PodLinks},
    },
    iptables::Family,
};

use crate::proxy::kernel_tests::{Fixture, Namespace, ask_tcp, serve_tcp, sh};

const BOTH: [Family; 2] = Family::ALL;
/// The pod with the hardware address that ends in 6 derives this (RFC 4291, appendix A).
const LINK_LOCAL_OF_6: &str = "fe80::ff:fe00:6";

/// A node with pods at the addresses that end in 5 and 6, as the plugins leave them: ports of one bridge.
struct Node {
    fixture: Fixture,
    place: TempDir,
    network: Network,
    runtime: Runtime,
}

impl Node {
    fn new(families: &[Family]) -> Self {
        let fixture = Fixture::new(&[5, 6]);
        let n = fixture.node.name();
        // Whether the machine looks at the way back is its own affair.
        let settings = "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done";
        fixture.node.run(|| sh(settings));
        sh(&format!("ip -n {n} link set br0 address 0a:58:0a:f4:00:01 && ip -n {n} addr add fd00:10:244::1/64 dev br0 nodad"));
        let place = tempfile::tempdir().expect("a directory");
        let network = Network { bridge: "br0".into(), data_dir: place.path().join("leases"), ..Network::new(Vec::new()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let node = Node { fixture, place, network, runtime };
        fs::create_dir_all(node.leases()).expect("makes");
        for (pod, number) in node.fixture.pods.iter().zip([5, 6]) {
            let p = pod.name();
            sh(&format!("ip -n {p} link set eth0 down && ip -n {p} link set eth0 address 02:00:00:00:00:0{number} && ip -n {p} link set eth0 up"));
            sh(&format!("ip -n {p} route replace default via 10.244.0.1"));
            if families.contains(&Family::V6) {
                sh(&format!("ip -n {p} addr add fd00:10:244::{number}/64 dev eth0 nodad && ip -n {p} route add default via fd00:10:244::1"));
            }
            node.write_down(&format!("sandbox{number}"), pod, number, families);
        }
        node
    }

    fn leases(&self) -> PathBuf {
        self.network.data_dir.join(&self.network.name)
    }

    /// What the plugins and the runtime keep of a sandbox.
    fn write_down(&self, sandbox: &str, pod: &Namespace, number: u8, families: &[Family]) {
        let of = |family: &Family| match family {
            Family::V4 => json!({"address": format!("10.244.0.{number}/24"), "gateway": "10.244.0.1"}),
            Family::V6 => json!({"address": format!("fd00:10:244::{number}/64"), "gateway": "fd00:10:244::1"}),
        };
        let ips: Vec<_> = families.iter().map(of).collect();
        let interfaces = json!([
            {"name": "br0", "mac": "00:00:00:00:00:00"}, {"name": format!("v{number}"), "mac": "00:00:00:00:00:00"},
            {"name": "eth0", "mac": format!("02:00:00:00:00:0{number}"), "sandbox": pod.path()},
        ]);
        let told = json!({"result": {"interfaces": interfaces, "ips": ips}});
        let results = self.place.path().join(format!("{}-{sandbox}-eth0", self.network.name));
        fs::write(results, told.to_string()).expect("writes");
        fs::write(self.leases().join(format!("10.244.0.{number}")), format!("{sandbox}\r\neth0")).expect("writes");
    }

    /// As a daemon that has just started sees them.
    fn links(&self, families: &[Family]) -> HostPodLinks {
        HostPodLinks::within(self.network.clone(), families.to_vec(), self.fixture.node.path(), self.place.path().to_owned())
    }

    fn keep(&self, families: &[Family]) {
        self.runtime.block_on(self.links(families).keep()).expect("keeps");
    }

    fn pod(&self, number: usize) -> &Namespace {
        &self.fixture.pods[number - 5]
    }

    /// Whether the pod that ends in 6 is reached below IP, by its link-local address.
    fn is_reached_by_link_local(&self, tries: u32) -> bool {
        let from = self.pod(5);
        let scope = from.run(|| nix::net::if_::if_nametoindex("eth0").expect("an interface"));
        // An address is tentative for a second or two.
        (0..tries).any(|_| {
            std::thread::sleep(Duration::from_millis(700));
            ask_tcp(from, &format!("[{LINK_LOCAL_OF_6}%{scope}]:81")).is_ok()
        })
    }
}

fn socket(of: &Namespace, address: &str) -> UdpSocket {
    let socket = of.run(|| UdpSocket::bind(address).expect("binds"));
    socket.set_read_timeout(Some(Duration::from_millis(400))).expect("sets");
    socket
}

/// Whether a packet from an address is heard at a socket that others call `to`.
fn is_heard(from: &Namespace, source: &str, to: &str, at: &UdpSocket) -> bool {
    let socket = from.run(|| UdpSocket::bind(source).expect("binds"));
    socket.set_broadcast(true).expect("sets");
    // It may be refused at once.
    let _ = socket.send_to(b"hello", to);
    at.recv(&mut [0; 16]).is_ok()
}

/// Whether the rule at the end of the chain has counted packets since it was written.
fn has_dropped(node: &Node, tool: &str) -> bool {
    let output = node.fixture.node.run(|| Command::new(tool).args(["-t", "raw", "-nvxL", "TROUPE-SOURCES"]).output().expect("runs"));
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = listed.lines().last().expect("a rule");
    assert!(last.contains("the pod has not this address"), "{listed}");
    !last.trim_start().starts_with("0 ")
}

/// Serves at all addresses of IPv6.
fn serve_ipv6(pod: &Namespace, port: u16) {
    let listener = pod.run(|| std::net::TcpListener::bind(("::", port)).expect("binds"));
    std::thread::spawn(move || listener.incoming().flatten().try_for_each(|mut stream| std::io::Write::write_all(&mut stream, b"pod6")));
}

#[test]
fn pods_of_a_node_reach_each_other_over_it_and_in_no_other_way() {
    let node = Node::new(&BOTH);
    let (from, to) = (node.pod(5), node.pod(6));
    serve_tcp(to, 80, "pod");
    serve_ipv6(to, 81);
    let hears = socket(to, "0.0.0.0:82");
    assert!(node.is_reached_by_link_local(4) && is_heard(from, "10.244.0.5:0", "10.244.0.255:82", &hears), "they are ports of one bridge");

    node.keep(&BOTH);
    assert_eq!(ask_tcp(from, "10.244.0.6:80").as_deref(), Ok("pod"));
    assert_eq!(ask_tcp(from, "[fd00:10:244::6]:81").as_deref(), Ok("pod6"));
    assert_eq!(ask_tcp(&node.fixture.node, "10.244.0.6:80").as_deref(), Ok("pod"));
    assert_eq!(ask_tcp(&node.fixture.node, "[fd00:10:244::6]:81").as_deref(), Ok("pod6"));
    assert!(!node.is_reached_by_link_local(1), "no packet policies cannot judge");
    assert!(!is_heard(from, "10.244.0.5:0", "10.244.0.255:82", &hears));

    // A Service whose endpoint is on the same node, or is the client itself.
    let translate = "iptables -t nat -A PREROUTING -p tcp -d 10.96.0.1 -j DNAT --to-destination 10.244.0.6 \
                     && iptables -t nat -A POSTROUTING -s 10.244.0.6 -d 10.244.0.6 -j MASQUERADE";
    node.fixture.node.run(|| sh(translate));
    assert_eq!(ask_tcp(from, "10.96.0.1:80").as_deref(), Ok("pod"));
    assert_eq!(ask_tcp(to, "10.96.0.1:80").as_deref(), Ok("pod"));
}

#[test]
fn a_pod_says_nothing_with_the_address_of_another() {
    let node = Node::new(&BOTH);
    let (liar, owner) = (node.pod(5), node.pod(6));
    serve_tcp(owner, 80, "owner");
    serve_tcp(liar, 80, "liar");
    // As one that may make packets of its own would.
    sh(&format!("ip -n {} addr add 10.244.0.99/32 dev eth0", liar.name()));
    sh(&format!("ip -n {} addr add fd00:10:244::99/128 dev eth0 nodad", liar.name()));
    let (hears, hears_ipv6) = (socket(&node.fixture.node, "0.0.0.0:82"), socket(&node.fixture.node, "[::]:83"));
    let forged = || is_heard(liar, "10.244.0.99:0", "10.244.0.1:82", &hears);
    let forged_ipv6 = || is_heard(liar, "[fd00:10:244::99]:0", "[fd00:10:244::1]:83", &hears_ipv6);
    assert!(forged() && forged_ipv6(), "nobody looks yet");

    node.keep(&BOTH);
    assert!(!forged() && !forged_ipv6());
    assert!(has_dropped(&node, "iptables") && has_dropped(&node, "ip6tables"));
    node.keep(&BOTH);
    assert!(has_dropped(&node, "iptables") && has_dropped(&node, "ip6tables"), "rules that stand are not written again");
    let honest_ipv6 = || is_heard(liar, "[fd00:10:244::5]:0", "[fd00:10:244::1]:83", &hears_ipv6);
    let honest = || is_heard(liar, "10.244.0.5:0", "10.244.0.1:82", &hears) && honest_ipv6();
    assert!(honest());

    // It says that it has the other's addresses, as ARP and neighbour discovery have it.
    sh(&format!("ip -n {} addr add 10.244.0.6/32 dev eth0", liar.name()));
    node.write_down("liar", liar, 6, &[]);
    let address: IpAddr = "10.244.0.6".parse().expect("an address");
    let pods = HostPodAddresses::with_results(&node.network, node.place.path().to_owned());
    node.runtime.block_on(pods.announce(&[address])).expect("announces");
    assert_eq!(ask_tcp(&node.fixture.node, "10.244.0.6:80").as_deref(), Ok("owner"));

    // Somebody flushes what guards it; the next look mends that, and another changes nothing.
    node.write_down("sandbox6", owner, 6, &BOTH);
    node.fixture.node.run(|| sh("iptables -t raw -F && ip6tables -t raw -F && ipset flush TROUPE-SOURCES4"));
    assert!(forged() && forged_ipv6(), "nobody looks");
    node.keep(&BOTH);
    node.keep(&BOTH);
    assert!(!forged() && !forged_ipv6() && honest());
}

#[test]
fn a_sandbox_is_linked_before_it_is_used_and_forgotten_when_it_goes() {
    let node = Node::new(&[Family::V4]);
    let (from, to) = (node.pod(5), node.pod(6));
    serve_tcp(to, 80, "pod");
    serve_ipv6(to, 81);
    assert!(node.is_reached_by_link_local(4), "a cluster without IPv6 has link-local addresses all the same");
    let links = node.links(&[Family::V4]);
    // The second comes when the rules stand already.
    fs::remove_file(node.leases().join("10.244.0.6")).expect("was there");
    node.runtime.block_on(links.connect("sandbox5")).expect("connects");
    node.write_down("sandbox6", to, 6, &[Family::V4]);
    for sandbox in ["sandbox6", "of-the-nodes-network"] {
        node.runtime.block_on(links.connect(sandbox)).expect("connects");
    }
    assert_eq!(ask_tcp(from, "10.244.0.6:80").as_deref(), Ok("pod"));
    assert!(!node.is_reached_by_link_local(1));
    let set = || {
        let output = node.fixture.node.run(|| Command::new("ipset").args(["save", "TROUPE-SOURCES4"]).output().expect("runs"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(set().contains("10.244.0.5,v5") && set().contains("10.244.0.6,v6"), "{}", set());

    fs::remove_file(node.leases().join("10.244.0.6")).expect("was there");
    node.runtime.block_on(links.keep()).expect("keeps");
    assert!(set().contains("10.244.0.5,v5") && !set().contains("v6"), "{}", set());

    // A sandbox with an address of which nothing more is known must not be used.
    fs::write(node.leases().join("10.244.0.7"), "sandbox7\r\neth0").expect("writes");
    let refused = node.runtime.block_on(links.connect("sandbox7")).expect_err("is refused");
    assert!(refused.to_string().contains("sandbox7"), "{refused}");
}
