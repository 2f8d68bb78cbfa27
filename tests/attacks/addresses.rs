//! Ways to have the control plane go to what only its own machine should reach.

use serde_json::{Value, json};

use crate::{caller::Caller, stage};

/// This machine and its link, as pods and nodes may try to name them.
const FORMS: [&str; 6] = ["127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::ffff:169.254.169.254", "0.0.0.0"];

#[test]
fn no_form_of_an_address_leads_a_proxy_to_the_machine_itself() {
    let stage = stage::shared();
    let room = stage.room("proxied");
    let admin = Caller::administrator(&stage);
    let pods = format!("/api/v1/namespaces/{}/pods", room.name);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "nowhere", "containers": [{"name": "c", "image": "none"}]}});
    assert_eq!(admin.json("POST", &pods, &pod).status, 201);
    let node = json!({"metadata": {"name": "redirected"}});
    assert_eq!(admin.json("POST", "/api/v1/nodes", &node).status, 201);
    for ip in FORMS {
        let patch = |path: &str, status: Value| {
            let body = json!({"status": status}).to_string();
            admin.send("PATCH", path, "application/merge-patch+json", body).status
        };
        // Some forms are refused where they are written.
        if patch(&format!("{pods}/p/status"), json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]})) == 200 {
            for path in [format!("{pods}/https:p:6443/proxy/version"), format!("{pods}/p:80/proxy/")] {
                let reply = admin.get(&path);
                assert_eq!((reply.status, reply.message().as_str()), (400, "address not allowed"), "{ip}: {reply:?}");
            }
        }
        let status = json!({"addresses": [{"type": "InternalIP", "address": ip}], "daemonEndpoints": {"kubeletEndpoint": {"Port": 6443}}});
        if patch("/api/v1/nodes/redirected/status", status) == 200 {
            for path in ["/api/v1/nodes/redirected/proxy/version", "/api/v1/nodes/redirected:6443/proxy/version"] {
                let reply = admin.get(path);
                assert!(reply.status >= 400 && reply.message().contains("address not allowed"), "{ip}: {reply:?}");
            }
        }
    }
    admin.send("DELETE", "/api/v1/nodes/redirected", "application/json", "");
}

#[test]
fn no_endpoint_and_no_service_has_a_special_address() {
    let stage = stage::shared();
    let room = stage.room("special");
    let admin = Caller::administrator(&stage);
    let core = format!("/api/v1/namespaces/{}", room.name);
    let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", room.name);
    for ip in FORMS {
        let family = if ip.contains(':') { "IPv6" } else { "IPv4" };
        let endpoints = json!({"metadata": {"name": "e"}, "subsets": [{"addresses": [{"ip": ip}], "ports": [{"port": 80}]}]});
        let slice = json!({"metadata": {"name": "e"}, "addressType": family, "endpoints": [{"addresses": [ip]}], "ports": []});
        let service = json!({"metadata": {"name": "e"}, "spec": {"externalIPs": [ip], "ports": [{"port": 80}]}});
        for (path, object) in [(format!("{core}/endpoints"), endpoints), (slices.clone(), slice), (format!("{core}/services"), service)] {
            let reply = admin.json("POST", &path, &object);
            let named = ["may not be", "must not be an IPv4-mapped IPv6 address"].iter().any(|why| reply.message().contains(why));
            assert!(reply.status == 422 && named, "{ip} at {path}: {reply:?}");
        }
    }
}

/// Every node catches packets for external addresses, also its own: such a Service would cut the API server off, or take the
/// place of the cluster's DNS.
#[test]
fn no_service_takes_an_address_that_the_cluster_uses() {
    let stage = stage::shared();
    let room = stage.room("taken");
    let admin = Caller::administrator(&stage);
    let servers = admin.get("/api/v1/namespaces/default/endpoints/kubernetes").json();
    let server = &servers["subsets"][0];
    let (ip, port) = (server["addresses"][0]["ip"].as_str().expect("an address").to_owned(), server["ports"][0]["port"].clone());
    let dns = admin.get("/api/v1/namespaces/kube-system/services/kube-dns").json()["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    let services = format!("/api/v1/namespaces/{}/services", room.name);
    let taking = |services: &str, name: &str, ip: &str, port: &Value| {
        let port = if port.is_object() { port.clone() } else { json!({"port": port}) };
        let service = json!({"metadata": {"name": name}, "spec": {"externalIPs": [ip], "ports": [port]}});
        admin.json("POST", services, &service)
    };
    let translated = match dns.parse::<std::net::Ipv4Addr>() {
        Ok(four) => std::net::Ipv6Addr::from((0x64_ff9b_u128 << 96) | u128::from(u32::from(four))).to_string(),
        Err(_) => dns.clone(),
    };
    let refused = [
        (ip.clone(), port.clone()),
        (ip.clone(), json!(10250)),
        (ip.clone(), json!(10256)),
        (ip.clone(), json!(30080)),
        (ip.clone(), json!({"port": 8472, "protocol": "UDP"})),
        (dns, json!(53)),
        (translated, json!(53)),
        ("255.255.255.255".to_owned(), json!(443)),
    ];
    for (ip, port) in &refused {
        let reply = taking(&services, "taken", ip, port);
        assert!(reply.status == 422 && reply.message().contains("spec.externalIPs[0]"), "{ip}:{port}: {reply:?}");
    }
    let free = taking(&services, "free", "203.0.113.77", &port);
    assert_eq!(free.status, 201, "{free:?}");
    let other = stage.room("taken-too");
    let others = format!("/api/v1/namespaces/{}/services", other.name);
    let reply = taking(&others, "robs", "203.0.113.77", &port);
    assert!(reply.status == 422 && reply.message().contains("a Service of another namespace has port"), "{reply:?}");
    assert_eq!(taking(&others, "beside", "203.0.113.77", &json!(81)).status, 201, "another port");
    assert_eq!(taking(&services, "again", "203.0.113.77", &port).status, 201, "within a namespace it is allowed, as upstream");
}
