//! Objects of the core group, of networks and of budgets that lie about addresses, names, amounts or their own past: each is refused with
//! 422 that names the field as upstream does, on create, on update and on subresources, and the daemon lives on.

use serde_json::{Value, json};

use crate::{
    caller::{Caller, Reply},
    stage,
};

const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of";

/// Where objects of a kind are created, below the room's namespace where the path ends in `/`.
const CORE: &str = "/api/v1/";
const NETWORKING: &str = "/apis/networking.k8s.io/v1/";

/// A new object, its place, and what is said about it.
struct Wrong {
    place: String,
    object: Value,
    says: String,
}

fn wrong(place: impl Into<String>, object: Value, says: impl Into<String>) -> Wrong {
    Wrong { place: place.into(), object, says: says.into() }
}

fn check(reply: &Reply, says: &str, what: &Value) {
    assert_eq!(reply.status, 422, "{what}: {reply:?}");
    assert!(reply.message().contains(says), "{}\n  does not say\n{says}", reply.message());
}

fn services(core: &str) -> Vec<Wrong> {
    let place = format!("{core}services");
    let service = |changes: Value| {
        let mut spec = json!({"ports": [{"port": 80}]});
        for (name, value) in changes.as_object().expect("changes") {
            spec[name] = value.clone();
        }
        json!({"metadata": {"name": "bad"}, "spec": spec})
    };
    let rows = [
        (json!({"clusterIP": "10.0.0.1 -j ACCEPT"}), format!("spec.clusterIPs[0]: Invalid value: \"10.0.0.1 -j ACCEPT\": {IP}")),
        (
            json!({"externalIPs": ["127.0.0.1"]}),
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)".into(),
        ),
        (json!({"externalIPs": ["010.9.8.7"]}), "spec.externalIPs[0]: Invalid value: \"010.9.8.7\": must not have leading 0s".into()),
        (
            json!({"type": "ExternalName", "externalName": "a\n6.6.6.6 b"}),
            format!("spec.externalName: Invalid value: \"a\\n6.6.6.6 b\": {SUBDOMAIN}"),
        ),
        (
            json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["0.0.0.0/0 -j ACCEPT"]}),
            format!("spec.LoadBalancerSourceRanges[0]: Invalid value: \"0.0.0.0/0 -j ACCEPT\": {CIDR}"),
        ),
        (
            json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.1.2.3/8"]}),
            "spec.LoadBalancerSourceRanges[0]: Invalid value: \"10.1.2.3/8\": must not have bits set beyond the prefix length".into(),
        ),
        (
            json!({"ports": [{"port": 80, "protocol": "TCP -j ACCEPT"}]}),
            "spec.ports[0].protocol: Unsupported value: \"TCP -j ACCEPT\": supported values: \"SCTP\", \"TCP\", \"UDP\"".into(),
        ),
        (json!({"ports": [{"port": 70_000}]}), "spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive".into()),
        (
            json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 70_000}]}),
            "spec.ports[0].nodePort: Invalid value: 70000: provided port is not in the valid range".into(),
        ),
        (json!({"selector": {"a": "b\nc"}}), "spec.selector: Invalid value: \"b\\nc\": a valid label must be an empty string".into()),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": -1}}}),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: -1: must be greater than 0 and less than 86400".into(),
        ),
        (
            json!({"trafficDistribution": "Near"}),
            "spec.trafficDistribution: Unsupported value: \"Near\": supported values: \"PreferClose\", \"PreferSameZone\", \"PreferSameNode\"".into(),
        ),
        (
            json!({"clusterIP": "None", "type": "NodePort"}),
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services".into(),
        ),
    ];
    rows.into_iter().map(|(changes, says)| wrong(place.clone(), service(changes), says)).collect()
}

fn endpoints(core: &str, slices: &str) -> Vec<Wrong> {
    let endpoints = |subset: Value| json!({"metadata": {"name": "bad"}, "subsets": [subset]});
    let slice = |kind: &str, endpoint: Value| json!({"metadata": {"name": "bad"}, "addressType": kind, "endpoints": [endpoint], "ports": []});
    let (old, new) = (format!("{core}endpoints"), slices.to_owned());
    vec![
        wrong(
            &old,
            endpoints(json!({"addresses": [{"ip": "10.0.0.1", "hostname": "a.b"}]})),
            "subsets[0].addresses[0].hostname: Invalid value: \"a.b\": must not contain dots",
        ),
        wrong(
            &old,
            endpoints(json!({"addresses": [{"ip": "10.0.0.1 "}]})),
            format!("subsets[0].addresses[0].ip: Invalid value: \"10.0.0.1 \": {IP}"),
        ),
        wrong(
            &old,
            endpoints(json!({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 0}]})),
            "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        wrong(&new, slice("IPv4", json!({"addresses": ["fd00::1"]})), "endpoints[0].addresses: Invalid value: \"fd00::1\": must be an IPv4 address"),
        wrong(
            &new,
            slice("IPv6", json!({"addresses": ["fd00:0:0::1"]})),
            "endpoints[0].addresses[0]: Invalid value: \"fd00:0:0::1\": must be in canonical form (\"fd00::1\")",
        ),
        wrong(
            &new,
            slice("IPv4", json!({"addresses": ["10.0.0.1"], "hints": {"forZones": [{"name": "a b"}]}})),
            "endpoints[0].hints.forZones[0].name: Invalid value: \"a b\": a valid label must be an empty string",
        ),
        wrong(
            &new,
            slice("IPX", json!({"addresses": ["1"]})),
            "addressType: Unsupported value: \"IPX\": supported values: \"FQDN\", \"IPv4\", \"IPv6\"",
        ),
    ]
}

fn networks(namespaced: &str) -> Vec<Wrong> {
    let named = |spec: Value| json!({"metadata": {"name": "bad"}, "spec": spec});
    let path = |path: &str| {
        let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
        named(json!({"rules": [{"http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}}]}))
    };
    let peer = |peer: Value| named(json!({"podSelector": {}, "ingress": [{"from": [peer]}]}));
    let (ingresses, policies) = (format!("{namespaced}ingresses"), format!("{namespaced}networkpolicies"));
    vec![
        wrong(&ingresses, path("/a/../b"), "spec.rules[0].http.paths[0].path: Invalid value: \"/a/../b\": must not contain '/../'"),
        wrong(&ingresses, named(json!({"rules": [{"host": "a\nb"}]})), format!("spec.rules[0].host: Invalid value: \"a\\nb\": {SUBDOMAIN}")),
        wrong(&ingresses, named(json!({"defaultBackend": {}})), "spec.defaultBackend: Invalid value: \"\": resource or service backend is required"),
        wrong(
            &policies,
            peer(json!({"ipBlock": {"cidr": "0.0.0.0/0 -j ACCEPT"}})),
            format!("spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"0.0.0.0/0 -j ACCEPT\": {CIDR}"),
        ),
        wrong(
            &policies,
            peer(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}})),
            "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
        ),
        wrong(
            format!("{NETWORKING}ingressclasses"),
            named(json!({"controller": "none"})),
            "spec.controller: Invalid value: \"none\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ),
        wrong(
            format!("{NETWORKING}ipaddresses"),
            json!({"metadata": {"name": "010.1.1.1"}, "spec": {"parentRef": {"resource": "services", "name": "s"}}}),
            "metadata.name: Invalid value: \"010.1.1.1\": must not have leading 0s",
        ),
        wrong(format!("{NETWORKING}ipaddresses"), json!({"metadata": {"name": "10.1.1.1"}, "spec": {}}), "spec.parentRef: Required value"),
        wrong(
            format!("{NETWORKING}servicecidrs"),
            named(json!({"cidrs": ["10.0.0.0/8", "10.1.0.0/16"]})),
            "spec.cidrs: Invalid value: [\"10.0.0.0/8\",\"10.1.0.0/16\"]: may specify no more than one IP for each IP family",
        ),
    ]
}

fn nodes_and_volumes(core: &str) -> Vec<Wrong> {
    let node = |spec: Value| json!({"metadata": {"name": "bad"}, "spec": spec});
    let volume = |source: Value| {
        let mut spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]});
        for (name, value) in source.as_object().expect("changes") {
            spec[name] = value.clone();
        }
        json!({"metadata": {"name": "bad"}, "spec": spec})
    };
    let claim = |spec: Value| json!({"metadata": {"name": "bad"}, "spec": spec});
    let (nodes, volumes, claims) = (format!("{CORE}nodes"), format!("{CORE}persistentvolumes"), format!("{core}persistentvolumeclaims"));
    vec![
        wrong(
            &nodes,
            node(json!({"podCIDRs": ["0.0.0.0/0"]})),
            "spec.podCIDRs[0]: Invalid value: \"0.0.0.0/0\": must be a range of addresses that pods can have",
        ),
        wrong(
            &nodes,
            node(json!({"podCIDRs": ["10.1.0.0/24", "10.2.0.0/24"]})),
            "spec.podCIDRs: Invalid value: [\"10.1.0.0/24\",\"10.2.0.0/24\"]: may specify no more than one CIDR for each IP family",
        ),
        wrong(
            &nodes,
            node(json!({"taints": [{"key": "a", "effect": "Never"}]})),
            "metadata.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
        ),
        wrong(
            &nodes,
            json!({"metadata": {"name": "bad"}, "status": {"capacity": {"cpu": "-1"}}}),
            "status.capacity.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        wrong(
            &volumes,
            volume(json!({"hostPath": {"path": "/a/../etc"}})),
            "spec.hostPath.path: Invalid value: \"/a/../etc\": must not contain '..'",
        ),
        wrong(&volumes, volume(json!({"local": {"path": "/a"}})), "spec.nodeAffinity: Required value: Local volume requires node affinity"),
        wrong(
            &volumes,
            volume(json!({"nfs": {"server": "s", "path": "/p"}, "capacity": {"storage": "0"}})),
            "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
        ),
        wrong(
            &claims,
            claim(json!({"accessModes": ["All"], "resources": {"requests": {"storage": "1Gi"}}})),
            "spec.accessModes: Unsupported value: \"All\"",
        ),
        wrong(&claims, claim(json!({"accessModes": ["ReadWriteOnce"]})), "spec.resources[storage]: Required value"),
    ]
}

fn accounting(core: &str, room: &str) -> Vec<Wrong> {
    let named = |spec: Value| json!({"metadata": {"name": "bad"}, "spec": spec});
    let data = |key: &str| json!({"metadata": {"name": "bad"}, "data": {key: ""}});
    let event = json!({"metadata": {"name": "bad"}, "involvedObject": {"namespace": "elsewhere"}});
    let timeless = json!({"metadata": {"name": "bad"}, "regarding": {"namespace": room}, "type": "Normal", "reason": "r", "action": "a"});
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{room}/leases");
    let budgets = format!("/apis/policy/v1/namespaces/{room}/poddisruptionbudgets");
    vec![
        wrong(
            format!("{core}resourcequotas"),
            named(json!({"hard": {"pods": "-1"}})),
            "spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        wrong(
            format!("{core}limitranges"),
            named(json!({"limits": [{"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "2"}}]})),
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
        ),
        wrong(
            format!("{core}configmaps"),
            data("../../etc/x"),
            "data[../../etc/x]: Invalid value: \"../../etc/x\": a valid config key must consist of",
        ),
        wrong(format!("{core}secrets"), data(".."), "data[..]: Invalid value: \"..\": must not be '..'"),
        wrong(
            format!("{core}secrets"),
            json!({"metadata": {"name": "bad"}, "type": "kubernetes.io/tls", "data": {}}),
            "data[tls.crt]: Required value",
        ),
        wrong(format!("{core}events"), event, "involvedObject.namespace: Invalid value: \"elsewhere\": does not match event.namespace"),
        wrong(format!("/apis/events.k8s.io/v1/namespaces/{room}/events"), timeless, "eventTime: Required value"),
        wrong(leases, named(json!({"leaseDurationSeconds": 0})), "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"),
        wrong(budgets, named(json!({"minAvailable": 1, "maxUnavailable": 1})), "minAvailable and maxUnavailable cannot be both set"),
        wrong(
            format!("{core}configmaps"),
            json!({"metadata": {"name": "bad", "finalizers": ["mine"]}}),
            "metadata.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified",
        ),
    ]
}

#[test]
fn core_and_network_kinds_are_held_to_upstreams_rules() {
    let stage = stage::shared();
    let room = stage.room("val-core");
    let caller = Caller::administrator(&stage);
    let core = format!("{CORE}namespaces/{}/", room.name);
    let networking = format!("{NETWORKING}namespaces/{}/", room.name);
    let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", room.name);
    let groups = [services(&core), endpoints(&core, &slices), networks(&networking), nodes_and_volumes(&core), accounting(&core, &room.name)];
    stage.attack(|| {
        for row in groups.into_iter().flatten() {
            check(&caller.json("POST", &row.place, &row.object), &row.says, &row.object);
        }
    });
}

/// A good object, a patch of it or of a subresource of it, and what is said about that.
fn changes(core: &str, networking: &str) -> Vec<(String, Value, &'static str, Value, String)> {
    let ingress = json!({"metadata": {"name": "a"}, "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}});
    let claim = json!({"metadata": {"name": "a"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}});
    let balancer = json!({"metadata": {"name": "lb"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}});
    let fixed = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    let loaded = |entry: Value| json!({"status": {"loadBalancer": {"ingress": [entry]}}});
    vec![
        (
            format!("{core}services"),
            json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}}),
            "",
            json!({"spec": {"clusterIP": "10.1.1.1", "clusterIPs": ["10.1.1.1"]}}),
            "spec.clusterIPs[0]: Invalid value: [\"10.1.1.1\"]: may not change once set".into(),
        ),
        (
            format!("{core}services"),
            balancer,
            "/status",
            loaded(json!({"ip": "1.2.3.4 -j ACCEPT"})),
            format!("status.loadBalancer.ingress[0].ip: Invalid value: \"1.2.3.4 -j ACCEPT\": {IP}"),
        ),
        (
            format!("{networking}ingresses"),
            ingress,
            "/status",
            loaded(json!({"hostname": "1.2.3.4"})),
            "status.loadBalancer.ingress[0].hostname: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address".into(),
        ),
        (format!("{core}persistentvolumeclaims"), claim, "", json!({"spec": {"resources": {"requests": {"storage": "3Gi"}}}}), fixed.into()),
        (
            format!("{core}secrets"),
            json!({"metadata": {"name": "a"}, "immutable": true, "data": {"k": "dg=="}}),
            "",
            json!({"data": {"k": "eA=="}}),
            "data: Forbidden: field is immutable when `immutable` is set".into(),
        ),
        (
            format!("{core}resourcequotas"),
            json!({"metadata": {"name": "a"}, "spec": {"hard": {"configmaps": "100"}}}),
            "/status",
            json!({"status": {"used": {"configmaps": "-5"}}}),
            "status.used[configmaps]: Invalid value: \"-5\": must be greater than or equal to 0".into(),
        ),
    ]
}

#[test]
fn updates_and_statuses_are_held_to_upstreams_rules() {
    let stage = stage::shared();
    let room = stage.room("val-core-updates");
    let caller = Caller::administrator(&stage);
    let core = format!("{CORE}namespaces/{}/", room.name);
    let networking = format!("{NETWORKING}namespaces/{}/", room.name);
    stage.attack(|| {
        for (place, object, subresource, patch, says) in changes(&core, &networking) {
            let reply = caller.json("POST", &place, &object);
            assert_eq!(reply.status, 201, "{object}: {reply:?}");
            let name = object["metadata"]["name"].as_str().expect("a name");
            let path = format!("{place}/{name}{subresource}");
            check(&caller.send("PATCH", &path, "application/merge-patch+json", patch.to_string()), &says, &patch);
        }
    });
}

#[test]
fn what_a_status_update_of_a_node_tells_is_checked() {
    let stage = stage::shared();
    let caller = Caller::administrator(&stage);
    let node = json!({"metadata": {"name": "val-core"}, "spec": {"podCIDRs": ["10.250.0.0/24"], "providerID": "p"}});
    assert_eq!(caller.json("POST", "/api/v1/nodes", &node).status, 201);
    let patch = |path: &str, patch: &Value| caller.send("PATCH", path, "application/merge-patch+json", patch.to_string());
    let address = json!({"type": "InternalIP", "address": "10.99.0.1"});
    let rows = [
        ("/status", json!({"status": {"allocatable": {"pods": "500m"}}}), "status.allocatable.pods: Invalid value: \"500m\": must be an integer"),
        (
            "/status",
            json!({"status": {"addresses": [address, address]}}),
            "status.addresses[1]: Duplicate value: {\"Type\":\"InternalIP\",\"Address\":\"10.99.0.1\"}",
        ),
        ("", json!({"spec": {"providerID": "q"}}), "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid"),
        (
            "",
            json!({"spec": {"podCIDR": "10.251.0.0/24", "podCIDRs": ["10.251.0.0/24"]}}),
            "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
        ),
    ];
    for (subresource, change, says) in &rows {
        check(&patch(&format!("/api/v1/nodes/val-core{subresource}"), change), says, change);
    }
    caller.send("DELETE", "/api/v1/nodes/val-core", "application/json", "");
}
