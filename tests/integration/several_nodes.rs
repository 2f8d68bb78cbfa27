//! `troupe up --nodes`: several nodes on one machine, stopped, cut off and taken down.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use troupe_net::netns;

use crate::cluster::{Cluster, apply, eventually, run, text};

const PEERS: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: peers}
spec:
  selector: {matchLabels: {app: peers}}
  template:
    metadata: {labels: {app: peers}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: peer
        image: busybox:1.35
        command: [sh, -c, "mkdir -p /w; hostname > /w/index.html; exec httpd -f -p 8080 -h /w"]
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
"#;

fn up(cluster: &Cluster, topology: &str) {
    // Signs of life come fast, and their absence is noticed fast.
    cluster.start_with(&["--nodes", "2", "--topology", topology, "--node-heartbeat", "1", "--node-monitor-grace-period", "6"]);
}

fn is_ready(cluster: &Cluster, node: &str) -> bool {
    cluster.kubectl(&format!("get node {node} --no-headers")).contains(" Ready ")
}

/// Every pod reaches every other by its address.
fn pods_talk(cluster: &Cluster) {
    cluster.kubectl("rollout status daemonset/peers --timeout=180s");
    let field = |path: &str| cluster.kubectl(&format!("get pods -l app=peers -o jsonpath={{range.items[*]}}{{{path}}}{{\"\\n\"}}{{end}}"));
    let reaches = |from: &str, to: &str, address: &str| {
        let ask = format!("exec {from} -- timeout 3 wget -q -O - http://{address}:8080/");
        text(&cluster.kubectl_output(&ask).stdout).trim() == to
    };
    // Asked anew each time: where a node was away, its pods get other addresses.
    eventually("the pods of both nodes reach each other", || {
        let (names, addresses, nodes) = (field(".metadata.name"), field(".status.podIP"), field(".spec.nodeName"));
        let mut nodes: Vec<&str> = nodes.lines().collect();
        nodes.sort_unstable();
        let pods = || names.lines().zip(addresses.lines());
        nodes == ["it", "it-2"] && pods().all(|(from, _)| pods().all(|(to, address)| reaches(from, to, address)))
    });
}

/// Nothing with a cluster's mark is left in the kernel, and no process of it.
fn nothing_is_left(cluster: &Cluster, mark: &str) {
    let named = |dir: &str| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| name.contains(mark)).collect::<Vec<_>>()
    };
    assert_eq!(named("/run/netns"), Vec::<String>::new());
    assert_eq!(named("/run/troupe-instances"), Vec::<String>::new());
    let links = text(&cluster.inside("ip").args(["-o", "link"]).output().expect("ip runs").stdout);
    assert!(!links.contains(mark), "{links}");
    let rules = text(&cluster.inside("iptables-save").output().expect("iptables-save runs").stdout);
    assert!(!rules.contains("TROUPE-NODES"), "{rules}");
    let place = cluster.dir().to_string_lossy().into_owned();
    let processes = fs::read_dir("/proc").expect("processes").flatten().filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let left: Vec<String> = processes.map(|line| text(&line).replace('\0', " ")).filter(|line| line.contains(&place)).collect();
    assert_eq!(left, Vec::<String>::new());
    let mounts = fs::read_to_string("/proc/mounts").expect("the mount table");
    assert!(!mounts.contains(&place) && !mounts.contains(mark), "{mounts}");
    for hierarchy in ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"] {
        assert!(!Path::new(hierarchy).join(cluster.namespace()).join("kubepods-it-2").exists());
    }
}

fn mark(cluster: &Cluster) -> String {
    let record: serde_json::Value = serde_json::from_slice(&fs::read(cluster.path("data/instance.json")).expect("a record")).expect("JSON");
    record["id"].as_str().expect("an id")[..8].to_owned()
}

#[test]
fn two_nodes_on_a_shared_link_are_drilled_and_leave_nothing() {
    let cluster = Cluster::place_of_several();
    up(&cluster, "shared");
    let mark = mark(&cluster);
    assert!(is_ready(&cluster, "it") && is_ready(&cluster, "it-2"));
    let status = cluster.troupe_text(&["status"]);
    assert!(status.contains("node here   it-2 daemon running (pid ") && status.contains("containerd running (pid "), "{status}");
    apply(&cluster, PEERS);
    pods_talk(&cluster);
    let routes = text(&cluster.inside("ip").args(["route"]).output().expect("ip runs").stdout);
    assert!(routes.contains(&format!("dev tl-{mark} proto")) && !routes.contains("troupe-vxlan"), "{routes}");
    eventually("each node reaches the other by a plain route", || ways_work(&cluster, "route"));
    no_pod_gets_into_the_tunnel(&cluster);
    zones_are_obeyed(&cluster);

    // Switched off: noticed, and its containers are gone; switched on: all as before.
    cluster.troupe_text(&["node", "stop", "it-2"]);
    eventually("the stopped node is not ready", || !is_ready(&cluster, "it-2"));
    assert!(cluster.troupe_text(&["status"]).contains("daemon not running, containerd not running"));
    let unknown = cluster.troupe_with_settings(&["node", "stop", "it-9"]);
    assert!(!unknown.status.success() && text(&unknown.stderr).contains("it-9 is none of the nodes that live here: it-2"));
    cluster.troupe_text(&["node", "start", "it-2"]);
    eventually("the node is ready again", || is_ready(&cluster, "it-2"));
    pods_talk(&cluster);

    // Cut off: noticed, and its pods run on.
    cluster.troupe_text(&["node", "partition", "it-2"]);
    eventually("the silent node is not ready", || !is_ready(&cluster, "it-2"));
    cluster.troupe_text(&["node", "heal", "it-2"]);
    eventually("the healed node is ready", || is_ready(&cluster, "it-2"));

    // A crash of the daemons: the next start finds the node as it is.
    let told = "get node it -o jsonpath={.status.conditions[?(@.type=='Ready')].lastHeartbeatTime}";
    let before = cluster.kubectl(told);
    cluster.strike("-9");
    cluster.start();
    assert_ne!(cluster.kubectl(told), before, "it is Ready by what it tells since this start");
    assert!(is_ready(&cluster, "it-2"), "as many nodes as before, without a flag");
    pods_talk(&cluster);

    let down = cluster.troupe_with_settings(&["down", "--purge"]);
    assert!(down.status.success(), "{}\n{}", text(&down.stdout), text(&down.stderr));
    nothing_is_left(&cluster, &mark);
    assert!(!cluster.path("data").exists() && !cluster.path("run").exists());
}

#[test]
fn two_nodes_behind_a_router_reach_each_other_through_vxlan() {
    let cluster = Cluster::place_of_several();
    up(&cluster, "routed");
    let mark = mark(&cluster);
    apply(&cluster, PEERS);
    pods_talk(&cluster);
    let routes = text(&cluster.inside("ip").args(["route"]).output().expect("ip runs").stdout);
    assert!(routes.contains("onlink"), "no two nodes are on one link: {routes}");
    a_broken_tunnel_is_told(&cluster);
    flushed_rules_come_back(&cluster);
    let down = cluster.troupe_with_settings(&["down"]);
    assert!(down.status.success(), "{}\n{}", text(&down.stdout), text(&down.stderr));
    nothing_is_left_but_data(&cluster, &mark);
    // Fewer than before: who is too many goes, its Node too.
    cluster.start_with(&["--nodes", "1"]);
    assert_eq!(cluster.kubectl("get nodes -o jsonpath={.items[*].metadata.name}"), "it");
    assert!(!cluster.path("data/nodes/it-2").exists());
}

/// What a pod sends to the tunnel's port of a node, its own or another, would be unwrapped behind all policies: it is dropped there.
fn no_pod_gets_into_the_tunnel(cluster: &Cluster) {
    let field = |path: &str| cluster.kubectl(&format!("get pods -l app=peers --field-selector spec.nodeName=it -o jsonpath={{.items[0]{path}}}"));
    let pod = field(".metadata.name");
    let dropped = |node: &str| -> u64 {
        let address = cluster.kubectl(&format!("get node {node} -o jsonpath={{.status.addresses[?(@.type==\"InternalIP\")].address}}"));
        // Any datagram will do.
        let send = format!("timeout 2 nslookup forged {address}:8472; true");
        cluster.kubectl_words(&["exec", &pod, "--", "sh", "-c", &send]);
        let words = ["-t", "filter", "-nvxL", "TROUPE-TUNNEL"];
        let listed = if node == "it" { cluster.inside("iptables").args(words).output() } else { on_other_node(cluster, node, "iptables", &words) };
        let listed = text(&listed.expect("iptables runs").stdout);
        let rule = listed.lines().find(|line| line.contains("DROP")).unwrap_or_else(|| panic!("nothing is dropped: {listed}"));
        rule.split_whitespace().next().and_then(|packets| packets.parse().ok()).expect("a count")
    };
    for node in ["it", "it-2"] {
        eventually("what the pod sends into the tunnel is dropped", || dropped(node) > 0);
    }
}

/// Runs a program in the network namespace of a node beyond the first.
fn on_other_node(cluster: &Cluster, node: &str, program: &str, words: &[&str]) -> std::io::Result<std::process::Output> {
    let namespace = format!("troupe-{}-{}", mark(cluster), node.rsplit('-').next().unwrap_or_default());
    std::process::Command::new("ip").args(["netns", "exec", &namespace, program]).args(words).output()
}

const NEAR: &str = "
apiVersion: v1
kind: Service
metadata: {name: near}
spec: {trafficDistribution: PreferSameZone, selector: {app: peers}, ports: [{port: 80, targetPort: 8080}]}
";

/// Each node leads to the pods of its zone who asks for a Service that prefers them; nodes are told their zones, and others, while the pods run.
fn zones_are_obeyed(cluster: &Cluster) {
    let endpoints = |rules: &str| -> BTreeSet<String> {
        let balanced = rules.lines().filter(|rule| rule.starts_with("-A KUBE-SVC-"));
        balanced.filter_map(|rule| Some(rule.split_once("\"default/near -> ")?.1.split_once(":8080")?.0.to_owned())).collect()
    };
    let own = |node: &str| {
        let pods = format!("get pods -l app=peers --field-selector spec.nodeName={node} -o jsonpath={{.items[*].status.podIP}}");
        BTreeSet::from([cluster.kubectl(&pods).trim().to_owned()])
    };
    let here = || endpoints(&cluster.rules());
    let there = || endpoints(&text(&on_other_node(cluster, "it-2", "iptables-save", &["-t", "nat"]).expect("iptables-save runs").stdout));
    apply(cluster, NEAR);
    eventually("both nodes lead to both pods", || here().len() == 2 && there() == here());
    cluster.kubectl("label node it topology.kubernetes.io/zone=a");
    cluster.kubectl("label node it-2 topology.kubernetes.io/zone=b");
    eventually("each node leads to the pod of its zone", || here() == own("it") && there() == own("it-2"));
    cluster.kubectl("label node it-2 --overwrite topology.kubernetes.io/zone=a");
    eventually("both lead to both in the same zone", || here().len() == 2 && there() == here());
    cluster.kubectl("delete service near");
}

/// Whether both nodes reach each other's pods by this backend.
fn ways_work(cluster: &Cluster, backend: &str) -> bool {
    let status = cluster.troupe_text(&["status"]);
    let works = |way: String| status.lines().any(|line| line.starts_with(&format!("pod network {way} IPv4 {backend} ")) && line.ends_with(" ms"));
    works("it → it-2".into()) && works("it-2 → it".into())
}

/// Nothing passes the tunnel although both nodes are Ready: it is shown, told, and no pods are placed; when it is whole again all of it ends.
fn a_broken_tunnel_is_told(cluster: &Cluster) {
    let rule = |verb: &str| {
        let words = format!("{verb} OUTPUT -p udp --dport 8472 -j DROP");
        assert!(cluster.inside("iptables").args(words.split(' ')).status().expect("iptables runs").success());
    };
    let unavailable =
        |node: &str| cluster.kubectl(&format!("get node {node} -o jsonpath={{.status.conditions[?(@.type==\"NetworkUnavailable\")].status}}"));
    eventually("each node reaches the other through the tunnel", || ways_work(cluster, "vxlan"));
    eventually("the network is available", || unavailable("it") == "False" && unavailable("it-2") == "False");
    rule("-A");
    eventually("it is shown", || cluster.troupe_text(&["status"]).contains("pod network it → it-2 IPv4 vxlan unreachable since "));
    eventually("the network is not available", || unavailable("it") == "True" && unavailable("it-2") == "True");
    let events = || cluster.kubectl("get events --field-selector reason=PodNetworkUnreachable,involvedObject.name=it-2");
    eventually("an event tells it", || events().contains("pods of the node it (IPv4, vxlan) are out of reach since "));
    let taints = || cluster.kubectl("get node it -o jsonpath={.spec.taints[*].key}");
    eventually("no pods are placed there", || taints().contains("node.kubernetes.io/network-unavailable"));
    rule("-D");
    eventually("the network is available again", || unavailable("it") == "False" && unavailable("it-2") == "False");
}

/// Somebody empties the chains of the nodes' links.
fn flushed_rules_come_back(cluster: &Cluster) {
    let chains = [("nat", "TROUPE-NODES-POSTROUTING"), ("filter", "TROUPE-NODES-FORWARD")];
    let rules = || {
        let listed = chains.map(|(table, chain)| cluster.inside("iptables").args(["-t", table, "-S", chain]).output().expect("iptables runs"));
        listed.map(|output| text(&output.stdout))
    };
    let before = rules();
    for (table, chain) in chains {
        assert!(cluster.inside("iptables").args(["-t", table, "-F", chain]).status().expect("iptables runs").success());
    }
    assert_ne!(rules(), before);
    eventually("the rules of the nodes' links are back", || rules() == before);
}

/// Without `--purge` the record stays, so that the next start is the same cluster.
fn nothing_is_left_but_data(cluster: &Cluster, mark: &str) {
    assert!(cluster.path("data/nodes/it-2/data").exists());
    assert!(!Path::new(&format!("/run/netns/troupe-{mark}-2")).exists() && !Path::new(&format!("/run/netns/troupe-{mark}-links")).exists());
}

const BALANCED: &str = "
apiVersion: v1
kind: Service
metadata: {name: peers}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: peers}, ports: [{port: 80, targetPort: 8080}]}
";

/// A machine on the nodes' link that is none of them; gone when dropped.
struct Stranger(String);

impl Stranger {
    fn on(mark: &str, address: &str) -> Self {
        let stranger = Stranger(format!("troupe-client-{mark}"));
        run("ip", &["netns", "add", &stranger.0]);
        let between = format!("troupe-{mark}-links");
        let words = format!("-n {between} link add client type veth peer name eth0 netns {}", stranger.0);
        run("ip", &words.split(' ').collect::<Vec<_>>());
        for words in [format!("-n {between} link set client master nodes up"), format!("-n {} address add {address} dev eth0", stranger.0)] {
            run("ip", &words.split(' ').collect::<Vec<_>>());
        }
        run("ip", &["-n", &stranger.0, "link", "set", "eth0", "up"]);
        stranger
    }

    /// The answer to a request, if there is one within two seconds.
    fn ask(&self, address: &str, path: &str) -> Option<String> {
        let address: SocketAddr = address.parse().expect("an address");
        let ask = || {
            let patience = Duration::from_secs(2);
            let mut tcp = TcpStream::connect_timeout(&address, patience).ok()?;
            tcp.set_read_timeout(Some(patience)).ok()?;
            write!(tcp, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
            let mut answer = String::new();
            tcp.read_to_string(&mut answer).ok()?;
            Some(answer)
        };
        netns::run(&netns::path(&self.0), ask).expect("the namespace exists")
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = netns::delete(&self.0);
    }
}

#[test]
fn a_balanced_service_is_reached_from_the_link_and_moves_when_its_node_is_lost() {
    let cluster = Cluster::place_of_several();
    let beats = ["--node-heartbeat", "1", "--node-monitor-grace-period", "6"];
    let pool = ["--nodes", "2", "--node-range", "172.29.77.0/24", "--load-balancer-pool", "172.29.77.200-172.29.77.201"];
    cluster.start_with(&[&pool[..], &beats[..]].concat());
    let mark = mark(&cluster);
    apply(&cluster, PEERS);
    pods_talk(&cluster);
    cluster.kubectl("label node it node.kubernetes.io/exclude-from-external-load-balancers=");
    apply(&cluster, BALANCED);
    let field = |path: &str| cluster.kubectl(&format!("get service peers -o jsonpath={{{path}}}"));
    eventually("it gets an address", || field(".status.loadBalancer.ingress[0].ip") == "172.29.77.200");
    let client = Stranger::on(&mark, "172.29.77.9/24");
    let pod_on =
        |node: &str| cluster.kubectl(&format!("get pods -l app=peers --field-selector spec.nodeName={node} -o jsonpath={{.items[*].metadata.name}}"));
    let answers = |pod: &str| client.ask("172.29.77.200:80", "/").is_some_and(|answer| answer.contains(pod));
    let (here, there) = (pod_on("it"), pod_on("it-2"));
    eventually("the node that is not excluded answers, with its own pod", || answers(&there));

    // Health, as somebody else's load balancer asks for it.
    let port = field(".spec.healthCheckNodePort");
    let says = |port: &str, pieces: &[&str]| {
        let answer = client.ask(&format!("172.29.77.2:{port}"), "/healthz").unwrap_or_default();
        answer.starts_with("HTTP/1.1 200") && pieces.iter().all(|piece| answer.contains(piece))
    };
    eventually("the node has a pod of it", || says(&port, &["\"localEndpoints\": 1", "\"name\": \"peers\""]));
    eventually("its proxy is well", || says("10256", &["\"nodeEligible\":true"]));

    // The node is lost: the other one answers.
    cluster.kubectl("label node it node.kubernetes.io/exclude-from-external-load-balancers-");
    cluster.troupe_text(&["node", "stop", "it-2"]);
    eventually("the other node answers", || answers(&here));
    cluster.kubectl("delete service peers --timeout=120s");
    eventually("nobody answers", || client.ask("172.29.77.200:80", "/").is_none());
    let links = || text(&cluster.inside("ip").args(["-o", "address"]).output().expect("ip runs").stdout);
    eventually("nobody has its address", || !links().contains("172.29.77.200"));
}
