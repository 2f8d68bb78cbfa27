//! The sample on clusters with addresses of both families, and of IPv6 alone: pods, Services, names, host ports and policies by IPv6.
//!
//! Needs a kernel with IPv6, and `ip6tables`; `troupe up` says what of that is missing.

use std::{net::IpAddr, time::Duration};

use serde_json::{Value, json};

use crate::cluster::{Cluster, NODE_IP, NODE_IPV6, apply, eventually, eventually_within, text};

/// How soon a change must be in force.
const SOON: Duration = Duration::from_secs(60);

/// Addresses of the node's link.
const POOL: &str = "198.51.100.200-198.51.100.201,2001:db8:51::200-2001:db8:51::201";

/// Answered by the sample's pods, at an address of each family that the cluster has.
const BALANCED: &str = "
apiVersion: v1
kind: Service
metadata: {name: balanced, namespace: sample}
spec: {type: LoadBalancer, ipFamilyPolicy: PreferDualStack, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
";

/// A pod that says what it knows of its addresses, and listens at a port of its node.
const TELLER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: teller, namespace: sample, labels: {app: teller}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: teller
    image: busybox:1.35
    command: [sh, -c, "mkdir /w; echo told $IPS at $HOSTS > /w/index.html; exec httpd -f -p 8080 -h /w"]
    env:
    - {name: IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}
    - {name: HOSTS, valueFrom: {fieldRef: {fieldPath: status.hostIPs}}}
    ports: [{containerPort: 8080, hostPort: 18080}]
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
"#;

struct World {
    cluster: Cluster,
    /// The families of the cluster's addresses, the usual one first.
    families: Vec<&'static str>,
}

#[test]
fn the_sample_runs_with_addresses_of_both_families() {
    let cluster = Cluster::place_of_families(true);
    cluster.start_with(&[
        "--service-cidr",
        "10.96.0.0/16,fd00:10:96::/112",
        "--cluster-cidr",
        "10.244.0.0/16,fd00:10:244::/56",
        "--load-balancer-pool",
        POOL,
    ]);
    let world = World { cluster, families: vec!["IPv4", "IPv6"] };
    world.nodes_and_ranges_have_all_families();
    world.the_sample_answers();
    world.a_service_gains_and_loses_a_family();
    world.a_load_balancer_has_addresses_of_all_families();
    world.pods_have_addresses_of_all_families();
    world.policies_hold();
    world.a_start_without_ranges_has_those_of_before();
    world.addresses_given_out_anew_are_reached_at_once();
}

#[test]
fn the_sample_runs_with_ipv6_alone() {
    let cluster = Cluster::place_of_families(false);
    cluster.start_with(&["--service-cidr", "fd00:10:96::/112", "--cluster-cidr", "fd00:10:244::/56", "--load-balancer-pool", POOL]);
    let world = World { cluster, families: vec!["IPv6"] };
    world.nodes_and_ranges_have_all_families();
    world.the_sample_answers();
    world.a_load_balancer_has_addresses_of_all_families();
    world.pods_have_addresses_of_all_families();
    world.policies_hold();
}

fn family_of(ip: &str) -> &'static str {
    if ip.contains(':') { "IPv6" } else { "IPv4" }
}

/// An address with a port.
fn at(ip: &str, port: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// The address before one.
fn before(ip: &str) -> IpAddr {
    match ip.parse::<IpAddr>().expect("an address") {
        IpAddr::V4(ip) => IpAddr::V4((u32::from(ip) - 1).into()),
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) - 1).into()),
    }
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

impl World {
    fn get(&self, words: &str) -> Value {
        serde_json::from_str(&self.cluster.kubectl(&format!("get {words} -o json"))).expect("JSON")
    }

    fn families_of(ips: &[String]) -> Vec<&'static str> {
        ips.iter().map(|ip| family_of(ip)).collect()
    }

    fn nodes_and_ranges_have_all_families(&self) {
        let node = self.get("node it");
        assert_eq!(World::families_of(&texts(&node["spec"]["podCIDRs"])), self.families);
        let addresses = node["status"]["addresses"].as_array().expect("addresses").clone();
        let internal = addresses.iter().filter(|address| address["type"] == "InternalIP");
        let internal: Vec<String> = internal.filter_map(|address| address["address"].as_str().map(str::to_owned)).collect();
        assert_eq!(World::families_of(&internal), self.families, "{internal:?}");
        let range = self.get("servicecidr kubernetes");
        assert_eq!(World::families_of(&texts(&range["spec"]["cidrs"])), self.families);
        let kubernetes = self.get("service kubernetes");
        assert_eq!(kubernetes["spec"]["ipFamilies"], json!([self.families[0]]));
    }

    fn the_sample_answers(&self) {
        let sample = format!("{}/config/samples/web.yaml", env!("CARGO_MANIFEST_DIR"));
        self.cluster.kubectl(&format!("apply -f {sample}"));
        self.cluster.kubectl("-n sample rollout status deployment/web --timeout=180s");
        self.answers_at_all_addresses();
        eventually("the caller is answered by name", || self.cluster.kubectl("-n sample logs caller --tail=3").contains("Hello from web-"));
    }

    /// The Service answers at its cluster addresses and at its node port.
    fn answers_at_all_addresses(&self) {
        let service = self.get("-n sample service web");
        let port = service["spec"]["ports"][0]["nodePort"].to_string();
        for ip in texts(&service["spec"]["clusterIPs"]) {
            let node = if ip.contains(':') { NODE_IPV6 } else { NODE_IP };
            for address in [at(&ip, "80"), at(node, &port)] {
                eventually(&format!("{address} answers"), || self.cluster.get(&address).is_some_and(|page| page.contains("Hello from web-")));
            }
        }
    }

    /// What a pod is answered at an address. Not by wget: that of a static busybox breaks down on addresses of IPv6.
    fn ask_from_a_pod(&self, ip: &str, port: &str) -> String {
        let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 3 nc {ip} {port}");
        let output = self.cluster.kubectl_command(&["-n", "sample", "exec", "caller", "--", "sh", "-c", &ask]).output();
        text(&output.expect("kubectl runs").stdout)
    }

    fn slices(&self) -> Vec<String> {
        let slices = self.get("-n sample endpointslices -l kubernetes.io/service-name=web");
        let mut families: Vec<String> =
            slices["items"].as_array().into_iter().flatten().filter_map(|slice| slice["addressType"].as_str().map(str::to_owned)).collect();
        families.sort();
        families
    }

    fn a_service_gains_and_loses_a_family(&self) {
        assert_eq!(self.slices(), ["IPv4"]);
        let patch = |spec: &str| {
            self.cluster.kubectl_words(&["-n", "sample", "patch", "service", "web", "-p", &format!("{{\"spec\": {spec}}}")]);
        };
        patch("{\"ipFamilyPolicy\": \"PreferDualStack\"}");
        let both = self.get("-n sample service web");
        let ips = texts(&both["spec"]["clusterIPs"]);
        assert_eq!(World::families_of(&ips), ["IPv4", "IPv6"]);
        assert_eq!(both["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
        eventually("both families have slices", || self.slices() == ["IPv4", "IPv6"]);
        self.answers_at_all_addresses();
        let exec = |command: &[&str]| {
            text(&self.cluster.kubectl_command(&[&["-n", "sample", "exec", "caller", "--"], command].concat()).output().expect("runs").stdout)
        };
        let name = "web.sample.svc.cluster.local";
        eventually("the name has an IPv6 address", || exec(&["nslookup", "-type=aaaa", name]).contains(&ips[1]));
        eventually("the address has a name", || exec(&["nslookup", &ips[1]]).contains(name));
        eventually("it answers a pod", || self.ask_from_a_pod(&ips[1], "80").contains("Hello from web-"));
        patch("{\"ipFamilyPolicy\": \"SingleStack\"}");
        assert_eq!(texts(&self.get("-n sample service web")["spec"]["clusterIPs"]), [ips[0].clone()]);
        eventually("the other family's slice goes", || self.slices() == ["IPv4"]);
        eventually("nothing answers at the address that was given back", || self.cluster.get(&at(&ips[1], "80")).is_none());
    }

    fn a_load_balancer_has_addresses_of_all_families(&self) {
        apply(&self.cluster, BALANCED);
        let given = || -> Vec<String> {
            let service = self.get("-n sample service balanced");
            let ingress = service["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
            ingress.iter().filter_map(|ingress| ingress["ip"].as_str().map(str::to_owned)).collect()
        };
        eventually("it has an address of each family", || World::families_of(&given()) == self.families);
        let ips = given();
        let links = || text(&self.cluster.inside("ip").args(["-o", "address"]).output().expect("ip runs").stdout);
        for ip in &ips {
            eventually(&format!("{ip} answers"), || self.cluster.get(&at(ip, "80")).is_some_and(|page| page.contains("Hello from web-")));
            eventually(&format!("{ip} is announced"), || links().contains(&format!("{ip}/")));
        }
        self.cluster.kubectl("-n sample delete service balanced --timeout=120s");
        eventually("nothing is announced any more", || ips.iter().all(|ip| !links().contains(&format!("{ip}/"))));
    }

    fn pods_have_addresses_of_all_families(&self) {
        apply(&self.cluster, TELLER);
        self.cluster.kubectl("-n sample wait --for=condition=Ready pod/teller --timeout=120s");
        let status = self.get("-n sample pod teller")["status"].clone();
        let ips = |field: &str| -> Vec<String> {
            status[field].as_array().into_iter().flatten().filter_map(|ip| ip["ip"].as_str().map(str::to_owned)).collect()
        };
        let (pod, host) = (ips("podIPs"), ips("hostIPs"));
        assert_eq!(World::families_of(&pod), self.families);
        assert_eq!(World::families_of(&host), self.families);
        assert_eq!(status["podIP"], json!(pod[0]));
        let told = format!("told {} at {}", pod.join(","), host.join(","));
        for (ip, node) in pod.iter().zip(&host) {
            for address in [at(ip, "8080"), at(node, "18080")] {
                eventually(&format!("{address} answers"), || self.cluster.get(&address).is_some_and(|page| page.contains(&told)));
            }
        }
    }

    /// Another pod reaches the teller as policies allow it, at each of its addresses.
    fn policies_hold(&self) {
        let ips = self.get("-n sample pod teller")["status"]["podIPs"].clone();
        let ips: Vec<String> = ips.as_array().into_iter().flatten().filter_map(|ip| ip["ip"].as_str().map(str::to_owned)).collect();
        let reached = |ip: &str| self.ask_from_a_pod(ip, "8080").contains("told");
        let all = |wanted: bool| ips.iter().all(|ip| reached(ip) == wanted);
        eventually_within(SOON, "pods reach each other", || all(true));
        let policy = |ingress: &str| {
            format!(
                "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: teller, namespace: sample}}\n\
                 spec: {{podSelector: {{matchLabels: {{app: teller}}}}, policyTypes: [Ingress], ingress: {ingress}}}\n"
            )
        };
        apply(&self.cluster, &policy("[]"));
        eventually_within(SOON, "nothing comes in by default", || all(false));
        self.cluster.kubectl("-n sample label pod caller app=caller --overwrite");
        apply(&self.cluster, &policy("[{from: [{podSelector: {matchLabels: {app: caller}}}]}]"));
        eventually_within(SOON, "the pod that is named comes in", || all(true));
        let blocks: Vec<&str> = ips
            .iter()
            .map(|ip| if ip.contains(':') { "{ipBlock: {cidr: 'fd00:10:244::/56'}}" } else { "{ipBlock: {cidr: 10.244.0.0/16}}" })
            .collect();
        apply(&self.cluster, &policy("[{from: [{podSelector: {matchLabels: {app: nobody}}}]}]"));
        eventually_within(SOON, "others do not", || all(false));
        apply(&self.cluster, &policy(&format!("[{{from: [{}]}}]", blocks.join(", "))));
        eventually_within(SOON, "ranges of addresses come in", || all(true));
        self.cluster.kubectl("-n sample delete networkpolicy teller");
        eventually_within(SOON, "all is open without policies", || all(true));
    }

    /// After a crash: policies made since hold for each family.
    fn a_start_without_ranges_has_those_of_before(&self) {
        self.cluster.strike("-9");
        self.cluster.start();
        self.nodes_and_ranges_have_all_families();
        self.policies_hold();
        let less = self.cluster.troupe_with_settings(&["up", "--service-cidr", "10.96.0.0/16"]);
        let told = text(&less.stderr);
        assert!(!less.status.success() && told.contains("--service-cidr is 10.96.0.0/16, but this cluster was made with"), "{told}");
    }

    /// Also by a pod that has just talked to the one that had them before.
    fn addresses_given_out_anew_are_reached_at_once(&self) {
        let ips = || -> Vec<String> {
            let ips = self.get("-n sample pod teller")["status"]["podIPs"].clone();
            ips.as_array().into_iter().flatten().filter_map(|ip| ip["ip"].as_str().map(str::to_owned)).collect()
        };
        let former = ips();
        eventually("they know each other", || former.iter().all(|ip| self.ask_from_a_pod(ip, "8080").contains("told")));
        // With no grace at all it would be gone before its addresses are free.
        self.cluster.kubectl("-n sample delete pod teller --grace-period=1 --timeout=120s");
        // The plugin gives out the address that follows the last one.
        for (range, ip) in former.iter().enumerate() {
            let last = self.cluster.path(&format!("data/cni/troupe/last_reserved_ip.{range}"));
            std::fs::write(last, before(ip).to_string()).expect("writes");
        }
        apply(&self.cluster, TELLER);
        self.cluster.kubectl("-n sample wait --for=condition=Ready pod/teller --timeout=120s");
        assert_eq!(ips(), former);
        for ip in &former {
            let page = self.ask_from_a_pod(ip, "8080");
            assert!(page.contains("told"), "{ip} answers with {page:?}");
        }
    }
}
