//! Who decides about a connection, hop by hop. Pure.

use std::{net::IpAddr, str::FromStr, sync::Arc};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;
use troupe_actors::{
    controllers::network_policy::planned::Planned,
    network_policy::{
        cluster::parse,
        layout::TABLE,
        model::{PodView, PolicyView},
    },
    rules::simulate::{Packet, Verdict, simulate},
};
use troupe_net::iptables::Family;

/// What the API says.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub pods: Vec<Value>,
    pub namespaces: Vec<Value>,
    pub nodes: Vec<Value>,
    pub services: Vec<Value>,
    /// Those of Services.
    pub slices: Vec<Value>,
    pub policies: Vec<Value>,
    /// None where their definition is not there.
    pub cluster_policies: Vec<Value>,
}

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

/// An address with who has it.
#[derive(Clone, Debug)]
struct Place {
    ip: IpAddr,
    name: String,
    /// The node of a pod.
    node: Option<String>,
}

/// The way of a connection, a line a hop.
pub fn tell(facts: &Facts, question: &Question) -> Result<Vec<String>> {
    let from = facts.place(&question.from, &question.namespace)?;
    let mut lines = vec![format!("from {}", from.describe())];
    let targets = match facts.translated(question)? {
        Some((said, targets)) => {
            lines.push(said);
            targets
        }
        None => vec![(facts.place(&question.to.end, &question.namespace)?, number(&question.to.port)?)],
    };
    for (to, port) in targets {
        lines.push(format!("to {}, {} {port}: {}", to.describe(), question.protocol, facts.judge(&from, &to, port, &question.protocol)?));
    }
    Ok(lines)
}

fn number(port: &str) -> Result<u16> {
    port.parse().with_context(|| format!("{port} is no port number"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn is_named(object: &Value, namespace: &str, name: &str) -> bool {
    object["metadata"]["namespace"] == namespace && object["metadata"]["name"] == name
}

impl Place {
    fn describe(&self) -> String {
        let node = self.node.as_ref().map(|node| format!(" on node {node}")).unwrap_or_default();
        format!("{} {}{node}", self.name, self.ip)
    }
}

/// Endpoints with their ports, and what led there.
type Translated = (String, Vec<(Place, u16)>);

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

    /// Who has an address.
    fn at(&self, ip: IpAddr) -> Place {
        let address = ip.to_string();
        let has = |pod: &Value| ips_of(pod).any(|own| own == ip);
        let own = |pod: &&Value| has(pod) && pod["spec"]["hostNetwork"] != true && !has_ended(pod);
        if let Some(pod) = self.pods.iter().find(own) {
            let name = format!("pod {}/{}", text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
            return Place { ip, name, node: node_of(pod) };
        }
        let is_node = |node: &&Value| items(&node["status"]["addresses"]).any(|found| found["address"] == address.as_str());
        match self.nodes.iter().find(is_node) {
            Some(node) => Place { ip, name: "the node's own address".into(), node: Some(text(&node["metadata"]["name"]).to_owned()) },
            None => Place { ip, name: "address".into(), node: None },
        }
    }

    /// Where a Service leads; `None` where none is asked.
    fn translated(&self, question: &Question) -> Result<Option<Translated>> {
        let to = &question.to;
        let service = match &to.end {
            End::Pod { .. } => return Ok(None),
            End::Ip(ip) => match self.services.iter().find(|service| has_address(service, *ip)) {
                Some(service) => service,
                None => return Ok(None),
            },
            End::Service { namespace, name } => {
                let namespace = namespace.as_deref().unwrap_or(&question.namespace);
                let found = self.services.iter().find(|service| is_named(service, namespace, name));
                found.with_context(|| format!("there is no Service {namespace}/{name}"))?
            }
        };
        let (namespace, name) = (text(&service["metadata"]["namespace"]), text(&service["metadata"]["name"]));
        let protocol = question.protocol.to_uppercase();
        let wanted = |port: &&Value| {
            (port["name"] == to.port.as_str() || port["port"].as_u64().is_some_and(|number| to.port.parse() == Ok(number)))
                && port["protocol"].as_str().unwrap_or("TCP") == protocol
        };
        let Some(port) = items(&service["spec"]["ports"]).find(wanted) else {
            return Ok(Some((format!("service {namespace}/{name} has no port {} for {protocol}: refused on the node", to.port), Vec::new())));
        };
        let mut endpoints = Vec::new();
        let slices = self.slices.iter().filter(|slice| slice["metadata"]["namespace"] == namespace);
        for slice in slices.filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == name) {
            let number = items(&slice["ports"]).find(|found| text(&found["name"]) == text(&port["name"])).and_then(|found| found["port"].as_u64());
            let Some(number) = number.and_then(|number| u16::try_from(number).ok()) else { continue };
            let ready = items(&slice["endpoints"]).filter(|endpoint| endpoint["conditions"]["ready"] != false);
            let ips = ready.flat_map(|endpoint| items(&endpoint["addresses"])).filter_map(|ip| text(ip).parse().ok());
            // Who asks an address is led to endpoints of its family.
            let ips = ips.filter(|ip: &IpAddr| if let End::Ip(asked) = &to.end { asked.is_ipv4() == ip.is_ipv4() } else { true });
            endpoints.extend(ips.map(|ip| (self.at(ip), number)));
        }
        let said = match endpoints.len() {
            0 => format!("service {namespace}/{name} has no ready endpoint: refused on the node"),
            count => format!("service {namespace}/{name} leads to one of {count} endpoints"),
        };
        Ok(Some((said, endpoints)))
    }

    /// What nodes plan from.
    fn planned(&self) -> Planned {
        let labels = |namespace: &Value| serde_json::from_value(namespace["metadata"]["labels"].clone()).unwrap_or_default();
        Planned {
            namespaces: self.namespaces.iter().map(|namespace| (text(&namespace["metadata"]["name"]).to_owned(), labels(namespace))).collect(),
            nodes: read(&self.nodes).collect(),
            pods: read(&self.pods).map(|pod| PodView::of(&pod)).collect(),
            policies: read(&self.policies).map(|policy| Arc::new(PolicyView::of(&policy))).collect(),
            cluster_policies: read(&self.cluster_policies).filter_map(|policy| parse(&policy).policy).map(Arc::new).collect(),
        }
    }

    fn judge(&self, from: &Place, to: &Place, port: u16, protocol: &str) -> Result<String> {
        let is_pod = |place: &Place| place.name.starts_with("pod ");
        let from = &self.of_family(from, to.ip);
        let of_node = |node: &Place, pod: &Place| !is_pod(node) && node.node.is_some() && node.node == pod.node;
        if of_node(from, to) {
            return Ok("passes: a node always reaches its own pods".into());
        }
        // What goes to the node itself is not forwarded.
        let hook = if of_node(to, from) { "INPUT" } else { "FORWARD" };
        let rules = self.planned().rules(Family::of(to.ip), |pod| pod.ips.contains(&from.ip) || pod.ips.contains(&to.ip));
        let packet = Packet { source: from.ip, destination: to.ip, protocol: protocol.to_owned(), port: Some(port), established: false };
        Ok(match simulate(&rules, TABLE, hook, &packet)? {
            Verdict::Dropped(by) if by.comment.ends_with(" is isolated") => format!("dropped: {} and no policy allows it", by.comment),
            Verdict::Dropped(by) => format!("dropped by {}", by.comment),
            Verdict::Passes(by) if by.is_empty() && hook == "INPUT" => "passes: network policies let a pod reach its own node".into(),
            Verdict::Passes(by) if by.is_empty() => "passes: no policy isolates either end".into(),
            Verdict::Passes(by) => format!("passes: allowed by {}", by.into_iter().map(|hit| hit.comment).collect::<Vec<_>>().join(" and ")),
        })
    }
}

fn read<K: DeserializeOwned>(objects: &[Value]) -> impl Iterator<Item = K> {
    objects.iter().filter_map(|object| serde_json::from_value(object.clone()).ok())
}

/// A pod's addresses.
fn ips_of(pod: &Value) -> impl Iterator<Item = IpAddr> {
    let all = items(&pod["status"]["podIPs"]).map(|ip| &ip["ip"]);
    all.chain([&pod["status"]["podIP"]]).filter_map(|ip| text(ip).parse().ok())
}

fn has_address(service: &Value, ip: IpAddr) -> bool {
    let all = items(&service["spec"]["clusterIPs"]).chain([&service["spec"]["clusterIP"]]);
    all.filter_map(|own| text(own).parse::<IpAddr>().ok()).any(|own| own == ip)
}

fn node_of(pod: &Value) -> Option<String> {
    pod["spec"]["nodeName"].as_str().map(str::to_owned)
}

fn has_ended(pod: &Value) -> bool {
    matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, ip: &str) -> Value {
        json!({"metadata": {"namespace": "d", "name": name, "uid": name, "labels": {"app": name}},
            "spec": {"nodeName": "one", "containers": []}, "status": {"podIP": ip, "phase": "Running"}})
    }

    fn facts() -> Facts {
        Facts {
            pods: vec![pod("web", "10.244.0.5"), pod("db", "10.244.0.6")],
            namespaces: vec![json!({"metadata": {"name": "d"}})],
            nodes: vec![json!({"metadata": {"name": "one"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}})],
            services: vec![
                json!({"metadata": {"namespace": "d", "name": "db"}, "spec": {"clusterIP": "10.96.0.9", "ports": [{"name": "sql", "port": 5432}]}}),
            ],
            slices: vec![
                json!({"metadata": {"namespace": "d", "labels": {"kubernetes.io/service-name": "db"}}, "ports": [{"name": "sql", "port": 5433}],
                "endpoints": [{"addresses": ["10.244.0.6"], "conditions": {"ready": true}}]}),
            ],
            policies: vec![json!({"metadata": {"namespace": "d", "name": "db-only"}, "spec": {"podSelector": {"matchLabels": {"app": "db"}},
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 5433}]}]}})],
            cluster_policies: Vec::new(),
        }
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
    fn each_family_is_judged_by_its_addresses() {
        let mut facts = facts();
        for (pod, ips) in facts.pods.iter_mut().zip([["10.244.0.5", "fd00:10:244::5"], ["10.244.0.6", "fd00:10:244::6"]]) {
            pod["status"]["podIPs"] = ips.iter().map(|ip| json!({"ip": ip})).collect();
        }
        facts.services[0]["spec"]["clusterIPs"] = json!(["10.96.0.9", "fd00:10:96::9"]);
        let mut slice = facts.slices[0].clone();
        slice["endpoints"][0]["addresses"] = json!(["fd00:10:244::6"]);
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
