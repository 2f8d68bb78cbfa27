//! What the API's documentation says of network policies, sentence by sentence, with packets: within a node and from another one.

use std::{
    collections::BTreeSet,
    fmt,
    io::Write,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, apply},
    pod_network::{Pod, Threads},
};

/// How soon a change must be in force.
const SOON: Duration = Duration::from_secs(60);
/// How long an answer of a pod may take; who is slower is asked again.
const PATIENCE: Duration = Duration::from_millis(150);

const WEB: u16 = 8080;
const ADMIN: u16 = 8081;
const DNS: u16 = 8082;
const ELSEWHERE: u16 = 9090;

/// Who asks: pods of two namespaces on two nodes, by namespace, label `app` and node.
const ASKING: [(&str, &str, &str); 6] = [
    ("blue", "client", "it"),
    ("blue", "client", "it-2"),
    ("blue", "other", "it"),
    ("blue", "other", "it-2"),
    ("red", "client", "it"),
    ("red", "client", "it-2"),
];
/// Who is asked, all of them on the node `it` in the namespace `blue`: label `app`, port, over UDP.
const ASKED: [(&str, u16, bool); 5] =
    [("server", WEB, false), ("server", ADMIN, false), ("server", DNS, true), ("store", WEB, false), ("store", ELSEWHERE, false)];

/// One pod asks another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    namespace: &'static str,
    app: &'static str,
    node: &'static str,
    to: &'static str,
    port: u16,
    udp: bool,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Question { namespace, app, node, to, port, udp } = self;
        write!(f, "{namespace}/{app} on {node} asks {to}:{port}{}", if *udp { "/udp" } else { "" })
    }
}

impl Question {
    fn all() -> Vec<Self> {
        let of = |(namespace, app, node)| ASKED.map(|(to, port, udp)| Question { namespace, app, node, to, port, udp });
        ASKING.into_iter().flat_map(of).collect()
    }

    fn is_of_blue(&self, app: &str) -> bool {
        self.namespace == "blue" && self.app == app
    }

    fn is_of_blue_client(&self) -> bool {
        self.is_of_blue("client")
    }

    fn is_to(&self, to: &str, port: u16) -> bool {
        self.to == to && self.port == port
    }

    fn is_to_store(&self) -> bool {
        self.to == "store"
    }
}

/// What the documentation says, policies of the namespace `blue` that make use of it, and which questions are answered then.
struct Rule {
    says: &'static str,
    policies: Vec<Value>,
    answered: fn(&Question) -> bool,
}

fn rule<const COUNT: usize>(says: &'static str, policies: [Value; COUNT], answered: fn(&Question) -> bool) -> Rule {
    Rule { says, policies: policies.into(), answered }
}

/// What comes in to the server.
fn ingress(rules: Value) -> Value {
    json!({"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"], "ingress": rules})
}

/// Who may ask the server.
fn from(peers: Value) -> Value {
    ingress(json!([{"from": peers}]))
}

/// The ports at which anybody may ask the server.
fn at(ports: Value) -> Value {
    ingress(json!([{"ports": ports}]))
}

/// What the clients may send.
fn egress(rules: Value) -> Value {
    json!({"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"], "egress": rules})
}

fn pods(app: &str) -> Value {
    json!({"podSelector": {"matchLabels": {"app": app}}})
}

fn namespaces(team: &str) -> Value {
    json!({"namespaceSelector": {"matchLabels": {"team": team}}})
}

fn isolation() -> Vec<Rule> {
    let all = json!({"podSelector": {}});
    let both = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    let out = json!({"podSelector": {}, "policyTypes": ["Egress"]});
    let without_types = json!({"podSelector": {"matchLabels": {"app": "server"}}});
    let by_expression = json!({
        "podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["server", "client", "other"]}]},
        "ingress": [{"from": [namespaces("red")]}],
    });
    let implied = json!({"podSelector": {"matchLabels": {"app": "client"}}, "egress": [{"to": [pods("server")]}]});
    vec![
        rule("a pod that no policy selects is not isolated", [], |_| true),
        rule("a pod that is selected is isolated for ingress", [ingress(json!([]))], Question::is_to_store),
        rule("an empty selector selects all pods of the namespace", [all], |_| false),
        rule("the type is ingress by default", [without_types], Question::is_to_store),
        rule("an expression selects, too", [by_expression], |q| q.to == "server" || q.namespace == "red"),
        rule("the type egress is isolation of what pods send, and no other", [out], |q| q.namespace == "red"),
        rule("rules of egress make the policy one of that type", [implied], |q| !q.is_of_blue_client() || q.to == "server"),
        rule("both types are both", [both], |_| false),
    ]
}

fn what_comes_in(addresses: &Addresses) -> Vec<Rule> {
    let deny = ingress(json!([]));
    let clients_everywhere = json!([{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "client"}}}]);
    let no_clients = json!([{"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["client"]}]}}]);
    let block = json!([{"ipBlock": {"cidr": "10.244.0.0/16", "except": addresses.clients}}]);
    let two_rules = json!([{"from": [pods("client")], "ports": [{"port": WEB}]}, {"from": [namespaces("red")], "ports": [{"port": ADMIN}]}]);
    let both_parts = json!([{"from": [pods("client")], "ports": [{"port": WEB}, {"port": DNS, "protocol": "UDP"}]}]);
    vec![
        rule("policies are added: an empty rule lets all in beside one that lets in nobody", [deny.clone(), ingress(json!([{}]))], |_| true),
        rule("pods are those of the policy's namespace", [from(json!([pods("client")]))], |q| q.is_to_store() || q.is_of_blue_client()),
        rule("namespaces are all their pods", [from(json!([namespaces("red")]))], |q| q.is_to_store() || q.namespace == "red"),
        rule("both in one peer are pods in namespaces", [from(clients_everywhere)], |q| q.is_to_store() || q.app == "client"),
        rule("peers are added", [from(json!([pods("other"), namespaces("red")]))], |q| q.is_to_store() || q.app == "other" || q.namespace == "red"),
        rule("an expression chooses peers, too", [from(no_clients)], |q| q.is_to_store() || q.is_of_blue("other")),
        rule("an empty selector of namespaces is all of them", [deny.clone(), from(json!([{"namespaceSelector": {}}]))], |_| true),
        rule("a block has exceptions", [from(block)], |q| q.is_to_store() || !q.is_of_blue_client()),
        rule("a port is one of TCP by default", [at(json!([{"port": WEB}]))], |q| q.is_to_store() || q.is_to("server", WEB)),
        rule("a port may be named", [at(json!([{"port": "admin"}]))], |q| q.is_to_store() || q.is_to("server", ADMIN)),
        rule("a port has a protocol", [at(json!([{"port": DNS, "protocol": "UDP"}]))], |q| q.is_to_store() || q.is_to("server", DNS)),
        rule("a protocol alone is all its ports", [at(json!([{"protocol": "TCP"}]))], |q| q.is_to_store() || !q.udp),
        rule("ports may be a range", [at(json!([{"port": 8000, "endPort": WEB}]))], |q| q.is_to_store() || q.is_to("server", WEB)),
        rule("peers and ports of a rule hold together", [ingress(both_parts)], |q| {
            q.is_to_store() || (q.is_of_blue_client() && (q.is_to("server", WEB) || q.is_to("server", DNS)))
        }),
        rule("rules are added", [ingress(two_rules)], |q| {
            q.is_to_store() || (q.is_of_blue_client() && q.is_to("server", WEB)) || (q.namespace == "red" && q.is_to("server", ADMIN))
        }),
        rule("policies are added", [from(json!([pods("other")])), at(json!([{"port": ADMIN}]))], |q| {
            q.is_to_store() || q.is_of_blue("other") || q.is_to("server", ADMIN)
        }),
    ]
}

fn what_goes_out(addresses: &Addresses) -> Vec<Rule> {
    let deny = egress(json!([]));
    let block = json!([{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": addresses.server}}]}]);
    let store = json!([{"to": [{"namespaceSelector": {"matchLabels": {"team": "blue"}}, "podSelector": {"matchLabels": {"app": "store"}}}]}]);
    let named = json!([{"to": [{"podSelector": {}}], "ports": [{"port": "web"}]}]);
    let to_server = json!([{"to": [pods("server")]}]);
    vec![
        rule("a pod that is selected is isolated for egress", [deny.clone()], |q| !q.is_of_blue_client()),
        rule("an empty rule lets all out beside a policy that lets out nothing", [deny, egress(json!([{}]))], |_| true),
        rule("peers are whom it may send to", [egress(store)], |q| !q.is_of_blue_client() || q.is_to_store()),
        rule("namespaces are all their pods, and no others", [egress(json!([{"to": [namespaces("red")]}]))], |q| !q.is_of_blue_client()),
        rule("a block has exceptions", [egress(block)], |q| !q.is_of_blue_client() || q.is_to_store()),
        rule("a port is that of who is asked", [egress(json!([{"ports": [{"port": WEB}]}]))], |q| !q.is_of_blue_client() || q.port == WEB),
        rule("a name is that of a port of who is asked", [egress(named)], |q| {
            !q.is_of_blue_client() || q.is_to("server", WEB) || q.is_to("store", ELSEWHERE)
        }),
        rule("a protocol alone is all its ports", [egress(json!([{"ports": [{"protocol": "UDP"}]}]))], |q| !q.is_of_blue_client() || q.udp),
        rule("ports may be a range", [egress(json!([{"ports": [{"port": 9000, "endPort": 9999}]}]))], |q| {
            !q.is_of_blue_client() || q.port == ELSEWHERE
        }),
        rule("both ends have to allow it", [egress(to_server.clone()), from(json!([namespaces("red")]))], |q| {
            (q.namespace == "red" || q.is_to_store()) && !q.is_of_blue_client()
        }),
        rule("and then it passes", [egress(to_server), from(json!([pods("client")]))], |q| {
            if q.is_of_blue_client() { q.to == "server" } else { q.is_to_store() }
        }),
        rule("nothing is left of policies that are gone", [], |_| true),
    ]
}

/// Addresses that blocks have to name, as networks.
struct Addresses {
    server: Vec<String>,
    /// The clients of the namespace `blue`.
    clients: Vec<String>,
}

/// Two nodes with pods.
struct Stage {
    cluster: Cluster,
    asking: Vec<Pod>,
    server: Pod,
    store: Pod,
    /// They serve.
    _threads: Threads,
}

fn pod_manifest(namespace: &str, name: &str, app: &str, node: &str, web: u16) -> String {
    let ports = json!([{"name": "web", "containerPort": web}, {"name": "admin", "containerPort": ADMIN}]);
    let containers = json!([{"name": "c", "image": "busybox:1.35", "command": ["sleep", "infinity"], "ports": ports}]);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": {"app": app}},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": containers},
    });
    format!("---\n{pod}\n")
}

impl Stage {
    fn new() -> Self {
        let cluster = Cluster::place_of_several();
        cluster.start_with(&["--nodes", "2", "--topology", "routed"]);
        for namespace in ["blue", "red"] {
            cluster.kubectl(&format!("create namespace {namespace}"));
            cluster.kubectl(&format!("label namespace {namespace} team={namespace}"));
        }
        let names = ASKING.map(|(namespace, app, node)| (namespace, format!("{app}-{node}")));
        let asking = ASKING.iter().zip(&names).map(|((namespace, app, node), (_, name))| pod_manifest(namespace, name, app, node, WEB));
        let asked = [("server", WEB), ("store", ELSEWHERE)].map(|(app, web)| pod_manifest("blue", app, app, "it", web));
        apply(&cluster, &asking.chain(asked).collect::<String>());
        for namespace in ["blue", "red"] {
            cluster.kubectl(&format!("-n {namespace} wait --for=condition=Ready pod --all --timeout=180s"));
        }
        let asking = names.iter().map(|(namespace, name)| Pod::of(&cluster, namespace, name)).collect();
        let [server, store] = ["server", "store"].map(|name| Pod::of(&cluster, "blue", name));
        let mut threads = Threads::new();
        for (to, port, udp) in ASKED {
            let pod = if to == "server" { &server } else { &store };
            if udp { threads.serve_datagrams(pod.datagrams(port)) } else { threads.serve(pod.listener(port)) }
        }
        Stage { cluster, asking, server, store, _threads: threads }
    }

    fn addresses(&self) -> Addresses {
        let network = |pod: &Pod| format!("{}/32", pod.ip);
        let clients = ASKING.iter().zip(&self.asking).filter(|((namespace, app, _), _)| (*namespace, *app) == ("blue", "client"));
        Addresses { server: vec![network(&self.server)], clients: clients.map(|(_, pod)| network(pod)).collect() }
    }

    fn asks(&self, question: &Question) -> bool {
        let at = ASKING.iter().position(|who| *who == (question.namespace, question.app, question.node)).expect("one of them");
        let to = if question.to == "server" { &self.server } else { &self.store };
        let (from, address) = (&self.asking[at], SocketAddr::new(to.ip, question.port));
        if !question.udp {
            return from.connect(address, PATIENCE).is_ok();
        }
        let socket = from.datagrams(0);
        socket.send_to(b"?", address).is_ok() && socket.recv_from(&mut [0; 8]).is_ok()
    }

    /// All questions that are answered now.
    fn answered(&self, questions: &[Question]) -> BTreeSet<Question> {
        thread::scope(|scope| {
            let asked: Vec<_> = questions.iter().map(|question| scope.spawn(move || self.asks(question))).collect();
            let answers = asked.into_iter().map(|thread| thread.join().expect("does not panic"));
            questions.iter().zip(answers).filter(|(_, answered)| *answered).map(|(question, _)| *question).collect()
        })
    }

    /// Puts policies in the place of those that were there.
    fn put(&self, policies: &[Value], standing: &mut usize) {
        for (number, spec) in policies.iter().enumerate() {
            let name = format!("policy-{number}");
            let policy =
                json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "blue"}, "spec": spec});
            let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
            file.write_all(policy.to_string().as_bytes()).expect("writes");
            // What a policy that is replaced had by default goes with it.
            let verb = if number < *standing { "replace" } else { "create" };
            self.cluster.kubectl(&format!("{verb} -f {}", file.path().display()));
        }
        for number in policies.len()..*standing {
            self.cluster.kubectl(&format!("-n blue delete networkpolicy policy-{number}"));
        }
        *standing = policies.len();
    }

    /// What is answered comes to what the rule says, and stays so.
    fn holds(&self, rule: &Rule, questions: &[Question]) {
        let wanted: BTreeSet<Question> = questions.iter().copied().filter(|question| (rule.answered)(question)).collect();
        let (deadline, mut in_a_row) = (Instant::now() + SOON, 0);
        while in_a_row < 2 {
            let answered = self.answered(questions);
            in_a_row = if answered == wanted { in_a_row + 1 } else { 0 };
            if in_a_row == 0 {
                let others: Vec<&Question> = answered.symmetric_difference(&wanted).collect();
                assert!(Instant::now() < deadline, "{}: it is otherwise that {others:?} by {:?}", rule.says, rule.policies);
            }
        }
    }
}

#[test]
fn every_rule_holds_within_a_node_and_across_two() {
    let stage = Stage::new();
    let (addresses, questions, mut standing) = (stage.addresses(), Question::all(), 0);
    let rules: Vec<Rule> = isolation().into_iter().chain(what_comes_in(&addresses)).chain(what_goes_out(&addresses)).collect();
    for rule in &rules {
        stage.put(&rule.policies, &mut standing);
        stage.holds(rule, &questions);
        // A node reaches its own pods, whatever policies say.
        let address = SocketAddr::new(stage.server.ip, WEB);
        let node = move || std::net::TcpStream::connect_timeout(&address, Duration::from_secs(10)).is_ok();
        assert!(stage.cluster.within(node).join().expect("does not panic"), "{}: the server's node is kept out", rule.says);
    }
    println!("{} rules hold for {} questions each", rules.len(), questions.len());
}
