//! The units together, on a recording packet filter.

use std::{sync::Arc, time::Duration};

use imbl::OrdMap;
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
    networking::v1::ServiceCIDR,
};
use serde_json::{Value, json};
use troupe_api::{
    meta::{Cause, Object, ObjectKey, Revision, SystemClock},
    stored::StoredObject,
};
use troupe_net::{
    conntrack::FakeConntrack,
    iptables::{FakeIptables, Table},
};

use super::{PacketFilters, Proxy, ProxyOptions, names, tests::node};
use crate::runtime::{
    cache::Cache,
    directory::Control,
    system::{System, SystemOptions},
};

/// A proxy on caches that the test feeds.
struct Stage {
    services: Cache<Service>,
    slices: Cache<EndpointSlice>,
    nodes: Cache<Node>,
    ranges: Cache<ServiceCIDR>,
    iptables: Arc<FakeIptables>,
    conntrack: Arc<FakeConntrack>,
    system: System,
    revision: std::cell::Cell<u64>,
}

/// One for all families.
fn filters(iptables: &Arc<FakeIptables>) -> PacketFilters {
    let iptables = iptables.clone();
    Arc::new(move |_| iptables.clone())
}

impl Stage {
    fn new(iptables: Arc<FakeIptables>) -> Self {
        let system = System::new(SystemOptions::local(1, Arc::new(SystemClock))).expect("a system");
        let stage = Stage {
            services: Cache::default(),
            slices: Cache::default(),
            nodes: Cache::default(),
            ranges: Cache::default(),
            iptables,
            conntrack: Arc::default(),
            system,
            revision: std::cell::Cell::new(1),
        };
        let options = ProxyOptions {
            node_name: node().location.node,
            node_ips: node().node_ip.into_iter().collect(),
            cluster_cidrs: vec![node().cluster_range],
            daemons: node().daemons,
            localhost_node_ports: false,
            iptables: filters(&stage.iptables),
            conntrack: stage.conntrack.clone(),
            conntrack_settings: None,
            services: stage.services.clone(),
            slices: stage.slices.clone(),
            nodes: stage.nodes.clone(),
            ranges: stage.ranges.clone(),
            events: None,
        };
        Proxy::start(options, &stage.system);
        stage
    }

    fn stored(&self, value: Value) -> (ObjectKey, Arc<StoredObject>, Revision) {
        let revision = Revision(self.revision.get() + 1);
        self.revision.set(revision.0);
        let mut object = Object::from_value(value).expect("a map");
        object.set(&["metadata", "resourceVersion"], revision.0.to_string());
        let stored = Arc::new(StoredObject::from_object(&object).expect("well formed"));
        (stored.key.clone(), stored, revision)
    }

    fn service(&self, name: &str, ip: &str) {
        let (key, stored, revision) = self.service_of(name, ip);
        self.services.apply(key, Some(stored), revision, &Cause::default());
    }

    fn service_of(&self, name: &str, ip: &str) -> (ObjectKey, Arc<StoredObject>, Revision) {
        let value = json!({
            "kind": "Service", "apiVersion": "v1", "metadata": {"name": name, "namespace": "ns", "uid": name},
            "spec": {"clusterIP": ip, "ports": [{"name": "p", "port": 53, "protocol": "UDP"}]},
        });
        self.stored(value)
    }

    /// A Service with so many ports, from 1 on, and external addresses.
    fn many(&self, name: &str, ip: &str, ports: usize, addresses: usize) {
        let ports: Vec<Value> = (1..=ports).map(|port| json!({"name": format!("p{port}"), "port": port})).collect();
        let external: Vec<String> = (0..addresses).map(super::spread_tests::external_ip).collect();
        let value = json!({
            "kind": "Service", "apiVersion": "v1", "metadata": {"name": name, "namespace": "ns", "uid": name},
            "spec": {"clusterIP": ip, "externalIPs": external, "ports": ports},
        });
        let (key, stored, revision) = self.stored(value);
        self.services.apply(key, Some(stored), revision, &Cause::default());
    }

    /// A Service that was made on a day of the year and names an external address.
    fn claims(&self, name: &str, ip: &str, day: u8) {
        let value = json!({
            "kind": "Service", "apiVersion": "v1",
            "metadata": {"name": name, "namespace": "ns", "uid": name, "creationTimestamp": format!("2026-01-{day:02}T00:00:00Z")},
            "spec": {"clusterIP": ip, "externalIPs": ["203.0.113.9"], "ports": [{"name": "p", "port": 53, "protocol": "UDP"}]},
        });
        let (key, stored, revision) = self.stored(value);
        self.services.apply(key, Some(stored), revision, &Cause::default());
    }

    fn endpoints(&self, service: &str, ips: &[&str]) {
        let (key, stored, revision) = self.endpoints_of(service, ips);
        self.slices.apply(key, Some(stored), revision, &Cause::default());
    }

    fn endpoints_of(&self, service: &str, ips: &[&str]) -> (ObjectKey, Arc<StoredObject>, Revision) {
        let endpoints = ips.iter().map(|ip| json!({"addresses": [ip]})).collect::<Vec<_>>();
        let value = json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {"name": format!("{service}-1"), "namespace": "ns", "uid": service, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "p", "port": 5353, "protocol": "UDP"}],
        });
        self.stored(value)
    }

    /// Endpoints that are for a zone each.
    fn zoned_endpoints(&self, service: &str, endpoints: &[(&str, &str)]) {
        let endpoint = |(ip, zone): &(&str, &str)| json!({"addresses": [ip], "hints": {"forZones": [{"name": zone}]}});
        let value = json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {"name": format!("{service}-1"), "namespace": "ns", "uid": service, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
            "ports": [{"name": "p", "port": 5353, "protocol": "UDP"}],
        });
        let (key, stored, revision) = self.stored(value);
        self.slices.apply(key, Some(stored), revision, &Cause::default());
    }

    fn node(&self, name: &str, labels: Value) {
        let value = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "uid": name, "labels": labels}});
        let (key, stored, revision) = self.stored(value);
        self.nodes.apply(key, Some(stored), revision, &Cause::default());
    }

    fn remove_node(&self, name: &str) {
        let revision = Revision(self.revision.get() + 1);
        self.revision.set(revision.0);
        self.nodes.apply(ObjectKey::cluster(name), None, revision, &Cause::default());
    }

    /// The endpoints that a cluster address leads to.
    fn balanced(&self, ip: &str) -> Vec<String> {
        let rules = self.iptables.rules(Table::Nat, SHARD).unwrap_or_default();
        let to = format!("-d {ip}/32 ");
        let chain = rules.iter().find(|rule| rule.contains(&to)).and_then(|rule| rule.rsplit(' ').next()).unwrap_or_default();
        let balanced = self.iptables.rules(Table::Nat, chain).unwrap_or_default();
        balanced.iter().filter_map(|rule| Some(rule.split_once(" -> ")?.1.split_once(":5353")?.0.to_owned())).collect()
    }

    fn remove_service(&self, name: &str) {
        let revision = Revision(self.revision.get() + 1);
        self.revision.set(revision.0);
        self.services.apply(ObjectKey::new("ns", name), None, revision, &Cause::default());
    }

    fn sync(&self) {
        self.services.replace_now(OrdMap::new(), Revision(1));
        self.slices.replace_now(OrdMap::new(), Revision(1));
        self.nodes.replace_now(OrdMap::new(), Revision(1));
        self.ranges.replace_now(OrdMap::new(), Revision(1));
    }

    /// The chain names of the nat table that lead to `ip`.
    fn leads(&self, chain: &str, text: &str) -> bool {
        self.iptables.rules(Table::Nat, chain).is_some_and(|rules| rules.iter().any(|rule| rule.contains(text)))
    }

    async fn until(&self, what: &str, check: impl Fn(&Self) -> bool) {
        for _ in 0..1000 {
            if check(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{what} did not happen: {:#?}", self.iptables.transactions());
    }

    fn crash(&self, path: &str) {
        let entry = self.system.directory().get(path).expect("the unit lives");
        entry.control(Control::Crash("test".into()));
    }
}

const SHARD: &str = "KUBE-NET-10.96.0.0";

#[tokio::test]
async fn services_become_rules_and_leave_with_their_service() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let stage = Stage::new(Arc::default());
            stage.sync();
            stage.service("dns", "10.96.0.10");
            stage.endpoints("dns", &["10.244.0.2"]);
            stage.until("the rules", |stage| stage.leads(SHARD, "-d 10.96.0.10/32")).await;
            stage.endpoints("dns", &["10.244.0.3"]);
            stage.until("stale flows", |stage| stage.conntrack.forgotten().iter().any(|flow| flow.endpoint.is_some())).await;
            stage.remove_service("dns");
            stage.until("the removal", |stage| stage.iptables.rules(Table::Nat, SHARD).is_none()).await;
            assert!(stage.iptables.rules(Table::Nat, names::SERVICES).is_some());
        })
        .await;
}

#[tokio::test]
async fn a_service_that_asks_for_too_much_is_left_out_until_it_asks_for_less() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let stage = Stage::new(Arc::default());
            stage.sync();
            let refused = |stage: &Stage, port: usize| {
                let rules = stage.iptables.rules(Table::Filter, SHARD).unwrap_or_default();
                rules.iter().any(|rule| rule.contains("10.96.0.30/32") && rule.contains(&format!("--dport {port} ")))
            };
            stage.many("wide", "10.96.0.30", 60, 1);
            stage.until("its rules", |stage| refused(stage, 60)).await;
            stage.many("wide", "10.96.0.30", 60, 1001);
            stage.many("small", "10.96.0.31", 1, 0);
            stage.until("their removal", |stage| !refused(stage, 60)).await;
            stage.until("the other Service", |stage| stage.iptables.rules(Table::Filter, SHARD).is_some_and(|rules| rules.len() == 1)).await;
            let told = stage.system.directory().observe(Duration::from_secs(5)).await;
            assert!(format!("{told:?}").contains("1001 external"), "{told:?}");
            stage.many("wide", "10.96.0.30", 1, 1);
            stage.until("its rules again", |stage| refused(stage, 1)).await;
        })
        .await;
}

#[tokio::test]
async fn of_services_that_claim_an_address_the_oldest_has_it() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let stage = Stage::new(Arc::default());
            stage.sync();
            let has = |stage: &Stage, names: &[&str]| {
                let rules = stage.iptables.rules(Table::Nat, "KUBE-NET-203.0.113.0").unwrap_or_default();
                rules.len() == names.len() && names.iter().all(|name| rules.iter().any(|rule| rule.contains(&format!("\"ns/{name}:p external IP\""))))
            };
            for (name, ip, day) in [("young", "10.96.0.11", 9), ("old", "10.96.0.12", 2), ("middle", "10.96.0.13", 5)] {
                stage.endpoints(name, &["10.244.0.2"]);
                stage.claims(name, ip, day);
                let holder = if name == "young" { "young" } else { "old" };
                stage.until(name, |stage| stage.leads(SHARD, &format!("-d {ip}/32")) && has(stage, &[holder])).await;
            }
            stage.remove_service("old");
            stage.until("the next one's turn", |stage| has(stage, &["middle"])).await;
            stage.crash("proxy");
            stage.endpoints("late", &["10.244.0.2"]);
            stage.claims("late", "10.96.0.14", 20);
            stage.until("another one", |stage| stage.leads(SHARD, "-d 10.96.0.14/32") && has(stage, &["middle"])).await;
            stage.remove_service("middle");
            stage.until("the last one's turn", |stage| has(stage, &["young"])).await;
        })
        .await;
}

#[tokio::test]
async fn slices_that_are_not_for_proxies_bring_no_endpoints() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let stage = Stage::new(Arc::default());
            stage.sync();
            stage.service("dns", "10.96.0.10");
            let refused = |stage: &Stage| stage.iptables.rules(Table::Filter, SHARD).is_some_and(|rules| !rules.is_empty());
            stage.until("no endpoints", refused).await;
            for label in ["service.kubernetes.io/headless", "service.kubernetes.io/service-proxy-name"] {
                stage.endpoints("dns", &["10.244.0.5"]);
                stage.until("endpoints", |stage| !refused(stage)).await;
                let (key, stored, revision) = stage.stored(json!({
                    "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
                    "metadata": {"name": "dns-1", "namespace": "ns", "uid": "dns", "labels": {"kubernetes.io/service-name": "dns", label: ""}},
                    "addressType": "IPv4", "endpoints": [{"addresses": ["10.244.0.5"]}], "ports": [{"name": "p", "port": 5353, "protocol": "UDP"}],
                }));
                stage.slices.apply(key, Some(stored), revision, &Cause::default());
                stage.until("they are not for proxies any more", refused).await;
            }
        })
        .await;
}

#[tokio::test]
async fn a_large_plan_gives_way_to_what_the_service_is_now() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let stage = Stage::new(Arc::default());
            stage.sync();
            for ports in [3000, 2000, 1000, 3] {
                stage.many("wide", "10.96.0.30", ports, 100);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let lines = |stage: &Stage| stage.iptables.rules(Table::Filter, SHARD).map_or(0, |rules| rules.len());
            stage.until("the last", |stage| lines(stage) == 3).await;
            stage.many("wide", "10.96.0.30", 3000, 100);
            tokio::time::sleep(Duration::from_millis(5)).await;
            stage.remove_service("wide");
            stage.until("the removal", |stage| lines(stage) == 0).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(lines(&stage), 0, "no late plan brings it back");
        })
        .await;
}

#[tokio::test]
async fn what_no_service_claims_is_refused_in_the_range_and_nowhere_else() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let stage = Stage::new(Arc::default());
            stage.sync();
            let refusals = |stage: &Stage| {
                let rules = stage.iptables.rules(Table::Filter, names::SERVICES).unwrap_or_default();
                rules.into_iter().filter(|rule| rule.contains("no service has this address")).collect::<Vec<_>>()
            };
            let range = |name: &str, range: &str, ready: &str| {
                let condition = json!({"type": "Ready", "status": ready, "reason": "", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
                let value = json!({"kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1", "metadata": {"name": name, "uid": name},
                    "spec": {"cidrs": [range, "fd00::/112"]}, "status": {"conditions": [condition]}});
                let (key, stored, revision) = stage.stored(value);
                stage.ranges.apply(key, Some(stored), revision, &Cause::default());
            };
            range("kubernetes", "10.96.0.0/16", "True");
            range("more", "10.97.0.0/16", "False");
            stage.until("the refusals", |stage| refusals(stage).len() == 2).await;
            assert!(refusals(&stage).iter().all(|rule| rule.starts_with("-d 10.96.0.0/16 ")), "{:?}", refusals(&stage));
            range("more", "10.97.0.0/16", "True");
            stage.until("those of the other range", |stage| refusals(stage).len() == 4).await;
            range("more", "10.97.0.0/16", "False");
            stage.until("their end", |stage| refusals(stage).len() == 2).await;
            stage.service("dns", "10.96.0.10");
            stage.until("a Service's refusal", |stage| stage.iptables.rules(Table::Filter, SHARD).is_some()).await;
            let rules = stage.iptables.rules(Table::Filter, names::SERVICES).expect("stands");
            let at = |text: &str| rules.iter().position(|rule| rule.contains(text)).expect("stands");
            assert!(at(SHARD) < at("no service has"), "Services come first");
        })
        .await;
}

#[tokio::test]
async fn hints_for_zones_follow_the_zone_that_the_node_has_now() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let stage = Stage::new(Arc::default());
            stage.sync();
            let own = node().location.node;
            let zone = |zone: &str| json!({"topology.kubernetes.io/zone": zone});
            let all = ["10.244.0.2", "10.244.0.3"];
            stage.node(&own, json!({}));
            stage.zoned_endpoints("dns", &[(all[0], "z1"), (all[1], "z2")]);
            stage.service("dns", "10.96.0.10");
            stage.until("both, where no zone is told", |stage| stage.balanced("10.96.0.10") == all).await;
            stage.node("other", zone("z1"));
            stage.node(&own, zone("z2"));
            stage.until("the one of the zone", |stage| stage.balanced("10.96.0.10") == all[1..]).await;
            stage.node(&own, zone("z1"));
            stage.until("the one of the other zone", |stage| stage.balanced("10.96.0.10") == all[..1]).await;
            stage.crash("proxy");
            stage.zoned_endpoints("late", &[(all[0], "z1"), (all[1], "z2")]);
            stage.service("late", "10.96.0.11");
            stage.until("the zone is known after a restart", |stage| stage.balanced("10.96.0.11") == all[..1]).await;
            stage.node(&own, json!({}));
            stage.until("both without the label", |stage| ["10.96.0.10", "10.96.0.11"].iter().all(|ip| stage.balanced(ip) == all)).await;
            stage.node(&own, zone("z2"));
            stage.until("the one of the zone again", |stage| stage.balanced("10.96.0.10") == all[1..]).await;
            stage.remove_node(&own);
            stage.until("both without the node", |stage| stage.balanced("10.96.0.10") == all).await;
        })
        .await;
}

#[tokio::test]
async fn a_restarted_daemon_touches_nothing_that_is_right_and_removes_what_is_stale() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let iptables = Arc::new(FakeIptables::default());
            let first = Stage::new(iptables.clone());
            first.sync();
            for (name, ip) in [("a", "10.96.0.1"), ("b", "10.96.0.2")] {
                first.service(name, ip);
                first.endpoints(name, &["10.244.0.2"]);
            }
            first.until("both", |stage| stage.leads(SHARD, "10.96.0.1/32") && stage.leads(SHARD, "10.96.0.2/32")).await;
            first.system.shutdown(Duration::from_secs(5)).await;
            let before = iptables.transactions().len();
            let second = Stage::new(iptables.clone());
            let (service, slice) = (second.service_of("a", "10.96.0.1"), second.endpoints_of("a", &["10.244.0.2"]));
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(iptables.transactions().len(), before, "nothing is touched before the first list is in");
            second.slices.replace_now(OrdMap::unit(slice.0, slice.1), slice.2);
            second.nodes.replace_now(OrdMap::new(), Revision(1));
            second.ranges.replace_now(OrdMap::new(), Revision(1));
            second.services.replace_now(OrdMap::unit(service.0, service.1), service.2);
            second.until("the removal", |stage| !stage.leads(SHARD, "10.96.0.2/32")).await;
            assert!(second.leads(SHARD, "10.96.0.1/32"));
            assert_eq!(iptables.transactions().len(), before + 1);
            assert!(!iptables.transactions()[before].contains("10.96.0.1"), "the rules of the other service stay as they are");
        })
        .await;
}

#[tokio::test]
async fn a_failed_transaction_is_made_good_from_the_kernels_state() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let stage = Stage::new(Arc::default());
            stage.sync();
            stage.until("the base", |stage| stage.iptables.rules(Table::Nat, names::SERVICES).is_some()).await;
            stage.iptables.fail_next(2);
            stage.service("dns", "10.96.0.10");
            stage.endpoints("dns", &["10.244.0.2"]);
            stage.until("the rules", |stage| stage.leads(SHARD, "-d 10.96.0.10/32")).await;
        })
        .await;
}

#[tokio::test]
async fn a_panic_of_any_unit_loses_no_rule() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let stage = Stage::new(Arc::default());
            stage.sync();
            stage.service("a", "10.96.0.1");
            stage.endpoints("a", &["10.244.0.2"]);
            stage.until("the rules", |stage| stage.leads(SHARD, "10.96.0.1/32")).await;
            for (at, path) in ["proxy/services/ns/a", "proxy/rule-table", "proxy"].into_iter().enumerate() {
                stage.crash(path);
                let name = format!("b{at}");
                stage.service(&name, &format!("10.96.0.{}", at + 20));
                stage.endpoints(&name, &["10.244.0.3"]);
                stage.until("the new service", |stage| stage.leads(SHARD, &format!("10.96.0.{}/32", at + 20))).await;
                assert!(stage.leads(SHARD, "10.96.0.1/32"));
                stage.endpoints("a", &[&format!("10.244.0.{}", at + 40)]);
                let target = format!("10.244.0.{}:5353", at + 40);
                stage.until("the new endpoint", |stage| stage.iptables.transactions().last().is_some_and(|text| text.contains(&target))).await;
            }
        })
        .await;
}
