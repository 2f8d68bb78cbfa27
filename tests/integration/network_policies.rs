//! Network policies with real packets: pods of one node ask each other, directly and through a Service, and are answered or not.

use std::{
    net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket},
    time::Duration,
};

use troupe_net::netns;

use crate::{
    cluster::{Cluster, apply, eventually_within, run},
    pod_network::{Pod, Threads},
};

/// How soon a change must be in force.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn pods_are_reached_as_policies_allow() {
    let cluster = Cluster::up();
    // Pods with the folder of a ConfigMap see it a while after it is made.
    apply(&cluster, &resolver());
    for (namespace, team) in [("blue", "blue"), ("red", "red")] {
        cluster.kubectl(&format!("create namespace {namespace}"));
        cluster.kubectl(&format!("label namespace {namespace} team={team}"));
    }
    for (namespace, name) in [("blue", "server"), ("blue", "client"), ("blue", "other"), ("red", "client")] {
        apply(&cluster, &pod(namespace, name));
    }
    for (namespace, name) in [("blue", "server"), ("blue", "client"), ("blue", "other"), ("red", "client")] {
        cluster.kubectl(&format!("-n {namespace} wait --for=condition=Ready pod/{name} --timeout=180s"));
    }
    let world = World { server: ip(&cluster, "blue", "server"), cluster };
    world.everything_passes_at_first();
    world.nothing_comes_in_by_default();
    world.peers_are_pods_and_namespaces();
    world.what_goes_out_is_held_back();
    world.rules_outlive_the_daemon();
    world.a_new_pod_is_never_open();
    world.administrators_rules_stand_over_those_of_namespaces();
    world.all_is_open_again_without_policies();
}

/// Addresses that are no pods', and where they are served.
const ALLOWED: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
const REFUSED: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 8));
/// That of the cluster's node.
const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2));
const OUTSIDE_PORT: u16 = 8099;
const RESOLVER_PORT: u16 = 5399;

/// Who answers for names below `names.test`.
fn resolver() -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: kube-dns, namespace: kube-system}}\ndata: {{stubDomains: '{{\"names.test\": \
         [\"{ALLOWED}:{RESOLVER_PORT}\"]}}'}}\n"
    )
}

/// A machine beside the cluster's that has both addresses; gone when dropped.
struct Outside(String);

impl Outside {
    fn of(cluster: &Cluster) -> Self {
        let (inside, outside) = (cluster.namespace(), Outside(format!("{}-out", cluster.namespace())));
        let name = &outside.0;
        run("ip", &["netns", "add", name]);
        for words in [
            format!("-n {inside} link add outside type veth peer name uplink netns {name}"),
            format!("-n {inside} address add 192.0.2.1/30 dev outside"),
            format!("-n {inside} link set outside up"),
            format!("-n {name} address add 192.0.2.2/30 dev uplink"),
            format!("-n {name} address add {ALLOWED}/32 dev uplink"),
            format!("-n {name} address add {REFUSED}/32 dev uplink"),
            format!("-n {name} link set uplink up"),
            format!("-n {name} route add default via 192.0.2.1"),
            format!("-n {inside} route add 203.0.113.0/24 via 192.0.2.2"),
        ] {
            run("ip", &words.split(' ').collect::<Vec<_>>());
        }
        outside
    }

    fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::run(&netns::path(&self.0), work).expect("the namespace exists")
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // It takes both ends of the link along.
        let _ = netns::delete(&self.0);
    }
}

/// Answers a query, if one comes: every name has two addresses of IPv4 for five seconds, of which the second is the node's.
fn answer_one(socket: &UdpSocket) {
    let mut query = [0; 512];
    let Ok((length, from)) = socket.recv_from(&mut query) else { return };
    let name = query[12..length].iter().position(|byte| *byte == 0).expect("a name ends");
    let question = &query[12..12 + name + 5];
    let is_v4 = question[name + 1..name + 3] == [0, 1];
    // An answer, recursion wanted and available; one question, and one record where there is one.
    let mut reply = [&query[..2], &[0x81, 0x80, 0, 1, 0, 2 * u8::from(is_v4), 0, 0, 0, 0], question].concat();
    if is_v4 {
        for ip in [[203, 0, 113, 7], [198, 51, 100, 2]] {
            // The name of the question; type A, class IN, five seconds, four bytes.
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
            reply.extend(ip);
        }
    }
    // Who asked may be gone.
    let _ = socket.send_to(&reply, from);
}

/// A pod that serves on 8080 and 8081 and can ask others.
fn pod(namespace: &str, name: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: busybox:1.35
    command: [sh, -c, "mkdir /w; echo here > /w/index.html; httpd -p 8081 -h /w; exec httpd -f -p 8080 -h /w"]
    ports: [{{name: web, containerPort: 8080}}]
    readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{app: {name}}}, ports: [{{name: web, port: 80, targetPort: web}}]}}
"#
    )
}

fn policy(name: &str, spec: &str) -> String {
    format!("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: blue}}\nspec: {spec}\n")
}

fn cluster_policy(name: &str, spec: &str) -> String {
    format!("apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn ip(cluster: &Cluster, namespace: &str, pod: &str) -> String {
    cluster.kubectl(&format!("-n {namespace} get pod {pod} -o jsonpath={{.status.podIP}}"))
}

struct World {
    cluster: Cluster,
    server: String,
}

impl World {
    fn answers(&self, from: (&str, &str), address: &str) -> bool {
        let (namespace, pod) = from;
        let ask = format!("-n {namespace} exec {pod} -- timeout 2 wget -q -O - http://{address}/");
        self.cluster.kubectl_output(&ask).status.success()
    }

    fn becomes(&self, from: (&str, &str), address: &str, answered: bool) {
        let what = format!("{}/{} asks {address}: {}", from.0, from.1, if answered { "is answered" } else { "is not answered" });
        eventually_within(SOON, &what, || self.answers(from, address) == answered);
    }

    fn web(&self) -> String {
        format!("{}:8080", self.server)
    }

    fn everything_passes_at_first(&self) {
        for from in [CLIENT, OTHER, RED] {
            self.becomes(from, &self.web(), true);
        }
        self.becomes(CLIENT, "server.blue", true);
    }

    fn nothing_comes_in_by_default(&self) {
        apply(&self.cluster, &policy("default-deny", "{podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress]}"));
        for from in [CLIENT, OTHER, RED] {
            self.becomes(from, &self.web(), false);
        }
        assert!(!self.answers(CLIENT, "server.blue"), "a Service is no way around");
        // What it begins itself.
        self.becomes(SERVER, "other.blue", true);
        eventually_within(SOON, "the node reaches its own pods", || self.cluster.get(&self.web()).is_some());
        let ready = self.cluster.kubectl("-n blue get pod server -o jsonpath={.status.conditions[?(@.type==\"Ready\")].status}");
        assert_eq!(ready, "True", "probes go on");
        let told = self.cluster.troupe_text(&["why", "networkpolicy/default-deny", "-n", "blue"]);
        assert!(told.contains("server") && told.contains("nothing comes in"), "{told}");
        let told = self.cluster.troupe_text(&["why", "pod/server", "-n", "blue"]);
        assert!(told.contains("default-deny"), "{told}");
        let told = self.cluster.troupe_text(&["net", "path", "pod/client", "service/server:80", "-n", "blue"]);
        assert!(told.contains("leads to one of 1 endpoints") && told.contains("dropped: blue/server is isolated"), "{told}");
    }

    fn peers_are_pods_and_namespaces(&self) {
        let ingress =
            "{podSelector: {matchLabels: {app: server}}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: web}]}]}";
        apply(&self.cluster, &policy("clients", ingress));
        self.becomes(CLIENT, &self.web(), true);
        self.becomes(CLIENT, "server.blue", true);
        assert!(!self.answers(OTHER, &self.web()), "another pod");
        assert!(!self.answers(RED, &self.web()), "a pod like it of another namespace");
        assert!(!self.answers(CLIENT, &format!("{}:8081", self.server)), "another port");
        // Labels of pods.
        self.cluster.kubectl("-n blue label pod other app=client --overwrite");
        self.becomes(OTHER, &self.web(), true);
        self.cluster.kubectl("-n blue label pod other app=other --overwrite");
        self.becomes(OTHER, &self.web(), false);
        // Namespaces and their labels.
        let ingress = "{podSelector: {matchLabels: {app: server}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}}]}]}";
        apply(&self.cluster, &policy("red-ones", ingress));
        self.becomes(RED, &self.web(), true);
        self.cluster.kubectl("label namespace red team=green --overwrite");
        self.becomes(RED, &self.web(), false);
        self.cluster.kubectl("-n blue delete networkpolicy clients red-ones");
        self.becomes(CLIENT, &self.web(), false);
        // Addresses with an exception.
        let client = ip(&self.cluster, "blue", "client");
        let block = format!(
            "{{podSelector: {{matchLabels: {{app: server}}}}, ingress: [{{from: [{{ipBlock: {{cidr: 10.244.0.0/16, except: [{client}/32]}}}}]}}]}}"
        );
        apply(&self.cluster, &policy("block", &block));
        self.becomes(OTHER, &self.web(), true);
        assert!(!self.answers(CLIENT, &self.web()), "the exception");
        self.cluster.kubectl("-n blue delete networkpolicy block default-deny");
        self.becomes(CLIENT, &self.web(), true);
    }

    fn what_goes_out_is_held_back(&self) {
        let dns = "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: \
                   {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}], \
                   ports: [{port: 53, protocol: UDP}, {port: 53}]}]}";
        apply(&self.cluster, &policy("only-names", dns));
        self.becomes(CLIENT, &self.web(), false);
        let lookup = || self.cluster.kubectl_output("-n blue exec client -- timeout 5 nslookup server.blue.svc.cluster.local").status.success();
        eventually_within(SOON, "names are resolved", lookup);
        // What comes in is not its matter.
        self.becomes(OTHER, &format!("{}:8080", ip(&self.cluster, "blue", "client")), true);
        let server = "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: server}}}], \
                      ports: [{port: web}]}]}";
        apply(&self.cluster, &policy("to-server", server));
        self.becomes(CLIENT, "server.blue", true);
        assert!(!self.answers(CLIENT, "other.blue"), "another pod");
        self.cluster.kubectl("-n blue delete networkpolicy only-names to-server");
        self.becomes(CLIENT, "other.blue", true);
    }

    fn rules_outlive_the_daemon(&self) {
        apply(&self.cluster, &policy("default-deny", "{podSelector: {matchLabels: {app: server}}}"));
        self.becomes(CLIENT, &self.web(), false);
        let server = self.web();
        let watch = std::thread::spawn({
            let client = self.cluster.process_of("blue", "client");
            move || (0..12).filter(|_| asks_from(&client, &server)).count()
        });
        self.cluster.strike("-9");
        std::thread::sleep(Duration::from_secs(2));
        self.cluster.start();
        assert_eq!(watch.join().expect("does not panic"), 0, "nothing passes while the daemon is away and comes back");
        self.becomes(CLIENT, &self.web(), false);
        self.cluster.kubectl("-n blue delete networkpolicy default-deny");
        self.becomes(CLIENT, &self.web(), true);
    }

    /// A pod that asks from its first moment on never gets through to where it must not.
    fn a_new_pod_is_never_open(&self) {
        apply(&self.cluster, &policy("no-egress", "{podSelector: {matchLabels: {eager: \"yes\"}}, policyTypes: [Egress]}"));
        for round in 0..3 {
            let name = format!("eager-{round}");
            let ask = format!("for i in 1 2 3 4 5 6 7 8; do timeout 1 wget -q -O - http://{}/ && echo THROUGH; done; echo done", self.web());
            apply(
                &self.cluster,
                &format!(
                    "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: blue, labels: {{eager: \"yes\"}}}}\nspec:\n  restartPolicy: Never\n  \
                     terminationGracePeriodSeconds: 0\n  containers:\n  - {{name: c, image: \"busybox:1.35\", command: [sh, -c, \"{ask}\"]}}\n"
                ),
            );
            self.cluster.kubectl(&format!("-n blue wait --for=jsonpath={{.status.phase}}=Succeeded pod/{name} --timeout=120s"));
            let logs = self.cluster.kubectl(&format!("-n blue logs {name}"));
            assert!(logs.contains("done") && !logs.contains("THROUGH"), "round {round}: {logs}");
        }
    }

    /// Policies of a kind that somebody installs while the cluster runs.
    fn administrators_rules_stand_over_those_of_namespaces(&self) {
        self.cluster.kubectl("label namespace red team=red --overwrite");
        let definition = format!("{}/config/samples/cluster-network-policies.yaml", env!("CARGO_MANIFEST_DIR"));
        self.cluster.kubectl(&format!("apply -f {definition}"));
        self.cluster.kubectl("wait --for=condition=Established crd/clusternetworkpolicies.policy.networking.k8s.io --timeout=90s");

        // The baseline keeps others out until the namespace lets them in.
        let server = "{pods: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: blue}}, podSelector: {matchLabels: {app: server}}}}";
        let red = "{namespaces: {matchLabels: {team: red}}}";
        let policy_of = |tier: &str, rules: &str| format!("{{tier: {tier}, priority: 10, subject: {server}, ingress: [{rules}]}}");
        apply(&self.cluster, &cluster_policy("baseline", &policy_of("Baseline", &format!("{{action: Deny, from: [{red}]}}"))));
        self.becomes(RED, &self.web(), false);
        // No rule is about it.
        self.becomes(CLIENT, &self.web(), true);
        eventually_within(SOON, "the node reaches its own pods", || self.cluster.get(&self.web()).is_some());
        let told = self.cluster.troupe_text(&["net", "path", "pod/red/client", "service/server:80", "-n", "blue"]);
        assert!(told.contains("dropped by Baseline ingress rule 1 of baseline: Deny"), "{told}");
        apply(&self.cluster, &policy("open", "{podSelector: {matchLabels: {app: server}}, ingress: [{}]}"));
        self.becomes(RED, &self.web(), true);

        // An administrator's word stands over that; by port, and the rest is the namespace's matter.
        let port = "protocols: [{destinationNamedPort: web}]";
        apply(&self.cluster, &cluster_policy("admin", &policy_of("Admin", &format!("{{action: Deny, from: [{red}], {port}}}"))));
        self.becomes(RED, &self.web(), false);
        // Another port, and another namespace.
        self.becomes(RED, &format!("{}:8081", self.server), true);
        self.becomes(CLIENT, &self.web(), true);
        self.cluster.kubectl("label namespace red team=green --overwrite");
        self.becomes(RED, &self.web(), true);
        self.cluster.kubectl("label namespace red team=red --overwrite");
        self.becomes(RED, &self.web(), false);
        self.cluster.kubectl("wait --for=condition=Accepted clusternetworkpolicy/admin clusternetworkpolicy/baseline --timeout=90s");

        // What goes out, to a range of addresses; the node's pods that come now are held to it, too.
        let out = format!(
            "{{tier: Admin, priority: 5, subject: {{pods: {{namespaceSelector: {{}}, podSelector: {{matchLabels: {{app: other}}}}}}}}, \
             egress: [{{action: Deny, to: [{{networks: [{}/32]}}]}}]}}",
            self.server
        );
        apply(&self.cluster, &cluster_policy("out", &out));
        self.becomes(OTHER, &self.web(), false);

        self.domain_names_lead_where_their_answers_say();

        // With the definition go the policies, and what they came to.
        self.cluster.kubectl("delete crd clusternetworkpolicies.policy.networking.k8s.io --timeout=120s");
        for from in [RED, OTHER] {
            self.becomes(from, &self.web(), true);
        }
    }

    /// Two addresses outside of the cluster: a pod reaches the one that its allowed name led to, once it has asked for the name, and never an
    /// address of its node.
    fn domain_names_lead_where_their_answers_say(&self) {
        let outside = Outside::of(&self.cluster);
        let (web, names) = outside.within(|| (TcpListener::bind(("0.0.0.0", OUTSIDE_PORT)), UdpSocket::bind((ALLOWED, RESOLVER_PORT))));
        let own = self.cluster.within(|| TcpListener::bind(("0.0.0.0", OUTSIDE_PORT))).join().expect("does not panic");
        let names = names.expect("binds");
        names.set_read_timeout(Some(Duration::from_millis(150))).expect("takes it");
        let mut threads = Threads::new();
        threads.serve(web.expect("binds"));
        threads.serve(own.expect("binds"));
        threads.repeat(move |_| answer_one(&names));
        let client = Pod::of(&self.cluster, "blue", "client");
        let reaches = |address: IpAddr| client.connects((address, OUTSIDE_PORT).into());
        assert!(reaches(ALLOWED) && reaches(REFUSED) && reaches(NODE), "no policy is about them yet");

        let subject = "{pods: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: blue}}, podSelector: {matchLabels: {app: client}}}}";
        let rules =
            "[{action: Accept, to: [{domainNames: [\"*.names.test\"]}]}, {action: Deny, to: [{networks: [203.0.113.0/24, 198.51.100.0/24]}]}]";
        apply(&self.cluster, &cluster_policy("names", &format!("{{tier: Admin, priority: 1, subject: {subject}, egress: {rules}}}")));
        self.cluster.kubectl("wait --for=condition=Accepted clusternetworkpolicy/names --timeout=90s");
        eventually_within(SOON, "nobody has asked for a name", || !reaches(ALLOWED) && !reaches(REFUSED) && !reaches(NODE));
        eventually_within(SOON, "the name opens the way", || {
            // Whatever else it asks for.
            self.cluster.kubectl_output("-n blue exec client -- timeout 5 nslookup www.names.test");
            reaches(ALLOWED)
        });
        assert!(!reaches(REFUSED), "it leads to the one address");
        let told = self.cluster.kubectl("-n troupe-domain-names get endpointslices -o jsonpath={.items[*].endpoints[*].addresses}");
        assert!(told.contains(&ALLOWED.to_string()) && !told.contains(&NODE.to_string()), "{told}");
        assert!(!reaches(NODE), "the name leads to the node, too");
        self.cluster.kubectl("delete clusternetworkpolicy names");
        eventually_within(SOON, "all is open again", || reaches(REFUSED));
        let left = || self.cluster.kubectl("-n troupe-domain-names get endpointslices -o name");
        eventually_within(SOON, "what was learned goes with the policy", || left().is_empty());
    }

    fn all_is_open_again_without_policies(&self) {
        self.cluster.kubectl("-n blue delete networkpolicy --all");
        for from in [CLIENT, OTHER, RED] {
            self.becomes(from, &self.web(), true);
        }
        let left = || {
            let rules = self.cluster.inside("iptables-save").args(["-t", "mangle"]).output().expect("iptables-save runs");
            let sets = self.cluster.inside("ipset").arg("save").output().expect("ipset runs");
            format!("{}{}", String::from_utf8_lossy(&rules.stdout), String::from_utf8_lossy(&sets.stdout))
        };
        let gone = |text: &str| ["TROUPE-PI-", "TROUPE-PE-", "TROUPE-NP4-"].iter().all(|prefix| !text.contains(prefix));
        eventually_within(SOON, "nothing of policies is left in the kernel", || gone(&left()));
    }
}

const SERVER: (&str, &str) = ("blue", "server");
const CLIENT: (&str, &str) = ("blue", "client");
const OTHER: (&str, &str) = ("blue", "other");
const RED: (&str, &str) = ("red", "client");

/// Asks from the network of a process, whatever becomes of the cluster's daemon.
fn asks_from(process: &str, address: &str) -> bool {
    let mut command = std::process::Command::new("nsenter");
    command.args(["-t", process, "-n", "timeout", "1", "bash", "-c", &format!("exec 3<>/dev/tcp/{}", address.replace(':', "/"))]);
    command.output().expect("nsenter runs").status.success()
}
