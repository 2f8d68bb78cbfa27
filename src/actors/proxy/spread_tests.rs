//! Services with many addresses, ports and sources: where packets go, and what it costs.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use ipnetwork::Ipv4Network;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use proptest::prelude::*;
use serde_json::{Value, json};
use troupe_net::{
    conntrack::FlowDestination,
    iptables::{ChainId, Family, RuleSet, Table},
};

use super::{
    budget::{Cost, MOST_ADDRESSES, TooManyRules},
    endpoints::Backends,
    entrance::Shape,
    names::{EXTERNAL_SERVICES, PROXY_FIREWALL, shard},
    plan::{ServicePlan, Unplanned, plan, plan_while},
    service::{PortView, Taken},
    tests::{node, service, slice},
};

/// What a test Service has how many of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Many {
    pub external: usize,
    pub balancers: usize,
    pub sources: usize,
    pub ports: usize,
    pub endpoints: usize,
    pub ready: bool,
    pub local: bool,
    pub affinity: bool,
}

pub fn external_ip(at: usize) -> String {
    format!("172.30.{}.{}", at / 250, at % 250 + 1)
}

pub fn balancer_ip(at: usize) -> String {
    format!("172.31.{}.{}", at / 250, at % 250 + 1)
}

/// The first has the node in it.
fn source(at: usize) -> String {
    if at == 0 {
        return "192.168.0.0/24".to_owned();
    }
    format!("203.{}.{}.0/24", at / 250, at % 250)
}

fn protocol(port: usize) -> &'static str {
    if port.is_multiple_of(7) { "UDP" } else { "TCP" }
}

impl Many {
    /// Ports count from 1, those of endpoints from 10,001.
    pub fn build(self) -> (Service, Vec<Arc<EndpointSlice>>) {
        let ports = |more: usize| {
            let port = |at: usize| json!({"name": format!("p{at}"), "port": at + more, "protocol": protocol(at)});
            (1..=self.ports).map(port).collect::<Vec<Value>>()
        };
        let list = |count: usize, ip: fn(usize) -> String| (0..count).map(ip).collect::<Vec<_>>();
        let policy = if self.local { "Local" } else { "Cluster" };
        let affinity = if self.affinity { "ClientIP" } else { "None" };
        let spec = json!({
            "type": "LoadBalancer", "clusterIP": "10.96.0.20", "ports": ports(0), "externalIPs": list(self.external, external_ip),
            "loadBalancerSourceRanges": list(self.sources, source), "externalTrafficPolicy": policy, "sessionAffinity": affinity,
        });
        let mut made = service("many", spec);
        let ingress: Vec<Value> = list(self.balancers, balancer_ip).into_iter().map(|ip| json!({"ip": ip})).collect();
        made.status = serde_json::from_value(json!({"loadBalancer": {"ingress": ingress}})).expect("a status");
        let endpoint = |at: usize| {
            let ip = format!("10.244.{}.{}", at / 250 + 1, at % 250 + 1);
            json!({"addresses": [ip], "nodeName": "n2", "conditions": {"ready": self.ready}})
        };
        let endpoints: Vec<Value> = (0..self.endpoints).map(endpoint).collect();
        (made, vec![slice("many", "many-1", json!(ports(10_000)), json!(endpoints))])
    }

    fn plan(self) -> ServicePlan {
        let (service, slices) = self.build();
        plan(&service, &slices, &node())
    }

    fn why_not(self) -> Option<Unplanned> {
        let (service, slices) = self.build();
        plan_while(&service, &slices, &node(), &Taken::new(), &|| true).err()
    }
}

fn count(plan: &ServicePlan) -> usize {
    plan.rules.chains.values().map(Vec::len).sum::<usize>() + plan.rules.lines.len()
}

struct Packet<'a> {
    source: &'a str,
    destination: &'a str,
    protocol: &'a str,
    port: usize,
}

/// Follows packets through planned rules. Where chance or the kernel's knowledge decides, it goes both ways.
struct Walker<'a> {
    chains: BTreeMap<ChainId, Vec<&'a str>>,
}

impl<'a> Walker<'a> {
    fn new(rules: &'a RuleSet) -> Self {
        let mut chains: BTreeMap<ChainId, Vec<&str>> = BTreeMap::new();
        for (id, rules) in &rules.chains {
            chains.entry(id.clone()).or_default().extend(rules.iter().map(String::as_str));
        }
        rules.lines.iter().for_each(|line| chains.entry(line.chain.clone()).or_default().push(&line.rule));
        Walker { chains }
    }

    /// What may become of a packet: where it is translated to, and, unless that is sure, whether a filter stops it.
    fn ends(&self, packet: &Packet<'_>) -> BTreeSet<&'a str> {
        let mut ends = BTreeSet::new();
        let shard = shard(packet.destination.parse().expect("an address"));
        if !self.walk(Table::Nat, &shard, packet, &mut ends) {
            for chain in [&shard, EXTERNAL_SERVICES, PROXY_FIREWALL] {
                self.walk(Table::Filter, chain, packet, &mut ends);
            }
        }
        ends
    }

    /// Whether it surely ended in this chain.
    fn walk(&self, table: Table, chain: &str, packet: &Packet<'_>, ends: &mut BTreeSet<&'a str>) -> bool {
        for rule in self.chains.get(&ChainId::new(table, chain)).into_iter().flatten() {
            let Some((sure, verb, target)) = Self::matched(rule, packet) else { continue };
            let ended = match target {
                "" | "KUBE-MARK-MASQ" => continue,
                "DNAT" => ends.insert(rule.rsplit(' ').next().expect("an address")) | true,
                "REJECT" | "DROP" => ends.insert(target) | true,
                next => {
                    assert!(self.chains.contains_key(&ChainId::new(table, next)), "{rule} leads nowhere");
                    self.walk(table, next, packet, ends)
                }
            };
            if sure && (ended || verb == "-g") {
                return ended;
            }
        }
        false
    }

    /// Whether the rule surely matches, and where it leads; `None` where it surely does not.
    fn matched(rule: &'a str, packet: &Packet<'_>) -> Option<(bool, &'a str, &'a str)> {
        let (head, tail) = match rule.split_once("--comment \"") {
            Some((head, rest)) => (head, rest.split_once('"').expect("ends").1),
            None => (rule, ""),
        };
        let words: Vec<&str> = head.split_whitespace().chain(tail.split_whitespace()).collect();
        let (mut sure, mut verb, mut target) = (true, "-j", "");
        for (at, word) in words.iter().enumerate() {
            let value = words.get(at + 1).copied().unwrap_or_default();
            let within = |ip: &str| value.parse::<Ipv4Network>().expect("a network").contains(ip.parse::<Ipv4Addr>().expect("an address"));
            let is = match *word {
                "-s" => within(packet.source),
                "-d" => within(packet.destination),
                "-p" => value == packet.protocol,
                "--dport" => {
                    let (first, last) = value.split_once(':').unwrap_or((value, value));
                    let number = |text: &str| text.parse::<usize>().expect("a port");
                    (number(first)..=number(last)).contains(&packet.port)
                }
                "--mode" | "--src-type" | "--rcheck" => {
                    sure = false;
                    continue;
                }
                "-j" | "-g" => {
                    (verb, target) = (word, value);
                    continue;
                }
                _ => continue,
            };
            if is == (at > 0 && words[at - 1] == "!") {
                return None;
            }
        }
        Some((sure, verb, target))
    }
}

/// What should become of a packet from outside, by the API's documentation.
fn expected(many: Many, packet: &Packet<'_>, guarded: bool, allowed: bool) -> BTreeSet<String> {
    let has_port = (1..=many.ports).contains(&packet.port) && protocol(packet.port).eq_ignore_ascii_case(packet.protocol);
    let one = |what: &str| BTreeSet::from([what.to_owned()]);
    match (has_port, many.endpoints > 0 && many.ready) {
        (false, _) => BTreeSet::new(),
        (true, false) => one("REJECT"),
        (true, true) if guarded && !allowed => one("DROP"),
        (true, true) => {
            let endpoints = (0..many.endpoints).map(|at| format!("10.244.1.{}:{}", at + 1, packet.port + 10_000));
            // All endpoints are elsewhere: only this node's own traffic goes there under the Local policy.
            let stops = many.local && packet.destination != "10.96.0.20";
            endpoints.chain(stops.then(|| "DROP".to_owned())).collect()
        }
    }
}

fn many() -> impl Strategy<Value = Many> {
    let addresses = || prop::sample::select(vec![0_usize, 1, 3, 40]);
    let ports = prop::sample::select(vec![1_usize, 2, 20, 70, 300]);
    (addresses(), addresses(), addresses(), ports, 0_usize..3, prop::bool::weighted(0.8), any::<bool>(), any::<bool>()).prop_map(
        |(external, balancers, sources, ports, endpoints, ready, local, affinity)| Many {
            external,
            balancers,
            sources,
            ports,
            endpoints,
            ready,
            local,
            affinity,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However many addresses, sources and ports a Service has, each address answers at each of its ports and at no other.
    #[test]
    fn every_address_leads_to_every_port_and_nowhere_else(many in many(), ip in 0_usize..40, port in 1_usize..310, range in 0_usize..40, udp in any::<bool>()) {
        let plan = many.plan();
        let walker = Walker::new(&plan.rules);
        // The node's own packets to a balancer.
        let looped = balancer_ip(range % many.balancers.max(1));
        let inside = source(range % many.sources.max(1)).replace(".0/24", ".9");
        let places = [("10.96.0.20".to_owned(), 1, false), (external_ip(ip % many.external.max(1)), many.external, false),
            (balancer_ip(ip % many.balancers.max(1)), many.balancers, many.sources > 0)];
        for (destination, count, guarded) in places {
            for (source, allowed) in [(inside.as_str(), true), ("192.0.2.200", false), (looped.as_str(), true)] {
                // Half the time a port that the Service may have.
                for port in [port, port % many.ports + 1] {
                    let protocol = if udp { "udp" } else { "tcp" };
                    let packet = Packet { source, destination: &destination, protocol, port };
                    let ends: BTreeSet<String> = walker.ends(&packet).into_iter().map(str::to_owned).collect();
                    let wanted = if count == 0 { BTreeSet::new() } else { expected(many, &packet, guarded, allowed) };
                    prop_assert_eq!(ends, wanted, "{} to {}:{} {}", source, destination, port, protocol);
                }
            }
        }
    }

    /// What is counted before any rule is written is never less than what is written, and not much more.
    #[test]
    fn the_count_is_from_above(many in many()) {
        let (service, slices) = many.build();
        let ports = PortView::of(&service, Family::V4);
        let shape = Shape::of(&ports, node().node_ip, node().cluster_range).expect("has ports");
        let counted = Cost::of(&shape, &ports, &Backends::of(&slices, "n1", Family::V4)).rules;
        let written = count(&many.plan());
        prop_assert!(written <= counted, "{} written, {} counted", written, counted);
        if many.ready && many.endpoints > 0 && !many.local {
            prop_assert!(counted <= written * 2 + 4 * many.ports.min(768), "{} written, {} counted", written, counted);
        }
    }
}

#[test]
fn rules_are_the_sum_of_addresses_sources_and_ports() {
    let one = Many { external: 1, ports: 300, endpoints: 2, ready: true, ..Many::default() };
    let few = count(&one.plan());
    let more = count(&Many { external: 300, ..one }.plan());
    assert!(more <= few + 299 && more < 300 * 20, "{few} rules for one address, {more} for 300");
    let idle = Many { ready: false, ..one };
    let (few, more) = (count(&idle.plan()), count(&Many { external: 300, ..idle }.plan()));
    assert!(more <= few + 299, "{few} refusals for one address, {more} for 300");
    let guarded = Many { external: 0, balancers: 2, sources: 300, ..one };
    let (few, more) = (count(&Many { sources: 1, ..guarded }.plan()), count(&guarded.plan()));
    assert!(more <= few + 299, "{few} rules for one source, {more} for 300");
    let local = Many { local: true, external: 300, balancers: 300, sources: 300, ..one };
    assert!(count(&local.plan()) < 300 * 25);
}

#[test]
fn a_few_addresses_and_ports_are_laid_out_as_upstream_does() {
    let plan = Many { external: 2, balancers: 1, sources: 2, ports: 3, endpoints: 1, ready: true, ..Many::default() }.plan();
    let names: BTreeSet<&str> = plan.rules.chains.keys().map(|id| id.name.rsplit_once('-').expect("has a hash").0).collect();
    assert_eq!(names, BTreeSet::from(["KUBE-EXT", "KUBE-FW", "KUBE-SEP", "KUBE-SVC"]));
}

#[test]
fn a_service_beyond_its_budget_gets_nothing_at_all() {
    let busy = Many { ports: 1000, endpoints: 2, ready: true, external: 1, ..Many::default() };
    let why = |many: Many| match many.why_not() {
        Some(Unplanned::TooManyRules(excess)) => excess,
        other => panic!("{other:?}"),
    };
    assert_eq!(why(Many { external: 4500, ports: 4500, ..busy }), TooManyRules::Addresses(4500));
    assert!(matches!(why(Many { ports: 9000, endpoints: 110, ..busy }), TooManyRules::Rules(rules) if rules > 9000 * 110 * 3));
    assert!(matches!(why(Many { external: MOST_ADDRESSES, ports: 2000, ..busy }), TooManyRules::Ways(_)));
    assert_eq!(Many { external: 4500, ..busy }.plan(), ServicePlan::default());
    // The largest that fits into an object is served.
    let fits = Many { ports: 9000, ..busy };
    assert_eq!(fits.why_not(), None);
    assert_eq!(Many { external: 300, ports: 300, ..busy }.why_not(), None);
}

#[test]
fn a_plan_that_nobody_wants_any_more_is_abandoned() {
    let (service, slices) = Many { external: 300, ports: 1000, endpoints: 1, ready: true, ..Many::default() }.build();
    let asked = Cell::new(0);
    let is_wanted = || {
        asked.set(asked.get() + 1);
        asked.get() < 10
    };
    assert_eq!(plan_while(&service, &slices, &node(), &Taken::new(), &is_wanted), Err(Unplanned::Abandoned));
    assert_eq!(asked.get(), 10);
}

#[test]
fn flows_of_many_udp_ports_are_told_by_address() {
    let flows = |many: Many| many.plan().udp;
    let few = flows(Many { external: 1, ports: 14, endpoints: 2, ready: true, ..Many::default() });
    assert_eq!(few.keys().filter(|to| matches!(to, FlowDestination::Address(_, 7 | 14))).count(), 4);
    let more = flows(Many { external: 100, ports: 700, endpoints: 2, ready: true, ..Many::default() });
    assert_eq!(more.len(), 101);
    assert!(more.iter().all(|(to, ips)| matches!(to, FlowDestination::Host(_)) && ips.len() == 2));
}
