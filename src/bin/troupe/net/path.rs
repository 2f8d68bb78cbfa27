//! Who decides about a connection, hop by hop. Pure.

use std::{collections::BTreeMap, net::IpAddr, str::FromStr};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use troupe_actors::{
    proxy::names,
    rules::{journey::Fate, simulate::Packet},
};

use super::{
    facts::{Facts, Place, has_ended, ips_of, items, node_of, text},
    hops::{Nodes, Outcome},
};

/// One end, as it is written on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Ip(IpAddr),
    Pod { namespace: Option<String>, name: String },
    Service { namespace: Option<String>, name: String },
}

/// An end with a port: a number, or a name of the Service's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub end: End,
    pub port: String,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    pub from: End,
    pub to: Target,
    pub namespace: String,
    pub protocol: String,
}

impl FromStr for End {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Ok(ip) = text.parse() {
            return Ok(End::Ip(ip));
        }
        let words: Vec<&str> = text.split('/').collect();
        let (kind, namespace, name) = match words.as_slice() {
            [kind, name] => (*kind, None, *name),
            [kind, namespace, name] => (*kind, Some((*namespace).to_owned()), *name),
            _ => bail!("{text} is no IP address and not of the form pod/NAME or service/NAME"),
        };
        let name = name.to_owned();
        match kind {
            "pod" | "pods" | "po" => Ok(End::Pod { namespace, name }),
            "service" | "services" | "svc" => Ok(End::Service { namespace, name }),
            _ => bail!("{text} is neither pod/NAME nor service/NAME"),
        }
    }
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (end, port) = text.rsplit_once(':').with_context(|| format!("{text} names no port: {text}:80"))?;
        Ok(Target { end: end.trim_matches(['[', ']']).parse()?, port: port.to_owned() })
    }
}

/// What is asked for, as the network has it.
struct Asked {
    /// What is to be said of it, if anything.
    said: Option<String>,
    addresses: Vec<(IpAddr, u16)>,
}

/// The way of a connection, a line a hop.
pub fn tell(facts: &Facts, question: &Question) -> Result<Vec<String>> {
    let from = facts.place(&question.from, &question.namespace)?;
    let asked = facts.asked(&from, question)?;
    let mut lines = vec![format!("from {}", from.describe())];
    lines.extend(asked.said);
    for (ip, port) in asked.addresses {
        lines.extend(facts.way(&from, ip, port, &question.protocol)?);
    }
    Ok(lines)
}

fn number(port: &str) -> Result<u16> {
    port.parse().with_context(|| format!("{port} is no port number"))
}

fn is_named(object: &Value, namespace: &str, name: &str) -> bool {
    object["metadata"]["namespace"] == namespace && object["metadata"]["name"] == name
}

impl Facts {
    fn place(&self, end: &End, namespace: &str) -> Result<Place> {
        match end {
            End::Ip(ip) => Ok(self.at(*ip)),
            End::Pod { namespace: own, name } => {
                let namespace = own.as_deref().unwrap_or(namespace);
                let pod = self.pods.iter().find(|pod| is_named(pod, namespace, name));
                let pod = pod.with_context(|| format!("there is no pod {namespace}/{name}"))?;
                let ip = text(&pod["status"]["podIP"]).parse().with_context(|| format!("pod {namespace}/{name} has no address yet"))?;
                Ok(Place { ip, name: format!("pod {namespace}/{name}"), node: node_of(pod) })
            }
            End::Service { .. } => bail!("a Service asks nobody"),
        }
    }

    /// A pod asks by its address of the family that it asks for.
    fn of_family(&self, from: &Place, to: IpAddr) -> Place {
        let pod = self.pods.iter().find(|pod| !has_ended(pod) && ips_of(pod).any(|own| own == from.ip));
        let other = pod.and_then(|pod| ips_of(pod).find(|own| own.is_ipv4() == to.is_ipv4()));
        Place { ip: other.filter(|_| from.name.starts_with("pod ")).unwrap_or(from.ip), ..from.clone() }
    }

    fn asked(&self, from: &Place, question: &Question) -> Result<Asked> {
        let port = &question.to.port;
        match &question.to.end {
            End::Pod { .. } => {
                let to = self.place(&question.to.end, &question.namespace)?;
                // A pod is asked by an address of the family that the asker has.
                let ip = self.of_family(&to, from.ip).ip;
                Ok(Asked { said: None, addresses: vec![(ip, number(port)?)] })
            }
            End::Ip(ip) => Ok(Asked { said: None, addresses: vec![(*ip, self.number_at(*ip, port)?)] }),
            End::Service { namespace, name } => {
                let namespace = namespace.as_deref().unwrap_or(&question.namespace);
                let found = self.services.iter().find(|service| is_named(service, namespace, name));
                let service = found.with_context(|| format!("there is no Service {namespace}/{name}"))?;
                self.asked_of(service, from, port, &question.protocol)
            }
        }
    }

    /// The number of a port that may have a name at a Service with this address.
    fn number_at(&self, ip: IpAddr, port: &str) -> Result<u16> {
        let all = self.services.iter().filter(|service| ips_of_service(service).any(|own| own == ip));
        let named = all.flat_map(|service| items(&service["spec"]["ports"])).find(|found| found["name"] == port);
        named.and_then(|found| u16::try_from(found["port"].as_u64()?).ok()).map_or_else(|| number(port), Ok)
    }

    fn asked_of(&self, service: &Value, from: &Place, port: &str, protocol: &str) -> Result<Asked> {
        let (spec, protocol) = (&service["spec"], protocol.to_uppercase());
        let name = format!("service {}/{}", text(&service["metadata"]["namespace"]), text(&service["metadata"]["name"]));
        let only = |said: String| Ok(Asked { said: Some(format!("{name} {said}")), addresses: Vec::new() });
        if spec["type"] == "ExternalName" {
            return only(format!("is only an alias of {} in DNS, and has no address", text(&spec["externalName"])));
        }
        if let Some(proxy) = service["metadata"]["labels"]["service.kubernetes.io/service-proxy-name"].as_str() {
            return only(format!("is another proxy's, {proxy}: nodes have no rules for it"));
        }
        let wanted = |found: &&Value| {
            (found["name"] == port || found["port"].as_u64().is_some_and(|number| port.parse() == Ok(number)))
                && found["protocol"].as_str().unwrap_or("TCP") == protocol
        };
        let Some(wanted) = items(&spec["ports"]).find(wanted) else {
            return only(format!("has no port {port} for {protocol}: refused on the node"));
        };
        if spec["clusterIP"] == "None" {
            let addresses = self.headless(service, text(&wanted["name"]), port);
            return Ok(Asked { said: Some(format!("{name} is headless: its name has the addresses of {} endpoints", addresses.len())), addresses });
        }
        let number = wanted["port"].as_u64().and_then(|number| u16::try_from(number).ok()).context("the Service's port is no number")?;
        let mut ips: Vec<IpAddr> = ips_of_service(service).filter(|ip| self.of_family(from, *ip).ip.is_ipv4() == ip.is_ipv4()).collect();
        ips.dedup();
        if ips.is_empty() {
            return only("has no address of a family that the asker has".into());
        }
        Ok(Asked { said: None, addresses: ips.into_iter().map(|ip| (ip, number)).collect() })
    }

    /// The ready endpoints of a headless Service: they are asked at the port that the asker names, which nobody translates.
    fn headless(&self, service: &Value, port_name: &str, port: &str) -> Vec<(IpAddr, u16)> {
        let meta = &service["metadata"];
        let slices = self.slices.iter().filter(|slice| slice["metadata"]["namespace"] == meta["namespace"]);
        let mut addresses = Vec::new();
        for slice in slices.filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == meta["name"]) {
            let named = items(&slice["ports"]).find(|found| text(&found["name"]) == port_name).and_then(|found| found["port"].as_u64());
            let Some(number) = port.parse().ok().or_else(|| u16::try_from(named?).ok()) else { continue };
            let ready = items(&slice["endpoints"]).filter(|endpoint| endpoint["conditions"]["ready"] != false);
            let ips = ready.flat_map(|endpoint| items(&endpoint["addresses"])).filter_map(|ip| text(ip).parse().ok());
            addresses.extend(ips.map(|ip: IpAddr| (ip, number)));
        }
        addresses
    }

    /// What becomes of a connection to an address and port. Where nodes differ, each says its own.
    fn way(&self, from: &Place, ip: IpAddr, port: u16, protocol: &str) -> Result<Vec<String>> {
        let source = self.of_family(from, ip);
        if source.ip.is_ipv4() != ip.is_ipv4() {
            return Ok(vec![format!("to {ip}: {} {} has no address of its family", from.name, from.ip)]);
        }
        let packet = Packet { source: source.ip, destination: ip, protocol: protocol.to_owned(), port: Some(port), established: false };
        let mut nodes = Nodes::new(self, ip, port);
        let mut told = BTreeMap::<Vec<String>, Vec<String>>::new();
        for node in self.starts(&source, ip, nodes.has_services()) {
            let outcomes = nodes.follow(&node, &packet)?;
            let said = nodes.say(&node, &packet, &outcomes);
            let left = outcomes.iter().filter(|outcome| said.is_none() || outcome.refusal().is_none());
            let ends: Vec<String> = left.map(|outcome| self.end(&source, outcome, protocol)).collect();
            told.entry(said.into_iter().chain(ends).collect()).or_default().push(node);
        }
        if told.len() == 1 {
            return Ok(told.into_keys().flatten().collect());
        }
        Ok(told.into_iter().flat_map(|(lines, nodes)| [format!("by node {}:", nodes.join(", "))].into_iter().chain(lines)).collect())
    }

    /// The nodes that a packet may come to first: that of its sender or of who has the address; else all, where Services differ from node to node.
    fn starts(&self, source: &Place, ip: IpAddr, is_services: bool) -> Vec<String> {
        if let Some(node) = source.node.clone().or_else(|| self.at(ip).node) {
            return vec![node];
        }
        let names = self.nodes.iter().map(|node| text(&node["metadata"]["name"]).to_owned());
        let all: Vec<String> = names.take(if is_services { usize::MAX } else { 1 }).collect();
        if all.is_empty() { vec![String::new()] } else { all }
    }

    /// Where a packet ends.
    fn end(&self, from: &Place, outcome: &Outcome, protocol: &str) -> String {
        let to = self.at(outcome.destination);
        let port = outcome.port.map(|port| port.to_string()).unwrap_or_default();
        format!("to {}, {protocol} {port}: {}", to.describe(), verdict(from, &to, outcome))
    }
}

fn verdict(from: &Place, to: &Place, outcome: &Outcome) -> String {
    let is_pods_own = from.name.starts_with("pod ") && from.node.is_some() && from.node == to.node;
    let is_nodes_own = outcome.is_nodes_own && to.node.is_some();
    match &outcome.fate {
        Fate::Dropped(by) if by.comment.ends_with(" is isolated") => format!("dropped: {} and no policy allows it", by.comment),
        Fate::Dropped(by) if names::is_ours(&by.chain) => format!("dropped: {}", by.comment),
        Fate::Dropped(by) => format!("dropped by {}", by.comment),
        Fate::Refused(by) => format!("refused: {}", by.comment),
        _ if !outcome.passed.is_empty() => {
            let all: Vec<&str> = outcome.passed.iter().map(|hit| hit.comment.as_str()).collect();
            format!("passes: allowed by {}", all.join(" and "))
        }
        Fate::Forwarded { .. } if is_nodes_own => "passes: a node always reaches its own pods".into(),
        Fate::TakenIn if is_pods_own && !is_nodes_own => "passes: network policies let a pod reach its own node".into(),
        Fate::Forwarded { .. } | Fate::TakenIn => "passes: no policy isolates either end".into(),
    }
}

/// A Service's cluster addresses.
fn ips_of_service(service: &Value) -> impl Iterator<Item = IpAddr> {
    let (many, one) = (&service["spec"]["clusterIPs"], &service["spec"]["clusterIP"]);
    items(many).chain(items(many).next().is_none().then_some(one)).filter_map(|own| text(own).parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use troupe_net::{
        dns::domain_names::{DomainName, NAMESPACE, PEERS_LABEL},
        iptables::Family,
    };

    use super::*;

    fn pod(name: &str, ip: &str) -> Value {
        json!({"metadata": {"namespace": "d", "name": name, "uid": name, "labels": {"app": name}},
            "spec": {"nodeName": "one", "containers": []}, "status": {"podIP": ip, "phase": "Running"}})
    }

    fn facts() -> Facts {
        Facts {
            pods: vec![pod("web", "10.244.0.5"), pod("db", "10.244.0.6")],
            namespaces: vec![json!({"metadata": {"name": "d"}})],
            nodes: vec![node("one", "192.0.2.1", "10.244.0.0/24"), node("two", "192.0.2.2", "10.244.1.0/24")],
            services: vec![
                json!({"metadata": {"namespace": "d", "name": "db"}, "spec": {"clusterIP": "10.96.0.9", "ports": [{"name": "sql", "port": 5432}]}}),
            ],
            slices: vec![slice("db", &[("10.244.0.6", "one")])],
            policies: vec![json!({"metadata": {"namespace": "d", "name": "db-only"}, "spec": {"podSelector": {"matchLabels": {"app": "db"}},
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 5433}]}]}})],
            cluster_policies: Vec::new(),
            service_ranges: vec![json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16", "fd00:10:96::/112"]}})],
            cluster_ranges: ["10.244.0.0/16", "fd00:10:244::/56"].map(|range| range.parse().expect("a range")).to_vec(),
            ..Facts::default()
        }
    }

    fn node(name: &str, ip: &str, pods: &str) -> Value {
        json!({"metadata": {"name": name}, "spec": {"podCIDRs": [pods]}, "status": {"addresses": [{"type": "InternalIP", "address": ip}]}})
    }

    fn slice(service: &str, endpoints: &[(&str, &str)]) -> Value {
        let endpoint = |(ip, node): &(&str, &str)| json!({"addresses": [ip], "nodeName": node, "conditions": {"ready": true}});
        json!({"metadata": {"namespace": "d", "name": service, "labels": {"kubernetes.io/service-name": service}}, "addressType": "IPv4",
            "ports": [{"name": "sql", "port": 5433}], "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>()})
    }

    /// Two pods on either node behind a Service with all sorts of addresses; `web` may only talk to them.
    fn wide() -> Facts {
        let mut facts = facts();
        facts.pods = vec![pod("web", "10.244.0.5")];
        let ips = ["10.244.0.6", "10.244.0.7", "10.244.1.6", "10.244.1.7"];
        for ip in ips {
            let mut db = pod(ip, ip);
            db["metadata"]["labels"] = json!({"app": "db"});
            let node = if ip.starts_with("10.244.0.") { "one" } else { "two" };
            db["spec"]["nodeName"] = node.into();
            facts.pods.push(db);
        }
        facts.slices = vec![slice("db", &[(ips[0], "one"), (ips[1], "one"), (ips[2], "two"), (ips[3], "two")])];
        facts.services[0]["spec"] = json!({"type": "LoadBalancer", "clusterIP": "10.96.0.9", "externalIPs": ["198.51.100.20"],
            "ports": [{"name": "sql", "port": 5432, "nodePort": 30432}]});
        facts.services[0]["status"] = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}});
        facts.policies = vec![json!({"metadata": {"namespace": "d", "name": "web-out"}, "spec": {"podSelector": {"matchLabels": {"app": "web"}},
            "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"port": 5433}]}]}})];
        facts
    }

    fn ask(facts: &Facts, from: &str, to: &str) -> String {
        let question =
            Question { from: from.parse().expect("an end"), to: to.parse().expect("a target"), namespace: "d".into(), protocol: "tcp".into() };
        tell(facts, &question).map_or_else(|error| format!("{error:#}"), |lines| lines.join("\n"))
    }

    #[test]
    fn service_endpoint_and_policy_are_told() {
        let facts = facts();
        let told = ask(&facts, "pod/web", "service/db:sql");
        let want = "from pod d/web 10.244.0.5 on node one\nservice d/db leads to one of 1 endpoints\n\
                    to pod d/db 10.244.0.6 on node one, tcp 5433: passes: allowed by d/db-only";
        assert_eq!(told, want);
        assert_eq!(ask(&facts, "pod/web", "10.96.0.9:5432"), want);
        assert!(ask(&facts, "pod/web", "pod/d/db:80").ends_with("dropped: d/db is isolated and no policy allows it"));
        assert!(ask(&facts, "198.51.100.7", "pod/db:5433").ends_with("dropped: d/db is isolated and no policy allows it"));
        assert!(ask(&facts, "192.0.2.1", "pod/db:80").ends_with("a node always reaches its own pods"));
        assert!(ask(&facts, "pod/db", "pod/web:80").ends_with("passes: no policy isolates either end"));
    }

    #[test]
    fn administrators_policies_are_told_by_tier_and_number() {
        let mut facts = facts();
        let pods = |app: &str| json!({"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": app}}}});
        let policy = |tier: &str, subject: Value, ingress: Value| {
            json!({"metadata": {"name": tier.to_lowercase()}, "spec": {
            "tier": tier, "priority": 1, "subject": subject, "ingress": ingress}})
        };
        let block = |action: &str, app: &str| json!({"action": action, "from": [pods(app)]});
        facts.cluster_policies.push(policy("Baseline", pods("web"), json!([block("Deny", "db")])));
        assert!(ask(&facts, "pod/db", "pod/web:80").ends_with("dropped by Baseline ingress rule 1 of baseline: Deny"));
        facts.cluster_policies.push(policy("Admin", pods("db"), json!([block("Pass", "gone"), block("Deny", "web")])));
        assert!(ask(&facts, "pod/web", "pod/db:5433").ends_with("dropped by Admin ingress rule 2 of admin: Deny"));
        facts.cluster_policies[1]["spec"]["ingress"][1]["action"] = "Accept".into();
        assert!(ask(&facts, "pod/web", "pod/db:80").ends_with("passes: allowed by Admin ingress rule 2 of admin: Accept"));
        assert!(ask(&facts, "pod/web", "192.0.2.1:80").ends_with("passes: network policies let a pod reach its own node"));
        facts.cluster_policies[0]["spec"]["egress"] = json!([{"action": "Deny", "to": [{"nodes": {}}]}]);
        assert!(ask(&facts, "pod/web", "192.0.2.1:80").ends_with("dropped by Baseline egress rule 1 of baseline: Deny"));
    }

    #[test]
    fn domain_names_lead_where_slices_say() {
        let mut facts = facts();
        let name = DomainName::parse("*.example.com").expect("a name");
        let rules = json!([{"action": "Accept", "to": [{"domainNames": [name.as_str()]}]}, {"action": "Deny", "to": [{"networks": ["0.0.0.0/0"]}]}]);
        let spec = json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "egress": rules});
        facts.cluster_policies.push(json!({"metadata": {"name": "names"}, "spec": spec}));
        assert!(ask(&facts, "pod/web", "198.51.100.7:443").ends_with("dropped by Admin egress rule 2 of names: Deny"));
        facts.domain_slices.push(json!({
            "metadata": {"namespace": NAMESPACE, "name": name.slice(Family::V4), "labels": {PEERS_LABEL: name.id()}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["198.51.100.7"]}, {"addresses": ["192.0.2.1"]}, {"addresses": ["192.0.2.2"]}],
        }));
        let told = ask(&facts, "pod/web", "198.51.100.7:443");
        assert!(told.contains("passes") && !told.contains("dropped"), "{told}");
        for other in ["198.51.100.8:443", "192.0.2.1:10250", "192.0.2.2:10250"] {
            assert!(ask(&facts, "pod/web", other).ends_with("dropped by Admin egress rule 2 of names: Deny"), "{other}");
        }
    }

    #[test]
    fn each_family_is_judged_by_its_addresses() {
        let mut facts = facts();
        for (pod, ips) in facts.pods.iter_mut().zip([["10.244.0.5", "fd00:10:244::5"], ["10.244.0.6", "fd00:10:244::6"]]) {
            pod["status"]["podIPs"] = ips.iter().map(|ip| json!({"ip": ip})).collect();
        }
        facts.services[0]["spec"]["clusterIPs"] = json!(["10.96.0.9", "fd00:10:96::9"]);
        let mut slice = facts.slices[0].clone();
        slice["endpoints"][0]["addresses"] = json!(["fd00:10:244::6"]);
        slice["addressType"] = "IPv6".into();
        facts.slices.push(slice);
        let told = ask(&facts, "pod/web", "[fd00:10:96::9]:5432");
        assert!(
            told.contains("leads to one of 1 endpoints\nto pod d/db fd00:10:244::6 on node one, tcp 5433: passes: allowed by d/db-only"),
            "{told}"
        );
        assert!(ask(&facts, "2001:db8::7", "[fd00:10:244::6]:5433").ends_with("dropped: d/db is isolated and no policy allows it"));
        assert!(ask(&facts, "pod/web", "10.96.0.9:5432").contains("to pod d/db 10.244.0.6 on node one, tcp 5433: passes"));
    }

    #[test]
    fn all_addresses_of_a_service_lead_to_its_endpoints_and_policies_judge_those() {
        let facts = wide();
        let passes = |ip: &str, node: &str| format!("to pod d/{ip} {ip} on node {node}, tcp 5433: passes: allowed by d/web-out");
        let ends = [("10.244.0.6", "one"), ("10.244.0.7", "one"), ("10.244.1.6", "two"), ("10.244.1.7", "two")].map(|(ip, node)| passes(ip, node));
        let want = format!("from pod d/web 10.244.0.5 on node one\nservice d/db leads to one of 4 endpoints\n{}", ends.join("\n"));
        for to in ["10.96.0.9:5432", "203.0.113.9:5432", "198.51.100.20:5432", "192.0.2.1:30432"] {
            assert_eq!(ask(&facts, "pod/web", to), want, "{to}");
        }
        // It leaves its node for another one's address, and is judged as that.
        assert!(ask(&facts, "pod/web", "192.0.2.2:30432").ends_with("dropped: d/web is isolated and no policy allows it"));
        let told = ask(&facts, "198.51.100.7", "192.0.2.2:30432");
        assert!(told.contains("leads to one of 4 endpoints\nto pod d/10.244.0.6 10.244.0.6 on node one, tcp 5433: passes"), "{told}");
        let told = ask(&facts, "192.0.2.2", "10.96.0.9:5432");
        assert!(told.ends_with("to pod d/10.244.1.7 10.244.1.7 on node two, tcp 5433: passes: a node always reaches its own pods"), "{told}");
    }

    #[test]
    fn hints_lead_to_the_endpoints_of_the_nodes_zone() {
        let mut facts = wide();
        for (at, zone) in ["a", "a", "b", "b"].into_iter().enumerate() {
            facts.slices[0]["endpoints"][at]["hints"] = json!({"forZones": [{"name": zone}]});
        }
        assert!(ask(&facts, "pod/web", "10.96.0.9:5432").contains("leads to one of 4 endpoints\n"));
        for (zone, first) in [("a", "10.244.0.6"), ("b", "10.244.1.6")] {
            facts.nodes[0]["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": zone});
            let told = ask(&facts, "pod/web", "10.96.0.9:5432");
            let want = format!("leads to one of 2 endpoints, of 4 that are ready (the nearest by their hints)\nto pod d/{first} {first} on node ");
            assert!(told.contains(&want), "{told}");
        }
    }

    #[test]
    fn what_no_service_claims_is_refused() {
        let mut facts = facts();
        assert!(ask(&facts, "pod/web", "10.96.0.77:80").ends_with("tcp 80: refused: no service has this address and port"));
        assert!(ask(&facts, "pod/web", "10.96.0.9:80").ends_with("tcp 80: refused: no service has this address and port"));
        assert!(ask(&facts, "pod/web", "198.51.100.7:80").ends_with("passes: no policy isolates either end"));
        let spec = json!({"type": "ExternalName", "externalName": "db.example.com"});
        facts.services.push(json!({"metadata": {"namespace": "d", "name": "far"}, "spec": spec}));
        assert!(ask(&facts, "pod/web", "service/far:80").ends_with("service d/far is only an alias of db.example.com in DNS, and has no address"));
        facts.services[0]["spec"]["clusterIP"] = "None".into();
        let told = ask(&facts, "pod/web", "service/db:5433");
        assert!(told.ends_with("has no port 5433 for TCP: refused on the node"), "{told}");
        let told = ask(&facts, "pod/web", "service/db:sql");
        assert!(told.contains("service d/db is headless: its name has the addresses of 1 endpoints\nto pod d/db 10.244.0.6 on node one"), "{told}");
    }

    #[test]
    fn traffic_policies_and_hints_are_those_of_the_node() {
        let mut facts = wide();
        facts.services[0]["spec"]["internalTrafficPolicy"] = "Local".into();
        let told = ask(&facts, "pod/web", "service/db:sql");
        assert!(told.contains("leads to one of 2 endpoints, of 4 that are ready (internalTrafficPolicy: Local)\nto pod d/10.244.0.6"), "{told}");
        facts.services[0]["spec"]["externalTrafficPolicy"] = "Local".into();
        let told = ask(&facts, "pod/web", "203.0.113.9:5432");
        assert!(told.contains("leads to one of 4 endpoints (externalTrafficPolicy: Local does not bind pods and nodes)"), "{told}");
        let told = ask(&facts, "198.51.100.7", "192.0.2.2:30432");
        assert!(told.contains("leads to one of 2 endpoints, of 4 that are ready (externalTrafficPolicy: Local)\nto pod d/10.244.1.6"), "{told}");

        facts.policies.clear();
        facts.slices = vec![slice("db", &[("10.244.1.6", "two")])];
        let told = ask(&facts, "pod/web", "service/db:sql");
        assert!(told.ends_with("service d/db has no endpoint on the node, and its internalTrafficPolicy is Local: dropped"), "{told}");
        let told = ask(&facts, "198.51.100.7", "203.0.113.9:5432");
        let one = "by node one:\nservice d/db has no endpoint on the node, and its externalTrafficPolicy is Local: dropped";
        let two = "by node two:\nservice d/db leads to one of 1 endpoints (externalTrafficPolicy: Local)\nto pod d/10.244.1.6 ";
        assert!(told.contains(one) && told.contains(two), "{told}");

        let mut facts = wide();
        for endpoint in facts.slices[0]["endpoints"].as_array_mut().expect("a list") {
            endpoint["hints"] = json!({"forNodes": [{"name": endpoint["nodeName"]}]});
        }
        let told = ask(&facts, "pod/web", "service/db:sql");
        assert!(told.contains("leads to one of 2 endpoints, of 4 that are ready (the nearest by their hints)\nto pod d/10.244.0.6"), "{told}");
    }

    #[test]
    fn who_has_an_address_that_several_claim_is_told() {
        let mut facts = wide();
        let spec = json!({"clusterIP": "10.96.0.8", "externalIPs": ["203.0.113.9"], "ports": [{"name": "sql", "port": 5432}]});
        facts.services.insert(0, json!({"metadata": {"namespace": "d", "name": "a"}, "spec": spec}));
        let told = ask(&facts, "pod/web", "203.0.113.9:5432");
        assert!(told.contains("service d/db leads to one of 4 endpoints"), "it was given the address: {told}");
    }

    #[test]
    fn what_else_the_rules_do_is_told() {
        let mut facts = wide();
        facts.services[0]["spec"]["sessionAffinity"] = "ClientIP".into();
        facts.services[0]["spec"]["loadBalancerSourceRanges"] = json!(["198.51.100.0/24"]);
        for endpoint in facts.slices[0]["endpoints"].as_array_mut().expect("a list") {
            endpoint["conditions"] = json!({"ready": false, "serving": true, "terminating": true});
        }
        let told = ask(&facts, "198.51.100.7", "203.0.113.9:5432");
        let why = "none is ready, they still serve while they end; a client stays with its endpoint for 10800 s";
        assert!(told.contains(&format!("service d/db leads to one of 4 endpoints ({why})\nto pod d/10.244.0.6 ")), "{told}");
        let told = ask(&facts, "192.0.2.77", "203.0.113.9:5432");
        assert!(told.ends_with("service d/db lets its loadBalancerSourceRanges in, which 192.0.2.77 is not of: dropped"), "{told}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut facts = facts();
        assert!(ask(&facts, "pod/web", "service/db:80").ends_with("has no port 80 for TCP: refused on the node"));
        assert_eq!(ask(&facts, "pod/gone", "pod/db:80"), "there is no pod d/gone");
        assert_eq!(ask(&facts, "pod/web", "service/gone:80"), "there is no Service d/gone");
        facts.slices.clear();
        assert!(ask(&facts, "pod/web", "service/db:sql").ends_with("has no ready endpoint: refused on the node"));
        assert!("db".parse::<Target>().is_err() && "deployment/db:80".parse::<Target>().is_err());
        assert_eq!("[fd00::1]:80".parse::<Target>().expect("a target").end, End::Ip("fd00::1".parse().expect("an address")));
    }
}
