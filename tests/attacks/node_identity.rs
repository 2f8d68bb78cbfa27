//! What the holder of one node's certificate can do to others: be itself, and nothing else.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use troupe_api::{
    auth::pki::{KeyedCertificate, LeafSpec, Pki},
    certificates::Draft,
};

use crate::{
    caller::{Caller, Reply},
    cluster::{NODE_IP, eventually},
    stage::{self, Stage},
};

/// The certificate that the cluster's authority gives a node, or another one that names it.
fn node_certificate(stage: &Stage, node: &str) -> KeyedCertificate {
    let pki = Pki::open(&stage.path("data/pki")).expect("the cluster's authority");
    let spec = LeafSpec {
        file: format!("attack-{node}"),
        common_name: format!("system:node:{node}"),
        organizations: vec!["system:nodes".into()],
        client: true,
        ..LeafSpec::default()
    };
    pki.leaf(&spec).expect("a certificate")
}

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// A node of this name and what its certificate's holder does; the Node object is removed when dropped.
struct Intruder<'a> {
    name: String,
    caller: Caller,
    administrator: Caller,
    _stage: &'a Stage,
}

impl<'a> Intruder<'a> {
    /// Registers a second node, as a kubelet does.
    fn joins(stage: &'a Stage, name: &str) -> Self {
        let caller = Caller::with_certificate(stage, &node_certificate(stage, name));
        let administrator = Caller::administrator(stage);
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        let registered = caller.json("POST", "/api/v1/nodes", &node);
        assert_eq!(registered.status, 201, "{registered:?}");
        Intruder { name: name.to_owned(), caller, administrator, _stage: stage }
    }

    fn own(&self, subresource: &str) -> String {
        format!("/api/v1/nodes/{}{subresource}", self.name)
    }

    fn patch(&self, path: &str, patch: Value) -> Reply {
        self.caller.send("PATCH", path, "application/merge-patch+json", patch.to_string())
    }

    /// Says in its status that it has this address, beside its own name.
    fn reports(&self, kind: &str, address: &str) -> Reply {
        let addresses = json!([{"type": "Hostname", "address": self.name}, {"type": kind, "address": address}]);
        self.patch(&self.own("/status"), json!({"status": {"addresses": addresses}}))
    }

    /// Asks for a certificate with these names, in the node's own name.
    fn asks(&self, request: &str, signer: &str, auth: &str, draft: &Draft) -> Reply {
        let made = draft.with_new_key().expect("a request");
        let spec = json!({
            "request": BASE64_STANDARD.encode(made.request_pem), "signerName": signer, "usages": ["digital signature", auth],
            // What the server alone may say.
            "extra": {"authentication.troupe.dev/peer-address": ["in-process"]}, "username": "system:node:it",
        });
        let request =
            json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": request}, "spec": spec});
        self.caller.json("POST", REQUESTS, &request)
    }

    /// Whether the request was approved, or got a certificate, within some seconds.
    fn gets(&self, request: &str) -> bool {
        for _ in 0..12 {
            let found = self.administrator.get(&format!("{REQUESTS}/{request}")).json();
            if !found["status"]["certificate"].is_null() || found["status"]["conditions"].as_array().is_some_and(|all| !all.is_empty()) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        false
    }
}

impl Drop for Intruder<'_> {
    fn drop(&mut self) {
        self.administrator.send("DELETE", &self.own(""), "application/json", "");
    }
}

const SERVING: &str = "kubernetes.io/kubelet-serving";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";

#[test]
fn a_node_gets_no_serving_certificate_that_stands_for_another() {
    let stage = stage::shared();
    let intruder = Intruder::joins(&stage, "intruder");
    let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost", "it"];
    let ips: [IpAddr; 4] =
        [Ipv4Addr::new(10, 96, 0, 1).into(), Ipv4Addr::LOCALHOST.into(), NODE_IP.parse().expect("an address"), Ipv4Addr::new(203, 0, 113, 9).into()];
    for (number, name) in names.into_iter().enumerate() {
        // It may try to be known by that name first.
        intruder.reports("Hostname", name);
        let draft = Draft { dns_names: vec!["intruder".into(), name.into()], ..Draft::node_serving("intruder", Vec::new()) };
        let request = format!("attack-name-{number}");
        assert_eq!(intruder.asks(&request, SERVING, "server auth", &draft).status, 201, "anybody may ask");
        assert!(!intruder.gets(&request), "{name}");
    }
    for (number, ip) in ips.into_iter().enumerate() {
        intruder.reports("InternalIP", &ip.to_string());
        let request = format!("attack-address-{number}");
        assert_eq!(intruder.asks(&request, SERVING, "server auth", &Draft::node_serving("intruder", vec![ip])).status, 201, "anybody may ask");
        assert!(!intruder.gets(&request), "{ip}");
    }
    // Its own name alone is nobody else's.
    assert_eq!(intruder.asks("attack-own", SERVING, "server auth", &Draft::node_serving("intruder", Vec::new())).status, 201);
    eventually("a certificate for the node's own name is approved", || intruder.gets("attack-own"));
}

#[test]
fn a_node_reports_no_address_that_is_not_its_own() {
    let stage = stage::shared();
    let intruder = Intruder::joins(&stage, "liar");
    for (kind, address) in [
        ("InternalIP", NODE_IP),
        ("ExternalIP", "::ffff:198.51.100.2"),
        ("InternalIP", "10.96.0.1"),
        ("InternalIP", "127.0.0.1"),
        ("InternalIP", "169.254.169.254"),
        ("InternalIP", "0.0.0.0"),
        ("Hostname", "it"),
        ("Hostname", "kubernetes"),
        ("InternalDNS", "kubernetes.default.svc"),
        ("ExternalDNS", "localhost"),
    ] {
        let refused = intruder.reports(kind, address);
        assert_eq!(refused.status, 403, "{kind} {address}: {refused:?}");
        assert!(refused.message().contains("is not allowed to report the address"), "{}", refused.message());
    }
    let reported = intruder.reports("InternalIP", "203.0.113.9");
    assert_eq!(reported.status, 200, "{reported:?}");
}

#[test]
fn a_node_whose_kubelet_is_another_machines_is_not_believed() {
    let stage = stage::shared();
    let administrator = Caller::administrator(&stage);
    let asks = |node: &str| administrator.get(&format!("/api/v1/nodes/{node}/proxy/healthz"));
    let real = asks("it");
    assert_eq!((real.status, real.body.as_str()), (200, "ok"), "{real:?}");
    let posing = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "posing"}});
    assert_eq!(administrator.json("POST", "/api/v1/nodes", &posing).status, 201);
    let room = stage.room("posing");
    let pods = format!("/api/v1/namespaces/{}/pods", room.name);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "posing", "containers": [{"name": "c", "image": "none"}]}});
    assert_eq!(administrator.json("POST", &pods, &pod).status, 201);
    // The kubelet of the node that is there, and the API server beside it. Admission keeps nodes from saying so; this is what stands behind it.
    for port in [10250, 6443] {
        let status = json!({"addresses": [{"type": "InternalIP", "address": NODE_IP}], "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}});
        let patch = json!({"status": status}).to_string();
        let patched = administrator.send("PATCH", "/api/v1/nodes/posing/status", "application/merge-patch+json", patch);
        assert_eq!(patched.status, 200, "{patched:?}");
        for path in ["/api/v1/nodes/posing/proxy/healthz".to_owned(), format!("{pods}/p/log")] {
            let refused = administrator.get(&path);
            let why = format!("tls: the certificate of {NODE_IP}:{port} is not the one of node \"posing\"");
            assert!(refused.status >= 500 && refused.message().contains(&why), "{path}: {refused:?}");
        }
    }
    administrator.send("DELETE", "/api/v1/nodes/posing", "application/json", "");
}

#[test]
fn a_node_asks_for_no_certificate_of_another_and_cannot_approve_its_own() {
    let stage = stage::shared();
    let intruder = Intruder::joins(&stage, "greedy");
    let other = intruder.asks("attack-other", CLIENT, "client auth", &Draft::node_client("it"));
    assert_eq!(other.status, 403, "{other:?}");
    let masters = Draft { organization: "system:masters".into(), common_name: "admin".into(), ..Draft::node_client("greedy") };
    let asked = intruder.asks("attack-masters", "kubernetes.io/kube-apiserver-client", "client auth", &masters);
    assert_eq!(asked.status, 403, "{asked:?}");
    assert_eq!(intruder.asks("attack-approve", SERVING, "server auth", &Draft::node_serving("greedy", vec![Ipv4Addr::LOCALHOST.into()])).status, 201);
    for subresource in ["approval", "status"] {
        let condition = json!({"type": "Approved", "status": "True", "reason": "Me", "message": "me"});
        let patch = json!({"status": {"conditions": [condition]}});
        let refused = intruder.patch(&format!("{REQUESTS}/attack-approve/{subresource}"), patch);
        assert_eq!(refused.status, 403, "{refused:?}");
    }
}

#[test]
fn who_may_join_takes_no_living_nodes_identity() {
    let stage = stage::shared();
    let joiner = Caller::with_token(&stage, stage.troupe_text(&["token", "create", "--ttl", "10m"]).trim());
    let asks = |request: &str, node: &str| {
        let made = Draft::node_client(node).with_new_key().expect("a request");
        let spec = json!({"request": BASE64_STANDARD.encode(made.request_pem), "signerName": CLIENT, "usages": ["digital signature", "client auth"]});
        let body = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": request}, "spec": spec});
        let reply = joiner.json("POST", REQUESTS, &body);
        assert_eq!(reply.status, 201, "{reply:?}");
    };
    let administrator = Caller::administrator(&stage);
    let issued = |request: &str| !administrator.get(&format!("{REQUESTS}/{request}")).json()["status"]["certificate"].is_null();
    asks("attack-joins", "a-new-one");
    eventually("a new node gets its identity", || issued("attack-joins"));
    asks("attack-takes-over", "it");
    std::thread::sleep(Duration::from_secs(4));
    assert!(!issued("attack-takes-over"), "the node is there and Ready");
}

#[test]
fn a_node_changes_nothing_of_others() {
    let stage = stage::shared();
    let room = stage.room("node-attack");
    let intruder = Intruder::joins(&stage, "vandal");
    let administrator = Caller::administrator(&stage);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "precious"}, "stringData": {"a": "b"}});
    assert_eq!(administrator.json("POST", &format!("/api/v1/namespaces/{}/secrets", room.name), &secret).status, 201);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "theirs"},
        "spec": {"nodeSelector": {"no": "where"}, "containers": [{"name": "c", "image": "busybox:1.35"}]}});
    let pods = format!("/api/v1/namespaces/{}/pods", room.name);
    assert_eq!(administrator.json("POST", &pods, &pod).status, 201);

    let grabs = [
        (intruder.own(""), json!({"spec": {"podCIDR": "0.0.0.0/0", "podCIDRs": ["0.0.0.0/0"]}})),
        (intruder.own(""), json!({"spec": {"taints": [{"key": "example.com/keep-away", "effect": "NoSchedule"}]}})),
        (intruder.own(""), json!({"metadata": {"labels": {"node-restriction.kubernetes.io/tier": "gold"}}})),
        (intruder.own(""), json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}})),
        ("/api/v1/nodes/it".into(), json!({"metadata": {"labels": {"a": "b"}}})),
        ("/api/v1/nodes/it/status".into(), json!({"status": {"conditions": []}})),
        (format!("{pods}/theirs/status"), json!({"status": {"podIP": "203.0.113.1"}})),
        ("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/it".into(), json!({"spec": {"holderIdentity": "vandal"}})),
    ];
    for (path, patch) in grabs {
        let refused = intruder.patch(&path, patch.clone());
        assert_eq!(refused.status, 403, "{path} {patch}: {refused:?}");
    }
    for path in ["/api/v1/nodes/it".to_owned(), format!("{pods}/theirs"), intruder.own("")] {
        let refused = intruder.caller.send("DELETE", &path, "application/json", "");
        assert_eq!(refused.status, 403, "{path}: {refused:?}");
    }
    for path in [format!("/api/v1/namespaces/{}/secrets/precious", room.name), format!("{pods}/theirs"), pods.clone()] {
        assert_eq!(intruder.caller.get(&path).status, 403, "{path}");
    }
    let token = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let refused = intruder.caller.json("POST", &format!("/api/v1/namespaces/{}/serviceaccounts/default/token", room.name), &token);
    assert_eq!(refused.status, 403, "{refused:?}");
    makes_no_pods(&intruder, &pods);
}

/// Pods of a node's own are mirrors, name that node, and refer to nothing.
fn makes_no_pods(intruder: &Intruder<'_>, pods: &str) {
    let uid = intruder.administrator.get(&intruder.own("")).json()["metadata"]["uid"].clone();
    let mirror = |node: &str, spec: Value| {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "mine", "annotations": {"kubernetes.io/config.mirror": "x"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "vandal", "uid": uid, "controller": true}]},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "busybox:1.35"}]}});
        for (key, value) in spec.as_object().expect("an object") {
            pod["spec"][key] = value.clone();
        }
        intruder.caller.json("POST", pods, &pod)
    };
    let secret = json!([{"name": "v", "secret": {"secretName": "precious"}}]);
    for (node, spec) in [
        ("it", json!({})),
        ("vandal", json!({"volumes": secret})),
        ("vandal", json!({"serviceAccountName": "default"})),
        ("vandal", json!({"serviceAccount": "default"})),
        ("vandal", json!({"containers": [{"name": "c", "image": "busybox:1.35", "envFrom": [{"secretRef": {"name": "precious"}}]}]})),
    ] {
        let refused = mirror(node, spec.clone());
        assert_eq!(refused.status, 403, "{node} {spec}: {refused:?}");
    }
}
