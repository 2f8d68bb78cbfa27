use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use proptest::prelude::*;
use serde_json::{Value, json};
use troupe_api::meta::ObjectKey;
use troupe_net::{
    conntrack::{FlowDestination, StaleFlows},
    iptables::{FakeIptables, Family, Iptables, Observed, RuleSet, Table},
};

use super::{
    base,
    endpoints::Location,
    layout::{Changes, Ledger},
    plan::{NodeView, ServicePlan, plan, plan_while},
    service::Taken,
};
use crate::rules::layout::stale;

pub fn node() -> NodeView {
    NodeView {
        location: Location { node: "n1".into(), zone: "z1".into() },
        node_ip: Some("192.168.0.1".parse().expect("an address")),
        cluster_range: "10.244.0.0/16".parse().expect("a network"),
        daemons: Arc::new([6443, 10250].into()),
    }
}

pub fn service(name: &str, spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec})).expect("a service")
}

pub fn slice(service: &str, name: &str, ports: Value, endpoints: Value) -> Arc<EndpointSlice> {
    let value = json!({
        "metadata": {"name": name, "namespace": "ns", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
    });
    Arc::new(serde_json::from_value(value).expect("a slice"))
}

fn web(extra: Value) -> Service {
    let mut spec = json!({"type": "ClusterIP", "clusterIP": "10.96.0.20", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]});
    spec.as_object_mut().expect("a map").extend(extra.as_object().expect("a map").clone());
    service("web", spec)
}

fn web_slice(endpoints: Value) -> Arc<EndpointSlice> {
    slice("web", "web-1", json!([{"name": "http", "port": 8080, "protocol": "TCP"}]), endpoints)
}

fn ready(ip: &str, node: &str) -> Value {
    json!({"addresses": [ip], "nodeName": node, "conditions": {"ready": true, "serving": true, "terminating": false}})
}

fn draining(ip: &str, node: &str) -> Value {
    json!({"addresses": [ip], "nodeName": node, "conditions": {"ready": false, "serving": true, "terminating": true}})
}

fn text(plan: &ServicePlan) -> String {
    RuleSet::default().diff(&plan.rules).to_restore()
}

/// The endpoints that some chain translates to.
fn targets(plan: &ServicePlan) -> Vec<String> {
    let rules = plan.rules.chains.values().flatten();
    let mut targets: Vec<String> = rules.filter_map(|rule| rule.split_once("--to-destination ")).map(|(_, to)| to.to_owned()).collect();
    targets.sort();
    targets
}

#[test]
fn a_cluster_address_leads_to_every_ready_endpoint_evenly() {
    let plan =
        plan(&web(json!({})), &[web_slice(json!([ready("10.244.0.5", "n1"), ready("10.244.1.6", "n2"), draining("10.244.1.7", "n2")]))], &node());
    assert_eq!(targets(&plan), ["10.244.0.5:8080", "10.244.1.6:8080"]);
    let text = text(&plan);
    assert!(text.contains("-d 10.96.0.20/32 -p tcp -m comment --comment \"ns/web:http cluster IP\" -m tcp --dport 80 -j KUBE-SVC-"), "{text}");
    assert!(text.contains("! -s 10.244.0.0/16 -d 10.96.0.20/32"), "{text}");
    assert!(text.contains("--probability 0.50000000000 -j KUBE-SEP-"), "{text}");
    assert!(!text.contains("*filter"), "{text}");
}

#[test]
fn no_service_catches_or_reaches_what_the_machine_keeps_to_itself() {
    let mut service = web(json!({"type": "LoadBalancer", "externalIPs": ["127.0.0.1", "169.254.169.254", "198.51.100.7"]}));
    let ingress = json!([{"ip": "127.0.0.53"}, {"ip": "0.0.0.0"}, {"ip": "198.51.100.9"}]);
    service.status = serde_json::from_value(json!({"loadBalancer": {"ingress": ingress}})).expect("a status");
    let endpoints = json!([ready("127.0.0.1", "n1"), ready("169.254.169.254", "n1"), ready("10.244.0.5", "n1")]);
    let plan = plan(&service, &[web_slice(endpoints)], &node());
    assert_eq!(targets(&plan), ["10.244.0.5:8080"]);
    let rules = text(&plan);
    assert!(rules.contains("-d 198.51.100.7/32") && rules.contains("-d 198.51.100.9/32"), "{rules}");
    assert!(!rules.contains("127.0.0.") && !rules.contains("169.254.") && !rules.contains("0.0.0.0/32"), "{rules}");
}

#[test]
fn no_external_address_takes_the_clusters_own_ports_of_this_machine() {
    // Few and many: with each address at each port, and with chains that ports share.
    for addresses in [1, 40] {
        let ips: Vec<String> = (1..=addresses).map(|at| format!("198.51.100.{at}")).collect();
        let ports = json!([{"name": "http", "port": 80}, {"name": "api", "port": 6443}, {"name": "tunnel", "port": 8472, "protocol": "UDP"}]);
        let mut service = web(json!({"type": "LoadBalancer", "externalIPs": ips, "ports": ports}));
        service.status = serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}})).expect("a status");
        let backends = json!([{"name": "http", "port": 8080}, {"name": "api", "port": 8443}, {"name": "tunnel", "port": 8472, "protocol": "UDP"}]);
        for endpoints in [json!([ready("10.244.0.5", "n1")]), json!([])] {
            let plan = plan(&service, &[slice("web", "web-1", backends.clone(), endpoints)], &node());
            let rules: Vec<&String> = plan.rules.chains.values().flatten().chain(plan.rules.lines.iter().map(|line| &line.rule)).collect();
            for number in ["6443", "8472"] {
                let leads = |ip: &str| -> Vec<&&String> {
                    rules.iter().filter(|rule| rule.contains(&format!("-d {ip}/32 ")) && rule.contains(&format!("--dport {number} "))).collect()
                };
                let external = leads("198.51.100.1");
                assert_eq!(external.len(), 1, "{rules:#?}");
                assert!(external[0].contains("-m addrtype ! --dst-type LOCAL "), "{}", external[0]);
                assert!(!leads("203.0.113.9")[0].contains("addrtype"), "a balancer's address may be announced here");
                let shared = |rule: &&&String| !rule.contains("-d ") && rule.contains(&format!("--dport {number} "));
                assert_eq!(rules.iter().filter(shared).count(), 0, "in no chain that other addresses lead to");
            }
            let plain = rules.iter().filter(|rule| rule.contains("--dport 80 "));
            assert!(plain.clone().count() > 0 && plain.clone().all(|rule| !rule.contains("addrtype")), "{rules:#?}");
        }
    }
}

#[test]
fn what_another_service_has_is_left_to_it_port_by_port() {
    for addresses in [2, 70] {
        let ips: Vec<String> = (1..=addresses).map(|at| format!("198.51.100.{at}")).collect();
        let ports = json!([{"name": "http", "port": 80}, {"name": "more", "port": 81}]);
        let service = web(json!({"externalIPs": ips, "ports": ports}));
        let slices = [slice("web", "web-1", ports, json!([ready("10.244.0.5", "n1")]))];
        let taken = Taken::from([("198.51.100.1".parse().expect("an address"), [("tcp", 80), ("udp", 81)].into())]);
        let plan = plan_while(&service, &slices, &node(), &taken, &|| true).expect("is planned");
        let rules = text(&plan);
        let to = |ip: &str, port: u16| rules.lines().any(|rule| rule.contains(&format!("-d {ip}/32 ")) && rule.contains(&format!("--dport {port} ")));
        assert!(!to("198.51.100.1", 80) && to("198.51.100.2", 80), "{rules}");
        if addresses == 2 {
            assert!(to("198.51.100.1", 81) && to("198.51.100.2", 81), "{rules}");
        } else {
            assert!(rules.lines().any(|rule| !rule.contains("-d ") && rule.contains("--dport 81 ")), "{rules}");
            assert!(!rules.lines().any(|rule| !rule.contains("-d ") && rule.contains("--dport 80 ")), "{rules}");
        }
    }
}

#[test]
fn a_service_without_endpoints_refuses() {
    let text = text(&plan(&web(json!({"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]})), &[], &node()));
    assert!(!text.contains("*nat"), "{text}");
    assert!(text.contains("has no endpoints\" -m tcp --dport 80 -j REJECT"), "{text}");
    assert!(text.contains("--dst-type LOCAL -m tcp --dport 30080 -j REJECT"), "{text}");
}

#[test]
fn draining_endpoints_serve_when_none_is_ready() {
    let plan = plan(&web(json!({})), &[web_slice(json!([draining("10.244.0.5", "n1")]))], &node());
    assert_eq!(targets(&plan), ["10.244.0.5:8080"]);
}

#[test]
fn headless_aliases_and_other_proxies_services_are_left_alone() {
    let slices = [web_slice(json!([ready("10.244.0.5", "n1")]))];
    let mut labelled = web(json!({}));
    labelled.metadata.labels = Some(BTreeMap::from([("service.kubernetes.io/service-proxy-name".to_owned(), "mesh".to_owned())]));
    for service in [web(json!({"clusterIP": "None"})), web(json!({"type": "ExternalName", "externalName": "x"})), labelled] {
        assert_eq!(plan(&service, &slices, &node()), ServicePlan::default());
    }
}

#[test]
fn the_local_policies_keep_to_this_node_but_for_its_own_traffic() {
    let service = web(json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}));
    let near = plan(&service, &[web_slice(json!([ready("10.244.0.5", "n1"), ready("10.244.1.6", "n2")]))], &node());
    let rules = text(&near);
    assert!(rules.contains("KUBE-SVL-"), "{rules}");
    assert!(rules.contains("--src-type LOCAL -j KUBE-SVC-"), "{rules}");
    let far = plan(&service, &[web_slice(json!([ready("10.244.1.6", "n2")]))], &node());
    assert!(text(&far).contains("has no local endpoints\" -m addrtype --dst-type LOCAL -m tcp --dport 30080 -j DROP"));
    assert_eq!(targets(&far), ["10.244.1.6:8080"]);
    let inside = plan(&web(json!({"internalTrafficPolicy": "Local"})), &[web_slice(json!([ready("10.244.1.6", "n2")]))], &node());
    assert!(text(&inside).contains("--dport 80 -j DROP"));
    assert!(targets(&inside).is_empty());
}

#[test]
fn hints_for_this_node_are_obeyed_only_when_everyone_has_them() {
    let hinted = |ip: &str, node: &str| {
        let mut endpoint = ready(ip, node);
        endpoint["hints"] = json!({"forNodes": [{"name": node}]});
        endpoint
    };
    let plan_of = |endpoints: Value| targets(&plan(&web(json!({})), &[web_slice(endpoints)], &node()));
    assert_eq!(plan_of(json!([hinted("10.244.0.5", "n1"), hinted("10.244.1.6", "n2")])), ["10.244.0.5:8080"]);
    assert_eq!(plan_of(json!([hinted("10.244.0.5", "n1"), ready("10.244.1.6", "n2")])).len(), 2);
    assert_eq!(plan_of(json!([hinted("10.244.1.5", "n2"), hinted("10.244.1.6", "n2")])).len(), 2);
}

#[test]
fn source_ranges_guard_a_load_balancer_and_nothing_else() {
    let mut service = web(
        json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["203.0.113.0/24"], "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}),
    );
    service.status = serde_json::from_value(json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.9"}]}})).expect("a status");
    let rules = text(&plan(&service, &[web_slice(json!([ready("10.244.0.5", "n1")]))], &node()));
    assert!(rules.contains("-s 203.0.113.0/24 -m comment --comment \"ns/web:http loadbalancer IP\" -j KUBE-EXT-"), "{rules}");
    assert!(rules.contains("-I KUBE-PROXY-FIREWALL -d 198.51.100.9/32"), "{rules}");
}

#[test]
fn slices_are_merged_and_a_ready_mention_wins() {
    let again = slice("web", "web-2", json!([{"name": "http", "port": 8080}]), json!([draining("10.244.0.5", "n1"), ready("10.244.0.8", "n1")]));
    let plan = plan(&web(json!({})), &[web_slice(json!([ready("10.244.0.5", "n1")])), again], &node());
    assert_eq!(targets(&plan), ["10.244.0.5:8080", "10.244.0.8:8080"]);
}

#[test]
fn flows_to_departed_udp_endpoints_are_forgotten() {
    let dns = service("dns", json!({"clusterIP": "10.96.0.10", "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]}));
    let with = |ips: &[&str]| {
        let endpoints = ips.iter().map(|ip| ready(ip, "n1")).collect::<Vec<_>>();
        plan(&dns, &[slice("dns", "dns-1", json!([{"name": "dns", "port": 53, "protocol": "UDP"}]), json!(endpoints))], &node()).udp
    };
    let destination = FlowDestination::Address("10.96.0.10".parse().expect("an address"), 53);
    let forget = |endpoint: Option<&str>| StaleFlows { destination, endpoint: endpoint.map(|endpoint| endpoint.parse().expect("an endpoint")) };
    assert_eq!(stale(&with(&["10.244.0.2", "10.244.0.3"]), &with(&["10.244.0.3"])), [forget(Some("10.244.0.2:53"))]);
    assert_eq!(stale(&with(&[]), &with(&["10.244.0.3"])), [forget(None)]);
    assert_eq!(stale(&with(&["10.244.0.3"]), &Default::default()), [forget(Some("10.244.0.3:53"))]);
    assert_eq!(stale(&with(&["10.244.0.3"]), &with(&["10.244.0.3", "10.244.0.4"])), []);
    // The same pod at another port: its old one may be somebody else's.
    let at = |port: u16| {
        plan(&dns, &[slice("dns", "dns-1", json!([{"name": "dns", "port": port, "protocol": "UDP"}]), json!([ready("10.244.0.2", "n1")]))], &node())
            .udp
    };
    assert_eq!(stale(&at(8080), &at(9090)), [forget(Some("10.244.0.2:8080"))]);
}

pub async fn observe(iptables: &dyn Iptables) -> Observed {
    let mut observed = Observed::default();
    for table in Table::ALL {
        observed.read(&iptables.save(table).await.expect("saves"));
    }
    observed
}

/// A service that varies in everything that rules depend on.
fn varied(index: u8, kind: u8, endpoints: &[(u8, bool, bool)]) -> (Service, Vec<Arc<EndpointSlice>>) {
    let name = format!("s{index}");
    let mut spec = json!({
        "clusterIP": format!("10.96.{}.{}", index % 3, index + 1),
        "ports": [{"name": "a", "port": 80, "protocol": "TCP", "nodePort": 30000 + u16::from(index)}, {"name": "b", "port": 53, "protocol": "UDP"}],
    });
    if kind & 1 != 0 {
        spec["externalTrafficPolicy"] = "Local".into();
    }
    if kind & 2 != 0 {
        spec["internalTrafficPolicy"] = "Local".into();
    }
    if kind & 4 != 0 {
        spec["sessionAffinity"] = "ClientIP".into();
    }
    if kind & 8 != 0 {
        spec["externalIPs"] = json!(["192.0.2.7"]);
    }
    let of = |(ip, local, is_ready): &(u8, bool, bool)| {
        let ip = format!("10.244.0.{ip}");
        let node = if *local { "n1" } else { "n2" };
        if *is_ready { ready(&ip, node) } else { draining(&ip, node) }
    };
    let endpoints: Vec<Value> = endpoints.iter().map(of).collect();
    let ports = json!([{"name": "a", "port": 8080, "protocol": "TCP"}, {"name": "b", "port": 5353, "protocol": "UDP"}]);
    (service(&name, spec), vec![slice(&name, &format!("{name}-1"), ports, json!(endpoints))])
}

type Step = (u8, Option<(u8, Vec<(u8, bool, bool)>)>);

pub fn changes(steps: &[Step]) -> Changes {
    let change = |(index, step): &Step| {
        let rules = step.as_ref().map(|(kind, endpoints)| {
            let (service, slices) = varied(*index, *kind, endpoints);
            plan(&service, &slices, &node()).rules
        });
        (ObjectKey::new("ns", format!("s{index}")), rules)
    };
    steps.iter().map(change).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_batches_of_changes_lead_to_what_is_wanted(
        batches in prop::collection::vec(
            prop::collection::vec((0u8..6, prop::option::weighted(0.8, (0u8..16, prop::collection::vec((1u8..9, any::<bool>(), any::<bool>()), 0..4)))), 1..4),
            1..6,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let fake = FakeIptables::default();
            let mut ledger = Ledger::new(base::rules(true, Family::V4), Family::V4);
            let first = ledger.reconcile(&observe(&fake).await);
            fake.restore(first.to_restore()).await.expect("applies");
            for batch in &batches {
                let changes = changes(batch);
                let patch = ledger.patch(&changes);
                fake.restore(patch.to_restore()).await.unwrap_or_else(|error| panic!("{error}\n{}", patch.to_restore()));
                ledger.commit(&changes);
                let left = ledger.reconcile(&observe(&fake).await);
                assert!(left.is_empty(), "{}", left.to_restore());
                assert!(ledger.patch(&changes).is_empty());
            }
        });
    }
}
